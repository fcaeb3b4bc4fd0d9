//! The kernel's command line.

use crate::config::Config;
use parcel::kernel::{COMFORT, GUARD};

/// Writes it. `console=` names a serial port only when the configuration does: one that is not there can stall the boot.
pub fn build(config: &Config) -> String {
    let console = match config.kiosk.console.as_str() {
        screen if screen.starts_with("ttyS") => format!("console={screen},115200"),
        screen if screen.starts_with("hvc") => format!("console={screen}"),
        // /dev/console must not be a terminal's name: tty0 is whichever is in front.
        _ => "console=tty0".to_owned(),
    };
    let mut words = format!("{console} {} {}", GUARD.join(" "), COMFORT.join(" "));
    if !config.cmdline_extra.is_empty() {
        words.push(' ');
        words.push_str(&config.cmdline_extra);
    }
    words
}
