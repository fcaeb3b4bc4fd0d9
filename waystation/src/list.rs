//! `waystation ls`.

use super::{Result, cli::Answer, connect::Connection};
use parcel::{id::Version, wire::http::ParcelInfo};

pub(super) const EXAMPLE: &str = "Example:\n  waystation ls --json";

#[derive(clap::Args)]
pub(super) struct Arguments {
    /// Also list parcels whose import or clone was not finished.
    #[arg(long)]
    all: bool,
}

pub(super) async fn run(connection: &Connection, arguments: &Arguments) -> Result<Answer> {
    let mut parcels = connection.api.parcels().await?;
    parcels.retain(|parcel| arguments.all || parcel.version > Version(0));
    let rows: Vec<_> = parcels.iter().map(row).collect();
    Answer::new(&parcels, table(&["NAME", "OWNER", "VERSION", "STATE", "SUSPENDED", "ON", "HELD BY"], &rows))
}

fn row(parcel: &ParcelInfo) -> Vec<String> {
    let state = match parcel.version {
        Version(0) => "unfinished",
        _ => state(parcel.suspended, parcel.memory_lost),
    };
    let held = parcel.lock.as_ref().map_or("-".into(), |lock| format!("{} ({})", lock.kiosk, lock.principal));
    vec![
        parcel.name.clone(),
        parcel.owner.clone(),
        parcel.version.to_string(),
        state.to_owned(),
        parcel.suspended_at.map_or("-".into(), date),
        parcel.suspended_on.clone().unwrap_or_else(|| "-".into()),
        held,
    ]
}

/// What a version starts from, in a word or two.
pub(super) fn state(suspended: bool, memory_lost: bool) -> &'static str {
    match (suspended, memory_lost) {
        (true, _) => "suspended",
        (false, true) => "memory lost",
        (false, false) => "off",
    }
}

/// Columns as wide as their widest cell.
pub(super) fn table(head: &[&str], rows: &[Vec<String>]) -> String {
    let mut widths: Vec<_> = head.iter().map(|cell| cell.len()).collect();
    for row in rows {
        for (width, cell) in widths.iter_mut().zip(row) {
            *width = (*width).max(cell.chars().count());
        }
    }
    let mut text = String::new();
    let head: Vec<String> = head.iter().map(ToString::to_string).collect();
    for row in std::iter::once(&head).chain(rows) {
        let mut line = String::new();
        for (width, cell) in widths.iter().zip(row) {
            line += &format!("{cell:width$}  ");
        }
        text += line.trim_end();
        text.push('\n');
    }
    text
}

/// `2026-11-23 04:48 UTC` of seconds since 1970 (civil-from-days, H. Hinnant).
pub(super) fn date(seconds: u64) -> String {
    let (days, rest) = (seconds / 86_400, seconds % 86_400);
    let shifted = days + 719_468;
    let (era, day_of_era) = (shifted / 146_097, shifted % 146_097);
    let year_of_era = (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted_month = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * shifted_month + 2) / 5 + 1;
    let month = if shifted_month < 10 { shifted_month + 3 } else { shifted_month - 9 };
    let year = year_of_era + era * 400 + u64::from(month <= 2);
    format!("{year:04}-{month:02}-{day:02} {:02}:{:02} UTC", rest / 3600, rest % 3600 / 60)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dates_are_those_of_the_calendar() {
        // As GNU date has them.
        let pairs = [
            (0, "1970-01-01 00:00 UTC"),
            (951_782_399, "2000-02-28 23:59 UTC"),
            (951_868_800, "2000-03-01 00:00 UTC"),
            (1_795_409_280, "2026-11-23 04:48 UTC"),
            (4_107_542_400, "2100-03-01 00:00 UTC"),
        ];
        for (seconds, text) in pairs {
            assert_eq!(date(seconds), text);
        }
    }

    #[test]
    fn a_table_is_aligned() {
        let rows = [vec!["a".to_owned(), "x".to_owned()], vec!["long".to_owned(), "y".to_owned()]];
        assert_eq!(table(&["N", "M"], &rows), "N     M\na     x\nlong  y\n");
    }
}
