//! A parcel server in memory that can fail in every way that a test asks for, with real sealing, and parcels on it.

use bytes::Bytes;
use cache::{
    budget::Budget,
    commit::{
        Author, Place, commit, move_head,
        upload::{Job, Uploader},
    },
    disk::changes::Origin,
    fetch::{Engine, Source, SourceError},
    keyring::Keyring,
    open::{OpenParcel, Opening},
    remote::{Made, Sink},
    status::Board,
    store::Store,
};
use client::traffic::Traffic;
use futures::{FutureExt as _, future::BoxFuture};
use parcel::{
    chunk::CHUNK_SIZE,
    id::{ChunkName, ParcelId, Version},
    keyring::{ImageKind, LEAF_REFS, chunks_for},
    record::{FORMAT, ImageInfo, Private, Public, Record},
    secret::{ParcelKey, Secret},
    tag::{CpuTag, Tag, Wishes},
    wire::{Code, Stake, WireError, guest::Machine},
};
use std::{
    collections::{BTreeMap, BTreeSet, HashMap, VecDeque},
    path::Path,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicU64, Ordering::SeqCst},
    },
};
use tokio::sync::watch;
use zeroize::Zeroizing;

/// A generator that repeats itself for a seed (xorshift64*, Vigna 2016).
pub struct Rng(pub u64);

impl Rng {
    pub fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }

    pub fn bytes(&mut self, len: usize) -> Vec<u8> {
        let words = (0..len.div_ceil(8)).flat_map(|_| self.next().to_le_bytes());
        words.take(len).collect()
    }
}

/// The server.
#[derive(Default)]
pub struct Memory {
    objects: Mutex<HashMap<ChunkName, Bytes>>,
    records: Mutex<BTreeMap<Version, Bytes>>,
    pub damaged: Mutex<BTreeSet<ChunkName>>,
    pub missing: Mutex<BTreeSet<ChunkName>>,
    /// What is given for what, whole and wrong.
    pub swapped: Mutex<HashMap<ChunkName, ChunkName>>,
    pub down: AtomicBool,
    /// Every so many requests, one fails.
    pub flaky: AtomicU64,
    /// Answers of a commit that are lost after it was made.
    pub lose_answers: AtomicU64,
    /// No record is taken.
    pub refuse_commits: AtomicBool,
    /// The next commit that is made is the last thing that the server does.
    pub down_after_commit: AtomicBool,
    pub gets: AtomicU64,
    pub puts: AtomicU64,
    pub put_bytes: AtomicU64,
    requests: AtomicU64,
    /// What was made by another engine under this lock.
    pub made: Mutex<Option<(Version, Made)>>,
    /// What the next commits are answered with, before any succeeds.
    pub refusals: Mutex<VecDeque<Code>>,
    hints: watch::Sender<u64>,
}

impl Memory {
    pub fn new() -> Arc<Self> {
        Arc::default()
    }

    pub fn names(&self) -> Vec<ChunkName> {
        let mut names: Vec<_> = self.objects.lock().unwrap().keys().copied().collect();
        names.sort();
        names
    }

    /// Numbers of the versions that are there.
    pub fn versions(&self) -> Vec<u64> {
        self.records.lock().unwrap().keys().map(|version| version.0).collect()
    }

    pub fn object(&self, name: &ChunkName) -> Option<Bytes> {
        self.objects.lock().unwrap().get(name).cloned()
    }

    /// Loses all other objects.
    pub fn forget_all_but(&self, names: &[ChunkName]) {
        self.objects.lock().unwrap().retain(|name, _| names.contains(name));
    }

    fn fails(&self) -> bool {
        let count = self.requests.fetch_add(1, SeqCst) + 1;
        let flaky = self.flaky.load(SeqCst);
        let failed = flaky > 0 && count.is_multiple_of(flaky);
        if failed {
            // So that a test does not wait out the pauses.
            self.hints.send_modify(|n| *n += 1);
        }
        self.down.load(SeqCst) || failed
    }

