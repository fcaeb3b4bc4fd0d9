//! The windows over the screens.

use super::{again, keyboard, kit, list, notice, phase_name, progress, proof::LOSS};
use crate::{
    app::{App, Dialog, LogInIs, MENU, View},
    glyph::plain,
    text,
};
use parcel::wire::memory::Room;
use ratatui::{
    Frame,
    style::{Color, Style},
    text::{Line, Span},
};

pub(super) fn draw(app: &App, dialog: Dialog, frame: &mut Frame) {
    let (title, width, lines) = match dialog {
        Dialog::Power => ("Power", 44, power()),
        Dialog::BreakLock { cold_boot } => ("In use elsewhere", 70, break_lock(app, cold_boot)),
        Dialog::ColdBoot => ("Cold boot", 66, cold_boot(app)),
        Dialog::Menu(at) => ("Session", 58, menu(app, at)),
        Dialog::Details => ("Details", 72, details(app, frame.area().height)),
        Dialog::GiveUp if app.asks_before_giving_up() => return super::proof::give_up(app, frame),
        Dialog::GiveUp => ("Give up?", 66, give_up()),
        Dialog::LoseWork => ("Lose your work?", 66, lose_work(app)),
        Dialog::Pressed => ("The power button was pressed", 66, pressed(app)),
        Dialog::LogIn => return again::draw(app, frame),
        Dialog::Keyboard(at) => return keyboard::draw(app, at, frame),
        Dialog::Kiosk(at) => ("This kiosk", 72, unusual(app, at)),
    };
    kit::card(frame, frame.area(), title, width, lines, app.page);
}

fn choice(key: &'static str, does: impl Into<String>) -> Line<'static> {
    let key = Span::styled(format!(" {key:^3} "), Style::new().fg(Color::White).bg(Color::Blue));
    Line::from(vec![key, Span::raw(format!("  {}", does.into()))])
}

fn power() -> Vec<Line<'static>> {
    vec![choice("P", "Power this kiosk off"), choice("R", "Restart this kiosk"), choice("Esc", "Back")]
}

/// What is said of a guest whose clock is wrong.
const CLOCK_BEHIND: &str = "The clock of your computer may be wrong: no program in it sets the clock after a resume. Set it by hand, \
and ask your IT desk to install the Waystation clock helper.";

const COLD_BOOT: &str = "A cold boot starts it from its disk, as after a power failure. Its programs end, and what they did not save is lost.";

fn break_lock(app: &App, cold_boot: bool) -> Vec<Line<'static>> {
    let Some(parcel) = app.list.current() else { return Vec::new() };
    let Some(lock) = &parcel.lock else {
        return vec![Line::raw("Nobody uses it any more."), choice("Esc", "Back")];
    };
    let place = list::holder(app, &lock.kiosk);
    let last = parcel.suspended_at.map_or("it was made".to_owned(), |at| format!("{} UTC", text::minute(at)));
    let mut lines = vec![
        Line::raw(format!(
            "{} is in use by {} {place} since {} UTC.",
            plain(&parcel.name, 40),
            plain(&lock.principal, 80),
            text::minute(lock.since)
        )),
        Line::raw(""),
        Line::styled(
            format!(
                "If you break that lock, you start without what was done {place} after {last}. That kiosk can save it as a computer of its own only if it still runs."
            ),
            kit::BAD,
        ),
        Line::raw(""),
        Line::raw("If you can, suspend it there instead."),
        Line::raw(""),
    ];
    if cold_boot && parcel.suspended {
        lines.extend([Line::styled(COLD_BOOT, kit::BAD), Line::raw("")]);
    }
    let does = match (cold_boot, parcel.suspended) {
        (false, true) => "Break the lock and start from the last suspend",
        _ => "Break the lock and start it from its disk",
    };
    lines.extend([choice("B", does), choice("Esc", "Back to the list")]);
    lines
}

fn cold_boot(app: &App) -> Vec<Line<'static>> {
    let name = app.list.current().map_or(String::new(), |parcel| plain(&parcel.name, 40));
    vec![
        Line::raw(format!("{name} was suspended with its programs running.")),
        Line::raw(""),
        Line::styled(COLD_BOOT, kit::BAD),
        Line::raw(""),
        choice("Y", "Yes, cold boot"),
        choice("Esc", "Back to the list"),
    ]
}

/// What is said of a kiosk whose memory for changes is nearly full or full.
fn room(app: &App) -> Option<Line<'static>> {
    let words = match app.state.as_ref()?.health.room {
        Room::Enough => return None,
        Room::Little => {
            "Your computer's disk is slow now: this kiosk's memory for changes is nearly full. Suspend soon; nothing is lost."
        }
        Room::None => {
            "This kiosk's memory for changes is full: what your computer writes to its disk waits. Suspend now; nothing is lost."
        }
    };
    Some(Line::styled(words, kit::WARN))
}

fn menu(app: &App, at: usize) -> Vec<Line<'static>> {
    let mut lines: Vec<_> = MENU
        .iter()
        .enumerate()
        .map(|(row, (letter, does))| {
            let style = if row == at { kit::CURSOR } else { Style::new() };
            Line::styled(format!(" {}  {does:<47}", letter.to_ascii_uppercase()), style)
        })
        .collect();
    if let Some(words) = room(app) {
        lines.extend([Line::raw(""), words]);
    }
    lines.push(Line::raw(""));
    lines.push(Line::styled("Ctrl-] or F12 again sends that key to your computer.", kit::DIM));
    lines
}

