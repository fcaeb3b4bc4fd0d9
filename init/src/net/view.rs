//! What is known of the links: what the screen says of them, which of them is the best way out, and what other threads of
//! the manager ask the network through.

use super::{dhcp::Lease, guest, probe::Names};
use crate::system::Network;
use std::{
    collections::BTreeMap,
    net::{IpAddr, Ipv4Addr},
    sync::{Arc, Condvar, Mutex, PoisonError},
    time::Duration,
};

/// How many times in a row the server is not reached before a link that reached it comes behind others: a change of the way
/// out cuts every connection of the guest's, and one slow answer is not worth that.
const FAILURES: u8 = 3;

/// A link, as it is now.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct View {
    /// The kernel's name of the link.
    pub name: String,
    /// A cable is in and the other end answers.
    pub carrier: bool,
    /// Of its routes: the lowest counts.
    pub metric: u16,
    /// What DHCP gave.
    pub lease: Option<Lease>,
    /// The kernel has a route to other networks through it.
    pub routed: bool,
    /// A connection to the parcel server comes up through it; `None`: not tried.
    pub reaches: Option<bool>,
    /// DHCP was asked and nobody answered.
    pub unanswered: bool,
    /// DHCP gave what cannot be used.
    pub refused: bool,
}

impl View {
    /// It leads somewhere, as far as is known: through a router, or to a server beside it.
    pub fn is_up(&self) -> bool {
        self.carrier && self.lease.is_some() && (self.routed || self.reaches == Some(true))
    }

    /// The lower, the better the way out.
    fn rank(&self) -> (u8, u16) {
        let rank = match self.reaches {
            _ if !self.carrier || self.lease.is_none() => 4,
            Some(true) => 0,
            None if self.routed => 1,
            Some(false) if self.routed => 2,
            _ => 3,
        };
        (rank, self.metric)
    }
}

/// The metric that each link should have so that the best way out comes first. Links that are as good as each other keep
/// their order.
pub fn order(links: &[View]) -> BTreeMap<String, u16> {
    let mut best: Vec<&View> = links.iter().collect();
    best.sort_by_key(|link| link.rank());
    let mut metrics: Vec<u16> = links.iter().map(|link| link.metric).collect();
    metrics.sort_unstable();
    best.into_iter().map(|link| link.name.clone()).zip(metrics).collect()
}

/// What the traveller is told.
pub fn sentence(links: &[View]) -> Network {
    let mut best: Vec<&View> = links.iter().collect();
    best.sort_by_key(|link| link.rank());
    let address = |link: &View| link.lease.as_ref().map_or(Ipv4Addr::UNSPECIFIED, |lease| lease.address);
    if let Some(first) = best.iter().find(|link| link.is_up()) {
        let up = format!("{} ({})", address(first), first.name);
        let others =
            best.iter().filter(|link| link.name != first.name && link.carrier && link.lease.is_some());
        let others: Vec<String> = others
            .map(|link| {
                let leads = if link.is_up() && link.reaches != Some(false) { "" } else { " leads nowhere" };
                format!("{} ({}){leads}", link.name, address(link))
            })
            .collect();
        let detail =
            if others.is_empty() { format!("Network: {up}") } else { format!("also {}", others.join(", ")) };
        return Network { up: Some(up), detail };
    }
    let names = links.iter().map(|link| link.name.as_str()).collect::<Vec<_>>().join(", ");
    let any = |test: fn(&View) -> bool| links.iter().find(|link| link.carrier && test(link));
    let detail = if links.is_empty() {
        "No network: no network card was found, or this image lacks its driver or firmware.".to_owned()
    } else if any(|_| true).is_none() {
        format!("No network: no cable is plugged in ({names}).")
    } else if let Some(link) = any(|link| link.lease.is_some()) {
        let (at, name) = (address(link), &link.name);
        format!("No network: DHCP gave the address {at} but no router, so no way leads on ({name}).")
    } else if any(|link| link.refused).is_some() {
        let at = guest::GATEWAY;
        format!("No network: DHCP gave an address that no kiosk can use, such as one beside {at} ({names}).")
    } else if any(|link| link.unanswered).is_some() {
        format!("No network: the cable is in, but no DHCP server answers ({names}).")
    } else {
        format!("Network: asking for an address ({names})")
    };
    Network { up: None, detail }
}

