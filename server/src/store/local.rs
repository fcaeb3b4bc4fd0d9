//! A store in a local directory, for one process.
//!
//! ```text
//! format                      says that this is a store, and its format
//! identity, changes           see `identity`
//! lock                        held (flock) by the one process that uses it
//! tmp/                        what is being written; emptied at start
//! chunks/<2 hex>/<38 hex>
//! parcels/<id>/head, slots, versions/<n>
//! parcels/<id>/new/<40 hex>   chunks of a parcel that has no version yet
//! ```
//!
//! A write goes to `tmp/`, is synced, renamed into place, and the directory is synced; only then it counts.

mod identity;
mod open;
mod space;

pub use identity::{init, look, restored};
pub use open::OpenError;

use super::{Answer, Etag, Key, Object, Shelf, Store, StoreError};
use bytes::Bytes;
use identity::Counter;
use nix::fcntl::Flock;
use parcel::{
    id::{ChunkName, ParcelId, Version},
    wire::hold::StoreIdentity,
};
use space::{Kind, Room, Space};
use std::{
    collections::{BTreeSet, HashMap},
    fs::{self, DirBuilder, File, OpenOptions},
    io::{self, ErrorKind, Read, Write},
    os::unix::fs::{DirBuilderExt, OpenOptionsExt},
    path::{Path, PathBuf},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, AtomicUsize, Ordering},
    },
};

/// Parcels share this many mutexes, so that memory does not grow with parcels; more than threads is enough.
const STRIPES: usize = 64;

/// A store in a local directory.
#[derive(Debug)]
pub struct LocalStore {
    dir: Arc<Dir>,
}

#[derive(Debug)]
struct Dir {
    root: PathBuf,
    next_temp: AtomicU64,
    parcels: [Mutex<()>; STRIPES],
    /// Chunks that are renamed into place but whose directory may not be synced yet, with their number of writers.
    landing: Mutex<HashMap<ChunkName, usize>>,
    /// How many shelves are being made common, so that any chunk may be in that state.
    adopting: AtomicUsize,
    counter: Counter,
    space: Space,
    _lock: Flock<File>,
}

impl LocalStore {
    /// Opens the store in `root`, which must be as the server left it that wrote `witness`; takes its lock; removes what an
    /// earlier crash left half-written.
    ///
    /// # Errors
    /// See [`OpenError`].
    pub fn open(root: &Path, witness: &Path) -> Result<Self, OpenError> {
        let fail = |path: &Path| {
            let path = path.to_owned();
            move |source| OpenError::Io { path, source }
        };
        identity::look(root, witness)?;
        let lock = open::take_lock(root)?;
        // Again, now that nobody else can change it.
        let identity = identity::look(root, witness)?;
        let counter = Counter::new(root, witness, identity).map_err(fail(root))?;
        counter.testify_now().map_err(fail(witness))?;

        let tmp = root.join("tmp");
        let chunks = root.join("chunks");
        for dir in [&tmp, &chunks, &root.join("parcels")] {
            make_dir(dir).map_err(fail(dir))?;
        }
        for first in 0..=255u8 {
            let dir = chunks.join(hex::encode([first]));
            make_dir(&dir).map_err(fail(&dir))?;
        }
        for left in fs::read_dir(&tmp).map_err(fail(&tmp))? {
            let left = left.map_err(fail(&tmp))?;
            let (dir, left) = (left.file_type().is_ok_and(|what| what.is_dir()), left.path());
            if dir { fs::remove_dir_all(&left) } else { fs::remove_file(&left) }.map_err(fail(&left))?;
        }
        let dir = Dir {
            root: root.to_owned(),
            next_temp: AtomicU64::new(0),
            parcels: std::array::from_fn(|_| Mutex::new(())),
            landing: Mutex::default(),
            adopting: AtomicUsize::new(0),
            counter,
            space: Space::default(),
            _lock: lock,
        };
        for id in names::<ParcelId>(&root.join("parcels")).map_err(fail(root))? {
            dir.unmake_parcel(&id);
            dir.mend_shelf(&id).map_err(fail(root))?;
        }
        // An earlier process may have been killed between a rename and the sync of its directory. What is visible
        // now is believed from here on, so it must be made to last.
        let root_handle = File::open(root).map_err(fail(root))?;
        nix::unistd::syncfs(&root_handle).map_err(|e| fail(root)(e.into()))?;
        Ok(Self { dir: Arc::new(dir) })
    }

