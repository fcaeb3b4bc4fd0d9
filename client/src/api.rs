//! HTTPS client of the parcel server. One per process; cheap to clone.
//!
//! Trusts only the certificate authority it is given, counts the bytes it moves, and tells errors that go away by
//! themselves ([`ApiError::transient`]) from those that need a person.

use crate::{
    resolve::{Resolver, Shareable},
    traffic::Traffic,
};
use bytes::Bytes;
use parcel::{
    MAX_OBJECT,
    id::{ChunkName, ParcelId, Version},
    wire::{
        Code, Fate, Stake, WireError,
        hold::{self, Hold},
        http::{CreateParcel, Health, LockReply, LockRequest, ParcelInfo, SessionReply, VersionInfo},
    },
};
use reqwest::{Client, Method, RequestBuilder, StatusCode, header};
use serde::de::DeserializeOwned;
use std::{
    path::Path,
    sync::{Arc, RwLock},
    time::Duration,
};
use tokio::{sync::watch, time::Instant};
use zeroize::Zeroizing;

/// How long a connection may take to come up.
const CONNECT: Duration = Duration::from_secs(5);
/// How long the server may be silent while somebody looks at a screen.
const SILENCE: Duration = Duration::from_secs(20);
/// How long it may be where many requests share a link that may be slow. A link that is dead is noticed long before.
const PATIENCE: Duration = Duration::from_secs(60);
/// Within an answer, and while sending, this many bytes a second are enough. A sixteenth of a 100 kbit/s link is more.
const SLOWEST: u64 = 256;
/// The largest list of parcels or versions that is accepted.
const MAX_LIST: usize = 16 << 20;
/// The largest other answer that is not an object.
const MAX_SMALL: usize = 256 << 10;
/// What headers cost, about, in each direction.
const HEADERS: u64 = 256;

/// How much a request sends, and what is accepted as its answer: a hostile server gets neither memory nor time.
struct Bounds {
    /// Bytes of its body.
    sent: u64,
    /// How long nothing may come.
    silence: Duration,
    /// The most bytes of an answer.
    most: usize,
}

impl Bounds {
    /// What somebody at a screen waits for.
    fn small(sent: u64) -> Self {
        Self { sent, silence: SILENCE, most: MAX_SMALL }
    }

    fn list() -> Self {
        Self { sent: 0, silence: SILENCE, most: MAX_LIST }
    }

    /// A request about sealed objects.
    fn object(sent: u64) -> Self {
        Self { sent, silence: PATIENCE, most: MAX_OBJECT }
    }
}

/// Why a request to the parcel server did not succeed.
#[derive(Debug, Clone, thiserror::Error)]
pub enum ApiError {
    /// No connection, or it broke.
    #[error("the parcel server {server} cannot be reached ({cause}); check the network")]
    Unreachable {
        /// Host of the server.
        server: String,
        /// What the network says.
        cause: String,
    },
    /// The server's certificate is not from the authority that this client trusts.
    #[error("the certificate of {server} is not trusted ({cause}); check the CA file and the clock")]
    Certificate {
        /// Host of the server.
        server: String,
        /// What TLS says.
        cause: String,
    },
    /// By this machine's clock, the server's certificate is not valid now.
    #[error(
        "by this machine's clock, the certificate of {server} is not valid now ({cause}); check the clock first"
    )]
    CertificateTime {
        /// Host of the server.
        server: String,
        /// Its time is over; else it has not begun.
        expired: bool,
        /// What TLS says.
        cause: String,
    },
    /// The server answered with an error.
    #[error("{error}")]
    Refused {
        /// HTTP status.
        status: u16,
        /// What the server says.
        error: WireError,
    },
    /// The answer is not one of a parcel server.
    #[error("{server} does not answer like a parcel server ({cause}); check its address")]
    Protocol {
        /// Host of the server.
        server: String,
        /// What is wrong with the answer.
        cause: String,
    },
}

impl ApiError {
    /// `true` when the same request may succeed later without anybody doing anything.
    pub fn transient(&self) -> bool {
        self.code().fate(Stake::Nothing) == Fate::Retry
    }

    /// `true` when a new log-in is needed.
    pub fn session_ended(&self) -> bool {
        self.code().needs_login()
    }

