//! Where a user shows that the session is theirs: the locked screen, and the window that gives work up.

use super::kit::{self, Hint};
use crate::{app::App, glyph::plain, text};
use ratatui::{Frame, layout::Rect, text::Line, widgets::Clear};

/// What was typed does not open the parcel.
pub const WRONG: &str = "That is not the password that opens this computer now.";
/// The recovery key has a mistake in it.
pub const SLIP: &str = "One character of the recovery key is wrong. Compare it with the paper and try again.";

pub(super) const KEYS: &[Hint] = &[("Enter", "Unlock"), ("Esc", "Clear"), ("F9", "Suspend")];

/// What it costs to give work up.
pub(super) const LOSS: &str = "Everything since your computer was last suspended is lost. It stays as it was then, and this kiosk is wiped.";

/// The locked screen. Nothing of the guest is in it.
pub(super) fn locked(app: &App, frame: &mut Frame, area: Rect) {
    let mut lines = message(app);
    if lines.is_empty() {
        lines = vec![
            Line::raw("This computer is running, and its screen is locked. Its user's password unlocks it."),
            Line::raw(""),
            Line::raw("F9 suspends it: it goes home as it is, and this kiosk is free for the next user."),
        ];
    }
    let width = area.width.min(58);
    let rows = kit::rows(&lines, width.saturating_sub(6));
    let at = kit::centred(area, width, rows.saturating_add(7).max(13));
    let inside = kit::panel(frame, at, "Locked");
    let who = app.state.as_ref().and_then(|state| state.login.as_ref()).map_or("", |login| &login.principal);
    kit::line(frame, inside, 1, kit::pair("User", format!(" {}", plain(who, 40))));
    form(app, frame, inside, 3);
    let (_, rest) = kit::cut_top(inside, 5);
    kit::text(frame, rest, lines);
}

/// The window that gives work up.
pub(super) fn give_up(app: &App, frame: &mut Frame) {
    let mut lines =
        vec![Line::raw("Type your password to give your work up. Esc goes back, and nothing is lost.")];
    if app.guard.trouble.is_some() {
        lines.push(Line::raw("Your work was not given up."));
    }
    lines.extend(message(app));
    let width = frame.area().width.min(66);
    let rows = kit::rows(&lines, width.saturating_sub(6));
    let at = kit::centred(frame.area(), width, rows.saturating_add(10).max(16));
    frame.render_widget(Clear, at);
    let inside = kit::panel(frame, at, "Give up?");
    let (inside, keys) = kit::cut_bottom(inside, 1);
    kit::text(frame, Rect { height: inside.height.min(4), ..inside }, vec![Line::styled(LOSS, kit::BAD)]);
    form(app, frame, inside, 5);
    let (_, rest) = kit::cut_top(inside, 7);
    kit::text(frame, rest, lines);
    let back = if app.guard.is_blank() { ("Esc", "Back") } else { ("Esc", "Clear") };
    kit::line(frame, keys, 0, kit::hints(&[("Enter", "Give up"), back]));
}

fn form(app: &App, frame: &mut Frame, inside: Rect, row: u16) {
    let free = app.guard.asking.is_none();
    kit::field(frame, inside, row, "Password", &app.masked(&app.guard.password), free);
    if free {
        kit::line(frame, inside, row + 1, kit::below_password(app.caps_lock, app.shows_password()));
    }
}

fn message(app: &App) -> Vec<Line<'static>> {
    if app.waits_for_init() || app.guard.asking.is_some() {
        return vec![Line::styled(format!("One moment  {}", kit::spinner(app.now)), kit::STRONG)];
    }
    let mut lines = app.guard.trouble.as_ref().map(kit::trouble).unwrap_or_default();
    if app.guard.wait > 0 {
        lines.push(Line::styled(format!("The next try is in {}.", text::span(app.guard.wait)), kit::WARN));
    }
    lines
}
