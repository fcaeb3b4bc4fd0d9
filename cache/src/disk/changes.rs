//! Chunks that the guest has changed: the youngest in memory, the others on the local medium, which takes them in the
//! background. Nobody holds the lock of this book while the medium works.
//!
//! What the guest has flushed is on the medium, and in the journal of what is there, whether memory holds it too or not: it is
//! found again when this process is killed. What is there is given up only when something newer of the chunk is.

pub use super::book::Held;
use super::{
    book::{Book, Kept},
    journal::{self, Entry as Said, Journal, Left},
    spill::{Around, Place, SPILLED, Spill},
};
use crate::{
    budget::Budget,
    fetch::{Engine, Plain},
    remote::{PAUSES, told_after},
    status::lock,
    store::Store,
};
use parcel::{
    changes::Head,
    chunk::CHUNK_SIZE,
    id::{ParcelId, RecordHash, Version},
    keyring::ChunkRef,
    secret::{ParcelKey, Secret},
    wire::Code,
};
use std::{
    io,
    path::Path,
    sync::{Arc, Mutex},
    time::Duration,
};
use tokio::{
    sync::{Mutex as AsyncMutex, Notify},
    time::sleep,
};
use zeroize::Zeroizing;

/// Bytes of spilled chunks that were read lately and are kept, so that a reader of small pieces does not open a chunk for each.
const COPIES: usize = 8 * CHUNK_SIZE;
/// How long the medium may take for a chunk before the board says that it is waited for.
const PATIENCE: Duration = Duration::from_secs(10);
/// How many chunks of the store go at once when the medium has no room.
const MAKE_ROOM: u64 = 16;

/// Where changes come from.
pub enum Origin<'a> {
    /// There are none yet; whoever is to find them again finds this note beside them.
    New(&'a [u8]),
    /// From an engine that was killed.
    Left(Box<Left>),
}

/// A changed chunk, for a commit.
pub struct Changed {
    /// Its index in the disk.
    pub chunk: u64,
    /// It is on the medium.
    pub spilled: bool,
}

/// The changed chunks of a disk.
pub struct Changes {
    book: Mutex<Book>,
    spill: Arc<Spill>,
    journal: Arc<Mutex<Journal>>,
    /// One chunk at a time goes to the medium, so that the journal has them in their order.
    keeping: AsyncMutex<()>,
    in_memory: bool,
    most_in_ram: usize,
    surplus: Notify,
    engine: Arc<Engine>,
}

impl Changes {
    /// Changes of `parcel`. Beyond `most_in_ram` chunks, or a quarter of the budget, they leave memory for a file below `cache`, as
    /// fast as that takes them.
    pub fn new(
        cache: &Path,
        (parcel, key): (&ParcelId, &ParcelKey),
        origin: Origin<'_>,
        engine: Arc<Engine>,
        most_in_ram: usize,
    ) -> io::Result<Self> {
        let mut book = Book::default();
        let (journal, session) = match origin {
            Origin::New(note) => {
                let mut session = Zeroizing::new([0; 32]);
                getrandom::fill(&mut *session).map_err(io::Error::other)?;
                let head = Head { key: Secret::from_bytes(*session), note: Zeroizing::new(note.to_vec()) };
                (Journal::create(cache, &head, key, parcel)?, session)
            }
            Origin::Left(left) => {
                book.take_in(&left);
                (left.journal, left.key)
            }
        };
        let spill = Spill::open(&journal::chunks(cache), &session)?;
        book.journal = journal.bytes();
        if spill.in_memory() {
            make_holes(&mut book, &spill);
        }
        let changes = Self {
            in_memory: spill.in_memory(),
            book: Mutex::new(book),
            spill: Arc::new(spill),
            journal: Arc::new(Mutex::new(journal)),
            keeping: AsyncMutex::default(),
            most_in_ram: most_in_ram.max(1),
            surplus: Notify::new(),
            engine,
        };
        let book = lock(&changes.book);
        changes.engine.board().set_dirty(book.entries.len() as u64);
        changes.count(&book);
        drop(book);
        Ok(changes)
    }

