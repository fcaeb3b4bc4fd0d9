//! The kiosk's own network: every wired link is brought up and asks for an address by DHCP; loss and return of the
//! cable, renewals and failures become one line for the traveller. Of several links, the one that leads to the parcel
//! server is the way out.

pub mod confine;
pub mod dhcp;
pub mod guest;
pub mod link;
pub mod options;
pub mod probe;
pub mod reach;
pub mod view;

use crate::{log::Log, system::Network};
use dhcp::Lease;
use parcel::wire::kiosk::DHCP_HOOK;
use std::{
    collections::BTreeMap,
    fs, io,
    net::Ipv4Addr,
    os::unix::{fs::PermissionsExt, net::UnixDatagram},
    path::{Path, PathBuf},
    process::Child,
    time::Duration,
};
use view::{Links, View};

/// Folder of init's own sockets and files; only root enters it.
pub const FOLDER: &str = "/run/init";

/// Makes [`FOLDER`].
///
/// # Errors
/// It cannot be made.
pub fn make_folder() -> io::Result<()> {
    fs::create_dir_all(FOLDER)?;
    fs::set_permissions(FOLDER, fs::Permissions::from_mode(0o700))
}
/// Where `/etc/resolv.conf` points.
pub const RESOLV: &str = "/run/resolv.conf";

/// Largest packet of an Ethernet that says nothing else, in bytes.
const ETHERNET_SIZE: u16 = 1500;

/// One link as this module keeps it.
struct Link {
    client: Option<Child>,
    lease: Option<Lease>,
    carrier: bool,
    /// Of its routes: no two links have one, or the kernel would take whichever came first.
    metric: u16,
    /// DHCP was asked and nobody answered.
    unanswered: bool,
    /// DHCP gave what cannot be used.
    refused: bool,
}

/// Watches links until the process ends. Everything it learns goes to `events`.
pub struct Watch {
    links: BTreeMap<String, Link>,
    shared: Links,
    hostname: String,
    told: Option<Network>,
    log: Log,
    /// `/sys/class/net`.
    cards: PathBuf,
    /// [`RESOLV`].
    resolv: PathBuf,
    /// Why that cannot be written, as the log has it.
    unwritten: Option<String>,
}

impl Watch {
    /// Starts the thread.
    ///
    /// # Errors
    /// No thread or no socket.
    pub fn start(
        hostname: String,
        shared: Links,
        log: Log,
        mut tell: impl FnMut(Network) -> bool + Send + 'static,
    ) -> io::Result<()> {
        let _ = link::up("lo");
        if !Path::new(RESOLV).exists() {
            fs::write(RESOLV, "")?;
        }
        let reports = dhcp::listen(Path::new(FOLDER))?;
        reports.set_read_timeout(Some(Duration::from_secs(2)))?;
        link::watch(dhcp::wake)?;
        let mut watch = Self {
            links: BTreeMap::new(),
            shared,
            hostname,
            told: None,
            log,
            cards: "/sys/class/net".into(),
            resolv: RESOLV.into(),
            unwritten: None,
        };
        std::thread::Builder::new().name("network".to_owned()).spawn(move || {
            loop {
                watch.turn(&reports);
                let views = watch.views();
                let now = view::sentence(&views);
                watch.shared.note(views);
                if watch.told.as_ref() != Some(&now) {
                    let up = now.up.as_ref().filter(|up| !now.detail.contains(up.as_str()));
                    let up = up.map_or(String::new(), |up| format!("Network: {up}, "));
                    watch.log.line("network", &format!("{up}{}", now.detail));
                    watch.told = Some(now.clone());
                    if !tell(now) {
                        return;
                    }
                }
            }
        })?;
        Ok(())
    }

    /// Brings everything to how the links are now.
    fn turn(&mut self, reports: &UnixDatagram) {
        self.scan();
        self.hear(reports);
        self.prefer();
        self.write_resolv();
    }

