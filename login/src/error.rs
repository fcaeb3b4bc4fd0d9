//! Why a log-in does not succeed.

use crate::krb5::Failure;
use client::api::ApiError;
use libgssapi::error::{Error as GssError, MajorFlags};
use parcel::wire::{Code, WireError};

/// `KDC_ERR_SVC_UNAVAILABLE` (RFC 4120, section 7.5.9): the KDC cannot serve anybody now.
pub(crate) const SVC_UNAVAILABLE: i64 = 29;

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
    /// The KDCs answer that they cannot serve anybody now.
    #[error("the Kerberos servers of the realm {realm} are up but cannot answer now; try again later")]
    KdcUnavailable {
        /// Whose KDCs they are.
        realm: String,
    },
    /// The name has a domain before it, as in `DOMAIN\name`.
    #[error(
        "the user name has a backslash; write only the name, without the domain before it, or name@domain"
    )]
    Backslash,
    /// The network named no DNS server.
    #[error("the network names no DNS server; check its DHCP server")]
    NoDns,
    /// No DNS server answers.
    #[error("the DNS server {servers} does not answer; check the network")]
    DnsSilent {
        /// Their addresses.
        servers: String,
    },
    /// DNS has no SRV record for the realm.
    #[error(
        "DNS names no Kerberos server of the realm {realm}; name them in the configuration, or add SRV records"
    )]
    KdcNotInDns {
        /// The realm.
        realm: String,
    },
    /// DNS does not know the KDC that the configuration names.
    #[error("DNS does not know the Kerberos server {host}; check its name in the configuration")]
    KdcName {
        /// Its name.
        host: String,
    },
    /// The KDC offers nothing but ways of proving the password that let others guess it.
    #[error(
        "the Kerberos server of {realm} offers no log-in that keeps the password from being guessed; set up SPAKE, FAST or a KDC proxy, or allow weak_preauth"
    )]
    WeakPreauth {
        /// The realm.
        realm: String,
    },
    /// The KDC offers no AES.
    #[error("the Kerberos server of {realm} offers no AES; give the user and the service AES keys")]
    WeakEncryption {
        /// The realm.
        realm: String,
    },
    /// The log-in under FAST could not begin.
    #[error(
        "the Kerberos server of {realm} gives no anonymous ticket for FAST ({cause}); check its certificate and pkinit_anchors"
    )]
    NoArmor {
        /// The realm.
        realm: String,
        /// What libkrb5 says.
        cause: String,
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
    /// The KDC proxy cannot be reached, or cannot be trusted.
    #[error("the KDC proxy: {0}")]
    Proxy(ApiError),
    /// Anything else.
    #[error("Kerberos failed: {0}")]
    Other(String),
}

impl LoginError {
    /// The code for IT.
    pub fn code(&self) -> Code {
        match self {
            Self::Denied => Code::LoginDenied,
            Self::PasswordExpired => Code::PasswordExpired,
            Self::Locked => Code::AccountLocked,
            Self::AccountExpired => Code::AccountExpired,
            Self::ClockSkew => Code::ClockSkew,
            Self::KdcUnreachable { .. } | Self::KdcUnavailable { .. } => Code::KdcUnreachable,
            Self::NoDns => Code::DnsNone,
            Self::DnsSilent { .. } => Code::DnsSilent,
            Self::KdcNotInDns { .. } => Code::KdcNotInDns,
            Self::KdcName { .. } => Code::KdcNameUnknown,
            Self::WeakPreauth { .. } => Code::WeakPreauth,
            Self::WeakEncryption { .. } => Code::WeakEncryption,
            Self::NoArmor { .. } => Code::NoArmor,
            Self::RealmUnknown { .. } | Self::Backslash => Code::RealmUnknown,
            Self::NoTicket => Code::TicketMissing,
            Self::ServiceUnknown { .. } => Code::ServiceUnknown,
            Self::Proxy(ApiError::Unreachable { .. } | ApiError::Protocol { .. }) => Code::KdcProxy,
            Self::Server(error) | Self::Proxy(error) => error.code(),
            Self::Other(_) => Code::KerberosFailed,
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

/// What a log-in is about, for the words of its errors.
#[derive(Debug, Clone)]
pub struct About {
    /// The user's realm.
    pub realm: String,
    /// The parcel server's principal.
    pub service: String,
}

impl About {
    /// What a failure of libkrb5 means.
    pub fn library(&self, failure: Failure) -> LoginError {
        self.of(failure.offset()).unwrap_or(LoginError::Other(failure.message))
    }

    /// What a failure of GSSAPI means.
    pub fn gss(&self, error: GssError) -> LoginError {
        let failure = Failure { code: error.minor as i32, message: String::new() };
        match self.of(failure.offset()) {
            Some(known) => known,
            None if error.major.contains(MajorFlags::GSS_S_CREDENTIALS_EXPIRED)
                || error.major.contains(MajorFlags::GSS_S_NO_CRED) =>
            {
                LoginError::NoTicket
            }
            None => LoginError::Other(error.to_string()),
        }
    }

    /// By the offset in `krb5.h`'s table.
    fn of(&self, offset: i64) -> Option<LoginError> {
        let realm = || self.realm.clone();
        Some(match offset {
            6 | 24 | 31 => LoginError::Denied,
            23 => LoginError::PasswordExpired,
            18 => LoginError::Locked,
            1 => LoginError::AccountExpired,
            37 | 148 => LoginError::ClockSkew,
            SVC_UNAVAILABLE => LoginError::KdcUnavailable { realm: realm() },
            156 => LoginError::KdcUnreachable { realm: realm() },
            68 | 154 => LoginError::RealmUnknown { realm: realm() },
            7 => LoginError::ServiceUnknown { service: self.service.clone() },
            32 | 195 => LoginError::NoTicket,
            // KDC_ERR_ETYPE_NOSUPP, and libkrb5's own: no key type that both know, or one that is not permitted.
            14 | 150 | 152 | 236 | 237 => LoginError::WeakEncryption { realm: realm() },
            // No way of proving the password that is offered and allowed.
            210 => LoginError::WeakPreauth { realm: realm() },
            _ => return None,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn minor_codes_become_sentences() {
        let about = About { realm: "R.TEST".into(), service: "HTTP/h@R.TEST".into() };
        let code = |minor: i64| {
            let error = GssError { major: MajorFlags::GSS_S_FAILURE, minor: minor as i32 as u32 };
            about.gss(error).code()
        };
        // The figures are those of krb5.h, whole.
        let expected = [
            (-1_765_328_360, Code::LoginDenied),
            (-1_765_328_353, Code::LoginDenied),
            (-1_765_328_378, Code::LoginDenied),
            (-1_765_328_361, Code::PasswordExpired),
            (-1_765_328_366, Code::AccountLocked),
            (-1_765_328_383, Code::AccountExpired),
            (-1_765_328_347, Code::ClockSkew),
            (-1_765_328_236, Code::ClockSkew),
            (-1_765_328_228, Code::KdcUnreachable),
            (-1_765_328_355, Code::KdcUnreachable),
            (-1_765_328_230, Code::RealmUnknown),
            (-1_765_328_377, Code::ServiceUnknown),
            (-1_765_328_189, Code::TicketMissing),
            (-1_765_328_370, Code::WeakEncryption),
            (-1_765_328_234, Code::WeakEncryption),
            (-1_765_328_174, Code::WeakPreauth),
        ];
        for (minor, want) in expected {
            assert_eq!(code(minor), want, "{minor}");
        }
        assert_eq!(code(5), Code::KerberosFailed);
    }
}