    fn run<T: Send + 'static>(
        &self,
        doing: impl FnOnce() -> String + Send + 'static,
        work: impl FnOnce(&Dir) -> io::Result<T> + Send + 'static,
    ) -> Answer<'_, T> {
        let dir = Arc::clone(&self.dir);
        let task = tokio::task::spawn_blocking(move || {
            work(&dir).map_err(|source| match source.kind() {
                ErrorKind::StorageFull | ErrorKind::QuotaExceeded => StoreError::Full(doing()),
                _ => StoreError::Io { doing: doing(), source },
            })
        });
        Box::pin(async move {
            task.await.unwrap_or_else(|stopped| {
                Err(StoreError::Io {
                    doing: "working on the store".to_owned(),
                    source: io::Error::other(stopped),
                })
            })
        })
    }
}

impl Store for LocalStore {
    fn identity(&self) -> StoreIdentity {
        self.dir.counter.identity
    }

    fn put_chunk(&self, shelf: Shelf, name: ChunkName, bytes: Bytes) -> Answer<'_, bool> {
        self.run(move || format!("storing chunk {name}"), move |dir| dir.put_chunk(shelf, name, &bytes))
    }

    fn chunk(&self, shelf: Shelf, name: ChunkName) -> Answer<'_, Option<Bytes>> {
        self.run(move || format!("reading chunk {name}"), move |dir| dir.chunk(shelf, &name))
    }

    fn have(&self, shelf: Shelf, names: Vec<ChunkName>) -> Answer<'_, Vec<bool>> {
        self.run(
            || "looking for chunks".to_owned(),
            move |dir| names.iter().map(|name| dir.has_chunk(shelf, name)).collect(),
        )
    }

    fn adopt(&self, parcel: ParcelId) -> Answer<'_, ()> {
        self.run(
            move || format!("making the chunks of {parcel} common"),
            move |dir| {
                dir.adopting.fetch_add(1, Ordering::SeqCst);
                let adopted = dir.adopt(&parcel);
                dir.adopting.fetch_sub(1, Ordering::SeqCst);
                adopted
            },
        )
    }

    fn discard(&self, parcel: ParcelId, expected: Etag) -> Answer<'_, bool> {
        self.run(move || format!("taking {parcel} away"), move |dir| dir.discard(&parcel, &expected))
    }

    fn get(&self, key: Key) -> Answer<'_, Option<Object>> {
        self.run(
            move || format!("reading {key}"),
            move |dir| {
                // Under the mutex, so that a reader never sees a rename that a power failure could undo.
                let _turn = dir.turn(key.parcel());
                Ok(read(&dir.path(&key))?.map(object))
            },
        )
    }

    fn swap(&self, key: Key, expected: Option<Etag>, bytes: Bytes) -> Answer<'_, bool> {
        self.run(
            move || format!("writing {key}"),
            move |dir| {
                let _turn = dir.turn(key.parcel());
                let path = dir.path(&key);
                if read(&path)?.map(|bytes| object(bytes).etag) != expected {
                    return Ok(false);
                }
                let _room = match key {
                    Key::Head(_) if expected.is_some() => None,
                    Key::Head(_) => Some(dir.room(Kind::Parcel, bytes.len())?),
                    Key::Slots(_) | Key::Record(..) => Some(dir.room(Kind::Record, bytes.len())?),
                };
                if matches!(key, Key::Head(_)) {
                    dir.counter.count(dir)?;
                }
                if expected.is_none() {
                    dir.make_parcel(&key)?;
                }
                dir.write(&path, &bytes).inspect_err(|_| dir.unmake_parcel(key.parcel()))?;
                Ok(true)
            },
        )
    }

    fn parcels(&self) -> Answer<'_, Vec<ParcelId>> {
        self.run(|| "listing parcels".to_owned(), |dir| names(&dir.root.join("parcels")))
    }

    fn records(&self, parcel: ParcelId) -> Answer<'_, Vec<Version>> {
        self.run(
            move || format!("listing versions of {parcel}"),
            move |dir| {
                let _turn = dir.turn(&parcel);
                let mut found: Vec<u64> = names(&dir.parcel_path(&parcel).join("versions"))?;
                found.sort_unstable();
                Ok(found.into_iter().map(Version).collect())
            },
        )
    }
}

impl Dir {
    fn chunk_path(&self, name: &ChunkName) -> PathBuf {
        let name = name.to_string();
        self.root.join("chunks").join(&name[..2]).join(&name[2..])
    }

    fn shelf_path(&self, id: &ParcelId) -> PathBuf {
        self.parcel_path(id).join("new")
    }

