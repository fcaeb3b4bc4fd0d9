//! Which partition is the cache's: the one that is named so, on the disk that the configuration means, and there when
//! the kiosk started. A stick of that name is somebody's data, or somebody's trap.

use crate::folder;
use parcel::wire::kiosk::CacheDevice;
use serde::{Deserialize, Serialize};
use std::{
    fs, io,
    os::unix::fs::FileExt,
    path::{Path, PathBuf},
};

/// GPT name of the cache's partition.
pub const PARTITION: &str = "waystation-cache";
/// Where the kernel lists block devices, and their nodes are.
const BLOCK: &str = "/sys/class/block";
const DEV: &str = "/dev";
/// Where the EFI variables are, and systemd-stub's with the GPT id of the partition that it was started from.
const EFI: &str = "/sys/firmware/efi/efivars";
const STARTED_FROM: &str = "LoaderDevicePartUUID-4a67b082-0a4c-41cf-b6c7-440b29bb8c4f";
/// Where the first manager since the power came on leaves what it found.
const FOUND: &str = "/run/init/cache-disk";

/// A partition, and the disk that it is on.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Partition {
    /// Kernel name, below `/dev` and in `/sys/class/block`.
    name: String,
    /// The kernel's number of its disk, which no other disk gets until the power goes: one that is pulled out and
    /// plugged in again has another.
    disk: u64,
}

impl Partition {
    /// Its device node.
    pub fn node(&self) -> PathBuf {
        Path::new(DEV).join(&self.name)
    }
}

/// What of the machine says which disk is which.
struct Sight<'a> {
    /// `/sys/class/block`.
    block: &'a Path,
    /// Folder of the EFI variables.
    efi: &'a Path,
    /// `/dev`.
    dev: &'a Path,
}

impl Sight<'static> {
    /// The running machine's.
    fn of_machine() -> Self {
        Self { block: Path::new(BLOCK), efi: Path::new(EFI), dev: Path::new(DEV) }
    }
}

/// Finds the cache's partition, once since the power came on. Called when the kiosk's own disks have shown up.
///
/// # Errors
/// The kernel's lists cannot be read, or what was found cannot be noted.
pub fn find(device: &CacheDevice) -> io::Result<Option<Partition>> {
    Sight::of_machine().find_once(device, Path::new(FOUND))
}

/// The cache's partition, if one was there at the start and its disk has not gone since.
///
/// # Errors
/// The kernel's lists cannot be read, or nothing was looked for yet.
pub fn cache() -> io::Result<Option<Partition>> {
    Sight::of_machine().still_there(Path::new(FOUND))
}

/// What a kiosk says that must have the partition and has none.
pub fn missing(device: &CacheDevice) -> String {
    let place = match device {
        CacheDevice::BootDisk => "on the disk that this kiosk was started from".to_owned(),
        CacheDevice::Internal => "on a disk that is built in".to_owned(),
        CacheDevice::Partuuid(id) => format!("with the id {id}"),
    };
    format!(
        "there was no partition {PARTITION} {place} when this kiosk started, or its disk is gone; make one and \
         restart, or set another cache in kiosk.toml"
    )
}

