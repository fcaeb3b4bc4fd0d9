//! The screen that the guest's escape sequences have drawn.

use parcel::wire::console::Dialect;
use std::panic::{AssertUnwindSafe, catch_unwind};

/// Least and most columns and rows; what a terminal reports beyond is brought inside.
const SIDE: std::ops::RangeInclusive<u16> = 2..=500;

/// A terminal's screen, the normal one and, when a program uses it, the alternate one.
pub struct Screen {
    parser: vt100::Parser,
    dialect: Dialect,
}

/// Leaves the alternate screen, forgets margins and character attributes.
const RESET: &[u8] = b"\x1b[?1049l\x1b[r\x1b[?6l\x1b[m";

fn inside(side: u16) -> u16 {
    side.clamp(*SIDE.start(), *SIDE.end())
}

impl Screen {
    /// An empty screen.
    pub fn new(cols: u16, rows: u16) -> Self {
        Self { parser: vt100::Parser::new(inside(rows), inside(cols), 0), dialect: Dialect::default() }
    }

    /// Columns and rows.
    pub fn size(&self) -> (u16, u16) {
        let (rows, cols) = self.parser.screen().size();
        (cols, rows)
    }

    /// Changes the size, keeping what still fits.
    pub fn resize(&mut self, cols: u16, rows: u16) {
        let (cols, rows) = (inside(cols), inside(rows));
        self.contained(|parser| parser.screen_mut().set_size(rows, cols));
    }

    /// The guest writes.
    pub fn write(&mut self, bytes: &[u8]) {
        let bytes = self.dialect.translate(bytes, self.size());
        self.contained(|parser| parser.process(&bytes));
    }

    /// The escape sequences that draw this screen on any terminal of the same size, whatever it shows.
    pub fn drawing(&self) -> Vec<u8> {
        let draw = || draw(self.parser.screen());
        catch_unwind(AssertUnwindSafe(draw)).unwrap_or_default()
    }

    /// The same without colours and what is not showing.
    pub fn plain_drawing(&self) -> Vec<u8> {
        let text = catch_unwind(AssertUnwindSafe(|| self.text())).unwrap_or_default();
        let mut out = RESET.to_vec();
        out.extend(b"\x1b[2J\x1b[H");
        out.extend(text.replace('\n', "\r\n").into_bytes());
        out
    }

    /// The text that shows, for tests and logs.
    pub fn text(&self) -> String {
        self.parser.screen().contents()
    }

    /// The bytes come from the guest: a sequence that the parser does not survive (one over half a wide character, which a
    /// smaller size has cut) costs the screen its colours, not the machine its life.
    fn contained(&mut self, act: impl FnOnce(&mut vt100::Parser)) {
        if catch_unwind(AssertUnwindSafe(|| act(&mut self.parser))).is_err() {
            let (cols, rows) = catch_unwind(AssertUnwindSafe(|| self.size())).unwrap_or((80, 25));
            tracing::debug!("the console's screen lost its colours after a sequence that it cannot show");
            let plain = self.plain_drawing();
            *self = Self::new(cols, rows);
            if catch_unwind(AssertUnwindSafe(|| self.parser.process(&plain))).is_err() {
                *self = Self::new(cols, rows);
            }
        }
    }
}

fn draw(screen: &vt100::Screen) -> Vec<u8> {
    let mut out = RESET.to_vec();
    if screen.alternate_screen() {
        out.extend(normal_screen(screen));
        // Enters it, remembering the cursor for the way back.
        out.extend(b"\x1b[?1049h");
    }
    out.extend(screen.state_formatted());
    out
}

/// What lies under the alternate screen.
fn normal_screen(screen: &vt100::Screen) -> Vec<u8> {
    let (rows, cols) = screen.size();
    let mut copy = vt100::Parser::new(rows, cols, 0);
    *copy.screen_mut() = screen.clone();
    copy.process(b"\x1b[?47l");
    copy.screen().contents_formatted()
}
