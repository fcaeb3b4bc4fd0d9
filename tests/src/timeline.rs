//! The timeline of a walk: seconds and bytes of each phase, as the kiosks logged them.

use anyhow::{Context, Result};
use parcel::wire::session::{Phase, PhaseRecord};
use std::{collections::BTreeMap, fmt::Write as _};

/// The phases that a kiosk's log tells of, in order. A line of them holds the word `timeline` and then JSON.
pub fn phases(log: &str) -> Vec<PhaseRecord> {
    log.lines()
        .filter_map(|line| line.split_once("timeline {"))
        .filter_map(|(_, json)| serde_json::from_str(&format!("{{{}", json.trim_end())).ok())
        .collect()
}

/// A table for people, a phase a line.
pub fn table(records: &[PhaseRecord]) -> String {
    let mut out =
        format!("{:<8} {:<8} {:>9} {:>13} {:>13}\n", "kiosk", "phase", "seconds", "bytes in", "bytes out");
    for record in records {
        let failed = if record.ok { "" } else { "  failed" };
        let _ = writeln!(
            out,
            "{:<8} {:<8} {:>9.2} {:>13} {:>13}{failed}",
            record.kiosk,
            name(record.phase),
            record.seconds,
            record.bytes_in,
            record.bytes_out
        );
    }
    out
}

/// JSON lines, a phase a line.
pub fn json_lines(records: &[PhaseRecord]) -> Result<String> {
    let mut out = String::new();
    for record in records {
        out.push_str(&serde_json::to_string(record).context("a phase is not JSON")?);
        out.push('\n');
    }
    Ok(out)
}

/// Seconds by phase, for `make bench`: the values of all sessions, in order.
pub fn by_phase(records: &[PhaseRecord]) -> BTreeMap<String, Vec<f64>> {
    let mut out: BTreeMap<String, Vec<f64>> = BTreeMap::new();
    for record in records {
        out.entry(name(record.phase)).or_default().push(record.seconds);
    }
    out
}

/// A phase's name as it travels.
fn name(phase: Phase) -> String {
    serde_json::to_value(phase).ok().and_then(|value| value.as_str().map(str::to_owned)).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn phases_are_found_among_other_lines() {
        let log = "[ 3.1] timeline {\"kiosk\":\"A\",\"phase\":\"boot\",\"seconds\":3.5,\"bytes_in\":0,\"bytes_out\":0,\"ok\":true}\r\n\
                   something else {\n\
                   init: timeline {\"kiosk\":\"A\",\"phase\":\"commit\",\"seconds\":1.0,\"bytes_in\":7,\"bytes_out\":9,\"ok\":false}\n\
                   timeline {\"kiosk\":\"A\",\"phase\":\"com";
        let found = phases(log);
        assert_eq!(found.len(), 2);
        assert_eq!((found[0].phase, found[1].bytes_out, found[1].ok), (Phase::Boot, 9, false));
        assert!(table(&found).contains("failed"));
        assert_eq!(phases(&json_lines(&found).unwrap().replace('{', "timeline {")), found);
    }
}