impl Sight<'_> {
    fn find_once(&self, device: &CacheDevice, note: &Path) -> io::Result<Option<Partition>> {
        if note.exists() {
            return self.still_there(note);
        }
        let found = self.find(device)?;
        let text = serde_json::to_vec(&found).map_err(io::Error::other)?;
        // Written whole or not at all: half a note would be an error for ever.
        let half = note.with_extension("half");
        fs::write(&half, text)?;
        fs::rename(&half, note)?;
        Ok(found)
    }

    fn still_there(&self, note: &Path) -> io::Result<Option<Partition>> {
        let noted: Option<Partition> = serde_json::from_slice(&fs::read(note)?).map_err(io::Error::other)?;
        let Some(noted) = noted else { return Ok(None) };
        Ok(self.partitions()?.into_iter().map(|(found, _)| found).find(|found| *found == noted))
    }

    /// The first partition of the name that is where `device` wants it.
    fn find(&self, device: &CacheDevice) -> io::Result<Option<Partition>> {
        let boot = match device {
            CacheDevice::BootDisk => self.boot_disk()?,
            _ => None,
        };
        for (partition, about) in self.partitions()? {
            if about.label.as_deref() == Some(PARTITION)
                && match device {
                    CacheDevice::BootDisk => Some(partition.disk) == boot,
                    CacheDevice::Internal => self.is_built_in(&partition.name)?,
                    CacheDevice::Partuuid(id) => self.has_id(&about, id),
                }
            {
                return Ok(Some(partition));
            }
        }
        Ok(None)
    }

    /// The kernel's number of the disk that the firmware started the kiosk from; none when it came over the network.
    fn boot_disk(&self) -> io::Result<Option<u64>> {
        let variable = match fs::read(self.efi.join(STARTED_FROM)) {
            Ok(variable) => variable,
            Err(error) if folder::vanished(&error) => return Ok(None),
            Err(error) => return Err(error),
        };
        let Some(id) = text_of_variable(&variable) else { return Ok(None) };
        let mut disks: Vec<u64> = self
            .partitions()?
            .into_iter()
            .filter(|(_, about)| self.has_id(about, &id))
            .map(|(partition, _)| partition.disk)
            .collect();
        disks.dedup();
        // A copied stick has the same ids: which of the two it was cannot be known.
        Ok(<[u64; 1]>::try_from(disks).ok().map(|[disk]| disk))
    }

    /// All partitions, in the order of their names.
    fn partitions(&self) -> io::Result<Vec<(Partition, About)>> {
        let mut paths: Vec<_> = folder::entries(self.block)?.iter().map(fs::DirEntry::path).collect();
        paths.sort();
        let mut found = Vec::new();
        for path in paths {
            let Some(text) = folder::text_of(&path.join("uevent"))? else { continue };
            let field = |key: &str| text.lines().find_map(|line| line.strip_prefix(key)).map(str::to_owned);
            let Some(number) = field("PARTN=").and_then(|number| number.parse().ok()) else { continue };
            let Some(name) = field("DEVNAME=") else { continue };
            // The partition's folder is in its disk's.
            let Some(disk) = real(&path)?.and_then(|path| path.parent().map(Path::to_owned)) else {
                continue;
            };
            let Some(order) = folder::text_of(&disk.join("diskseq"))? else { continue };
            let Ok(order) = order.trim().parse() else { continue };
            found.push((Partition { name, disk: order }, About { number, label: field("PARTNAME="), disk }));
        }
        Ok(found)
    }

    /// Whether the partition table gives the partition this id, which Debian's kernel does not tell. A table that cannot
    /// be read gives none.
    fn has_id(&self, about: &About, id: &str) -> bool {
        let read = || -> Option<String> {
            let sector = folder::text_of(&about.disk.join("queue/logical_block_size")).ok()??;
            let disk = fs::File::open(self.dev.join(about.disk.file_name()?)).ok()?;
            id_in_table(&disk, sector.trim().parse().ok()?, about.number)
        };
        read().is_some_and(|own| own.eq_ignore_ascii_case(id))
    }

    /// Whether nobody can carry the partition's disk away, or bring it, without opening the machine.
    fn is_built_in(&self, name: &str) -> io::Result<bool> {
        let Some(path) = real(&self.block.join(name))? else { return Ok(false) };
        for folder in path.ancestors() {
            let own = folder.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
            let numbered = |start: &str| {
                own.strip_prefix(start).is_some_and(|rest| rest.starts_with(|c: char| c.is_ascii_digit()))
            };
            // USB and FireWire; loops and disks over the network.
            if numbered("usb") || numbered("fw") || numbered("session") || own == "virtual" {
                return Ok(false);
            }
            // A card in a slot, behind which the kernel sees a disk that stays.
            if folder::text_of(&folder.join("type"))?.is_some_and(|kind| kind.trim() == "SD") {
                return Ok(false);
            }
            // "1" of a disk; "removable" of a device, as of one behind Thunderbolt.
            let removable = folder::text_of(&folder.join("removable"))?;
            if removable.is_some_and(|text| matches!(text.trim(), "1" | "removable")) {
                return Ok(false);
            }
            if own == "devices" {
                break;
            }
        }
        Ok(true)
    }
}

/// What else there is to know of a partition.
struct About {
    /// Its place in the partition table.
    number: u32,
    /// Its GPT name.
    label: Option<String>,
    /// Its disk's folder below `/sys`.
    disk: PathBuf,
}

