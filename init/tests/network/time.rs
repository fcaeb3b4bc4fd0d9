//! Who tells the time, and who is not believed.

use crate::places::{HOST, ca, https, is_root, names, ntp, open_folder, prober};
use parcel::wire::clock::Source;
use std::{
    io,
    net::Ipv4Addr,
    sync::{Arc, Mutex},
};
use waystation_init::{
    log::Log,
    net::{
        dhcp::Lease,
        probe::{Ask, Said, Server},
        view::{Links, View},
    },
    wall::{Clock, Keeper, Sources},
};

/// 2031-06-01 12:00:00 UTC.
const THEN: i64 = 1_938_081_600;
const DATE: &str = "Sun, 01 Jun 2031 12:00:00 GMT";
/// When the image was built: 2026.
const BUILT: i64 = 1_795_780_800_000;

fn time(ask: &Ask) -> Result<i64, String> {
    match prober().ask(ask).unwrap() {
        Said::Time(time) => time.map(|time| time.instant.time / 1000),
        other => panic!("{other:?}"),
    }
}

#[test]
fn an_ntp_server_is_believed_that_answers_our_question_and_knows_the_time() {
    if !is_root() {
        return;
    }
    let asks = |change: fn(&mut [u8; 48])| {
        let at = ntp("127.0.0.1:0", THEN, change);
        time(&Ask::Ntp(names(), vec![at.to_string()]))
    };
    let told = asks(|_| {}).unwrap();
    assert!((THEN..THEN + 3).contains(&told), "{told}");
    assert!(asks(|answer| answer[27] ^= 1).unwrap_err().contains("not to our question"));
    assert!(asks(|answer| answer[0] |= 0xc0).unwrap_err().contains("not synchronised"));
    assert!(asks(|answer| answer[1] = 0).unwrap_err().contains("not synchronised"));
    assert!(asks(|answer| answer[1] = 16).unwrap_err().contains("not synchronised"));
    assert!(asks(|answer| answer[0] = 0x23).unwrap_err().contains("not one of NTP"));
}

#[test]
fn the_parcel_server_is_believed_whose_certificate_holds_at_its_own_time() {
    if !is_root() {
        return;
    }
    let ca = ca();
    let asks = |server: Server| time(&Ask::Date(names(), server));
    // By the clock of this machine, it is not valid yet.
    assert_eq!(asks(https(&ca, HOST, (2031, 2032), DATE)), Ok(THEN));
    for (years, words) in [((2028, 2030), "expired"), ((2032, 2034), "not valid yet")] {
        assert!(asks(https(&ca, HOST, years, DATE)).unwrap_err().contains(words), "{years:?}");
    }
    let stranger = Server { ca: self::ca().pem(), ..https(&ca, HOST, (2031, 2032), DATE) };
    assert!(asks(stranger).unwrap_err().contains("not trusted"));
    let other = asks(https(&ca, "mail.example.org", (2031, 2032), DATE));
    assert!(other.unwrap_err().contains("not trusted"));
    assert!(asks(https(&ca, HOST, (2031, 2032), "soon")).unwrap_err().contains("no date"));
    // Nothing that is said without a handshake counts.
    let plain = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("https://{HOST}:{}", plain.local_addr().unwrap().port());
    std::thread::spawn(move || {
        let (mut stream, _) = plain.accept().unwrap();
        let _ =
            io::Write::write_all(&mut stream, format!("HTTP/1.1 200 OK\r\nDate: {DATE}\r\n\r\n").as_bytes());
    });
    assert!(asks(Server { url, ca: ca.pem() }).is_err());
}

/// A clock that only notes what it is set to.
#[derive(Clone)]
struct Noted(Arc<Mutex<i64>>);

impl Clock for Noted {
    fn now(&self) -> i64 {
        *self.0.lock().unwrap()
    }

    fn set(&mut self, millis: i64) -> io::Result<()> {
        *self.0.lock().unwrap() = millis;
        Ok(())
    }
}

/// Whose time a kiosk takes whose clock has lost it, what time that is in seconds, and what was wrong with the others.
fn sets(ntp: &[&str], server: Server, by_dhcp: Option<Ipv4Addr>) -> (Source, i64, Vec<String>) {
    let folder = open_folder();
    let clock = Noted(Arc::new(Mutex::new(0)));
    let keeper = Keeper::new(clock.clone(), Some(BUILT), Log::open(folder.path(), None));
    let links = Links::default();
    let lease = Lease {
        address: Ipv4Addr::new(192, 168, 7, 9),
        mask: Ipv4Addr::new(255, 255, 255, 0),
        routers: vec![],
        dns: vec![],
        routes: vec![],
        search: vec![],
        mtu: None,
        ntp: by_dhcp.into_iter().collect(),
    };
    links.note(vec![View { carrier: true, lease: Some(lease), routed: true, ..View::default() }]);
    let hosts = names().hosts;
    let sources = Sources {
        prober: prober(),
        ntp: ntp.iter().map(|ntp| (*ntp).to_owned()).collect(),
        server,
        hosts,
        links,
    };
    keeper.hold(false);
    keeper.ask(&sources);
    let now = clock.now() / 1000;
    (keeper.state().source, now, keeper.state().problems)
}

#[test]
fn the_best_that_tells_a_time_that_can_be_is_taken() {
    if !is_root() {
        return;
    }
    let ca = ca();
    let server = || https(&ca, HOST, (2031, 2032), DATE);
    let dead = || Server { url: format!("https://{HOST}:1"), ca: ca.pem() };
    let near = |time: i64| (THEN..THEN + 5).contains(&time);
    let right = ntp("127.0.0.1:0", THEN, |_| {}).to_string();
    let (source, time, _) = sets(&[&right], dead(), None);
    assert!(source == Source::Ntp { server: right.clone() } && near(time), "{source:?} {time}");

    // One that is off by years, and before the image's time, does not hide the others.
    let off = ntp("127.0.0.1:0", 978_307_200, |_| {}).to_string();
    let (source, time, problems) = sets(&[&off, &right], dead(), None);
    assert!(source == Source::Ntp { server: right } && near(time), "{source:?} {time}");
    assert!(problems[0].contains("before this image was built"), "{problems:?}");
    let (source, time, _) = sets(&[&off], server(), None);
    assert!(source == Source::Server { server: HOST.into() } && near(time), "{source:?} {time}");

    // The network's own comes last.
    let at = Ipv4Addr::new(127, 0, 0, 9);
    ntp("127.0.0.9:123", THEN + 1000, |_| {});
    let (source, _, _) = sets(&[], server(), Some(at));
    assert_eq!(source, Source::Server { server: HOST.into() });
    let (source, time, problems) = sets(&[&off], dead(), Some(at));
    assert!(source == Source::Dhcp { server: "127.0.0.9".into() } && near(time - 1000), "{source:?} {time}");
    assert_eq!(problems.len(), 2, "{problems:?}");

    // A server whose certificate held years ago does not turn the clock back behind the image.
    let old = https(&ca, HOST, (2021, 2023), "Wed, 01 Jun 2022 12:00:00 GMT");
    let (source, time, problems) = sets(&[&off], old, None);
    assert_eq!((source, time), (Source::Image, BUILT / 1000));
    assert!(problems.iter().all(|problem| problem.contains("before this image was built")), "{problems:?}");
}