fn give_up() -> Vec<Line<'static>> {
    let loss = "Nothing is lost: your computer stays as it was last suspended, and this kiosk is wiped.";
    vec![Line::raw(loss), Line::raw(""), choice("Y", "Yes, give up"), choice("N", "No, continue")]
}

fn lose_work(app: &App) -> Vec<Line<'static>> {
    let logs_in = app.view() == View::Progress && app.wants_log_in();
    let saves = if logs_in { " To save your work instead, press N, then L to log in." } else { "" };
    vec![
        Line::styled(LOSS, kit::BAD),
        Line::raw(""),
        Line::raw(format!("Your password was right. Nothing is lost before you press Y.{saves}")),
        Line::raw(""),
        choice("Y", "Yes, lose it and give up"),
        choice("N", "No, keep my work"),
    ]
}

/// Why the power button ends nothing now. What is waited for comes first: it is what the user can do something about.
fn pressed(app: &App) -> Vec<Line<'static>> {
    let Some(state) = &app.state else { return Vec::new() };
    let mut lines = Vec::new();
    if app.can_give_up() {
        lines.push(Line::raw(
            "This kiosk stays on until your work is saved and sent home. Then it wipes itself.",
        ));
    } else {
        lines.push(Line::raw("This kiosk stays on until this session has ended. Then it wipes itself."));
    }
    lines.push(Line::raw(""));
    match app.log_in_is() {
        LogInIs::Over => lines.extend(again::over(state.waiting.as_ref())),
        _ => match &state.waiting {
            Some(waiting) => lines.extend(progress::waiting_lines(waiting)),
            None => lines.push(Line::raw(plain(&state.doing, 200))),
        },
    }
    lines.push(Line::raw(""));
    if app.can_give_up() {
        let held = "Do not hold the button down: that cuts the power, and your work is lost.";
        lines.extend([Line::styled(held, kit::BAD), Line::raw("")]);
    }
    if app.wants_log_in() {
        lines.push(choice("L", "Log in again"));
    }
    if app.can_give_up() {
        lines.push(choice("C", "Give your work up: asks for your password first"));
    }
    lines.push(choice("Esc", "Wait"));
    lines
}

/// The sentences from `at` on: as many as the window has room for, which are two on the smallest screen.
fn unusual(app: &App, at: usize) -> Vec<Line<'static>> {
    let sentences = app.unusual();
    let all = sentences.len();
    let mut keys = vec![choice("Esc", "Close")];
    if all > 1 {
        keys.push(choice("Up/Down", format!("{} of {all}", (at + 1).min(all))));
    }
    let room = if app.size.1 >= 24 { 3 } else { 1 };
    let mut lines = Vec::new();
    for sentence in sentences.iter().skip(at).take(room) {
        lines.extend([Line::styled(plain(sentence, kit::SENTENCE), kit::WARN), Line::raw("")]);
    }
    lines.extend(keys);
    lines
}

fn details(app: &App, height: u16) -> Vec<Line<'static>> {
    let mut lines = Vec::new();
    match &app.status {
        Some(status) => {
            lines.push(kit::pair("Received", text::bytes(status.bytes_in)));
            lines.push(kit::pair("Sent", text::bytes(status.bytes_out)));
            lines.push(kit::pair(
                "Changed",
                format!("{} disk chunks since the last commit", status.dirty_chunks),
            ));
            if let Some(progress) = &status.progress {
                lines.extend(progress::progress_lines(progress, 40));
            }
        }
        None => lines.push(Line::raw("Asking this kiosk's cache")),
    }
    let Some(state) = &app.state else { return lines };
    lines.push(super::network_line(state));
    let waiting = state.waiting.as_ref().or(app.status.as_ref().and_then(|status| status.waiting.as_ref()));
    if let Some(waiting) = waiting {
        lines.extend(progress::waiting_lines(waiting));
    }
    lines.extend(room(app));
    if state.clock_behind {
        lines.push(Line::styled(CLOCK_BEHIND, kit::WARN));
    }
    if let Some(unused) = super::not_used(state) {
        lines.push(Line::styled(format!("{unused}: F8 at the login screen says more."), kit::WARN));
    }
    if !state.wishes_missed.is_empty() {
        let wishes: Vec<_> =
            state.wishes_missed.iter().map(|miss| plain(&notice::item(&miss.item), 30)).collect();
        lines.push(kit::pair("Missing", plain(&wishes.join(", "), 400)));
    }
    lines.push(Line::raw(""));
    // The latest phases: a long session has walked through more than fit beside the frame, what is above, two lines
    // of it that may wrap, and the way out.
    let room = usize::from(height).saturating_sub(lines.len() + 8).min(10);
    let skip = state.timeline.len().saturating_sub(room);
    for record in &state.timeline[skip..] {
        let mark = if record.ok { "[x]" } else { "[!]" };
        lines.push(Line::raw(format!(
            "{mark} {:<18}{}",
            phase_name(record.phase),
            progress::figures(record)
        )));
    }
    lines.push(Line::raw(""));
    lines.push(choice("Esc", "Close"));
    lines
}
