//! What every backend must pass. Each backend's tests call [`all`] with a function that makes an empty store.

use super::*;
use futures::future::join_all;

fn name(n: u8) -> ChunkName {
    ChunkName([n; 20])
}

fn id(n: u8) -> ParcelId {
    ParcelId([n; 16])
}

fn text(text: &str) -> Bytes {
    Bytes::copy_from_slice(text.as_bytes())
}

/// Runs the whole suite, each part on a store of its own.
pub async fn all<S: Store>(make: impl Fn() -> S) {
    chunks(&make()).await;
    objects(&make()).await;
    listings(&make()).await;
    shelves(&make()).await;
    race(&make()).await;
    chunk_race(&make()).await;
}

async fn chunks(store: &dyn Store) {
    assert_eq!(store.chunk(Shelf::Common, name(1)).await.unwrap(), None);
    for (n, bytes) in [(1, text("one")), (1, text("one")), (2, Bytes::from(vec![7; parcel::MAX_OBJECT]))] {
        assert!(store.put_chunk(Shelf::Common, name(n), bytes).await.unwrap());
    }
    assert_eq!(store.chunk(Shelf::Common, name(1)).await.unwrap().unwrap(), "one");
    assert_eq!(store.chunk(Shelf::Common, name(2)).await.unwrap().unwrap().len(), parcel::MAX_OBJECT);
    let have = store.have(Shelf::Common, vec![name(3), name(2), name(1), name(3)]).await.unwrap();
    assert_eq!(have, [false, true, true, false]);
    assert_eq!(store.have(Shelf::Common, Vec::new()).await.unwrap(), [false; 0]);
}

async fn objects(store: &dyn Store) {
    for key in [Key::Head(id(1)), Key::Slots(id(1)), Key::Record(id(1), Version(1))] {
        assert_eq!(store.get(key).await.unwrap(), None);
        assert!(store.swap(key, None, text("a")).await.unwrap());
        assert!(!store.swap(key, None, text("b")).await.unwrap(), "{key}: made twice");
        let a = store.get(key).await.unwrap().unwrap();
        assert_eq!(a.bytes, "a");
        assert!(store.swap(key, Some(a.etag.clone()), text("b")).await.unwrap());
        assert!(
            !store.swap(key, Some(a.etag.clone()), text("c")).await.unwrap(),
            "{key}: replaced what was gone"
        );
        let b = store.get(key).await.unwrap().unwrap();
        assert_eq!(b.bytes, "b");
        assert_ne!(a.etag, b.etag);
    }
    let absent = Key::Head(id(2));
    let etag = store.get(Key::Head(id(1))).await.unwrap().unwrap().etag;
    assert!(!store.swap(absent, Some(etag), text("x")).await.unwrap(), "replaced what never was");
    assert_eq!(store.get(absent).await.unwrap(), None);
}

async fn listings(store: &dyn Store) {
    assert_eq!(store.parcels().await.unwrap(), []);
    assert_eq!(store.records(id(1)).await.unwrap(), []);
    for n in [10, 2, 1] {
        assert!(store.swap(Key::Record(id(1), Version(n)), None, text("r")).await.unwrap());
    }
    assert!(store.swap(Key::Head(id(1)), None, text("h")).await.unwrap());
    assert!(store.swap(Key::Head(id(2)), None, text("h")).await.unwrap());
    let mut parcels = store.parcels().await.unwrap();
    parcels.sort();
    assert_eq!(parcels, [id(1), id(2)]);
    assert_eq!(store.records(id(1)).await.unwrap(), [Version(1), Version(2), Version(10)]);
    assert_eq!(store.records(id(2)).await.unwrap(), []);
}

