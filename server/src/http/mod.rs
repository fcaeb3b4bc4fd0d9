//! The HTTPS interface: routes as `parcel::wire::http` lists them.

mod admit;
mod body;
mod caller;
mod chunks;
mod log;
mod parcels;
mod session;

use crate::{
    auth::{spnego::Acceptor, token::TokenKey},
    config::Limits,
    fair::{connections::Connections, shares::Shares},
    parcels::Parcels,
    refusal::{Code, Refusal},
};
use axum::{
    Json, Router,
    extract::State,
    middleware,
    routing::{delete, get, post, put},
};
use parcel::wire::http::Health;
use std::{
    sync::Arc,
    time::{SystemTime, UNIX_EPOCH},
};

pub use chunks::MAX_HAVE;

/// What the routes work with. Cheap to clone.
#[derive(Debug, Clone)]
pub struct App {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    parcels: Parcels,
    acceptor: Acceptor,
    tokens: TokenKey,
    limits: Limits,
    connections: Arc<Connections>,
    shares: Shares,
}

impl App {
    /// Puts it together.
    pub fn new(
        parcels: Parcels,
        acceptor: Acceptor,
        tokens: TokenKey,
        limits: Limits,
        connections: Arc<Connections>,
    ) -> Self {
        let shares = Shares::new(limits.memory_bytes, 2 * admit::MAX_BODY);
        Self { inner: Arc::new(Inner { parcels, acceptor, tokens, limits, connections, shares }) }
    }

    fn parcels(&self) -> &Parcels {
        &self.inner.parcels
    }

    fn limits(&self) -> &Limits {
        &self.inner.limits
    }
}

/// The routes. Must be called in a runtime.
pub fn router(app: App) -> Router {
    Router::new()
        .route("/v1/health", get(health))
        .route("/v1/session", post(session::log_in))
        .route("/v1/parcels", get(parcels::list).post(parcels::create))
        .route("/v1/parcels/{id}", get(parcels::show).delete(parcels::discard))
        .route("/v1/parcels/{id}/versions", get(parcels::versions))
        .route("/v1/parcels/{id}/versions/{n}", get(parcels::record).put(parcels::commit))
        .route("/v1/parcels/{id}/lock", post(parcels::lock))
        .route("/v1/parcels/{id}/lock", delete(parcels::unlock))
        .route("/v1/parcels/{id}/lock/break", post(parcels::break_lock))
        .route("/v1/parcels/{id}/slots", get(parcels::slots).put(parcels::put_slots))
        .route("/v1/parcels/{id}/chunks/have", post(chunks::have))
        .route("/v1/parcels/{id}/chunks/{name}", put(chunks::store))
        .route("/v1/chunks/{name}", get(chunks::fetch))
        .fallback(no_such_route)
        .method_not_allowed_fallback(bad_method)
        .layer(middleware::from_fn_with_state(app.clone(), admit::admit))
        .layer(middleware::from_fn_with_state(log::Strangers::new(), log::access))
        .with_state(app)
}

async fn health(State(app): State<App>) -> Json<Health> {
    Json(Health {
        ok: true,
        server: concat!("parcel-server ", env!("CARGO_PKG_VERSION")).to_owned(),
        time: now(),
        store: app.parcels().identity(),
    })
}

async fn no_such_route(uri: axum::http::Uri) -> Refusal {
    let text = format!("This server has no {}; are client and server of the same version?", uri.path());
    Refusal::new(Code::NoSuchRoute, text)
}

async fn bad_method(method: axum::http::Method, uri: axum::http::Uri) -> Refusal {
    let text = format!("{} does not take {method}; are client and server of the same version?", uri.path());
    Refusal::new(Code::BadMethod, text)
}

/// Seconds since 1970: the only place where the routes read a clock. Nothing that keeps parcels safe rests on it.
fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs())
}
