//! Logging in to the realm and to the parcel server: password or credential cache → ticket → SPNEGO → bearer token.
//!
//! The library is asked for Kerberos alone, and its token is put into SPNEGO's envelope here. Were the library asked for
//! SPNEGO, it would renumber libkrb5's errors; asked for both, it would go to the KDC with the password twice.
//!
//! MIT krb5 1.20 has no time-out of its own for a whole request, so every GSSAPI call runs on a thread that is left
//! behind when it takes too long. Nothing is unlocked on a Kerberos success alone: a rogue KDC can accept any
//! password, but it cannot make a ticket that the parcel server accepts.

use client::api::{Api, ApiError};
use libgssapi::{
    context::{ClientCtx, CtxFlags},
    credential::{Cred, CredUsage},
    error::{Error as GssError, MajorFlags},
    name::Name,
    oid::{GSS_MECH_KRB5, GSS_NT_HOSTBASED_SERVICE, GSS_NT_KRB5_PRINCIPAL, OidSet},
};
use parcel::wire::{WireError, http::SessionReply};
use std::time::Duration;
use zeroize::Zeroizing;

/// How long one exchange with the KDC may take.
const KDC_PATIENCE: Duration = Duration::from_secs(15);
/// `ERROR_TABLE_BASE_krb5`.
const KRB5_BASE: i64 = -1_765_328_384;

/// Why a log-in did not succeed. An unknown user and a wrong password are the same error on purpose.
#[derive(Debug, Clone, thiserror::Error)]
pub enum LoginError {
    /// Wrong password, or no such user.
    #[error("the user name or the password is not right")]
    Denied,
    /// The password must be changed first.
    #[error("the password has expired; change it before you log in")]
    PasswordExpired,
    /// The account is locked or revoked.
    #[error("the account is locked; ask your administrator to unlock it")]
    Locked,
    /// The account itself has expired.
    #[error("the account has expired; ask your administrator to renew it")]
    AccountExpired,
    /// The clocks of this machine and the realm are too far apart.
    #[error("the clock of this machine and that of the realm differ too much; set the clock")]
    ClockSkew,
    /// No KDC answers.
    #[error("no Kerberos server of the realm {realm} answers; check the network")]
    KdcUnreachable {
        /// The realm.
        realm: String,
    },
    /// Nothing is known about the realm.
    #[error("nothing is known of the Kerberos realm {realm}; check its name in the configuration")]
    RealmUnknown {
        /// The realm.
        realm: String,
    },
    /// There is no ticket in the credential cache.
    #[error("there is no valid Kerberos ticket; run kinit first")]
    NoTicket,
    /// The parcel server is not known to the realm.
    #[error("the realm does not know the parcel server {service}; check the server's address and its keytab")]
    ServiceUnknown {
        /// Its principal.
        service: String,
    },
    /// The parcel server refused the ticket, or cannot be reached.
    #[error(transparent)]
    Server(#[from] ApiError),
    /// Anything else.
    #[error("Kerberos failed: {0}")]
    Other(String),
}

impl LoginError {
    /// The code for IT.
    pub fn code(&self) -> &str {
        match self {
            Self::Denied => "login-denied",
            Self::PasswordExpired => "password-expired",
            Self::Locked => "account-locked",
            Self::AccountExpired => "account-expired",
            Self::ClockSkew => "clock-skew",
            Self::KdcUnreachable { .. } => "kdc-unreachable",
            Self::RealmUnknown { .. } => "realm-unknown",
            Self::NoTicket => "no-ticket",
            Self::ServiceUnknown { .. } => "service-unknown",
            Self::Server(error) => error.code(),
            Self::Other(_) => "kerberos-failed",
        }
    }

    /// The error as it travels.
    pub fn to_wire(&self) -> WireError {
        match self {
            Self::Server(error) => error.to_wire(),
            other => WireError::new(other.code(), other.to_string()),
        }
    }
}

/// What the login of a user is about, for the words of its errors.
#[derive(Debug, Clone)]
struct Subject {
    realm: String,
    service: String,
}

impl Subject {
    fn error(&self, error: GssError) -> LoginError {
        let offset = i64::from(error.minor as i32) - KRB5_BASE;
        match offset {
            24 | 31 | 6 => LoginError::Denied,
            23 => LoginError::PasswordExpired,
            18 => LoginError::Locked,
            1 => LoginError::AccountExpired,
            37 | 148 => LoginError::ClockSkew,
            156 => LoginError::KdcUnreachable { realm: self.realm.clone() },
            154 => LoginError::RealmUnknown { realm: self.realm.clone() },
            7 => LoginError::ServiceUnknown { service: self.service.clone() },
            32 | 195 => LoginError::NoTicket,
            _ if error.major.contains(MajorFlags::GSS_S_CREDENTIALS_EXPIRED)
                || error.major.contains(MajorFlags::GSS_S_NO_CRED) =>
            {
                LoginError::NoTicket
            }
            _ => LoginError::Other(error.to_string()),
        }
    }

