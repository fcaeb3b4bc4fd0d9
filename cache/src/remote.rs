//! The parcel server as a source of pieces, and as the place that they are committed to.

use crate::{
    fetch::{Source, SourceError},
    status::{Board, WaitGuard},
    tenure::Tenure,
};
use bytes::Bytes;
use client::api::{Api, ApiError};
use futures::{FutureExt as _, future::BoxFuture};
use parcel::{
    id::{ChunkName, RecordHash, Version},
    wire::{Code, Fate, Stake, WireError, http::ParcelInfo},
};
use std::{pin::pin, sync::Arc, time::Duration};
use tokio::sync::watch;

/// The first pause before something is tried again, and the longest.
pub const PAUSES: (Duration, Duration) = (Duration::from_millis(200), Duration::from_secs(4));

/// How long an attempt may take before the board says that it is waited for.
const SLOW: Duration = Duration::from_secs(10);
const SERVER_SLOW: &str = "the parcel server takes long to answer; it is still waited for";

/// Makes one attempt. When it takes long, counted from when it is `wanted`, the board says so, unless it says more already.
pub(crate) async fn watched<T>(
    wait: &mut WaitGuard,
    wanted: impl Future<Output = ()>,
    attempt: impl Future<Output = T>,
) -> T {
    let long = async {
        wanted.await;
        tokio::time::sleep(SLOW).await;
    };
    told_after(long, wait, attempt, Code::ServerSlow, SERVER_SLOW).await
}

/// The same for whatever is waited for, with what the board then says.
pub(crate) async fn told_after<T>(
    long: impl Future<Output = ()>,
    wait: &mut WaitGuard,
    attempt: impl Future<Output = T>,
    code: Code,
    reason: &str,
) -> T {
    let mut attempt = pin!(attempt);
    tokio::select! {
        biased;
        done = &mut attempt => return done,
        () = long => {}
    }
    if !wait.told() {
        wait.set(code, reason);
    }
    attempt.await
}

/// The one place that decides whether a step which failed is tried again, and when.
pub struct Patience {
    stake: Stake,
    hints: watch::Receiver<u64>,
    pause: Duration,
}

impl Patience {
    /// For a step while `stake` is at stake. A change of `hints` ends a pause.
    pub fn new(stake: Stake, hints: watch::Receiver<u64>) -> Self {
        Self { stake, hints, pause: PAUSES.0 }
    }

    /// Says on `wait` why the step is to be tried again, and pauses.
    ///
    /// # Errors
    /// Gives `error` back when trying again is of no use.
    pub async fn pause(&mut self, wait: &mut WaitGuard, error: WireError) -> Result<(), WireError> {
        match error.code.fate(self.stake) {
            Fate::Retry => wait.set(error.code, &error.message),
            Fate::NeedsLogin if self.stake > Stake::Nothing => {
                let text = "the log-in to the parcel server has ended; log in again to go on";
                wait.set(Code::SessionExpired, text);
            }
            // Who has nothing to lose logs in and asks anew.
            Fate::NeedsLogin | Fate::Final => return Err(error),
        }
        tokio::select! {
            () = tokio::time::sleep(self.pause) => {}
            Ok(()) = self.hints.changed() => {}
        }
        self.pause = (self.pause * 2).min(PAUSES.1);
        Ok(())
    }
}

/// Makes a request until it succeeds or its error is final at `stake`; meanwhile the board says why it waits. Whoever loses
/// patience drops it.
pub async fn again<'a, T>(
    board: &Arc<Board>,
    hints: watch::Receiver<u64>,
    stake: Stake,
    mut attempt: impl FnMut() -> BoxFuture<'a, Result<T, WireError>>,
) -> Result<T, WireError> {
    let mut wait = board.waiter();
    let mut patience = Patience::new(stake, hints);
    loop {
        match watched(&mut wait, std::future::ready(()), attempt()).await {
            Ok(value) => return Ok(value),
            Err(error) => patience.pause(&mut wait, error).await?,
        }
    }
}

/// Fetches pieces from the parcel server.
pub struct ServerSource(pub Api);

impl Source for ServerSource {
    fn get<'a>(&'a self, name: &'a ChunkName) -> BoxFuture<'a, Result<Bytes, SourceError>> {
        async move { self.0.chunk(name).await.map_err(|error| source_error(&error)) }.boxed()
    }

    fn hints(&self) -> watch::Receiver<u64> {
        self.0.token_renewals()
    }
}

fn source_error(error: &ApiError) -> SourceError {
    let (code, reason) = match error {
        _ if error.session_ended() => (
            Code::SessionExpired,
            "the log-in to the parcel server has ended; log in again to go on".to_owned(),
        ),
        _ if error.code() == Code::NoSuchChunk => (
            Code::PieceMissing,
            "a piece is missing on the parcel server; it is asked for until it is back".to_owned(),
        ),
        other => (other.code(), other.to_string()),
    };
    SourceError { code, reason }
}

