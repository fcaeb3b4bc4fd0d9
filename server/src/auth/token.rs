//! Bearer tokens that carry what they say.
//!
//! A token is `base64url(0x01 ‖ expiry (u64, LE, seconds since 1970) ‖ nonce (16 bytes) ‖ principal ‖ mac)`, where mac is
//! 32 bytes of keyed BLAKE3 over what precedes it. So any replica with the same key accepts it, after a restart too,
//! and nothing is kept for it. A token cannot be revoked by itself: it ends with its time, and all of them end when
//! the key file is replaced. The principal in it is no secret to its bearer.

use super::is_principal;
use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use std::{
    fs::OpenOptions,
    io::{self, Read, Write},
    os::unix::fs::{OpenOptionsExt, PermissionsExt},
    path::Path,
};
use zeroize::{Zeroize, Zeroizing};

const VERSION: u8 = 1;
const NONCE: usize = 16;
const MAC: usize = 32;
const HEAD: usize = 1 + 8 + NONCE;
/// Longest token that is looked at, in characters.
pub const MAX_TOKEN: usize = 1024;
/// Bytes of the secret in the key file, which holds them as hexadecimal digits.
const SECRET: usize = 32;

/// Signs and checks tokens. Prints nothing of its key.
pub struct TokenKey([u8; 32]);

impl Drop for TokenKey {
    fn drop(&mut self) {
        self.0.zeroize();
    }
}

impl std::fmt::Debug for TokenKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("TokenKey(…)")
    }
}

/// A token that was not accepted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum TokenError {
    /// This key did not sign it.
    #[error("the token was not issued by this server")]
    Bad,
    /// It is genuine but its time is over.
    #[error("the token's time is over")]
    Expired,
}

/// The key file cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum KeyFileError {
    /// Group or others may read it.
    #[error("{0} may be read by others than its owner; run chmod 600 on it")]
    Open(String),
    /// Not what this program writes.
    #[error("{0} does not hold 64 hexadecimal digits; remove it, and a new key is made (users log in again)")]
    Malformed(String),
    /// Reading or writing fails.
    #[error("{path}: {source}; make it a path that this user may read and write")]
    Io {
        /// The file.
        path: String,
        /// What the system said.
        source: io::Error,
    },
}

impl TokenKey {
    /// A key from a secret.
    pub fn derive(secret: &[u8; SECRET]) -> Self {
        Self(blake3::derive_key("waystation 2026 parcel-server bearer token v1", secret))
    }

