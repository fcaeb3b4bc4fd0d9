//! Key slots: the parcel key, wrapped for those who may open it. A password slot (Argon2id over the Kerberos password)
//! and a recovery slot (a random key on paper); at most one of each. Every slot is bound to its parcel. A parcel that takes
//! the rescued work of another has that one's key, and its slots as they are: they name the parcel that they are bound to.
//! Whoever swaps slots or that name gains nothing, since a key opens no record but its own parcel's.
//!
//! What is stored is JSON; the server keeps it without being able to open it, and hands it to the owner. It is untrusted
//! when it comes back: costs are bounded, unknown fields and formats are refused.

mod proof;
mod recovery;

pub use proof::Proof;
pub use recovery::{BadRecoveryKey, RecoveryKey};

use crate::{envelope, id::ParcelId, parse::hex_exact, secret::ParcelKey};
use serde::{Deserialize, Deserializer, Serialize, Serializer, de::Error as _};
use unicode_normalization::{UnicodeNormalization as _, is_nfc};
use zeroize::{Zeroize, Zeroizing};

/// The newest format, which only shared slots need; all up to it are read.
pub const FORMAT: u32 = 2;
/// The format of slots that are their parcel's own.
const OWN: u32 = 1;
/// The longest JSON text of slots that is read, in bytes.
pub const MAX_JSON: usize = 16 << 10;
/// The most memory that opening a password slot may take, in KiB.
pub const MAX_MEMORY_KIB: u32 = 256 << 10;
/// The most passes over that memory.
pub const MAX_PASSES: u32 = 10;
/// The most lanes.
pub const MAX_LANES: u32 = 4;
/// The longest password in bytes.
pub const MAX_PASSWORD: usize = 1024;

/// The wrapped parcel key.
const SEALED: usize = 32 + envelope::OVERHEAD;

/// All slots of a parcel.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "Stored", into = "Stored")]
pub struct Slots {
    /// At most one of each kind.
    pub slots: Vec<Slot>,
    /// The parcel that they are bound to, where that is another one.
    of: Option<ParcelId>,
}

/// One wrapping of the parcel key.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case", deny_unknown_fields)]
pub enum Slot {
    /// Under the user's password.
    Password {
        /// What stretching the password costs.
        cost: Argon2Cost,
        /// Random bytes of this slot.
        salt: Hex<16>,
        /// The wrapped key.
        sealed: Hex<SEALED>,
    },
    /// Under the recovery key.
    Recovery {
        /// The wrapped key.
        sealed: Hex<SEALED>,
    },
}

/// What stretching a password costs (Argon2id, RFC 9106).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Argon2Cost {
    /// Memory in KiB, at least 8 a lane, at most [`MAX_MEMORY_KIB`].
    pub memory_kib: u32,
    /// Passes over it, 1 to [`MAX_PASSES`].
    pub passes: u32,
    /// Lanes, 1 to [`MAX_LANES`].
    pub lanes: u32,
}

impl Default for Argon2Cost {
    /// 19 MiB, two passes, one lane: OWASP's first choice, and bearable on a slow kiosk.
    fn default() -> Self {
        Self { memory_kib: 19 << 10, passes: 2, lanes: 1 }
    }
}

/// Bytes that are written as lower-case hexadecimal digits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Hex<const N: usize>(pub [u8; N]);

impl<const N: usize> Serialize for Hex<N> {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        to.serialize_str(&hex::encode(self.0))
    }
}

impl<'de, const N: usize> Deserialize<'de> for Hex<N> {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        let text = String::deserialize(from)?;
        let mut bytes = [0; N];
        hex_exact(&text, &mut bytes)
            .map_err(|()| D::Error::custom(format_args!("not {} lower-case hexadecimal digits", 2 * N)))?;
        Ok(Self(bytes))
    }
}

/// Why the parcel key was not had from a slot, or not put into one.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SlotError {
    /// The text is not one of slots.
    #[error("the parcel's key slots do not parse: {0}")]
    Malformed(String),
    /// A format that this program does not know.
    #[error("key slot format {0} is newer than this program knows ({FORMAT}): update the program")]
    Format(u32),
    /// No slot of the kind asked for.
    #[error("the parcel has no {0} slot: use another way to open it")]
    Missing(&'static str),
    /// The slot does not open.
    #[error(
        "the {0} does not open the parcel: it was changed since the last session (use the old one or the recovery key), \
         or the slot is damaged"
    )]
    Wrong(&'static str),
    /// A cost that is out of bounds.
    #[error("stretching the password with {0:?} is out of bounds")]
    Cost(Argon2Cost),
    /// A password that cannot be used.
    #[error("a password has 1 to {MAX_PASSWORD} bytes")]
    PasswordLength,
}

