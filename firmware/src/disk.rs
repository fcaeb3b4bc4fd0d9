//! The image of a USB stick: GPT with the EFI system partition, and a cache partition where one is wanted.

use crate::esp::{self, MIB};
use gpt::disk::LogicalBlockSize;
use gpt::mbr::ProtectiveMBR;
use gpt::partition_types::{EFI, LINUX_FS};
use sha2::{Digest as _, Sha256};
use std::fs::File;
use std::io::{self, Seek as _, SeekFrom, Write as _};
use uuid::Uuid;

/// GPT name of the partition that `init` takes for its encrypted cache.
pub const CACHE_PARTITION: &str = "waystation-cache";
/// GPT name of the EFI system partition.
pub const ESP_PARTITION: &str = "waystation-esp";
/// Sector size of the image in bytes.
const SECTOR: u64 = 512;
/// Pieces of zeros this long are left as holes.
const BLOCK: usize = 64 << 10;

/// Why no image was written.
#[derive(Debug, thiserror::Error)]
pub enum DiskError {
    /// The file system could not be made.
    #[error("the EFI system partition could not be made: {0}")]
    Esp(#[source] io::Error),
    /// The partition table could not be made.
    #[error("the partition table could not be written: {0}")]
    Table(#[source] io::Error),
    /// The image file could not be written.
    #[error("the image could not be written: {0}")]
    Write(#[source] io::Error),
}

/// Writes the image into an empty file; zeros become holes. Ids are derived from the boot file, so the same file gives
/// the same image.
///
/// # Errors
/// When the file cannot be written, for lack of space above all.
pub fn write(file: &mut File, bootloader: &[u8], cache_mib: u64) -> Result<(), DiskError> {
    let seed: [u8; 32] = Sha256::digest(bootloader).into();
    let volume_id = u32::from_le_bytes([seed[0], seed[1], seed[2], seed[3]]);
    let esp = esp::build(bootloader, volume_id, (MIB / SECTOR) as u32).map_err(DiskError::Esp)?;
    let esp_mib = esp.len() as u64 / MIB;
    // One MiB each before and behind for the tables.
    let size = (1 + esp_mib + cache_mib + 1) * MIB;
    file.set_len(size).map_err(DiskError::Write)?;
    write_table(file, &seed, size, esp_mib, cache_mib)?;
    write_sparse(file, MIB, &esp).map_err(DiskError::Write)
}

fn write_table(
    file: &mut File,
    seed: &[u8; 32],
    size: u64,
    esp_mib: u64,
    cache_mib: u64,
) -> Result<(), DiskError> {
    let whole = u32::try_from(size / SECTOR - 1).unwrap_or(u32::MAX);
    let mut mbr = ProtectiveMBR::with_lb_size(whole);
    mbr.set_bootcode(bios_code());
    mbr.overwrite_lba0(file).map_err(|error| DiskError::Table(io::Error::other(error)))?;
    let mut table = || -> Result<(), gpt::GptError> {
        let mut disk = gpt::GptConfig::new()
            .writable(true)
            .logical_block_size(LogicalBlockSize::Lb512)
            .create_from_device(&mut *file, Some(id(seed, "disk")))?;
        let per_mib = MIB / SECTOR;
        disk.add_partition_at(ESP_PARTITION, 1, per_mib, esp_mib * per_mib, EFI, 0)?;
        if cache_mib > 0 {
            disk.add_partition_at(
                CACHE_PARTITION,
                2,
                (1 + esp_mib) * per_mib,
                cache_mib * per_mib,
                LINUX_FS,
                0,
            )?;
        }
        let mut partitions = disk.take_partitions();
        for partition in partitions.values_mut().filter(|partition| partition.is_used()) {
            partition.part_guid = id(seed, &partition.name);
        }
        disk.update_partitions(partitions)?;
        disk.write()?;
        Ok(())
    };
    table().map_err(|error| DiskError::Table(io::Error::other(error)))
}

/// Code for the first sector: a PC that boots it by BIOS says what to do instead of showing nothing.
fn bios_code() -> [u8; 440] {
    const TEXT: &[u8] =
        b"\r\nThis Waystation stick boots by UEFI. Choose its UEFI entry in the boot menu,\r\n\
        or switch the firmware from BIOS (legacy, CSM) to UEFI.\r\n\0";
    #[rustfmt::skip]
    const CODE: [u8; 26] = [
        0xfc,                   // cld
        0x31, 0xc0,             // xor ax, ax
        0x8e, 0xd8,             // mov ds, ax
        0xbe, 0x1a, 0x7c,       // mov si, 0x7c00 + 26: the text
        0xac,                   // next: lodsb
        0x84, 0xc0,             // test al, al
        0x74, 0x09,             // jz stop
        0xb4, 0x0e,             // mov ah, 0x0e: write a character
        0xbb, 0x07, 0x00,       // mov bx, 7
        0xcd, 0x10,             // int 0x10
        0xeb, 0xf2,             // jmp next
        0x90,                   // nop
        0xf4,                   // stop: hlt
        0xeb, 0xfd,             // jmp stop
    ];
    let mut code = [0; 440];
    code[..CODE.len()].copy_from_slice(&CODE);
    code[CODE.len()..CODE.len() + TEXT.len()].copy_from_slice(TEXT);
    code
}

/// A GUID that depends on the boot file and the thing's name only (version 8: custom).
fn id(seed: &[u8; 32], name: &str) -> Uuid {
    let digest: [u8; 32] = Sha256::new().chain_update(seed).chain_update(name).finalize().into();
    let mut bytes = [0; 16];
    bytes.copy_from_slice(&digest[..16]);
    uuid::Builder::from_custom_bytes(bytes).into_uuid()
}

fn write_sparse(file: &mut File, at: u64, bytes: &[u8]) -> io::Result<()> {
    for (index, block) in bytes.chunks(BLOCK).enumerate() {
        if block.iter().any(|byte| *byte != 0) {
            file.seek(SeekFrom::Start(at + (index * BLOCK) as u64))?;
            file.write_all(block)?;
        }
    }
    file.sync_all()
}
