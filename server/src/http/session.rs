//! Log-in: a Kerberos ticket once, for a bearer token.

use super::{App, caller::credentials, log::Seen, now};
use crate::{
    auth::spnego::MAX_TICKET,
    refusal::{Code, Refusal},
    told::{IN_LOG, brief},
};
use axum::{
    Extension, Json,
    extract::State,
    http::{HeaderMap, HeaderValue, header},
    response::{IntoResponse, Response},
};
use base64::{Engine, engine::general_purpose::STANDARD};
use parcel::wire::http::SessionReply;

pub(super) async fn log_in(
    State(app): State<App>,
    Extension(seen): Extension<Seen>,
    headers: HeaderMap,
) -> Result<Response, Refusal> {
    let ticket = credentials(&headers, "Negotiate")?;
    let bad = |text: String| Refusal::new(Code::BadTicket, text);
    if ticket.len() > MAX_TICKET * 4 / 3 + 4 {
        return Err(bad(format!(
            "The Kerberos ticket is larger than {MAX_TICKET} bytes; ask IT for one with fewer groups."
        )));
    }
    let ticket =
        STANDARD.decode(ticket).map_err(|e| bad(format!("The Kerberos ticket is not base64 ({e}).")))?;
    let acceptor = app.inner.acceptor.clone();
    let accepted = tokio::task::spawn_blocking(move || acceptor.accept(&ticket))
        .await
        .map_err(|e| {
            tracing::error!(error = %e, "taking a ticket failed");
            bad("The server failed to look at the ticket; try again.".to_owned())
        })?
        .map_err(|e| bad(format!("The server did not let you in: {e}.")))?;
    let principal = app.parcels().realms().canonical(&accepted.principal);
    seen.caller(&principal);

    let expires_in = accepted.lifetime.min(app.limits().token_lifetime.as_secs());
    let token = app.inner.tokens.issue(&principal, now().saturating_add(expires_in)).map_err(|e| {
        tracing::error!(error = %e, "no randomness for a token");
        Refusal::new(Code::NoRandomness, "The server cannot make a log-in now; try again.")
    })?;
    tracing::info!(principal = brief(&principal, IN_LOG), expires_in, "logged in");
    let reply = SessionReply { token: token.into(), principal, expires_in };
    let mut response = Json(reply).into_response();
    response.headers_mut().insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    if let Some(reply) = accepted.reply
        && let Ok(value) = HeaderValue::from_str(&format!("Negotiate {}", STANDARD.encode(reply)))
    {
        response.headers_mut().insert(header::WWW_AUTHENTICATE, value);
    }
    Ok(response)
}
