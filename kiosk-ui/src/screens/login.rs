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
    const FORM: u16 = 14;
    let clock = app.state.as_ref().and_then(|state| super::diagnosis::clock_line(&state.health.clock));
    let rows = 4 + u16::from(clock.is_some());
    let (form, below) = kit::cut_bottom(area, area.height.saturating_sub(FORM).min(rows));
    let at = kit::centred(form, 66, FORM);
    let inside = kit::panel(frame, at, "Log in");
    let idle = app.login.busy == Busy::No && app.dialog.is_none() && !app.powering();
    let focus = |field| idle && app.login.focus == field;
    kit::line(frame, inside, 1, kit::pair("Realm", format!(" {}", plain(&app.about.realm, 48))));
    kit::field(frame, inside, 3, "User", &plain(&app.login.user, 200), focus(Field::User));
    kit::field(frame, inside, 5, "Password", &app.masked(&app.login.password), focus(Field::Password));
    if idle {
        kit::line(frame, inside, 6, kit::below_password(app.caps_lock, app.shows_password()));
    }
    let (_, rest) = kit::cut_top(inside, 7);
    kit::text(frame, rest, message(app));

    let mut lines = vec![kit::pair("Server", plain(&app.about.server, 66))];
    lines.extend(app.state.as_ref().map(super::network_line));
    lines.extend(clock);
    if let Some(keyboard) = app.state.as_ref().and_then(|state| state.keyboard.as_ref()) {
        // Without one of the image's, the kernel has its own.
        let title = app.layout().map_or("English (US)", |layout| &layout.title);
        let title = if keyboard.layout.is_empty() { "English (US)" } else { title };
        lines.push(kit::pair("Keyboard", plain(title, 60)));
    }
    if let Some(state) = app.state.as_ref().filter(|state| !state.image.is_empty()) {
        lines.push(kit::pair("Version", plain(&state.image, 60)));
    }
    kit::text(frame, kit::indented(below, 7), lines);
}

/// That the realm is asked, and which of its KDCs where one alone is not enough.
pub(super) fn asking(app: &App, realm: &str) -> Vec<Line<'static>> {
    let spinner = kit::spinner(app.now);
    let mut lines = vec![Line::styled(format!("Asking {} ...  {spinner}", plain(realm, 40)), kit::STRONG)];
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
        return vec![Line::styled(format!("As you wish. This takes a moment ...  {spinner}"), kit::STRONG)];
    }
    match (app.login.busy, &app.login.trouble) {
        (Busy::No, Some(trouble)) => kit::trouble(trouble),
        (Busy::No, None) => {
            vec![Line::raw(
                "Your computer comes to this screen as you left it. When you are done, suspend it: nothing of it stays here.",
            )]
        }
        (Busy::Asking(_), _) => asking(app, &app.about.realm),
        _ => vec![Line::styled(format!("Welcome. Looking for your computers ...  {spinner}"), kit::STRONG)],
    }
}
