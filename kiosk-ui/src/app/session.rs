//! The session itself: progress in and out, the guest's console, and the menu over it.

use super::{
    App, Dialog, View,
    keys::{is_enter, letter},
};
use crate::{effects::Effects, input::encode};
use crossterm::event::{KeyCode, KeyEvent, KeyModifiers};
use parcel::wire::session::{Command, Phase};

/// The session menu: each entry's letter and words. The cursor starts on the first, which changes nothing.
pub const MENU: [(char, &str); 6] = [
    ('b', "Back to your computer"),
    ('s', "Suspend: save it, send it home, wipe this kiosk"),
    ('l', "Log in again: renew a log-in that runs out"),
    ('k', "Lock the screen: your password unlocks it"),
    ('d', "Details"),
    ('g', "Give up: drop everything since the last suspend"),
];

/// Ctrl-], which a serial line and a keyboard both have, and F12.
fn is_hot(key: KeyEvent) -> bool {
    key.code == KeyCode::F(12) || (key.code == KeyCode::Char(']') && key.modifiers == KeyModifiers::CONTROL)
}

impl App {
    /// `true` when the step under way can be given up.
    pub fn can_give_up(&self) -> bool {
        matches!(
            self.phase(),
            Phase::Check
                | Phase::Lock
                | Phase::Open
                | Phase::Restore
                | Phase::Run
                | Phase::Save
                | Phase::Commit
                | Phase::Rescue
        )
    }

    pub(super) fn progress_key(&mut self, key: KeyEvent) {
        if self.stray > 0 {
            // It was meant for a window that closed by itself.
            return;
        }
        match (key.code, letter(key)) {
            (KeyCode::Esc, _) | (_, Some('c')) if self.can_give_up() => self.dialog = Some(Dialog::GiveUp),
            (_, Some('l')) if self.wants_log_in() => self.open_again(),
            (_, Some('d')) => self.dialog = Some(Dialog::Details),
            _ => {}
        }
    }

    /// Answers a press of the power button as soon as no window is in the way in which somebody types.
    pub(super) fn answer_press(&mut self) {
        let free = matches!(self.dialog, None | Some(Dialog::Details | Dialog::Kiosk(_)));
        if self.dialog == Some(Dialog::Pressed) {
            // It is being answered: Esc closes the window, however often the button was pressed.
            self.pressed = false;
        } else if self.pressed && free && self.view() == View::Progress {
            self.pressed = false;
            self.page = 0;
            self.dialog = Some(Dialog::Pressed);
        }
    }

    pub(super) fn run_key(&mut self, key: KeyEvent, effects: &mut dyn Effects) {
        if is_hot(key) {
            // Nobody types that as a part of a password: what follows is meant.
            self.stray = 0;
            self.dialog = Some(Dialog::Menu(0));
        } else if self.told.is_none() && self.stray == 0 {
            self.type_key(key, effects);
        }
        // Else it was meant for a window, or is the second stroke of an impatient S: not for the guest.
    }

    pub(super) fn menu_key(&mut self, at: usize, key: KeyEvent, effects: &mut dyn Effects) {
        if is_hot(key) {
            // Pressed twice, it is the guest's.
            self.dialog = None;
            self.type_key(key, effects);
            return;
        }
        let chosen = match key.code {
            KeyCode::Up | KeyCode::BackTab => {
                return self.dialog = Some(Dialog::Menu((at + MENU.len() - 1) % MENU.len()));
            }
            KeyCode::Down | KeyCode::Tab => return self.dialog = Some(Dialog::Menu((at + 1) % MENU.len())),
            KeyCode::Esc => Some('b'),
            _ if is_enter(key) => MENU.get(at).map(|(letter, _)| *letter),
            _ => letter(key),
        };
        match chosen {
            Some('b' | 'q') => self.dialog = None,
            Some('s') => {
                self.dialog = None;
                self.tell(Command::Suspend, effects);
            }
            Some('l') => self.open_again(),
            Some('k') => self.lock(effects),
            Some('d') => {
                self.dialog = Some(Dialog::Details);
                effects.status();
            }
            Some('g') => self.dialog = Some(Dialog::GiveUp),
            _ => {}
        }
    }

    fn type_key(&mut self, key: KeyEvent, effects: &mut dyn Effects) {
        let bytes = encode(key, self.guest.application_cursor());
        if !bytes.is_empty() {
            effects.type_into_guest(bytes);
        }
    }

    /// `true` when `init` says that the guest's console can be had.
    pub(super) fn console_wanted(&self) -> bool {
        self.phase() == Phase::Run && self.state.as_ref().is_some_and(|state| state.console)
    }

    /// Keeps the connection to the console as `init` says it can be had.
    pub(super) fn follow_console(&mut self, effects: &mut dyn Effects) {
        let wanted = self.console_wanted();
        effects.console(wanted);
        self.tell_size(effects);
        if !wanted && self.guest_connected {
            self.guest_connected = false;
            self.guest.clear();
        }
    }

    /// Tells `init` how large the guest's console is, from before the guest starts.
    pub(super) fn tell_size(&mut self, effects: &mut dyn Effects) {
        if !(Phase::Check..=Phase::Run).contains(&self.phase()) {
            self.told_size = None;
            return;
        }
        let size = self.guest.size();
        if self.connected && self.told_size != Some(size) {
            self.told_size = Some(size);
            effects.command(Command::ConsoleSize { cols: size.0, rows: size.1 });
        }
    }
}
