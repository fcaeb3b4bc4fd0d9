//! Sealing pieces and sending those that the server does not have yet, through any outage.

use crate::{
    fetch::Plain,
    remote::{self, Sink},
    status::{Board, Step, lock},
};
use bytes::Bytes;
use futures::{
    FutureExt as _, StreamExt as _, TryStreamExt as _,
    future::BoxFuture,
    stream::{self, BoxStream},
};
use parcel::{
    chunk,
    id::ChunkName,
    keyring::ChunkRef,
    secret::Secret,
    wire::{Code, Stake, WireError},
};
use std::{
    io,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
};

/// Pieces whose presence is asked for at once.
const BATCH: usize = 32;
/// Pieces being sent at once.
const SENDING: usize = 4;

/// Where the bytes of a piece come from. It gives `None` for a piece that is all zeros.
pub enum Load {
    /// They are here. Runs on a thread that may block.
    Here(Box<dyn FnOnce() -> io::Result<Option<Plain>> + Send>),
    /// They may have to be waited for.
    Waits(BoxFuture<'static, io::Result<Option<Plain>>>),
}

/// One piece to be stored.
pub struct Job {
    /// Index of the chunk in its image.
    pub index: u64,
    /// Its size in memory, for the progress.
    pub bytes: u64,
    /// Where its bytes come from.
    pub load: Load,
    /// What it is called if it was sent before: its bytes are not needed unless it got lost there.
    pub sent: Option<ChunkRef>,
    /// Told once it is there.
    pub done: Option<Done>,
}

/// Takes the name of a piece that was stored.
pub type Done = Box<dyn FnOnce(&ChunkRef) + Send>;

impl Job {
    /// A piece that is here.
    pub fn new(
        index: u64,
        bytes: u64,
        load: impl FnOnce() -> io::Result<Option<Plain>> + Send + 'static,
    ) -> Self {
        Self { index, bytes, load: Load::Here(Box::new(load)), sent: None, done: None }
    }
}

/// A job after sealing.
struct SealedJob {
    index: u64,
    bytes: u64,
    /// Its piece, unless that is all zeros.
    piece: Option<(ChunkRef, Bytes)>,
    done: Option<Done>,
}
/// What chunks are called now; `None` is a hole.
pub type Refs = Vec<(u64, Option<ChunkRef>)>;

/// Sends pieces to a [`Sink`].
pub struct Uploader {
    sink: Arc<dyn Sink>,
    board: Arc<Board>,
    stake: Stake,
    secret: Secret,
    level: i32,
    sent: AtomicU64,
    cores: usize,
}

impl Uploader {
    /// Seals under `secret` at zstd `level` and sends to `sink`, for as long as `stake` says.
    pub fn new(sink: Arc<dyn Sink>, board: Arc<Board>, stake: Stake, secret: Secret, level: i32) -> Self {
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        Self { sink, board, stake, secret, level, sent: AtomicU64::new(0), cores }
    }

    /// Bytes of objects sent so far.
    pub fn sent(&self) -> u64 {
        self.sent.load(Relaxed)
    }

    /// The sink.
    pub fn sink(&self) -> &Arc<dyn Sink> {
        &self.sink
    }

