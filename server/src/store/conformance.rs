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
    race(&make()).await;
    chunk_race(&make()).await;
}

async fn chunks(store: &dyn Store) {
    assert_eq!(store.chunk(name(1)).await.unwrap(), None);
    store.put_chunk(name(1), text("one")).await.unwrap();
    store.put_chunk(name(1), text("one")).await.unwrap();
    store.put_chunk(name(2), Bytes::from(vec![7; parcel::MAX_OBJECT])).await.unwrap();
    assert_eq!(store.chunk(name(1)).await.unwrap().unwrap(), "one");
    assert_eq!(store.chunk(name(2)).await.unwrap().unwrap().len(), parcel::MAX_OBJECT);
    let have = store.have(vec![name(3), name(2), name(1), name(3)]).await.unwrap();
    assert_eq!(have, [false, true, true, false]);
    assert_eq!(store.have(Vec::new()).await.unwrap(), [false; 0]);
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
    let writers = join_all((0..8).map(|_| store.put_chunk(name(1), bytes.clone())));
    let readers = join_all((0..50).map(|_| async {
        // Whole, or not yet there.
        if let Some(read) = store.chunk(name(1)).await.unwrap() {
            assert_eq!(read, bytes);
        }
    }));
    let (written, _) = futures::join!(writers, readers);
    assert!(written.iter().all(Result::is_ok));
    assert_eq!(store.have(vec![name(1)]).await.unwrap(), [true]);
}
