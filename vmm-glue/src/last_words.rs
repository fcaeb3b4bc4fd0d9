//! What a thread that panics still says: one line, by one write.
//!
//! The runtime's own hook reads files for a backtrace when `RUST_BACKTRACE` is set, as `init` sets it. In the jail that is
//! the process's end, and with it the guest's.

use std::{io::Write as _, panic::PanicHookInfo};

/// Longest line.
const LINE: usize = 512;

/// Makes a panic write one line and nothing else, whatever the environment says. Once for the process, before any thread.
pub fn install() {
    std::panic::set_hook(Box::new(say));
}

fn say(panic: &PanicHookInfo<'_>) {
    let mut line = [b' '; LINE];
    // What does not fit is cut off.
    let mut rest = &mut line[..LINE - 1];
    let thread = std::thread::current();
    let _ = write!(rest, "vmm: {} panicked", thread.name().unwrap_or("a thread"));
    if let Some(place) = panic.location() {
        let _ = write!(rest, " at {place}");
    }
    if let Some(why) = panic.payload_as_str() {
        let _ = rest.write_all(b": ");
        // One line, whatever the guest made of it.
        for c in why.chars() {
            let _ = write!(rest, "{}", if c.is_control() { ' ' } else { c });
        }
    }
    let len = LINE - 1 - rest.len();
    line[len] = b'\n';
    // SAFETY: the line lives through the call.
    unsafe { libc::write(libc::STDERR_FILENO, line.as_ptr().cast(), len + 1) };
}
