//! Version records: round trips, refusals, consistency.

use crate::{oracle, sample};
use parcel::{
    MAX_OBJECT,
    id::{ParcelId, Version},
    keyring::{ImageKind, leaves_for},
    record::{
        ImageInfo, MAX_BESIDE_LEAVES, MAX_CMDLINE, MAX_LEAVES, MAX_SEALED, MAX_SECRETS, MAX_WORKING_SET,
        Private, Public, Record, RecordError, WORKING_SET,
    },
    secret::{ParcelKey, Secret},
};
use proptest::{collection::vec, prelude::*, sample::Index};

fn record() -> impl Strategy<Value = Record> {
    let secrets = vec(any::<[u8; 32]>().prop_map(Secret::from_bytes), 1..=MAX_SECRETS);
    let private = (secrets, ".{0,200}", vec(any::<u32>(), 0..300))
        .prop_map(|(secrets, cmdline, working_set)| Private { secrets, cmdline, working_set });
    let public =
        (any::<u32>(), any::<u64>(), ".{0,40}", any::<bool>()).prop_map(|(parent, at, kiosk, running)| {
            let mut public = sample::record().public;
            public.parent = Version(parent.into());
            public.version = Version(u64::from(parent) + 1);
            public.created_at = at;
            public.kiosk = kiosk;
            if !running {
                use ImageKind::{Packs, PageMap, State};
                public.images.retain(|image| ![Packs, PageMap, State].contains(&image.kind));
            }
            public
        });
    (public, private).prop_map(|(public, private)| Record { public, private })
}

fn sealed(record: &Record) -> Vec<u8> {
    record.seal(&sample::parcel_key()).unwrap()
}

/// Nothing of it is a hole: what a machine of that size may write before its first suspend.
#[test]
fn a_large_machine_fits() {
    let mut record = sample::record();
    let (disk, memory): (u64, u64) = (4 << 40, 64 << 30);
    for image in &mut record.public.images {
        image.bytes = match image.kind {
            ImageKind::Disk => disk,
            ImageKind::Packs => memory,
            ImageKind::PageMap => memory / 4096 * 4,
            _ => continue,
        };
        image.leaves = vec![Some(sample::name(1)); leaves_for(image.bytes) as usize];
    }
    record.private.working_set = vec![u32::MAX; WORKING_SET];
    assert!(record.public.suspended());
    assert_eq!(reopen(&sealed(&record)).as_ref(), Ok(&record));
}

fn reopen(bytes: &[u8]) -> Result<Record, RecordError> {
    Record::open(bytes, &sample::parcel_key(), &sample::parcel_id())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(128))]

    #[test]
    fn goes_round(record in record()) {
        let bytes = sealed(&record);
        prop_assert_eq!(&reopen(&bytes).unwrap(), &record);
        prop_assert_eq!(&Public::read(&bytes).unwrap(), &record.public);
        prop_assert_eq!(sealed(&record), bytes, "sealing is deterministic");
    }

    #[test]
    fn any_flipped_bit_is_refused(record in record(), at: Index, bit in 0u8..8) {
        let mut bytes = sealed(&record);
        let sealed_at = bytes.len() - sealed_len(&record);
        let at = at.index(bytes.len());
        bytes[at] ^= 1 << bit;
        let error = reopen(&bytes).unwrap_err();
        if at >= sealed_at {
            prop_assert_eq!(error, RecordError::Sealed);
            // The server, which has no key, still reads the public part.
            prop_assert_eq!(Public::read(&bytes).unwrap(), record.public);
        } else if at < 6 {
            prop_assert!(matches!(error, RecordError::Malformed(_)), "{error:?}");
        }
    }

    #[test]
    fn a_cut_or_longer_record_is_refused(record in record(), len: Index, extra: u8) {
        let mut bytes = sealed(&record);
        let short = reopen(&bytes[..len.index(bytes.len())]).unwrap_err();
        prop_assert!(matches!(short, RecordError::Malformed(_) | RecordError::Sealed), "{short:?}");
        bytes.push(extra);
        prop_assert_eq!(reopen(&bytes), Err(RecordError::Sealed));
    }

    #[test]
    fn agrees_with_the_document(record in record()) {
        let json = serde_json::to_vec(&record.public).unwrap();
        let mut bytes = b"wsvers\x01\0".to_vec();
        bytes.extend((json.len() as u32).to_le_bytes());
        bytes.extend(json);
        let plain = private_bytes(&record.private);
        let sealed_part = oracle::envelope(sample::parcel_key().expose(), "version record", &[&bytes], &plain);
        bytes.extend(sealed_part);
        prop_assert_eq!(sealed(&record), bytes);
    }
}

fn private_bytes(private: &Private) -> Vec<u8> {
    let mut plain = vec![private.secrets.len() as u8];
    private.secrets.iter().for_each(|secret| plain.extend(secret.expose()));
    plain.extend((private.cmdline.len() as u32).to_le_bytes());
    plain.extend(private.cmdline.as_bytes());
    plain.extend((private.working_set.len() as u32).to_le_bytes());
    private.working_set.iter().for_each(|pack| plain.extend(pack.to_le_bytes()));
    plain
}

