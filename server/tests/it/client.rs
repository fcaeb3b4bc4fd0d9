//! A client of one user: every call says what it expects.

use crate::{
    realm::{HOST, Ticket, principal},
    server::{Server, Setup},
};
use base64::{Engine, engine::general_purpose::STANDARD};
use bytes::Bytes;
use parcel::{
    id::{BootId, ChunkName, Epoch, ParcelId, Version},
    tag::Inventory,
    wire::{
        WireError,
        hold::{self, Claim, Hold},
        http::{CreateParcel, LockReply, LockRequest, ParcelInfo, SessionReply},
    },
};
use reqwest::{Body, Method, RequestBuilder, Response, StatusCode};
use serde::de::DeserializeOwned;
use std::{collections::BTreeMap, sync::Mutex};

/// What the server gave to these tests, so that they can speak of a lock by its epoch.
static HOLDS: Mutex<BTreeMap<(ParcelId, Epoch), Hold>> = Mutex::new(BTreeMap::new());

/// A new claim.
pub fn claim() -> Claim {
    Claim::from_bytes(crate::machine::random_id().0)
}

/// The lock that was given under this epoch; under one that never was, the last one with its epoch changed.
pub fn hold(id: ParcelId, epoch: Epoch) -> Hold {
    let holds = HOLDS.lock().unwrap();
    let last = holds.range((id, Epoch(0))..=(id, epoch)).next_back();
    let (_, hold) = last.unwrap_or_else(|| panic!("{id} was never held"));
    Hold { epoch, ..hold.clone() }
}

fn remember(id: ParcelId, claim: &Claim, reply: &LockReply) {
    let hold = Hold { store: reply.store, epoch: reply.epoch, claim: claim.clone() };
    HOLDS.lock().unwrap().insert((id, reply.epoch), hold);
}

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
        send(self.under(Method::PUT, path).body(body)).await
    }

    /// A request to a path that may end in `?epoch=E`, which stands for the lock that was given under that epoch.
    pub fn under(&self, method: Method, path: &str) -> RequestBuilder {
        let Some((path, epoch)) = path.split_once("?epoch=") else { return self.request(method, path) };
        let id: ParcelId = path.split('/').nth(1).unwrap().parse().unwrap();
        let header = match epoch.parse() {
            Ok(epoch) => hold(id, Epoch(epoch)).to_header().to_string(),
            Err(_) => epoch.to_owned(),
        };
        self.request(method, path).header(hold::HEADER, header)
    }

    pub async fn list(&self) -> Vec<ParcelInfo> {
        self.get_json("parcels").await.unwrap()
    }

    pub async fn show(&self, id: ParcelId) -> Answer<ParcelInfo> {
        self.get_json(&format!("parcels/{id}")).await
    }

    pub async fn create(&self, id: ParcelId, name: &str, owner: &str, kiosk: &str) -> Answer<LockReply> {
        let ask = CreateParcel {
            id,
            name: name.to_owned(),
            owner: principal(owner),
            kiosk: kiosk.to_owned(),
            boot: BootId([1; 16]),
            claim: claim(),
            rescues: None,
        };
        self.create_as(&ask).await
    }

    pub async fn create_as(&self, ask: &CreateParcel) -> Answer<LockReply> {
        let reply = send(self.request(Method::POST, "parcels").json(ask)).await?.json().await.unwrap();
        remember(ask.id, &ask.claim, &reply);
        Ok(reply)
    }

    pub async fn lock(&self, id: ParcelId, kiosk: &str, inventory: Option<Inventory>) -> Answer<LockReply> {
        self.lock_as(id, &Self::ask(kiosk, inventory), false).await
    }

    pub async fn lock_to_boot(&self, id: ParcelId, kiosk: &str, inventory: Inventory) -> Answer<LockReply> {
        let ask = LockRequest { cold_boot: true, ..Self::ask(kiosk, Some(inventory)) };
        self.lock_as(id, &ask, false).await
    }

    pub async fn break_lock(&self, id: ParcelId, kiosk: &str) -> Answer<LockReply> {
        self.lock_as(id, &Self::ask(kiosk, None), true).await
    }

    /// A request for a new acquisition.
    pub fn ask(kiosk: &str, inventory: Option<Inventory>) -> LockRequest {
        LockRequest {
            kiosk: kiosk.to_owned(),
            boot: BootId([1; 16]),
            claim: claim(),
            again: None,
            inventory,
            cold_boot: false,
        }
    }

    pub async fn lock_as(&self, id: ParcelId, ask: &LockRequest, breaking: bool) -> Answer<LockReply> {
        let path = format!("parcels/{id}/lock{}", if breaking { "/break" } else { "" });
        let reply = send(self.request(Method::POST, &path).json(ask)).await?.json().await.unwrap();
        remember(id, &ask.claim, &reply);
        Ok(reply)
    }

    pub async fn unlock(&self, id: ParcelId, epoch: Epoch) -> Answer<Response> {
        send(self.under(Method::DELETE, &format!("parcels/{id}/lock?epoch={epoch}"))).await
    }

    pub async fn discard(&self, id: ParcelId, epoch: Epoch) -> Answer<Response> {
        send(self.under(Method::DELETE, &format!("parcels/{id}?epoch={epoch}"))).await
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