/// What is sent for a parcel is its own until it is adopted, and goes with it when it is discarded.
async fn shelves(store: &dyn Store) {
    let (kept, dropped) = (Shelf::Own(id(1)), Shelf::Own(id(2)));
    assert!(!store.put_chunk(kept, name(1), text("one")).await.unwrap(), "there is no such parcel");
    assert_eq!(store.have(kept, vec![name(1)]).await.unwrap(), [false]);
    for n in [1, 2] {
        assert!(store.swap(Key::Head(id(n)), None, text("h")).await.unwrap());
    }
    assert!(store.put_chunk(Shelf::Common, name(9), text("common")).await.unwrap());
    for shelf in [kept, dropped] {
        assert!(store.put_chunk(shelf, name(1), text("one")).await.unwrap());
        assert!(store.put_chunk(shelf, name(9), text("common")).await.unwrap());
    }
    assert!(store.put_chunk(dropped, name(2), text("two")).await.unwrap());
    let all = || vec![name(1), name(2), name(9)];
    assert_eq!(store.have(Shelf::Common, all()).await.unwrap(), [false, false, true]);
    assert_eq!(store.have(kept, all()).await.unwrap(), [true, false, true]);
    assert_eq!(store.chunk(Shelf::Common, name(1)).await.unwrap(), None);
    assert_eq!(store.chunk(kept, name(1)).await.unwrap().unwrap(), "one");
    assert_eq!(store.chunk(kept, name(9)).await.unwrap().unwrap(), "common");

    store.adopt(id(1)).await.unwrap();
    store.adopt(id(1)).await.unwrap();
    assert_eq!(store.have(Shelf::Common, all()).await.unwrap(), [true, false, true]);
    assert!(!store.put_chunk(kept, name(3), text("late")).await.unwrap(), "the shelf is gone");

    assert!(store.swap(Key::Slots(id(2)), None, text("s")).await.unwrap());
    assert!(store.swap(Key::Record(id(2), Version(1)), None, text("r")).await.unwrap());
    let old = store.get(Key::Head(id(2))).await.unwrap().unwrap().etag;
    assert!(store.swap(Key::Head(id(2)), Some(old.clone()), text("i")).await.unwrap());
    assert!(!store.discard(id(2), old.clone()).await.unwrap(), "the head has changed");
    assert_eq!(store.have(dropped, all()).await.unwrap(), [true, true, true]);
    let now = store.get(Key::Head(id(2))).await.unwrap().unwrap().etag;
    assert!(store.discard(id(2), now.clone()).await.unwrap());
    assert!(!store.discard(id(2), now).await.unwrap(), "it is gone");
    for key in [Key::Head(id(2)), Key::Slots(id(2)), Key::Record(id(2), Version(1))] {
        assert_eq!(store.get(key).await.unwrap(), None, "{key}");
    }
    assert_eq!(store.parcels().await.unwrap(), [id(1)]);
    assert!(!store.put_chunk(dropped, name(2), text("two")).await.unwrap());
    assert_eq!(store.have(dropped, all()).await.unwrap(), [true, false, true]);
}

/// Many add one to the same number; none of the additions is lost.
async fn race(store: &dyn Store) {
    let key = Key::Head(id(1));
    assert!(store.swap(key, None, text("0")).await.unwrap());
    let adders = (0..8).map(|_| async {
        let mut added = 0;
        while added < 10 {
            let now = store.get(key).await.unwrap().unwrap();
            let n: u32 = std::str::from_utf8(&now.bytes).unwrap().parse().unwrap();
            if store.swap(key, Some(now.etag), text(&(n + 1).to_string())).await.unwrap() {
                added += 1;
            }
        }
    });
    join_all(adders).await;
    assert_eq!(store.get(key).await.unwrap().unwrap().bytes, "80");

    let makers = (0..16).map(|n| store.swap(Key::Slots(id(1)), None, text(&n.to_string())));
    let made = join_all(makers).await;
    assert_eq!(made.into_iter().filter(|made| *made.as_ref().unwrap()).count(), 1);
}

async fn chunk_race(store: &dyn Store) {
    let bytes = Bytes::from(vec![9; 100_000]);
    let writers = join_all((0..8).map(|_| store.put_chunk(Shelf::Common, name(1), bytes.clone())));
    let readers = join_all((0..50).map(|_| async {
        // Whole, or not yet there.
        if let Some(read) = store.chunk(Shelf::Common, name(1)).await.unwrap() {
            assert_eq!(read, bytes);
        }
    }));
    let (written, _) = futures::join!(writers, readers);
    assert!(written.iter().all(|written| matches!(written, Ok(true))));
    assert_eq!(store.have(Shelf::Common, vec![name(1)]).await.unwrap(), [true]);
}