    fn timed_out(&self) -> LoginError {
        LoginError::KdcUnreachable { realm: self.realm.clone() }
    }
}

/// A credential that can start a session: from a password, or the caller's default credential cache.
pub struct Credential {
    cred: Cred,
    realm: String,
}

/// Runs a blocking GSSAPI call on a thread of its own, and gives it up when it takes longer than [`KDC_PATIENCE`].
async fn bounded<T: Send + 'static>(
    subject: &Subject,
    call: impl FnOnce() -> Result<T, GssError> + Send + 'static,
) -> Result<T, LoginError> {
    let (done, result) = tokio::sync::oneshot::channel();
    std::thread::Builder::new()
        .name("gssapi".into())
        .spawn(move || drop(done.send(call())))
        .map_err(|e| LoginError::Other(e.to_string()))?;
    match tokio::time::timeout(KDC_PATIENCE, result).await {
        Ok(Ok(result)) => result.map_err(|error| subject.error(error)),
        Ok(Err(_)) => Err(LoginError::Other("the Kerberos library failed".into())),
        Err(_) => Err(subject.timed_out()),
    }
}

fn kerberos_only() -> Result<OidSet, GssError> {
    let mut mechanisms = OidSet::new();
    mechanisms.add(GSS_MECH_KRB5)?;
    Ok(mechanisms)
}

/// Gets a ticket for `principal` (`user@REALM`) with a password, in one exchange with the KDC, into a memory cache of
/// this process alone, which ends with the credential.
pub async fn login_with_password(
    principal: &str,
    password: Zeroizing<String>,
) -> Result<Credential, LoginError> {
    let Some((user, realm)) =
        principal.rsplit_once('@').filter(|(user, realm)| !user.is_empty() && !realm.is_empty())
    else {
        return Err(LoginError::Denied);
    };
    if password.is_empty() || user.contains('\0') {
        return Err(LoginError::Denied);
    }
    let subject = Subject { realm: realm.to_owned(), service: String::new() };
    let name = principal.to_owned();
    let cred = bounded(&subject, move || {
        let name = Name::new(name.as_bytes(), Some(GSS_NT_KRB5_PRINCIPAL))?;
        let cred = Cred::acquire_with_password(
            Some(&name),
            &password,
            None,
            CredUsage::Initiate,
            Some(&kerberos_only()?),
        )?;
        drop(password);
        // The library may put the exchange with the KDC off until the credential is looked at.
        cred.lifetime()?;
        Ok(cred)
    })
    .await?;
    Ok(Credential { cred, realm: realm.to_owned() })
}

/// The ticket that `kinit` left in the default credential cache.
pub async fn from_default_cache() -> Result<Credential, LoginError> {
    let subject = Subject { realm: "of your ticket".into(), service: String::new() };
    let (cred, realm) = bounded(&subject, move || {
        let cred = Cred::acquire(None, None, CredUsage::Initiate, Some(&kerberos_only()?))?;
        cred.lifetime()?;
        let name = cred.name()?.to_string();
        Ok((cred, name))
    })
    .await?;
    let realm = realm.rsplit_once('@').map_or(String::new(), |(_, realm)| realm.to_owned());
    Ok(Credential { cred, realm })
}

impl Credential {
    /// Who this is, `user@REALM`.
    pub fn principal(&self) -> Result<String, LoginError> {
        self.cred.name().map(|name| name.to_string()).map_err(|e| LoginError::Other(e.to_string()))
    }

    /// Logs in to the parcel server: one SPNEGO token for a bearer token, which `api` uses from then on.
    pub async fn negotiate(&self, api: &Api) -> Result<SessionReply, LoginError> {
        let service = format!("HTTP@{}", api.host());
        let subject =
            Subject { realm: self.realm.clone(), service: format!("HTTP/{}@{}", api.host(), self.realm) };
        let cred = self.cred.clone();
        let token = bounded(&subject, move || {
            let target = Name::new(service.as_bytes(), Some(GSS_NT_HOSTBASED_SERVICE))?;
            let flags = CtxFlags::GSS_C_MUTUAL_FLAG;
            let mut context = ClientCtx::new(Some(cred), target, flags, Some(GSS_MECH_KRB5));
            let token = context.step(None, None)?;
            Ok(token.map(|token| spnego(&token)).unwrap_or_default())
        })
        .await?;
        let reply = api.session(&base64(&token)).await?;
        api.set_token(reply.token.clone().into_text());
        Ok(reply)
    }
}