    fn put_error(&self) -> Result<(), WireError> {
        if self.fails() {
            let error = WireError::new(Code::ServerUnreachable, "the server is down");
            return Err(error);
        }
        Ok(())
    }
}

impl Source for Memory {
    fn get<'a>(&'a self, name: &'a ChunkName) -> BoxFuture<'a, Result<Bytes, SourceError>> {
        async move {
            tokio::task::yield_now().await;
            let error = |code: Code| SourceError { code, reason: format!("test: {code}") };
            if self.fails() {
                return Err(error(Code::ServerUnreachable));
            }
            self.gets.fetch_add(1, SeqCst);
            if self.missing.lock().unwrap().contains(name) {
                return Err(error(Code::PieceMissing));
            }
            let given = self.swapped.lock().unwrap().get(name).copied().unwrap_or(*name);
            let object = self.objects.lock().unwrap().get(&given).cloned();
            let object = object.ok_or_else(|| error(Code::PieceMissing))?;
            if self.damaged.lock().unwrap().contains(name) {
                let mut bytes = object.to_vec();
                let at = bytes.len() / 2;
                bytes[at] ^= 4;
                return Ok(bytes.into());
            }
            Ok(object)
        }
        .boxed()
    }

    fn hints(&self) -> watch::Receiver<u64> {
        self.hints.subscribe()
    }
}

impl Sink for Memory {
    fn made<'a>(&'a self, version: Version) -> BoxFuture<'a, Result<Option<Made>, WireError>> {
        let made = *self.made.lock().unwrap();
        async move { Ok(made.filter(|(of, _)| *of == version).map(|(_, made)| made)) }.boxed()
    }

    fn have<'a>(&'a self, names: &'a [ChunkName]) -> BoxFuture<'a, Result<Vec<bool>, WireError>> {
        async move {
            self.put_error()?;
            let objects = self.objects.lock().unwrap();
            Ok(names.iter().map(|name| objects.contains_key(name)).collect())
        }
        .boxed()
    }

    fn put<'a>(&'a self, name: &'a ChunkName, bytes: Bytes) -> BoxFuture<'a, Result<(), WireError>> {
        async move {
            self.put_error()?;
            assert_eq!(parcel::chunk::name_of(&bytes), *name, "an object is sent under its name");
            self.puts.fetch_add(1, SeqCst);
            self.put_bytes.fetch_add(bytes.len() as u64, SeqCst);
            self.objects.lock().unwrap().insert(*name, bytes);
            Ok(())
        }
        .boxed()
    }

    fn commit<'a>(&'a self, version: Version, record: Bytes) -> BoxFuture<'a, Result<(), WireError>> {
        async move {
            self.put_error()?;
            if self.refuse_commits.load(SeqCst) {
                return Err(WireError::new(Code::StaleEpoch, "as the test wants"));
            }
            if let Some(code) = self.refusals.lock().unwrap().pop_front() {
                self.hints.send_modify(|n| *n += 1);
                return Err(WireError::new(code, "as the test wants"));
            }
            let public = Public::read(&record).unwrap();
            let objects = self.objects.lock().unwrap();
            for leaf in public.leaf_names() {
                let leaf = objects.get(&leaf).expect("a leaf is stored before it is named");
                for name in parcel::keyring::public_names(leaf).unwrap() {
                    assert!(objects.contains_key(&name), "a piece is stored before it is named");
                }
            }
            let mut records = self.records.lock().unwrap();
            // As the server does: the same commit, sent again, is done.
            if records.get(&version) == Some(&record) {
                return Ok(());
            }
            if records.contains_key(&version) {
                let error = WireError::new(Code::WrongParent, "there is one");
                return Err(error);
            }
            records.insert(version, record);
            if self.down_after_commit.swap(false, SeqCst) {
                self.down.store(true, SeqCst);
            }
            if self.lose_answers.load(SeqCst) > 0 {
                self.lose_answers.fetch_sub(1, SeqCst);
                let error = WireError::new(Code::ServerUnreachable, "the answer is lost");
                return Err(error);
            }
            Ok(())
        }
        .boxed()
    }

    fn record<'a>(&'a self, version: Version) -> BoxFuture<'a, Result<Bytes, WireError>> {
        async move {
            let record = self.records.lock().unwrap().get(&version).cloned();
            let error = WireError::new(Code::NoSuchVersion, "there is none");
            record.ok_or(error)
        }
        .boxed()
    }

    fn hints(&self) -> watch::Receiver<u64> {
        self.hints.subscribe()
    }
}

