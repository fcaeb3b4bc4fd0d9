//! Log-ins that fail, against a real KDC: what libkrb5 says of each is what the screen says of it.

use crate::{
    desk::{PASSWORD, state},
    kiosk::{Kiosk, NOWHERE, World},
    peers::Init,
    realm::{Realm, free_port},
};
use parcel::wire::session::Phase;
use std::{
    io::{Read, Write},
    net::TcpListener,
    sync::Arc,
    thread,
};

/// Logs in, and waits for the sentence and the code.
fn log_in(kiosk: &Kiosk, user: &str, password: &str, sentence: &str, code: &str) {
    kiosk.keys(&format!("\x15{user}\t{password}"));
    // The last answer's sentence is gone when the next attempt begins.
    kiosk.keys("\r");
    kiosk.wait_for_words(sentence);
    kiosk.wait_for_words(&format!("Code for IT: {code}"));
    // A lone Escape empties the form for the next one.
    kiosk.keys("\x1b");
    kiosk.wait_for_words("as you left it");
}

#[test]
fn each_failure_has_its_sentence() {
    let dir = tempfile::tempdir().expect("a folder");
    let realm = Realm::start(&dir.path().join("kdc"));
    realm.admin(&format!("addprinc -pw {PASSWORD} shanta"));
    realm.admin(&format!("addprinc -pw {PASSWORD} -allow_tix locked"));
    realm.admin(&format!("addprinc -pw {PASSWORD} -expire yesterday gone"));
    realm.admin(&format!("addprinc -pw {PASSWORD} -pwexpire yesterday stale"));
    let init = Init::listen(dir.path());
    let server = free_port();
    let kiosk = Kiosk::start(dir.path(), World { kdc: realm.port, server, ca: None }, Some((80, 25)));
    init.say(state(Phase::Login));
    kiosk.wait_for("Log in");

    let denied = "The user name or the password is not right.";
    log_in(&kiosk, "shanta", "not it", denied, "login-denied");
    log_in(&kiosk, "nobody", PASSWORD, denied, "login-denied");
    log_in(&kiosk, "locked", PASSWORD, "Your account is locked.", "account-locked");
    log_in(&kiosk, "gone", PASSWORD, "Your account has expired.", "account-expired");
    log_in(&kiosk, "stale", PASSWORD, "Your password has expired.", "password-expired");
    let elsewhere = "shanta@ELSEWHERE.TEST";
    log_in(&kiosk, elsewhere, PASSWORD, "does not know the realm ELSEWHERE.TEST", "realm-unknown");
    // The password is right, and nobody listens at the server's port.
    log_in(&kiosk, "shanta", PASSWORD, "the parcel server localhost does not answer", "server-unreachable");
    // Somebody does, with a certificate of his own.
    impostor(server);
    log_in(&kiosk, "shanta", PASSWORD, "its certificate is not trusted", "server-certificate");
    drop(realm);
    log_in(&kiosk, "shanta", PASSWORD, "No log-in server of WAYSTATION.TEST answers", "kdc-unreachable");
    assert!(!kiosk.everything().contains(PASSWORD));
}

#[test]
fn a_realm_that_was_never_there_is_one_that_does_not_answer() {
    let dir = tempfile::tempdir().expect("a folder");
    let init = Init::listen(dir.path());
    let kiosk = Kiosk::start(dir.path(), NOWHERE, Some((80, 25)));
    init.say(state(Phase::Login));
    kiosk.wait_for("Log in");
    log_in(&kiosk, "shanta", PASSWORD, "No log-in server of WAYSTATION.TEST answers", "kdc-unreachable");
}

/// A TLS server that the kiosk's CA knows nothing of.
fn impostor(port: u16) {
    let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]).expect("a certificate");
    let key = rustls::pki_types::PrivateKeyDer::try_from(made.signing_key.serialize_der()).expect("its key");
    let config =
        rustls::ServerConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
            .with_safe_default_protocol_versions()
            .expect("TLS")
            .with_no_client_auth()
            .with_single_cert(vec![made.cert.der().clone()], key)
            .expect("a server");
    let config = Arc::new(config);
    let listener = TcpListener::bind(("127.0.0.1", port)).expect("the server's port");
    thread::spawn(move || {
        for mut stream in listener.incoming().map_while(Result::ok) {
            let mut tls = rustls::ServerConnection::new(Arc::clone(&config)).expect("a connection");
            let mut tls = rustls::Stream::new(&mut tls, &mut stream);
            // The kiosk breaks it off; whatever comes of it here is its affair.
            drop(tls.read(&mut [0; 64]));
            drop(tls.flush());
        }
    });
}
