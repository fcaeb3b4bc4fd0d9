//! The keys on the kiosk as a machine: its terminals, clock, cache, and what happens when nobody sits at it.

use super::reader::{Found, Section};
use super::{check, checked};
use crate::suite::Mirrors;
use parcel::wire::kiosk::{Cache, CacheDevice, CacheKind, Clock, Session};

/// Terminals and keyboard.
pub(super) struct Console {
    pub(super) screen: String,
    pub(super) log: Option<String>,
    pub(super) keymap: String,
}

pub(super) fn console(section: &Section<'_, '_>) -> Console {
    section.only_known();
    let screen = section
        .string("screen")
        .and_then(|found| checked(section, found, check::terminal))
        .unwrap_or_else(|| "tty1".to_owned());
    let log = section.string("log").and_then(|found| {
        let log = checked(section, found.clone(), check::terminal)?;
        if log == screen {
            section.wrong(
                &found,
                format!("is {log}, where the login screen is: name another terminal or leave it out"),
            );
            return None;
        }
        Some(log)
    });
    let keymap = section.string("keymap").and_then(|found| checked(section, found, check::keymap));
    Console { screen, log, keymap: keymap.unwrap_or_else(|| parcel::keymap::US.to_owned()) }
}

pub(super) fn clock(section: &Section<'_, '_>) -> Clock {
    section.only_known();
    let ntp = section.strings("ntp").into_iter();
    Clock { ntp: ntp.filter_map(|found| checked(section, found, check::host)).collect() }
}

pub(super) fn session(section: &Section<'_, '_>) -> Session {
    section.only_known();
    let usual = Session::default();
    let seconds = |key: &str, most: i64, usual: u64| -> (Option<Found<i64>>, u64) {
        let found = section.integer(key, 0..=most);
        if let Some(found) = &found
            && (1..30).contains(&found.value)
        {
            let text =
                format!("is {}, too short to read a screen: write 0 (never) or at least 30", found.value);
            section.wrong(found, text);
        }
        let value = found.as_ref().map_or(usual, |found| found.value as u64);
        (found, value)
    };
    let (_, lock_after_s) = seconds("lock_after_s", 86_400, usual.lock_after_s);
    let (suspend, suspend_after_s) = seconds("suspend_after_s", 7 * 86_400, usual.suspend_after_s);
    if let Some(found) = &suspend
        && (1..lock_after_s).contains(&suspend_after_s)
    {
        section.wrong(
            found,
            format!("is {suspend_after_s}, but the screen locks only after {lock_after_s}: write more, or 0 for never"),
        );
    }
    let low_battery = section.integer("low_battery_percent", 0..=50);
    let low_battery_percent = low_battery.map_or(usual.low_battery_percent, |found| found.value as u8);
    Session { lock_after_s, suspend_after_s, low_battery_percent }
}

pub(super) fn cache(section: &Section<'_, '_>, image: &Section<'_, '_>) -> Cache {
    section.only_known();
    let kind = section
        .string("kind")
        .and_then(|found| checked(section, found, check::cache_kind))
        .unwrap_or(CacheKind::Auto);
    let size = section.integer("size_mib", 0..=1 << 24);
    if let Some(size) = &size
        && size.value > 0
        && kind == CacheKind::Disk
    {
        section.wrong(
            size,
            "limits a cache in memory, but cache.kind is \"disk\": leave it out, the partition's size counts",
        );
    }
    if let Some(size) = &size
        && (1..64).contains(&size.value)
    {
        section.wrong(
            size,
            format!(
                "is {}, too little to hold a session: write 0 (half of the memory) or at least 64",
                size.value
            ),
        );
    }
    Cache {
        kind,
        device: cache_device(section, image, kind),
        size_mib: size.map_or(0, |found| found.value as u64),
        zstd_level: section.integer("zstd_level", 1..=19).map_or(3, |found| found.value as i32),
    }
}

/// Where the image itself brings a partition, that is the one, unless another is named.
fn cache_device(section: &Section<'_, '_>, image: &Section<'_, '_>, kind: CacheKind) -> CacheDevice {
    let own = image.has_positive("cache_partition_mib");
    let usual = if own { CacheDevice::BootDisk } else { CacheDevice::Internal };
    let Some(found) = section.string("device") else { return usual };
    if kind == CacheKind::Memory {
        section.wrong(&found, "names a disk that cache.kind \"memory\" never uses: leave one of the two out");
        return usual;
    }
    let place = found.clone();
    let Some(device) = checked(section, found, check::cache_device) else { return usual };
    if own && device != CacheDevice::BootDisk {
        section.wrong(
            &place,
            "is not \"boot-disk\", but image.cache_partition_mib makes a partition there: leave one of the two out",
        );
    }
    device
}

pub(super) fn cache_partition(section: &Section<'_, '_>, kind: CacheKind) -> u64 {
    let Some(size) = section.integer("cache_partition_mib", 0..=65_536) else { return 0 };
    if (1..64).contains(&size.value) {
        section.wrong(
            &size,
            format!("is {}, too little for a cache: write 0 (none) or at least 64", size.value),
        );
    }
    if size.value > 0 && kind == CacheKind::Memory {
        section.wrong(
            &size,
            "makes a partition that cache.kind \"memory\" never uses: write 0, or cache.kind = \"auto\"",
        );
    }
    size.value as u64
}

pub(super) fn mirrors(section: &Section<'_, '_>) -> Mirrors {
    let mirror = |key: &str| section.string(key).and_then(|found| checked(section, found, check::mirror));
    let usual = Mirrors::default();
    Mirrors {
        main: mirror("mirror").unwrap_or(usual.main),
        security: mirror("security_mirror").unwrap_or(usual.security),
    }
}
