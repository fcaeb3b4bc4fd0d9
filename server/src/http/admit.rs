//! What stands before every route: a request is measured, its caller's share is taken, and its answer is handed out as
//! fast as the client takes it and no faster.

use super::{App, body::MAX_JSON, caller::Caller, chunks::MAX_HAVE, log::Seen};
use crate::{
    fair::{
        connections::{TooMany, UnderWay},
        shares::{Held, REQUESTS, UsedUp},
    },
    refusal::{Code, Refusal},
};
use axum::{
    body::{Body, Bytes, to_bytes},
    extract::{ConnectInfo, Request, State},
    http::{HeaderMap, HeaderValue, Method, header},
    middleware::Next,
    response::{IntoResponse, Response},
};
use futures::stream;
use std::{convert::Infallible, net::SocketAddr};

/// Longest path and query, in bytes; the longest that the routes have is far shorter.
const MAX_PATH: usize = 1024;
/// Headers of any request but a log-in, in bytes.
const MAX_HEADERS: usize = 16 * 1024;
/// Pieces in which an answer is handed out: whoever takes none within the idle time is given up.
const PIECE: usize = 16 * 1024;
/// The largest body that a request may have.
pub(crate) const MAX_BODY: usize = if MAX_HAVE * 20 > MAX_JSON { MAX_HAVE * 20 } else { MAX_JSON };

pub(super) async fn admit(State(app): State<App>, mut request: Request, next: Next) -> Response {
    let peer = request.extensions().get::<ConnectInfo<SocketAddr>>().map(|info| info.0);
    let Some(connection) = peer.and_then(|peer| app.inner.connections.of(&peer)) else {
        // It was ended while its request was on its way here.
        return Refusal::new(Code::Busy, "This connection ends; try again on a new one.").into_response();
    };
    let mut under_way = connection.begin();
    let response = match measure(&request) {
        Err(refusal) => refusal.into_response(),
        Ok(()) if request.uri().path() == "/v1/session" => match connection.begin_log_in() {
            Some(_one) => next.run(request).await,
            None => Refusal::new(Code::Busy, "A log-in is under way on this connection; wait for it.")
                .into_response(),
        },
        Ok(()) => match Caller::from_headers(request.headers(), &app) {
            // The route says what is wrong, if it needs a caller at all.
            Err(_) => next.run(request).await,
            Ok(caller) => {
                if let Some(seen) = request.extensions().get::<Seen>() {
                    seen.caller(&caller.0);
                }
                let bytes = need(request.method(), request.headers(), app.inner.limits.max_object_bytes);
                let held = match take(&app, &caller, &mut under_way, bytes).await {
                    Ok(held) => held,
                    Err(refusal) => return hand_out(refusal.into_response(), under_way, None).await,
                };
                request.extensions_mut().insert(caller);
                // Work that has begun is done and counted to its end: who resets his requests gets no more of it for that.
                let done = tokio::spawn(async move { (next.run(request).await, held) });
                return match done.await {
                    Ok((response, held)) => hand_out(response, under_way, Some(held)).await,
                    Err(error) => {
                        tracing::error!(%error, "a request stopped");
                        let text = "The request stopped inside the server; send it again.";
                        Refusal::new(Code::Store, text).into_response()
                    }
                };
            }
        },
    };
    hand_out(response, under_way, None).await
}

/// Is the head of a request one that the routes may have?
fn measure(request: &Request) -> Result<(), Refusal> {
    let uri = request.uri();
    let path = uri.path_and_query().map_or(0, |path| path.as_str().len());
    if path > MAX_PATH {
        let text = format!("The path has {path} bytes; at most {MAX_PATH} are taken.");
        return Err(Refusal::new(Code::TooLarge, text));
    }
    let headers: usize =
        request.headers().iter().map(|(name, value)| name.as_str().len() + value.len()).sum();
    if headers > MAX_HEADERS && uri.path() != "/v1/session" {
        let text = format!("The headers have {headers} bytes; at most {MAX_HEADERS} are taken.");
        return Err(Refusal::new(Code::TooLarge, text));
    }
    Ok(())
}

/// What a request and its answer may need in memory, at most.
fn need(method: &Method, headers: &HeaderMap, object: usize) -> usize {
    if matches!(*method, Method::GET | Method::HEAD) {
        return object;
    }
    let told = headers.get(header::CONTENT_LENGTH).and_then(|value| value.to_str().ok()?.parse().ok());
    match (method, told) {
        (&Method::DELETE, None) => PIECE,
        (_, told) => told.unwrap_or(MAX_BODY).clamp(PIECE, MAX_BODY),
    }
}

async fn take(app: &App, caller: &Caller, under_way: &mut UnderWay, bytes: usize) -> Result<Held, Refusal> {
    let busy = |text: String| Refusal::new(Code::Busy, text);
    let inner = &app.inner;
    let who = &caller.0;
    inner.connections.known(&under_way.connection(), who).map_err(|TooMany(most)| {
        busy(format!(
            "{who} has {most} connections at work, the most that one user may have; end some of them and try again."
        ))
    })?;
    let urge = || inner.connections.free_bytes(who);
    let held = inner.shares.take(who, bytes, inner.limits.idle_timeout, urge).await.map_err(|what| {
        busy(match what {
            UsedUp::Own => format!(
                "Requests of {who} hold all that one user may hold here ({REQUESTS} requests at a time); take their answers and try again."
            ),
            UsedUp::All => "The server's memory for requests is in use; try again.".to_owned(),
        })
    })?;
    under_way.hold(bytes);
    Ok(held)
}

/// An answer in memory: what it holds is given back when its last byte has gone to the socket.
struct Answer {
    bytes: Bytes,
    _under_way: UnderWay,
    _held: Option<Held>,
}

impl AsRef<[u8]> for Answer {
    fn as_ref(&self) -> &[u8] {
        &self.bytes
    }
}

async fn hand_out(response: Response, mut under_way: UnderWay, mut held: Option<Held>) -> Response {
    let (mut parts, body) = response.into_parts();
    // Every answer is in memory already.
    let Ok(bytes) = to_bytes(body, usize::MAX).await else {
        return Refusal::new(Code::Store, "The answer was lost inside the server; try again.")
            .into_response();
    };
    if bytes.is_empty() {
        return Response::from_parts(parts, Body::empty());
    }
    if let Some(held) = &mut held {
        held.shrink(bytes.len());
        under_way.hold(bytes.len());
    }
    under_way.answer();
    let connection = under_way.connection();
    parts.headers.insert(header::CONTENT_LENGTH, HeaderValue::from(bytes.len()));
    let rest = Bytes::from_owner(Answer { bytes, _under_way: under_way, _held: held });
    let pieces = stream::unfold(rest, move |mut rest| {
        connection.moved();
        let piece = rest.split_to(rest.len().min(PIECE));
        std::future::ready((!piece.is_empty()).then_some((Ok::<_, Infallible>(piece), rest)))
    });
    Response::from_parts(parts, Body::from_stream(pieces))
}
