//! Routes of sealed objects.

use super::{
    App, body,
    caller::{Caller, Held, MayHold},
    parcels::{octets, parcel_id},
};
use crate::refusal::{Code, Refusal};
use axum::{
    body::Body,
    extract::{Path, State},
    http::{StatusCode, header},
    response::IntoResponse,
};
use parcel::id::ChunkName;

/// The most names that one `have` may ask for.
pub const MAX_HAVE: usize = 65_536;
const NAME: usize = 20;

fn chunk_name(text: &str) -> Result<ChunkName, Refusal> {
    text.parse()
        .map_err(|e| Refusal::new(Code::BadRequest, format!("This is not the name of an object: {e}.")))
}

pub(super) async fn fetch(
    State(app): State<App>,
    Caller(_): Caller,
    Path(name): Path<String>,
) -> Result<impl IntoResponse, Refusal> {
    let name = chunk_name(&name)?;
    let bytes = app.parcels().chunk(name).await?;
    Ok(([(header::CACHE_CONTROL, "private, immutable, max-age=31536000")], octets(bytes)))
}

pub(super) async fn store(
    State(app): State<App>,
    Caller(caller): Caller,
    Path((id, name)): Path<(String, String)>,
    Held(hold): Held,
    body: Body,
) -> Result<StatusCode, Refusal> {
    let (id, name) = (parcel_id(&id)?, chunk_name(&name)?);
    // Asked before the body is read, so that a late holder does not send for nothing.
    let shelf = app.parcels().may_upload(&caller, id, &hold).await?;
    let bytes = body::read(body, app.limits().max_object_bytes, app.limits().idle_timeout).await?;
    app.parcels().put_chunk(shelf, name, bytes).await?;
    Ok(StatusCode::NO_CONTENT)
}

pub(super) async fn have(
    State(app): State<App>,
    Caller(caller): Caller,
    Path(id): Path<String>,
    MayHold(_): MayHold,
    body: Body,
) -> Result<impl IntoResponse, Refusal> {
    let id = parcel_id(&id)?;
    let bytes = body::read(body, MAX_HAVE * NAME, app.limits().idle_timeout).await?;
    let (names, rest) = bytes.as_chunks::<NAME>();
    if !rest.is_empty() {
        let text = format!("{} bytes are not whole names of {NAME} bytes.", bytes.len());
        return Err(Refusal::new(Code::BadRequest, text));
    }
    let names = names.iter().copied().map(ChunkName).collect();
    let there = app.parcels().have(&caller, id, names).await?;
    Ok(octets(there.into_iter().map(u8::from).collect::<Vec<_>>().into()))
}
