//! Golden files: objects of every format version as they were once written. They stay for ever, and every program reads them.
//!
//! `BLESS=1 cargo test -p parcel --test formats golden` writes the files of the current format version that do not exist yet; it
//! never changes one that does. A file that no longer reads, or that would be written otherwise, means that the format
//! has changed: give it a new number and a new folder.

use crate::{
    sample,
    slots::{recovery, slots},
};
use parcel::{
    chunk::{CHUNK_SIZE, open, seal},
    id::{ChunkName, ParcelId},
    keyring::{ImageKind, Leaf, PublicLeaf},
    pages::{PageMap, PageRef, page_of},
    record::{Public, Record},
    secret::ChunkKey,
    slot::{Argon2Cost, Slots},
};
use std::path::PathBuf;

/// The golden file's bytes. `fresh` is what this program writes.
fn golden(version: &str, file: &str, fresh: &[u8]) -> Vec<u8> {
    let path: PathBuf = [env!("CARGO_MANIFEST_DIR"), "tests/golden", version, file].iter().collect();
    if std::env::var_os("BLESS").is_some() && !path.exists() {
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(&path, fresh).unwrap();
    }
    std::fs::read(&path).unwrap_or_else(|error| panic!("{}: {error}; write it with BLESS=1", path.display()))
}

/// Bytes that zstd makes something of.
fn text() -> Vec<u8> {
    (0..2000u32).flat_map(|i| format!("line {} of a file\n", i * i % 977).into_bytes()).collect()
}

/// A file with a chunk's key, name and sealed bytes.
fn chunk_file(plain: &[u8]) -> Vec<u8> {
    let chunk = seal(&sample::secret(), plain, 3).unwrap();
    [chunk.key.expose(), &chunk.name.0[..], &chunk.bytes].concat()
}

fn open_chunk_file(file: &[u8]) -> Vec<u8> {
    let (key, rest) = file.split_first_chunk::<32>().unwrap();
    let (name, sealed) = rest.split_first_chunk::<20>().unwrap();
    open(&sample::secret(), &ChunkName(*name), &ChunkKey::from_bytes(*key), sealed).unwrap()
}

#[test]
fn v1_chunk_raw() {
    let fresh = chunk_file(b"short");
    let file = golden("v1", "chunk-raw.bin", &fresh);
    assert_eq!(open_chunk_file(&file), b"short");
    assert_eq!(file, fresh);
}

#[test]
fn v1_chunk_zstd() {
    // Another release of zstd may compress otherwise, so that only reading is promised.
    let file = golden("v1", "chunk-zstd.bin", &chunk_file(&text()));
    assert!(file.len() < text().len() / 2);
    assert!(open_chunk_file(&file) == text());
}

#[test]
fn v1_leaf() {
    let place = (sample::parcel_key(), sample::parcel_id(), ImageKind::Packs, 12);
    let fresh = sample::leaf().seal(&place.0, &place.1, place.2, place.3).unwrap();
    let file = golden("v1", "leaf.bin", &fresh.bytes);
    assert_eq!(Leaf::open(&file, &place.0, &place.1, place.2, place.3).unwrap(), sample::leaf());
    let public = PublicLeaf::read(&file).unwrap();
    assert_eq!((public.image, public.index), (ImageKind::Packs, 12));
    assert_eq!(file, fresh.bytes);
    assert_eq!(fresh.name, parcel::chunk::name_of(&file));
}

#[test]
fn v1_record() {
    let fresh = sample::record().seal(&sample::parcel_key()).unwrap();
    let file = golden("v1", "record.bin", &fresh);
    assert_eq!(Public::read(&file).unwrap(), sample::record().public);
    let read = Record::open(&file, &sample::parcel_key(), &sample::parcel_id()).unwrap();
    assert_eq!(read, sample::record());
    assert_eq!(file, fresh);
}

#[test]
fn v1_slots() {
    let password = "correct horse – battery staple".as_bytes();
    let fresh = slots(Argon2Cost { memory_kib: 64, passes: 2, lanes: 1 });
    let file = golden("v1", "slots.json", fresh.to_json().as_bytes());
    let read = Slots::from_json(&file).unwrap();
    assert_eq!(read.open_password(password, &sample::parcel_id()).unwrap(), sample::parcel_key());
    assert_eq!(read.open_recovery(&recovery(), &sample::parcel_id()).unwrap(), sample::parcel_key());
    let printed: parcel::slot::RecoveryKey = recovery().to_text().parse().unwrap();
    assert_eq!(read.open_recovery(&printed, &sample::parcel_id()).unwrap(), sample::parcel_key());
    assert_eq!(read, fresh);
}

#[test]
fn v2_slots() {
    let password = "correct horse – battery staple".as_bytes();
    let fresh = slots(Argon2Cost { memory_kib: 64, passes: 2, lanes: 1 }).shared_from(&sample::parcel_id());
    let file = golden("v2", "slots.json", fresh.to_json().as_bytes());
    let (read, other) = (Slots::from_json(&file).unwrap(), ParcelId([0x77; 16]));
    assert_eq!(read.open_password(password, &other).unwrap(), sample::parcel_key());
    assert_eq!(read.open_recovery(&recovery(), &other).unwrap(), sample::parcel_key());
    assert_eq!(read, fresh);
}

#[test]
fn v1_page_map_and_pack() {
    let mut map = PageMap::zero(40_000).unwrap();
    for i in 0..64 {
        map.set(i * 509, Some(PageRef { pack: i / 32, slot: (i % 32) as u8 })).unwrap();
    }
    for chunk in 0..2 {
        let fresh = map.chunk_bytes(chunk).unwrap_or_default();
        let file = golden("v1", &format!("page-map-{chunk}.bin"), &fresh);
        let mut read = PageMap::zero(40_000).unwrap();
        read.load_chunk(chunk, (!file.is_empty()).then_some(&file), 2).unwrap();
        assert!(read.chunk_bytes(chunk) == map.chunk_bytes(chunk));
        assert!(file == fresh);
    }
    let pack: Vec<u8> = (0..CHUNK_SIZE).map(|i| (i / 4096) as u8).collect();
    let file = golden("v1", "pack.bin", &chunk_file(&pack));
    assert_eq!(page_of(&open_chunk_file(&file), 31), Ok(&[31; 4096]));
}
