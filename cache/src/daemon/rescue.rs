//! After the owner has broken the lock elsewhere: what changed here goes home as a parcel of its own.
//!
//! The new parcel has the old one's key and the old one's key slots, so whatever opened the old one opens it. Each step
//! can be done again, and a rescue that is given up takes its parcel away.

use super::{Daemon, Given, Work, author, not_locked, not_open};
use crate::{
    commit::{self, Committed},
    remote::{Made, Patience, ServerSink, Sink, again},
    tenure::Tenure,
};
use bytes::Bytes;
use client::api::ApiError;
use futures::{FutureExt as _, future::BoxFuture};
use parcel::{
    id::{ChunkName, ParcelId, Version},
    slot::Slots,
    wire::{
        Code, Stake, WireError,
        daemon::Reply,
        hold::Claim,
        http::{CreateParcel, LockReply, LockRequest, Rescue as Rescues},
    },
};
use std::{sync::Arc, time::Duration};
use tokio::sync::watch;

/// Longest name of a parcel, in characters.
const LONGEST_NAME: usize = 64;
/// How many names are tried.
const NAMES: u32 = 1000;
/// How long taking an unfinished parcel away is tried.
const GIVING_UP: Duration = Duration::from_secs(5);

const TAKEN_AWAY: &str = "the parcel that takes your work was taken over elsewhere before it was finished; it is made again once it is \
                          discarded there";

/// A parcel that takes the work, as far as it is made.
pub(super) struct Rescue {
    id: ParcelId,
    claim: Claim,
    /// How many names were taken.
    taken: u32,
    made: Option<Arc<Tenure>>,
    name: String,
    /// Its version, once that stands.
    home: Option<Committed>,
}

impl Daemon {
    /// The user's work is at stake: only what proves that it cannot be done ends it.
    pub(super) async fn rescue(&self) -> Result<Reply, WireError> {
        let mut work = self.working()?;
        let mut patience = Patience::new(Stake::Work, self.api.token_renewals());
        loop {
            let mut error = match self.rescue_once(&mut work).await {
                Ok(reply) => return Ok(reply),
                Err(error) => error,
            };
            // The first lock was broken, which led here; a second break ends nothing.
            if let Some(rescue) = work.rescue.as_mut().filter(|_| error.code == Code::StaleEpoch) {
                rescue.made = None;
                error = WireError::new(Code::Exists, TAKEN_AWAY);
            }
            patience.pause(&mut self.board.waiter(), error).await?;
        }
    }

    async fn rescue_once(&self, work: &mut Work) -> Result<Reply, WireError> {
        let held = work.held.clone().ok_or_else(not_locked)?;
        let Given { tenure: old, .. } = held.given.clone().ok_or_else(not_locked)?;
        if work.rescue.is_none() {
            let (id, claim) = old.claim().rescue();
            work.rescue = Some(Rescue { id, claim, taken: 0, made: None, name: String::new(), home: None });
        }
        let Work { rescue: Some(rescue), running, .. } = &mut *work else { return Err(not_locked()) };
        let running = running.as_ref().ok_or_else(not_open)?;
        let new = match &rescue.made {
            Some(made) => made.clone(),
            None => self.make(rescue, &old, &held.ask).await?,
        };
        rescue.made = Some(new.clone());
        let done = match &rescue.home {
            Some(done) => done,
            None => {
                self.share_slots(&old, &new).await?;
                let sink = Arc::new(Unfinished(self.sink(new.clone())));
                let level = self.settings.zstd_level;
                let done = commit::rescue(&running.parcel, &author(&held), level, sink, new.parcel).await?;
                tracing::info!(parcel = %new.parcel, bytes = done.bytes, "rescued");
                rescue.home.insert(done)
            }
        };
        let (bytes, memory_lost) = (done.bytes, done.memory_lost);
        let hold = new.hold();
        let unlock = || async {
            match self.api.unlock(&new.parcel, &hold).await {
                // The work is home, and this lock has ended already.
                Err(error) if error.code() == Code::StaleEpoch => Ok(()),
                done => done,
            }
        };
        self.patiently(unlock).await?;
        let reply = Reply::Rescued { parcel: rescue.id, name: rescue.name.clone(), bytes, memory_lost };
        // The lock ended when it was broken; what there was to lose is home.
        work.held = None;
        work.past = Some(old);
        Ok(reply)
    }

    /// Makes the parcel, under the first name that is free.
    async fn make(
        &self,
        rescue: &mut Rescue,
        old: &Tenure,
        from: &LockRequest,
    ) -> Result<Arc<Tenure>, WireError> {
        loop {
            rescue.name = name(&old.name, &from.kiosk, rescue.taken);
            let ask = CreateParcel {
                id: rescue.id,
                name: rescue.name.clone(),
                owner: old.owner.clone(),
                kiosk: from.kiosk.clone(),
                boot: from.boot,
                claim: rescue.claim.clone(),
                rescues: Some(Rescues { parcel: old.parcel, claim: old.claim().clone() }),
            };
            let create = || async {
                match self.api.create(&ask).await {
                    Err(error) if error.code() == Code::NameTaken => Ok(None),
                    made => made.map(Some),
                }
            };
            let made: Option<LockReply> = self.patiently(create).await?;
            if let Some(reply) = made {
                // An engine that was killed may have made it, under another name, and have come to its version.
                rescue.name.clone_from(&reply.name);
                let ask =
                    LockRequest { claim: rescue.claim.clone(), again: None, inventory: None, ..from.clone() };
                let new = Tenure::new(rescue.id, ask, &reply);
                if reply.version > Version(0) {
                    tracing::info!(parcel = %rescue.id, "rescued before");
                    let seen = self.patiently(|| self.api.parcel(&new.parcel)).await?;
                    rescue.home = Made::last(&seen).map(|made| Committed::before(seen.version, made));
                }
                return Ok(Arc::new(new));
            }
            rescue.taken += 1;
            if rescue.taken > NAMES {
                let text = format!(
                    "{NAMES} parcels are called like {:?}; take some away, then try again",
                    rescue.name
                );
                return Err(WireError::new(Code::NameTaken, text));
            }
        }
    }

