//! Which machine this is: the kiosk's name with something unique to the machine at its end. A lock names its holder by it,
//! so two machines must never have one name.

use crate::folder;
use serde::{Deserialize, Serialize};
use std::{
    collections::BTreeSet,
    fs, io,
    path::{Path, PathBuf},
};

/// What a crashed manager leaves: within one boot the name never changes, whatever is plugged in meanwhile.
const KEPT: &str = "/run/init/identity.json";
/// The end of a name is 30 bits in these: no letter that is mistaken for another.
const LETTERS: &[u8; 32] = b"0123456789abcdefghjkmnpqrstvwxyz";
const SUFFIX: usize = 6;
/// Longest part before it, so that the whole is a host name.
const LONGEST: usize = 56;

/// This kiosk's name.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Identity {
    /// The name, as users, servers and holders of locks see it.
    pub name: String,
    /// The machine tells nothing that no other machine tells: the end of the name is drawn at each start.
    pub passing: bool,
}

impl Identity {
    /// The kiosk's, once the drivers of its network cards are loaded. `given`: the name that IT gave.
    ///
    /// # Errors
    /// The kernel tells no boot id; or the name cannot be kept for a successor, who would find another.
    pub fn of_this_machine(given: Option<&str>) -> io::Result<Self> {
        if let Some(kept) = fs::read(KEPT).ok().and_then(|json| serde_json::from_slice(&json).ok()) {
            return Ok(kept);
        }
        let boot = fs::read_to_string("/proc/sys/kernel/random/boot_id")?;
        let identity = Self::form(given, &Marks::read(Path::new("/sys")), &boot);
        let fresh = format!("{KEPT}.new");
        fs::write(&fresh, serde_json::to_vec(&identity)?).and_then(|()| fs::rename(&fresh, KEPT))?;
        Ok(identity)
    }

    fn form(given: Option<&str>, marks: &Marks, boot: &str) -> Self {
        let given = given.map(str::trim).filter(|name| !name.is_empty());
        let base = given.or(marks.serials.first().map(String::as_str)).unwrap_or("kiosk");
        let base: String = base.chars().take(LONGEST).collect();
        let passing = marks.is_empty();
        let mut hasher = blake3::Hasher::new_derive_key("waystation v1 kiosk identity");
        let mut add = |kind: u8, text: &str| {
            hasher.update(&[kind]);
            hasher.update(&(text.len() as u64).to_le_bytes());
            hasher.update(text.as_bytes());
        };
        marks.uuid.iter().for_each(|uuid| add(0, uuid));
        marks.serials.iter().for_each(|serial| add(1, serial));
        marks.card.iter().for_each(|card| add(2, card));
        if passing {
            add(3, boot.trim());
        }
        let hash = hasher.finalize();
        let suffix: String = hash
            .as_bytes()
            .iter()
            .take(SUFFIX)
            .filter_map(|byte| LETTERS.get(usize::from(byte & 31)).copied().map(char::from))
            .collect();
        Self { name: format!("{}-{suffix}", base.trim_end()), passing }
    }
}

/// What tells this machine from others. Makers give one number to thousands of machines, so all of it counts together.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
struct Marks {
    uuid: Option<String>,
    /// Of product, board and chassis.
    serials: Vec<String>,
    /// Lowest permanent address of a built-in network card.
    card: Option<String>,
}

impl Marks {
    fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    fn read(sys: &Path) -> Self {
        let dmi = |field: &str| fs::read(sys.join("class/dmi/id").join(field)).ok();
        let text = |bytes: Vec<u8>| String::from_utf8_lossy(&bytes).trim().to_owned();
        Self {
            uuid: dmi("product_uuid").map(text).map(|uuid| uuid.to_ascii_lowercase()).filter(|u| is_uuid(u)),
            serials: ["product_serial", "board_serial", "chassis_serial"]
                .into_iter()
                .filter_map(|field| dmi(field).map(text).filter(|serial| is_serial(serial)))
                .collect(),
            card: cards(&sys.join("class/net")).into_iter().next(),
        }
    }
}

/// Permanent addresses of the network cards that belong to the machine, in order. A card on USB, or behind a port for
/// docks, may stand on another desk tomorrow.
fn cards(net: &Path) -> BTreeSet<String> {
    let read = |path: PathBuf| fs::read_to_string(path).map(|text| text.trim().to_ascii_lowercase());
    folder::entries(net)
        .into_iter()
        .flatten()
        .filter(|link| {
            let device = link.path().join("device");
            // NET_ADDR_PERM of `linux/netdevice.h`: the address is the card's own.
            device.exists()
                && read(link.path().join("addr_assign_type")).is_ok_and(|kind| kind == "0")
                && fs::canonicalize(device).is_ok_and(|device| is_built_in(&device))
        })
        .filter_map(|link| read(link.path().join("address")).ok().filter(|address| is_mac(address)))
        .collect()
}