/// Where a commit goes. Every call may be made again.
pub trait Sink: Send + Sync + 'static {
    /// Which of these objects are there already?
    fn have<'a>(&'a self, names: &'a [ChunkName]) -> BoxFuture<'a, Result<Vec<bool>, WireError>>;
    /// Stores an object.
    fn put<'a>(&'a self, name: &'a ChunkName, bytes: Bytes) -> BoxFuture<'a, Result<(), WireError>>;
    /// Moves the head to `version`.
    fn commit<'a>(&'a self, version: Version, record: Bytes) -> BoxFuture<'a, Result<(), WireError>>;
    /// The record of a version, to see whether a commit whose answer was lost has happened.
    fn record<'a>(&'a self, version: Version) -> BoxFuture<'a, Result<Bytes, WireError>>;
    /// What `version` is, if it is the last one and was made under the lock that this sink writes under: an engine that was killed
    /// may have made it.
    fn made<'a>(&'a self, version: Version) -> BoxFuture<'a, Result<Option<Made>, WireError>>;
    /// Changes when it is worth trying again at once.
    fn hints(&self) -> watch::Receiver<u64>;
}

/// A version that was made under a lock that is still held.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Made {
    /// Hash under which its record is known.
    pub record: RecordHash,
    /// It has a disk as after a power cut, and no memory.
    pub memory_lost: bool,
}

impl Made {
    /// The last version of a parcel, if it has one.
    pub fn last(seen: &ParcelInfo) -> Option<Self> {
        Some(Self { record: seen.record?, memory_lost: seen.memory_lost })
    }
}

/// A locked parcel on the parcel server.
pub struct ServerSink {
    /// The server.
    pub api: Api,
    /// The lock.
    pub tenure: Arc<Tenure>,
}

impl Sink for ServerSink {
    fn have<'a>(&'a self, names: &'a [ChunkName]) -> BoxFuture<'a, Result<Vec<bool>, WireError>> {
        let (api, id) = (&self.api, self.tenure.parcel);
        let asking = self.tenure.under(api, move |hold| async move { api.have(&id, &hold, names).await });
        async move { asking.await.map_err(|e| e.to_wire()) }.boxed()
    }

    fn put<'a>(&'a self, name: &'a ChunkName, bytes: Bytes) -> BoxFuture<'a, Result<(), WireError>> {
        let (api, id) = (&self.api, self.tenure.parcel);
        let putting = self.tenure.under(api, move |hold| {
            let bytes = bytes.clone();
            async move { api.put_chunk(&id, &hold, name, bytes).await }
        });
        async move { putting.await.map_err(|e| e.to_wire()) }.boxed()
    }

    fn commit<'a>(&'a self, version: Version, record: Bytes) -> BoxFuture<'a, Result<(), WireError>> {
        let (api, id) = (&self.api, self.tenure.parcel);
        self.tenure.sends(version, &record);
        let committing = self.tenure.under(api, move |hold| {
            let record = record.clone();
            async move { api.commit(&id, version, &hold, record).await.map(drop) }
        });
        async move { committing.await.map_err(|e| e.to_wire()) }.boxed()
    }

    fn record<'a>(&'a self, version: Version) -> BoxFuture<'a, Result<Bytes, WireError>> {
        let (api, id) = (&self.api, self.tenure.parcel);
        let reading =
            self.tenure.under(api, move |hold| async move { api.held_version(&id, &hold, version).await });
        async move { reading.await.map_err(|e| e.to_wire()) }.boxed()
    }

    fn made<'a>(&'a self, version: Version) -> BoxFuture<'a, Result<Option<Made>, WireError>> {
        async move {
            let seen = self.api.parcel(&self.tenure.parcel).await.map_err(|e| e.to_wire())?;
            Ok(self.tenure.made(&seen, version))
        }
        .boxed()
    }

    fn hints(&self) -> watch::Receiver<u64> {
        self.api.token_renewals()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures::future::{pending, ready};
    use tokio::sync::oneshot;

    async fn after<T>(
        long: impl Future<Output = ()>,
        wait: &mut WaitGuard,
        attempt: impl Future<Output = T>,
    ) -> T {
        told_after(long, wait, attempt, Code::ServerSlow, "it takes long").await
    }

    #[tokio::test]
    async fn what_takes_long_is_told_unless_more_is_told_already() {
        let board = Board::new(Arc::default());
        let shown = || board.status().waiting.map(|waiting| waiting.code);
        let mut wait = board.waiter();
        assert_eq!(after(pending(), &mut wait, ready(1)).await, 1);
        assert_eq!(shown(), None);
        let (go_on, going) = oneshot::channel();
        let looking = async {
            while shown() != Some(Code::ServerSlow) {
                tokio::task::yield_now().await;
            }
            go_on.send(2).unwrap();
        };
        assert_eq!(tokio::join!(after(ready(()), &mut wait, going), looking).0, Ok(2));
        drop(wait);
        let mut wait = board.waiter();
        wait.set(Code::ServerUnreachable, "no route");
        assert_eq!(after(ready(()), &mut wait, tokio::task::yield_now()).await, ());
        assert_eq!(shown(), Some(Code::ServerUnreachable));
    }
}
