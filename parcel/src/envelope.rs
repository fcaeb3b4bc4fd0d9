//! Deterministic sealing under a long-lived key, without a random number generator.
//!
//! `sealed = salt (32) ‖ AES-256-GCM(message key, nonce 0, plain, AAD digest) ‖ tag (16)` with
//!
//! * `AAD digest = BLAKE3(length-prefixed parts)`,
//! * `salt = BLAKE3-keyed(salt key, AAD digest ‖ plain)`, the synthetic nonce of SIV (Rogaway and Shrimpton 2006),
//! * `message key = BLAKE3-keyed(message-key key, salt)`.
//!
//! The salt key and the message-key key are derived from the parent key by BLAKE3's `derive_key` with contexts
//! of their own, one pair for each [`Purpose`]. A message key follows from AAD and plaintext, so it seals one message only
//! and its nonce may be constant. Opening recomputes the salt: what opens is exactly what was sealed.

use crate::parse::Reader;
use aes_gcm::{Aes256Gcm, KeyInit, Nonce, aead::AeadInOut, aead::inout::InOutBuf};
use subtle::ConstantTimeEq;
use zeroize::Zeroizing;

/// Bytes that sealing adds.
pub(crate) const OVERHEAD: usize = SALT + TAG;
/// Bytes of the salt.
const SALT: usize = 32;
/// Bytes of the authentication tag.
pub(crate) const TAG: usize = 16;

/// Not what was sealed under this key with this associated data.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Refused;

/// What a key is used for; keys of different purposes have nothing to do with each other.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Purpose {
    salt: &'static str,
    message: &'static str,
}

/// Keyring leaves, under the parcel key.
pub(crate) const LEAF: Purpose =
    Purpose { salt: "waystation v1 keyring leaf salt", message: "waystation v1 keyring leaf message key" };
/// Version records, under the parcel key.
pub(crate) const RECORD: Purpose = Purpose {
    salt: "waystation v1 version record salt",
    message: "waystation v1 version record message key",
};
/// Heads of journals of changes, under the parcel key.
pub(crate) const CHANGES: Purpose =
    Purpose { salt: "waystation v1 changes head salt", message: "waystation v1 changes head message key" };
/// The parcel key, under what a password is stretched to.
pub(crate) const PASSWORD: Purpose =
    Purpose { salt: "waystation v1 password slot salt", message: "waystation v1 password slot message key" };
/// The parcel key, under the recovery key.
pub(crate) const RECOVERY: Purpose =
    Purpose { salt: "waystation v1 recovery slot salt", message: "waystation v1 recovery slot message key" };

/// Appends the sealed form of `plain` to `out`.
pub(crate) fn seal(parent: &[u8; 32], purpose: Purpose, aad: &[&[u8]], plain: &[u8], out: &mut Vec<u8>) {
    let digest = aad_digest(aad);
    let salt = salt(parent, purpose, &digest, plain);
    out.reserve(plain.len() + OVERHEAD);
    out.extend_from_slice(salt.as_bytes());
    let start = out.len();
    out.extend_from_slice(plain);
    let tag = cipher(parent, purpose, salt.as_bytes())
        .encrypt_inout_detached(&Nonce::default(), &digest, InOutBuf::from(&mut out[start..]))
        .expect("objects are far below the 64 GiB that AES-GCM can take");
    out.extend_from_slice(&tag);
}

/// The plaintext, if `sealed` is what [`seal`] made of it with the same key, purpose and associated data.
pub(crate) fn open(
    parent: &[u8; 32],
    purpose: Purpose,
    aad: &[&[u8]],
    sealed: &[u8],
) -> Result<Zeroizing<Vec<u8>>, Refused> {
    let digest = aad_digest(aad);
    let mut reader = Reader::new(sealed);
    let stored = reader.array::<SALT>().map_err(|_| Refused)?;
    let (data, tag) = reader.rest().split_last_chunk::<TAG>().ok_or(Refused)?;
    let mut plain = Zeroizing::new(data.to_vec());
    cipher(parent, purpose, &stored)
        .decrypt_inout_detached(
            &Nonce::default(),
            &digest,
            InOutBuf::from(plain.as_mut_slice()),
            &(*tag).into(),
        )
        .map_err(|_| Refused)?;
    let fresh = salt(parent, purpose, &digest, &plain);
    if bool::from(fresh.as_bytes().ct_eq(&stored)) { Ok(plain) } else { Err(Refused) }
}

