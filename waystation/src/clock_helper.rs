//! Does a guest set its clock after a resume? Looked for in its disk image, where that can be read.

use super::inspect::Input;
use ext4_view::{Ext4, Ext4Read};
use std::{error::Error, fs::File, os::unix::fs::FileExt as _};

/// What `guest/install.sh` makes: the unit is switched on.
const UNIT: &str = "/etc/systemd/system/multi-user.target.wants/waystation-clock.service";
/// A file system with this is a system's root.
const SYSTEM: &str = "/etc/passwd";

const SECTOR: u64 = 512;
/// Partitions that are looked at: a table has no more as a rule.
const PARTITIONS: u64 = 128;

/// What is to be said of a guest without a clock helper; `None` when it has one, or its file system cannot be read here.
pub(super) fn warning(disk: &Input) -> Option<String> {
    let systems: Vec<Ext4> = places(disk).filter_map(|at| open(disk, at)).collect();
    let has = |path| systems.iter().any(|system| system.exists(path).unwrap_or(false));
    (has(SYSTEM) && !has(UNIT)).then(|| {
        format!(
            "{} has no clock helper, so its clock will be wrong after each resume by as long as it was suspended; install \
             the helper from the folder guest of Waystation in it (guest/README.md)",
            disk.name
        )
    })
}

/// Where a file system may begin: at the start of the image, and at the start of each partition.
fn places(disk: &Input) -> impl Iterator<Item = u64> {
    let number = |at| disk.at(at).map_or(0, u32::from_le_bytes);
    let mut sectors = vec![0];
    if disk.is(SECTOR, b"EFI PART") {
        let table = disk.at(SECTOR + 72).map_or(0, u64::from_le_bytes);
        let size = u64::from(number(SECTOR + 84));
        let count = u64::from(number(SECTOR + 80)).min(PARTITIONS);
        let entry = |index: u64| table.checked_mul(SECTOR)?.checked_add(index * size + 32);
        sectors.extend((0..count).filter_map(|index| disk.at(entry(index)?).map(u64::from_le_bytes)));
    } else if disk.is(510, &[0x55, 0xaa]) {
        sectors.extend((0..4).map(|index| u64::from(number(446 + 16 * index + 8))));
    }
    sectors.sort_unstable();
    sectors.dedup();
    sectors.into_iter().filter_map(|sector| sector.checked_mul(SECTOR))
}

/// The ext file system at an offset, if one is there and this program can read it.
fn open(disk: &Input, at: u64) -> Option<Ext4> {
    if !disk.is(at.checked_add(1080)?, &[0x53, 0xef]) {
        return None;
    }
    Ext4::load(Box::new(Part { file: disk.file.try_clone().ok()?, at })).ok()
}

/// A part of a disk image.
struct Part {
    file: File,
    at: u64,
}

impl Ext4Read for Part {
    fn read(&mut self, start: u64, into: &mut [u8]) -> Result<(), Box<dyn Error + Send + Sync + 'static>> {
        let at = self.at.checked_add(start).ok_or("beyond the end")?;
        Ok(self.file.read_exact_at(into, at)?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::{
        fs,
        path::{Path, PathBuf},
        process::Command,
    };

    /// An ext4 file system of 4 MiB with what is in a folder.
    fn ext4(folder: &Path, name: &str, fill: impl FnOnce(&Path)) -> PathBuf {
        let (root, image) = (folder.join(format!("{name}-root")), folder.join(name));
        fs::create_dir_all(root.join("etc")).unwrap();
        fs::write(root.join("etc/passwd"), "root:x:0:0::/root:/bin/sh\n").unwrap();
        fill(&root);
        let mut mke2fs = Command::new("/sbin/mke2fs");
        mke2fs.args(["-q", "-t", "ext4", "-d"]).arg(&root).arg(&image).arg("4M");
        assert!(mke2fs.status().unwrap().success());
        image
    }

    fn install(root: &Path) {
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("../guest/install.sh");
        assert!(Command::new(script).arg(root).status().unwrap().success());
    }

    fn said(image: &Path) -> Option<String> {
        let mut disk = crate::inspect::open(image, "disk image").unwrap();
        disk.name = "disk image x".into();
        warning(&disk)
    }

    /// The file system as the second partition of a disk, under a table of either kind.
    fn disk(folder: &Path, system: &Path, label: &str) -> PathBuf {
        use std::io::Write as _;
        let image = folder.join(format!("{label}-{}", system.file_name().unwrap().display()));
        let file = File::create(&image).unwrap();
        file.set_len(8 << 20).unwrap();
        let mut sfdisk = Command::new("/sbin/sfdisk")
            .args(["--quiet", "--no-reread", "--no-tell-kernel"])
            .arg(&image)
            .stdin(std::process::Stdio::piped())
            .spawn()
            .unwrap();
        let table = format!("label: {label}\nstart=2048, size=2048\nstart=4096, size=8192\n");
        sfdisk.stdin.take().unwrap().write_all(table.as_bytes()).unwrap();
        assert!(sfdisk.wait().unwrap().success());
        file.write_all_at(&fs::read(system).unwrap(), 4096 * SECTOR).unwrap();
        image
    }

    #[test]
    fn a_guest_without_a_helper_is_named() {
        let folder = tempfile::tempdir().unwrap();
        let folder = folder.path();
        let (with, without) = (ext4(folder, "with", install), ext4(folder, "without", |_| ()));
        assert_eq!(said(&with), None);
        let words = said(&without).unwrap();
        assert!(
            words.starts_with("disk image x has no clock helper") && words.contains("install"),
            "{words}"
        );
        for label in ["gpt", "dos"] {
            assert_eq!(said(&disk(folder, &with, label)), None, "{label}");
            assert_eq!(said(&disk(folder, &without, label)), Some(words.clone()), "{label}");
        }
        // Switched off again.
        let off = ext4(folder, "off", |root| {
            install(root);
            fs::remove_file(root.join(UNIT.trim_start_matches('/'))).unwrap();
        });
        assert_eq!(said(&off), Some(words));
    }

    #[test]
    fn what_cannot_be_read_is_not_judged() {
        let folder = tempfile::tempdir().unwrap();
        let data = ext4(folder.path(), "data", |root| fs::remove_file(root.join("etc/passwd")).unwrap());
        assert_eq!(said(&data), None, "no system");
        let noise = folder.path().join("noise");
        let mut bytes = vec![0xa5; 1 << 20];
        bytes[1080..1082].copy_from_slice(&[0x53, 0xef]);
        fs::write(&noise, &bytes).unwrap();
        assert_eq!(said(&noise), None);
        bytes[510..520].copy_from_slice(b"\x55\xaaEFI PART");
        fs::write(&noise, &bytes).unwrap();
        assert_eq!(said(&noise), None);
    }
}
