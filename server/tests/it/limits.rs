//! Bounds of size and time, and names that are none.

use crate::{
    client::{Client, Code, send},
    machine::{Machine, random_id, wants},
    realm::HOST,
    server::{Server, Setup},
};
use parcel::{
    chunk,
    id::{ChunkName, Version},
};
use reqwest::Method;
use std::{
    io::{Read, Write},
    net::TcpStream,
    sync::Arc,
    time::{Duration, Instant},
};

#[tokio::test]
async fn objects_have_their_names_and_no_more_than_their_size() {
    let setup = Setup::with_limits("max_object_bytes = 300000");
    let server = setup.start();
    let shanta = Client::of("shanta", &setup, &server).await;
    let id = random_id();
    let epoch = shanta.create(id, "work", "shanta", "a").await.unwrap().epoch;

    let whole = vec![7; 300_000];
    let name = chunk::name_of(&whole);
    assert_eq!(shanta.put_chunk(id, epoch, ChunkName([1; 20]), &whole).await.code(), "400 bad-name");
    assert_eq!(shanta.get(&format!("chunks/{}", ChunkName([1; 20]))).await.code(), "404 no-such-chunk");
    assert_eq!(
        shanta.put(&format!("parcels/{id}/chunks/abc?epoch={epoch}"), whole.clone()).await.code(),
        "400 bad-request"
    );
    assert_eq!(shanta.get("chunks/..%2f..%2fhead").await.code(), "400 bad-request");
    let first = Machine::with_id(id).record(1, 0, Vec::new(), wants(1));
    shanta.commit(id, epoch, Version(1), &first).await.unwrap();
    shanta.put_chunk(id, epoch, name, &whole).await.unwrap();
    assert_eq!(shanta.have(id, &[name, ChunkName([1; 20])]).await.unwrap(), [1, 0]);
    let response = send(shanta.request(Method::GET, &format!("chunks/{name}"))).await.unwrap();
    assert_eq!(response.content_length(), Some(300_000));
    assert_eq!(response.bytes().await.unwrap(), whole);

    let large = vec![7; 300_001];
    let name = chunk::name_of(&large);
    assert_eq!(shanta.put_chunk(id, epoch, name, &large).await.code(), "413 too-large");
    // Without a length, as chunked encoding allows.
    let pieces = futures::stream::iter((0..301).map(|_| Ok::<_, std::io::Error>(vec![7u8; 1000])));
    let path = format!("parcels/{id}/chunks/{name}?epoch={epoch}");
    assert_eq!(shanta.put(&path, reqwest::Body::wrap_stream(pieces)).await.code(), "413 too-large");
    assert_eq!(shanta.have(id, &[name]).await.unwrap(), [0]);
    assert_eq!(
        shanta.put(&format!("parcels/{id}/versions/2?epoch={epoch}"), large).await.code(),
        "413 too-large"
    );
    let text = "x".repeat(300_000);
    let json = shanta.request(Method::POST, "parcels").body(text.clone());
    assert_eq!(send(json).await.code(), "413 too-large");
    assert_eq!(shanta.put(&format!("parcels/{id}/slots"), text).await.code(), "413 too-large");
    let many = shanta.request(Method::POST, &format!("parcels/{id}/chunks/have")).body(vec![0; 65_537 * 20]);
    assert_eq!(send(many).await.code(), "413 too-large");
    let odd = shanta.request(Method::POST, &format!("parcels/{id}/chunks/have")).body(vec![0; 21]);
    assert_eq!(send(odd).await.code(), "400 bad-request");
    assert_eq!(shanta.have(id, &[ChunkName([0; 20]); 65_536]).await.unwrap().len(), 65_536);

    let broken = shanta.request(Method::POST, &format!("parcels/{id}/lock")).body("{\"kiosk\":");
    assert_eq!(send(broken).await.code(), "400 bad-request");
    assert_eq!(shanta.get("parcel").await.code(), "404 no-such-route");
    assert_eq!(send(shanta.request(Method::PATCH, &format!("parcels/{id}"))).await.code(), "405 bad-method");
}

