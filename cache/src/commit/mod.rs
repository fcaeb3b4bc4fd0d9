//! Committing: what changed since the version that was opened becomes the next version, and nothing else is sent.
//!
//! Order: pieces, then keyring leaves, then the record, which moves the head. Everything can be done again: sealing the
//! same bytes gives the same names, and the server says what it has already.

pub mod upload;

use crate::{
    disk::changes::Changed,
    fetch::Plain,
    keyring::Keyring,
    memory::SharedMemory,
    open::{HandedOver, OpenParcel, Saved},
    remote::{Made, Patience, Sink},
    status::Step,
};
use bytes::Bytes;
use futures::{FutureExt as _, future::BoxFuture};
use parcel::{
    chunk::CHUNK_SIZE,
    id::{ChunkName, ParcelId, RecordHash, Version},
    keyring::{ChunkRef, ImageKind, LEAF_REFS, Leaf, leaves_for, locate},
    pages::{PAGE_SIZE, Plan},
    record::{ImageInfo, Private, Public, Record, WORKING_SET},
    wire::{Code, Stake, WireError},
};
use std::{
    collections::BTreeMap,
    io,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
};
use upload::{Job, Load, Uploader};
use zeroize::Zeroizing;

/// Who commits, for the record.
#[derive(Debug, Clone)]
pub struct Author {
    /// Name of the kiosk.
    pub kiosk: String,
    /// Vendor of its CPU, which the saved machine needs from now on.
    pub vendor: String,
}

/// What a commit has done.
#[derive(Debug, Clone)]
pub struct Committed {
    /// The new version.
    pub version: Version,
    /// Its record.
    pub record: RecordHash,
    /// Bytes of objects that were sent for it.
    pub bytes: u64,
    /// It has a disk as after a power cut, and no memory.
    pub memory_lost: bool,
}

impl Committed {
    /// What was made of `version` before anybody here knew.
    pub fn before(version: Version, Made { record, memory_lost }: Made) -> Self {
        Self { version, record, bytes: 0, memory_lost }
    }
}

/// What changes in an image: chunk index → its new reference.
type Changes = upload::Refs;

/// Where a commit goes.
#[derive(Debug, Clone, Copy)]
struct Target {
    parcel: ParcelId,
    version: Version,
    parent: Version,
    /// Not the parcel that was opened: every leaf is bound to its parcel, so all are sealed anew.
    elsewhere: bool,
}

/// Commits what `open` has: its changed disk chunks, and what the VMM saved.
pub async fn commit(
    open: &Arc<OpenParcel>,
    author: &Author,
    level: i32,
    sink: Arc<dyn Sink>,
) -> Result<Committed, WireError> {
    let base = &open.record.public;
    let target =
        Target { parcel: base.parcel, version: base.version.next(), parent: base.version, elsewhere: false };
    attempts(open, author, level, sink, target).await
}

/// Commits the same as the first version of the empty parcel `into`, which has the same key.
pub async fn rescue(
    open: &Arc<OpenParcel>,
    author: &Author,
    level: i32,
    sink: Arc<dyn Sink>,
    into: ParcelId,
) -> Result<Committed, WireError> {
    let target = Target { parcel: into, version: Version(1), parent: Version(0), elsewhere: true };
    attempts(open, author, level, sink, target).await
}

/// The user's work is at stake, so whatever fails is tried again, unless that proves to be of no use: not only what the
/// server says, but also a medium that does not give back what was written, and objects that the server lost meanwhile.
async fn attempts(
    open: &Arc<OpenParcel>,
    author: &Author,
    level: i32,
    sink: Arc<dyn Sink>,
    target: Target,
) -> Result<Committed, WireError> {
    let board = open.keyring.engine().board();
    let mut patience = Patience::new(Stake::Work, sink.hints());
    loop {
        match attempt(open, author, level, sink.clone(), target).await {
            Ok(done) => return Ok(done),
            Err(error) => {
                // The server may still have worked at what an engine sent that was killed.
                if error.code == Code::WrongParent
                    && let Ok(Some(made)) = sink.made(target.version).await
                {
                    return Ok(Committed::before(target.version, made));
                }
                if error.code == Code::BadMemoryImage {
                    // What is asked for next is the disk alone.
                    open.forget_saved();
                }
                patience.pause(&mut board.waiter(), error).await?;
            }
        }
    }
}

