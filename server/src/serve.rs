//! Opens what the configuration names, listens, and serves until told to stop.

use crate::{
    auth::{spnego::Acceptor, token::TokenKey},
    config::Config,
    fair::{
        Gate,
        connections::{Bounds, Connections},
        descriptors,
    },
    http::{self, App},
    parcels::Parcels,
    store::{Store as _, local::LocalStore},
};
use anyhow::{Context, anyhow};
use axum_server::{
    Handle,
    tls_rustls::{RustlsAcceptor, RustlsConfig},
};
use nix::sys::socket::{setsockopt, sockopt};
use rustls::{
    ServerConfig,
    pki_types::{CertificateDer, PrivateKeyDer},
};
use std::{
    io::Write,
    net::{SocketAddr, TcpListener},
    os::{fd::AsRawFd, unix::fs::OpenOptionsExt},
    path::Path,
    sync::Arc,
    time::Duration,
};
use tokio::{
    signal::unix::{SignalKind, signal},
    task::JoinHandle,
};

/// A connection on which nothing is asked for so long is closed (HTTP/1), or asked whether it lives (HTTP/2).
const QUIET: Duration = Duration::from_secs(60);
/// Headers may hold a Kerberos ticket with many groups, base64.
const MAX_HEADERS: u32 = 192 * 1024;
/// Requests at a time on a connection.
const STREAMS: u32 = 100;
/// What HTTP/2 keeps of an answer for a stream.
const SEND_BUFFER: usize = 64 * 1024;
/// What the kernel keeps of an answer before it sends it; what is on its way comes on top.
static UNSENT: u32 = 128 * 1024;

/// A server that listens.
#[derive(Debug)]
pub struct Running {
    addr: SocketAddr,
    handle: Handle<SocketAddr>,
    grace: Duration,
    task: JoinHandle<std::io::Result<()>>,
}

/// Starts the server in the current tokio runtime; returns once it listens.
///
/// # Errors
/// What could not be opened or bound.
pub async fn start(config: Config) -> anyhow::Result<Running> {
    let tls = tls(&config).map_err(|(key, what, remedy)| anyhow!("{key}: {what}; {remedy}"))?;
    if let Err(error) = config.check_time() {
        tracing::warn!(%error, "clients will not accept the certificate");
    }
    // First what changes nothing: a server that cannot listen leaves nothing behind.
    let listener = TcpListener::bind(config.listen).with_context(|| {
        format!(
            "cannot listen on {}; stop what does, or change listen in {}",
            config.listen,
            config.file.display()
        )
    })?;
    // Connections inherit it: one on which nothing sent is taken any more ends, whether its peer is dead or only does not
    // read.
    let idle = u32::try_from(config.limits.idle_timeout.as_millis()).unwrap_or(u32::MAX);
    setsockopt(&listener, sockopt::TcpUserTimeout, &idle).context("cannot set up the listening socket")?;
    bound_unsent(&listener).context("cannot set up the listening socket")?;
    let store = LocalStore::open(&config.store, &config.witness)?;
    let identity = store.identity();
    let tokens = TokenKey::load_or_create(&config.token_key_file).context("token_key_file")?;
    let acceptor = Acceptor::new(&config.keytab, &config.replay_cache, &config.service).map_err(|e| {
        anyhow!("Kerberos cannot use the keytab {}: {e}; check it with klist -k", config.keytab.display())
    })?;
    let bounds = Bounds {
        all: descriptors::raise(config.limits.connections),
        own: config.limits.connections_per_principal,
        idle: config.limits.idle_timeout,
    };
    let connections = Connections::new(bounds);
    tokio::spawn(Connections::watch(Arc::downgrade(&connections)));
    let parcels = Parcels::new(Arc::new(store), config.admins.clone())
        .with_rules(config.realms.clone(), config.quotas.clone());
    let app = App::new(parcels, acceptor, tokens, config.limits, Arc::clone(&connections));

    let addr = listener.local_addr()?;
    let handle = Handle::new();
    let mut server = axum_server::from_tcp(listener)?
        .acceptor(RustlsAcceptor::new(RustlsConfig::from_config(Arc::new(tls))).acceptor(Gate(connections)))
        .handle(handle.clone())
        .first_request_timeout(config.limits.idle_timeout)
        .accept_error_handler(
            |peer, error| tracing::debug!(?peer, %error, "a connection did not come about"),
        );
    server.http_builder().http1().header_read_timeout(QUIET).max_buf_size(MAX_HEADERS as usize + 8192);
    server
        .http_builder()
        .http2()
        .max_header_list_size(MAX_HEADERS)
        .keep_alive_interval(QUIET)
        .keep_alive_timeout(config.limits.idle_timeout)
        .max_concurrent_streams(STREAMS)
        // Whoever opens streams and takes them back is cut off at so many that wait here.
        .max_pending_accept_reset_streams(20)
        .max_local_error_reset_streams(100)
        .max_send_buf_size(SEND_BUFFER)
        // A stream's holds a chunk: the default of 64 KiB costs a round trip for every chunk sent. A connection's is what
        // one client can make the server keep before anybody reads it.
        .initial_stream_window_size(256 << 10)
        .initial_connection_window_size(2 << 20);
    let service = http::router(app).into_make_service_with_connect_info::<SocketAddr>();
    let task = tokio::spawn(server.serve(service));

    if let Some(ready) = &config.ready_file {
        write_whole(ready, format!("{addr}\n").as_bytes())
            .with_context(|| format!("cannot write ready_file {}", ready.display()))?;
    }
    tracing::info!(%addr, store = %config.store.display(), %identity, service = config.service, "serving");
    Ok(Running { addr, handle, grace: config.limits.shutdown, task })
}