    /// The budget that they count in.
    pub fn budget(&self) -> &Arc<Budget> {
        self.engine.budget()
    }

    /// All changed chunks.
    pub fn list(&self) -> Vec<Changed> {
        let book = lock(&self.book);
        let changed = book
            .entries
            .iter()
            .map(|(chunk, entry)| Changed { chunk: *chunk, spilled: matches!(entry.held, Held::Spilled(_)) });
        changed.collect()
    }

    /// What a changed chunk is called where it was sent to, if it was not changed since.
    pub fn sent_as(&self, chunk: u64) -> Option<ChunkRef> {
        lock(&self.book).entries.get(&chunk).and_then(|entry| entry.sent.clone())
    }

    /// Whether a chunk was changed.
    pub fn has(&self, chunk: u64) -> bool {
        lock(&self.book).entries.contains_key(&chunk)
    }

    /// Whether a chunk was changed, and is all zeros.
    pub fn is_zero(&self, chunk: u64) -> bool {
        lock(&self.book).entries.get(&chunk).is_some_and(|entry| matches!(entry.held, Held::Zero))
    }

    /// Where a changed chunk is, and its tick.
    pub fn find(&self, chunk: u64) -> Option<(Held, u64)> {
        lock(&self.book).entries.get(&chunk).map(|entry| (entry.held.clone(), entry.tick))
    }

    /// Changes a chunk that is in memory; `false` when it is not there.
    pub fn change(&self, chunk: u64, with: impl FnOnce(&mut [u8])) -> bool {
        lock(&self.book).change(chunk, with)
    }

