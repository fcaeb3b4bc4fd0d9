//! From what a terminal sends to keys.
//!
//! On a serial line the bytes of one arrow key can arrive apart, so an ESC is held back until the rest is there or the
//! caller's short time-out calls [`Decoder::flush`]. Understood are the sequences of the Linux console, of VT220 and of
//! xterm; what else looks like a sequence is swallowed whole rather than typed.

use crossterm::event::{KeyCode, KeyEvent, KeyModifiers};

/// The longest sequence that is held back, in bytes. Anything longer is no key.
const MAX_SEQUENCE: usize = 32;

/// What came from the terminal.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Input {
    /// A key.
    Key(KeyEvent),
    /// The terminal's answer to "where is the cursor?", from 1.
    Cursor {
        /// The row of the cursor.
        row: u16,
        /// The column of the cursor.
        col: u16,
    },
}

/// Turns bytes into [`Input`], whatever the bytes are.
#[derive(Debug, Default)]
pub struct Decoder {
    held: Vec<u8>,
    // A sequence that outgrew `MAX_SEQUENCE` is skipped up to its final byte.
    skipping: bool,
}

enum Parsed {
    /// Not complete: hold it back.
    More,
    /// Complete, of this length; `None`: nothing that is a key.
    Done(usize, Option<Input>),
}

impl Decoder {
    /// One that holds nothing.
    pub fn new() -> Self {
        Self::default()
    }

    /// Takes what arrived and appends what it means to `out`.
    pub fn feed(&mut self, bytes: &[u8], out: &mut Vec<Input>) {
        for &byte in bytes {
            if self.skipping {
                self.skipping = !(0x40..=0x7e).contains(&byte) && byte != 0x1b;
                if byte != 0x1b {
                    continue;
                }
            }
            self.held.push(byte);
            self.drain(out);
            if self.held.len() >= MAX_SEQUENCE {
                self.held.clear();
                self.skipping = true;
            }
        }
    }

    /// `true` while the start of a sequence is held back.
    pub fn pending(&self) -> bool {
        !self.held.is_empty()
    }

    /// Nothing followed in time: what is held back is what it is, keys pressed one by one.
    pub fn flush(&mut self, out: &mut Vec<Input>) {
        self.skipping = false;
        let held = std::mem::take(&mut self.held);
        match held.as_slice() {
            [] => {}
            [0x1b] => out.push(key(KeyCode::Esc, KeyModifiers::NONE)),
            [0x1b, b] if b.is_ascii() => out.extend(control_or_char(*b, KeyModifiers::ALT)),
            _ => {}
        }
    }

    fn drain(&mut self, out: &mut Vec<Input>) {
        while !self.held.is_empty() {
            match parse(&self.held) {
                Parsed::More => return,
                Parsed::Done(len, input) => {
                    self.held.drain(..len.clamp(1, self.held.len()));
                    out.extend(input);
                }
            }
        }
    }
}

fn key(code: KeyCode, modifiers: KeyModifiers) -> Input {
    Input::Key(KeyEvent::new(code, modifiers))
}

fn parse(held: &[u8]) -> Parsed {
    match held {
        [0x1b] | [0x1b, b'[' | b'O'] => Parsed::More,
        // Alt with a key that is itself a sequence, as the Linux console sends it; or Escape, typed twice.
        [0x1b, 0x1b, ..] => Parsed::Done(1, Some(key(KeyCode::Esc, KeyModifiers::NONE))),
        [0x1b, b'[', rest @ ..] => parse_csi(rest),
        [0x1b, b'O', last, ..] => Parsed::Done(3, ss3(*last)),
        [0x1b, b, ..] if b.is_ascii() => Parsed::Done(2, control_or_char(*b, KeyModifiers::ALT)),
        [0x1b, ..] => Parsed::Done(1, Some(key(KeyCode::Esc, KeyModifiers::NONE))),
        [b, ..] if b.is_ascii() => Parsed::Done(1, control_or_char(*b, KeyModifiers::NONE)),
        _ => parse_utf8(held),
    }
}

fn parse_utf8(held: &[u8]) -> Parsed {
    let want = match held[0] {
        0xc2..=0xdf => 2,
        0xe0..=0xef => 3,
        0xf0..=0xf4 => 4,
        _ => return Parsed::Done(1, None),
    };
    let have = &held[..want.min(held.len())];
    match std::str::from_utf8(have) {
        Ok(text) => {
            let input = text.chars().next().filter(|c| !c.is_control());
            Parsed::Done(want, input.map(|c| key(KeyCode::Char(c), KeyModifiers::NONE)))
        }
        Err(error) if error.error_len().is_none() => Parsed::More,
        Err(_) => Parsed::Done(1, None),
    }
}

