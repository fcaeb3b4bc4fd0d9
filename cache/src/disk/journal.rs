//! The journal of a session's changes: which chunk's bytes are in which place of the file beside it. With the parcel key, a
//! restarted engine finds in it all that was written before the last one was killed.
//!
//! Entries are appended, and each is bound to all before it. The kernel keeps what a killed process has written, so at most the
//! last entry is not whole: it was never acknowledged, and is cut off. Anything else that does not fit is damage of the
//! medium, and nothing is taken from a damaged journal: an older state of some chunks would pass for the last one.

use super::spill::Place;
use parcel::{
    changes::{Head, HeadError, MAX_HEAD},
    id::{ParcelId, RecordHash, Version},
    secret::ParcelKey,
};
use std::{
    collections::BTreeMap,
    fs::{self, File, OpenOptions},
    io::{self, BufReader, Read as _, Seek as _, SeekFrom},
    os::unix::fs::{FileExt as _, OpenOptionsExt as _},
    path::{Path, PathBuf},
};
use zeroize::Zeroizing;

/// Folder of the changes below the cache folder.
const FOLDER: &str = "changes";
const JOURNAL: &str = "journal";
const CHUNKS: &str = "chunks";
/// Bytes of an entry.
pub const ENTRY: usize = 80;
/// Bytes of an entry that its check covers.
const CHECKED: usize = 64;
/// A journal of so many entries for each that is of use, and at least so many, is written anew.
const STALE: u64 = 4;
const LEAST: u64 = 1 << 14;
/// Nonces that a killed process may have used after the last that is in its journal.
const NONCES: u64 = 1 << 32;

/// What an entry says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Entry {
    /// A chunk is in this place now; `None`: it is all zeros.
    Chunk(u64, Option<Place>),
    /// This record is being sent to be the next version.
    Sent(Version, RecordHash),
    /// From here on nonces are above this one.
    Nonces(u64),
}

impl Entry {
    fn write(&self) -> [u8; CHECKED] {
        let (kind, numbers, hash) = match *self {
            Self::Chunk(chunk, None) => (1, [chunk, 0, 0], [0; 32]),
            Self::Chunk(chunk, Some(at)) => (2, [chunk, at.place, at.nonce], [0; 32]),
            Self::Sent(version, record) => (3, [version.0, 0, 0], record.0),
            Self::Nonces(above) => (4, [above, 0, 0], [0; 32]),
        };
        let mut bytes = [0; CHECKED];
        bytes[0] = kind;
        for (part, number) in bytes[8..32].chunks_exact_mut(8).zip(numbers) {
            part.copy_from_slice(&number.to_le_bytes());
        }
        bytes[32..].copy_from_slice(&hash);
        bytes
    }

    fn read(bytes: &[u8; CHECKED]) -> Option<Self> {
        let (numbers, _) = bytes[8..32].as_chunks::<8>();
        let number = |at: usize| numbers.get(at).map_or(0, |bytes| u64::from_le_bytes(*bytes));
        match bytes[0] {
            1 => Some(Self::Chunk(number(0), None)),
            2 => Some(Self::Chunk(number(0), Some(Place { place: number(1), nonce: number(2) }))),
            3 => Some(Self::Sent(Version(number(0)), RecordHash(*bytes.last_chunk()?))),
            4 => Some(Self::Nonces(number(0))),
            _ => None,
        }
    }
}