async fn attempt(
    open: &Arc<OpenParcel>,
    author: &Author,
    level: i32,
    sink: Arc<dyn Sink>,
    target: Target,
) -> Result<Committed, WireError> {
    let HandedOver { saved, at, .. } = open.saved().ok_or_else(|| {
        WireError::new(
            Code::NothingSaved,
            "the machine was not saved, so there is nothing to commit; save it first",
        )
    })?;
    let board = open.keyring.engine().board().clone();
    let base = &open.record;
    let secret = base.private.secrets.first().cloned().ok_or_else(|| internal("the record has no secret"))?;
    let step = board.step(0);
    let uploader = Uploader::new(sink, board.clone(), Stake::Work, secret, level);
    let writer = Writer { open, uploader: &uploader, step: &step, target };

    // What there is to do is known before it is begun, so that the traveller sees how far it is.
    let changes = open.disk.changes();
    step.grow((changes.len() * CHUNK_SIZE) as u64);
    let memory = match &saved {
        Saved::PoweredOff | Saved::MemoryLost => None,
        Saved::Suspended { memory, state, dirty, .. } => {
            let (planned, marks) = (memory.clone(), dirty.clone());
            let plan =
                tokio::task::spawn_blocking(move || planned.plan(&marks)).await.map_err(internal)??;
            step.grow((plan.pages_written() * PAGE_SIZE + state.len()) as u64);
            Some((memory, state, plan))
        }
    };

    let mut images = vec![writer.disk(changes).await?];
    let mut working_set = Vec::new();
    if let Some((memory, state, plan)) = memory {
        working_set = plan.packs.iter().map(|pack| pack.index).take(WORKING_SET).collect();
        images.extend(writer.memory(memory, plan).await?);
        images.push(writer.state(state).await?);
    }
    let kept = [ImageKind::Kernel, ImageKind::Initrd];
    for image in base.public.images.iter().filter(|image| kept.contains(&image.kind)) {
        images.push(match target.elsewhere {
            true => writer.image(image.kind, image.bytes, Vec::new(), Some(&open.keyring)).await?,
            false => image.clone(),
        });
    }

    let mut tag = base.public.tag.clone();
    tag.cpu.vendor = None;
    let memory_lost = matches!(saved, Saved::MemoryLost);
    if let Saved::Suspended { device_model, .. } = saved {
        tag.cpu.vendor = Some(author.vendor.clone());
        tag.device_model = device_model;
    }
    let Target { parcel, version, parent, .. } = target;
    let record = Record {
        public: Public {
            format: parcel::record::FORMAT,
            parcel,
            version,
            parent,
            created_at: at,
            kiosk: author.kiosk.clone(),
            tag,
            machine: base.public.machine.clone(),
            images,
            memory_lost,
        },
        private: Private {
            secrets: base.private.secrets.clone(),
            cmdline: base.private.cmdline.clone(),
            working_set,
        },
    };
    let record = record.seal(&open.key).map_err(internal)?;
    let bytes = uploader.sent() + record.len() as u64;
    let hash = RecordHash::of(&record);
    if !target.elsewhere {
        open.disk.sends(version, hash).await;
    }
    move_head(&uploader, version, record.into()).await?;
    board.set_dirty(0);
    Ok(Committed { version, record: hash, bytes, memory_lost })
}

