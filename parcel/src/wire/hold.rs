//! What a holder of a lock shows beside every write: which store gave the lock, which epoch, and which acquisition.
//!
//! An epoch alone does not do: in a store that was restored from a backup, epochs repeat. A claim is drawn at random for
//! each acquisition, so it never does.

use crate::id::{Epoch, Generation, ParcelId, StoreId};
use serde::{Deserialize, Deserializer, Serialize, Serializer, de::Error as _};
use std::{fmt, str::FromStr};
use subtle::ConstantTimeEq as _;
use zeroize::Zeroizing;

/// The HTTP header that carries a [`Hold`].
pub const HEADER: &str = "waystation-hold";

/// Which store, and which line of its history.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct StoreIdentity {
    /// Drawn when the store was made.
    pub id: StoreId,
    /// Drawn anew when a backup was restored.
    pub generation: Generation,
}

impl fmt::Display for StoreIdentity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.id, self.generation)
    }
}

/// Text that is not a [`Claim`] or [`Hold`]. Says nothing of the text, which may be a secret.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a hold is written as STORE.GENERATION EPOCH CLAIM, with 32, 16 and 32 hexadecimal digits")]
pub struct BadHold;

/// Proves one acquisition of a lock: 128 random bits that the acquirer draws, so that asking again after a lost answer is
/// the same acquisition. Only the holder knows it; the server keeps its [`ClaimTag`].
#[derive(Clone)]
pub struct Claim(Zeroizing<[u8; 16]>);

impl Claim {
    /// From 16 bytes that the caller has drawn at random.
    pub fn from_bytes(bytes: [u8; 16]) -> Self {
        Self(Zeroizing::new(bytes))
    }

    /// As 32 hexadecimal digits, for the server and for the holder's own keeping.
    pub fn to_hex(&self) -> Zeroizing<String> {
        Zeroizing::new(hex::encode(*self.0))
    }

    /// The parcel that takes the work of this acquisition after it was broken, and the acquisition of that parcel: whoever has the
    /// claim makes the same one, also after it has forgotten that it was made.
    pub fn rescue(&self) -> (ParcelId, Self) {
        let derived = |use_| Zeroizing::new(blake3::derive_key(use_, self.0.as_slice()));
        let (mut id, mut claim) = ([0; 16], Zeroizing::new([0; 16]));
        id.copy_from_slice(&derived("waystation v1 rescue parcel id")[..16]);
        claim.copy_from_slice(&derived("waystation v1 rescue claim")[..16]);
        (ParcelId(id), Self(claim))
    }

    /// What others may know of it.
    pub fn tag(&self) -> ClaimTag {
        let whole = blake3::derive_key("waystation v1 lock claim tag", self.0.as_slice());
        let mut tag = [0; 16];
        tag.copy_from_slice(&whole[..16]);
        ClaimTag(tag)
    }
}

impl FromStr for Claim {
    type Err = BadHold;

    fn from_str(text: &str) -> Result<Self, BadHold> {
        let mut bytes = Zeroizing::new([0; 16]);
        crate::parse::hex_exact(text, bytes.as_mut_slice()).map_err(|()| BadHold)?;
        Ok(Self(bytes))
    }
}

impl PartialEq for Claim {
    fn eq(&self, other: &Self) -> bool {
        self.0.ct_eq(other.0.as_slice()).into()
    }
}

impl Eq for Claim {}

impl fmt::Debug for Claim {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Claim(…)")
    }
}

impl Serialize for Claim {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        to.serialize_str(&self.to_hex())
    }
}

impl<'de> Deserialize<'de> for Claim {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        Zeroizing::new(String::deserialize(from)?).parse().map_err(D::Error::custom)
    }
}

/// A claim's public name: from it nobody learns the claim, and whoever has the claim recognises it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct ClaimTag(pub [u8; 16]);

impl Serialize for ClaimTag {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        to.serialize_str(&hex::encode(self.0))
    }
}

impl<'de> Deserialize<'de> for ClaimTag {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        let text = String::deserialize(from)?;
        let mut bytes = [0; 16];
        crate::parse::hex_exact(&text, &mut bytes)
            .map_err(|()| D::Error::custom("a claim tag is 32 lower-case hexadecimal digits"))?;
        Ok(Self(bytes))
    }
}

/// A held lock, as its holder knows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Hold {
    /// The store that gave the lock.
    pub store: StoreIdentity,
    /// The epoch that it gave.
    pub epoch: Epoch,
    /// The acquisition.
    pub claim: Claim,
}

impl Hold {
    /// As the header [`HEADER`] has it.
    pub fn to_header(&self) -> Zeroizing<String> {
        Zeroizing::new(format!("{} {} {}", self.store, self.epoch, *self.claim.to_hex()))
    }
}

impl FromStr for Hold {
    type Err = BadHold;

    fn from_str(text: &str) -> Result<Self, BadHold> {
        let mut parts = text.split(' ');
        let mut next = || parts.next().ok_or(BadHold);
        let (store, epoch, claim) = (next()?, next()?, next()?);
        let (id, generation) = store.split_once('.').ok_or(BadHold)?;
        let store = StoreIdentity {
            id: id.parse().map_err(|_| BadHold)?,
            generation: generation.parse().map_err(|_| BadHold)?,
        };
        let hold = Self { store, epoch: Epoch(epoch.parse().map_err(|_| BadHold)?), claim: claim.parse()? };
        // One way to write it, so that nothing hides behind it.
        if *hold.to_header() == text { Ok(hold) } else { Err(BadHold) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hold() -> Hold {
        Hold {
            store: StoreIdentity { id: StoreId([1; 16]), generation: Generation([2; 8]) },
            epoch: Epoch(7),
            claim: Claim::from_bytes([0xab; 16]),
        }
    }

    #[test]
    fn a_hold_goes_round_and_nothing_else_is_one() {
        let text = hold().to_header();
        assert_eq!(text.parse(), Ok(hold()));
        for bad in
            ["", " ", &text[1..], &format!("{} ", *text), &text.to_uppercase(), &text.replace(" 7", " +7")]
        {
            assert_eq!(bad.parse::<Hold>(), Err(BadHold), "{bad:?}");
        }
    }

    #[test]
    fn a_claim_is_never_printed_and_its_tag_does_not_tell_it() {
        assert!(!format!("{:?}", hold()).contains("ab"), "{:?}", hold());
        let json = serde_json::to_string(&hold().claim).unwrap();
        assert_eq!(json, format!("{:?}", "ab".repeat(16)));
        assert_eq!(serde_json::from_str::<Claim>(&json).unwrap(), hold().claim);
        assert!(!serde_json::to_string(&hold().claim.tag()).unwrap().contains("abab"));
        assert_ne!(hold().claim.tag(), Claim::from_bytes([0xac; 16]).tag());
    }
}
