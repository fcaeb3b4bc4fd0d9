//! What shows, for the length of a session, whether a password opens the computer in use: without the server, and without
//! the client engine.

use super::{Hex, Slot, Slots};
use crate::secret::ParcelKey;
use serde::{Deserialize, Serialize};
use std::fmt;
use subtle::ConstantTimeEq;
use zeroize::{Zeroize, Zeroizing};

/// For what the mark of a key is derived.
const MARK: &str = "waystation v1 mark of the parcel key in use";

/// A parcel's key slots as the session opened them, and a mark of the key in use. Neither a password nor the key can be had
/// from it but by guessing the password at Argon2id's price. It is wiped when it is dropped, and prints nothing.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Proof {
    slots: Slots,
    mark: Hex<32>,
}

impl Proof {
    /// For the session that uses `key`.
    pub fn new(slots: Slots, key: &ParcelKey) -> Self {
        Self { slots, mark: Hex(*mark(key)) }
    }

    /// The slots that a password has to open.
    pub fn slots(&self) -> &Slots {
        &self.slots
    }

    /// `true` when what a slot gave is the key in use. The slots came from the server, which may be against the user.
    pub fn is_of(&self, key: &ParcelKey) -> bool {
        self.mark.0.ct_eq(mark(key).as_slice()).into()
    }

    /// `true` when the other one is of the same key.
    pub fn same_key(&self, other: &Self) -> bool {
        self.mark.0.ct_eq(other.mark.0.as_slice()).into()
    }
}

fn mark(key: &ParcelKey) -> Zeroizing<[u8; 32]> {
    Zeroizing::new(blake3::derive_key(MARK, key.expose()))
}

impl Drop for Proof {
    fn drop(&mut self) {
        for slot in &mut self.slots.slots {
            match slot {
                Slot::Password { salt, sealed, .. } => {
                    salt.0.zeroize();
                    sealed.0.zeroize();
                }
                Slot::Recovery { sealed } => sealed.0.zeroize(),
            }
        }
        self.mark.0.zeroize();
    }
}

impl fmt::Debug for Proof {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Proof(…)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{id::ParcelId, slot::Argon2Cost};

    #[test]
    fn it_tells_the_key_in_use_from_another_and_holds_neither_key_nor_password() {
        let (parcel, key) = (ParcelId([7; 16]), ParcelKey::from_bytes([9; 32]));
        let mut slots = Slots::default();
        let cheap = Argon2Cost { memory_kib: 8, passes: 1, lanes: 1 };
        slots.set_password(b"a password", &key, &parcel, [1; 16], cheap).unwrap();
        let proof = Proof::new(slots, &key);
        assert_eq!(format!("{proof:?}"), "Proof(…)");
        let json = serde_json::to_string(&proof).unwrap();
        assert!(!json.contains(&*key.to_hex()) && !json.contains("a password"), "{json}");
        let read: Proof = serde_json::from_str(&json).unwrap();
        assert!(read == proof && read.is_of(&key) && !read.is_of(&ParcelKey::from_bytes([8; 32])));
        assert!(read.same_key(&Proof::new(Slots::default(), &key)));
        assert!(!read.same_key(&Proof::new(read.slots().clone(), &ParcelKey::from_bytes([8; 32]))));
        assert_eq!(read.slots().open_password(b"a password", &parcel), Ok(key));
    }
}
