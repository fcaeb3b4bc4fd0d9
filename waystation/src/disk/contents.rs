//! What lies in a disk or in one of its partitions, by the marks that file systems and volume managers leave.

use crate::inspect::Input;

/// What is done with it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Use {
    /// Linux may have its root there.
    Root,
    /// The root is in something that the initial RAM disk must open first.
    Opened {
        /// What to write for it.
        root: &'static str,
        /// What the initial RAM disk needs for it.
        needs: &'static str,
    },
    /// Only Windows starts from it.
    Windows,
    /// No system that can be recognised.
    Other,
}

/// What was found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Contents {
    /// Its name, with an article before it.
    pub what: &'static str,
    pub used: Use,
    /// How large it says that it is.
    pub bytes: Option<u64>,
    /// As `root=UUID=` has it.
    pub uuid: Option<String>,
}

impl Contents {
    /// Is the root here, or in it?
    pub fn may_be_root(&self) -> bool {
        matches!(self.used, Use::Root | Use::Opened { .. })
    }
}

const LVM: Use = Use::Opened { root: "/dev/mapper/GROUP-VOLUME", needs: "lvm2" };
const LUKS: Use = Use::Opened { root: "/dev/mapper/NAME", needs: "cryptsetup" };
const RAID: Use = Use::Opened { root: "/dev/md0", needs: "mdadm" };

/// Marks of what has no size that is of interest here.
#[rustfmt::skip]
const MARKS: [(u64, &[u8], &str, Use); 15] = [
    (0, b"LUKS\xba\xbe", "a LUKS volume", LUKS),
    (512, b"LABELONE", "an LVM physical volume", LVM),
    (0, b"LABELONE", "an LVM physical volume", LVM),
    (1024, b"LABELONE", "an LVM physical volume", LVM),
    (1536, b"LABELONE", "an LVM physical volume", LVM),
    (4096, &[0xfc, 0x4e, 0x2b, 0xa9], "a member of a RAID", RAID),
    (0, &[0xfc, 0x4e, 0x2b, 0xa9], "a member of a RAID", RAID),
    (1024, &[0xe2, 0xe1, 0xf5, 0xe0], "an EROFS file system", Use::Root),
    (1024, &[0x10, 0x20, 0xf5, 0xf2], "an F2FS file system", Use::Root),
    (3, b"NTFS    ", "an NTFS file system", Use::Windows),
    (3, b"-FVE-FS-", "a BitLocker volume", Use::Windows),
    (3, b"ReFS", "a ReFS file system", Use::Windows),
    (3, b"EXFAT   ", "an exFAT file system", Use::Other),
    (4086, b"SWAPSPACE2", "swap space", Use::Other),
    (82, b"FAT32   ", "a FAT file system", Use::Other),
];

/// What lies at an offset.
pub(super) fn at(disk: &Input, start: u64) -> Option<Contents> {
    let is = |offset: u64, magic: &[u8]| disk.is(start + offset, magic);
    let found = |what, used, bytes, uuid| Some(Contents { what, used, bytes, uuid });
    if is(1080, &[0x53, 0xef]) {
        let u32 = |offset| disk.u32(start + 1024 + offset);
        // The upper half counts only in file systems that say so (INCOMPAT_64BIT).
        let upper = if u32(96) & 0x80 != 0 { u32(336) } else { 0 };
        let bytes = (u32(4) | upper << 32).saturating_mul(1 << (u32(24).min(22) + 10));
        return found("an ext file system", Use::Root, Some(bytes), uuid(disk, start + 1024 + 104));
    }
    if is(0, b"XFSB") {
        let size = disk.at(start + 4).map_or(0, u32::from_be_bytes);
        let blocks = disk.at(start + 8).map_or(0, u64::from_be_bytes);
        let bytes = blocks.saturating_mul(u64::from(size));
        return found("an XFS file system", Use::Root, Some(bytes), uuid(disk, start + 32));
    }
    if is(0x10040, b"_BHRfS_M") {
        let bytes = disk.u64(start + 0x10070);
        return found("a btrfs file system", Use::Root, Some(bytes), uuid(disk, start + 0x10020));
    }
    if is(0, b"hsqs") {
        return found("a squashfs file system", Use::Root, Some(disk.u64(start + 40)), None);
    }
    if let Some((_, _, what, used)) = MARKS.iter().find(|(offset, magic, ..)| is(*offset, magic)) {
        return found(what, *used, None, None);
    }
    if is(54, b"FAT12   ") || is(54, b"FAT16   ") {
        return found("a FAT file system", Use::Other, None, None);
    }
    None
}

/// Is the whole disk an ISO 9660 image, and how large?
pub(super) fn iso(disk: &Input) -> Option<u64> {
    disk.is(32769, b"CD001").then(|| disk.u32(32768 + 80) * disk.u16(32768 + 128))
}

/// Sixteen bytes as Linux writes those of a file system.
fn uuid(disk: &Input, offset: u64) -> Option<String> {
    disk.at::<16>(offset).map(|bytes| dashed(bytes.iter()))
}

/// A UUID's text from its bytes in the order in which they are written.
pub(super) fn dashed<'a>(bytes: impl Iterator<Item = &'a u8>) -> String {
    let mut text = String::new();
    for (index, byte) in bytes.enumerate() {
        if [4, 6, 8, 10].contains(&index) {
            text.push('-');
        }
        text += &format!("{byte:02x}");
    }
    text
}
