//! Which of several links leads to the parcel server: each is tried by itself, through its own routes and its own DNS.

use super::{
    dhcp,
    probe::{Ask, Prober, Said, Server},
    view::Links,
};
use crate::log::Log;
use std::{collections::BTreeMap, io, net::IpAddr, time::Duration};

/// How often links are tried that have not changed.
const AGAIN: Duration = Duration::from_secs(30);

/// Starts the thread. Where there is only one link with an address, there is nothing to choose, and nothing is asked but
/// for one without a router.
///
/// # Errors
/// The kernel gives no thread.
pub fn start(
    links: Links,
    prober: Prober,
    server: Server,
    hosts: BTreeMap<String, IpAddr>,
    log: Log,
) -> io::Result<()> {
    std::thread::Builder::new().name("reach".to_owned()).spawn(move || {
        let mut changes = 0;
        loop {
            let found = try_all(&links, &prober, &server, &hosts, &log);
            if let Some(found) = found
                && links.found(changes, found)
            {
                dhcp::wake();
            }
            changes = links.wait(changes, AGAIN);
        }
    })?;
    Ok(())
}

/// Whether the server is reached, by link; `None`: the link could not be tried.
fn try_all(
    links: &Links,
    prober: &Prober,
    server: &Server,
    hosts: &BTreeMap<String, IpAddr>,
    log: &Log,
) -> Option<BTreeMap<String, Option<bool>>> {
    let usable: Vec<_> =
        links.now().into_iter().filter(|view| view.carrier && view.lease.is_some()).collect();
    if usable.len() < 2 && usable.iter().all(|view| view.routed) {
        return None;
    }
    let mut found = BTreeMap::new();
    for view in usable {
        let names = links.names(hosts, Some(&view.name));
        let reached = match prober.ask(&Ask::Reach(names, server.clone())) {
            Ok(Said::Reach(reached)) => {
                let news = view.reaches != Some(reached.is_ok());
                if let (true, Err(why)) = (news, &reached) {
                    log.line(
                        "network",
                        &format!("the parcel server is not reached through {}: {why}", view.name),
                    );
                }
                Some(reached.is_ok())
            }
            Ok(_) => None,
            Err(error) => {
                log.line("network", &format!("{} cannot be tried: {error}", view.name));
                None
            }
        };
        found.insert(view.name, reached);
    }
    Some(found)
}
