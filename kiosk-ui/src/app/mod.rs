//! What the screens know, and how it changes. Pure: everything comes in as an [`Event`], everything goes out through
//! [`Effects`], and [`crate::screens::draw`] shows the rest.

mod again;
mod choose;
mod diagnosis;
mod health;
mod keyboard;
mod keys;
mod lock;
mod login;
mod session;
mod state;
mod unlocking;

pub use again::{Again, LogInIs};
pub use choose::{List, Opening};
pub use diagnosis::Page as DiagnosisPage;
pub use health::low_battery;
pub use lock::Guard;
pub use login::{Busy, Field, LoginForm};
pub use session::MENU;
pub use unlocking::{Step, Unlocking};

use crate::{
    effects::Effects, event::Event, glyph::Glyphs, guest::Guest, password::Password, trouble::Trouble,
};
use ::login::Trying;
use crossterm::event::{KeyCode, KeyEvent};
use keys::{is_back, is_enter, is_repaint, letter};
use parcel::wire::{
    Code,
    daemon::Status,
    kiosk,
    session::{Command, Phase, State},
};

/// What never changes while the program runs.
#[derive(Debug, Clone)]
pub struct About {
    /// Words at the top of the screen.
    pub title: String,
    /// The Kerberos realm.
    pub realm: String,
    /// `https://…` of the parcel server.
    pub server: String,
    /// What the terminal can show.
    pub glyphs: Glyphs,
    /// When a session that nobody sits at is locked and suspended.
    pub session: kiosk::Session,
}

/// The smallest terminal on which every field and every warning of the kiosk's own screens is seen, columns and rows.
pub const LEAST: (u16, u16) = (60, 18);
/// How long `init` may take to say that it does what it was told, in seconds.
const INIT_PATIENCE: u32 = 20;
/// How long what was typed into the log-in form waits for the rest, in seconds.
const IDLE_FORM: u32 = 120;

/// Which screen is shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum View {
    /// `init` has said nothing yet, or the kiosk is still starting.
    Starting,
    /// The session walked back: why.
    Notice,
    /// The last wipe's report.
    Report,
    /// Waiting for a user.
    Login,
    /// What stands between this kiosk and a log-in.
    Diagnosis,
    /// The user's parcels.
    List,
    /// A parcel's key is being had.
    Opening,
    /// On the way into a session, or out of it.
    Progress,
    /// The guest's console.
    Run,
    /// A session whose screen is locked.
    Locked,
}

/// A window over the screen, which has the keys while it is there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Dialog {
    /// Power off or restart?
    Power,
    /// Take the lock from whoever holds it?
    BreakLock {
        /// And then boot from disk.
        cold_boot: bool,
    },
    /// Boot from disk although memory was saved?
    ColdBoot,
    /// Back, suspend, log in again, details, give up; the entry that the cursor is on.
    Menu(usize),
    /// Bytes, phases, what is waited for.
    Details,
    /// Give up, losing what is not committed?
    GiveUp,
    /// The password was right: give work up, really?
    LoseWork,
    /// The power button was pressed on the way out of a session: why nothing ends by it, and what can be done.
    Pressed,
    /// The password, to log in again in mid-session.
    LogIn,
    /// The keyboard's layouts; the one that the cursor is on.
    Keyboard(usize),
    /// What is unusual about this kiosk; the first sentence that is shown.
    Kiosk(usize),
}