/// The id of partition `number` in a GPT with sectors of `sector` bytes. The kernel has checked the table; what is read
/// here is bounded, whatever is there.
fn id_in_table(disk: &fs::File, sector: u64, number: u32) -> Option<String> {
    /// Size of an entry: the kernel takes no table with others.
    const ENTRY: u64 = 128;
    let mut header = [0u8; 92];
    disk.read_exact_at(&mut header, sector).ok()?;
    let size = u32::from_le_bytes(header.get(84..88)?.try_into().ok()?);
    if !header.starts_with(b"EFI PART") || u64::from(size) != ENTRY {
        return None;
    }
    let first = u64::from_le_bytes(header.get(72..80)?.try_into().ok()?);
    let at = u64::from(number.checked_sub(1)?).checked_mul(ENTRY)?.checked_add(first.checked_mul(sector)?)?;
    // A type, then the id.
    let mut entry = [0u8; 32];
    disk.read_exact_at(&mut entry, at).ok()?;
    Some(uuid::Uuid::from_slice_le(entry.get(16..)?).ok()?.to_string())
}

/// Where a link of `/sys/class` leads; none once the device has gone.
fn real(path: &Path) -> io::Result<Option<PathBuf>> {
    match fs::canonicalize(path) {
        Ok(path) => Ok(Some(path)),
        Err(error) if folder::vanished(&error) => Ok(None),
        Err(error) => Err(error),
    }
}

