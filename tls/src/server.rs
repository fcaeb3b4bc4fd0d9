//! Is this the certificate of a server that a client will talk to? As strict as the client's own verifier, which has the
//! last word; what comes before only finds better words for what is wrong.

use crate::trust;
use rustls::{
    CertificateError, Error, RootCertStore,
    client::danger::ServerCertVerifier,
    crypto::CryptoProvider,
    pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime},
    server::ParsedCertificate,
    sign::CertifiedKey,
};
use x509_parser::{
    certificate::X509Certificate,
    extensions::GeneralName,
    oid_registry::{OID_EC_P256, OID_NIST_EC_P384, OID_NIST_EC_P521, OID_SIG_ED25519},
    prelude::FromDer,
    public_key::PublicKey,
};

/// Bits of an RSA key that clients accept.
const RSA: std::ops::RangeInclusive<usize> = 2048..=8192;

/// What is wrong, and what to do about it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fault {
    /// Whether the key's file is to blame, not the certificate's.
    pub of_key: bool,
    /// Whether it is only a matter of time: the clock, or when the certificate holds.
    pub of_time: bool,
    /// What is wrong.
    pub what: String,
    /// What to do.
    pub remedy: &'static str,
}

fn fault(what: impl Into<String>, remedy: &'static str) -> Fault {
    Fault { of_key: false, of_time: false, what: what.into(), remedy }
}

const SAN: &str = "make one with subjectAltName = DNS:NAME, the host of the service";
const ORDER: &str = "write the server's own certificate first, then the one that signed it, and so on";
const KEY: &str = "make a key on the curve P-256 or P-384, with Ed25519, or with RSA of 2048 to 8192 bits";

