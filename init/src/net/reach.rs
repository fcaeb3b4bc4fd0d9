//! Which of several links leads to the parcel server: each is tried by itself, through its own routes and its own DNS.

use super::{
    dhcp,
    probe::{Ask, Prober, Said, Server},
    view::Links,
};
use crate::log::Log;
use std::{collections::BTreeMap, io, net::IpAddr, time::Duration};

/// How long links rest between two tries, where they do not change.
const AGAIN: Duration = Duration::from_secs(30);
/// The same while a link is in doubt: it takes several failures to give one up.
const SOON: Duration = Duration::from_secs(5);

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
            changes = links.wait(changes, rest(&links));
        }
    })?;
    Ok(())
}

fn rest(links: &Links) -> Duration {
    if links.doubtful() { SOON } else { AGAIN }
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
        let reached = match verdict(prober.ask(&Ask::Reach(names, server.clone()))) {
            Ok(reached) => {
                let news = view.reaches != Some(reached.is_ok());
                if let (true, Err(why)) = (news, &reached) {
                    log.line(
                        "network",
                        &format!("the parcel server is not reached through {}: {why}", view.name),
                    );
                }
                Some(reached.is_ok())
            }
            Err(error) => {
                log.line("network", &format!("{} cannot be tried: {error}", view.name));
                None
            }
        };
        found.insert(view.name, reached);
    }
    Some(found)
}

/// What a try says of the link. An error says nothing of it.
fn verdict(said: io::Result<Said>) -> io::Result<Result<(), String>> {
    match said {
        Ok(Said::Reach(reached)) => Ok(reached),
        Ok(_) => Err(io::Error::other("the probe answers another question")),
        // Somebody on the link draws every answer out until the probe's time is over.
        Err(error) if error.kind() == io::ErrorKind::TimedOut => Ok(Err(error.to_string())),
        Err(error) => Err(error),
    }
}

#[cfg(test)]
mod tests {
    use super::{super::view, *};

    #[test]
    fn a_link_in_doubt_is_tried_again_soon_until_it_is_given_up_or_answers() {
        let links = Links::default();
        links.note(vec![view::tests::view("eth0", 100, Some([10, 0, 2, 15]))]);
        let changes = links.wait(0, Duration::ZERO);
        let after = |reached| {
            links.found(changes, BTreeMap::from([("eth0".to_owned(), Some(reached))]));
            rest(&links)
        };
        assert_eq!(rest(&links), AGAIN);
        assert_eq!([true, false, false].map(after), [AGAIN, SOON, SOON]);
        assert_eq!([true, false, false, false, false].map(after), [AGAIN, SOON, SOON, AGAIN, AGAIN]);
    }

    #[test]
    fn a_try_that_takes_too_long_counts_against_the_link_and_one_that_cannot_be_made_does_not() {
        let failed = |kind: io::ErrorKind| verdict(Err(kind.into()));
        assert!(matches!(failed(io::ErrorKind::TimedOut), Ok(Err(_))));
        assert!(failed(io::ErrorKind::OutOfMemory).is_err());
        assert!(verdict(Ok(Said::Time(Err(String::new())))).is_err());
        assert_eq!(verdict(Ok(Said::Reach(Ok(())))).unwrap(), Ok(()));
        assert!(verdict(Ok(Said::Reach(Err("it is away".into())))).unwrap().is_err());
    }
}
