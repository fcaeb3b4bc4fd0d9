//! Certificates judged at another time than now: for a client whose own clock may be wrong by years, and that is about to
//! learn the time from the server.
//!
//! The handshake proves that the server has the key of the certificate it shows. Whether that certificate and its chain are
//! good is asked afterwards, at the time that the server claims: [`Chain::holds_at`]. Until then nothing that the server
//! said counts.

use crate::{
    pem,
    trust::{self, TrustError},
};
use rustls::{
    CertificateError, ClientConfig, DigitallySignedStruct, Error, RootCertStore, SignatureScheme,
    client::{
        WebPkiServerVerifier,
        danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
    },
    pki_types::{CertificateDer, ServerName, UnixTime},
};
use std::{
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};
use x509_parser::{certificate::X509Certificate, prelude::FromDer};

/// What a server showed of itself.
#[derive(Debug, Clone)]
pub struct Chain {
    certificates: Vec<CertificateDer<'static>>,
    name: ServerName<'static>,
}

/// Why a chain does not hold.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Fault {
    /// At that time, one of its certificates is not valid any more.
    #[error("it has expired")]
    Expired,
    /// At that time, the certificate of the CA that it leads to is not valid any more.
    #[error("the certificate of its CA has expired")]
    CaExpired {
        /// The last second at which it was valid, in seconds since 1970.
        last: i64,
        /// All else holds: clients go on, because they take a CA as good for ever.
        clients_go_on: bool,
    },
    /// At that time, one of its certificates, or the CA itself, is not valid yet.
    #[error("it is not valid yet")]
    NotYet,
    /// It is not a chain of the site's CA for this name, at any time.
    #[error("{0}")]
    Untrusted(String),
}

impl Chain {
    /// Whether the chain leads to a CA in these bytes, for the name that was asked for, with every certificate of it and the
    /// CA's own valid at `at`.
    ///
    /// # Errors
    /// See [`Fault`].
    pub fn holds_at(&self, ca: &[u8], at: UnixTime) -> Result<(), Fault> {
        let pem = pem::read(ca).map_err(|error| Fault::Untrusted(error.to_string()))?;
        let mut good = Vec::new();
        let mut off = Vec::new();
        for certificate in pem.certificates {
            // The verifier takes a CA's own certificate as good for ever.
            match age(&certificate, at) {
                None => good.push(certificate),
                Some(fault) => off.push((certificate, fault)),
            }
        }
        let found = match off.is_empty() || !good.is_empty() {
            true => self.leads_to(&good, at),
            false => Err(Fault::Untrusted("it is from no CA of the file".to_owned())),
        };
        let Err(fault) = found else { return Ok(()) };
        if self.ever_leads_to(&good, at) {
            return Err(fault);
        }
        let own = off.iter().find(|(ca, _)| self.ever_leads_to(std::slice::from_ref(ca), at));
        Err(match own {
            None => fault,
            Some((_, Age::NotYet)) => Fault::NotYet,
            Some((_, Age::Unreadable)) => {
                Fault::Untrusted("a certificate of the CA cannot be read".to_owned())
            }
            Some((_, Age::Ended { last })) => {
                let all: Vec<_> = good.into_iter().chain(off.iter().map(|(ca, _)| ca.clone())).collect();
                Fault::CaExpired { last: *last, clients_go_on: self.leads_to(&all, at).is_ok() }
            }
        })
    }

