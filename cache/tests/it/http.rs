//! The HTTPS client against a server that answers in every wrong way, over real TLS.

use cache::{
    daemon::{Daemon, Settings},
    status::Board,
};
use client::{
    api::{Api, ApiError},
    traffic::Traffic,
};
use parcel::{
    id::{BootId, ChunkName, Epoch, Generation, ParcelId, StoreId, Version},
    tag::Inventory,
    wire::{
        Code, Fate, Stake,
        daemon::Request,
        hold::{Claim, Hold, StoreIdentity},
        http::LockReply,
    },
};
use rustls::pki_types::PrivateKeyDer;
use std::{
    collections::BTreeSet,
    io::{Read as _, Write as _},
    net::TcpListener,
    path::Path,
    sync::{Arc, mpsc},
    thread,
};
use zeroize::Zeroizing;

/// What answers a request, whose head it is given.
type Answer = Box<dyn FnOnce(&str) -> Vec<u8> + Send>;

/// Answers each connection's first request with these bytes and closes; gives back the port, and the CA in `ca`.
fn serve(answers: Vec<Vec<u8>>, ca: &Path) -> u16 {
    serve_with(answers.into_iter().map(|answer| -> Answer { Box::new(|_| answer) }).collect(), ca)
}

/// A server's side of TLS; its CA goes to `ca`.
pub fn tls(ca: &Path) -> Arc<rustls::ServerConfig> {
    let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
    std::fs::write(ca, made.cert.pem()).unwrap();
    let key = PrivateKeyDer::try_from(made.signing_key.serialize_der()).unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = rustls::ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![made.cert.der().clone()], key)
        .unwrap();
    Arc::new(config)
}

fn serve_with(answers: Vec<Answer>, ca: &Path) -> u16 {
    let config = tls(ca);
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    thread::spawn(move || {
        for answer in answers {
            let (mut stream, _) = listener.accept().unwrap();
            let mut tls = rustls::ServerConnection::new(config.clone()).unwrap();
            let mut tls = rustls::Stream::new(&mut tls, &mut stream);
            let mut request: Vec<u8> = Vec::new();
            let mut part = [0; 4096];
            while !request.windows(4).any(|end| end == b"\r\n\r\n") {
                match tls.read(&mut part) {
                    Ok(len) if len > 0 => request.extend(&part[..len]),
                    _ => break,
                }
            }
            // A client that does not like the certificate has gone by now.
            let _ = tls.write_all(&answer(&String::from_utf8_lossy(&request)));
            let _ = tls.flush();
        }
    });
    port
}

fn answer(status: &str, claimed: usize, body: &[u8]) -> Vec<u8> {
    let head = format!("HTTP/1.1 {status}\r\ncontent-length: {claimed}\r\nconnection: close\r\n\r\n");
    [head.as_bytes(), body].concat()
}

fn whole(status: &str, body: &[u8]) -> Vec<u8> {
    answer(status, body.len(), body)
}

async fn ask(answers: Vec<Vec<u8>>) -> (Api, Arc<Traffic>) {
    let folder = tempfile::tempdir().unwrap();
    let ca = folder.path().join("ca.pem");
    let port = serve(answers, &ca);
    let traffic = Arc::new(Traffic::default());
    let api = Api::new(&format!("https://localhost:{port}"), &ca, traffic.clone()).unwrap();
    api.set_token(Zeroizing::new("a-token".into()));
    (api, traffic)
}

const PARCEL: ParcelId = ParcelId([1; 16]);
const NAME: ChunkName = ChunkName([3; 20]);

#[tokio::test(flavor = "multi_thread")]
async fn a_connection_that_breaks_in_the_middle_is_an_outage_and_gives_no_bytes() {
    let piece = vec![5; 100_000];
    let (api, traffic) = ask(vec![
        answer("200 OK", 100_000, &piece[..60_000]),
        b"HTTP/1.1 200".to_vec(),
        Vec::new(),
        whole("200 OK", &piece),
    ])
    .await;
    for _ in 0..3 {
        let error = api.chunk(&NAME).await.unwrap_err();
        assert!(matches!(error, ApiError::Unreachable { .. }) && error.transient(), "{error:?}");
    }
    assert_eq!(api.chunk(&NAME).await.unwrap(), piece);
    let (received, sent) = traffic.totals();
    assert!((160_000..164_000).contains(&received) && sent > 0, "{received} in, {sent} out");
}