    /// New and vanished links, cables in and out, clients that ended.
    fn scan(&mut self) {
        let present = link::wired(&self.cards);
        self.links.retain(|name, link| {
            let here = present.contains(name);
            if !here {
                end(link);
            }
            here
        });
        for name in present {
            if !self.links.contains_key(&name) {
                if let Err(error) = link::up(&name) {
                    self.log.line("network", &format!("{name} cannot be brought up: {error}"));
                    continue;
                }
                let metric = free_metric(self.links.values().map(|link| link.metric));
                let fresh = Link {
                    client: None,
                    lease: None,
                    carrier: false,
                    metric,
                    unanswered: false,
                    refused: false,
                };
                self.links.insert(name.clone(), fresh);
            }
            let Some(link) = self.links.get_mut(&name) else { continue };
            let carrier = link::carrier(&self.cards, &name);
            if carrier
                && !link.carrier
                && let Some(client) = &link.client
            {
                // The cable came back, maybe in another network: ask at once instead of at half the lease.
                dhcp::renew(client);
            }
            link.carrier = carrier;
            let ended = match &mut link.client {
                Some(client) => !matches!(client.try_wait(), Ok(None)),
                None => true,
            };
            if ended && carrier {
                match dhcp::client(Path::new(FOLDER), &name, &self.hostname, Path::new(DHCP_HOOK)) {
                    Ok(client) => link.client = Some(client),
                    Err(error) => self.log.line("network", &format!("no DHCP on {name}: {error}")),
                }
            }
        }
    }

    /// Waits for a DHCP report, or a little.
    fn hear(&mut self, reports: &UnixDatagram) {
        let Some(report) = dhcp::receive(reports) else { return };
        let Some(link) = self.links.get_mut(&report.interface) else { return };
        let name = report.interface.as_str();
        link.refused = report.refused;
        match report.lease {
            Some(lease) => {
                link.unanswered = false;
                if link.lease.as_ref() != Some(&lease) {
                    // Routes of the lease before would stay beside the new ones.
                    if link.lease.as_ref().is_some_and(|old| !old.same_routes(&lease)) {
                        let _ = link::clear_address(name);
                    }
                    // A size that an earlier lease set does not outlive it.
                    let before = link.lease.as_ref().and_then(|old| old.mtu);
                    if let Some(size) = lease.mtu.or(before.map(|_| ETHERNET_SIZE))
                        && let Err(error) = link::set_size(name, size)
                    {
                        self.log.line(
                            "network",
                            &format!("packets of {size} bytes cannot be set on {name}: {error}"),
                        );
                    }
                    if let Err(error) = link::set_address(name, &lease, link.metric) {
                        self.log.line(
                            "network",
                            &format!(
                                "address {} or its routes cannot be set on {name}: {error}",
                                lease.address
                            ),
                        );
                    }
                    link.lease = Some(lease);
                }
            }
            None if report.lost => {
                link.lease = None;
                let _ = link::clear_address(name);
            }
            None => link.unanswered = true,
        }
    }

    fn views(&self) -> Vec<View> {
        let view = |(name, link): (&String, &Link)| View {
            name: name.clone(),
            carrier: link.carrier,
            metric: link.metric,
            routed: link.lease.is_some() && link::routed(name),
            lease: link.lease.clone(),
            reaches: self.shared.reaches(name),
            unanswered: link.unanswered,
            refused: link.refused,
        };
        self.links.iter().map(view).collect()
    }

    /// Gives the best way out the lowest metric.
    fn prefer(&mut self) {
        let wanted = view::order(&self.views());
        let moved = |name: &String, link: &Link| wanted.get(name).copied().filter(|to| *to != link.metric);
        // Where two change places, neither may find the other's route in its way.
        for (name, link) in &self.links {
            if let (Some(_), Some(lease)) = (moved(name, link), &link.lease) {
                link::clear_routes(name, lease, link.metric);
            }
        }
        for (name, link) in &mut self.links {
            let Some(metric) = moved(name, link) else { continue };
            link.metric = metric;
            let Some(lease) = &link.lease else { continue };
            if let Err(error) = link::set_routes(name, lease, metric) {
                self.log.line("network", &format!("routes cannot be set on {name}: {error}"));
            }
        }
    }

