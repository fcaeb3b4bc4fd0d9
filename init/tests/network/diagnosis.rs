//! What the probe finds where a step fails, with a real KDC.

use crate::places::{HOST, ca, ca_of, https, is_root, names, prober};
use parcel::wire::kiosk::Realm;
use rcgen::date_time_ymd;
use std::{
    fs,
    net::{Ipv4Addr, TcpListener, TcpStream, UdpSocket},
    path::Path,
    process::{Child, Command, Stdio},
    time::{Duration, SystemTime},
};
use waystation_init::net::probe::{Ask, Found, KdcFault, Names, Said, Server, ServerFault, dns::Silence};

fn found(names: Names, server: Server, realm: Realm) -> Found {
    match prober().ask(&Ask::Diagnose(names, server, realm)).unwrap() {
        Said::Found(found) => found,
        other => panic!("{other:?}"),
    }
}

fn realm(kdc: &[&str]) -> Realm {
    let kdc = kdc.iter().map(|kdc| (*kdc).to_owned()).collect();
    Realm { name: "EXAMPLE.ORG".into(), kdc, ..Realm::default() }
}

fn today() -> String {
    httpdate::fmt_http_date(SystemTime::now())
}

/// A KDC of MIT's; ends when dropped.
struct Kdc(Child);

