//! Figures as a traveller reads them.

/// `512 B`, `1.4 MiB`, `64 GiB`.
pub fn bytes(n: u64) -> String {
    const UNITS: [&str; 5] = ["KiB", "MiB", "GiB", "TiB", "PiB"];
    if n < 1024 {
        return format!("{n} B");
    }
    let mut value = n as f64 / 1024.0;
    let mut unit = 0;
    while value >= 1023.95 && unit + 1 < UNITS.len() {
        value /= 1024.0;
        unit += 1;
    }
    let figure = format!("{value:.1}");
    format!("{} {}", figure.strip_suffix(".0").unwrap_or(&figure), UNITS[unit])
}

/// `9 s`, `2 min 05 s`, `3 h 07 min`, `4 d 02 h`.
pub fn span(seconds: u64) -> String {
    match seconds {
        0..60 => format!("{seconds} s"),
        60..3600 => format!("{} min {:02} s", seconds / 60, seconds % 60),
        3600..86400 => format!("{} h {:02} min", seconds / 3600, seconds / 60 % 60),
        _ => format!("{} d {:02} h", seconds / 86400, seconds / 3600 % 24),
    }
}

/// `2026-11-01 04:55`, in UTC. A kiosk does not know its traveller's time zone.
pub fn minute(unix: u64) -> String {
    let (year, month, day) = civil(unix / 86400);
    format!("{year:04}-{month:02}-{day:02} {:02}:{:02}", unix / 3600 % 24, unix / 60 % 60)
}

/// `2026-11-01 04:55:18`, in UTC.
pub fn second(unix: u64) -> String {
    format!("{}:{:02}", minute(unix), unix % 60)
}

/// Year, month and day of a day number counted from 1970-01-01 (Howard Hinnant, "chrono-Compatible Low-Level Date
/// Algorithms", `civil_from_days`). Days past the year 9999 count as its last.
fn civil(days: u64) -> (u64, u64, u64) {
    const LAST: u64 = 2_932_896;
    let z = days.min(LAST) + 719_468;
    let era = z / 146_097;
    let doe = z % 146_097;
    let yoe = (doe - doe / 1460 + doe / 36_524 - doe / 146_096) / 365;
    let doy = doe - (365 * yoe + yoe / 4 - yoe / 100);
    let mp = (5 * doy + 2) / 153;
    let day = doy - (153 * mp + 2) / 5 + 1;
    let month = if mp < 10 { mp + 3 } else { mp - 9 };
    (yoe + era * 400 + u64::from(month <= 2), month, day)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes() {
        assert_eq!(bytes(0), "0 B");
        assert_eq!(bytes(1023), "1023 B");
        assert_eq!(bytes(1024), "1 KiB");
        assert_eq!(bytes(1024 * 1024 - 1), "1 MiB");
        assert_eq!(bytes(4 << 30), "4 GiB");
        assert_eq!(bytes(u64::MAX), "16384 PiB");
    }

    #[test]
    fn spans() {
        assert_eq!(span(59), "59 s");
        assert_eq!(span(125), "2 min 05 s");
        assert_eq!(span(3600), "1 h 00 min");
        assert_eq!(span(90_000), "1 d 01 h");
    }

    #[test]
    fn dates() {
        assert_eq!(second(0), "1970-01-01 00:00:00");
        assert_eq!(second(951_827_696), "2000-02-29 12:34:56");
        assert_eq!(minute(1_793_508_900), "2026-11-01 04:55");
        assert!(minute(u64::MAX).starts_with("9999-12-31"));
    }
}
