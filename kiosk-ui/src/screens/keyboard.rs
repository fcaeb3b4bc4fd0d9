//! The window with the keyboard's layouts.

use super::kit;
use crate::{app::App, glyph::plain};
use ratatui::{Frame, style::Style, text::Line, widgets::Clear};

pub(super) fn draw(app: &App, at: usize, frame: &mut Frame) {
    let area = frame.area();
    let window = kit::centred(area, 58, area.height.saturating_sub(4).min(19));
    frame.render_widget(Clear, window);
    let inside = kit::panel(frame, window, "Keyboard");
    let (inside, keys) = kit::cut_bottom(inside, 1);
    let now = app.layout().map(|layout| layout.name.as_str());
    let layouts = app.layouts();
    let room = usize::from(inside.height).max(1);
    // The page that the cursor is on.
    let first = at / room * room;
    for (row, layout) in layouts.iter().enumerate().skip(first).take(room) {
        let mark = if Some(layout.name.as_str()) == now { "*" } else { " " };
        let style = if row == at { kit::CURSOR } else { Style::new() };
        let width = usize::from(inside.width);
        let words = format!("{mark} {}", plain(&layout.title, width.saturating_sub(2)));
        kit::line(frame, inside, (row - first) as u16, Line::styled(format!("{words:<width$}"), style));
    }
    kit::line(
        frame,
        keys,
        0,
        kit::hints(&[("Enter", "Use it"), ("Up/Down", "or a letter"), ("Esc", "Back")]),
    );
}
