//! The user's parcels, and the having of one's key.

use super::{
    kit::{self, Hint},
    unlocking,
};
use crate::{
    app::{App, Opening, Step},
    glyph::{name, plain},
    text,
};
use parcel::{tag::Tag, wire::http::ParcelInfo};
use ratatui::{
    Frame,
    layout::Rect,
    style::Style,
    text::{Line, Span},
};

pub(super) fn keys(app: &App) -> Vec<Hint> {
    match app.list.current() {
        Some(_) => {
            let mut keys = vec![
                ("Enter", "Resume"),
                ("Up/Down", "Choose"),
                ("C", "Cold boot"),
                ("R", "Refresh"),
                ("L", "Log out"),
            ];
            // On a narrow terminal there is no room for what every list has.
            keys.retain(|(key, _)| app.size.0 >= 80 || *key != "Up/Down");
            keys
        }
        None => vec![("R", "Refresh"), ("L", "Log out")],
    }
}

pub(super) fn draw(app: &App, frame: &mut Frame, area: Rect) {
    // What went wrong has the room of the details.
    let (upper, lower) = kit::cut_bottom(area, if app.list.trouble.is_some() { 0 } else { 10 });
    // The words that programs wait for come with the list, so that what they type next reaches it.
    let title = if app.list.parcels.is_some() { "Your computers" } else { "Welcome" };
    let inside = kit::panel(frame, upper, title);
    match (&app.list.parcels, &app.list.trouble) {
        (_, Some(trouble)) => kit::text(frame, inside, kit::trouble(trouble)),
        (None, None) => {
            let words = format!("Asking the parcel server  {}", kit::spinner(app.now));
            kit::text(frame, inside, vec![Line::raw(words)]);
        }
        (Some(parcels), None) if parcels.is_empty() => {
            kit::text(
                frame,
                inside,
                vec![Line::raw("You have no computer here yet. Your IT desk can make one for you.")],
            );
        }
        (Some(parcels), None) => rows(app, parcels, frame, inside),
    }
    if app.list.trouble.is_some() {
        return;
    }
    let lower_inside = kit::panel(frame, lower, "Details");
    if let Some(parcel) = app.list.current() {
        kit::text(frame, lower_inside, details(app, parcel, lower_inside));
    }
}

const NAME: usize = 24;
const WHEN: usize = 18;
const WHERE: usize = 18;

fn rows(app: &App, parcels: &[ParcelInfo], frame: &mut Frame, area: Rect) {
    let state = if app.list.asking.is_some() { "Asking" } else { "State" };
    // A narrow terminal has no room for the kiosk; the details name it.
    let place = if wide(area) { WHERE } else { 0 };
    let heading = format!(
        "  {:<NAME$}{:<WHEN$}{:<place$}{state}",
        "Name",
        "Suspended (UTC)",
        if wide(area) { "on" } else { "" }
    );
    kit::line(frame, area, 0, Line::styled(heading, kit::DIM));
    let (_, area) = kit::cut_top(area, 1);
    let room = usize::from(area.height).max(1);
    // The page that the cursor is on.
    let first = app.list.selected / room * room;
    for (row, parcel) in parcels.iter().enumerate().skip(first).take(room) {
        let here = row == app.list.selected;
        let state = match (&parcel.lock, parcel.suspended) {
            (Some(_), _) => "in use",
            (None, true) => "suspended",
            (None, false) if parcel.memory_lost => "memory lost",
            (None, false) => "shut down",
        };
        let words = format!(
            "{} {:<NAME$}{:<WHEN$}{:<place$}{state}",
            if here { ">" } else { " " },
            plain(&parcel.name, NAME - 1),
            parcel.suspended_at.map_or("never".to_owned(), text::minute),
            parcel.suspended_on.as_ref().map_or(String::new(), |on| name(on, place.saturating_sub(1))),
        );
        let style = if here { kit::CURSOR } else { Style::new() };
        let width = usize::from(area.width);
        kit::line(frame, area, (row - first) as u16, Line::styled(format!("{words:<width$}"), style));
    }
}

