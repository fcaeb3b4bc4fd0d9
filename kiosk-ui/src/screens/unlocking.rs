//! A computer that is being opened: by the log-in password, or by what the user is asked for.

use super::kit;
use crate::app::{App, Step, Unlocking};
use ratatui::{Frame, layout::Rect, text::Line};

/// `since` is when the password was right for the last time: "you suspended it".
pub(super) fn draw(
    app: &App,
    unlocking: &Unlocking,
    since: &str,
    focused: bool,
    frame: &mut Frame,
    inside: Rect,
) {
    let works = |words: &str| vec![Line::styled(format!("{words}  {}", kit::spinner(app.now)), kit::STRONG)];
    match &unlocking.step {
        Step::Working { .. } => kit::text(frame, inside, works("Opening it with your password")),
        Step::Told => kit::text(frame, inside, works("It is open. Preparing this kiosk")),
        Step::Failed(trouble) => kit::text(frame, inside, kit::trouble(trouble)),
        Step::Ask { typed, wrong } => {
            let lines = if unlocking.knows_login() {
                vec![
                    Line::raw(format!(
                        "Your log-in password does not open this computer. Was it changed since {since}?"
                    )),
                    Line::raw("Type the password you had then, or the recovery key."),
                ]
            } else {
                vec![Line::raw("Type the password that you log in with, or the recovery key.")]
            };
            kit::text(frame, inside, lines);
            let (_, lower) = kit::cut_top(inside, 5);
            kit::field(frame, lower, 0, "Password", &app.masked(typed), focused);
            kit::line(frame, lower, 1, kit::below_password(app.caps_lock, app.shows_password()));
            let (_, lower) = kit::cut_top(lower, 2);
            kit::text(frame, lower, wrong.map(|words| Line::styled(words, kit::BAD)).into_iter().collect());
        }
    }
}