fn aad_digest(parts: &[&[u8]]) -> [u8; 32] {
    let mut hasher = blake3::Hasher::new();
    for part in parts {
        hasher.update(&(part.len() as u64).to_le_bytes()).update(part);
    }
    *hasher.finalize().as_bytes()
}

fn salt(parent: &[u8; 32], purpose: Purpose, digest: &[u8; 32], plain: &[u8]) -> blake3::Hash {
    let key = Zeroizing::new(blake3::derive_key(purpose.salt, parent));
    let mut hasher = Zeroizing::new(blake3::Hasher::new_keyed(&key));
    hasher.update(digest).update(plain);
    hasher.finalize()
}

fn cipher(parent: &[u8; 32], purpose: Purpose, salt: &[u8; SALT]) -> Aes256Gcm {
    let parent = Zeroizing::new(blake3::derive_key(purpose.message, parent));
    let key = Zeroizing::new(blake3::keyed_hash(&parent, salt));
    Aes256Gcm::new(key.as_bytes().into())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn sealed(aad: &[&[u8]], plain: &[u8]) -> Vec<u8> {
        let mut out = Vec::new();
        seal(&[9; 32], LEAF, aad, plain, &mut out);
        out
    }

    proptest! {
        #[test]
        fn goes_round(plain: Vec<u8>, a: Vec<u8>, b: Vec<u8>) {
            let bytes = sealed(&[&a, &b], &plain);
            prop_assert_eq!(bytes.len(), plain.len() + OVERHEAD);
            let opened = open(&[9; 32], LEAF, &[&a, &b], &bytes).unwrap();
            prop_assert_eq!(opened.as_slice(), plain.as_slice());
        }

        #[test]
        fn any_flipped_bit_is_refused(plain: Vec<u8>, at: prop::sample::Index, bit in 0u8..8) {
            let mut bytes = sealed(&[b"aad"], &plain);
            let at = at.index(bytes.len());
            bytes[at] ^= 1 << bit;
            prop_assert_eq!(open(&[9; 32], LEAF, &[b"aad"], &bytes), Err(Refused));
        }
    }

    #[test]
    fn key_purpose_and_associated_data_bind() {
        let bytes = sealed(&[b"ab", b"c"], b"plain");
        assert!(open(&[9; 32], LEAF, &[b"ab", b"c"], &bytes).is_ok());
        assert_eq!(open(&[8; 32], LEAF, &[b"ab", b"c"], &bytes), Err(Refused));
        assert_eq!(open(&[9; 32], RECORD, &[b"ab", b"c"], &bytes), Err(Refused));
        assert_eq!(open(&[9; 32], LEAF, &[b"a", b"bc"], &bytes), Err(Refused));
        assert_eq!(open(&[9; 32], LEAF, &[b"ab"], &bytes), Err(Refused));
    }

    #[test]
    fn the_same_is_sealed_to_the_same_and_anything_else_under_another_salt() {
        let salt = |aad: &[&[u8]], plain: &[u8]| sealed(aad, plain)[..SALT].to_vec();
        assert_eq!(sealed(&[b"a"], b"p"), sealed(&[b"a"], b"p"));
        assert_ne!(salt(&[b"a"], b"p"), salt(&[b"a"], b"q"));
        assert_ne!(salt(&[b"a"], b"p"), salt(&[b"b"], b"p"));
    }

    /// Who has the key can make AES-GCM accept any message under any salt; only the salt that belongs to it opens.
    #[test]
    fn a_message_under_another_salt_is_refused() {
        let (digest, salt) = (aad_digest(&[b"aad"]), [7; SALT]);
        let mut plain = *b"plain";
        let tag = cipher(&[9; 32], LEAF, &salt)
            .encrypt_inout_detached(&Nonce::default(), &digest, InOutBuf::from(&mut plain[..]))
            .unwrap();
        let forged = [&salt[..], &plain, &tag].concat();
        assert_eq!(open(&[9; 32], LEAF, &[b"aad"], &forged), Err(Refused));
    }

    #[test]
    fn short_input_is_refused() {
        for len in 0..OVERHEAD {
            assert_eq!(open(&[9; 32], LEAF, &[], &vec![0; len]), Err(Refused));
        }
    }
}
