//! Chunks: round trips and refusals.

use crate::{oracle, sample};
use parcel::{
    chunk::{CHUNK_SIZE, LEVELS, MAX_SEALED, OpenError, Opener, SealError, Sealed, Sealer, open, seal},
    secret::{ChunkKey, Secret},
};
use proptest::{prelude::*, sample::Index};

/// Contents of any length and any compressibility.
fn plain() -> impl Strategy<Value = Vec<u8>> {
    (1..=CHUNK_SIZE, any::<u64>(), 0u8..=8).prop_map(|(len, seed, bits)| {
        let mut state = seed | 1;
        let mask = ((1u16 << bits) - 1) as u8;
        (0..len)
            .map(|_| {
                state ^= state << 13;
                state ^= state >> 7;
                state ^= state << 17;
                (state >> 32) as u8 & mask
            })
            .collect()
    })
}

fn sealed(plain: &[u8]) -> Sealed {
    seal(&sample::secret(), plain, 3).unwrap()
}

fn reopen(chunk: &Sealed) -> Result<Vec<u8>, OpenError> {
    open(&sample::secret(), &chunk.name, &chunk.key, &chunk.bytes)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn goes_round(plain in plain(), level in 1i32..=6) {
        let chunk = seal(&sample::secret(), &plain, level).unwrap();
        prop_assert!(chunk.bytes.len() <= MAX_SEALED);
        prop_assert!(chunk.bytes.len() <= plain.len() + 17, "sealing adds a codec byte and a tag at most");
        prop_assert_eq!(parcel::chunk::name_of(&chunk.bytes), chunk.name);
        prop_assert!(reopen(&chunk).unwrap() == plain);
    }

    #[test]
    fn objects_and_buffers_used_again_change_nothing(plains in prop::collection::vec(plain(), 1..5)) {
        let (mut sealer, mut opener) = (Sealer::new().unwrap(), Opener::new());
        let (mut bytes, mut out) = (vec![1, 2, 3], vec![4; 200_000]);
        for plain in plains {
            let (name, key) = sealer.seal_into(&sample::secret(), &plain, 1, &mut bytes).unwrap();
            prop_assert_eq!(&seal(&sample::secret(), &plain, 1).unwrap(), &Sealed { name, key: key.clone(), bytes: bytes.clone() });
            opener.open_into(&sample::secret(), &name, &key, &bytes, &mut out).unwrap();
            prop_assert!(out == plain);
        }
    }

    #[test]
    fn a_flipped_bit_is_refused_by_its_name(plain in plain(), at: Index, bit in 0u8..8) {
        let mut chunk = sealed(&plain);
        let at = at.index(chunk.bytes.len());
        chunk.bytes[at] ^= 1 << bit;
        prop_assert_eq!(reopen(&chunk), Err(OpenError::Name));
    }

    #[test]
    fn a_flipped_bit_under_a_name_that_fits_is_refused_by_its_tag(plain in plain(), at: Index, bit in 0u8..8) {
        let mut chunk = sealed(&plain);
        let at = at.index(chunk.bytes.len());
        chunk.bytes[at] ^= 1 << bit;
        chunk.name = parcel::chunk::name_of(&chunk.bytes);
        prop_assert_eq!(reopen(&chunk), Err(OpenError::Tag));
    }

    #[test]
    fn a_cut_or_longer_chunk_is_refused(plain in plain(), len: Index, extra: u8) {
        let mut chunk = sealed(&plain);
        let whole = chunk.bytes.clone();
        chunk.bytes.truncate(len.index(whole.len()));
        let short = reopen(&chunk).unwrap_err();
        prop_assert!(matches!(short, OpenError::Size(_) | OpenError::Name), "{short:?}");
        chunk.bytes = whole;
        chunk.bytes.push(extra);
        let long = reopen(&chunk).unwrap_err();
        prop_assert!(matches!(long, OpenError::Size(_) | OpenError::Name), "{long:?}");
    }

    /// Two compression levels make two bodies; each has a key of its own, so no key meets its nonce twice.
    #[test]
    fn different_bodies_have_different_keys(plain in plain()) {
        let (fast, small) = (seal(&sample::secret(), &plain, 1).unwrap(), seal(&sample::secret(), &plain, 6).unwrap());
        prop_assert_eq!(fast.bytes == small.bytes, fast.key == small.key);
    }

    #[test]
    fn agrees_with_the_document(plain in plain()) {
        let chunk = sealed(&plain);
        let raw = [&[0], &plain[..]].concat();
        let packed = [&[1], &zstd::bulk::compress(&plain, 3).unwrap()[..]].concat();
        let body = if packed.len() < raw.len() { packed } else { raw };
        let (name, key, bytes) = oracle::chunk(&sample::secret(), &body);
        prop_assert_eq!(chunk, Sealed { name, key, bytes });
    }
}