fn is_built_in(device: &Path) -> bool {
    device.ancestors().all(|at| {
        let removable = fs::read_to_string(at.join("removable")).unwrap_or_default();
        let bus = fs::read_link(at.join("subsystem")).unwrap_or_default();
        removable.trim() != "removable" && !bus.ends_with("bus/usb")
    })
}

/// A serial number that a maker really gave.
pub(crate) fn is_serial(text: &str) -> bool {
    const WORDS: [&str; 24] = [
        "o.e.m",
        "oem",
        "default",
        "none",
        "not ",
        "serial",
        "unknown",
        "invalid",
        "n/a",
        "tbd",
        "tba",
        "to be",
        "filled",
        "empty",
        "null",
        "sample",
        "example",
        "xxxx",
        "undefined",
        "unspecified",
        "no asset",
        "standard",
        "test",
        "system",
    ];
    let lower = text.to_ascii_lowercase();
    let plain: String = lower.chars().filter(char::is_ascii_alphanumeric).collect();
    (4..=64).contains(&text.len())
        && text.chars().all(|c| c.is_ascii_graphic() || c == ' ')
        && plain.len() >= 4
        && !WORDS.iter().any(|word| lower.contains(word))
        && !is_pattern(&plain)
}

/// An SMBIOS UUID that a maker really gave.
fn is_uuid(text: &str) -> bool {
    /// What firmware is delivered with, as the kernel prints it and with its first fields turned round.
    const FILLERS: [&str; 7] = [
        "03000200-0400-0500-0006-000700080009",
        "00020003-0004-0005-0006-000700080009",
        "12345678-1234-5678-90ab-cddeefaabbcc",
        "78563412-3412-7856-90ab-cddeefaabbcc",
        "12345678-1234-1234-1234-123456789abc",
        "00112233-4455-6677-8899-aabbccddeeff",
        "33221100-5544-7766-8899-aabbccddeeff",
    ];
    let plain: String = text.chars().filter(|c| *c != '-').collect();
    plain.len() == 32
        && plain.bytes().all(|byte| byte.is_ascii_hexdigit())
        && !FILLERS.contains(&text)
        && !is_pattern(&plain)
}

/// A card's address that is this card's alone.
fn is_mac(text: &str) -> bool {
    let plain: String = text.chars().filter(|c| *c != ':').collect();
    let group = u8::from_str_radix(plain.get(..2).unwrap_or("ff"), 16).unwrap_or(0xff) & 1;
    plain.len() == 12
        && plain.bytes().all(|byte| byte.is_ascii_hexdigit())
        && group == 0
        && !["001122334455", "000102030405", "888888888788"].contains(&plain.as_str())
        && !is_pattern(&plain)
}