/// Whether a list has room for the kiosk on which a computer was suspended.
fn wide(area: Rect) -> bool {
    usize::from(area.width) >= NAME + WHEN + WHERE + 11
}

fn details(app: &App, parcel: &ParcelInfo, area: Rect) -> Vec<Line<'static>> {
    let on = parcel.suspended_on.as_ref().filter(|_| !wide(area));
    let on = on.map_or(String::new(), |on| format!(", suspended on {}", name(on, 30)));
    let mut lines = vec![Line::from(vec![
        Span::styled(plain(&parcel.name, 64), kit::STRONG),
        Span::raw(format!("   version {}, disk {}{on}", parcel.version, text::bytes(parcel.disk_bytes))),
    ])];
    match &parcel.tag {
        Some(tag) => lines.extend(needs(tag)),
        None => lines.push(kit::pair("Requires", "not known before its first start")),
    }
    if let Some(lock) = &parcel.lock {
        let place = holder(app, &lock.kiosk);
        let words = format!(
            "In use by {} {place} since {} UTC.",
            plain(&lock.principal, 80),
            text::minute(lock.since)
        );
        lines.push(Line::styled(words, kit::WARN));
        lines.push(Line::raw("Enter offers to break that lock."));
    } else if parcel.memory_lost {
        lines.push(Line::raw("Its memory could not be saved. Its disk is whole, as after a power cut."));
        lines.push(Line::raw("Enter starts it from its disk; what was open and not saved is lost."));
    } else if parcel.suspended {
        lines.push(Line::raw("Enter resumes it where you left it. C starts it from its disk."));
    } else {
        lines.push(Line::raw("It is shut down: Enter starts it from its disk."));
    }
    lines
}

/// `on kiosk-3`, or that it is this one.
pub(super) fn holder(app: &App, kiosk: &str) -> String {
    if app.state.as_ref().is_some_and(|state| state.kiosk == kiosk) {
        "on this kiosk".to_owned()
    } else {
        format!("on {}", name(kiosk, 30))
    }
}

fn needs(tag: &Tag) -> Vec<Line<'static>> {
    let cpus = if tag.vcpus == 1 { "CPU" } else { "CPUs" };
    let vendor = tag.cpu.vendor.as_ref().map_or("any vendor".to_owned(), |vendor| plain(vendor, 20));
    let first = format!(
        "{}, {} {cpus}, {} ({vendor}), {} CPU features",
        text::bytes(tag.memory_mib.saturating_mul(1 << 20)),
        tag.vcpus,
        plain(&tag.cpu.baseline, 20),
        tag.cpu.features.len(),
    );
    let wishes = &tag.wishes;
    let mut wants = Vec::new();
    wants.extend(wishes.screen.map(|(w, h)| format!("screen {w} x {h}")));
    wants.extend(wishes.cores.map(|n| format!("{n} cores")));
    wants.extend(wishes.sound.then(|| "sound".to_owned()));
    wants.extend(wishes.kbit_per_s.map(|n| format!("{n} kbit/s")));
    let mut lines = vec![kit::pair("Requires", first)];
    if !wants.is_empty() {
        lines.push(kit::pair("Prefers", wants.join(", ")));
    }
    lines
}

pub(super) fn opening_keys(app: &App) -> Vec<Hint> {
    match app.opening.as_ref().map(|opening| &opening.unlocking.step) {
        Some(Step::Working { .. }) => vec![("Esc", "Back to the list")],
        Some(Step::Ask { .. }) => vec![("Enter", "Open"), ("Esc", "Back to the list")],
        Some(Step::Failed(_)) => vec![("Enter", "Back to the list")],
        _ => Vec::new(),
    }
}

pub(super) fn opening(app: &App, frame: &mut Frame, area: Rect) {
    let Some(Opening { name, unlocking, .. }) = &app.opening else { return };
    let at = kit::centred(area, 66, 14);
    let inside = kit::panel(frame, at, &format!("Opening {}", plain(name, 40)));
    let (_, inside) = kit::cut_top(inside, 1);
    unlocking::draw(app, unlocking, "you suspended it", app.dialog.is_none(), frame, inside);
}
