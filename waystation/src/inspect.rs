//! Is a file what it is given for? Looked at before anything is sent, so that a mistake leaves nothing behind.

use super::{AdminError, Result, disk::quoted, initrd};
use nix::{
    errno::Errno,
    fcntl::OFlag,
    unistd::{Whence, lseek},
};
use parcel::chunk::CHUNK_SIZE;
use std::{
    fs::{File, Metadata},
    io,
    os::unix::fs::{FileExt as _, FileTypeExt as _, MetadataExt as _, OpenOptionsExt as _},
    path::Path,
};
use zeroize::Zeroizing;

const SECTOR: u64 = 512;
/// The largest kernel or initial RAM disk.
const MAX_BOOT: u64 = 1 << 30;

/// A file that was looked at.
pub(super) struct Input {
    pub file: File,
    pub bytes: u64,
    /// What it is and where it lies, for errors.
    pub name: String,
    opened: Stamp,
}

/// What differs once somebody has written to a file.
#[derive(PartialEq, Eq)]
struct Stamp {
    file: (u64, u64),
    bytes: u64,
    modified: (i64, i64),
    changed: (i64, i64),
}

impl Stamp {
    fn of(meta: &Metadata) -> Self {
        Self {
            file: (meta.dev(), meta.ino()),
            bytes: meta.len(),
            modified: (meta.mtime(), meta.mtime_nsec()),
            changed: (meta.ctime(), meta.ctime_nsec()),
        }
    }
}

/// Opens what was given as `what`. It is read at any offset, so it must be a file.
pub(super) fn open(path: &Path, what: &str) -> Result<Input> {
    let bad = |why: String| AdminError::input(format!("{what} {}: {why}", path.display()));
    if path.as_os_str() == "-" {
        return Err(bad(
            "the standard input cannot be read at any offset; write it to a file and give that".into()
        ));
    }
    // Nobody may ever write to a named pipe.
    let file = File::options()
        .read(true)
        .custom_flags(OFlag::O_NONBLOCK.bits())
        .open(path)
        .map_err(|e| bad(format!("{e}; check its name")))?;
    let meta = file.metadata().map_err(|e| bad(e.to_string()))?;
    let kind = meta.file_type();
    if kind.is_dir() {
        return Err(bad("it is a folder, not a file; give an image file".into()));
    }
    if kind.is_block_device() {
        let text = "it is a device, not a file, and may change while it is read; copy it while nothing uses it, with dd \
                    if=DEVICE of=copy.img bs=4M conv=sparse, and give copy.img";
        return Err(bad(text.replace("DEVICE", &path.display().to_string())));
    }
    if !kind.is_file() {
        return Err(bad(
            "it is not a file that can be read at any offset; write it to a file and give that".into()
        ));
    }
    if meta.len() == 0 {
        return Err(bad("it is empty; make it again".into()));
    }
    Ok(Input {
        file,
        bytes: meta.len(),
        name: format!("{what} {}", path.display()),
        opened: Stamp::of(&meta),
    })
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

    pub fn u16(&self, offset: u64) -> u64 {
        self.at(offset).map_or(0, |bytes| u64::from(u16::from_le_bytes(bytes)))
    }

    pub fn u32(&self, offset: u64) -> u64 {
        self.at(offset).map_or(0, |bytes| u64::from(u32::from_le_bytes(bytes)))
    }

    pub fn u64(&self, offset: u64) -> u64 {
        self.at(offset).map_or(0, u64::from_le_bytes)
    }

    /// Where the next data or hole begins at or behind an offset; `None` where there is no more data. A file system that knows no
    /// holes has nothing but data.
    fn seek(&self, offset: u64, whence: Whence) -> Option<u64> {
        let seeking = i64::try_from(offset).ok().map(|offset| lseek(&self.file, offset, whence));
        match seeking {
            Some(Ok(found)) => u64::try_from(found).ok(),
            Some(Err(Errno::ENXIO)) => None,
            _ => Some(if matches!(whence, Whence::SeekData) { offset } else { self.bytes }),
        }
    }

    /// Bytes in a chunk of it.
    pub fn in_chunk(&self, chunk: u64) -> u64 {
        (self.bytes - chunk * CHUNK_SIZE as u64).min(CHUNK_SIZE as u64)
    }

    /// Bytes in its chunks with data.
    pub fn data(&self) -> u64 {
        DataChunks::new(self).map(|chunk| self.in_chunk(chunk)).sum()
    }

    /// `len` bytes from `offset`. It fails once the file is another than it was when it was opened: pieces of before and
    /// after make no image that ever was. So what all reads together gave is the file as it was.
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
        self.unchanged()?;
        Ok(bytes)
    }

    /// An error once the file is another than it was when it was opened.
    pub fn unchanged(&self) -> io::Result<()> {
        if Stamp::of(&self.file.metadata()?) == self.opened {
            return Ok(());
        }
        let text = format!(
            "{}: it has changed since it was looked at; stop the machine or the copy that writes to it, then give the \
             command again",
            self.name
        );
        Err(io::Error::other(text))
    }
}

