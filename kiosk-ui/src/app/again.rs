//! Logging in again, as the same user, over a session whose log-in has run out or soon will.

use super::{
    App, Busy, Dialog, Step, Unlocking,
    keys::{is_backspace, is_enter},
};
use crate::{
    effects::Effects,
    event::{OpenError, Session},
    password::Password,
    trouble::Trouble,
};
use crossterm::event::{KeyCode, KeyEvent, KeyModifiers};
use parcel::{
    id::ParcelId,
    slot::Proof,
    wire::{
        Code,
        daemon::Waiting,
        session::{Command, Login, Phase},
    },
};
use zeroize::Zeroizing;

/// From how long before its end a log-in is said to run out, in seconds.
const SOON: u64 = 15 * 60;
/// How long the word that it worked stays, in seconds.
const WORD: u8 = 5;
/// How long a log-in waits for the password before it or the recovery key, in seconds: then nobody looks for it.
const ABANDONED: u32 = 600;

/// How the session's log-in is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LogInIs {
    /// Nothing is to be done.
    Good,
    /// Just renewed.
    Renewed,
    /// It ends then, in seconds since 1970, which is soon.
    Ending(u64),
    /// The server does not take it any more: what needs the server waits.
    Over,
}

/// The window in which the user logs in again. Who that is stands fast; the password is all that is typed.
#[derive(Debug, Default)]
pub struct Again {
    /// What was typed.
    pub password: Password,
    /// How far it is.
    pub busy: Busy,
    /// Why the last attempt failed.
    pub trouble: Option<Trouble>,
    /// What `cached` is being given the token of.
    given: Option<Login>,
    /// What opens the parcel's key, too, when `cached` has lost it.
    opens: Option<Password>,
    /// The parcel whose key is then being had.
    pub unlocking: Option<Unlocking>,
    /// Seconds for which the word that it worked stays.
    word: u8,
}

impl Again {
    /// `true` when Esc has nothing to take back, and leaves.
    pub fn is_blank(&self) -> bool {
        let asked = self.unlocking.as_ref().is_none_or(Unlocking::is_blank);
        self.password.is_empty() && self.trouble.is_none() && self.busy == Busy::No && asked
    }

    /// `true` when this attempt to have a key is of this window.
    pub(super) fn awaits(&self, attempt: u64, parcel: ParcelId) -> bool {
        self.unlocking.as_ref().is_some_and(|unlocking| unlocking.awaits(attempt, parcel))
    }

    fn fail(&mut self, trouble: Trouble) {
        *self = Self { trouble: Some(trouble), ..Self::default() };
    }
}

impl App {
    /// Who is logged in, in a phase where a new log-in keeps something going.
    pub fn may_log_in_again(&self) -> Option<&Login> {
        let state = self.state.as_ref()?;
        // On the way back, the lock is given back within seconds or not at all.
        let home = || state.timeline.iter().any(|record| record.phase == Phase::Commit && record.ok);
        let useful = match state.phase {
            Phase::Unlock => home(),
            phase => (Phase::Check..=Phase::Rescue).contains(&phase),
        };
        state.login.as_ref().filter(|_| useful)
    }

    /// How the session's log-in is.
    pub fn log_in_is(&self) -> LogInIs {
        let Some(login) = self.may_log_in_again() else { return LogInIs::Good };
        let refused =
            self.state.as_ref().and_then(|state| state.waiting.as_ref()).is_some_and(Waiting::needs_login);
        match self.now {
            _ if self.again.word > 0 => LogInIs::Renewed,
            now if refused || now >= login.ends => LogInIs::Over,
            now if now.saturating_add(SOON) >= login.ends => LogInIs::Ending(login.ends),
            _ => LogInIs::Good,
        }
    }

    /// `true` while the screens ask for a new log-in.
    pub fn wants_log_in(&self) -> bool {
        matches!(self.log_in_is(), LogInIs::Ending(_) | LogInIs::Over)
    }

    pub(super) fn open_again(&mut self) {
        if self.may_log_in_again().is_some() {
            self.again = Again::default();
            self.dialog = Some(Dialog::LogIn);
        }
    }

    /// Closes the window and forgets what is under way in it.
    pub(super) fn close_again(&mut self) {
        if self.dialog == Some(Dialog::LogIn) {
            self.dialog = None;
        }
        self.again = Again::default();
    }

    pub(super) fn again_key(&mut self, key: KeyEvent, effects: &mut dyn Effects) {
        let blank = self.again.is_blank();
        if let Some(unlocking) = &mut self.again.unlocking {
            return match key.code {
                KeyCode::Esc if blank && unlocking.asks() => {
                    self.tell_renewed(effects);
                    self.close_again();
                }
                // What comes of it is not heard any more; a key that comes all the same harms nothing.
                KeyCode::Esc if unlocking.works() => {
                    self.tell_renewed(effects);
                    self.again = Again::default();
                }
                KeyCode::Esc => unlocking.clear(),
                _ => unlocking.key(key, &mut self.attempts, effects),
            };
        }
        let typed = &mut self.again.password;
        match (self.again.busy, key.code) {
            // Elsewhere Esc empties a form: who presses it and types anew must not find that typed into the guest.
            (Busy::No, KeyCode::Esc) if blank => self.close_again(),
            // What comes of an attempt is not heard any more.
            (Busy::No | Busy::Asking(_), KeyCode::Esc) => self.again = Again::default(),
            (Busy::No, _) if is_enter(key) => self.submit_again(effects),
            (Busy::No, _) if is_backspace(key) => typed.pop(),
            (Busy::No, KeyCode::Char('u')) if key.modifiers.contains(KeyModifiers::CONTROL) => typed.clear(),
            (Busy::No, KeyCode::Char(c)) if key.modifiers.difference(KeyModifiers::SHIFT).is_empty() => {
                typed.push(c);
            }
            _ => {}
        }
    }

