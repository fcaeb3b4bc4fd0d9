//! What a user types into a masked field.

use std::fmt;
use zeroize::Zeroizing;

/// The most bytes that a field takes: as many as a key slot's password may have.
pub const MAX_BYTES: usize = parcel::slot::MAX_PASSWORD;

/// A password, or a recovery key, as it is typed. The bytes never move while it grows and are zeroed when they are
/// dropped; nothing prints them.
pub struct Password {
    // Always `MAX_BYTES` long, so that no reallocation leaves a copy behind; `len` of them are the password.
    bytes: Zeroizing<Vec<u8>>,
    len: usize,
}

impl Password {
    /// An empty one.
    pub fn new() -> Self {
        Self { bytes: Zeroizing::new(vec![0; MAX_BYTES]), len: 0 }
    }

    /// Appends a character; `false` when there is no room.
    pub fn push(&mut self, c: char) -> bool {
        let end = self.len + c.len_utf8();
        if end > MAX_BYTES {
            return false;
        }
        c.encode_utf8(&mut self.bytes[self.len..end]);
        self.len = end;
        true
    }

    /// Removes the last character.
    pub fn pop(&mut self) {
        while self.len > 0 {
            self.len -= 1;
            let was = std::mem::take(&mut self.bytes[self.len]);
            // 10xxxxxx: not the first byte of a character in UTF-8.
            if was & 0xc0 != 0x80 {
                break;
            }
        }
    }

    /// Empties and zeroes it.
    pub fn clear(&mut self) {
        *self = Self::new();
    }

    /// Characters typed.
    pub fn chars(&self) -> usize {
        self.as_bytes().iter().filter(|b| **b & 0xc0 != 0x80).count()
    }

    /// `true` when nothing was typed.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// The bytes, UTF-8.
    pub fn as_bytes(&self) -> &[u8] {
        &self.bytes[..self.len]
    }

    /// The text.
    pub fn as_str(&self) -> &str {
        std::str::from_utf8(self.as_bytes()).unwrap_or_default()
    }

    /// A second buffer with the same password; explicit, so that every copy is meant.
    #[must_use]
    pub fn duplicate(&self) -> Self {
        let mut copy = Self::new();
        copy.bytes[..self.len].copy_from_slice(self.as_bytes());
        copy.len = self.len;
        copy
    }

    /// What was typed, leaving an empty field.
    #[must_use]
    pub fn take(&mut self) -> Self {
        std::mem::take(self)
    }
}

impl Default for Password {
    fn default() -> Self {
        Self::new()
    }
}

impl fmt::Debug for Password {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Password(..)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn behaves_like_a_bounded_string(ops in prop::collection::vec(prop::option::weighted(0.8, any::<char>()), 0..1200)) {
            let mut model = String::new();
            let mut typed = Password::new();
            for op in ops {
                match op {
                    Some(c) => {
                        let fits = model.len() + c.len_utf8() <= MAX_BYTES;
                        prop_assert_eq!(typed.push(c), fits);
                        if fits {
                            model.push(c);
                        }
                    }
                    None => {
                        model.pop();
                        typed.pop();
                    }
                }
                prop_assert_eq!(typed.as_str(), model.as_str());
                prop_assert_eq!(typed.chars(), model.chars().count());
            }
            let copy = typed.duplicate();
            prop_assert_eq!(copy.as_str(), model.as_str());
            let len = typed.len;
            typed.clear();
            prop_assert!(typed.is_empty());
            prop_assert!(typed.bytes[..len].iter().all(|b| *b == 0));
        }
    }

    #[test]
    fn removed_characters_are_zeroed() {
        let mut typed = Password::new();
        for c in "né".chars() {
            typed.push(c);
        }
        typed.pop();
        assert_eq!(typed.as_str(), "n");
        assert!(typed.bytes[1..].iter().all(|b| *b == 0));
        assert_eq!(format!("{typed:?}"), "Password(..)");
    }
}