fn control_or_char(b: u8, with: KeyModifiers) -> Option<Input> {
    let ctrl = |c: u8| key(KeyCode::Char(char::from(c)), with | KeyModifiers::CONTROL);
    Some(match b {
        0x00 => ctrl(b' '),
        0x09 => key(KeyCode::Tab, with),
        0x0d => key(KeyCode::Enter, with),
        0x1b => key(KeyCode::Esc, with),
        0x01..=0x1a => ctrl(b - 1 + b'a'),
        0x1c..=0x1f => ctrl(b - 0x1c + b'\\'),
        0x7f => key(KeyCode::Backspace, with),
        0x20..=0x7e => key(KeyCode::Char(char::from(b)), with),
        _ => return None,
    })
}

/// `ESC O x`: function and keypad keys in application mode.
fn ss3(last: u8) -> Option<Input> {
    let code = match last {
        b'M' => KeyCode::Enter,
        b'P'..=b'S' => KeyCode::F(last - b'P' + 1),
        // The keypad's digits and signs.
        b'j'..=b'y' => KeyCode::Char(char::from(last - 0x40)),
        _ => letter(last)?,
    };
    Some(key(code, KeyModifiers::NONE))
}

fn letter(last: u8) -> Option<KeyCode> {
    Some(match last {
        b'A' => KeyCode::Up,
        b'B' => KeyCode::Down,
        b'C' => KeyCode::Right,
        b'D' => KeyCode::Left,
        b'F' => KeyCode::End,
        b'H' => KeyCode::Home,
        _ => return None,
    })
}

/// `ESC [ …`, given what follows the bracket.
fn parse_csi(rest: &[u8]) -> Parsed {
    const INTRODUCER: usize = 2;
    if let [b'[', more @ ..] = rest {
        // The Linux console's F1 to F5: ESC [ [ A to E.
        return match more {
            [] => Parsed::More,
            [last @ b'A'..=b'E', ..] => {
                Parsed::Done(INTRODUCER + 2, Some(key(KeyCode::F(last - b'A' + 1), KeyModifiers::NONE)))
            }
            _ => Parsed::Done(INTRODUCER + 2, None),
        };
    }
    for (at, b) in rest.iter().enumerate() {
        match b {
            0x20..=0x3f => {}
            0x40..=0x7e => return Parsed::Done(INTRODUCER + at + 1, csi(&rest[..at], *b)),
            // No part of a sequence: drop what came before it, and take it for itself.
            _ => return Parsed::Done(INTRODUCER + at, None),
        }
    }
    Parsed::More
}

fn csi(params: &[u8], last: u8) -> Option<Input> {
    let text = std::str::from_utf8(params).ok()?;
    let mut numbers = text.split(';').map(|n| if n.is_empty() { Some(1) } else { n.parse::<u16>().ok() });
    let first = numbers.next()??;
    let second = match numbers.next() {
        None => None,
        Some(n) => Some(n?),
    };
    if numbers.next().is_some() {
        return None;
    }
    let with = modifiers(second.unwrap_or(1));
    let code = match last {
        // F3 with modifiers is `ESC [ 1 ; m R`; a cursor in the first row is asked for by nobody here.
        b'R' if first > 1 => return Some(Input::Cursor { row: first, col: second? }),
        // Without modifiers they are `ESC O P` to `S`; the Linux console's Pause is `ESC [ P`.
        b'P'..=b'S' if second.is_none() => return None,
        b'P'..=b'S' => KeyCode::F(last - b'P' + 1),
        b'Z' => return Some(key(KeyCode::BackTab, KeyModifiers::SHIFT)),
        b'~' => match first {
            1 | 7 => KeyCode::Home,
            2 => KeyCode::Insert,
            3 => KeyCode::Delete,
            4 | 8 => KeyCode::End,
            5 => KeyCode::PageUp,
            6 => KeyCode::PageDown,
            n @ 11..=15 => KeyCode::F(n as u8 - 10),
            n @ 17..=21 => KeyCode::F(n as u8 - 11),
            n @ 23..=24 => KeyCode::F(n as u8 - 12),
            _ => return None,
        },
        _ => letter(last)?,
    };
    Some(key(code, with))
}

