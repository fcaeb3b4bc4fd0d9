//! The file on the local medium for changed chunks: sealed under a key of this session alone. Which chunk is where in it is in
//! the journal beside it.

use crate::{fetch::Plain, harden};
use aes_gcm::{
    Aes256Gcm, KeyInit as _, Nonce,
    aead::{AeadInOut as _, inout::InOutBuf},
};
use nix::{
    fcntl::{FallocateFlags, fallocate},
    sys::statfs::{FsType, TMPFS_MAGIC, fstatfs},
};
use parcel::chunk::CHUNK_SIZE;
use std::{
    fs::{File, OpenOptions},
    io,
    os::{
        fd::AsFd,
        unix::fs::{FileExt as _, OpenOptionsExt as _},
    },
    path::Path,
};
use zeroize::Zeroizing;

/// Bytes of a spilled chunk: its bytes and their tag.
pub const SPILLED: usize = CHUNK_SIZE + 16;
/// A page of memory.
pub const PAGE: u64 = 4096;
/// What a place takes at most where the medium is memory: whole pages, of which it shares the first and the last.
pub const PLACE_IN_MEMORY: u64 = (SPILLED as u64 / PAGE + 1) * PAGE;
/// `RAMFS_MAGIC` of `linux/magic.h`.
const RAMFS: FsType = FsType(0x8584_58f6);

/// Where a chunk is in the file, and the nonce it was sealed with. A place is written over only after what was in it is no
/// longer needed, under a new nonce.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Place {
    /// Number of the place, counted from the start of the file.
    pub place: u64,
    /// Nonce under which the chunk is sealed; no other chunk has it.
    pub nonce: u64,
}

/// A free place, and whether nothing is in those before and after it either: then the pages that it shares with them go, too.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Around {
    /// Number of the place, counted from the start of the file.
    pub place: u64,
    /// Nothing is before it.
    pub before: bool,
    /// Nothing is after it.
    pub after: bool,
}

/// The file of the places, and the session key that seals them.
pub struct Spill {
    file: File,
    cipher: Aes256Gcm,
}

impl Spill {
    /// The file at `path`, which is made if it is not there, under the session's key.
    pub fn open(path: &Path, key: &[u8; 32]) -> io::Result<Self> {
        harden::keep_in_ram(key);
        let file =
            OpenOptions::new().read(true).write(true).create(true).truncate(false).mode(0o600).open(path)?;
        Ok(Self { file, cipher: Aes256Gcm::new(key.into()) })
    }

    /// Whether what is in the file is in the machine's memory all the same.
    pub fn in_memory(&self) -> bool {
        in_memory(&self.file)
    }

    fn nonce(number: u64) -> [u8; 12] {
        let mut nonce = [0; 12];
        nonce[..8].copy_from_slice(&number.to_le_bytes());
        nonce
    }

    /// Seals a chunk into its place.
    pub fn write(&self, chunk: u64, plain: &[u8], at: Place) -> io::Result<()> {
        let mut bytes = plain.to_vec();
        let buffer = InOutBuf::from(bytes.as_mut_slice());
        let tag = self
            .cipher
            .encrypt_inout_detached(&Nonce::from(Self::nonce(at.nonce)), &chunk.to_le_bytes(), buffer)
            .map_err(|_| io::Error::other("a chunk could not be sealed"))?;
        bytes.extend_from_slice(&tag);
        self.file.write_all_at(&bytes, at.place * SPILLED as u64)
    }

    /// Gives the room of a free place back to the medium.
    pub fn empty(&self, Around { place, before, after }: Around) -> io::Result<()> {
        let (from, to) = (place * SPILLED as u64, (place + 1) * SPILLED as u64);
        let from = if before { from / PAGE * PAGE } else { from };
        let to = if after { to.next_multiple_of(PAGE) } else { to };
        let how = FallocateFlags::FALLOC_FL_PUNCH_HOLE | FallocateFlags::FALLOC_FL_KEEP_SIZE;
        Ok(fallocate(&self.file, how, from as i64, (to - from) as i64)?)
    }

    /// Cuts off what is beyond `len` bytes.
    pub fn cut(&self, len: u64) -> io::Result<()> {
        match self.file.metadata()?.len() > len {
            true => self.file.set_len(len),
            false => Ok(()),
        }
    }

    /// Opens the chunk in a place.
    pub fn read(&self, chunk: u64, at: Place) -> io::Result<Plain> {
        let mut bytes = Zeroizing::new(vec![0; SPILLED]);
        self.file.read_exact_at(&mut bytes, at.place * SPILLED as u64)?;
        let tag: [u8; 16] = bytes[CHUNK_SIZE..].try_into().map_err(io::Error::other)?;
        bytes.truncate(CHUNK_SIZE);
        let buffer = InOutBuf::from(bytes.as_mut_slice());
        self.cipher
            .decrypt_inout_detached(
                &Nonce::from(Self::nonce(at.nonce)),
                &chunk.to_le_bytes(),
                buffer,
                &tag.into(),
            )
            .map_err(|_| io::Error::other("the cache medium has changed a spilled chunk"))?;
        Ok(bytes)
    }
}

/// Whether a file's medium is the machine's memory.
pub fn in_memory(file: impl AsFd) -> bool {
    fstatfs(file).is_ok_and(|medium| [TMPFS_MAGIC, RAMFS].contains(&medium.filesystem_type()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_plaintext_is_on_the_medium_and_a_change_of_it_is_noticed() {
        let folder = tempfile::tempdir().unwrap();
        let spill = Spill::open(&folder.path().join("chunks"), &[3; 32]).unwrap();
        let plain = vec![5; CHUNK_SIZE];
        let at = Place { place: 1, nonce: 7 };
        spill.write(3, &plain, at).unwrap();
        assert!(*spill.read(3, at).unwrap() == plain);
        let mut raw = vec![0; SPILLED];
        spill.file.read_exact_at(&mut raw, SPILLED as u64).unwrap();
        assert!(!raw.windows(32).any(|window| window.iter().all(|byte| *byte == window[0])));
        assert!(spill.read(4, at).is_err() && spill.read(3, Place { nonce: 8, ..at }).is_err());
        spill.file.write_all_at(&[1, 2, 3], SPILLED as u64 + 500).unwrap();
        assert!(spill.read(3, at).is_err());
    }

    #[test]
    fn memory_is_told_from_a_disk() {
        assert!(in_memory(File::open("/dev/shm").unwrap()));
        assert!(!in_memory(File::open("/proc/self").unwrap()));
    }
}
