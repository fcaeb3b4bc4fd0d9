//! The login screen.

use super::kit::{self, Hint};
use crate::{
    app::{App, Busy, Field},
    glyph::{Glyphs, plain},
};
use ratatui::{Frame, layout::Rect, text::Line};

pub(super) fn keys(app: &App) -> Vec<Hint> {
    match app.login.busy {
        Busy::No if !app.powering() => {
            vec![
                ("Enter", "Log in"),
                ("Tab", "Next field"),
                ("Esc", "Clear"),
                ("F10", "Power off or restart"),
            ]
        }
        Busy::No | Busy::Adopting(_) => Vec::new(),
        Busy::Asking(_) | Busy::Told => vec![("Esc", "Cancel")],
    }
}

pub(super) fn draw(app: &App, frame: &mut Frame, area: Rect) {
    const FORM: u16 = 14;
    let (form, below) = kit::cut_bottom(area, area.height.saturating_sub(FORM).min(4));
    let at = kit::centred(form, 66, FORM);
    let inside = kit::panel(frame, at, "Log in");
    let idle = app.login.busy == Busy::No && app.dialog.is_none() && !app.powering();
    let focus = |field| idle && app.login.focus == field;
    kit::line(frame, inside, 1, kit::pair("Realm", format!(" {}", plain(&app.about.realm, 48))));
    kit::field(frame, inside, 3, "User", &plain(&app.login.user, 200), focus(Field::User));
    let stars = "*".repeat(app.login.password.chars());
    kit::field(frame, inside, 5, "Password", &stars, focus(Field::Password));
    if idle && app.caps_lock {
        kit::line(frame, inside, 6, kit::caps_lock());
    }
    let (_, rest) = kit::cut_top(inside, 7);
    kit::text(frame, rest, message(app));

    let mut lines = vec![kit::pair("Server", plain(&app.about.server, 66))];
    lines.extend(app.state.as_ref().map(super::network_line));
    if app.about.glyphs == Glyphs::Font {
        // The kernel's own, and the password does not show which key was which.
        lines.push(kit::pair("Keyboard", "US English"));
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