/// The chunks of a file in which its file system has data, in order. All others are zeros.
pub(super) struct DataChunks<'a> {
    input: &'a Input,
    next: u64,
    /// The first chunk behind the data that `next` is in.
    end: u64,
}

impl<'a> DataChunks<'a> {
    pub fn new(input: &'a Input) -> Self {
        Self { input, next: 0, end: 0 }
    }
}

impl Iterator for DataChunks<'_> {
    type Item = u64;

    fn next(&mut self) -> Option<u64> {
        if self.next >= self.end {
            let size = CHUNK_SIZE as u64;
            let data = self.input.seek(self.next * size, Whence::SeekData)?;
            let hole = self.input.seek(data, Whence::SeekHole).unwrap_or(self.input.bytes);
            (self.next, self.end) = (data / size, hole.min(self.input.bytes).div_ceil(size));
        }
        let chunk = self.next;
        self.next += 1;
        (chunk < self.end).then_some(chunk)
    }
}

/// An x86-64 Linux kernel as a bzImage (Documentation/arch/x86/boot.rst).
pub(super) fn kernel(path: &Path) -> Result<Input> {
    let kernel = open(path, "kernel")?;
    let bad = |why: &str| AdminError::input(format!("kernel {}: {why}", path.display()));
    if let Some(why) = other_kernel(&kernel) {
        return Err(bad(&why.replace("FILE", &quoted(path))));
    }
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

/// What people take for a bzImage.
fn other_kernel(kernel: &Input) -> Option<&'static str> {
    if kernel.is(0, b"\x7fELF") {
        return Some("it is a vmlinux, an ELF program, and no bzImage; give the vmlinuz of the same kernel");
    }
    // A kernel with an EFI stub is a PE program as well, and has its own header behind that one.
    if kernel.is(0, b"MZ") && !kernel.is(0x202, b"HdrS") {
        return Some(
            "it is an EFI program, such as a unified kernel image, and no bzImage; take the kernel out with objcopy -O \
             binary --only-section=.linux FILE linux.bin, the initial RAM disk with --only-section=.initrd, and give those",
        );
    }
    if kernel.is(0, &[0x1f, 0x8b]) {
        return Some("it is packed by gzip and no bzImage; give the vmlinuz of a Linux kernel for x86-64");
    }
    None
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
    fn a_file_that_changes_is_read_no_further() {
        let scratch = Scratch(tempfile::tempdir().unwrap());
        let path = scratch.file("disk", 8192, &[]);
        let file = File::options().write(true).open(&path).unwrap();
        // Long ago, so that the next write is at another time, however coarse the clock is.
        file.set_modified(std::time::UNIX_EPOCH).unwrap();
        let disk = open(&path, "disk image").unwrap();
        assert!(disk.read(0, 4096).is_ok());
        file.write_all_at(b"later", 0).unwrap();
        let said = disk.read(4096, 4096).unwrap_err().to_string();
        assert!(said.contains("disk: it has changed") && said.contains("; stop the machine"), "{said}");
        // A new length counts too, where the time is set back.
        file.set_modified(std::time::UNIX_EPOCH).unwrap();
        let disk = open(&path, "disk image").unwrap();
        file.set_len(8193).unwrap();
        file.set_modified(std::time::UNIX_EPOCH).unwrap();
        assert!(disk.read(0, 4096).is_err());
    }

    #[test]
    fn holes_cost_nothing_and_no_data_is_missed() {
        const SIZE: u64 = CHUNK_SIZE as u64;
        let scratch = Scratch(tempfile::tempdir().unwrap());
        let chunks = |len, parts: &[(u64, &[u8])]| {
            let path = scratch.file("disk", len, parts);
            DataChunks::new(&open(&path, "disk image").unwrap()).collect::<Vec<_>>()
        };
        // The whole of the largest disk, at once.
        let last = (2 << 40) / SIZE - 1;
        let far: &[(u64, &[u8])] =
            &[(0, &[1]), (SIZE * 9 - 1, &[1, 1]), (1 << 40, &[1]), ((2 << 40) - 1, &[1])];
        assert_eq!(chunks(2 << 40, far), [0, 8, 9, (1 << 40) / SIZE, last]);
        assert!(chunks(2 << 40, &[]).is_empty());
        assert_eq!(chunks(SIZE * 2 + 512, &[(SIZE * 2 + 511, &[1])]), [2]);
        assert_eq!(chunks(SIZE * 2, &[(0, &vec![1; SIZE as usize * 2])]), [0, 1]);
        let path = scratch.file("disk", SIZE * 4 + 512, &[(SIZE, &[1]), (SIZE * 4 + 511, &[1])]);
        assert_eq!(open(&path, "disk image").unwrap().data(), SIZE + 512);
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
        assert!(refused(kernel(&scratch.file("k", 2048, &[(0, b"\x7fELF")]))).contains("vmlinux"));
        assert!(refused(kernel(&scratch.file("k", 2048, &[(0, b"MZ")]))).contains("--only-section=.linux"));
        assert!(refused(initrd(&scratch.file("i", 100, &[]))).contains("cpio"));
    }
}
