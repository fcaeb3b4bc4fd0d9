//! The EFI system partition: FAT32 with the one file that firmware looks for on removable media.
//!
//! Layout after Microsoft's FAT specification 1.03. Written by hand because the known crates either take the clock and
//! host into the image or write long names for `.` and `..`, which file system checkers take for damage.

use std::io;

/// Bytes in a MiB.
pub const MIB: u64 = 1 << 20;
const SECTOR: usize = 512;
/// Below this many clusters a FAT counts as FAT16, whatever its label says.
const FAT32_CLUSTERS: u64 = 65_525;
/// Room beside the file for FATs and directories, and for what firmware likes to write there.
const SLACK: u64 = 8 * MIB;
/// Smallest partition made.
const LEAST: u64 = 48 * MIB;
/// Sectors before the first FAT; boot sector, file system information, and their copies.
const RESERVED: u32 = 32;
const FATS: u32 = 2;
/// Mark of a chain's last cluster.
const LAST: u32 = 0x0fff_ffff;

/// Clusters of the three folders; the file follows.
const ROOT: u32 = 2;
const EFI: u32 = 3;
const BOOT: u32 = 4;
const FILE: u32 = 5;

const ATTRIBUTE_LABEL: u8 = 0x08;
const ATTRIBUTE_FOLDER: u8 = 0x10;
const ATTRIBUTE_FILE: u8 = 0x20;
const LABEL: &[u8; 11] = b"WAYSTATION ";

/// Sizes that follow from the file's.
#[derive(Debug, Clone, Copy)]
struct Geometry {
    /// Of the partition.
    sectors: u32,
    /// In a cluster.
    cluster_sectors: u32,
    /// Of one FAT.
    fat_sectors: u32,
    /// In the data area.
    clusters: u32,
}

impl Geometry {
    /// For a file of this length, and the clusters that it takes.
    fn holding(len: u64) -> io::Result<(Self, u32)> {
        let too_large = || io::Error::new(io::ErrorKind::InvalidInput, "a file on FAT is smaller than 4 GiB");
        let geometry = Self::new((len + SLACK).next_multiple_of(MIB).max(LEAST))?;
        let clusters =
            u32::try_from(len.div_ceil(geometry.cluster_bytes() as u64)).map_err(|_| too_large())?;
        if len > u64::from(u32::MAX) || clusters > geometry.clusters - (FILE - ROOT) {
            return Err(too_large());
        }
        Ok((geometry, clusters))
    }

    /// Clusters as large as FAT32 allows for the size: fewer of them load faster.
    fn new(size: u64) -> io::Result<Self> {
        let too_large = |_| io::Error::new(io::ErrorKind::InvalidInput, "larger than FAT32 allows");
        let sectors = u32::try_from(size / SECTOR as u64).map_err(too_large)?;
        [8, 4, 2, 1]
            .into_iter()
            .map(|cluster_sectors| {
                // Each cluster takes its own sectors and four bytes in each FAT.
                let room = u64::from(sectors - RESERVED) * SECTOR as u64;
                let most = room / (u64::from(cluster_sectors) * SECTOR as u64 + u64::from(FATS) * 4);
                let fat_sectors = ((most + 2) * 4).div_ceil(SECTOR as u64) as u32;
                let clusters = (sectors - RESERVED - FATS * fat_sectors) / cluster_sectors;
                Self { sectors, cluster_sectors, fat_sectors, clusters }
            })
            .find(|geometry| u64::from(geometry.clusters) >= FAT32_CLUSTERS)
            .ok_or_else(|| io::Error::new(io::ErrorKind::InvalidInput, "smaller than FAT32 allows"))
    }

    fn cluster_bytes(&self) -> usize {
        self.cluster_sectors as usize * SECTOR
    }

    /// Offset of a cluster in the partition.
    fn offset(&self, cluster: u32) -> usize {
        let sector = RESERVED + FATS * self.fat_sectors + (cluster - ROOT) * self.cluster_sectors;
        sector as usize * SECTOR
    }
}

/// Makes the partition's bytes; their number is a whole number of MiB. `start` is the partition's first sector on the
/// disk.
///
/// # Errors
/// When the file is too large for FAT.
pub fn build(bootloader: &[u8], volume_id: u32, start: u32) -> io::Result<Vec<u8>> {
    let (geometry, file_clusters) = Geometry::holding(bootloader.len() as u64)?;
    let file_size = bootloader.len() as u32;
    let mut bytes = vec![0; geometry.sectors as usize * SECTOR];
    for copy in [0, 6] {
        boot_sector(&mut bytes[copy * SECTOR..], &geometry, volume_id, start);
        let used = FILE - ROOT + file_clusters;
        information(&mut bytes[(copy + 1) * SECTOR..], geometry.clusters - used, ROOT + used);
    }
    for fat in 0..FATS {
        let at = (RESERVED + fat * geometry.fat_sectors) as usize * SECTOR;
        table(&mut bytes[at..], file_clusters);
    }
    let mut folder = |cluster: u32, entries: &[[u8; 32]]| {
        let at = geometry.offset(cluster);
        bytes[at..at + 32 * entries.len()].copy_from_slice(entries.as_flattened());
    };
    folder(ROOT, &[entry(LABEL, ATTRIBUTE_LABEL, 0, 0), entry(b"EFI        ", ATTRIBUTE_FOLDER, EFI, 0)]);
    // The root's number is written as 0 in the `..` of what lies in it.
    let dots = |own: u32, parent: u32| {
        [entry(b".          ", ATTRIBUTE_FOLDER, own, 0), entry(b"..         ", ATTRIBUTE_FOLDER, parent, 0)]
    };
    let [own, parent] = dots(EFI, 0);
    folder(EFI, &[own, parent, entry(b"BOOT       ", ATTRIBUTE_FOLDER, BOOT, 0)]);
    let [own, parent] = dots(BOOT, EFI);
    let first = if file_size == 0 { 0 } else { FILE };
    folder(BOOT, &[own, parent, entry(b"BOOTX64 EFI", ATTRIBUTE_FILE, first, file_size)]);
    let at = geometry.offset(FILE);
    bytes[at..at + bootloader.len()].copy_from_slice(bootloader);
    Ok(bytes)
}

