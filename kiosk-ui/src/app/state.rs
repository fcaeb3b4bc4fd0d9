//! What follows from what `init` says.

use super::{Again, App, Dialog, Guard, List};
use crate::effects::Effects;
use parcel::wire::session::{Phase, State};

impl App {
    pub(super) fn state_changed(&mut self, new: State, effects: &mut dyn Effects) {
        let old = self.state.as_ref().map(|state| state.phase);
        let phase = new.phase;
        if self.state.as_ref().is_none_or(|state| state.notice != new.notice) {
            self.notice_read = false;
            self.page = 0;
        }
        let bad_news = new.notice.is_some();
        let presses = self.state.as_ref().map_or(new.presses, |state| state.presses);
        if old.is_none() {
            // Whoever made these screens start again has no try more than before.
            self.guard.after(new.failures);
        }
        let clock = |state: &State| state.health.clock.moved;
        let moved = self.state.as_ref().map_or(0, |state| clock(&new).abs_diff(clock(state)));
        self.state = Some(new);
        self.connected = true;
        self.login.clock_moved(moved);
        if old != Some(phase) {
            let stays = match self.dialog {
                Some(Dialog::LogIn) => self.may_log_in_again().is_some(),
                _ => old.is_some_and(|old| same_dialogs(old, phase)),
            };
            if self.dialog.is_some() && !stays {
                self.dialog = None;
                self.again = Again::default();
                self.stray = 2;
            }
            self.shown = 0;
            self.guard.clear();
            self.guard.seen(false);
            self.powering = false;
            self.told = None;
            self.idle = 0;
            self.status = None;
        }
        if bad_news {
            self.told = None;
        }
        self.pressed |= self.state.as_ref().is_some_and(|state| state.presses > presses);
        if phase <= Phase::Run {
            // Too late for an answer: the next way out is another one.
            self.pressed = false;
        }
        match phase {
            Phase::Boot | Phase::Login => {
                if old != Some(phase) {
                    self.forget_session();
                } else if bad_news {
                    self.login.stop();
                }
            }
            Phase::Choose => {
                self.login.clear();
                if old != Some(phase) || bad_news {
                    self.opening = None;
                }
                if old != Some(phase) {
                    self.ask_for_parcels(effects);
                }
            }
            Phase::Check | Phase::Lock | Phase::Open => {
                self.opening = None;
                self.login.clear();
            }
            _ => {
                // The parcel is open: the password has done its work.
                self.kept = None;
                self.opening = None;
                self.login.clear();
            }
        }
        self.keep_locked(effects);
        self.follow_console(effects);
    }

    /// Between sessions nothing of the last one stays.
    fn forget_session(&mut self) {
        self.kept = None;
        self.list = List::default();
        self.opening = None;
        self.status = None;
        self.login.clear();
        self.again = Again::default();
        self.guard = Guard::default();
        self.guest.clear();
    }
}

/// Windows stay open from one phase to the next only within the way in or the way out.
fn same_dialogs(old: Phase, new: Phase) -> bool {
    let stretch = |phase| match phase {
        Phase::Boot | Phase::Login => 0,
        Phase::Choose => 1,
        Phase::Check | Phase::Lock | Phase::Open | Phase::Restore => 2,
        Phase::Run => 3,
        Phase::Save | Phase::Commit | Phase::Rescue => 4,
        Phase::Unlock | Phase::Wipe | Phase::Verify => 5,
    };
    stretch(old) == stretch(new)
}