    /// Takes a chunk's new bytes, all of them.
    pub fn put(&self, chunk: u64, held: Held) {
        let mut book = lock(&self.book);
        book.put(chunk, held);
        self.engine.board().set_dirty(book.entries.len() as u64);
        self.count(&book);
        if self.moves_something(&book) {
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
        self.budget().set_changes(book.takes(self.in_memory));
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
            let reading = self.engine.on_medium(move || spill.read(chunk, at));
            let silent = not_back("it does not answer");
            let read = told_after(sleep(PATIENCE), &mut wait, reading, Code::CacheMedium, &silent);
            let error = match read.await {
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
            sleep(pause).await;
            pause = (pause * 2).min(PAUSES.1);
        }
    }

    /// Moves surplus chunks to the medium, and notes there which are all zeros, for ever.
    pub async fn spill(self: Arc<Self>) {
        let mut pause = PAUSES.0;
        let mut full = false;
        loop {
            let Some(chunk) = self.surplus() else {
                self.surplus.notified().await;
                continue;
            };
            match self.keep(chunk).await {
                Ok(()) => (pause, full) = (PAUSES.0, false),
                Err(error) => {
                    // Told once, not at every try.
                    if !std::mem::replace(&mut full, true) {
                        tracing::warn!(%error, "changed chunks stay in memory: the cache medium takes no more");
                    }
                    sleep(pause).await;
                    pause = (pause * 2).min(PAUSES.1);
                }
            }
        }
    }

    /// A chunk whose place on the medium holds what it was, and whose place is wanted: the chunk takes none any more, or the
    /// medium is memory, and there is little of that.
    fn stale(&self, book: &Book) -> Option<u64> {
        let tight = || self.in_memory && self.budget().is_tight();
        book.zeroed.first().or_else(|| book.doubled.first().filter(|_| tight())).copied()
    }

    /// Whether something is to be kept, or to leave memory.
    fn moves_something(&self, book: &Book) -> bool {
        book.recent.len() > self.most_in_ram() || self.stale(book).is_some()
    }

    /// What is to be kept next: what holds a place in vain, or else the chunk in memory that has not been changed for longest, if
    /// memory is to hold fewer. Those that are kept already leave memory.
    fn surplus(&self) -> Option<u64> {
        let mut book = lock(&self.book);
        if let Some(stale) = self.stale(&book) {
            return Some(stale);
        }
        let mut left = false;
        let found = loop {
            if book.recent.len() <= self.most_in_ram() {
                break None;
            }
            let Some((_, &chunk)) = book.recent.first_key_value() else { break None };
            if !book.leaves_memory(chunk) {
                break Some(chunk);
            }
            left = true;
        };
        if left {
            self.count(&book);
        }
        found
    }

    /// Returns when all that was changed before is in the journal and outlives this process. A medium that has no room is asked
    /// until it has: the guest sees a slow flush, and the screen says why.
    pub async fn flush(self: &Arc<Self>) {
        let mut wait = self.engine.board().waiter();
        let mut pause = PAUSES.0;
        let silent = not_taken("it does not answer");
        // No list: there may be very many chunks, and as many flushes as the ring has places.
        let (mut from, began) = (0, lock(&self.book).tick);
        let next = |from| lock(&self.book).unkept(from, began);
        while let Some(chunk) = next(from) {
            from = chunk + 1;
            loop {
                let kept =
                    told_after(sleep(PATIENCE), &mut wait, self.keep(chunk), Code::CacheMedium, &silent);
                let Err(error) = kept.await else { break };
                if !wait.told() {
                    tracing::warn!(%error, "the cache medium does not take what the guest wants kept");
                }
                wait.set(Code::CacheMedium, &not_taken(&error.to_string()));
                sleep(pause).await;
                pause = (pause * 2).min(PAUSES.1);
            }
        }
    }

    /// This record is being sent to be the next version: whoever finds the journal is to know it. A commit does without a medium
    /// that does not take it: then the lock tells whose the next version is.
    pub async fn sends(self: &Arc<Self>, version: Version, record: RecordHash) {
        let changes = self.clone();
        let writing = tokio::spawn(async move {
            let _alone = changes.keeping.lock().await;
            let (journal, store) = (changes.journal.clone(), changes.engine.store().clone());
            let writing = tokio::task::spawn_blocking(move || {
                with_room(&store, || lock(&journal).append(Said::Sent(version, record)))
            });
            writing.await.unwrap_or_else(|panic| Err(io::Error::other(panic)))
        });
        let mut wait = self.engine.board().waiter();
        let silent = "This kiosk's disk does not answer. Your computer is saved without it.";
        let written = told_after(sleep(PATIENCE / 4), &mut wait, writing, Code::CacheMedium, silent);
        let written = match tokio::time::timeout(PATIENCE, written).await {
            Ok(written) => written.unwrap_or_else(|panic| Err(io::Error::other(panic))),
            Err(late) => Err(late.into()),
        };
        if let Err(error) = written {
            tracing::warn!(%error, "the journal does not take what is being sent");
        }
    }

    /// Writes a chunk as it is now to the medium, and that into the journal. Goes on when nobody waits for it any more, since
    /// chunks have to be in the journal in their order.
    async fn keep(self: &Arc<Self>, chunk: u64) -> io::Result<()> {
        let changes = self.clone();
        let keeping = tokio::spawn(async move {
            let _alone = changes.keeping.lock().await;
            changes.keep_alone(chunk).await
        });
        keeping.await.unwrap_or_else(|panic| Err(io::Error::other(panic)))
    }

    async fn keep_alone(&self, chunk: u64) -> io::Result<()> {
        let Some((tick, leaving)) = lock(&self.book).leave(chunk) else { return Ok(()) };
        let at = leaving.as_ref().map(|(_, at)| *at);
        let (spill, journal, store) = (self.spill.clone(), self.journal.clone(), self.engine.store().clone());
        let writing = tokio::task::spawn_blocking(move || {
            let write = || {
                if let Some((plain, at)) = &leaving {
                    lock(&journal).reserve()?;
                    spill.write(chunk, plain, *at)?;
                }
                lock(&journal).append(Said::Chunk(chunk, at))
            };
            with_room(&store, write)
        });
        let written = writing.await.unwrap_or_else(|panic| Err(io::Error::other(panic)));
        if let Some(around) = self.kept(chunk, tick, at, written.is_ok()) {
            let spill = self.spill.clone();
            match tokio::task::spawn_blocking(move || spill.empty(around)).await {
                Ok(Ok(())) => {
                    let mut book = lock(&self.book);
                    book.emptied(around.place);
                    self.count(&book);
                }
                Ok(Err(error)) => tracing::debug!(%error, "a free place still takes memory"),
                Err(panic) => return Err(io::Error::other(panic)),
            }
        }
        let Some(chunks) = self.useful() else { return written };
        let journal = self.journal.clone();
        let renewing = tokio::task::spawn_blocking(move || lock(&journal).renew(chunks.into_iter()));
        if let Err(error) = renewing.await.unwrap_or_else(|panic| Err(io::Error::other(panic))) {
            tracing::warn!(%error, "the journal of changes cannot be written anew; the old one is gone on with");
        }
        self.count_journal();
        written
    }
}

impl Changes {
    /// Notes that a chunk was kept, or could not be. Gives the place that is free now, if the medium is memory.
    fn kept(&self, chunk: u64, tick: u64, at: Option<Place>, written: bool) -> Option<Around> {
        let journal = lock(&self.journal).bytes();
        let mut book = lock(&self.book);
        book.journal = journal;
        let freed = if written { book.was_kept(chunk, Kept { tick, at }) } else { at.map(|at| at.place) };
        if let Some(place) = freed {
            book.frees(place);
        }
        // On a medium that is memory it would take memory twice.
        if self.in_memory {
            book.leaves_memory(chunk);
        }
        self.count(&book);
        if self.moves_something(&book) {
            self.surplus.notify_one();
        }
        freed.filter(|_| self.in_memory).map(|place| book.around(place))
    }