/// The first token of SPNEGO (`NegTokenInit`, RFC 4178 section 4.2.1) that offers Kerberos alone and carries its first
/// token. With one mechanism there is nothing to protect by a MIC of the list.
fn spnego(kerberos: &[u8]) -> Vec<u8> {
    const SPNEGO: [u8; 8] = [0x06, 0x06, 0x2b, 0x06, 0x01, 0x05, 0x05, 0x02];
    const KRB5: [u8; 11] = [0x06, 0x09, 0x2a, 0x86, 0x48, 0x86, 0xf7, 0x12, 0x01, 0x02, 0x02];
    let mechanisms = der(0xa0, &der(0x30, &KRB5));
    let token = der(0xa2, &der(0x04, kerberos));
    let init = der(0xa0, &der(0x30, &[mechanisms, token].concat()));
    der(0x60, &[&SPNEGO[..], &init].concat())
}

/// One element of DER (X.690): tag, length, contents.
fn der(tag: u8, contents: &[u8]) -> Vec<u8> {
    let mut element = vec![tag];
    let length = contents.len().to_be_bytes();
    match contents.len() {
        short @ 0..0x80 => element.push(short as u8),
        _ => {
            let digits = &length[length.iter().take_while(|b| **b == 0).count()..];
            element.push(0x80 | digits.len() as u8);
            element.extend(digits);
        }
    }
    element.extend(contents);
    element
}

/// Standard base64 with padding (RFC 4648, section 4).
fn base64(bytes: &[u8]) -> Zeroizing<String> {
    const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut text = Zeroizing::new(String::with_capacity(bytes.len().div_ceil(3) * 4));
    for group in bytes.chunks(3) {
        let mut word = [0; 3];
        word[..group.len()].copy_from_slice(group);
        let bits = u32::from_be_bytes([0, word[0], word[1], word[2]]);
        for digit in 0..4 {
            let used = digit <= group.len();
            let value = (bits >> (18 - 6 * digit)) & 63;
            text.push(if used { DIGITS[value as usize] as char } else { '=' });
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn base64_of_rfc_4648() {
        let pairs = [("", ""), ("f", "Zg=="), ("fo", "Zm8="), ("foo", "Zm9v"), ("foobar", "Zm9vYmFy")];
        for (plain, text) in pairs {
            assert_eq!(base64(plain.as_bytes()).as_str(), text);
        }
    }

    #[test]
    fn lengths_are_der() {
        assert_eq!(der(4, &[7; 0x7f])[..2], [4, 0x7f]);
        assert_eq!(der(4, &[7; 0x80])[..3], [4, 0x81, 0x80]);
        assert_eq!(der(4, &[7; 0x1234])[..4], [4, 0x82, 0x12, 0x34]);
    }

    #[test]
    fn a_kerberos_token_travels_in_spnego() {
        let whole = spnego(b"AP");
        assert_eq!(
            whole,
            b"\x60\x21\x06\x06\x2b\x06\x01\x05\x05\x02\xa0\x17\x30\x15\xa0\x0d\x30\x0b\x06\x09\x2a\x86\x48\x86\xf7\x12\x01\x02\x02\xa2\x04\x04\x02AP"
        );
    }

    #[test]
    fn minor_codes_become_sentences() {
        let subject = Subject { realm: "R.TEST".into(), service: "HTTP/h@R.TEST".into() };
        let code = |minor: i64| {
            let error = GssError { major: MajorFlags::GSS_S_FAILURE, minor: minor as i32 as u32 };
            subject.error(error).code().to_owned()
        };
        // The figures are those of krb5.h, whole.
        let expected = [
            (-1_765_328_360, "login-denied"),
            (-1_765_328_353, "login-denied"),
            (-1_765_328_378, "login-denied"),
            (-1_765_328_361, "password-expired"),
            (-1_765_328_366, "account-locked"),
            (-1_765_328_383, "account-expired"),
            (-1_765_328_347, "clock-skew"),
            (-1_765_328_236, "clock-skew"),
            (-1_765_328_228, "kdc-unreachable"),
            (-1_765_328_230, "realm-unknown"),
            (-1_765_328_377, "service-unknown"),
            (-1_765_328_189, "no-ticket"),
        ];
        for (minor, want) in expected {
            assert_eq!(code(minor), want, "{minor}");
        }
        assert_eq!(code(5), "kerberos-failed");
    }
}
