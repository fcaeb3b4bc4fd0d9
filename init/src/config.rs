//! The image's configuration, the command line's overrides, and the kiosk's name.

use crate::cmdline::Cmdline;
use parcel::wire::kiosk::{self, Cache, CacheDevice, CacheKind, Clock, Kiosk, Realm, Session, Wipe};
use std::{collections::BTreeMap, fs, path::Path};

/// What the manager works by.
#[derive(Debug, Clone)]
pub struct Config {
    /// The image's configuration with the command line's overrides.
    pub kiosk: Kiosk,
    /// Name of this kiosk.
    pub name: String,
    /// What is wrong with the configuration, for the log and the screen.
    pub wrong: Option<String>,
}

impl Config {
    /// Reads the machine's. A damaged configuration still gives a kiosk that shows what is wrong.
    pub fn load() -> Self {
        let cmdline = Cmdline::parse(&fs::read_to_string("/proc/cmdline").unwrap_or_default());
        let text = fs::read_to_string(kiosk::PATH).map_err(|error| error.to_string());
        Self::from(text, cmdline, || machine_name(Path::new("/sys")))
    }

    pub(crate) fn from(
        text: Result<String, String>,
        cmdline: Cmdline,
        machine: impl FnOnce() -> String,
    ) -> Self {
        let parsed =
            text.and_then(|text| serde_json::from_str::<Kiosk>(&text).map_err(|error| error.to_string()));
        let (mut kiosk, wrong) = match parsed {
            Ok(kiosk) => (kiosk, None),
            Err(why) => {
                let why = format!("{} is damaged ({why}); build the image again", kiosk::PATH);
                (fallback(), Some(why))
            }
        };
        if let Some(console) = cmdline.console {
            kiosk.console = console;
        }
        if let Some(keymap) = cmdline.keymap {
            kiosk.keymap = keymap;
        }
        if let Some(log) = cmdline.log {
            kiosk.log = Some(log).filter(|log| log != "none");
        }
        let name = cmdline.name.or_else(|| kiosk.name.clone()).unwrap_or_else(machine);
        Self { kiosk, name, wrong }
    }
}

/// Good enough to show a screen that says what is wrong.
fn fallback() -> Kiosk {
    Kiosk {
        name: None,
        title: "Waystation".to_owned(),
        realm: Realm::default(),
        server_url: String::new(),
        hosts: BTreeMap::new(),
        console: "tty1".to_owned(),
        log: None,
        keymap: parcel::keymap::US.to_owned(),
        clock: Clock::default(),
        session: Session::default(),
        cache: Cache { kind: CacheKind::Memory, device: CacheDevice::default(), size_mib: 0, zstd_level: 1 },
        wipe: Wipe { discard: true, power_off_on_failure: false },
    }
}

/// The machine's serial number, else its first network address, else `kiosk`.
fn machine_name(sys: &Path) -> String {
    for field in ["product_serial", "board_serial", "chassis_serial"] {
        let serial = fs::read_to_string(sys.join("class/dmi/id").join(field)).unwrap_or_default();
        if let Some(serial) = serial_number(&serial) {
            return serial;
        }
    }
    let mut links: Vec<_> = fs::read_dir(sys.join("class/net"))
        .map(|entries| entries.filter_map(Result::ok).map(|entry| entry.path()).collect())
        .unwrap_or_default();
    links.sort();
    links
        .iter()
        .filter(|link| link.join("device").exists())
        .filter_map(|link| fs::read_to_string(link.join("address")).ok())
        .map(|address| address.trim().replace(':', ""))
        .find(|address| address.len() == 12 && address.chars().all(|c| c.is_ascii_hexdigit()))
        .map_or_else(|| "kiosk".to_owned(), |address| format!("kiosk-{address}"))
}

/// A serial number that a maker really gave.
fn serial_number(text: &str) -> Option<String> {
    let text = text.trim();
    let lower = text.to_ascii_lowercase();
    let filler = [
        "o.e.m",
        "default",
        "none",
        "not specified",
        "not applicable",
        "serial",
        "unknown",
        "invalid",
        "n/a",
    ];
    let real = (3..=64).contains(&text.len())
        && text.chars().all(|c| c.is_ascii_graphic() || c == ' ')
        && !filler.iter().any(|word| lower.contains(word))
        && text.chars().collect::<std::collections::BTreeSet<_>>().len() > 2;
    real.then(|| text.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn json() -> String {
        serde_json::to_string(&Kiosk { name: Some("A".into()), log: Some("ttyS1".into()), ..fallback() })
            .unwrap()
    }

    #[test]
    fn the_command_line_wins() {
        let cmdline = Cmdline::parse(
            "waystation.name=B waystation.console=ttyS0 waystation.log=none waystation.keymap=de",
        );
        let config = Config::from(Ok(json()), cmdline, || "machine".into());
        assert_eq!(
            (config.name.as_str(), config.kiosk.console.as_str(), config.kiosk.log),
            ("B", "ttyS0", None)
        );
        assert_eq!((config.kiosk.keymap.as_str(), config.wrong), ("de", None));
    }

    #[test]
    fn a_damaged_file_is_named_and_still_gives_a_screen() {
        let config = Config::from(Ok("{".into()), Cmdline::default(), || "machine".into());
        assert!(config.wrong.unwrap().contains(kiosk::PATH));
        assert_eq!((config.name.as_str(), config.kiosk.console.as_str()), ("machine", "tty1"));
    }

    #[test]
    fn fillers_are_no_serial_numbers() {
        for filler in
            ["To be filled by O.E.M.", "Default string", "0000000", "", "System Serial Number", "1\u{7}23"]
        {
            assert_eq!(serial_number(filler), None, "{filler}");
        }
        assert_eq!(serial_number("5CG1234XYZ\n").as_deref(), Some("5CG1234XYZ"));
    }

    #[test]
    fn without_a_serial_the_network_address_names_the_kiosk() {
        let sys = tempfile::tempdir().unwrap();
        assert_eq!(machine_name(sys.path()), "kiosk");
        for (link, real) in [("eth0", true), ("bond0", false)] {
            let folder = sys.path().join("class/net").join(link);
            fs::create_dir_all(if real { folder.join("device") } else { folder.clone() }).unwrap();
            fs::write(folder.join("address"), "52:54:00:12:34:56\n").unwrap();
        }
        assert_eq!(machine_name(sys.path()), "kiosk-525400123456");
    }
}
