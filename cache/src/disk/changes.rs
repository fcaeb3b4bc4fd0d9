//! Chunks that the guest has changed: the youngest in memory, the others on the local medium, which takes them in the
//! background. Nobody holds the lock of this book while the medium works.

use super::spill::{Place, SPILLED, Spill};
use crate::{
    budget::Budget,
    fetch::{Engine, Plain},
    ram::RamCache,
    remote::PAUSES,
    status::lock,
};
use parcel::{chunk::CHUNK_SIZE, keyring::ChunkRef, wire::Code};
use std::{
    collections::BTreeMap,
    io,
    path::Path,
    pin::pin,
    sync::{Arc, Mutex},
    time::Duration,
};
use tokio::sync::Notify;

/// What the book takes for a chunk beside its bytes, about.
const ENTRY: u64 = 192;
/// Bytes of spilled chunks that were read lately and are kept, so that a reader of small pieces does not open a chunk for each.
const COPIES: usize = 8 * CHUNK_SIZE;
/// How long the medium may take for a chunk before the board says that it is waited for.
const PATIENCE: Duration = Duration::from_secs(10);
/// How many chunks of the store go at once when the medium has no room.
const MAKE_ROOM: u64 = 16;

/// Where a changed chunk is.
#[derive(Clone)]
pub enum Held {
    /// Nowhere: it is all zeros.
    Zero,
    /// In memory; always a whole chunk.
    Ram(Arc<Plain>),
    /// On the medium.
    Spilled(Place),
}

struct Entry {
    held: Held,
    /// Raised with each change of the chunk.
    tick: u64,
    /// What it is called as it is now, at the place that changes are committed to.
    sent: Option<ChunkRef>,
}

/// A changed chunk, for a commit.
pub struct Changed {
    /// Its index in the disk.
    pub chunk: u64,
    /// What it is called where it was sent to, if it was not changed since.
    pub sent: Option<ChunkRef>,
    /// It is on the medium.
    pub spilled: bool,
}

#[derive(Default)]
struct Book {
    entries: BTreeMap<u64, Entry>,
    /// Chunks in memory, by their ticks.
    recent: BTreeMap<u64, u64>,
    tick: u64,
    nonces: u64,
    places: u64,
    free: Vec<u64>,
    copies: RamCache<u64>,
}

/// The changed chunks of a disk.
pub struct Changes {
    book: Mutex<Book>,
    spill: Arc<Spill>,
    in_memory: bool,
    most_in_ram: usize,
    surplus: Notify,
    engine: Arc<Engine>,
}

/// A chunk on its way to the medium.
struct Leaving {
    chunk: u64,
    tick: u64,
    plain: Arc<Plain>,
    at: Place,
}

impl Changes {
    /// No changes. Beyond `most_in_ram` chunks, or a quarter of the budget, they leave memory for a file below `cache`, as fast
    /// as that takes them.
    pub fn new(cache: &Path, engine: Arc<Engine>, most_in_ram: usize) -> io::Result<Self> {
        let spill = Spill::new(cache)?;
        Ok(Self {
            book: Mutex::default(),
            in_memory: spill.in_memory(),
            spill: Arc::new(spill),
            most_in_ram: most_in_ram.max(1),
            surplus: Notify::new(),
            engine,
        })
    }

    /// The budget that they count in.
    pub fn budget(&self) -> &Arc<Budget> {
        self.engine.budget()
    }

    /// All changed chunks.
    pub fn list(&self) -> Vec<Changed> {
        let book = lock(&self.book);
        let changed = book.entries.iter().map(|(chunk, entry)| Changed {
            chunk: *chunk,
            sent: entry.sent.clone(),
            spilled: matches!(entry.held, Held::Spilled(_)),
        });
        changed.collect()
    }

    /// Whether a chunk was changed.
    pub fn has(&self, chunk: u64) -> bool {
        lock(&self.book).entries.contains_key(&chunk)
    }

    /// Where a changed chunk is, and its tick.
    pub fn find(&self, chunk: u64) -> Option<(Held, u64)> {
        lock(&self.book).entries.get(&chunk).map(|entry| (entry.held.clone(), entry.tick))
    }

    /// Changes a chunk that is in memory; `false` when it is not there.
    pub fn change(&self, chunk: u64, with: impl FnOnce(&mut [u8])) -> bool {
        let mut book = lock(&self.book);
        let book = &mut *book;
        let Some(entry) = book.entries.get_mut(&chunk) else { return false };
        let Held::Ram(plain) = &mut entry.held else { return false };
        // One that is just leaving for the medium, or is being sent, goes there as it was.
        let plain: &mut Plain = Arc::make_mut(plain);
        with(plain);
        book.recent.remove(&entry.tick);
        book.tick += 1;
        (entry.tick, entry.sent) = (book.tick, None);
        book.recent.insert(book.tick, chunk);
        true
    }

    /// Takes a chunk's new bytes, all of them.
    pub fn put(&self, chunk: u64, held: Held) {
        let mut book = lock(&self.book);
        book.tick += 1;
        let tick = book.tick;
        if matches!(held, Held::Ram(_)) {
            book.recent.insert(tick, chunk);
        }
        if let Some(old) = book.entries.insert(chunk, Entry { held, tick, sent: None }) {
            book.recent.remove(&old.tick);
            if let Held::Spilled(at) = old.held {
                book.free.push(at.place);
            }
        }
        self.engine.board().set_dirty(book.entries.len() as u64);
        self.count(&book);
        if book.recent.len() > self.most_in_ram() {
            self.surplus.notify_one();
        }
    }

