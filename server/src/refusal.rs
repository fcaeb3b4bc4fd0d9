//! What the server says when it does not do what was asked: a code, a status, a sentence.

use crate::told::{IN_ANSWER, brief};
use axum::{
    Json,
    http::{HeaderValue, StatusCode, header},
    response::{IntoResponse, Response},
};
use parcel::wire::WireError;

macro_rules! codes {
    ($($(#[$doc:meta])* $name:ident = $text:literal, $status:ident;)*) => {
        /// Every way in which the server refuses. The texts are listed in `docs/errors.md`.
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        pub enum Code {
            $($(#[$doc])* $name,)*
        }

        impl Code {
            /// All of them.
            pub const ALL: &'static [Code] = &[$(Code::$name),*];

            /// As it travels in a [`WireError`].
            pub fn text(self) -> &'static str {
                match self {
                    $(Code::$name => $text,)*
                }
            }

            /// HTTP status that goes with it.
            pub fn status(self) -> StatusCode {
                match self {
                    $(Code::$name => StatusCode::$status,)*
                }
            }
        }
    };
}

codes! {
    /// No `Authorization` header.
    NoTicket = "no-ticket", UNAUTHORIZED;
    /// A Kerberos ticket that does not convince.
    BadTicket = "bad-ticket", UNAUTHORIZED;
    /// A bearer token that this server did not issue.
    BadToken = "bad-token", UNAUTHORIZED;
    /// A bearer token past its end.
    TokenExpired = "token-expired", UNAUTHORIZED;
    /// Only an administrator may do this.
    NotAdmin = "not-admin", FORBIDDEN;
    /// The owner may not make parcels himself.
    MayNotCreate = "may-not-create", FORBIDDEN;
    /// The owner has as many parcels as he may have.
    QuotaParcels = "quota-parcels", FORBIDDEN;
    /// Only the parcel's owner may do this.
    NotOwner = "not-owner", FORBIDDEN;
    /// No such parcel, or not the caller's.
    NoSuchParcel = "no-such-parcel", NOT_FOUND;
    /// The parcel has no such committed version.
    NoSuchVersion = "no-such-version", NOT_FOUND;
    /// The parcel has no key slots yet.
    NoSlots = "no-slots", NOT_FOUND;
    /// No object of that name is stored.
    NoSuchChunk = "no-such-chunk", NOT_FOUND;
    /// No such path.
    NoSuchRoute = "no-such-route", NOT_FOUND;
    /// The path does not take this method.
    BadMethod = "bad-method", METHOD_NOT_ALLOWED;
    /// The request's form is wrong.
    BadRequest = "bad-request", BAD_REQUEST;
    /// An object's name is not one, or not that of its bytes.
    BadName = "bad-name", BAD_REQUEST;
    /// A version record that cannot be read or speaks of something else.
    BadRecord = "bad-record", BAD_REQUEST;
    /// Key slots that cannot be read.
    BadSlots = "bad-slots", BAD_REQUEST;
    /// The client sent its request too slowly.
    TooSlow = "too-slow", REQUEST_TIMEOUT;
    /// More bytes than the server takes.
    TooLarge = "too-large", PAYLOAD_TOO_LARGE;
    /// The parcel id is taken.
    Exists = "exists", CONFLICT;
    /// The owner has a parcel of that name.
    NameTaken = "name-taken", CONFLICT;
    /// Somebody else holds the lock.
    Locked = "locked", CONFLICT;
    /// The lock was taken, broken or released since.
    StaleEpoch = "stale-epoch", CONFLICT;
    /// The lock is none that this store gave.
    UnknownClaim = "unknown-claim", CONFLICT;
    /// The lock is from another store, or from another generation of this one.
    OtherStore = "other-store", CONFLICT;
    /// The version does not follow the last one.
    WrongParent = "wrong-parent", CONFLICT;
    /// A parcel that has a version is not taken away.
    HasVersions = "has-versions", CONFLICT;
    /// A commit names objects that are not stored.
    MissingObjects = "missing-objects", CONFLICT;
    /// Too many others change this parcel at this moment.
    Busy = "busy", SERVICE_UNAVAILABLE;
    /// The kiosk lacks what the tag demands.
    Hardware = "hardware", PRECONDITION_FAILED;
    /// The store cannot be read or written.
    Store = "store", INTERNAL_SERVER_ERROR;
    /// The store has no space left.
    StoreFull = "store-full", INSUFFICIENT_STORAGE;
}

/// A refusal on its way to the client.
#[derive(Debug, Clone, thiserror::Error)]
#[error("{error}")]
pub struct Refusal {
    /// Which.
    pub code: Code,
    /// Its body.
    pub error: WireError,
}

impl Refusal {
    /// A refusal without further particulars; `message` says what happened, to what, and what to do now.
    pub fn new(code: Code, message: impl Into<String>) -> Self {
        // What a client sent may be quoted in it.
        let message = brief(&message.into(), IN_ANSWER);
        Self { code, error: WireError::new(code.text(), message) }
    }

    /// No such parcel, or not visible to the caller: both look the same.
    pub fn no_such_parcel(id: &dyn std::fmt::Display) -> Self {
        Self::new(
            Code::NoSuchParcel,
            format!("You have no parcel {id}; list your parcels and choose one of them."),
        )
    }
}

impl IntoResponse for Refusal {
    fn into_response(self) -> Response {
        let status = self.code.status();
        let code = self.code;
        let mut response = (status, Json(self.error)).into_response();
        if status == StatusCode::UNAUTHORIZED {
            let offer = match code {
                Code::NoTicket | Code::BadTicket => "Negotiate",
                _ => "Bearer",
            };
            response.headers_mut().insert(header::WWW_AUTHENTICATE, HeaderValue::from_static(offer));
        }
        response.extensions_mut().insert(code);
        response
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_code_is_in_the_table_for_it() {
        let table = include_str!("../../docs/errors.md");
        for code in Code::ALL {
            let cell = format!("| `{}` | {} |", code.text(), code.status().as_u16());
            assert!(table.contains(&cell), "docs/errors.md lacks a row that starts with {cell}");
        }
    }

    #[test]
    fn a_refused_client_is_told_how_to_log_in() {
        let ticket = Refusal::new(Code::NoTicket, "x").into_response();
        assert_eq!(ticket.headers()[header::WWW_AUTHENTICATE], "Negotiate");
        let token = Refusal::new(Code::TokenExpired, "x").into_response();
        assert_eq!(token.headers()[header::WWW_AUTHENTICATE], "Bearer");
    }
}