/// The screens' whole state.
pub struct App {
    /// What never changes.
    pub about: About,
    /// What `init` said last.
    pub state: Option<State>,
    /// `true` while `init.sock` is connected.
    pub connected: bool,
    /// Seconds since 1970.
    pub now: u64,
    /// Columns and rows of the terminal.
    pub size: (u16, u16),
    /// The log-in form.
    pub login: LoginForm,
    /// The KDC that a log-in tries.
    pub trying: Option<Trying>,
    /// The window in which the user logs in again.
    pub again: Again,
    /// Where a user shows that the session is theirs.
    pub guard: Guard,
    /// The user's parcels.
    pub list: List,
    /// The parcel whose key is being had.
    pub opening: Option<Opening>,
    /// The window over the screen.
    pub dialog: Option<Dialog>,
    /// The guest's terminal.
    pub guest: Guest,
    /// `true` while the guest's console is connected.
    pub guest_connected: bool,
    /// How `cached` is, as of the last answer.
    pub status: Option<Status>,
    /// Seconds for which a password is still shown as it is typed.
    shown: u32,
    /// The page that says what fails here, while somebody looks at it.
    pub diagnosis: Option<DiagnosisPage>,
    /// The page of a text that is longer than the screen; counts up and down without end.
    pub page: i16,
    /// The keyboard's Caps Lock is on, as far as the terminal tells.
    pub caps_lock: bool,
    /// The log-in password, until the parcel is open.
    kept: Option<Password>,
    /// The notice was read, and a report stands behind it.
    notice_read: bool,
    /// The power button was pressed on the way out, and that was not answered yet.
    pressed: bool,
    /// Power was chosen.
    powering: bool,
    /// Seconds since `init` or `cached` was told something that ends this screen.
    told: Option<u32>,
    /// Seconds for which keys may still be meant for a window that closed by itself.
    stray: u8,
    /// Seconds since the last key.
    idle: u32,
    /// The console size that `init` was told.
    told_size: Option<(u16, u16)>,
    /// Numbers the attempts, so that late answers are known.
    attempts: u64,
    /// The whole screen is to be drawn again.
    repaint: bool,
    /// Nothing more is to be shown.
    quit: bool,
}

impl App {
    /// The screens before anything happened.
    pub fn new(about: About, size: (u16, u16), now: u64) -> Self {
        let mut app = Self {
            guest: Guest::new(about.glyphs),
            about,
            state: None,
            connected: false,
            now,
            size,
            login: LoginForm::default(),
            trying: None,
            shown: 0,
            again: Again::default(),
            guard: Guard::default(),
            list: List::default(),
            opening: None,
            dialog: None,
            guest_connected: false,
            status: None,
            diagnosis: None,
            page: 0,
            caps_lock: false,
            kept: None,
            notice_read: false,
            pressed: false,
            powering: false,
            told: None,
            stray: 0,
            idle: 0,
            told_size: None,
            repaint: false,
            attempts: 0,
            quit: false,
        };
        app.guest.resize(size.0, size.1.saturating_sub(1));
        app
    }

    /// `true` when the program should end.
    pub fn ended(&self) -> bool {
        self.quit
    }

    /// The phase of the session.
    pub fn phase(&self) -> Phase {
        self.state.as_ref().map_or(Phase::Boot, |state| state.phase)
    }

    /// `true` while `init` was told something and has not said yet that it does it.
    pub fn waits_for_init(&self) -> bool {
        self.told.is_some()
    }

    /// `true` when the screen that is shown fits on the terminal; the guest's always does, but not a form over it.
    pub fn fits(&self) -> bool {
        let form = self.dialog == Some(Dialog::LogIn) || self.asks_before_giving_up();
        let guest = self.view() == View::Run && !form;
        guest || (self.size.0 >= LEAST.0 && self.size.1 >= LEAST.1)
    }

    /// `true`, once, after the user asked for the whole screen to be drawn again.
    pub fn take_repaint(&mut self) -> bool {
        std::mem::take(&mut self.repaint)
    }

    /// `true` after the user chose to power off or restart.
    pub fn powering(&self) -> bool {
        self.powering
    }

    /// Which screen is shown: follows from what `init` says and from what the user is in the middle of.
    pub fn view(&self) -> View {
        let Some(state) = &self.state else { return View::Starting };
        match state.phase {
            Phase::Boot => View::Starting,
            Phase::Run if self.is_locked() => View::Locked,
            Phase::Login | Phase::Choose | Phase::Run if state.notice.is_some() && !self.notice_read => {
                View::Notice
            }
            Phase::Login | Phase::Choose if state.report.is_some() => View::Report,
            Phase::Login if self.diagnosis.is_some() => View::Diagnosis,
            Phase::Login => View::Login,
            Phase::Choose if self.opening.is_some() => View::Opening,
            Phase::Choose => View::List,
            Phase::Run => View::Run,
            _ => View::Progress,
        }
    }

