//! One USB device, as the kernel tells of it before any driver has it.

use crate::{folder, identity};
use serde::{Deserialize, Serialize};
use std::{collections::BTreeSet, fs, io, path::Path};

/// Interface classes of the USB Implementers Forum: human interface, mass storage, hub.
const WELCOME: [u8; 3] = [3, 8, 9];
/// `USB_DT_INTERFACE`, and where in such a descriptor the class is.
pub(super) const INTERFACE: u8 = 4;
const CLASS_AT: usize = 5;
/// How much of what a device calls itself is shown, in characters.
const LONGEST: usize = 40;

/// What a device says of itself.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Device {
    vendor: String,
    product: String,
    /// A number that its maker really gave.
    serial: Option<String>,
    classes: BTreeSet<u8>,
    /// Addresses of its network cards, once a driver has it.
    pub(super) cards: BTreeSet<String>,
    title: String,
}

impl Device {
    /// A device that waits to be taken; `None` for an interface, and for one that is in use.
    pub(super) fn waiting(path: &Path) -> io::Result<Option<Self>> {
        Self::read(path, "0")
    }

    /// A device that drivers may have; `None` for an interface, and for one that waits.
    pub(super) fn in_use(path: &Path) -> io::Result<Option<Self>> {
        Self::read(path, "1")
    }

    fn read(path: &Path, authorized: &str) -> io::Result<Option<Self>> {
        if folder::text_of(&path.join("authorized"))?.is_none_or(|text| text.trim() != authorized) {
            return Ok(None);
        }
        let text = |field: &str| -> io::Result<String> {
            let text = folder::text_of(&path.join(field))?.unwrap_or_default();
            Ok(text.trim().chars().filter(|c| c.is_ascii_graphic() || *c == ' ').take(LONGEST).collect())
        };
        let mut cards = BTreeSet::new();
        for interface in folder::entries(path)? {
            for link in folder::entries(&interface.path().join("net")).unwrap_or_default() {
                cards.extend(
                    folder::text_of(&link.path().join("address"))?.map(|text| text.trim().to_owned()),
                );
            }
        }
        Ok(Some(Self {
            vendor: text("idVendor")?,
            product: text("idProduct")?,
            serial: Some(text("serial")?).filter(|serial| identity::is_serial(serial)),
            classes: classes(&fs::read(path.join("descriptors"))?),
            cards,
            title: format!("{} {}", text("manufacturer")?, text("product")?).trim().to_owned(),
        }))
    }

    /// Whether it is of a kind that anybody may plug in at any time.
    pub(super) fn is_welcome(&self) -> bool {
        !self.classes.is_empty() && self.classes.iter().all(|class| WELCOME.contains(class))
    }

    /// Whether it says that it is `other`. At another port (`moved`) only a serial number tells one of a make from the next.
    pub(super) fn is(&self, other: &Self, moved: bool) -> bool {
        let same = (&self.vendor, &self.product, &self.serial, &self.classes)
            == (&other.vendor, &other.product, &other.serial, &other.classes);
        same && !self.classes.is_empty() && !self.vendor.is_empty() && (!moved || self.serial.is_some())
    }

    /// For people.
    pub(super) fn words(&self) -> String {
        let kinds: Vec<String> = self.classes.iter().map(|class| kind(*class)).collect();
        let title = if self.title.is_empty() { "without a name" } else { &self.title };
        format!(
            "{title} ({}:{}, {})",
            self.vendor,
            self.product,
            if kinds.is_empty() { "broken".into() } else { kinds.join(", ") }
        )
    }
}

fn kind(class: u8) -> String {
    match class {
        1 => "sound".into(),
        2 | 10 => "network or modem".into(),
        3 => "keyboard or mouse".into(),
        6 => "camera".into(),
        7 => "printer".into(),
        8 => "disk".into(),
        9 => "hub".into(),
        11 | 13 => "card reader or token".into(),
        14 => "video".into(),
        224 => "radio".into(),
        255 => "of its maker's own kind".into(),
        other => format!("kind {other}"),
    }
}

/// Classes of all interfaces in a device's descriptors; none if they are broken.
pub(super) fn classes(mut descriptors: &[u8]) -> BTreeSet<u8> {
    let mut found = BTreeSet::new();
    while let Some(&len) = descriptors.first() {
        let Some((one, rest)) = descriptors.split_at_checked(usize::from(len)) else {
            return BTreeSet::new();
        };
        match one {
            [] | [_] => return BTreeSet::new(),
            [_, INTERFACE, ..] => match one.get(CLASS_AT) {
                Some(class) => {
                    found.insert(*class);
                }
                None => return BTreeSet::new(),
            },
            _ => {}
        }
        descriptors = rest;
    }
    found
}
