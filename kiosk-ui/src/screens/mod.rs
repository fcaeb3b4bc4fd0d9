//! The screens: a picture of [`App`], and nothing else.

mod again;
pub mod diagnosis;
mod dialogs;
mod keyboard;
mod kit;
mod list;
mod login;
mod notice;
mod progress;
pub mod proof;
mod report;
mod run;
mod unlocking;

use crate::{
    app::{App, Dialog, LogInIs, View, low_battery},
    glyph::{Glyphs, name, plain},
    text,
};
use kit::{BAR, Hint, WARN, cut_bottom, cut_top};
use parcel::wire::session::{Phase, State};
use ratatui::{
    Frame,
    buffer::Cell,
    layout::Rect,
    style::{Color, Modifier},
    text::{Line, Span},
};

/// Draws the screen as it should be now.
pub fn draw(app: &App, frame: &mut Frame) {
    if !app.fits() {
        too_small(app, frame);
    } else if app.view() == View::Run {
        run::draw(app, frame);
    } else {
        let keys = keys(app);
        let body = chrome(app, frame, &keys);
        match app.view() {
            View::Starting => starting(app, frame, body),
            View::Notice => notice::draw(app, frame, body),
            View::Report => report::draw(app, frame, body),
            View::Login => login::draw(app, frame, body),
            View::Diagnosis => {
                if let Some(page) = &app.diagnosis {
                    diagnosis::draw(app, page, frame, body);
                }
            }
            View::List => list::draw(app, frame, body),
            View::Opening => list::opening(app, frame, body),
            View::Progress => progress::draw(app, frame, body),
            View::Locked => proof::locked(app, frame, body),
            View::Run => {}
        }
    }
    if let Some(dialog) = app.dialog.filter(|_| app.fits()) {
        dialogs::draw(app, dialog, frame);
    }
    if app.about.glyphs == Glyphs::Font {
        for cell in &mut frame.buffer_mut().content {
            settle(cell);
        }
    }
}

/// Says a cell's look in the virtual console's own terms, one of 16 foregrounds on one of 8 backgrounds. The console
/// keeps brightness beside the colour: a bright colour leaves it on for the default colour that follows, and any colour
/// switches boldness off.
fn settle(cell: &mut Cell) {
    let bold = cell.modifier.contains(Modifier::BOLD);
    let dim = cell.modifier.contains(Modifier::DIM);
    cell.modifier.remove(Modifier::BOLD | Modifier::DIM);
    cell.fg = match cell.fg {
        Color::Reset | Color::Gray if bold => Color::White,
        Color::Reset | Color::Gray | Color::White if dim => Color::DarkGray,
        Color::Reset => Color::Gray,
        Color::Black if bold => Color::DarkGray,
        Color::Red if bold => Color::LightRed,
        Color::Green if bold => Color::LightGreen,
        Color::Yellow if bold => Color::LightYellow,
        Color::Blue if bold => Color::LightBlue,
        Color::Magenta if bold => Color::LightMagenta,
        Color::Cyan if bold => Color::LightCyan,
        other => other,
    };
    cell.bg = match cell.bg {
        Color::Reset | Color::DarkGray => Color::Black,
        Color::LightRed => Color::Red,
        Color::LightGreen => Color::Green,
        Color::LightYellow => Color::Yellow,
        Color::LightBlue => Color::Blue,
        Color::LightMagenta => Color::Magenta,
        Color::LightCyan => Color::Cyan,
        Color::White => Color::Gray,
        other => other,
    };
}

/// The keys of the bottom line.
fn keys(app: &App) -> Vec<Hint> {
    if app.dialog.is_some() {
        return Vec::new();
    }
    match app.view() {
        View::Starting | View::Run => Vec::new(),
        View::Locked => proof::KEYS.to_vec(),
        View::Notice | View::Report => vec![("Enter", "Continue")],
        View::Login => login::keys(app),
        View::Diagnosis => app.diagnosis.as_ref().map_or_else(Vec::new, diagnosis::keys),
        View::List => list::keys(app),
        View::Opening => list::opening_keys(app),
        View::Progress => progress::keys(app),
    }
}

