//! The machine's end.

use nix::sys::reboot::{RebootMode, reboot};
use std::{fs, time::Duration};

/// Ends or restarts the machine. Nothing is written to disks first: nothing here outlives the power, and a disk that
/// hangs must not keep the machine on.
pub fn end(mode: RebootMode) -> ! {
    let _ = reboot(mode);
    // Only without the right to restart, which PID 1 has. Nothing is left to do but to wait.
    loop {
        std::thread::sleep(Duration::from_secs(3600));
    }
}

/// Restarts the machine without asking any driver whether it is ready.
pub fn restart_at_once() {
    // What `kernel.sysrq` forbids at the keyboard, root may still do.
    let _ = fs::write("/proc/sysrq-trigger", "b");
    end(RebootMode::RB_AUTOBOOT)
}