/// Puts the record. An answer that was lost is no failure: if the version is there and is ours, it is committed.
pub async fn move_head(uploader: &Uploader, version: Version, record: Bytes) -> Result<(), WireError> {
    let put = uploader.again(|| {
        let (sink, record) = (uploader.sink().clone(), record.clone());
        async move {
            let failed = match sink.commit(version, record.clone()).await {
                Ok(()) => return Ok(Ok(())),
                // Only sending them again helps.
                Err(failed) if failed.code == Code::MissingObjects => return Ok(Err(failed)),
                Err(failed) => failed,
            };
            if !matches!(failed.code, Code::StaleEpoch | Code::WrongParent | Code::OtherStore) {
                return Err(failed);
            }
            match sink.record(version).await {
                Ok(there) if there == record => Ok(Ok(())),
                Ok(_) if failed.code == Code::WrongParent => match sink.made(version).await {
                    // Whoever knows what that is goes on.
                    Ok(Some(_)) => Ok(Err(failed)),
                    Ok(None) => Err(failed),
                    Err(unknown) => Err(unknown),
                },
                Ok(_) => Err(failed),
                Err(none) if matches!(none.code, Code::NoSuchVersion | Code::StaleEpoch) => Err(failed),
                // Whether it is there is not known before this is answered.
                Err(unknown) => Err(unknown),
            }
        }
        .boxed()
    });
    put.await?
}

fn internal(why: impl ToString) -> WireError {
    WireError::new(
        Code::InternalError,
        format!("the commit cannot be made ({}); report it with the kiosk's log", why.to_string()),
    )
}

struct Writer<'a> {
    open: &'a Arc<OpenParcel>,
    uploader: &'a Uploader,
    step: &'a Step,
    target: Target,
}

impl Writer<'_> {
    /// What needs the medium comes last: everything else is home by then.
    async fn disk(&self, changes: Vec<Changed>) -> Result<ImageInfo, WireError> {
        let bytes = self.open.disk.bytes();
        let job = |changed: Changed| {
            let (index, disk) = (changed.chunk, &self.open.disk);
            let (noted, seen) = (disk.clone(), Arc::new(AtomicU64::new(0)));
            let (disk, sent, read) = (disk.clone(), disk.sent_as(index), seen.clone());
            let load = async move {
                let (tick, plain) = disk.changed(index).await;
                read.store(tick, Relaxed);
                Ok(plain)
            };
            Job {
                index,
                bytes: CHUNK_SIZE as u64,
                load: Load::Waits(load.boxed()),
                sent,
                done: Some(Box::new(move |name| noted.sent(index, seen.load(Relaxed), name))),
            }
        };
        let (on_medium, here): (Vec<_>, Vec<_>) = changes.into_iter().partition(|changed| changed.spilled);
        let mut changes = self.send(here.into_iter().map(job)).await?;
        changes.extend(self.send(on_medium.into_iter().map(job)).await?);
        self.image(ImageKind::Disk, bytes, changes, Some(&self.open.keyring)).await
    }

    /// Packs and page map.
    async fn memory(&self, memory: &SharedMemory, plan: Plan) -> Result<[ImageInfo; 2], WireError> {
        // A cold boot has nothing to do with the memory that the version had.
        let old = self.open.restored.then_some(&self.open.keyring);

        let jobs = plan.packs.into_iter().map(|pack| {
            let memory = memory.clone();
            let bytes = (pack.pages.len() * PAGE_SIZE) as u64;
            let load = move || -> io::Result<_> { Ok(Some(memory.pack(&pack.pages))) };
            Job::new(u64::from(pack.index), bytes, load)
        });
        let mut packs = self.send(jobs).await?;
        packs.extend(plan.freed.iter().map(|index| (u64::from(*index), None)));
        let pack_bytes = u64::from(plan.map.pack_count()) * CHUNK_SIZE as u64;
        let pack_image = self.image(ImageKind::Packs, pack_bytes, packs, old).await?;

        let jobs = plan.map_chunks.iter().map(|chunk| {
            let bytes = plan.map.chunk_bytes(*chunk).map(Zeroizing::new);
            Job::new(*chunk as u64, 0, move || Ok(bytes))
        });
        let changes = self.send(jobs).await?;
        let map_image = self.image(ImageKind::PageMap, plan.map.len() * 4, changes, old).await?;
        Ok([pack_image, map_image])
    }

    async fn state(&self, state: &Arc<Plain>) -> Result<ImageInfo, WireError> {
        let jobs = (0..state.len().div_ceil(CHUNK_SIZE)).map(|chunk| {
            let state = state.clone();
            let range = chunk * CHUNK_SIZE..state.len().min((chunk + 1) * CHUNK_SIZE);
            let bytes = range.len() as u64;
            let load = move || Ok(Some(Zeroizing::new(state[range].to_vec())));
            Job::new(chunk as u64, bytes, load)
        });
        let changes = self.send(jobs).await?;
        self.image(ImageKind::State, state.len() as u64, changes, None).await
    }

    fn send<'a>(
        &'a self,
        jobs: impl Iterator<Item = Job> + Send + 'a,
    ) -> BoxFuture<'a, Result<Changes, WireError>> {
        self.uploader.pieces(jobs, self.step)
    }

    async fn image(
        &self,
        kind: ImageKind,
        bytes: u64,
        changes: Changes,
        old: Option<&Arc<Keyring>>,
    ) -> Result<ImageInfo, WireError> {
        let place = Place { key: &self.open.key, parcel: self.target.parcel, moved: self.target.elsewhere };
        let (image, objects) = place.image(kind, bytes, changes, old).await?;
        self.uploader.objects(objects, |_| {}).await?;
        Ok(image)
    }
}

