//! The window in which the user logs in again, and the words that lead to it.

use super::{
    kit::{self, Hint},
    unlocking,
};
use crate::{
    app::{App, Busy, LogInIs},
    glyph::plain,
    text,
};
use parcel::wire::{Code, daemon::Waiting};
use ratatui::{Frame, text::Line, widgets::Clear};

/// The word that it worked.
pub(super) const DONE: &str = "You are logged in again.";
/// When the password has to open the computer, too.
const RESTARTED: &str =
    "Type your password: it opens what this kiosk keeps of your computer, and that is saved.";
/// Where a key is pressed for it.
const OVER: &str = "Your log-in has run out. Press L to log in again. What waits then continues by itself.";

pub(super) fn draw(app: &App, frame: &mut Frame) {
    let width = frame.area().width.min(66);
    let words = message(app, realm_of(app));
    let height = kit::rows(&words, width.saturating_sub(6)).saturating_add(9).max(16);
    let at = kit::centred(frame.area(), width, height);
    frame.render_widget(Clear, at);
    let inside = kit::panel(frame, at, "Log in again");
    let (inside, keys) = kit::cut_bottom(inside, 1);
    let who = app.may_log_in_again().map_or("", |login| &login.principal);
    if let Some(unlocking) = &app.again.unlocking {
        let (_, inside) = kit::cut_top(inside, 1);
        unlocking::draw(app, unlocking, "you logged in here", true, frame, inside);
        let hints: &[Hint] = match (unlocking.asks(), unlocking.is_blank()) {
            (true, true) => &[("Enter", "Open"), ("Esc", "Back")],
            (true, false) => &[("Enter", "Open"), ("Esc", "Clear")],
            _ if unlocking.works() => &[("Esc", "Cancel")],
            _ => &[],
        };
        return kit::line(frame, keys, 0, kit::hints(hints));
    }
    let (user, realm) = who.rsplit_once('@').unwrap_or((who, ""));
    kit::line(frame, inside, 1, kit::pair("Realm", format!(" {}", plain(realm, 48))));
    kit::line(frame, inside, 2, kit::pair("User", format!(" {}", plain(user, 48))));
    let idle = app.again.busy == Busy::No;
    kit::field(frame, inside, 4, "Password", &app.masked(&app.again.password), idle);
    if idle {
        kit::line(frame, inside, 5, kit::below_password(app.caps_lock, app.shows_password()));
    }
    let (_, rest) = kit::cut_top(inside, 6);
    kit::text(frame, rest, words);
    let hints: &[Hint] = match app.again.busy {
        Busy::No if app.again.is_blank() => &[("Enter", "Log in"), ("Esc", "Back")],
        Busy::No => &[("Enter", "Log in"), ("Esc", "Clear")],
        Busy::Asking(_) => &[("Esc", "Cancel")],
        Busy::Adopting(_) | Busy::Told => &[],
    };
    kit::line(frame, keys, 0, kit::hints(hints));
}

/// The realm of the session's user.
fn realm_of(app: &App) -> &str {
    app.may_log_in_again().and_then(|login| login.principal.rsplit_once('@')).map_or("", |(_, realm)| realm)
}

fn message(app: &App, realm: &str) -> Vec<Line<'static>> {
    let spinner = kit::spinner(app.now);
    match (app.again.busy, &app.again.trouble) {
        (Busy::No, Some(trouble)) => kit::trouble(trouble),
        (Busy::No, None) => {
            let words = match app.log_in_is() {
                LogInIs::Over if app.key_is_missing().is_some() => RESTARTED,
                LogInIs::Over => {
                    "Your log-in has run out. Type your password, and what waits continues by itself."
                }
                _ => "Your log-in ends by itself after some hours. Type your password to renew it.",
            };
            vec![Line::raw(words)]
        }
        (Busy::Asking(_), _) => super::login::asking(app, realm),
        _ => vec![Line::styled(format!("One moment  {spinner}"), kit::STRONG)],
    }
}

/// What the way in or out says of a log-in that is over.
pub(super) fn over(waiting: Option<&Waiting>) -> Vec<Line<'static>> {
    let restarted = waiting.filter(|waiting| waiting.code == Code::EngineRestarted);
    let words = restarted.map_or(OVER.to_owned(), |waiting| waiting.reason.clone());
    let mut lines = vec![Line::styled(words, kit::WARN)];
    lines.extend(waiting.map(|waiting| kit::code(waiting.code)));
    lines
}

/// What a line at the edge says of a log-in that ends soon; `key` renews it.
pub(super) fn ending(at: u64, key: &str) -> String {
    format!("Your log-in runs out at {} UTC: {key} renews it", text::minute(at).split_off(11))
}
