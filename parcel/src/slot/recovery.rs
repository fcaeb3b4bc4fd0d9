//! The recovery key: 160 random bits that a person writes on paper.
//!
//! It is printed as 32 characters of Crockford's base 32 (no I, L, O, U) and one check character, in eight groups of four
//! of which the last has five. The check character makes Σ αⁱ·cᵢ = 0 over GF(32), α being a root of x⁵+x²+1: every single
//! wrong character and every exchange of two neighbours is found.

use std::{fmt, str::FromStr};
use zeroize::{Zeroize, Zeroizing};

const ALPHABET: &[u8; 32] = b"0123456789ABCDEFGHJKMNPQRSTVWXYZ";
/// Characters that carry bits.
const DATA: usize = 32;

/// A recovery key.
#[derive(Clone)]
pub struct RecoveryKey(Box<[u8; 20]>);

/// Why a text is not a recovery key. Says nothing of the text.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum BadRecoveryKey {
    /// A character that no recovery key has.
    #[error("a recovery key is made of digits and letters (without U): look at its character {0} again")]
    Character(usize),
    /// Too few or too many characters.
    #[error("a recovery key has 33 characters, this has {0}")]
    Length(usize),
    /// The check character does not fit.
    #[error("the recovery key has a wrong character: compare it with the paper, character by character")]
    Check,
}

impl RecoveryKey {
    /// Takes over 20 random bytes.
    pub fn from_bytes(bytes: [u8; 20]) -> Self {
        let bytes = Zeroizing::new(bytes);
        Self(Box::new(*bytes))
    }

    /// As it is printed for the user, once.
    pub fn to_text(&self) -> Zeroizing<String> {
        let values = self.values();
        let mut text = Zeroizing::new(String::with_capacity(DATA + 8));
        for (i, value) in values.iter().chain([&check(&values[..])]).enumerate() {
            if i > 0 && i % 4 == 0 && i < DATA {
                text.push('-');
            }
            text.push(char::from(ALPHABET[usize::from(*value)]));
        }
        text
    }

    /// The key that wraps the parcel key. 160 random bits need no stretching.
    pub(super) fn wrapping_key(&self) -> Zeroizing<[u8; 32]> {
        Zeroizing::new(blake3::derive_key("waystation v1 recovery key", self.0.as_slice()))
    }

    /// Five bits each, most significant first.
    fn values(&self) -> Zeroizing<[u8; DATA]> {
        let mut values = Zeroizing::new([0; DATA]);
        let (groups, _) = self.0.as_chunks::<5>();
        for (group, out) in groups.iter().zip(values.chunks_exact_mut(8)) {
            let mut bits = group.iter().fold(0u64, |bits, byte| bits << 8 | u64::from(*byte));
            for value in out.iter_mut().rev() {
                *value = (bits & 31) as u8;
                bits >>= 5;
            }
            bits.zeroize();
        }
        values
    }
}

impl FromStr for RecoveryKey {
    type Err = BadRecoveryKey;

    /// Reads what a person types: any case, any spaces and dashes, O for 0, I and L for 1.
    fn from_str(text: &str) -> Result<Self, BadRecoveryKey> {
        let mut values = Zeroizing::new([0; DATA + 1]);
        let mut len = 0;
        for (i, c) in text.chars().filter(|c| !c.is_whitespace() && *c != '-').enumerate() {
            let canonical = match c.to_ascii_uppercase() {
                'O' => '0',
                'I' | 'L' => '1',
                other => other,
            };
            let value = ALPHABET.iter().position(|a| char::from(*a) == canonical);
            let value = value.ok_or(BadRecoveryKey::Character(i + 1))?;
            if let Some(slot) = values.get_mut(i) {
                *slot = value as u8;
            }
            len = i + 1;
        }
        if len != DATA + 1 {
            return Err(BadRecoveryKey::Length(len));
        }
        if check(&values[..DATA]) != values[DATA] {
            return Err(BadRecoveryKey::Check);
        }
        let mut bytes = Zeroizing::new([0; 20]);
        for (group, out) in values.chunks_exact(8).zip(bytes.chunks_exact_mut(5)) {
            let mut bits = group.iter().fold(0u64, |bits, value| bits << 5 | u64::from(*value));
            out.copy_from_slice(&bits.to_be_bytes()[3..]);
            bits.zeroize();
        }
        Ok(Self::from_bytes(*bytes))
    }
}

/// The check character: Horner's scheme at α, so that the character at distance *i* from it weighs αⁱ.
fn check(values: &[u8]) -> u8 {
    values.iter().fold(0, |sum, value| times_alpha(sum ^ value))
}

/// Multiplies by α in GF(32).
fn times_alpha(value: u8) -> u8 {
    let shifted = value << 1;
    if shifted & 0b10_0000 != 0 { shifted ^ 0b10_0101 } else { shifted }
}

impl Drop for RecoveryKey {
    fn drop(&mut self) {
        self.0.zeroize();
    }
}

impl fmt::Debug for RecoveryKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("RecoveryKey(…)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn goes_round_through_paper(bytes: [u8; 20]) {
            let text = RecoveryKey::from_bytes(bytes).to_text();
            prop_assert_eq!(text.len(), 40);
            let sloppy = text.to_lowercase().replace('-', "  ").replace('0', "o").replace('1', "l");
            prop_assert_eq!(*text.parse::<RecoveryKey>().unwrap().0, bytes);
            prop_assert_eq!(*sloppy.parse::<RecoveryKey>().unwrap().0, bytes);
        }

        #[test]
        fn every_wrong_character_and_every_exchange_is_found(bytes: [u8; 20], at in 0usize..33, other in 0usize..32) {
            let right: Vec<char> = RecoveryKey::from_bytes(bytes).to_text().replace('-', "").chars().collect();
            let mut wrong = right.clone();
            wrong[at] = char::from(ALPHABET[other]);
            let read = |chars: &[char]| chars.iter().collect::<String>().parse::<RecoveryKey>().map(|_| ());
            prop_assert_eq!(read(&wrong), if wrong == right { Ok(()) } else { Err(BadRecoveryKey::Check) });
            let mut swapped = right.clone();
            swapped.swap(at, (at + 1).min(32));
            prop_assert_eq!(read(&swapped), if swapped == right { Ok(()) } else { Err(BadRecoveryKey::Check) });
        }
    }

    #[test]
    fn what_is_no_recovery_key_is_told_apart() {
        let parse = |text: &str| text.parse::<RecoveryKey>().map(|_| ());
        assert_eq!(parse(""), Err(BadRecoveryKey::Length(0)));
        assert_eq!(parse(&"0".repeat(34)), Err(BadRecoveryKey::Length(34)));
        assert_eq!(parse("00-0u"), Err(BadRecoveryKey::Character(4)));
        assert_eq!(parse("0000é"), Err(BadRecoveryKey::Character(5)));
        assert_eq!(parse(&"0".repeat(33)), Ok(()));
    }

    #[test]
    fn the_printed_form_stays_what_it_is() {
        let text = RecoveryKey::from_bytes(std::array::from_fn(|i| i as u8)).to_text();
        assert_eq!(text.as_str(), "000G-40R4-0M30-E209-185G-R38E-1W81-24GKC");
    }
}
