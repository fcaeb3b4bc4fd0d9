//! A hostile client: TLS and HTTP/2 by hand, without the manners of an HTTP library.

use crate::{
    realm::HOST,
    server::{Server, Setup},
};
use axum::http::Request;
use bytes::Bytes;
use h2::client::SendRequest;
use std::sync::Arc;
use tokio::{net::TcpStream, task::JoinHandle};
use tokio_rustls::{TlsConnector, client::TlsStream};

/// A connection over which nothing of HTTP was said.
pub async fn tls(setup: &Setup, server: &Server) -> std::io::Result<TlsStream<TcpStream>> {
    let mut roots = rustls::RootCertStore::empty();
    roots.add(rustls::pki_types::pem::PemObject::from_pem_slice(setup.ca.as_bytes()).unwrap()).unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let mut config = rustls::ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    config.alpn_protocols = vec![b"h2".to_vec()];
    let tcp = TcpStream::connect(server.addr).await?;
    TlsConnector::from(Arc::new(config)).connect(HOST.try_into().unwrap(), tcp).await
}

/// A connection of HTTP/2 that answers PINGs by itself as long as it lives.
pub struct Http2 {
    pub send: SendRequest<Bytes>,
    pub driver: JoinHandle<()>,
}

impl Http2 {
    /// With so many bytes that it takes of each answer.
    pub async fn connect(setup: &Setup, server: &Server, window: u32) -> Option<Self> {
        let tls = tls(setup, server).await.ok()?;
        let (send, connection) =
            h2::client::Builder::new().initial_window_size(window).handshake(tls).await.ok()?;
        let driver = tokio::spawn(async move {
            let _ = connection.await;
        });
        Some(Self { send, driver })
    }

    /// Asks and waits for the head of the answer: its status.
    pub async fn get(&self, path: &str, token: Option<&str>) -> Option<u16> {
        let (response, _) =
            self.send.clone().ready().await.ok()?.send_request(get(path, token), true).ok()?;
        Some(response.await.ok()?.status().as_u16())
    }

    /// Asks and reads the whole answer: its status. A client that leaves many answers unread is ended by its own library.
    pub async fn ask(&self, path: &str, token: Option<&str>) -> Option<u16> {
        let (response, _) =
            self.send.clone().ready().await.ok()?.send_request(get(path, token), true).ok()?;
        let (head, mut body) = response.await.ok()?.into_parts();
        while let Some(data) = body.data().await {
            body.flow_control().release_capacity(data.ok()?.len()).ok()?;
        }
        Some(head.status.as_u16())
    }

    pub fn lives(&self) -> bool {
        !self.driver.is_finished()
    }
}

pub fn get(path: &str, token: Option<&str>) -> Request<()> {
    let mut request = Request::get(format!("https://{HOST}{path}"));
    if let Some(token) = token {
        request = request.header("Authorization", format!("Bearer {token}"));
    }
    request.body(()).unwrap()
}
