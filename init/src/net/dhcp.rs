//! DHCP by busybox's `udhcpc`, [confined](super::confine). Its script is this program itself under the name
//! `dhcp-event`: it passes what the server sent on as one datagram. The manager believes neither of the two: it knows by
//! the socket which link a datagram is of, checks every address, and applies what is sound.

use super::{
    confine::{self, Confinement},
    options,
    options::Route,
};
use serde::{Deserialize, Serialize};
use std::{
    collections::BTreeSet,
    fmt::Write as _,
    fs,
    io::{self, Write as _},
    net::Ipv4Addr,
    os::{
        fd::{AsFd as _, OwnedFd},
        unix::{net::UnixDatagram, process::CommandExt as _},
    },
    path::Path,
    process::{Child, Command, Stdio},
};

/// The socket that scripts report to, and what the sockets of links' clients are called: `dhcp.eth0`. All of them are
/// in a folder that only root enters, so their names cannot be taken by others.
const SOCKET: &str = "dhcp.sock";
const CLIENT: &str = "dhcp.";
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
    /// Routes of option 121. Where there are any, the default routers do not count (RFC 3442).
    pub routes: Vec<Route>,
    /// Domains in which short names are looked for.
    pub search: Vec<String>,
    /// Largest packet on this link, in bytes.
    pub mtu: Option<u16>,
    /// NTP servers (option 42), best first. Nothing proves that they are the site's.
    #[serde(default)]
    pub ntp: Vec<Ipv4Addr>,
}

impl Lease {
    /// Whether the kernel's addresses and routes are the same for `other`.
    pub fn same_routes(&self, other: &Self) -> bool {
        (self.address, self.mask, &self.routers, &self.routes)
            == (other.address, other.mask, &other.routers, &other.routes)
    }

    /// The routes to set, best first.
    pub fn ways(&self) -> Vec<Route> {
        if self.routes.is_empty() {
            self.routers.iter().copied().map(Route::default_via).collect()
        } else {
            self.routes.clone()
        }
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
        text.split_ascii_whitespace().filter_map(|word| word.parse().ok()).take(16).collect()
    };
    match event {
        "bound" | "renew" => {
            let address: Ipv4Addr = var("ip")?.parse().ok()?;
            let mask =
                var("subnet").and_then(|text| text.parse().ok()).unwrap_or_else(|| class_mask(address));
            let text = |key: &str| var(key).unwrap_or_default();
            let lease = Lease {
                address,
                mask,
                routers: addresses("router"),
                dns: addresses("dns"),
                routes: options::routes(&text("staticroutes")),
                search: options::domains(&text("search")),
                mtu: text("mtu").parse().ok(),
                ntp: addresses("ntpsrv"),
            };
            Some(Report { interface, lease: Some(lease), lost: false, refused: false })
        }
        "deconfig" => Some(Report { interface, lease: None, lost: true, refused: false }),
        "leasefail" | "nak" => Some(Report { interface, lease: None, lost: false, refused: false }),
        _ => None,
    }
}

/// A report less what cannot be used: whoever wrote it may have had a say in the script.
fn sound(report: Report) -> Report {
    let Some(lease) = report.lease else { return report };
    // A network of everybody would take all other routes.
    if !usable(&lease.address) || super::prefix(lease.mask).is_none_or(|bits| bits == 0) {
        return Report { interface: report.interface, lease: None, lost: true, refused: true };
    }
    let few = |list: Vec<Ipv4Addr>| list.into_iter().filter(usable).take(4).collect();
    let lease = Lease {
        routers: few(lease.routers),
        dns: few(lease.dns),
        ntp: few(lease.ntp),
        routes: options::sound_routes(lease.routes),
        search: options::sound_domains(lease.search),
        mtu: options::sound_size(lease.mtu),
        ..lease
    };
    Report { lease: Some(lease), ..report }
}

