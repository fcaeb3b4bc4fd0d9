//! Errors as a traveller reads them: one sentence, what to do, and a code that IT can look up.

use crate::text;
use cache::control::ControlError;
use client::api::ApiError;
use login::LoginError;
use parcel::wire::{Code, WireError};

/// Something that went wrong, ready for the screen.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Trouble {
    /// What happened and what to do now.
    pub sentence: String,
    /// The code for IT.
    pub code: Code,
}

impl Trouble {
    /// From its two parts.
    pub fn new(sentence: impl Into<String>, code: Code) -> Self {
        Self { sentence: sentence.into(), code }
    }
}

impl From<WireError> for Trouble {
    fn from(error: WireError) -> Self {
        Self { sentence: error.message, code: error.code }
    }
}

impl From<&ControlError> for Trouble {
    fn from(error: &ControlError) -> Self {
        match error {
            ControlError::Refused(error) => error.clone().into(),
            _ => Self::new(
                "A part of this kiosk does not answer. Wait a minute and try again; if it stays so, restart the kiosk.",
                Code::CacheService,
            ),
        }
    }
}

/// What the words of a failed log-in depend on besides the failure.
#[derive(Debug, Clone, Default)]
pub struct Circumstances {
    /// Host of the parcel server.
    pub server: String,
    /// Where passwords are changed, if the kiosk was told.
    pub kpasswd: Option<String>,
    /// The kiosk's clock when the log-in failed, seconds since 1970.
    pub now: u64,
    /// For a clock skew: the kiosk's clock and the server's, seconds since 1970.
    pub clocks: Option<(u64, u64)>,
}

/// What to tell a traveller whose log-in failed.
pub fn of_login(error: &LoginError, about: &Circumstances) -> Trouble {
    let server = &about.server;
    // Closer than this, it is the log-in server whose clock is off.
    if let (LoginError::ClockSkew | LoginError::NoTicket, Some((here, there))) = (error, about.clocks)
        && here.abs_diff(there) > 120
    {
        let sentence = format!(
            "The clock of this kiosk is wrong: it says {} UTC, the server says {} UTC. Ask your IT desk to set it.",
            text::second(here),
            text::second(there)
        );
        return Trouble::new(sentence, LoginError::ClockSkew.code());
    }
    let clock = text::second(about.now);
    let sentence = match error {
        // One text for both, so that a kiosk tells nobody which users exist.
        LoginError::Denied => "The user name or the password is not right.".to_owned(),
        LoginError::PasswordExpired => {
            let place = match &about.kpasswd {
                Some(place) => format!(" (password server {place})"),
                None => String::new(),
            };
            format!(
                "Your password has expired. Change it on your own computer or at your IT desk{place}, \
                 then log in here with the new one."
            )
        }
        LoginError::Locked => "Your account is locked. Ask your IT desk to unlock it.".to_owned(),
        LoginError::AccountExpired => "Your account has expired. Ask your IT desk to renew it.".to_owned(),
        LoginError::ClockSkew => format!(
            "The clock of this kiosk differs too much from the one of the log-in server: it says {clock} UTC. \
             Ask your IT desk to set it."
        ),
        LoginError::NoDns => "The network here names no DNS server, so the log-in server is not found. \
                              Check the network, or ask your IT desk."
            .to_owned(),
        LoginError::DnsSilent { servers } => format!(
            "The DNS server {servers} does not answer, so the log-in server is not found. \
             Check the network, then try again."
        ),
        LoginError::KdcNotInDns { realm } => format!(
            "The network's DNS names no log-in server of {realm}. You may need your organisation's own network. \
             Ask your IT desk."
        ),
        LoginError::KdcName { host } => {
            format!("The network's DNS does not know the log-in server {host}. Ask your IT desk.")
        }
        LoginError::WeakPreauth { realm } => format!(
            "The log-in server of {realm} asks for your password in a way that others could guess it from. \
             Nothing was sent. Tell your IT desk."
        ),
        LoginError::WeakEncryption { realm } => format!(
            "The log-in server of {realm} offers only old encryption that others could read. \
             Nothing was sent. Tell your IT desk."
        ),
        LoginError::NoArmor { realm, .. } => format!(
            "The log-in server of {realm} could not prove who it is, so your password was not sent. \
             The clock of this kiosk says {clock} UTC. Tell your IT desk."
        ),
        LoginError::KdcUnreachable { realm } => {
            format!("No log-in server of {realm} answers. Check the network cable or Wi-Fi, then try again.")
        }
        LoginError::KdcUnavailable { realm } => {
            format!("The log-in servers of {realm} are up but cannot answer now. Try again later.")
        }
        LoginError::Backslash => {
            "Write only the name, without the domain before the backslash, or name@domain.".to_owned()
        }
        LoginError::RealmUnknown { realm } => {
            format!(
                "This kiosk does not know the realm {realm}. Leave it out of the user name, or ask your IT desk."
            )
        }
        LoginError::ServiceUnknown { .. } => {
            format!("The log-in server does not know the parcel server {server}. Ask your IT desk.")
        }
        LoginError::NoTicket => {
            "The log-in server gave no ticket. Try again, or ask your IT desk.".to_owned()
        }
        LoginError::Server(ApiError::Unreachable { .. }) => format!(
            "Your password is right, but the parcel server {server} does not answer. \
             Check the network, then try again."
        ),
        LoginError::Server(ApiError::Certificate { .. }) => format!(
            "The parcel server {server} cannot prove who it is: its certificate is not trusted. \
             Do not log in here; tell your IT desk."
        ),
        LoginError::Proxy(ApiError::Certificate { server, .. }) => format!(
            "The log-in proxy {server} cannot prove who it is: its certificate is not trusted. \
             Do not log in here; tell your IT desk."
        ),
        LoginError::Server(ApiError::CertificateTime { server, expired, .. })
        | LoginError::Proxy(ApiError::CertificateTime { server, expired, .. }) => {
            let state = if *expired { "has expired" } else { "is not valid yet" };
            format!(
                "By the clock of this kiosk, the certificate of {server} {state}. The clock says {clock} UTC: \
                 if that is wrong, ask your IT desk to set it; if it is right, tell them of the certificate."
            )
        }
        LoginError::Server(ApiError::Refused { error, .. }) => {
            format!(
                "The parcel server {server} does not let you in: {}.",
                error.message.trim_end_matches('.')
            )
        }
        LoginError::Server(ApiError::Protocol { .. }) => {
            format!(
                "The parcel server {server} answers in a way this kiosk does not understand. Tell your IT desk."
            )
        }
        LoginError::Proxy(ApiError::Unreachable { server, .. } | ApiError::Protocol { server, .. }) => {
            format!(
                "The log-in proxy {server} does not answer as it should. Check the network, then try again."
            )
        }
        LoginError::Proxy(ApiError::Refused { error, .. }) => {
            format!("The log-in proxy refuses: {}. Tell your IT desk.", error.message.trim_end_matches('.'))
        }
        LoginError::Other(cause) => {
            format!("The log-in failed: {}. Tell your IT desk.", cause.trim_end_matches('.'))
        }
    };
    Trouble::new(sentence, error.code())
}