    /// `true` when the thing asked for is not there.
    pub fn not_found(&self) -> bool {
        matches!(self, Self::Refused { status: 404, .. })
    }

    /// `true` when the server has said no: what was asked for has not been done, and is not done later.
    pub fn refused(&self) -> bool {
        matches!(self, Self::Refused { status: 400..500, error } if !matches!(error.code, Code::ServerError | Code::ServerUnavailable))
    }

    /// `true` when the server's state is not what the request builds on.
    pub fn conflict(&self) -> bool {
        matches!(self, Self::Refused { status: 409 | 412, .. })
    }

    /// From what went wrong on the way to `server`.
    pub(crate) fn of_transport(server: &str, error: &reqwest::Error) -> Self {
        let mut cause = error.to_string();
        let mut source = std::error::Error::source(error);
        let mut refused = None;
        while let Some(inner) = source {
            cause = inner.to_string();
            if let Some(tls) = inner.downcast_ref::<rustls::Error>() {
                refused = match tls {
                    rustls::Error::InvalidCertificate(why) => Some(why.clone()),
                    _ => None,
                };
                cause = tls.to_string();
            }
            // An I/O error does not give what it wraps as its source, and TLS wraps its own twice.
            let wrapped = inner.downcast_ref::<std::io::Error>().and_then(std::io::Error::get_ref);
            source = wrapped.map(|e| e as &dyn std::error::Error).or_else(|| inner.source());
        }
        use rustls::CertificateError::{Expired, ExpiredContext, NotValidYet, NotValidYetContext};
        let server = server.to_owned();
        match refused {
            Some(Expired | ExpiredContext { .. }) => Self::CertificateTime { server, expired: true, cause },
            Some(NotValidYet | NotValidYetContext { .. }) => {
                Self::CertificateTime { server, expired: false, cause }
            }
            Some(_) => Self::Certificate { server, cause },
            None => Self::Unreachable { server, cause },
        }
    }

    /// The code for IT.
    pub fn code(&self) -> Code {
        match self {
            Self::Unreachable { .. } => Code::ServerUnreachable,
            Self::Certificate { .. } => Code::ServerCertificate,
            Self::CertificateTime { expired: true, .. } => Code::CertificateExpired,
            Self::CertificateTime { expired: false, .. } => Code::CertificateNotYetValid,
            Self::Refused { error, .. } => error.code,
            Self::Protocol { .. } => Code::ServerProtocol,
        }
    }

    /// The error as it travels over a local socket.
    pub fn to_wire(&self) -> WireError {
        match self {
            Self::Refused { error, .. } => error.clone(),
            other => WireError::new(other.code(), other.to_string()),
        }
    }
}

/// Why a client could not be made.
#[derive(Debug, thiserror::Error)]
pub enum SetupError {
    /// The CA file cannot be used.
    #[error("the CA file {path} {cause}")]
    Ca {
        /// Path of the file.
        path: String,
        /// What is wrong with it, and what to do.
        cause: String,
    },
    /// The address of the server cannot be used.
    #[error("server address {url:?}: {cause}; it looks like https://parcels.example.org")]
    Url {
        /// As given.
        url: String,
        /// What is wrong with it.
        cause: String,
    },
    /// TLS cannot be set up.
    #[error("TLS cannot be set up: {0}")]
    Tls(String),
}

/// HTTPS client of one parcel server.
#[derive(Clone)]
pub struct Api {
    http: Client,
    base: reqwest::Url,
    server: String,
    traffic: Arc<Traffic>,
    token: Arc<RwLock<Option<Zeroizing<String>>>>,
    renewed: Arc<watch::Sender<u64>>,
}

