//! What all screens are built from.

use crate::{glyph::plain, trouble::Trouble};
use parcel::wire::{Code, Progress};
use ratatui::{
    Frame,
    layout::{Position, Rect},
    style::{Color, Modifier, Style},
    text::{Line, Span},
    widgets::{Block, Clear, Paragraph, Wrap},
};
use std::borrow::Cow;

/// The longest foreign sentence that is drawn, in characters.
pub const SENTENCE: usize = 400;
/// More rows than any text that is drawn has.
const MOST_ROWS: u16 = 200;

/// Bars at the top and the bottom.
pub const BAR: Style = Style::new().fg(Color::Black).bg(Color::Gray);
/// What went wrong.
pub const BAD: Style = Style::new().fg(Color::LightRed).add_modifier(Modifier::BOLD);
/// What needs attention.
pub const WARN: Style = Style::new().fg(Color::LightYellow);
/// What is as it should be.
pub const GOOD: Style = Style::new().fg(Color::LightGreen);
/// Labels beside what counts.
pub const DIM: Style = Style::new().fg(Color::Cyan);
/// What the eye should find first.
pub const STRONG: Style = Style::new().fg(Color::White).add_modifier(Modifier::BOLD);
/// The entry that the cursor is on.
pub const CURSOR: Style = Style::new().fg(Color::White).bg(Color::Blue).add_modifier(Modifier::BOLD);

/// A rectangle of at most this size in the middle of `area`, a little above it if there is room.
pub fn centred(area: Rect, width: u16, height: u16) -> Rect {
    let (width, height) = (width.min(area.width), height.min(area.height));
    Rect { x: area.x + (area.width - width) / 2, y: area.y + (area.height - height) / 2, width, height }
}

/// The first `n` rows of `area`, and the rest.
pub fn cut_top(area: Rect, n: u16) -> (Rect, Rect) {
    let n = n.min(area.height);
    (Rect { height: n, ..area }, Rect { y: area.y + n, height: area.height - n, ..area })
}

/// All but the last `n` rows of `area`, and those.
pub fn cut_bottom(area: Rect, n: u16) -> (Rect, Rect) {
    let n = n.min(area.height);
    cut_top(area, area.height - n)
}

/// `area` without `margin` columns on either side.
pub fn indented(area: Rect, margin: u16) -> Rect {
    let margin = margin.min(area.width / 2);
    Rect { x: area.x + margin, width: area.width - 2 * margin, ..area }
}

/// Lines of text, wrapped at words, as many as fit.
pub fn text(frame: &mut Frame, area: Rect, lines: Vec<Line>) {
    frame.render_widget(Paragraph::new(lines).wrap(Wrap { trim: false }), area);
}

/// One line of text.
pub fn line(frame: &mut Frame, area: Rect, row: u16, line: Line) {
    if row < area.height {
        frame.render_widget(line, Rect { y: area.y + row, height: 1, ..area });
    }
}

/// A box with a title; its inside.
pub fn panel(frame: &mut Frame, area: Rect, title: &str) -> Rect {
    let block = Block::bordered().title(Span::styled(format!(" {} ", plain(title, 60)), STRONG));
    let inside = block.inner(area);
    frame.render_widget(block, area);
    indented(inside, 2)
}

/// A box in the middle of `area`, as high as its lines need; what does not fit is on further pages.
pub fn card(frame: &mut Frame, area: Rect, title: &str, width: u16, lines: Vec<Line>, page: i16) {
    let width = width.min(area.width);
    let rows = rows(&lines, width.saturating_sub(6).max(1));
    let at = centred(area, width, rows.saturating_add(4));
    frame.render_widget(Clear, at);
    let inner = panel(frame, at, title);
    let (_, inner) = cut_top(inner, 1);
    paged(frame, inner, lines, page);
}

/// Lines of text, wrapped at words; what does not fit is on further pages, and the last row says so.
pub fn paged(frame: &mut Frame, area: Rect, lines: Vec<Line>, page: i16) {
    let rows = rows(&lines, area.width);
    let paragraph = Paragraph::new(lines).wrap(Wrap { trim: false });
    if rows <= area.height || area.height < 2 {
        return frame.render_widget(paragraph, area);
    }
    let (area, foot) = cut_bottom(area, 1);
    let pages = rows.div_ceil(area.height);
    let page = i32::from(page).rem_euclid(i32::from(pages)) as u16;
    frame.render_widget(paragraph.scroll((page * area.height, 0)), area);
    let words = format!("Page {} of {pages}: Up and Down turn the pages.", page + 1);
    line(frame, foot, 0, Line::styled(words, WARN));
}

