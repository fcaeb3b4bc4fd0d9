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

/// A wall clock that is wrong by less is not worth a word.
const NOTICED: Duration = Duration::from_secs(1);

impl Moment {
    /// A guest that believes that it is still this moment is noticeably wrong about the time. The clocks of two kiosks may
    /// differ either way.
    fn differs_from(&self, now: Duration) -> bool {
        Duration::from_nanos(self.wall).abs_diff(now) >= NOTICED
    }
}

impl Machine {
    /// This moment.
    ///
    /// # Errors
    /// KVM's refusal.
    pub fn moment(&self) -> Result<Moment> {
        let guest = self.vm.get_clock().map_err(Error::kvm("read the guest's clock"))?.clock;
        let wall = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_nanos() as u64;
        Ok(Moment { guest, wall })
    }

    /// Sets the guest's clocks as it goes on from `stood`: its monotonic clock where it stood, whatever the absence was. A
    /// clock that jumped would have the guest's scheduler charge the jump to the task that ran, which would then get no CPU
    /// for as long. What time it is, a guest that listens at COM2 is told there.
    ///
    /// # Errors
    /// KVM's refusal.
    pub fn go_on_from(&self, stood: Moment) -> Result<()> {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        lock(&self.bus.com2).tell_time(now, stood.differs_from(now));
        let data = kvm_clock_data { clock: stood.guest, ..Default::default() };
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
    fn a_clock_may_be_wrong_either_way() {
        let stood = Moment { guest: 5, wall: 100_000_000_000 };
        for (now, differs) in [(160, true), (40, true), (100, false)] {
            assert_eq!(stood.differs_from(Duration::from_secs(now)), differs, "{now}");
        }
        assert!(stood.differs_from(Duration::MAX));
    }
}
