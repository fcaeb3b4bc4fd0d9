//! What `cached` tells about itself while it works: bytes moved, the long step under way, pieces waited for.

use client::traffic::Traffic;
use parcel::wire::{
    Code, Progress,
    daemon::{Status, Waiting},
    memory::Room,
};
use std::{
    collections::{BTreeMap, VecDeque},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};
use tokio::sync::watch;

/// The window over which a rate is taken.
const RATE_WINDOW: Duration = Duration::from_secs(5);
/// Nothing done for so long is no rate any more. Pieces over a slow link come one by one, some seconds apart.
const STALLED: Duration = Duration::from_secs(30);

/// Locks a mutex whose data stay consistent even if a holder panicked.
pub fn lock<T: ?Sized>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A long step: how far, and how fast lately.
#[derive(Debug, Default)]
pub struct Meter {
    done: u64,
    total: u64,
    seen: VecDeque<(Instant, u64)>,
}

impl Meter {
    /// A step of `total` bytes.
    pub fn new(total: u64, now: Instant) -> Self {
        Self { done: 0, total, seen: VecDeque::from([(now, 0)]) }
    }

    /// More of it is done.
    pub fn add(&mut self, bytes: u64, now: Instant) {
        self.done += bytes;
        self.total = self.total.max(self.done);
        let several = self.seen.len() > 1;
        match self.seen.back_mut() {
            Some((at, done)) if several && now.duration_since(*at) < RATE_WINDOW / 20 => *done = self.done,
            _ => self.seen.push_back((now, self.done)),
        }
        while self.seen.len() > 2 && now.duration_since(self.seen[0].0) > RATE_WINDOW {
            self.seen.pop_front();
        }
    }

    /// The step is larger than was known.
    pub fn grow(&mut self, bytes: u64) {
        self.total += bytes;
    }

    /// How far it is at `now`.
    pub fn progress(&self, now: Instant) -> Progress {
        let (from, at) = self.seen.front().copied().unwrap_or((now, 0));
        let seconds = now.duration_since(from).as_secs_f64();
        let stalled = self.seen.back().is_some_and(|(last, _)| now.duration_since(*last) > STALLED);
        let known = seconds > 0.05 && !stalled;
        let rate = if known { ((self.done - at) as f64 / seconds) as u64 } else { 0 };
        Progress { done: self.done, total: self.total, rate }
    }
}

struct Wait {
    since: Instant,
    reason: String,
    code: Code,
}

#[derive(Default)]
struct Inner {
    /// The step begun last, and its number.
    meter: Option<(u64, Meter)>,
    waits: BTreeMap<u64, Wait>,
    next: u64,
    dirty: u64,
    room: Room,
}

/// The board on which every part of the engine writes, and that [`Status`] is read from.
pub struct Board {
    traffic: Arc<Traffic>,
    inner: Mutex<Inner>,
}

impl Board {
    /// An empty board over `traffic`.
    pub fn new(traffic: Arc<Traffic>) -> Arc<Self> {
        Arc::new(Self { traffic, inner: Mutex::default() })
    }

    /// The byte counters.
    pub fn traffic(&self) -> &Arc<Traffic> {
        &self.traffic
    }

    /// Tells when something changed.
    pub fn changes(&self) -> watch::Receiver<u64> {
        self.traffic.changes()
    }

    fn touch(&self) {
        self.traffic.touch();
    }

    /// Starts a long step of `total` bytes; it is shown until the guard is dropped, or another begins.
    pub fn step(self: &Arc<Self>, total: u64) -> Step {
        let mut inner = lock(&self.inner);
        inner.next += 1;
        let id = inner.next;
        inner.meter = Some((id, Meter::new(total, Instant::now())));
        drop(inner);
        self.touch();
        Step { board: self.clone(), id }
    }

    /// Disk chunks changed since the last commit.
    pub fn set_dirty(&self, chunks: u64) {
        lock(&self.inner).dirty = chunks;
        self.touch();
    }

    /// How much room there is for changes.
    pub fn set_room(&self, room: Room) {
        lock(&self.inner).room = room;
        self.touch();
    }

