//! The fetch engine: one path from an image's piece to its plaintext, through the local store and the server.
//!
//! A source may be absent, slow, stale or lying: whatever it gives is opened before it is believed. A piece that cannot
//! be had is asked for again for ever, and the board says why; nobody above ever sees an error. Identical requests
//! share one fetch, and a prefetch that somebody now waits for is moved to the front.

use crate::{
    budget::Budget,
    ram::RamCache,
    remote::{PAUSES, watched},
    status::{Board, lock},
    store::Store,
};
use bytes::Bytes;
use futures::{
    FutureExt as _,
    future::{BoxFuture, Shared, WeakShared},
};
use parcel::{
    chunk::{self, OpenError},
    id::ChunkName,
    keyring::{ChunkRef, LeafError},
    secret::Secret,
    wire::Code,
};
use std::{
    collections::HashMap,
    io,
    sync::{Arc, Mutex},
    time::{Duration, Instant},
};
use tokio::sync::{Semaphore, watch};
use zeroize::Zeroizing;

/// Plaintext; zeroed when the last holder lets go.
pub type Plain = Zeroizing<Vec<u8>>;

/// Fetches that somebody waits for, at once.
const DEMANDS: usize = 16;
/// Fetches ahead of need, at once.
const PREFETCHES: usize = 3;
/// Threads that wait for the local medium, at most: others stay free to open what the server gives.
const LOCALS: usize = 4;
/// How long a piece waits for the local medium before it is fetched all the same, and how long the medium is then left in
/// peace.
const LOCAL_PATIENCE: (Duration, Duration) = (Duration::from_secs(2), Duration::from_secs(30));

/// What a fetch is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Class {
    /// Somebody waits for it.
    Demand,
    /// It is likely to be wanted soon.
    Prefetch,
}

/// What becomes of a piece after it was fetched.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Keep {
    /// Nothing: it is used once in a session.
    No,
    /// Its sealed form goes into the local store.
    Store,
    /// So it does, and it may soon be read again.
    Ram,
}

/// Why a source has not given a piece, for the traveller and for IT.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SourceError {
    /// `piece-missing`, `server-unreachable`, `session-expired`, …
    pub code: Code,
    /// As a sentence.
    pub reason: String,
}

/// Somewhere that sealed objects come from.
pub trait Source: Send + Sync + 'static {
    /// The object of that name, or what claims to be it.
    fn get<'a>(&'a self, name: &'a ChunkName) -> BoxFuture<'a, Result<Bytes, SourceError>>;

    /// Changes when it is worth asking again at once.
    fn hints(&self) -> watch::Receiver<u64>;
}

/// Why an opener has refused bytes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refused {
    /// `piece-damaged`, or `piece-unreadable` when the right bytes are not understood.
    pub code: Code,
    /// As a sentence.
    pub reason: String,
}

impl From<OpenError> for Refused {
    fn from(error: OpenError) -> Self {
        if error.other_source_may_help() {
            return Self::damaged();
        }
        let reason = format!("a piece cannot be read by this program: {error}");
        Self { code: Code::PieceUnreadable, reason }
    }
}

impl From<LeafError> for Refused {
    fn from(error: LeafError) -> Self {
        match error {
            LeafError::Format(_) => Self { code: Code::PieceUnreadable, reason: error.to_string() },
            _ => Self::damaged(),
        }
    }
}

impl Refused {
    /// The bytes are not the ones that were asked for.
    pub fn damaged() -> Self {
        let reason =
            "a piece arrives damaged from the parcel server; it is asked for again until it is whole";
        Self { code: Code::PieceDamaged, reason: reason.into() }
    }
}

#[derive(Clone)]
struct Flight {
    result: WeakShared<BoxFuture<'static, Arc<Plain>>>,
    urgent: Arc<watch::Sender<bool>>,
}

/// The fetch engine. One per process.
pub struct Engine {
    store: Arc<Store>,
    source: Arc<dyn Source>,
    board: Arc<Board>,
    budget: Arc<Budget>,
    ram: Mutex<RamCache<ChunkName>>,
    /// The most bytes of opened chunks, if the budget allows for them.
    ram_bytes: usize,
    flights: Mutex<HashMap<ChunkName, Flight>>,
    demands: Semaphore,
    prefetches: Semaphore,
    locals: Arc<Semaphore>,
    /// Until when the local medium, which did not answer, is not asked.
    resting: Mutex<Option<Instant>>,
}

