//! Who tells the time, the best first.

use crate::net::{
    probe::{Ask, Instant, Prober, Said, Server, Time},
    view::Links,
};
use parcel::wire::clock::Source;
use std::{collections::BTreeMap, net::IpAddr};

/// Who is asked.
pub struct Sources {
    /// How they are asked.
    pub prober: Prober,
    /// NTP servers of the site's configuration.
    pub ntp: Vec<String>,
    /// The parcel server.
    pub server: Server,
    /// Names that are not in DNS.
    pub hosts: BTreeMap<String, IpAddr>,
    /// The network, and the NTP servers that it names.
    pub links: Links,
}

impl Sources {
    /// The time of the first whose answer is `good`, and why those before it had none that is.
    pub fn ask(
        &self,
        good: impl Fn(Instant) -> Result<(), String>,
    ) -> (Option<(Instant, Source)>, Vec<String>) {
        let names = || self.links.names(&self.hosts, None);
        let views = self.links.now();
        let leases = views.iter().filter_map(|view| view.lease.as_ref());
        let by_dhcp: Vec<String> = leases.flat_map(|lease| &lease.ntp).map(ToString::to_string).collect();
        let mut problems = Vec::new();
        let tried = |problems: &mut Vec<String>, who: &str, ask: Ask| match self.prober.ask(&ask) {
            Ok(Said::Time(Ok(Time { instant, from }))) => match good(instant) {
                Ok(()) => Some((instant, from)),
                Err(why) => {
                    problems.push(format!("{who} {from} is not believed: {why}"));
                    None
                }
            },
            Ok(Said::Time(Err(why))) => {
                problems.push(format!("{who} does not tell the time: {why}"));
                None
            }
            Ok(_) => None,
            Err(error) => {
                problems.push(format!("{who} cannot be asked for the time: {error}"));
                None
            }
        };
        // One after the other: a wrong server must not hide a right one.
        for server in &self.ntp {
            if let Some((at, server)) =
                tried(&mut problems, "The site's NTP server", Ask::Ntp(names(), vec![server.clone()]))
            {
                return (Some((at, Source::Ntp { server })), problems);
            }
        }
        if !self.server.url.is_empty()
            && let Some((at, server)) =
                tried(&mut problems, "The parcel server", Ask::Date(names(), self.server.clone()))
        {
            return (Some((at, Source::Server { server })), problems);
        }
        for server in by_dhcp.into_iter().take(4) {
            if let Some((at, server)) =
                tried(&mut problems, "The network's NTP server", Ask::Ntp(names(), vec![server]))
            {
                return (Some((at, Source::Dhcp { server })), problems);
            }
        }
        (None, problems)
    }
}