/// What is held of a link that was tried.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Tried {
    reaches: bool,
    /// Times in a row that the server was not reached.
    failures: u8,
}

/// What is held of a link after one more try; `None`: the try itself went wrong, and says nothing of the link.
fn weigh(before: Option<Tried>, reached: Option<bool>) -> Option<Tried> {
    let Some(reached) = reached else { return before };
    if reached {
        return Some(Tried { reaches: true, failures: 0 });
    }
    let failures = before.map_or(0, |before| before.failures).saturating_add(1);
    Some(Tried { reaches: before.is_some_and(|before| before.reaches) && failures < FAILURES, failures })
}

/// The links, for other threads. Cheap to clone.
#[derive(Clone, Default)]
pub struct Links(Arc<(Mutex<Inner>, Condvar)>);

#[derive(Default)]
struct Inner {
    links: Vec<View>,
    tried: BTreeMap<String, Tried>,
    /// Counts what changed of leases, cables and routes.
    changes: u64,
    /// The count at each link's own last change.
    changed: BTreeMap<String, u64>,
}

impl Links {
    /// All of them, as they are now, the best first.
    pub fn now(&self) -> Vec<View> {
        let mut links = self.lock().links.clone();
        links.sort_by_key(View::rank);
        links
    }

    /// How the network's names are found; `link`: by what is known of that one and through it alone.
    pub fn names(&self, hosts: &BTreeMap<String, IpAddr>, link: Option<&str>) -> Names {
        let mut servers = Vec::new();
        for view in self.now().iter().filter(|view| link.is_none_or(|link| view.name == link)) {
            for server in view.lease.iter().flat_map(|lease| &lease.dns) {
                if !servers.contains(server) {
                    servers.push(*server);
                }
            }
        }
        Names { hosts: hosts.clone(), servers, link: link.map(str::to_owned) }
    }

    /// Notes how the links are now.
    pub fn note(&self, links: Vec<View>) {
        let mut guard = self.lock();
        let inner = &mut *guard;
        let of = |view: &View| (view.name.clone(), view.carrier, view.lease.clone(), view.routed);
        let (old, new): (Vec<_>, Vec<_>) =
            (inner.links.iter().map(of).collect(), links.iter().map(of).collect());
        if old != new {
            inner.changes += 1;
            // What was found out about a link is of the network that it was in; the other links are where they were.
            let same: Vec<&String> = new.iter().filter(|now| old.contains(now)).map(|now| &now.0).collect();
            inner.tried.retain(|name, _| same.contains(&name));
            inner.changed.retain(|name, _| same.contains(&name));
            for (name, ..) in &new {
                inner.changed.entry(name.clone()).or_insert(inner.changes);
            }
            self.0.1.notify_all();
        }
        inner.links = links;
    }

    /// What was found out about a link.
    pub(super) fn reaches(&self, link: &str) -> Option<bool> {
        self.lock().tried.get(link).map(|tried| tried.reaches)
    }

    /// A link that reached the server did not at the last try.
    pub(super) fn doubtful(&self) -> bool {
        self.lock().tried.values().any(|tried| tried.reaches && tried.failures > 0)
    }

    /// Notes what one more try of each link found (`None`: nothing), but for links that changed since `changes`; tells
    /// whether it changes what is held of any.
    pub(super) fn found(&self, changes: u64, reached: BTreeMap<String, Option<bool>>) -> bool {
        let mut inner = self.lock();
        let same = |name: &String| inner.changed.get(name).is_some_and(|at| *at <= changes);
        let tried = reached.into_iter().filter(|(name, _)| same(name)).filter_map(|(name, reached)| {
            let now = weigh(inner.tried.get(&name).copied(), reached)?;
            Some((name, now))
        });
        let tried: BTreeMap<String, Tried> = tried.collect();
        let held = |tried: &Tried| tried.reaches;
        let news = tried.keys().ne(inner.tried.keys())
            || tried.values().map(held).ne(inner.tried.values().map(held));
        inner.tried = tried;
        news
    }

