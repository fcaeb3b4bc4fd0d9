//! Is a file what it is given for? Looked at before anything is sent, so that a mistake leaves nothing behind.

use super::{AdminError, Result, initrd};
use std::{fs::File, io, os::unix::fs::FileExt as _, path::Path};
use zeroize::Zeroizing;

const SECTOR: u64 = 512;
/// The largest disk whose keyring leaves a version record can name, with room to spare.
const MAX_DISK: u64 = 2 << 40;
/// The largest kernel or initial RAM disk.
const MAX_BOOT: u64 = 1 << 30;

/// A file that was looked at.
pub(super) struct Input {
    pub file: File,
    pub bytes: u64,
    /// What it is and where it lies, for errors.
    pub name: String,
}

fn open(path: &Path, what: &str) -> Result<Input> {
    let bad = |why: String| AdminError::input(format!("{what} {}: {why}", path.display()));
    let file = File::open(path).map_err(|e| bad(format!("{e}; check its name")))?;
    let meta = file.metadata().map_err(|e| bad(e.to_string()))?;
    if !meta.is_file() {
        return Err(bad("it is not a file; give an image file".into()));
    }
    if meta.len() == 0 {
        return Err(bad("it is empty; make it again".into()));
    }
    Ok(Input { file, bytes: meta.len(), name: format!("{what} {}", path.display()) })
}

impl Input {
    /// Bytes at an offset; `None` where the file has ended.
    pub fn at<const N: usize>(&self, offset: u64) -> Option<[u8; N]> {
        let mut bytes = [0; N];
        self.file.read_exact_at(&mut bytes, offset).ok().map(|()| bytes)
    }

    /// Are these the bytes at an offset?
    pub fn is(&self, offset: u64, magic: &[u8]) -> bool {
        let mut bytes = vec![0; magic.len()];
        self.file.read_exact_at(&mut bytes, offset).is_ok_and(|()| bytes == magic)
    }

    fn u16(&self, offset: u64) -> u64 {
        self.at(offset).map_or(0, |bytes| u64::from(u16::from_le_bytes(bytes)))
    }

    fn u32(&self, offset: u64) -> u64 {
        self.at(offset).map_or(0, |bytes| u64::from(u32::from_le_bytes(bytes)))
    }

    fn u64(&self, offset: u64) -> u64 {
        self.at(offset).map_or(0, u64::from_le_bytes)
    }

    /// `len` bytes from `offset`.
    pub fn read(&self, offset: u64, len: usize) -> io::Result<Zeroizing<Vec<u8>>> {
        let mut bytes = Zeroizing::new(vec![0; len]);
        self.file.read_exact_at(&mut bytes, offset).map_err(|e| {
            let why = match e.kind() {
                io::ErrorKind::UnexpectedEof => "it has become shorter since it was looked at".to_owned(),
                _ => e.to_string(),
            };
            let text =
                format!("{}: {why}; see that the file is whole, then give the command again", self.name);
            io::Error::new(e.kind(), text)
        })?;
        Ok(bytes)
    }
}

/// What a raw disk holds, and how large it says that it is.
struct Contents {
    what: &'static str,
    bytes: u64,
}