#[tokio::test(flavor = "multi_thread")]
async fn refusals_are_told_apart() {
    let refusal = |code: &str| format!("{{\"code\":\"{code}\",\"message\":\"m\"}}").into_bytes();
    let (api, _) = ask(vec![
        whole("503 Service Unavailable", &refusal("busy")),
        whole("401 Unauthorized", &refusal("token-expired")),
        whole("404 Not Found", &refusal("no-such-chunk")),
        whole("409 Conflict", &refusal("stale-epoch")),
        whole("400 Bad Request", &refusal("bad-name")),
        whole("507 Insufficient Storage", &refusal("store-full")),
        whole("502 Bad Gateway", b"<html>a proxy</html>"),
        whole("403 Forbidden", b"<html>a proxy</html>"),
        // A server of tomorrow.
        whole("401 Unauthorized", &refusal("token-revoked")),
        whole("409 Conflict", &refusal("other-code")),
    ])
    .await;
    // Transient, log in again, not found, conflict.
    let expected = [
        (Code::Busy, [true, false, false, false]),
        (Code::TokenExpired, [false, true, false, false]),
        (Code::NoSuchChunk, [false, false, true, false]),
        (Code::StaleEpoch, [false, false, false, true]),
        (Code::BadName, [true, false, false, false]),
        (Code::StoreFull, [false, false, false, false]),
        (Code::ServerUnavailable, [true, false, false, false]),
        (Code::ServerError, [false, false, false, false]),
        (Code::SessionExpired, [false, true, false, false]),
        (Code::from("other-code"), [false, false, false, true]),
    ];
    for (code, kinds) in expected {
        let error = api.chunk(&NAME).await.unwrap_err();
        assert_eq!(error.code(), code);
        let found = [error.transient(), error.session_ended(), error.not_found(), error.conflict()];
        assert_eq!(found, kinds, "{code}");
    }
}

