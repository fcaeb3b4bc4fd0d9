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
use parcel::{id::ParcelId, slot::Proof, wire::Code};

const WRONG: &str = "That does not open it. Try again.";
const SLIP: &str = "One character of the recovery key is wrong. Compare it with the paper and try again.";

/// What was typed opens a key that is not the one in use.
pub(super) fn other_key(runs: bool) -> Trouble {
    let words = if runs {
        "What you typed does not open the computer that runs here, but another key. Suspend it: nothing is lost by that."
    } else {
        "What you typed does not open your computer, but another key. Your work is kept on this kiosk. Tell your IT desk."
    };
    Trouble::new(words, Code::OtherKey)
}

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
    /// What the session under way has opened.
    proof: Option<Proof>,
}

impl Unlocking {
    /// Tries the log-in password; asks for one if it is not known.
    pub(super) fn start(
        parcel: ParcelId,
        login: Option<Password>,
        proof: Option<Proof>,
        attempts: &mut u64,
        effects: &mut dyn Effects,
    ) -> Self {
        let step = Step::Ask { typed: Password::new(), wrong: None };
        let mut unlocking = Self { parcel, step, login, proof };
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
        effects.open(Unlock { attempt, parcel: self.parcel, login, typed, proof: self.proof.clone() });
    }

    /// `true` when the log-in password was tried first.
    pub fn knows_login(&self) -> bool {
        self.login.is_some()
    }

    /// `true` while the user is asked.
    pub fn asks(&self) -> bool {
        matches!(self.step, Step::Ask { .. })
    }

    /// `true` while a key slot is tried.
    pub fn works(&self) -> bool {
        matches!(self.step, Step::Working { .. })
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
            Err(OpenError::OtherKey) => Step::Failed(other_key(false)),
            Err(OpenError::Trouble(trouble)) => Step::Failed(trouble),
        };
        None
    }
}
