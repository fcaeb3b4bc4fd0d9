//! A session that nobody sits at: its screen is locked, later it is suspended, and whoever gives work up shows first that
//! it is theirs.

use super::{
    App, Dialog, View,
    keys::{is_backspace, is_enter},
    unlocking::other_key,
};
use crate::{
    effects::Effects,
    event::OpenError,
    password::Password,
    screens::proof::{SLIP, WRONG},
    trouble::Trouble,
};
use crossterm::event::{KeyCode, KeyEvent, KeyModifiers};
use parcel::wire::{
    Code,
    session::{Command, Phase},
};

/// The longest that a try waits after failures, in seconds.
const LONGEST: u64 = 300;
/// How long before its log-in ends a session that nobody sits at is suspended, in seconds; a short log-in keeps
/// three quarters for work.
const LAST: u64 = 600;
/// From how long without a key nobody sits at a session whose log-in is about to end, in seconds.
const AWAY: u64 = 60;

/// Where a user shows that the session is theirs.
#[derive(Debug, Default)]
pub struct Guard {
    /// What was typed.
    pub password: Password,
    /// The number of the attempt, while it is checked. Only its answer ends that, so that nobody has two checked at once.
    pub asking: Option<u64>,
    /// The attempt is to give the session up.
    gives_up: bool,
    /// Why the last attempt failed.
    pub trouble: Option<Trouble>,
    /// Seconds until the next attempt.
    pub wait: u64,
    /// Attempts that were wrong, one after the other.
    failures: u32,
    /// The screen is locked here, whatever `init` has said so far.
    locked: bool,
    /// Windows over the session were closed for it.
    hidden: bool,
    /// Seconds since the last key of somebody who may use the session.
    away: u64,
}

impl Guard {
    /// Forgets what was typed and what it was for. Failures stay, and an attempt that is checked still counts.
    pub(super) fn clear(&mut self) {
        self.password.clear();
        self.gives_up = false;
        self.trouble = None;
    }

    /// A key was pressed. At a locked screen anybody may press keys.
    pub(super) fn seen(&mut self, locked: bool) {
        if !locked {
            self.away = 0;
        }
    }

    /// `true` when Esc has nothing to take back.
    pub fn is_blank(&self) -> bool {
        self.password.is_empty() && self.trouble.is_none() && self.asking.is_none()
    }

    /// So many attempts were wrong, one after the other: the next one waits.
    pub(super) fn after(&mut self, failures: u32) {
        self.failures = failures;
        self.wait = match failures {
            0 => 0,
            _ => 1u64.checked_shl(failures).unwrap_or(LONGEST).clamp(2, LONGEST),
        };
    }

    fn failed(&mut self, error: OpenError, runs: bool) {
        self.asking = None;
        self.trouble = Some(match error {
            OpenError::Wrong => Trouble::new(WRONG, Code::WrongPassword),
            OpenError::Slip => Trouble::new(SLIP, Code::WrongPassword),
            OpenError::OtherKey => other_key(runs),
            OpenError::Trouble(trouble) => trouble,
        });
    }
}

impl App {
    /// `true` while nothing of the guest may be seen and no key may reach it.
    pub fn is_locked(&self) -> bool {
        self.guard.locked || self.state.as_ref().is_some_and(|state| state.locked)
    }

    /// `true` while the window that gives up asks for the password, because work would be lost.
    pub fn asks_before_giving_up(&self) -> bool {
        self.dialog == Some(Dialog::GiveUp) && self.phase() >= Phase::Run
    }

    /// Locks the screen at once, and has `init` keep that.
    pub(super) fn lock(&mut self, effects: &mut dyn Effects) {
        self.guard.locked = true;
        self.guard.hidden = true;
        effects.command(Command::Lock);
        self.hide();
    }

    fn hide(&mut self) {
        if self.dialog.is_some() {
            self.close_again();
            self.dialog = None;
        }
        self.guard.clear();
        self.shown = 0;
        self.stray = 0;
    }

    /// `init` has said something: its word and this program's agree, or the screen stays locked.
    pub(super) fn keep_locked(&mut self, effects: &mut dyn Effects) {
        if self.phase() < Phase::Run {
            self.guard.locked = false;
            return;
        }
        let told = self.state.as_ref().is_some_and(|state| state.locked);
        if self.guard.locked && !told && self.phase() == Phase::Run {
            effects.command(Command::Lock);
        }
        // Only the first time: what the user types at the locked screen stays.
        if self.view() == View::Locked && !std::mem::replace(&mut self.guard.hidden, true) {
            self.hide();
        }
    }

