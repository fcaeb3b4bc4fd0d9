//! A terminal: the dialect, the emulation behind it, and what neither knows.

use crate::{
    dialect::{Dialect, Question},
    emulation::{Emulation, Emulator},
    picture::{Cell, Cursor},
};
use std::panic::{AssertUnwindSafe, catch_unwind};

/// Most columns and rows; what is asked beyond is brought inside.
pub const MOST: u16 = 500;

/// Most bytes that are answered to one piece of the guest's output: it may ask without ever reading the answers.
pub const MAX_ANSWER: usize = 256;

/// A terminal that survives whatever is written to it.
pub struct Terminal<E = Emulator> {
    emulation: E,
    dialect: Dialect,
    size: (u16, u16),
    /// Bytes of a character that is not whole yet.
    begun: Vec<u8>,
    failures: u32,
}

fn inside(side: u16) -> u16 {
    side.clamp(1, MOST)
}

impl<E: Emulation> Terminal<E> {
    /// An empty one, of columns and rows.
    pub fn new(cols: u16, rows: u16) -> Self {
        let size = (inside(cols), inside(rows));
        Self {
            emulation: E::new(size.0, size.1),
            dialect: Dialect::default(),
            size,
            begun: Vec::new(),
            failures: 0,
        }
    }

    /// Columns and rows.
    pub fn size(&self) -> (u16, u16) {
        self.size
    }

    /// Takes a new size, and keeps what fits.
    pub fn resize(&mut self, cols: u16, rows: u16) {
        let size = (inside(cols), inside(rows));
        if size != self.size {
            self.size = size;
            self.guarded(|emulation| emulation.resize(size.0, size.1));
        }
    }

    /// Takes what the guest wrote; gives back what a terminal answers.
    pub fn write(&mut self, bytes: &[u8]) -> Vec<u8> {
        let (out, asked) = self.dialect.translate(bytes, self.size);
        let mut answers = Vec::new();
        let mut done = 0;
        for (place, question) in asked {
            self.feed(&out[done..place]);
            done = place;
            if answers.len() < MAX_ANSWER {
                answers.extend(self.answer(question));
            }
        }
        self.feed(&out[done..]);
        answers
    }

    fn answer(&self, question: Question) -> Vec<u8> {
        match question {
            Question::Status => b"\x1b[0n".to_vec(),
            Question::Cursor => {
                let Cursor { col, row, .. } = self.cursor();
                format!("\x1b[{};{}R", row + 1, col + 1).into_bytes()
            }
            // A VT102, which promises nothing that is not here.
            Question::Attributes => b"\x1b[?6c".to_vec(),
            Question::MoreAttributes => b"\x1b[>0;1;0c".to_vec(),
        }
    }

    /// Makes text of bytes. A character may come in pieces; what is none is shown as U+FFFD. The controls U+0080 to
    /// U+009F begin sequences in the emulation, which the dialect has not seen: a terminal that speaks UTF-8 ignores them.
    fn feed(&mut self, bytes: &[u8]) {
        self.begun.extend(bytes);
        let bytes = std::mem::take(&mut self.begun);
        let mut text = String::with_capacity(bytes.len());
        let mut rest = &bytes[..];
        loop {
            match std::str::from_utf8(rest) {
                Ok(good) => {
                    text.push_str(good);
                    break;
                }
                Err(e) => {
                    let (good, bad) = rest.split_at(e.valid_up_to());
                    text.push_str(std::str::from_utf8(good).unwrap_or_default());
                    let Some(len) = e.error_len() else {
                        self.begun = bad.to_vec();
                        break;
                    };
                    text.push(char::REPLACEMENT_CHARACTER);
                    rest = &bad[len..];
                }
            }
        }
        text.retain(|c| !('\u{80}'..='\u{9f}').contains(&c));
        self.guarded(|emulation| emulation.feed(&text));
    }

    /// What draws this screen on a terminal of the same size, whatever it shows, and lets it go on alike: a sequence or a
    /// character that has only begun is begun there, too.
    pub fn drawing(&self) -> Vec<u8> {
        // Back to power-on.
        let mut out = b"\x1bc".to_vec();
        let drawn = catch_unwind(AssertUnwindSafe(|| self.emulation.drawing()));
        out.extend(drawn.unwrap_or_default().into_bytes());
        // A sequence may have begun behind the character, never within a sequence the character.
        out.extend(&self.begun);
        out.extend(self.dialect.drawing());
        out
    }

    /// The text that shows, without spaces at the ends of lines, and without empty lines at the end.
    pub fn text(&self) -> String {
        let mut lines = vec![String::new(); self.size.1.into()];
        self.cells(|_, row, cell| {
            if let Some(line) = lines.get_mut(usize::from(row)) {
                line.push(cell.character);
            }
        });
        let text: Vec<_> = lines.iter().map(|line| line.trim_end_matches(' ')).collect();
        text.join("\n").trim_end_matches('\n').to_owned()
    }

    /// Tells every cell with its column and row.
    pub fn cells(&self, mut tell: impl FnMut(u16, u16, Cell)) {
        let _ = catch_unwind(AssertUnwindSafe(|| self.emulation.cells(&mut tell)));
    }

    /// The cursor.
    pub fn cursor(&self) -> Cursor {
        self.emulation.cursor()
    }

    /// The guest asked for application cursor keys.
    pub fn application_cursor(&self) -> bool {
        self.emulation.application_cursor()
    }

    /// How often the emulation failed, and the screen was lost with it.
    pub fn failures(&self) -> u32 {
        self.failures
    }

    /// The emulation is somebody else's code and the bytes are the guest's: should the one ever fail on the other, the
    /// terminal is reset, as a real one would be by its owner.
    fn guarded(&mut self, act: impl FnOnce(&mut E)) {
        if catch_unwind(AssertUnwindSafe(|| act(&mut self.emulation))).is_err() {
            tracing::error!(
                "the terminal emulation failed; the guest's screen is empty until it draws again"
            );
            self.emulation = E::new(self.size.0, self.size.1);
            self.begun.clear();
            self.failures = self.failures.saturating_add(1);
        }
    }
}
