//! Commits: everything named is there, the parent is the last version, and the old version stays whole.

use crate::{
    client::{Client, Code},
    machine::{Machine, wants},
    server::Setup,
};
use parcel::{
    id::{ChunkName, Version},
    keyring::{ImageKind, LEAF_REFS},
    record::ImageInfo,
    wire::http::VersionInfo,
};
use std::{collections::BTreeMap, fs};

#[tokio::test]
async fn a_commit_names_only_what_is_stored() {
    let setup = Setup::new();
    let server = setup.start();
    let shanta = Client::of("shanta", &setup, &server).await;
    let machine = Machine::new();
    let id = machine.id;
    let epoch = shanta.create(id, "work", "shanta", "a").await.unwrap().epoch;
    let version = machine.seal(1, 0, 4, &BTreeMap::from([(0, 1), (2, 2), (3, 1)]));
    let try_it = || shanta.commit(id, epoch, Version(1), &version.record);

    let refused = try_it().await.unwrap_err();
    assert!(refused.error.message.contains(&version.leaves[0].0.to_string()), "{}", refused.error.message);
    shanta.put_chunk(id, epoch, version.leaves[0].0, &version.leaves[0].1).await.unwrap();
    let refused = try_it().await.unwrap_err();
    assert_eq!((refused.status, refused.error.code.text()), (409, "missing-objects"));
    assert!(refused.error.message.contains("names 2 objects"), "{}", refused.error.message);
    let (name, bytes) = &version.chunks[0];
    shanta.put_chunk(id, epoch, *name, bytes).await.unwrap();
    let refused = try_it().await.unwrap_err();
    assert!(refused.error.message.contains(&version.chunks[1].0.to_string()), "{}", refused.error.message);
    assert!(!refused.error.message.contains(&name.to_string()), "{}", refused.error.message);
    assert_eq!(shanta.show(id).await.unwrap().version, Version(0));
    let (name, bytes) = &version.chunks[1];
    shanta.put_chunk(id, epoch, *name, bytes).await.unwrap();
    let done = try_it().await.unwrap();
    assert_eq!((done.version, done.suspended, done.suspended_at), (Version(1), false, Some(1_700_000_001)));
    // The answer was lost; another commit of that number is another matter.
    assert_eq!(try_it().await.unwrap().version, Version(1));
    let other = machine.seal(1, 0, 4, &BTreeMap::new());
    assert_eq!(shanta.commit(id, epoch, Version(1), &other.record).await.code(), "409 wrong-parent");
    assert_eq!(shanta.get(&format!("parcels/{id}/versions/1")).await.unwrap(), version.record);
}

#[tokio::test]
async fn only_what_changed_since_the_parent_is_looked_for() {
    let setup = Setup::new();
    let server = setup.start();
    let shanta = Client::of("shanta", &setup, &server).await;
    let machine = Machine::new();
    let id = machine.id;
    let epoch = shanta.create(id, "work", "shanta", "a").await.unwrap().epoch;
    let chunks = 2 * LEAF_REFS as u64 + 5;
    let mut disk = BTreeMap::from([(0, 1), (1, 2), (2 * LEAF_REFS as u64, 3)]);
    let first = machine.seal(1, 0, chunks, &disk);
    assert_eq!(first.leaves.len(), 2);
    first.send(&shanta, id, epoch).await;
    shanta.commit(id, epoch, Version(1), &first.record).await.unwrap();

    // What the parent named is not looked for again, in leaves that stayed and in leaves that changed: proved by
    // taking it away, which nothing but a fault of the store would do.
    let file = |name: &ChunkName| {
        let name = name.to_string();
        setup.path("store").join("chunks").join(&name[..2]).join(&name[2..])
    };
    for name in [&first.leaves[1].0, &first.chunks[0].0, &first.chunks[2].0] {
        fs::remove_file(file(name)).unwrap();
    }
    disk.insert(1, 9);
    let second = machine.seal(2, 1, chunks, &disk);
    shanta.put_chunk(id, epoch, second.leaves[0].0, &second.leaves[0].1).await.unwrap();
    // What is new is.
    assert_eq!(shanta.commit(id, epoch, Version(2), &second.record).await.code(), "409 missing-objects");
    let (name, bytes) = &second.chunks[1];
    shanta.put_chunk(id, epoch, *name, bytes).await.unwrap();
    shanta.commit(id, epoch, Version(2), &second.record).await.unwrap();
    let versions: Vec<VersionInfo> = shanta.get_json(&format!("parcels/{id}/versions")).await.unwrap();
    assert_eq!(versions.iter().map(|v| v.version.0).collect::<Vec<_>>(), [1, 2]);
    assert_eq!(shanta.get(&format!("chunks/{}", first.chunks[0].0)).await.code(), "404 no-such-chunk");
}