/// The text of an EFI variable: four bytes of attributes, then UTF-16 up to a zero.
fn text_of_variable(bytes: &[u8]) -> Option<String> {
    let units = bytes.get(4..)?.chunks_exact(2).map(|pair| u16::from_le_bytes([pair[0], pair[1]]));
    let text = String::from_utf16(&units.take_while(|unit| *unit != 0).collect::<Vec<_>>()).ok()?;
    Some(text).filter(|text| !text.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;
    use gpt::{GptConfig, disk::LogicalBlockSize};
    use proptest::prelude::*;

    const PCI: &str = "devices/pci0000:00/0000:00:1d.0";
    const STICK: &str = "devices/pci0000:00/0000:00:14.0/usb2/2-1/2-1:1.0/host6/target6:0:0/6:0:0:0/block";

    /// The id that ends in `last`.
    fn uuid(last: u8) -> String {
        format!("0abcdef0-1234-4abc-8def-0123456789{last:02x}")
    }

    /// A machine's `/sys`, as far as it is looked at here.
    struct Sys(tempfile::TempDir);

    impl Sys {
        fn new() -> Self {
            let sys = Self(tempfile::tempdir().unwrap());
            fs::create_dir_all(sys.path("class/block")).unwrap();
            fs::create_dir_all(sys.path("efi")).unwrap();
            sys
        }

        fn path(&self, path: &str) -> PathBuf {
            self.0.path().join(path)
        }

        fn write(&self, path: &str, text: &str) {
            fs::create_dir_all(self.path(path).parent().unwrap()).unwrap();
            fs::write(self.path(path), text).unwrap();
        }

        fn disk(&self, at: &str, disk: &str, number: u64, parts: &[(&str, &str, u8)]) {
            let folder = format!("{at}/{disk}");
            self.write(&format!("{folder}/diskseq"), &format!("{number}\n"));
            self.write(&format!("{folder}/removable"), "0\n");
            self.write(&format!("{folder}/queue/logical_block_size"), "512\n");
            self.write(&format!("{folder}/uevent"), &format!("DEVNAME={disk}\nDEVTYPE=disk\n"));
            self.link(&folder, disk);
            for (at, (part, label, _)) in (1..).zip(parts) {
                let text = format!("DEVNAME={part}\nDEVTYPE=partition\nPARTN={at}\nPARTNAME={label}\n");
                self.write(&format!("{folder}/{part}/uevent"), &text);
                self.link(&format!("{folder}/{part}"), part);
            }
            self.write(&format!("dev/{disk}"), "");
            self.table(disk, parts);
        }

        /// A real partition table on the disk.
        fn table(&self, disk: &str, parts: &[(&str, &str, u8)]) {
            let node = self.path("dev").join(disk);
            let mut file = fs::OpenOptions::new().read(true).write(true).open(node).unwrap();
            file.set_len(4 << 20).unwrap();
            gpt::mbr::ProtectiveMBR::with_lb_size((4 << 11) - 1).overwrite_lba0(&mut file).unwrap();
            let new = GptConfig::new().writable(true).logical_block_size(LogicalBlockSize::Lb512);
            let mut table = new.create_from_device(file, None).unwrap();
            for (at, (_, label, _)) in (1..).zip(parts) {
                let first = 1024 * u64::from(at);
                table.add_partition_at(label, at, first, 512, gpt::partition_types::LINUX_FS, 0).unwrap();
            }
            let mut all = table.take_partitions();
            for (at, (_, _, id)) in (1..).zip(parts) {
                all.get_mut(&at).unwrap().part_guid = uuid(*id).parse().unwrap();
            }
            table.update_partitions(all).unwrap();
            table.write().unwrap();
        }

        fn link(&self, to: &str, name: &str) {
            let link = self.path("class/block").join(name);
            let _ = fs::remove_file(&link);
            std::os::unix::fs::symlink(self.path(to), link).unwrap();
        }

        /// Pulls a disk out.
        fn pull(&self, at: &str, disk: &str) {
            fs::remove_dir_all(self.path(&format!("{at}/{disk}"))).unwrap();
        }

        fn started_from(&self, id: &str) {
            let text: Vec<u8> = format!("{id}\0").encode_utf16().flat_map(u16::to_le_bytes).collect();
            fs::write(self.path("efi").join(STARTED_FROM), [&[6, 0, 0, 0], &text[..]].concat()).unwrap();
        }

        fn see<T>(&self, look: impl FnOnce(&Sight<'_>) -> io::Result<T>) -> T {
            let [block, efi, dev] = ["class/block", "efi", "dev"].map(|path| self.path(path));
            look(&Sight { block: &block, efi: &efi, dev: &dev }).unwrap()
        }

        fn find(&self, device: &CacheDevice) -> Option<String> {
            self.see(|sight| sight.find(device)).map(|partition| partition.name)
        }
    }

    #[test]
    fn a_stick_of_that_name_is_not_the_cache() {
        let sys = Sys::new();
        sys.disk(STICK, "sda", 3, &[("sda1", PARTITION, 1)]);
        assert_eq!(sys.find(&CacheDevice::Internal), None);
        assert_eq!(sys.find(&CacheDevice::BootDisk), None);
        sys.disk(&format!("{PCI}/nvme/nvme0"), "nvme0n1", 1, &[("nvme0n1p2", PARTITION, 2)]);
        assert_eq!(sys.find(&CacheDevice::Internal).as_deref(), Some("nvme0n1p2"));
        // IT may name a stick.
        assert_eq!(sys.find(&CacheDevice::Partuuid(uuid(1))).as_deref(), Some("sda1"));
        assert_eq!(sys.find(&CacheDevice::Partuuid(uuid(3))), None);
    }

    #[test]
    fn the_name_counts_to_the_last_letter_and_so_it_does_for_an_id() {
        let sys = Sys::new();
        sys.disk(PCI, "sda", 1, &[("sda1", "waystation-cache-old", 1), ("sda2", "data", 2)]);
        assert_eq!(sys.find(&CacheDevice::Internal), None);
        assert_eq!(sys.find(&CacheDevice::Partuuid(uuid(2))), None, "another partition would be destroyed");
    }

    #[test]
    fn what_can_be_carried_away_is_not_built_in() {
        for at in [
            "devices/pci0000:00/0000:00:1e.0/fw0/fw0.0/host7/block",
            "devices/platform/host9/session1/target9:0:0/9:0:0:0/block",
            "devices/virtual/block",
        ] {
            let sys = Sys::new();
            sys.disk(at, "sdb", 2, &[("sdb1", PARTITION, 1)]);
            assert_eq!(sys.find(&CacheDevice::Internal), None, "{at}");
        }
        let sys = Sys::new();
        sys.disk(&format!("{PCI}/mmc_host/mmc0/mmc0:1/block"), "mmcblk0", 2, &[("mmcblk0p1", PARTITION, 1)]);
        assert_eq!(sys.find(&CacheDevice::Internal).as_deref(), Some("mmcblk0p1"));
        sys.write(&format!("{PCI}/mmc_host/mmc0/mmc0:1/type"), "SD\n");
        assert_eq!(sys.find(&CacheDevice::Internal), None, "a card in a slot");
        let sys = Sys::new();
        sys.disk(&format!("{PCI}/nvme/nvme1"), "nvme1n1", 2, &[("nvme1n1p1", PARTITION, 1)]);
        assert!(sys.find(&CacheDevice::Internal).is_some());
        sys.write(&format!("{PCI}/removable"), "removable\n");
        assert_eq!(sys.find(&CacheDevice::Internal), None, "behind Thunderbolt");
        let sys = Sys::new();
        sys.disk(PCI, "sda", 2, &[("sda1", PARTITION, 1)]);
        sys.write(&format!("{PCI}/sda/removable"), "1\n");
        assert_eq!(sys.find(&CacheDevice::Internal), None, "a bay whose disk comes out");
    }

    #[test]
    fn the_boot_disk_is_the_one_that_the_firmware_started_from() {
        let sys = Sys::new();
        let other = STICK.replace("2-1", "2-2");
        sys.disk(&other, "sda", 4, &[("sda1", "waystation-esp", 0xe2), ("sda2", PARTITION, 0xc2)]);
        sys.disk(STICK, "sdb", 5, &[("sdb1", "waystation-esp", 0xe1), ("sdb2", PARTITION, 0xc1)]);
        assert_eq!(sys.find(&CacheDevice::BootDisk), None, "started over the network");
        sys.started_from(&uuid(0xe1).to_uppercase());
        assert_eq!(sys.find(&CacheDevice::BootDisk).as_deref(), Some("sdb2"));
        // Two sticks with one id: one of them is not ours.
        sys.disk(&other, "sda", 4, &[("sda1", "waystation-esp", 0xe1), ("sda2", PARTITION, 0xc1)]);
        assert_eq!(sys.find(&CacheDevice::BootDisk), None);
    }

    #[test]
    fn what_appears_after_the_start_is_never_taken() {
        let sys = Sys::new();
        let note = sys.path("note");
        let find = |sys: &Sys| sys.see(|sight| sight.find_once(&CacheDevice::Internal, &note));
        let still = |sys: &Sys| sys.see(|sight| sight.still_there(&note));
        assert_eq!(find(&sys), None);
        sys.disk(PCI, "sda", 2, &[("sda1", PARTITION, 1)]);
        assert_eq!((find(&sys), still(&sys)), (None, None), "also a manager that starts again");

        let sys = Sys::new();
        let note = sys.path("note");
        let find = |sys: &Sys| sys.see(|sight| sight.find_once(&CacheDevice::Internal, &note));
        let still = |sys: &Sys| sys.see(|sight| sight.still_there(&note));
        sys.disk(PCI, "sda", 2, &[("sda1", PARTITION, 1)]);
        let found = find(&sys).unwrap();
        assert_eq!(found.node(), Path::new("/dev/sda1"));
        assert_eq!(still(&sys), Some(found.clone()));
        sys.pull(PCI, "sda");
        assert_eq!((find(&sys), still(&sys)), (None, None));
        // Another disk in its place has its name, but not its number.
        sys.disk(PCI, "sda", 3, &[("sda1", PARTITION, 1)]);
        assert_eq!((find(&sys), still(&sys)), (None, None));
    }

    #[test]
    fn before_it_was_looked_for_there_is_no_answer() {
        let sys = Sys::new();
        assert!(sys.see(|sight| Ok(sight.still_there(&sys.path("note")))).is_err());
    }

    proptest! {
        #[test]
        fn tables_are_read_whatever_they_hold(first: u64, size: u32, number: u32, sector in 0u64..5000) {
            let mut disk = tempfile::tempfile().unwrap();
            let mut bytes = vec![0; 8192];
            let at = usize::try_from(sector).unwrap();
            bytes[at..at + 8].copy_from_slice(b"EFI PART");
            bytes[at + 72..at + 80].copy_from_slice(&first.to_le_bytes());
            bytes[at + 84..at + 88].copy_from_slice(&size.to_le_bytes());
            std::io::Write::write_all(&mut disk, &bytes).unwrap();
            for number in [number, 0, 1, u32::MAX] {
                let _ = id_in_table(&disk, sector, number);
            }
        }

        #[test]
        fn variables_are_read_whatever_they_hold(bytes in proptest::collection::vec(any::<u8>(), 0..64)) {
            let _ = text_of_variable(&bytes);
        }
    }
}
