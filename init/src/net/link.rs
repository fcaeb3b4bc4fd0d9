//! Links, addresses and routes, by the kernel's ioctls.

use super::{dhcp::Lease, options::Route};
use nix::sys::socket::{
    AddressFamily, MsgFlags, NetlinkAddr, SockFlag, SockProtocol, SockType, bind, recv, socket,
};
use std::{
    fs, io,
    net::Ipv4Addr,
    os::fd::{AsRawFd, OwnedFd},
    path::Path,
};

/// `ARPHRD_ETHER` of `linux/if_arp.h`.
const ETHERNET: &str = "1";

/// A name that the kernel accepts for a link, and nothing that could be a path or an option.
pub fn is_name(name: &str) -> bool {
    (1..libc::IFNAMSIZ).contains(&name.len())
        && !name.starts_with(['-', '.'])
        && name.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'-' | b'.' | b'@'))
}

/// Ethernet links with hardware behind them, below `folder` (`/sys/class/net`), in order of name.
pub fn wired(folder: &Path) -> Vec<String> {
    let mut names: Vec<String> = fs::read_dir(folder)
        .into_iter()
        .flatten()
        .filter_map(|entry| {
            let entry = entry.ok()?;
            let name = entry.file_name().into_string().ok()?;
            let kind = fs::read_to_string(entry.path().join("type")).ok()?;
            let real = kind.trim() == ETHERNET
                && entry.path().join("device").exists()
                && !entry.path().join("phy80211").exists();
            (real && is_name(&name)).then_some(name)
        })
        .collect();
    names.sort();
    names
}

/// Whether a cable is in and the other end answers.
pub fn carrier(folder: &Path, name: &str) -> bool {
    fs::read_to_string(folder.join(name).join("carrier")).is_ok_and(|text| text.trim() == "1")
}

fn inet() -> io::Result<OwnedFd> {
    Ok(socket(AddressFamily::Inet, SockType::Datagram, SockFlag::SOCK_CLOEXEC, None)?)
}

fn request(name: &str) -> io::Result<libc::ifreq> {
    if !is_name(name) {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, format!("{name:?} is no link's name")));
    }
    // SAFETY: an all-zero `ifreq` is a valid value of that plain C struct.
    let mut request: libc::ifreq = unsafe { std::mem::zeroed() };
    for (to, from) in request.ifr_name.iter_mut().zip(name.bytes()) {
        *to = from.cast_signed();
    }
    Ok(request)
}

