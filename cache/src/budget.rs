//! One budget for what a session keeps in memory: changed chunks, keyring leaves and cached pieces, in this process and on a
//! cache medium that is memory itself.
//!
//! Cached pieces have what the rest leaves. When none is left for them, changes are slowed down, more and more; when the
//! budget is used up, they wait. Nobody else ever waits here.

use crate::status::{Board, lock};
use parcel::{chunk::CHUNK_SIZE, wire::memory::Room};
use std::{
    sync::{Arc, Mutex},
    time::Duration,
};
use tokio::sync::{Mutex as AsyncMutex, Notify};

const CHUNK: u64 = CHUNK_SIZE as u64;
/// No budget is smaller: a few requests of the largest size must fit.
const LEAST: u64 = 16 << 20;
/// From this share of the budget on, changes are slowed down and pieces are no longer kept, in hundredths.
const SLOW: u64 = 70;
/// Below this share the board says that there is enough room again.
const ENOUGH: u64 = 60;
/// Below this one it no longer says that there is none.
const NOT_FULL: u64 = 95;
/// Kept for chunks that are changed once more: on a medium that is memory they take the place of what they were.
const AGAIN: u64 = 8 * CHUNK;
/// How long a chunk waits for its turn just before the budget is used up; the wait grows from nothing to this.
const SLOWEST: Duration = Duration::from_millis(200);

/// What a change is made to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum To {
    /// A chunk that was not changed before.
    New,
    /// A changed chunk that is not in memory as it is.
    Again,
}

#[derive(Default)]
struct Used {
    /// Bytes of changed chunks, on a medium that is memory too.
    changes: u64,
    /// Bytes that may be put into memory now.
    granted: u64,
    /// Bytes of opened keyring leaves.
    leaves: u64,
}

impl Used {
    fn all(&self) -> u64 {
        self.changes + self.granted + self.leaves
    }
}

struct Inner {
    most: u64,
    used: Used,
    room: Room,
}

/// The budget of one process.
pub struct Budget {
    inner: Mutex<Inner>,
    less: Notify,
    /// Changes take turns at waiting, one queue for each [`To`].
    turns: [AsyncMutex<()>; 2],
    board: Arc<Board>,
}

impl Budget {
    /// A budget of `most` bytes.
    pub fn new(most: u64, board: Arc<Board>) -> Arc<Self> {
        let inner = Inner { most: most.max(LEAST), used: Used::default(), room: Room::Enough };
        Arc::new(Self { inner: Mutex::new(inner), less: Notify::new(), turns: Default::default(), board })
    }

    /// It is `most` bytes from now on.
    pub fn set(&self, most: u64) {
        let mut inner = lock(&self.inner);
        inner.most = most.max(LEAST);
        self.tell(&mut inner);
    }

    /// Its size in bytes.
    pub fn most(&self) -> u64 {
        lock(&self.inner).most
    }

    /// How much of it is used, in bytes.
    pub fn used(&self) -> u64 {
        lock(&self.inner).used.all()
    }

    /// What cached pieces may take, in bytes.
    pub fn pieces(&self) -> u64 {
        let inner = lock(&self.inner);
        (inner.most * SLOW / 100).saturating_sub(inner.used.all())
    }

    /// Changes are slowed down.
    pub fn is_tight(&self) -> bool {
        self.pieces() == 0
    }

    /// Changed chunks take so many bytes now.
    pub fn set_changes(&self, bytes: u64) {
        let mut inner = lock(&self.inner);
        inner.used.changes = bytes;
        self.tell(&mut inner);
    }

    /// Keyring leaves of so many bytes were loaded.
    pub fn add_leaves(&self, bytes: u64) {
        let mut inner = lock(&self.inner);
        inner.used.leaves += bytes;
        self.tell(&mut inner);
    }

    /// Takes as many bytes of leaves out of the budget again.
    pub fn remove_leaves(&self, bytes: u64) {
        let mut inner = lock(&self.inner);
        inner.used.leaves = inner.used.leaves.saturating_sub(bytes);
        self.tell(&mut inner);
    }

    /// Waits until one more chunk may be put into memory; it counts until the permit is dropped.
    pub async fn chunk(self: &Arc<Self>, to: To) -> Permit {
        self.bytes(to, CHUNK).await
    }

    /// Waits until so many bytes of a chunk, or for it, may be put into memory. Less memory waits for less long.
    pub async fn bytes(self: &Arc<Self>, to: To, bytes: u64) -> Permit {
        if let Some(permit) = self.try_bytes(bytes, |most| most * SLOW / 100) {
            return permit;
        }
        let kept = if to == To::New { AGAIN } else { 0 };
        let _turn = self.turns[usize::from(to == To::Again)].lock().await;
        tokio::time::sleep(self.pause().mul_f64(bytes as f64 / CHUNK as f64)).await;
        loop {
            let mut less = std::pin::pin!(self.less.notified());
            less.as_mut().enable();
            if let Some(permit) = self.try_bytes(bytes, |most| most - kept) {
                return permit;
            }
            self.full();
            less.await;
        }
    }

