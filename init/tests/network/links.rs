//! Two cables: one leads to a captive portal, or one is pulled.

use crate::places::{HOST, ca, https_at, in_own_network, ip, is_root, prober};
use std::{
    collections::BTreeMap,
    fs,
    net::{IpAddr, Ipv4Addr},
    sync::mpsc::{Receiver, Sender, channel},
    time::Duration,
};
use waystation_init::{
    lockdown::SYSCTLS,
    net::{
        dhcp::Lease,
        link,
        probe::{Ask, Names, Said, Server},
        view::{self, View},
    },
};

fn lease(address: [u8; 4], router: [u8; 4]) -> Lease {
    Lease {
        address: address.into(),
        mask: Ipv4Addr::new(255, 255, 255, 0),
        routers: vec![router.into()],
        dns: vec![],
        routes: vec![],
        search: vec![],
        mtu: None,
        ntp: vec![],
    }
}

const DATE: &str = "Sun, 01 Jun 2031 12:00:00 GMT";

/// The far end of a cable.
struct Site {
    thread: nix::unistd::Pid,
    /// Told when its link is there.
    linked: Sender<()>,
    /// Tells when it serves.
    serves: Receiver<()>,
}

/// A router on the link `link`, with the parcel server's address behind it, where something serves.
fn site(link: &'static str, router: &'static str, serve: impl FnOnce() + Send + 'static) -> Site {
    let (ready, is_ready) = channel();
    let (serving, serves) = channel();
    std::thread::spawn(move || {
        in_own_network(move || {
            let (linked, is_linked) = channel();
            ready.send((nix::unistd::gettid(), linked)).unwrap();
            is_linked.recv().unwrap();
            ip(&format!("address add {router}/24 dev {link}"));
            ip(&format!("link set {link} up"));
            ip("address add 198.51.100.7/32 dev lo");
            serve();
            serving.send(()).unwrap();
        });
    });
    let (thread, linked) = is_ready.recv().unwrap();
    Site { thread, linked, serves }
}

#[test]
fn the_one_that_reaches_the_server_becomes_the_way_out() {
    if !is_root() {
        return;
    }
    let ca = ca();
    let pem = ca.pem();
    let serve = |ca| move || drop(https_at("198.51.100.7:8443", &ca, HOST, (2020, 2060), DATE));
    // Both answer at the server's address, and only one proves who it is.
    let portal = site("bad1", "192.168.7.1", serve(self::ca()));
    let server = site("good1", "192.168.8.1", serve(ca));
    in_own_network(move || {
        for (link, peer, site) in [("bad0", "bad1", portal), ("good0", "good1", server)] {
            ip(&format!("link add {link} type veth peer name {peer}"));
            ip(&format!("link set {peer} netns {}", site.thread));
            site.linked.send(()).unwrap();
            site.serves.recv().unwrap();
        }
        for name in ["bad0", "good0"] {
            link::up(name).unwrap();
        }
        let mut views: Vec<View> = [
            ("bad0", 100, lease([192, 168, 7, 9], [192, 168, 7, 1])),
            ("good0", 200, lease([192, 168, 8, 9], [192, 168, 8, 1])),
        ]
        .map(|(name, metric, lease)| {
            link::set_address(name, &lease, metric).unwrap();
            let routed = link::routed(name);
            View { name: name.into(), carrier: true, metric, lease: Some(lease), routed, ..View::default() }
        })
        .into();
        let way = || ip("route get 198.51.100.7");
        assert!(way().contains("dev bad0"), "{}", way());

        let hosts = BTreeMap::from([(HOST.to_owned(), IpAddr::from([198, 51, 100, 7]))]);
        let at = Server { url: format!("https://{HOST}:8443"), ca: pem };
        for view in &mut views {
            let names = Names { hosts: hosts.clone(), servers: vec![], link: Some(view.name.clone()) };
            let said = prober().ask(&Ask::Reach(names, at.clone())).unwrap();
            let Said::Reach(reached) = said else { panic!("{said:?}") };
            view.reaches = Some(reached.is_ok());
        }
        assert_eq!(views.iter().map(|view| view.reaches).collect::<Vec<_>>(), [Some(false), Some(true)]);
        for (view, to) in views.iter().zip(view::order(&views).into_values()) {
            let lease = view.lease.as_ref().unwrap();
            link::clear_routes(&view.name, lease, view.metric);
            link::set_routes(&view.name, lease, to + 1000).unwrap();
        }
        assert!(way().contains("via 192.168.8.1 dev good0"), "{}", way());
    });
}

#[test]
fn a_pulled_cable_gives_its_network_to_another_link() {
    if !is_root() {
        return;
    }
    in_own_network(|| {
        // One card is there before the settings are made, and one comes later.
        ip("link add old0 type veth peer name old1");
        for (name, value) in SYSCTLS.iter().filter(|(name, _)| name.ends_with("/ignore_routes_with_linkdown"))
        {
            fs::write(format!("/proc/sys/{name}"), value).unwrap();
        }
        ip("link add new0 type veth peer name new1");
        for end in ["old0", "old1", "new0", "new1"] {
            link::up(end).unwrap();
        }
        let leads = |link: &str| {
            let way = || ip("route get 192.168.7.77");
            // The kernel notes a cable a little after it is pulled.
            let there = || {
                (0..400).any(|_| {
                    way().contains(&format!("dev {link} ")) || {
                        std::thread::sleep(Duration::from_millis(50));
                        false
                    }
                })
            };
            assert!(there(), "not {link}: {}", way());
        };
        let set = |link, own, metric| {
            link::set_address(link, &lease([192, 168, 7, own], [192, 168, 7, 1]), metric).unwrap();
        };
        set("old0", 9, 100);
        set("new0", 10, 200);
        leads("old0");
        ip("link set old1 down");
        leads("new0");
        ip("link set old1 up");
        leads("old0");
        // The other way round, of the card that came later.
        link::clear_address("old0").unwrap();
        set("old0", 9, 100);
        leads("new0");
        ip("link set new1 down");
        leads("old0");
    });
}