/// How many rows lines take at a width: drawn into a buffer of their own, because the wrapping is ratatui's.
pub fn rows(lines: &[Line], width: u16) -> u16 {
    use ratatui::{buffer::Buffer, widgets::Widget};
    // Two rows that follow each other hold more than one row's width, or the word between them had stayed.
    let of_line = |line: &Line| 2 * line.width() / usize::from(width.max(1)) + 2;
    let most = lines.iter().map(of_line).sum::<usize>().min(usize::from(MOST_ROWS)) as u16;
    let area = Rect::new(0, 0, width, most);
    let mut buffer = Buffer::empty(area);
    Paragraph::new(lines.to_vec()).wrap(Wrap { trim: false }).render(area, &mut buffer);
    let used = |row: u16| (0..width).any(|x| buffer[(x, row)].symbol() != " ");
    (0..most).rev().find(|row| used(*row)).map_or(0, |row| row + 1)
}

/// A key and what it does, for the bottom line.
pub type Hint = (&'static str, &'static str);

/// Keys and what they do.
pub fn hints(keys: &[Hint]) -> Line<'static> {
    let mut spans = Vec::new();
    for (key, does) in keys {
        spans.push(Span::styled(format!(" {key} "), Style::new().fg(Color::White).bg(Color::Blue)));
        spans.push(Span::styled(format!(" {does}  "), Style::new()));
    }
    Line::from(spans)
}

/// A label and a value beside it.
pub fn pair<'a>(label: &str, value: impl Into<Cow<'a, str>>) -> Line<'a> {
    Line::from(vec![Span::styled(format!("{label:<10}"), DIM), Span::raw(value)])
}

/// A sentence of what went wrong, and its code.
pub fn trouble(trouble: &Trouble) -> Vec<Line<'static>> {
    vec![Line::styled(plain(&trouble.sentence, SENTENCE), BAD), code(trouble.code)]
}

/// The code of what went wrong.
pub fn code(code: Code) -> Line<'static> {
    Line::styled(format!("Code for IT: {code}"), DIM)
}

/// A field for typing: its visible end, and where the cursor is.
pub fn field(frame: &mut Frame, area: Rect, row: u16, label: &str, shown: &str, focused: bool) {
    if row >= area.height {
        return;
    }
    let label_width = 11;
    let room = usize::from(area.width.saturating_sub(label_width + 2));
    let chars = shown.chars().count();
    // One cell is kept for the cursor behind the text.
    let tail: String = shown.chars().skip((chars + 1).saturating_sub(room)).collect();
    let filled = tail.chars().count();
    let style =
        if focused { Style::new().fg(Color::White).add_modifier(Modifier::BOLD) } else { Style::new() };
    let padding = "_".repeat(room.saturating_sub(filled));
    line(
        frame,
        area,
        row,
        Line::from(vec![
            Span::styled(format!("{label:<width$}", width = usize::from(label_width)), DIM),
            Span::raw("["),
            Span::styled(tail, style),
            Span::styled(padding, Style::new().fg(Color::DarkGray)),
            Span::raw("]"),
        ]),
    );
    if focused && room > 0 {
        let x = area.x.saturating_add(label_width + 1).saturating_add(u16::try_from(filled).unwrap_or(0));
        frame.set_cursor_position(Position::new(x, area.y + row));
    }
}

/// Below a password's field: what its stars cannot show, and the key that shows what is typed.
pub fn below_password(caps_lock: bool, shown: bool) -> Line<'static> {
    let mut spans = vec![Span::raw(format!("{:<11}", ""))];
    if caps_lock {
        spans.push(Span::styled("Caps Lock is on. ", WARN));
    }
    spans.push(Span::styled(if shown { "F3 hides it again." } else { "F3 shows what you type." }, DIM));
    Line::from(spans)
}

/// `[#####.....]  42 %`, or what is done while the total is unknown.
pub fn bar(progress: &Progress, width: usize) -> String {
    if progress.total == 0 {
        return String::new();
    }
    let done = progress.done.min(progress.total);
    let filled = (u128::from(done) * width as u128 / u128::from(progress.total)) as usize;
    let percent = u128::from(done) * 100 / u128::from(progress.total);
    format!("{}{} {percent:>3} %", "█".repeat(filled), "░".repeat(width - filled))
}

/// One of four strokes, by the second: something is under way.
pub fn spinner(now: u64) -> &'static str {
    ["|", "/", "-", "\\"][(now % 4) as usize]
}