/// Slots as they are stored.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Stored {
    format: u32,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    of: Option<ParcelId>,
    slots: Vec<Slot>,
}

impl From<Slots> for Stored {
    fn from(slots: Slots) -> Self {
        Self { format: if slots.of.is_some() { FORMAT } else { OWN }, of: slots.of, slots: slots.slots }
    }
}

impl TryFrom<Stored> for Slots {
    type Error = SlotError;

    fn try_from(stored: Stored) -> Result<Self, SlotError> {
        known(stored.format)?;
        if stored.of.is_some() != (stored.format == FORMAT) {
            return Err(SlotError::Malformed("shared slots, and no others, have format 2".to_owned()));
        }
        for (i, slot) in stored.slots.iter().enumerate() {
            if stored.slots[..i].iter().any(|other| other.name() == slot.name()) {
                return Err(SlotError::Malformed(format!("two {} slots", slot.name())));
            }
            if let Slot::Password { cost, .. } = slot {
                cost.check()?;
            }
        }
        Ok(Self { slots: stored.slots, of: stored.of })
    }
}

/// Only the number of the format. A newer one may have slots and fields that do not parse here, and must still be named.
#[derive(Deserialize)]
struct Numbered {
    format: u32,
}

fn known(format: u32) -> Result<(), SlotError> {
    match format {
        OWN..=FORMAT => Ok(()),
        0 => Err(SlotError::Malformed("format 0 does not exist".to_owned())),
        newer => Err(SlotError::Format(newer)),
    }
}

impl Argon2Cost {
    fn check(self) -> Result<(), SlotError> {
        let good = (1..=MAX_LANES).contains(&self.lanes)
            && (8 * self.lanes..=MAX_MEMORY_KIB).contains(&self.memory_kib)
            && (1..=MAX_PASSES).contains(&self.passes);
        if good { Ok(()) } else { Err(SlotError::Cost(self)) }
    }

    /// Stretches a password to a wrapping key.
    fn stretch(self, password: &[u8], salt: &[u8; 16]) -> Result<Zeroizing<[u8; 32]>, SlotError> {
        self.check()?;
        if password.is_empty() || password.len() > MAX_PASSWORD {
            return Err(SlotError::PasswordLength);
        }
        let params = argon2::Params::new(self.memory_kib, self.passes, self.lanes, Some(32))
            .map_err(|_| SlotError::Cost(self))?;
        let mut blocks = vec![argon2::Block::default(); params.block_count()];
        let mut key = Zeroizing::new([0; 32]);
        let done = argon2::Argon2::new(argon2::Algorithm::Argon2id, argon2::Version::V0x13, params)
            .hash_password_into_with_memory(password, salt, key.as_mut_slice(), &mut blocks);
        blocks.iter_mut().for_each(Zeroize::zeroize);
        done.map_err(|_| SlotError::Cost(self))?;
        Ok(key)
    }

    /// The costs as associated data.
    fn bytes(self) -> [u8; 12] {
        let mut bytes = [0; 12];
        bytes[..4].copy_from_slice(&self.memory_kib.to_le_bytes());
        bytes[4..8].copy_from_slice(&self.passes.to_le_bytes());
        bytes[8..].copy_from_slice(&self.lanes.to_le_bytes());
        bytes
    }
}

impl Slot {
    /// Kind of the slot, for people.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Password { .. } => "password",
            Self::Recovery { .. } => "recovery key",
        }
    }
}

impl Slots {
    /// Reads the stored JSON, at most [`MAX_JSON`] bytes.
    pub fn from_json(json: &[u8]) -> Result<Self, SlotError> {
        if json.len() > MAX_JSON {
            return Err(SlotError::Malformed(format!("{} bytes are too many", json.len())));
        }
        if let Ok(Numbered { format }) = serde_json::from_slice(json) {
            known(format)?;
        }
        let stored: Stored =
            serde_json::from_slice(json).map_err(|error| SlotError::Malformed(error.to_string()))?;
        stored.try_into()
    }

    /// The JSON that is stored.
    pub fn to_json(&self) -> String {
        serde_json::to_string(self).expect("slots are numbers and hexadecimal digits")
    }

    /// These slots of `parcel` for another parcel that has the same key.
    #[must_use]
    pub fn shared_from(self, parcel: &ParcelId) -> Self {
        Self { of: Some(self.of.unwrap_or(*parcel)), slots: self.slots }
    }

    /// What the slots of `parcel` are bound to.
    fn bound<'a>(&'a self, parcel: &'a ParcelId) -> &'a [u8; 16] {
        self.of.as_ref().unwrap_or(parcel).as_bytes()
    }

