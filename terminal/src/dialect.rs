//! What stands before the terminal emulation. What programs send to an xterm and the emulation does not know is said in
//! words that it does: line drawing by character set (`ESC ( 0`, SO and SI), repeated characters, and the less common
//! ways to move the cursor (ECMA-48; `ctlseqs` of xterm). What concerns keys and mouse is remembered here.
//!
//! The guest may be hostile, so this is also what stands before the emulation: it is given whole sequences only, never
//! a string (which it would collect without end), no count beyond the size of the screen (which it would count to), and
//! no wish for another size, which is not the guest's to choose.

/// The longest control sequence that is taken; a terminal ignores what is longer.
const MAX_SEQUENCE: usize = 64;
/// DEC special graphics, 0x60 to 0x7e, in glyphs that the console font has.
const GRAPHICS: [char; 31] = [
    '♦', '▒', ' ', ' ', ' ', ' ', '°', '±', ' ', ' ', '┘', '┐', '┌', '└', '┼', '─', '─', '─', '─', '_', '├',
    '┤', '┴', '┬', '│', '≤', '≥', 'π', '#', '£', '·',
];

/// Columns and rows.
pub type Size = (u16, u16);

/// Private modes that change nothing on the screen: what the mouse tells and how, whether the window's focus is told, and
/// whether pasted text is marked.
const MODES: [u16; 9] = [9, 1000, 1002, 1003, 1004, 1005, 1006, 1015, 2004];
/// Most questions that are kept of one piece of output.
const QUESTIONS: usize = 64;

/// What a guest may ask its terminal.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Question {
    /// Whether it is well.
    Status,
    /// Where the cursor is.
    Cursor,
    /// What it can do.
    Attributes,
    /// Which version it is.
    MoreAttributes,
}

/// What a piece of output becomes: what to give to the emulation, and which questions come at which byte of it.
pub type Translated = (Vec<u8>, Vec<(usize, Question)>);

/// Where in a sequence the last byte left off.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
enum At {
    #[default]
    Ground,
    /// After ESC.
    Escape,
    /// After `ESC (` or `ESC )`: which set is designated.
    Designate(usize),
    /// Within an escape sequence with intermediates, which the emulation does not know.
    Intermediate,
    /// After `ESC [`, collected in `held`.
    Control,
    /// Within a control sequence that is too long.
    LongControl,
    /// Within an operating system command or another string, which is nothing to see.
    Text,
}

/// Translates as it goes; keeps what a sequence split over two writes needs.
#[derive(Debug, Default)]
pub struct Dialect {
    at: At,
    held: Vec<u8>,
    /// Whether G0 and G1 are the graphics set.
    graphics: [bool; 2],
    /// Which of the two is in use.
    shift: usize,
    /// The last printed character, UTF-8.
    last: Vec<u8>,
    /// Which of [`MODES`] are set.
    modes: [bool; MODES.len()],
    /// The keypad sends sequences.
    keypad: bool,
    asked: Vec<(usize, Question)>,
}

impl Dialect {
    /// What to give to the emulation, which is of this size, for these bytes of the guest.
    pub fn translate(&mut self, bytes: &[u8], size: Size) -> Translated {
        let mut out = Vec::with_capacity(bytes.len());
        for &b in bytes {
            self.byte(b, size, &mut out);
        }
        (out, std::mem::take(&mut self.asked))
    }

    /// What brings a fresh dialect to where this one is. The emulation's own drawing comes before it.
    pub fn drawing(&self) -> Vec<u8> {
        let mut out = Vec::new();
        for (mode, _) in MODES.iter().zip(self.modes).filter(|(_, set)| *set) {
            out.extend(format!("\x1b[?{mode}h").bytes());
        }
        if self.keypad {
            out.extend(b"\x1b=");
        }
        for (graphics, designate) in self.graphics.iter().zip([b"\x1b(0", b"\x1b)0"]) {
            if *graphics {
                out.extend(designate);
            }
        }
        if self.shift == 1 {
            out.push(0x0e);
        }
        match self.at {
            At::Ground => {}
            At::Escape => out.push(0x1b),
            At::Designate(0) => out.extend(b"\x1b("),
            At::Designate(_) => out.extend(b"\x1b)"),
            At::Intermediate => out.extend(b"\x1b#"),
            At::Control => {
                out.extend(b"\x1b[");
                out.extend(&self.held);
            }
            At::LongControl => {
                out.extend(b"\x1b[");
                out.extend([b'0'; MAX_SEQUENCE + 1]);
            }
            At::Text => out.extend(b"\x1b]"),
        }
        out
    }

