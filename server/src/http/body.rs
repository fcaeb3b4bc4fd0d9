//! Reading what a client sends: bounded in size, and given up when it stalls.

use crate::refusal::{Code, Refusal};
use axum::body::{Body, HttpBody};
use bytes::{Bytes, BytesMut};
use futures::StreamExt;
use serde::de::DeserializeOwned;
use std::time::Duration;
use tokio::time::{Instant, timeout_at};

/// Largest JSON body of a request, in bytes; an inventory has some hundred feature names.
pub const MAX_JSON: usize = 256 * 1024;

/// What of a body comes within the idle time at least, in bytes: whoever sends less on the whole is given up, too.
const LEAST: usize = 16 * 1024;

/// The whole body.
///
/// # Errors
/// `too-large`, `too-slow`, `bad-request` when the connection breaks.
pub async fn read(body: Body, most: usize, idle: Duration) -> Result<Bytes, Refusal> {
    let too_large = || {
        let text =
            format!("The body is larger than {most} bytes, the most that is taken here; nothing was stored.");
        Refusal::new(Code::TooLarge, text)
    };
    let told = body.size_hint();
    if told.lower() > most as u64 {
        return Err(too_large());
    }
    let mut whole = BytesMut::with_capacity(told.lower() as usize);
    let mut pieces = body.into_data_stream();
    let begun = Instant::now();
    loop {
        let whole_in = idle * u32::try_from(4 + whole.len() / LEAST).unwrap_or(u32::MAX);
        let last = (begun + whole_in).min(Instant::now() + idle);
        let piece = timeout_at(last, pieces.next()).await.map_err(|_| {
            let text = format!(
                "Nothing, or next to nothing, came for {} seconds in the middle of the request; send it again.",
                idle.as_secs()
            );
            Refusal::new(Code::TooSlow, text)
        })?;
        match piece {
            None => return Ok(whole.freeze()),
            Some(Ok(piece)) if piece.len() > most - whole.len() => return Err(too_large()),
            Some(Ok(piece)) => whole.extend_from_slice(&piece),
            Some(Err(e)) => {
                return Err(Refusal::new(
                    Code::BadRequest,
                    format!("The request broke off ({e}); send it again."),
                ));
            }
        }
    }
}

/// A JSON body.
///
/// # Errors
/// As [`read`], and `bad-request`.
pub async fn json<T: DeserializeOwned>(body: Body, idle: Duration) -> Result<T, Refusal> {
    let bytes = read(body, MAX_JSON, idle).await?;
    serde_json::from_slice(&bytes).map_err(|e| {
        Refusal::new(Code::BadRequest, format!("The body is not the JSON that belongs here: {e}."))
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures::stream;
    use std::io;

    async fn fed(pieces: Vec<&'static [u8]>, most: usize) -> Result<Bytes, Refusal> {
        let body = Body::from_stream(stream::iter(pieces.into_iter().map(Ok::<_, io::Error>)));
        read(body, most, Duration::from_secs(5)).await
    }

    #[tokio::test]
    async fn a_body_may_have_any_pieces_up_to_the_bound() {
        assert_eq!(fed(vec![b"ab", b"", b"cd"], 4).await.unwrap(), "abcd");
        assert_eq!(fed(vec![b"ab", b"cde"], 4).await.unwrap_err().code(), Code::TooLarge);
        assert_eq!(
            read(Body::from("abcde"), 4, Duration::from_secs(5)).await.unwrap_err().code(),
            Code::TooLarge
        );
    }

    #[tokio::test(start_paused = true)]
    async fn a_stalled_body_is_given_up() {
        let stalled = stream::iter([Ok::<_, io::Error>("ab")]).chain(stream::pending());
        let refusal = read(Body::from_stream(stalled), 100, Duration::from_secs(5)).await.unwrap_err();
        assert_eq!(refusal.code(), Code::TooSlow);
    }
}
