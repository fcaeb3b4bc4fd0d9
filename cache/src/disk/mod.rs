//! The virtual disk of an open parcel: what it holds ([`Disk`]), and the vhost-user device that shows it to a guest.

pub mod device;
pub mod dirty;
mod queue;
pub mod serve;

use crate::{
    fetch::{Class, Keep, Plain},
    keyring::Keyring,
    remote::PAUSES,
    status::lock,
};
use dirty::{Dirty, Held};
use parcel::{chunk::CHUNK_SIZE, keyring::ImageKind, wire::Code};
use std::{
    collections::HashMap,
    io,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicU64, Ordering::Relaxed, Ordering::SeqCst},
    },
};
use tokio::{
    sync::{Mutex as AsyncMutex, OwnedMutexGuard},
    task::AbortHandle,
};
use zeroize::Zeroizing;

/// Bytes of a chunk, as offsets are counted.
const CHUNK: u64 = CHUNK_SIZE as u64;
/// Chunks that are read ahead of a sequential reader.
const AHEAD: u64 = 3;

/// What becomes of a part of a chunk that would have to be fetched for its other parts first.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Rest {
    Fetch,
    /// It stays as it is.
    Leave,
}

/// The disk image of a version with what the guest has written since. Every read sees the newest bytes.
pub struct Disk {
    bytes: u64,
    keyring: Arc<Keyring>,
    dirty: Mutex<Dirty>,
    busy: Mutex<HashMap<u64, Arc<AsyncMutex<()>>>>,
    next: AtomicU64,
    /// Chunks that are being fetched ahead of a reader.
    ahead: Mutex<HashMap<u64, AbortHandle>>,
    requests: AtomicU64,
    /// Changed chunks may be on the medium.
    spilling: AtomicBool,
}

impl Drop for Disk {
    fn drop(&mut self) {
        // They hold the keys of the version.
        lock(&self.ahead).values().for_each(AbortHandle::abort);
    }
}

impl Disk {
    /// The disk of `keyring`'s version, with no changes yet; `dirty` will hold them.
    pub fn new(keyring: Arc<Keyring>, dirty: Dirty) -> Arc<Self> {
        let bytes = keyring.bytes(ImageKind::Disk).unwrap_or(0);
        Arc::new(Self {
            bytes,
            keyring,
            dirty: Mutex::new(dirty),
            busy: Mutex::default(),
            next: AtomicU64::new(u64::MAX),
            ahead: Mutex::default(),
            requests: AtomicU64::new(0),
            spilling: AtomicBool::new(false),
        })
    }

    /// Size in bytes.
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    /// How many requests a machine has made so far.
    pub fn requests(&self) -> u64 {
        self.requests.load(SeqCst)
    }

    /// A machine makes a request.
    fn requested(&self) {
        self.requests.fetch_add(1, SeqCst);
    }

    /// Numbers of the changed chunks, ascending.
    pub fn dirty_chunks(&self) -> Vec<u64> {
        lock(&self.dirty).chunks()
    }

    /// What a changed chunk holds now: its bytes up to the end of the disk, or `None` when it is all zeros.
    pub fn dirty_bytes(&self, chunk: u64) -> io::Result<Option<Plain>> {
        let read = lock(&self.dirty).read(chunk).map_err(|error| io::Error::other(not_back(&error)));
        let Some(mut plain) = read? else { return Ok(None) };
        plain.truncate(self.chunk_len(chunk));
        Ok(plain.iter().any(|byte| *byte != 0).then_some(plain))
    }

    /// Reads `into.len()` bytes at `offset`; the caller has checked that they are within the disk.
    pub async fn read(self: &Arc<Self>, offset: u64, into: &mut [u8]) -> io::Result<()> {
        self.within(offset, into.len() as u64)?;
        let mut parts = Vec::new();
        let (mut at, mut rest) = (offset, into);
        while !rest.is_empty() {
            let room = (CHUNK - at % CHUNK).min(rest.len() as u64) as usize;
            let (part, later) = rest.split_at_mut(room);
            parts.push(self.read_part(at / CHUNK, (at % CHUNK) as usize, part));
            (at, rest) = (at + room as u64, later);
        }
        futures::future::try_join_all(parts).await?;
        self.read_ahead(offset, at);
        Ok(())
    }

