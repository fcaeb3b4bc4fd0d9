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
            plain(&holder.principal, 80),
            list::holder(app, &holder.kiosk),
            text::minute(holder.since)
        )));
        lines.push(Line::raw(""));
    }
    if hardware {
        lines.extend(table(&notice.misses, area.width.min(76).saturating_sub(6)));
        lines.push(Line::raw(""));
        lines.push(Line::raw(
            "Nothing was changed. Your computer stays as you suspended it; try another kiosk.",
        ));
        if notice.misses.iter().filter(|miss| miss.must).all(|miss| miss.only_to_resume()) {
            lines.push(Line::raw(
                "Or start it from its disk here (C in the list): its programs end, and what they did not save is lost.",
            ));
        }
        lines.push(Line::raw(""));
    }
    lines.push(Line::styled(format!("Code for IT: {}", notice.code), kit::DIM));
    kit::card(frame, area, title, 76, lines, app.page);
}

/// The most misses that are listed one by one.
const MOST: usize = 8;

/// Each requirement that is not met: as a table where all of it fits `width`, else in sentences.
pub(super) fn table(misses: &[Miss], width: u16) -> Vec<Line<'static>> {
    let rows: Vec<_> = misses
        .iter()
        .take(MOST)
        .map(|miss| {
            let (word, style) = if miss.must { ("required", kit::BAD) } else { ("preferred", kit::WARN) };
            (word, plain(&item(&miss.item), 60), plain(&miss.needed, 60), plain(&miss.found, 60), style)
        })
        .collect();
    let fits = |cell: &str, room: usize| cell.chars().count() < room;
    let [what, needed, found] = [24, 18, usize::from(width).saturating_sub(53) + 1];
    let tabled = width >= 64
        && rows.iter().all(|row| fits(&row.1, what) && fits(&row.2, needed) && fits(&row.3, found));
    let mut lines = Vec::new();
    if tabled {
        let heading = format!("{:<11}{:<what$}{:<needed$}{}", "", "What", "Needed", "Found");
        lines.push(Line::styled(heading, kit::DIM));
    }
    lines.extend(rows.into_iter().map(|(word, item, need, here, style)| {
        let words = match tabled {
            true => format!("{word:<11}{item:<what$}{need:<needed$}{here}"),
            false => format!("{word}: {item}: needed {need}, found {here}"),
        };
        Line::styled(words, style)
    }));
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
