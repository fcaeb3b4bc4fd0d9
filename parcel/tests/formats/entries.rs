//! One function for each parser of bytes from outside. None may panic, whatever the bytes are, and what is accepted must
//! hold together. The fuzz targets in `fuzz/` and the smoke test call the same functions.

use aes_gcm::{Aes256Gcm, KeyInit, Nonce, aead::Aead};
use parcel::{
    MAX_OBJECT,
    chunk::{CHUNK_SIZE, MAX_SEALED, MIN_SEALED, OpenError, name_of, open},
    id::{ChunkName, ParcelId},
    keyring::{ImageKind, LEAF_REFS, Leaf, PublicLeaf, public_names},
    pages::{PAGE_SIZE, PageMap, page_of},
    record::{Public, Record},
    secret::{ChunkKey, ParcelKey, Secret},
    slot::{RecoveryKey, Slots},
    tag::{Inventory, Start, Tag},
    wire::{WireError, daemon, guest, http, kiosk, session, vmm},
};
use serde::{Serialize, de::DeserializeOwned};

/// A parser's entry, with its name.
pub type Entry = (&'static str, fn(&[u8]));

/// All of them.
pub const ALL: &[Entry] = &[
    ("chunk", chunk),
    ("chunk_body", chunk_body),
    ("leaf", leaf),
    ("record", record),
    ("record_private", record_private),
    ("slots", slots),
    ("recovery_key", recovery_key),
    ("pages", pages),
    ("ids", ids),
    ("wire", wire),
];

fn key() -> ParcelKey {
    ParcelKey::from_bytes([2; 32])
}

fn parcel() -> ParcelId {
    ParcelId([0xa0; 16])
}

/// A sealed chunk as a source hands it over.
pub fn chunk(data: &[u8]) {
    let (secret, key) = (Secret::from_bytes([1; 32]), ChunkKey::from_bytes([3; 32]));
    let refused = open(&secret, &name_of(data), &key, data).expect_err("nobody has sealed this");
    assert!(refused.other_source_may_help());
    assert!(open(&secret, &ChunkName([0; 20]), &key, data).is_err());
}

/// A chunk's body behind all checks, as an author of the parcel could have sealed it.
pub fn chunk_body(body: &[u8]) {
    let secret = Secret::from_bytes([1; 32]);
    let key = *blake3::keyed_hash(secret.expose(), body).as_bytes();
    let sealed = Aes256Gcm::new((&key).into()).encrypt(&Nonce::default(), body).expect("short body");
    match open(&secret, &name_of(&sealed), &ChunkKey::from_bytes(key), &sealed) {
        Ok(plain) => assert!((1..=CHUNK_SIZE).contains(&plain.len())),
        Err(OpenError::Size(len)) => assert!(!(MIN_SEALED..=MAX_SEALED).contains(&len)),
        Err(error) => assert!(!error.other_source_may_help()),
    }
}

/// A keyring leaf, with and without the key.
pub fn leaf(data: &[u8]) {
    let public = PublicLeaf::read(data);
    let names = public_names(data);
    match (&public, &names) {
        (Ok(public), Ok(names)) => {
            assert!(public.names.len() <= LEAF_REFS);
            assert_eq!(public.names.iter().flatten().count(), names.len());
            let place = (public.image, public.index);
            assert!(Leaf::open(data, &key(), &parcel(), place.0, place.1).is_err(), "nobody has sealed this");
        }
        (Err(a), Err(b)) => assert_eq!(a, b),
        _ => panic!("two readers of one format disagree"),
    }
    assert!(Leaf::open(data, &key(), &parcel(), ImageKind::Disk, 0).is_err(), "nobody has sealed this");
}

/// A version record, with and without the key.
pub fn record(data: &[u8]) {
    if let Ok(public) = Public::read(data) {
        assert!(data.len() <= MAX_OBJECT);
        assert!(public.leaf_names().count() <= data.len());
        let refused = Record::open(data, &key(), &public.parcel);
        assert!(refused.is_err(), "nobody has sealed this");
    }
}

/// The sealed part of a version record behind all checks, as an author of the parcel could have sealed it.
pub fn record_private(plain: &[u8]) {
    const JSON: &str = r#"{"format":1,"parcel":"a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0","version":1,"parent":0,"created_at":0,"kiosk":"k","tag":{"cpu":{"baseline":"x86-64-v1","features":[]},"vcpus":1,"memory_mib":1,"device_model":1,"wishes":{"sound":false}},"machine":{"vcpus":1,"memory_mib":1,"cpu_baseline":"x86-64-v1","mac":"52:54:00:00:00:01"},"images":[]}"#;
    let mut bytes = [b"wsvers\x01\0", &(JSON.len() as u32).to_le_bytes()[..], JSON.as_bytes()].concat();
    let sealed = crate::oracle::envelope(key().expose(), "version record", &[&bytes], plain);
    bytes.extend(sealed);
    if let Ok(record) = Record::open(&bytes, &key(), &parcel()) {
        assert_eq!(record.seal(&key()).expect("what was read can be written"), bytes, "one spelling only");
    }
}

/// Key slots.
pub fn slots(data: &[u8]) {
    if let Ok(slots) = Slots::from_json(data) {
        assert_eq!(Slots::from_json(slots.to_json().as_bytes()), Ok(slots.clone()));
        let refused = slots.open_recovery(&RecoveryKey::from_bytes([9; 20]), &parcel());
        assert!(refused.is_err(), "nobody has sealed this");
    }
}

/// What a person types from paper.
pub fn recovery_key(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    if let Ok(key) = text.parse::<RecoveryKey>() {
        let printed = key.to_text();
        let again: RecoveryKey = printed.parse().expect("what is printed can be read");
        assert_eq!(again.to_text(), printed);
    }
}

/// A chunk of the page map, and a pack. The first two bytes choose sizes.
pub fn pages(data: &[u8]) {
    let Some(([pages, packs], bytes)) = data.split_first_chunk::<2>() else { return };
    let packs = u32::from(*packs);
    let mut map = PageMap::zero(u64::from(*pages) * 300).expect("a small memory");
    for chunk in 0..3 {
        if map.load_chunk(chunk, Some(bytes), packs).is_ok() {
            assert!(map.iter().all(|(_, at)| at.pack < packs && at.slot < 32));
            assert!(map.chunk_bytes(chunk).is_none_or(|again| again == bytes));
        }
    }
    // Also with as many pages as there are entries, so that the length fits.
    let mut map = PageMap::zero((bytes.len() / 4) as u64).expect("a small memory");
    if bytes.len() <= CHUNK_SIZE && map.load_chunk(0, Some(bytes), packs).is_ok() {
        assert!(map.pack_count() <= packs);
    }
    if let Ok(page) = page_of(bytes, *data.first().unwrap_or(&0)) {
        assert_eq!(page.len(), PAGE_SIZE);
    }
}

/// Identifiers and keys in hexadecimal.
pub fn ids(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    if let Ok(id) = text.parse::<ParcelId>() {
        assert_eq!(id.to_string(), text);
    }
    if let Ok(name) = text.parse::<ChunkName>() {
        assert_eq!(name.to_string(), text);
    }
    if let Ok(key) = ParcelKey::from_hex(text) {
        assert_eq!(key.to_hex().as_str(), text);
    }
}

/// A line of each local socket, each body of the server's interface, and the kiosk's configuration.
pub fn wire(data: &[u8]) {
    json::<daemon::Request>(data);
    json::<daemon::Reply>(data);
    json::<guest::Request>(data);
    json::<guest::Reply>(data);
    json::<vmm::Request>(data);
    json::<vmm::Reply>(data);
    json::<session::State>(data);
    json::<session::Command>(data);
    json::<session::PhaseRecord>(data);
    json::<http::SessionReply>(data);
    json::<http::Health>(data);
    json::<Vec<http::ParcelInfo>>(data);
    json::<http::CreateParcel>(data);
    json::<http::LockRequest>(data);
    json::<http::LockReply>(data);
    json::<Vec<http::VersionInfo>>(data);
    json::<kiosk::Kiosk>(data);
    json::<WireError>(data);
    json::<Inventory>(data);
    json::<Tag>(data);
    if let Ok((tag, inventory)) = serde_json::from_slice::<(Tag, Inventory)>(data) {
        let misses = tag.check(&inventory, Start::Resume);
        assert!(inventory.kvm || misses.iter().any(|miss| miss.must));
    }
}

/// What is read is written so that it reads as the same again.
fn json<T: Serialize + DeserializeOwned>(data: &[u8]) {
    if let Ok(value) = serde_json::from_slice::<T>(data) {
        let once = serde_json::to_string(&value).expect("what was read can be written");
        let again: T = serde_json::from_str(&once).expect("what was written can be read");
        assert_eq!(serde_json::to_string(&again).expect("as before"), once);
    }
}
