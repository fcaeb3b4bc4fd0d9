//! The screen that the guest's escape sequences have drawn.

use terminal::Terminal;

/// Least and most columns and rows; what a terminal reports beyond is brought inside.
const SIDE: std::ops::RangeInclusive<u16> = 2..=terminal::MOST;

/// A terminal's screen, the normal one and, when a program uses it, the alternate one.
pub struct Screen(Terminal);

fn inside(side: u16) -> u16 {
    side.clamp(*SIDE.start(), *SIDE.end())
}

impl Screen {
    /// An empty screen.
    pub fn new(cols: u16, rows: u16) -> Self {
        Self(Terminal::new(inside(cols), inside(rows)))
    }

    /// Columns and rows.
    pub fn size(&self) -> (u16, u16) {
        self.0.size()
    }

    /// Changes the size, keeping what still fits.
    pub fn resize(&mut self, cols: u16, rows: u16) {
        self.0.resize(inside(cols), inside(rows));
    }

    /// The guest writes. What it asks is answered by the terminal that shows the screen, if any does.
    pub fn write(&mut self, bytes: &[u8]) {
        self.0.write(bytes);
    }

    /// The escape sequences that draw this screen on any terminal of the same size, whatever it shows.
    pub fn drawing(&self) -> Vec<u8> {
        self.0.drawing()
    }

    /// The same without colours and what is not showing.
    pub fn plain_drawing(&self) -> Vec<u8> {
        let mut out = b"\x1bc".to_vec();
        out.extend(self.text().replace('\n', "\r\n").into_bytes());
        out
    }

    /// The text that shows, for tests and logs.
    pub fn text(&self) -> String {
        self.0.text()
    }
}
