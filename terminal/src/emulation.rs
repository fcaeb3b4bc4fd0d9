//! A terminal emulation, and the one that is used.

use crate::picture::{Cell, Color, Cursor, Style};

/// What [`crate::Terminal`] needs of a terminal emulation. Sizes are columns and rows, both at least 1.
pub trait Emulation {
    /// An empty screen.
    fn new(cols: u16, rows: u16) -> Self;

    /// Takes a new size. Every cell is whole afterwards: no half of a wide character is left.
    fn resize(&mut self, cols: u16, rows: u16);

    /// Takes text and whole control sequences.
    fn feed(&mut self, text: &str);

    /// What makes a fresh emulation of the same size show the same, and go on alike.
    fn drawing(&self) -> String;

    /// Tells every cell with its column and row.
    fn cells(&self, tell: &mut dyn FnMut(u16, u16, Cell));

    /// The cursor.
    fn cursor(&self) -> Cursor;

    /// The guest asked for application cursor keys.
    fn application_cursor(&self) -> bool;
}

/// The emulation in use: `avt`, without a history. docs/vmm.md tells why this one.
pub type Emulator = avt::Terminal;

/// Most rows that a screen has while it becomes narrower.
const ROOM: usize = 1000;

fn small(n: usize) -> u16 {
    u16::try_from(n).unwrap_or(u16::MAX)
}

impl Emulation for avt::Terminal {
    fn new(cols: u16, rows: u16) -> Self {
        let made = Self::new(cols.max(1).into(), rows.max(1).into());
        made.expect("columns and rows are positive")
    }

    fn resize(&mut self, cols: u16, rows: u16) {
        let (cols, rows) = (usize::from(cols.max(1)), usize::from(rows.max(1)));
        let before = self.size();
        if cols < before.0 {
            // Long lines take more rows now. With room below them nothing leaves at the top while there are empty rows.
            let room = before.1.saturating_mul(before.0.div_ceil(cols)).min(ROOM).max(before.1);
            self.resize(cols, room);
        }
        self.resize(cols, rows);
    }

    fn feed(&mut self, text: &str) {
        self.feed(text);
    }

    fn drawing(&self) -> String {
        // The name of the alternate screen that every terminal knows.
        self.dump().replace("\x1b[?1047", "\x1b[?47")
    }

    fn cells(&self, tell: &mut dyn FnMut(u16, u16, Cell)) {
        for (row, line) in self.screen().visible_lines().enumerate() {
            for (col, cell) in line.cells().iter().enumerate().filter(|(_, cell)| cell.width() > 0) {
                let style = style(cell.pen());
                let cell = Cell { character: cell.char(), wide: cell.width() == 2, style };
                tell(small(col), small(row), cell);
            }
        }
    }

    fn cursor(&self) -> Cursor {
        let (cursor, (cols, _)) = (self.cursor(), self.size());
        // Behind a full line it still stands on the line's last column.
        Cursor { col: small(cursor.col.min(cols - 1)), row: small(cursor.row), visible: cursor.visible }
    }

    fn application_cursor(&self) -> bool {
        self.cursor_key_app_mode()
    }
}

fn style(pen: &avt::Pen) -> Style {
    let color = |color: Option<avt::Color>| match color {
        None => Color::Default,
        Some(avt::Color::Indexed(n)) => Color::Indexed(n),
        Some(avt::Color::RGB(rgb)) => Color::Rgb(rgb.r, rgb.g, rgb.b),
    };
    Style {
        foreground: color(pen.foreground()),
        background: color(pen.background()),
        bold: pen.is_bold(),
        dim: pen.is_faint(),
        italic: pen.is_italic(),
        underline: pen.is_underline(),
        crossed_out: pen.is_strikethrough(),
        inverse: pen.is_inverse(),
    }
}
