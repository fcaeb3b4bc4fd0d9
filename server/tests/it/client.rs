//! A client of one user: every call says what it expects.

use crate::{
    realm::{HOST, Ticket, principal},
    server::{Server, Setup},
};
use base64::{Engine, engine::general_purpose::STANDARD};
use bytes::Bytes;
use parcel::{
    id::{ChunkName, Epoch, ParcelId, Version},
    tag::Inventory,
    wire::{
        WireError,
        http::{CreateParcel, LockReply, LockRequest, ParcelInfo, SessionReply},
    },
};
use reqwest::{Body, Method, RequestBuilder, Response, StatusCode};
use serde::de::DeserializeOwned;

/// A refusal as it came: status and body.
#[derive(Debug)]
pub struct Refused {
    pub status: u16,
    pub error: WireError,
}

pub type Answer<T> = Result<T, Refused>;

/// The code of a refusal; an answer is a failed test.
pub trait Code {
    fn code(self) -> String;
}

impl<T: std::fmt::Debug> Code for Answer<T> {
    fn code(self) -> String {
        let refused = self.expect_err("should have been refused");
        assert!(!refused.error.message.is_empty());
        format!("{} {}", refused.status, refused.error.code)
    }
}

#[derive(Clone)]
pub struct Client {
    http: reqwest::Client,
    base: String,
    pub token: Option<String>,
}

impl Client {
    /// Not logged in.
    pub fn new(setup: &Setup, server: &Server) -> Self {
        // Another test may have been first.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let http = reqwest::Client::builder()
            .tls_certs_only([reqwest::Certificate::from_pem(setup.ca.as_bytes()).unwrap()])
            .resolve(HOST, server.addr)
            .no_proxy()
            .build()
            .unwrap();
        Self { http, base: format!("https://{HOST}:{}", server.addr.port()), token: None }
    }

    /// Logged in with a ticket from the KDC.
    pub async fn of(user: &str, setup: &Setup, server: &Server) -> Self {
        let mut client = Self::new(setup, server);
        let reply = client.log_in(user).await;
        assert_eq!(reply.principal, principal(user));
        client.token = Some(reply.token.expose().to_owned());
        client
    }

    /// Logs in, and checks that the server proved itself.
    pub async fn log_in(&self, user: &str) -> SessionReply {
        let user = user.to_owned();
        let ticket = tokio::task::spawn_blocking(move || Ticket::get(&user, HOST)).await.unwrap();
        let response = self.negotiate(&ticket.token).await.unwrap();
        let reply = response.headers()["www-authenticate"].to_str().unwrap();
        let reply = STANDARD.decode(reply.strip_prefix("Negotiate ").unwrap()).unwrap();
        assert!(ticket.server_is_genuine(&reply));
        response.json().await.unwrap()
    }

    /// Sends a SPNEGO token.
    pub async fn negotiate(&self, token: &[u8]) -> Answer<Response> {
        let request = self.http.post(format!("{}/v1/session", self.base));
        send(request.header("Authorization", format!("Negotiate {}", STANDARD.encode(token)))).await
    }

    pub fn request(&self, method: Method, path: &str) -> RequestBuilder {
        let request = self.http.request(method, format!("{}/v1/{path}", self.base));
        match &self.token {
            Some(token) => request.bearer_auth(token),
            None => request,
        }
    }

    pub async fn get(&self, path: &str) -> Answer<Bytes> {
        Ok(send(self.request(Method::GET, path)).await?.bytes().await.unwrap())
    }

    pub async fn get_json<T: DeserializeOwned>(&self, path: &str) -> Answer<T> {
        Ok(send(self.request(Method::GET, path)).await?.json().await.unwrap())
    }

    pub async fn put(&self, path: &str, body: impl Into<Body>) -> Answer<Response> {
        send(self.request(Method::PUT, path).body(body)).await
    }

    pub async fn list(&self) -> Vec<ParcelInfo> {
        self.get_json("parcels").await.unwrap()
    }

    pub async fn show(&self, id: ParcelId) -> Answer<ParcelInfo> {
        self.get_json(&format!("parcels/{id}")).await
    }

    pub async fn create(&self, id: ParcelId, name: &str, owner: &str, kiosk: &str) -> Answer<LockReply> {
        let ask =
            CreateParcel { id, name: name.to_owned(), owner: principal(owner), kiosk: kiosk.to_owned() };
        Ok(send(self.request(Method::POST, "parcels").json(&ask)).await?.json().await.unwrap())
    }

    pub async fn lock(&self, id: ParcelId, kiosk: &str, inventory: Option<Inventory>) -> Answer<LockReply> {
        self.take(&format!("parcels/{id}/lock"), kiosk, inventory).await
    }

    pub async fn break_lock(&self, id: ParcelId, kiosk: &str) -> Answer<LockReply> {
        self.take(&format!("parcels/{id}/lock/break"), kiosk, None).await
    }

    async fn take(&self, path: &str, kiosk: &str, inventory: Option<Inventory>) -> Answer<LockReply> {
        let ask = LockRequest { kiosk: kiosk.to_owned(), inventory };
        Ok(send(self.request(Method::POST, path).json(&ask)).await?.json().await.unwrap())
    }

    pub async fn unlock(&self, id: ParcelId, epoch: Epoch) -> Answer<Response> {
        send(self.request(Method::DELETE, &format!("parcels/{id}/lock?epoch={epoch}"))).await
    }

    pub async fn discard(&self, id: ParcelId, epoch: Epoch) -> Answer<Response> {
        send(self.request(Method::DELETE, &format!("parcels/{id}?epoch={epoch}"))).await
    }

    pub async fn put_chunk(
        &self,
        id: ParcelId,
        epoch: Epoch,
        name: ChunkName,
        bytes: &[u8],
    ) -> Answer<Response> {
        self.put(&format!("parcels/{id}/chunks/{name}?epoch={epoch}"), bytes.to_vec()).await
    }

    pub async fn commit(&self, id: ParcelId, epoch: Epoch, n: Version, record: &[u8]) -> Answer<ParcelInfo> {
        let path = format!("parcels/{id}/versions/{n}?epoch={epoch}");
        Ok(self.put(&path, record.to_vec()).await?.json().await.unwrap())
    }

    pub async fn have(&self, id: ParcelId, names: &[ChunkName]) -> Answer<Vec<u8>> {
        let body: Vec<u8> = names.iter().flat_map(|name| name.0).collect();
        let request = self.request(Method::POST, &format!("parcels/{id}/chunks/have")).body(body);
        Ok(send(request).await?.bytes().await.unwrap().to_vec())
    }
}

/// Sends, and takes a refusal apart.
pub async fn send(request: RequestBuilder) -> Answer<Response> {
    let response = request.send().await.unwrap();
    let status = response.status();
    if status.is_success() {
        return Ok(response);
    }
    assert_ne!(status, StatusCode::UNPROCESSABLE_ENTITY, "a refusal that is not the server's own");
    let error: WireError = response.json().await.unwrap();
    Err(Refused { status: status.as_u16(), error })
}