#[tokio::test]
async fn versions_follow_each_other() {
    let setup = Setup::new();
    let server = setup.start();
    let shanta = Client::of("shanta", &setup, &server).await;
    let machine = Machine::new();
    let id = machine.id;
    let epoch = shanta.create(id, "work", "shanta", "a").await.unwrap().epoch;
    let empty = |n, parent| machine.record(n, parent, Vec::new(), wants(1));
    assert_eq!(shanta.commit(id, epoch, Version(2), &empty(2, 0)).await.code(), "409 wrong-parent");
    assert_eq!(shanta.commit(id, epoch, Version(2), &empty(2, 1)).await.code(), "409 wrong-parent");
    for n in 1..=3 {
        shanta.commit(id, epoch, Version(n), &empty(n, n - 1)).await.unwrap();
    }
    assert_eq!(shanta.commit(id, epoch, Version(2), &empty(2, 1)).await.code(), "409 wrong-parent");
    assert_eq!(shanta.commit(id, epoch, Version(4), &empty(4, 2)).await.code(), "409 wrong-parent");
    assert_eq!(shanta.commit(id, epoch, Version(5), &empty(5, 3)).await.code(), "409 wrong-parent");
    // Of several different commits of one number at once, one succeeds and is the one that stays.
    let tries = (0..8).map(|kib| {
        let record = machine.record(4, 3, Vec::new(), wants(100 + kib));
        let shanta = shanta.clone();
        async move { shanta.commit(id, epoch, Version(4), &record).await.is_ok().then_some(record) }
    });
    let won: Vec<_> = futures::future::join_all(tries).await.into_iter().flatten().collect();
    assert_eq!(won.len(), 1);
    assert_eq!(shanta.get(&format!("parcels/{id}/versions/4")).await.unwrap(), won[0]);
}

#[tokio::test]
async fn a_record_is_what_it_says() {
    let setup = Setup::new();
    let server = setup.start();
    let shanta = Client::of("shanta", &setup, &server).await;
    let machine = Machine::new();
    let id = machine.id;
    let epoch = shanta.create(id, "work", "shanta", "a").await.unwrap().epoch;
    let good = machine.record(1, 0, Vec::new(), wants(1));
    assert_eq!(shanta.commit(id, epoch, Version(1), b"").await.code(), "400 bad-record");
    assert_eq!(shanta.commit(id, epoch, Version(1), &good[..good.len() / 2]).await.code(), "400 bad-record");
    assert_eq!(shanta.commit(id, epoch, Version(2), &good).await.code(), "400 bad-record");
    let foreign = Machine::new().record(1, 0, Vec::new(), wants(1));
    assert_eq!(shanta.commit(id, epoch, Version(1), &foreign).await.code(), "400 bad-record");
    let path = format!("parcels/{id}/versions/1");
    assert_eq!(shanta.put(&path, good.clone()).await.code(), "400 bad-request");
    assert_eq!(shanta.put(&format!("{path}?epoch=x"), good.clone()).await.code(), "400 bad-request");

    // A chunk where a leaf belongs, and a leaf of another place.
    let content = machine.seal(1, 0, 1, &BTreeMap::from([(0, 1)]));
    content.send(&shanta, id, epoch).await;
    let with = |kind, leaves: Vec<_>| {
        let bytes = leaves.len() as u64 * LEAF_REFS as u64 * 131_072;
        machine.record(1, 0, vec![ImageInfo { kind, bytes, leaves }], wants(1))
    };
    let (chunk, leaf) = (content.chunks[0].0, content.leaves[0].0);
    for record in [
        with(ImageKind::Disk, vec![Some(chunk)]),
        with(ImageKind::Kernel, vec![Some(leaf)]),
        with(ImageKind::Disk, vec![None, Some(leaf)]),
    ] {
        assert_eq!(shanta.commit(id, epoch, Version(1), &record).await.code(), "400 bad-record");
    }
    assert_eq!(shanta.show(id).await.unwrap().version, Version(0));
    shanta.commit(id, epoch, Version(1), &with(ImageKind::Disk, vec![Some(leaf), None])).await.unwrap();
}