    /// Stores every job's piece; answers what each chunk is called now, `None` for a hole. A job is made when its turn comes: there
    /// may be very many.
    pub fn pieces<'a>(
        &'a self,
        jobs: impl Iterator<Item = Job> + Send + 'a,
        step: &'a Step,
    ) -> BoxFuture<'a, Result<Refs, WireError>> {
        self.store(stream::iter(jobs).boxed(), step).boxed()
    }

    async fn store(&self, jobs: BoxStream<'_, Job>, step: &Step) -> Result<Refs, WireError> {
        let there = Mutex::default();
        let wanted = self.wanted(jobs, &there, step);
        let sealed = wanted.map(|job| self.seal(job).boxed()).buffered(2 * self.cores);
        let batches = sealed.chunks(BATCH).map(|batch| self.batch(batch, step).boxed());
        let sent: Vec<Vec<_>> = batches.buffered(2).try_collect().await?;
        let mut refs = there.into_inner().unwrap_or_else(PoisonError::into_inner);
        refs.extend(sent.into_iter().flatten());
        Ok(refs)
    }

    /// The jobs that are to be sent: `there` takes those that were sent before and are still there.
    fn wanted<'a>(
        &'a self,
        jobs: BoxStream<'a, Job>,
        there: &'a Mutex<Refs>,
        step: &'a Step,
    ) -> BoxStream<'a, Result<Job, WireError>> {
        let batches = jobs.chunks(BATCH).then(move |batch| self.not_there(batch, there, step).boxed());
        batches.map_ok(|jobs| stream::iter(jobs).map(Ok)).try_flatten().boxed()
    }

    /// Which jobs of a batch are to be sent.
    async fn not_there(
        &self,
        batch: Vec<Job>,
        there: &Mutex<Refs>,
        step: &Step,
    ) -> Result<Vec<Job>, WireError> {
        let names: Vec<_> = batch.iter().filter_map(|job| job.sent.as_ref().map(|one| one.name)).collect();
        if names.is_empty() {
            return Ok(batch);
        }
        let mut have = self.again(|| self.sink.have(&names)).await?.into_iter();
        let mut wanted = Vec::new();
        for job in batch {
            if job.sent.is_some() && have.next() == Some(true) {
                step.add(job.bytes);
                lock(there).push((job.index, job.sent));
            } else {
                wanted.push(job);
            }
        }
        Ok(wanted)
    }

    async fn batch(&self, batch: Vec<Result<SealedJob, WireError>>, step: &Step) -> Result<Refs, WireError> {
        let mut refs = Vec::with_capacity(batch.len());
        let mut objects = Vec::with_capacity(batch.len());
        let mut plain = Vec::with_capacity(batch.len());
        let mut told = Vec::new();
        for job in batch {
            let SealedJob { index, bytes, piece, done } = job?;
            refs.push((index, piece.as_ref().map(|(one, _)| one.clone())));
            match piece {
                Some((one, object)) => {
                    plain.push(bytes);
                    objects.push((one.name, object));
                    told.extend(done.map(|done| (one, done)));
                }
                None => step.add(bytes),
            }
        }
        self.objects(objects, |i| step.add(plain[i])).await?;
        told.into_iter().for_each(|(one, done)| done(&one));
        Ok(refs)
    }

    async fn seal(&self, job: Result<Job, WireError>) -> Result<SealedJob, WireError> {
        let (secret, level) = (self.secret.clone(), self.level);
        let Job { index, bytes, load, done, .. } = job?;
        let load = match load {
            Load::Here(load) => load,
            Load::Waits(load) => {
                let loaded = load.await;
                Box::new(move || loaded)
            }
        };
        let work = tokio::task::spawn_blocking(move || {
            let Some(plain) = load().map_err(|e| WireError::new(Code::CacheMedium, e.to_string()))? else {
                return Ok(SealedJob { index, bytes, piece: None, done });
            };
            let sealed = chunk::seal(&secret, &plain, level).map_err(|e| {
                WireError::new(Code::InternalError, format!("a piece could not be sealed: {e}"))
            })?;
            let one = ChunkRef { name: sealed.name, key: sealed.key, secret: 0 };
            Ok(SealedJob { index, bytes, piece: Some((one, Bytes::from(sealed.bytes))), done })
        });
        work.await.map_err(|e| WireError::new(Code::InternalError, e.to_string()))?
    }

    /// Stores sealed objects that are not there yet; `done` is told of each, by its place in `objects`.
    pub async fn objects(
        &self,
        objects: Vec<(ChunkName, Bytes)>,
        done: impl Fn(usize) + Sync,
    ) -> Result<(), WireError> {
        for (start, batch) in objects.chunks(BATCH).enumerate().map(|(i, batch)| (i * BATCH, batch)) {
            let names: Vec<_> = batch.iter().map(|(name, _)| *name).collect();
            let have = self.again(|| self.sink.have(&names)).await?;
            let mut missing = Vec::new();
            for (i, (object, have)) in batch.iter().cloned().zip(have).enumerate() {
                match have {
                    true => done(start + i),
                    false => missing.push((start + i, object)),
                }
            }
            let sending = missing.into_iter().map(|(i, (name, bytes))| {
                let done = &done;
                async move {
                    self.object(name, bytes).await?;
                    done(i);
                    Ok::<_, WireError>(())
                }
                .boxed()
            });
            stream::iter(sending).buffer_unordered(SENDING).try_collect::<()>().await?;
        }
        Ok(())
    }

    async fn object(&self, name: ChunkName, bytes: Bytes) -> Result<(), WireError> {
        let size = bytes.len() as u64;
        self.again(|| self.sink.put(&name, bytes.clone())).await?;
        self.sent.fetch_add(size, Relaxed);
        Ok(())
    }

    /// Tries until it succeeds or fails for good; meanwhile the board says why it waits.
    pub async fn again<'a, T>(
        &self,
        attempt: impl FnMut() -> BoxFuture<'a, Result<T, WireError>>,
    ) -> Result<T, WireError> {
        remote::again(&self.board, self.sink.hints(), self.stake, attempt).await
    }
}
