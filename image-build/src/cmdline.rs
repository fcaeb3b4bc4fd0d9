//! The kernel's command line.

use crate::config::Config;

/// Words that every kiosk boots with.
///
/// - Freed memory is zeroed, and zeroed again when it is handed out: what the wipe rests on.
/// - Slabs are not merged, stacks and pages are shuffled, `vsyscall` is off: harder to break out of a guest.
/// - `lockdown` with module signatures enforced: not even root reads kernel memory, where the cache's key is.
/// - No hibernation (it would write memory to disk), no SysRq (anyone at the keyboard could use it).
/// - A kernel that gives up restarts: a kiosk has nobody who would.
const ALWAYS: &str = "init_on_free=1 init_on_alloc=1 slab_nomerge page_alloc.shuffle=1 randomize_kstack_offset=on \
    vsyscall=none lockdown=confidentiality module.sig_enforce=1 nohibernate sysctl.kernel.sysrq=0 panic=10 \
    consoleblank=0 quiet loglevel=3";

/// Writes it. `console=` names a serial port only when the configuration does: one that is not there can stall the boot.
pub fn build(config: &Config) -> String {
    let console = match config.kiosk.console.as_str() {
        screen if screen.starts_with("ttyS") => format!("console={screen},115200"),
        screen if screen.starts_with("hvc") => format!("console={screen}"),
        // /dev/console must not be a terminal's name: tty0 is whichever is in front.
        _ => "console=tty0".to_owned(),
    };
    let mut words = format!("{console} {ALWAYS}");
    if !config.cmdline_extra.is_empty() {
        words.push(' ');
        words.push_str(&config.cmdline_extra);
    }
    words
}
