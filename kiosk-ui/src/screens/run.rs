//! The guest's console, and one line that is the kiosk's.

use super::kit;
use crate::{app::App, glyph::plain, text};
use ratatui::{
    Frame,
    layout::Rect,
    style::{Color, Style},
    text::{Line, Span},
};

pub(super) fn draw(app: &App, frame: &mut Frame) {
    let (screen, bar) = kit::cut_bottom(frame.area(), 1);
    if app.guest_connected {
        let cursor = app.guest.draw(screen, frame.buffer_mut());
        if let Some(at) = cursor.filter(|_| app.dialog.is_none()) {
            frame.set_cursor_position(at);
        }
    } else {
        let words = format!("Connecting to your computer's console ...  {}", kit::spinner(app.now));
        kit::text(frame, kit::centred(screen, 60, 3), vec![Line::styled(words, kit::STRONG)]);
    }
    status(app, frame, bar);
}

fn status(app: &App, frame: &mut Frame, bar: Rect) {
    let Some(state) = &app.state else { return };
    frame.buffer_mut().set_style(bar, kit::BAR);
    let name = state.parcel.as_ref().map_or(String::new(), |name| plain(name, 24));
    let key = Style::new().fg(Color::White).bg(Color::Blue);
    let mut spans = vec![
        Span::raw(format!(" {name}  ")),
        Span::styled(" Ctrl-] ", key),
        Span::raw(" or "),
        Span::styled(" F12 ", key),
        Span::raw(" menu  "),
    ];
    let alarm = Style::new().fg(Color::White).bg(Color::Red);
    if !app.connected {
        spans.push(Span::styled(" kiosk manager does not answer ", alarm));
    } else if app.waits_for_init() {
        spans.push(Span::styled(" One moment ... ", key));
    } else if let Some(waiting) = &state.waiting {
        let words = format!(" Waiting {}: {} ", text::span(waiting.seconds), plain(&waiting.reason, 80));
        spans.push(Span::styled(words, alarm));
    } else if state.network.is_none() {
        spans.push(Span::styled(format!(" No network: {} ", plain(&state.network_detail, 80)), alarm));
    }
    let clock = format!(" {} ", text::minute(app.now).split_off(11));
    let width = (clock.len() as u16).min(bar.width);
    let (left, right) = (bar.width - width, Rect { x: bar.right() - width, width, ..bar });
    frame.render_widget(Line::from(spans), Rect { width: left, ..bar });
    frame.render_widget(Line::styled(clock, kit::BAR), right);
}
