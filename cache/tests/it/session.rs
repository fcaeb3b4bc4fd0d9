//! The program `cached` in a session, with a server over TLS, a guest at its disk, and a medium that is slow, full or broken.

use crate::{
    front::{FLUSH, Guest, IN, OUT, Request as Ask},
    http::{lock_reply, locking_request, tls},
    medium::{Medium, Mood},
    support::{Memory, World, until},
};
use cache::{control::Client, remote::Sink as _};
use futures::executor::block_on;
use parcel::{
    chunk::CHUNK_SIZE,
    id::{ChunkName, ParcelId, Version},
    wire::{
        Code,
        daemon::{Policy, Reply, Request, Status},
        guest,
        http::{LockReply, ParcelInfo},
        memory::{Room, engine_bytes},
    },
};
use sockets::{blocking::Connection, names};
use std::{
    io::{Read, Write},
    net::TcpListener,
    path::Path,
    process::{Child, Command, Stdio},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::SeqCst},
    },
    thread,
    time::{Duration, Instant},
};

/// Memory of the guest in MiB, of which this kiosk can have no larger one: the engine gets its least share.
const GUEST: u64 = 8;
/// Chunks in a request.
const REQUEST: u64 = 3;
/// Slots for writes; one more is for reads.
const WRITERS: u16 = 4;
/// What `cached` may take beside its budget: itself, and what is under way.
const BESIDE: u64 = 32 << 20;

/// Serves the parcel of `lock_reply` out of `memory` on a port of its own.
fn serve(memory: Arc<Memory>, ca: &Path) -> u16 {
    let config = tls(ca);
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    thread::spawn(move || {
        while let Ok((mut stream, _)) = listener.accept() {
            let (config, memory) = (config.clone(), memory.clone());
            thread::spawn(move || {
                let mut tls = rustls::ServerConnection::new(config).unwrap();
                let mut tls = rustls::Stream::new(&mut tls, &mut stream);
                while let Some((head, body)) = request(&mut tls) {
                    let (status, answer) = respond(&memory, &head, &body);
                    let head = format!("HTTP/1.1 {status}\r\ncontent-length: {}\r\n\r\n", answer.len());
                    if tls.write_all(&[head.as_bytes(), &answer].concat()).and_then(|()| tls.flush()).is_err()
                    {
                        return;
                    }
                }
            });
        }
    });
    port
}

/// A request's head and body; `None` at the end.
fn request(from: &mut impl Read) -> Option<(String, Vec<u8>)> {
    let mut bytes: Vec<u8> = Vec::new();
    let mut part = [0; 16384];
    loop {
        if let Some(end) = bytes.windows(4).position(|end| end == b"\r\n\r\n") {
            let head = String::from_utf8_lossy(&bytes[..end]).into_owned();
            let field =
                |line: &str| Some(line.to_ascii_lowercase().strip_prefix("content-length:")?.trim().parse());
            let len: usize = head.lines().find_map(field).map_or(0, Result::unwrap);
            if bytes.len() >= end + 4 + len {
                return Some((head, bytes[end + 4..end + 4 + len].to_vec()));
            }
        }
        match from.read(&mut part) {
            Ok(read) if read > 0 => bytes.extend(&part[..read]),
            _ => return None,
        }
    }
}

