//! What changes take of the budget, on a cache medium that is the machine's memory.

use crate::support::{World, whole};
use cache::{
    disk::{changes::Origin, journal::Journal},
    open::{OpenParcel, Opening},
    remote::Sink as _,
};
use parcel::{
    chunk::CHUNK_SIZE,
    id::Version,
    keyring::{ImageKind, LEAF_REFS},
};
use std::{
    fs::{File, OpenOptions},
    os::unix::fs::{FileExt as _, MetadataExt as _},
    path::Path,
    sync::{Arc, atomic::Ordering::SeqCst},
    time::Duration,
};

/// The budget, which is the least there is, and how many chunks are in it.
const BUDGET: u64 = 16 << 20;
const CHUNKS: u64 = BUDGET / CHUNK as u64;
const CHUNK: usize = CHUNK_SIZE;

/// An empty disk that is twice the budget, on a kiosk whose cache is in memory. A quarter of the budget is kept in memory.
async fn in_memory() -> (World, Arc<OpenParcel>) {
    let mut world = World::new(&vec![0; 2 * BUDGET as usize], 64).await;
    world.moves_to(Path::new("/dev/shm"), BUDGET);
    let open = world.try_open(1, false, 1000).await.unwrap();
    (world, open)
}

/// Bytes of the budget that are used.
fn used(world: &World) -> u64 {
    world.engine.budget().used()
}

/// Writes these chunks, each with bytes of its own, as long as each is taken within a while; how many were.
async fn write(open: &OpenParcel, chunks: impl IntoIterator<Item = u64>) -> usize {
    let mut written = 0;
    for chunk in chunks {
        let bytes = vec![chunk as u8 + 1; CHUNK];
        let writing = open.disk.write(chunk * CHUNK as u64, &bytes);
        if tokio::time::timeout(Duration::from_secs(3), writing).await.is_err() {
            break;
        }
        written += 1;
    }
    written
}