    pub(super) fn locked_key(&mut self, key: KeyEvent, effects: &mut dyn Effects) {
        if self.told.is_some() {
            return;
        }
        match key.code {
            // Whoever it is: nothing is lost by it.
            KeyCode::F(9) => self.tell(Command::Suspend, effects),
            KeyCode::Esc if self.guard.asking.is_none() => self.guard.clear(),
            _ => self.guard_key(key, effects),
        }
    }

    pub(super) fn give_up_key(&mut self, key: KeyEvent, effects: &mut dyn Effects) {
        match key.code {
            KeyCode::Esc if self.guard.is_blank() => self.dialog = None,
            KeyCode::Esc if self.guard.asking.is_none() => self.guard.clear(),
            _ => self.guard_key(key, effects),
        }
    }

    fn guard_key(&mut self, key: KeyEvent, effects: &mut dyn Effects) {
        let guard = &mut self.guard;
        match key.code {
            _ if guard.asking.is_some() => {}
            _ if is_enter(key) => {
                if self.guard.wait > 0 || self.guard.password.is_empty() {
                    return;
                }
                let used = self.state.as_ref().and_then(|state| state.parcel_id.zip(state.proof.clone()));
                let Some((parcel, proof)) = used else { return };
                let attempt = self.next_attempt();
                self.guard.asking = Some(attempt);
                self.guard.gives_up = self.asks_before_giving_up();
                self.guard.trouble = None;
                effects.prove(attempt, parcel, proof, self.guard.password.take());
            }
            _ if is_backspace(key) => guard.password.pop(),
            KeyCode::Char('u') if key.modifiers.contains(KeyModifiers::CONTROL) => guard.password.clear(),
            KeyCode::Char(c) if key.modifiers.difference(KeyModifiers::SHIFT).is_empty() => {
                guard.password.push(c);
            }
            _ => {}
        }
    }

    /// What was typed opens the parcel in use, or not.
    pub(super) fn proved(&mut self, attempt: u64, result: Result<(), OpenError>, effects: &mut dyn Effects) {
        if self.guard.asking != Some(attempt) {
            return;
        }
        if let Err(error) = result {
            if matches!(error, OpenError::Wrong | OpenError::Slip) {
                self.guard.after(self.guard.failures.saturating_add(1));
                effects.command(Command::WrongPassword);
            }
            return self.guard.failed(error, self.phase() == Phase::Run);
        }
        let gives_up = self.guard.gives_up && self.asks_before_giving_up();
        let locked = self.is_locked();
        self.guard = Guard::default();
        if locked {
            effects.command(Command::Unlocked);
            if let Some(state) = &mut self.state {
                // Not waiting for `init` to say so.
                state.locked = false;
            }
            // Keys that were on their way are not the guest's.
            self.stray = 2;
        }
        if gives_up {
            // Not yet: whoever believes that a password saves the work is told once more what it costs.
            self.page = 0;
            self.dialog = Some(Dialog::LoseWork);
        }
    }

    /// A second passed.
    pub(super) fn guard_tick(&mut self, idle: bool, effects: &mut dyn Effects) {
        self.guard.wait = self.guard.wait.saturating_sub(1);
        self.guard.away = self.guard.away.saturating_add(1);
        if idle && self.guard.asking.is_none() {
            self.guard.password.clear();
        }
        // Whoever comes by later did not type the password.
        if idle && self.dialog == Some(Dialog::LoseWork) {
            self.dialog = None;
            self.stray = 2;
        }
        if self.phase() != Phase::Run || self.told.is_some() {
            return;
        }
        let (away, about) = (self.guard.away, &self.about.session);
        let after = |seconds: u64| seconds > 0 && away >= seconds;
        let (locks, suspends) = (after(about.lock_after_s), after(about.suspend_after_s));
        if (suspends || self.must_suspend()) && self.connected {
            // Should it not work out, not at once again.
            self.guard.away = 0;
            if !self.is_locked() {
                self.lock(effects);
            }
            return self.tell(Command::Suspend, effects);
        }
        if locks && self.view() != View::Locked {
            self.lock(effects);
        }
    }

    /// `true` when nobody is there to renew the log-in, and there is just time left to send everything home with it; or when
    /// it is over, nobody has renewed it, and the screen is locked: what can be done without it is done then.
    fn must_suspend(&mut self) -> bool {
        let Some(login) = self.state.as_ref().and_then(|state| state.login.as_ref()) else { return false };
        let (left, span) = (login.ends.saturating_sub(self.now), login.ends.saturating_sub(login.began));
        let near = left <= LAST.min(span / 4) && (left > 0 || self.is_locked());
        near && self.guard.away >= AWAY
    }
}