    /// Takes an event.
    pub fn handle(&mut self, event: Event, effects: &mut dyn Effects) {
        match event {
            Event::Key(key) => self.key(key, effects),
            Event::Resize(cols, rows) => {
                self.size = (cols, rows);
                self.guest.resize(cols, rows.saturating_sub(1));
                self.tell_size(effects);
            }
            Event::Tick(now) => self.tick(now, effects),
            Event::State(state) => self.state_changed(*state, effects),
            Event::InitLost => {
                self.connected = false;
                self.told_size = None;
                if self.told.is_some() {
                    self.not_done();
                }
            }
            Event::Trying { attempt, kdc } => {
                let asking = Busy::Asking(attempt);
                self.trying = kdc.filter(|_| self.login.busy == asking || self.again.busy == asking);
            }
            Event::LoggedIn { attempt, result } if self.again.busy == Busy::Asking(attempt) => {
                self.logged_in_again(attempt, result, effects)
            }
            Event::LoggedIn { attempt, result } => self.logged_in(attempt, result, effects),
            Event::Adopted { attempt, result } if self.again.busy == Busy::Adopting(attempt) => {
                self.adopted_again(attempt, result, effects)
            }
            Event::Adopted { attempt, result } => self.adopted(attempt, result, effects),
            Event::Parcels { attempt, result } => self.listed(attempt, result),
            Event::Opened { attempt, parcel, result } if self.again.awaits(attempt, parcel) => {
                self.opened_again(result, effects);
            }
            Event::Opened { attempt, parcel, result } => self.opened(attempt, parcel, result, effects),
            Event::Proved { attempt, result } => self.proved(attempt, result, effects),
            // The rest of a session that is over.
            Event::Console(_) if !self.console_wanted() => {}
            Event::Console(bytes) => {
                self.guest_connected = true;
                let answer = self.guest.write(&bytes);
                if !answer.is_empty() {
                    effects.type_into_guest(answer);
                }
            }
            Event::ConsoleLost => {
                self.guest_connected = false;
                // A new connection begins with what redraws the screen.
                self.guest.clear();
            }
            Event::Status(status) => self.status = Some(status),
            Event::Quit => self.quit = true,
        }
        self.answer_press();
    }

    fn tick(&mut self, now: u64, effects: &mut dyn Effects) {
        self.now = now;
        self.stray = self.stray.saturating_sub(1);
        self.shown = self.shown.saturating_sub(1);
        if self.dialog == Some(Dialog::Details) {
            effects.status();
        }
        if let Some(seconds) = &mut self.told {
            *seconds += 1;
            if *seconds >= INIT_PATIENCE {
                self.not_done();
            }
        }
        self.idle = self.idle.saturating_add(1);
        if self.logs_out_in() == Some(0) {
            self.idle = 0;
            self.tell(Command::LogOut, effects);
        }
        self.again_tick(self.idle >= IDLE_FORM, effects);
        self.guard_tick(self.idle >= IDLE_FORM, effects);
        self.diagnosis_tick(self.idle >= IDLE_FORM, effects);
        if matches!(self.view(), View::Login | View::Diagnosis)
            && self.login.busy == Busy::No
            && self.idle >= IDLE_FORM
        {
            self.login.clear();
        }
    }

    /// Tells `init` something that ends this screen.
    fn tell(&mut self, command: Command, effects: &mut dyn Effects) {
        effects.command(command);
        self.told = Some(0);
    }

    /// What was told was not done: the user may try again.
    fn not_done(&mut self) {
        self.told = None;
        let trouble = || {
            Trouble::new(
                "A part of this kiosk did not answer. Try again; if it stays so, restart the kiosk.",
                Code::ManagerSilent,
            )
        };
        if std::mem::take(&mut self.powering) {
            self.login.trouble = Some(trouble());
        }
        if matches!(self.login.busy, Busy::Adopting(_) | Busy::Told) {
            self.kept = None;
            self.login.fail(trouble());
        }
        if let Some(opening) = &mut self.opening
            && matches!(opening.unlocking.step, Step::Told)
        {
            opening.unlocking.step = Step::Failed(trouble());
        }
    }

    fn key(&mut self, key: KeyEvent, effects: &mut dyn Effects) {
        let warned = self.logs_out_soon().is_some();
        self.idle = 0;
        self.guard.seen(self.is_locked());
        // Whoever has just plugged a terminal into the serial line sees nothing of what was drawn before.
        if is_repaint(key) && (self.view() != View::Run || self.dialog.is_some()) {
            self.repaint = true;
            return;
        }
        // It says "I am here", and nothing else; and what is out of sight takes no keys.
        if warned {
            return;
        }
        if !self.fits() {
            if key.code == KeyCode::Esc && self.dialog == Some(Dialog::LogIn) {
                self.again_key(key, effects);
            } else if key.code == KeyCode::Esc && self.asks_before_giving_up() {
                self.give_up_key(key, effects);
            }
            return;
        }
        if self.show_key(key) || self.health_key(key) || self.turns_page(key) {
            return;
        }
        if let Some(dialog) = self.dialog {
            return self.dialog_key(dialog, key, effects);
        }
        match self.view() {
            View::Starting => {}
            View::Notice | View::Report => self.dismiss(key, effects),
            View::Login => self.login_key(key, effects),
            View::Diagnosis => self.diagnosis_key(key),
            View::List => self.list_key(key, effects),
            View::Opening => self.opening_key(key, effects),
            View::Progress => self.progress_key(key),
            View::Run => self.run_key(key, effects),
            View::Locked => self.locked_key(key, effects),
        }
    }

