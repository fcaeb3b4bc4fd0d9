//! Keys that mean the same on every screen.

use crossterm::event::{KeyCode, KeyEvent, KeyModifiers};

/// Enter, in the two forms in which terminals and scripts send it.
pub(super) fn is_enter(key: KeyEvent) -> bool {
    key.code == KeyCode::Enter || (key.code == KeyCode::Char('j') && key.modifiers == KeyModifiers::CONTROL)
}

/// Backspace, likewise.
pub(super) fn is_backspace(key: KeyEvent) -> bool {
    key.code == KeyCode::Backspace
        || (key.code == KeyCode::Char('h') && key.modifiers == KeyModifiers::CONTROL)
}

/// Ctrl-L, which draws the screen again wherever terminals are.
pub(super) fn is_repaint(key: KeyEvent) -> bool {
    key.code == KeyCode::Char('l') && key.modifiers.contains(KeyModifiers::CONTROL)
}

/// Leaves a window.
pub(super) fn is_back(key: KeyEvent) -> bool {
    key.code == KeyCode::Esc || letter(key) == Some('q')
}

/// A letter pressed by itself, in lower case.
pub(super) fn letter(key: KeyEvent) -> Option<char> {
    match key.code {
        KeyCode::Char(c) if key.modifiers.difference(KeyModifiers::SHIFT).is_empty() => {
            Some(c.to_ascii_lowercase())
        }
        _ => None,
    }
}