impl Api {
    /// A client of the server at `url` (`https://host[:port]`) that trusts only the certificates in the PEM file `ca`.
    pub fn new(url: &str, ca: &Path, traffic: Arc<Traffic>) -> Result<Self, SetupError> {
        let bad_url = |cause: &str| SetupError::Url { url: url.to_owned(), cause: cause.to_owned() };
        let base = reqwest::Url::parse(url).map_err(|e| bad_url(&e.to_string()))?;
        if base.scheme() != "https" {
            return Err(bad_url("not an https:// address"));
        }
        let host = base.host_str().ok_or_else(|| bad_url("it names no host"))?;
        let server = host.to_owned();
        let http = Client::builder()
            .tls_backend_preconfigured(tls_config(ca)?)
            .https_only(true)
            .no_proxy()
            .dns_resolver(Shareable(Resolver::system()))
            .redirect(reqwest::redirect::Policy::none())
            .connect_timeout(CONNECT)
            .tcp_nodelay(true)
            .tcp_keepalive(Duration::from_secs(10))
            .tcp_keepalive_interval(Duration::from_secs(5))
            // What was sent and is not acknowledged for so long is lost with its connection: a new one is faster.
            .tcp_user_timeout(Duration::from_secs(15))
            .pool_idle_timeout(Duration::from_secs(20))
            .build()
            .map_err(|e| SetupError::Tls(e.to_string()))?;
        let renewed = Arc::new(watch::Sender::new(0));
        Ok(Self { http, base, server, traffic, token: Arc::default(), renewed })
    }

    /// Host name of the server, as its Kerberos principal has it.
    pub fn host(&self) -> &str {
        &self.server
    }

    /// The bearer token for what follows.
    pub fn set_token(&self, token: Zeroizing<String>) {
        if let Ok(mut slot) = self.token.write() {
            *slot = Some(token);
        }
        self.renewed.send_modify(|n| *n += 1);
    }

    /// Forgets the bearer token.
    pub fn forget_token(&self) {
        if let Ok(mut slot) = self.token.write() {
            *slot = None;
        }
    }

    /// Changes whenever a new token was set, so that a waiting fetch is tried again at once.
    pub fn token_renewals(&self) -> watch::Receiver<u64> {
        self.renewed.subscribe()
    }

    /// `GET /v1/health`: is the server there, and what time is it there?
    pub async fn health(&self) -> Result<Health, ApiError> {
        self.json(self.request(Method::GET, &["health"]), Bounds::small(0)).await
    }

    /// `POST /v1/session` with one SPNEGO token.
    pub async fn session(&self, negotiate: &str) -> Result<SessionReply, ApiError> {
        let mut value = header::HeaderValue::from_str(&format!("Negotiate {negotiate}"))
            .map_err(|e| self.protocol(e.to_string()))?;
        value.set_sensitive(true);
        let sent = negotiate.len() as u64;
        let request = self.http.post(self.url(&["session"])).header(header::AUTHORIZATION, value);
        self.json(request, Bounds::small(sent)).await
    }

    /// The caller's parcels.
    pub async fn parcels(&self) -> Result<Vec<ParcelInfo>, ApiError> {
        self.json(self.request(Method::GET, &["parcels"]), Bounds::list()).await
    }

    /// One parcel.
    pub async fn parcel(&self, id: &ParcelId) -> Result<ParcelInfo, ApiError> {
        self.json(self.request(Method::GET, &["parcels", &id.to_string()]), Bounds::small(0)).await
    }

    /// Makes an empty parcel and takes its lock.
    pub async fn create(&self, body: &CreateParcel) -> Result<LockReply, ApiError> {
        self.json(self.request(Method::POST, &["parcels"]).json(body), Bounds::small(HEADERS)).await
    }

    /// The versions of a parcel.
    pub async fn versions(&self, id: &ParcelId) -> Result<Vec<VersionInfo>, ApiError> {
        let path = ["parcels", &id.to_string(), "versions"];
        self.json(self.request(Method::GET, &path), Bounds::list()).await
    }

    /// A version record, sealed.
    pub async fn version(&self, id: &ParcelId, version: Version) -> Result<Bytes, ApiError> {
        let path = ["parcels", &id.to_string(), "versions", &version.to_string()];
        self.send(self.request(Method::GET, &path), Bounds::object(0)).await
    }

    /// A version record of the store that gave the lock.
    pub async fn held_version(
        &self,
        id: &ParcelId,
        hold: &Hold,
        version: Version,
    ) -> Result<Bytes, ApiError> {
        let path = ["parcels", &id.to_string(), "versions", &version.to_string()];
        self.send(self.under(Method::GET, &path, hold), Bounds::object(0)).await
    }

    /// Commits `record` as `version` under a lock.
    pub async fn commit(
        &self,
        id: &ParcelId,
        version: Version,
        hold: &Hold,
        record: Bytes,
    ) -> Result<ParcelInfo, ApiError> {
        let path = ["parcels", &id.to_string(), "versions", &version.to_string()];
        let size = record.len() as u64;
        let request = self.under(Method::PUT, &path, hold).body(record);
        self.json(request, Bounds::object(size)).await
    }

