//! The disk overlay against a naive oracle, through evictions, commits and other kiosks; and the fetch engine's faults.

use crate::support::{Rng, World, until, whole};
use cache::open::{OpenParcel, Saved};
use client::traffic::Traffic;
use parcel::{chunk::CHUNK_SIZE, keyring::ImageKind, wire::Code};
use proptest::prelude::*;
use std::{
    os::unix::fs::FileExt as _,
    sync::{Arc, atomic::Ordering::SeqCst},
};

#[derive(Debug, Clone)]
enum Op {
    Write(u64, usize, u64),
    Zero(u64, usize),
    Read(u64, usize),
    Commit,
    Move,
}

/// Not whole chunks, on purpose.
const DISK: usize = 8 * CHUNK_SIZE + 3 * 512;

fn op() -> impl Strategy<Value = Op> {
    let place = || (0..DISK as u64 / 512, 0..600usize);
    let fit = |(sector, len): (u64, usize)| (sector * 512, (len * 512).min(DISK - sector as usize * 512));
    prop_oneof![
        6 => (place(), any::<u64>()).prop_map(move |(at, seed)| Op::Write(fit(at).0, fit(at).1, seed)),
        3 => place().prop_map(move |at| Op::Zero(fit(at).0, fit(at).1)),
        1 => (0..8u64).prop_map(|chunk| Op::Zero(chunk * CHUNK_SIZE as u64, CHUNK_SIZE)),
        3 => place().prop_map(move |at| Op::Read(fit(at).0, fit(at).1)),
        1 => Just(Op::Commit),
        1 => Just(Op::Move),
    ]
}

