//! KDCs that must get nothing from which a password could be guessed: false ones that offer only what gives it away, and
//! real ones that have nothing better.

use crate::{
    desk::{PASSWORD, state},
    kerberos::log_in,
    kiosk::{Kiosk, World},
    loopback::free_port,
    peers::Init,
    realm::{REALM, Realm},
};
use client::proxy::der;
use parcel::wire::session::Phase;
use std::{
    io::{Read as _, Write as _},
    net::TcpListener,
    sync::{Arc, Mutex},
    thread,
};

/// The padata type of an encrypted timestamp, as DER has it within a PA-DATA.
const ENC_TIMESTAMP: [u8; 5] = [0xa1, 0x03, 0x02, 0x01, 0x02];
/// The same of SPAKE.
const SPAKE: [u8; 6] = [0xa1, 0x04, 0x02, 0x02, 0x00, 0x97];

fn integer(value: u8) -> Vec<u8> {
    der(0x02, &[value])
}

/// `KRB-ERROR` "preauthentication required" (RFC 4120, section 5.9.1), which offers an encrypted timestamp under a key of
/// this type and nothing else.
fn demand(enctype: u8) -> Vec<u8> {
    let general = |text: &str| der(0x1b, text.as_bytes());
    let info = der(0x30, &der(0x30, &[der(0xa0, &integer(enctype)), der(0xa1, &general("salt"))].concat()));
    let padata = |kind: u8, value: &[u8]| {
        der(0x30, &[der(0xa1, &integer(kind)), der(0xa2, &der(0x04, value))].concat())
    };
    let methods = der(0x30, &[padata(19, &info), padata(2, &[])].concat());
    let names = der(0x30, &[general("krbtgt"), general(REALM)].concat());
    let server = der(0x30, &[der(0xa0, &integer(2)), der(0xa1, &names)].concat());
    let fields = [
        der(0xa0, &integer(5)),
        der(0xa1, &integer(30)),
        der(0xa4, &der(0x18, b"20261127120000Z")),
        der(0xa5, &integer(0)),
        der(0xa6, &integer(25)),
        der(0xa9, &general(REALM)),
        der(0xaa, &server),
        der(0xac, &der(0x04, &methods)),
    ];
    der(0x7e, &der(0x30, &fields.concat()))
}

/// A false KDC that answers everything with `answer`, and records what it is sent.
fn rogue(answer: Vec<u8>) -> (u16, Arc<Mutex<Vec<Vec<u8>>>>) {
    let listener = TcpListener::bind(("127.0.0.1", 0)).expect("a port");
    let port = listener.local_addr().expect("its number").port();
    let sent = Arc::new(Mutex::new(Vec::new()));
    let record = Arc::clone(&sent);
    thread::spawn(move || {
        for mut stream in listener.incoming().flatten() {
            let mut length = [0; 4];
            if stream.read_exact(&mut length).is_err() {
                continue;
            }
            let mut message = vec![0; u32::from_be_bytes(length) as usize];
            stream.read_exact(&mut message).expect("the whole message");
            record.lock().expect("no panic").push(message);
            let framed = [&(answer.len() as u32).to_be_bytes()[..], &answer].concat();
            drop(stream.write_all(&framed));
        }
    });
    (port, sent)
}

fn holds(message: &[u8], bytes: &[u8]) -> bool {
    message.windows(bytes.len()).any(|window| window == bytes)
}

/// What a kiosk sends to a KDC that demands an encrypted timestamp under a key of this type.
fn sent_to_a_rogue(enctype: u8, weak_preauth: bool, sentence: &str, code: &str) -> Vec<Vec<u8>> {
    let dir = tempfile::tempdir().expect("a folder");
    let (kdc, sent) = rogue(demand(enctype));
    let init = Init::listen(dir.path());
    let world = World { kdc, server: free_port(), ca: None };
    let realm = serde_json::json!({ "weak_preauth": weak_preauth });
    let kiosk = Kiosk::start_in(dir.path(), world, &realm, Some((80, 25)));
    init.say(state(Phase::Login));
    kiosk.wait_for("Log in");
    log_in(&kiosk, "shanta", PASSWORD, sentence, code);
    let sent = sent.lock().expect("no panic").clone();
    assert!(!sent.is_empty(), "the kiosk asks");
    sent
}

#[test]
fn a_false_kdc_gets_nothing_to_guess_the_password_from() {
    const AES256: u8 = 18;
    const RC4: u8 = 23;
    let weak = "in a way that others could guess it from.";
    for sent in [
        sent_to_a_rogue(AES256, false, weak, "weak-preauth"),
        sent_to_a_rogue(RC4, false, "offers only old encryption", "weak-encryption"),
        // RC4 is not a matter of consent.
        sent_to_a_rogue(RC4, true, "offers only old encryption", "weak-encryption"),
    ] {
        // Before the KDC's demand nothing of the password is used, and after it nothing is sent.
        assert_eq!(sent.len(), 1);
        assert!(!holds(&sent[0], &ENC_TIMESTAMP));
    }
    // That the record would show it: with the site's consent the timestamp is sent, once.
    let consented = sent_to_a_rogue(AES256, true, "Code for IT", "");
    assert!(consented.iter().any(|message| holds(message, &ENC_TIMESTAMP)));
}

