//! What requests and answers of one principal may hold at the same time.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError, Weak},
    time::Duration,
};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// Bytes are counted in pieces of this many.
const PIECE: usize = 1024;
/// Requests of one principal that are worked on at the same time; more wait.
pub const REQUESTS: usize = 64;
/// A principal's part of all bytes.
const PART: usize = 16;

/// The shares of those who have something under way.
#[derive(Debug)]
pub struct Shares {
    all: Arc<Semaphore>,
    own_pieces: usize,
    by_principal: Mutex<HashMap<String, Weak<Share>>>,
}

#[derive(Debug)]
struct Share {
    requests: Arc<Semaphore>,
    pieces: Arc<Semaphore>,
}

/// A part of a share; given back when dropped.
#[derive(Debug)]
pub struct Held {
    _share: Arc<Share>,
    _request: OwnedSemaphorePermit,
    own: OwnedSemaphorePermit,
    all: OwnedSemaphorePermit,
}

/// What is used up.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum UsedUp {
    /// The principal's own share.
    Own,
    /// What there is for all.
    All,
}

impl Shares {
    /// Shares of `bytes` for all together; each principal may hold a sixteenth, but no less than `least`, so that the
    /// largest request fits.
    pub fn new(bytes: usize, least: usize) -> Self {
        let own = (bytes / PART).max(least);
        Self {
            all: Arc::new(Semaphore::new(pieces(bytes.max(own)))),
            own_pieces: pieces(own),
            by_principal: Mutex::default(),
        }
    }

    /// Takes `bytes` for a request of `principal`; waits for what he or others hold. `urge` is called when half of that
    /// time is over and others hold what is missing.
    ///
    /// # Errors
    /// What is still used up after `patience`.
    pub async fn take(
        &self,
        principal: &str,
        bytes: usize,
        patience: Duration,
        urge: impl Fn(),
    ) -> Result<Held, UsedUp> {
        let share = self.of(principal);
        let many = u32::try_from(pieces(bytes).min(self.own_pieces)).unwrap_or(u32::MAX);
        let own = async {
            let request = Arc::clone(&share.requests).acquire_owned().await.ok()?;
            Some((request, Arc::clone(&share.pieces).acquire_many_owned(many).await.ok()?))
        };
        let (request, own) = tokio::time::timeout(patience, own).await.ok().flatten().ok_or(UsedUp::Own)?;
        let all = Arc::clone(&self.all).acquire_many_owned(many);
        tokio::pin!(all);
        let mut got = tokio::time::timeout(patience / 2, &mut all).await;
        if got.is_err() {
            urge();
            got = tokio::time::timeout(patience / 2, &mut all).await;
        }
        let all = got.ok().and_then(Result::ok).ok_or(UsedUp::All)?;
        Ok(Held { _share: share, _request: request, own, all })
    }

    fn of(&self, principal: &str) -> Arc<Share> {
        // Whole entries only, so a panic elsewhere leaves the map good.
        let mut known = self.by_principal.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(share) = known.get(principal).and_then(Weak::upgrade) {
            return share;
        }
        known.retain(|_, share| share.strong_count() > 0);
        let share = Arc::new(Share {
            requests: Arc::new(Semaphore::new(REQUESTS)),
            pieces: Arc::new(Semaphore::new(self.own_pieces)),
        });
        known.insert(principal.to_owned(), Arc::downgrade(&share));
        share
    }
}

impl Held {
    /// Gives back all but `bytes`.
    pub fn shrink(&mut self, bytes: usize) {
        let keep = pieces(bytes);
        for permit in [&mut self.own, &mut self.all] {
            drop(permit.split(permit.num_permits().saturating_sub(keep)));
        }
    }
}

fn pieces(bytes: usize) -> usize {
    bytes.div_ceil(PIECE).max(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    const PATIENCE: Duration = Duration::from_secs(4);

    #[tokio::test(start_paused = true)]
    async fn who_holds_his_share_waits_and_others_do_not() {
        let shares = Shares::new(16 << 20, 0);
        let mut greedy = Vec::new();
        for _ in 0..4 {
            greedy.push(shares.take("a@R", 1 << 18, PATIENCE, || ()).await.unwrap());
        }
        assert_eq!(shares.take("a@R", 1, PATIENCE, || ()).await.unwrap_err(), UsedUp::Own);
        shares.take("b@R", 1 << 20, PATIENCE, || ()).await.unwrap();
        // An answer that is smaller than was feared gives the rest back.
        greedy[0].shrink(1000);
        shares.take("a@R", (1 << 18) - 1024, PATIENCE, || ()).await.unwrap();
        drop(greedy);
        shares.take("a@R", 1 << 20, PATIENCE, || ()).await.unwrap();
        assert_eq!(shares.by_principal.lock().unwrap().len(), 1, "who holds nothing is forgotten");
    }

    #[tokio::test(start_paused = true)]
    async fn when_many_hold_all_whoever_waits_urges_once() {
        let shares = Shares::new(1 << 20, 1 << 19);
        let held = Mutex::new(vec![
            shares.take("a@R", 1 << 19, PATIENCE, || ()).await.unwrap(),
            shares.take("b@R", 1 << 19, PATIENCE, || ()).await.unwrap(),
        ]);
        assert_eq!(shares.take("c@R", 1, PATIENCE, || ()).await.unwrap_err(), UsedUp::All);
        shares.take("c@R", 1, PATIENCE, || drop(held.lock().unwrap().pop())).await.unwrap();
    }

    #[tokio::test(start_paused = true)]
    async fn requests_are_counted_whatever_their_size() {
        let shares = Shares::new(1 << 30, 0);
        let mut held = Vec::new();
        for _ in 0..REQUESTS {
            held.push(shares.take("a@R", 1, PATIENCE, || ()).await.unwrap());
        }
        assert_eq!(shares.take("a@R", 1, PATIENCE, || ()).await.unwrap_err(), UsedUp::Own);
        held.pop();
        shares.take("a@R", 1, PATIENCE, || ()).await.unwrap();
    }
}
