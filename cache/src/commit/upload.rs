//! Sealing pieces and sending those that the server does not have yet, through any outage.

use crate::{
    fetch::Plain,
    remote::{self, Sink, SinkError},
    status::{Board, Step},
};
use bytes::Bytes;
use futures::{FutureExt as _, StreamExt as _, TryStreamExt as _, future::BoxFuture, stream};
use parcel::{
    chunk,
    id::ChunkName,
    keyring::ChunkRef,
    secret::Secret,
    wire::{Code, WireError},
};
use std::{
    io,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
};

/// Pieces whose presence is asked for at once.
const BATCH: usize = 32;
/// Pieces being sent at once.
const SENDING: usize = 4;

/// One piece to be stored.
pub struct Job {
    /// Index of the chunk in its image.
    pub index: u64,
    /// Its size in memory, for the progress.
    pub bytes: u64,
    /// Gets its bytes; `None`: they are all zeros. Runs on a thread that may block.
    pub load: Box<dyn FnOnce() -> io::Result<Option<Plain>> + Send>,
}

/// A job's index and size, and its piece unless that is all zeros.
type SealedJob = (u64, u64, Option<(ChunkRef, Bytes)>);
/// What chunks are called now; `None` is a hole.
pub type Refs = Vec<(u64, Option<ChunkRef>)>;

/// Sends pieces to a [`Sink`].
pub struct Uploader {
    sink: Arc<dyn Sink>,
    board: Arc<Board>,
    secret: Secret,
    level: i32,
    sent: AtomicU64,
    cores: usize,
}

impl Uploader {
    /// Seals under `secret` at zstd `level` and sends to `sink`.
    pub fn new(sink: Arc<dyn Sink>, board: Arc<Board>, secret: Secret, level: i32) -> Self {
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        Self { sink, board, secret, level, sent: AtomicU64::new(0), cores }
    }

    /// Bytes of objects sent so far.
    pub fn sent(&self) -> u64 {
        self.sent.load(Relaxed)
    }

    /// The sink.
    pub fn sink(&self) -> &Arc<dyn Sink> {
        &self.sink
    }

    /// Stores every job's piece; answers what each chunk is called now, `None` for a hole, in the jobs' order.
    pub async fn pieces(&self, jobs: Vec<Job>, step: &Step) -> Result<Refs, WireError> {
        let sealed = stream::iter(jobs).map(|job| self.seal(job).boxed()).buffered(2 * self.cores);
        let batches = sealed.chunks(BATCH).map(|batch| self.batch(batch, step).boxed());
        let refs: Vec<Vec<_>> = batches.buffered(2).try_collect().await?;
        Ok(refs.into_iter().flatten().collect())
    }

    async fn batch(&self, batch: Vec<Result<SealedJob, WireError>>, step: &Step) -> Result<Refs, WireError> {
        let mut refs = Vec::with_capacity(batch.len());
        let mut objects = Vec::with_capacity(batch.len());
        let mut plain = Vec::with_capacity(batch.len());
        for job in batch {
            let (index, bytes, sealed) = job?;
            refs.push((index, sealed.as_ref().map(|(one, _)| one.clone())));
            match sealed {
                Some((one, object)) => {
                    plain.push(bytes);
                    objects.push((one.name, object));
                }
                None => step.add(bytes),
            }
        }
        self.objects(objects, |i| step.add(plain[i])).await?;
        Ok(refs)
    }

    async fn seal(&self, job: Job) -> Result<SealedJob, WireError> {
        let (secret, level) = (self.secret.clone(), self.level);
        let work = tokio::task::spawn_blocking(move || {
            let Some(plain) = (job.load)().map_err(|e| WireError::new(Code::CacheMedium, e.to_string()))?
            else {
                return Ok((job.index, job.bytes, None));
            };
            let sealed = chunk::seal(&secret, &plain, level).map_err(|e| {
                WireError::new(Code::InternalError, format!("a piece could not be sealed: {e}"))
            })?;
            let one = ChunkRef { name: sealed.name, key: sealed.key, secret: 0 };
            Ok((job.index, job.bytes, Some((one, Bytes::from(sealed.bytes)))))
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
            let have = self.again(|| self.sink.have(&names)).await.map_err(|e| e.error)?;
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
        self.again(|| self.sink.put(&name, bytes.clone())).await.map_err(|e| e.error)?;
        self.sent.fetch_add(size, Relaxed);
        Ok(())
    }

    /// Tries until it succeeds or fails for good; meanwhile the board says why it waits.
    pub async fn again<'a, T>(
        &self,
        attempt: impl FnMut() -> BoxFuture<'a, Result<T, SinkError>>,
    ) -> Result<T, SinkError> {
        remote::again(self.board.clone(), self.sink.hints(), attempt).await
    }
}
