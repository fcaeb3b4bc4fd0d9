//! Which store this is, and whether it is the one that this server left.
//!
//! ```text
//! <store>/identity     {id, generation}
//! <store>/changes      how many changes of heads there have been
//! <store>.witness      {id, generation, changes}, beside the store and not in it
//! ```
//!
//! Every change of a head is counted in the store, then by the witness, and only then made. A backup of the store does
//! not hold the witness, so a restored one has counted less than the witness has, or is of an earlier generation.

use super::{Dir, OpenError, make_dir, open, read, sync_parent, write_new};
use parcel::{
    id::{Generation, StoreId},
    wire::hold::StoreIdentity,
};
use serde::{Deserialize, Serialize, de::DeserializeOwned};
use std::{
    fs, io,
    path::{Path, PathBuf},
    sync::{Mutex, PoisonError},
};

/// What the witness knows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Witness {
    id: StoreId,
    generation: Generation,
    changes: u64,
}

/// The count of changes, and where it is kept beside the store.
#[derive(Debug)]
pub(super) struct Counter {
    pub identity: StoreIdentity,
    witness: PathBuf,
    changes: Mutex<u64>,
}

impl Counter {
    pub(super) fn new(root: &Path, witness: &Path, identity: StoreIdentity) -> io::Result<Self> {
        Ok(Self { identity, witness: witness.to_owned(), changes: Mutex::new(changes(root)?) })
    }

    /// Counts a change that is about to be made.
    pub(super) fn count(&self, dir: &Dir) -> io::Result<()> {
        let mut changes = self.changes.lock().unwrap_or_else(PoisonError::into_inner);
        let next = changes.saturating_add(1);
        dir.write(&dir.root.join("changes"), next.to_string().as_bytes())?;
        self.testify(next)?;
        *changes = next;
        Ok(())
    }

    /// What a server that stops here would find.
    pub(super) fn testify_now(&self) -> io::Result<()> {
        self.testify(*self.changes.lock().unwrap_or_else(PoisonError::into_inner))
    }

    fn testify(&self, changes: u64) -> io::Result<()> {
        let StoreIdentity { id, generation } = self.identity;
        write_beside(&self.witness, &serde_json::to_vec(&Witness { id, generation, changes })?)
    }
}

/// Looks whether a directory is the store that this server left, and changes nothing.
///
/// # Errors
/// All of [`OpenError`] but [`OpenError::InUse`] and [`OpenError::Exists`].
pub fn look(root: &Path, witness: &Path) -> Result<StoreIdentity, OpenError> {
    let saw: Option<Witness> = parsed(witness)?;
    match open::is_store(root) {
        Ok(true) => {}
        Ok(false) | Err(OpenError::NotAStore(_)) if saw.is_some() => {
            return Err(OpenError::Gone { root: root.to_owned(), witness: witness.to_owned() });
        }
        Ok(false) => return Err(OpenError::NoStore(root.to_owned())),
        Err(error) => return Err(error),
    }
    let identity = identity(root)?;
    let StoreIdentity { id, generation } = identity;
    let counted = changes(root).map_err(|source| OpenError::Io { path: root.join("changes"), source })?;
    let suspect = |why: &'static str| OpenError::Restored { root: root.to_owned(), why };
    match saw {
        None => Err(suspect("this server has no witness of it")),
        Some(saw) if saw.id != id => {
            Err(OpenError::Foreign { root: root.to_owned(), witness: witness.to_owned() })
        }
        Some(saw) if saw.generation != generation => Err(suspect("it is of another generation")),
        Some(saw) if saw.changes > counted => Err(suspect("it lacks changes that this server made")),
        Some(_) => Ok(identity),
    }
}

/// Makes an empty store.
///
/// # Errors
/// See [`OpenError`].
pub fn init(root: &Path, witness: &Path) -> Result<StoreIdentity, OpenError> {
    let fail = |path: &Path| {
        let path = path.to_owned();
        move |source| OpenError::Io { path, source }
    };
    if parsed::<Witness>(witness)?.is_some() {
        return Err(OpenError::Gone { root: root.to_owned(), witness: witness.to_owned() });
    }
    make_dir(root).map_err(fail(root))?;
    if open::is_store(root)? {
        return Err(OpenError::Exists(root.to_owned()));
    }
    let _lock = open::take_lock(root)?;
    let identity = StoreIdentity { id: StoreId(random(root)?), generation: Generation(random(root)?) };
    put(root, "identity", &serde_json::to_vec(&identity).map_err(|e| fail(root)(e.into()))?)?;
    put(root, "changes", b"0")?;
    // Last in the store: with it, the directory is one.
    put(root, "format", open::FORMAT.as_bytes())?;
    Counter::new(root, witness, identity).and_then(|counter| counter.testify_now()).map_err(fail(witness))?;
    Ok(identity)
}

/// Begins a new generation of a store that was restored from a backup or brought here.
///
/// # Errors
/// See [`OpenError`].
pub fn restored(root: &Path, witness: &Path) -> Result<StoreIdentity, OpenError> {
    if !open::is_store(root)? {
        return Err(OpenError::NoStore(root.to_owned()));
    }
    let _lock = open::take_lock(root)?;
    let identity = StoreIdentity { id: identity(root)?.id, generation: Generation(random(root)?) };
    let json = serde_json::to_vec(&identity)
        .map_err(|source| OpenError::Io { path: root.join("identity"), source: source.into() })?;
    put(root, "identity", &json)?;
    Counter::new(root, witness, identity)
        .and_then(|counter| counter.testify_now())
        .map_err(|source| OpenError::Io { path: witness.to_owned(), source })?;
    Ok(identity)
}

/// Which store this is.
fn identity(root: &Path) -> Result<StoreIdentity, OpenError> {
    let path = root.join("identity");
    parsed(&path)?.ok_or_else(|| OpenError::Io { path, source: io::ErrorKind::NotFound.into() })
}

fn changes(root: &Path) -> io::Result<u64> {
    let bytes = read(&root.join("changes"))?.ok_or(io::ErrorKind::NotFound)?;
    std::str::from_utf8(&bytes)
        .ok()
        .and_then(|text| text.trim().parse().ok())
        .ok_or_else(|| io::Error::new(io::ErrorKind::InvalidData, "not a number"))
}

fn parsed<T: DeserializeOwned>(path: &Path) -> Result<Option<T>, OpenError> {
    let fail = |source| OpenError::Io { path: path.to_owned(), source };
    match read(path).map_err(fail)? {
        Some(bytes) => serde_json::from_slice(&bytes).map(Some).map_err(|e| fail(e.into())),
        None => Ok(None),
    }
}

fn random<const N: usize>(root: &Path) -> Result<[u8; N], OpenError> {
    let mut bytes = [0; N];
    getrandom::fill(&mut bytes)
        .map_err(|e| OpenError::Io { path: root.to_owned(), source: io::Error::other(e.to_string()) })?;
    Ok(bytes)
}

fn put(root: &Path, name: &str, bytes: &[u8]) -> Result<(), OpenError> {
    let path = root.join(name);
    write_beside(&path, bytes).map_err(|source| OpenError::Io { path, source })
}

/// Puts a file into place, whole and to last, by way of one beside it.
fn write_beside(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let mut aside = path.as_os_str().to_owned();
    aside.push(".new");
    let aside = PathBuf::from(aside);
    let _ = fs::remove_file(&aside);
    write_new(&aside, bytes)?;
    fs::rename(&aside, path)?;
    sync_parent(path)
}