/// A parcel on a server in memory, and a client with a cache folder of its own.
pub struct World {
    pub server: Arc<Memory>,
    pub parcel: ParcelId,
    pub key: ParcelKey,
    pub cache: tempfile::TempDir,
    pub board: Arc<Board>,
    pub engine: Arc<Engine>,
}

impl World {
    /// A parcel whose first version has this disk, and `memory_mib` of memory.
    pub async fn new(disk: &[u8], memory_mib: u64) -> Self {
        let server = Memory::new();
        let (parcel, key) = (ParcelId([7; 16]), ParcelKey::from_bytes([8; 32]));
        let secret = Secret::from_bytes([9; 32]);
        let board = Board::new(Arc::new(Traffic::default()));
        let uploader = Uploader::new(server.clone(), board.clone(), Stake::Work, secret.clone(), 1);
        let place = Place { key: &key, parcel, moved: false };
        let mut images = Vec::new();
        for (kind, bytes) in
            [(ImageKind::Kernel, &b"kernel"[..]), (ImageKind::Initrd, b"initrd"), (ImageKind::Disk, disk)]
        {
            images.push(image(&uploader, &place, kind, bytes, &board).await);
        }
        let cpu = CpuTag { vendor: None, baseline: "x86-64-v2".into(), features: BTreeSet::new() };
        let tag = Tag { cpu, vcpus: 1, memory_mib, device_model: 1, wishes: Wishes::default() };
        let machine = Machine {
            vcpus: 1,
            memory_mib,
            cpu_baseline: "x86-64-v2".into(),
            mac: "52:54:00:00:00:01".into(),
        };
        let public = Public {
            format: FORMAT,
            parcel,
            version: Version(1),
            parent: Version(0),
            created_at: 1,
            kiosk: "test".into(),
            tag,
            machine,
            images,
            memory_lost: false,
        };
        let private = Private { secrets: vec![secret], cmdline: "quiet".into(), working_set: Vec::new() };
        let record = Record { public, private }.seal(&key).unwrap();
        move_head(&uploader, Version(1), record.into()).await.unwrap();
        let (cache, engine) = client(&server, &board, (&std::env::temp_dir(), 64 << 20));
        server.gets.store(0, SeqCst);
        server.puts.store(0, SeqCst);
        server.put_bytes.store(0, SeqCst);
        Self { server, parcel, key, cache, board, engine }
    }

    /// A client that has nothing yet: another kiosk.
    pub fn move_on(&mut self) {
        self.moves_to(&std::env::temp_dir(), 64 << 20);
    }

    /// A kiosk whose cache is below `folder`, with a budget of so many bytes.
    pub fn moves_to(&mut self, folder: &Path, budget: u64) {
        (self.cache, self.engine) = client(&self.server, &self.board, (folder, budget));
    }

    pub async fn open(&self, version: u64, cold_boot: bool) -> Arc<OpenParcel> {
        self.try_open(version, cold_boot, 2).await.unwrap()
    }

    pub async fn try_open(
        &self,
        version: u64,
        cold_boot: bool,
        dirty_in_ram: usize,
    ) -> Result<Arc<OpenParcel>, WireError> {
        let record = self.server.record(Version(version)).await?;
        let how = Opening {
            parcel: self.parcel,
            version: Version(version),
            cold_boot,
            cache: self.cache.path(),
            dirty_in_ram,
            changes: Origin::New(b"a test"),
        };
        OpenParcel::new(&self.engine, self.key.clone(), &record, how)
    }

