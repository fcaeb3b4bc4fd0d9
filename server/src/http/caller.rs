//! Who calls: every route but log-in and health takes a [`Caller`], and none can be made without a good token.

use super::{App, now};
use crate::{
    auth::token::TokenError,
    refusal::{Code, Refusal},
};
use axum::{
    extract::FromRequestParts,
    http::{HeaderMap, header, request::Parts},
};

use parcel::wire::hold::{BadHold, HEADER, Hold};

/// An authenticated principal, `user@REALM`.
#[derive(Debug, Clone)]
pub struct Caller(pub String);

impl FromRequestParts<App> for Caller {
    type Rejection = Refusal;

    async fn from_request_parts(parts: &mut Parts, app: &App) -> Result<Self, Refusal> {
        match parts.extensions.get::<Self>() {
            Some(admitted) => Ok(admitted.clone()),
            None => Self::from_headers(&parts.headers, app),
        }
    }
}

impl Caller {
    /// Who shows a good token.
    ///
    /// # Errors
    /// `no-ticket`, `bad-token`, `token-expired`.
    pub(super) fn from_headers(headers: &HeaderMap, app: &App) -> Result<Self, Refusal> {
        let token = credentials(headers, "Bearer")?;
        match app.inner.tokens.check(token, now()) {
            // A token may be older than what the configuration says of its realm.
            Ok((principal, _)) => Ok(Self(app.parcels().realms().canonical(&principal))),
            Err(TokenError::Expired) => Err(Refusal::new(
                Code::TokenExpired,
                "The log-in's time is over; nothing was changed. Log in again.",
            )),
            Err(TokenError::Bad) => Err(Refusal::new(
                Code::BadToken,
                "The server does not know this log-in (it may have been given a new key); log in again.",
            )),
        }
    }
}

/// The lock under which a request is made, if it names one; from this store as it is now.
#[derive(Debug)]
pub(super) struct MayHold(pub Option<Hold>);

impl FromRequestParts<App> for MayHold {
    type Rejection = Refusal;

    async fn from_request_parts(parts: &mut Parts, app: &App) -> Result<Self, Refusal> {
        let Some(given) = parts.headers.get(HEADER) else { return Ok(Self(None)) };
        let hold: Hold = given.to_str().ok().and_then(|text| text.parse().ok()).ok_or_else(|| {
            Refusal::new(Code::BadRequest, format!("The header {HEADER} cannot be read: {BadHold}."))
        })?;
        app.parcels().recognise(&hold)?;
        Ok(Self(Some(hold)))
    }
}

/// The lock under which a write is made.
#[derive(Debug)]
pub(super) struct Held(pub Hold);

impl FromRequestParts<App> for Held {
    type Rejection = Refusal;

    async fn from_request_parts(parts: &mut Parts, app: &App) -> Result<Self, Refusal> {
        MayHold::from_request_parts(parts, app).await?.0.map(Self).ok_or_else(|| {
            Refusal::new(
                Code::BadRequest,
                format!("This write needs the header {HEADER}, the lock it is made under."),
            )
        })
    }
}

/// What follows `scheme` in the `Authorization` header.
///
/// # Errors
/// `no-ticket`.
pub(super) fn credentials<'a>(headers: &'a HeaderMap, scheme: &str) -> Result<&'a str, Refusal> {
    let given = headers.get(header::AUTHORIZATION).and_then(|value| value.to_str().ok());
    given
        .and_then(|text| text.split_once(' '))
        .filter(|(name, _)| name.eq_ignore_ascii_case(scheme))
        .map(|(_, credentials)| credentials.trim())
        .ok_or_else(|| {
            let what = if scheme == "Bearer" { "a log-in" } else { "a Kerberos ticket" };
            Refusal::new(
                Code::NoTicket,
                format!("This needs {what}; log in with Kerberos first (POST /v1/session)."),
            )
        })
}
