//! The session walked back: why, and what hardware is missing if that is it.

use super::{kit, list};
use crate::{app::App, glyph::plain, text};
use parcel::tag::Miss;
use ratatui::{Frame, layout::Rect, text::Line};

pub(super) fn draw(app: &App, frame: &mut Frame, area: Rect) {
    let Some(notice) = app.state.as_ref().and_then(|state| state.notice.as_ref()) else { return };
    let hardware = !notice.misses.is_empty();
    let title = if hardware { "Hardware" } else { "What happened" };
    let mut lines = vec![Line::styled(plain(&notice.message, kit::SENTENCE), kit::BAD), Line::raw("")];
    if let Some(holder) = &notice.holder {
        lines.push(Line::raw(format!(
            "In use by {} {} since {} UTC.",
            plain(&holder.principal, 40),
            list::holder(app, &holder.kiosk),
            text::minute(holder.since)
        )));
        lines.push(Line::raw(""));
    }
    if hardware {
        lines.extend(table(&notice.misses));
        lines.push(Line::raw(""));
        lines.push(Line::raw(
            "Nothing was changed. Your computer stays as you suspended it; try another kiosk.",
        ));
        if notice.misses.iter().filter(|miss| miss.must).all(|miss| miss.only_to_resume()) {
            lines.push(Line::raw(
                "Or boot it from its disk here (C in the list): its programs end, and what they had not written is lost.",
            ));
        }
        lines.push(Line::raw(""));
    }
    lines.push(Line::styled(format!("Code for IT: {}", notice.code), kit::DIM));
    kit::card(frame, area, title, 76, lines);
}

/// The most misses that are listed one by one.
const MOST: usize = 8;

/// Each requirement that is not met.
pub(super) fn table(misses: &[Miss]) -> Vec<Line<'static>> {
    let heading = format!("{:<8}{:<24}{:<18}{}", "", "What", "Needed", "Found");
    let mut lines = vec![Line::styled(heading, kit::DIM)];
    for miss in misses.iter().take(MOST) {
        let (word, style) = if miss.must { ("must", kit::BAD) } else { ("should", kit::WARN) };
        let words = format!(
            "{word:<8}{:<24}{:<18}{}",
            plain(&item(&miss.item), 23),
            plain(&miss.needed, 17),
            plain(&miss.found, 20)
        );
        lines.push(Line::styled(words, style));
    }
    if misses.len() > MOST {
        lines.push(Line::raw(format!("and {} more", misses.len() - MOST)));
    }
    lines
}

/// An item of the tag in words.
pub(super) fn item(code: &str) -> String {
    match code {
        "kvm" => "virtualization".to_owned(),
        "cpu.vendor" => "CPU vendor".to_owned(),
        "vcpus" => "CPUs".to_owned(),
        "device_model" => "device model".to_owned(),
        other => match other.strip_prefix("cpu.feature.") {
            Some(feature) => format!("CPU feature {feature}"),
            None => other.to_owned(),
        },
    }
}