fn interface(code: libc::c_ulong, request: &mut libc::ifreq) -> io::Result<()> {
    let socket = inet()?;
    // SAFETY: every SIOC… request passed here reads and writes one `ifreq`, which lives through the call.
    match unsafe { libc::ioctl(socket.as_raw_fd(), code, request) } {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}

fn address(address: Ipv4Addr) -> libc::sockaddr {
    let inet = libc::sockaddr_in {
        sin_family: libc::AF_INET as libc::sa_family_t,
        sin_port: 0,
        sin_addr: libc::in_addr { s_addr: u32::from_ne_bytes(address.octets()) },
        sin_zero: [0; 8],
    };
    // SAFETY: both are plain 16-byte C structs, and `sockaddr` is the generic view of `sockaddr_in`.
    unsafe { std::mem::transmute(inet) }
}

/// Brings a link up.
///
/// # Errors
/// There is no such link, or its driver refuses (firmware missing).
pub fn up(name: &str) -> io::Result<()> {
    let mut request = request(name)?;
    interface(libc::SIOCGIFFLAGS, &mut request)?;
    // SAFETY: SIOCGIFFLAGS has just filled the `ifru_flags` member.
    let flags = unsafe { request.ifr_ifru.ifru_flags };
    request.ifr_ifru.ifru_flags = flags | libc::IFF_UP as libc::c_short;
    interface(libc::SIOCSIFFLAGS, &mut request)
}

/// Gives an Ethernet link its hardware address.
///
/// # Errors
/// The kernel refuses.
pub fn set_hardware_address(name: &str, own: [u8; 6]) -> io::Result<()> {
    let mut request = request(name)?;
    // SAFETY: an all-zero `sockaddr` is a valid value of that plain C struct.
    let mut address: libc::sockaddr = unsafe { std::mem::zeroed() };
    address.sa_family = libc::ARPHRD_ETHER;
    for (to, from) in address.sa_data.iter_mut().zip(own) {
        *to = from.cast_signed();
    }
    request.ifr_ifru.ifru_hwaddr = address;
    interface(libc::SIOCSIFHWADDR, &mut request)
}

/// Gives a link its address, netmask and routes. Of routes to one place, those of the lowest `metric` count.
///
/// # Errors
/// The kernel refuses the address; a refused route is an error too, after the others were set.
pub fn set_address(name: &str, lease: &Lease, metric: u16) -> io::Result<()> {
    set_own_address(name, lease.address, lease.mask)?;
    set_routes(name, lease, metric)
}

/// Sets the routes of a lease, once its address is set.
///
/// # Errors
/// A route is refused, after the others were set.
pub fn set_routes(name: &str, lease: &Lease, metric: u16) -> io::Result<()> {
    let mut went = Ok(());
    for (route, metric) in routes(lease, metric) {
        went = went.and(route_request(libc::SIOCADDRT, name, &route, metric));
    }
    went
}

/// Takes those routes away, and leaves the address.
pub fn clear_routes(name: &str, lease: &Lease, metric: u16) {
    for (route, metric) in routes(lease, metric).into_iter().rev() {
        // One that is not there any more is what was wanted.
        let _ = route_request(libc::SIOCDELRT, name, &route, metric);
    }
}

/// The routes of a lease in the order in which they are set, each with its metric.
fn routes(lease: &Lease, metric: u16) -> Vec<(Route, u16)> {
    let mut routes = Vec::new();
    for (at, way) in lease.ways().into_iter().enumerate() {
        let metric = metric.saturating_add(u16::try_from(at).unwrap_or(u16::MAX));
        // A router beside the network, as with an address for one machine (/32), is on the link all the same.
        let beside = !way.via.is_unspecified() && way.via & lease.mask != lease.address & lease.mask;
        if beside {
            routes.push((Route { to: way.via, bits: 32, via: Ipv4Addr::UNSPECIFIED }, metric));
        }
        routes.push((way, metric));
    }
    routes
}

/// Whether the kernel has a route through a link that leads beyond the link's own network.
pub fn routed(name: &str) -> bool {
    // Of the thread's own network, which a process may have several of.
    let table = fs::read_to_string("/proc/thread-self/net/route").unwrap_or_default();
    table.lines().skip(1).any(|line| {
        let fields: Vec<&str> = line.split_ascii_whitespace().collect();
        // Only the kernel's own route, to the link's own network, has no metric.
        matches!(fields.as_slice(), [at, _, _, _, _, _, metric, ..] if *at == name && *metric != "0")
    })
}

/// Sets the largest packet of a link.
///
/// # Errors
/// Its driver refuses.
pub fn set_size(name: &str, size: u16) -> io::Result<()> {
    let mut request = request(name)?;
    request.ifr_ifru.ifru_mtu = size.into();
    interface(libc::SIOCSIFMTU, &mut request)
}

/// Gives a link an address and netmask only.
///
/// # Errors
/// The kernel refuses.
pub fn set_own_address(name: &str, own: Ipv4Addr, mask: Ipv4Addr) -> io::Result<()> {
    for (code, value) in [(libc::SIOCSIFADDR, own), (libc::SIOCSIFNETMASK, mask)] {
        let mut request = request(name)?;
        request.ifr_ifru.ifru_addr = address(value);
        interface(code, &mut request)?;
    }
    Ok(())
}

/// Takes a link's address, and with it its routes, away.
///
/// # Errors
/// The kernel refuses.
pub fn clear_address(name: &str) -> io::Result<()> {
    let mut request = request(name)?;
    request.ifr_ifru.ifru_addr = address(Ipv4Addr::UNSPECIFIED);
    interface(libc::SIOCSIFADDR, &mut request)
}

fn route_request(code: libc::c_ulong, name: &str, way: &Route, metric: u16) -> io::Result<()> {
    let socket = inet()?;
    let mut device = [0; libc::IFNAMSIZ];
    for (to, from) in device.iter_mut().zip(name.bytes()) {
        *to = from.cast_signed();
    }
    // SAFETY: an all-zero `rtentry` is a valid value of that plain C struct.
    let mut route: libc::rtentry = unsafe { std::mem::zeroed() };
    route.rt_dst = address(way.to);
    route.rt_genmask = address(way.mask());
    route.rt_gateway = address(way.via);
    route.rt_flags = libc::RTF_UP;
    if !way.via.is_unspecified() {
        route.rt_flags |= libc::RTF_GATEWAY;
    }
    if way.bits == 32 {
        route.rt_flags |= libc::RTF_HOST;
    }
    // The kernel subtracts one from a metric given this way.
    route.rt_metric = i16::try_from(metric).unwrap_or(i16::MAX - 1).saturating_add(1);
    route.rt_dev = device.as_mut_ptr();
    // SAFETY: SIOCADDRT and SIOCDELRT read one `rtentry` and the name it points to; both live through the call.
    match unsafe { libc::ioctl(socket.as_raw_fd(), code, &route) } {
        0 => Ok(()),
        _ => match io::Error::last_os_error() {
            error if error.raw_os_error() == Some(libc::EEXIST) => Ok(()),
            error => Err(error),
        },
    }
}

/// Calls `changed` from a thread whenever the kernel says that some link changed.
///
/// # Errors
/// No netlink socket or no thread.
pub fn watch(changed: impl Fn() + Send + 'static) -> io::Result<()> {
    let fd =
        socket(AddressFamily::Netlink, SockType::Raw, SockFlag::SOCK_CLOEXEC, SockProtocol::NetlinkRoute)?;
    bind(fd.as_raw_fd(), &NetlinkAddr::new(0, libc::RTMGRP_LINK as u32))?;
    std::thread::Builder::new().name("links".to_owned()).spawn(move || {
        let mut buffer = vec![0u8; 64 << 10];
        // What the message says is read from /sys: an overrun (ENOBUFS) loses nothing then.
        while !matches!(recv(fd.as_raw_fd(), &mut buffer, MsgFlags::empty()), Err(errno) if errno != nix::errno::Errno::ENOBUFS && errno != nix::errno::Errno::EINTR) {
            changed();
        }
    })?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names() {
        assert!(is_name("eth0") && is_name("enp0s31f6"));
        for bad in ["", "-i", "../x", "a/b", "a b", "sixteencharacters"] {
            assert!(!is_name(bad), "{bad}");
        }
    }

    #[test]
    fn only_real_wired_links() {
        let net = tempfile::tempdir().unwrap();
        for (name, kind, device, radio) in [
            ("eth1", "1", true, false),
            ("eth0", "1", true, false),
            ("tap0", "1", false, false),
            ("wlan0", "1", true, true),
            ("lo", "772", false, false),
        ] {
            let folder = net.path().join(name);
            fs::create_dir(&folder).unwrap();
            fs::write(folder.join("type"), format!("{kind}\n")).unwrap();
            fs::write(folder.join("carrier"), "1\n").unwrap();
            for extra in [("device", device), ("phy80211", radio)].iter().filter(|extra| extra.1) {
                fs::create_dir(folder.join(extra.0)).unwrap();
            }
        }
        assert_eq!(wired(net.path()), ["eth0", "eth1"]);
        assert!(carrier(net.path(), "eth0"));
        assert!(!carrier(net.path(), "eth9"));
    }

    /// Runs `test` in a network of its own, where root can make links.
    fn in_own_network(test: impl FnOnce() + Send + 'static) {
        if !nix::unistd::geteuid().is_root() {
            eprintln!("SKIPPED: needs root for a network namespace");
            return;
        }
        let thread = std::thread::spawn(|| {
            nix::sched::unshare(nix::sched::CloneFlags::CLONE_NEWNET).unwrap();
            let pair = ["link", "add", "up0", "type", "veth", "peer", "name", "up1"];
            assert!(std::process::Command::new("ip").args(pair).status().unwrap().success());
            up("up0").unwrap();
            up("up1").unwrap();
            test();
        });
        thread.join().unwrap();
    }

    fn kernel_says(to: &str) -> String {
        let told = std::process::Command::new("ip").args(["route", "get", to]).output().unwrap();
        String::from_utf8_lossy(&told.stdout).into_owned()
    }

    fn lease(address: &str, mask: &str, routers: &[&str], routes: &str) -> Lease {
        Lease {
            address: address.parse().unwrap(),
            mask: mask.parse().unwrap(),
            routers: routers.iter().map(|router| router.parse().unwrap()).collect(),
            dns: vec![],
            routes: super::super::options::routes(routes),
            search: vec![],
            mtu: None,
            ntp: vec![],
        }
    }

    #[test]
    fn an_address_for_one_machine_has_a_router_on_the_link() {
        in_own_network(|| {
            set_address("up0", &lease("203.0.113.7", "255.255.255.255", &["10.9.8.1"], ""), 100).unwrap();
            let told = kernel_says("198.51.100.1");
            assert!(told.contains("via 10.9.8.1 dev up0"), "{told}");
            clear_address("up0").unwrap();
            assert_eq!(kernel_says("198.51.100.1"), "");
        });
    }

    #[test]
    fn routes_of_option_121_take_the_place_of_routers() {
        in_own_network(|| {
            let routes = "10.0.0.0/8 192.168.7.2 172.16.5.0/24 0.0.0.0";
            set_address("up0", &lease("192.168.7.9", "255.255.255.0", &["192.168.7.1"], routes), 100)
                .unwrap();
            assert!(kernel_says("10.1.2.3").contains("via 192.168.7.2 dev up0"));
            assert!(kernel_says("172.16.5.9").starts_with("172.16.5.9 dev up0"));
            assert_eq!(kernel_says("198.51.100.1"), "", "the router does not count");
            set_size("up0", 1400).unwrap();
            let size = std::process::Command::new("ip").args(["link", "show", "up0"]).output().unwrap();
            assert!(String::from_utf8_lossy(&size.stdout).contains("mtu 1400"));
        });
    }

    #[test]
    fn two_links_of_one_network_keep_apart() {
        in_own_network(|| {
            set_address("up1", &lease("192.168.7.10", "255.255.255.0", &["192.168.7.1"], ""), 200).unwrap();
            set_address("up0", &lease("192.168.8.9", "255.255.255.0", &["192.168.8.1"], ""), 100).unwrap();
            assert!(kernel_says("198.51.100.1").contains("via 192.168.8.1 dev up0"));
            assert!(routed("up0") && routed("up1") && !routed("lo"));
            // The two change places, and the addresses stay.
            let (first, second) = (
                lease("192.168.8.9", "255.255.255.0", &["192.168.8.1"], ""),
                lease("192.168.7.10", "255.255.255.0", &["192.168.7.1"], ""),
            );
            clear_routes("up0", &first, 100);
            clear_routes("up1", &second, 200);
            assert!(!routed("up0") && !routed("up1"));
            set_routes("up0", &first, 200).unwrap();
            set_routes("up1", &second, 100).unwrap();
            assert!(kernel_says("198.51.100.1").contains("via 192.168.7.1 dev up1"));
            clear_address("up1").unwrap();
            assert!(kernel_says("198.51.100.1").contains("via 192.168.8.1 dev up0"));
        });
    }

    #[test]
    fn the_loopback_has_flags() {
        let mut request = request("lo").unwrap();
        interface(libc::SIOCGIFFLAGS, &mut request).unwrap();
    }
}