/// An address of another machine's: not of everybody, nobody, or the guest inside this kiosk, which must not become its
/// router or name server.
pub(super) fn usable(address: &Ipv4Addr) -> bool {
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

/// The hook's whole work; it runs as its own short process, whose standard input is a socket to the manager.
///
/// # Errors
/// The manager does not listen.
pub fn hook(event: &str) -> io::Result<()> {
    let Some(report) = report(event, |key| std::env::var(key).ok()) else { return Ok(()) };
    let line = serde_json::to_vec(&report)?;
    // Written to a datagram socket, a line is one datagram.
    let mut manager = fs::File::from(io::stdin().as_fd().try_clone_to_owned()?);
    manager.write_all(&line)
}

/// The socket that hooks report to, in `folder`.
///
/// # Errors
/// It cannot be made.
pub fn listen(folder: &Path) -> io::Result<UnixDatagram> {
    let path = folder.join(SOCKET);
    let _ = fs::remove_file(&path);
    UnixDatagram::bind(path)
}

/// Makes [`receive`] return at once, because a link changed.
pub fn wake() {
    if let Ok(socket) = UnixDatagram::unbound() {
        let _ = socket.send_to(b"", Path::new(super::FOLDER).join(SOCKET));
    }
}

/// The next report that can be used; `None` for a wake-up, a time-out, or what is not sound.
pub fn receive(socket: &UnixDatagram) -> Option<Report> {
    let mut buffer = [0; LONGEST];
    let (len, from) = socket.recv_from(&mut buffer).ok()?;
    let name = from.as_pathname()?.file_name()?.to_str()?.strip_prefix(CLIENT)?;
    let report: Report = serde_json::from_slice(buffer.get(..len)?).ok()?;
    (report.interface == name).then(|| sound(report))
}

/// Starts `udhcpc` for a link, with a socket of that link's in `folder`. It goes on for ever: asks, renews, asks again.
///
/// # Errors
/// There is no busybox, or it cannot be confined.
pub fn client(folder: &Path, interface: &str, hostname: &str, hook: &Path) -> io::Result<Child> {
    let own = folder.join(format!("{CLIENT}{interface}"));
    let _ = fs::remove_file(&own);
    let socket = UnixDatagram::bind(own)?;
    socket.connect(folder.join(SOCKET))?;
    let mut command = Command::new("/bin/busybox");
    command.args(["udhcpc", "-f", "-i", interface, "-t", "4", "-T", "2", "-A", "5"]);
    // A server sends only what is asked for, and not all of these are asked for by themselves.
    command.args(["-O", "mtu", "-O", "search", "-O", "staticroutes", "-O", "ntpsrv"]);
    if !hostname.is_empty() {
        command.arg("-x").arg(format!("hostname:{hostname}"));
    }
    command.arg("-s").arg(hook).env_clear().env("PATH", "/bin").current_dir("/");
    let confinement = Confinement::new(&confine::DHCP)?;
    // SAFETY: between fork and exec only system calls are made, on values captured before the fork; nothing allocates
    // and no lock is taken.
    unsafe { command.pre_exec(move || confinement.enter()) };
    command.stdin(OwnedFd::from(socket)).stdout(Stdio::null()).stderr(Stdio::null()).spawn()
}

/// Makes a client ask again now.
pub fn renew(client: &Child) {
    if let Ok(pid) = i32::try_from(client.id()) {
        let _ = nix::sys::signal::kill(nix::unistd::Pid::from_raw(pid), nix::sys::signal::Signal::SIGUSR1);
    }
}

/// Text of `resolv.conf`. Three name servers are what the C library reads.
pub fn resolv_conf<'a>(leases: impl Iterator<Item = &'a Lease> + Clone) -> String {
    let mut seen = BTreeSet::new();
    let mut text = String::new();
    for server in leases.clone().flat_map(|lease| &lease.dns) {
        if seen.len() < 3 && seen.insert(*server) {
            let _ = writeln!(text, "nameserver {server}");
        }
    }
    let domains: Vec<&str> = leases.flat_map(|lease| &lease.search).map(String::as_str).take(6).collect();
    if !domains.is_empty() {
        let _ = writeln!(text, "search {}", domains.join(" "));
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
        report(event, |key| vars.get(key).cloned()).map(sound)
    }

    #[test]
    fn a_lease_is_read() {
        let vars = [
            ("interface", "eth0"),
            ("ip", "10.0.2.15"),
            ("subnet", "255.255.255.0"),
            ("router", "10.0.2.2"),
            ("dns", "10.0.2.3 x 10.0.2.4"),
            ("mtu", "1400"),
            ("ntpsrv", "10.0.2.7 0.0.0.0 10.77.0.2"),
            ("search", "lab.example.org example.org"),
            ("staticroutes", "10.0.0.0/8 10.0.2.1 0.0.0.0/0 10.0.2.9"),
        ];
        let lease = read("bound", &vars).unwrap().lease.unwrap();
        assert_eq!(lease.address, Ipv4Addr::new(10, 0, 2, 15));
        assert_eq!(lease.dns, [Ipv4Addr::new(10, 0, 2, 3), Ipv4Addr::new(10, 0, 2, 4)]);
        assert_eq!((lease.mtu, lease.ways()[1].via), (Some(1400), Ipv4Addr::new(10, 0, 2, 9)));
        assert_eq!(lease.ntp, [Ipv4Addr::new(10, 0, 2, 7)]);
        assert!(resolv_conf([lease.clone()].iter()).contains("search lab.example.org example.org\n"));
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