    async fn read_part(&self, chunk: u64, from: usize, into: &mut [u8]) -> io::Result<()> {
        let _alone = self.alone(chunk).await;
        if self.held(|dirty| dirty.read_into(chunk, from, into)).await {
            return Ok(());
        }
        match self.keyring.chunk(ImageKind::Disk, chunk, Class::Demand, Keep::Ram).await {
            Some(plain) => copy_padded(&plain, from, into),
            None => into.fill(0),
        }
        Ok(())
    }

    /// A reader that goes on where it stopped gets the next chunks early.
    fn read_ahead(self: &Arc<Self>, from: u64, to: u64) {
        let sequential = self.next.swap(to, Relaxed) == from;
        if !sequential || from / CHUNK == to / CHUNK {
            return;
        }
        let last = self.bytes.div_ceil(CHUNK);
        let mut ahead = lock(&self.ahead);
        ahead.retain(|_, task| !task.is_finished());
        for chunk in (to / CHUNK..last).take(AHEAD as usize) {
            if self.dirty(|dirty| dirty.has(chunk)) || ahead.contains_key(&chunk) {
                continue;
            }
            let keyring = self.keyring.clone();
            let fetch =
                async move { drop(keyring.chunk(ImageKind::Disk, chunk, Class::Prefetch, Keep::Ram).await) };
            ahead.insert(chunk, tokio::spawn(fetch).abort_handle());
        }
    }

    /// Writes `from` at `offset`; the caller has checked that it is within the disk.
    pub async fn write(&self, offset: u64, from: &[u8]) -> io::Result<()> {
        self.within(offset, from.len() as u64)?;
        let (mut at, mut rest) = (offset, from);
        while !rest.is_empty() {
            let room = (CHUNK - at % CHUNK).min(rest.len() as u64) as usize;
            let (part, later) = rest.split_at(room);
            let alone = self.alone(at / CHUNK).await;
            self.change(&alone, (at % CHUNK) as usize, room, |bytes| bytes.copy_from_slice(part)).await;
            (at, rest) = (at + room as u64, later);
        }
        Ok(())
    }

    /// Makes `len` bytes at `offset` zeros; whole chunks become holes, and holes stay what they are.
    pub async fn zero(&self, offset: u64, len: u64) -> io::Result<()> {
        self.clear(offset, len, Rest::Fetch).await
    }

    /// The guest does not need `len` bytes at `offset` any more: they become zeros where that costs nothing.
    pub async fn discard(&self, offset: u64, len: u64) -> io::Result<()> {
        self.clear(offset, len, Rest::Leave).await
    }

    async fn clear(&self, offset: u64, len: u64, rest: Rest) -> io::Result<()> {
        self.within(offset, len)?;
        let (mut at, end) = (offset, offset + len);
        while at < end {
            let room = (CHUNK - at % CHUNK).min(end - at) as usize;
            self.clear_part(at / CHUNK, (at % CHUNK) as usize, room, rest).await;
            at += room as u64;
        }
        Ok(())
    }

    async fn clear_part(&self, chunk: u64, from: usize, len: usize, rest: Rest) {
        let alone = self.alone(chunk).await;
        let held = self.dirty(|dirty| dirty.has(chunk));
        if !held && self.keyring.reference(ImageKind::Disk, chunk).await.is_none() {
            return;
        }
        if from == 0 && len == self.chunk_len(chunk) {
            self.dirty(|dirty| dirty.put(chunk, Held::Zero));
        } else if held || rest == Rest::Fetch {
            self.change(&alone, from, len, |bytes| bytes.fill(0)).await;
        }
    }

    /// Bytes of a chunk: the last one may be shorter.
    fn chunk_len(&self, chunk: u64) -> usize {
        (self.bytes - chunk * CHUNK).min(CHUNK) as usize
    }