/// A body of which the decompressor makes much more than a chunk.
fn bomb() -> Vec<u8> {
    [&[1], &zstd::bulk::compress(&vec![0; 64 << 20], 1).unwrap()[..]].concat()
}

/// A bomb of which no header says how large it is.
fn quiet_bomb() -> Vec<u8> {
    let mut encoder = zstd::stream::Encoder::new(vec![1], 1).unwrap();
    encoder.include_contentsize(false).unwrap();
    std::io::copy(&mut std::io::Read::take(std::io::repeat(0), 64 << 20), &mut encoder).unwrap();
    encoder.finish().unwrap()
}

fn open_body(body: &[u8]) -> Result<Vec<u8>, OpenError> {
    let (name, key, bytes) = oracle::chunk(&sample::secret(), body);
    open(&sample::secret(), &name, &key, &bytes)
}

#[test]
fn a_decompression_bomb_is_refused() {
    assert_eq!(open_body(&bomb()), Err(OpenError::Bomb));
    assert_eq!(open_body(&quiet_bomb()), Err(OpenError::Bomb));
    let one_too_many = zstd::bulk::compress(&vec![7; CHUNK_SIZE + 1], 1).unwrap();
    assert_eq!(open_body(&[&[1], &one_too_many[..]].concat()), Err(OpenError::Bomb));
    let full = zstd::bulk::compress(&vec![7; CHUNK_SIZE], 1).unwrap();
    assert!(open_body(&[&[1], &full[..]].concat()).unwrap() == vec![7; CHUNK_SIZE]);
    let (a, b) = (zstd::bulk::compress(&[7; 100], 1).unwrap(), &full);
    assert!(open_body(&[&[1], &a[..], b].concat()).is_err(), "two frames are one chunk too long");
}

#[test]
fn no_refusal_after_the_fact_leaves_plaintext() {
    let (name, key, bytes) = oracle::chunk(&sample::secret(), &quiet_bomb());
    let mut out = vec![9; 10];
    let refused = Opener::new().open_into(&sample::secret(), &name, &key, &bytes, &mut out);
    assert_eq!((refused, out.len()), (Err(OpenError::Bomb), 0));
}

#[test]
fn what_does_not_decompress_is_told_apart() {
    assert_eq!(open_body(&[2, 1, 2, 3]), Err(OpenError::Codec(2)));
    assert_eq!(open_body(&[255, 1]), Err(OpenError::Codec(255)));
    assert_eq!(open_body(&[1, 1, 2, 3]), Err(OpenError::Corrupt));
    let frame = zstd::bulk::compress(&[5; 1000], 1).unwrap();
    assert_eq!(open_body(&[&[1], &frame[..frame.len() - 1]].concat()), Err(OpenError::Corrupt));
    let empty = zstd::bulk::compress(&[], 1).unwrap();
    assert_eq!(open_body(&[&[1], &empty[..]].concat()), Err(OpenError::Bomb));
    assert_eq!(open_body(&[0]), Err(OpenError::Size(17)));
}

