//! Chunks that the guest has changed: a bounded number in memory, the rest sealed under a key of this session alone in
//! a nameless file in the cache folder, which is gone with the process.

use crate::{fetch::Plain, harden, status::Board, store::Store};
use aes_gcm::{
    Aes256Gcm, KeyInit as _, Nonce,
    aead::{AeadInOut as _, inout::InOutBuf},
};
use parcel::chunk::CHUNK_SIZE;
use std::{
    collections::BTreeMap,
    fs::{File, OpenOptions},
    io,
    os::unix::fs::{FileExt as _, OpenOptionsExt as _},
    path::Path,
    sync::Arc,
};
use zeroize::Zeroizing;

/// Bytes of a spilled chunk: its bytes and their tag.
const SPILLED: usize = CHUNK_SIZE + 16;

/// Where a changed chunk is.
pub enum Held {
    /// Nowhere: it is all zeros.
    Zero,
    /// In memory; always a whole chunk.
    Ram(Plain),
    /// In the spill file.
    Spilled {
        /// Which place in it.
        place: u64,
        /// Which nonce it was sealed with.
        nonce: u64,
    },
}

struct Entry {
    held: Held,
    tick: u64,
}

/// The changed chunks of a disk.
pub struct Dirty {
    entries: BTreeMap<u64, Entry>,
    recent: BTreeMap<u64, u64>,
    tick: u64,
    most_in_ram: usize,
    spill: Spill,
    /// The medium took no more the last time.
    full: bool,
    board: Arc<Board>,
}

impl Dirty {
    /// No changes; at most `most_in_ram` chunks of them will be kept in memory, the others below `cache`.
    pub fn new(cache: &Path, store: Arc<Store>, board: Arc<Board>, most_in_ram: usize) -> io::Result<Self> {
        Ok(Self {
            entries: BTreeMap::new(),
            recent: BTreeMap::new(),
            tick: 0,
            most_in_ram: most_in_ram.max(1),
            spill: Spill::new(cache, store)?,
            full: false,
            board,
        })
    }

    /// Numbers of the changed chunks, ascending.
    pub fn chunks(&self) -> Vec<u64> {
        self.entries.keys().copied().collect()
    }

    /// Whether the next change may have to do with the medium.
    pub fn may_spill(&self) -> bool {
        self.spill.places > 0 || self.recent.len() >= self.most_in_ram
    }

    /// Whether a chunk was changed.
    pub fn has(&self, chunk: u64) -> bool {
        self.entries.contains_key(&chunk)
    }

    /// Bytes of a changed chunk; `None` when it is all zeros, or not changed.
    pub fn read(&self, chunk: u64) -> io::Result<Option<Plain>> {
        match self.entries.get(&chunk).map(|entry| &entry.held) {
            None | Some(Held::Zero) => Ok(None),
            Some(Held::Ram(plain)) => Ok(Some(plain.clone())),
            Some(Held::Spilled { place, nonce }) => self.spill.read(chunk, *place, *nonce).map(Some),
        }
    }

    /// Copies from a changed chunk; `false` when it is not changed.
    pub fn read_into(&mut self, chunk: u64, from: usize, into: &mut [u8]) -> io::Result<bool> {
        match self.entries.get(&chunk).map(|entry| &entry.held) {
            None => return Ok(false),
            Some(Held::Zero) => into.fill(0),
            Some(_) => self.change(chunk, |bytes| into.copy_from_slice(&bytes[from..from + into.len()]))?,
        }
        Ok(true)
    }

    /// Changes a chunk that is here, bringing it back into memory.
    pub fn change(&mut self, chunk: u64, with: impl FnOnce(&mut [u8])) -> io::Result<()> {
        let Some(entry) = self.entries.get_mut(&chunk) else {
            return Err(io::Error::other("the chunk is not held"));
        };
        match &mut entry.held {
            Held::Zero => {
                let mut plain = Zeroizing::new(vec![0; CHUNK_SIZE]);
                with(&mut plain);
                self.put(chunk, Held::Ram(plain));
            }
            Held::Ram(plain) => {
                with(plain);
                self.recent.remove(&entry.tick);
                self.tick += 1;
                entry.tick = self.tick;
                self.recent.insert(self.tick, chunk);
            }
            Held::Spilled { place, nonce } => {
                let (place, nonce) = (*place, *nonce);
                let mut plain = self.spill.read(chunk, place, nonce)?;
                with(&mut plain);
                self.put(chunk, Held::Ram(plain));
            }
        }
        Ok(())
    }

    /// Takes a chunk's new bytes.
    pub fn put(&mut self, chunk: u64, held: Held) {
        self.tick += 1;
        if matches!(held, Held::Ram(_)) {
            self.recent.insert(self.tick, chunk);
        }
        if let Some(old) = self.entries.insert(chunk, Entry { held, tick: self.tick }) {
            self.recent.remove(&old.tick);
            if let Held::Spilled { place, .. } = old.held {
                self.spill.free.push(place);
            }
        }
        self.board.set_dirty(self.entries.len() as u64);
        self.spill_surplus();
    }