/// Nothing but one or two characters, a short piece again and again, or a run of the keyboard's digits or letters up or down.
fn is_pattern(plain: &str) -> bool {
    let bytes = plain.as_bytes();
    let few = bytes.iter().collect::<BTreeSet<_>>().len() <= 2;
    let repeated = (1..=bytes.len() / 2).any(|period| {
        bytes.len().is_multiple_of(period) && bytes.chunks(period).all(|piece| bytes.starts_with(piece))
    });
    let step = |pair: &[u8]| match pair {
        [b'9', b'0' | b'a'] | [b'0', b'1'] => Some(1),
        [b'0', b'9'] | [b'a', b'9'] => Some(-1),
        [from, to] => Some(i16::from(*to) - i16::from(*from)),
        _ => None,
    };
    let mut steps = bytes.windows(2).map(step);
    let first = steps.next().flatten();
    few || repeated || (matches!(first, Some(1 | -1)) && steps.all(|next| next == first))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::os::unix::fs::symlink;

    const BOOT: &str = "0b0a0c55-1d53-4a65-8f0a-8a2d4f7f9d10\n";

    /// A machine's `/sys`.
    struct Sys(tempfile::TempDir);

    impl Sys {
        fn new(dmi: &[(&str, &str)]) -> Self {
            let sys = Self(tempfile::tempdir().unwrap());
            for (field, text) in dmi {
                sys.file(&format!("class/dmi/id/{field}"), text);
            }
            sys
        }

        fn file(&self, path: &str, text: &str) {
            let path = self.0.path().join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        }

        /// A network card on a bus, below a bridge that is built in or not.
        fn card(self, name: &str, bus: &str, bridge: &str, kind: &str, address: &str) -> Self {
            let device = format!("devices/pci0/{bridge}/{name}dev");
            self.file(&format!("{device}/vendor"), "x");
            self.file(&format!("devices/pci0/{bridge}/removable"), bridge);
            self.file(&format!("bus/{bus}/x"), "");
            symlink(self.0.path().join("bus").join(bus), self.0.path().join(&device).join("subsystem"))
                .unwrap();
            self.file(&format!("class/net/{name}/addr_assign_type"), kind);
            self.file(&format!("class/net/{name}/address"), address);
            symlink(self.0.path().join(device), self.0.path().join("class/net").join(name).join("device"))
                .unwrap();
            self
        }

        fn is(&self, given: Option<&str>) -> Identity {
            Identity::form(given, &Marks::read(self.0.path()), BOOT)
        }
    }

    #[test]
    fn two_machines_of_one_name_are_two_kiosks() {
        let one = Sys::new(&[("product_serial", "5CG1234XYZ\n")]).is(Some("front-desk"));
        let other = Sys::new(&[("product_serial", "5CG1234XYA\n")]).is(Some("front-desk"));
        assert!(
            one.name.starts_with("front-desk-") && one.name.len() == "front-desk-".len() + SUFFIX,
            "{one:?}"
        );
        assert!(one.name != other.name && !one.passing && !other.passing);
        // The maker's filler is the same everywhere; the card's address is not.
        let filler = [
            ("product_serial", "To be filled by O.E.M."),
            ("product_uuid", "03000200-0400-0500-0006-000700080009"),
        ];
        let twin = |address| Sys::new(&filler).card("eth0", "pci", "fixed", "0", address).is(None);
        let (one, other) = (twin("52:54:00:12:34:56\n"), twin("52:54:00:12:34:57\n"));
        assert!(one.name.starts_with("kiosk-") && one.name != other.name && !one.passing, "{one:?}");
        // An unknown filler does not make two machines one either.
        let lot = |address| {
            Sys::new(&[("product_serial", "LOT-7A")]).card("eth0", "pci", "fixed", "0", address).is(None)
        };
        assert_ne!(lot("52:54:00:12:34:56").name, lot("52:54:00:12:34:57").name);
    }

    #[test]
    fn a_machine_keeps_its_name_whatever_is_plugged_in() {
        let uuid = [("product_uuid", "4C4C4544-0043-4710-8053-B4C04F4B3333\n")];
        let alone = || Sys::new(&uuid).card("eth0", "pci", "fixed", "0", "52:54:00:12:34:56");
        let name = alone().is(None);
        for (bus, bridge, kind) in [("usb", "fixed", "0"), ("pci", "removable", "0"), ("pci", "fixed", "1")] {
            let more = alone().card("eth1", bus, bridge, kind, "00:1b:21:00:00:01");
            assert_eq!(more.is(None), name, "{bus} {bridge} {kind}");
        }
    }

    #[test]
    fn a_machine_that_tells_nothing_has_a_name_until_it_is_switched_off() {
        let sys = Sys::new(&[
            ("product_serial", "123456789"),
            ("product_uuid", "ffffffff-ffff-ffff-ffff-ffffffffffff"),
        ])
        .card("eth0", "usb", "fixed", "0", "00:1b:21:00:00:01");
        let first = sys.is(Some("desk"));
        let next = Identity::form(Some("desk"), &Marks::read(sys.0.path()), "another boot");
        assert!(first.passing && next.passing && first.name != next.name);
    }

    #[test]
    fn fillers_are_no_identity() {
        for filler in [
            "To be filled by O.E.M.",
            "Default string",
            "0000000",
            "",
            "System Serial Number",
            "1\u{7}23",
            "123456789",
            "0123456789",
            "1234567890",
            "987654321",
            "TBD by OEM",
            "Not Available",
            "Not Specified",
            "N/A",
            "None",
            "xxxxxxxx",
            "ABCDEFG",
            "12121212",
            "Chassis Serial Number",
            "Type2 - Board Serial Number",
            "INVALID",
            "..........",
            "0",
        ] {
            assert!(!is_serial(filler), "{filler}");
        }
        for real in ["5CG1234XYZ", "PF0ABC12", "CN-0X9M3X-70163", "kiosk-A", "MXL1234567", "VMware-56 4d 1a"]
        {
            assert!(is_serial(real), "{real}");
        }
        for filler in [
            "ffffffff-ffff-ffff-ffff-ffffffffffff",
            "00000000-0000-0000-0000-000000000000",
            "03000200-0400-0500-0006-000700080009",
            "00020003-0004-0005-0006-000700080009",
            "11111111-2222-1111-2222-111111112222",
            "fefefefe-fefe-fefe-fefe-fefefefefefe",
            "not present",
            "",
        ] {
            assert!(!is_uuid(filler), "{filler}");
        }
        assert!(is_uuid("4c4c4544-0043-4710-8053-b4c04f4b3333"));
        for filler in [
            "00:00:00:00:00:00",
            "ff:ff:ff:ff:ff:ff",
            "00:11:22:33:44:55",
            "01:00:5e:00:00:01",
            "12:34:56",
            "",
        ] {
            assert!(!is_mac(filler), "{filler}");
        }
        assert!(is_mac("52:54:00:12:34:56"));
    }

    proptest! {
        #[test]
        fn a_name_is_always_whole(given in proptest::option::of("\\PC{0,80}"), serial in "\\PC{0,80}") {
            let sys = Sys::new(&[("product_serial", serial.as_str())]);
            let identity = sys.is(given.as_deref());
            prop_assert!(identity.name.chars().count() <= LONGEST + 1 + SUFFIX);
            prop_assert_eq!(identity.clone(), sys.is(given.as_deref()));
            let _ = (is_uuid(&serial), is_mac(&serial));
        }
    }
}
