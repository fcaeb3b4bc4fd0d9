//! How full the machine's own batteries are.

use std::{fs, path::Path};

/// The batteries' charge in percent, when the machine lives on them and all of them together are below `limit`.
pub fn low(sys: &Path, limit: u8) -> Option<u8> {
    let entries = fs::read_dir(sys.join("class/power_supply")).ok()?.filter_map(Result::ok);
    let batteries: Vec<Battery> = entries.filter_map(|entry| Battery::read(&entry.path())).collect();
    let discharging = batteries.iter().any(|battery| battery.discharging);
    // What is charged in another battery is left to live on.
    let fullest = batteries.iter().map(|battery| battery.percent).max()?;
    (discharging && fullest < limit).then_some(fullest)
}

struct Battery {
    percent: u8,
    discharging: bool,
}

impl Battery {
    /// `None`: it is none, or it is a mouse's, or it does not tell.
    fn read(folder: &Path) -> Option<Self> {
        let text = |name: &str| Some(fs::read_to_string(folder.join(name)).ok()?.trim().to_owned());
        let number = |name: &str| text(name)?.parse::<u64>().ok();
        let kind = text("type")?;
        if (kind != "Battery" && kind != "UPS") || text("scope").is_some_and(|scope| scope == "Device") {
            return None;
        }
        if number("present") == Some(0) {
            return None;
        }
        let share = |now: &str, full: &str| {
            let (now, full) = (number(now)?, number(full)?);
            now.saturating_mul(100).checked_div(full)
        };
        let percent = number("capacity")
            .or_else(|| share("energy_now", "energy_full"))
            .or_else(|| share("charge_now", "charge_full"))?;
        Some(Self {
            percent: u8::try_from(percent.min(100)).unwrap_or(100),
            discharging: text("status").is_some_and(|status| status == "Discharging"),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A tree with these power supplies, each with its files.
    fn tree(supplies: &[(&str, &[(&str, &str)])]) -> tempfile::TempDir {
        let sys = tempfile::tempdir().unwrap();
        for (name, files) in supplies {
            let folder = sys.path().join("class/power_supply").join(name);
            fs::create_dir_all(&folder).unwrap();
            for (file, text) in *files {
                fs::write(folder.join(file), format!("{text}\n")).unwrap();
            }
        }
        sys
    }

    const MAINS: (&str, &[(&str, &str)]) = ("AC", &[("type", "Mains"), ("online", "0")]);
    const LOW: (&str, &[(&str, &str)]) =
        ("BAT0", &[("type", "Battery"), ("present", "1"), ("status", "Discharging"), ("capacity", "7")]);

    #[test]
    fn a_battery_is_low_when_it_discharges_below_the_limit() {
        let sys = tree(&[MAINS, LOW]);
        assert_eq!(low(sys.path(), 10), Some(7));
        assert_eq!(low(sys.path(), 7), None, "not below");
        assert_eq!(low(sys.path(), 0), None, "never");
        let charging = tree(&[("BAT0", &[("type", "Battery"), ("status", "Charging"), ("capacity", "7")])]);
        assert_eq!(low(charging.path(), 10), None);
        assert_eq!(low(tree(&[MAINS]).path(), 10), None);
        assert_eq!(low(tempfile::tempdir().unwrap().path(), 10), None);
    }

    #[test]
    fn another_battery_that_is_full_is_left_to_live_on() {
        let full: (&str, &[(&str, &str)]) =
            ("BAT1", &[("type", "Battery"), ("status", "Not charging"), ("capacity", "80")]);
        assert_eq!(low(tree(&[LOW, full]).path(), 10), None);
        // A bay without one has no charge, and a mouse's is not the machine's.
        let empty: (&str, &[(&str, &str)]) =
            ("BAT1", &[("type", "Battery"), ("present", "0"), ("capacity", "80")]);
        let mouse: (&str, &[(&str, &str)]) = (
            "hid-1",
            &[("type", "Battery"), ("scope", "Device"), ("status", "Discharging"), ("capacity", "80")],
        );
        assert_eq!(low(tree(&[LOW, empty, mouse]).path(), 10), Some(7));
        let alone: (&str, &[(&str, &str)]) = (
            "hid-1",
            &[("type", "Battery"), ("scope", "Device"), ("status", "Discharging"), ("capacity", "1")],
        );
        assert_eq!(low(tree(&[alone]).path(), 10), None);
    }

    #[test]
    fn a_battery_without_percent_tells_by_its_energy() {
        let by = |now: &str, full: &str| {
            let files =
                [("type", "Battery"), ("status", "Discharging"), (now, "3000000"), (full, "60000000")];
            low(tree(&[("BAT0", &files)]).path(), 10)
        };
        assert_eq!(by("energy_now", "energy_full"), Some(5));
        assert_eq!(by("charge_now", "charge_full"), Some(5));
        assert_eq!(by("energy_now", "charge_full"), None, "it does not tell");
        let dead =
            [("type", "Battery"), ("status", "Discharging"), ("energy_now", "0"), ("energy_full", "0")];
        assert_eq!(low(tree(&[("BAT0", &dead)]).path(), 10), None);
    }
}
