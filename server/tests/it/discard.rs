//! A parcel that was begun and not finished can be taken away, and then nothing of it is left; any other stays.

use crate::{
    client::{Client, Code, send},
    machine::{Machine, wants},
    server::Setup,
};
use parcel::{id::Version, slot::Slots};
use reqwest::Method;
use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

/// Every file and folder of a store.
pub fn everything(store: &Path) -> BTreeSet<PathBuf> {
    fn walk(dir: &Path, found: &mut BTreeSet<PathBuf>) {
        // One that goes away meanwhile is not there.
        for entry in fs::read_dir(dir).into_iter().flatten() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                walk(&path, found);
            }
            found.insert(path);
        }
    }
    let mut found = BTreeSet::new();
    walk(store, &mut found);
    found
}

/// The store has these files and folders, and no others, once what was under way when its client left is over.
pub fn assert_same(store: &Path, before: &BTreeSet<PathBuf>) {
    let begun = Instant::now();
    loop {
        let now = everything(store);
        let (more, less): (Vec<_>, Vec<_>) =
            (now.difference(before).collect(), before.difference(&now).collect());
        if more.is_empty() && less.is_empty() {
            return;
        }
        assert!(begun.elapsed() < Duration::from_secs(20), "more: {more:?}, less: {less:?}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

#[tokio::test]
async fn nothing_is_left_of_a_parcel_that_was_never_finished() {
    let setup = Setup::new();
    let server = setup.start();
    let it = Client::of("it", &setup, &server).await;
    let shanta = Client::of("shanta", &setup, &server).await;
    let golden = Machine::new();
    let kept = golden.seal(1, 0, 3, &BTreeMap::from([(0, 1)]));
    let epoch = it.create(golden.id, "golden", "it", "cli").await.unwrap().epoch;
    kept.send(&it, golden.id, epoch).await;
    it.commit(golden.id, epoch, Version(1), &kept.record).await.unwrap();
    let before = everything(&setup.path("store"));

    // A clone that comes as far as its last step.
    let machine = Machine::new();
    let id = machine.id;
    let epoch = it.create(id, "work", "shanta", "cli").await.unwrap().epoch;
    it.put(&format!("parcels/{id}/slots?epoch={epoch}"), Slots::default().to_json()).await.unwrap();
    let (name, bytes) = &kept.chunks[0];
    it.put_chunk(id, epoch, *name, bytes).await.unwrap();
    let version = machine.seal(1, 0, 3, &BTreeMap::from([(0, 1), (1, 2)]));
    version.send(&it, id, epoch).await;
    assert_eq!(it.have(id, &version.names()).await.unwrap(), [1, 1, 1]);
    // It is nobody else's: neither found by its name, nor counted on for another parcel.
    assert_eq!(shanta.get(&format!("chunks/{}", version.chunks[0].0)).await.code(), "404 no-such-chunk");
    assert_eq!(it.have(golden.id, &version.names()).await.unwrap(), [0, 0, 0]);

    assert_eq!(shanta.discard(id, epoch).await.code(), "409 locked");
    let ravi = Client::of("ravi", &setup, &server).await;
    assert_eq!(ravi.discard(id, epoch).await.code(), "404 no-such-parcel");
    assert_eq!(it.discard(id, epoch.next()).await.code(), "409 unknown-claim");
    let without = it.request(Method::DELETE, &format!("parcels/{id}"));
    assert_eq!(send(without).await.code(), "400 bad-request");
    it.discard(id, epoch).await.unwrap();
    assert_eq!(it.discard(id, epoch).await.code(), "404 no-such-parcel");
    assert_eq!(it.put_chunk(id, epoch, *name, bytes).await.code(), "404 no-such-parcel");
    assert_same(&setup.path("store"), &before);
    assert!(shanta.list().await.is_empty());
    assert_eq!(it.get(&format!("chunks/{name}")).await.unwrap(), *bytes);

    // The name is free again.
    let epoch = it.create(id, "work", "shanta", "cli").await.unwrap().epoch;
    version.send(&it, id, epoch).await;
    it.commit(id, epoch, Version(1), &version.record).await.unwrap();
    for (name, bytes) in version.chunks.iter().chain(&version.leaves) {
        assert_eq!(shanta.get(&format!("chunks/{name}")).await.unwrap(), *bytes);
    }
    assert!(!setup.path(&format!("store/parcels/{id}/new")).exists());
}

#[tokio::test]
async fn a_parcel_with_a_version_stays() {
    let setup = Setup::new();
    let server = setup.start();
    let shanta = Client::of("shanta", &setup, &server).await;
    let machine = Machine::new();
    let id = machine.id;
    let epoch = shanta.create(id, "work", "shanta", "a").await.unwrap().epoch;
    let record = machine.record(1, 0, Vec::new(), wants(1));
    shanta.commit(id, epoch, Version(1), &record).await.unwrap();
    assert_eq!(shanta.discard(id, epoch).await.code(), "409 has-versions");
    shanta.unlock(id, epoch).await.unwrap();
    assert_eq!(shanta.discard(id, epoch).await.code(), "409 stale-epoch");
    assert_eq!(shanta.show(id).await.unwrap().version, Version(1));
}

#[tokio::test]
async fn whoever_began_a_parcel_for_another_takes_it_over_from_elsewhere() {
    let setup = Setup::new();
    let server = setup.start();
    let it = Client::of("it", &setup, &server).await;
    let machine = Machine::new();
    let id = machine.id;
    let old = it.create(id, "work", "shanta", "a laptop that is gone").await.unwrap().epoch;
    assert_eq!(it.lock(id, "cli", None).await.code(), "409 locked");
    let epoch = it.break_lock(id, "cli").await.unwrap().epoch;
    assert_eq!(it.discard(id, old).await.code(), "409 stale-epoch");
    it.discard(id, epoch).await.unwrap();

    // With the first version that ends: from then on it is its owner's.
    let epoch = it.create(id, "work", "shanta", "cli").await.unwrap().epoch;
    it.commit(id, epoch, Version(1), &machine.record(1, 0, Vec::new(), wants(1))).await.unwrap();
    assert_eq!(it.break_lock(id, "elsewhere").await.code(), "403 not-owner");
}

#[tokio::test]
async fn what_is_sent_while_a_parcel_is_taken_away_does_not_bring_it_back() {
    let setup = Setup::new();
    let server = setup.start();
    let shanta = Client::of("shanta", &setup, &server).await;
    let before = everything(&setup.path("store"));
    for round in 0..10 {
        let machine = Machine::new();
        let id = machine.id;
        let epoch = shanta.create(id, "work", "shanta", "a").await.unwrap().epoch;
        let version = machine.seal(1, 0, 8, &(0..8).map(|i| (i, i as u8 + 1)).collect());
        let sends = futures::future::join_all(
            version.chunks.iter().map(|(name, bytes)| shanta.put_chunk(id, epoch, *name, bytes)),
        );
        let slots = format!("parcels/{id}/slots?epoch={epoch}");
        let slots = shanta.put(&slots, Slots::default().to_json());
        let record = machine.record(1, 0, Vec::new(), wants(1));
        let commit = async {
            // Sometimes the first to be there, sometimes the last.
            match round % 2 {
                0 => None,
                _ => Some(shanta.commit(id, epoch, Version(1), &record).await.is_ok()),
            }
        };
        let (sent, _, committed, gone) = futures::join!(sends, slots, commit, shanta.discard(id, epoch));
        let stays = committed == Some(true);
        assert_eq!(gone.is_err(), stays, "{gone:?}");
        for refused in sent.into_iter().filter_map(Result::err) {
            assert!([404, 503].contains(&refused.status), "{refused:?}");
        }
        if stays {
            assert_eq!(gone.code(), "409 has-versions");
            return;
        }
        assert_same(&setup.path("store"), &before);
    }
}