    /// Chunks beyond the bound leave memory; when the medium is full they stay, which costs memory but no data.
    fn spill_surplus(&mut self) {
        while self.recent.len() > self.most_in_ram {
            let Some((&tick, &chunk)) = self.recent.first_key_value() else { return };
            let Some(entry) = self.entries.get_mut(&chunk) else { return };
            let Held::Ram(plain) = &entry.held else { return };
            match self.spill.write(chunk, plain) {
                Ok((place, nonce)) => {
                    entry.held = Held::Spilled { place, nonce };
                    self.full = false;
                }
                Err(error) => {
                    // Told once, not at every write of the guest.
                    if !std::mem::replace(&mut self.full, true) {
                        tracing::warn!(%error, "changed chunks stay in memory: the cache medium takes no more");
                    }
                    return;
                }
            }
            self.recent.remove(&tick);
        }
    }
}

/// The spill file. A place is written over only after what was in it is no longer needed, under a new nonce.
struct Spill {
    file: File,
    cipher: Aes256Gcm,
    nonces: u64,
    places: u64,
    free: Vec<u64>,
    store: Arc<Store>,
}

impl Spill {
    fn new(cache: &Path, store: Arc<Store>) -> io::Result<Self> {
        let file = OpenOptions::new()
            .read(true)
            .write(true)
            .custom_flags(nix::libc::O_TMPFILE)
            .mode(0o600)
            .open(cache)?;
        let mut key = Zeroizing::new([0; 32]);
        harden::keep_in_ram(&*key);
        getrandom::fill(&mut *key).map_err(io::Error::other)?;
        let cipher = Aes256Gcm::new((&*key).into());
        Ok(Self { file, cipher, nonces: 0, places: 0, free: Vec::new(), store })
    }

    fn nonce(number: u64) -> [u8; 12] {
        let mut nonce = [0; 12];
        nonce[..8].copy_from_slice(&number.to_le_bytes());
        nonce
    }

    fn write(&mut self, chunk: u64, plain: &[u8]) -> io::Result<(u64, u64)> {
        let mut bytes = plain.to_vec();
        self.nonces += 1;
        let nonce = Nonce::from(Self::nonce(self.nonces));
        let buffer = InOutBuf::from(bytes.as_mut_slice());
        let tag = self
            .cipher
            .encrypt_inout_detached(&nonce, &chunk.to_le_bytes(), buffer)
            .map_err(|_| io::Error::other("a chunk could not be sealed"))?;
        bytes.extend_from_slice(&tag);
        let place = self.free.pop().unwrap_or_else(|| {
            self.places += 1;
            self.places - 1
        });
        let at = place * SPILLED as u64;
        let mut written = self.file.write_all_at(&bytes, at);
        if written.is_err() && self.store.give_up(16 * SPILLED as u64) > 0 {
            written = self.file.write_all_at(&bytes, at);
        }
        if let Err(error) = written {
            self.free.push(place);
            return Err(error);
        }
        Ok((place, self.nonces))
    }

    fn read(&self, chunk: u64, place: u64, nonce: u64) -> io::Result<Plain> {
        let mut bytes = Zeroizing::new(vec![0; SPILLED]);
        self.file.read_exact_at(&mut bytes, place * SPILLED as u64)?;
        let tag: [u8; 16] = bytes[CHUNK_SIZE..].try_into().map_err(io::Error::other)?;
        bytes.truncate(CHUNK_SIZE);
        let buffer = InOutBuf::from(bytes.as_mut_slice());
        let nonce = Nonce::from(Self::nonce(nonce));
        self.cipher
            .decrypt_inout_detached(&nonce, &chunk.to_le_bytes(), buffer, &tag.into())
            .map_err(|_| io::Error::other("the cache medium has changed a spilled chunk"))?;
        Ok(bytes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn dirty(folder: &Path, most: usize) -> Dirty {
        let board = Board::new(Arc::default());
        Dirty::new(folder, Arc::new(Store::open(folder).unwrap()), board, most).unwrap()
    }

    #[test]
    fn spilled_chunks_come_back_and_show_no_plaintext() {
        let folder = tempfile::tempdir().unwrap();
        let mut dirty = dirty(folder.path(), 2);
        for chunk in 0..9u64 {
            dirty.put(chunk, Held::Ram(Zeroizing::new(vec![chunk as u8 + 1; CHUNK_SIZE])));
        }
        assert_eq!(dirty.recent.len(), 2);
        assert_eq!(dirty.chunks().len(), 9);
        let mut raw = vec![0; 7 * SPILLED];
        dirty.spill.file.read_exact_at(&mut raw, 0).unwrap();
        assert!(!raw.windows(32).any(|window| window.iter().all(|byte| *byte == window[0])));
        for chunk in 0..9u64 {
            dirty.change(chunk, |bytes| bytes[7] = 99).unwrap();
        }
        for chunk in 0..9u64 {
            let plain = dirty.read(chunk).unwrap().unwrap();
            assert_eq!((plain[6], plain[7], plain.len()), (chunk as u8 + 1, 99, CHUNK_SIZE));
        }
        // Places are used again.
        assert!(dirty.spill.places <= 9, "{}", dirty.spill.places);
    }

    #[test]
    fn a_changed_medium_is_noticed() {
        let folder = tempfile::tempdir().unwrap();
        let mut dirty = dirty(folder.path(), 1);
        for chunk in 0..3u64 {
            dirty.put(chunk, Held::Ram(Zeroizing::new(vec![5; CHUNK_SIZE])));
        }
        let Some(Held::Spilled { place, .. }) = dirty.entries.get(&0).map(|entry| &entry.held) else {
            panic!("chunk 0 is not spilled");
        };
        dirty.spill.file.write_all_at(&[1, 2, 3], place * SPILLED as u64 + 500).unwrap();
        assert!(dirty.read(0).is_err());
    }
}
