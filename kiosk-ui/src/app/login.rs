//! Logging in.

use super::{
    App, Dialog,
    diagnosis::opens as opens_diagnosis,
    keys::{is_backspace, is_enter},
};
use crate::{effects::Effects, event::Session, password::Password, trouble::Trouble};
use crossterm::event::{KeyCode, KeyEvent, KeyModifiers};
use parcel::wire::{
    Code,
    session::{Command, Login},
};
use zeroize::Zeroizing;

/// The longest user name, in characters.
const MAX_USER: usize = 128;

/// How a log-in ends where the kiosk's clock is wrong.
const DATED: [Code; 5] = [
    Code::ClockSkew,
    Code::TicketMissing,
    Code::NoArmor,
    Code::CertificateExpired,
    Code::CertificateNotYetValid,
];

/// A clock that is moved by so many seconds may have been why.
const FAR: u64 = 60;
/// Said after that.
const CLOCK_IS_SET: &str = "The clock of this kiosk was wrong and has been set. Log in again.";

/// The two fields.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Field {
    /// The field for the user name.
    #[default]
    User,
    /// The field for the password.
    Password,
}

/// How far a log-in is.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Busy {
    /// Not under way.
    #[default]
    No,
    /// The realm and the server are asked; the number of the attempt.
    Asking(u64),
    /// `cached` is given the session.
    Adopting(u64),
    /// `init` was told; it will say that the session goes on.
    Told,
}

/// The log-in form.
#[derive(Debug)]
pub struct LoginForm {
    /// What was typed as the user. Zeroed like the password, because passwords are typed here by mistake.
    pub user: Zeroizing<String>,
    /// What was typed as the password.
    pub password: Password,
    /// Which field has the keys.
    pub focus: Field,
    /// How far it is.
    pub busy: Busy,
    /// Why the last attempt failed.
    pub trouble: Option<Trouble>,
    given: Option<Login>,
}

impl Default for LoginForm {
    fn default() -> Self {
        Self {
            // Room for all of it, so that it never moves and leaves a copy behind.
            user: Zeroizing::new(String::with_capacity(MAX_USER * 4)),
            password: Password::new(),
            focus: Field::User,
            busy: Busy::No,
            trouble: None,
            given: None,
        }
    }
}

impl LoginForm {
    /// Nothing is typed and nothing is under way.
    pub fn is_blank(&self) -> bool {
        self.user.is_empty() && self.password.is_empty() && self.busy == Busy::No
    }

    /// Empty again.
    pub(super) fn clear(&mut self) {
        *self = Self::default();
    }

    /// No attempt is under way any more.
    pub(super) fn stop(&mut self) {
        self.busy = Busy::No;
        self.password.clear();
    }

    pub(super) fn fail(&mut self, trouble: Trouble) {
        self.stop();
        self.focus = Field::Password;
        self.trouble = Some(trouble);
    }

    /// The kiosk's clock was moved by so many seconds.
    pub(super) fn clock_moved(&mut self, by: u64) {
        if let Some(trouble) =
            self.trouble.as_mut().filter(|trouble| by >= FAR && DATED.contains(&trouble.code))
        {
            *trouble = Trouble::new(CLOCK_IS_SET, trouble.code);
        }
    }

    fn typed(&mut self, c: char) {
        match self.focus {
            Field::User if self.user.chars().count() < MAX_USER && !c.is_control() => self.user.push(c),
            Field::User => {}
            Field::Password => {
                self.password.push(c);
            }
        }
    }

    fn erase(&mut self) {
        match self.focus {
            Field::User => drop(self.user.pop()),
            Field::Password => self.password.pop(),
        }
    }

    fn empty_field(&mut self) {
        match self.focus {
            Field::User => *self = Self { password: self.password.take(), ..Self::default() },
            Field::Password => self.password.clear(),
        }
    }

    fn other_field(&mut self) {
        self.focus = match self.focus {
            Field::User => Field::Password,
            Field::Password => Field::User,
        };
    }
}

impl App {
    pub(super) fn login_key(&mut self, key: KeyEvent, effects: &mut dyn Effects) {
        if self.powering {
            return;
        }
        match self.login.busy {
            Busy::No => {}
            // `cached` has the session in a moment, or is dead: not to be left half given.
            Busy::Adopting(_) => return,
            Busy::Asking(_) | Busy::Told => {
                if key.code == KeyCode::Esc {
                    if self.login.busy == Busy::Told {
                        self.tell(Command::LogOut, effects);
                    }
                    self.login.stop();
                    self.kept = None;
                }
                return;
            }
        }
        let control = key.modifiers.contains(KeyModifiers::CONTROL);
        match key.code {
            _ if is_enter(key) => self.submit_login(effects),
            _ if is_backspace(key) => self.login.erase(),
            KeyCode::F(2) => self.choose_keyboard(),
            KeyCode::Char('k') if control => self.choose_keyboard(),
            _ if opens_diagnosis(key) => self.open_diagnosis(effects),
            KeyCode::F(10) => self.dialog = Some(Dialog::Power),
            KeyCode::Char('o') if control => self.dialog = Some(Dialog::Power),
            KeyCode::Char('u') if control => self.login.empty_field(),
            // A keypad without Num Lock types these for 8 and 2: the rest of a password must not go where it shows.
            KeyCode::Up | KeyCode::Down
                if self.login.focus == Field::Password && !self.login.password.is_empty() => {}
            KeyCode::Tab | KeyCode::BackTab | KeyCode::Up | KeyCode::Down => self.login.other_field(),
            KeyCode::Esc => self.login.clear(),
            KeyCode::Char(c) if key.modifiers.difference(KeyModifiers::SHIFT).is_empty() => {
                self.login.typed(c)
            }
            _ => {}
        }
    }

    fn submit_login(&mut self, effects: &mut dyn Effects) {
        let user = Zeroizing::new(self.login.user.trim().to_owned());
        if user.is_empty() {
            self.login.focus = Field::User;
            return;
        }
        if self.login.password.is_empty() {
            self.login.focus = Field::Password;
            return;
        }
        let attempt = self.next_attempt();
        self.login.trouble = None;
        self.login.busy = Busy::Asking(attempt);
        effects.login(attempt, user, self.login.password.duplicate());
    }

    pub(super) fn logged_in(
        &mut self,
        attempt: u64,
        result: Result<Session, Trouble>,
        effects: &mut dyn Effects,
    ) {
        if self.login.busy != Busy::Asking(attempt) {
            return;
        }
        match result {
            Ok(session) => {
                self.login.given = Some(session.login.clone());
                self.login.busy = Busy::Adopting(attempt);
                self.told = Some(0);
                effects.adopt(attempt, session);
            }
            Err(trouble) => {
                // A wrong clock may be why: `init` has the time asked for, and the next try finds it right.
                if DATED.contains(&trouble.code) {
                    effects.command(Command::Diagnose);
                }
                self.login.fail(trouble);
            }
        }
    }

    pub(super) fn adopted(&mut self, attempt: u64, result: Result<(), Trouble>, effects: &mut dyn Effects) {
        if self.login.busy != Busy::Adopting(attempt) {
            return;
        }
        match result {
            Ok(()) => {
                self.kept = Some(self.login.password.take());
                self.login.busy = Busy::Told;
                if let Some(login) = self.login.given.take() {
                    self.tell(Command::LoggedIn(login), effects);
                }
            }
            Err(trouble) => self.login.fail(trouble),
        }
    }
}