/// A connection without an HTTP client.
fn connect(setup: &Setup, server: &Server) -> rustls::StreamOwned<rustls::ClientConnection, TcpStream> {
    let mut roots = rustls::RootCertStore::empty();
    roots.add(rustls::pki_types::pem::PemObject::from_pem_slice(setup.ca.as_bytes()).unwrap()).unwrap();
    let config = rustls::ClientConfig::builder().with_root_certificates(roots).with_no_client_auth();
    let tcp = TcpStream::connect(server.addr).unwrap();
    tcp.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
    let session = rustls::ClientConnection::new(Arc::new(config), HOST.try_into().unwrap()).unwrap();
    rustls::StreamOwned::new(session, tcp)
}

#[test]
fn a_client_that_takes_no_answer_is_given_up() {
    let setup = Setup::with_limits("idle_timeout_s = 1");
    let server = setup.start();
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let client = runtime.block_on(Client::of("shanta", &setup, &server));
    let token = client.token.clone().unwrap();
    let bytes = vec![7; parcel::MAX_OBJECT];
    let name = chunk::name_of(&bytes);
    runtime.block_on(async {
        let machine = Machine::new();
        let epoch = client.create(machine.id, "work", "shanta", "a").await.unwrap().epoch;
        let first = machine.record(1, 0, Vec::new(), wants(1));
        client.commit(machine.id, epoch, Version(1), &first).await.unwrap();
        client.put_chunk(machine.id, epoch, name, &bytes).await.unwrap();
    });

    // Far more than the sockets between the two hold.
    let mut greedy = connect(&setup, &server);
    let ask =
        format!("GET /v1/chunks/{name} HTTP/1.1\r\nHost: {HOST}\r\nAuthorization: Bearer {token}\r\n\r\n");
    greedy.write_all(ask.repeat(64).as_bytes()).unwrap();
    greedy.flush().unwrap();
    let ends = format!(
        "0100007F:{:04X} 0100007F:{:04X} 01",
        server.addr.port(),
        greedy.sock.local_addr().unwrap().port()
    );
    let begun = Instant::now();
    while std::fs::read_to_string("/proc/net/tcp").unwrap().contains(&ends) {
        assert!(begun.elapsed() < Duration::from_secs(60), "the server holds on to it");
        std::thread::sleep(Duration::from_millis(100));
    }
    // Others are served meanwhile and afterwards.
    assert_eq!(runtime.block_on(client.list()).len(), 1);
}

#[test]
fn a_client_that_stalls_is_given_up() {
    let setup = Setup::with_limits("idle_timeout_s = 1");
    let server = setup.start();
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let client = runtime.block_on(Client::of("shanta", &setup, &server));
    let token = client.token.clone().unwrap();

    let answer = |mut stream: rustls::StreamOwned<_, _>| {
        let mut text = String::new();
        // A peer that closes without saying so is as good an end.
        let _ = stream.read_to_string(&mut text);
        text
    };
    // In the middle of a body; in the middle of the first headers; before the first byte.
    let mut body = connect(&setup, &server);
    let head = format!(
        "POST /v1/parcels HTTP/1.1\r\nHost: {HOST}\r\nAuthorization: Bearer {token}\r\nConnection: close\r\nContent-Length: 100\r\n\r\n{{"
    );
    body.write_all(head.as_bytes()).unwrap();
    let mut headers = connect(&setup, &server);
    headers.write_all(b"GET /v1/health HTTP/1.1\r\nHost:").unwrap();
    let mut silent = connect(&setup, &server);
    silent.flush().unwrap();
    let text = answer(body);
    assert!(text.starts_with("HTTP/1.1 408") && text.contains("too-slow"), "{text}");
    assert_eq!(answer(headers), "");
    assert_eq!(answer(silent), "");
}
