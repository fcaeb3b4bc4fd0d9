//! The kiosk's configuration as it lies in the image (`/etc/waystation/kiosk.json`), made and checked by
//! `image-build` from IT's `kiosk.toml`.

use serde::{Deserialize, Serialize};
use std::{collections::BTreeMap, net::IpAddr};

/// Where the configuration lies in the image.
pub const PATH: &str = "/etc/waystation/kiosk.json";
/// Where the server's CA certificate lies in the image.
pub const CA_PATH: &str = "/etc/waystation/ca.pem";
/// Where the certificate of the KDCs' CA lies in the image, if there is one.
pub const KDC_CA_PATH: &str = "/etc/waystation/kdc-ca.pem";
/// Where the keyboard layouts lie in the image; see [`crate::keymap`].
pub const KEYMAPS_PATH: &str = "/etc/waystation/keymaps";
/// The DHCP client's script: a link to `init`, which is told by its name that it is called as that.
pub const DHCP_HOOK: &str = "/usr/bin/dhcp-event";
/// Folder of the local sockets.
pub const RUN: &str = "/run/waystation";
/// Where the cache is mounted.
pub const CACHE: &str = "/var/cache/waystation";

/// Where an image says which it is.
pub const OS_RELEASE: &str = "/etc/os-release";

/// Where an image says when it was built: a number of seconds since 1970. No kiosk's clock is ever before that.
pub const BUILT_PATH: &str = "/etc/waystation/built";

/// The version of the image whose [`OS_RELEASE`] this is, for people: `0.1.0 (build 3f2a91c0d4e5)`.
pub fn image_version(os_release: &str) -> String {
    let field = |name: &str| {
        let line = os_release.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix('='));
        line.map(|value| value.trim_matches('"')).filter(|value| !value.is_empty())
    };
    let version = field("VERSION_ID").unwrap_or("of an unknown version");
    match field("BUILD_ID") {
        Some(build) => format!("{version} (build {build})"),
        None => version.to_owned(),
    }
}

/// Everything a kiosk is told when it is built.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Kiosk {
    /// Name of the kiosk; `None`: the machine's serial number (SMBIOS), else `kiosk`. The kiosk adds what is unique to the
    /// machine.
    pub name: Option<String>,
    /// Words at the top of the login screen.
    pub title: String,
    /// The Kerberos realm, and how its KDCs are found and trusted.
    pub realm: Realm,
    /// `https://…` of the parcel server.
    pub server_url: String,
    /// Names that are not in DNS.
    pub hosts: BTreeMap<String, IpAddr>,
    /// Terminal of the login screen: `tty1`, `ttyS0`.
    pub console: String,
    /// Terminal that the log is copied to, such as `ttyS1`.
    pub log: Option<String>,
    /// Keyboard layout of a screen's terminal, by its name in [`KEYMAPS_PATH`], until the user chooses another.
    #[serde(default = "us")]
    pub keymap: String,
    /// Where the time comes from first.
    #[serde(default)]
    pub clock: Clock,
    /// A session that nobody sits at.
    #[serde(default)]
    pub session: Session,
    /// The cache.
    pub cache: Cache,
    /// The wipe.
    pub wipe: Wipe,
}

/// The Kerberos realm.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Realm {
    /// Its name, in its own spelling.
    pub name: String,
    /// `host:port` of its KDCs; empty: found by DNS.
    pub kdc: Vec<String>,
    /// `host:port` where passwords are changed.
    pub kpasswd: Option<String>,
    /// `https://…` of a KDC proxy (MS-KKDCP) that all realms are reached through.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub kdc_proxy: Option<String>,
    /// The image holds the CA of the KDCs' certificates ([`KDC_CA_PATH`]): every password goes through FAST.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub fast: bool,
    /// Whoever is on the path to the KDC may get something that a password can be guessed from.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub weak_preauth: bool,
    /// Names of users and realms are the same in capitals and small letters, as in Active Directory.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub case_insensitive: bool,
    /// Other realms whose users may log in, with `host:port` of their KDCs; none: found by DNS.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub others: BTreeMap<String, Vec<String>>,
}

fn us() -> String {
    crate::keymap::US.to_owned()
}

/// Where the time comes from, before the parcel server and the network are asked.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Clock {
    /// NTP servers, `host` or `host:port`, best first.
    pub ntp: Vec<String>,
}

/// What happens to a session that nobody sits at.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Session {
    /// Seconds without a key after which the screen locks; 0: never.
    pub lock_after_s: u64,
    /// Seconds without a key after which the session is suspended; 0: only when its log-in ends.
    pub suspend_after_s: u64,
    /// Charge in percent below which a session on batteries is suspended; 0: never.
    #[serde(default = "low_battery")]
    pub low_battery_percent: u8,
}

fn low_battery() -> u8 {
    10
}

impl Default for Session {
    fn default() -> Self {
        Self { lock_after_s: 300, suspend_after_s: 3600, low_battery_percent: low_battery() }
    }
}

/// Where sealed pieces are kept during a session.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Cache {
    /// Which medium.
    pub kind: CacheKind,
    /// Where the partition of [`CacheKind::Disk`] and [`CacheKind::Auto`] may be.
    #[serde(default)]
    pub device: CacheDevice,
    /// For memory: its most in MiB; 0: half of the memory.
    pub size_mib: u64,
    /// zstd level, 1 to 19.
    pub zstd_level: i32,
}

/// The cache's medium.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum CacheKind {
    /// A file system in memory.
    Memory,
    /// The partition whose GPT name is `waystation-cache`, under dm-crypt; no such partition is an error.
    Disk,
    /// The partition if there is one, else memory.
    Auto,
}

/// Which disk's partition `waystation-cache` is the cache. It must be there when the kiosk starts: what is plugged in
/// later is never taken.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum CacheDevice {
    /// The disk or stick that the kiosk was started from.
    BootDisk,
    /// A disk that is built in: not removable, and not on USB.
    #[default]
    Internal,
    /// The partition of this GPT partition id, in lower case.
    Partuuid(String),
}

/// What the wipe does beyond what it must.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Wipe {
    /// Discard the cache partition's blocks too.
    pub discard: bool,
    /// What follows a wipe whose verification failed: `true` powers the kiosk off, `false` returns to login with the report.
    pub power_off_on_failure: bool,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_image_says_which_it_is() {
        let text = "ID=waystation\nVERSION_ID=0.1.0\nBUILD_ID=\"3f2a91c0d4e5\"\n";
        assert_eq!(image_version(text), "0.1.0 (build 3f2a91c0d4e5)");
        assert_eq!(image_version("VERSION_ID=0.1.0\nBUILD_ID=\n"), "0.1.0");
        assert_eq!(image_version(""), "of an unknown version");
    }
}