fn sealed_len(record: &Record) -> usize {
    private_bytes(&record.private).len() + 48
}

#[test]
fn every_bit_of_one_record() {
    let bytes = sealed(&sample::record());
    for at in 0..bytes.len() {
        for bit in 0..8 {
            let mut bytes = bytes.clone();
            bytes[at] ^= 1 << bit;
            assert!(reopen(&bytes).is_err(), "byte {at}, bit {bit}");
        }
    }
}

#[test]
fn a_record_opens_with_its_parcel_and_key_only() {
    let bytes = sealed(&sample::record());
    let other = ParcelId([1; 16]);
    let refused = Record::open(&bytes, &sample::parcel_key(), &other);
    assert_eq!(refused, Err(RecordError::Parcel(sample::parcel_id())));
    let refused = Record::open(&bytes, &ParcelKey::from_bytes([1; 32]), &sample::parcel_id());
    assert_eq!(refused, Err(RecordError::Sealed));
}

#[test]
fn a_newer_format_is_named() {
    let mut bytes = sealed(&sample::record());
    bytes[6] = 9;
    assert_eq!(reopen(&bytes), Err(RecordError::Format(9)));
    assert_eq!(Public::read(&bytes), Err(RecordError::Format(9)));
    let mut record = sample::record();
    record.public.format = 2;
    assert_eq!(record.seal(&sample::parcel_key()), Err(RecordError::Format(2)));
}

#[test]
fn a_suspended_machine_is_one_with_saved_state() {
    let mut public = sample::record().public;
    assert!(public.suspended());
    public.images.retain(|image| image.kind != ImageKind::State);
    assert!(!public.suspended());
}

#[test]
fn a_machine_whose_memory_was_lost_says_so() {
    let mut record = sample::record();
    let memory = [ImageKind::Packs, ImageKind::PageMap, ImageKind::State];
    record.public.images.retain(|image| !memory.contains(&image.kind));
    assert!(!String::from_utf8_lossy(&sealed(&record)).contains("memory_lost"), "as older programs write it");
    record.public.memory_lost = true;
    assert_eq!(reopen(&sealed(&record)), Ok(record));
}

#[test]
fn what_contradicts_itself_is_neither_sealed_nor_read() {
    type Change = fn(&mut Record);
    let changes: [(&str, Change); 12] = [
        ("version 5 cannot come from version 5", |r| r.public.version = Version(5)),
        ("image Disk stands in it twice", |r| r.public.images.push(r.public.images[0].clone())),
        ("image Disk of 4294967296 bytes has 15 leaves where 16 belong", |r| {
            r.public.images[0].leaves.pop();
        }),
        ("image Disk of 4294967296 bytes has 17 leaves where 16 belong", |r| {
            r.public.images[0].leaves.push(None);
        }),
        ("it has 20481 leaves, the most is 20480", |r| {
            r.public.images[1] = holes(ImageKind::Packs, MAX_LEAVES - 16 - 4 + 1);
        }),
        ("4097 bytes beside the leaves in its public part, the most is 4096", |r| {
            r.public.kiosk = "k".repeat(beside_leaves(MAX_BESIDE_LEAVES) + 1);
        }),
        ("packs, page map and state belong together", |r| {
            r.public.images.remove(2);
        }),
        ("its memory was lost, and here it is", |r| r.public.memory_lost = true),
        ("0 secrets where 1 to 16 may be", |r| r.private.secrets.clear()),
        ("17 secrets where 1 to 16 may be", |r| r.private.secrets = vec![sample::secret(); 17]),
        ("a command line of 2049 bytes, the most is 2048", |r| {
            r.private.cmdline = "x".repeat(MAX_CMDLINE + 1)
        }),
        ("a working set of 131073 packs, the most is 131072", |r| {
            r.private.working_set = vec![0; MAX_WORKING_SET + 1];
        }),
    ];
    for (words, change) in changes {
        let mut record = sample::record();
        change(&mut record);
        let refused = record.seal(&sample::parcel_key()).unwrap_err();
        assert_eq!(refused, RecordError::Invalid(words.to_owned()));
        let bytes = forged(&record, &serde_json::to_vec(&record.public).unwrap());
        assert_eq!(reopen(&bytes), Err(RecordError::Invalid(words.to_owned())));
    }
}

/// The record with this public part, as a forger with the key would write it.
fn forged(record: &Record, json: &[u8]) -> Vec<u8> {
    let mut bytes = [b"wsvers\x01\0", &(json.len() as u32).to_le_bytes()[..], json].concat();
    let (key, plain) = (sample::parcel_key(), private_bytes(&record.private));
    bytes.extend(oracle::envelope(key.expose(), "version record", &[&bytes.clone()], &plain));
    bytes
}