    fn most_in_ram(&self) -> usize {
        self.most_in_ram.min(self.budget().most() as usize / CHUNK_SIZE / 4)
    }

    /// A chunk is home under this name, as it was at `tick`.
    pub fn sent(&self, chunk: u64, tick: u64, name: &ChunkRef) {
        if let Some(entry) = lock(&self.book).entries.get_mut(&chunk)
            && entry.tick == tick
        {
            entry.sent = Some(name.clone());
        }
    }

    fn count(&self, book: &Book) {
        let filed = if self.in_memory { book.places * SPILLED as u64 } else { 0 };
        let bytes = (book.recent.len() * CHUNK_SIZE) as u64 + filed + book.entries.len() as u64 * ENTRY;
        self.budget().set_changes(bytes);
        self.engine.fit();
    }

    /// Bytes of a chunk on the medium. One that does not give them back is asked until it does: the guest sees a slow disk, and
    /// the screen says why. `None`: the chunk is elsewhere by now.
    pub async fn bring(&self, chunk: u64, at: Place) -> Option<Arc<Plain>> {
        let mut wait = self.engine.board().waiter();
        let mut pause = PAUSES.0;
        loop {
            if let Some(copy) = lock(&self.book).copies.get(&at.nonce) {
                return Some(copy);
            }
            if !matches!(self.find(chunk), Some((Held::Spilled(now), _)) if now == at) {
                return None;
            }
            let spill = self.spill.clone();
            let mut reading = pin!(self.engine.on_medium(move || spill.read(chunk, at)));
            let read = match tokio::time::timeout(PATIENCE, &mut reading).await {
                Ok(read) => read,
                Err(_) => {
                    wait.set(Code::CacheMedium, &not_back("it does not answer"));
                    reading.await
                }
            };
            let error = match read {
                Ok(plain) => {
                    let plain = Arc::new(plain);
                    lock(&self.book).copies.put(at.nonce, plain.clone(), COPIES);
                    return Some(plain);
                }
                Err(error) => error,
            };
            if !wait.told() {
                tracing::warn!(%error, "the cache medium does not give a changed chunk back");
            }
            wait.set(Code::CacheMedium, &not_back(&error.to_string()));
            tokio::time::sleep(pause).await;
            pause = (pause * 2).min(PAUSES.1);
        }
    }

    /// Moves surplus chunks to the medium, for ever.
    pub async fn spill(self: Arc<Self>) {
        let mut pause = PAUSES.0;
        let mut full = false;
        loop {
            let Some(leaving) = self.surplus() else {
                self.surplus.notified().await;
                continue;
            };
            let (spill, store) = (self.spill.clone(), self.engine.store().clone());
            let Leaving { chunk, at, plain, tick } = leaving;
            let writing = tokio::task::spawn_blocking(move || {
                let mut written = spill.write(chunk, &plain, at);
                if written.is_err() && store.give_up(MAKE_ROOM * SPILLED as u64) > 0 {
                    written = spill.write(chunk, &plain, at);
                }
                written
            });
            let written = writing.await.unwrap_or_else(|panic| Err(io::Error::other(panic)));
            self.left(chunk, tick, at, written.is_ok());
            match written {
                Ok(()) => (pause, full) = (PAUSES.0, false),
                Err(error) => {
                    // Told once, not at every try.
                    if !std::mem::replace(&mut full, true) {
                        tracing::warn!(%error, "changed chunks stay in memory: the cache medium takes no more");
                    }
                    tokio::time::sleep(pause).await;
                    pause = (pause * 2).min(PAUSES.1);
                }
            }
        }
    }

    /// The chunk that has not been changed for longest, if memory is to hold fewer.
    fn surplus(&self) -> Option<Leaving> {
        let mut book = lock(&self.book);
        if book.recent.len() <= self.most_in_ram() {
            return None;
        }
        let (&tick, &chunk) = book.recent.first_key_value()?;
        let Held::Ram(plain) = &book.entries.get(&chunk)?.held else { return None };
        let plain = plain.clone();
        book.nonces += 1;
        let place = book.free.pop().unwrap_or_else(|| {
            book.places += 1;
            book.places - 1
        });
        Some(Leaving { chunk, tick, plain, at: Place { place, nonce: book.nonces } })
    }

    /// A chunk was written to its place, or could not be; meanwhile it may have changed.
    fn left(&self, chunk: u64, tick: u64, at: Place, written: bool) {
        let mut book = lock(&self.book);
        match book.entries.get_mut(&chunk) {
            Some(entry) if written && entry.tick == tick => {
                entry.held = Held::Spilled(at);
                book.recent.remove(&tick);
            }
            _ => book.free.push(at.place),
        }
        self.count(&book);
    }
}

fn not_back(error: &str) -> String {
    format!(
        "What you changed lately is partly on this kiosk's disk, which does not give it back ({error}). It is tried again."
    )
}