    /// Changes `len` bytes of a chunk; the rest of it is fetched first unless it is overwritten or held already.
    async fn change(&self, alone: &Alone<'_>, from: usize, len: usize, with: impl Fn(&mut [u8])) {
        let chunk = alone.chunk;
        let end = self.chunk_len(chunk);
        if !self.dirty(|dirty| dirty.has(chunk)) {
            let mut whole = Zeroizing::new(vec![0; CHUNK_SIZE]);
            if from != 0 || len != end {
                let old = self.keyring.chunk(ImageKind::Disk, chunk, Class::Demand, Keep::No).await;
                if let Some(old) = old {
                    copy_padded(&old, 0, &mut whole);
                }
            }
            with(&mut whole[from..from + len]);
            return self.dirty(|dirty| dirty.put(chunk, Held::Ram(whole)));
        }
        self.held(|dirty| dirty.change(chunk, |bytes| with(&mut bytes[from..from + len]))).await;
    }

    /// Works on what the guest has written. When that may be on the medium, which may be slow, the runtime's other work goes
    /// on elsewhere meanwhile.
    fn dirty<T>(&self, work: impl FnOnce(&mut Dirty) -> T) -> T {
        let work = || {
            let mut dirty = lock(&self.dirty);
            let done = work(&mut dirty);
            self.spilling.store(dirty.may_spill(), Relaxed);
            done
        };
        match self.spilling.load(Relaxed) {
            true => tokio::task::block_in_place(work),
            false => work(),
        }
    }

    /// Works on what the guest has written. A medium that does not give it back is asked until it does: the guest sees a
    /// slow disk, and the screen says why.
    async fn held<T>(&self, mut work: impl FnMut(&mut Dirty) -> io::Result<T>) -> T {
        let mut wait = None;
        let mut pause = PAUSES.0;
        loop {
            let error = match self.dirty(&mut work) {
                Ok(done) => return done,
                Err(error) => error,
            };
            let wait = wait.get_or_insert_with(|| {
                tracing::warn!(%error, "the cache medium does not give a changed chunk back");
                self.keyring.engine().board().waiter()
            });
            wait.set(Code::CacheMedium, &not_back(&error));
            tokio::time::sleep(pause).await;
            pause = (pause * 2).min(PAUSES.1);
        }
    }

    fn within(&self, offset: u64, len: u64) -> io::Result<()> {
        match offset.checked_add(len) {
            Some(end) if end <= self.bytes => Ok(()),
            _ => Err(io::Error::new(io::ErrorKind::InvalidInput, "beyond the end of the disk")),
        }
    }

    /// One at a time on a chunk: a change reads, waits and writes.
    async fn alone(&self, chunk: u64) -> Alone<'_> {
        let mutex = lock(&self.busy).entry(chunk).or_default().clone();
        let mut alone = Alone { disk: self, chunk, guard: None, mutex: Some(mutex.clone()) };
        alone.guard = Some(mutex.lock_owned().await);
        alone
    }
}

/// The right to work on a chunk, or to wait for it; the last one out removes its lock.
struct Alone<'a> {
    disk: &'a Disk,
    chunk: u64,
    guard: Option<OwnedMutexGuard<()>>,
    mutex: Option<Arc<AsyncMutex<()>>>,
}

impl Drop for Alone<'_> {
    fn drop(&mut self) {
        let mut busy = lock(&self.disk.busy);
        self.guard = None;
        self.mutex = None;
        if busy.get(&self.chunk).is_some_and(|mutex| Arc::strong_count(mutex) == 1) {
            busy.remove(&self.chunk);
        }
    }
}

fn not_back(error: &io::Error) -> String {
    format!("what was written lately does not come back from this kiosk's disk ({error}); it is tried again")
}

/// Copies from a chunk that may be shorter than a full one: beyond its end are zeros.
fn copy_padded(plain: &[u8], from: usize, into: &mut [u8]) {
    let have = plain.len().saturating_sub(from).min(into.len());
    if have > 0 {
        into[..have].copy_from_slice(&plain[from..from + have]);
    }
    into[have..].fill(0);
}
