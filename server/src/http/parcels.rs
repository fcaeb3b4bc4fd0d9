//! Routes of parcels, their versions, locks and key slots.

use super::{
    App, body,
    caller::{Caller, Held, MayHold},
    now,
};
use crate::refusal::{Code, Refusal};
use axum::{
    Json,
    body::Body,
    extract::{Path, State},
    http::{StatusCode, header},
    response::IntoResponse,
};
use bytes::Bytes;
use parcel::{
    id::{ParcelId, Version},
    slot,
    wire::http::{CreateParcel, LockReply, LockRequest, ParcelInfo, VersionInfo},
};

pub(super) fn parcel_id(text: &str) -> Result<ParcelId, Refusal> {
    text.parse().map_err(|_| Refusal::no_such_parcel(&text))
}

fn version(text: &str) -> Result<Version, Refusal> {
    text.parse()
        .map(Version)
        .map_err(|_| Refusal::new(Code::NoSuchVersion, format!("{text:?} is not the number of a version.")))
}

pub(super) fn octets(bytes: Bytes) -> impl IntoResponse {
    ([(header::CONTENT_TYPE, "application/octet-stream")], bytes)
}

pub(super) async fn list(
    State(app): State<App>,
    Caller(caller): Caller,
) -> Result<Json<Vec<ParcelInfo>>, Refusal> {
    app.parcels().list(&caller).await.map(Json)
}

pub(super) async fn create(
    State(app): State<App>,
    Caller(caller): Caller,
    body: Body,
) -> Result<(StatusCode, Json<LockReply>), Refusal> {
    let ask: CreateParcel = body::json(body, app.limits().idle_timeout).await?;
    let reply = app.parcels().create(&caller, &ask, now()).await?;
    Ok((StatusCode::CREATED, Json(reply)))
}

pub(super) async fn show(
    State(app): State<App>,
    Caller(caller): Caller,
    Path(id): Path<String>,
    MayHold(_): MayHold,
) -> Result<Json<ParcelInfo>, Refusal> {
    app.parcels().show(&caller, parcel_id(&id)?).await.map(Json)
}

pub(super) async fn discard(
    State(app): State<App>,
    Caller(caller): Caller,
    Path(id): Path<String>,
    Held(hold): Held,
) -> Result<StatusCode, Refusal> {
    app.parcels().discard(&caller, parcel_id(&id)?, &hold).await?;
    Ok(StatusCode::NO_CONTENT)
}

pub(super) async fn versions(
    State(app): State<App>,
    Caller(caller): Caller,
    Path(id): Path<String>,
) -> Result<Json<Vec<VersionInfo>>, Refusal> {
    app.parcels().versions(&caller, parcel_id(&id)?).await.map(Json)
}

pub(super) async fn record(
    State(app): State<App>,
    Caller(caller): Caller,
    Path((id, n)): Path<(String, String)>,
    MayHold(_): MayHold,
) -> Result<impl IntoResponse, Refusal> {
    app.parcels().record(&caller, parcel_id(&id)?, version(&n)?).await.map(octets)
}

pub(super) async fn commit(
    State(app): State<App>,
    Caller(caller): Caller,
    Path((id, n)): Path<(String, String)>,
    Held(hold): Held,
    body: Body,
) -> Result<Json<ParcelInfo>, Refusal> {
    let (id, n) = (parcel_id(&id)?, version(&n)?);
    let bytes = body::read(body, app.limits().max_object_bytes, app.limits().idle_timeout).await?;
    // A client that goes away must not leave the record without its head.
    let committing = tokio::spawn(async move { app.parcels().commit(&caller, id, n, &hold, bytes).await });
    committing
        .await
        .map_err(|e| {
            tracing::error!(error = %e, "a commit stopped");
            Refusal::new(Code::Store, "The commit stopped inside the server; send it again.")
        })?
        .map(Json)
}

async fn take(
    app: App,
    caller: &str,
    id: &str,
    body: Body,
    break_lock: bool,
) -> Result<Json<LockReply>, Refusal> {
    let id = parcel_id(id)?;
    let ask: LockRequest = body::json(body, app.limits().idle_timeout).await?;
    app.parcels().lock(caller, id, &ask, break_lock, now()).await.map(Json)
}

pub(super) async fn lock(
    State(app): State<App>,
    Caller(caller): Caller,
    Path(id): Path<String>,
    body: Body,
) -> Result<Json<LockReply>, Refusal> {
    take(app, &caller, &id, body, false).await
}

pub(super) async fn break_lock(
    State(app): State<App>,
    Caller(caller): Caller,
    Path(id): Path<String>,
    body: Body,
) -> Result<Json<LockReply>, Refusal> {
    take(app, &caller, &id, body, true).await
}

pub(super) async fn unlock(
    State(app): State<App>,
    Caller(caller): Caller,
    Path(id): Path<String>,
    Held(hold): Held,
) -> Result<StatusCode, Refusal> {
    app.parcels().unlock(&caller, parcel_id(&id)?, &hold).await?;
    Ok(StatusCode::NO_CONTENT)
}

pub(super) async fn slots(
    State(app): State<App>,
    Caller(caller): Caller,
    Path(id): Path<String>,
) -> Result<impl IntoResponse, Refusal> {
    let bytes = app.parcels().slots(&caller, parcel_id(&id)?).await?;
    Ok(([(header::CONTENT_TYPE, "application/json")], bytes))
}

pub(super) async fn put_slots(
    State(app): State<App>,
    Caller(caller): Caller,
    Path(id): Path<String>,
    MayHold(hold): MayHold,
    body: Body,
) -> Result<StatusCode, Refusal> {
    let id = parcel_id(&id)?;
    let bytes = body::read(body, slot::MAX_JSON, app.limits().idle_timeout).await?;
    app.parcels().put_slots(&caller, id, hold.as_ref(), bytes).await?;
    Ok(StatusCode::NO_CONTENT)
}
