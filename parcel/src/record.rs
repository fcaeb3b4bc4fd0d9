//! Version records: one for each suspend. What the machine is and where its images' keyring leaves are, in the clear;
//! secrets, command line and working set sealed under the parcel key. The public part is authenticated by the sealing.

use crate::{
    MAX_OBJECT, envelope,
    id::{ChunkName, ParcelId, Version},
    keyring::{self, ImageKind},
    parse::{Reader, Short},
    secret::{ParcelKey, Secret},
    tag::Tag,
    wire::guest::Machine,
};
use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

/// The format that this program writes; it reads all up to it.
pub const FORMAT: u32 = 1;
/// The most secrets in a record: the parcel's own and those of the golden parcels it descends from.
pub const MAX_SECRETS: usize = 16;
/// The longest kernel command line in bytes (x86's own limit).
pub const MAX_CMDLINE: usize = 2048;
/// The most packs in a working set: 16 GiB of memory.
pub const MAX_WORKING_SET: usize = 1 << 17;
/// How many packs are named, those of 2 GiB of memory: a suspend that wrote more must get home all the same, also beside the leaves of
/// a disk of 4 TiB.
pub const WORKING_SET: usize = 1 << 14;
/// The most leaves of all images together: those of a disk of 4 TiB, and a quarter as many for the rest.
pub const MAX_LEAVES: usize = (1 << 14) + (1 << 12);
/// The longest public part in bytes, beside its leaves.
pub const MAX_BESIDE_LEAVES: usize = 4096;
/// The longest sealed part in bytes: the envelope of a [`Private`] that is full. No format 1 has anything else in it.
pub const MAX_SEALED: usize =
    envelope::OVERHEAD + 1 + 32 * MAX_SECRETS + 4 + MAX_CMDLINE + 4 + 4 * MAX_WORKING_SET;

/// A leaf in the public part: its name in quotation marks and a comma, or `null` and a comma.
const LEAF: usize = 43;
const NO_LEAF: usize = 5;

const MAGIC: &[u8; 6] = b"wsvers";

/// A version of a parcel.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Record {
    /// What everybody may read.
    pub public: Public,
    /// What only holders of the parcel key may read.
    pub private: Private,
}

/// The part in the clear.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Public {
    /// [`FORMAT`] of the program that wrote it.
    pub format: u32,
    /// Whose version this is.
    pub parcel: ParcelId,
    /// Its number.
    pub version: Version,
    /// The version it was made from; 0: from nothing.
    pub parent: Version,
    /// Seconds since 1970 by the committing kiosk's clock.
    pub created_at: u64,
    /// Kiosk, or command, that committed it.
    pub kiosk: String,
    /// What it needs to run.
    pub tag: Tag,
    /// Its fixed parts.
    pub machine: Machine,
    /// Its images, each kind at most once.
    pub images: Vec<ImageInfo>,
    /// Its memory could not be saved: its disk is as after a power cut, and it boots.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub memory_lost: bool,
}

/// Where an image is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ImageInfo {
    /// Which part of the machine it is.
    pub kind: ImageKind,
    /// Its length. For [`ImageKind::Packs`]: packs times [`crate::chunk::CHUNK_SIZE`]. For [`ImageKind::PageMap`]: pages times 4.
    pub bytes: u64,
    /// Names of its leaves, [`keyring::leaves_for`] of `bytes` in number. `None`: a leaf of holes only, which is not stored.
    pub leaves: Vec<Option<ChunkName>>,
}

/// The sealed part.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Private {
    /// Secrets that chunk references point to: first the parcel's own, then those of golden parcels.
    pub secrets: Vec<Secret>,
    /// Kernel command line of a cold boot.
    pub cmdline: String,
    /// Packs in the order in which a resume should stream them.
    pub working_set: Vec<u32>,
}

/// Why a version record was refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RecordError {
    /// Not a record, or not all of one.
    #[error("the bytes are not a version record ({0}): fetch it again, or go back to an earlier version")]
    Malformed(&'static str),
    /// A format that this program does not know.
    #[error("version record format {0} is newer than this program knows ({FORMAT}): update the program")]
    Format(u32),
    /// It does not hold together.
    #[error("the version record contradicts itself: {0}")]
    Invalid(String),
    /// A record of another parcel.
    #[error("the version record belongs to parcel {0}, which was not asked for")]
    Parcel(ParcelId),
    /// Damaged, or sealed under another parcel key.
    #[error(
        "the version record does not open with this parcel's key: it is damaged or forged, or the key is of another parcel"
    )]
    Sealed,
    /// Larger than what may be stored.
    #[error("the version record is {0} bytes long, the most is {MAX_OBJECT}")]
    TooLarge(usize),
}

