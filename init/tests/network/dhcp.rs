//! The real DHCP client against a real server, dnsmasq.

use crate::places::{hook, in_own_network, ip, is_root, open_folder};
use std::{
    net::Ipv4Addr,
    path::Path,
    process::{Child, Command, Stdio},
    time::Duration,
};
use waystation_init::net::{
    dhcp::{self, Lease},
    link,
};

/// Ends when dropped.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// dnsmasq on one end of a cable, with these DHCP options.
fn dnsmasq(folder: &Path, options: &[&str]) -> Running {
    ip("link add up0 type veth peer name up1");
    ip("address add 192.168.7.1/24 dev up1");
    ip("link set up1 up");
    ip("link set up0 up");
    let leases = format!("--dhcp-leasefile={}", folder.join("leases").display());
    let mut command = Command::new("/usr/sbin/dnsmasq");
    command.args(["--keep-in-foreground", "--conf-file=/dev/null", "--user=root", "--port=0"]);
    command.args([
        "--interface=up1",
        "--bind-interfaces",
        "--dhcp-range=192.168.7.50,192.168.7.60,1h",
        "--pid-file=",
    ]);
    command.arg(leases).args(options.iter().map(|option| format!("--dhcp-option={option}")));
    Running(command.stdout(Stdio::null()).spawn().unwrap())
}

/// What the kiosk takes of what the server gives, and what its kernel makes of that.
fn given(options: &'static [&'static str], look: impl FnOnce(&Lease) + Send + 'static) {
    if !is_root() {
        return;
    }
    in_own_network(move || {
        let folder = open_folder();
        let _server = dnsmasq(folder.path(), options);
        let reports = dhcp::listen(folder.path()).unwrap();
        reports.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
        let _client = Running(dhcp::client(folder.path(), "up0", "kiosk-1", &hook()).unwrap());
        let lease = (0..10).find_map(|_| dhcp::receive(&reports)?.lease).expect("a lease");
        if let Some(size) = lease.mtu {
            link::set_size("up0", size).unwrap();
        }
        link::set_address("up0", &lease, 100).unwrap();
        // The kernel must not know the way by the other end of the cable, which is here, too.
        ip("address flush dev up1");
        look(&lease);
        let names = std::fs::read_to_string(folder.path().join("leases")).unwrap();
        assert!(names.contains(" kiosk-1 "), "{names}");
    });
}

#[test]
fn size_time_servers_and_domains_are_taken() {
    // A router of its own: dnsmasq would name itself, which is this machine, too.
    given(
        &["3,192.168.7.2", "26,1400", "42,192.168.7.42,192.168.7.43", "119,lab.example.org,example.org"],
        |lease| {
            assert_eq!(lease.mtu, Some(1400));
            assert!(ip("link show up0").contains("mtu 1400"));
            assert_eq!(lease.ntp, [Ipv4Addr::new(192, 168, 7, 42), Ipv4Addr::new(192, 168, 7, 43)]);
            assert_eq!(lease.search, ["lab.example.org", "example.org"]);
            assert!(link::routed("up0"));
        },
    );
}

#[test]
fn an_address_for_one_machine_leads_on_through_a_router_beside_it() {
    given(&["1,255.255.255.255", "3,10.9.8.1"], |lease| {
        assert_eq!(lease.mask, Ipv4Addr::BROADCAST);
        let way = ip("route get 198.51.100.1");
        assert!(way.contains("via 10.9.8.1 dev up0"), "{way}");
    });
}

#[test]
fn routes_take_the_place_of_the_router() {
    given(&["3,192.168.7.1", "121,10.0.0.0/8,192.168.7.2,0.0.0.0/0,192.168.7.3"], |lease| {
        assert_eq!(lease.routes.len(), 2, "{lease:?}");
        for (to, via) in [("10.1.2.3", "192.168.7.2"), ("198.51.100.1", "192.168.7.3")] {
            let way = ip(&format!("route get {to}"));
            assert!(way.contains(&format!("via {via} dev up0")), "{way}");
        }
    });
}

#[test]
fn a_server_without_a_router_leads_nowhere() {
    // An option without a value is not sent.
    given(&["3"], |lease| {
        assert!(lease.routers.is_empty());
        assert!(!link::routed("up0"));
    });
}
