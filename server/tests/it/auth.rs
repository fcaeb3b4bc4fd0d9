//! Tickets and tokens.

use crate::{
    client::{Client, Code},
    realm::{HOST, Ticket, copy_private, principal, realm},
    server::Setup,
};
use parcel_server::auth::token::TokenKey;
use reqwest::Version;

// Two threads: the client must hear that the server goes while the test waits for its end.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_ticket_becomes_a_token_that_outlives_a_restart() {
    let setup = Setup::new();
    let server = setup.start();
    let client = Client::of("shanta", &setup, &server).await;
    assert_eq!(client.list().await.len(), 0);
    assert_eq!(
        client.request(reqwest::Method::GET, "parcels").send().await.unwrap().version(),
        Version::HTTP_2
    );
    let health: parcel::wire::http::Health = Client::new(&setup, &server).get_json("health").await.unwrap();
    assert!(health.ok && health.server.starts_with("parcel-server "));

    assert!(server.terminate().success());
    let server = setup.start();
    let mut again = Client::new(&setup, &server);
    again.token = client.token;
    assert_eq!(again.list().await.len(), 0);
}

#[tokio::test]
async fn a_token_lives_no_longer_than_the_ticket_or_the_limit() {
    let setup = Setup::with_limits("token_lifetime_s = 3600");
    let server = setup.start();
    let client = Client::new(&setup, &server);
    let long = client.log_in("shanta").await.expires_in;
    assert_eq!(long, 3600);
    // This principal's tickets live ten minutes.
    let short = client.log_in("brief").await.expires_in;
    assert!((500..=600).contains(&short), "{short}");
}

#[tokio::test]
async fn bad_tickets_are_refused() {
    let setup = Setup::new();
    let server = setup.start();
    let client = Client::new(&setup, &server);
    let post = |header: Option<&str>| {
        let request = client.request(reqwest::Method::POST, "session");
        let request = match header {
            Some(value) => request.header("Authorization", value),
            None => request,
        };
        crate::client::send(request)
    };
    assert_eq!(post(None).await.code(), "401 no-ticket");
    assert_eq!(post(Some("Basic c2hhbnRhOng=")).await.code(), "401 no-ticket");
    assert_eq!(post(Some("Negotiate not*base64")).await.code(), "401 bad-ticket");
    assert_eq!(post(Some("Negotiate ")).await.code(), "401 bad-ticket");
    assert_eq!(client.negotiate(b"not a ticket").await.code(), "401 bad-ticket");
    assert_eq!(client.negotiate(&[0x60; 90_000]).await.code(), "401 bad-ticket");

    let ticket = Ticket::get("shanta", HOST).token;
    let mut damaged = ticket.clone();
    let at = damaged.len() - 20;
    damaged[at] ^= 1;
    assert_eq!(client.negotiate(&damaged).await.code(), "401 bad-ticket");
    client.negotiate(&ticket).await.unwrap();
    let replayed = client.negotiate(&ticket).await;
    assert!(replayed.as_ref().unwrap_err().error.message.contains("replay"), "{replayed:?}");
    assert_eq!(replayed.code(), "401 bad-ticket");

    // For a service whose key the server does not have; then for one whose key is in the keytab by chance.
    let other = Ticket::get("shanta", "other.waystation.test").token;
    assert_eq!(client.negotiate(&other).await.code(), "401 bad-ticket");
    let host = client.negotiate(&Ticket::for_service("shanta", "host@parcels.waystation.test").token).await;
    assert!(host.as_ref().unwrap_err().error.message.contains("not for this server's service"), "{host:?}");
    assert_eq!(host.code(), "401 bad-ticket");
}

