//! What the server says when it does not do what was asked: a code, a status, a sentence.

use crate::told::{IN_ANSWER, brief};
use axum::{
    Json,
    http::{HeaderValue, StatusCode, header},
    response::{IntoResponse, Response},
};
use parcel::wire::WireError;

pub use parcel::wire::Code;

/// A refusal on its way to the client.
#[derive(Debug, Clone, thiserror::Error)]
#[error("{error}")]
pub struct Refusal {
    /// Its body.
    pub error: WireError,
}

impl Refusal {
    /// A refusal without further particulars; `message` says what happened, to what, and what to do now.
    pub fn new(code: Code, message: impl Into<String>) -> Self {
        // What a client sent may be quoted in it.
        let message = brief(&message.into(), IN_ANSWER);
        Self { error: WireError::new(code, message) }
    }

    /// The code that the answer carries.
    pub fn code(&self) -> Code {
        self.error.code
    }

    /// The HTTP status of the answer. A code that is none of the server's own is a fault of the server.
    pub fn status(&self) -> StatusCode {
        let status = self.code().status().and_then(|status| StatusCode::from_u16(status).ok());
        status.unwrap_or(StatusCode::INTERNAL_SERVER_ERROR)
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
        let (status, code) = (self.status(), self.code());
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
    fn a_refused_client_is_told_how_to_log_in() {
        let ticket = Refusal::new(Code::NoTicket, "x").into_response();
        assert_eq!(ticket.headers()[header::WWW_AUTHENTICATE], "Negotiate");
        let token = Refusal::new(Code::TokenExpired, "x").into_response();
        assert_eq!(token.headers()[header::WWW_AUTHENTICATE], "Bearer");
    }
}