impl Drop for Kdc {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn kdc(folder: &Path, port: u16) -> Kdc {
    let at = folder.display();
    let realm = format!(
        "[libdefaults]\n default_realm = EXAMPLE.ORG\n[realms]\n EXAMPLE.ORG = {{\n  database_name = {at}/db\n  \
         key_stash_file = {at}/stash\n }}\n[kdcdefaults]\n kdc_listen = 127.0.0.1:{port}\n \
         kdc_tcp_listen = 127.0.0.1:{port}\n[logging]\n kdc = FILE:{at}/log\n"
    );
    for name in ["krb5.conf", "kdc.conf"] {
        fs::write(folder.join(name), &realm).unwrap();
    }
    let command = |program: &str| {
        let mut command = Command::new(program);
        command.env("KRB5_CONFIG", folder.join("krb5.conf")).env("KRB5_KDC_PROFILE", folder.join("kdc.conf"));
        command.stdout(Stdio::null()).stderr(Stdio::null());
        command
    };
    let made = command("/usr/sbin/kdb5_util").args(["create", "-s", "-P", "master"]).status().unwrap();
    assert!(made.success());
    let kdc = Kdc(command("/usr/sbin/krb5kdc").arg("-n").spawn().unwrap());
    for _ in 0..200 {
        if TcpStream::connect(("127.0.0.1", port)).is_ok() {
            return kdc;
        }
        std::thread::sleep(Duration::from_millis(50));
    }
    panic!("the KDC does not start");
}

#[test]
fn a_kdc_and_a_server_that_answer_are_found() {
    if !is_root() {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let _kdc = kdc(folder.path(), port);
    let at = format!("127.0.0.1:{port}");
    let good = found(names(), https(&ca(), HOST, (2020, 2060), &today()), realm(&["127.0.0.1:1", &at]));
    assert_eq!(good, Found { dns: None, kdc: Ok(at), server: Ok(()) });
    // The KDC's log names nobody.
    let log = fs::read_to_string(folder.path().join("log")).unwrap();
    assert!(log.contains("AS_REQ") && !log.contains("ISSUE"), "{log}");
}

#[test]
fn a_link_leads_to_the_server_only_where_the_server_proves_itself() {
    if !is_root() {
        return;
    }
    let (ca, other) = (ca(), self::ca());
    let reaches = |server: Server| match prober().ask(&Ask::Reach(names(), server)).unwrap() {
        Said::Reach(reached) => reached,
        other => panic!("{other:?}"),
    };
    // The server's clock and certificate may be of any year.
    for years in [(2020, 2060), (2021, 2022), (2055, 2056)] {
        assert_eq!(reaches(https(&ca, HOST, years, &today())), Ok(()), "{years:?}");
    }
    // A captive portal takes every connection; its certificate may have expired, too.
    for years in [(2020, 2060), (2021, 2022), (2055, 2056)] {
        let portal = Server { ca: ca.pem(), ..https(&other, HOST, years, &today()) };
        let why = reaches(portal).unwrap_err();
        assert!(why.contains("not trusted"), "{years:?} {why}");
    }
    assert!(reaches(https(&ca, "portal.example.org", (2020, 2060), &today())).is_err());
    let mute = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("https://{HOST}:{}", mute.local_addr().unwrap().port());
    assert!(reaches(Server { url, ca: ca.pem() }).is_err());
}

#[test]
fn each_failure_is_told_apart() {
    if !is_root() {
        return;
    }
    let ca = ca();
    let dead = "127.0.0.1:1";
    let server = |server: Server| found(names(), server, realm(&[dead])).server.unwrap_err();
    assert_eq!(server(https(&ca, HOST, (2020, 2022), &today())), ServerFault::Time { expired: true });
    assert_eq!(server(https(&ca, HOST, (2050, 2055), &today())), ServerFault::Time { expired: false });
    let stranger = Server { ca: self::ca().pem(), ..https(&ca, HOST, (2020, 2060), &today()) };
    assert!(matches!(server(stranger), ServerFault::Untrusted(_)));
    // The CA has ended, of which the file has another that is good.
    let ended = ca_of(2020, 2022);
    let of_ended = https(&ended, HOST, (2020, 2060), &today());
    let both = format!("{}{}", ca.pem(), ended.pem());
    let last = date_time_ymd(2022, 1, 1).unix_timestamp();
    for file in [ended.pem(), both] {
        let clients_go_on = true;
        assert_eq!(
            server(Server { ca: file, ..of_ended.clone() }),
            ServerFault::CaExpired { last, clients_go_on }
        );
    }
    let off = Server { url: format!("https://{HOST}:1"), ca: ca.pem() };
    assert!(matches!(server(off.clone()), ServerFault::Silent(why) if why.contains("refuses")));

    // What takes connections and is no KDC.
    let mail = TcpListener::bind("127.0.0.1:0").unwrap();
    let at = mail.local_addr().unwrap().to_string();
    std::thread::spawn(move || {
        for stream in mail.incoming() {
            let _ = std::io::Write::write_all(&mut stream.unwrap(), b"220 mail.example.org\r\n");
        }
    });
    let silent = found(names(), off.clone(), realm(&[dead, &at])).kdc;
    assert_eq!(silent, Err(KdcFault::Silent(vec![dead.into(), at])));
    let proxy = Realm { kdc_proxy: Some(off.url.clone()), ..realm(&[]) };
    let through = found(names(), off.clone(), proxy).kdc;
    assert!(matches!(through, Err(KdcFault::Proxy(_, ServerFault::Silent(_)))), "{through:?}");

    // Names that need DNS.
    let strange = Server { url: "https://nowhere.example.org".into(), ca: ca.pem() };
    let none = found(names(), strange.clone(), realm(&[]));
    assert_eq!(none.dns, Some(Err(Silence::NoServer)));
    assert_eq!(none.kdc, Err(KdcFault::Name(Silence::NoServer)));
    assert_eq!(none.server, Err(ServerFault::Name(Silence::NoServer)));
    let knows = dns_that_knows_nothing();
    let asked = found(Names { servers: vec![knows], ..names() }, strange.clone(), realm(&[dead]));
    assert_eq!(asked.dns, Some(Err(Silence::Nothing("nowhere.example.org".into()))));
    let mute = Ipv4Addr::new(127, 0, 0, 54);
    let _socket = UdpSocket::bind((mute, 53)).unwrap();
    let asked = found(Names { servers: vec![mute], ..names() }, strange, realm(&[dead]));
    assert_eq!(asked.dns, Some(Err(Silence::Silent(vec![mute]))));
}

/// A DNS server at a loopback address that answers that there is no such name.
fn dns_that_knows_nothing() -> Ipv4Addr {
    let at = Ipv4Addr::new(127, 0, 0, 53);
    let socket = UdpSocket::bind((at, 53)).unwrap();
    std::thread::spawn(move || {
        let mut packet = [0; 512];
        while let Ok((length, from)) = socket.recv_from(&mut packet) {
            (packet[2], packet[3]) = (0x81, 0x83);
            socket.send_to(&packet[..length], from).unwrap();
        }
    });
    at
}