fn respond(memory: &Memory, head: &str, body: &[u8]) -> (&'static str, Vec<u8>) {
    let mut words = head.split(' ');
    let (method, path) = (words.next().unwrap(), words.next().unwrap());
    let parts: Vec<&str> = path.split('/').skip(2).collect();
    let name = |text: &str| text.parse::<ChunkName>().unwrap();
    match (method, parts.as_slice()) {
        ("POST", ["parcels", _, "lock"]) => ("200 OK", serde_json::to_vec(&lock_reply()).unwrap()),
        ("DELETE", ["parcels", _, "lock"]) => ("204 No Content", Vec::new()),
        ("GET", ["parcels", _, "versions", number]) => {
            match block_on(memory.record(Version(number.parse().unwrap()))) {
                Ok(record) => ("200 OK", record.to_vec()),
                Err(_) => ("404 Not Found", br#"{"code":"no-such-version","message":"m"}"#.to_vec()),
            }
        }
        ("PUT", ["parcels", _, "versions", number]) => {
            let version = Version(number.parse().unwrap());
            block_on(memory.commit(version, body.to_vec().into())).unwrap();
            ("200 OK", serde_json::to_vec(&info(version)).unwrap())
        }
        ("GET", ["chunks", object]) => ("200 OK", memory.object(&name(object)).unwrap().to_vec()),
        ("PUT", ["parcels", _, "chunks", object]) => {
            block_on(memory.put(&name(object), body.to_vec().into())).unwrap();
            ("204 No Content", Vec::new())
        }
        ("POST", ["parcels", _, "chunks", "have"]) => {
            let names: Vec<_> = body.chunks(20).map(|name| ChunkName(name.try_into().unwrap())).collect();
            let have = block_on(memory.have(&names)).unwrap();
            ("200 OK", have.into_iter().map(u8::from).collect())
        }
        _ => panic!("{head}"),
    }
}

/// The parcel as the server tells it after a commit.
fn info(version: Version) -> ParcelInfo {
    let LockReply { store, name, owner, epoch, .. } = lock_reply();
    ParcelInfo {
        id: ParcelId([7; 16]),
        name,
        owner,
        store,
        version,
        record: None,
        epoch,
        lock: None,
        tag: None,
        suspended_at: None,
        suspended_on: None,
        disk_bytes: 0,
        suspended: false,
        memory_lost: false,
    }
}

/// A session that has begun.
struct Session {
    world: World,
    child: Child,
    medium: Medium,
    control: Client,
    guest: Guest,
    /// Most anonymous memory so far.
    peak: Arc<AtomicU64>,
    /// The chunk that is written next, and what each slot writes now.
    next: u64,
    writing: [Option<u64>; WRITERS as usize],
    /// Chunks that the guest knows to be written, from the first on but for gaps.
    written: Vec<u64>,
    run: tempfile::TempDir,
}

impl Drop for Session {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// What a chunk is written with: bytes that compress well, and of no other chunk.
fn bytes_of(chunk: u64) -> Vec<u8> {
    (chunk + 1).to_le_bytes().repeat(CHUNK_SIZE / 8)
}

impl Session {
    /// A machine with an empty disk of so many chunks, on a kiosk whose cache is below `cache`.
    async fn start(chunks: u64, cache: &Path) -> Self {
        let world = World::new(&vec![0; chunks as usize * CHUNK_SIZE], GUEST).await;
        let run = tempfile::tempdir().unwrap();
        let ca = run.path().join("ca.pem");
        let port = serve(world.server.clone(), &ca);
        let mut command = Command::new(env!("CARGO_BIN_EXE_cached"));
        command.arg("--run-dir").arg(run.path()).arg("--cache-dir").arg(cache).arg("--ca").arg(ca);
        command.args([
            "--server",
            &format!("https://localhost:{port}"),
            "--log",
            "warn",
            "--zstd-level",
            "1",
        ]);
        let (child, medium) = Medium::start(command.stderr(Stdio::null()));
        let control = run.path().join(names::CACHED);
        // Between the name of a socket and its listening there is a moment.
        until("cached is up", || Client::connect(&control).is_ok()).await;
        let mut control = Client::connect(&control).unwrap();
        let mut ask = |request| control.ask(&request).unwrap();
        ask(Request::Session { token: "token".into() });
        let key = world.key.to_hex().to_string();
        ask(Request::Key { parcel: world.parcel, key: key.as_str().into() });
        ask(locking_request(world.parcel));
        let (parcel, policy) = (world.parcel, Policy::Demand);
        ask(Request::Open { parcel, policy, cold_boot: true, memory_mib: Some(GUEST) });
        let guest = Guest::attach(&run.path().join(names::DISK));
        let peak = Arc::new(AtomicU64::new(0));
        let (pid, most) = (child.id(), peak.clone());
        thread::spawn(move || {
            while let Some(now) = anonymous(pid) {
                most.fetch_max(now, SeqCst);
                thread::sleep(Duration::from_millis(20));
            }
        });
        Self {
            world,
            child,
            medium,
            control,
            guest,
            peak,
            next: 0,
            writing: [None; 4],
            written: Vec::new(),
            run,
        }
    }

    fn status(&mut self) -> Status {
        self.control.status().unwrap()
    }

    /// Notes what is done, and writes on; `true` when anything was done.
    fn write_on(&mut self) -> bool {
        let mut done = false;
        while let Some((slot, _)) = self.guest.try_answered() {
            self.note(slot);
            done = true;
        }
        for slot in 0..WRITERS {
            if self.writing[usize::from(slot)].is_none() {
                let sector = self.next * CHUNK_SIZE as u64 / 512;
                let out = (self.next..self.next + REQUEST).flat_map(bytes_of).collect();
                self.guest.send(slot, &Ask { kind: OUT, sector, out, room: 0 });
                self.writing[usize::from(slot)] = Some(self.next);
                self.next += REQUEST;
            }
        }
        done
    }

    /// A write is answered.
    fn note(&mut self, slot: u16) {
        let first = self.writing[usize::from(slot)].take().expect("it was asked, and once");
        assert_eq!(self.guest.get(Guest::place(slot) + 0x8_0000, 1), [0], "no write fails");
        self.written.extend(first..first + REQUEST);
    }

    /// Writes as fast as it goes until `over` holds.
    async fn write_until(&mut self, what: &str, mut over: impl FnMut(&mut Self) -> bool) {
        let began = Instant::now();
        while !over(self) {
            assert!(began.elapsed() < Duration::from_secs(120), "not yet: {what}; {:?}", self.status());
            if !self.write_on() {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        }
    }

    /// Writes until nothing is answered any more, and the screen is told so.
    async fn write_until_stuck(&mut self) {
        let mut last = (Instant::now(), self.written.len());
        self.write_until("writes wait", |session| {
            if session.written.len() != last.1 {
                last = (Instant::now(), session.written.len());
            }
            last.0.elapsed() > Duration::from_secs(3) && session.status().room == Room::None
        })
        .await;
    }

    /// Commits version 2 from where it stands, and finds there all that was written.
    async fn suspends_within_its_budget(&mut self) {
        assert!(matches!(
            self.control.ask(&Request::Commit),
            Ok(Reply::Committed { version: Version(2), .. })
        ));
        self.stays_within_its_budget();
        self.all_is_home().await;
    }

    /// Reads a page of a chunk that was written.
    async fn reads(&mut self, chunk: u64) {
        let slot = WRITERS;
        let sector = chunk * CHUNK_SIZE as u64 / 512 + 8;
        self.guest.send(slot, &Ask { kind: IN, sector, out: vec![], room: 4096 });
        loop {
            match self.guest.answered().await.0 {
                answered if answered == slot => break,
                other => self.note(other),
            }
        }
        assert!(
            self.guest.get(Guest::place(slot) + 0x8_0000, 4096) == bytes_of(chunk)[..4096],
            "chunk {chunk}"
        );
    }

    /// Stops the disk as a VMM does that saves its machine, and says that there is nothing else to save.
    fn stop(&mut self) -> u16 {
        let base = self.guest.stop();
        let mut vmm = Connection::connect(&self.run.path().join(names::GUEST)).unwrap();
        vmm.send(&guest::Request::PoweredOff).unwrap();
        assert!(matches!(vmm.receive(), Ok(guest::Reply::Saved)));
        base
    }

    /// Every chunk that was written is in version 2.
    async fn all_is_home(&mut self) {
        self.world.move_on();
        let open = self.world.open(2, true).await;
        for chunk in &self.written {
            let mut bytes = vec![0; CHUNK_SIZE];
            open.disk.read(chunk * CHUNK_SIZE as u64, &mut bytes).await.unwrap();
            assert!(bytes == bytes_of(*chunk), "chunk {chunk} is lost");
        }
    }

    fn stays_within_its_budget(&self) {
        let (peak, most) = (self.peak.load(SeqCst), engine_bytes(GUEST, GUEST) + BESIDE);
        assert!(peak <= most, "{} MiB of {} MiB", peak >> 20, most >> 20);
    }
}

/// Anonymous memory of a process in bytes.
fn anonymous(pid: u32) -> Option<u64> {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("RssAnon:"))?;
    line.trim().strip_suffix(" kB")?.trim().parse::<u64>().ok().map(|kib| kib << 10)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_writer_that_is_faster_than_the_medium_is_slowed_down_and_loses_nothing() {
    let cache = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
    let mut session = Session::start(2400, cache.path()).await;
    session.medium.is(Mood::Slow(Duration::from_millis(20)));
    session.write_until("the disk is slowed down", |session| session.status().room == Room::Little).await;
    // Then it is as fast as the medium, which takes 50 chunks a second, and what is left of the budget.
    let (before, began) = (session.written.len(), Instant::now());
    session.write_until("four seconds", |_| began.elapsed() > Duration::from_secs(4)).await;
    let more = session.written.len() - before;
    assert!((1..400).contains(&more), "{more} chunks in four seconds");
    session.reads(0).await;

    session.medium.is(Mood::Full);
    session.write_until_stuck().await;
    let (first, last) = (session.written[0], session.written[session.written.len() - 1]);
    session.reads(first).await;
    session.reads(last).await;
    session.stays_within_its_budget();

    session.medium.is(Mood::Well);
    let goal = session.written.len() + 300;
    session.write_until("writes go on", |session| session.written.len() > goal).await;
    session.medium.is(Mood::Full);
    session.write_until_stuck().await;

    // A suspend from the full state: what waits goes back on its ring.
    let waiting = session.writing.iter().flatten().count() as u16;
    let base = session.stop();
    assert_eq!(session.guest.offered().wrapping_sub(base), waiting);
    session.suspends_within_its_budget().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cache_in_memory_counts_in_the_budget() {
    let cache = tempfile::tempdir_in("/dev/shm").unwrap();
    let mut session = Session::start(1200, cache.path()).await;
    session.write_until_stuck().await;
    let (most, held) = (engine_bytes(GUEST, GUEST), session.status().dirty_chunks * CHUNK_SIZE as u64);
    assert!((most * 8 / 10..=most).contains(&held), "{} MiB of {} MiB", held >> 20, most >> 20);
    session.reads(0).await;
    session.stop();
    session.suspends_within_its_budget().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_commit_does_without_a_broken_medium_if_it_can_and_waits_for_it_if_it_must() {
    for needed in [false, true] {
        let cache = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
        let mut session = Session::start(400, cache.path()).await;
        if !needed {
            session.medium.is(Mood::Broken);
        }
        // A quarter of the budget is kept in memory when the medium works, and all of it when it does not.
        session.write_until("enough is written", |session| session.written.len() > 200).await;
        while session.writing.iter().any(Option::is_some) {
            let (slot, _) = session.guest.answered().await;
            session.note(slot);
        }
        if needed {
            let medium = session.medium.clone();
            until("some chunks have left memory", || medium.writes() > 20).await;
        }
        session.medium.is(Mood::Broken);
        session.stop();
        let control = session.run.path().join(names::CACHED);
        let committing = thread::spawn(move || Client::connect(&control).unwrap().ask(&Request::Commit));
        if needed {
            let mut told = Status::default();
            for _ in 0..2000 {
                told = session.status();
                if told.waiting.is_some() {
                    break;
                }
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
            let waiting = told.waiting.expect("the screen hears of it");
            assert_eq!(waiting.code, Code::CacheMedium);
            assert!(waiting.reason.contains("does not give it back"), "{}", waiting.reason);
            tokio::time::sleep(Duration::from_millis(500)).await;
            assert!(
                !committing.is_finished() && session.world.server.versions() == [1],
                "a version without all"
            );
            session.medium.is(Mood::Well);
        }
        assert!(matches!(committing.join().unwrap(), Ok(Reply::Committed { version: Version(2), .. })));
        session.all_is_home().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_commit_does_not_wait_for_a_medium_that_hangs() {
    let cache = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
    let mut session = Session::start(100, cache.path()).await;
    session.write_until("something is written", |session| session.written.len() > 4).await;
    while session.writing.iter().any(Option::is_some) {
        let (slot, _) = session.guest.answered().await;
        session.note(slot);
    }
    let (medium, before) = (session.medium.clone(), session.medium.writes());
    medium.is(Mood::Slow(Duration::from_secs(60)));
    session.guest.send(WRITERS, &Ask { kind: FLUSH, sector: 0, out: vec![], room: 0 });
    until("the medium has the first chunk of the flush", || medium.writes() > before).await;
    let (began, mut told) = (Instant::now(), None);
    while told.is_none() {
        assert!(began.elapsed() < Duration::from_secs(30), "the guest stands still, and nobody says why");
        tokio::time::sleep(Duration::from_millis(50)).await;
        told = session.status().waiting;
    }
    assert_eq!(told.map(|waiting| waiting.code), Some(Code::CacheMedium));
    session.stop();
    let control = session.run.path().join(names::CACHED);
    let committing = thread::spawn(move || Client::connect(&control).unwrap().ask(&Request::Commit));
    let (began, mut told) = (Instant::now(), false);
    while !committing.is_finished() {
        assert!(began.elapsed() < Duration::from_secs(40), "it waits for the medium");
        told |= session.status().waiting.is_some_and(|why| why.reason.contains("saved without it"));
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    assert!(matches!(committing.join().unwrap(), Ok(Reply::Committed { version: Version(2), .. })));
    assert!(told, "the screen hears of it");
    session.all_is_home().await;
}
