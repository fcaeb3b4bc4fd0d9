//! The EFI system partition: FAT32 with the one file that firmware looks for on removable media.

use fatfs::{Date, DateTime, FatType, FileSystem, FormatVolumeOptions, FsOptions, Time, TimeProvider};
use std::io::{self, Cursor, Write as _};

/// Bytes in a MiB.
pub const MIB: u64 = 1 << 20;
/// Below this many clusters a FAT counts as FAT16, whatever its label says.
const FAT32_CLUSTERS: u64 = 65_525;
/// Room beside the file for FATs and directories, and for what firmware likes to write there.
const SLACK: u64 = 8 * MIB;
/// Smallest partition made.
const LEAST: u64 = 48 * MIB;

/// Stamps the same time on everything, so that the same input gives the same bytes.
#[derive(Debug)]
struct Epoch;

impl TimeProvider for Epoch {
    fn get_current_date(&self) -> Date {
        Date { year: 1980, month: 1, day: 1 }
    }

    fn get_current_date_time(&self) -> DateTime {
        DateTime { date: self.get_current_date(), time: Time { hour: 0, min: 0, sec: 0, millis: 0 } }
    }
}

static EPOCH: Epoch = Epoch;

/// Makes the partition's bytes; their number is a whole number of MiB.
///
/// # Errors
/// When the file is too large for FAT.
pub fn build(bootloader: &[u8], volume_id: u32) -> io::Result<Vec<u8>> {
    let size = (bootloader.len() as u64 + SLACK).next_multiple_of(MIB).max(LEAST);
    let sectors = u32::try_from(size / 512)
        .map_err(|_| io::Error::new(io::ErrorKind::InvalidInput, "larger than FAT allows"))?;
    let options = FormatVolumeOptions::new()
        .fat_type(FatType::Fat32)
        .bytes_per_cluster(cluster_size(size))
        .total_sectors(sectors)
        .volume_id(volume_id)
        .volume_label(*b"WAYSTATION ");
    let mut bytes = vec![0; size as usize];
    fatfs::format_volume(Cursor::new(&mut bytes[..]), options)?;
    let options = FsOptions::new().time_provider(&EPOCH).update_accessed_date(false);
    let fs = FileSystem::new(Cursor::new(&mut bytes[..]), options)?;
    {
        let folder = fs.root_dir().create_dir("EFI")?.create_dir("BOOT")?;
        let mut file = folder.create_file("BOOTX64.EFI")?;
        file.write_all(bootloader)?;
        file.flush()?;
    }
    fs.unmount()?;
    Ok(bytes)
}

/// The largest cluster with which the partition still is FAT32: fewer clusters load faster.
fn cluster_size(size: u64) -> u32 {
    // FATs and reserved sectors take less than a fiftieth of a partition even with the smallest clusters.
    let data = size - size / 50;
    [4096, 2048, 1024].into_iter().find(|cluster| data / u64::from(*cluster) > FAT32_CLUSTERS).unwrap_or(512)
}
