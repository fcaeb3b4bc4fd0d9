//! Names and counters that must not be mixed up with bare bytes and integers.

use serde::{Deserialize, Deserializer, Serialize, Serializer, de::Error as _};
use std::{fmt, str::FromStr};

/// A string that is not the lower-case hexadecimal form of the identifier expected.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{what} is {want} hexadecimal digits, not {got:?}")]
pub struct BadId {
    what: &'static str,
    want: usize,
    got: String,
}

macro_rules! hex_id {
    ($(#[$doc:meta])* $name:ident, $len:literal, $what:literal) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(pub [u8; $len]);

        impl $name {
            /// The raw bytes.
            pub fn as_bytes(&self) -> &[u8; $len] {
                &self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&hex::encode(self.0))
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "{}({self})", stringify!($name))
            }
        }

        impl FromStr for $name {
            type Err = BadId;

            fn from_str(text: &str) -> Result<Self, BadId> {
                let mut bytes = [0; $len];
                let lower = text.bytes().all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b));
                if !lower || hex::decode_to_slice(text, &mut bytes).is_err() {
                    let got = text.chars().take(2 * $len + 1).collect();
                    return Err(BadId { what: $what, want: 2 * $len, got });
                }
                Ok(Self(bytes))
            }
        }

        impl Serialize for $name {
            fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
                to.collect_str(self)
            }
        }

        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
                String::deserialize(from)?.parse().map_err(D::Error::custom)
            }
        }
    };
}

hex_id!(
    /// SHA-1 of a sealed object: only a name, nothing trusts it.
    ChunkName, 20, "a chunk name"
);
hex_id!(
    /// Names a parcel; chosen at random by whoever creates it.
    ParcelId, 16, "a parcel id"
);
hex_id!(
    /// Names a store of parcels; drawn at random when the store is made, and kept by every copy of it.
    StoreId, 16, "a store id"
);
hex_id!(
    /// One line of a store's history: drawn anew when a backup is put in the store's place.
    Generation, 8, "a store generation"
);
hex_id!(
    /// One boot of a kiosk, or one run of a command: unlike the name of either, it never repeats.
    BootId, 16, "a boot id"
);
hex_id!(
    /// BLAKE3 of a sealed version record.
    RecordHash, 32, "a record hash"
);

impl RecordHash {
    /// Of a sealed record.
    pub fn of(record: &[u8]) -> Self {
        Self(*blake3::hash(record).as_bytes())
    }
}

macro_rules! counter {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize)]
        #[serde(transparent)]
        pub struct $name(pub u64);

        impl $name {
            /// The one after this. The last is its own: who was sent it by a liar does not start again at 0.
            #[must_use]
            pub fn next(self) -> Self {
                Self(self.0.saturating_add(1))
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.fmt(f)
            }
        }
    };
}

counter!(
    /// Rises whenever a parcel's lock is taken, broken or released; a write under an older epoch is refused.
    Epoch
);
counter!(
    /// Counts a parcel's suspends. Zero: nothing was ever committed.
    Version
);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counters_stop_at_their_end() {
        assert_eq!(Version(7).next(), Version(8));
        assert_eq!(Epoch(u64::MAX).next(), Epoch(u64::MAX));
    }
}