/// Were the decompressor reached, each of these would end as `Bomb`, `Corrupt` or `Codec`: that they end otherwise shows that it
/// was not.
#[test]
fn everything_is_refused_before_the_decompressor_is_reached() {
    let secret = sample::secret();
    for body in [bomb(), quiet_bomb(), vec![1, 1, 2, 3], vec![2, 1, 2, 3]] {
        let (name, key, bytes) = oracle::chunk(&secret, &body);
        let codec_error = open(&secret, &name, &key, &bytes).unwrap_err();
        assert!(!codec_error.other_source_may_help(), "{codec_error:?}");

        let other_name = sample::name(1);
        assert_eq!(open(&secret, &other_name, &key, &bytes), Err(OpenError::Name));
        let other_key = ChunkKey::from_bytes(sample::bytes32(77));
        assert_eq!(open(&secret, &name, &other_key, &bytes), Err(OpenError::Tag));
        let other_secret = Secret::from_bytes(sample::bytes32(78));
        assert_eq!(open(&other_secret, &name, &key, &bytes), Err(OpenError::KeyMismatch));
        // Somebody who knows a chunk's key, but not the secret, seals something else under it.
        let (forged_name, forged) = oracle::forged_chunk(&sealed(b"good").key, &body);
        let refused = open(&secret, &forged_name, &sealed(b"good").key, &forged);
        assert_eq!(refused, Err(OpenError::KeyMismatch));
    }
}

#[test]
fn a_chunk_under_anothers_name_or_key_is_refused() {
    let (a, b) = (sealed(b"one chunk"), sealed(b"another chunk"));
    let swapped = open(&sample::secret(), &a.name, &a.key, &b.bytes);
    assert_eq!(swapped, Err(OpenError::Name));
    let wrong_key = open(&sample::secret(), &b.name, &a.key, &b.bytes);
    assert_eq!(wrong_key, Err(OpenError::Tag));
    assert!(swapped.unwrap_err().other_source_may_help() && wrong_key.unwrap_err().other_source_may_help());
}

#[test]
fn another_secret_makes_another_chunk() {
    let other = Secret::from_bytes(sample::bytes32(78));
    let (ours, theirs) = (sealed(b"the same"), seal(&other, b"the same", 3).unwrap());
    assert_ne!(ours.key, theirs.key);
    assert_ne!(ours.name, theirs.name);
    let refused = open(&sample::secret(), &theirs.name, &theirs.key, &theirs.bytes);
    assert_eq!(refused, Err(OpenError::KeyMismatch));
}

#[test]
fn sizes_and_levels_have_bounds() {
    let secret = sample::secret();
    assert_eq!(seal(&secret, &[], 3).unwrap_err(), SealError::Size(0));
    assert_eq!(seal(&secret, &vec![0; CHUNK_SIZE + 1], 3).unwrap_err(), SealError::Size(CHUNK_SIZE + 1));
    assert_eq!(seal(&secret, b"x", 0).unwrap_err(), SealError::Level(0));
    assert_eq!(seal(&secret, b"x", 23).unwrap_err(), SealError::Level(23));
    for level in [*LEVELS.start(), 19, *LEVELS.end(), 1] {
        assert_eq!(reopen(&seal(&secret, b"x", level).unwrap()).unwrap(), b"x");
    }
    let noise: Vec<u8> = blake3::Hasher::new().finalize_xof_bytes(CHUNK_SIZE);
    let full = sealed(&noise);
    assert_eq!(full.bytes.len(), MAX_SEALED, "a chunk that does not compress is stored raw");
    assert!(reopen(&full).unwrap() == noise);
}

/// Noise of any length.
trait Noise {
    fn finalize_xof_bytes(&self, len: usize) -> Vec<u8>;
}

impl Noise for blake3::Hasher {
    fn finalize_xof_bytes(&self, len: usize) -> Vec<u8> {
        let mut bytes = vec![0; len];
        self.finalize_xof().fill(&mut bytes);
        bytes
    }
}