    /// Opens the password slot with what was typed, else with its NFC form, under which new slots are made. Takes as
    /// long as [`Argon2Cost`] says, twice that where the forms differ.
    pub fn open_password(&self, password: &[u8], parcel: &ParcelId) -> Result<ParcelKey, SlotError> {
        let (cost, salt, sealed) = self
            .slots
            .iter()
            .find_map(|slot| match slot {
                Slot::Password { cost, salt, sealed } => Some((cost, salt, sealed)),
                Slot::Recovery { .. } => None,
            })
            .ok_or(SlotError::Missing("password"))?;
        let aad: [&[u8]; 3] = [self.bound(parcel), &cost.bytes(), &salt.0];
        let open = |password: &[u8]| {
            let wrapping = cost.stretch(password, &salt.0)?;
            unwrap(&wrapping, envelope::PASSWORD, &aad, sealed).ok_or(SlotError::Wrong("password"))
        };
        match (open(password), nfc(password)) {
            (Err(SlotError::Wrong(_)), Some(composed)) => open(&composed),
            (result, _) => result,
        }
    }

    /// Puts the key under a password in its NFC form, in place of any other password: the same letters open it from every
    /// keyboard, whether it composes them or not. The caller draws `salt` at random.
    pub fn set_password(
        &mut self,
        password: &[u8],
        key: &ParcelKey,
        parcel: &ParcelId,
        salt: [u8; 16],
        cost: Argon2Cost,
    ) -> Result<(), SlotError> {
        let composed = nfc(password);
        let wrapping = cost.stretch(composed.as_ref().map_or(password, |composed| composed), &salt)?;
        let sealed = wrap(&wrapping, envelope::PASSWORD, &[self.bound(parcel), &cost.bytes(), &salt], key);
        self.put(Slot::Password { cost, salt: Hex(salt), sealed });
        Ok(())
    }

    /// Opens the recovery slot.
    pub fn open_recovery(&self, recovery: &RecoveryKey, parcel: &ParcelId) -> Result<ParcelKey, SlotError> {
        let sealed = self
            .slots
            .iter()
            .find_map(|slot| match slot {
                Slot::Recovery { sealed } => Some(sealed),
                Slot::Password { .. } => None,
            })
            .ok_or(SlotError::Missing("recovery key"))?;
        unwrap(&recovery.wrapping_key(), envelope::RECOVERY, &[self.bound(parcel)], sealed)
            .ok_or(SlotError::Wrong("recovery key"))
    }

    /// Puts the key under a recovery key, in place of any other recovery key.
    pub fn set_recovery(&mut self, recovery: &RecoveryKey, key: &ParcelKey, parcel: &ParcelId) {
        let sealed = wrap(&recovery.wrapping_key(), envelope::RECOVERY, &[self.bound(parcel)], key);
        self.put(Slot::Recovery { sealed });
    }

    fn put(&mut self, slot: Slot) {
        self.slots.retain(|other| other.name() != slot.name());
        self.slots.push(slot);
    }
}

fn wrap(wrapping: &[u8; 32], purpose: envelope::Purpose, aad: &[&[u8]], key: &ParcelKey) -> Hex<SEALED> {
    let mut sealed = Vec::with_capacity(SEALED);
    envelope::seal(wrapping, purpose, aad, key.expose(), &mut sealed);
    Hex(sealed.try_into().expect("32 bytes and the envelope's overhead"))
}

fn unwrap(
    wrapping: &[u8; 32],
    purpose: envelope::Purpose,
    aad: &[&[u8]],
    sealed: &Hex<SEALED>,
) -> Option<ParcelKey> {
    let plain = envelope::open(wrapping, purpose, aad, &sealed.0).ok()?;
    let key = Zeroizing::new(<[u8; 32]>::try_from(plain.as_slice()).ok()?);
    Some(ParcelKey::from_bytes(*key))
}

/// The password in Unicode's composed form (NFC), unless it has that form already, is no text, or would get too long.
fn nfc(password: &[u8]) -> Option<Zeroizing<Vec<u8>>> {
    let text = std::str::from_utf8(password).ok().filter(|text| !is_nfc(text))?;
    // NFC makes no text longer than three times its bytes; with room for all of it, nothing moves and leaves a copy.
    let mut composed = Zeroizing::new(Vec::with_capacity(3 * password.len()));
    for c in text.nfc() {
        composed.extend_from_slice(c.encode_utf8(&mut [0; 4]).as_bytes());
    }
    (composed.len() <= MAX_PASSWORD).then_some(composed)
}
