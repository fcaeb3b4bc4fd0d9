//! The one clock: time since the kernel started, which nobody can set.

use std::time::Duration;

/// Time since the kernel started, sleep included.
pub fn since_boot() -> Duration {
    nix::time::clock_gettime(nix::time::ClockId::CLOCK_BOOTTIME).map_or(Duration::ZERO, Duration::from)
}
