//! The head of the journal in which a kiosk keeps a session's changes while they are not home: the session's key, and what else
//! a restarted engine has to know, sealed under the parcel key. It never leaves the kiosk and does not outlive a session.
//!
//! `"wschange" ‖ parcel id (16) ‖ length of what follows (u32) ‖ sealed (session key (32) ‖ note)`

use crate::{
    envelope,
    id::ParcelId,
    parse::Reader,
    secret::{ParcelKey, Secret},
};
use zeroize::Zeroizing;

const MAGIC: &[u8; 8] = b"wschange";
/// The longest note, in bytes.
const MAX_NOTE: usize = 64 << 10;
/// The longest head, in bytes.
pub const MAX_HEAD: usize = MAGIC.len() + 20 + 32 + MAX_NOTE + envelope::OVERHEAD;

/// The bytes are no such head, or it does not open with this key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum HeadError {
    /// Not all of one.
    #[error("the head of the kept changes is damaged")]
    Malformed,
    /// Of another parcel.
    #[error("the kept changes are of another computer")]
    Parcel,
    /// Damaged, or sealed under another parcel key.
    #[error("the kept changes do not open with this computer's key")]
    Sealed,
}

/// A journal's head.
pub struct Head {
    /// The session's key.
    pub key: Secret,
    /// What the engine wrote for its successor.
    pub note: Zeroizing<Vec<u8>>,
}

impl Head {
    /// Seals it.
    pub fn seal(&self, key: &ParcelKey, parcel: &ParcelId) -> Vec<u8> {
        let mut plain = Zeroizing::new(self.key.expose().to_vec());
        plain.extend_from_slice(&self.note);
        let mut bytes = MAGIC.to_vec();
        bytes.extend_from_slice(&parcel.0);
        let sealed = plain.len() + envelope::OVERHEAD;
        bytes.extend_from_slice(&(sealed as u32).to_le_bytes());
        let clear = bytes.clone();
        envelope::seal(key.expose(), envelope::CHANGES, &[&clear], &plain, &mut bytes);
        bytes
    }

    /// Opens the head that `bytes` begin with; tells its length.
    ///
    /// # Errors
    /// Any bit of it is different, or the parcel or its key.
    pub fn open(bytes: &[u8], key: &ParcelKey, parcel: &ParcelId) -> Result<(Self, usize), HeadError> {
        let mut reader = Reader::new(bytes);
        let short = |_| HeadError::Malformed;
        if reader.array().map_err(short)? != *MAGIC {
            return Err(HeadError::Malformed);
        }
        if reader.array().map_err(short)? != parcel.0 {
            return Err(HeadError::Parcel);
        }
        let len = reader.u32().map_err(short)? as usize;
        if len > 32 + MAX_NOTE + envelope::OVERHEAD {
            return Err(HeadError::Malformed);
        }
        let sealed = reader.take(len).map_err(short)?;
        let clear = &bytes[..MAGIC.len() + 20];
        let plain = envelope::open(key.expose(), envelope::CHANGES, &[clear], sealed)
            .map_err(|_| HeadError::Sealed)?;
        let (session, note) = plain.split_first_chunk().ok_or(HeadError::Malformed)?;
        let head = Self { key: Secret::from_bytes(*session), note: Zeroizing::new(note.to_vec()) };
        Ok((head, clear.len() + len))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_head_opens_with_its_key_only_and_whole() {
        let (parcel, key) = (ParcelId([7; 16]), ParcelKey::from_bytes([9; 32]));
        let head = Head { key: Secret::from_bytes([3; 32]), note: Zeroizing::new(b"a note".to_vec()) };
        let mut bytes = head.seal(&key, &parcel);
        assert!(!bytes.windows(6).any(|window| window == b"a note" || window == [3; 6]));
        let whole = bytes.len();
        bytes.extend_from_slice(b"entries");
        let (opened, len) = Head::open(&bytes, &key, &parcel).unwrap();
        assert_eq!((opened.key, opened.note.as_slice(), len), (head.key, &b"a note"[..], whole));
        assert_eq!(
            Head::open(&bytes, &ParcelKey::from_bytes([8; 32]), &parcel).err(),
            Some(HeadError::Sealed)
        );
        assert_eq!(Head::open(&bytes, &key, &ParcelId([8; 16])).err(), Some(HeadError::Parcel));
        for at in 0..whole {
            let mut changed = bytes.clone();
            changed[at] ^= 1;
            assert!(Head::open(&changed, &key, &parcel).is_err(), "byte {at}");
            assert!(Head::open(&bytes[..at], &key, &parcel).is_err(), "{at} bytes");
        }
    }
}