/// Whose leaves are sealed.
pub struct Place<'a> {
    /// The parcel key.
    pub key: &'a parcel::secret::ParcelKey,
    /// The parcel.
    pub parcel: ParcelId,
    /// The old leaves are another parcel's.
    pub moved: bool,
}

impl Place<'_> {
    /// Applies changes to an image's keyring: its description, and the leaves to be stored for it.
    pub async fn image(
        &self,
        kind: ImageKind,
        bytes: u64,
        changes: Changes,
        old: Option<&Arc<Keyring>>,
    ) -> Result<(ImageInfo, Vec<(ChunkName, Bytes)>), WireError> {
        let count = leaves_for(bytes) as usize;
        let chunks = bytes.div_ceil(CHUNK_SIZE as u64);
        let mut leaves = old.map_or_else(Vec::new, |old| old.leaf_names(kind));
        let shrunk = old.and_then(|old| old.bytes(kind)).unwrap_or(0) > bytes;
        leaves.resize(count, None);
        let mut by_leaf = BTreeMap::<u32, Vec<(usize, Option<ChunkRef>)>>::new();
        for (chunk, to) in changes {
            if chunk < chunks {
                let (leaf, place) = locate(chunk);
                by_leaf.entry(leaf).or_default().push((place, to));
            }
        }
        if self.moved {
            for (index, _) in (0..).zip(&leaves).filter(|(_, leaf)| leaf.is_some()) {
                by_leaf.entry(index).or_default();
            }
        }
        if shrunk && count > 0 {
            by_leaf.entry(count as u32 - 1).or_default();
        }
        let mut objects = Vec::new();
        for (index, changes) in by_leaf {
            let mut leaf = match old {
                Some(old) => Leaf::clone(&*old.leaf(kind, index).await),
                None => Leaf::default(),
            };
            let size = LEAF_REFS.min((chunks - u64::from(index) * LEAF_REFS as u64) as usize);
            leaf.refs.resize(size, None);
            for (place, to) in changes {
                leaf.refs[place] = to;
            }
            if leaf.refs.iter().all(Option::is_none) {
                leaves[index as usize] = None;
                continue;
            }
            let object = leaf.seal(self.key, &self.parcel, kind, index).map_err(internal)?;
            leaves[index as usize] = Some(object.name);
            objects.push((object.name, Bytes::from(object.bytes)));
        }
        Ok((ImageInfo { kind, bytes, leaves }, objects))
    }
}
