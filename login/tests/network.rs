//! The way to the KDCs, with a real DNS server (dnsmasq): what is missing has a code of its own, and what is there is found.

mod loopback;

use login::{LoginError, Network, Servers};
use loopback::free_port;
use parcel::wire::kiosk::Realm;
use std::{
    io::{Read as _, Write as _},
    net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream, UdpSocket},
    process::{Child, Command, Stdio},
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

const REALM: &str = "WAYSTATION.TEST";

/// `KDC_ERR_SVC_UNAVAILABLE`, as far as it is read here.
const UNAVAILABLE: &[u8] = b"\x7e\x0c\x30\x0a\xa0\x03\x02\x01\x05\xa6\x03\x02\x01\x1d";

/// Something that answers as a KDC does, as far as the way to it goes; its port.
fn kdc() -> u16 {
    answering(b"answer", Arc::default())
}

/// The same with this answer; it counts how often it was asked.
fn answering(answer: &'static [u8], asked: Arc<AtomicUsize>) -> u16 {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let port = listener.local_addr().unwrap().port();
    thread::spawn(move || {
        for mut stream in listener.incoming().flatten() {
            let mut message = [0; 4 + 7];
            // Whoever has found another one breaks off.
            if stream.read_exact(&mut message).is_err() {
                continue;
            }
            assert_eq!(&message, b"\0\0\0\x07request");
            asked.fetch_add(1, Ordering::SeqCst);
            stream.write_all(&(answer.len() as u32).to_be_bytes()).unwrap();
            stream.write_all(answer).unwrap();
        }
    });
    port
}

/// A DNS server; ends when dropped.
struct Dns(Child, SocketAddr);

impl Dns {
    fn with(records: &[String]) -> Self {
        let at = SocketAddr::from((Ipv4Addr::LOCALHOST, free_port()));
        let child = Command::new("/usr/sbin/dnsmasq")
            .args(["--no-daemon", "--conf-file=/dev/null", "--no-resolv", "--no-hosts", "--user=root"])
            .args(["--listen-address=127.0.0.1", "--bind-interfaces", "--local=/test/", "--pid-file="])
            .arg(format!("--port={}", at.port()))
            .args(records)
            .stderr(Stdio::null())
            .spawn()
            .expect("dnsmasq (Debian package dnsmasq-base)");
        let dns = Self(child, at);
        let start = Instant::now();
        while TcpStream::connect(at).is_err() {
            assert!(start.elapsed() < Duration::from_secs(60), "dnsmasq does not listen");
            thread::sleep(Duration::from_millis(20));
        }
        dns
    }
}

impl Drop for Dns {
    fn drop(&mut self) {
        drop(self.0.kill());
        drop(self.0.wait());
    }
}

async fn ask(kdc: &[&str], servers: &[SocketAddr], realm: &str) -> Result<Vec<u8>, LoginError> {
    let site = Realm {
        name: REALM.into(),
        kdc: kdc.iter().map(|kdc| (*kdc).to_owned()).collect(),
        ..Realm::default()
    };
    Network::asking(site, None, Servers::At(servers.to_vec())).ask(realm, b"request".to_vec()).await
}

fn code(result: Result<Vec<u8>, LoginError>) -> String {
    result.map(|_| "an answer".to_owned()).unwrap_or_else(|error| error.code().to_string())
}

#[tokio::test]
async fn kdcs_are_found_by_dns() {
    let port = kdc();
    for protocol in ["tcp", "udp"] {
        let dns = Dns::with(&[format!("--srv-host=_kerberos._{protocol}.{REALM},localhost,{port}")]);
        assert_eq!(ask(&[], &[dns.1], REALM).await.unwrap(), b"answer");
    }
    // More than a datagram holds, and only the last one answers.
    let dead = free_port();
    let many = (0..30).map(|n| {
        format!("--srv-host=_kerberos._tcp.{REALM},a-long-name-of-kdc-number-{n}.localhost,{dead},{n}")
    });
    let last = format!("--srv-host=_kerberos._tcp.{REALM},localhost,{port},99");
    let dns = Dns::with(&many.chain([last]).collect::<Vec<_>>());
    assert_eq!(ask(&[], &[dns.1], REALM).await.unwrap(), b"answer");
}

#[tokio::test]
async fn what_dns_lacks_has_a_code_of_its_own() {
    let dns = Dns::with(&[]);
    assert_eq!(code(ask(&[], &[dns.1], REALM).await), "kdc-not-in-dns");
    assert_eq!(code(ask(&["kdc.nowhere.test:88"], &[dns.1], REALM).await), "kdc-name-unknown");
    assert_eq!(code(ask(&[], &[], REALM).await), "dns-none");
    let mute = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    assert_eq!(code(ask(&[], &[mute.local_addr().unwrap()], REALM).await), "dns-silent");
    // A dead server beside one that answers is no hindrance.
    let both = [mute.local_addr().unwrap(), dns.1];
    assert_eq!(code(ask(&[], &both, REALM).await), "kdc-not-in-dns");
}

#[tokio::test]
async fn only_listed_realms_are_asked_and_silence_is_said() {
    let port = kdc();
    let here = format!("127.0.0.1:{port}");
    let nobody = format!("127.0.0.1:{}", free_port());
    assert_eq!(code(ask(&[&here], &[], "OTHER.TEST").await), "realm-unknown");
    assert_eq!(code(ask(&[&nobody, &nobody], &[], REALM).await), "kdc-unreachable");
    assert_eq!(ask(&[&nobody, &nobody, &here], &[], REALM).await.unwrap(), b"answer");
}

#[tokio::test]
async fn a_kdc_that_is_not_available_leaves_the_word_to_the_next() {
    let asked = Arc::new(AtomicUsize::new(0));
    let ill = format!("127.0.0.1:{}", answering(UNAVAILABLE, asked.clone()));
    let well_asked = Arc::new(AtomicUsize::new(0));
    let well = format!("127.0.0.1:{}", answering(b"answer", well_asked.clone()));
    let site = Realm { name: REALM.into(), kdc: vec![ill.clone(), well], ..Realm::default() };
    let network = Network::asking(site, None, Servers::At(Vec::new()));
    for _ in 0..2 {
        assert_eq!(network.ask(REALM, b"request".to_vec()).await.unwrap(), b"answer");
    }
    assert_eq!(well_asked.load(Ordering::SeqCst), 2);
    assert!(asked.load(Ordering::SeqCst) <= 1, "the good one is asked first from then on");
    // Where no other answers, its word is the last.
    let nobody = format!("127.0.0.1:{}", free_port());
    assert_eq!(ask(&[&ill, &nobody], &[], REALM).await.unwrap(), UNAVAILABLE);
    assert_eq!(ask(&[&ill, &ill], &[], REALM).await.unwrap(), UNAVAILABLE);
}
