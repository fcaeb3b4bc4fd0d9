//! Commits: sent once, waited for, made again, and found to be made before.

use crate::{
    disk::{first_disk, lost_by_the_medium},
    support::{World, until, whole},
};
use cache::{
    commit::{Author, commit},
    open::Saved,
    remote::Made,
};
use parcel::{
    chunk::CHUNK_SIZE,
    id::{RecordHash, Version},
    wire::{Code, Fate, Stake},
};
use std::{
    os::unix::fs::FileExt as _,
    sync::{Arc, atomic::Ordering::SeqCst},
    time::Duration,
};

#[tokio::test(flavor = "multi_thread")]
async fn a_commit_sends_what_changed_and_no_more() {
    let world = World::new(&first_disk(), 64).await;
    let open = world.open(1, false).await;
    open.disk.write(5 * CHUNK_SIZE as u64 + 512, &[1; 512]).await.unwrap();
    // Written with what it held: the same piece, so the same name.
    let mut same = vec![0; CHUNK_SIZE];
    open.disk.read(CHUNK_SIZE as u64, &mut same).await.unwrap();
    open.disk.write(CHUNK_SIZE as u64, &same).await.unwrap();
    open.save(Saved::PoweredOff);
    let (version, bytes) = world.commit(&open).await.unwrap();
    assert_eq!(version, 2);
    // One chunk of random bytes, the disk's leaf.
    assert_eq!(world.server.puts.load(SeqCst), 2);
    let sent = world.server.put_bytes.load(SeqCst);
    assert!(sent > CHUNK_SIZE as u64 && sent < CHUNK_SIZE as u64 + 2048, "{sent}");
    assert!(bytes > sent && bytes < sent + 4096, "{bytes}");

    let open = world.open(2, false).await;
    open.save(Saved::PoweredOff);
    world.commit(&open).await.unwrap();
    assert_eq!(world.server.puts.load(SeqCst), 2, "nothing changed, so nothing but a record was sent");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_commit_of_many_chunks_works_on_a_few_at_once() {
    const CHUNKS: usize = 800;
    let world = World::new(&vec![7; CHUNKS * CHUNK_SIZE], 64).await;
    let open = world.open(1, false).await;
    open.disk.write(0, &[1; 512]).await.unwrap();
    open.disk.zero(CHUNK_SIZE as u64, ((CHUNKS - 1) * CHUNK_SIZE) as u64).await.unwrap();
    assert_eq!(open.disk.changes().len(), CHUNKS);
    open.save(Saved::PoweredOff);
    world.server.down.store(true, SeqCst);
    let held = Arc::strong_count(&open.disk);
    let committing = world.commit(&open);
    tokio::pin!(committing);
    tokio::select! {
        done = &mut committing => panic!("the server is down: {done:?}"),
        () = until("it waits", || world.board.status().waiting.is_some()) => {}
    }
    // Each piece of work holds the disk, to read a chunk and to note its name. They come in batches of 32, and some more for each
    // core.
    let holders = Arc::strong_count(&open.disk) - held;
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    assert!(holders > 0 && holders <= 2 * (6 * 32 + 2 * cores), "{holders} hold the disk");
    world.server.down.store(false, SeqCst);
    assert_eq!(committing.await.unwrap().0, 2);
    let found = whole(&world.open(2, false).await).await;
    assert!(found[..512] == [1; 512] && found[512..CHUNK_SIZE].iter().all(|byte| *byte == 7));
    assert!(found[CHUNK_SIZE..].iter().all(|byte| *byte == 0));
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_saved_is_nothing_to_commit() {
    let world = World::new(&first_disk(), 64).await;
    let open = world.open(1, false).await;
    open.disk.write(0, &[1; 512]).await.unwrap();
    assert_eq!(world.commit(&open).await.unwrap_err().code, Code::NothingSaved);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_commit_whose_answer_is_lost_is_made_once() {
    let world = World::new(&first_disk(), 64).await;
    let open = world.open(1, false).await;
    open.disk.write(0, &[1; 512]).await.unwrap();
    open.save(Saved::PoweredOff);
    world.server.lose_answers.store(1, SeqCst);
    assert_eq!(world.commit(&open).await.unwrap().0, 2);
    let open = world.open(2, false).await;
    let mut sector = [0; 512];
    open.disk.read(0, &mut sector).await.unwrap();
    assert_eq!(sector, [1; 512]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_commit_that_was_given_up_after_the_server_made_it_is_the_same_one_when_made_again() {
    let world = World::new(&first_disk(), 64).await;
    let open = world.open(1, false).await;
    open.disk.write(0, &[1; 512]).await.unwrap();
    open.save(Saved::PoweredOff);
    world.server.lose_answers.store(1, SeqCst);
    world.server.down_after_commit.store(true, SeqCst);
    let server = world.server.clone();
    tokio::select! {
        done = world.commit(&open) => panic!("the answer is lost and the server is away: {done:?}"),
        () = until("the server has made it", || server.down.load(SeqCst)) => {}
    }
    // The record has a time in it, in seconds.
    tokio::time::sleep(std::time::Duration::from_millis(1100)).await;
    world.server.down.store(false, SeqCst);
    assert_eq!(world.commit(&open).await.unwrap().0, 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_commit_outlasts_an_outage_and_says_what_it_waits_for() {
    let world = World::new(&first_disk(), 64).await;
    let open = world.open(1, false).await;
    open.disk.write(0, &[1; 512]).await.unwrap();
    open.save(Saved::PoweredOff);
    world.server.down.store(true, SeqCst);
    let (board, server) = (world.board.clone(), world.server.clone());
    let watcher = tokio::spawn(async move {
        until("the outage shows", || board.status().waiting.is_some()).await;
        let status = board.status();
        server.down.store(false, SeqCst);
        status
    });
    assert_eq!(world.commit(&open).await.unwrap().0, 2);
    let status = watcher.await.unwrap();
    assert_eq!(status.waiting.unwrap().code, Code::ServerUnreachable);
    assert!(status.progress.unwrap().total > 0);
    assert_eq!(world.board.status().waiting, None);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_commit_waits_for_what_only_the_medium_has_and_sends_the_rest() {
    let world = World::new(&first_disk(), 64).await;
    let open = world.try_open(1, false, 1).await.unwrap();
    let (file, good) = lost_by_the_medium(&world, &open, 4).await;
    open.save(Saved::PoweredOff);
    let before = world.server.puts.load(SeqCst);
    let committing = world.commit(&open);
    tokio::pin!(committing);
    let (board, server) = (world.board.clone(), world.server.clone());
    tokio::select! {
        done = &mut committing => panic!("a version without all changes: {done:?}"),
        () = until("it waits for the medium", || {
            let told = board.status().waiting.is_some_and(|waiting| waiting.code == Code::CacheMedium);
            told && server.puts.load(SeqCst) == before + 1
        }) => {}
    }
    assert!(!world.server.versions().contains(&2));
    file.write_all_at(&good, 0).unwrap();
    assert_eq!(committing.await.unwrap().0, 2);
    let found = whole(&world.open(2, false).await).await;
    assert!(
        (0..4).all(|chunk| found[chunk * CHUNK_SIZE..][..CHUNK_SIZE].iter().all(|b| *b == chunk as u8 + 1))
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_sent_before_is_not_asked_of_the_medium_again() {
    let world = World::new(&first_disk(), 64).await;
    let open = world.try_open(1, false, 1).await.unwrap();
    let (file, good) = lost_by_the_medium(&world, &open, 4).await;
    file.write_all_at(&good, 0).unwrap();
    open.save(Saved::PoweredOff);
    world.server.lose_answers.store(1, SeqCst);
    world.server.down_after_commit.store(true, SeqCst);
    let server = world.server.clone();
    tokio::select! {
        done = world.commit(&open) => panic!("the answer is lost and the server is away: {done:?}"),
        () = until("the server has made it", || server.down.load(SeqCst)) => {}
    }
    file.write_all_at(&vec![0; good.len()], 0).unwrap();
    world.server.down.store(false, SeqCst);
    assert_eq!(world.commit(&open).await.unwrap().0, 2);
    assert_eq!(world.board.status().waiting, None);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_sent_before_and_is_lost_there_is_sent_again() {
    let world = World::new(&first_disk(), 64).await;
    let open = world.try_open(1, false, 1).await.unwrap();
    let (file, good) = lost_by_the_medium(&world, &open, 4).await;
    file.write_all_at(&good, 0).unwrap();
    open.save(Saved::PoweredOff);
    let known = world.server.names();
    world.server.refuse_commits.store(true, SeqCst);
    assert!(world.commit(&open).await.is_err());
    world.server.refuse_commits.store(false, SeqCst);
    // What was sent is collected as garbage meanwhile, and one chunk has changed.
    world.server.forget_all_but(&known);
    open.disk.write(0, &[77; 512]).await.unwrap();
    assert_eq!(world.commit(&open).await.unwrap().0, 2);
    let found = whole(&world.open(2, false).await).await;
    assert!(found[..512] == [77; 512] && found[512..CHUNK_SIZE].iter().all(|byte| *byte == 1));
    assert!(found[CHUNK_SIZE..2 * CHUNK_SIZE].iter().all(|byte| *byte == 2));
}

/// A server that is wrong, restored, of another version or losing objects holds a user's work up and ends nothing.
#[tokio::test(flavor = "multi_thread")]
async fn a_commit_waits_out_whatever_a_server_says() {
    let world = World::new(&first_disk(), 64).await;
    let open = world.open(1, false).await;
    open.disk.write(0, &[1; 512]).await.unwrap();
    open.save(Saved::PoweredOff);
    let waited = Code::ALL.iter().copied().chain([Code::from("what-is-this")]);
    let waited = waited.filter(|code| code.fate(Stake::Work) != Fate::Final);
    // More often than any fixed number of tries.
    world.server.refusals.lock().unwrap().extend(waited.chain([Code::MissingObjects; 10]));
    world.commit(&open).await.unwrap();
    assert!(world.server.refusals.lock().unwrap().is_empty());
}

/// What proves that the work can never be committed under this lock is told at once, unless it is there already.
#[tokio::test(flavor = "multi_thread")]
async fn a_commit_under_a_broken_lock_ends() {
    let world = World::new(&first_disk(), 64).await;
    let open = world.open(1, false).await;
    open.disk.write(0, &[1; 512]).await.unwrap();
    open.save(Saved::PoweredOff);
    world.server.refusals.lock().unwrap().push_back(Code::StaleEpoch);
    assert_eq!(world.commit(&open).await.unwrap_err().code, Code::StaleEpoch);
    // Its answer was lost, and the lock was broken before it was sent again.
    world.server.lose_answers.store(1, SeqCst);
    let server = world.server.clone();
    let breaking = async {
        while server.lose_answers.load(SeqCst) > 0 {
            tokio::task::yield_now().await;
        }
        server.refusals.lock().unwrap().push_back(Code::StaleEpoch);
    };
    let (done, ()) = tokio::join!(world.commit(&open), breaking);
    done.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_killed_engine_had_sent_under_this_lock_is_the_commit() {
    let world = World::new(&first_disk(), 64).await;
    let (killed, open) = (world.open(1, false).await, world.open(1, false).await);
    for (disk, with) in [(&killed.disk, 7), (&open.disk, 8)] {
        disk.write(0, &[with; 512]).await.unwrap();
    }
    killed.save(Saved::PoweredOff);
    open.save(Saved::MemoryLost);
    // It lands after this engine has looked; and the server does not tell at once whose it is.
    assert_eq!(world.commit(&killed).await.unwrap().0, 2);
    let made = Made { record: RecordHash([5; 32]), memory_lost: false };
    let (server, author) = (world.server.clone(), Author { kiosk: "test".into(), vendor: "V".into() });
    let committing = commit(&open, &author, 1, world.server.clone());
    let telling = async {
        until("it waits", || world.board.status().waiting.is_some_and(|why| why.code == Code::WrongParent))
            .await;
        *server.made.lock().unwrap() = Some((Version(3), made));
        tokio::time::sleep(Duration::from_millis(300)).await;
        *server.made.lock().unwrap() = Some((Version(2), made));
    };
    let both = async { tokio::join!(committing, telling) };
    let (done, ()) =
        tokio::time::timeout(Duration::from_secs(60), both).await.expect("it is told whose it is");
    let done = done.unwrap();
    assert_eq!((done.version, done.record, done.memory_lost), (Version(2), made.record, false));
}