impl Engine {
    /// An engine that keeps at most `ram_bytes` of opened chunks, and pieces as the `budget` allows.
    pub fn new(
        store: Arc<Store>,
        source: Arc<dyn Source>,
        board: Arc<Board>,
        budget: Arc<Budget>,
        ram_bytes: usize,
    ) -> Arc<Self> {
        Arc::new(Self {
            store,
            source,
            board,
            budget,
            ram: Mutex::default(),
            ram_bytes,
            flights: Mutex::default(),
            demands: Semaphore::new(DEMANDS),
            prefetches: Semaphore::new(PREFETCHES),
            locals: Arc::new(Semaphore::new(LOCALS)),
            resting: Mutex::default(),
        })
    }

    /// The local store.
    pub fn store(&self) -> &Arc<Store> {
        &self.store
    }

    /// The status board.
    pub fn board(&self) -> &Arc<Board> {
        &self.board
    }

    /// The budget of memory.
    pub fn budget(&self) -> &Arc<Budget> {
        &self.budget
    }

    /// What opened chunks may take, and what the store may if its medium is memory.
    fn shares(&self) -> (usize, u64) {
        let pieces = self.budget.pieces();
        let opened = if self.store.in_memory() { pieces / 4 } else { pieces };
        let opened = (opened as usize).min(self.ram_bytes);
        (opened, pieces - opened as u64)
    }

    /// Lets pieces go until they leave the room that the budget needs for changes.
    pub fn fit(&self) {
        let (opened, stored) = self.shares();
        lock(&self.ram).fit(opened);
        if self.store.in_memory() {
            self.store.fit(stored);
        }
    }

    /// Forgets all plaintext.
    pub fn forget(&self) {
        lock(&self.ram).clear();
        lock(&self.flights).clear();
    }

    /// A chunk's plaintext; waits until it can be had.
    pub async fn chunk(
        self: &Arc<Self>,
        secrets: &Arc<Vec<Secret>>,
        want: &ChunkRef,
        class: Class,
        keep: Keep,
    ) -> Arc<Plain> {
        let name = want.name;
        if let Some(plain) = lock(&self.ram).get(&name) {
            return plain;
        }
        let (result, urgent) = self.flight(secrets, want, keep);
        if class == Class::Demand {
            urgent.send_replace(true);
        }
        result.await
    }

    fn flight(
        self: &Arc<Self>,
        secrets: &Arc<Vec<Secret>>,
        want: &ChunkRef,
        keep: Keep,
    ) -> (Shared<BoxFuture<'static, Arc<Plain>>>, Arc<watch::Sender<bool>>) {
        let mut flights = lock(&self.flights);
        if flights.len() > 4096 {
            flights.retain(|_, flight| flight.result.upgrade().is_some());
        }
        if let Some(flight) = flights.get(&want.name)
            && let Some(result) = flight.result.upgrade()
        {
            return (result, flight.urgent.clone());
        }
        let urgent = Arc::new(watch::Sender::new(false));
        let (engine, want, secrets) = (self.clone(), want.clone(), secrets.clone());
        let (name, watched) = (want.name, urgent.subscribe());
        let work = async move {
            let open = move |sealed: &[u8]| {
                let secret = secrets.get(usize::from(want.secret)).ok_or(Refused {
                    code: Code::PieceUnreadable,
                    reason: "the keyring names a secret that the version record does not hold".into(),
                })?;
                Ok(Zeroizing::new(chunk::open(secret, &want.name, &want.key, sealed)?))
            };
            let plain = Arc::new(engine.object(&name, watched, keep, open).await);
            if keep == Keep::Ram {
                let (opened, _) = engine.shares();
                lock(&engine.ram).put(name, plain.clone(), opened);
            }
            lock(&engine.flights).remove(&name);
            plain
        };
        let result = work.boxed().shared();
        if let Some(weak) = result.downgrade() {
            flights.insert(name, Flight { result: weak, urgent: urgent.clone() });
        }
        (result, urgent)
    }

