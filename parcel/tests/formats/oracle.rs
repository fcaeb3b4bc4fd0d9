//! The sealing of `docs/formats.md` once more, written from the document and not from the crate, so that tests can seal what
//! the crate would never seal and can see that both agree.

use aes_gcm::{Aes256Gcm, KeyInit, Nonce, aead::Aead, aead::Payload};
use parcel::{
    chunk::name_of,
    id::ChunkName,
    secret::{ChunkKey, Secret},
};

fn gcm(key: &[u8; 32], aad: &[u8], msg: &[u8]) -> Vec<u8> {
    Aes256Gcm::new(key.into()).encrypt(&Nonce::default(), Payload { msg, aad }).expect("short message")
}

/// Seals any body, well-formed or not, as a chunk.
pub fn chunk(secret: &Secret, body: &[u8]) -> (ChunkName, ChunkKey, Vec<u8>) {
    let key = *blake3::keyed_hash(secret.expose(), body).as_bytes();
    let sealed = gcm(&key, b"", body);
    (name_of(&sealed), ChunkKey::from_bytes(key), sealed)
}

/// Encrypts any body as a chunk under any key, as somebody who knows the key but not the secret could.
pub fn forged_chunk(key: &ChunkKey, body: &[u8]) -> (ChunkName, Vec<u8>) {
    let sealed = gcm(key.expose(), b"", body);
    (name_of(&sealed), sealed)
}

/// The sealed part of a leaf, record or slot. `what` is as in the key derivation contexts: `keyring leaf`.
pub fn envelope(parent: &[u8; 32], what: &str, aad: &[&[u8]], plain: &[u8]) -> Vec<u8> {
    let mut parts = Vec::new();
    for part in aad {
        parts.extend((part.len() as u64).to_le_bytes());
        parts.extend(*part);
    }
    let digest = *blake3::hash(&parts).as_bytes();
    let salt_key = blake3::derive_key(&format!("waystation v1 {what} salt"), parent);
    let message_parent = blake3::derive_key(&format!("waystation v1 {what} message key"), parent);
    let salt = *blake3::keyed_hash(&salt_key, &[&digest[..], plain].concat()).as_bytes();
    let key = *blake3::keyed_hash(&message_parent, &salt).as_bytes();
    [&salt[..], &gcm(&key, &digest, plain)].concat()
}