    /// Reads the key file; makes one, readable by its owner only, when there is none.
    ///
    /// # Errors
    /// See [`KeyFileError`].
    pub fn load_or_create(path: &Path) -> Result<Self, KeyFileError> {
        let fail = |source| KeyFileError::Io { path: path.display().to_string(), source };
        let mut new = Zeroizing::new([0; SECRET]);
        getrandom::fill(new.as_mut_slice()).map_err(|e| fail(io::Error::other(e)))?;
        let text = Zeroizing::new(hex::encode(*new));
        // Written aside and linked, so that nobody ever reads half a key and the first of two starters wins.
        let aside = path.with_extension(format!("{}.tmp", std::process::id()));
        if !path.exists() {
            let made = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&aside).and_then(
                |mut file| {
                    file.write_all(text.as_bytes())?;
                    file.sync_all()?;
                    std::fs::hard_link(&aside, path)
                },
            );
            let _ = std::fs::remove_file(&aside);
            match made {
                Err(e) if e.kind() != io::ErrorKind::AlreadyExists => return Err(fail(e)),
                _ => {}
            }
        }
        Self::load(path)
    }

    /// Reads the key file.
    ///
    /// # Errors
    /// See [`KeyFileError`].
    pub fn load(path: &Path) -> Result<Self, KeyFileError> {
        let fail = |source| KeyFileError::Io { path: path.display().to_string(), source };
        let file = std::fs::File::open(path).map_err(fail)?;
        if file.metadata().map_err(fail)?.permissions().mode() & 0o077 != 0 {
            return Err(KeyFileError::Open(path.display().to_string()));
        }
        let mut text = Zeroizing::new(String::with_capacity(2 * SECRET + 16));
        let malformed = || KeyFileError::Malformed(path.display().to_string());
        file.take(2 * SECRET as u64 + 16).read_to_string(&mut text).map_err(|e| match e.kind() {
            io::ErrorKind::InvalidData => malformed(),
            _ => fail(e),
        })?;
        let mut secret = Zeroizing::new([0; SECRET]);
        hex::decode_to_slice(text.trim(), secret.as_mut_slice()).map_err(|_| malformed())?;
        Ok(Self::derive(&secret))
    }

    /// A token for `principal` that ends at `expiry`, in seconds since 1970.
    ///
    /// # Errors
    /// The system gives no randomness.
    pub fn issue(&self, principal: &str, expiry: u64) -> io::Result<String> {
        let mut nonce = [0; NONCE];
        getrandom::fill(&mut nonce).map_err(io::Error::other)?;
        let mut token = vec![VERSION];
        token.extend(expiry.to_le_bytes());
        token.extend(nonce);
        token.extend(principal.as_bytes());
        token.extend(self.mac(&token).as_bytes());
        Ok(URL_SAFE_NO_PAD.encode(token))
    }

    /// The principal of a token, and when it ends.
    ///
    /// # Errors
    /// See [`TokenError`].
    pub fn check(&self, token: &str, now: u64) -> Result<(String, u64), TokenError> {
        if token.len() > MAX_TOKEN {
            return Err(TokenError::Bad);
        }
        let bytes = URL_SAFE_NO_PAD.decode(token).map_err(|_| TokenError::Bad)?;
        let (said, mac) = bytes.split_last_chunk::<MAC>().ok_or(TokenError::Bad)?;
        // `blake3::Hash` compares in constant time.
        if self.mac(said) != *mac {
            return Err(TokenError::Bad);
        }
        let (head, principal) = said.split_first_chunk::<HEAD>().ok_or(TokenError::Bad)?;
        let (version, rest) = head.split_first().ok_or(TokenError::Bad)?;
        let (expiry, _) = rest.split_first_chunk::<8>().ok_or(TokenError::Bad)?;
        let principal = std::str::from_utf8(principal).map_err(|_| TokenError::Bad)?;
        if *version != VERSION || !is_principal(principal) {
            return Err(TokenError::Bad);
        }
        let expiry = u64::from_le_bytes(*expiry);
        if now >= expiry {
            return Err(TokenError::Expired);
        }
        Ok((principal.to_owned(), expiry))
    }

    fn mac(&self, said: &[u8]) -> blake3::Hash {
        blake3::keyed_hash(&self.0, said)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn key() -> TokenKey {
        TokenKey::derive(&[7; 32])
    }

    #[test]
    fn a_token_says_who_and_until_when() {
        let token = key().issue("shanta@WAYSTATION.TEST", 1000).unwrap();
        assert_eq!(key().check(&token, 999).unwrap(), ("shanta@WAYSTATION.TEST".to_owned(), 1000));
        assert_eq!(key().check(&token, 1000), Err(TokenError::Expired));
        assert_eq!(TokenKey::derive(&[8; 32]).check(&token, 0), Err(TokenError::Bad));
    }

    #[test]
    fn the_longest_principal_fits() {
        let principal = format!("{}@R", "a".repeat(510));
        let token = key().issue(&principal, 5).unwrap();
        assert!(token.len() <= MAX_TOKEN);
        assert_eq!(key().check(&token, 0).unwrap().0, principal);
    }

    proptest! {
        #[test]
        fn any_flipped_bit_is_refused(at in 0usize..1000, bit in 0u8..8) {
            let token = key().issue("shanta@WAYSTATION.TEST", u64::MAX).unwrap();
            let mut bytes = URL_SAFE_NO_PAD.decode(&token).unwrap();
            let at = at % bytes.len();
            bytes[at] ^= 1 << bit;
            prop_assert_eq!(key().check(&URL_SAFE_NO_PAD.encode(bytes), 0), Err(TokenError::Bad));
        }

        #[test]
        fn any_text_is_refused(text in ".{0,1500}") {
            prop_assert_eq!(key().check(&text, 0), Err(TokenError::Bad));
        }
    }

    #[test]
    fn the_key_file_is_made_once_and_private() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("store.token-key");
        let token = TokenKey::load_or_create(&path).unwrap().issue("a@B", 9).unwrap();
        assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        assert!(TokenKey::load_or_create(&path).unwrap().check(&token, 0).is_ok());
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 1);

        std::fs::set_permissions(&path, PermissionsExt::from_mode(0o640)).unwrap();
        assert!(matches!(TokenKey::load_or_create(&path), Err(KeyFileError::Open(_))));
        std::fs::set_permissions(&path, PermissionsExt::from_mode(0o600)).unwrap();
        std::fs::write(&path, "abc").unwrap();
        assert!(matches!(TokenKey::load_or_create(&path), Err(KeyFileError::Malformed(_))));
    }
}
