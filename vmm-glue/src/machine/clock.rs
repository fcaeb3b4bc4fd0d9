//! The guest's two clocks when it stood: how long it has run, and what time it is.

use super::build::{Machine, lock};
use crate::error::{Error, Result};
use kvm_bindings::kvm_clock_data;
use serde::{Deserialize, Serialize};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// A moment, as the guest's monotonic clock and the kiosk's wall clock show it, in nanoseconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Moment {
    /// The guest's paravirtual clock: since its machine was first started.
    pub guest: u64,
    /// Since 1970.
    pub wall: u64,
}

/// Longest absence that is believed: a kiosk's wall clock may be wrong by anything.
const ABSENCE_MAX: Duration = Duration::from_secs(10 * 366 * 86_400);

fn since_1970() -> Duration {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default()
}

impl Moment {
    /// How long ago it was by the wall clock; zero when that seems to be in the future.
    pub fn age(&self, now: Duration) -> Duration {
        now.saturating_sub(Duration::from_nanos(self.wall)).min(ABSENCE_MAX)
    }
}

impl Machine {
    /// This moment.
    ///
    /// # Errors
    /// KVM's refusal.
    pub fn moment(&self) -> Result<Moment> {
        let guest = self.vm.get_clock().map_err(Error::kvm("read the guest's clock"))?.clock;
        Ok(Moment { guest, wall: since_1970().as_nanos() as u64 })
    }

    /// Sets the guest's clocks as it goes on from `stood`.
    ///
    /// A guest that listens at COM2 goes on with its monotonic clock where it stood and is told the time. One that does
    /// not would be wrong about the time by its whole absence, so its clock runs ahead by that: right about the time, at
    /// the price of having slept it through wide awake.
    ///
    /// # Errors
    /// KVM's refusal.
    pub fn go_on_from(&self, stood: Moment) -> Result<()> {
        let now = since_1970();
        let told = lock(&self.bus.com2)
            .announce(format!("{}.{:09}\n", now.as_secs(), now.subsec_nanos()).as_bytes());
        let away = if told { Duration::ZERO } else { stood.age(now) };
        let clock = stood.guest.saturating_add(away.as_nanos() as u64);
        let data = kvm_clock_data { clock, ..Default::default() };
        self.vm.set_clock(&data).map_err(Error::kvm("set the guest's clock"))?;
        for vcpu in &self.vcpus {
            // So that no watchdog in the guest barks. Refused when it does not use the paravirtual clock.
            let _ = lock(vcpu).kvmclock_ctrl();
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_absence_is_never_negative_nor_endless() {
        let stood = Moment { guest: 5, wall: 100_000_000_000 };
        assert_eq!(stood.age(Duration::from_secs(160)), Duration::from_secs(60));
        assert_eq!(stood.age(Duration::from_secs(40)), Duration::ZERO);
        assert_eq!(stood.age(Duration::MAX), ABSENCE_MAX);
    }
}
