//! What changes take of the budget, on a cache medium that is the machine's memory.

use crate::support::{World, whole};
use cache::open::OpenParcel;
use parcel::chunk::CHUNK_SIZE;
use std::{path::Path, sync::Arc, time::Duration};

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
    BUDGET * 70 / 100 - world.engine.budget().pieces()
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
    tokio::time::timeout(Duration::from_secs(30), open.disk.flush()).await.expect("a flush ends");
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
    let most = CHUNKS - 10;
    assert_eq!(write(&open, 30..most).await, most as usize - 30);
    flush(&open).await;
    assert_eq!(write(&open, 0..4).await, 4, "a write waits for good");
    let found = whole(&open).await;
    assert!((0..most as usize).all(|i| found[i * CHUNK..][..CHUNK].iter().all(|byte| *byte == i as u8 + 1)));
}