    /// Writes the DNS servers of the links that are there, where the file says anything else.
    fn write_resolv(&mut self) {
        let mut links: Vec<&Link> = self.links.values().collect();
        links.sort_by_key(|link| link.metric);
        let leases = links.into_iter().filter_map(|link| link.lease.as_ref());
        let text = dhcp::resolv_conf(leases);
        if fs::read_to_string(&self.resolv).ok().as_deref() == Some(text.as_str()) {
            self.unwritten = None;
            return;
        }
        let fresh = self.resolv.with_extension("conf.new");
        let written = fs::write(&fresh, text).and_then(|()| fs::rename(&fresh, &self.resolv));
        let why = written.err().map(|error| error.to_string());
        // It is tried again at every turn.
        if let Some(why) = why.as_ref().filter(|why| self.unwritten.as_ref() != Some(why)) {
            self.log.line("network", &format!("{} cannot be written: {why}", self.resolv.display()));
        }
        self.unwritten = why;
    }
}

/// The lowest metric that no link has; between two there is room for one link's routes.
fn free_metric(taken: impl Iterator<Item = u16>) -> u16 {
    let taken: std::collections::BTreeSet<u16> = taken.collect();
    (1..300).map(|at| at * 100).find(|metric| !taken.contains(metric)).unwrap_or(30_000)
}

fn end(link: &mut Link) {
    if let Some(mut client) = link.client.take() {
        let _ = client.kill();
        let _ = client.wait();
    }
}

/// Prefix length of a netmask; `None` for one with holes.
pub fn prefix(mask: Ipv4Addr) -> Option<u32> {
    let bits = u32::from(mask);
    (bits.leading_ones() + bits.trailing_zeros() == 32 || bits == 0).then_some(bits.leading_ones())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn prefixes() {
        assert_eq!(prefix(Ipv4Addr::new(255, 255, 255, 0)), Some(24));
        assert_eq!(prefix(Ipv4Addr::new(0, 0, 0, 0)), Some(0));
        assert_eq!(prefix(Ipv4Addr::new(255, 0, 255, 0)), None);
    }

    fn watch(folder: &Path, links: BTreeMap<String, Link>) -> Watch {
        Watch {
            links,
            shared: Links::default(),
            hostname: String::new(),
            told: None,
            log: Log::open(folder, None),
            cards: folder.join("cards"),
            resolv: folder.join("resolv.conf"),
            unwritten: None,
        }
    }

    #[test]
    fn a_file_that_cannot_be_written_is_logged_once_for_each_reason() {
        let folder = tempfile::tempdir().unwrap();
        let mut watch = watch(folder.path(), BTreeMap::new());
        let turns = |watch: &mut Watch| (0..3).for_each(|_| watch.write_resolv());
        let lines = |watch: &Watch| {
            let lines = watch.log.tail(100);
            lines.iter().filter(|line| line.contains("resolv.conf cannot be written")).count()
        };
        watch.resolv = folder.path().join("absent/resolv.conf");
        turns(&mut watch);
        assert_eq!(lines(&watch), 1);
        // Another reason.
        fs::create_dir_all(&watch.resolv).unwrap();
        turns(&mut watch);
        assert_eq!(lines(&watch), 2);
        // It comes back after the file was written.
        fs::remove_dir(&watch.resolv).unwrap();
        turns(&mut watch);
        assert_eq!(lines(&watch), 2);
        fs::remove_file(&watch.resolv).unwrap();
        fs::create_dir(&watch.resolv).unwrap();
        turns(&mut watch);
        assert_eq!(lines(&watch), 3);
    }

    #[test]
    fn the_dns_servers_of_a_card_go_with_it() {
        let folder = tempfile::tempdir().unwrap();
        let link = |metric, dns: [u8; 4]| Link {
            client: None,
            lease: Some(Lease { dns: vec![dns.into()], ..view::tests::lease([192, 0, 2, dns[3]]) }),
            carrier: false,
            metric,
            unanswered: false,
            refused: false,
        };
        let links = BTreeMap::from([("gone0".into(), link(100, [192, 0, 2, 1]))]);
        let mut watch = watch(folder.path(), links);
        watch.write_resolv();
        let servers = || fs::read_to_string(folder.path().join("resolv.conf")).unwrap();
        assert!(servers().contains("192.0.2.1"), "{}", servers());
        let (reports, _events) = UnixDatagram::pair().unwrap();
        reports.set_nonblocking(true).unwrap();
        watch.turn(&reports);
        assert!(!servers().contains("192.0.2.1"), "{}", servers());
    }

    #[test]
    fn no_two_links_have_one_metric() {
        assert_eq!(free_metric([].into_iter()), 100);
        assert_eq!(free_metric([100, 300].into_iter()), 200);
    }
}
