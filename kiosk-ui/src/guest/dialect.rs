//! What programs send to an xterm and the terminal emulation does not know, said in words that it does: line drawing
//! by character set (`ESC ( 0`, SO and SI), repeated characters, and the less common ways to move the cursor
//! (ECMA-48; `ctlseqs` of xterm).

/// The longest control sequence that is looked into; longer ones pass as they are.
const MAX_SEQUENCE: usize = 64;
/// The most repetitions of a character: more than any line is wide.
const MAX_REPEAT: usize = 1000;
/// DEC special graphics, 0x60 to 0x7e, in glyphs that the console font has.
const GRAPHICS: [char; 31] = [
    '♦', '▒', ' ', ' ', ' ', ' ', '°', '±', ' ', ' ', '┘', '┐', '┌', '└', '┼', '─', '─', '─', '─', '_', '├',
    '┤', '┴', '┬', '│', '≤', '≥', 'π', '#', '£', '·',
];

/// Where in a sequence the last byte left off.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
enum At {
    #[default]
    Ground,
    /// After ESC.
    Escape,
    /// After `ESC (` or `ESC )`: which set is designated.
    Designate(usize),
    /// Within an escape sequence with intermediates, which passes.
    Intermediate,
    /// After `ESC [`, collected in `held`.
    Control,
    /// Within a control sequence too long to look into.
    LongControl,
    /// Within an operating system command or the like, until its end.
    Text,
    /// There, after an ESC.
    TextEscape,
}

/// Translates as it goes; keeps what a sequence split over two writes needs.
#[derive(Debug, Default)]
pub(super) struct Dialect {
    at: At,
    held: Vec<u8>,
    /// Whether G0 and G1 are the graphics set.
    graphics: [bool; 2],
    /// Which of the two is in use.
    shift: usize,
    /// The last printed character, UTF-8.
    last: Vec<u8>,
}

impl Dialect {
    /// What to give to the emulation for these bytes of the guest.
    pub(super) fn translate(&mut self, bytes: &[u8]) -> Vec<u8> {
        let mut out = Vec::with_capacity(bytes.len());
        for &b in bytes {
            self.byte(b, &mut out);
        }
        out
    }

    fn byte(&mut self, b: u8, out: &mut Vec<u8>) {
        match self.at {
            At::Ground => self.ground(b, out),
            At::Escape => self.escape(b, out),
            At::Designate(set) => {
                self.at = At::Ground;
                self.graphics[set] = b == b'0';
            }
            At::Intermediate => {
                out.push(b);
                self.at = if (0x20..0x30).contains(&b) { At::Intermediate } else { At::Ground };
            }
            At::Control => self.control(b, out),
            At::LongControl => {
                out.push(b);
                if (0x40..=0x7e).contains(&b) || b == 0x1b {
                    self.at = if b == 0x1b { At::Escape } else { At::Ground };
                }
            }
            At::Text => {
                out.push(b);
                self.at = match b {
                    0x1b => At::TextEscape,
                    // BEL, CAN and SUB end it.
                    0x07 | 0x18 | 0x1a => At::Ground,
                    _ => At::Text,
                };
            }
            At::TextEscape => {
                out.push(b);
                self.at = At::Ground;
            }
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
            0x1b => self.at = At::Escape,
            b'[' => {
                self.held.clear();
                self.at = At::Control;
            }
            b'(' => self.at = At::Designate(0),
            b')' => self.at = At::Designate(1),
            b']' | b'P' | b'X' | b'^' | b'_' => {
                out.extend([0x1b, b]);
                self.at = At::Text;
            }
            b'D' => out.push(b'\n'),
            b'E' => out.extend(b"\r\n"),
            0x20..0x30 => {
                out.extend([0x1b, b]);
                self.at = At::Intermediate;
            }
            b'c' => {
                *self = Self::default();
                out.extend(b"\x1bc");
            }
            _ => out.extend([0x1b, b]),
        }
    }

    fn control(&mut self, b: u8, out: &mut Vec<u8>) {
        match b {
            0x1b => self.at = At::Escape,
            0x40..=0x7e => {
                self.at = At::Ground;
                self.finished(b, out);
            }
            0x20..=0x3f if self.held.len() < MAX_SEQUENCE => self.held.push(b),
            0x20..=0x3f => {
                out.extend(b"\x1b[");
                out.append(&mut self.held);
                out.push(b);
                self.at = At::LongControl;
            }
            // CAN and SUB give it up.
            0x18 | 0x1a => self.at = At::Ground,
            // A control character within a sequence acts at once.
            0x00..=0x1f => out.push(b),
            _ => {}
        }
    }

    fn finished(&mut self, last: u8, out: &mut Vec<u8>) {
        let number = std::str::from_utf8(&self.held)
            .ok()
            .map(|n| if n.is_empty() { Ok(1) } else { n.parse::<usize>() });
        let known = match last {
            b'f' => b'H',
            b'`' => b'G',
            b'a' => b'C',
            b'e' => b'B',
            b's' if self.held.is_empty() => return out.extend(b"\x1b7"),
            b'u' if self.held.is_empty() => return out.extend(b"\x1b8"),
            b'b' => {
                if let Some(Ok(times)) = number {
                    for _ in 0..times.min(MAX_REPEAT) {
                        out.extend(&self.last);
                    }
                }
                return;
            }
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

    fn said(bytes: &[u8]) -> String {
        String::from_utf8(Dialect::default().translate(bytes)).unwrap()
    }

    #[test]
    fn lines_are_drawn() {
        assert_eq!(said(b"\x1b(0lqk\x1b(Bq"), "┌─┐q");
        assert_eq!(said(b"\x1b)0x\x0ex\x0fx"), "x│x");
        // Nothing within a sequence is a line.
        assert_eq!(said(b"\x1b(0\x1b[1m\x1b]0;qqq\x07q"), "\x1b[1m\x1b]0;qqq\x07─");
    }

    #[test]
    fn characters_are_repeated() {
        assert_eq!(said(b"-\x1b[3bx"), "----x");
        assert_eq!(said("é\x1b[b".as_bytes()), "éé");
        assert_eq!(said(b"\x1b(0q\x1b[2b"), "───");
        assert_eq!(said(b"a\x1b[999999999b").len(), MAX_REPEAT + 1);
        assert_eq!(said(b"\x1b[5b"), "");
    }

    #[test]
    fn the_cursor_moves_by_other_words() {
        assert_eq!(said(b"\x1b[3;4f\x1b[5`\x1b[s\x1b[u\x1bD\x1bE"), "\x1b[3;4H\x1b[5G\x1b7\x1b8\n\r\n");
        assert_eq!(said(b"\x1b[?25l\x1b[1;31m\x1b[2J\x1b7"), "\x1b[?25l\x1b[1;31m\x1b[2J\x1b7");
    }

    proptest! {
        #[test]
        fn plain_text_stays(text in "[ -~é日\r\n\t]{0,80}") {
            prop_assert_eq!(said(text.as_bytes()), text);
        }

        #[test]
        fn cuts_change_nothing(bytes in prop::collection::vec(any::<u8>(), 0..200), cut in 1usize..9) {
            let mut pieces = Dialect::default();
            let cut: Vec<u8> = bytes.chunks(cut).flat_map(|piece| pieces.translate(piece)).collect();
            prop_assert!(pieces.held.len() <= MAX_SEQUENCE);
            prop_assert_eq!(cut, Dialect::default().translate(&bytes));
        }
    }
}