    fn byte(&mut self, b: u8, size: Size, out: &mut Vec<u8>) {
        match (self.at, b) {
            (At::Ground, _) => self.ground(b, out),
            // ESC begins anew wherever it stands; CAN and SUB end whatever is under way.
            (_, 0x1b) => self.at = At::Escape,
            (_, 0x18 | 0x1a) => self.at = At::Ground,
            (At::Text, _) => {
                if b == 0x07 {
                    self.at = At::Ground;
                }
            }
            // Any other control character within a sequence acts at once.
            (_, 0x00..=0x1f) => self.ground(b, out),
            (At::Escape, _) => self.escape(b, out),
            (At::Designate(_) | At::Intermediate, 0x20..=0x2f) => {}
            (At::Designate(set), _) => {
                self.at = At::Ground;
                self.graphics[set] = b == b'0';
            }
            (At::Intermediate, _) => self.at = At::Ground,
            (At::Control | At::LongControl, 0x40..=0x7e) => {
                if self.at == At::Control {
                    self.finished(b, size, out);
                }
                self.at = At::Ground;
            }
            (At::Control, 0x20..=0x3f) if self.held.len() < MAX_SEQUENCE => self.held.push(b),
            (At::Control, 0x20..=0x3f) => self.at = At::LongControl,
            (At::Control | At::LongControl, _) => {}
        }
    }

    fn ground(&mut self, b: u8, out: &mut Vec<u8>) {
        match b {
            0x1b => self.at = At::Escape,
            0x0e => self.shift = 1,
            0x0f => self.shift = 0,
            0x60..=0x7e if self.graphics[self.shift] => {
                let mut utf8 = [0; 4];
                let glyph = GRAPHICS[usize::from(b - 0x60)].encode_utf8(&mut utf8).as_bytes();
                self.last = glyph.to_vec();
                out.extend(glyph);
            }
            0x20..=0x7e | 0xc0..=0xff => {
                self.last = vec![b];
                out.push(b);
            }
            0x80..=0xbf => {
                if self.last.len() < 4 {
                    self.last.push(b);
                }
                out.push(b);
            }
            _ => out.push(b),
        }
    }

    fn escape(&mut self, b: u8, out: &mut Vec<u8>) {
        self.at = At::Ground;
        match b {
            b'[' => {
                self.held.clear();
                self.at = At::Control;
            }
            b'(' => self.at = At::Designate(0),
            b')' => self.at = At::Designate(1),
            b']' | b'P' | b'X' | b'^' | b'_' => self.at = At::Text,
            b'D' => out.push(b'\n'),
            b'E' => out.extend(b"\r\n"),
            b'c' => {
                *self = Self::default();
                out.extend(b"\x1bc");
            }
            b'=' | b'>' => self.keypad = b == b'=',
            0x20..=0x2f => self.at = At::Intermediate,
            0x30..=0x7e => out.extend([0x1b, b]),
            // No part of a sequence.
            _ => self.ground(b, out),
        }
    }

    /// The one parameter of a sequence that counts, 1 if it is left out; `None` when it is something else.
    fn count(&self, most: u16) -> Option<u16> {
        let first = self.held.split(|b| matches!(b, b';' | b':')).next().unwrap_or_default();
        let number = std::str::from_utf8(first).ok()?;
        if !number.bytes().all(|b| b.is_ascii_digit()) {
            return None;
        }
        // Left out, or too large for any integer.
        let count = if number.is_empty() { 1 } else { number.parse().unwrap_or(most) };
        Some(count.clamp(1, most.max(1)))
    }

    fn question(&self, last: u8) -> Option<Question> {
        match (&self.held[..], last) {
            (b"5", b'n') => Some(Question::Status),
            (b"6", b'n') => Some(Question::Cursor),
            (b"" | b"0", b'c') => Some(Question::Attributes),
            (b">" | b">0", b'c') => Some(Question::MoreAttributes),
            _ => None,
        }
    }

    /// Sets or resets private modes: those that are remembered here, and those that the emulation knows.
    fn set_modes(&mut self, last: u8, out: &mut Vec<u8>) {
        for mode in self.held[1..].split(|b| *b == b';') {
            let Some(mode) = std::str::from_utf8(mode).ok().and_then(|text| text.parse::<u16>().ok()) else {
                continue;
            };
            if let Some(place) = MODES.iter().position(|known| *known == mode) {
                self.modes[place] = last == b'h';
                continue;
            }
            // The oldest way to the alternate screen.
            let mode = if mode == 47 { 1047 } else { mode };
            out.extend(format!("\x1b[?{mode}{}", char::from(last)).bytes());
        }
    }

