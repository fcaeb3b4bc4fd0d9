//! The login screen.

use super::kit::{self, Hint};
use crate::{
    app::{App, Busy, Field},
    glyph::plain,
};
use ratatui::{Frame, layout::Rect, text::Line};

pub(super) fn keys(app: &App) -> Vec<Hint> {
    match app.login.busy {
        Busy::No if !app.powering() => {
            let mut keys = vec![("Enter", "Log in"), ("Tab", "Next field"), ("Esc", "Clear")];
            if !app.layouts().is_empty() {
                keys.push(("F2", "Keyboard"));
            }
            keys.extend([("F4", "Diagnosis"), ("F10", "Power")]);
            // Where there is no room for all, what every form has is left out.
            for usual in ["Tab", "Esc"] {
                if kit::hints(&keys).width() > usize::from(app.size.0) {
                    keys.retain(|(key, _)| *key != usual);
                }
            }
            keys
        }
        Busy::No | Busy::Adopting(_) => Vec::new(),
        Busy::Asking(_) | Busy::Told => vec![("Esc", "Cancel")],
    }
}

pub(super) fn draw(app: &App, frame: &mut Frame, area: Rect) {
    let words = message(app);
    let (width, margin) = (area.width.min(66), if area.width < 80 { 2 } else { 7 });
    let said = kit::rows(&words, width.saturating_sub(6));
    let under = area.width.saturating_sub(2 * margin);
    let form = |step: u16| (3 + 3 * step + said.max(if step == 1 { 2 } else { 5 })).min(area.height);
    // Where there is little room the fields move together: what is said counts for more.
    let roomy = area.height >= 20 && kit::rows(&below(app, under, u16::MAX), under) <= area.height - form(2);
    let step = if roomy { 2 } else { 1 };
    let (head, form) = (3 * step + 1, form(step));
    let lines = below(app, under, area.height - form);
    let under = kit::rows(&lines, under).max(4);
    let (form_area, below) = kit::cut_bottom(area, (area.height - form).min(under));
    let at = kit::centred(form_area, width, form);
    let inside = kit::panel(frame, at, "Log in");
    let idle = app.login.busy == Busy::No && app.dialog.is_none() && !app.powering();
    let focus = |field| idle && app.login.focus == field;
    let top = step - 1;
    kit::line(frame, inside, top, kit::pair("Realm", format!(" {}", plain(&app.about.realm, 48))));
    kit::field(frame, inside, top + step, "User", &plain(&app.login.user, 200), focus(Field::User));
    let typed = app.masked(&app.login.password);
    kit::field(frame, inside, top + 2 * step, "Password", &typed, focus(Field::Password));
    if idle {
        kit::line(frame, inside, head - 1, kit::below_password(app.caps_lock, app.shows_password()));
    }
    let (_, rest) = kit::cut_top(inside, head);
    kit::text(frame, rest, words);
    kit::text(frame, kit::indented(below, margin), lines);
}

/// Server, network, clock, keyboard, version, as far as there is room for them: none is cut. F4 shows them all.
fn below(app: &App, width: u16, room: u16) -> Vec<Line<'static>> {
    let state = app.state.as_ref();
    // From what goes first, if there is no room, to what goes last.
    let (version, keyboard, server, clock, network) = (0, 1, 2, 3, 4);
    let mut lines = vec![(server, kit::pair("Server", plain(&app.about.server, 66)))];
    lines.extend(state.map(|state| (network, super::network_line(state))));
    let behind = state.and_then(|state| super::diagnosis::clock_line(&state.health.clock));
    lines.extend(behind.map(|line| (clock, line)));
    if let Some(chosen) = state.and_then(|state| state.keyboard.as_ref()) {
        // Without one of the image's, the kernel has its own.
        let title = app.layout().map_or("English (US)", |layout| &layout.title);
        let title = if chosen.layout.is_empty() { "English (US)" } else { title };
        lines.push((keyboard, kit::pair("Keyboard", plain(title, 60))));
    }
    if let Some(state) = state.filter(|state| !state.image.is_empty()) {
        lines.push((version, kit::pair("Version", plain(&state.image, 60))));
    }
    loop {
        let shown: Vec<_> = lines.iter().map(|(_, line)| line.clone()).collect();
        if kit::rows(&shown, width) <= room {
            return shown;
        }
        let first = lines.iter().map(|(weight, _)| *weight).min();
        lines.retain(|(weight, _)| Some(*weight) != first);
    }
}

/// That the realm is asked, and which of its KDCs where one alone is not enough.
pub(super) fn asking(app: &App, realm: &str) -> Vec<Line<'static>> {
    let spinner = kit::spinner(app.now);
    let mut lines = vec![Line::styled(format!("Asking {}  {spinner}", plain(realm, 40)), kit::STRONG)];
    if let Some(trying) = app.trying.as_ref().filter(|trying| trying.number > 1) {
        let host = plain(&trying.host, 34);
        lines.push(Line::raw(format!(
            "Still trying: log-in server {} of {}, {host}",
            trying.number, trying.of
        )));
    }
    lines
}

fn message(app: &App) -> Vec<Line<'static>> {
    let spinner = kit::spinner(app.now);
    if app.powering() {
        return vec![Line::styled(format!("Shutting this kiosk down  {spinner}"), kit::STRONG)];
    }
    match (app.login.busy, &app.login.trouble) {
        (Busy::No, Some(trouble)) => kit::trouble(trouble),
        (Busy::No, None) => {
            vec![Line::raw(
                "Log in to get your computer as you left it. Suspend it when you are done: nothing of it stays here.",
            )]
        }
        (Busy::Asking(_), _) => asking(app, &app.about.realm),
        _ => vec![Line::styled(format!("Welcome. Looking for your computers  {spinner}"), kit::STRONG)],
    }
}