    /// Whether the chain leads to one of these CAs, which are taken as valid, with every certificate of it valid at `at`.
    fn leads_to(&self, cas: &[CertificateDer<'static>], at: UnixTime) -> Result<(), Fault> {
        let untrusted = |why: String| Fault::Untrusted(why);
        let mut roots = RootCertStore::empty();
        for ca in cas {
            roots.add(ca.clone()).map_err(|error| untrusted(error.to_string()))?;
        }
        if roots.is_empty() {
            return Err(untrusted("there is no certificate of a CA".to_owned()));
        }
        let verifier = trust::verifier(roots).map_err(|error| untrusted(error.to_string()))?;
        let Some((own, others)) = self.certificates.split_first() else {
            return Err(untrusted("the server showed no certificate".to_owned()));
        };
        verifier.verify_server_cert(own, others, &self.name, &[], at).map(drop).map_err(|error| match error {
            Error::InvalidCertificate(
                CertificateError::Expired | CertificateError::ExpiredContext { .. },
            ) => Fault::Expired,
            Error::InvalidCertificate(
                CertificateError::NotValidYet | CertificateError::NotValidYetContext { .. },
            ) => Fault::NotYet,
            error => untrusted(error.to_string()),
        })
    }

    /// Whether the chain leads to one of these CAs at `at` or at any time: else its own age would hide where it leads. If
    /// there is such a time, the latest start among the certificates on the way is one. Which are on the way only the
    /// verifier knows: a server may show others, too.
    fn ever_leads_to(&self, cas: &[CertificateDer<'static>], at: UnixTime) -> bool {
        let starts = self.certificates.iter().filter_map(|certificate| {
            let (_, parsed) = X509Certificate::from_der(certificate).ok()?;
            let start = u64::try_from(parsed.validity().not_before.timestamp()).unwrap_or(0);
            Some(UnixTime::since_unix_epoch(Duration::from_secs(start)))
        });
        std::iter::once(at).chain(starts).any(|at| self.leads_to(cas, at).is_ok())
    }
}

/// What is wrong with the age of a CA's certificate.
enum Age {
    Unreadable,
    NotYet,
    /// `last`: as in [`Fault::CaExpired`].
    Ended {
        last: i64,
    },
}

/// What is wrong with it at `at`, if anything.
fn age(certificate: &CertificateDer<'_>, at: UnixTime) -> Option<Age> {
    let Ok((_, parsed)) = X509Certificate::from_der(certificate) else {
        return Some(Age::Unreadable);
    };
    let at = i64::try_from(at.as_secs()).unwrap_or(i64::MAX);
    if at < parsed.validity().not_before.timestamp() {
        return Some(Age::NotYet);
    }
    let last = parsed.validity().not_after.timestamp();
    (at > last).then_some(Age::Ended { last })
}

/// Lets every chain pass the handshake, and keeps it for [`Chain::holds_at`]. The signature of the handshake is verified.
#[derive(Debug)]
pub struct Later {
    signatures: Arc<WebPkiServerVerifier>,
    seen: Mutex<Option<Chain>>,
}

impl Later {
    /// What the server of the last handshake showed.
    pub fn chain(&self) -> Option<Chain> {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

impl ServerCertVerifier for Later {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        _ocsp: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        let all = std::iter::once(end_entity).chain(intermediates);
        let chain = Chain {
            certificates: all.map(|certificate| certificate.clone().into_owned()).collect(),
            name: server_name.to_owned(),
        };
        *self.seen.lock().unwrap_or_else(PoisonError::into_inner) = Some(chain);
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.signatures.verify_tls12_signature(message, certificate, signed)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.signatures.verify_tls13_signature(message, certificate, signed)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.signatures.supported_verify_schemes()
    }
}

/// How a client talks TLS that judges the server's chain after the handshake, against the CA in these bytes.
///
/// # Errors
/// See [`TrustError`].
pub fn client_config(ca: &[u8]) -> Result<(ClientConfig, Arc<Later>), TrustError> {
    let later = Arc::new(Later { signatures: trust::verifier(trust::roots(ca)?)?, seen: Mutex::new(None) });
    let config = ClientConfig::builder_with_provider(trust::provider())
        .with_safe_default_protocol_versions()
        .map_err(|error| TrustError::Other(error.to_string()))?
        .dangerous()
        .with_custom_certificate_verifier(later.clone())
        .with_no_client_auth();
    Ok((config, later))
}

#[cfg(test)]
mod tests {
    use super::*;
    use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair, date_time_ymd};

    const NAME: &str = "parcels.example.org";

    fn of_ca(name: &str, years: (i32, i32)) -> CertificateParams {
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.distinguished_name.push(DnType::CommonName, name);
        (params.not_before, params.not_after) = (date_time_ymd(years.0, 1, 1), date_time_ymd(years.1, 1, 1));
        params
    }

    /// A CA of those years, and the chain of a server of those.
    fn made(ca: (i32, i32), server: (i32, i32)) -> (String, Chain) {
        let ca = CertifiedIssuer::self_signed(of_ca("CA", ca), KeyPair::generate().unwrap()).unwrap();
        let chain = signed(&ca, server);
        (ca.pem(), chain)
    }

    /// The chain of a server of those years.
    fn signed(ca: &CertifiedIssuer<'_, KeyPair>, server: (i32, i32)) -> Chain {
        let mut params = CertificateParams::new(vec![NAME.to_owned()]).unwrap();
        (params.not_before, params.not_after) =
            (date_time_ymd(server.0, 1, 1), date_time_ymd(server.1, 1, 1));
        let certificate = params.signed_by(&KeyPair::generate().unwrap(), ca).unwrap();
        Chain { certificates: vec![certificate.der().clone()], name: ServerName::try_from(NAME).unwrap() }
    }

    fn year(year: i32) -> UnixTime {
        let at = u64::try_from(date_time_ymd(year, 6, 1).unix_timestamp()).unwrap();
        UnixTime::since_unix_epoch(Duration::from_secs(at))
    }

    #[test]
    fn it_holds_while_the_ca_and_the_server_do() {
        let (ca, chain) = made((2020, 2040), (2030, 2032));
        let at = |at| chain.holds_at(ca.as_bytes(), year(at));
        assert_eq!([at(2029), at(2030), at(2031)], [Err(Fault::NotYet), Ok(()), Ok(())]);
        assert_eq!(at(2032), Err(Fault::Expired));
        let (ca, chain) = made((2030, 2032), (2020, 2040));
        let at = |at| chain.holds_at(ca.as_bytes(), year(at));
        assert_eq!([at(2029), at(2031), at(2033)], [Err(Fault::NotYet), Ok(()), Err(ended(2032, true))]);
    }

    fn ended(year: i32, clients_go_on: bool) -> Fault {
        Fault::CaExpired { last: date_time_ymd(year, 1, 1).unix_timestamp(), clients_go_on }
    }

    #[test]
    fn a_ca_that_has_expired_is_told_from_a_server_that_has_and_from_a_stranger() {
        let (old, under_old) = made((2020, 2025), (2020, 2040));
        let (older, _) = made((2010, 2024), (2010, 2040));
        let (new, under_new) = made((2024, 2040), (2024, 2028));
        let (_, stranger) = made((2020, 2040), (2020, 2040));
        let (_, stranger_of_once) = made((2020, 2040), (2020, 2022));
        let at = |chain: &Chain, cas: &[&String], at| {
            chain.holds_at(cas.iter().map(|ca| ca.as_str()).collect::<String>().as_bytes(), year(at))
        };
        // Alone, beside one that is good, and beside others that have expired.
        for file in [vec![&old], vec![&old, &new], vec![&new, &old], vec![&older, &old]] {
            assert_eq!(at(&under_old, &file, 2024), Ok(()));
            assert_eq!(at(&under_old, &file, 2026), Err(ended(2025, true)));
            // Its own certificate has expired as well.
            assert_eq!(at(&under_old, &file, 2041), Err(ended(2025, false)));
        }
        for file in [vec![&old, &new], vec![&new, &older]] {
            assert_eq!(at(&under_new, &file, 2027), Ok(()));
            assert_eq!(at(&under_new, &file, 2029), Err(Fault::Expired));
        }
        for file in [vec![&old], vec![&old, &new], vec![&old, &older]] {
            let found = at(&stranger, &file, 2030);
            assert!(matches!(found, Err(Fault::Untrusted(_))), "{found:?}");
        }
        assert!(matches!(at(&stranger_of_once, &[&old], 2030), Err(Fault::Untrusted(_))));
        let elsewhere = Chain { name: ServerName::try_from("other.example.org").unwrap(), ..under_old };
        assert!(matches!(at(&elsewhere, &[&old], 2026), Err(Fault::Untrusted(_))));
    }

    /// The verifier passes over what it does not need of a chain, of whatever age.
    #[test]
    fn a_certificate_that_is_not_needed_does_not_hide_where_a_chain_leads() {
        let own =
            |name, years| CertifiedIssuer::self_signed(of_ca(name, years), KeyPair::generate().unwrap());
        let (root, old) = (own("root", (2024, 2034)).unwrap(), own("old", (2010, 2020)).unwrap());
        let key = KeyPair::generate().unwrap();
        let between = CertifiedIssuer::signed_by(of_ca("between", (2027, 2030)), key, &root).unwrap();
        let mut alone = signed(&root, (2026, 2028));
        let mut below = signed(&between, (2026, 2028));
        below.certificates.push(between.der().clone());
        let other = own("other", (2024, 2034)).unwrap().pem();
        for (chain, start) in [(&mut alone, 2026), (&mut below, 2027)] {
            chain.certificates.push(old.der().clone());
            let at = |at| chain.holds_at(root.pem().as_bytes(), year(at));
            assert_eq!([at(2021), at(start - 1)], [Err(Fault::NotYet), Err(Fault::NotYet)]);
            assert_eq!([at(start), at(2027), at(2029)], [Ok(()), Ok(()), Err(Fault::Expired)]);
            assert_eq!(at(2040), Err(ended(2034, false)));
            for at in [2015, 2021, 2027, 2040] {
                let found = chain.holds_at(other.as_bytes(), year(at));
                assert!(matches!(found, Err(Fault::Untrusted(_))), "{found:?}");
            }
        }
    }

    #[test]
    fn another_ca_and_another_name_never_hold() {
        let (_, mut chain) = made((2020, 2040), (2020, 2040));
        let (other, _) = made((2020, 2040), (2020, 2040));
        assert!(matches!(chain.holds_at(other.as_bytes(), year(2030)), Err(Fault::Untrusted(_))));
        let (ca, own) = made((2020, 2040), (2020, 2040));
        chain = Chain { name: ServerName::try_from("other.example.org").unwrap(), ..own };
        assert!(matches!(chain.holds_at(ca.as_bytes(), year(2030)), Err(Fault::Untrusted(_))));
        assert!(matches!(chain.holds_at(b"", year(2030)), Err(Fault::Untrusted(_))));
    }
}
