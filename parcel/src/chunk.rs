//! Chunks: everything stored is 128 KiB of plaintext or less, sealed by itself.
//!
//! `body = codec byte ‖ data`, `key = BLAKE3-keyed(secret, body)`, `sealed = AES-256-GCM(key, nonce 0, body)`,
//! `name = SHA-1(sealed)`. The key is taken over the *compressed* body, so it seals that one body only and the nonce may be
//! constant. Opening decrypts, recomputes the keyed hash and compares it with the key before the decompressor sees a byte.

use crate::{
    id::ChunkName,
    secret::{ChunkKey, Secret},
};
use aes_gcm::{Aes256Gcm, KeyInit, Nonce, aead::AeadInOut, aead::inout::InOutBuf};
use sha1::{Digest, Sha1};
use std::cell::RefCell;
use zeroize::Zeroizing;

/// The most plaintext that a chunk holds, in bytes.
pub const CHUNK_SIZE: usize = 131_072;
/// Bytes of the authentication tag.
const TAG: usize = 16;
/// The largest sealed chunk in bytes: a full chunk stored raw.
pub const MAX_SEALED: usize = 1 + CHUNK_SIZE + TAG;
/// The smallest sealed chunk in bytes: codec byte, one byte of data, tag.
pub const MIN_SEALED: usize = 1 + 1 + TAG;
/// zstd levels that sealing accepts.
pub const LEVELS: std::ops::RangeInclusive<i32> = 1..=22;

/// Codec byte of data stored as it is.
const RAW: u8 = 0;
/// Codec byte of one zstd frame.
const ZSTD: u8 = 1;

/// A sealed chunk.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sealed {
    /// SHA-1 of `bytes`.
    pub name: ChunkName,
    /// What opens it, together with the secret it was sealed under.
    pub key: ChunkKey,
    /// What is stored.
    pub bytes: Vec<u8>,
}

/// Why a chunk was not sealed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum SealError {
    /// Nothing, or more than [`CHUNK_SIZE`].
    #[error("a chunk holds 1 to {CHUNK_SIZE} bytes, not {0}")]
    Size(usize),
    /// Not a level of [`LEVELS`].
    #[error("zstd levels go from 1 to 22, not {0}: set another")]
    Level(i32),
    /// The compressor could not get its memory.
    #[error("the compressor had no memory left")]
    Compressor,
}

/// Why a chunk was refused. All but the last three are found before the decompressor is reached.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum OpenError {
    /// Too short or too long to be a sealed chunk.
    #[error("{0} bytes are not the length of a sealed chunk: fetch it from another source")]
    Size(usize),
    /// Its SHA-1 is not the name it was asked for by.
    #[error("these bytes belong to another name: fetch the chunk from another source")]
    Name,
    /// AES-GCM refuses it under this key.
    #[error("the chunk does not decrypt with its key: fetch it from another source")]
    Tag,
    /// The keyed hash of its body is not the key: sealed under another secret, or forged by somebody who had the key.
    #[error("the chunk was not sealed under this secret: fetch it from another source")]
    KeyMismatch,
    /// A codec byte that this program does not know.
    #[error("codec {0} is not known here: a newer program sealed this chunk")]
    Codec(u8),
    /// It says that it holds more than [`CHUNK_SIZE`], or nothing.
    #[error("the chunk's contents are not 1 to {CHUNK_SIZE} bytes")]
    Bomb,
    /// zstd refuses the data.
    #[error("the chunk's contents do not decompress")]
    Corrupt,
}

impl OpenError {
    /// `true` when the bytes are not what the keyring names, so that another source may have them right; `false` when they
    /// are exactly what was sealed, and no other source can help.
    pub fn other_source_may_help(&self) -> bool {
        matches!(self, Self::Size(_) | Self::Name | Self::Tag | Self::KeyMismatch)
    }
}

/// The name of a sealed object.
pub fn name_of(sealed: &[u8]) -> ChunkName {
    ChunkName(Sha1::digest(sealed).into())
}