    /// A permit, if with it no more is used than that part of the budget.
    fn try_bytes(self: &Arc<Self>, bytes: u64, part: impl Fn(u64) -> u64) -> Option<Permit> {
        let mut inner = lock(&self.inner);
        if inner.used.all() + bytes > part(inner.most) {
            return None;
        }
        inner.used.granted += bytes;
        self.tell(&mut inner);
        drop(inner);
        Some(Permit(self.clone(), bytes))
    }

    /// How long a chunk waits: nothing at [`SLOW`], [`SLOWEST`] when all is used.
    fn pause(&self) -> Duration {
        let inner = lock(&self.inner);
        let slow = inner.most * SLOW / 100;
        let over = inner.used.all().saturating_sub(slow) as f64 / (inner.most - slow) as f64;
        SLOWEST.mul_f64(over.min(1.0))
    }

    fn full(&self) {
        let mut inner = lock(&self.inner);
        self.set_room(&mut inner, Room::None);
    }

    /// Wakes whoever waits, and tells how much room there is.
    fn tell(&self, inner: &mut Inner) {
        let (all, most) = (inner.used.all(), inner.most);
        let below = |percent: u64| all < most * percent / 100;
        let room = match inner.room {
            Room::None if !below(NOT_FULL) => Room::None,
            Room::Enough if below(SLOW) => Room::Enough,
            _ if below(ENOUGH) => Room::Enough,
            _ => Room::Little,
        };
        self.set_room(inner, room);
        self.less.notify_waiters();
    }

    fn set_room(&self, inner: &mut Inner, room: Room) {
        if std::mem::replace(&mut inner.room, room) != room {
            match room {
                Room::Enough => tracing::info!("there is room for changes again"),
                Room::Little => {
                    tracing::info!("the memory for changes is nearly full: the disk is slowed down")
                }
                Room::None => tracing::warn!("the memory for changes is full: writes wait"),
            }
            self.board.set_room(room);
        }
    }
}

/// The right to put so many bytes into memory.
pub struct Permit(Arc<Budget>, u64);

impl Drop for Permit {
    fn drop(&mut self) {
        let mut inner = lock(&self.0.inner);
        inner.used.granted -= self.1;
        self.0.tell(&mut inner);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures::FutureExt as _;
    use std::time::Instant;

    fn budget() -> (Arc<Budget>, Arc<Board>) {
        let board = Board::new(Arc::default());
        (Budget::new(LEAST, board.clone()), board)
    }

    #[tokio::test]
    async fn pieces_go_first_then_changes_get_slower_then_they_wait() {
        let (budget, board) = budget();
        assert_eq!(budget.pieces(), LEAST * SLOW / 100);
        let mut permits = Vec::new();
        // Nobody is slowed down while there is something left for pieces.
        while budget.pieces() >= CHUNK {
            permits.push(budget.chunk(To::New).now_or_never().unwrap());
        }
        assert!(board.status().room == Room::Enough);
        let mut pauses = Vec::new();
        loop {
            let began = Instant::now();
            match tokio::time::timeout(3 * SLOWEST, budget.chunk(To::New)).await {
                Ok(permit) => permits.push(permit),
                Err(_) => break,
            }
            pauses.push(began.elapsed());
        }
        assert_eq!(permits.len() as u64, (LEAST - AGAIN) / CHUNK);
        assert!(pauses[0] < SLOWEST / 4 && pauses[pauses.len() - 1] > SLOWEST / 2, "{pauses:?}");
        assert_eq!((budget.pieces(), board.status().room), (0, Room::None));
        // A chunk that is changed again still goes.
        permits.push(budget.chunk(To::Again).await);
        let waiting = tokio::spawn({
            let budget = budget.clone();
            async move { budget.chunk(To::New).await }
        });
        tokio::task::yield_now().await;
        permits.truncate(100);
        drop(waiting.await.unwrap());
        assert_eq!(board.status().room, Room::Little);
        permits.clear();
        assert_eq!(board.status().room, Room::Enough);
    }

    #[tokio::test]
    async fn whoever_gives_up_takes_no_room() {
        let (budget, _) = budget();
        budget.set_changes(LEAST);
        for _ in 0..3 {
            let given_up = tokio::time::timeout(SLOWEST + SLOWEST / 2, budget.chunk(To::Again)).await;
            assert!(given_up.is_err());
        }
        budget.set_changes(0);
        assert!(budget.chunk(To::New).now_or_never().is_some());
        budget.add_leaves(LEAST);
        assert_eq!(budget.pieces(), 0);
        budget.remove_leaves(LEAST);
        assert!(budget.pieces() > 0);
    }
}