    /// Takes the lock, or breaks another session's.
    pub async fn lock(
        &self,
        id: &ParcelId,
        body: &LockRequest,
        breaking: bool,
    ) -> Result<LockReply, ApiError> {
        let id = id.to_string();
        let path: &[&str] =
            if breaking { &["parcels", &id, "lock", "break"] } else { &["parcels", &id, "lock"] };
        self.json(self.request(Method::POST, path).json(body), Bounds::small(2048)).await
    }

    /// Releases the lock.
    pub async fn unlock(&self, id: &ParcelId, hold: &Hold) -> Result<(), ApiError> {
        let path = ["parcels", &id.to_string(), "lock"];
        self.send(self.under(Method::DELETE, &path, hold), Bounds::small(0)).await.map(drop)
    }

    /// Takes away a parcel that has no version, with all that was sent for it.
    pub async fn discard(&self, id: &ParcelId, hold: &Hold) -> Result<(), ApiError> {
        let request = self.under(Method::DELETE, &["parcels", &id.to_string()], hold);
        self.send(request, Bounds::small(0)).await.map(drop)
    }

    /// The key slots, JSON of `slot::Slots`.
    pub async fn slots(&self, id: &ParcelId) -> Result<Bytes, ApiError> {
        let path = ["parcels", &id.to_string(), "slots"];
        self.send(self.request(Method::GET, &path), Bounds::small(0)).await
    }

    /// Stores key slots, under the lock if it is held.
    pub async fn put_slots(&self, id: &ParcelId, hold: Option<&Hold>, slots: Bytes) -> Result<(), ApiError> {
        let size = slots.len() as u64;
        let id = id.to_string();
        let path = ["parcels", &id, "slots"];
        let request = match hold {
            Some(hold) => self.under(Method::PUT, &path, hold),
            None => self.request(Method::PUT, &path),
        };
        let request = request.header(header::CONTENT_TYPE, "application/json").body(slots);
        self.send(request, Bounds::small(size)).await.map(drop)
    }

    /// A sealed object by its name; whether it is the right one, its opener decides.
    pub async fn chunk(&self, name: &ChunkName) -> Result<Bytes, ApiError> {
        self.send(self.request(Method::GET, &["chunks", &name.to_string()]), Bounds::object(0)).await
    }

    /// Stores a sealed object.
    pub async fn put_chunk(
        &self,
        id: &ParcelId,
        hold: &Hold,
        name: &ChunkName,
        sealed: Bytes,
    ) -> Result<(), ApiError> {
        let path = ["parcels", &id.to_string(), "chunks", &name.to_string()];
        let size = sealed.len() as u64;
        let request = self.under(Method::PUT, &path, hold).body(sealed);
        self.send(request, Bounds::object(size)).await.map(drop)
    }

    /// Which of `names` does the store that gave the lock have? One answer a name, in order.
    pub async fn have(&self, id: &ParcelId, hold: &Hold, names: &[ChunkName]) -> Result<Vec<bool>, ApiError> {
        let path = ["parcels", &id.to_string(), "chunks", "have"];
        let body: Vec<u8> = names.iter().flat_map(|name| *name.as_bytes()).collect();
        let size = body.len() as u64;
        let request = self.under(Method::POST, &path, hold).body(body);
        let answer = self.send(request, Bounds::object(size)).await?;
        if answer.len() != names.len() || answer.iter().any(|b| *b > 1) {
            return Err(self.protocol(format!("{} answers to {} names", answer.len(), names.len())));
        }
        Ok(answer.iter().map(|b| *b == 1).collect())
    }

    fn url(&self, path: &[&str]) -> reqwest::Url {
        let mut url = self.base.clone();
        if let Ok(mut segments) = url.path_segments_mut() {
            segments.pop_if_empty().push("v1").extend(path);
        }
        url
    }

    fn request(&self, method: Method, path: &[&str]) -> RequestBuilder {
        self.authorized(method, self.url(path))
    }

    fn under(&self, method: Method, path: &[&str], hold: &Hold) -> RequestBuilder {
        let request = self.request(method, path);
        match header::HeaderValue::from_str(&hold.to_header()) {
            Ok(mut value) => {
                value.set_sensitive(true);
                request.header(hold::HEADER, value)
            }
            // It is hexadecimal digits; without the header the server refuses.
            Err(_) => request,
        }
    }

