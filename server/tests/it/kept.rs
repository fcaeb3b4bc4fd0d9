//! The client engine is killed in mid-session, as a process, with the real server: what its guest had flushed is found again
//! with the parcel key and goes home under the same lock.

use crate::{
    front::{FLUSH, Guest, IN, OUT, Request as Asked, ZEROES},
    machine::kiosk,
    tenure::Site,
};
use cache::{
    control::{AsyncClient, ControlError},
    daemon::{Daemon, Settings},
    harden,
    status::Board,
};
use client::{api::Api, traffic::Traffic};
use parcel::{
    chunk::CHUNK_SIZE,
    id::{BootId, Version},
    wire::{
        Code,
        daemon::{Policy, Reply, Request},
    },
};
use std::{
    env, fs,
    io::Write as _,
    path::PathBuf,
    process::{Child, Command, Stdio},
    sync::Arc,
    time::Duration,
};
use tempfile::TempDir;

/// Where the engine's process finds what it is to do: folder, server, CA.
const ENGINE: [&str; 3] = ["ENGINE_FOLDER", "ENGINE_SERVER", "ENGINE_CA"];
/// Bytes of an entry of the journal.
const ENTRY: u64 = 80;
/// Bytes of a block, which is what the guest writes and what a kill may halve no further.
const BLOCK: usize = 4096;
/// Blocks of the disk that [`Site`] makes.
const BLOCKS: usize = 8 * CHUNK_SIZE / BLOCK;

/// Not a test: what a child of these tests runs, which is what `cached` does.
#[test]
fn engine() {
    let [Ok(folder), Ok(server), Ok(ca)] = ENGINE.map(env::var) else { return };
    harden::process().unwrap();
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    runtime.block_on(async {
        let traffic = Arc::new(Traffic::default());
        let api = Api::new(&server, ca.as_ref(), traffic.clone()).unwrap();
        let settings = Settings {
            // Some of what is changed leaves memory before it is flushed.
            dirty_in_ram: 3,
            ..Settings::sized(PathBuf::from(&folder).join("run"), PathBuf::from(&folder).join("cache"), 1)
        };
        cache::daemon::run(Daemon::new(settings, api, Board::new(traffic)).unwrap()).await.unwrap();
    });
}

/// A kiosk's folders, and the engine that runs on them.
struct Engine {
    dir: TempDir,
    child: Option<Child>,
    url: String,
    ca: PathBuf,
}

impl Engine {
    async fn new(site: &Site) -> Self {
        let dir = tempfile::Builder::new().prefix("kept").tempdir().unwrap();
        fs::create_dir(dir.path().join("run")).unwrap();
        fs::create_dir(dir.path().join("cache")).unwrap();
        let url = format!("https://localhost:{}", site.server.as_ref().unwrap().addr.port());
        let mut engine = Self { dir, child: None, url, ca: site.setup.path("ca.pem") };
        engine.start(site).await;
        engine
    }

    /// One that was killed in a session whose guest had flushed a block.
    async fn killed(site: &Site) -> Self {
        let mut engine = Self::new(site).await;
        engine.open(site).await;
        let mut guest = Guest::attach(&engine.run("disk.sock"));
        assert_eq!(guest.ask(OUT, sector(3), filled(7), 0).await.0, 0);
        assert_eq!(guest.ask(FLUSH, 0, Vec::new(), 0).await.0, 0);
        engine.kill();
        engine
    }