impl From<Short> for RecordError {
    fn from(_: Short) -> Self {
        Self::Malformed("it ends early")
    }
}

impl Public {
    /// Reads the public part, without any key. Nothing vouches for it.
    pub fn read(bytes: &[u8]) -> Result<Self, RecordError> {
        Ok(split(bytes)?.0)
    }

    /// `true` when the version holds a running machine.
    pub fn suspended(&self) -> bool {
        self.image(ImageKind::State).is_some()
    }

    /// An image, if the version has it.
    pub fn image(&self, kind: ImageKind) -> Option<&ImageInfo> {
        self.images.iter().find(|image| image.kind == kind)
    }

    /// Names of all leaves.
    pub fn leaf_names(&self) -> impl Iterator<Item = ChunkName> {
        self.images.iter().flat_map(|image| image.leaves.iter().flatten().copied())
    }

    /// Its one spelling, which is what is stored.
    fn write(&self) -> Result<Vec<u8>, RecordError> {
        self.check()?;
        let json = serde_json::to_vec(self)
            .map_err(|error| RecordError::Invalid(format!("its public part has no JSON form: {error}")))?;
        let leaves = self.images.iter().flat_map(|image| &image.leaves);
        let leaves: usize = leaves.map(|leaf| if leaf.is_some() { LEAF } else { NO_LEAF }).sum();
        let beside = json.len().saturating_sub(leaves);
        if beside > MAX_BESIDE_LEAVES {
            let text = format!(
                "{beside} bytes beside the leaves in its public part, the most is {MAX_BESIDE_LEAVES}"
            );
            return Err(RecordError::Invalid(text));
        }
        Ok(json)
    }

    fn check(&self) -> Result<(), RecordError> {
        if self.parent >= self.version {
            let text = format!("version {} cannot come from version {}", self.version, self.parent);
            return Err(RecordError::Invalid(text));
        }
        for (i, image) in self.images.iter().enumerate() {
            if self.images[..i].iter().any(|other| other.kind == image.kind) {
                return Err(RecordError::Invalid(format!("image {:?} stands in it twice", image.kind)));
            }
            let want = keyring::leaves_for(image.bytes);
            if image.leaves.len() as u64 != want {
                return Err(RecordError::Invalid(format!(
                    "image {:?} of {} bytes has {} leaves where {want} belong",
                    image.kind,
                    image.bytes,
                    image.leaves.len()
                )));
            }
        }
        let leaves: usize = self.images.iter().map(|image| image.leaves.len()).sum();
        if leaves > MAX_LEAVES {
            return Err(RecordError::Invalid(format!("it has {leaves} leaves, the most is {MAX_LEAVES}")));
        }
        let has = |kind| self.image(kind).is_some();
        let memory = [ImageKind::Packs, ImageKind::PageMap, ImageKind::State].map(has);
        if memory != [memory[0]; 3] {
            let text = "packs, page map and state belong together".to_owned();
            return Err(RecordError::Invalid(text));
        }
        if self.memory_lost && memory[0] {
            return Err(RecordError::Invalid("its memory was lost, and here it is".to_owned()));
        }
        Ok(())
    }
}

/// Public part parsed and checked, all bytes before the sealed part, the sealed part.
fn split(bytes: &[u8]) -> Result<(Public, &[u8], &[u8]), RecordError> {
    if bytes.len() > MAX_OBJECT {
        return Err(RecordError::TooLarge(bytes.len()));
    }
    let mut reader = Reader::new(bytes);
    if reader.array()? != *MAGIC {
        return Err(RecordError::Malformed("it does not begin like one"));
    }
    let format = u32::from(reader.u16()?);
    match format {
        FORMAT => {}
        0 => return Err(RecordError::Malformed("format 0 does not exist")),
        newer => return Err(RecordError::Format(newer)),
    }
    let len = reader.u32()? as usize;
    let json = reader.take(len)?;
    let sealed = reader.rest();
    if sealed.len() < envelope::OVERHEAD {
        return Err(RecordError::Malformed("it ends early"));
    }
    // The server cannot open it, and stores no more than a client could have written.
    if sealed.len() > MAX_SEALED {
        return Err(RecordError::Malformed("its sealed part is longer than any may be"));
    }
    let public: Public =
        serde_json::from_slice(json).map_err(|_| RecordError::Malformed("its public part does not parse"))?;
    if public.format != format {
        return Err(RecordError::Malformed("its two format numbers differ"));
    }
    // Neither spaces nor fields that nobody knows: what is stored for ever has no more than it needs.
    if public.write()? != json {
        return Err(RecordError::Malformed("its public part is not in its one spelling"));
    }
    Ok((public, &bytes[..bytes.len() - sealed.len()], sealed))
}

