//! What stands between this kiosk and a log-in, and the kiosk's log.

use super::kit::{self, Hint};
use crate::{
    app::{App, DiagnosisPage},
    glyph::plain,
    text,
};
use parcel::wire::{
    clock::{ClockState, Source},
    diagnosis::{Check, Diagnosis, Health, StepFound},
};
use ratatui::{
    Frame,
    layout::Rect,
    style::Style,
    text::{Line, Span},
};

/// Columns before what was found: a mark and the step's name.
const MARGIN: usize = 22;
/// Columns and rows of the terminal that are not the page's: bars, borders, margins, and the line below.
const FRAME: (u16, u16) = (8, 6);
/// The most of a sentence, and of a line of the log, in characters.
const SENTENCE: usize = 400;
/// A clock that was moved by less is not worth a line, in seconds.
const WORTH_TELLING: u64 = 60;

pub(super) fn keys(page: &DiagnosisPage) -> Vec<Hint> {
    vec![("Esc", "Back"), ("L", if page.log { "Steps" } else { "Log" }), ("Up/Down", "Scroll")]
}

pub(super) fn draw(app: &App, page: &DiagnosisPage, frame: &mut Frame, area: Rect) {
    let title = if page.log { "The log of this kiosk" } else { "What works here, and what does not" };
    let inside = kit::panel(frame, kit::indented(area, 1), title);
    let found = app.state.as_ref().and_then(|state| state.health.diagnosis.as_ref());
    let (rows, below) = kit::cut_bottom(inside, 1);
    let foot = match app.state.as_ref().filter(|_| page.log) {
        Some(state) => format!("Version {}", plain(&state.image, 40)),
        None => format!("Tried again by itself every few seconds.  {}", kit::spinner(app.now)),
    };
    kit::line(frame, below, 0, Line::styled(foot, kit::DIM));
    let Some(found) = found else {
        return kit::line(frame, rows, 1, Line::styled("Trying each step ...", kit::STRONG));
    };
    let width = usize::from(rows.width);
    let lines = if page.log { log(found, width) } else { steps(found, width) };
    let shown = usize::from(rows.height);
    let hidden = lines.len().saturating_sub(shown);
    let scrolled = page.scrolled.min(hidden);
    let from = if page.log { hidden - scrolled } else { scrolled };
    for (row, line) in lines.into_iter().skip(from).take(shown).enumerate() {
        kit::line(frame, rows, u16::try_from(row).unwrap_or(u16::MAX), line);
    }
    if hidden > from {
        let more = Line::styled("more below", kit::WARN).right_aligned();
        kit::line(frame, below, 0, more);
    }
}

/// How many rows of the page a terminal of this size has no room for.
pub fn hidden(found: &Diagnosis, log_page: bool, (columns, rows): (u16, u16)) -> usize {
    let width = usize::from(columns.saturating_sub(FRAME.0)).max(1);
    let lines = if log_page { log(found, width).len() } else { steps(found, width).len() };
    lines.saturating_sub(usize::from(rows.saturating_sub(FRAME.1)))
}

fn steps(found: &Diagnosis, width: usize) -> Vec<Line<'static>> {
    let mut lines = vec![Line::raw("")];
    for step in &found.steps {
        lines.extend(step_lines(step, width));
    }
    lines
}

fn step_lines(step: &StepFound, width: usize) -> Vec<Line<'static>> {
    let (mark, style) = match step.health {
        Health::Good => ("ok", kit::GOOD),
        Health::Doubtful => ("note", kit::WARN),
        Health::Bad => ("fails", kit::BAD),
        Health::Untried => ("-", kit::DIM),
    };
    let name = match step.check {
        Check::Link => "Cable",
        Check::Address => "Address",
        Check::Dns => "Names (DNS)",
        Check::Clock => "Clock",
        Check::Kdc => "Log-in server",
        Check::Server => "Parcel server",
    };
    let room = width.saturating_sub(MARGIN).max(1);
    let found = wrap(&plain(&step.found, SENTENCE), room);
    let remedy = wrap(&plain(&step.remedy, SENTENCE), room);
    let words = if step.health == Health::Bad { kit::STRONG } else { Style::new() };
    let told = found.into_iter().map(|row| (row, words));
    let told = told.chain(remedy.into_iter().map(|row| (row, kit::WARN)));
    told.enumerate()
        .map(|(row, (text, words))| {
            let (mark, name) = if row == 0 { (mark, name) } else { ("", "") };
            Line::from(vec![
                Span::styled(format!("{mark:<6}"), style),
                Span::styled(format!("{name:<width$}", width = MARGIN - 6), kit::DIM),
                Span::styled(text, words),
            ])
        })
        .collect()
}

fn log(found: &Diagnosis, width: usize) -> Vec<Line<'static>> {
    found.log.iter().flat_map(|line| wrap(&plain(line, SENTENCE), width)).map(Line::raw).collect()
}

/// A text in rows of at most `width` characters, broken between words where that is possible.
fn wrap(text: &str, width: usize) -> Vec<String> {
    let mut rows = Vec::new();
    let mut row = String::new();
    for word in text.split(' ').filter(|word| !word.is_empty()) {
        let mut word: Vec<char> = word.chars().collect();
        let used = row.chars().count();
        if used > 0 && used + 1 + word.len() > width {
            rows.push(std::mem::take(&mut row));
        }
        while word.len() > width {
            rows.push(word.drain(..width).collect());
        }
        if !row.is_empty() {
            row.push(' ');
        }
        row.extend(word);
    }
    if !row.is_empty() {
        rows.push(row);
    }
    rows
}

/// What the login screen says of a clock that was wrong.
pub(super) fn clock_line(clock: &ClockState) -> Option<Line<'static>> {
    let moved = clock.moved.unsigned_abs();
    let was = if clock.moved < 0 { "fast" } else { "slow" };
    let words = match &clock.source {
        Source::Image => "had lost the time, and nobody has told it yet; F4 says why".to_owned(),
        Source::Machine => return None,
        _ if moved < WORTH_TELLING => return None,
        Source::Ntp { server } | Source::Server { server } => {
            format!("set by {}; it was {} {was}", plain(server, 32), age(moved))
        }
        Source::Dhcp { server } => {
            format!(
                "set by this network's own time server {}; it was {} {was}",
                plain(server, 15),
                age(moved)
            )
        }
    };
    Some(kit::pair("Clock", words))
}

/// `3 min 05 s`, `25 years`.
fn age(seconds: u64) -> String {
    const YEAR: u64 = 31_556_952;
    match seconds / YEAR {
        0 => text::span(seconds),
        1 => "a year".to_owned(),
        years => format!("{years} years"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_hold_every_character_and_no_more_than_they_can() {
        for width in 1..30 {
            for text in ["", "a", "one two three", "https://a-very-long-name.example.org:8443/x y", "ä ö ü"]
            {
                let rows = wrap(text, width);
                assert!(rows.iter().all(|row| row.chars().count() <= width && !row.is_empty()), "{rows:?}");
                let kept: String = rows.concat().replace(' ', "");
                assert_eq!(kept, text.replace(' ', ""));
            }
        }
    }
}