#[test]
fn a_real_kdc_without_spake_is_refused_unless_the_site_consents() {
    let dir = tempfile::tempdir().expect("a folder");
    let realm = Realm::start_without_spake(&dir.path().join("kdc"));
    realm.admin(&format!("addprinc +requires_preauth -pw {PASSWORD} shanta"));
    let world = World { kdc: realm.port, server: free_port(), ca: None };
    for (weak, sentence, code) in [
        (false, "in a way that others could guess it from.", "weak-preauth"),
        // The password is right, and nobody listens at the server's port.
        (true, "the parcel server localhost does not answer", "server-unreachable"),
    ] {
        let init = Init::listen(dir.path());
        let told = serde_json::json!({ "weak_preauth": weak });
        let kiosk = Kiosk::start_in(dir.path(), world, &told, Some((80, 25)));
        init.say(state(Phase::Login));
        kiosk.wait_for("Log in");
        log_in(&kiosk, "shanta", PASSWORD, sentence, code);
    }
}

#[test]
fn one_kdc_of_eight_is_enough_and_a_wrong_password_counts_once() {
    let dir = tempfile::tempdir().expect("a folder");
    let realm = Realm::start(&dir.path().join("kdc"));
    realm.admin("addpol -maxfailure 5 careful");
    realm.admin(&format!("addprinc -policy careful +requires_preauth -pw {PASSWORD} shanta"));
    // Some refuse, some take a connection and say nothing; the KDC that works is the last one.
    let silent = TcpListener::bind(("127.0.0.1", 0)).expect("a port");
    let mute = silent.local_addr().expect("its number");
    let refusing = free_port();
    let mut kdcs: Vec<_> = (0..6).map(|_| format!("127.0.0.1:{refusing}")).collect();
    kdcs.insert(2, mute.to_string());
    kdcs.push(format!("127.0.0.1:{}", realm.port));
    let init = Init::listen(dir.path());
    let told = serde_json::json!({ "kdc": kdcs });
    let world = World { kdc: realm.port, server: free_port(), ca: None };
    let kiosk = Kiosk::start_in(dir.path(), world, &told, Some((80, 25)));
    init.say(state(Phase::Login));
    kiosk.wait_for("Log in");
    kiosk.keys("shanta\tnot it\r");
    kiosk.wait_for_words("Still trying: log-in server");
    kiosk.wait_for_words("The user name or the password is not right.");
    kiosk.keys("\x1b");
    kiosk.wait_for_words("as you left it");
    let told = realm.principal("shanta");
    assert!(told.contains("Failed password attempts: 1\n"), "{told}");
    // The one that answered is asked first now: the mute one is not waited for.
    log_in(&kiosk, "shanta", PASSWORD, "the parcel server localhost does not answer", "server-unreachable");
}

#[test]
fn names_like_addresses_and_other_realms() {
    let dir = tempfile::tempdir().expect("a folder");
    let realm = Realm::start(&dir.path().join("kdc"));
    // Where a KDC knows enterprise names, it takes this for one.
    realm.admin(&format!("addprinc +requires_preauth -pw {PASSWORD} shanta\\@mail.example"));
    realm.admin(&format!("addprinc +requires_preauth -pw {PASSWORD} shanta"));
    let init = Init::listen(dir.path());
    let world = World { kdc: realm.port, server: free_port(), ca: None };
    let told = serde_json::json!({ "others": { "OTHER.TEST": [format!("127.0.0.1:{}", free_port())] } });
    let kiosk = Kiosk::start_in(dir.path(), world, &told, Some((80, 25)));
    init.say(state(Phase::Login));
    kiosk.wait_for("Log in");
    let through = "the parcel server localhost does not answer";
    log_in(&kiosk, "shanta@mail.example", PASSWORD, through, "server-unreachable");
    log_in(&kiosk, "shanta@waystation.test", PASSWORD, through, "server-unreachable");
    log_in(&kiosk, "x@ELSEWHERE.TEST", PASSWORD, "does not know the realm ELSEWHERE.TEST", "realm-unknown");
    log_in(&kiosk, "x@OTHER.TEST", PASSWORD, "No log-in server of OTHER.TEST answers", "kdc-unreachable");
}

