//! What a client of the parcel server trusts: the certificates of the site's CA, and nothing else.

use crate::pem::{self, PemError};
use rustls::{ClientConfig, RootCertStore, client::WebPkiServerVerifier, crypto::CryptoProvider};
use std::sync::Arc;

/// A file of CA certificates that is not used. Each sentence goes on behind the file's name.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TrustError {
    /// See [`PemError`].
    #[error(transparent)]
    Pem(#[from] PemError),
    /// No certificate among its blocks.
    #[error("holds no certificate; give a PEM file with the certificate of the server's CA")]
    None,
    /// A private key lies in a file that is handed out.
    #[error("holds a private key that would lie open; name a file with the certificate only")]
    Key,
    /// Not a certificate that can be trusted.
    #[error(
        "holds {count} certificates, of which number {number} cannot be trusted ({why}); keep only certificates of CAs"
    )]
    Certificate {
        /// How many there are.
        count: usize,
        /// Which one, from 1.
        number: usize,
        /// What is wrong with it.
        why: String,
    },
    /// The cryptography here cannot do it.
    #[error("cannot be used ({0}); give the certificate of the server's CA")]
    Other(String),
}

/// The cryptography of all TLS here.
pub fn provider() -> Arc<CryptoProvider> {
    Arc::new(rustls::crypto::ring::default_provider())
}

/// The certificates of a CA file, every one of them.
///
/// # Errors
/// See [`TrustError`].
pub fn roots(bytes: &[u8]) -> Result<RootCertStore, TrustError> {
    let pem = pem::read(bytes)?;
    if !pem.keys.is_empty() {
        return Err(TrustError::Key);
    }
    let count = pem.certificates.len();
    let mut roots = RootCertStore::empty();
    for (index, certificate) in pem.certificates.into_iter().enumerate() {
        roots.add(certificate).map_err(|e| TrustError::Certificate {
            count,
            number: index + 1,
            why: e.to_string(),
        })?;
    }
    if roots.is_empty() { Err(TrustError::None) } else { Ok(roots) }
}

/// How a client talks TLS that trusts only the certificates in these bytes.
///
/// # Errors
/// See [`TrustError`].
pub fn client_config(ca: &[u8]) -> Result<ClientConfig, TrustError> {
    let roots = roots(ca)?;
    Ok(ClientConfig::builder_with_provider(provider())
        .with_safe_default_protocol_versions()
        .map_err(|e| TrustError::Other(e.to_string()))?
        .with_root_certificates(roots)
        .with_no_client_auth())
}

/// What such a client verifies servers with.
///
/// # Errors
/// See [`TrustError`].
pub fn verifier(roots: RootCertStore) -> Result<Arc<WebPkiServerVerifier>, TrustError> {
    WebPkiServerVerifier::builder_with_provider(Arc::new(roots), provider())
        .build()
        .map_err(|e| TrustError::Other(e.to_string()))
}
