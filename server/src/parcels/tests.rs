//! Commits against a store that is interrupted, or fails, at every single one of its operations.

use super::*;
use crate::store::{
    Answer, StoreError,
    local::{self, LocalStore},
};
use futures::future::BoxFuture;
use parcel::{
    chunk,
    id::BootId,
    keyring::{ChunkRef, ImageKind, Leaf},
    record::{FORMAT, ImageInfo, Private, Record},
    secret::{ParcelKey, Secret},
    tag::{CpuTag, Tag, Wishes},
    wire::{guest::Machine, hold::Claim},
};
use std::sync::{
    Mutex,
    atomic::{AtomicUsize, Ordering},
};
use tempfile::{TempDir, tempdir};

const OWNER: &str = "shanta@WAYSTATION.TEST";

/// What happens at the operation that is counted down to.
enum Event {
    /// Something else comes in between.
    Meanwhile(BoxFuture<'static, ()>),
    /// This and all that follow fail: what a crash does to whoever waits for an answer.
    Crash,
}

struct Interrupted {
    inner: Arc<dyn Store>,
    left: AtomicUsize,
    event: Mutex<Option<Event>>,
}

impl std::fmt::Debug for Interrupted {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Interrupted")
    }
}

impl Interrupted {
    fn new(inner: &Arc<dyn Store>, at: usize, event: Event) -> Arc<Self> {
        Arc::new(Self {
            inner: Arc::clone(inner),
            left: AtomicUsize::new(at),
            event: Mutex::new(Some(event)),
        })
    }

    fn happened(&self) -> bool {
        self.left.load(Ordering::SeqCst) == 0
    }

    async fn tick(&self) -> std::result::Result<(), StoreError> {
        let left = self.left.load(Ordering::SeqCst);
        if left > 0 {
            self.left.store(left - 1, Ordering::SeqCst);
        }
        if left > 1 {
            return Ok(());
        }
        let event = self.event.lock().unwrap().take();
        match event {
            Some(Event::Meanwhile(other)) => other.await,
            Some(Event::Crash) => *self.event.lock().unwrap() = Some(Event::Crash),
            None => {}
        }
        match &*self.event.lock().unwrap() {
            Some(Event::Crash) => {
                Err(StoreError::Io { doing: "testing".to_owned(), source: std::io::Error::other("crashed") })
            }
            _ => Ok(()),
        }
    }
}

macro_rules! after_tick {
    ($($name:ident($($arg:ident: $type:ty),*) -> $answer:ty;)*) => {
        $(fn $name(&self, $($arg: $type),*) -> Answer<'_, $answer> {
            Box::pin(async move {
                self.tick().await?;
                self.inner.$name($($arg),*).await
            })
        })*
    };
}

impl Store for Interrupted {
    fn identity(&self) -> StoreIdentity {
        self.inner.identity()
    }

    after_tick! {
        put_chunk(shelf: Shelf, name: ChunkName, bytes: Bytes) -> bool;
        chunk(shelf: Shelf, name: ChunkName) -> Option<Bytes>;
        have(shelf: Shelf, names: Vec<ChunkName>) -> Vec<bool>;
        adopt(parcel: ParcelId) -> ();
        discard(parcel: ParcelId, expected: Etag) -> bool;
        get(key: Key) -> Option<Object>;
        swap(key: Key, expected: Option<Etag>, bytes: Bytes) -> bool;
        parcels() -> Vec<ParcelId>;
        records(parcel: ParcelId) -> Vec<Version>;
    }
}

fn record(id: ParcelId, n: u64, kiosk: &str) -> Bytes {
    record_of(id, n, kiosk, Vec::new())
}

fn record_of(id: ParcelId, n: u64, kiosk: &str, images: Vec<ImageInfo>) -> Bytes {
    let tag = Tag {
        cpu: CpuTag { vendor: None, baseline: "x86-64-v2".to_owned(), features: BTreeSet::new() },
        vcpus: 1,
        memory_mib: 64,
        device_model: 1,
        wishes: Wishes::default(),
    };
    let machine = Machine {
        vcpus: 1,
        memory_mib: 64,
        cpu_baseline: "x86-64-v2".to_owned(),
        mac: "52:54:00:00:00:01".to_owned(),
    };
    let (version, parent) = (Version(n), Version(n - 1));
    let public = Public {
        format: FORMAT,
        parcel: id,
        version,
        parent,
        created_at: 5,
        kiosk: kiosk.to_owned(),
        tag,
        machine,
        images,
        memory_lost: false,
    };
    let private = Private {
        secrets: vec![Secret::from_bytes([1; 32])],
        cmdline: String::new(),
        working_set: Vec::new(),
    };
    Record { public, private }.seal(&ParcelKey::from_bytes([2; 32])).unwrap().into()
}