    fn finished(&mut self, last: u8, (cols, rows): Size, out: &mut Vec<u8>) {
        let most = match last {
            b'L' | b'M' | b'S' | b'T' => rows,
            b'@' | b'P' | b'X' | b'b' => cols,
            _ => 0,
        };
        if most > 0 {
            match (last, self.count(most)) {
                (b'b', Some(times)) => {
                    for _ in 0..times {
                        out.extend(&self.last);
                    }
                }
                (_, Some(count)) => out.extend(format!("\x1b[{count}{}", char::from(last)).bytes()),
                (_, None) => {}
            }
            return;
        }
        if let Some(question) = self.question(last) {
            if self.asked.len() < QUESTIONS {
                self.asked.push((out.len(), question));
            }
            return;
        }
        if matches!(last, b'h' | b'l') && self.held.first() == Some(&b'?') {
            self.set_modes(last, out);
            return;
        }
        let known = match last {
            // Size, place and title of the window.
            b't' => return,
            b'f' => b'H',
            b'`' => b'G',
            b'a' => b'C',
            b'e' => b'B',
            b's' if self.held.is_empty() => return out.extend(b"\x1b7"),
            b'u' if self.held.is_empty() => return out.extend(b"\x1b8"),
            other => other,
        };
        out.extend(b"\x1b[");
        out.extend(&self.held);
        out.push(known);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const SIZE: Size = (80, 24);

    fn said(bytes: &[u8]) -> String {
        String::from_utf8(Dialect::default().translate(bytes, SIZE).0).unwrap()
    }

    #[test]
    fn lines_are_drawn() {
        assert_eq!(said(b"\x1b(0lqk\x1b(Bq"), "┌─┐q");
        assert_eq!(said(b"\x1b)0x\x0ex\x0fx"), "x│x");
        // Nothing within a sequence is a line.
        assert_eq!(said(b"\x1b(0\x1b[1m\x1b]0;qqq\x07q"), "\x1b[1m─");
    }

    #[test]
    fn characters_are_repeated() {
        assert_eq!(said(b"-\x1b[3bx"), "----x");
        assert_eq!(said("é\x1b[b".as_bytes()), "éé");
        assert_eq!(said(b"\x1b(0q\x1b[2b"), "───");
        assert_eq!(said(b"a\x1b[999999999b").len(), 80 + 1);
        assert_eq!(said(b"\x1b[5b"), "");
    }

    #[test]
    fn the_cursor_moves_by_other_words() {
        assert_eq!(said(b"\x1b[3;4f\x1b[5`\x1b[s\x1b[u\x1bD\x1bE"), "\x1b[3;4H\x1b[5G\x1b7\x1b8\n\r\n");
        assert_eq!(said(b"\x1b[?25l\x1b[1;31m\x1b[2J\x1b7"), "\x1b[?25l\x1b[1;31m\x1b[2J\x1b7");
    }

    #[test]
    fn nothing_is_counted_beyond_the_screen() {
        assert_eq!(said(b"\x1b[65535L\x1b[999999999999@\x1b[7M\x1b[P"), "\x1b[24L\x1b[80@\x1b[7M\x1b[1P");
        assert_eq!(said(b"\x1b[00000065535;3T\x1b[65535:1S"), "\x1b[24T\x1b[24S");
        // Nor when it is said in a way that leaves the emulation in another place than this.
        for trick in [
            &b"\x1b#\x1b[65535L"[..],
            b"\x1b]\x1b[65535L",
            b"\x1b\n[65535L",
            b"\x1bP1\x1b\x1b[65535L",
            b"\x1b(\x1b[65535L",
        ] {
            assert_eq!(said(trick).trim_start(), "\x1b[24L", "{trick:?}");
        }
        assert_eq!(said(&[&b"\x1b["[..], &[b'0'; 100], b"65535Lx"].concat()), "x");
    }

    #[test]
    fn strings_are_swallowed() {
        assert_eq!(said(b"a\x1b]0;title\x07b\x1bPq\x1b\\c\x1b_apc\x18d"), "ab\x1b\\cd");
    }

    /// What the emulation is given ends in no sequence, and begins no string.
    fn whole(mut out: &[u8]) -> bool {
        while let Some((b, rest)) = out.split_first() {
            out = rest;
            if *b != 0x1b {
                continue;
            }
            let Some((kind, rest)) = out.split_first() else { return false };
            out = rest;
            if *kind == b'[' {
                let Some(end) = out.iter().position(|b| (0x40..=0x7e).contains(b)) else { return false };
                if out[..end].iter().any(|b| !(0x20..=0x3f).contains(b)) {
                    return false;
                }
                out = &out[end + 1..];
            } else if !(0x30..=0x7e).contains(kind) || b"]PX^_".contains(kind) {
                return false;
            }
        }
        true
    }

    fn noise() -> impl Strategy<Value = Vec<u8>> {
        let parts = prop::sample::select(&b"\x1b\x1b\x1b[[]PX^_(#0159;?LT@bmc\x18\x1a\x07\n\xe2\x9b\\"[..]);
        prop::collection::vec(prop_oneof![4 => parts, 1 => any::<u8>()], 0..200)
    }

    proptest! {
        #[test]
        fn the_emulation_is_given_whole_sequences(bytes in noise()) {
            let (out, _) = Dialect::default().translate(&bytes, SIZE);
            prop_assert!(whole(&out), "{:?}", out);
        }

        #[test]
        fn plain_text_stays(text in "[ -~é日\r\n\t]{0,80}") {
            prop_assert_eq!(said(text.as_bytes()), text);
        }

        #[test]
        fn cuts_change_nothing(bytes in noise(), cut in 1usize..9) {
            let mut pieces = Dialect::default();
            let cut: Vec<u8> = bytes.chunks(cut).flat_map(|piece| pieces.translate(piece, SIZE).0).collect();
            prop_assert!(pieces.held.len() <= MAX_SEQUENCE);
            prop_assert_eq!(cut, Dialect::default().translate(&bytes, SIZE).0);
        }
    }
}
