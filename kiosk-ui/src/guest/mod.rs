//! The guest's terminal: what it wrote, and what a terminal answers it.

use crate::glyph::{Glyphs, in_font};
use ratatui::{
    buffer::{Buffer, Cell},
    layout::{Position, Rect},
    style::{Color, Modifier, Style},
};
use terminal::Terminal;

/// Least size that the terminal is given, columns and rows.
const LEAST: (u16, u16) = (10, 4);

/// The guest's terminal.
pub struct Guest {
    terminal: Terminal,
    glyphs: Glyphs,
}

impl Guest {
    /// An empty one.
    pub fn new(glyphs: Glyphs) -> Self {
        Self { terminal: Terminal::new(LEAST.0, LEAST.1), glyphs }
    }

    /// Forgets everything that was on it.
    pub fn clear(&mut self) {
        let (cols, rows) = self.size();
        self.terminal = Terminal::new(cols, rows);
    }

    /// Takes a new size, columns and rows.
    pub fn resize(&mut self, cols: u16, rows: u16) {
        self.terminal.resize(cols.max(LEAST.0), rows.max(LEAST.1));
    }

    /// Columns and rows.
    pub fn size(&self) -> (u16, u16) {
        self.terminal.size()
    }

    /// Takes what the guest wrote; gives back what a terminal answers to it.
    pub fn write(&mut self, bytes: &[u8]) -> Vec<u8> {
        self.terminal.write(bytes)
    }

    /// `true` when the guest asked for application cursor keys.
    pub fn application_cursor(&self) -> bool {
        self.terminal.application_cursor()
    }

    /// Draws it, and says where the cursor stands if it shows.
    pub fn draw(&self, area: Rect, buffer: &mut Buffer) -> Option<Position> {
        let area = area.intersection(buffer.area);
        for position in area.positions() {
            buffer[position].reset();
        }
        self.terminal.cells(|col, row, drawn| {
            let at = Position::new(area.x.saturating_add(col), area.y.saturating_add(row));
            if !area.contains(at) {
                return;
            }
            // The right half of a wide character may not fit.
            let whole = !drawn.wide || at.x + 1 < area.right();
            let cell = &mut buffer[at];
            cell.set_char(if whole { drawn.character } else { ' ' });
            cell.set_style(look(drawn.style));
            tame(cell, self.glyphs);
        });
        let cursor = self.terminal.cursor();
        let at = Position::new(area.x.saturating_add(cursor.col), area.y.saturating_add(cursor.row));
        (cursor.visible && area.contains(at)).then_some(at)
    }
}

fn look(style: terminal::Style) -> Style {
    let color = |color| match color {
        terminal::Color::Default => Color::Reset,
        terminal::Color::Indexed(n) => Color::Indexed(n),
        terminal::Color::Rgb(r, g, b) => Color::Rgb(r, g, b),
    };
    let modifiers = [
        (style.bold, Modifier::BOLD),
        (style.dim, Modifier::DIM),
        (style.italic, Modifier::ITALIC),
        (style.underline, Modifier::UNDERLINED),
        (style.crossed_out, Modifier::CROSSED_OUT),
        (style.inverse, Modifier::REVERSED),
    ];
    let modifier = modifiers.into_iter().filter(|(on, _)| *on).map(|(_, modifier)| modifier).collect();
    let (fg, bg) = (Some(color(style.foreground)), Some(color(style.background)));
    Style { fg, bg, add_modifier: modifier, ..Style::default() }
}

/// Makes a cell one that the kiosk's terminal shows: its glyphs, 16 colours.
fn tame(cell: &mut Cell, glyphs: Glyphs) {
    if glyphs == Glyphs::Font {
        let mut chars = cell.symbol().chars();
        let (first, more) = (chars.next().unwrap_or(' '), chars.next());
        let shown = in_font(first).unwrap_or('?');
        if more.is_some() || shown != first {
            cell.set_char(shown);
        }
    }
    if glyphs == Glyphs::Unicode && cell.symbol().chars().any(unseen) {
        let seen: String = cell.symbol().chars().filter(|c| !unseen(*c)).collect();
        cell.set_symbol(if seen.is_empty() { " " } else { &seen });
    }
    let style = Style::new().fg(sixteen(cell.fg)).bg(sixteen(cell.bg));
    cell.set_style(style);
}

