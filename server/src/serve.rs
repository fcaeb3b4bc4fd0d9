//! Opens what the configuration names, listens, and serves until told to stop.

use crate::{
    auth::{spnego::Acceptor, token::TokenKey},
    config::Config,
    http::{self, App},
    parcels::Parcels,
    store::local::LocalStore,
};
use anyhow::{Context, anyhow};
use axum_server::{
    Handle,
    accept::NoDelayAcceptor,
    tls_rustls::{RustlsAcceptor, RustlsConfig},
};
use nix::sys::socket::{setsockopt, sockopt};
use rustls::{
    ServerConfig,
    pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject},
};
use std::{
    io::Write,
    net::{SocketAddr, TcpListener},
    os::unix::fs::OpenOptionsExt,
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
    let tls = tls(&config).map_err(|(key, what)| anyhow!("{key}: {what}"))?;
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
    let store = LocalStore::open(&config.store)?;
    let tokens = TokenKey::load_or_create(&config.token_key_file).context("token_key_file")?;
    let acceptor = Acceptor::new(&config.keytab, &config.replay_cache, &config.service).map_err(|e| {
        anyhow!("Kerberos cannot use the keytab {}: {e}; check it with klist -k", config.keytab.display())
    })?;
    let app = App::new(Parcels::new(Arc::new(store), config.admins.clone()), acceptor, tokens, config.limits);

    let addr = listener.local_addr()?;
    let handle = Handle::new();
    let mut server = axum_server::from_tcp(listener)?
        // A chunk's last segment must not wait for the client's delayed acknowledgement: 40 ms for every demand fetch.
        .acceptor(
            RustlsAcceptor::new(RustlsConfig::from_config(Arc::new(tls))).acceptor(NoDelayAcceptor::new()),
        )
        .handle(handle.clone())
        .first_request_timeout(config.limits.idle_timeout)
        .accept_error_handler(
            |peer, error| tracing::debug!(?peer, %error, "a connection did not come about"),
        );
    server.http_builder().http1().header_read_timeout(QUIET);
    server
        .http_builder()
        .http2()
        .max_header_list_size(MAX_HEADERS)
        .keep_alive_interval(QUIET)
        .keep_alive_timeout(config.limits.idle_timeout)
        // Enough for a chunk per stream under way; the default of 64 KiB costs a round trip for every chunk sent.
        .initial_stream_window_size(1 << 20)
        .initial_connection_window_size(8 << 20);
    let service = http::router(app).into_make_service_with_connect_info::<SocketAddr>();
    let task = tokio::spawn(server.serve(service));

    if let Some(ready) = &config.ready_file {
        write_whole(ready, format!("{addr}\n").as_bytes())
            .with_context(|| format!("cannot write ready_file {}", ready.display()))?;
    }
    tracing::info!(%addr, store = %config.store.display(), service = config.service, "serving");
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
/// The key in the configuration that is to blame, and what is wrong.
pub(crate) fn tls(config: &Config) -> Result<ServerConfig, (&'static str, String)> {
    let of = |path: &Path, e: &dyn std::fmt::Display| format!("{}: {e}", path.display());
    let chain: Vec<_> = CertificateDer::pem_file_iter(&config.tls_cert)
        .and_then(Iterator::collect)
        .map_err(|e| ("tls.cert", of(&config.tls_cert, &e)))?;
    if chain.is_empty() {
        return Err(("tls.cert", of(&config.tls_cert, &"holds no certificate")));
    }
    let key =
        PrivateKeyDer::from_pem_file(&config.tls_key).map_err(|e| ("tls.key", of(&config.tls_key, &e)))?;
    let mut tls = ServerConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
        .with_safe_default_protocol_versions()
        .map_err(|e| ("tls", e.to_string()))?
        .with_no_client_auth()
        .with_single_cert(chain, key)
        .map_err(|e| ("tls.key", of(&config.tls_key, &e)))?;
    tls.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    Ok(tls)
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
