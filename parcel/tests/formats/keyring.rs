//! Keyring leaves: round trips, binding, refusals.

use crate::{oracle, sample};
use parcel::{
    chunk::name_of,
    id::{ChunkName, ParcelId},
    keyring::{
        ChunkRef, ImageKind, LEAF_REFS, Leaf, LeafError, Object, PublicLeaf, leaves_for, locate, public_names,
    },
    secret::{ChunkKey, ParcelKey},
};
use proptest::{collection::vec, prelude::*, sample::Index};

fn leaf() -> impl Strategy<Value = Leaf> {
    let one = (any::<[u8; 20]>(), any::<[u8; 32]>(), any::<u8>()).prop_map(|(name, key, secret)| ChunkRef {
        name: ChunkName(name),
        key: ChunkKey::from_bytes(key),
        secret,
    });
    let any_leaf = vec(prop::option::of(one), 0..200).prop_map(|refs| Leaf { refs });
    // Full leaves are slow to draw at random: they repeat a short one.
    any_leaf.prop_flat_map(|leaf| {
        (Just(leaf), any::<bool>()).prop_map(|(mut leaf, full)| {
            if full && !leaf.refs.is_empty() {
                leaf.refs = leaf.refs.iter().cycle().take(LEAF_REFS).cloned().collect();
            }
            leaf
        })
    })
}

fn image() -> impl Strategy<Value = ImageKind> {
    prop::sample::select(&ImageKind::ALL[..])
}

fn sealed(leaf: &Leaf) -> Object {
    leaf.seal(&sample::parcel_key(), &sample::parcel_id(), ImageKind::Disk, 3).unwrap()
}

fn reopen(bytes: &[u8]) -> Result<Leaf, LeafError> {
    Leaf::open(bytes, &sample::parcel_key(), &sample::parcel_id(), ImageKind::Disk, 3)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn goes_round(leaf in leaf(), key: [u8; 32], parcel: [u8; 16], image in image(), index: u32) {
        let (key, parcel) = (ParcelKey::from_bytes(key), ParcelId(parcel));
        let object = leaf.seal(&key, &parcel, image, index).unwrap();
        prop_assert_eq!(object.name, name_of(&object.bytes));
        prop_assert!(object.bytes.len() < parcel::MAX_OBJECT);
        prop_assert_eq!(&Leaf::open(&object.bytes, &key, &parcel, image, index).unwrap(), &leaf);
        let names: Vec<_> = leaf.refs.iter().flatten().map(|one| one.name).collect();
        prop_assert_eq!(public_names(&object.bytes).unwrap(), names);
        let public = PublicLeaf::read(&object.bytes).unwrap();
        prop_assert_eq!((public.image, public.index, public.names.len()), (image, index, leaf.refs.len()));
    }

    #[test]
    fn any_flipped_bit_is_refused(leaf in leaf(), at: Index, bit in 0u8..8) {
        let mut bytes = sealed(&leaf).bytes;
        let at = at.index(bytes.len());
        bytes[at] ^= 1 << bit;
        let error = reopen(&bytes).unwrap_err();
        let right = match at {
            0..6 => matches!(error, LeafError::Malformed),
            6..8 => matches!(error, LeafError::Malformed | LeafError::Format(_)),
            8..13 => matches!(error, LeafError::Place { .. } | LeafError::Malformed),
            13..15 => matches!(error, LeafError::Malformed | LeafError::TooMany(_) | LeafError::Sealed),
            // A bit of the bitmap moves the end of the public part; all that follows only the sealing can tell.
            at if at < 15 + leaf.refs.len().div_ceil(8) => matches!(error, LeafError::Malformed),
            _ => matches!(error, LeafError::Sealed),
        };
        prop_assert!(right, "byte {at}: {error:?}");
    }

    #[test]
    fn a_cut_or_longer_leaf_is_refused(leaf in leaf(), len: Index, extra: u8) {
        let mut bytes = sealed(&leaf).bytes;
        prop_assert_eq!(reopen(&bytes[..len.index(bytes.len())]), Err(LeafError::Malformed));
        bytes.push(extra);
        prop_assert_eq!(reopen(&bytes), Err(LeafError::Malformed));
    }

    /// No random number: an unchanged leaf keeps its name, a changed one gets another message key.
    #[test]
    fn sealing_is_deterministic(leaf in leaf(), at: Index, secret: u8) {
        let first = sealed(&leaf);
        prop_assert_eq!(&sealed(&leaf), &first);
        let mut other = leaf.clone();
        if !other.refs.is_empty() {
            let at = at.index(other.refs.len());
            if let Some(one) = &mut other.refs[at] {
                one.secret = secret;
                let salt = |object: &Object| object.bytes[object.bytes.len() - sealed_len(&leaf)..][..32].to_vec();
                prop_assert_eq!(salt(&sealed(&other)) == salt(&first), other == leaf);
            }
        }
    }

    #[test]
    fn agrees_with_the_document(leaf in leaf()) {
        let mut bytes = b"wsleaf\x01\0".to_vec();
        bytes.push(0);
        bytes.extend(3u32.to_le_bytes());
        bytes.extend((leaf.refs.len() as u16).to_le_bytes());
        let mut bitmap = vec![0u8; leaf.refs.len().div_ceil(8)];
        let mut plain = Vec::new();
        let mut names = Vec::new();
        for (i, one) in leaf.refs.iter().enumerate() {
            if let Some(one) = one {
                bitmap[i / 8] |= 1 << (i % 8);
                names.extend(one.name.0);
                plain.extend(one.key.expose());
                plain.push(one.secret);
            }
        }
        bytes.extend(bitmap);
        bytes.extend(names);
        let parcel = sample::parcel_id();
        let aad: [&[u8]; 2] = [parcel.as_bytes(), &bytes];
        let sealed_part = oracle::envelope(sample::parcel_key().expose(), "keyring leaf", &aad, &plain);
        bytes.extend(sealed_part);
        prop_assert!(sealed(&leaf).bytes == bytes);
    }
}