/// Controls, and what changes the order or the joining of the characters around it (UAX #9): the picture is made of
/// cells, and one must not reach into another.
fn unseen(c: char) -> bool {
    c.is_control()
        || matches!(c, '\u{ad}' | '\u{61c}' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}')
        || matches!(c, '\u{feff}' | '\u{fff9}'..='\u{fffb}' | '\u{e0000}'..='\u{e0fff}')
}

const PALETTE: [Color; 16] = [
    Color::Black,
    Color::Red,
    Color::Green,
    Color::Yellow,
    Color::Blue,
    Color::Magenta,
    Color::Cyan,
    Color::Gray,
    Color::DarkGray,
    Color::LightRed,
    Color::LightGreen,
    Color::LightYellow,
    Color::LightBlue,
    Color::LightMagenta,
    Color::LightCyan,
    Color::White,
];

/// The nearest of the 16 colours.
fn sixteen(color: Color) -> Color {
    let (r, g, b) = match color {
        Color::Rgb(r, g, b) => (r, g, b),
        Color::Indexed(n @ 0..=15) => return PALETTE[usize::from(n)],
        Color::Indexed(n @ 16..=231) => {
            let step = |n: u8| if n == 0 { 0 } else { 55 + 40 * n };
            let n = n - 16;
            (step(n / 36), step(n / 6 % 6), step(n % 6))
        }
        Color::Indexed(n) => {
            let gray = 8 + 10 * (n - 232);
            (gray, gray, gray)
        }
        other => return other,
    };
    let most = r.max(g).max(b);
    if most < 0x40 {
        return Color::Black;
    }
    let bright = most > 0xc0;
    let on = |part: u8| usize::from(part > most / 2);
    let hue = on(r) | on(g) << 1 | on(b) << 2;
    match (hue, bright) {
        (7, false) if most < 0x90 => Color::DarkGray,
        (7, false) => Color::Gray,
        _ => PALETTE[hue + if bright { 8 } else { 0 }],
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn drawn(guest: &Guest) -> Buffer {
        let (cols, rows) = guest.size();
        let mut buffer = Buffer::empty(Rect::new(0, 0, cols, rows));
        guest.draw(buffer.area, &mut buffer);
        buffer
    }

    #[test]
    fn colours_come_down_to_sixteen() {
        assert_eq!(sixteen(Color::Indexed(9)), Color::LightRed);
        assert_eq!(sixteen(Color::Rgb(255, 10, 10)), Color::LightRed);
        assert_eq!(sixteen(Color::Rgb(0, 150, 0)), Color::Green);
        assert_eq!(sixteen(Color::Indexed(232)), Color::Black);
        assert_eq!(sixteen(Color::Indexed(240)), Color::DarkGray);
        assert_eq!(sixteen(Color::Indexed(255)), Color::White);
        assert_eq!(sixteen(Color::Reset), Color::Reset);
    }

    #[test]
    fn a_question_gets_a_terminals_answer() {
        let mut guest = Guest::new(Glyphs::Font);
        guest.resize(80, 24);
        assert_eq!(guest.write(b"ab\x1b[6n"), b"\x1b[1;3R");
        assert_eq!(guest.write(b"\x1b[c"), b"\x1b[?6c");
        assert_eq!(guest.write(b"plain"), b"");
        // A full line does not push the cursor off the screen.
        assert_eq!(guest.write(&[b"\x1b[1;1H", &[b'x'; 80][..], b"\x1b[6n"].concat()), b"\x1b[1;80R");
        let mut buffer = Buffer::empty(Rect::new(0, 0, 80, 24));
        assert_eq!(guest.draw(buffer.area, &mut buffer), Some(Position::new(79, 0)));
        // Who asks without end is not answered without end.
        assert!(guest.write(&b"\x1b[6n".repeat(4000)).len() < 1000);
    }

    #[test]
    fn a_hostile_guest_costs_little_time_and_memory() {
        let mut guest = Guest::new(Glyphs::Font);
        guest.resize(240, 67);
        // Each of these, given to the emulation as it is, would take it from seconds to hours.
        for hostile in [&b"\x1b[65535@"[..], b"\x1b[65535L", b"\x1b[65535T", b"x\x1b[65535b"] {
            guest.write(&hostile.repeat(200));
        }
        // A string that never ends is kept nowhere.
        guest.write(b"\x1b]0;");
        for _ in 0..64 {
            guest.write(&[b'x'; 4096]);
        }
        guest.write(b"\x07\x1b[H\x1b[2Jstill here");
        let text: String = drawn(&guest).content().iter().take(10).map(Cell::symbol).collect();
        assert_eq!(text, "still here");
    }

    #[test]
    fn no_cell_reaches_into_another_on_any_terminal() {
        let mut guest = Guest::new(Glyphs::Unicode);
        guest.resize(80, 24);
        guest.write("a\u{202e}b\u{9b}2Jc\u{200d}d".as_bytes());
        for cell in drawn(&guest).content() {
            assert!(!cell.symbol().chars().any(unseen), "{:?}", cell.symbol());
        }
    }

    #[test]
    fn the_console_font_has_what_is_drawn() {
        let mut guest = Guest::new(Glyphs::Font);
        guest.write("日e\u{301}╭".as_bytes());
        let text: String = drawn(&guest).content().iter().take(5).map(Cell::symbol).collect();
        assert!(text.chars().all(|c| in_font(c) == Some(c)), "{text:?}");
    }

    /// What programs write to a terminal, and what none should.
    fn output() -> impl Strategy<Value = Vec<u8>> {
        let number = prop_oneof![0u32..6, 0u32..300, Just(65_535)];
        let last = prop::sample::select(&b"@ABCDEFGHJKLMPSTXdmrhlnabefsu`"[..]);
        let mark = prop::sample::select(vec!["", "", "", "?", ">"]);
        let control = (mark, prop::collection::vec(number, 0..4), last).prop_map(|(mark, numbers, last)| {
            let numbers: Vec<_> = numbers.iter().map(u32::to_string).collect();
            format!("\x1b[{mark}{}{}", numbers.join(";"), char::from(last)).into_bytes()
        });
        let mode = (prop::sample::select(vec![1, 6, 7, 25, 47, 1049]), prop::sample::select(vec!['h', 'l']))
            .prop_map(|(mode, set)| format!("\x1b[?{mode}{set}").into_bytes());
        let other = prop::sample::select(vec![
            "\n", "\r", "\t", "\x08", "\x1bM", "\x1bD", "\x1b7", "\x1b8", "\x1bc", "\x1b(0", "\x1b(B",
            "日本", "e\u{301}",
        ]);
        let part = prop_oneof![
            4 => control,
            2 => mode,
            2 => other.prop_map(|text| text.as_bytes().to_vec()),
            2 => "[a-z日]{1,90}".prop_map(String::into_bytes),
            1 => prop::collection::vec(any::<u8>(), 0..100),
        ];
        prop::collection::vec(part, 0..12).prop_map(|parts| parts.concat())
    }

    proptest! {
        #[test]
        fn any_output_at_any_size_is_drawn(
            writes in prop::collection::vec((output(), 0u16..200, 0u16..100), 0..8)
        ) {
            let mut guest = Guest::new(Glyphs::Font);
            for (bytes, cols, rows) in writes {
                guest.write(&bytes);
                guest.resize(cols, rows);
                for cell in drawn(&guest).content() {
                    prop_assert!(!matches!(cell.fg, Color::Rgb(..) | Color::Indexed(_)));
                    prop_assert!(cell.symbol().chars().all(|c| in_font(c).is_some()), "{:?}", cell.symbol());
                }
            }
        }
    }
}
