//! The way into a session and out of it, phase by phase.

use super::{
    again,
    kit::{self, Hint},
    notice, phase_name,
};
use crate::{
    app::{App, LogInIs},
    glyph::plain,
    text,
};
use parcel::wire::{
    Progress,
    daemon::Waiting,
    session::{Phase, PhaseRecord, State},
};
use ratatui::{
    Frame,
    layout::Rect,
    style::Style,
    text::{Line, Span},
};

const WAY_IN: [Phase; 5] = [Phase::Check, Phase::Lock, Phase::Open, Phase::Restore, Phase::Run];
const WAY_OUT: [Phase; 5] = [Phase::Save, Phase::Commit, Phase::Unlock, Phase::Wipe, Phase::Verify];
/// When the lock was broken elsewhere, there is none to release.
const RESCUE: [Phase; 5] = [Phase::Save, Phase::Commit, Phase::Rescue, Phase::Wipe, Phase::Verify];

pub(super) fn keys(app: &App) -> Vec<Hint> {
    let mut keys = vec![("D", "Details")];
    if app.wants_log_in() {
        keys.insert(0, ("L", "Log in again"));
    }
    if app.can_give_up() {
        keys.insert(0, ("C", "Cancel"));
    }
    keys
}

pub(super) fn draw(app: &App, frame: &mut Frame, area: Rect) {
    let Some(state) = &app.state else { return };
    let phases = shown(state);
    let inside = kit::panel(frame, kit::centred(area, 76, 21), &title(state));
    let (_, inside) = kit::cut_top(inside, u16::from(inside.height > 13));
    for (row, phase) in phases.iter().enumerate() {
        kit::line(frame, inside, row as u16, phase_line(state, *phase, app.now));
    }
    let (_, rest) = kit::cut_top(inside, phases.len() as u16 + u16::from(inside.height > 13));
    let mut lines = vec![Line::styled(plain(&state.doing, 200), kit::STRONG)];
    if let Some(progress) = &state.progress {
        lines.extend(progress_lines(progress, usize::from(rest.width.saturating_sub(7)).min(50)));
    }
    lines.push(Line::raw(""));
    match app.log_in_is() {
        LogInIs::Over => lines.extend(again::over(state.waiting.as_ref())),
        _ => lines.extend(state.waiting.iter().flat_map(waiting_lines)),
    }
    if !state.wishes_missed.is_empty() {
        lines.push(Line::styled(
            "Hardware: your computer runs here, but this kiosk lacks something that it prefers.",
            kit::WARN,
        ));
        lines.extend(notice::table(&state.wishes_missed, rest.width));
    }
    kit::paged(frame, rest, lines, app.page);
}

/// Without a save, a session is not suspended but ended.
fn saved(state: &State) -> bool {
    matches!(state.phase, Phase::Save | Phase::Commit | Phase::Rescue)
        || state.timeline.iter().any(|record| record.phase == Phase::Save && record.ok)
}

/// The phases to list: the way in, the way out, or what failed and how it is cleaned up.
fn shown(state: &State) -> Vec<Phase> {
    if WAY_IN.contains(&state.phase) {
        return WAY_IN.to_vec();
    }
    if state.phase == Phase::Rescue || record(state, Phase::Rescue).is_some() {
        return RESCUE.to_vec();
    }
    if saved(state) {
        return WAY_OUT.to_vec();
    }
    let failed = state.timeline.iter().filter(|record| !record.ok && record.phase < Phase::Unlock);
    let mut phases: Vec<_> = failed.map(|record| record.phase).take(4).collect();
    phases.dedup();
    phases.extend([Phase::Unlock, Phase::Wipe, Phase::Verify]);
    phases
}

fn title(state: &State) -> String {
    let name = state.parcel.as_ref().map_or(String::new(), |name| plain(name, 40));
    let verb = match state.phase {
        phase if WAY_IN.contains(&phase) => "Resuming",
        _ if saved(state) => "Suspending",
        _ if name.is_empty() => "Closing the session",
        _ => "Closing",
    };
    format!("{verb} {name}").trim_end().to_owned()
}

/// The last record of a phase in this session.
fn record(state: &State, phase: Phase) -> Option<&PhaseRecord> {
    state.timeline.iter().rev().find(|record| record.phase == phase)
}

fn phase_line(state: &State, phase: Phase, now: u64) -> Line<'static> {
    let name = phase_name(phase);
    if phase == state.phase {
        let words = format!("[{}] {name}", kit::spinner(now));
        return Line::styled(words, kit::STRONG);
    }
    match record(state, phase) {
        Some(record) => {
            let (mark, style) = if record.ok { ("[x]", kit::GOOD) } else { ("[!]", kit::BAD) };
            Line::from(vec![
                Span::styled(format!("{mark} {name:<20}"), style),
                Span::styled(figures(record), Style::new()),
            ])
        }
        None => Line::styled(format!("[ ] {name}"), kit::DIM),
    }
}

/// Seconds and bytes of a phase.
pub(super) fn figures(record: &PhaseRecord) -> String {
    let seconds = if record.seconds.is_finite() { record.seconds.clamp(0.0, 9_999_999.0) } else { 0.0 };
    let mut words = format!("{seconds:>8.1} s");
    if record.bytes_in > 0 {
        words = format!("{words}  in {:>10}", text::bytes(record.bytes_in));
    }
    if record.bytes_out > 0 {
        words = format!("{words}  out {:>10}", text::bytes(record.bytes_out));
    }
    words
}

/// The bar, and done, rate and time to go.
pub(super) fn progress_lines(progress: &Progress, width: usize) -> Vec<Line<'static>> {
    let mut figures = text::bytes(progress.done);
    if progress.total > 0 {
        figures = format!("{figures} of {}", text::bytes(progress.total));
    }
    if progress.rate > 0 {
        figures = format!("{figures}, {}/s", text::bytes(progress.rate));
        if progress.total > progress.done {
            let left = (progress.total - progress.done).div_ceil(progress.rate);
            figures = format!("{figures}, {} to go", text::span(left));
        }
    }
    let mut lines = Vec::new();
    if progress.total > 0 {
        lines.push(Line::styled(kit::bar(progress, width), kit::GOOD));
    }
    lines.push(Line::raw(figures));
    lines
}

/// What is waited for, and why.
pub(super) fn waiting_lines(waiting: &Waiting) -> Vec<Line<'static>> {
    let pieces = if waiting.pieces == 1 { "piece" } else { "pieces" };
    vec![
        Line::styled(
            format!("Waiting for {} {pieces} for {}.", waiting.pieces, text::span(waiting.seconds)),
            kit::WARN,
        ),
        Line::styled(plain(&waiting.reason, kit::SENTENCE), kit::WARN),
        kit::code(waiting.code),
    ]
}
