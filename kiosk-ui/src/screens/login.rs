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
    // On a small terminal the fields move together: what is said counts for more.
    let step = if area.height < 20 { 1 } else { 2 };
    let head = 3 * step + 1;
    let (words, lines) = (message(app), below(app));
    let width = area.width.min(66);
    let rows = kit::rows(&words, width.saturating_sub(6)).max(if step == 1 { 2 } else { 5 });
    let form = (2 + head + rows).min(area.height);
    let margin = if area.width < 80 { 2 } else { 7 };
    let under = kit::rows(&lines, area.width.saturating_sub(2 * margin)).max(4);
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

/// Server, network, keyboard, version.
fn below(app: &App) -> Vec<Line<'static>> {
    let mut lines = vec![kit::pair("Server", plain(&app.about.server, 66))];
    lines.extend(app.state.as_ref().map(super::network_line));
    let health = app.state.as_ref().map(|state| &state.health);
    lines.extend(health.and_then(|health| super::diagnosis::clock_line(&health.clock)));
    if let Some(keyboard) = app.state.as_ref().and_then(|state| state.keyboard.as_ref()) {
        // Without one of the image's, the kernel has its own.
        let title = app.layout().map_or("English (US)", |layout| &layout.title);
        let title = if keyboard.layout.is_empty() { "English (US)" } else { title };
        lines.push(kit::pair("Keyboard", plain(title, 60)));
    }
    if let Some(state) = app.state.as_ref().filter(|state| !state.image.is_empty()) {
        lines.push(kit::pair("Version", plain(&state.image, 60)));
    }
    lines
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
