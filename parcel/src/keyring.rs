//! Keyring leaves: what maps chunk indexes of an image to names and keys, 2,048 at a time.
//!
//! A leaf has a public part (which chunks are there, and their names: enough to collect garbage and to hoard) and a
//! part sealed under the parcel key (the chunks' keys), bound to parcel, image, index and public part. Sealing needs no
//! random number and equal leaves have equal names, so an unchanged leaf is not stored again.

use crate::{
    MAX_OBJECT,
    chunk::{self, CHUNK_SIZE},
    envelope,
    id::{ChunkName, ParcelId},
    parse::{Reader, Short},
    secret::{ChunkKey, ParcelKey},
};
use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

/// References in a full leaf: one leaf covers 256 MiB of an image.
pub const LEAF_REFS: usize = 2048;
/// The format that this program writes; it reads all up to it.
pub const FORMAT: u16 = 1;

const MAGIC: &[u8; 6] = b"wsleaf";
/// Bytes of a reference in the sealed part: key and secret index.
const SEALED_REF: usize = 33;

/// The images of a machine. The numbers are part of the format.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[repr(u8)]
pub enum ImageKind {
    /// The virtual disk: chunk *i* holds its bytes from *i* · 128 KiB on.
    Disk = 0,
    /// Memory packs: chunk *i* is pack *i*.
    Packs = 1,
    /// Where each page of memory is: chunk *i* is chunk *i* of [`crate::pages::PageMap`].
    PageMap = 2,
    /// The VMM's saved state.
    State = 3,
    /// The kernel of a cold boot.
    Kernel = 4,
    /// The initial RAM disk of a cold boot.
    Initrd = 5,
}

impl ImageKind {
    /// All of them, in the order of their numbers.
    pub const ALL: [Self; 6] =
        [Self::Disk, Self::Packs, Self::PageMap, Self::State, Self::Kernel, Self::Initrd];

    fn from_number(number: u8) -> Option<Self> {
        Self::ALL.get(usize::from(number)).copied()
    }
}

/// Where a chunk is and what opens it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ChunkRef {
    /// Its name.
    pub name: ChunkName,
    /// Its key.
    pub key: ChunkKey,
    /// Which of the version record's secrets it was sealed under.
    pub secret: u8,
}

/// Up to [`LEAF_REFS`] references; `None` is a hole, a chunk of zeros.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Leaf {
    /// References in the order of the chunks.
    pub refs: Vec<Option<ChunkRef>>,
}

/// A sealed object, ready to be stored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Object {
    /// SHA-1 of `bytes`.
    pub name: ChunkName,
    /// What is stored.
    pub bytes: Vec<u8>,
}

/// The public part of a leaf.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PublicLeaf {
    /// Image that the leaf says it belongs to.
    pub image: ImageKind,
    /// Index that the leaf says it has in that image.
    pub index: u32,
    /// Names in the order of the chunks; `None` is a hole.
    pub names: Vec<Option<ChunkName>>,
}

/// Why a leaf was refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum LeafError {
    /// More than [`LEAF_REFS`].
    #[error("a leaf holds at most {LEAF_REFS} references, not {0}")]
    TooMany(usize),
    /// Not a leaf, or not all of one, or more than one.
    #[error("the bytes are not a keyring leaf: fetch it from another source")]
    Malformed,
    /// A format that this program does not know.
    #[error("leaf format {0} is newer than this program knows ({FORMAT}): update the program")]
    Format(u16),
    /// A leaf of another place.
    #[error(
        "this is leaf {index} of {image:?}, which was not asked for: fetch the right one from another source"
    )]
    Place {
        /// Image that it says it belongs to.
        image: ImageKind,
        /// Index that it says it has.
        index: u32,
    },
    /// Damaged, or of another parcel, or sealed under another parcel key.
    #[error("the keyring leaf does not open with this parcel's key: fetch it from another source")]
    Sealed,
}

impl From<Short> for LeafError {
    fn from(_: Short) -> Self {
        Self::Malformed
    }
}

/// Chunks of an image of this many bytes.
pub fn chunks_for(bytes: u64) -> u64 {
    bytes.div_ceil(CHUNK_SIZE as u64)
}

/// Leaves of an image of this many bytes.
pub fn leaves_for(bytes: u64) -> u64 {
    chunks_for(bytes).div_ceil(LEAF_REFS as u64)
}

/// The leaf that holds a chunk, and the chunk's place in it.
pub fn locate(chunk: u64) -> (u32, usize) {
    let refs = LEAF_REFS as u64;
    (u32::try_from(chunk / refs).unwrap_or(u32::MAX), (chunk % refs) as usize)
}

/// The names in a leaf, without any key. Nothing vouches for them.
pub fn public_names(bytes: &[u8]) -> Result<Vec<ChunkName>, LeafError> {
    Ok(PublicLeaf::read(bytes)?.names.into_iter().flatten().collect())
}

