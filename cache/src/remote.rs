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
    id::{ChunkName, Version},
    wire::{Code, Fate, Stake, WireError},
};
use std::{pin::pin, sync::Arc, time::Duration};
use tokio::sync::watch;

/// The first pause before something is tried again, and the longest.
pub const PAUSES: (Duration, Duration) = (Duration::from_millis(200), Duration::from_secs(4));

/// How long an attempt may take before the board says that it is waited for.
const SLOW: Duration = Duration::from_secs(10);

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
    told_after(long, wait, attempt).await
}

async fn told_after<T>(
    long: impl Future<Output = ()>,
    wait: &mut WaitGuard,
    attempt: impl Future<Output = T>,
) -> T {
    let mut attempt = pin!(attempt);
    tokio::select! {
        biased;
        done = &mut attempt => return done,
        () = long => {}
    }
    if !wait.told() {
        wait.set(Code::ServerSlow, "the parcel server takes long to answer; it is still waited for");
    }
    attempt.await
}

/// Tries until it succeeds or fails for good; meanwhile the board says why it waits. A change of `hints` ends a pause.
pub async fn again<'a, T>(
    board: Arc<Board>,
    mut hints: watch::Receiver<u64>,
    mut attempt: impl FnMut() -> BoxFuture<'a, Result<T, SinkError>>,
) -> Result<T, SinkError> {
    let mut wait = board.waiter();
    let mut pause = PAUSES.0;
    loop {
        let error = match watched(&mut wait, std::future::ready(()), attempt()).await {
            Ok(value) => return Ok(value),
            Err(error) if !error.transient => return Err(error),
            Err(error) => error,
        };
        wait.set(error.error.code, &error.error.message);
        tokio::select! {
            () = tokio::time::sleep(pause) => {}
            Ok(()) = hints.changed() => {}
        }
        pause = (pause * 2).min(PAUSES.1);
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

/// Why an attempt to store something did not succeed.
#[derive(Debug, Clone)]
pub struct SinkError {
    /// As it travels.
    pub error: WireError,
    /// Worth trying again as it is.
    pub transient: bool,
    /// The version to be committed is there already, or the lock is no longer ours.
    pub conflict: bool,
}

impl SinkError {
    /// While a session has nothing to lose yet: a new log-in, and space on the server, are waited for too.
    pub fn patient(error: ApiError) -> Self {
        let transient = error.code().fate(Stake::Lock) != Fate::Final;
        Self { transient, conflict: error.conflict(), error: told(&error) }
    }

    /// While work is at stake, which only its owner gives up, here or by breaking the lock: whatever the server says is
    /// waited out, but for what the commit itself mends by sending again.
    pub fn at_stake(error: ApiError) -> Self {
        let transient = error.code().fate(Stake::Work) != Fate::Final && error.code() != Code::MissingObjects;
        Self { transient, conflict: error.conflict(), error: told(&error) }
    }

    /// For a command, whose user reads the error and starts it again.
    pub fn hasty(error: ApiError) -> Self {
        Self { transient: error.transient(), conflict: error.conflict(), error: error.to_wire() }
    }
}

fn told(error: &ApiError) -> WireError {
    match error.session_ended() {
        true => {
            WireError::new(Code::SessionExpired, "the log-in to the parcel server has ended; log in again")
        }
        false => error.to_wire(),
    }
}

/// Where a commit goes. Every call may be made again.
pub trait Sink: Send + Sync + 'static {
    /// Which of these objects are there already?
    fn have<'a>(&'a self, names: &'a [ChunkName]) -> BoxFuture<'a, Result<Vec<bool>, SinkError>>;
    /// Stores an object.
    fn put<'a>(&'a self, name: &'a ChunkName, bytes: Bytes) -> BoxFuture<'a, Result<(), SinkError>>;
    /// Moves the head to `version`.
    fn commit<'a>(&'a self, version: Version, record: Bytes) -> BoxFuture<'a, Result<(), SinkError>>;
    /// The record of a version, to see whether a commit whose answer was lost has happened.
    fn record<'a>(&'a self, version: Version) -> BoxFuture<'a, Result<Bytes, SinkError>>;
    /// Changes when it is worth trying again at once.
    fn hints(&self) -> watch::Receiver<u64>;
}

/// A locked parcel on the parcel server.
pub struct ServerSink {
    /// The server.
    pub api: Api,
    /// The lock.
    pub tenure: Arc<Tenure>,
    /// Which errors are waited out: [`SinkError::at_stake`] or [`SinkError::hasty`].
    pub judge: fn(ApiError) -> SinkError,
}

impl Sink for ServerSink {
    fn have<'a>(&'a self, names: &'a [ChunkName]) -> BoxFuture<'a, Result<Vec<bool>, SinkError>> {
        let (api, id) = (&self.api, self.tenure.parcel);
        let asking = self.tenure.under(api, move |hold| async move { api.have(&id, &hold, names).await });
        async move { asking.await.map_err(self.judge) }.boxed()
    }

    fn put<'a>(&'a self, name: &'a ChunkName, bytes: Bytes) -> BoxFuture<'a, Result<(), SinkError>> {
        let (api, id) = (&self.api, self.tenure.parcel);
        let putting = self.tenure.under(api, move |hold| {
            let bytes = bytes.clone();
            async move { api.put_chunk(&id, &hold, name, bytes).await }
        });
        async move { putting.await.map_err(self.judge) }.boxed()
    }

    fn commit<'a>(&'a self, version: Version, record: Bytes) -> BoxFuture<'a, Result<(), SinkError>> {
        let (api, id) = (&self.api, self.tenure.parcel);
        self.tenure.sends(version, &record);
        let committing = self.tenure.under(api, move |hold| {
            let record = record.clone();
            async move { api.commit(&id, version, &hold, record).await.map(drop) }
        });
        async move { committing.await.map_err(self.judge) }.boxed()
    }

    fn record<'a>(&'a self, version: Version) -> BoxFuture<'a, Result<Bytes, SinkError>> {
        let (api, id) = (&self.api, self.tenure.parcel);
        let reading =
            self.tenure.under(api, move |hold| async move { api.held_version(&id, &hold, version).await });
        async move {
            reading.await.map_err(|error| match error.code() {
                // That it is not there is the answer.
                Code::NoSuchVersion => SinkError::hasty(error),
                _ => (self.judge)(error),
            })
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

    #[tokio::test]
    async fn what_takes_long_is_told_unless_more_is_told_already() {
        let board = Board::new(Arc::default());
        let shown = || board.status().waiting.map(|waiting| waiting.code);
        let mut wait = board.waiter();
        assert_eq!(told_after(pending(), &mut wait, ready(1)).await, 1);
        assert_eq!(shown(), None);
        let (go_on, going) = oneshot::channel();
        let looking = async {
            while shown() != Some(Code::ServerSlow) {
                tokio::task::yield_now().await;
            }
            go_on.send(2).unwrap();
        };
        assert_eq!(tokio::join!(told_after(ready(()), &mut wait, going), looking).0, Ok(2));
        drop(wait);
        let mut wait = board.waiter();
        wait.set(Code::ServerUnreachable, "no route");
        assert_eq!(told_after(ready(()), &mut wait, tokio::task::yield_now()).await, ());
        assert_eq!(shown(), Some(Code::ServerUnreachable));
    }
}
