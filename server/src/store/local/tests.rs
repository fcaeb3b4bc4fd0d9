//! The suite for every backend, and what is particular to a directory: crashes and damage.

use super::*;
use crate::store::conformance;
use std::{cell::RefCell, os::unix::fs::PermissionsExt};
use tempfile::{TempDir, tempdir};

/// Opens the store, which is made first where there is none. Its witness is in it, to go when it goes.
fn opened(root: &Path) -> Result<LocalStore, OpenError> {
    let witness = root.join("witness");
    if !root.join("format").exists() && !witness.exists() {
        init(root, &witness)?;
    }
    LocalStore::open(root, &witness)
}

fn name(n: u8) -> ChunkName {
    ChunkName([n; 20])
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn it_conforms() {
    let dirs: RefCell<Vec<TempDir>> = RefCell::default();
    conformance::all(|| {
        let dir = tempdir().unwrap();
        let store = opened(&dir.path().join("store")).unwrap();
        dirs.borrow_mut().push(dir);
        store
    })
    .await;
}

#[tokio::test]
async fn what_was_stored_is_there_after_a_restart() {
    let dir = tempdir().unwrap();
    let (id, key) = (ParcelId([1; 16]), Key::Head(ParcelId([1; 16])));
    let store = opened(dir.path()).unwrap();
    store.put_chunk(Shelf::Common, name(0xab), Bytes::from_static(b"c")).await.unwrap();
    assert!(store.swap(key, None, Bytes::from_static(b"h")).await.unwrap());
    let etag = store.get(key).await.unwrap().unwrap().etag;
    drop(store);

    let store = opened(dir.path()).unwrap();
    assert_eq!(store.chunk(Shelf::Common, name(0xab)).await.unwrap().unwrap(), "c");
    assert!(store.swap(key, Some(etag), Bytes::from_static(b"i")).await.unwrap());
    // The layout is an interface: backups and people rely on it.
    let layout = |path: String| dir.path().join(path).is_file();
    assert!(layout(format!("chunks/ab/{}", "ab".repeat(19))));
    assert!(layout(format!("parcels/{id}/head")));
}

#[tokio::test]
async fn what_a_crash_left_half_written_is_removed_and_never_seen() {
    let dir = tempdir().unwrap();
    drop(opened(dir.path()).unwrap());
    // Killed while writing; killed after making a parcel's directories and before its head.
    fs::write(dir.path().join("tmp/0"), b"half").unwrap();
    fs::write(dir.path().join("tmp/77"), b"").unwrap();
    // Killed while taking a parcel away.
    fs::create_dir_all(dir.path().join("tmp/78/new")).unwrap();
    fs::write(dir.path().join("tmp/78/new/x"), b"c").unwrap();
    let id = ParcelId([3; 16]);
    fs::create_dir_all(dir.path().join(format!("parcels/{id}/versions"))).unwrap();
    fs::create_dir(dir.path().join("parcels/lost+found")).unwrap();

    let store = opened(dir.path()).unwrap();
    assert_eq!(fs::read_dir(dir.path().join("tmp")).unwrap().count(), 0);
    assert_eq!(store.parcels().await.unwrap(), []);
    assert_eq!(store.get(Key::Head(id)).await.unwrap(), None);
    store.put_chunk(Shelf::Common, name(1), Bytes::from_static(b"c")).await.unwrap();
    assert!(store.swap(Key::Head(id), None, Bytes::from_static(b"h")).await.unwrap());
}

#[tokio::test]
async fn a_parcel_whose_first_commit_was_killed_after_it_was_adopted_takes_more() {
    let dir = tempdir().unwrap();
    let store = opened(dir.path()).unwrap();
    let id = ParcelId([1; 16]);
    assert!(store.swap(Key::Head(id), None, Bytes::from_static(b"h")).await.unwrap());
    store.adopt(id).await.unwrap();
    assert!(!store.put_chunk(Shelf::Own(id), name(1), Bytes::from_static(b"c")).await.unwrap());
    drop(store);
    let store = opened(dir.path()).unwrap();
    assert!(store.put_chunk(Shelf::Own(id), name(1), Bytes::from_static(b"c")).await.unwrap());
}

#[tokio::test]
async fn a_shelf_that_a_crash_left_half_adopted_is_found_whole_and_adopted_again() {
    let dir = tempdir().unwrap();
    let store = opened(dir.path()).unwrap();
    let id = ParcelId([1; 16]);
    assert!(store.swap(Key::Head(id), None, Bytes::from_static(b"h")).await.unwrap());
    for n in [1, 2] {
        assert!(store.put_chunk(Shelf::Own(id), name(n), Bytes::from_static(b"c")).await.unwrap());
    }
    fs::rename(store.dir.shelf_path(&id).join(name(1).to_string()), store.dir.chunk_path(&name(1))).unwrap();
    drop(store);
    let store = opened(dir.path()).unwrap();
    assert_eq!(store.have(Shelf::Own(id), vec![name(1), name(2)]).await.unwrap(), [true, true]);
    store.adopt(id).await.unwrap();
    assert_eq!(store.have(Shelf::Common, vec![name(1), name(2)]).await.unwrap(), [true, true]);
}

#[tokio::test]
async fn a_store_whose_making_was_cut_short_is_made_again() {
    let dir = tempdir().unwrap();
    // A file system of its own, and what was written before the end.
    fs::create_dir(dir.path().join("lost+found")).unwrap();
    for left in ["lock", "identity", "changes.new"] {
        fs::write(dir.path().join(left), b"").unwrap();
    }
    let store = opened(dir.path()).unwrap();
    store.put_chunk(Shelf::Common, name(0xff), Bytes::from_static(b"c")).await.unwrap();
}

#[tokio::test]
async fn a_store_that_is_not_as_it_was_left_is_refused_until_somebody_says_so() {
    let dir = tempdir().unwrap();
    let (root, witness) = (dir.path().join("store"), dir.path().join("witness"));
    assert!(matches!(LocalStore::open(&root, &witness).unwrap_err(), OpenError::NoStore(_)));
    let made = init(&root, &witness).unwrap();
    assert!(matches!(init(&root, &witness).unwrap_err(), OpenError::Gone { .. }));
    let store = LocalStore::open(&root, &witness).unwrap();
    assert_eq!(store.identity(), made);
    let older = fs::read(root.join("changes")).unwrap();
    let key = Key::Head(ParcelId([1; 16]));
    assert!(store.swap(key, None, Bytes::from_static(b"h")).await.unwrap());
    drop(store);
    let newer = fs::read(root.join("changes")).unwrap();
    fs::write(root.join("changes"), older).unwrap();
    assert!(matches!(LocalStore::open(&root, &witness).unwrap_err(), OpenError::Restored { .. }));
    fs::write(root.join("changes"), newer).unwrap();
    drop(LocalStore::open(&root, &witness).unwrap());
    fs::remove_file(&witness).unwrap();
    assert!(matches!(LocalStore::open(&root, &witness).unwrap_err(), OpenError::Restored { .. }));
    let now = restored(&root, &witness).unwrap();
    assert_eq!(now.id, made.id);
    assert_ne!(now.generation, made.generation);
    assert_eq!(LocalStore::open(&root, &witness).unwrap().identity(), now);
}

#[tokio::test]
async fn a_damaged_chunk_is_made_whole_when_it_is_sent_again() {
    let dir = tempdir().unwrap();
    let store = opened(dir.path()).unwrap();
    store.put_chunk(Shelf::Common, name(1), Bytes::from_static(b"whole")).await.unwrap();
    fs::write(store.dir.chunk_path(&name(1)), b"wh0le").unwrap();
    store.put_chunk(Shelf::Common, name(1), Bytes::from_static(b"whole")).await.unwrap();
    assert_eq!(store.chunk(Shelf::Common, name(1)).await.unwrap().unwrap(), "whole");
}

#[tokio::test]
async fn a_write_that_fails_leaves_the_old_content_and_nothing_else() {
    let dir = tempdir().unwrap();
    let store = opened(dir.path()).unwrap();
    let key = Key::Head(ParcelId([1; 16]));
    assert!(store.swap(key, None, Bytes::from_static(b"old")).await.unwrap());
    let etag = store.get(key).await.unwrap().unwrap().etag;
    // No place to write to: what an unwritable or broken disk looks like, for root as well.
    fs::rename(dir.path().join("tmp"), dir.path().join("gone")).unwrap();
    let error = store.swap(key, Some(etag), Bytes::from_static(b"new")).await.unwrap_err();
    assert!(error.to_string().contains("parcels/01010101010101010101010101010101/head"), "{error}");
    assert!(store.put_chunk(Shelf::Common, name(1), Bytes::from_static(b"c")).await.is_err());
    fs::rename(dir.path().join("gone"), dir.path().join("tmp")).unwrap();
    assert_eq!(store.get(key).await.unwrap().unwrap().bytes, "old");
    assert_eq!(store.have(Shelf::Common, vec![name(1)]).await.unwrap(), [false]);
    assert_eq!(fs::read_dir(dir.path().join("tmp")).unwrap().count(), 0);
    assert!(store.dir.landing().is_empty());
}

#[test]
fn a_store_is_for_one_process() {
    let dir = tempdir().unwrap();
    let first = opened(dir.path()).unwrap();
    let error = opened(dir.path()).unwrap_err();
    assert!(matches!(error, OpenError::InUse(_)));
    assert!(error.to_string().contains("in use by another parcel-server; stop that one"));
    drop(first);
    opened(dir.path()).unwrap();
}

#[test]
fn somebody_elses_directory_is_left_alone() {
    let dir = tempdir().unwrap();
    fs::write(dir.path().join("thesis.odt"), b"x").unwrap();
    assert!(matches!(opened(dir.path()).unwrap_err(), OpenError::NotAStore(_)));
    assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1);

    let dir = tempdir().unwrap();
    fs::write(dir.path().join("format"), b"waystation parcel store, format 3\n").unwrap();
    assert!(matches!(opened(dir.path()).unwrap_err(), OpenError::Format(_)));

    let dir = tempdir().unwrap();
    let file = dir.path().join("file");
    fs::write(&file, b"x").unwrap();
    assert!(matches!(opened(&file).unwrap_err(), OpenError::Io { .. }));
}

#[tokio::test]
async fn nobody_else_may_read_it() {
    let dir = tempdir().unwrap();
    let root = dir.path().join("store");
    let store = opened(&root).unwrap();
    store.put_chunk(Shelf::Common, name(1), Bytes::from_static(b"c")).await.unwrap();
    let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode(&root), 0o700);
    assert_eq!(mode(&store.dir.chunk_path(&name(1))), 0o600);
}
