//! The guest's console, and one line that is the kiosk's.

use super::{again, kit};
use crate::{
    app::{App, LogInIs},
    glyph::plain,
    text,
};
use parcel::wire::{memory::Room, session::State};
use ratatui::{
    Frame,
    layout::Rect,
    style::{Color, Style},
    text::{Line, Span},
};

/// What the last line says of a log-in that is over, and where there is no room for that.
const OVER: &str = "Your log-in has run out: Ctrl-] L logs you in again";
const SHORT: &str = "Log in again: Ctrl-] L";
/// What it says of a kiosk whose memory for changes is nearly full or full, and where there is no room for that.
const LITTLE: [&str; 2] =
    ["Memory for changes nearly full: suspend soon (Ctrl-] S)", "Suspend soon: Ctrl-] S"];
const NONE: [&str; 2] = ["Memory for changes is full: suspend now (Ctrl-] S)", "Suspend now: Ctrl-] S"];
/// What it says of a guest whose clock is wrong.
const CLOCK: &str = "Wrong clock: Ctrl-] D";

pub(super) fn draw(app: &App, frame: &mut Frame) {
    let (screen, bar) = kit::cut_bottom(frame.area(), 1);
    if app.guest_connected {
        let cursor = app.guest.draw(screen, frame.buffer_mut());
        if let Some(at) = cursor.filter(|_| app.dialog.is_none()) {
            frame.set_cursor_position(at);
        }
    } else {
        let words = format!("Connecting to your computer  {}", kit::spinner(app.now));
        kit::text(frame, kit::centred(screen, 60, 3), vec![Line::styled(words, kit::STRONG)]);
    }
    status(app, frame, bar);
}

fn status(app: &App, frame: &mut Frame, bar: Rect) {
    let Some(state) = &app.state else { return };
    frame.buffer_mut().set_style(bar, kit::BAR);
    let clock = format!(" {} ", text::minute(app.now).split_off(11));
    let width = (clock.len() as u16).min(bar.width);
    let (left, right) = (bar.width - width, Rect { x: bar.right() - width, width, ..bar });
    let key = Style::new().fg(Color::White).bg(Color::Blue);
    let alarm = Style::new().fg(Color::White).bg(Color::Red);
    let here = app.connected && !app.waits_for_init();
    let warning = Style::new().fg(Color::Black).bg(Color::Yellow);
    let quiet = state.waiting.is_none() && state.network.is_some();
    // These name the hot key, too, and have its place.
    let named = match (app.log_in_is(), state.health.room) {
        (LogInIs::Over, _) => Some((OVER.to_owned(), SHORT, alarm)),
        (_, Room::None) => Some((NONE[0].to_owned(), NONE[1], alarm)),
        (LogInIs::Ending(at), _) if quiet => Some((again::ending(at, "Ctrl-] L"), SHORT, warning)),
        (_, Room::Little) if quiet => Some((LITTLE[0].to_owned(), LITTLE[1], warning)),
        _ => None,
    };
    let spans = match named.filter(|_| here) {
        Some((words, short, style)) => {
            let words = if words.len() + 2 > usize::from(left) { short.to_owned() } else { words };
            let room = usize::from(left).saturating_sub(words.len() + 5).min(24);
            let name = state.parcel.as_ref().filter(|_| room > 3);
            let name = name.map_or(String::new(), |name| format!(" {}  ", plain(name, room)));
            vec![Span::raw(name), Span::styled(format!(" {words} "), style)]
        }
        None => ordinary(app, state, key, alarm, left),
    };
    frame.render_widget(Line::from(spans), Rect { width: left, ..bar });
    frame.render_widget(Line::styled(clock, kit::BAR), right);
}

/// The long words if they fit behind what is there, else the short ones.
fn fitting(room: u16, before: &[Span], long: String, short: String) -> String {
    let used: usize = before.iter().map(Span::width).sum();
    if used + long.chars().count() <= usize::from(room) { long } else { short }
}

fn ordinary(app: &App, state: &State, key: Style, alarm: Style, room: u16) -> Vec<Span<'static>> {
    // The words behind them come first: these have at most 36 characters.
    let most = usize::from(room).saturating_sub(62).min(24);
    let name = state.parcel.as_ref().map_or(String::new(), |name| plain(name, most));
    let mut spans = vec![Span::raw(format!(" {name}  ")), Span::styled(" Ctrl-] ", key)];
    if room >= 64 {
        spans.extend([Span::raw(" or "), Span::styled(" F12 ", key)]);
    }
    spans.push(Span::raw(" menu  "));
    if !app.connected {
        spans.push(Span::styled(" This kiosk does not answer ", alarm));
    } else if app.waits_for_init() {
        spans.push(Span::styled(" One moment ", key));
    } else if app.log_in_is() == LogInIs::Renewed {
        spans.push(Span::styled(format!(" {} ", again::DONE), key));
    } else if let Some(waiting) = &state.waiting {
        let long = format!(" Waiting {}: {} ", text::span(waiting.seconds), plain(&waiting.reason, 200));
        let short = format!(" Waiting {}: D tells why ", text::span(waiting.seconds));
        spans.push(Span::styled(fitting(room, &spans, long, short), alarm));
    } else if state.network.is_none() {
        let long = format!(" No network: {} ", super::network_words(state));
        let words = fitting(room, &spans, long, " No network: D tells why ".to_owned());
        spans.push(Span::styled(words, alarm));
    } else if state.clock_behind {
        spans.push(Span::styled(format!(" {CLOCK} "), Style::new().fg(Color::Black).bg(Color::Yellow)));
    }
    spans
}
