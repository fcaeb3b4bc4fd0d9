//! The local store: sealed objects as files, by name, in the cache folder.
//!
//! Nothing in it is trusted or needed: an object that fails to open is thrown away and fetched again, and objects
//! make room for others (and for dirty chunks) when the medium is nearly full. Only ciphertext is ever written.

use crate::{disk::spill, status::lock};
use parcel::{MAX_OBJECT, id::ChunkName};
use std::{
    collections::{HashMap, VecDeque},
    fs::{self, File},
    io::{self, Read as _},
    path::{Path, PathBuf},
    sync::{
        Mutex,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
};

/// Folder of the objects below the cache folder.
const FOLDER: &str = "objects";
/// What the store leaves free for dirty chunks: one part in this many of the medium, but no more than so many bytes.
const FREE_PART: u64 = 4;
const FREE_MOST: u64 = 512 << 20;

#[derive(Default)]
struct Index {
    sizes: HashMap<ChunkName, u64>,
    oldest: VecDeque<ChunkName>,
    bytes: u64,
}

/// What a file takes beside its bytes where the medium is memory, about.
const FILE: u64 = 4096;

/// Sealed objects on the local medium.
pub struct Store {
    root: PathBuf,
    /// The medium is the machine's memory.
    in_memory: bool,
    /// The most memory that they may take there.
    most: AtomicU64,
    index: Mutex<Index>,
}

impl Store {
    /// Opens the store below `cache`, taking in what an earlier process left there.
    pub fn open(cache: &Path) -> io::Result<Self> {
        let root = cache.join(FOLDER);
        fs::create_dir_all(&root)?;
        let mut index = Index::default();
        // What a damaged medium does not show is not here; it is fetched.
        for folder in fs::read_dir(&root)?.flatten().map(|folder| folder.path()) {
            for file in fs::read_dir(&folder).into_iter().flatten().flatten() {
                let prefix = folder.file_name().unwrap_or_default().to_string_lossy();
                let name = format!("{prefix}{}", file.file_name().to_string_lossy());
                match (name.parse(), file.metadata()) {
                    (Ok(name), Ok(meta)) if meta.is_file() => index.insert(name, meta.len()),
                    _ => drop(fs::remove_file(file.path())),
                }
            }
        }
        let in_memory = spill::in_memory(File::open(&root)?);
        Ok(Self { root, in_memory, most: AtomicU64::new(u64::MAX), index: Mutex::new(index) })
    }

    /// Whether what is kept here takes the machine's memory.
    pub fn in_memory(&self) -> bool {
        self.in_memory
    }

    /// On a medium that is memory: takes at most `most` bytes of it from now on, and lets old objects go for that.
    pub fn fit(&self, most: u64) {
        self.most.store(most, Relaxed);
        loop {
            let takes = lock(&self.index).takes();
            if takes <= most || self.give_up(takes - most) == 0 {
                return;
            }
        }
    }

    fn path(&self, name: &ChunkName) -> PathBuf {
        let name = name.to_string();
        self.root.join(&name[..2]).join(&name[2..])
    }

    /// Whether the object is here; it may still turn out to be damaged.
    pub fn has(&self, name: &ChunkName) -> bool {
        lock(&self.index).sizes.contains_key(name)
    }

    /// Bytes of all objects.
    pub fn bytes(&self) -> u64 {
        lock(&self.index).bytes
    }

    /// The bytes filed under `name`, if there are any. The caller's opener decides whether they are right.
    pub fn get(&self, name: &ChunkName) -> Option<Vec<u8>> {
        if !self.has(name) {
            return None;
        }
        let mut bytes = Vec::new();
        let read = File::open(self.path(name))
            .and_then(|file| file.take(MAX_OBJECT as u64 + 1).read_to_end(&mut bytes));
        match read {
            Ok(len) if len <= MAX_OBJECT => Some(bytes),
            Ok(_) => {
                self.remove(name);
                None
            }
            Err(error) => {
                tracing::warn!(%name, %error, "a piece in the local store cannot be read");
                self.remove(name);
                None
            }
        }
    }

    /// Files an object. A medium that has no room for it is no error: older objects go, or it is not kept.
    pub fn put(&self, name: &ChunkName, sealed: &[u8]) {
        if self.has(name) || !self.make_room(sealed.len() as u64) {
            return;
        }
        let path = self.path(name);
        let written = path.parent().map_or(Ok(()), fs::create_dir_all).and_then(|()| {
            let part = path.with_extension("part");
            let result = fs::write(&part, sealed).and_then(|()| fs::rename(&part, &path));
            if result.is_err() {
                let _ = fs::remove_file(&part);
            }
            result
        });
        match written {
            Ok(()) => lock(&self.index).insert(*name, sealed.len() as u64),
            Err(error) => tracing::debug!(%name, %error, "a piece is not kept locally"),
        }
    }

    /// Throws an object away.
    pub fn remove(&self, name: &ChunkName) {
        let _ = fs::remove_file(self.path(name));
        lock(&self.index).remove(name);
    }

    /// Throws away old objects until `bytes` more can be written. Returns how many bytes went.
    pub fn give_up(&self, bytes: u64) -> u64 {
        let mut freed = 0;
        while freed < bytes {
            let Some(name) = lock(&self.index).pop_oldest() else { break };
            freed += fs::metadata(self.path(&name)).map_or(0, |meta| meta.len());
            let _ = fs::remove_file(self.path(&name));
        }
        freed
    }

    fn make_room(&self, bytes: u64) -> bool {
        if self.in_memory {
            let most = self.most.load(Relaxed);
            let takes = lock(&self.index).takes() + bytes + FILE;
            if takes > most && self.give_up(takes - most) < takes - most {
                return false;
            }
        }
        let Ok(medium) = nix::sys::statvfs::statvfs(&self.root) else { return false };
        let block = medium.fragment_size();
        let (free, all) = (medium.blocks_available() * block, medium.blocks() * block);
        let reserve = (all / FREE_PART).min(FREE_MOST);
        free >= reserve + bytes || self.give_up(bytes) >= bytes
    }
}

impl Index {
    /// Memory that they take, where the medium is memory.
    fn takes(&self) -> u64 {
        self.bytes + self.sizes.len() as u64 * FILE
    }

    fn insert(&mut self, name: ChunkName, size: u64) {
        if self.sizes.insert(name, size).is_none() {
            self.bytes += size;
            self.oldest.push_back(name);
        }
    }

    fn remove(&mut self, name: &ChunkName) {
        if let Some(size) = self.sizes.remove(name) {
            self.bytes -= size;
        }
    }

    fn pop_oldest(&mut self) -> Option<ChunkName> {
        while let Some(name) = self.oldest.pop_front() {
            if self.sizes.contains_key(&name) {
                self.remove(&name);
                return Some(name);
            }
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keeps_finds_again_and_gives_up() {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::open(folder.path()).unwrap();
        let names: Vec<_> = (0..10u8).map(|i| ChunkName([i; 20])).collect();
        for name in &names {
            assert_eq!(store.get(name), None);
            store.put(name, &[name.0[0]; 100]);
        }
        drop(store);
        std::fs::write(folder.path().join(FOLDER).join("00").join("half.part"), b"x").unwrap();
        let store = Store::open(folder.path()).unwrap();
        assert_eq!(store.bytes(), 1000);
        assert!(names.iter().all(|name| store.get(name) == Some(vec![name.0[0]; 100])));
        store.remove(&names[3]);
        assert_eq!(store.get(&names[3]), None);
        assert_eq!(store.give_up(250), 300);
        assert_eq!(store.bytes(), 600);
        assert_eq!(store.give_up(10_000), 600);
        assert_eq!(store.bytes(), 0);
    }

    #[test]
    fn what_should_not_be_in_the_folder_is_not_believed() {
        let folder = tempfile::tempdir().unwrap();
        let objects = folder.path().join(FOLDER);
        let name = |i: u8| ChunkName([i; 20]);
        let place = |i: u8| objects.join(name(i).to_string().split_at(2).0).join(&name(i).to_string()[2..]);
        for i in 1..=3 {
            std::fs::create_dir_all(place(i).parent().unwrap()).unwrap();
        }
        std::fs::write(objects.join("a file"), b"x").unwrap();
        std::fs::create_dir(place(1)).unwrap();
        nix::unistd::mkfifo(&place(2), nix::sys::stat::Mode::S_IRWXU).unwrap();
        File::create(place(3)).unwrap().set_len(1 << 40).unwrap();
        let store = Store::open(folder.path()).unwrap();
        assert!((1..=3).all(|i| store.get(&name(i)).is_none()));
        assert!(!place(3).exists());
        store.put(&name(2), b"sealed");
        assert_eq!(store.get(&name(2)).as_deref(), Some(&b"sealed"[..]));
    }
}
