//! What is unusual about the kiosk itself.

use super::{App, Dialog, View, keys::is_enter};
use crossterm::event::{KeyCode, KeyEvent, KeyModifiers};

/// Said of a kiosk whose machine has nothing of its own to be known by.
const PASSING: &str = "Nothing tells this machine from others, so this kiosk has a new name after each start. If its power fails in a \
session, the lock stays under the old name: break that lock at the next log-in.";

/// And what follows from that.
const BATTERY: &str = "No session can begin before that.";

/// Said of a kiosk whose battery has too little for a session.
pub fn low_battery(percent: u8) -> String {
    format!("The battery is down to {percent} %: connect this kiosk to power.")
}

impl App {
    /// Sentences on what is unusual about this kiosk; none, as a rule.
    pub fn unusual(&self) -> Vec<String> {
        let Some(health) = self.state.as_ref().map(|state| &state.health) else { return Vec::new() };
        let passing = health.passing_name.then(|| PASSING.to_owned());
        let battery = health.low_battery.map(|percent| format!("{} {BATTERY}", low_battery(percent)));
        battery.into_iter().chain(health.refused.iter().cloned()).chain(passing).collect()
    }

    /// Opens the window with those sentences.
    pub(super) fn health_key(&mut self, key: KeyEvent) -> bool {
        let asked = key.code == KeyCode::F(8)
            || (key.code == KeyCode::Char('n') && key.modifiers == KeyModifiers::CONTROL);
        let here = self.dialog.is_none()
            && matches!(self.view(), View::Login | View::List | View::Opening | View::Progress);
        let opens = asked && here && !self.unusual().is_empty();
        if opens {
            self.dialog = Some(Dialog::Kiosk(0));
        }
        opens
    }

    pub(super) fn kiosk_key(&mut self, at: usize, key: KeyEvent) {
        let last = self.unusual().len().saturating_sub(1);
        match key.code {
            KeyCode::Up => self.dialog = Some(Dialog::Kiosk(at.saturating_sub(1))),
            KeyCode::Down => self.dialog = Some(Dialog::Kiosk((at + 1).min(last))),
            _ if is_enter(key) => self.dialog = None,
            _ => {}
        }
    }
}
