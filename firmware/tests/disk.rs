//! The stick's image, read back by Linux's own tools: sfdisk (fdisk), mtools and fsck.fat (dosfstools).

use firmware::disk::{self, DiskError};
use std::fs::File;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;

/// Where the EFI system partition begins.
const ESP: u64 = 1 << 20;

fn tool(name: &str) -> Command {
    let sbin = [format!("/usr/sbin/{name}"), format!("/sbin/{name}")]
        .into_iter()
        .find(|path| Path::new(path).exists());
    Command::new(sbin.unwrap_or_else(|| name.to_owned()))
}

fn output(command: &mut Command) -> String {
    let output = command.output().unwrap_or_else(|error| panic!("{command:?}: {error}"));
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(output.status.success(), "{command:?}: {text}{}", String::from_utf8_lossy(&output.stderr));
    text
}

fn write(folder: &Path, name: &str, bootloader: &[u8], cache_mib: u64) -> PathBuf {
    let path = folder.join(name);
    let mut file = File::options().read(true).write(true).create_new(true).open(&path).unwrap();
    disk::write(&mut file, bootloader, cache_mib).unwrap();
    path
}

/// Bytes without a pattern.
fn bootloader(len: u32) -> Vec<u8> {
    (0..len).map(|i| (i.wrapping_mul(2_654_435_761) >> 13) as u8).collect()
}

#[test]
fn sfdisk_reads_both_partitions() {
    let folder = tempfile::tempdir().unwrap();
    let image = write(folder.path(), "kiosk.img", &bootloader(3_000_000), 256);
    let dump = output(tool("sfdisk").arg("--dump").arg(&image));
    assert!(dump.contains("label: gpt"), "{dump}");
    let lines: Vec<&str> = dump.lines().filter(|line| line.contains("start=")).collect();
    assert_eq!(lines.len(), 2, "{dump}");
    assert!(lines[0].contains("type=C12A7328-F81F-11D2-BA4B-00A0C93EC93B"), "{dump}");
    assert!(lines[1].contains("name=\"waystation-cache\""), "{dump}");
    assert!(lines[1].contains("size=      524288"), "{dump}");
    // It complains here of a damaged backup table, of overlaps and of sectors out of range.
    let verdict = output(tool("sfdisk").arg("--verify").arg(&image));
    assert!(verdict.contains("No errors detected"), "{verdict}");
}

#[test]
fn the_firmware_finds_the_boot_file_in_a_sound_fat32() {
    let folder = tempfile::tempdir().unwrap();
    let boot = bootloader(5_000_001);
    let image = write(folder.path(), "kiosk.img", &boot, 0);
    let copy = folder.path().join("copy.efi");
    let drive = format!("{}@@{ESP}", image.display());
    output(Command::new("mcopy").args(["-i", &drive, "::/EFI/BOOT/BOOTX64.EFI"]).arg(&copy));
    assert_eq!(std::fs::read(&copy).unwrap(), boot);
    check_file_system(&image);
}

/// By fsck.fat, which complains of wrong counts of free clusters too.
fn check_file_system(image: &Path) {
    let bytes = std::fs::read(image).unwrap();
    assert_eq!(&bytes[ESP as usize + 82..][..8], b"FAT32   ");
    let partition = image.with_extension("esp");
    std::fs::write(&partition, &bytes[ESP as usize..bytes.len() - ESP as usize]).unwrap();
    output(tool("fsck.fat").arg("-n").arg(&partition));
}

#[test]
fn large_boot_files_have_larger_clusters() {
    let folder = tempfile::tempdir().unwrap();
    let boot = bootloader(62 << 20);
    let image = write(folder.path(), "kiosk.img", &boot, 0);
    let drive = format!("{}@@{ESP}", image.display());
    let info = output(Command::new("minfo").args(["-i", &drive, "::"]));
    assert!(info.contains("cluster size: 2 sectors"), "{info}");
    let copy = folder.path().join("copy.efi");
    output(Command::new("mcopy").args(["-i", &drive, "::/EFI/BOOT/BOOTX64.EFI"]).arg(&copy));
    assert!(std::fs::read(&copy).unwrap() == boot);
    check_file_system(&image);
}

#[test]
fn the_same_boot_file_gives_the_same_image_and_another_one_other_ids() {
    let folder = tempfile::tempdir().unwrap();
    let one = std::fs::read(write(folder.path(), "one", &bootloader(100_000), 64)).unwrap();
    let two = std::fs::read(write(folder.path(), "two", &bootloader(100_000), 64)).unwrap();
    assert!(one == two);
    let other = std::fs::read(write(folder.path(), "other", &bootloader(100_001), 64)).unwrap();
    // The disk's GUID in the primary header.
    assert_ne!(one[512 + 56..512 + 72], other[512 + 56..512 + 72]);
}

#[test]
fn empty_space_takes_no_blocks() {
    let folder = tempfile::tempdir().unwrap();
    let image = write(folder.path(), "kiosk.img", &bootloader(1_000_000), 4096);
    let metadata = std::fs::metadata(image).unwrap();
    assert!(metadata.len() > 4096 << 20);
    assert!(metadata.blocks() * 512 < 8 << 20, "{}", metadata.blocks());
}

#[test]
fn a_file_that_cannot_be_written_is_an_error() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("kiosk.img");
    std::fs::write(&path, b"").unwrap();
    let mut read_only = File::open(&path).unwrap();
    let error = disk::write(&mut read_only, b"boot", 0).unwrap_err();
    assert!(matches!(error, DiskError::Write(_)), "{error}");
}
