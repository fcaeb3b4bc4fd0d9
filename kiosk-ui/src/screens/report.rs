//! What the wipe did and what was looked for afterwards.

use super::kit;
use crate::{app::App, glyph::plain};
use ratatui::{
    Frame,
    layout::Rect,
    text::{Line, Span},
};

pub(super) fn draw(app: &App, frame: &mut Frame, area: Rect) {
    let Some(report) = app.state.as_ref().and_then(|state| state.report.as_ref()) else { return };
    let mut lines = vec![match report.committed {
        Some(version) => Line::raw(format!("Your computer is home, as version {version}, whole.")),
        None => Line::raw("The server has no new version of your computer from this session."),
    }];
    lines.push(if report.verified {
        Line::styled(
            "This kiosk was wiped, and the wipe is verified: nothing of your session is left here.",
            kit::GOOD,
        )
    } else {
        Line::styled("The wipe of this kiosk FAILED in part. Tell your IT desk before you leave.", kit::BAD)
    });
    lines.push(Line::raw(""));
    // What failed comes first, so that it shows even when the list is longer than the screen.
    let (failed, passed): (Vec<_>, Vec<_>) = report.checks.iter().partition(|check| !check.ok);
    for check in failed.into_iter().chain(passed) {
        let (mark, style) = if check.ok { ("[yes] ", kit::GOOD) } else { ("[NO]  ", kit::BAD) };
        let mut words = plain(&check.what, 80);
        if !check.ok && !check.found.is_empty() {
            words = format!("{words}: {}", plain(&check.found, 300));
        }
        lines.push(Line::from(vec![Span::styled(mark, style), Span::raw(words)]));
    }
    kit::card(frame, area, "Wipe report", 76, lines, app.page);
}