/// xterm's modifier parameter: one more than a bit set of Shift, Alt, Control.
fn modifiers(parameter: u16) -> KeyModifiers {
    let bits = parameter.saturating_sub(1);
    let mut with = KeyModifiers::NONE;
    with.set(KeyModifiers::SHIFT, bits & 1 != 0);
    with.set(KeyModifiers::ALT, bits & 2 != 0);
    with.set(KeyModifiers::CONTROL, bits & 4 != 0);
    with
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn all(bytes: &[u8]) -> Vec<Input> {
        let (mut decoder, mut out) = (Decoder::new(), Vec::new());
        decoder.feed(bytes, &mut out);
        decoder.flush(&mut out);
        out
    }

    fn plain(code: KeyCode) -> Input {
        key(code, KeyModifiers::NONE)
    }

    #[test]
    fn keys_of_the_linux_console_vt220_and_xterm() {
        for (bytes, code) in [
            (&b"\r"[..], KeyCode::Enter),
            (b"\t", KeyCode::Tab),
            (b"\x7f", KeyCode::Backspace),
            (b"\x1b", KeyCode::Esc),
            (b"\x1b[[A", KeyCode::F(1)),
            (b"\x1b[[E", KeyCode::F(5)),
            (b"\x1b[15~", KeyCode::F(5)),
            (b"\x1bOP", KeyCode::F(1)),
            (b"\x1b[17~", KeyCode::F(6)),
            (b"\x1b[21~", KeyCode::F(10)),
            (b"\x1b[24~", KeyCode::F(12)),
            (b"\x1b[A", KeyCode::Up),
            (b"\x1bOA", KeyCode::Up),
            (b"\x1b[1~", KeyCode::Home),
            (b"\x1b[4~", KeyCode::End),
            (b"\x1b[6~", KeyCode::PageDown),
            ("é".as_bytes(), KeyCode::Char('é')),
        ] {
            assert_eq!(all(bytes), [plain(code)], "{bytes:?}");
        }
        assert_eq!(all(b"\x1d"), [key(KeyCode::Char(']'), KeyModifiers::CONTROL)]);
        assert_eq!(all(b"\x1bx"), [key(KeyCode::Char('x'), KeyModifiers::ALT)]);
        assert_eq!(all(b"\x1b[1;5C"), [key(KeyCode::Right, KeyModifiers::CONTROL)]);
        assert_eq!(all(b"\x1b[25;80R"), [Input::Cursor { row: 25, col: 80 }]);
    }

    #[test]
    fn a_split_sequence_is_one_key_and_a_lone_escape_waits_for_the_time_out() {
        let (mut decoder, mut out) = (Decoder::new(), Vec::new());
        decoder.feed(b"\x1b", &mut out);
        assert!(out.is_empty() && decoder.pending());
        decoder.feed(b"[", &mut out);
        decoder.feed(b"B", &mut out);
        assert_eq!(out, [plain(KeyCode::Down)]);
        decoder.feed(b"\x1b", &mut out);
        decoder.flush(&mut out);
        decoder.feed(b"[", &mut out);
        assert_eq!(out[1..], [plain(KeyCode::Esc), plain(KeyCode::Char('['))]);
    }

    #[test]
    fn what_is_no_key_types_nothing() {
        assert_eq!(all(b"\x1b[?64;1;2c"), []);
        assert_eq!(all(b"\x1b[99~"), []);
        assert_eq!(all(b"\x1b[P"), []);
        assert_eq!(all(b"\xff\xc0"), []);
        let long = [&b"\x1b["[..], &[b'1'; 200], b"~z"].concat();
        assert_eq!(all(&long), [plain(KeyCode::Char('z'))]);
        let broken = [&b"\x1b["[..], &[b'1'; 200], b"\x1b[A"].concat();
        assert_eq!(all(&broken), [plain(KeyCode::Up)]);
    }

    proptest! {
        #[test]
        fn however_the_bytes_are_cut_the_keys_are_the_same(bytes in prop::collection::vec(any::<u8>(), 0..80), cut in 1usize..9) {
            let (mut decoder, mut out) = (Decoder::new(), Vec::new());
            for piece in bytes.chunks(cut) {
                decoder.feed(piece, &mut out);
                prop_assert!(decoder.held.len() < MAX_SEQUENCE);
            }
            decoder.flush(&mut out);
            prop_assert_eq!(out, all(&bytes));
        }
    }
}