    /// How things are.
    pub fn status(&self) -> Status {
        let now = Instant::now();
        let inner = lock(&self.inner);
        let (bytes_in, bytes_out) = self.traffic.totals();
        let oldest = inner.waits.values().min_by_key(|wait| wait.since);
        let waiting = oldest.map(|wait| Waiting {
            pieces: inner.waits.len() as u64,
            seconds: now.duration_since(wait.since).as_secs(),
            reason: wait.reason.clone(),
            code: wait.code,
        });
        let progress = inner.meter.as_ref().map(|(_, meter)| meter.progress(now));
        Status { bytes_in, bytes_out, progress, waiting, dirty_chunks: inner.dirty, room: inner.room }
    }

    /// A place to say why something waits; empty until [`WaitGuard::set`].
    pub fn waiter(self: &Arc<Self>) -> WaitGuard {
        WaitGuard { board: self.clone(), id: None, since: Instant::now() }
    }
}

/// A long step under way.
pub struct Step {
    board: Arc<Board>,
    id: u64,
}

impl Step {
    /// More of it is done.
    pub fn add(&self, bytes: u64) {
        if let Some((id, meter)) = lock(&self.board.inner).meter.as_mut()
            && *id == self.id
        {
            meter.add(bytes, Instant::now());
        }
        self.board.touch();
    }

    /// The step is larger than was known.
    pub fn grow(&self, bytes: u64) {
        if let Some((id, meter)) = lock(&self.board.inner).meter.as_mut()
            && *id == self.id
        {
            meter.grow(bytes);
        }
    }
}

impl Drop for Step {
    fn drop(&mut self) {
        let mut inner = lock(&self.board.inner);
        inner.meter.take_if(|(id, _)| *id == self.id);
        drop(inner);
        self.board.touch();
    }
}

/// One piece that may have to be waited for; what it says is taken down when it is dropped.
pub struct WaitGuard {
    board: Arc<Board>,
    id: Option<u64>,
    since: Instant,
}

impl WaitGuard {
    /// Whether a reason is shown.
    pub fn told(&self) -> bool {
        self.id.is_some()
    }

    /// The piece cannot be had now, for this reason.
    pub fn set(&mut self, code: Code, reason: &str) {
        let mut inner = lock(&self.board.inner);
        let id = *self.id.get_or_insert_with(|| {
            inner.next += 1;
            inner.next
        });
        let wait = Wait { since: self.since, reason: reason.to_owned(), code };
        inner.waits.insert(id, wait);
        drop(inner);
        self.board.touch();
    }
}

impl Drop for WaitGuard {
    fn drop(&mut self) {
        if let Some(id) = self.id {
            lock(&self.board.inner).waits.remove(&id);
            self.board.touch();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wait_is_shown_while_it_lasts() {
        let board = Board::new(Arc::default());
        assert_eq!(board.status().waiting, None);
        let mut first = board.waiter();
        let mut second = board.waiter();
        assert_eq!(board.status().waiting, None);
        second.set(Code::ServerUnreachable, "no route");
        first.set(Code::PieceDamaged, "a piece is damaged");
        let waiting = board.status().waiting.unwrap();
        assert_eq!((waiting.pieces, waiting.code), (2, Code::PieceDamaged));
        drop(first);
        assert_eq!(board.status().waiting.unwrap().code, Code::ServerUnreachable);
        drop(second);
        assert_eq!(board.status().waiting, None);
    }

    #[test]
    fn a_step_that_was_followed_by_another_takes_nothing_down() {
        let board = Board::new(Arc::default());
        let first = board.step(100);
        let second = board.step(10);
        first.add(50);
        drop(first);
        second.add(4);
        let progress = board.status().progress.unwrap();
        assert_eq!((progress.done, progress.total), (4, 10));
        drop(second);
        assert_eq!(board.status().progress, None);
    }

    #[test]
    fn rate_is_of_the_last_seconds() {
        let start = Instant::now();
        let mut meter = Meter::new(1000, start);
        for second in 1..=20u64 {
            let bytes = if second <= 10 { 10 } else { 30 };
            meter.add(bytes, start + Duration::from_secs(second));
        }
        let progress = meter.progress(start + Duration::from_secs(20));
        assert_eq!((progress.done, progress.total, progress.rate), (400, 1000, 30));
        // What stands still is not said to go on.
        assert!(meter.progress(start + Duration::from_secs(30)).rate < 15);
        assert_eq!(meter.progress(start + Duration::from_secs(51)).rate, 0);
    }
}