/// Why nothing was found.
#[derive(Debug, thiserror::Error)]
pub enum LeftError {
    /// There is no journal.
    #[error("no changes were kept")]
    None,
    /// It does not open.
    #[error(transparent)]
    Head(#[from] HeadError),
    /// An entry before the last does not fit.
    #[error("entry {0} of the kept changes is damaged")]
    Damaged(u64),
    /// It cannot be read.
    #[error("the kept changes cannot be read: {0}")]
    Io(#[from] io::Error),
}

/// What an engine left that was killed.
pub struct Left {
    /// The journal, to be gone on with.
    pub journal: Journal,
    /// The session's key.
    pub key: Zeroizing<[u8; 32]>,
    /// What the engine wrote for its successor.
    pub note: Zeroizing<Vec<u8>>,
    /// Where the changed chunks are.
    pub chunks: BTreeMap<u64, Option<Place>>,
    /// Records that were sent to be the next version.
    pub sent: Vec<(Version, RecordHash)>,
    /// The last nonce that may have been used.
    pub nonces: u64,
}

/// The open journal: where its end is, and what its entries say of sent records and nonces.
pub struct Journal {
    file: File,
    folder: PathBuf,
    head: Vec<u8>,
    check_key: Zeroizing<[u8; 32]>,
    check: [u8; 16],
    entries: u64,
    sent: Vec<(Version, RecordHash)>,
    above: u64,
    /// An entry says that nonces are above `above`.
    reserved: bool,
}

/// The folder of the changes below `cache`.
fn folder(cache: &Path) -> PathBuf {
    cache.join(FOLDER)
}

/// The file of the chunks' bytes.
pub fn chunks(cache: &Path) -> PathBuf {
    folder(cache).join(CHUNKS)
}

/// Whether an engine has left changes below `cache`.
pub fn left(cache: &Path) -> bool {
    folder(cache).join(JOURNAL).exists()
}

/// Throws all changes away.
pub fn remove(cache: &Path) -> io::Result<()> {
    match fs::remove_dir_all(folder(cache)) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

impl Journal {
    /// A new journal in the place of any other.
    pub fn create(cache: &Path, head: &Head, key: &ParcelKey, parcel: &ParcelId) -> io::Result<Self> {
        remove(cache)?;
        let folder = folder(cache);
        fs::create_dir(&folder)?;
        let check_key = check_key(head.key.expose());
        Self::begin(folder, head.seal(key, parcel), check_key, Vec::new(), 0, std::iter::empty())
    }

    fn begin(
        folder: PathBuf,
        head: Vec<u8>,
        check_key: Zeroizing<[u8; 32]>,
        sent: Vec<(Version, RecordHash)>,
        above: u64,
        entries: impl Iterator<Item = Entry>,
    ) -> io::Result<Self> {
        let path = folder.join("journal.new");
        let file =
            OpenOptions::new().read(true).write(true).create(true).truncate(true).mode(0o600).open(&path)?;
        file.write_all_at(&head, 0)?;
        let check = first_check(&head);
        let mut journal = Self {
            file,
            folder,
            head,
            check_key,
            check,
            entries: 0,
            sent: Vec::new(),
            above: 0,
            reserved: false,
        };
        journal.append(Entry::Nonces(above))?;
        for (version, record) in sent {
            journal.append(Entry::Sent(version, record))?;
        }
        for entry in entries {
            journal.append(entry)?;
        }
        fs::rename(&path, journal.folder.join(JOURNAL))?;
        Ok(journal)
    }

    /// Adds an entry. Once this is done, the entry outlives this process.
    pub fn append(&mut self, entry: Entry) -> io::Result<()> {
        debug_assert!(
            self.reserved || !matches!(entry, Entry::Chunk(_, Some(_))),
            "a nonce that nobody reserved"
        );
        let checked = entry.write();
        let check = check(&self.check_key, &self.check, &checked);
        let mut bytes = [0; ENTRY];
        bytes[..CHECKED].copy_from_slice(&checked);
        bytes[CHECKED..].copy_from_slice(&check);
        self.file.write_all_at(&bytes, self.head.len() as u64 + self.entries * ENTRY as u64)?;
        self.check = check;
        self.entries += 1;
        match entry {
            Entry::Sent(version, record) => self.sent.push((version, record)),
            Entry::Nonces(above) => (self.above, self.reserved) = (above, true),
            Entry::Chunk(..) => {}
        }
        Ok(())
    }

    /// Says that the nonces from here on are used. To be done before a chunk is sealed under one of them: whoever finds the
    /// journal without that entry takes them for unused.
    pub fn reserve(&mut self) -> io::Result<()> {
        if self.reserved { Ok(()) } else { self.append(Entry::Nonces(self.above)) }
    }

    /// Bytes of its file.
    pub fn bytes(&self) -> u64 {
        self.head.len() as u64 + self.entries * ENTRY as u64
    }

    /// Whether most of it is of no use any more, when so many chunks are changed.
    pub fn is_stale(&self, chunks: usize) -> bool {
        self.entries >= LEAST && self.entries / STALE > chunks as u64
    }

    /// Writes it anew, with what is of use.
    pub fn renew(&mut self, chunks: impl Iterator<Item = (u64, Option<Place>)>) -> io::Result<()> {
        let entries = chunks.map(|(chunk, at)| Entry::Chunk(chunk, at));
        let (folder, head, key) = (self.folder.clone(), self.head.clone(), self.check_key.clone());
        *self = Self::begin(folder, head, key, self.sent.clone(), self.above, entries)?;
        Ok(())
    }

    /// Finds what an engine left that was killed. That needs no room on the medium.
    ///
    /// # Errors
    /// There is nothing, it does not open, or it is damaged.
    pub fn replay(cache: &Path, key: &ParcelKey, parcel: &ParcelId) -> Result<Left, LeftError> {
        let folder = folder(cache);
        let file = match OpenOptions::new().read(true).write(true).open(folder.join(JOURNAL)) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Err(LeftError::None),
            opened => opened?,
        };
        // It may be longer than there is memory for.
        let mut bytes = BufReader::with_capacity(MAX_HEAD, file.try_clone()?);
        let mut head = Vec::new();
        bytes.by_ref().take(MAX_HEAD as u64).read_to_end(&mut head)?;
        let (Head { key: session, note }, len) = Head::open(&head, key, parcel)?;
        head.truncate(len);
        bytes.seek(SeekFrom::Start(len as u64))?;
        let rest = file.metadata()?.len().saturating_sub(len as u64);
        let check_key = check_key(session.expose());
        let (mut last, mut chunks, mut sent) = (first_check(&head), BTreeMap::new(), Vec::new());
        let (mut nonces, mut count) = (0, 0);
        let whole = rest / ENTRY as u64;
        while count < whole {
            let mut entry = [0; ENTRY];
            bytes.read_exact(&mut entry)?;
            let (checked, given) = entry.split_at(CHECKED);
            let checked: &[u8; CHECKED] = checked.try_into().map_err(io::Error::other)?;
            let check = check(&check_key, &last, checked);
            let entry = Entry::read(checked).filter(|_| check == given);
            match entry {
                Some(Entry::Chunk(chunk, at)) => {
                    nonces = nonces.max(at.map_or(0, |at| at.nonce));
                    chunks.insert(chunk, at);
                }
                Some(Entry::Sent(version, record)) => sent.push((version, record)),
                Some(Entry::Nonces(above)) => nonces = nonces.max(above),
                // Nobody was told of the last one.
                None if count + 1 == whole && rest == whole * ENTRY as u64 => break,
                None => return Err(LeftError::Damaged(count)),
            }
            (last, count) = (check, count + 1);
        }
        let above = nonces + NONCES;
        let journal = Self {
            file,
            folder,
            head,
            check_key,
            check: last,
            entries: count,
            sent: sent.clone(),
            above,
            reserved: false,
        };
        journal.file.set_len((len + count as usize * ENTRY) as u64)?;
        let key = Zeroizing::new(*session.expose());
        Ok(Left { journal, key, note, chunks, sent, nonces: above })
    }
}

fn check_key(session: &[u8; 32]) -> Zeroizing<[u8; 32]> {
    Zeroizing::new(blake3::derive_key("waystation v1 journal of changes", session))
}

fn first_check(head: &[u8]) -> [u8; 16] {
    shortened(blake3::hash(head))
}

fn check(key: &[u8; 32], last: &[u8; 16], entry: &[u8; CHECKED]) -> [u8; 16] {
    let mut hasher = blake3::Hasher::new_keyed(key);
    hasher.update(last).update(entry);
    shortened(hasher.finalize())
}

fn shortened(hash: blake3::Hash) -> [u8; 16] {
    let mut short = [0; 16];
    short.copy_from_slice(&hash.as_bytes()[..16]);
    short
}

#[cfg(test)]
mod tests {
    use super::*;
    use parcel::secret::Secret;

    const PARCEL: ParcelId = ParcelId([7; 16]);

    fn key() -> ParcelKey {
        ParcelKey::from_bytes([9; 32])
    }

    fn made(cache: &Path, entries: &[Entry]) -> Journal {
        let head = Head { key: Secret::from_bytes([3; 32]), note: Zeroizing::new(b"note".to_vec()) };
        let mut journal = Journal::create(cache, &head, &key(), &PARCEL).unwrap();
        entries.iter().for_each(|entry| journal.append(*entry).unwrap());
        journal
    }

    fn entries() -> Vec<Entry> {
        let at = |place| Some(Place { place, nonce: place + 10 });
        vec![
            Entry::Chunk(5, at(0)),
            Entry::Chunk(6, at(1)),
            Entry::Sent(Version(3), RecordHash([4; 32])),
            Entry::Chunk(5, None),
            Entry::Chunk(9, at(2)),
        ]
    }

    /// What the first `count` of them say.
    fn said(count: usize) -> BTreeMap<u64, Option<Place>> {
        let mut chunks = BTreeMap::new();
        for entry in &entries()[..count] {
            if let Entry::Chunk(chunk, at) = entry {
                chunks.insert(*chunk, *at);
            }
        }
        chunks
    }

    #[test]
    fn a_journal_is_found_up_to_its_last_whole_entry() {
        let cache = tempfile::tempdir().unwrap();
        let journal = made(cache.path(), &entries());
        let path = cache.path().join("changes/journal");
        let bytes = fs::read(&path).unwrap();
        // The head, and the entry that begins the nonces.
        let first = journal.head.len() + ENTRY;
        assert_eq!(bytes.len(), first + 5 * ENTRY);
        for len in first..=bytes.len() {
            for torn in [false, true] {
                let whole = (len - first) / ENTRY;
                let mut bytes = bytes[..len].to_vec();
                // The end of an entry may be there without its beginning.
                let torn = torn && whole > 0;
                if torn {
                    let last = first + (whole - 1) * ENTRY;
                    bytes.truncate(last + ENTRY);
                    bytes[last..last + 20].fill(0);
                }
                fs::write(&path, &bytes).unwrap();
                let left = Journal::replay(cache.path(), &key(), &PARCEL).unwrap();
                assert_eq!(left.chunks, said(whole - usize::from(torn)), "{len} bytes, {torn}");
                assert_eq!(left.note.as_slice(), b"note");
            }
        }
        assert!(matches!(Journal::replay(Path::new("/nowhere"), &key(), &PARCEL), Err(LeftError::None)));
    }

    #[test]
    fn a_journal_may_be_longer_than_what_is_read_of_it_at_once() {
        let cache = tempfile::tempdir().unwrap();
        let many = (2 * MAX_HEAD / ENTRY) as u64;
        made(cache.path(), &(0..many).map(|chunk| Entry::Chunk(chunk, None)).collect::<Vec<_>>());
        let left = Journal::replay(cache.path(), &key(), &PARCEL).unwrap();
        assert!(left.chunks.into_keys().eq(0..many));
    }

    #[test]
    fn damage_before_the_end_is_not_taken_for_a_torn_end() {
        let cache = tempfile::tempdir().unwrap();
        let journal = made(cache.path(), &entries());
        let path = cache.path().join("changes/journal");
        let bytes = fs::read(&path).unwrap();
        for at in 0..bytes.len() - ENTRY {
            let mut damaged = bytes.clone();
            damaged[at] ^= 1;
            fs::write(&path, &damaged).unwrap();
            assert!(Journal::replay(cache.path(), &key(), &PARCEL).is_err(), "byte {at}");
        }
        // An entry that is missing, and two in another order.
        let at = |entry: usize| journal.head.len() + entry * ENTRY;
        let without = [&bytes[..at(2)], &bytes[at(3)..]].concat();
        let swapped = [&bytes[..at(2)], &bytes[at(3)..at(4)], &bytes[at(2)..at(3)], &bytes[at(4)..]].concat();
        for changed in [without, swapped] {
            fs::write(&path, changed).unwrap();
            let error = Journal::replay(cache.path(), &key(), &PARCEL).err();
            assert!(matches!(error, Some(LeftError::Damaged(2))), "{error:?}");
        }
    }

    /// A full medium takes no entry, and a machine that only sends its changes home needs none.
    #[test]
    fn finding_writes_nothing() {
        let cache = tempfile::tempdir().unwrap();
        made(cache.path(), &entries());
        let path = cache.path().join("changes/journal");
        let before = fs::read(&path).unwrap();
        let mut left = Journal::replay(cache.path(), &key(), &PARCEL).unwrap();
        assert_eq!(fs::read(&path).unwrap(), before);
        left.journal.reserve().unwrap();
        left.journal.reserve().unwrap();
        assert_eq!(fs::read(&path).unwrap().len(), before.len() + ENTRY, "once");
    }

    #[test]
    fn what_was_found_is_gone_on_with_under_new_nonces() {
        let cache = tempfile::tempdir().unwrap();
        made(cache.path(), &entries());
        let mut above = 12;
        for round in 0..3 {
            let mut left = Journal::replay(cache.path(), &key(), &PARCEL).unwrap();
            assert!(left.nonces >= above + NONCES, "round {round}");
            assert_eq!(left.sent, [(Version(3), RecordHash([4; 32]))]);
            above = left.nonces;
            left.journal.reserve().unwrap();
            left.journal.append(Entry::Chunk(100 + round, None)).unwrap();
            if round == 1 {
                left.journal.renew(left.chunks.into_iter().chain([(101, None)])).unwrap();
            }
        }
        let left = Journal::replay(cache.path(), &key(), &PARCEL).unwrap();
        assert_eq!(left.chunks.keys().copied().collect::<Vec<_>>(), [5, 6, 9, 100, 101, 102]);
        remove(cache.path()).unwrap();
        remove(cache.path()).unwrap();
        assert!(!super::left(cache.path()));
    }
}