fn sealed_len(leaf: &Leaf) -> usize {
    leaf.refs.iter().flatten().count() * 33 + 48
}

#[test]
fn a_leaf_opens_at_its_place_only() {
    let bytes = sealed(&sample::leaf()).bytes;
    let (key, parcel) = (sample::parcel_key(), sample::parcel_id());
    let place = Err(LeafError::Place { image: ImageKind::Disk, index: 3 });
    assert!(Leaf::open(&bytes, &key, &parcel, ImageKind::Disk, 3).is_ok());
    assert_eq!(Leaf::open(&bytes, &key, &parcel, ImageKind::Disk, 4), place);
    assert_eq!(Leaf::open(&bytes, &key, &parcel, ImageKind::Packs, 3), place);
    let other = ParcelId([1; 16]);
    assert_eq!(Leaf::open(&bytes, &key, &other, ImageKind::Disk, 3), Err(LeafError::Sealed));
    let other = ParcelKey::from_bytes([1; 32]);
    assert_eq!(Leaf::open(&bytes, &other, &parcel, ImageKind::Disk, 3), Err(LeafError::Sealed));
}

/// The place in the public part, changed together with the question, is still refused: it is authenticated.
#[test]
fn a_relabelled_leaf_is_refused() {
    let mut bytes = sealed(&sample::leaf()).bytes;
    bytes[9] = 4;
    let refused = Leaf::open(&bytes, &sample::parcel_key(), &sample::parcel_id(), ImageKind::Disk, 4);
    assert_eq!(refused, Err(LeafError::Sealed));
}

#[test]
fn too_many_references_are_refused() {
    let leaf = Leaf { refs: vec![None; LEAF_REFS + 1] };
    let refused = leaf.seal(&sample::parcel_key(), &sample::parcel_id(), ImageKind::Disk, 0);
    assert_eq!(refused, Err(LeafError::TooMany(LEAF_REFS + 1)));
}

#[test]
fn a_newer_format_is_named() {
    let mut bytes = sealed(&sample::leaf()).bytes;
    bytes[6] = 2;
    assert_eq!(reopen(&bytes), Err(LeafError::Format(2)));
    assert_eq!(public_names(&bytes), Err(LeafError::Format(2)));
}

#[test]
fn images_are_counted_in_chunks_and_leaves() {
    assert_eq!([0, 1, 131_072 * 2048, 131_072 * 2048 + 1].map(leaves_for), [0, 1, 1, 2]);
    assert_eq!(leaves_for(100 << 30), 400);
    assert_eq!([0, 2047, 2048, 5000].map(locate), [(0, 0), (0, 2047), (1, 0), (2, 904)]);
}