    /// Any sealed object, opened by `open`; waits until one is had that opens.
    pub async fn object<T: Send + 'static>(
        self: &Arc<Self>,
        name: &ChunkName,
        mut urgent: watch::Receiver<bool>,
        keep: Keep,
        open: impl Fn(&[u8]) -> Result<T, Refused> + Send + Sync + 'static,
    ) -> T {
        let open = Arc::new(open);
        if let Some(found) = self.stored(name, open.clone()).await {
            return found;
        }
        let mut hints = self.source.hints();
        let mut wait = self.board.waiter();
        let mut pause = PAUSES.0;
        loop {
            let (mut wanted, attempt) = (urgent.clone(), self.sourced(name, &mut urgent, open.clone()));
            let (code, reason) = match watched(&mut wait, becomes_true(&mut wanted), attempt).await {
                Ok((found, sealed)) => {
                    if keep >= Keep::Store {
                        let (store, name) = (self.store.clone(), *name);
                        self.local(move || store.put(&name, &sealed)).await;
                    }
                    return found;
                }
                Err(why) => why,
            };
            tracing::debug!(%name, %code, "a piece is not had");
            if *urgent.borrow() {
                wait.set(code, &reason);
            }
            let idle = !*urgent.borrow();
            tokio::select! {
                () = tokio::time::sleep(pause) => {}
                Ok(()) = hints.changed() => {}
                // Somebody begins to wait for it.
                () = becomes_true(&mut urgent), if idle => {}
            }
            pause = (pause * 2).min(PAUSES.1);
        }
    }

    /// An object that somebody waits for.
    pub async fn demand<T: Send + 'static>(
        self: &Arc<Self>,
        name: &ChunkName,
        open: impl Fn(&[u8]) -> Result<T, Refused> + Send + Sync + 'static,
    ) -> T {
        let urgent = watch::Sender::new(true);
        self.object(name, urgent.subscribe(), Keep::Store, open).await
    }

    async fn stored<T: Send + 'static>(
        &self,
        name: &ChunkName,
        open: Arc<impl Fn(&[u8]) -> Result<T, Refused> + Send + Sync + 'static>,
    ) -> Option<T> {
        if !self.store.has(name) {
            return None;
        }
        let (store, name) = (self.store.clone(), *name);
        let found = self.local(move || {
            let sealed = store.get(&name)?;
            match open(&sealed) {
                Ok(found) => Some(found),
                Err(refused) => {
                    tracing::warn!(%name, code = %refused.code, "a piece in the local store is thrown away");
                    store.remove(&name);
                    None
                }
            }
        });
        found.await.flatten()
    }

    /// Does `work` on the local medium, which may be a stick that has stopped answering: nobody waits for that long, and it
    /// gets no more to do for a while.
    async fn local<T: Send + 'static>(&self, work: impl FnOnce() -> T + Send + 'static) -> Option<T> {
        if lock(&self.resting).is_some_and(|until| Instant::now() < until) {
            return None;
        }
        let doing = async {
            let permit = self.locals.clone().acquire_owned().await.ok()?;
            let doing = tokio::task::spawn_blocking(move || {
                let done = work();
                drop(permit);
                done
            });
            doing.await.ok()
        };
        let (patience, rest) = LOCAL_PATIENCE;
        match tokio::time::timeout(patience, doing).await {
            Ok(done) => done,
            Err(_) => {
                *lock(&self.resting) = Some(Instant::now() + rest);
                tracing::warn!(
                    "the local store does not answer: pieces come from the server alone for a while"
                );
                None
            }
        }
    }

    /// Does `work` on the local medium however long that takes, on one of the few threads that wait for it.
    pub async fn on_medium<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> io::Result<T> + Send + 'static,
    ) -> io::Result<T> {
        let permit = self.locals.clone().acquire_owned().await.map_err(io::Error::other)?;
        let doing = tokio::task::spawn_blocking(move || {
            let done = work();
            drop(permit);
            done
        });
        doing.await.unwrap_or_else(|panic| Err(io::Error::other(panic)))
    }

    async fn sourced<T: Send + 'static>(
        &self,
        name: &ChunkName,
        urgent: &mut watch::Receiver<bool>,
        open: Arc<impl Fn(&[u8]) -> Result<T, Refused> + Send + Sync + 'static>,
    ) -> Result<(T, Bytes), (Code, String)> {
        let permit = tokio::select! {
            biased;
            () = becomes_true(urgent) => self.demands.acquire().await,
            permit = self.prefetches.acquire() => permit,
        };
        let sealed = self.source.get(name).await.map_err(|e| (e.code, e.reason))?;
        drop(permit);
        let opened = tokio::task::spawn_blocking(move || Ok((open(&sealed)?, sealed)));
        match opened.await {
            Ok(Ok(found)) => Ok(found),
            Ok(Err(Refused { code, reason })) => Err((code, reason)),
            Err(panic) => Err((Code::InternalError, panic.to_string())),
        }
    }
}

async fn becomes_true(urgent: &mut watch::Receiver<bool>) {
    if urgent.wait_for(|urgent| *urgent).await.is_err() {
        // Nobody can make it urgent any more.
        std::future::pending().await
    }
}