async fn flush(open: &OpenParcel) {
    tokio::time::timeout(Duration::from_secs(120), open.disk.flush()).await.expect("a flush ends");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_flush_keeps_in_memory_is_there_once() {
    let (world, open) = in_memory().await;
    assert_eq!(write(&open, 0..30).await, 30);
    let before = used(&world);
    flush(&open).await;
    let after = used(&world);
    assert!(after < before + before / 10, "{before} bytes were used, and {after} are");
    assert!(open.disk.changes().iter().all(|changed| changed.spilled));
    // What was flushed is changed on, however little is left.
    let most = CHUNKS - 16;
    assert_eq!(write(&open, 30..most).await, most as usize - 30);
    flush(&open).await;
    // Then it is full, and everything is on the medium: the guest, which may be waiting for these writes before it flushes or
    // discards anything, goes on all the same.
    let most = most + write(&open, most..2 * CHUNKS).await as u64;
    flush(&open).await;
    for _ in 0..2 {
        assert_eq!(write(&open, 0..most).await as u64, most, "a write waits for good");
    }
    assert!(used(&world) <= BUDGET + (64 << 10), "{} bytes", used(&world));
    let found = whole(&open).await;
    assert!((0..most as usize).all(|i| found[i * CHUNK..][..CHUNK].iter().all(|byte| *byte == i as u8 + 1)));
}

/// Bytes of memory that the files of the changes take.
fn on_the_medium(world: &World) -> u64 {
    let taken = |name| File::open(world.cache.path().join(name)).unwrap().metadata().unwrap().blocks() * 512;
    taken("changes/chunks") + taken("changes/journal")
}

/// Makes whole chunks zeros.
async fn discard(open: &OpenParcel, chunks: impl IntoIterator<Item = u64>) {
    for chunk in chunks {
        open.disk.discard(chunk * CHUNK as u64, CHUNK as u64).await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_the_guest_discards_gives_its_room_back() {
    let (world, open) = in_memory().await;
    let written = write(&open, 0..2 * CHUNKS).await as u64;
    assert!(written < CHUNKS, "the budget has room for {written}");
    // Nobody flushes.
    discard(&open, 0..written / 2).await;
    let more = written..written + written / 3;
    assert_eq!(write(&open, more.clone()).await as u64, written / 3, "writes wait for good");
    flush(&open).await;
    let (taken, held) = (on_the_medium(&world), written - written / 2 + written / 3);
    assert!(taken < held * (CHUNK as u64 + 4096) + (64 << 10), "{taken} bytes for {held} chunks");
    let found = whole(&open).await;
    for chunk in 0..more.end {
        let byte = if chunk < written / 2 { 0 } else { chunk as u8 + 1 };
        assert!(found[chunk as usize * CHUNK..][..CHUNK].iter().all(|found| *found == byte), "chunk {chunk}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn all_that_is_on_a_medium_in_memory_counts() {
    let (world, open) = in_memory().await;
    write(&open, 0..60).await;
    flush(&open).await;
    let before = on_the_medium(&world);
    // What stays shares its first and its last page with what goes.
    discard(&open, (0..60).step_by(2)).await;
    for _ in 0..4000 {
        open.disk.write(0, &[1; 512]).await.unwrap();
        discard(&open, [0]).await;
        flush(&open).await;
    }
    let counts = |when: &str| {
        let (used, taken) = (used(&world), on_the_medium(&world));
        assert!(taken <= used && used < taken + taken / 20, "{when}: {used} bytes count, {taken} are taken");
    };
    counts("after half of it went");
    assert!(on_the_medium(&world) < before * 6 / 10 + 4000 * 80);

    // cached is killed while it writes a chunk.
    let expected = whole(&open).await;
    drop(open);
    let chunks = OpenOptions::new().write(true).open(world.cache.path().join("changes/chunks")).unwrap();
    chunks.write_all_at(&vec![1; 4 * CHUNK], chunks.metadata().unwrap().len()).unwrap();
    let left = Journal::replay(world.cache.path(), &world.key, &world.parcel).unwrap();
    let how = Opening {
        parcel: world.parcel,
        version: Version(1),
        cold_boot: true,
        cache: world.cache.path(),
        dirty_in_ram: 1000,
        changes: Origin::Left(Box::new(left)),
    };
    let record = world.server.record(Version(1)).await.unwrap();
    let open = OpenParcel::new(&world.engine, world.key.clone(), &record, how).unwrap();
    counts("found again");
    assert!(whole(&open).await == expected);
    discard(&open, 0..60).await;
    flush(&open).await;
    assert!(on_the_medium(&world) < 1 << 20);
    counts("after all of it went");
}

/// What is known of a chunk takes memory, too: of a large disk, more than there is.
#[tokio::test(flavor = "multi_thread")]
async fn a_disk_is_discarded_as_far_as_there_is_room() {
    const DISK: u64 = 300;
    const FIT: u64 = 100;
    let mut world = World::new(&vec![7; DISK as usize * CHUNK], 64).await;
    world.moves_to(Path::new("/dev/shm"), BUDGET);
    let open = world.try_open(1, false, 1000).await.unwrap();
    let dirty = || world.board.status().dirty_chunks;
    discard(&open, [0]).await;
    // A chunk's entry, with what the journal is to say of it.
    let filled = world.engine.budget().pieces() - FIT * (192 + 80);
    world.engine.budget().add_leaves(filled);
    discard(&open, 0..DISK).await;
    assert!((FIT / 2..FIT * 3 / 2).contains(&dirty()), "{} chunks", dirty());
    let before = used(&world);
    assert!(world.engine.budget().is_tight() && before < BUDGET * 70 / 100 + 8192, "{before} bytes");
    flush(&open).await;
    assert!(used(&world) <= before, "the journal counted: {before} bytes then, {} now", used(&world));
    let known = dirty() as usize;
    let found = whole(&open).await;
    assert!(found[..known * CHUNK].iter().all(|byte| *byte == 0));
    assert!(found[known * CHUNK..].iter().all(|byte| *byte == 7));
    world.engine.budget().remove_leaves(filled);
    discard(&open, 0..DISK).await;
    assert_eq!(dirty(), DISK);
}

/// A disk that is scanned has more leaves than there is memory.
#[tokio::test(flavor = "multi_thread")]
async fn leaves_go_that_nobody_wanted_lately() {
    const LEAVES: u64 = 40;
    let (world, open) = in_memory().await;
    drop(open);
    let keyring = world.sparse(LEAVES).await;
    let before = used(&world);
    let named = async |leaf: u64| {
        let last = (leaf + 1) * LEAF_REFS as u64 - 1;
        assert!(keyring.reference(ImageKind::Disk, last).await.is_some(), "leaf {leaf}");
    };
    for leaf in 0..LEAVES {
        named(leaf).await;
        // This one is always wanted.
        named(0).await;
    }
    let leaves = used(&world) - before;
    assert!((BUDGET / 16..=BUDGET / 8).contains(&leaves), "{leaves} bytes");
    // What was wanted lately is here; the others are loaded again, and the oldest go.
    world.engine.store().give_up(u64::MAX);
    world.server.gets.store(0, SeqCst);
    for leaf in [0, LEAVES - 1, LEAVES - 2] {
        named(leaf).await;
    }
    assert_eq!(world.server.gets.load(SeqCst), 0);
    for leaf in 1..5 {
        named(leaf).await;
    }
    assert_eq!(world.server.gets.load(SeqCst), 4);
    assert!(used(&world) - before <= BUDGET / 8);
    drop(keyring);
    assert_eq!(used(&world), before);
}
