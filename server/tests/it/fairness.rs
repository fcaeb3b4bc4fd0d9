//! What one client can hold at most, and that others are served meanwhile.

use crate::{
    attacker::{Http2, get, tls},
    client::{Client, Code, send},
    machine::{Machine, random_id, wants},
    server::Setup,
};
use parcel::{
    chunk,
    id::{ChunkName, Version},
};
use reqwest::Method;
use std::time::{Duration, Instant};
use tokio::{io::AsyncWriteExt, net::TcpStream};

const MIB: usize = 1 << 20;

async fn until(what: &str, mut holds: impl FnMut() -> bool) {
    let begun = Instant::now();
    while !holds() {
        assert!(begun.elapsed() < Duration::from_secs(120), "{what}");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

fn many_files() {
    parcel_server::fair::descriptors::raise(10_000);
}

/// An object of 1 MiB that anybody may fetch.
async fn large(client: &Client) -> ChunkName {
    let bytes: Vec<u8> = (0..parcel::MAX_OBJECT).map(|i| (i % 251) as u8).collect();
    let (machine, name) = (Machine::new(), chunk::name_of(&bytes));
    let epoch = client.create(machine.id, "large", "shanta", "a").await.unwrap().epoch;
    let first = machine.record(1, 0, Vec::new(), wants(1));
    client.commit(machine.id, epoch, Version(1), &first).await.unwrap();
    client.put_chunk(machine.id, epoch, name, &bytes).await.unwrap();
    name
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn connections_that_only_answer_pings_keep_nobody_out() {
    many_files();
    let setup = Setup::new();
    let server = setup.start_with_few_files();
    let before = server.memory();
    let mut idle = Vec::new();
    for _ in 0..1200 {
        let one = Http2::connect(&setup, &server, 65_535).await.expect("another connection is taken");
        assert_eq!(one.get("/v1/health", None).await, Some(200));
        idle.push(one);
    }
    // Strangers have a quarter of 4096 connections. The oldest gave way.
    until("too many live", || idle.iter().filter(|one| one.lives()).count() <= 1024).await;
    assert!(idle[1199].lives());
    let held = server.memory().saturating_sub(before);
    assert!(held < 1024 * 160 * 1024, "{} KiB for each connection", held / 1024 / 1024);
    let shanta = Client::of("shanta", &setup, &server).await;
    assert_eq!(shanta.list().await.len(), 0);
    assert!(idle.iter().filter(|one| one.lives()).count() >= 1000, "only as many ended as had to");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn connections_that_only_answer_pings_end() {
    let setup = Setup::with_limits("idle_timeout_s = 1");
    let server = setup.start();
    let token = Client::of("ravi", &setup, &server).await.token.unwrap();
    let known = Http2::connect(&setup, &server, 65_535).await.unwrap();
    assert_eq!(known.get("/v1/parcels", Some(&token)).await, Some(200));
    let stranger = Http2::connect(&setup, &server, 65_535).await.unwrap();
    assert_eq!(stranger.get("/v1/health", None).await, Some(200));
    until("a stranger stays", || !stranger.lives()).await;
    assert!(known.lives(), "somebody who is logged in has longer");
    until("somebody who asks for nothing stays", || !known.lives()).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn slow_handshakes_keep_nobody_out() {
    many_files();
    let setup = Setup::new();
    let server = setup.start_with_few_files();
    let mut slow = Vec::new();
    for _ in 0..2000 {
        let mut one = TcpStream::connect(server.addr).await.unwrap();
        // The beginning of a ClientHello.
        let _ = one.write_all(&[0x16, 3, 1, 2, 0, 1]).await;
        slow.push(one);
    }
    let shanta = Client::of("shanta", &setup, &server).await;
    assert_eq!(shanta.list().await.len(), 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn closed_windows_hold_a_share_and_end() {
    let setup = Setup::with_limits("idle_timeout_s = 3");
    let server = setup.start();
    let shanta = Client::of("shanta", &setup, &server).await;
    let name = large(&shanta).await;
    let path = format!("/v1/chunks/{name}");
    let token = Client::of("ravi", &setup, &server).await.token.unwrap();
    let before = server.memory();
    let (mut greedy, mut asked) = (Vec::new(), Vec::new());
    for window in [0, 1, 0, 1, 0, 1, 0, 1, 0, 1] {
        let one = Http2::connect(&setup, &server, window).await.unwrap();
        for _ in 0..100 {
            let (send, request) = (one.send.clone(), get(&path, Some(&token)));
            asked.push(tokio::spawn(async move {
                let (response, _) = send.ready().await.ok()?.send_request(request, true).ok()?;
                // Held on to, and not read.
                let answer = response.await.ok()?;
                tokio::time::sleep(Duration::from_secs(600)).await;
                Some(answer)
            }));
        }
        greedy.push(one);
    }
    // 1,000 MiB are asked for. A sixteenth of 256 MiB is one user's; buffers and connections come on top.
    let mut most = 0;
    while greedy.iter().any(Http2::lives) {
        most = most.max(server.memory().saturating_sub(before));
        let fetched = shanta.get(&path["/v1/".len()..]).await.unwrap();
        assert_eq!(fetched.len(), parcel::MAX_OBJECT);
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    assert!(most < 64 * MIB, "{} MiB", most / MIB);
    for one in asked {
        one.abort();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_user_has_a_share_of_connections() {
    let setup = Setup::with_limits("connections_per_principal = 8");
    let server = setup.start();
    let token = Client::of("ravi", &setup, &server).await.token.unwrap();
    let mut own = Vec::new();
    for _ in 0..40 {
        let one = Http2::connect(&setup, &server, 65_535).await.unwrap();
        assert_eq!(one.get("/v1/parcels", Some(&token)).await, Some(200));
        own.push(one);
    }
    until("more than a share", || own.iter().filter(|one| one.lives()).count() <= 8).await;
    assert!(own[39].lives());
}

#[tokio::test]
async fn long_paths_and_headers_are_refused_and_not_logged() {
    let setup = Setup::new();
    let server = setup.start_talkative();
    let client = Client::of("shanta", &setup, &server).await;
    let log = || std::fs::metadata(setup.path("log")).unwrap().len();
    let parcels = format!("parcels/{}", "x".repeat(60_000));
    for path in [parcels.clone(), format!("parcels?{}", "x".repeat(60_000)), "y".repeat(60_000)] {
        for user in [&client, &Client::new(&setup, &server)] {
            assert_eq!(user.get(&path).await.code(), "413 too-large");
        }
    }
    let header = client.request(Method::GET, "parcels").header("X-Long", "x".repeat(60_000));
    assert_eq!(send(header).await.code(), "413 too-large");
    assert!(log() < 40_000, "{} bytes of log", log());

    // What is echoed is short, and moves nobody's cursor.
    let escape = "%1b%5b2J%0a".repeat(60);
    let refused = client.get(&format!("parcels/{escape}")).await.unwrap_err();
    assert!(refused.error.message.len() < 1100 && !refused.error.message.contains(char::is_control));
    let owner = format!("{}\u{1b}[2J\u{202e}", "z".repeat(100_000));
    let refused = client.create(random_id(), "work", &owner, "a").await.unwrap_err();
    assert!(refused.error.message.len() < 1100, "{}", refused.error.message.len());
    assert!(!refused.error.message.contains(['\u{1b}', '\u{202e}']), "{}", refused.error.message);
    assert!(log() < 45_000, "{} bytes of log", log());
}

#[tokio::test]
async fn a_body_that_drips_is_given_up() {
    let setup = Setup::with_limits("idle_timeout_s = 1");
    let server = setup.start();
    let client = Client::of("shanta", &setup, &server).await;
    let drops = futures::stream::unfold((), |()| async {
        tokio::time::sleep(Duration::from_millis(200)).await;
        Some((Ok::<_, std::io::Error>(" "), ()))
    });
    let slow = client.request(Method::POST, "parcels").body(reqwest::Body::wrap_stream(drops));
    assert_eq!(send(slow).await.code(), "408 too-slow");
}

/// A frame of HTTP/2 (RFC 9113, 4.1).
fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let mut frame = (payload.len() as u32).to_be_bytes()[1..].to_vec();
    frame.extend([kind, flags]);
    frame.extend(stream.to_be_bytes());
    frame.extend(payload);
    frame
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn headers_without_end_are_cut_off() {
    let setup = Setup::new();
    let server = setup.start();
    let before = server.memory();
    let mut flood = tls(&setup, &server).await.unwrap();
    flood.write_all(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n").await.unwrap();
    flood.write_all(&frame(4, 0, 0, &[])).await.unwrap();
    flood.write_all(&frame(1, 0, 1, &[0x82])).await.unwrap();
    // A literal header that is not indexed: "x" with 100 bytes.
    let mut header = vec![0, 1, b'x', 100];
    header.extend([b'a'; 100]);
    let block = header.repeat(150);
    let mut sent = 0;
    while flood.write_all(&frame(9, 0, 1, &block)).await.is_ok() {
        sent += block.len();
        assert!(sent < 64 * MIB, "nothing ends it");
    }
    assert!(server.memory().saturating_sub(before) < 8 * MIB);
    Client::of("shanta", &setup, &server).await.list().await;
}

async fn reset_many(one: &Http2, path: &str, token: Option<&str>) {
    for _ in 0..20_000 {
        let Ok(mut send) = one.send.clone().ready().await else { return };
        let Ok((_, mut stream)) = send.send_request(get(path, token), true) else { return };
        stream.send_reset(h2::Reason::CANCEL);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn requests_taken_back_at_once_hold_nothing() {
    let setup = Setup::new();
    let server = setup.start();
    let shanta = Client::of("shanta", &setup, &server).await;
    let path = format!("/v1/chunks/{}", large(&shanta).await);
    let token = Client::of("ravi", &setup, &server).await.token.unwrap();
    let before = server.memory();
    for token in [None, Some(token.as_str())] {
        for _ in 0..4 {
            let one = Http2::connect(&setup, &server, 0).await.unwrap();
            reset_many(&one, &path, token).await;
            shanta.list().await;
        }
    }
    let held = server.memory().saturating_sub(before);
    assert!(held < 64 * MIB, "{} MiB", held / MIB);
}
