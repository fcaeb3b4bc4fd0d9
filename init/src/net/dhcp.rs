//! DHCP by busybox's `udhcpc`. Its script is this program itself under the name `dhcp-event`: it checks what the
//! server sent and passes it on as one datagram; the manager applies it.

use serde::{Deserialize, Serialize};
use std::{
    collections::BTreeSet,
    fmt::Write as _,
    fs, io,
    net::Ipv4Addr,
    os::unix::{fs::symlink, net::UnixDatagram},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
};

/// The name under which `udhcpc` runs this program.
pub const HOOK: &str = "dhcp-event";
const SOCKET: &str = "/run/init/dhcp.sock";
/// Longest report, in bytes; a lease's lists are cut well below it.
const LONGEST: usize = 8192;

/// What a DHCP server gave.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Lease {
    /// Our address.
    pub address: Ipv4Addr,
    /// Its netmask.
    pub mask: Ipv4Addr,
    /// Default routers, best first.
    pub routers: Vec<Ipv4Addr>,
    /// Name servers, best first.
    pub dns: Vec<Ipv4Addr>,
}

impl Lease {
    /// Whether the kernel's addresses and routes are the same for `other`.
    pub fn same_routes(&self, other: &Self) -> bool {
        (self.address, self.mask, &self.routers) == (other.address, other.mask, &other.routers)
    }
}

/// What happened on a link.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Report {
    /// Which link.
    pub interface: String,
    /// What was given; `None`: nothing.
    pub lease: Option<Lease>,
    /// What was given before is no longer ours.
    pub lost: bool,
    /// Something was given that cannot be used.
    pub refused: bool,
}

/// Reads what `udhcpc` hands its script: the event's name and environment variables.
pub fn report(event: &str, var: impl Fn(&str) -> Option<String>) -> Option<Report> {
    let interface = var("interface").filter(|name| super::link::is_name(name))?;
    let addresses = |key: &str| -> Vec<Ipv4Addr> {
        let text = var(key).unwrap_or_default();
        text.split_ascii_whitespace().filter_map(|word| word.parse().ok()).filter(usable).take(4).collect()
    };
    match event {
        "bound" | "renew" => {
            let address: Ipv4Addr = var("ip")?.parse().ok()?;
            let mask =
                var("subnet").and_then(|text| text.parse().ok()).unwrap_or_else(|| class_mask(address));
            // A network of everybody would take all other routes.
            if !usable(&address) || super::prefix(mask).is_none_or(|bits| bits == 0) {
                return Some(Report { interface, lease: None, lost: true, refused: true });
            }
            let lease = Lease { address, mask, routers: addresses("router"), dns: addresses("dns") };
            Some(Report { interface, lease: Some(lease), lost: false, refused: false })
        }
        "deconfig" => Some(Report { interface, lease: None, lost: true, refused: false }),
        "leasefail" | "nak" => Some(Report { interface, lease: None, lost: false, refused: false }),
        _ => None,
    }
}

/// An address of another machine's: not of everybody, nobody, or the guest inside this kiosk, which must not become its
/// router or name server.
fn usable(address: &Ipv4Addr) -> bool {
    !(address.is_unspecified()
        || address.is_broadcast()
        || address.is_multicast()
        || address.is_loopback()
        || super::guest::is_inside(*address))
}

/// The mask that an address without one had before masks were sent along.
fn class_mask(address: Ipv4Addr) -> Ipv4Addr {
    match address.octets()[0] {
        0..=127 => Ipv4Addr::new(255, 0, 0, 0),
        128..=191 => Ipv4Addr::new(255, 255, 0, 0),
        _ => Ipv4Addr::new(255, 255, 255, 0),
    }
}

/// The hook's whole work; it runs as its own short process.
///
/// # Errors
/// The manager does not listen.
pub fn hook(event: &str) -> io::Result<()> {
    let Some(report) = report(event, |key| std::env::var(key).ok()) else { return Ok(()) };
    let line = serde_json::to_vec(&report)?;
    UnixDatagram::unbound()?.send_to(&line, SOCKET)?;
    Ok(())
}

/// Puts the hook where `udhcpc` finds it.
///
/// # Errors
/// The folder cannot be written.
pub fn install_hook() -> io::Result<PathBuf> {
    let path = Path::new(super::FOLDER).join(HOOK);
    let _ = fs::remove_file(&path);
    symlink("/init", &path)?;
    Ok(path)
}

/// The socket that hooks report to.
///
/// # Errors
/// It cannot be made.
pub fn listen() -> io::Result<UnixDatagram> {
    let _ = fs::remove_file(SOCKET);
    UnixDatagram::bind(SOCKET)
}

/// Makes [`receive`] return at once, because a link changed.
pub fn wake() {
    if let Ok(socket) = UnixDatagram::unbound() {
        let _ = socket.send_to(b"", SOCKET);
    }
}

