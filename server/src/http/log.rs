//! The access log: one line a request, target `access`; objects sent and fetched well only at level debug. It holds no header and no body, so no ticket and no token.

use crate::{
    refusal::Code,
    told::{IN_LOG, brief},
};
use axum::{
    extract::{ConnectInfo, Request},
    middleware::Next,
    response::Response,
};
use std::{
    net::SocketAddr,
    sync::{Arc, OnceLock},
    time::Instant,
};

/// Carries the caller from where the token is checked to where the line is written.
#[derive(Debug, Clone, Default)]
pub(super) struct Seen(Arc<OnceLock<String>>);

impl Seen {
    pub(super) fn caller(&self, principal: &str) {
        // A request is authenticated once; a second time could only say the same.
        let _ = self.0.set(principal.to_owned());
    }
}

pub(super) async fn access(mut request: Request, next: Next) -> Response {
    let seen = Seen::default();
    request.extensions_mut().insert(seen.clone());
    let peer = request.extensions().get::<ConnectInfo<SocketAddr>>().map(|info| info.0);
    let method = brief(request.method().as_str(), 20);
    let path = brief(request.uri().path(), IN_LOG);
    let begun = Instant::now();
    let response = next.run(request).await;
    let ok = response.status().is_success();
    macro_rules! line {
        ($level:ident) => {
            tracing::$level!(
                target: "access",
                peer = peer.map(tracing::field::display),
                caller = seen.0.get().map(|caller| brief(caller, IN_LOG)),
                %method,
                path,
                status = response.status().as_u16(),
                code = response.extensions().get::<Code>().map(|code| code.text()),
                ms = format_args!("{:.1}", begun.elapsed().as_secs_f64() * 1000.0),
            )
        };
    }
    // A resume fetches thousands of objects: told only to those who ask for it.
    if ok && path.contains("/chunks/") {
        line!(debug)
    } else {
        line!(info)
    }
    response
}