#[tokio::test]
async fn bad_tokens_are_refused_everywhere() {
    let setup = Setup::new();
    let server = setup.start();
    let mut client = Client::new(&setup, &server);
    let id = "00000000000000000000000000000001";
    let name = "0000000000000000000000000000000000000001";
    let routes = [
        ("GET", "parcels".to_owned()),
        ("POST", "parcels".to_owned()),
        ("GET", format!("parcels/{id}")),
        ("DELETE", format!("parcels/{id}?epoch=1")),
        ("GET", format!("parcels/{id}/versions")),
        ("GET", format!("parcels/{id}/versions/1")),
        ("PUT", format!("parcels/{id}/versions/1?epoch=1")),
        ("POST", format!("parcels/{id}/lock")),
        ("DELETE", format!("parcels/{id}/lock?epoch=1")),
        ("POST", format!("parcels/{id}/lock/break")),
        ("GET", format!("parcels/{id}/slots")),
        ("PUT", format!("parcels/{id}/slots?epoch=1")),
        ("GET", format!("chunks/{name}")),
        ("PUT", format!("parcels/{id}/chunks/{name}?epoch=1")),
        ("POST", format!("parcels/{id}/chunks/have")),
    ];
    let key = TokenKey::load(&setup.path("store.token-key")).unwrap();
    let past = key.issue(&principal("shanta"), 1_700_000_000).unwrap();
    let forged = TokenKey::derive(&[1; 32]).issue(&principal("shanta"), u64::MAX).unwrap();
    for (token, code) in [
        (None, "401 no-ticket"),
        (Some("x".repeat(2000)), "401 bad-token"),
        (Some(forged), "401 bad-token"),
        (Some(past), "401 token-expired"),
    ] {
        client.token = token;
        for (method, path) in &routes {
            let request = client.request(method.parse().unwrap(), path);
            assert_eq!(crate::client::send(request).await.code(), code, "{method} {path}");
        }
    }
}

#[tokio::test]
async fn a_server_takes_tickets_only_under_the_keys_it_has() {
    let setup = Setup::new();
    copy_private(&realm().other_keytab(), &setup.path("keytab"));
    setup.edit("HTTP/parcels.waystation.test", "HTTP/other.waystation.test");
    let server = setup.start();
    let client = Client::new(&setup, &server);
    assert_eq!(client.negotiate(&Ticket::get("shanta", HOST).token).await.code(), "401 bad-ticket");
    client.negotiate(&Ticket::get("shanta", "other.waystation.test").token).await.unwrap();
}

#[tokio::test]
async fn the_log_says_who_did_what_and_holds_no_secret() {
    let setup = Setup::new();
    let server = setup.start_talkative();
    let mut client = Client::new(&setup, &server);
    let ticket = Ticket::get("shanta", HOST).token;
    let reply = client.negotiate(&ticket).await.unwrap();
    let reply: parcel::wire::http::SessionReply = reply.json().await.unwrap();
    client.token = Some(reply.token.expose().to_owned());
    client.list().await;
    let name = "0000000000000000000000000000000000000001";
    assert_eq!(client.get(&format!("chunks/{name}")).await.code(), "404 no-such-chunk");
    assert_eq!(client.negotiate(&ticket).await.code(), "401 bad-ticket");
    drop(server);

    let log = std::fs::read_to_string(setup.path("log")).unwrap();
    let line = |parts: &[&str]| log.lines().any(|line| parts.iter().all(|part| line.contains(part)));
    let who = format!("caller=\"{}\"", principal("shanta"));
    assert!(line(&[&who, "method=GET", "path=\"/v1/parcels\"", "status=200"]), "{log}");
    assert!(
        line(&[&who, &format!("path=\"/v1/chunks/{name}\""), "status=404", "code=\"no-such-chunk\""]),
        "{log}"
    );
    assert!(line(&["path=\"/v1/session\"", "status=401", "code=\"bad-ticket\""]), "{log}");
    let ticket = base64::Engine::encode(&base64::engine::general_purpose::STANDARD, &ticket);
    for (what, secret) in [("token", reply.token.expose()), ("ticket", ticket.as_str())] {
        // Any part of it that is long enough to be no chance.
        let part = &secret[secret.len() / 2..][..24];
        assert!(!log.contains(part), "the {what} is in the log");
    }
}