/// Whatever a server says that is wrong, or broken into: work ends by the proof that its owner broke the lock, and by nothing else.
#[tokio::test(flavor = "multi_thread")]
async fn no_answer_of_a_server_ends_work_but_the_proof_that_the_lock_was_broken() {
    let refusal = |code: &Code| format!("{{\"code\":\"{code}\",\"message\":\"m\"}}").into_bytes();
    for status in ["409 Conflict", "404 Not Found", "400 Bad Request"] {
        let (api, _) = ask(Code::ALL.iter().map(|code| whole(status, &refusal(code))).collect()).await;
        for code in Code::ALL {
            let told = api.have(&PARCEL, &hold(), &[NAME]).await.unwrap_err().code();
            let proof = *code == Code::StaleEpoch && status.starts_with("409");
            assert_eq!(told.fate(Stake::Work) == Fate::Final, proof, "{status}, {code}: {told}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_answer_of_another_kind_is_not_tried_again() {
    let (api, _) = ask(vec![whole("200 OK", b"hello"), whole("200 OK", &[1, 2])]).await;
    let error = api.parcels().await.unwrap_err();
    assert!(matches!(error, ApiError::Protocol { .. }) && !error.transient(), "{error:?}");
    let error = api.have(&ParcelId([0; 16]), &hold(), &[NAME, NAME]).await.unwrap_err();
    assert!(matches!(error, ApiError::Protocol { .. }), "a byte that is neither 0 nor 1: {error:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_answer_that_is_too_large_is_not_taken_in() {
    let piece = vec![5; parcel::MAX_OBJECT + 1];
    let page = vec![b'x'; 1 << 20];
    let (api, traffic) = ask(vec![
        whole("200 OK", &piece),
        whole("200 OK", &piece[1..]),
        whole("200 OK", &page),
        whole("502 Bad Gateway", &page),
    ])
    .await;
    assert_eq!(api.chunk(&NAME).await.unwrap_err().code(), Code::ServerProtocol);
    assert_eq!(api.chunk(&NAME).await.unwrap(), piece[1..]);
    let before = traffic.totals().0;
    assert_eq!(api.slots(&parcel::id::ParcelId([0; 16])).await.unwrap_err().code(), Code::ServerProtocol);
    assert_eq!(api.parcels().await.unwrap_err().code(), Code::ServerProtocol);
    assert!(traffic.totals().0 < before + (1 << 20), "neither was read to its end");
}

/// A daemon whose server is at `port`.
fn daemon(folder: &Path, port: u16) -> Arc<Daemon> {
    let traffic = Arc::new(Traffic::default());
    let api = Api::new(&format!("https://localhost:{port}"), &folder.join("ca.pem"), traffic.clone());
    let settings = Settings::sized(folder.into(), folder.into(), 1);
    Daemon::new(settings, api.unwrap(), Board::new(traffic)).unwrap()
}

pub fn locking_request(parcel: ParcelId) -> Request {
    let inventory = Inventory {
        vendor: "V".into(),
        cpu_model: "M".into(),
        features: BTreeSet::new(),
        cpus: 1,
        memory_mib: 512,
        device_models: BTreeSet::from([1]),
        kvm: true,
        screen: None,
        sound: false,
        kbit_per_s: None,
    };
    Request::Lock {
        parcel,
        kiosk: "kiosk".into(),
        boot: BootId([1; 16]),
        inventory,
        break_lock: false,
        cold_boot: false,
    }
}

fn hold() -> Hold {
    Hold { store: lock_reply().store, epoch: Epoch(7), claim: Claim::from_bytes([1; 16]) }
}

pub fn lock_reply() -> LockReply {
    LockReply {
        store: StoreIdentity { id: StoreId([1; 16]), generation: Generation([1; 8]) },
        name: "work".into(),
        owner: "shanta@R".into(),
        epoch: Epoch(7),
        version: Version(1),
        misses: Vec::new(),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_waits_for_a_log_in_goes_on_with_the_next_token() {
    let folder = tempfile::tempdir().unwrap();
    let reply = lock_reply();
    let reply = serde_json::to_vec(&reply).unwrap();
    let locking: Answer = Box::new(move |_| whole("200 OK", &reply));
    let unlocking = || -> Answer {
        Box::new(|head| match head.contains("Bearer second") {
            true => whole("204 No Content", b""),
            false => whole("401 Unauthorized", br#"{"code":"token-expired","message":"m"}"#),
        })
    };
    let answers = std::iter::once(locking).chain(std::iter::repeat_with(unlocking).take(100));
    let port = serve_with(answers.collect(), &folder.path().join("ca.pem"));
    let daemon = daemon(folder.path(), port);
    daemon.answer(Request::Session { token: "first".into() }).await.unwrap();
    daemon.answer(locking_request(PARCEL)).await.unwrap();
    let asking = tokio::spawn({
        let daemon = daemon.clone();
        async move { daemon.answer(Request::Unlock).await.map(drop) }
    });
    while !daemon.board().status().waiting.is_some_and(|waiting| waiting.needs_login()) {
        tokio::task::yield_now().await;
    }
    assert!(!asking.is_finished());
    daemon.answer(Request::Session { token: "second".into() }).await.unwrap();
    asking.await.unwrap().unwrap();
    assert_eq!(daemon.board().status().waiting, None);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lock_that_nobody_waits_for_any_more_is_found_and_released() {
    let folder = tempfile::tempdir().unwrap();
    let ca = folder.path().join("ca.pem");
    let reply = lock_reply();
    let reply = serde_json::to_vec(&reply).unwrap();
    let (asked, has_asked) = mpsc::channel();
    let (go_on, may_go_on) = mpsc::channel::<()>();
    let (released, was_released) = mpsc::channel();
    let locking: Answer = Box::new(move |_| {
        asked.send(()).unwrap();
        may_go_on.recv().unwrap();
        whole("200 OK", &reply)
    });
    let unlocking: Answer = Box::new(move |head| {
        released.send(head.to_owned()).unwrap();
        whole("204 No Content", b"")
    });
    let port = serve_with(vec![locking, unlocking], &ca);
    let daemon = daemon(folder.path(), port);
    let request = locking_request(PARCEL);
    let asking = tokio::spawn({
        let daemon = daemon.clone();
        async move { daemon.answer(request).await.map(drop) }
    });
    tokio::task::spawn_blocking(move || has_asked.recv().unwrap()).await.unwrap();
    asking.abort();
    assert!(asking.await.unwrap_err().is_cancelled());
    assert_eq!(daemon.answer(Request::Unlock).await.err().map(|e| e.code), Some(Code::StepUnderWay));
    go_on.send(()).unwrap();
    while daemon.answer(Request::Unlock).await.is_err_and(|error| error.code == Code::StepUnderWay) {
        tokio::task::yield_now().await;
    }
    let head = tokio::task::spawn_blocking(move || was_released.try_recv().unwrap()).await.unwrap();
    assert!(
        head.starts_with("DELETE ") && head.contains("waystation-hold: ") && head.contains(" 7 "),
        "{head}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn only_the_given_ca_is_trusted() {
    let folder = tempfile::tempdir().unwrap();
    let (theirs, ours) = (folder.path().join("theirs.pem"), folder.path().join("ours.pem"));
    let port = serve(vec![whole("200 OK", b"[]")], &theirs);
    std::fs::write(&ours, rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap().cert.pem())
        .unwrap();
    let api = Api::new(&format!("https://localhost:{port}"), &ours, Arc::default()).unwrap();
    let error = api.parcels().await.unwrap_err();
    assert!(matches!(error, ApiError::Certificate { .. }) && !error.transient(), "{error:?}");
}

#[test]
fn what_cannot_be_a_server_is_refused_with_a_reason() {
    let folder = tempfile::tempdir().unwrap();
    let ca = folder.path().join("ca.pem");
    std::fs::write(&ca, "no certificate").unwrap();
    let error = |url: &str| Api::new(url, &ca, Arc::default()).err().unwrap().to_string();
    assert!(error("http://localhost").contains("https://"));
    assert!(error("parcels").contains("parcels"));
    assert!(error("https://localhost").contains("ca.pem"));
}