    fn authorized(&self, method: Method, url: reqwest::Url) -> RequestBuilder {
        let request = self.http.request(method, url);
        match self.token.read().ok().and_then(|slot| slot.clone()) {
            Some(token) => request.bearer_auth(token.as_str()),
            None => request,
        }
    }

    async fn json<T: DeserializeOwned>(
        &self,
        request: RequestBuilder,
        bounds: Bounds,
    ) -> Result<T, ApiError> {
        let body = self.send(request, bounds).await?;
        serde_json::from_slice(&body).map_err(|e| self.protocol(e.to_string()))
    }

    async fn send(&self, request: RequestBuilder, bounds: Bounds) -> Result<Bytes, ApiError> {
        let Bounds { sent, silence, most } = bounds;
        self.traffic.sent(sent + HEADERS);
        let silent = || self.unreachable(format!("no answer for {} s", silence.as_secs()));
        let patience = silence + Duration::from_secs(sent / SLOWEST);
        let mut response = match tokio::time::timeout(patience, request.send()).await {
            Ok(answer) => answer.map_err(|e| self.failure(&e))?,
            Err(_) => return Err(silent()),
        };
        let status = response.status();
        let most = if status.is_success() { most } else { MAX_SMALL };
        self.traffic.received(HEADERS);
        let mut body = Vec::with_capacity(response.content_length().unwrap_or(0).min(1 << 20) as usize);
        let began = Instant::now();
        loop {
            // Each byte buys time: an answer that drips is one that does not come.
            let until = began + silence + Duration::from_secs(body.len() as u64 / SLOWEST);
            let next = match tokio::time::timeout_at(until, response.chunk()).await {
                Ok(next) => next.map_err(|e| self.failure(&e))?,
                Err(_) => return Err(silent()),
            };
            let Some(part) = next else { break };
            self.traffic.received(part.len() as u64);
            if body.len() + part.len() > most {
                return Err(self.protocol(format!("{status} with more than {most} bytes")));
            }
            body.extend_from_slice(&part);
        }
        if status.is_success() {
            return Ok(body.into());
        }
        Err(self.refusal(status, &body))
    }

    fn refusal(&self, status: StatusCode, body: &[u8]) -> ApiError {
        let told = serde_json::from_slice::<WireError>(body).ok();
        // Whatever a 401 is called, a log-in is what it wants. And what only a part of a kiosk can say, no server says: it would
        // end a session with work.
        let told = told.filter(|WireError { code, .. }| match code {
            _ if status == StatusCode::UNAUTHORIZED => code.needs_login(),
            Code::Unknown(_) => true,
            known => known.status() == Some(status.as_u16()),
        });
        let error = told.unwrap_or_else(|| {
            let text = format!("{} answered {status}; look at its log, or at a proxy before it", self.server);
            match status.as_u16() {
                401 => WireError::new(Code::SessionExpired, "the log-in has ended; log in again"),
                408 | 425 | 429 | 500 | 502 | 503 | 504 => WireError::new(Code::ServerUnavailable, text),
                _ => WireError::new(Code::ServerError, text),
            }
        });
        ApiError::Refused { status: status.as_u16(), error }
    }

    fn failure(&self, error: &reqwest::Error) -> ApiError {
        ApiError::of_transport(&self.server, error)
    }

    fn unreachable(&self, cause: String) -> ApiError {
        ApiError::Unreachable { server: self.server.clone(), cause }
    }

    fn protocol(&self, cause: String) -> ApiError {
        ApiError::Protocol { server: self.server.clone(), cause }
    }
}

pub(crate) fn tls_config(ca: &Path) -> Result<rustls::ClientConfig, SetupError> {
    let bad = |cause: String| {
        // What says how to mend it says so behind a semicolon.
        let remedy = if cause.contains("; ") {
            ""
        } else {
            "; give a PEM file with the certificate of the server's CA"
        };
        SetupError::Ca { path: ca.display().to_string(), cause: cause + remedy }
    };
    let bytes = std::fs::read(ca).map_err(|e| bad(format!("cannot be read ({e})")))?;
    tls::trust::client_config(&bytes).map_err(|e| bad(e.to_string()))
}