/// Seals 1 to [`CHUNK_SIZE`] bytes with a [`Sealer`] of this thread.
pub fn seal(secret: &Secret, plain: &[u8], level: i32) -> Result<Sealed, SealError> {
    thread_local! {
        static SEALER: RefCell<Option<Sealer>> = const { RefCell::new(None) };
    }
    SEALER.with_borrow_mut(|slot| {
        let sealer = match slot {
            Some(sealer) => sealer,
            None => slot.insert(Sealer::new()?),
        };
        let mut bytes = Vec::new();
        let (name, key) = sealer.seal_into(secret, plain, level, &mut bytes)?;
        Ok(Sealed { name, key, bytes })
    })
}

/// Opens a sealed chunk with an [`Opener`] of this thread.
pub fn open(secret: &Secret, name: &ChunkName, key: &ChunkKey, sealed: &[u8]) -> Result<Vec<u8>, OpenError> {
    thread_local! {
        static OPENER: RefCell<Option<Opener>> = const { RefCell::new(None) };
    }
    OPENER.with_borrow_mut(|slot| {
        let opener = slot.get_or_insert_with(Opener::new);
        let mut plain = Vec::new();
        opener.open_into(secret, name, key, sealed, &mut plain)?;
        Ok(plain)
    })
}

/// Seals chunks one after the other, keeping its compressor and buffer.
pub struct Sealer {
    compressor: zstd::bulk::Compressor<'static>,
    level: i32,
    /// Codec byte and room for whatever zstd makes of a full chunk.
    body: Zeroizing<Vec<u8>>,
}

impl Sealer {
    /// Sets up a compressor.
    pub fn new() -> Result<Self, SealError> {
        let level = *LEVELS.start();
        Ok(Self {
            compressor: zstd::bulk::Compressor::new(level).map_err(|_| SealError::Compressor)?,
            level,
            body: Zeroizing::new(vec![0; 1 + zstd::zstd_safe::compress_bound(CHUNK_SIZE)]),
        })
    }

    /// Seals `plain` and leaves the sealed bytes in `out`, whose earlier contents are dropped and whose memory is used again.
    pub fn seal_into(
        &mut self,
        secret: &Secret,
        plain: &[u8],
        level: i32,
        out: &mut Vec<u8>,
    ) -> Result<(ChunkName, ChunkKey), SealError> {
        if plain.is_empty() || plain.len() > CHUNK_SIZE {
            return Err(SealError::Size(plain.len()));
        }
        if !LEVELS.contains(&level) {
            return Err(SealError::Level(level));
        }
        if level != self.level {
            self.compressor.set_compression_level(level).map_err(|_| SealError::Compressor)?;
            self.level = level;
        }
        let packed = self
            .compressor
            .compress_to_buffer(plain, &mut self.body[1..])
            .map_err(|_| SealError::Compressor)?;
        let body = if packed < plain.len() {
            self.body[0] = ZSTD;
            &self.body[..1 + packed]
        } else {
            self.body[0] = RAW;
            self.body[1..=plain.len()].copy_from_slice(plain);
            &self.body[..=plain.len()]
        };
        let hash = Zeroizing::new(blake3::keyed_hash(secret.expose(), body));
        let key = ChunkKey::from_bytes(*hash.as_bytes());
        out.clear();
        out.reserve_exact(body.len() + TAG);
        out.extend_from_slice(body);
        let tag = Aes256Gcm::new(key.expose().into())
            .encrypt_inout_detached(&Nonce::default(), &[], InOutBuf::from(out.as_mut_slice()))
            .expect("a chunk is far below the 64 GiB that AES-GCM can take");
        out.extend_from_slice(&tag);
        Ok((name_of(out), key))
    }
}

/// Opens chunks one after the other, keeping its decompressor and buffer.
pub struct Opener {
    decompressor: Option<zstd::bulk::Decompressor<'static>>,
    body: Zeroizing<Vec<u8>>,
}