fn new_store() -> (TempDir, Arc<dyn Store>) {
    let dir = tempdir().unwrap();
    let (root, witness) = (dir.path().join("store"), dir.path().join("witness"));
    local::init(&root, &witness).unwrap();
    let store = Arc::new(LocalStore::open(&root, &witness).unwrap());
    (dir, store)
}

async fn made(parcels: &Parcels, id: ParcelId, n: usize) -> Hold {
    let claim = Claim::from_bytes([n as u8; 16]);
    let ask = CreateParcel {
        id,
        name: n.to_string(),
        owner: OWNER.to_owned(),
        kiosk: "a".to_owned(),
        boot: BootId([1; 16]),
        claim: claim.clone(),
        rescues: None,
    };
    let reply = parcels.create(OWNER, &ask, 1).await.unwrap();
    Hold { store: reply.store, epoch: reply.epoch, claim }
}

/// A new parcel at version 1, held by kiosk `a`; the `n`-th of this test.
async fn begun(store: &Arc<dyn Store>, n: usize) -> (ParcelId, Hold) {
    let id = ParcelId([n as u8; 16]);
    let parcels = Parcels::new(Arc::clone(store), []);
    let hold = made(&parcels, id, n).await;
    parcels.commit(OWNER, id, Version(1), &hold, record(id, 1, "a")).await.unwrap();
    (id, hold)
}

#[tokio::test]
async fn another_holder_in_the_midst_of_a_commit_never_mixes_with_it() {
    let (_dir, store) = new_store();
    let (mut first_won, mut second_won) = (0, 0);
    for at in 1.. {
        let (id, old) = begun(&store, at).await;
        let second = Arc::new(Mutex::new(None));
        let meanwhile = {
            let (parcels, second) = (Parcels::new(Arc::clone(&store), []), Arc::clone(&second));
            Box::pin(async move {
                let claim = Claim::from_bytes([0xbb; 16]);
                let ask = LockRequest {
                    kiosk: "b".to_owned(),
                    boot: BootId([2; 16]),
                    claim: claim.clone(),
                    again: None,
                    inventory: None,
                    cold_boot: false,
                };
                let taken = parcels.lock(OWNER, id, &ask, true, 2).await.unwrap();
                let hold = Hold { store: taken.store, epoch: taken.epoch, claim };
                let answer = parcels.commit(OWNER, id, Version(2), &hold, record(id, 2, "b")).await;
                *second.lock().unwrap() = Some(answer);
            })
        };
        let interrupted = Interrupted::new(&store, at, Event::Meanwhile(meanwhile));
        let first = Parcels::new(interrupted.clone(), [])
            .commit(OWNER, id, Version(2), &old, record(id, 2, "a"))
            .await;
        if !interrupted.happened() {
            assert!(at > 6, "a commit has more operations than {at}");
            break;
        }
        let second = second.lock().unwrap().take().unwrap();
        let parcels = Parcels::new(Arc::clone(&store), []);
        let there = parcels.record(OWNER, id, Version(2)).await.unwrap();
        let head = parcels.show(OWNER, id).await.unwrap();
        assert_eq!(head.version, Version(2));
        assert_eq!(head.lock.unwrap().kiosk, "b");
        match (first, second) {
            (Err(refusal), Ok(_)) => {
                assert_eq!(refusal.code(), Code::StaleEpoch, "interrupted at {at}");
                assert_eq!(there, record(id, 2, "b"), "interrupted at {at}");
                second_won += 1;
            }
            (Ok(_), Err(refusal)) => {
                assert_eq!(refusal.code(), Code::WrongParent, "interrupted at {at}");
                assert_eq!(there, record(id, 2, "a"), "interrupted at {at}");
                first_won += 1;
            }
            both => panic!("interrupted at {at}: {both:?}"),
        }
    }
    assert!(first_won > 0 && second_won > 0, "{first_won} {second_won}");
}