    async fn start(&mut self, site: &Site) {
        let _ = fs::remove_file(self.run("cached.sock"));
        let child = Command::new(env::current_exe().unwrap())
            .args(["--exact", "kept::engine", "--nocapture"])
            .env(ENGINE[0], self.dir.path())
            .env(ENGINE[1], &self.url)
            .env(ENGINE[2], &self.ca)
            .stdout(Stdio::null())
            .spawn()
            .unwrap();
        self.child = Some(child);
        // On a busy machine a program takes its time to start.
        for _ in 0..6000 {
            if std::os::unix::net::UnixStream::connect(self.run("cached.sock")).is_ok() {
                self.ask(&Request::Session { token: site.token.as_str().into() }).await.unwrap();
                return;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        panic!("the engine does not come up");
    }

    /// SIGKILL.
    fn kill(&mut self) {
        let mut child = self.child.take().unwrap();
        child.kill().unwrap();
        child.wait().unwrap();
    }

    fn run(&self, name: &str) -> PathBuf {
        self.dir.path().join("run").join(name)
    }

    fn changes(&self) -> PathBuf {
        self.dir.path().join("cache/changes")
    }

    /// A killed engine, with the changes that this killed one left.
    async fn copied(&self, site: &Site) -> Self {
        let mut copy = Self::new(site).await;
        copy.kill();
        fs::create_dir_all(copy.changes()).unwrap();
        for name in ["journal", "chunks"] {
            fs::copy(self.changes().join(name), copy.changes().join(name)).unwrap();
        }
        copy
    }

    async fn ask(&self, request: &Request) -> Result<Reply, ControlError> {
        let mut client = AsyncClient::connect(&self.run("cached.sock")).await.unwrap();
        let asking = client.ask(request);
        tokio::time::timeout(Duration::from_secs(60), asking).await.expect("it does not wait for ever")
    }

    async fn code(&self, request: &Request) -> String {
        match self.ask(request).await {
            Err(ControlError::Refused(error)) => error.code.to_string(),
            other => panic!("{other:?}"),
        }
    }

    async fn key(&self, site: &Site) {
        let key = site.machine.key().to_hex().into();
        self.ask(&Request::Key { parcel: site.machine.id, key }).await.unwrap();
    }

    /// Takes the lock and opens the machine's last version.
    async fn open(&self, site: &Site) {
        let (parcel, boot) = (site.machine.id, BootId([1; 16]));
        let (kiosk, inventory) = ("A".to_owned(), kiosk(1024));
        let lock = Request::Lock { parcel, kiosk, boot, inventory, break_lock: false, cold_boot: false };
        self.ask(&lock).await.unwrap();
        self.key(site).await;
        let open = Request::Open { parcel, policy: Policy::Demand, cold_boot: false, memory_mib: None };
        self.ask(&open).await.unwrap();
    }

    /// Starts again and finds the changes.
    async fn recover(&mut self, site: &Site, base: u64) {
        self.start(site).await;
        let recover = Request::Recover { parcel: site.machine.id };
        assert_eq!(self.code(&recover).await, "no-key");
        self.key(site).await;
        match self.ask(&recover).await.unwrap() {
            Reply::Recovered { version, .. } => assert_eq!(version, Version(base)),
            other => panic!("{other:?}"),
        }
    }

    async fn commit(&self) -> Version {
        match self.ask(&Request::Commit).await.unwrap() {
            Reply::Committed { version, .. } => version,
            other => panic!("{other:?}"),
        }
    }

    /// All blocks of the disk, as its guest reads them; then the lock is given back.
    async fn disk(site: &Site) -> Vec<Vec<u8>> {
        let engine = Self::new(site).await;
        engine.open(site).await;
        let mut guest = Guest::attach(&engine.run("disk.sock"));
        let mut blocks = Vec::new();
        for block in 0..BLOCKS {
            let (status, bytes) = guest.ask(IN, sector(block), Vec::new(), BLOCK as u32).await;
            assert_eq!(status, 0);
            blocks.push(bytes);
        }
        engine.ask(&Request::Unlock).await.unwrap();
        blocks
    }
}

impl Drop for Engine {
    fn drop(&mut self) {
        if self.child.is_some() {
            self.kill();
        }
    }
}

fn sector(block: usize) -> u64 {
    (block * BLOCK / 512) as u64
}

fn filled(with: u32) -> Vec<u8> {
    with.to_le_bytes().repeat(BLOCK / 4)
}

/// The body of a write-zeroes request.
fn range(block: usize, blocks: usize) -> Vec<u8> {
    let mut bytes = sector(block).to_le_bytes().to_vec();
    bytes.extend(((blocks * BLOCK / 512) as u32).to_le_bytes());
    bytes.extend([0; 4]);
    bytes
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_flushed_survives_the_kill_of_its_engine() {
    let site = Site::new().await;
    let (id, client) = (site.machine.id, site.client().await);
    let before = Engine::disk(&site).await;
    let mut engine = Engine::new(&site).await;
    assert_eq!(engine.code(&Request::Recover { parcel: id }).await, "no-key");
    engine.key(&site).await;
    assert_eq!(engine.code(&Request::Recover { parcel: id }).await, "no-changes");
    engine.open(&site).await;
    let mut guest = Guest::attach(&engine.run("disk.sock"));
    for (block, with) in [(3, 7), (40, 8), (41, 9), (3, 10)] {
        assert_eq!(guest.ask(OUT, sector(block), filled(with), 0).await.0, 0);
    }
    // A whole chunk that has something in it becomes a hole.
    assert_eq!(guest.ask(ZEROES, sector(160), range(160, CHUNK_SIZE / BLOCK), 0).await.0, 0);
    assert_eq!(guest.ask(FLUSH, 0, Vec::new(), 0).await.0, 0);
    engine.kill();
    // Only ciphertext is there, and only below the cache folder, which the wipe destroys.
    for name in ["journal", "chunks"] {
        let bytes = fs::read(engine.changes().join(name)).unwrap();
        assert!(!bytes.windows(64).any(|window| window == &filled(10)[..64]), "{name}");
        assert!(!bytes.windows(32).any(|window| window == site.machine.key().expose()), "{name}");
    }
    let left: Vec<_> = fs::read_dir(engine.dir.path().join("run")).unwrap().flatten().collect();
    assert!(left.iter().all(|left| left.file_name().to_string_lossy().ends_with(".sock")), "{left:?}");

    // A lock of a killed engine is not free, and nothing is begun over its changes.
    engine.start(&site).await;
    let other = "11".repeat(32).into();
    engine.ask(&Request::Key { parcel: id, key: other }).await.unwrap();
    assert_eq!(engine.code(&Request::Recover { parcel: id }).await, "wrong-key");
    engine.kill();
    engine.recover(&site, 1).await;
    // It may be killed again.
    engine.kill();
    engine.recover(&site, 1).await;
    assert_eq!(engine.commit().await, Version(2));
    // And after the commit, whose answer nobody remembers.
    engine.kill();
    engine.recover(&site, 1).await;
    assert_eq!(engine.commit().await, Version(2));
    // Nor does the journal have to know it: the medium may not have taken that. Made a second later, it is another record.
    tokio::time::sleep(Duration::from_millis(1100)).await;
    engine.kill();
    let journal = fs::OpenOptions::new().write(true).open(engine.changes().join("journal")).unwrap();
    journal.set_len(journal.metadata().unwrap().len() - ENTRY).unwrap();
    engine.recover(&site, 1).await;
    assert_eq!(engine.commit().await, Version(2));
    engine.ask(&Request::Unlock).await.unwrap();
    assert!(!engine.changes().exists());
    let seen = client.show(id).await.unwrap();
    assert_eq!((seen.version, seen.memory_lost, seen.lock), (Version(2), true, None));
    let mut wanted = before;
    (wanted[3], wanted[40], wanted[41]) = (filled(10), filled(8), filled(9));
    wanted[160..160 + CHUNK_SIZE / BLOCK].fill(vec![0; BLOCK]);
    assert!(Engine::disk(&site).await == wanted);
}

/// The server may still work at a commit when the engine that sent it is killed, and be done after its successor has looked.
#[tokio::test(flavor = "multi_thread")]
async fn a_commit_that_lands_after_its_engine_was_killed_is_home() {
    let site = Site::new().await;
    let (id, client) = (site.machine.id, site.client().await);
    let mut engine = Engine::killed(&site).await;
    let (mut late, mut gives_up) = (engine.copied(&site).await, engine.copied(&site).await);
    engine.recover(&site, 1).await;
    gives_up.recover(&site, 1).await;
    // Saved a second later, it is another record.
    tokio::time::sleep(Duration::from_millis(1100)).await;
    late.recover(&site, 1).await;
    assert_eq!(late.commit().await, Version(2));
    let record = client.show(id).await.unwrap().record;
    assert_eq!(engine.commit().await, Version(2));
    // Should that answer be lost, this one is right, too.
    match engine.ask(&Request::Learn).await.unwrap() {
        Reply::Learned { held, committed } => assert_eq!((held, committed), (true, Some(true))),
        other => panic!("{other:?}"),
    }
    engine.ask(&Request::Unlock).await.unwrap();
    let seen = client.show(id).await.unwrap();
    assert_eq!((seen.version, seen.record, seen.lock), (Version(2), record, None));
    // A user who gives up is not told that the work is lost.
    gives_up.ask(&Request::Unlock).await.unwrap();
    match gives_up.ask(&Request::Learn).await.unwrap() {
        Reply::Learned { held, committed } => assert_eq!((held, committed), (false, None)),
        other => panic!("{other:?}"),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rescue_ends_though_its_engine_is_killed_after_it() {
    let site = Site::new().await;
    let (id, client) = (site.machine.id, site.client().await);
    // The first name is taken.
    let taken = client.create(crate::machine::random_id(), "work, rescued from A", "shanta", "import").await;
    taken.unwrap();
    let mut engine = Engine::killed(&site).await;
    client.break_lock(id, "elsewhere").await.unwrap();
    engine.recover(&site, 1).await;
    let mut homes = Vec::new();
    for _ in 0..2 {
        assert_eq!(engine.code(&Request::Commit).await, "stale-epoch");
        match engine.ask(&Request::Rescue).await.unwrap() {
            Reply::Rescued { parcel, name, .. } => homes.push((parcel, name)),
            other => panic!("{other:?}"),
        }
        // Its answer is not heard.
        engine.kill();
        engine.recover(&site, 1).await;
    }
    assert_eq!(homes[0], homes[1]);
    assert_eq!(homes[0].1, "work, rescued from A (2)");
    let home = client.show(homes[0].0).await.unwrap();
    assert_eq!((home.version, home.lock), (Version(1), None));
}

/// Whoever tidies up sees an unfinished parcel, and takes it away while the work is on its way there.
#[tokio::test(flavor = "multi_thread")]
async fn a_rescue_whose_parcel_is_taken_away_begins_anew() {
    let site = Site::new().await;
    let (id, client) = (site.machine.id, site.client().await);
    let mut engine = Engine::killed(&site).await;
    client.break_lock(id, "elsewhere").await.unwrap();
    engine.recover(&site, 1).await;
    assert_eq!(engine.code(&Request::Commit).await, "stale-epoch");
    // Nothing can be sent for a while.
    let (chunks, aside) = (site.setup.path("store/chunks"), site.setup.path("store/aside"));
    fs::rename(&chunks, &aside).unwrap();
    fs::write(&chunks, "").unwrap();
    let waiting = async |code: Code| {
        loop {
            let Reply::Status(status) = engine.ask(&Request::Status).await.unwrap() else {
                panic!("a status")
            };
            if status.waiting.is_some_and(|waiting| waiting.code == code) {
                return;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    let tidied = async {
        waiting(Code::Store).await;
        let unfinished = client.list().await.into_iter().find(|parcel| parcel.version == Version(0)).unwrap();
        let taken = client.break_lock(unfinished.id, "elsewhere").await.unwrap();
        fs::remove_file(&chunks).unwrap();
        fs::rename(&aside, &chunks).unwrap();
        waiting(Code::Exists).await;
        client.discard(unfinished.id, taken.epoch).await.unwrap();
    };
    let (rescued, ()) = tokio::join!(engine.ask(&Request::Rescue), tidied);
    let Ok(Reply::Rescued { parcel, .. }) = rescued else { panic!("{rescued:?}") };
    let home = client.show(parcel).await.unwrap();
    assert_eq!((home.version, home.lock), (Version(1), None));
}

/// The store was restored, and then the lock was broken: the server gives nothing under the old lock any more.
#[tokio::test(flavor = "multi_thread")]
async fn what_a_killed_engine_left_is_rescued_from_a_restored_store_too() {
    let mut site = Site::new().await;
    let id = site.machine.id;
    let mut engine = Engine::killed(&site).await;
    site.down();
    site.copy(&["store"], "", "backup.");
    site.copy(&["store"], "backup.", "");
    assert_eq!(site.says(&["restored"]).0, 0);
    site.up();
    site.client().await.break_lock(id, "elsewhere").await.unwrap();
    engine.recover(&site, 1).await;
    assert_eq!(engine.code(&Request::Commit).await, "stale-epoch");
    let rescued = engine.ask(&Request::Rescue).await.unwrap();
    assert!(matches!(rescued, Reply::Rescued { memory_lost: true, .. }), "{rescued:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn no_session_begins_over_changes_that_are_left() {
    let site = Site::new().await;
    let (id, client) = (site.machine.id, site.client().await);
    let mut engine = Engine::new(&site).await;
    engine.open(&site).await;
    engine.kill();
    let epoch = client.break_lock(id, "elsewhere").await.unwrap().epoch;
    client.unlock(id, epoch).await.unwrap();
    engine.start(&site).await;
    let (parcel, kiosk, inventory) = (id, "A".to_owned(), kiosk(1024));
    let boot = BootId([1; 16]);
    let lock = Request::Lock { parcel, kiosk, boot, inventory, break_lock: false, cold_boot: false };
    engine.ask(&lock).await.unwrap();
    engine.key(&site).await;
    let open = Request::Open { parcel, policy: Policy::Demand, cold_boot: false, memory_mib: None };
    assert_eq!(engine.code(&open).await, "changes-left");
}

struct Rng(u64);

impl Rng {
    fn below(&mut self, most: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % most
    }
}

/// Kills at any moment. Each block is then as it was at the last flush that was answered, or as it was written since.
#[tokio::test(flavor = "multi_thread")]
async fn whenever_it_is_killed_nothing_that_was_flushed_is_lost() {
    let seed = env::var("SEED").ok().and_then(|seed| seed.parse().ok()).unwrap_or_else(|| {
        let mut bytes = [0; 8];
        getrandom::fill(&mut bytes).unwrap();
        u64::from_le_bytes(bytes) | 1
    });
    println!("SEED={seed}");
    let mut rng = Rng(seed);
    let site = Site::new().await;
    let mut known = Engine::disk(&site).await;
    let mut tag = 100;
    for round in 0..8_u64 {
        let base = site.client().await.show(site.machine.id).await.unwrap().version.0;
        let mut engine = Engine::new(&site).await;
        engine.open(&site).await;
        let mut guest = Guest::attach(&engine.run("disk.sock"));
        // What each block may be.
        let mut may: Vec<Vec<Vec<u8>>> = known.iter().map(|block| vec![block.clone()]).collect();
        for _ in 0..rng.below(60) {
            let block = rng.below(BLOCKS as u64) as usize;
            match rng.below(8) {
                0 | 1 => {
                    assert_eq!(guest.ask(FLUSH, 0, Vec::new(), 0).await.0, 0);
                    may.iter_mut().for_each(|may| drop(may.drain(..may.len() - 1)));
                }
                2 => {
                    let chunk = CHUNK_SIZE / BLOCK;
                    let (first, blocks) =
                        if rng.below(2) == 0 { (block / chunk * chunk, chunk) } else { (block, 1) };
                    assert_eq!(guest.ask(ZEROES, sector(first), range(first, blocks), 0).await.0, 0);
                    may[first..first + blocks].iter_mut().for_each(|may| may.push(vec![0; BLOCK]));
                }
                _ => {
                    tag += 1;
                    assert_eq!(guest.ask(OUT, sector(block), filled(tag), 0).await.0, 0);
                    may[block].push(filled(tag));
                }
            }
        }
        // Some are under way.
        for slot in 0..4_u16 {
            let block = rng.below(BLOCKS as u64) as usize;
            let (kind, out) = match rng.below(3) {
                0 => (FLUSH, Vec::new()),
                _ => {
                    tag += 1;
                    may[block].push(filled(tag));
                    (OUT, filled(tag))
                }
            };
            guest.send(slot, &Asked { kind, sector: sector(block), out, room: 0 });
        }
        tokio::time::sleep(Duration::from_micros(rng.below(3000))).await;
        engine.kill();
        if rng.below(2) == 0 {
            // It was killed while it wrote an entry.
            let torn = vec![0x5a; 1 + rng.below(79) as usize];
            let mut journal =
                fs::OpenOptions::new().append(true).open(engine.changes().join("journal")).unwrap();
            journal.write_all(&torn).unwrap();
        }
        engine.recover(&site, base).await;
        for _ in 0..rng.below(3) {
            let committing = engine.ask(&Request::Commit);
            let _ = tokio::time::timeout(Duration::from_millis(rng.below(120)), committing).await;
            engine.kill();
            // A request that the server still works at may move the head after the engine has looked.
            tokio::time::sleep(Duration::from_secs(1)).await;
            engine.recover(&site, base).await;
        }
        assert_eq!(engine.commit().await, Version(base + 1), "round {round}, SEED={seed}");
        engine.ask(&Request::Unlock).await.unwrap();
        drop(engine);
        known = Engine::disk(&site).await;
        for (block, (found, may)) in known.iter().zip(&may).enumerate() {
            assert!(may.contains(found), "block {block} of round {round}, SEED={seed}");
        }
    }
}