    fn count_journal(&self) {
        let journal = lock(&self.journal).bytes();
        let mut book = lock(&self.book);
        book.journal = journal;
        self.count(&book);
    }

    /// What the journal has to say, when it is to be written anew.
    fn useful(&self) -> Option<Vec<(u64, Option<Place>)>> {
        let journal = lock(&self.journal);
        let book = lock(&self.book);
        let chunks = book.entries.iter().filter_map(|(chunk, entry)| Some((*chunk, entry.kept?.at)));
        journal.is_stale(book.entries.len()).then(|| chunks.collect())
    }
}

/// Gives the room of all free places back, and what a killed engine had written beyond them.
fn make_holes(book: &mut Book, spill: &Spill) {
    if let Err(error) = spill.cut(book.file_len()) {
        tracing::debug!(%error, "what a killed engine wrote last still takes memory");
    }
    for place in book.free() {
        match spill.empty(book.around(place)) {
            Ok(()) => book.emptied(place),
            Err(error) => tracing::debug!(%error, "a free place still takes memory"),
        }
    }
}

/// Writes to the medium. One that does not take it gets room from the store, whose objects the server has too.
fn with_room(store: &Store, write: impl Fn() -> io::Result<()>) -> io::Result<()> {
    match write() {
        Err(_) if store.give_up(MAKE_ROOM * SPILLED as u64) > 0 => write(),
        done => done,
    }
}

fn not_taken(error: &str) -> String {
    format!(
        "Your computer wants its changes kept, and this kiosk's disk does not take them ({error}). It is tried again. You can \
         suspend."
    )
}

fn not_back(error: &str) -> String {
    format!(
        "What you changed lately is partly on this kiosk's disk, which does not give it back ({error}). It is tried again."
    )
}