#[tokio::test]
async fn a_crash_anywhere_in_a_commit_leaves_the_old_version_or_the_new() {
    let (_dir, store) = new_store();
    let mut seen = BTreeSet::new();
    for at in 1.. {
        let (id, hold) = begun(&store, at).await;
        let interrupted = Interrupted::new(&store, at, Event::Crash);
        let answer = Parcels::new(interrupted.clone(), [])
            .commit(OWNER, id, Version(2), &hold, record(id, 2, "a"))
            .await;
        let parcels = Parcels::new(Arc::clone(&store), []);
        let version = parcels.show(OWNER, id).await.unwrap().version;
        assert_eq!(parcels.versions(OWNER, id).await.unwrap().len() as u64, version.0);
        assert_eq!(parcels.record(OWNER, id, Version(1)).await.unwrap(), record(id, 1, "a"));
        let new = parcels.record(OWNER, id, Version(2)).await;
        match version {
            Version(1) => assert_eq!(new.unwrap_err().code(), Code::NoSuchVersion),
            _ => assert_eq!(new.unwrap(), record(id, 2, "a")),
        }
        assert!(version == Version(2) || answer.is_err(), "an answered commit was lost");
        seen.insert(version);
        // Sent again, the same or another, it is done.
        if at % 2 == 0 || version == Version(2) {
            parcels.commit(OWNER, id, Version(2), &hold, record(id, 2, "a")).await.unwrap();
        } else {
            parcels.commit(OWNER, id, Version(2), &hold, record(id, 2, "other")).await.unwrap();
            assert_eq!(parcels.record(OWNER, id, Version(2)).await.unwrap(), record(id, 2, "other"));
        }
        if !interrupted.happened() {
            break;
        }
    }
    assert_eq!(seen, BTreeSet::from([Version(1), Version(2)]));
}

/// A first version of one chunk and its leaf, both sent: its record, and their names.
async fn sent(parcels: &Parcels, id: ParcelId, hold: &Hold) -> (Bytes, Vec<ChunkName>) {
    let sealed = chunk::seal(&Secret::from_bytes([1; 32]), &id.0, 1).unwrap();
    let one = ChunkRef { name: sealed.name, key: sealed.key, secret: 0 };
    let leaf = Leaf { refs: vec![Some(one)] };
    let leaf = leaf.seal(&ParcelKey::from_bytes([2; 32]), &id, ImageKind::Disk, 0).unwrap();
    let image = ImageInfo { kind: ImageKind::Disk, bytes: 16, leaves: vec![Some(leaf.name)] };
    let shelf = parcels.may_upload(OWNER, id, hold).await.unwrap();
    let names = vec![sealed.name, leaf.name];
    parcels.put_chunk(shelf, sealed.name, sealed.bytes.into()).await.unwrap();
    parcels.put_chunk(shelf, leaf.name, leaf.bytes.into()).await.unwrap();
    (record_of(id, 1, "a", vec![image]), names)
}

#[tokio::test]
async fn a_crash_anywhere_in_a_first_commit_leaves_a_parcel_that_can_be_finished_or_taken_away() {
    let (_dir, store) = new_store();
    let mut seen = BTreeSet::new();
    for at in 1.. {
        let id = ParcelId([at as u8; 16]);
        let parcels = Parcels::new(Arc::clone(&store), []);
        let hold = made(&parcels, id, at).await;
        let (record, names) = sent(&parcels, id, &hold).await;
        assert_eq!(store.have(Shelf::Common, names.clone()).await.unwrap(), [false, false]);

        let interrupted = Interrupted::new(&store, at, Event::Crash);
        let crashing = Parcels::new(interrupted.clone(), []);
        let answer = crashing.commit(OWNER, id, Version(1), &hold, record.clone()).await;
        let version = parcels.show(OWNER, id).await.unwrap().version;
        assert!(version == Version(1) || answer.is_err(), "an answered commit was lost");
        assert_eq!(
            parcels.have(OWNER, id, names.clone()).await.unwrap(),
            [true, true],
            "interrupted at {at}"
        );
        seen.insert(version);
        if at % 2 == 0 && version == Version(0) {
            parcels.discard(OWNER, id, &hold).await.unwrap();
            assert_eq!(parcels.show(OWNER, id).await.unwrap_err().code(), Code::NoSuchParcel);
        } else {
            parcels.commit(OWNER, id, Version(1), &hold, record.clone()).await.unwrap();
            assert_eq!(parcels.record(OWNER, id, Version(1)).await.unwrap(), record);
            assert_eq!(store.have(Shelf::Common, names).await.unwrap(), [true, true]);
            assert_eq!(parcels.discard(OWNER, id, &hold).await.unwrap_err().code(), Code::HasVersions);
        }
        if !interrupted.happened() {
            break;
        }
    }
    assert_eq!(seen, BTreeSet::from([Version(0), Version(1)]));
}
