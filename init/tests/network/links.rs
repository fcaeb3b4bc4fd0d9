//! Two cables, of which one leads nowhere.

use crate::places::{HOST, ca, in_own_network, ip, is_root, prober};
use std::{
    collections::BTreeMap,
    net::{IpAddr, Ipv4Addr, TcpListener},
    sync::mpsc::channel,
};
use waystation_init::net::{
    dhcp::Lease,
    link,
    probe::{Ask, Names, Said, Server},
    view::{self, View},
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

#[test]
fn the_one_that_reaches_the_server_becomes_the_way_out() {
    if !is_root() {
        return;
    }
    let (ready, server) = channel();
    let (listens, listening) = channel();
    // The site: a router, and the parcel server behind it.
    std::thread::spawn(move || {
        in_own_network(move || {
            let (client, connected) = channel();
            ready.send((nix::unistd::gettid(), client)).unwrap();
            connected.recv().unwrap();
            ip("address add 192.168.8.1/24 dev good1");
            ip("link set good1 up");
            ip("address add 198.51.100.7/32 dev lo");
            let listener = TcpListener::bind("198.51.100.7:8443").unwrap();
            listens.send(()).unwrap();
            for stream in listener.incoming() {
                drop(stream);
            }
        });
    });
    let (server, linked) = server.recv().unwrap();
    in_own_network(move || {
        ip("link add bad0 type veth peer name bad1");
        ip("link add good0 type veth peer name good1");
        ip(&format!("link set good1 netns {server}"));
        linked.send(()).unwrap();
        listening.recv().unwrap();
        for name in ["bad0", "bad1", "good0"] {
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
        let at = Server { url: format!("https://{HOST}:8443"), ca: ca().pem() };
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