pub fn first_disk() -> Vec<u8> {
    let mut disk = Rng(42).bytes(DISK);
    disk[2 * CHUNK_SIZE..4 * CHUNK_SIZE].fill(0);
    disk
}

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 12, ..ProptestConfig::default() })]

    #[test]
    fn reads_see_the_newest_bytes(ops in proptest::collection::vec(op(), 1..30), flaky in 0..20u64) {
        runtime().block_on(async {
            let mut oracle = first_disk();
            let mut world = World::new(&oracle, 64).await;
            world.server.flaky.store(if flaky < 2 { 0 } else { flaky }, SeqCst);
            let mut version = 1;
            let mut open = world.open(version, false).await;
            for op in ops {
                match op {
                    Op::Write(at, len, seed) => {
                        let bytes = Rng(seed | 1).bytes(len);
                        open.disk.write(at, &bytes).await.unwrap();
                        oracle[at as usize..at as usize + len].copy_from_slice(&bytes);
                    }
                    Op::Zero(at, len) => {
                        open.disk.zero(at, len as u64).await.unwrap();
                        oracle[at as usize..at as usize + len].fill(0);
                    }
                    Op::Read(at, len) => {
                        let mut bytes = vec![1; len];
                        open.disk.read(at, &mut bytes).await.unwrap();
                        assert!(bytes == oracle[at as usize..at as usize + len], "{len} bytes at {at}");
                    }
                    Op::Commit => {
                        open.save(Saved::PoweredOff);
                        version = world.commit(&open).await.unwrap().0;
                        open = world.open(version, false).await;
                    }
                    Op::Move => {
                        open.save(Saved::PoweredOff);
                        version = world.commit(&open).await.unwrap().0;
                        world.move_on();
                        open = world.open(version, false).await;
                    }
                }
            }
            assert!(whole(&open).await == oracle);
        });
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_whole_chunk_is_overwritten_without_fetching_it() {
    let world = World::new(&first_disk(), 64).await;
    let open = world.open(1, false).await;
    open.disk.write(CHUNK_SIZE as u64, &vec![3; 2 * CHUNK_SIZE]).await.unwrap();
    assert_eq!(world.server.gets.load(SeqCst), 0);
    assert_eq!(world.board.status().dirty_chunks, 2);
    open.disk.write(5 * CHUNK_SIZE as u64, &[3; 512]).await.unwrap();
    assert_eq!(world.server.gets.load(SeqCst), 2, "the leaf and the chunk around the sector");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_discard_fetches_nothing() {
    let disk = first_disk();
    let world = World::new(&disk, 64).await;
    let open = world.open(1, false).await;
    let chunk = CHUNK_SIZE as u64;
    // The end of one, a whole one, and the begin of a third.
    open.disk.discard(5 * chunk - 4096, 4096 + chunk + 512).await.unwrap();
    assert_eq!(world.server.gets.load(SeqCst), 1, "the leaf");
    assert_eq!(world.board.status().dirty_chunks, 1);
    let mut expected = disk;
    expected[5 * CHUNK_SIZE..6 * CHUNK_SIZE].fill(0);
    assert!(whole(&open).await == expected);
    assert!(open.disk.discard(DISK as u64, 512).await.is_err());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_damaged_piece_is_waited_for_until_it_is_whole() {
    for fault in [Code::PieceDamaged, Code::PieceMissing, Code::ServerUnreachable] {
        let disk = first_disk();
        let world = World::new(&disk, 64).await;
        let open = world.open(1, false).await;
        let mut sector = vec![0; 512];
        open.disk.read(0, &mut sector).await.unwrap();
        let all = world.server.names();
        match fault {
            Code::PieceDamaged => world.server.damaged.lock().unwrap().extend(all),
            Code::PieceMissing => world.server.missing.lock().unwrap().extend(all),
            _ => world.server.down.store(true, SeqCst),
        }
        let reader = open.clone();
        let reading = tokio::spawn(async move {
            let mut bytes = vec![0; 2 * CHUNK_SIZE];
            reader.disk.read(5 * CHUNK_SIZE as u64, &mut bytes).await.unwrap();
            bytes
        });
        let board = world.board.clone();
        until(fault.text(), || board.status().waiting.is_some_and(|w| w.code == fault && w.pieces == 2))
            .await;
        assert!(!reading.is_finished(), "the guest waits");
        // What is here already is read all the same.
        open.disk.read(512, &mut sector).await.unwrap();
        world.server.damaged.lock().unwrap().clear();
        world.server.missing.lock().unwrap().clear();
        world.server.down.store(false, SeqCst);
        assert!(reading.await.unwrap() == disk[5 * CHUNK_SIZE..7 * CHUNK_SIZE]);
        assert_eq!(board.status().waiting, None);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_leaf_of_an_older_version_is_not_taken_for_the_one_that_was_asked_for() {
    let mut world = World::new(&first_disk(), 64).await;
    let open = world.open(1, false).await;
    let old = open.keyring.leaf_names(ImageKind::Disk)[0].unwrap();
    open.disk.write(0, &[1; 512]).await.unwrap();
    open.save(Saved::PoweredOff);
    world.commit(&open).await.unwrap();
    world.move_on();
    let open = world.open(2, false).await;
    let new = open.keyring.leaf_names(ImageKind::Disk)[0].unwrap();
    world.server.swapped.lock().unwrap().insert(new, old);
    let reader = open.clone();
    let reading = tokio::spawn(async move {
        let mut sector = [0; 512];
        reader.disk.read(0, &mut sector).await.unwrap();
        sector
    });
    let board = world.board.clone();
    until("the old leaf is refused", || {
        assert!(!reading.is_finished(), "the old leaf is believed");
        board.status().waiting.is_some_and(|waiting| waiting.code == Code::PieceDamaged)
    })
    .await;
    world.server.swapped.lock().unwrap().clear();
    assert_eq!(reading.await.unwrap(), [1; 512]);
}

#[tokio::test(flavor = "multi_thread")]
async fn damage_in_the_local_store_costs_a_fetch_and_no_more() {
    let disk = first_disk();
    let world = World::new(&disk, 64).await;
    assert!(whole(&world.open(1, false).await).await == disk);
    let objects = world.cache.path().join("objects");
    let mut count = 0;
    for folder in std::fs::read_dir(&objects).unwrap() {
        for file in std::fs::read_dir(folder.unwrap().path()).unwrap() {
            let path = file.unwrap().path();
            let mut bytes = std::fs::read(&path).unwrap();
            bytes[20] ^= 1;
            std::fs::write(&path, bytes).unwrap();
            count += 1;
        }
    }
    world.engine.forget();
    world.server.gets.store(0, SeqCst);
    assert!(whole(&world.open(1, false).await).await == disk);
    // A read-ahead that was under way may still have brought a piece to RAM, so the first pass need not meet all.
    assert!((1..=count).contains(&world.server.gets.load(SeqCst)));
    for _ in 0..2 {
        world.engine.forget();
        assert!(whole(&world.open(1, false).await).await == disk);
        assert!(world.server.gets.load(SeqCst) <= count, "each is fetched once and good again afterwards");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_medium_that_hangs_is_not_waited_for() {
    let disk = first_disk();
    let world = World::new(&disk, 64).await;
    assert!(whole(&world.open(1, false).await).await == disk);
    // Whoever opens a pipe that nobody writes to waits for ever.
    let mut pipes = Vec::new();
    for folder in std::fs::read_dir(world.cache.path().join("objects")).unwrap() {
        for file in std::fs::read_dir(folder.unwrap().path()).unwrap() {
            let path = file.unwrap().path();
            std::fs::remove_file(&path).unwrap();
            nix::unistd::mkfifo(&path, nix::sys::stat::Mode::S_IRWXU).unwrap();
            pipes.push(path);
        }
    }
    assert!(pipes.len() > 6);
    world.engine.forget();
    assert!(whole(&world.open(1, false).await).await == disk);
    // What waits is let go, or the test would not end.
    for path in &pipes {
        drop(std::fs::OpenOptions::new().read(true).write(true).open(path).unwrap());
    }
}

/// The file in which a disk keeps the changed chunks that are not in memory.
fn spill_file(world: &World) -> std::fs::File {
    let path = world.cache.path().join("changes/chunks");
    std::fs::OpenOptions::new().read(true).write(true).open(path).unwrap()
}

/// Writes `chunks` chunks, each with bytes of its own, of which all but one go to the medium; then the medium loses what
/// it has. Gives back the file, and what it held.
pub async fn lost_by_the_medium(
    world: &World,
    open: &Arc<OpenParcel>,
    chunks: u64,
) -> (std::fs::File, Vec<u8>) {
    for chunk in 0..chunks {
        open.disk.write(chunk * CHUNK_SIZE as u64, &vec![chunk as u8 + 1; CHUNK_SIZE]).await.unwrap();
    }
    until("all but one are on the medium", || {
        open.disk.changes().iter().filter(|changed| changed.spilled).count() as u64 == chunks - 1
    })
    .await;
    let file = spill_file(world);
    let mut good = vec![0; file.metadata().unwrap().len() as usize];
    file.read_exact_at(&mut good, 0).unwrap();
    file.write_all_at(&vec![0; good.len()], 0).unwrap();
    (file, good)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_changed_chunk_that_the_medium_does_not_give_back_is_waited_for() {
    let world = World::new(&first_disk(), 64).await;
    let open = world.try_open(1, false, 1).await.unwrap();
    let (file, good) = lost_by_the_medium(&world, &open, 4).await;
    let (reader, writer) = (open.clone(), open.clone());
    let reading = tokio::spawn(async move {
        let mut bytes = vec![0; 512];
        reader.disk.read(0, &mut bytes).await.unwrap();
        bytes
    });
    let writing = tokio::spawn(async move { writer.disk.write(CHUNK_SIZE as u64, &[9; 512]).await.unwrap() });
    let board = world.board.clone();
    let told =
        |least| board.status().waiting.is_some_and(|w| w.code == Code::CacheMedium && w.pieces >= least);
    until("both are waited for", || told(2)).await;
    assert!(!reading.is_finished() && !writing.is_finished());
    open.save(Saved::PoweredOff);
    let mending = async {
        until("a commit waits, too", || told(3)).await;
        file.write_all_at(&good, 0).unwrap();
    };
    let (committed, ()) = tokio::join!(world.commit(&open), mending);
    committed.unwrap();
    assert_eq!(reading.await.unwrap(), [1; 512]);
    writing.await.unwrap();
    let mut bytes = vec![0; 1024];
    open.disk.read(CHUNK_SIZE as u64, &mut bytes).await.unwrap();
    assert_eq!(bytes, [[9; 512], [2; 512]].concat());
    assert_eq!(board.status().waiting, None);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_closed_disk_fetches_nothing_ahead_and_holds_no_key() {
    let world = World::new(&first_disk(), 64).await;
    let open = world.open(1, false).await;
    let mut sector = vec![0; 512];
    open.disk.read(4 * CHUNK_SIZE as u64 - 1024, &mut sector).await.unwrap();
    world.server.down.store(true, SeqCst);
    open.disk.read(4 * CHUNK_SIZE as u64 - 512, &mut sector).await.unwrap();
    let keyring = Arc::downgrade(&open.keyring);
    drop(open);
    until("the keyring is let go", || keyring.upgrade().is_none()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn many_readers_of_a_piece_share_its_fetch() {
    let world = World::new(&first_disk(), 64).await;
    let open = world.open(1, false).await;
    let reads = (0..32).map(|i| {
        let open = open.clone();
        tokio::spawn(async move {
            let mut sector = [0; 512];
            open.disk.read(7 * CHUNK_SIZE as u64 + i * 512, &mut sector).await.unwrap();
        })
    });
    futures::future::join_all(reads).await;
    assert_eq!(world.server.gets.load(SeqCst), 2, "leaf and chunk");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_given_up_fetch_does_not_block_the_next() {
    let disk = first_disk();
    let world = World::new(&disk, 64).await;
    let open = world.open(1, false).await;
    world.server.down.store(true, SeqCst);
    for _ in 0..40 {
        let mut sector = [0; 512];
        let read = open.disk.read(0, &mut sector);
        let given_up = tokio::time::timeout(std::time::Duration::from_millis(5), read).await;
        assert!(given_up.is_err());
    }
    world.server.down.store(false, SeqCst);
    let mut sector = [0; 512];
    open.disk.read(0, &mut sector).await.unwrap();
    assert!(sector == disk[..512]);
}

#[tokio::test(flavor = "multi_thread")]
async fn another_key_opens_nothing() {
    let mut world = World::new(&first_disk(), 64).await;
    world.key = parcel::secret::ParcelKey::from_bytes([1; 32]);
    assert_eq!(world.try_open(1, false, 2).await.err().unwrap().code, Code::WrongKey);
}

#[test]
fn traffic_is_counted_both_ways() {
    let traffic = Arc::new(Traffic::default());
    traffic.received(5);
    traffic.sent(7);
    assert_eq!(traffic.totals(), (5, 7));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_sequential_reader_finds_the_next_chunks_here() {
    let disk = first_disk();
    let world = World::new(&disk, 64).await;
    let open = world.open(1, false).await;
    let mut bytes = vec![0; CHUNK_SIZE];
    for chunk in 4..6 {
        open.disk.read((chunk * CHUNK_SIZE) as u64, &mut bytes).await.unwrap();
    }
    let server = world.server.clone();
    until("chunks 6 to 8 come by themselves", || server.gets.load(SeqCst) == 1 + 5).await;
    // The store has them a moment later than the server gave them.
    let store = world.engine.store().clone();
    until("they are kept", || store.bytes() > 4 * CHUNK_SIZE as u64).await;
    world.server.down.store(true, SeqCst);
    open.disk.read(6 * CHUNK_SIZE as u64, &mut bytes).await.unwrap();
    assert!(bytes == disk[6 * CHUNK_SIZE..7 * CHUNK_SIZE]);
}

#[tokio::test(flavor = "multi_thread")]
async fn only_what_somebody_waits_for_is_called_waiting() {
    let world = World::new(&first_disk(), 64).await;
    let open = world.open(1, false).await;
    let mut sector = vec![0; 512];
    open.disk.read(4 * CHUNK_SIZE as u64 - 512, &mut sector).await.unwrap();
    world.server.down.store(true, SeqCst);
    // The hole before it is read to its end, so chunk 4 is fetched ahead, and cannot be had.
    open.disk.read(4 * CHUNK_SIZE as u64 - 1024, &mut sector).await.unwrap();
    open.disk.read(4 * CHUNK_SIZE as u64 - 512, &mut sector).await.unwrap();
    tokio::time::sleep(std::time::Duration::from_millis(50)).await;
    assert_eq!(world.board.status().waiting, None);
    let reader = open.clone();
    let reading = tokio::spawn(async move {
        let mut sector = vec![0; 512];
        reader.disk.read(4 * CHUNK_SIZE as u64, &mut sector).await
    });
    let board = world.board.clone();
    until("now somebody waits", || board.status().waiting.is_some_and(|waiting| waiting.pieces == 1)).await;
    world.server.down.store(false, SeqCst);
    reading.await.unwrap().unwrap();
}

/// Many writers, each with sectors of its own in chunks that all of them share; some writes are given up half-way.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn writers_of_one_chunk_take_nothing_from_each_other() {
    const WRITERS: usize = 8;
    let first = first_disk();
    let world = World::new(&first, 64).await;
    world.server.flaky.store(5, SeqCst);
    let open = world.try_open(1, false, 2).await.unwrap();
    let sectors = DISK / 512;
    let writers = (0..WRITERS).map(|writer| {
        let (open, first) = (open.clone(), first.clone());
        tokio::spawn(async move {
            let mut rng = Rng(writer as u64 + 1);
            // What each of its sectors may hold.
            let mut mine: Vec<Vec<Vec<u8>>> = (writer..sectors)
                .step_by(WRITERS)
                .map(|sector| vec![first[sector * 512..][..512].to_vec()])
                .collect();
            for _ in 0..30 {
                let which = rng.next() as usize % mine.len();
                let at = ((which * WRITERS + writer) * 512) as u64;
                match rng.next() % 4 {
                    0 => {
                        open.disk.zero(at, 512).await.unwrap();
                        mine[which] = vec![vec![0; 512]];
                    }
                    1 => {
                        let mut bytes = vec![0; 512];
                        open.disk.read(at, &mut bytes).await.unwrap();
                        assert!(mine[which].contains(&bytes), "sector at {at}");
                        mine[which] = vec![bytes];
                    }
                    2 => {
                        let bytes = rng.bytes(512);
                        let write = open.disk.write(at, &bytes);
                        if tokio::time::timeout(std::time::Duration::from_micros(200), write).await.is_err() {
                            mine[which].push(bytes);
                        } else {
                            mine[which] = vec![bytes];
                        }
                    }
                    _ => {
                        let bytes = rng.bytes(512);
                        open.disk.write(at, &bytes).await.unwrap();
                        mine[which] = vec![bytes];
                    }
                }
            }
            mine
        })
    });
    let all = futures::future::join_all(writers).await;
    let found = whole(&open).await;
    for (writer, mine) in all.into_iter().enumerate() {
        for (which, may_hold) in mine.unwrap().into_iter().enumerate() {
            let at = (which * WRITERS + writer) * 512;
            assert!(may_hold.iter().any(|bytes| *bytes == found[at..at + 512]), "sector at {at}");
        }
    }
    open.save(Saved::PoweredOff);
    world.commit(&open).await.unwrap();
    assert!(whole(&world.open(2, false).await).await == found);
}
