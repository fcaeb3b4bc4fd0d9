//! The virtual disk of an open parcel: what it holds ([`Disk`]), and the vhost-user device that shows it to a guest.

mod book;
pub mod changes;
pub mod device;
pub mod journal;
mod queue;
pub mod serve;
pub mod spill;

use crate::{
    budget::To,
    fetch::{Class, Keep, Plain},
    keyring::Keyring,
    status::lock,
};
use book::ENTRY;
use changes::{Changed, Changes, Held};
use parcel::{
    chunk::CHUNK_SIZE,
    id::{RecordHash, Version},
    keyring::{ChunkRef, ImageKind},
};
use std::{
    collections::HashMap,
    io,
    sync::{
        Arc, Mutex,
        atomic::{AtomicU64, Ordering::Relaxed, Ordering::SeqCst},
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
    /// It stays as it is, and so does one on the medium, and a whole one that was not changed while memory is short: it would
    /// have to wait for room there.
    Leave,
}

/// The disk image of a version with what the guest has written since. Every read sees the newest bytes.
pub struct Disk {
    bytes: u64,
    keyring: Arc<Keyring>,
    changes: Arc<Changes>,
    /// Moves changes to the medium.
    spilling: AbortHandle,
    busy: Mutex<HashMap<u64, Arc<AsyncMutex<()>>>>,
    next: AtomicU64,
    /// Chunks that are being fetched ahead of a reader.
    ahead: Mutex<HashMap<u64, AbortHandle>>,
    requests: AtomicU64,
}

impl Drop for Disk {
    fn drop(&mut self) {
        self.spilling.abort();
        self.changes.budget().set_changes(0);
        // They hold the keys of the version.
        lock(&self.ahead).values().for_each(AbortHandle::abort);
    }
}

impl Disk {
    /// The disk of `keyring`'s version, with no changes yet; `changes` will hold them.
    pub fn new(keyring: Arc<Keyring>, changes: Changes) -> Arc<Self> {
        let bytes = keyring.bytes(ImageKind::Disk).unwrap_or(0);
        let changes = Arc::new(changes);
        let spilling = tokio::spawn(changes.clone().spill()).abort_handle();
        Arc::new(Self {
            bytes,
            keyring,
            changes,
            spilling,
            busy: Mutex::default(),
            next: AtomicU64::new(u64::MAX),
            ahead: Mutex::default(),
            requests: AtomicU64::new(0),
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

    /// The changed chunks.
    pub fn changes(&self) -> Vec<Changed> {
        self.changes.list()
    }

    /// What a changed chunk holds now: its bytes up to the end of the disk, or `None` when it is all zeros; and its tick, for
    /// [`Disk::sent`]. Waits for a medium that does not give them back.
    pub async fn changed(&self, chunk: u64) -> (u64, Option<Plain>) {
        loop {
            let Some((held, tick)) = self.changes.find(chunk) else { return (0, None) };
            let plain = match held {
                Held::Zero => return (tick, None),
                Held::Ram(plain) => plain,
                Held::Spilled(at) => match self.changes.bring(chunk, at).await {
                    Some(plain) => plain,
                    None => continue,
                },
            };
            let plain = Zeroizing::new(plain[..self.chunk_len(chunk)].to_vec());
            return (tick, plain.iter().any(|byte| *byte != 0).then_some(plain));
        }
    }

    /// Returns when all that was written before outlives this process.
    pub async fn flush(&self) {
        self.changes.flush().await;
    }

    /// This record is being sent to be the next version.
    pub async fn sends(&self, version: Version, record: RecordHash) {
        self.changes.sends(version, record).await;
    }

    /// What a changed chunk is called where it was sent to, if it was not changed since.
    pub fn sent_as(&self, chunk: u64) -> Option<ChunkRef> {
        self.changes.sent_as(chunk)
    }

    /// A changed chunk is home under this name, as it was at `tick`.
    pub fn sent(&self, chunk: u64, tick: u64, name: &ChunkRef) {
        self.changes.sent(chunk, tick, name);
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
        while let Some((held, _)) = self.changes.find(chunk) {
            let plain = match held {
                Held::Zero => {
                    into.fill(0);
                    return Ok(());
                }
                Held::Ram(plain) => plain,
                Held::Spilled(at) => match self.changes.bring(chunk, at).await {
                    Some(plain) => plain,
                    None => continue,
                },
            };
            into.copy_from_slice(&plain[from..from + into.len()]);
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
            if self.changes.has(chunk) || ahead.contains_key(&chunk) {
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
            self.change(at / CHUNK, (at % CHUNK) as usize, room, |bytes| bytes.copy_from_slice(part)).await;
            (at, rest) = (at + room as u64, later);
        }
        Ok(())
    }

    /// Makes `len` bytes at `offset` zeros; whole chunks become holes, and holes stay what they are.
    pub async fn zero(&self, offset: u64, len: u64) -> io::Result<()> {
        self.clear(offset, len, Rest::Fetch).await
    }

    /// The guest does not need `len` bytes at `offset` any more: they become zeros where that costs little memory, and waits for
    /// none.
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
        if self.changes.is_zero(chunk) {
            return;
        }
        let whole = from == 0 && len == self.chunk_len(chunk);
        if rest == Rest::Leave && !whole {
            self.changes.change(chunk, |bytes| bytes[from..from + len].fill(0));
            return;
        }
        if !self.changes.has(chunk) && self.keyring.reference(ImageKind::Disk, chunk).await.is_none() {
            return;
        }
        if !whole {
            drop(alone);
            return self.change(chunk, from, len, |bytes| bytes.fill(0)).await;
        }
        // That a chunk is all zeros takes memory, too, if nothing else is known of it yet.
        if self.changes.has(chunk) {
            return self.changes.put(chunk, Held::Zero);
        }
        if rest == Rest::Leave {
            if !self.changes.budget().is_tight() {
                self.changes.put(chunk, Held::Zero);
            }
            return;
        }
        drop(alone);
        let _room = self.changes.budget().bytes(To::New, ENTRY).await;
        let _alone = self.alone(chunk).await;
        self.changes.put(chunk, Held::Zero);
    }

    /// Bytes of a chunk: the last one may be shorter.
    fn chunk_len(&self, chunk: u64) -> usize {
        (self.bytes - chunk * CHUNK).min(CHUNK) as usize
    }

    /// Changes `len` bytes of a chunk; the rest of it is fetched first unless it is overwritten or held already. What takes more
    /// memory waits until there is room; reads of the chunk go on meanwhile.
    async fn change(&self, chunk: u64, from: usize, len: usize, with: impl Fn(&mut [u8])) {
        let mut room = None;
        loop {
            let alone = self.alone(chunk).await;
            if self.changes.change(chunk, |bytes| with(&mut bytes[from..from + len])) {
                return;
            }
            let found = self.changes.find(chunk);
            if room.is_none() {
                drop(alone);
                let to = if found.is_some() { To::Again } else { To::New };
                room = Some(self.changes.budget().chunk(to).await);
                continue;
            }
            let old = match found {
                Some((Held::Zero, _)) => None,
                Some((Held::Spilled(at), _)) => match self.changes.bring(chunk, at).await {
                    Some(old) => Some(old),
                    None => continue,
                },
                Some((Held::Ram(_), _)) => continue,
                None if from == 0 && len == self.chunk_len(chunk) => None,
                None => self.keyring.chunk(ImageKind::Disk, chunk, Class::Demand, Keep::No).await,
            };
            let mut whole = Zeroizing::new(vec![0; CHUNK_SIZE]);
            if let Some(old) = old {
                copy_padded(&old, 0, &mut whole);
            }
            with(&mut whole[from..from + len]);
            return self.changes.put(chunk, Held::Ram(Arc::new(whole)));
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

/// Copies from a chunk that may be shorter than a full one: beyond its end are zeros.
fn copy_padded(plain: &[u8], from: usize, into: &mut [u8]) {
    let have = plain.len().saturating_sub(from).min(into.len());
    if have > 0 {
        into[..have].copy_from_slice(&plain[from..from + have]);
    }
    into[have..].fill(0);
}