fn holes(kind: ImageKind, leaves: usize) -> ImageInfo {
    ImageInfo { kind, bytes: (leaves as u64) << 28, leaves: vec![None; leaves] }
}

/// How long a kiosk's name brings the sample to so many bytes beside its leaves.
fn beside_leaves(bytes: usize) -> usize {
    let mut public = sample::record().public;
    public.kiosk.clear();
    let json = serde_json::to_string(&public).unwrap();
    let named = public.leaf_names().count();
    let holes = public.images.iter().map(|image| image.leaves.len()).sum::<usize>() - named;
    bytes
        - (json.len() - named * "\"646f7245485326293c070a1de0ebfec1d4dfa2b5\",".len() - holes * "null,".len())
}

#[test]
fn a_public_part_has_one_spelling_and_no_room_for_anything_else() {
    let record = sample::record();
    let json = serde_json::to_string(&record.public).unwrap();
    assert_eq!(reopen(&forged(&record, json.as_bytes())).as_ref(), Ok(&record));
    let long = format!("{{\"more\":\"{}\",", "x".repeat(1 << 19));
    for other in [
        json.replacen('{', &long, 1),
        json.replacen('{', "{\"more\":0,", 1),
        json.replacen("\"cpu\":{", "\"cpu\":{\"more\":[],", 1),
        json.replacen("\"wishes\":{", "\"wishes\":{\"more\":null,", 1),
        json.replacen("\"machine\":{", "\"machine\":{\"more\":{},", 1),
        json.replacen("\"kind\"", "\"more\":1,\"kind\"", 1),
        json.replacen(':', ": ", 1),
        json.clone() + &" ".repeat(1 << 19),
        "\n".to_owned() + &json,
        json.replacen("lobby", "\\u006cobby", 1),
        json.replacen("\"cmov\",\"cx16\"", "\"cx16\",\"cmov\"", 1),
        json.replacen("\"cmov\"", "\"cmov\",\"cmov\"", 1),
        json.replacen("\"vendor\":\"AuthenticAMD\"", "\"vendor\":null", 1),
        json.strip_suffix('}').unwrap().to_owned() + ",\"memory_lost\":false}",
    ] {
        assert_ne!(other, json);
        let refused = reopen(&forged(&record, other.as_bytes())).unwrap_err();
        assert!(matches!(refused, RecordError::Malformed(_)), "{refused}: {other:.80}");
    }
}

#[test]
fn whatever_its_public_part_a_record_of_today_is_stored() {
    let mut record = sample::record();
    for image in &mut record.public.images {
        image.leaves.fill(Some(sample::name(1)));
    }
    let packs = MAX_LEAVES - 16 - 4;
    let leaves = vec![Some(sample::name(1)); packs];
    record.public.images[1] = ImageInfo { leaves, ..holes(ImageKind::Packs, packs) };
    record.private.secrets = vec![sample::secret(); MAX_SECRETS];
    record.private.cmdline = "c".repeat(MAX_CMDLINE);
    record.private.working_set = (0..WORKING_SET as u32).collect();
    let beside = MAX_BESIDE_LEAVES - (serde_json::to_vec(&record.public).unwrap().len() - MAX_LEAVES * 43);
    record.public.kiosk += &"k".repeat(beside);
    let bytes = sealed(&record);
    assert_eq!(bytes.len(), 12 + 4096 + 880_640 + 68_153);
    assert_eq!(reopen(&bytes).as_ref(), Ok(&record));
    record.public.kiosk += "k";
    assert!(matches!(record.seal(&sample::parcel_key()), Err(RecordError::Invalid(_))));
}

#[test]
fn the_fullest_sealed_part_fits_and_a_longer_one_is_refused_without_the_key() {
    let mut record = sample::record();
    record.private.secrets = vec![sample::secret(); MAX_SECRETS];
    record.private.cmdline = "c".repeat(MAX_CMDLINE);
    record.private.working_set = (0..MAX_WORKING_SET as u32).collect();
    assert_eq!(sealed_len(&record), MAX_SEALED);
    let mut bytes = sealed(&record);
    assert_eq!(Public::read(&bytes).unwrap(), record.public);
    bytes.push(0);
    let refused = RecordError::Malformed("its sealed part is longer than any may be");
    assert_eq!(Public::read(&bytes), Err(refused));
}

#[test]
fn an_oversized_record_is_refused() {
    assert_eq!(Public::read(&vec![0; MAX_OBJECT + 1]), Err(RecordError::TooLarge(MAX_OBJECT + 1)));
    let mut record = sample::record();
    record.public.images[1].bytes = 20_000 << 28;
    record.public.images[1].leaves = vec![Some(sample::name(1)); 20_000];
    record.private.working_set = vec![0; MAX_WORKING_SET];
    assert!(matches!(record.seal(&sample::parcel_key()), Err(RecordError::TooLarge(_))));
}
