//! The access log: one line a request, target `access`; objects sent and fetched well only at level debug. It holds no header and no body, so no ticket and no token.
//!
//! Anybody can ask without end, so of requests whose caller is not known only so many are written, and the rest is counted.

use crate::{
    refusal::Code,
    told::{IN_LOG, brief},
};
use axum::{
    extract::{ConnectInfo, Request, State},
    middleware::Next,
    response::Response,
};
use std::{
    net::SocketAddr,
    sync::{
        Arc, OnceLock, Weak,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

/// Lines about requests of nobody known that are written at once, and how many more in each second after that.
const BURST: u64 = 50;
const EACH_SECOND: u64 = 10;

/// How many more lines nobody known may cause, and how many were left out since that was last told. Log-ins have lines of their own: a
/// failed one must not be hidden by other requests.
#[derive(Debug)]
pub(super) struct Strangers {
    log_ins: AtomicU64,
    others: AtomicU64,
    left_out: AtomicU64,
}

impl Strangers {
    /// Must be called in a runtime.
    pub(super) fn new() -> Arc<Self> {
        let new = Arc::new(Self { log_ins: BURST.into(), others: BURST.into(), left_out: 0.into() });
        tokio::spawn(Self::count(Arc::downgrade(&new)));
        new
    }

    async fn count(counted: Weak<Self>) {
        loop {
            tokio::time::sleep(Duration::from_secs(1)).await;
            let Some(all) = counted.upgrade() else { return };
            all.tell();
            let more = |lines: u64| Some((lines + EACH_SECOND).min(BURST));
            for lines in [&all.log_ins, &all.others] {
                let _ = lines.fetch_update(Ordering::Relaxed, Ordering::Relaxed, more);
            }
        }
    }

    fn may_have_a_line(&self, path: &str) -> bool {
        let lines = if path == "/v1/session" { &self.log_ins } else { &self.others };
        let one = |lines: u64| lines.checked_sub(1);
        let may = lines.fetch_update(Ordering::Relaxed, Ordering::Relaxed, one).is_ok();
        if !may {
            self.left_out.fetch_add(1, Ordering::Relaxed);
        }
        may
    }

    fn tell(&self) {
        let left_out = self.left_out.swap(0, Ordering::Relaxed);
        if left_out > 0 {
            tracing::info!(target: "access", left_out, "more requests without a log-in than are written");
        }
    }
}

impl Drop for Strangers {
    fn drop(&mut self) {
        self.tell();
    }
}

/// Carries the caller from where the token is checked to where the line is written.
#[derive(Debug, Clone, Default)]
pub(super) struct Seen(Arc<OnceLock<String>>);

impl Seen {
    pub(super) fn caller(&self, principal: &str) {
        // A request is authenticated once; a second time could only say the same.
        let _ = self.0.set(principal.to_owned());
    }
}

pub(super) async fn access(
    State(strangers): State<Arc<Strangers>>,
    mut request: Request,
    next: Next,
) -> Response {
    let seen = Seen::default();
    request.extensions_mut().insert(seen.clone());
    let peer = request.extensions().get::<ConnectInfo<SocketAddr>>().map(|info| info.0);
    let method = brief(request.method().as_str(), 20);
    let path = brief(request.uri().path(), IN_LOG);
    let begun = Instant::now();
    let response = next.run(request).await;
    let ok = response.status().is_success();
    if seen.0.get().is_none() && !strangers.may_have_a_line(&path) {
        return response;
    }
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
