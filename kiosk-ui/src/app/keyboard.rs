//! The choice of the keyboard's layout, and the field that shows a password on request.

use super::{App, Busy, Dialog, View, keys::is_enter};
use crate::{effects::Effects, glyph::plain, password::Password};
use crossterm::event::{KeyCode, KeyEvent, KeyModifiers};
use parcel::wire::session::{Command, KeyboardLayout};
use zeroize::Zeroizing;

/// How long a password stays shown without a key, in seconds.
const SHOWN: u32 = 30;
/// Entries that PgUp and PgDn go by.
const PAGE: usize = 8;

/// Shows what is typed, or hides it again.
pub(super) fn is_show(key: KeyEvent) -> bool {
    key.code == KeyCode::F(3) || (key.code == KeyCode::Char('p') && key.modifiers == KeyModifiers::CONTROL)
}

impl App {
    /// The layouts that can be chosen, by their titles; none on a serial terminal.
    pub fn layouts(&self) -> Vec<&KeyboardLayout> {
        let keyboard = self.state.as_ref().and_then(|state| state.keyboard.as_ref());
        let mut layouts: Vec<_> = keyboard.into_iter().flat_map(|keyboard| &keyboard.layouts).collect();
        layouts.sort_by_key(|layout| &layout.title);
        layouts
    }

    /// The layout that the keyboard has.
    pub fn layout(&self) -> Option<&KeyboardLayout> {
        let keyboard = self.state.as_ref()?.keyboard.as_ref()?;
        keyboard.layouts.iter().find(|layout| layout.name == keyboard.layout)
    }

    /// Opens the window with the layouts, with the cursor on the one in use.
    pub(super) fn choose_keyboard(&mut self) {
        let now = self.layout().map(|layout| layout.name.clone());
        let layouts = self.layouts();
        if layouts.is_empty() {
            return;
        }
        let at = layouts.iter().position(|layout| Some(&layout.name) == now.as_ref()).unwrap_or(0);
        self.dialog = Some(Dialog::Keyboard(at));
    }

    pub(super) fn keyboard_key(&mut self, at: usize, key: KeyEvent, effects: &mut dyn Effects) {
        let layouts = self.layouts();
        let last = layouts.len().saturating_sub(1);
        let to = match key.code {
            KeyCode::Esc => return self.dialog = None,
            _ if is_enter(key) => {
                if let Some(layout) = layouts.get(at) {
                    effects.command(Command::Keyboard { layout: layout.name.clone() });
                }
                return self.dialog = None;
            }
            KeyCode::Up => at.saturating_sub(1),
            KeyCode::Down => at + 1,
            KeyCode::PageUp => at.saturating_sub(PAGE),
            KeyCode::PageDown => at + PAGE,
            KeyCode::Home => 0,
            KeyCode::End => last,
            // The next one that begins with the letter.
            KeyCode::Char(c) => {
                let begins = |at: &usize| {
                    let first = layouts.get(*at).and_then(|layout| layout.title.chars().next());
                    first.is_some_and(|first| first.to_lowercase().eq(c.to_lowercase()))
                };
                (at + 1..=last).chain(0..at).find(begins).unwrap_or(at)
            }
            _ => at,
        };
        self.dialog = Some(Dialog::Keyboard(to.min(last)));
    }

    /// `true` while a password is typed somewhere.
    fn types_password(&self) -> bool {
        match self.dialog {
            Some(Dialog::LogIn) => match &self.again.unlocking {
                Some(unlocking) => unlocking.asks(),
                None => self.again.busy == Busy::No,
            },
            Some(Dialog::GiveUp) => self.asks_before_giving_up() && self.guard.asking.is_none(),
            Some(_) => false,
            None => match self.view() {
                View::Login => self.login.busy == Busy::No && !self.powering,
                View::Opening => self.opening.as_ref().is_some_and(|opening| opening.unlocking.asks()),
                View::Locked => self.guard.asking.is_none(),
                _ => false,
            },
        }
    }

    /// Takes the key that shows a password, where one is typed; whatever ends the typing hides it.
    pub(super) fn show_key(&mut self, key: KeyEvent) -> bool {
        if is_show(key) && self.types_password() {
            self.shown = if self.shown > 0 { 0 } else { SHOWN };
            return true;
        }
        self.shown = match key.code {
            KeyCode::Esc => 0,
            _ if is_enter(key) => 0,
            _ if self.shown > 0 => SHOWN,
            _ => 0,
        };
        false
    }

    /// `true` while passwords are shown as they are typed.
    pub fn shows_password(&self) -> bool {
        self.shown > 0 && self.types_password()
    }

    /// A password as its field has it: stars, or on request what was typed.
    pub fn masked(&self, password: &Password) -> Zeroizing<String> {
        Zeroizing::new(if self.shows_password() {
            plain(password.as_str(), password.chars())
        } else {
            "*".repeat(password.chars())
        })
    }
}