    /// Where a chunk may lie, in the order in which to look: it moves from its parcel's shelf to the common one.
    fn places(&self, shelf: Shelf, name: &ChunkName) -> impl Iterator<Item = PathBuf> {
        let own = match shelf {
            Shelf::Common => None,
            Shelf::Own(id) => Some(self.shelf_path(&id).join(name.to_string())),
        };
        own.into_iter().chain([self.chunk_path(name)])
    }

    fn parcel_path(&self, id: &ParcelId) -> PathBuf {
        self.root.join("parcels").join(id.to_string())
    }

    fn path(&self, key: &Key) -> PathBuf {
        self.root.join(key.to_string())
    }

    fn turn(&self, parcel: &ParcelId) -> MutexGuard<'_, ()> {
        let stripe = usize::from(parcel.as_bytes()[0]) % STRIPES;
        // The mutex guards files, which are whole whatever happened to the last holder.
        self.parcels[stripe].lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn landing(&self) -> MutexGuard<'_, HashMap<ChunkName, usize>> {
        self.landing.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn put_chunk(&self, shelf: Shelf, name: ChunkName, bytes: &[u8]) -> io::Result<bool> {
        *self.landing().entry(name).or_default() += 1;
        let result = self.land(shelf, &name, bytes);
        let mut landing = self.landing();
        if let Some(writers) = landing.get_mut(&name) {
            *writers -= 1;
            if *writers == 0 {
                landing.remove(&name);
            }
        }
        result
    }

    fn land(&self, shelf: Shelf, name: &ChunkName, bytes: &[u8]) -> io::Result<bool> {
        for path in self.places(shelf, name) {
            match read(&path)? {
                // Perhaps renamed by somebody who has not synced yet.
                Some(there) if there == bytes => return sync_parent(&path).map(|()| true),
                Some(_) => {
                    // It takes no more room than before, but both are there for a moment.
                    let _room = self.room(Kind::Record, bytes.len())?;
                    tracing::warn!(%name, "a stored chunk was damaged; it is replaced by a whole one");
                    return self.write(&path, bytes).map(|()| true);
                }
                None => {}
            }
        }
        let Some(path) = self.places(shelf, name).next() else { return Ok(false) };
        let _room = self.room(Kind::Chunk, bytes.len())?;
        match self.write(&path, bytes) {
            Err(e) if e.kind() == ErrorKind::NotFound && path.parent().is_some_and(|dir| !dir.exists()) => {
                Ok(false)
            }
            written => written.map(|()| true),
        }
    }