    /// The keyring of a disk with one chunk of zeros and ones at the end of what each of so many leaves names.
    pub async fn sparse(&self, leaves: u64) -> Keyring {
        let secret = Secret::from_bytes([9; 32]);
        let uploader = Uploader::new(self.server.clone(), self.board.clone(), Stake::Work, secret.clone(), 1);
        let place = Place { key: &self.key, parcel: self.parcel, moved: false };
        let step = self.board.step(0);
        let job = |leaf: u64| {
            let load = move || Ok(Some(Zeroizing::new((leaf + 1).to_le_bytes().repeat(CHUNK_SIZE / 8))));
            Job::new((leaf + 1) * LEAF_REFS as u64 - 1, CHUNK_SIZE as u64, load)
        };
        let changes = uploader.pieces((0..leaves).map(job), &step).await.unwrap();
        let bytes = leaves * (LEAF_REFS * CHUNK_SIZE) as u64;
        let (info, leaves) = place.image(ImageKind::Disk, bytes, changes, None).await.unwrap();
        uploader.objects(leaves, |_| {}).await.unwrap();
        let secrets = Arc::new(vec![secret]);
        Keyring::new(self.engine.clone(), self.parcel, self.key.clone(), secrets, &[info]).unwrap()
    }

    pub async fn commit(&self, open: &Arc<OpenParcel>) -> Result<(u64, u64), WireError> {
        let author = Author { kiosk: "test".into(), vendor: "V".into() };
        let done = commit(open, &author, 1, self.server.clone()).await?;
        Ok((done.version.0, done.bytes))
    }
}

fn client(
    server: &Arc<Memory>,
    board: &Arc<Board>,
    (folder, budget): (&Path, u64),
) -> (tempfile::TempDir, Arc<Engine>) {
    let cache = tempfile::tempdir_in(folder).unwrap();
    let store = Arc::new(Store::open(cache.path()).unwrap());
    let budget = Budget::new(budget, board.clone());
    let engine = Engine::new(store, server.clone(), board.clone(), budget, 4 * CHUNK_SIZE);
    (cache, engine)
}

async fn image(
    uploader: &Uploader,
    place: &Place<'_>,
    kind: ImageKind,
    bytes: &[u8],
    board: &Arc<Board>,
) -> ImageInfo {
    let step = board.step(0);
    let jobs = (0..chunks_for(bytes.len() as u64)).map(|index| {
        let from = index as usize * CHUNK_SIZE;
        let part = bytes[from..bytes.len().min(from + CHUNK_SIZE)].to_vec();
        let load = move || Ok(part.iter().any(|byte| *byte != 0).then(|| Zeroizing::new(part)));
        Job::new(index, CHUNK_SIZE as u64, load)
    });
    let changes = uploader.pieces(jobs, &step).await.unwrap();
    let (info, leaves) = place.image(kind, bytes.len() as u64, changes, None).await.unwrap();
    uploader.objects(leaves, |_| {}).await.unwrap();
    info
}

/// The whole disk, as the guest would read it.
pub async fn whole(open: &Arc<OpenParcel>) -> Vec<u8> {
    let mut bytes = vec![0; open.disk.bytes() as usize];
    for (i, part) in bytes.chunks_mut(3 * CHUNK_SIZE / 2).enumerate() {
        open.disk.read((i * (3 * CHUNK_SIZE / 2)) as u64, part).await.unwrap();
    }
    bytes
}

/// Waits until `condition` holds; fails after a while.
pub async fn until(what: &str, condition: impl Fn() -> bool) {
    for _ in 0..3000 {
        if condition() {
            return;
        }
        tokio::time::sleep(std::time::Duration::from_millis(5)).await;
    }
    panic!("not yet: {what}");
}