impl PublicLeaf {
    /// Reads the public part and checks that the sealed part has the length that belongs to it.
    pub fn read(bytes: &[u8]) -> Result<Self, LeafError> {
        Ok(split(bytes)?.0)
    }
}

/// Public part parsed, public part's bytes, sealed part's bytes.
fn split(bytes: &[u8]) -> Result<(PublicLeaf, &[u8], &[u8]), LeafError> {
    if bytes.len() > MAX_OBJECT {
        return Err(LeafError::Malformed);
    }
    let mut reader = Reader::new(bytes);
    if reader.array()? != *MAGIC {
        return Err(LeafError::Malformed);
    }
    match reader.u16()? {
        FORMAT => {}
        0 => return Err(LeafError::Malformed),
        newer => return Err(LeafError::Format(newer)),
    }
    let image = ImageKind::from_number(reader.u8()?).ok_or(LeafError::Malformed)?;
    let index = reader.u32()?;
    let count = usize::from(reader.u16()?);
    if count > LEAF_REFS {
        return Err(LeafError::TooMany(count));
    }
    let bitmap = reader.take(count.div_ceil(8))?;
    // One leaf, one spelling: bits beyond the last reference are zero.
    if count % 8 != 0 && bitmap.last().is_some_and(|last| last >> (count % 8) != 0) {
        return Err(LeafError::Malformed);
    }
    let mut names = Vec::with_capacity(count);
    for i in 0..count {
        let present = bitmap[i / 8] >> (i % 8) & 1 == 1;
        names.push(if present { Some(ChunkName(reader.array()?)) } else { None });
    }
    let sealed = reader.rest();
    let present = names.iter().flatten().count();
    if sealed.len() != present * SEALED_REF + envelope::OVERHEAD {
        return Err(LeafError::Malformed);
    }
    let public = &bytes[..bytes.len() - sealed.len()];
    Ok((PublicLeaf { image, index, names }, public, sealed))
}

impl Leaf {
    /// Seals the leaf for its place. The same leaf at the same place has the same name.
    pub fn seal(
        &self,
        key: &ParcelKey,
        parcel: &ParcelId,
        image: ImageKind,
        index: u32,
    ) -> Result<Object, LeafError> {
        let count = self.refs.len();
        if count > LEAF_REFS {
            return Err(LeafError::TooMany(count));
        }
        let present = self.refs.iter().flatten().count();
        let mut bytes =
            Vec::with_capacity(15 + count.div_ceil(8) + present * (20 + SEALED_REF) + envelope::OVERHEAD);
        bytes.extend_from_slice(MAGIC);
        bytes.extend_from_slice(&FORMAT.to_le_bytes());
        bytes.push(image as u8);
        bytes.extend_from_slice(&index.to_le_bytes());
        bytes.extend_from_slice(&(count as u16).to_le_bytes());
        bytes.extend(self.refs.chunks(8).map(|eight| {
            eight.iter().enumerate().fold(0, |bits, (i, one)| bits | u8::from(one.is_some()) << i)
        }));
        let mut plain = Zeroizing::new(Vec::with_capacity(present * SEALED_REF));
        for one in self.refs.iter().flatten() {
            bytes.extend_from_slice(one.name.as_bytes());
            plain.extend_from_slice(one.key.expose());
            plain.push(one.secret);
        }
        let public = bytes.clone();
        envelope::seal(key.expose(), envelope::LEAF, &[parcel.as_bytes(), &public], &plain, &mut bytes);
        Ok(Object { name: chunk::name_of(&bytes), bytes })
    }

    /// Opens the leaf of a place. Refuses one of another place, parcel or key, and one of which any bit is different.
    pub fn open(
        bytes: &[u8],
        key: &ParcelKey,
        parcel: &ParcelId,
        image: ImageKind,
        index: u32,
    ) -> Result<Self, LeafError> {
        let (leaf, public, sealed) = split(bytes)?;
        if (leaf.image, leaf.index) != (image, index) {
            return Err(LeafError::Place { image: leaf.image, index: leaf.index });
        }
        let aad = [parcel.as_bytes().as_slice(), public];
        let plain =
            envelope::open(key.expose(), envelope::LEAF, &aad, sealed).map_err(|_| LeafError::Sealed)?;
        let mut reader = Reader::new(&plain);
        let refs = leaf.names.into_iter().map(|name| match name {
            None => Ok(None),
            Some(name) => {
                let key = Zeroizing::new(reader.array()?);
                Ok(Some(ChunkRef { name, key: ChunkKey::from_bytes(*key), secret: reader.u8()? }))
            }
        });
        Ok(Self { refs: refs.collect::<Result<_, Short>>()? })
    }
}