fn contents(disk: &Input) -> Option<Contents> {
    if disk.is(SECTOR, b"EFI PART") {
        let last = disk.u64(SECTOR + 32);
        return Some(Contents {
            what: "partition table (GPT)",
            bytes: last.saturating_add(1).saturating_mul(SECTOR),
        });
    }
    if disk.is(1080, &[0x53, 0xef]) {
        let blocks = disk.u32(1024 + 4);
        // The upper half counts only in file systems that say so (INCOMPAT_64BIT).
        let upper = if disk.u32(1024 + 96) & 0x80 != 0 { disk.u32(1024 + 336) } else { 0 };
        let shift = disk.u32(1024 + 24).min(22) + 10;
        return Some(Contents {
            what: "ext file system",
            bytes: (blocks | upper << 32).saturating_mul(1 << shift),
        });
    }
    if disk.is(0, b"XFSB") {
        let size = disk.at(4).map_or(0, u32::from_be_bytes);
        let blocks = disk.at(8).map_or(0, u64::from_be_bytes);
        return Some(Contents { what: "XFS file system", bytes: blocks.saturating_mul(u64::from(size)) });
    }
    if disk.is(0x10040, b"_BHRfS_M") {
        return Some(Contents { what: "btrfs file system", bytes: disk.u64(0x10070) });
    }
    if disk.is(0, b"hsqs") {
        return Some(Contents { what: "squashfs file system", bytes: disk.u64(40) });
    }
    if disk.is(32769, b"CD001") {
        return Some(Contents {
            what: "ISO 9660 file system",
            bytes: disk.u32(32768 + 80) * disk.u16(32768 + 128),
        });
    }
    if disk.is(510, &[0x55, 0xaa]) {
        let flags = (0..4).map(|i| disk.at(446 + 16 * i).unwrap_or([1]));
        // Where other flags stand there is no table but code, as in a file system that begins with a boot sector.
        let table = flags.into_iter().all(|[flag]| flag & 0x7f == 0);
        let ends = (0..4).map(|i| disk.u32(446 + 16 * i + 8) + disk.u32(446 + 16 * i + 12));
        let last = if table { ends.max().unwrap_or(0) } else { 0 };
        return Some(Contents { what: "partition table (MBR)", bytes: last * SECTOR });
    }
    None
}

/// A raw disk image with something on it that this program knows.
pub(super) fn disk(path: &Path, force_raw: bool) -> Result<Input> {
    let disk = open(path, "disk image")?;
    let bad = |why: String| AdminError::input(format!("disk image {}: {why}", path.display()));
    for (magic, format) in
        [(&b"QFI\xfb"[..], "qcow2"), (b"KDMV", "vmdk"), (b"vhdxfile", "vhdx"), (b"<<< Oracle", "vdi")]
    {
        if disk.is(0, magic) {
            let text =
                format!("it is a {format} image, not a raw one; convert it with qemu-img convert -O raw");
            return Err(bad(text));
        }
    }
    if !disk.bytes.is_multiple_of(SECTOR) {
        let text =
            format!("its {} bytes are not whole sectors of 512, so it is cut off; copy it again", disk.bytes);
        return Err(bad(text));
    }
    if disk.bytes > MAX_DISK {
        return Err(bad(format!("it is larger than the most, {} GiB; use a smaller disk", MAX_DISK >> 30)));
    }
    match contents(&disk) {
        Some(found) if found.bytes > disk.bytes && !force_raw => {
            let text = format!(
                "its {} is of {} bytes, but the file ends after {}, so it is cut off; copy it again, or give \
                 --force-raw if it is meant to be like this",
                found.what, found.bytes, disk.bytes
            );
            Err(bad(text))
        }
        Some(_) => Ok(disk),
        None if force_raw => Ok(disk),
        None => {
            let text = "there is no boot sector, partition table or known file system in it, so it is no disk image; \
                        give another file, or --force-raw if it is meant to be like this";
            Err(bad(text.into()))
        }
    }
}

/// An x86-64 Linux kernel as a bzImage (Documentation/arch/x86/boot.rst).
pub(super) fn kernel(path: &Path) -> Result<Input> {
    let kernel = open(path, "kernel")?;
    let bad = |why: &str| AdminError::input(format!("kernel {}: {why}", path.display()));
    if !kernel.is(0x202, b"HdrS") || !kernel.is(0x1fe, &[0x55, 0xaa]) {
        return Err(bad("it is not a bzImage; give the vmlinuz of a Linux kernel for x86-64"));
    }
    let setup = match kernel.at(0x1f1) {
        Some([0]) | None => 4,
        Some([sectors]) => u64::from(sectors),
    };
    if kernel.bytes < (setup + 1) * SECTOR + kernel.u32(0x1f4) * 16 {
        return Err(bad("it ends before its header says, so it is cut off; copy it again"));
    }
    if kernel.bytes > MAX_BOOT {
        return Err(bad("it is larger than any kernel; give a vmlinuz"));
    }
    // XLF_KERNEL_64: there is a 64-bit entry point.
    if kernel.u16(0x206) < 0x020c || kernel.u16(0x236) & 1 == 0 {
        return Err(bad("it has no 64-bit entry point; give a kernel for x86-64, 3.8 or newer"));
    }
    Ok(kernel)
}