/// The next report; `None` for a wake-up, a time-out or something unreadable.
pub fn receive(socket: &UnixDatagram) -> Option<Report> {
    let mut buffer = [0; LONGEST];
    let len = socket.recv(&mut buffer).ok()?;
    serde_json::from_slice(buffer.get(..len)?).ok()
}

/// Starts `udhcpc` for a link. It goes on for ever: asks, renews, and asks again.
///
/// # Errors
/// There is no busybox.
pub fn client(interface: &str, hostname: &str, hook: &Path) -> io::Result<Child> {
    let mut command = Command::new("/bin/busybox");
    command.args(["udhcpc", "-f", "-i", interface, "-t", "4", "-T", "2", "-A", "5"]);
    if !hostname.is_empty() {
        command.arg("-x").arg(format!("hostname:{hostname}"));
    }
    command.arg("-s").arg(hook);
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).spawn()
}

/// Makes a client ask again now.
pub fn renew(client: &Child) {
    if let Ok(pid) = i32::try_from(client.id()) {
        let _ = nix::sys::signal::kill(nix::unistd::Pid::from_raw(pid), nix::sys::signal::Signal::SIGUSR1);
    }
}

/// Text of `resolv.conf`. Three name servers are what the C library reads.
pub fn resolv_conf<'a>(leases: impl Iterator<Item = &'a Lease>) -> String {
    let mut seen = BTreeSet::new();
    let mut text = String::new();
    for server in leases.flat_map(|lease| &lease.dns) {
        if seen.len() < 3 && seen.insert(*server) {
            let _ = writeln!(text, "nameserver {server}");
        }
    }
    text.push_str("options timeout:2 attempts:2\n");
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeMap;

    fn read(event: &str, vars: &[(&str, &str)]) -> Option<Report> {
        let vars: BTreeMap<String, String> = vars.iter().map(|(k, v)| ((*k).into(), (*v).into())).collect();
        report(event, |key| vars.get(key).cloned())
    }

    #[test]
    fn a_lease_is_read() {
        let vars = [
            ("interface", "eth0"),
            ("ip", "10.0.2.15"),
            ("subnet", "255.255.255.0"),
            ("router", "10.0.2.2"),
            ("dns", "10.0.2.3 x 10.0.2.4"),
        ];
        let lease = read("bound", &vars).unwrap().lease.unwrap();
        assert_eq!(lease.address, Ipv4Addr::new(10, 0, 2, 15));
        assert_eq!(lease.dns, [Ipv4Addr::new(10, 0, 2, 3), Ipv4Addr::new(10, 0, 2, 4)]);
        assert_eq!(resolv_conf([lease.clone(), lease].iter()).matches("nameserver").count(), 2);
    }

    #[test]
    fn loss_and_silence_differ() {
        assert!(read("deconfig", &[("interface", "eth0")]).unwrap().lost);
        assert!(!read("leasefail", &[("interface", "eth0")]).unwrap().lost);
    }

    #[test]
    fn nonsense_is_refused() {
        assert_eq!(read("bound", &[("interface", "../eth0"), ("ip", "10.0.0.1")]), None);
        for (ip, subnet) in [
            ("127.0.0.1", "255.0.0.0"),
            ("10.0.0.1", "255.0.255.0"),
            ("10.0.0.1", "0.0.0.0"),
            ("10.77.0.9", "255.255.255.0"),
        ] {
            let report = read("renew", &[("interface", "eth0"), ("ip", ip), ("subnet", subnet)]).unwrap();
            assert!(report.refused && report.lost && report.lease.is_none(), "{ip} {subnet}");
        }
        let vars = [("interface", "eth0"), ("ip", "10.0.0.9"), ("router", "10.77.0.2"), ("dns", "10.77.0.2")];
        let lease = read("bound", &vars).unwrap().lease.unwrap();
        assert!(lease.routers.is_empty() && lease.dns.is_empty(), "the guest serves nobody: {lease:?}");
        assert_eq!(read("bound", &[("interface", "eth0"), ("ip", "x")]), None);
        assert_eq!(read("bound", &[("interface", "eth0")]), None);
        assert_eq!(read("format-disk", &[("interface", "eth0")]), None);
    }

    proptest! {
        #[test]
        fn is_total_and_its_report_fits(event in "[a-z]{0,9}", ip in "\\PC{0,40}", list in "([0-9]{1,3}\\.){3}[0-9]{1,3}( \\PC{0,9})*") {
            for event in [event.as_str(), "bound"] {
                let vars = [("interface", "eth0"), ("ip", ip.as_str()), ("dns", list.as_str()), ("router", list.as_str())];
                if let Some(report) = read(event, &vars) {
                    let text = serde_json::to_vec(&report).unwrap();
                    prop_assert!(text.len() < LONGEST);
                    prop_assert_eq!(serde_json::from_slice::<Report>(&text).unwrap(), report);
                }
            }
        }
    }
}
