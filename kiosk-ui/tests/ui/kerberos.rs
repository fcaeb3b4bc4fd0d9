//! Log-ins that fail, against a real KDC: what libkrb5 says of each is what the screen says of it.

use crate::{
    desk::{PASSWORD, state},
    kiosk::{Kiosk, NOWHERE, World},
    loopback::free_port,
    peers::{Cached, Init, PATIENCE},
    realm::Realm,
};
use base64::prelude::{BASE64_STANDARD, Engine as _};
use kiosk_ui::effects::now;
use parcel::wire::{
    daemon::{Reply, Request},
    session::{Command, Phase},
};
use parcel_server::auth::spnego::Acceptor;
use std::{
    collections::BTreeSet,
    io::{BufRead, BufReader, Read, Write},
    net::{TcpListener, TcpStream},
    sync::{Arc, Mutex, mpsc},
    thread,
};

/// Logs in, and waits for the sentence and the code.
pub fn log_in(kiosk: &Kiosk, user: &str, password: &str, sentence: &str, code: &str) {
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
    realm.admin("delprinc -force HTTP/localhost");
    log_in(&kiosk, "shanta", PASSWORD, "does not know the parcel server localhost", "service-unknown");
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

#[test]
fn a_wrong_password_counts_once_and_a_right_one_costs_one_exchange() {
    let dir = tempfile::tempdir().expect("a folder");
    let realm = Realm::start(&dir.path().join("kdc"));
    realm.admin("addpol -maxfailure 5 careful");
    realm.admin(&format!("addprinc -policy careful +requires_preauth -pw {PASSWORD} shanta"));
    let acceptor = Acceptor::new(&realm.keytab(), &dir.path().join("replays"), "HTTP/localhost");
    let acceptor = acceptor.expect("the server's side of Kerberos");
    let init = Init::listen(dir.path());
    let cached = Cached::listen(dir.path(), |_| Reply::Ok);
    let server = free_port();
    let (ca, authorizations) = parcel_server(server);
    let world = World { kdc: realm.port, server, ca: Some(&ca) };
    let kiosk = Kiosk::start(dir.path(), world, Some((80, 25)));
    init.say(state(Phase::Login));
    kiosk.wait_for("Log in");

    let denied = "The user name or the password is not right.";
    log_in(&kiosk, "shanta", "not it", denied, "login-denied");
    let told = realm.principal("shanta");
    assert!(told.contains("Failed password attempts: 1\n"), "{told}");
    assert_eq!(realm.tickets_for("krbtgt/WAYSTATION.TEST"), 0);

    let before = now();
    kiosk.keys(&format!("shanta\t{PASSWORD}\r"));
    let principal = "shanta@WAYSTATION.TEST".to_owned();
    let Command::LoggedIn(login) = init.next() else { panic!("the user is let in") };
    assert_eq!(login.principal, principal);
    assert!((before..=now()).contains(&(login.ends - 3600)), "it ends when the server says: {login:?}");
    assert_eq!(realm.tickets_for("krbtgt/WAYSTATION.TEST"), 1);
    assert_eq!(realm.tickets_for("HTTP/localhost"), 1);
    assert!(realm.principal("shanta").contains("Failed password attempts: 0\n"));
    // Every cache that libkrb5 made for it is destroyed by the time the user is let in.
    let trace = std::fs::read_to_string(dir.path().join("krb5.trace")).expect("libkrb5's trace");
    let caches: BTreeSet<_> = trace.split_whitespace().filter(|word| word.starts_with("MEMORY:")).collect();
    assert!(!caches.is_empty(), "{trace}");
    for cache in caches {
        assert!(trace.contains(&format!("Destroying ccache {cache}\n")), "{cache} is left:\n{trace}");
    }
    // What the kiosk showed for it is what a parcel server takes.
    let authorization = authorizations.recv_timeout(PATIENCE).expect("the kiosk logs in to the server");
    let token = BASE64_STANDARD.decode(authorization.trim_start_matches("Negotiate ")).expect("base64");
    assert_eq!(acceptor.accept(&token).expect("a ticket").principal, principal);
    let given = cached.requests();
    assert!(matches!(given.as_slice(), [Request::Session { token }] if token.expose() == "a token"));
}

/// A parcel server as far as the log-in goes: its CA, and what it is shown.
fn parcel_server(port: u16) -> (String, mpsc::Receiver<String>) {
    let (seen, authorizations) = mpsc::channel();
    let ca = serve(port, move |tls| {
        let mut lines =
            BufReader::new(&mut *tls).lines().map_while(Result::ok).take_while(|line| !line.is_empty());
        let header = lines.find_map(|line| {
            let (name, value) = line.split_once(": ")?;
            name.eq_ignore_ascii_case("authorization").then(|| value.to_owned())
        });
        drop(seen.send(header.unwrap_or_default()));
        let body = r#"{"token":"a token","principal":"shanta@WAYSTATION.TEST","expires_in":3600}"#;
        let head = "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\nconnection: close\r\n";
        drop(write!(tls, "{head}content-length: {}\r\n\r\n{body}", body.len()));
    });
    (ca, authorizations)
}

/// A listener in front of the KDC that records what it is sent.
pub fn tap(kdc: u16) -> (u16, Arc<Mutex<Vec<Vec<u8>>>>) {
    let listener = TcpListener::bind(("127.0.0.1", 0)).expect("a port");
    let port = listener.local_addr().expect("its number").port();
    let sent = Arc::new(Mutex::new(Vec::new()));
    let record = Arc::clone(&sent);
    thread::spawn(move || {
        for mut client in listener.incoming().flatten() {
            let mut forward = || {
                let mut message = framed(&mut client)?;
                record.lock().expect("no panic").push(message.clone());
                let mut server = TcpStream::connect(("127.0.0.1", kdc))?;
                server.write_all(&message)?;
                message = framed(&mut server)?;
                client.write_all(&message)
            };
            drop(forward());
        }
    });
    (port, sent)
}

/// A message with its four bytes of length.
fn framed(from: &mut TcpStream) -> std::io::Result<Vec<u8>> {
    let mut message = vec![0; 4];
    from.read_exact(&mut message)?;
    let length = u32::from_be_bytes([message[0], message[1], message[2], message[3]]);
    message.resize(4 + length as usize, 0);
    from.read_exact(&mut message[4..])?;
    Ok(message)
}

/// A TLS server that the kiosk's CA knows nothing of.
fn impostor(port: u16) {
    // The kiosk breaks it off; whatever comes of it here is its affair.
    serve(port, |tls| drop(tls.read(&mut [0; 64])));
}

type Tls<'a> = rustls::Stream<'a, rustls::ServerConnection, TcpStream>;

/// A TLS server with a certificate of its own, which it gives back.
fn serve(port: u16, mut answer: impl FnMut(&mut Tls) + Send + 'static) -> String {
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
            let mut connection = rustls::ServerConnection::new(Arc::clone(&config)).expect("a connection");
            let mut tls = rustls::Stream::new(&mut connection, &mut stream);
            answer(&mut tls);
            tls.conn.send_close_notify();
            drop(tls.flush());
        }
    });
    made.cert.pem()
}