/// The bars at the top and the bottom, and the room between them.
fn chrome(app: &App, frame: &mut Frame, keys: &[Hint]) -> Rect {
    let (top, rest) = cut_top(frame.area(), 1);
    let (rest, bottom) = cut_bottom(rest, 1);
    let kiosk = app.state.as_ref().map_or(String::new(), |state| name(&state.kiosk, 24));
    let right = format!("{kiosk}   {} UTC ", text::minute(app.now));
    let room = usize::from(top.width).saturating_sub(right.chars().count() + 2);
    let title = plain(&app.about.title, room);
    frame.buffer_mut().set_style(top, BAR);
    frame.render_widget(Line::styled(format!(" {title}"), BAR), top);
    frame.render_widget(Line::styled(right, BAR).right_aligned(), top);
    if !keys.is_empty() {
        frame.render_widget(kit::hints(keys), bottom);
    }
    let log_in = || match app.log_in_is() {
        LogInIs::Renewed => Some(again::DONE.to_owned()),
        LogInIs::Ending(at) => Some(format!("{}.", again::ending(at, "L"))),
        LogInIs::Good | LogInIs::Over => None,
    };
    let lost = match &app.state {
        Some(_) if !app.connected => {
            Some("A part of this kiosk does not answer. Connecting again.".to_owned())
        }
        Some(state) => {
            let leaving = app.logs_out_soon().map(|seconds| {
                let left = text::span(u64::from(seconds));
                format!("Nobody has pressed a key for a while. Logging out in {left}; press any key to stay.")
            });
            // The login screen has a line of its own for that.
            let offline = state.network.is_none()
                && !matches!(app.view(), View::Login | View::Diagnosis | View::Starting);
            // A network card that is not used may be the reason.
            let unused = not_used(state);
            let offline = || {
                offline.then(|| match &unused {
                    None => format!("No network: {}", network_words(state)),
                    Some(unused) => format!("No network, and {unused}: F8 says more."),
                })
            };
            let passing = state.health.passing_name.then_some("This kiosk has a new name after each start");
            let unusual = || {
                let battery = state.health.low_battery.map(low_battery);
                battery.or_else(|| Some(format!("{}: F8 says more.", unused.as_deref().or(passing)?)))
            };
            let unusual = || unusual().filter(|_| app.view() == View::Login);
            leaving.or_else(offline).or_else(log_in).or_else(unusual)
        }
        None => None,
    };
    let lines: Vec<_> = lost.into_iter().map(|lost| Line::styled(lost, WARN)).collect();
    let least = u16::from(rest.height >= 20);
    let rows = kit::rows(&lines, rest.width.saturating_sub(2)).clamp(least, 3);
    let (rest, below) = cut_bottom(rest, rows);
    kit::text(frame, kit::indented(below, 1), lines);
    rest
}

/// How many devices are plugged in and not used, if any.
fn not_used(state: &State) -> Option<String> {
    match state.health.refused.len() {
        0 => None,
        1 => Some("1 USB device is not used".to_owned()),
        more => Some(format!("{more} USB devices are not used")),
    }
}

/// Better no form than one whose fields or warnings are out of sight.
fn too_small(app: &App, frame: &mut Frame) {
    let (here, least) = (app.size, crate::app::LEAST);
    let mut words = format!(
        "This terminal is too small: {} by {}. Make it at least {} by {}.",
        here.0, here.1, least.0, least.1
    );
    if app.dialog == Some(Dialog::LogIn) {
        words.push_str(" Esc goes back.");
    }
    kit::text(frame, frame.area(), vec![Line::styled(words, WARN)]);
}

fn starting(app: &App, frame: &mut Frame, area: Rect) {
    let doing = app.state.as_ref().map_or("", |state| &state.doing);
    let network = app.state.as_ref().map(network_line);
    let mut lines = vec![
        Line::styled(format!("This kiosk is starting  {}", kit::spinner(app.now)), kit::STRONG),
        Line::raw(""),
        Line::raw(plain(doing, 200)),
    ];
    lines.extend(network);
    let at = kit::centred(area, 60, kit::rows(&lines, area.width.min(60)).max(8));
    kit::text(frame, at, lines);
}

/// How the network is, without the words that stand before it on the screen.
fn network_words(state: &parcel::wire::session::State) -> String {
    let words = plain(&state.network_detail, 200);
    let bare = ["No network: ", "Network: "].iter().find_map(|head| words.strip_prefix(head));
    bare.map_or(words.clone(), str::to_owned)
}

/// Server and network, as the login screen and the notices show them.
fn network_line(state: &State) -> Line<'static> {
    let (word, style) = match &state.network {
        Some(network) => (plain(network, 30), kit::GOOD),
        None => ("none".to_owned(), kit::BAD),
    };
    // What says the same once more is left out.
    let detail = match &state.network {
        Some(network) if state.network_detail.contains(network.as_str()) => String::new(),
        _ => network_words(state),
    };
    Line::from(vec![
        Span::styled(format!("{:<10}", "Network"), kit::DIM),
        Span::styled(word, style),
        Span::raw(format!("  {detail}")),
    ])
}

/// What a phase is called on the screen.
fn phase_name(phase: Phase) -> &'static str {
    match phase {
        Phase::Boot => "Start",
        Phase::Login => "Log in",
        Phase::Choose => "Choose",
        Phase::Check => "Hardware check",
        Phase::Lock => "Take the lock",
        Phase::Open => "Open",
        Phase::Restore => "Restore",
        Phase::Run => "Run",
        Phase::Save => "Save",
        Phase::Commit => "Send home",
        Phase::Rescue => "Send home as a computer of its own",
        Phase::Unlock => "Release the lock",
        Phase::Wipe => "Wipe this kiosk",
        Phase::Verify => "Verify the wipe",
    }
}