/// Judges the chain and key of the server `name` at `now`; `roots` are what its clients trust, if that is known.
///
/// # Errors
/// The first fault.
pub fn judge(
    chain: &[CertificateDer<'static>],
    key: PrivateKeyDer<'static>,
    name: &str,
    now: UnixTime,
    roots: Option<RootCertStore>,
) -> Result<(), Fault> {
    let first = chain.first().ok_or_else(|| fault("there is no certificate", ORDER))?;
    let parsed: Vec<_> = chain.iter().map(parse).collect::<Result<_, _>>()?;
    let Some((own, signers)) = parsed.split_first() else {
        return Err(fault("there is no certificate", ORDER));
    };

    for (number, pair) in parsed.windows(2).enumerate() {
        let [lower, upper] = pair else { continue };
        if lower.issuer() == upper.subject() {
            continue;
        }
        if upper.issuer() == lower.subject() {
            return Err(fault(
                "the chain is in the wrong order: a certificate comes before what it signed",
                ORDER,
            ));
        }
        let what = format!(
            "certificate {} of the chain, of {:?}, did not sign the one before it, which {:?} signed",
            number + 2,
            upper.subject().to_string(),
            lower.issuer().to_string()
        );
        return Err(fault(what, ORDER));
    }
    if own.is_ca() {
        let what = format!(
            "the first certificate, of {:?}, is a CA's, which clients take for no server",
            own.subject().to_string()
        );
        return Err(fault(what, "have the CA sign a certificate of the server's own, with CA:FALSE"));
    }
    if let Some(signer) = signers.iter().find(|signer| !signer.is_ca()) {
        let what =
            format!("the chain holds a certificate of {:?} that is not a CA's", signer.subject().to_string());
        return Err(fault(what, "keep only the server's own certificate and those of CAs"));
    }
    public_key(own)?;
    pair(chain, key)?;
    names(own, first, name)?;
    if let Ok(Some(usage)) = own.extended_key_usage()
        && !usage.value.server_auth
        && !usage.value.any
    {
        let what = "the certificate is not for servers: its extended key usage lacks serverAuth";
        return Err(fault(what, "make one with extendedKeyUsage = serverAuth"));
    }
    times(&parsed, now)?;
    // Without the CA, the chain's own end stands for it; a chain of one certificate cannot be verified further.
    let roots = match roots {
        Some(roots) => roots,
        None if chain.len() > 1 => {
            let mut roots = RootCertStore::empty();
            let top = chain.last().cloned().ok_or_else(|| fault("there is no certificate", ORDER))?;
            roots
                .add(top)
                .map_err(|e| fault(format!("the last certificate of the chain is not good: {e}"), ORDER))?;
            roots
        }
        None => return Ok(()),
    };
    verified(chain, name, now, roots)
}

fn parse<'a>(der: &'a CertificateDer<'static>) -> Result<X509Certificate<'a>, Fault> {
    match X509Certificate::from_der(der) {
        Ok(([], certificate)) => Ok(certificate),
        _ => Err(fault("a certificate of the chain cannot be read", "copy it again from the CA")),
    }
}

fn public_key(own: &X509Certificate<'_>) -> Result<(), Fault> {
    let info = own.public_key();
    let what = match info.parsed() {
        Ok(PublicKey::RSA(key)) => {
            let bits = key.key_size();
            if RSA.contains(&bits) {
                return Ok(());
            }
            format!("the key is RSA of {bits} bits, which clients do not accept")
        }
        Ok(PublicKey::EC(_)) => {
            let curve = info.algorithm.parameters.as_ref().and_then(|any| any.as_oid().ok());
            match curve {
                Some(curve) if curve == OID_EC_P256 || curve == OID_NIST_EC_P384 => return Ok(()),
                Some(curve) if curve == OID_NIST_EC_P521 => {
                    "the key is on the curve P-521, which clients here do not know".to_owned()
                }
                _ => "the key is on a curve that clients here do not know".to_owned(),
            }
        }
        _ if info.algorithm.algorithm == OID_SIG_ED25519 => return Ok(()),
        _ => "the key is of a kind that clients here do not know".to_owned(),
    };
    Err(fault(what, KEY))
}

fn pair(chain: &[CertificateDer<'static>], key: PrivateKeyDer<'static>) -> Result<(), Fault> {
    let provider: &CryptoProvider = &trust::provider();
    let of_key = |what: String, remedy| Fault { of_key: true, ..fault(what, remedy) };
    let signing = provider
        .key_provider
        .load_private_key(key)
        .map_err(|e| of_key(format!("the key cannot be used ({e})"), KEY))?;
    CertifiedKey::new(chain.to_vec(), signing).keys_match().map_err(|e| match e {
        Error::InconsistentKeys(_) => of_key(
            "the key is not that of the first certificate".to_owned(),
            "give the certificate chain and its key, each as PEM and belonging together",
        ),
        e => of_key(format!("the key cannot be used ({e})"), KEY),
    })
}

fn names(own: &X509Certificate<'_>, der: &CertificateDer<'_>, name: &str) -> Result<(), Fault> {
    let held = match own.subject_alternative_name() {
        Ok(Some(names)) => names
            .value
            .general_names
            .iter()
            .filter_map(|name| match name {
                GeneralName::DNSName(name) => Some((*name).to_owned()),
                _ => None,
            })
            .collect::<Vec<_>>(),
        Ok(None) => {
            let what =
                "the certificate has no subject alternative name, and clients do not look at its common name";
            return Err(fault(what, SAN));
        }
        Err(e) => return Err(fault(format!("its subject alternative name cannot be read ({e})"), SAN)),
    };
    let server = ServerName::try_from(name.to_owned())
        .map_err(|_| fault(format!("{name:?} is not the name of a host"), "correct service"))?;
    let parsed = ParsedCertificate::try_from(der)
        .map_err(|e| fault(format!("the certificate cannot be used ({e})"), "have the CA make another"))?;
    rustls::client::verify_server_name(&parsed, &server).map_err(|_| {
        let held = if held.is_empty() { "no host".to_owned() } else { held.join(", ") };
        fault(format!("the certificate is for {held}, and the service is on {name}"), SAN)
    })
}

fn times(chain: &[X509Certificate<'_>], now: UnixTime) -> Result<(), Fault> {
    let of_time = |what, remedy| Fault { of_time: true, ..fault(what, remedy) };
    let now = i64::try_from(now.as_secs()).unwrap_or(i64::MAX);
    for certificate in chain {
        let (subject, held) = (certificate.subject().to_string(), certificate.validity());
        if now < held.not_before.timestamp() {
            let what = format!("the certificate of {subject:?} does not hold before {}", held.not_before);
            return Err(of_time(what, "check this machine's clock, or have the CA make another"));
        }
        if now > held.not_after.timestamp() {
            let what = format!("the certificate of {subject:?} has expired on {}", held.not_after);
            return Err(of_time(what, "renew it, and check this machine's clock"));
        }
    }
    Ok(())
}

fn verified(
    chain: &[CertificateDer<'static>],
    name: &str,
    now: UnixTime,
    roots: RootCertStore,
) -> Result<(), Fault> {
    let verifier = trust::verifier(roots).map_err(|e| fault(format!("the CA {e}"), "correct tls.ca"))?;
    let server = ServerName::try_from(name.to_owned())
        .map_err(|_| fault(format!("{name:?} is not the name of a host"), "correct service"))?;
    let (own, signers) = chain.split_first().ok_or_else(|| fault("there is no certificate", ORDER))?;
    verifier.verify_server_cert(own, signers, &server, &[], now).map(drop).map_err(|e| match e {
        Error::InvalidCertificate(CertificateError::UnknownIssuer) => fault(
            "the CA that clients trust did not sign it, or a certificate between the two is missing",
            "have that CA sign it, and append what is between the two to the chain",
        ),
        e => fault(format!("clients will not accept it ({e})"), "have the CA make another"),
    })
}
