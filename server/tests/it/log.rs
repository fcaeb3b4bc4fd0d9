//! What strangers can make the server write.

use crate::{
    attacker::{Http2, tls},
    client::Client,
    server::Setup,
};
use std::{fs, time::Instant};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

/// The number that a line tells under this name.
fn told(line: &str, name: &str) -> Option<usize> {
    let (_, rest) = line.split_once(&format!(" {name}="))?;
    rest.split(' ').next()?.parse().ok()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn strangers_fill_no_log_and_hide_nobody() {
    let setup = Setup::new();
    let begun = Instant::now();
    let server = setup.start_with_log("info");
    let token = Client::of("shanta", &setup, &server).await.token.unwrap();
    let one = Http2::connect(&setup, &server, 65_535).await.unwrap();
    let long = format!("/v1/{}", "x".repeat(2000));
    let mut strangers = 0;
    for _ in 0..400 {
        for (path, token, status) in [
            ("/v1/health", None, 200),
            ("/v1/health", Some("none"), 200),
            ("/v1/parcels", None, 401),
            ("/v1/parcels", Some("none"), 401),
            ("/v1/session", None, 405),
            ("/v1/none", None, 404),
            (long.as_str(), None, 413),
        ] {
            assert_eq!(one.ask(path, token).await, Some(status), "{path}");
            strangers += 1;
        }
        for (path, status) in [("/v1/parcels", 200), ("/v1/none", 404), ("/v1/health", 200)] {
            assert_eq!(one.ask(path, Some(&token)).await, Some(status), "{path}");
        }
    }
    assert_eq!(server.terminate().code(), Some(0));
    let seconds = begun.elapsed().as_secs() as usize;

    let log = fs::read_to_string(setup.path("log")).unwrap();
    let lines = log.lines().filter(|line| line.contains(" access: "));
    let (known, others): (Vec<_>, Vec<_>) = lines.partition(|line| line.contains(" caller="));
    // Her log-in, too.
    assert_eq!(known.len(), 1 + 3 * 400);
    let (tell, written): (Vec<_>, Vec<_>) = others.into_iter().partition(|line| line.contains(" left_out="));
    assert!(written.iter().all(|line| told(line, "status").is_some()));
    let left_out: usize = tell.iter().map(|line| told(line, "left_out").unwrap()).sum();
    assert_eq!(written.len() + left_out, strangers, "{tell:?}");
    assert!(written.len() >= 2 * 50, "{} lines", written.len());
    assert!(written.len() <= 2 * (50 + 10 * seconds), "{} lines in {seconds} s", written.len());
    assert!(tell.len() <= seconds + 1, "{tell:?} in {seconds} s");
}

/// Answers to PINGs that the server never sent: its HTTP library has a word for each.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn mistakes_in_http_are_not_told_one_by_one() {
    let setup = Setup::new();
    let server = setup.start_with_log("info");
    let mut one = tls(&setup, &server).await.unwrap();
    one.write_all(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0").await.unwrap();
    let answers = b"\0\0\x08\x06\x01\0\0\0\0nobodys!".repeat(10_000);
    one.write_all(&answers).await.unwrap();
    one.shutdown().await.unwrap();
    // Everything was taken in when its end is answered.
    let _ = one.read_to_end(&mut Vec::new()).await;
    assert_eq!(server.terminate().code(), Some(0));
    let log = fs::read_to_string(setup.path("log")).unwrap();
    assert!(log.lines().count() < 50, "{} lines", log.lines().count());
}