    /// `true` when the key turned the page of a long text; any other key goes back to the first one.
    fn turns_page(&mut self, key: KeyEvent) -> bool {
        let long = match self.dialog {
            Some(dialog) => matches!(
                dialog,
                Dialog::Details
                    | Dialog::BreakLock { .. }
                    | Dialog::ColdBoot
                    | Dialog::GiveUp
                    | Dialog::LoseWork
                    | Dialog::Pressed
            ),
            None => matches!(self.view(), View::Notice | View::Report | View::Progress),
        };
        self.page = match key.code {
            KeyCode::Down | KeyCode::PageDown if long => self.page.wrapping_add(1),
            KeyCode::Up | KeyCode::PageUp if long => self.page.wrapping_sub(1),
            _ => 0,
        };
        long && matches!(key.code, KeyCode::Down | KeyCode::PageDown | KeyCode::Up | KeyCode::PageUp)
    }

    fn dialog_key(&mut self, dialog: Dialog, key: KeyEvent, effects: &mut dyn Effects) {
        if dialog == Dialog::LogIn {
            return self.again_key(key, effects);
        }
        if self.asks_before_giving_up() {
            return self.give_up_key(key, effects);
        }
        if let Dialog::Keyboard(at) = dialog {
            return self.keyboard_key(at, key, effects);
        }
        // Typed for a window that closed by itself: this one then opens under the user's hands.
        if dialog == Dialog::Pressed && self.stray > 0 {
            return;
        }
        if is_back(key) && !matches!(dialog, Dialog::Menu(_)) {
            self.dialog = None;
            return;
        }
        let letter = letter(key);
        match (dialog, letter) {
            (Dialog::Power, Some(chosen @ ('p' | 'r'))) => {
                self.dialog = None;
                self.powering = true;
                self.tell(if chosen == 'p' { Command::PowerOff } else { Command::Reboot }, effects);
            }
            (Dialog::BreakLock { cold_boot }, Some('b')) => {
                self.dialog = None;
                self.start_opening(cold_boot, true, effects);
            }
            // Not C again: a key that is held a little too long repeats itself.
            (Dialog::ColdBoot, Some('y')) => {
                self.dialog = None;
                self.start_opening(true, false, effects);
            }
            (Dialog::GiveUp | Dialog::LoseWork, Some('y')) => {
                self.dialog = None;
                self.pressed = false;
                self.tell(Command::GiveUp, effects);
            }
            (Dialog::GiveUp | Dialog::LoseWork, Some('n')) => self.dialog = None,
            // What they open is over the progress, as without this window.
            (Dialog::Pressed, Some('c' | 'l')) => {
                self.dialog = None;
                self.progress_key(key);
            }
            (Dialog::Details | Dialog::Pressed, _) if key.code == KeyCode::Enter => self.dialog = None,
            (Dialog::Menu(at), _) => self.menu_key(at, key, effects),
            (Dialog::Kiosk(at), _) => self.kiosk_key(at, key),
            _ => {}
        }
    }

    fn dismiss(&mut self, key: KeyEvent, effects: &mut dyn Effects) {
        if !is_enter(key) && key.code != KeyCode::Esc {
            return;
        }
        let report =
            self.phase() != Phase::Run && self.state.as_ref().is_some_and(|state| state.report.is_some());
        if self.view() == View::Notice && report {
            self.notice_read = true;
            return;
        }
        self.notice_read = false;
        if let Some(state) = &mut self.state {
            // Not waiting for `init` to say so: the user has read it.
            state.notice = None;
            state.report = None;
        }
        effects.command(Command::Dismiss);
    }

    fn next_attempt(&mut self) -> u64 {
        self.attempts += 1;
        self.attempts
    }
}