    fn room(&self, kind: Kind, bytes: usize) -> io::Result<Room<'_>> {
        self.space.room(kind, bytes, || space::look(&self.root))
    }

    fn chunk(&self, shelf: Shelf, name: &ChunkName) -> io::Result<Option<Bytes>> {
        for path in self.places(shelf, name) {
            let found = read(&path)?;
            if found.is_some() {
                return Ok(found);
            }
        }
        Ok(None)
    }

    fn has_chunk(&self, shelf: Shelf, name: &ChunkName) -> io::Result<bool> {
        // Asked before looking: a writer that is done by now has synced.
        let landing = self.adopting.load(Ordering::SeqCst) > 0 || self.landing().contains_key(name);
        for path in self.places(shelf, name) {
            if path.try_exists()? {
                match if landing { sync_parent(&path) } else { Ok(()) } {
                    // It was made common at this moment.
                    Err(e) if e.kind() == ErrorKind::NotFound => continue,
                    synced => return synced.map(|()| true),
                }
            }
        }
        Ok(false)
    }

    fn adopt(&self, id: &ParcelId) -> io::Result<()> {
        let shelf = self.shelf_path(id);
        loop {
            let mut touched = BTreeSet::new();
            for name in names::<ChunkName>(&shelf)? {
                let path = self.chunk_path(&name);
                fs::rename(shelf.join(name.to_string()), &path)?;
                touched.insert(name.as_bytes()[0]);
            }
            for first in touched {
                sync_dir(&self.root.join("chunks").join(hex::encode([first])))?;
            }
            match fs::remove_dir(&shelf) {
                Err(e) if e.kind() == ErrorKind::NotFound => return Ok(()),
                // One that was on its way has come meanwhile.
                Err(e) if e.kind() == ErrorKind::DirectoryNotEmpty => {}
                removed => return removed.and_then(|()| sync_parent(&shelf)),
            }
        }
    }

    /// One rename takes the parcel out of everybody's sight; what is then in `tmp/` is removed now or at the next start.
    fn discard(&self, id: &ParcelId, expected: &Etag) -> io::Result<bool> {
        let aside = {
            let _turn = self.turn(id);
            let head = read(&self.path(&Key::Head(*id)))?;
            if head.is_none_or(|bytes| object(bytes).etag != *expected) {
                return Ok(false);
            }
            self.counter.count(self)?;
            let path = self.parcel_path(id);
            let aside = self.new_temp();
            fs::rename(&path, &aside)?;
            sync_parent(&path)?;
            aside
        };
        if let Err(error) = fs::remove_dir_all(&aside) {
            tracing::warn!(parcel = %id, %error, "what is left of a parcel is removed at the next start");
        }
        Ok(true)
    }

    fn make_parcel(&self, key: &Key) -> io::Result<()> {
        let dir = self.parcel_path(key.parcel());
        make_dir(&dir)?;
        make_dir(&dir.join("versions"))?;
        if matches!(key, Key::Head(_)) {
            make_dir(&dir.join("new"))?;
        }
        sync_dir(&dir)?;
        sync_parent(&dir)
    }

    /// Removes the folders of a parcel that did not come to have a head, as far as nothing is in them.
    fn unmake_parcel(&self, id: &ParcelId) {
        if self.path(&Key::Head(*id)).exists() {
            return;
        }
        let dir = self.parcel_path(id);
        for empty in [dir.join("new"), dir.join("versions"), dir] {
            // One that is not empty stays: that is for people to look at.
            let _ = fs::remove_dir(empty);
        }
    }

    /// A first commit that was killed after its objects became common left a parcel without a shelf: nothing could be sent
    /// for it any more.
    fn mend_shelf(&self, id: &ParcelId) -> io::Result<()> {
        let dir = self.parcel_path(id);
        let first = names::<u64>(&dir.join("versions"))?.len() <= 1;
        if first && self.path(&Key::Head(*id)).exists() {
            make_dir(&dir.join("new"))?;
        }
        Ok(())
    }

    fn new_temp(&self) -> PathBuf {
        self.root.join("tmp").join(self.next_temp.fetch_add(1, Ordering::Relaxed).to_string())
    }

    /// Puts a file into place, whole and to last.
    fn write(&self, path: &Path, bytes: &[u8]) -> io::Result<()> {
        let temp = self.new_temp();
        let written = write_new(&temp, bytes).and_then(|()| fs::rename(&temp, path));
        if let Err(e) = written {
            // What is left is removed at the next start if not now.
            let _ = fs::remove_file(&temp);
            return Err(e);
        }
        sync_parent(path)
    }
}

fn object(bytes: Bytes) -> Object {
    let etag = Etag(blake3::hash(&bytes).to_hex().to_string());
    Object { bytes, etag }
}

fn read(path: &Path) -> io::Result<Option<Bytes>> {
    let mut file = match File::open(path) {
        Ok(file) => file,
        Err(e) if e.kind() == ErrorKind::NotFound => return Ok(None),
        Err(e) => return Err(e),
    };
    let mut bytes = Vec::with_capacity(file.metadata()?.len() as usize);
    file.read_to_end(&mut bytes)?;
    Ok(Some(bytes.into()))
}

fn write_new(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)?;
    file.write_all(bytes)?;
    file.sync_all()
}

fn make_dir(path: &Path) -> io::Result<()> {
    match DirBuilder::new().mode(0o700).create(path) {
        Err(e) if e.kind() == ErrorKind::AlreadyExists && path.is_dir() => Ok(()),
        made => made,
    }
}

fn sync_dir(path: &Path) -> io::Result<()> {
    File::open(path)?.sync_all()
}

fn sync_parent(path: &Path) -> io::Result<()> {
    match path.parent() {
        Some(parent) => sync_dir(parent),
        None => Ok(()),
    }
}

/// The entries of a directory whose names parse; nothing else was put there by the server.
fn names<T: std::str::FromStr>(dir: &Path) -> io::Result<Vec<T>> {
    let entries = match fs::read_dir(dir) {
        Ok(entries) => entries,
        Err(e) if e.kind() == ErrorKind::NotFound => return Ok(Vec::new()),
        Err(e) => return Err(e),
    };
    let mut found = Vec::new();
    for entry in entries {
        if let Some(name) = entry?.file_name().to_str().and_then(|name| name.parse().ok()) {
            found.push(name);
        }
    }
    Ok(found)
}

#[cfg(test)]
mod tests;
