//! A parcel's key on its way from a key slot to `cached`: by the log-in password, else by the one before it or the recovery
//! key, which the user is asked for. The same at every place where a computer is opened.

use super::keys::{is_backspace, is_enter};
use crate::{
    effects::{Effects, Unlock},
    event::OpenError,
    password::Password,
    trouble::Trouble,
};
use crossterm::event::{KeyCode, KeyEvent, KeyModifiers};
use parcel::{id::ParcelId, slot::Proof};

const WRONG: &str = "That does not open it. Try again.";
const SLIP: &str = "One character of the recovery key is wrong. Compare it with the paper and try again.";

/// How far the key is.
#[derive(Debug)]
pub enum Step {
    /// The slot is fetched and opened.
    Working {
        /// The number of the attempt.
        attempt: u64,
        /// With what the user typed, beyond the log-in password.
        typed: bool,
    },
    /// The log-in password does not open it: an older one, or the recovery key, is asked for.
    Ask {
        /// What was typed.
        typed: Password,
        /// Why what was typed before did not open it.
        wrong: Option<&'static str>,
    },
    /// It cannot be had.
    Failed(Trouble),
    /// `cached` has it and `init` was told.
    Told,
}

/// A parcel whose key is being had.
#[derive(Debug)]
pub struct Unlocking {
    /// The id of the parcel.
    pub parcel: ParcelId,
    /// How far it is.
    pub step: Step,
    /// The log-in password, if it is known here.
    login: Option<Password>,
}

impl Unlocking {
    /// Tries the log-in password; asks for one if it is not known.
    pub(super) fn start(
        parcel: ParcelId,
        login: Option<Password>,
        attempts: &mut u64,
        effects: &mut dyn Effects,
    ) -> Self {
        let step = Step::Ask { typed: Password::new(), wrong: None };
        let mut unlocking = Self { parcel, step, login };
        if unlocking.knows_login() {
            unlocking.ask(None, attempts, effects);
        }
        unlocking
    }

    fn ask(&mut self, typed: Option<Password>, attempts: &mut u64, effects: &mut dyn Effects) {
        *attempts += 1;
        let attempt = *attempts;
        self.step = Step::Working { attempt, typed: typed.is_some() };
        let login = self.login.as_ref().map(Password::duplicate);
        effects.open(Unlock { attempt, parcel: self.parcel, login, typed });
    }

    /// `true` when the log-in password was tried first.
    pub fn knows_login(&self) -> bool {
        self.login.is_some()
    }

    /// `true` while the user is asked.
    pub fn asks(&self) -> bool {
        matches!(self.step, Step::Ask { .. })
    }

    /// `true` when Esc has nothing to take back.
    pub fn is_blank(&self) -> bool {
        !matches!(&self.step, Step::Ask { typed, wrong } if !typed.is_empty() || wrong.is_some())
    }

    /// Forgets what was typed.
    pub(super) fn clear(&mut self) {
        if let Step::Ask { typed, wrong } = &mut self.step {
            typed.clear();
            *wrong = None;
        }
    }

    /// Takes a key of somebody who is asked.
    pub(super) fn key(&mut self, key: KeyEvent, attempts: &mut u64, effects: &mut dyn Effects) {
        let Step::Ask { typed, .. } = &mut self.step else { return };
        match key.code {
            _ if is_backspace(key) => typed.pop(),
            _ if is_enter(key) && typed.is_empty() => {}
            _ if is_enter(key) => {
                let typed = typed.take();
                self.ask(Some(typed), attempts, effects);
            }
            KeyCode::Char('u') if key.modifiers.contains(KeyModifiers::CONTROL) => typed.clear(),
            KeyCode::Char(c) if key.modifiers.difference(KeyModifiers::SHIFT).is_empty() => {
                typed.push(c);
            }
            _ => {}
        }
    }

    /// `true` when this is the attempt that is waited for.
    pub(super) fn awaits(&self, of: u64, parcel: ParcelId) -> bool {
        self.parcel == parcel && matches!(self.step, Step::Working { attempt, .. } if attempt == of)
    }

    /// The attempt that is waited for has ended; gives what proves the password from now on, if it opened the parcel.
    pub(super) fn answered(&mut self, result: Result<Proof, OpenError>) -> Option<Proof> {
        let tried = matches!(self.step, Step::Working { typed: true, .. });
        self.step = match result {
            Ok(proof) => {
                self.step = Step::Told;
                return Some(proof);
            }
            Err(OpenError::Wrong) => Step::Ask { typed: Password::new(), wrong: tried.then_some(WRONG) },
            Err(OpenError::Slip) => Step::Ask { typed: Password::new(), wrong: Some(SLIP) },
            Err(OpenError::Trouble(trouble)) => Step::Failed(trouble),
        };
        None
    }
}