impl Record {
    /// Seals the record. The same record is sealed to the same bytes.
    pub fn seal(&self, key: &ParcelKey) -> Result<Vec<u8>, RecordError> {
        if self.public.format != FORMAT {
            return Err(RecordError::Format(self.public.format));
        }
        let json = self.public.write()?;
        let mut bytes = Vec::new();
        bytes.extend_from_slice(MAGIC);
        bytes.extend_from_slice(&(FORMAT as u16).to_le_bytes());
        bytes.extend_from_slice(&(json.len() as u32).to_le_bytes());
        bytes.extend_from_slice(&json);
        let clear = bytes.clone();
        let plain = self.private.write()?;
        envelope::seal(key.expose(), envelope::RECORD, &[&clear], &plain, &mut bytes);
        if bytes.len() > MAX_OBJECT {
            return Err(RecordError::TooLarge(bytes.len()));
        }
        Ok(bytes)
    }

    /// Opens a record of this parcel. Refuses it if any bit of it is different.
    ///
    /// The caller compares `public.version` with the version it asked for: an old record is still a true record.
    pub fn open(bytes: &[u8], key: &ParcelKey, parcel: &ParcelId) -> Result<Self, RecordError> {
        let (public, clear, sealed) = split(bytes)?;
        if public.parcel != *parcel {
            return Err(RecordError::Parcel(public.parcel));
        }
        let plain = envelope::open(key.expose(), envelope::RECORD, &[clear], sealed)
            .map_err(|_| RecordError::Sealed)?;
        let private = Private::read(&plain)?;
        Ok(Self { public, private })
    }
}

impl Private {
    fn check(&self) -> Result<(), RecordError> {
        let invalid = |text: String| Err(RecordError::Invalid(text));
        if self.secrets.is_empty() || self.secrets.len() > MAX_SECRETS {
            return invalid(format!("{} secrets where 1 to {MAX_SECRETS} may be", self.secrets.len()));
        }
        if self.cmdline.len() > MAX_CMDLINE {
            let len = self.cmdline.len();
            return invalid(format!("a command line of {len} bytes, the most is {MAX_CMDLINE}"));
        }
        if self.working_set.len() > MAX_WORKING_SET {
            let len = self.working_set.len();
            return invalid(format!("a working set of {len} packs, the most is {MAX_WORKING_SET}"));
        }
        Ok(())
    }

    fn write(&self) -> Result<Zeroizing<Vec<u8>>, RecordError> {
        self.check()?;
        let len = 1 + 32 * self.secrets.len() + 4 + self.cmdline.len() + 4 + 4 * self.working_set.len();
        let mut out = Zeroizing::new(Vec::with_capacity(len));
        out.push(self.secrets.len() as u8);
        for secret in &self.secrets {
            out.extend_from_slice(secret.expose());
        }
        out.extend_from_slice(&(self.cmdline.len() as u32).to_le_bytes());
        out.extend_from_slice(self.cmdline.as_bytes());
        out.extend_from_slice(&(self.working_set.len() as u32).to_le_bytes());
        for pack in &self.working_set {
            out.extend_from_slice(&pack.to_le_bytes());
        }
        Ok(out)
    }

    fn read(bytes: &[u8]) -> Result<Self, RecordError> {
        let mut reader = Reader::new(bytes);
        let mut secrets = Vec::new();
        for _ in 0..reader.u8()? {
            let secret = Zeroizing::new(reader.array()?);
            secrets.push(Secret::from_bytes(*secret));
        }
        let len = reader.u32()? as usize;
        let cmdline = std::str::from_utf8(reader.take(len)?)
            .map_err(|_| RecordError::Malformed("its command line is not UTF-8"))?
            .to_owned();
        let len = reader.u32()? as usize;
        let packs = reader.take(len.checked_mul(4).ok_or(Short)?)?;
        let (packs, _) = packs.as_chunks::<4>();
        let working_set = packs.iter().map(|pack| u32::from_le_bytes(*pack)).collect();
        if !reader.rest().is_empty() {
            return Err(RecordError::Malformed("something follows its sealed part"));
        }
        let private = Self { secrets, cmdline, working_set };
        private.check()?;
        Ok(private)
    }
}