    /// Waits until something changes of the links since `changes`, but not longer than `limit`; the count now.
    pub fn wait(&self, changes: u64, limit: Duration) -> u64 {
        let inner = self.lock();
        let waited = self.0.1.wait_timeout_while(inner, limit, |inner| inner.changes == changes);
        waited.map_or(changes, |(inner, _)| inner.changes)
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Inner> {
        self.0.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    pub(crate) fn lease(address: [u8; 4]) -> Lease {
        Lease {
            address: address.into(),
            mask: Ipv4Addr::new(255, 255, 255, 0),
            routers: vec![],
            dns: vec![],
            routes: vec![],
            search: vec![],
            mtu: None,
            ntp: vec![],
        }
    }

    /// A link with a cable.
    pub(crate) fn view(name: &str, metric: u16, address: Option<[u8; 4]>) -> View {
        let routed = address.is_some();
        View {
            name: name.into(),
            carrier: true,
            metric,
            lease: address.map(lease),
            routed,
            ..View::default()
        }
    }

    #[test]
    fn each_reason_has_its_sentence() {
        let says = |links: &[View], word: &str| {
            let network = sentence(links);
            assert!(network.up.is_none() && network.detail.contains(word), "{network:?}");
        };
        says(&[], "no network card");
        says(&[View { carrier: false, ..view("eth0", 100, None) }], "no cable");
        says(&[View { unanswered: true, ..view("eth0", 100, None) }], "no DHCP server");
        says(&[view("eth0", 100, None)], "asking");
        says(&[View { refused: true, ..view("eth0", 100, None) }], "no kiosk can use");
        // A lease without a cable is no network.
        says(&[View { carrier: false, ..view("eth0", 100, Some([10, 0, 2, 15])) }], "no cable");
        says(&[View { routed: false, ..view("eth0", 100, Some([10, 0, 2, 15])) }], "10.0.2.15 but no router");
    }

    #[test]
    fn it_is_up_where_a_way_leads_on() {
        let off = View { carrier: false, ..view("eth0", 100, None) };
        let up = sentence(&[off, view("eth1", 200, Some([10, 0, 2, 15]))]);
        assert_eq!(up.up.as_deref(), Some("10.0.2.15 (eth1)"));
        // A server beside the kiosk needs no router.
        let beside = View { routed: false, reaches: Some(true), ..view("eth0", 100, Some([10, 0, 2, 15])) };
        assert_eq!(sentence(&[beside]).up.as_deref(), Some("10.0.2.15 (eth0)"));
    }

    #[test]
    fn of_two_links_the_one_that_reaches_the_server_is_first_and_both_are_shown() {
        let links = |first: Option<bool>, second: Option<bool>| {
            [
                View { reaches: first, ..view("eth0", 100, Some([10, 0, 2, 15])) },
                View { reaches: second, ..view("eth1", 200, Some([192, 168, 7, 9])) },
            ]
        };
        let metrics = |links: &[View]| order(links).into_values().collect::<Vec<_>>();
        assert_eq!(metrics(&links(Some(false), Some(true))), [200, 100]);
        let shown = sentence(&links(Some(false), Some(true)));
        assert_eq!(shown.up.as_deref(), Some("192.168.7.9 (eth1)"));
        assert_eq!(shown.detail, "also eth0 (10.0.2.15) leads nowhere");
        // As good as each other, or not known: nothing is moved.
        for (first, second) in [(None, None), (Some(true), Some(true)), (Some(false), Some(false))] {
            assert_eq!(metrics(&links(first, second)), [100, 200], "{first:?} {second:?}");
        }
        assert_eq!(sentence(&links(Some(true), Some(true))).detail, "also eth1 (192.168.7.9)");
        let mut pulled = links(None, None);
        pulled[0].carrier = false;
        assert_eq!(metrics(&pulled), [200, 100], "a pulled cable is no way out");
    }

    #[test]
    fn what_was_found_of_a_link_ends_with_its_network() {
        let links = Links::default();
        links.note(vec![view("eth0", 100, Some([10, 0, 2, 15]))]);
        let changes = links.wait(0, Duration::ZERO);
        assert!(links.found(changes, BTreeMap::from([("eth0".into(), Some(true))])));
        assert_eq!(links.reaches("eth0"), Some(true));
        links.note(vec![view("eth0", 100, Some([10, 0, 9, 15]))]);
        assert_eq!(links.reaches("eth0"), None);
        assert!(
            !links.found(changes, BTreeMap::from([("eth0".into(), Some(true))])),
            "it is of the network before"
        );
    }

    #[test]
    fn a_change_of_one_link_leaves_what_a_try_finds_about_the_others() {
        let links = Links::default();
        let both =
            |last| vec![view("eth0", 100, Some([10, 0, 2, 15])), view("eth1", 200, Some([10, 0, 3, last]))];
        let tried = || BTreeMap::from([("eth0".into(), Some(true)), ("eth1".into(), Some(true))]);
        let held = || (links.reaches("eth0"), links.reaches("eth1"));
        links.note(both(15));
        let changes = links.wait(0, Duration::ZERO);
        // The second changes while both are tried.
        links.note(both(16));
        assert!(links.found(changes, tried()));
        assert_eq!(held(), (Some(true), None));
        let changes = links.wait(0, Duration::ZERO);
        assert!(links.found(changes, tried()));
        assert_eq!(held(), (Some(true), Some(true)));
        // It goes while both are tried, and is back before that ends.
        links.note(vec![both(16).remove(0)]);
        assert!(!links.found(changes, tried()));
        links.note(both(16));
        assert!(!links.found(changes, tried()));
        assert_eq!(held(), (Some(true), None));
    }

    #[test]
    fn a_link_that_reached_the_server_is_given_up_after_several_failures_in_a_row() {
        let after = |tries: &[Option<bool>]| {
            tries.iter().fold(None, |before, reached| weigh(before, *reached)).map(|tried| tried.reaches)
        };
        let (yes, no, error) = (Some(true), Some(false), None);
        assert_eq!(after(&[error]), None);
        assert_eq!(after(&[no]), Some(false), "it never reached the server");
        assert_eq!(after(&[yes, no, no]), Some(true));
        assert_eq!(after(&[yes, no, no, no]), Some(false));
        assert_eq!(after(&[yes, no, no, yes, no, no]), Some(true), "not in a row");
        assert_eq!(after(&[yes, no, no, error, error]), Some(true), "an error says nothing of the link");
        assert_eq!(after(&[yes, no, no, error, no]), Some(false));
        assert_eq!(after(&[no, error]), Some(false));
        assert_eq!(after(&[yes, no, no, no, no, yes]), Some(true), "once is enough to come back");
    }

    #[test]
    fn a_slow_answer_moves_nothing_and_neither_does_another_links_cable() {
        let links = Links::default();
        let both = || vec![view("eth0", 100, Some([10, 0, 2, 15])), view("eth1", 200, Some([10, 0, 3, 15]))];
        links.note(both());
        let found = |first, second| {
            let changes = links.lock().changes;
            links.found(changes, BTreeMap::from([("eth0".into(), first), ("eth1".into(), second)]))
        };
        assert!(found(Some(true), Some(true)));
        assert!(!found(Some(false), Some(true)));
        assert!(!found(None, Some(true)));
        assert_eq!(links.reaches("eth0"), Some(true));
        let mut pulled = both();
        pulled[1].carrier = false;
        links.note(pulled);
        assert_eq!((links.reaches("eth0"), links.reaches("eth1")), (Some(true), None));
        links.note(both());
        assert!(found(Some(false), Some(true)), "the second is known again");
        assert_eq!(links.reaches("eth0"), Some(true));
        assert!(found(Some(false), Some(true)), "the third failure");
        assert_eq!(links.reaches("eth0"), Some(false));
    }
}
