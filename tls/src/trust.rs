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

#[cfg(test)]
mod tests {
    use super::*;
    use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair, date_time_ymd};
    use rustls::{ClientConnection, ServerConfig, ServerConnection, pki_types::ServerName};

    /// The kiosk tells travellers so ([`crate::dated::Fault::CaExpired`]).
    #[test]
    fn a_client_goes_on_when_its_ca_has_expired() {
        let made = |ca: bool, name: &str, last| {
            let mut params = CertificateParams::new(vec![name.to_owned()]).unwrap();
            if ca {
                params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
            }
            (params.not_before, params.not_after) = (date_time_ymd(2010, 1, 1), date_time_ymd(last, 1, 1));
            params
        };
        let ca =
            CertifiedIssuer::self_signed(made(true, "ca.example.org", 2020), KeyPair::generate().unwrap());
        let (ca, key) = (ca.unwrap(), KeyPair::generate().unwrap());
        let certificate = made(false, "parcels.example.org", 4000).signed_by(&key, &ca).unwrap();
        let server = ServerConfig::builder_with_provider(provider())
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(vec![certificate.der().clone()], key.serialize_der().try_into().unwrap())
            .unwrap();
        let client = client_config(ca.pem().as_bytes()).unwrap();
        let name = ServerName::try_from("parcels.example.org").unwrap();
        let mut client = ClientConnection::new(Arc::new(client), name).unwrap();
        let mut server = ServerConnection::new(Arc::new(server)).unwrap();
        while client.is_handshaking() {
            let mut sent = Vec::new();
            client.write_tls(&mut sent).unwrap();
            server.read_tls(&mut sent.as_slice()).unwrap();
            server.process_new_packets().unwrap();
            let mut sent = Vec::new();
            server.write_tls(&mut sent).unwrap();
            client.read_tls(&mut sent.as_slice()).unwrap();
            client.process_new_packets().unwrap();
        }
    }
}
