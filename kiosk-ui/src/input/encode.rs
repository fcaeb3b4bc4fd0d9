//! From keys to what a terminal would send to the guest: xterm's sequences, which agree with VT220's where VT220 has
//! the key, so `TERM=vt220`, `linux` and `xterm` all work in the guest for everything but the Linux console's F1 to F5.

use crossterm::event::{KeyCode, KeyEvent, KeyModifiers};

/// What to type into the guest for `key`; empty when a terminal has no bytes for it. `application_cursor`: the guest
/// asked for application cursor keys (DECCKM).
pub fn encode(key: KeyEvent, application_cursor: bool) -> Vec<u8> {
    let with = key.modifiers;
    let alt = with.contains(KeyModifiers::ALT);
    match key.code {
        KeyCode::Char(c) => {
            let mut out = escape_if(alt);
            if with.contains(KeyModifiers::CONTROL) {
                out.extend(control(c));
            } else {
                out.extend(c.encode_utf8(&mut [0; 4]).bytes());
            }
            out
        }
        KeyCode::Enter => typed(alt, 0x0d),
        KeyCode::Tab => typed(alt, 0x09),
        KeyCode::Backspace => typed(alt, 0x7f),
        KeyCode::Esc => typed(alt, 0x1b),
        KeyCode::BackTab => b"\x1b[Z".to_vec(),
        KeyCode::Up => cursor(b'A', with, application_cursor),
        KeyCode::Down => cursor(b'B', with, application_cursor),
        KeyCode::Right => cursor(b'C', with, application_cursor),
        KeyCode::Left => cursor(b'D', with, application_cursor),
        KeyCode::End => cursor(b'F', with, application_cursor),
        KeyCode::Home => cursor(b'H', with, application_cursor),
        KeyCode::Insert => tilde(2, with),
        KeyCode::Delete => tilde(3, with),
        KeyCode::PageUp => tilde(5, with),
        KeyCode::PageDown => tilde(6, with),
        KeyCode::F(n @ 1..=4) => cursor(b'P' + n - 1, with, true),
        KeyCode::F(5) => tilde(15, with),
        KeyCode::F(n @ 6..=10) => tilde(u16::from(n) + 11, with),
        KeyCode::F(n @ 11..=12) => tilde(u16::from(n) + 12, with),
        _ => Vec::new(),
    }
}

fn escape_if(alt: bool) -> Vec<u8> {
    if alt { vec![0x1b] } else { Vec::new() }
}

fn typed(alt: bool, byte: u8) -> Vec<u8> {
    let mut out = escape_if(alt);
    out.push(byte);
    out
}

fn control(c: char) -> Option<u8> {
    match c.to_ascii_lowercase() {
        ' ' | '@' => Some(0),
        c @ 'a'..='z' => Some(c as u8 - b'a' + 1),
        c @ '['..='_' => Some(c as u8 - b'[' + 0x1b),
        '?' => Some(0x7f),
        _ => None,
    }
}

/// xterm's modifier parameter, `None` without modifiers.
fn parameter(with: KeyModifiers) -> Option<u16> {
    let bits = u16::from(with.contains(KeyModifiers::SHIFT))
        | u16::from(with.contains(KeyModifiers::ALT)) << 1
        | u16::from(with.contains(KeyModifiers::CONTROL)) << 2;
    (bits != 0).then_some(bits + 1)
}

fn cursor(last: u8, with: KeyModifiers, application: bool) -> Vec<u8> {
    match parameter(with) {
        Some(m) => format!("\x1b[1;{m}{}", char::from(last)).into_bytes(),
        None if application => vec![0x1b, b'O', last],
        None => vec![0x1b, b'[', last],
    }
}

fn tilde(number: u16, with: KeyModifiers) -> Vec<u8> {
    match parameter(with) {
        Some(m) => format!("\x1b[{number};{m}~").into_bytes(),
        None => format!("\x1b[{number}~").into_bytes(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::input::{Decoder, Input};
    use proptest::prelude::*;

    fn some_key() -> impl Strategy<Value = KeyEvent> {
        let function = prop_oneof![
            (1u8..=12).prop_map(KeyCode::F),
            prop::sample::select(vec![
                KeyCode::Up,
                KeyCode::Down,
                KeyCode::Left,
                KeyCode::Right,
                KeyCode::Home,
                KeyCode::End,
                KeyCode::Insert,
                KeyCode::Delete,
                KeyCode::PageUp,
                KeyCode::PageDown,
            ]),
        ];
        prop_oneof![
            (function, 0u8..8).prop_map(|(code, bits)| {
                let mut with = KeyModifiers::NONE;
                with.set(KeyModifiers::SHIFT, bits & 1 != 0);
                with.set(KeyModifiers::ALT, bits & 2 != 0);
                with.set(KeyModifiers::CONTROL, bits & 4 != 0);
                KeyEvent::new(code, with)
            }),
            any::<char>()
                .prop_filter("control characters are keys of their own", |c| !c.is_control())
                .prop_map(|c| KeyEvent::new(KeyCode::Char(c), KeyModifiers::NONE)),
            // Ctrl-i, -m and -[ are Tab, Enter and Escape on every terminal.
            "[a-hj-ln-z]"
                .prop_map(|c| KeyEvent::new(KeyCode::Char(c.as_bytes()[0].into()), KeyModifiers::CONTROL)),
            "[a-zA-Z0-9]"
                .prop_filter("ESC O starts a sequence", |c| c != "O")
                .prop_map(|c| KeyEvent::new(KeyCode::Char(c.as_bytes()[0].into()), KeyModifiers::ALT)),
            prop::sample::select(vec![KeyCode::Enter, KeyCode::Tab, KeyCode::Backspace, KeyCode::Esc])
                .prop_map(|code| KeyEvent::new(code, KeyModifiers::NONE)),
        ]
    }

    proptest! {
        #[test]
        fn what_is_encoded_decodes_to_the_same_key(key in some_key(), application: bool) {
            let (mut decoder, mut out) = (Decoder::new(), Vec::new());
            decoder.feed(&encode(key, application), &mut out);
            decoder.flush(&mut out);
            prop_assert_eq!(out, [Input::Key(key)]);
        }
    }

    #[test]
    fn application_mode_changes_the_cursor_keys() {
        let up = KeyEvent::new(KeyCode::Up, KeyModifiers::NONE);
        assert_eq!(encode(up, false), b"\x1b[A");
        assert_eq!(encode(up, true), b"\x1bOA");
        assert_eq!(encode(KeyEvent::new(KeyCode::Char('c'), KeyModifiers::CONTROL), false), b"\x03");
    }
}
