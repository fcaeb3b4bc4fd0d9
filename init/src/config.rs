//! The image's configuration and the command line's overrides.

use crate::cmdline::Cmdline;
use parcel::wire::kiosk::{self, Cache, CacheDevice, CacheKind, Clock, Kiosk, Realm, Session, Wipe};
use std::{collections::BTreeMap, fs};

/// What the manager works by.
#[derive(Debug, Clone)]
pub struct Config {
    /// The image's configuration with the command line's overrides.
    pub kiosk: Kiosk,
    /// The name that IT gave this kiosk; see [`crate::identity`].
    pub name: Option<String>,
    /// Version of its image.
    pub image: String,
    /// What is wrong with the configuration, for the log and the screen.
    pub wrong: Option<String>,
}

impl Config {
    /// Reads the machine's. A damaged configuration still gives a kiosk that shows what is wrong.
    pub fn load() -> Self {
        let cmdline = Cmdline::parse(&fs::read_to_string("/proc/cmdline").unwrap_or_default());
        let text = fs::read_to_string(kiosk::PATH).map_err(|error| error.to_string());
        let image = kiosk::image_version(&fs::read_to_string(kiosk::OS_RELEASE).unwrap_or_default());
        Self { image, ..Self::from(text, cmdline) }
    }

    pub(crate) fn from(text: Result<String, String>, cmdline: Cmdline) -> Self {
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
        let name = cmdline.name.or_else(|| kiosk.name.clone());
        Self { kiosk, name, image: String::new(), wrong }
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
        let config = Config::from(Ok(json()), cmdline);
        assert_eq!(
            (config.name.as_deref(), config.kiosk.console.as_str(), config.kiosk.log),
            (Some("B"), "ttyS0", None)
        );
        assert_eq!((config.kiosk.keymap.as_str(), config.wrong), ("de", None));
    }

    #[test]
    fn a_damaged_file_is_named_and_still_gives_a_screen() {
        let config = Config::from(Ok("{".into()), Cmdline::default());
        assert!(config.wrong.unwrap().contains(kiosk::PATH));
        assert_eq!((config.name, config.kiosk.console.as_str()), (None, "tty1"));
    }
}