fn boot_sector(sector: &mut [u8], geometry: &Geometry, volume_id: u32, start: u32) {
    let mut put = |at: usize, value: &[u8]| sector[at..at + value.len()].copy_from_slice(value);
    put(0, &[0xeb, 0x58, 0x90]); // jump over the parameters
    put(3, b"MSWIN4.1");
    put(11, &(SECTOR as u16).to_le_bytes());
    put(13, &[geometry.cluster_sectors as u8]);
    put(14, &(RESERVED as u16).to_le_bytes());
    put(16, &[FATS as u8]);
    put(21, &[0xf8]); // a fixed disk
    put(24, &63u16.to_le_bytes()); // sectors a track and heads: what BIOSes made of any disk
    put(26, &255u16.to_le_bytes());
    put(28, &start.to_le_bytes());
    put(32, &geometry.sectors.to_le_bytes());
    put(36, &geometry.fat_sectors.to_le_bytes());
    put(44, &ROOT.to_le_bytes());
    put(48, &1u16.to_le_bytes()); // sector of the information
    put(50, &6u16.to_le_bytes()); // and of the copies
    put(64, &[0x80, 0, 0x29]);
    put(67, &volume_id.to_le_bytes());
    put(71, LABEL);
    put(82, b"FAT32   ");
    // A BIOS that jumps here anyway stops.
    put(90, &[0xf4, 0xeb, 0xfd]);
    put(510, &[0x55, 0xaa]);
}

fn information(sector: &mut [u8], free: u32, next: u32) {
    let mut put = |at: usize, value: &[u8]| sector[at..at + value.len()].copy_from_slice(value);
    put(0, b"RRaA");
    put(484, b"rrAa");
    put(488, &free.to_le_bytes());
    put(492, &next.to_le_bytes());
    put(510, &[0x55, 0xaa]);
}

fn table(fat: &mut [u8], file_clusters: u32) {
    let mut put = |cluster: u32, value: u32| {
        fat[cluster as usize * 4..][..4].copy_from_slice(&value.to_le_bytes());
    };
    put(0, 0x0fff_fff8); // the medium again
    put(1, LAST); // unmounted cleanly
    for folder in [ROOT, EFI, BOOT] {
        put(folder, LAST);
    }
    for index in 0..file_clusters {
        let cluster = FILE + index;
        put(cluster, if index + 1 == file_clusters { LAST } else { cluster + 1 });
    }
}

/// A directory entry of 1980-01-01, FAT's first day.
fn entry(name: &[u8; 11], attribute: u8, cluster: u32, size: u32) -> [u8; 32] {
    const FIRST_DAY: [u8; 2] = (1u16 << 5 | 1).to_le_bytes();
    let mut entry = [0; 32];
    entry[..11].copy_from_slice(name);
    entry[11] = attribute;
    entry[16..18].copy_from_slice(&FIRST_DAY);
    entry[18..20].copy_from_slice(&FIRST_DAY);
    entry[20..22].copy_from_slice(&((cluster >> 16) as u16).to_le_bytes());
    entry[24..26].copy_from_slice(&FIRST_DAY);
    entry[26..28].copy_from_slice(&(cluster as u16).to_le_bytes());
    entry[28..32].copy_from_slice(&size.to_le_bytes());
    entry
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Every length either has room for its clusters or is refused; none is taken that does not fit.
    #[test]
    fn what_is_taken_has_room() {
        let around = (0..=4096u64).flat_map(|mib| [(mib * MIB).saturating_sub(1), mib * MIB, mib * MIB + 1]);
        let mut refused = Vec::new();
        for len in around {
            match Geometry::holding(len) {
                Ok((geometry, clusters)) => {
                    let end = geometry.offset(FILE + clusters) as u64;
                    assert!(end <= u64::from(geometry.sectors) * SECTOR as u64, "{len}");
                    let fat = u64::from(geometry.fat_sectors) * SECTOR as u64 / 4;
                    assert!(fat >= u64::from(geometry.clusters) + 2, "{len}");
                    assert!(u64::from(geometry.clusters) >= FAT32_CLUSTERS, "{len}");
                }
                Err(_) => refused.push(len),
            }
        }
        assert!(refused.first().is_some_and(|len| *len > 4000 * MIB), "{refused:?}");
        assert!(refused.contains(&(4096 * MIB)), "{refused:?}");
    }
}