/// An initial RAM disk that is whole, as far as that can be seen from outside.
pub(super) fn initrd(path: &Path) -> Result<Input> {
    let initrd = open(path, "initrd")?;
    let bad = |why: String| AdminError::input(format!("{}: {why}", initrd.name));
    if initrd.bytes > MAX_BOOT {
        return Err(bad("it is larger than any initial RAM disk; give the initrd.img of the kernel".into()));
    }
    match initrd::fault(&initrd) {
        Some(why) => Err(bad(why)),
        None => Ok(initrd),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::path::PathBuf;

    struct Scratch(tempfile::TempDir);

    impl Scratch {
        fn file(&self, name: &str, len: u64, parts: &[(u64, &[u8])]) -> PathBuf {
            let path = self.0.path().join(name);
            let file = File::create(&path).unwrap();
            file.set_len(len).unwrap();
            for (offset, bytes) in parts {
                file.write_all_at(bytes, *offset).unwrap();
            }
            path
        }
    }

    fn refused<T>(result: Result<T>) -> String {
        result.err().expect("it is refused").error.message
    }

    #[test]
    fn disks_are_told_from_what_is_none() {
        let scratch = Scratch(tempfile::tempdir().unwrap());
        let ext = |len| {
            scratch.file(
                "ext",
                len,
                &[(1080, &[0x53, 0xef]), (1028, &256u32.to_le_bytes()), (1048, &2u32.to_le_bytes())],
            )
        };
        assert_eq!(disk(&ext(1 << 20), false).unwrap().bytes, 1 << 20);
        assert!(refused(disk(&ext(1 << 19), false)).contains("cut off"));
        let gpt = |len| scratch.file("gpt", len, &[(512, b"EFI PART"), (544, &2047u64.to_le_bytes())]);
        assert!(disk(&gpt(1 << 20), false).is_ok());
        assert!(refused(disk(&gpt((1 << 20) - 512), false)).contains("partition table (GPT)"));
        assert!(disk(&gpt((1 << 20) - 512), true).is_ok());
        let mbr = |flag| {
            scratch.file("mbr", 1 << 20, &[(510, &[0x55, 0xaa]), (446, &[flag]), (458, &[0, 9, 0, 0])])
        };
        assert!(refused(disk(&mbr(0x80), false)).contains("partition table (MBR)"));
        assert!(disk(&mbr(0x33), false).is_ok(), "code, as in a FAT boot sector");
        assert!(refused(disk(&scratch.file("odd", 1000, &[]), true)).contains("whole sectors"));
        assert!(refused(disk(&scratch.file("none", 0, &[]), true)).contains("empty"));
        let blank = scratch.file("blank", 1 << 16, &[]);
        assert!(refused(disk(&blank, false)).contains("--force-raw"));
        assert!(disk(&blank, true).is_ok());
        assert!(refused(disk(&scratch.file("q", 1024, &[(0, b"QFI\xfb")]), true)).contains("qemu-img"));
        assert!(refused(disk(scratch.0.path(), false)).contains("not a file"));
        assert!(refused(disk(&scratch.0.path().join("absent"), false)).contains("absent"));
    }

    #[test]
    fn kernels_and_initrds_are_told_from_what_is_none() {
        let scratch = Scratch(tempfile::tempdir().unwrap());
        let parts: &[(u64, &[u8])] = &[
            (0x1f1, &[1]),
            (0x1f4, &64u32.to_le_bytes()),
            (0x1fe, &[0x55, 0xaa]),
            (0x202, b"HdrS"),
            (0x206, &0x20fu16.to_le_bytes()),
            (0x236, &1u16.to_le_bytes()),
        ];
        assert!(kernel(&scratch.file("k", 2048, parts)).is_ok());
        assert!(refused(kernel(&scratch.file("k", 2047, parts))).contains("cut off"));
        assert!(refused(kernel(&scratch.file("k", 2048, &parts[..5]))).contains("64-bit"));
        assert!(refused(kernel(&scratch.file("k", 2048, &[]))).contains("bzImage"));
        assert!(refused(initrd(&scratch.file("i", 100, &[]))).contains("cpio"));
    }
}
