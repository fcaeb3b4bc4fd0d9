//! The codes of errors, and what follows from them.
//!
//! A code says what happened; what is done about it also depends on what is at stake. So control flow asks for a code's
//! [`Fate`] at a [`Stake`] and never compares texts.

mod table;
mod unknown;

pub use table::Code;
pub use unknown::UnknownCode;

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};
use std::fmt;

/// What is lost if the step that failed is not tried again.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Stake {
    /// Nothing: no lock is held yet, or whoever asked still has everything and can ask again.
    Nothing,
    /// A lock is held, and no work.
    Lock,
    /// Work of a user that is nowhere else.
    Work,
}

/// What becomes of a step that failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Fate {
    /// The same step may succeed later: it is tried again, until whoever asked gives it up.
    Retry,
    /// It succeeds after the same user has logged in again.
    NeedsLogin,
    /// Trying again is of no use.
    Final,
}

/// From which stake on a code is tried again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Again {
    /// Always: it passes by itself.
    Nothing,
    /// While a lock is held: somebody can mend it, and the session waits.
    Lock,
    /// While work is at stake: giving up is left to its owner.
    Work,
    /// After a log-in.
    Login,
    /// Not at all: it proves that this holder can never do it.
    Never,
}

/// The part of Waystation that a code comes from first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Origin {
    /// `parcel-server`.
    Server,
    /// What a client makes of Kerberos.
    Login,
    /// `kiosk-ui`.
    Screens,
    /// `cached` and `waystation`.
    Client,
    /// `init`.
    Kiosk,
    /// `vmm`.
    Vmm,
}

impl Code {
    /// What becomes of a step that failed with this code while `stake` is at stake.
    pub fn fate(&self, stake: Stake) -> Fate {
        let from = match self.again() {
            Again::Nothing => Stake::Nothing,
            Again::Lock => Stake::Lock,
            Again::Work => Stake::Work,
            Again::Login => return Fate::NeedsLogin,
            Again::Never => return Fate::Final,
        };
        match stake >= from {
            true => Fate::Retry,
            false => Fate::Final,
        }
    }

    /// `true` when nothing but a new log-in of the same user helps.
    pub fn needs_login(&self) -> bool {
        self.again() == Again::Login
    }

    /// `true` when a request that ended so may have been done all the same: no answer of the server says otherwise.
    pub fn in_doubt(&self) -> bool {
        use Code::{ServerError, ServerProtocol, ServerUnavailable, ServerUnreachable, Unknown};
        matches!(self, ServerUnreachable | ServerProtocol | ServerError | ServerUnavailable | Unknown(_))
    }
}

impl From<&str> for Code {
    fn from(text: &str) -> Self {
        Self::known(text).unwrap_or_else(|| Self::Unknown(UnknownCode::new(text)))
    }
}

impl fmt::Display for Code {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.text())
    }
}

impl Serialize for Code {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.text())
    }
}

impl<'de> Deserialize<'de> for Code {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Text;
        impl de::Visitor<'_> for Text {
            type Value = Code;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("the code of an error")
            }

            fn visit_str<E: de::Error>(self, text: &str) -> Result<Code, E> {
                Ok(Code::from(text))
            }
        }
        deserializer.deserialize_str(Text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashSet;

    #[test]
    fn texts_are_unique_and_read_back() {
        let mut seen = HashSet::new();
        for code in Code::ALL {
            let text = code.text();
            assert!(seen.insert(text), "{text} twice");
            assert!(text.bytes().all(|byte| byte.is_ascii_lowercase() || byte == b'-'), "{text}");
            assert!(text.len() <= UnknownCode::MAX, "{text}: an older program would cut it");
            assert_eq!(Code::from(text), *code);
            let json = serde_json::to_string(code).unwrap();
            assert_eq!(json, format!("\"{text}\""));
            assert_eq!(serde_json::from_str::<Code>(&json).unwrap(), *code);
            assert_eq!(code.origin() == Some(Origin::Server), code.status().is_some(), "{text}");
        }
    }

    #[test]
    fn a_code_of_another_version_stays_what_it_is() {
        let code: Code = serde_json::from_str("\"other-store-2\"").unwrap();
        assert!(matches!(code, Code::Unknown(_)));
        assert_eq!(serde_json::to_string(&code).unwrap(), "\"other-store-2\"");
        let fates = [Stake::Nothing, Stake::Lock, Stake::Work].map(|stake| code.fate(stake));
        assert_eq!(fates, [Fate::Final, Fate::Final, Fate::Retry]);
    }

    #[test]
    fn a_hostile_code_is_bounded_and_harmless() {
        for text in ["", "\u{1b}[2J\n", "é|`x`", &"long-".repeat(1000)] {
            let code = Code::from(text);
            let shown = code.to_string();
            assert!(!shown.is_empty() && shown.len() <= UnknownCode::MAX, "{shown:?}");
            assert!(
                shown.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_.?".contains(&byte)),
                "{shown:?}"
            );
            assert_eq!(Code::from(shown.as_str()), code, "it is the same after another journey");
        }
        // Cutting makes no known code of it.
        for known in Code::ALL {
            assert_ne!(Code::from(format!("{known}\0").as_str()), *known);
        }
    }

    #[test]
    fn only_proof_ends_a_session_with_work() {
        let last: Vec<_> = Code::ALL.iter().filter(|code| code.fate(Stake::Work) == Fate::Final).collect();
        let proofs = [
            Code::StaleEpoch,
            Code::NotLocked,
            Code::BadMemoryImage,
            Code::NotOpen,
            Code::NothingSaved,
            Code::VmmDied,
            Code::CachedDied,
            Code::ScreenDied,
            Code::KioskRestarted,
            Code::GaveUp,
            Code::Rescued,
        ];
        assert_eq!(last, proofs.iter().collect::<Vec<_>>());
        // A server that is wrong ends what nobody has worked at yet, and nothing else.
        for code in [Code::WrongParent, Code::NotOwner, Code::BadRecord, Code::BadRequest] {
            let fates = [Stake::Nothing, Stake::Lock, Stake::Work].map(|stake| code.fate(stake));
            assert_eq!(fates, [Fate::Final, Fate::Final, Fate::Retry], "{code}");
        }
        for code in [Code::NoSuchParcel, Code::OtherStore, Code::UnknownClaim, Code::StoreFull] {
            let fates = [Stake::Nothing, Stake::Lock, Stake::Work].map(|stake| code.fate(stake));
            assert_eq!(fates, [Fate::Final, Fate::Retry, Fate::Retry], "{code}");
        }
    }

    #[test]
    fn more_at_stake_never_gives_up_sooner() {
        for code in Code::ALL {
            let fates = [Stake::Nothing, Stake::Lock, Stake::Work].map(|stake| code.fate(stake));
            let given_up = fates.iter().rposition(|fate| *fate == Fate::Final);
            let tried = fates.iter().position(|fate| *fate != Fate::Final);
            assert!(
                given_up.zip(tried).is_none_or(|(given_up, tried)| given_up < tried),
                "{code}: {fates:?}"
            );
        }
    }
}