    /// Gives the new parcel the key slots of the old one, whose key it has.
    async fn share_slots(&self, old: &Tenure, new: &Tenure) -> Result<(), WireError> {
        let read = || async {
            match self.api.slots(&old.parcel).await {
                Err(error) if error.code() == Code::NoSlots => Ok(None),
                slots => slots.map(Some),
            }
        };
        // One that is opened with a key file only has none.
        let Some(slots) = self.patiently(read).await? else { return Ok(()) };
        let slots =
            Slots::from_json(&slots).map_err(|e| WireError::new(Code::SlotsUnreadable, e.to_string()))?;
        let slots = slots.shared_from(&old.parcel).to_json();
        let attempt = || -> BoxFuture<'_, Result<(), WireError>> {
            let (hold, slots) = (new.hold(), slots.clone());
            let asking = async move { self.api.put_slots(&new.parcel, Some(&hold), slots.into()).await };
            asking.map(|answer| answer.map_err(|e| taken_away(e.to_wire()))).boxed()
        };
        again(&self.board, self.api.token_renewals(), Stake::Work, attempt).await
    }

    /// Takes a parcel away that was made for a rescue and did not come to its version.
    pub(super) async fn give_up_rescue(&self, work: &mut Work) {
        let Some(rescue) = work.rescue.take() else { return };
        let Some(made) = rescue.made.filter(|_| rescue.home.is_none()) else { return };
        let hold = made.hold();
        let taken = tokio::time::timeout(GIVING_UP, self.api.discard(&made.parcel, &hold)).await;
        if !matches!(taken, Ok(Ok(()))) {
            tracing::warn!(parcel = %made.parcel, "an unfinished parcel is left on the server");
        }
    }

    /// Asks until the server does it.
    async fn patiently<T, F: Future<Output = Result<T, ApiError>> + Send>(
        &self,
        request: impl Fn() -> F + Sync,
    ) -> Result<T, WireError> {
        let attempt = || -> BoxFuture<'_, Result<T, WireError>> {
            let asking = request();
            async move { asking.await.map_err(|e| e.to_wire()) }.boxed()
        };
        again(&self.board, self.api.token_renewals(), Stake::Work, attempt).await
    }
}

/// A parcel that its owner may take away, since it has no version yet. Then nothing can be sent there any more.
struct Unfinished(Arc<ServerSink>);

impl Unfinished {
    fn asked<'a, T: 'a>(asking: BoxFuture<'a, Result<T, WireError>>) -> BoxFuture<'a, Result<T, WireError>> {
        asking.map(|answer| answer.map_err(taken_away)).boxed()
    }
}

/// What says that an unfinished parcel is not this kiosk's any more.
fn taken_away(error: WireError) -> WireError {
    match error.code {
        Code::NoSuchParcel | Code::UnknownClaim => WireError { code: Code::StaleEpoch, ..error },
        _ => error,
    }
}

impl Sink for Unfinished {
    fn have<'a>(&'a self, names: &'a [ChunkName]) -> BoxFuture<'a, Result<Vec<bool>, WireError>> {
        Self::asked(self.0.have(names))
    }

    fn put<'a>(&'a self, name: &'a ChunkName, bytes: Bytes) -> BoxFuture<'a, Result<(), WireError>> {
        Self::asked(self.0.put(name, bytes))
    }

    fn commit<'a>(&'a self, version: Version, record: Bytes) -> BoxFuture<'a, Result<(), WireError>> {
        Self::asked(self.0.commit(version, record))
    }

    fn record<'a>(&'a self, version: Version) -> BoxFuture<'a, Result<Bytes, WireError>> {
        Self::asked(self.0.record(version))
    }

    fn made<'a>(&'a self, version: Version) -> BoxFuture<'a, Result<Option<Made>, WireError>> {
        Self::asked(self.0.made(version))
    }

    fn hints(&self) -> watch::Receiver<u64> {
        self.0.hints()
    }
}

/// `work, rescued from kiosk-A`, and ` (2)` for the second one; cut where it is too long.
fn name(parcel: &str, kiosk: &str, taken: u32) -> String {
    let number = if taken == 0 { String::new() } else { format!(" ({})", taken + 1) };
    let tail = format!(", rescued from {kiosk}{number}");
    let room = LONGEST_NAME.saturating_sub(tail.chars().count());
    if room == 0 {
        let tail = format!(", rescued{number}");
        let head: String = parcel.chars().take(LONGEST_NAME - tail.chars().count()).collect();
        return format!("{}{tail}", head.trim_end());
    }
    let head: String = parcel.chars().take(room).collect();
    format!("{}{tail}", head.trim_end())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rescued_parcel_is_named_after_the_first_and_the_kiosk() {
        assert_eq!(name("work", "kiosk-A", 0), "work, rescued from kiosk-A");
        assert_eq!(name("work", "kiosk-A", 1), "work, rescued from kiosk-A (2)");
        for (parcel, kiosk) in
            [("é".repeat(64), "k".repeat(64)), ("é".repeat(64), "k".repeat(30)), ("w".into(), "k".repeat(64))]
        {
            for taken in [0, 1, 999] {
                let name = name(&parcel, &kiosk, taken);
                assert!((1..=LONGEST_NAME).contains(&name.chars().count()), "{name}");
                assert!(!name.starts_with(',') && name.contains("rescued"), "{name}");
            }
        }
    }
}