#[test]
fn spake_is_what_a_real_kdc_gets() {
    let dir = tempfile::tempdir().expect("a folder");
    let realm = Realm::start(&dir.path().join("kdc"));
    realm.admin(&format!("addprinc +requires_preauth -pw {PASSWORD} shanta"));
    let (tap, sent) = crate::kerberos::tap(realm.port);
    let init = Init::listen(dir.path());
    // Also where the site would take less.
    let told = serde_json::json!({ "weak_preauth": true });
    let world = World { kdc: tap, server: free_port(), ca: None };
    let kiosk = Kiosk::start_in(dir.path(), world, &told, Some((80, 25)));
    init.say(state(Phase::Login));
    kiosk.wait_for("Log in");
    let denied = "The user name or the password is not right.";
    log_in(&kiosk, "shanta", "not it", denied, "login-denied");
    log_in(&kiosk, "shanta", PASSWORD, "the parcel server localhost does not answer", "server-unreachable");
    let sent = sent.lock().expect("no panic");
    assert!(sent.iter().any(|message| holds(message, &SPAKE)));
    assert!(!sent.iter().any(|message| holds(message, &ENC_TIMESTAMP)));
}

#[test]
fn fast_is_enough_and_a_kdc_of_another_ca_gets_no_password() {
    let dir = tempfile::tempdir().expect("a folder");
    let (realm, ca) = Realm::start_with_pkinit(&dir.path().join("kdc"));
    realm.admin(&format!("addprinc +requires_preauth -pw {PASSWORD} shanta"));
    let (tap, sent) = crate::kerberos::tap(realm.port);
    let world = World { kdc: tap, server: free_port(), ca: None };
    let fast = serde_json::json!({ "fast": true });
    let other = rcgen::generate_simple_self_signed(["kdc".to_owned()]).expect("a CA").cert.pem();
    for (anchor, sentence, code) in [
        (ca, "the parcel server localhost does not answer", "server-unreachable"),
        (other, "could not prove who it is, so your password was not sent.", "no-armor"),
    ] {
        std::fs::write(dir.path().join("kdc-ca.pem"), anchor).expect("the KDC's CA");
        let init = Init::listen(dir.path());
        let kiosk = Kiosk::start_in(dir.path(), world, &fast, Some((80, 25)));
        init.say(state(Phase::Login));
        kiosk.wait_for("Log in");
        sent.lock().expect("no panic").clear();
        log_in(&kiosk, "shanta", PASSWORD, sentence, code);
        // The user's name travels in the clear as ever; a timestamp under the bare password does not.
        let sent = sent.lock().expect("no panic");
        assert!(!sent.iter().any(|message| holds(message, &ENC_TIMESTAMP)));
        assert_eq!(sent.iter().any(|message| holds(message, b"shanta")), code == "server-unreachable");
    }
}

/// Debian's `python3-kdcproxy` behind TLS, in front of a KDC that knows encrypted timestamps alone.
#[test]
fn a_kdc_proxy_carries_everything_over_https() {
    const PROXY: &str = "import ssl, sys, kdcproxy\n\
        from wsgiref.simple_server import make_server\n\
        server = make_server('127.0.0.1', int(sys.argv[1]), kdcproxy.Application())\n\
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)\n\
        context.load_cert_chain(sys.argv[2])\n\
        server.socket = context.wrap_socket(server.socket, server_side=True)\n\
        server.serve_forever()\n";
    let dir = tempfile::tempdir().expect("a folder");
    let realm = Realm::start_without_spake(&dir.path().join("kdc"));
    realm.admin(&format!("addprinc +requires_preauth -pw {PASSWORD} shanta"));
    let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]).expect("a certificate");
    let both = dir.path().join("proxy.pem");
    std::fs::write(&both, made.signing_key.serialize_pem() + &made.cert.pem())
        .expect("the proxy's certificate");
    let config = dir.path().join("kdcproxy.conf");
    let kdc = format!("[{REALM}]\nkerberos = kerberos+tcp://127.0.0.1:{}\n", realm.port);
    std::fs::write(&config, kdc).expect("the proxy's configuration");
    let port = free_port();
    let mut proxy = std::process::Command::new("/usr/bin/python3")
        .args(["-c", PROXY, &port.to_string()])
        .arg(&both)
        .env("KDCPROXY_CONFIG", &config)
        .stderr(std::process::Stdio::null())
        .spawn()
        .expect("python3-kdcproxy");
    while std::net::TcpStream::connect(("127.0.0.1", port)).is_err() {
        assert!(
            proxy.try_wait().expect("a process").is_none(),
            "the proxy ended: is python3-kdcproxy there?"
        );
        thread::sleep(std::time::Duration::from_millis(50));
    }
    let url = format!("https://localhost:{port}/KdcProxy");
    // No KDC is there: what is not carried by the proxy does not arrive.
    let told = serde_json::json!({ "kdc_proxy": url, "kdc": [] });
    for (ca, sentence, code) in [
        (Some(made.cert.pem()), "the parcel server localhost does not answer", "server-unreachable"),
        (None, "its certificate is not trusted", "server-certificate"),
    ] {
        let init = Init::listen(dir.path());
        let world = World { kdc: 1, server: free_port(), ca: ca.as_deref() };
        let kiosk = Kiosk::start_in(dir.path(), world, &told, Some((80, 25)));
        init.say(state(Phase::Login));
        kiosk.wait_for("Log in");
        log_in(&kiosk, "shanta", PASSWORD, sentence, code);
    }
    drop(proxy.kill());
    drop(proxy.wait());
}