impl Default for Opener {
    fn default() -> Self {
        Self::new()
    }
}

impl Opener {
    /// Makes an opener. The decompressor is set up when the first chunk needs it.
    pub fn new() -> Self {
        Self { decompressor: None, body: Zeroizing::new(vec![0; MAX_SEALED - TAG]) }
    }

    /// Opens a chunk and leaves its plaintext in `out`, whose earlier contents are dropped and whose memory is used again.
    /// After an error `out` is empty.
    pub fn open_into(
        &mut self,
        secret: &Secret,
        name: &ChunkName,
        key: &ChunkKey,
        sealed: &[u8],
        out: &mut Vec<u8>,
    ) -> Result<(), OpenError> {
        let opened = self.checked_body(secret, name, key, sealed).and_then(|len| self.unpack(len, out));
        if opened.is_err() {
            out.clear();
        }
        opened
    }

    /// Decrypts into `self.body` and checks everything that can be checked without decompressing; answers its length.
    fn checked_body(
        &mut self,
        secret: &Secret,
        name: &ChunkName,
        key: &ChunkKey,
        sealed: &[u8],
    ) -> Result<usize, OpenError> {
        if !(MIN_SEALED..=MAX_SEALED).contains(&sealed.len()) {
            return Err(OpenError::Size(sealed.len()));
        }
        if name_of(sealed) != *name {
            return Err(OpenError::Name);
        }
        let (data, tag) = sealed.split_last_chunk::<TAG>().ok_or(OpenError::Size(sealed.len()))?;
        let body = &mut self.body[..data.len()];
        let buffer = InOutBuf::new(data, body).map_err(|_| OpenError::Size(sealed.len()))?;
        Aes256Gcm::new(key.expose().into())
            .decrypt_inout_detached(&Nonce::default(), &[], buffer, &(*tag).into())
            .map_err(|_| OpenError::Tag)?;
        let hash = Zeroizing::new(blake3::keyed_hash(secret.expose(), &self.body[..data.len()]));
        if ChunkKey::from_bytes(*hash.as_bytes()) != *key {
            return Err(OpenError::KeyMismatch);
        }
        Ok(data.len())
    }

    /// Decompresses the first `len` bytes of the checked body, never past [`CHUNK_SIZE`].
    fn unpack(&mut self, len: usize, out: &mut Vec<u8>) -> Result<(), OpenError> {
        let (codec, data) = self.body[..len].split_first().ok_or(OpenError::Size(len))?;
        match *codec {
            RAW => {
                out.clear();
                out.extend_from_slice(data);
                Ok(())
            }
            ZSTD => {
                // A slice, not a Vec: it bounds what zstd writes to exactly a chunk, whatever the capacity of `out` is.
                out.resize(CHUNK_SIZE, 0);
                let decompressor = match &mut self.decompressor {
                    Some(decompressor) => decompressor,
                    None => {
                        let fresh = zstd::bulk::Decompressor::new().map_err(|_| OpenError::Corrupt)?;
                        self.decompressor.insert(fresh)
                    }
                };
                let written = decompressor.decompress_to_buffer(data, out.as_mut_slice());
                match written {
                    Ok(0) => Err(OpenError::Bomb),
                    Ok(n) => {
                        out.truncate(n);
                        Ok(())
                    }
                    Err(_) if claims_too_much(data) => Err(OpenError::Bomb),
                    Err(_) => Err(OpenError::Corrupt),
                }
            }
            other => Err(OpenError::Codec(other)),
        }
    }
}

/// `true` when the first frame says, or may say, that it is longer than a chunk. Only decides between two errors.
fn claims_too_much(data: &[u8]) -> bool {
    match zstd::zstd_safe::get_frame_content_size(data) {
        Ok(Some(size)) => size > CHUNK_SIZE as u64,
        Ok(None) => zstd::bulk::Decompressor::upper_bound(data).is_none_or(|size| size > CHUNK_SIZE),
        Err(_) => false,
    }
}
