//! The end of every session, however it went: nothing of it is left on the kiosk, and that is checked.

use super::Kiosk;
use crate::system::Power;
use parcel::wire::{
    memory::Room,
    session::{Phase, WipeReport},
};

impl Kiosk<'_> {
    /// Takes from the state whose session it was, and how it was.
    pub(super) fn show_nobody(&mut self) {
        self.state.login = None;
        self.state.parcel = None;
        self.state.parcel_id = None;
        self.state.proof = None;
        self.state.locked = false;
        self.state.failures = 0;
        self.state.presses = 0;
        self.state.progress = None;
        self.state.waiting = None;
        self.state.health.room = Room::Enough;
        self.state.clock_behind = false;
        self.state.console = false;
    }

    pub(super) fn wipe_and_verify(&mut self) -> Option<Power> {
        self.sys.hold_clock(true);
        self.state.phase = Phase::Wipe;
        self.state.doing = "Wiping this kiosk".to_owned();
        self.show_nobody();
        self.publish();
        let began = self.sys.now();
        self.sys.wipe();
        // The next user may have another keyboard's habits than the last.
        self.state.keyboard = self.sys.set_keyboard(None);
        self.alive.clear();
        self.due.clear();
        self.held.clear();
        self.sys.remember(None);
        let wiped = self.sys.now();
        self.record(Phase::Wipe, wiped.saturating_sub(began).as_secs_f64(), (0, 0), true);
        self.state.phase = Phase::Verify;
        let checks = self.sys.verify();
        let verified = checks.iter().all(|check| check.ok);
        let seconds = self.sys.now().saturating_sub(wiped).as_secs_f64();
        self.record(Phase::Verify, seconds, (0, 0), verified);
        self.judge(WipeReport { verified, committed: self.committed, checks })
    }

    /// Shows a wipe's report; a failed one ends the kiosk where IT wants that.
    pub(super) fn judge(&mut self, report: WipeReport) -> Option<Power> {
        self.log_json("wipe-report", &report);
        for check in report.checks.iter().filter(|check| !check.ok) {
            self.sys.log(&format!("wipe check failed: {}: {}", check.what, check.found));
        }
        let verified = report.verified;
        self.state.report = Some(report);
        if !verified && self.settings.power_off_on_failure {
            self.sys.log("the wipe could not be verified: powering off, as configured");
            return Some(Power::Off);
        }
        None
    }
}
