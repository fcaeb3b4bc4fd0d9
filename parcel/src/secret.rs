//! Keys: types that are wiped from memory when dropped, compare in constant time, and never print what they hold.

use serde::{Deserialize, Serialize};
use std::fmt;
use subtle::ConstantTimeEq;
use zeroize::{Zeroize, Zeroizing};

/// A text that is not a key. Says nothing of the text.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a key is 64 lower-case hexadecimal digits")]
pub struct BadKey;

macro_rules! key_type {
    ($(#[$doc:meta])* $name:ident, $inner:ty, $make:expr) => {
        $(#[$doc])*
        #[derive(Clone)]
        pub struct $name($inner);

        impl $name {
            /// Takes over 32 bytes. The caller's own copy is the caller's to wipe.
            pub fn from_bytes(bytes: [u8; 32]) -> Self {
                let bytes = Zeroizing::new(bytes);
                Self($make(*bytes))
            }

            /// The raw bytes. Don't copy them anywhere that is not wiped.
            pub fn expose(&self) -> &[u8; 32] {
                &self.0
            }
        }

        impl PartialEq for $name {
            fn eq(&self, other: &Self) -> bool {
                self.expose().ct_eq(other.expose()).into()
            }
        }

        impl Eq for $name {}

        impl Drop for $name {
            fn drop(&mut self) {
                self.0.zeroize();
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(concat!(stringify!($name), "(…)"))
            }
        }
    };
}

// The two that live long are boxed, so that moving them leaves no copies on the stack.
key_type!(
    /// What a parcel's chunk keys are derived under: who has it can tell whether a chunk holds known bytes.
    Secret,
    Box<[u8; 32]>,
    Box::new
);
key_type!(
    /// A parcel's own key, drawn at random by whoever creates it. Seals keyring leaves and version records; wrapped
    /// by key slots.
    ParcelKey,
    Box<[u8; 32]>,
    Box::new
);
key_type!(
    /// The key of one sealed chunk.
    ChunkKey,
    [u8; 32],
    std::convert::identity
);

impl ParcelKey {
    /// Reads 64 lower-case hexadecimal digits.
    pub fn from_hex(text: &str) -> Result<Self, BadKey> {
        let mut bytes = Zeroizing::new([0; 32]);
        crate::parse::hex_exact(text, bytes.as_mut_slice()).map_err(|()| BadKey)?;
        Ok(Self::from_bytes(*bytes))
    }

    /// As 64 hexadecimal digits, for the local sockets.
    pub fn to_hex(&self) -> Zeroizing<String> {
        Zeroizing::new(hex::encode(self.expose()))
    }
}

/// A secret in a message: a token, or a key in hexadecimal digits. In JSON it is a string like any other.
#[derive(Clone, Serialize, Deserialize)]
#[serde(transparent)]
pub struct SecretText(String);

impl SecretText {
    /// The text. Don't copy it anywhere that is not wiped.
    pub fn expose(&self) -> &str {
        &self.0
    }

    /// The text itself, still to be wiped.
    pub fn into_text(mut self) -> Zeroizing<String> {
        Zeroizing::new(std::mem::take(&mut self.0))
    }
}

impl From<Zeroizing<String>> for SecretText {
    fn from(mut text: Zeroizing<String>) -> Self {
        Self(std::mem::take(&mut *text))
    }
}

impl From<String> for SecretText {
    fn from(text: String) -> Self {
        Self(text)
    }
}

impl From<&str> for SecretText {
    fn from(text: &str) -> Self {
        Self(text.to_owned())
    }
}

impl PartialEq for SecretText {
    fn eq(&self, other: &Self) -> bool {
        self.0.as_bytes().ct_eq(other.0.as_bytes()).into()
    }
}

impl Eq for SecretText {}

impl Drop for SecretText {
    fn drop(&mut self) {
        self.0.zeroize();
    }
}

impl fmt::Debug for SecretText {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SecretText(…)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn debug_prints_no_byte_of_the_key() {
        let text = format!(
            "{:?} {:?} {:?} {:?}",
            Secret::from_bytes([0xab; 32]),
            ParcelKey::from_bytes([0xab; 32]),
            ChunkKey::from_bytes([0xab; 32]),
            SecretText::from("abab")
        );
        assert_eq!(text, "Secret(…) ParcelKey(…) ChunkKey(…) SecretText(…)");
    }

    #[test]
    fn a_secret_text_goes_by_json_as_a_string_and_keeps_its_only_copy() {
        let text = SecretText::from(Zeroizing::new("to\"ken".to_owned()));
        let json = serde_json::to_string(&text).unwrap();
        assert_eq!(json, r#""to\"ken""#);
        assert_eq!(serde_json::from_str::<SecretText>(&json).unwrap(), text);
        assert_ne!(text, SecretText::from("token"));
        let at = text.expose().as_ptr();
        let taken = text.into_text();
        assert_eq!((taken.as_ptr(), taken.as_str()), (at, "to\"ken"));
    }

    #[test]
    fn hex_goes_round_and_bad_hex_is_refused() {
        let key = ParcelKey::from_bytes(std::array::from_fn(|i| i as u8 * 7));
        assert_eq!(ParcelKey::from_hex(&key.to_hex()), Ok(key.clone()));
        assert_eq!(ParcelKey::from_hex(&key.to_hex()[1..]), Err(BadKey));
        assert_eq!(ParcelKey::from_hex(&key.to_hex().to_uppercase()), Err(BadKey));
        assert_eq!(ParcelKey::from_hex(&"zz".repeat(32)), Err(BadKey));
    }

    #[test]
    fn keys_differ_when_any_byte_differs() {
        for i in 0..32 {
            let mut bytes = [5; 32];
            bytes[i] ^= 1;
            assert_ne!(Secret::from_bytes(bytes), Secret::from_bytes([5; 32]));
        }
    }
}