    fn submit_again(&mut self, effects: &mut dyn Effects) {
        if self.again.password.is_empty() {
            return;
        }
        let Some(principal) = self.may_log_in_again().map(|login| login.principal.clone()) else {
            return self.close_again();
        };
        let (attempt, password) = (self.next_attempt(), self.again.password.take());
        let opens = self.key_is_missing().map(|_| password.duplicate());
        self.again = Again { busy: Busy::Asking(attempt), opens, ..Again::default() };
        effects.login(attempt, Zeroizing::new(principal), password);
    }

    /// The realm and the server have answered.
    pub(super) fn logged_in_again(
        &mut self,
        attempt: u64,
        result: Result<Session, Trouble>,
        effects: &mut dyn Effects,
    ) {
        if self.again.busy != Busy::Asking(attempt) {
            return;
        }
        let same = |session: &Session| {
            self.may_log_in_again().is_some_and(|now| now.principal == session.login.principal)
        };
        match result {
            // With somebody else's token the server would say that there is no such parcel, which ends the session.
            Ok(session) if !same(&session) => self.again.fail(Trouble::new(
                "The parcel server takes this log-in for another user's, so it was not used. Tell your IT desk.",
                Code::OtherUser,
            )),
            Ok(session) => {
                let (given, opens) = (Some(session.login.clone()), self.again.opens.take());
                self.again = Again { busy: Busy::Adopting(attempt), given, opens, ..Again::default() };
                effects.adopt(attempt, session);
            }
            Err(trouble) => self.again.fail(trouble),
        }
    }

    /// `cached` has the new token, and goes on by itself with what waited.
    pub(super) fn adopted_again(
        &mut self,
        attempt: u64,
        result: Result<(), Trouble>,
        effects: &mut dyn Effects,
    ) {
        if self.again.busy != Busy::Adopting(attempt) {
            return;
        }
        if let Err(trouble) = result {
            return self.again.fail(trouble);
        }
        if let (Some(parcel), Some(login)) = (self.key_is_missing(), self.again.opens.take()) {
            let proof = self.state.as_ref().and_then(|state| state.proof.clone());
            let unlocking = Unlocking::start(parcel, Some(login), proof, &mut self.attempts, effects);
            self.again.busy = Busy::No;
            return self.again.unlocking = Some(unlocking);
        }
        self.is_logged_in_again(effects);
    }

    /// The parcel whose key `cached` has lost, because it was restarted.
    pub fn key_is_missing(&self) -> Option<ParcelId> {
        let state = self.state.as_ref()?;
        let missing = state.waiting.as_ref().is_some_and(|waiting| waiting.code == Code::EngineRestarted);
        state.parcel_id.filter(|_| missing)
    }

    /// `cached` has the parcel's key again, or not.
    pub(super) fn opened_again(&mut self, result: Result<Proof, OpenError>, effects: &mut dyn Effects) {
        let Some(unlocking) = &mut self.again.unlocking else { return };
        if let Some(proof) = unlocking.answered(result) {
            effects.command(Command::Opened(proof));
            return self.is_logged_in_again(effects);
        }
        if let Step::Failed(trouble) = &unlocking.step {
            let trouble = trouble.clone();
            self.again.fail(trouble);
        }
    }

    fn is_logged_in_again(&mut self, effects: &mut dyn Effects) {
        self.tell_renewed(effects);
        self.close_again();
        // Keys that were on their way are not the guest's.
        self.stray = 2;
        self.again.word = WORD;
    }

    /// Tells `init` until when the log-in lasts that `cached` was given, also when the key of the computer is not there.
    fn tell_renewed(&mut self, effects: &mut dyn Effects) {
        if let Some(login) = self.again.given.take() {
            effects.command(Command::LoggedIn(login.clone()));
            if let Some(state) = &mut self.state {
                // Not waiting for `init` to say so.
                state.login = Some(login);
            }
        }
    }

    /// A second passed.
    pub(super) fn again_tick(&mut self, idle: bool, effects: &mut dyn Effects) {
        self.again.word = self.again.word.saturating_sub(1);
        if idle && self.again.busy == Busy::No {
            self.again.password.clear();
        }
        if let Some(unlocking) = self.again.unlocking.as_mut().filter(|unlocking| idle && unlocking.asks()) {
            unlocking.clear();
            if self.idle >= ABANDONED {
                self.tell_renewed(effects);
                self.close_again();
            }
        }
    }
}
