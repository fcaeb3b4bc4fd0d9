//! The page that says what stands between this kiosk and a log-in, and the kiosk's log.

use super::{App, keys::is_back, keys::is_enter, keys::letter};
use crate::{effects::Effects, screens::diagnosis::hidden};
use crossterm::event::{KeyCode, KeyEvent, KeyModifiers};
use parcel::wire::session::{Command, Phase};

/// Every so many seconds all steps are tried again.
const AGAIN: u32 = 5;
/// Rows that a page key scrolls.
const PAGE: usize = 10;

/// The page, while somebody looks at it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Page {
    /// The log is shown instead of the steps.
    pub log: bool,
    /// Rows that are scrolled: from the first down for the steps, from the last up for the log.
    pub scrolled: usize,
    /// Seconds since the steps were tried.
    waited: u32,
}

/// Opens the page.
pub(super) fn opens(key: KeyEvent) -> bool {
    key.code == KeyCode::F(4)
        || (key.code == KeyCode::Char('d') && key.modifiers.contains(KeyModifiers::CONTROL))
}

impl App {
    pub(super) fn open_diagnosis(&mut self, effects: &mut dyn Effects) {
        self.diagnosis = Some(Page::default());
        effects.command(Command::Diagnose);
    }

    pub(super) fn diagnosis_key(&mut self, key: KeyEvent) {
        let found = self.state.as_ref().and_then(|state| state.health.diagnosis.as_ref());
        let Some(page) = &mut self.diagnosis else { return };
        if is_back(key) || is_enter(key) || opens(key) {
            self.diagnosis = None;
            return;
        }
        if letter(key) == Some('l') {
            *page = Page { log: !page.log, scrolled: 0, waited: page.waited };
            return;
        }
        let rows = match key.code {
            KeyCode::Up | KeyCode::Down => 1,
            KeyCode::PageUp | KeyCode::PageDown => PAGE,
            KeyCode::Home | KeyCode::End => usize::MAX,
            _ => return,
        };
        let up = matches!(key.code, KeyCode::Up | KeyCode::PageUp | KeyCode::Home);
        // So that the first key back moves the picture.
        let last = found.map_or(0, |found| hidden(found, page.log, self.size));
        page.scrolled = if up == page.log {
            page.scrolled.saturating_add(rows).min(last)
        } else {
            page.scrolled.saturating_sub(rows)
        };
    }

    /// A second has passed. A page that nobody looks at would ask every server for ever.
    pub(super) fn diagnosis_tick(&mut self, idle: bool, effects: &mut dyn Effects) {
        if idle || self.phase() != Phase::Login {
            self.diagnosis = None;
        }
        let Some(page) = &mut self.diagnosis else { return };
        page.waited += 1;
        if page.waited >= AGAIN {
            page.waited = 0;
            effects.command(Command::Diagnose);
        }
    }
}