impl Running {
    /// Where it listens.
    pub fn addr(&self) -> SocketAddr {
        self.addr
    }

    /// Serves until SIGTERM or SIGINT, then ends what is under way.
    ///
    /// # Errors
    /// The server failed.
    pub async fn until_signal(mut self) -> anyhow::Result<()> {
        let mut term = signal(SignalKind::terminate())?;
        let mut int = signal(SignalKind::interrupt())?;
        tokio::select! {
            _ = term.recv() => {}
            _ = int.recv() => {}
            ended = &mut self.task => return Ok(ended??),
        }
        self.stop().await
    }

    /// Takes no more requests, lets those under way end within the grace that the configuration gives, and returns.
    ///
    /// # Errors
    /// The server failed.
    pub async fn stop(self) -> anyhow::Result<()> {
        tracing::info!("stopping");
        self.handle.graceful_shutdown(Some(self.grace));
        Ok(self.task.await??)
    }
}

/// TLS as the configuration says.
///
/// # Errors
/// The key in the configuration that is to blame, what is wrong, and the remedy.
pub(crate) fn tls(config: &Config) -> Result<ServerConfig, (&'static str, String, String)> {
    let belong = "give the certificate chain and its key, each as PEM and belonging together";
    let fault = |key, what: String| (key, what, belong.to_owned());
    let (chain, key) = certificate(config)?;
    let mut tls = ServerConfig::builder_with_provider(tls::trust::provider())
        .with_safe_default_protocol_versions()
        .map_err(|e| fault("tls", e.to_string()))?
        .with_no_client_auth()
        .with_single_cert(chain, key)
        .map_err(|e| fault("tls.key", format!("{}: {e}", config.tls_key.display())))?;
    tls.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    Ok(tls)
}

type Pair = (Vec<CertificateDer<'static>>, PrivateKeyDer<'static>);

/// The certificate chain and its key as their files have them.
///
/// # Errors
/// As [`tls()`].
pub(crate) fn certificate(config: &Config) -> Result<Pair, (&'static str, String, String)> {
    let read = |key: &'static str, path: &Path| {
        let fault = |why: String| match why.split_once("; ") {
            Some((what, remedy)) => (key, format!("{} {what}", path.display()), remedy.to_owned()),
            None => (
                key,
                format!("{} {why}", path.display()),
                "give the certificate chain and its key, each as PEM and belonging together".to_owned(),
            ),
        };
        let bytes = std::fs::read(path).map_err(|e| fault(format!("cannot be read ({e})")))?;
        let pem = tls::pem::read(&bytes).map_err(|e| fault(e.to_string()))?;
        let lacks = |what: &str| fault(format!("holds no {what}"));
        match key {
            "tls.cert" if pem.certificates.is_empty() => Err(lacks("certificate")),
            "tls.key" if pem.keys.is_empty() => Err(lacks("private key")),
            "tls.key" if pem.keys.len() > 1 => Err(fault("holds several private keys".to_owned())),
            _ => Ok(pem),
        }
    };
    let chain = read("tls.cert", &config.tls_cert)?.certificates;
    let mut keys = read("tls.key", &config.tls_key)?.keys;
    // Just counted.
    let key =
        keys.pop().ok_or_else(|| ("tls.key", "holds no private key".to_owned(), "give one".to_owned()))?;
    Ok((chain, key))
}

/// Bounds what the kernel keeps of an answer for each connection that the listener gives.
fn bound_unsent(listener: &TcpListener) -> std::io::Result<()> {
    let size = size_of_val(&UNSENT) as libc::socklen_t;
    // SAFETY: the descriptor is open as long as `listener` lives, and the option is read from `UNSENT`, which has `size`
    // bytes and outlives the call.
    let done = unsafe {
        libc::setsockopt(
            listener.as_raw_fd(),
            libc::IPPROTO_TCP,
            libc::TCP_NOTSENT_LOWAT,
            (&raw const UNSENT).cast(),
            size,
        )
    };
    if done == 0 { Ok(()) } else { Err(std::io::Error::last_os_error()) }
}

/// A reader finds the old content, or the new, or none.
fn write_whole(path: &Path, bytes: &[u8]) -> std::io::Result<()> {
    let mut aside = path.as_os_str().to_owned();
    aside.push(".tmp");
    let mut file =
        std::fs::OpenOptions::new().write(true).create(true).truncate(true).mode(0o644).open(&aside)?;
    file.write_all(bytes)?;
    std::fs::rename(&aside, path)
}
