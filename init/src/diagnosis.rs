//! What stands between this kiosk and a log-in: link, address, DNS, clock, log-in server, parcel server. Each step's failure
//! is one sentence, with what to do about it.

use crate::{
    log::Log,
    net::{
        probe::{Ask, Found, KdcFault, Prober, Said, Server, ServerFault, dns::Silence},
        view::{self, Links, View},
    },
    wall::{self, Keeper},
};
use parcel::wire::{
    clock::{ClockState, Source},
    diagnosis::{Check, Diagnosis, Health, StepFound},
    kiosk::{Kiosk, Realm},
};
use std::{
    collections::BTreeMap,
    net::IpAddr,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

/// Lines of the log that are shown.
const LINES: usize = 300;

/// Tries the steps of the diagnosis, one round at a time.
pub struct Doctor {
    prober: Prober,
    server: Server,
    realm: Realm,
    hosts: BTreeMap<String, IpAddr>,
    links: Links,
    clock: Keeper,
    log: Log,
    busy: Arc<AtomicBool>,
}

impl Doctor {
    /// Of this kiosk; `ca` is the text of its CA's certificate.
    pub fn new(kiosk: &Kiosk, ca: &str, prober: Prober, links: Links, clock: &Keeper, log: &Log) -> Self {
        Self {
            prober,
            server: Server { url: kiosk.server_url.clone(), ca: ca.to_owned() },
            realm: kiosk.realm.clone(),
            hosts: kiosk.hosts.clone(),
            links,
            clock: clock.clone(),
            log: log.clone(),
            busy: Arc::default(),
        }
    }

    /// Tries every step once, in the background, and tells what was found. While that is under way, it only has the
    /// time asked for, as each examination does.
    pub fn examine(&self, tell: impl FnOnce(Diagnosis) + Send + 'static) {
        self.clock.wake();
        if self.busy.swap(true, Ordering::AcqRel) {
            return;
        }
        let ask = Ask::Diagnose(self.links.names(&self.hosts, None), self.server.clone(), self.realm.clone());
        let (links, prober, clock) = (self.links.now(), self.prober.clone(), self.clock.clone());
        let (realm, log, busy) = (self.realm.name.clone(), self.log.clone(), self.busy.clone());
        let started = std::thread::Builder::new().name("diagnosis".to_owned()).spawn(move || {
            let found = view::sentence(&links).up.is_some().then(|| match prober.ask(&ask) {
                Ok(Said::Found(found)) => Some(found),
                Ok(_) => None,
                Err(error) => {
                    log.line("init", &format!("the network cannot be examined: {error}"));
                    None
                }
            });
            let seen = Seen { links, now: clock.now(), clock: clock.state(), found: found.flatten(), realm };
            busy.store(false, Ordering::Release);
            tell(Diagnosis { steps: seen.steps(), log: log.tail(LINES) });
        });
        if started.is_err() {
            self.busy.store(false, Ordering::Release);
        }
    }
}

/// What was seen in one round.
struct Seen {
    links: Vec<View>,
    /// The kiosk's clock, in milliseconds since 1970.
    now: i64,
    clock: ClockState,
    /// `None`: the network could not be asked anything.
    found: Option<Found>,
    realm: String,
}

fn step(check: Check, health: Health, found: impl Into<String>, remedy: impl Into<String>) -> StepFound {
    StepFound { check, health, found: found.into(), remedy: remedy.into() }
}

fn untried(check: Check) -> StepFound {
    step(check, Health::Untried, "Not tried: a step before it fails.", "")
}

impl Seen {
    fn steps(&self) -> Vec<StepFound> {
        let names_fail = matches!(&self.found, Some(Found { dns: Some(Err(_)), .. }));
        let found =
            |check, judge: &dyn Fn(&Found) -> StepFound| self.found.as_ref().map_or(untried(check), judge);
        vec![
            self.link(),
            self.address(),
            found(Check::Dns, &|found| dns(found.dns.as_ref())),
            self.clock(),
            found(Check::Kdc, &|found| match &found.kdc {
                Err(KdcFault::Name(_)) if names_fail => untried(Check::Kdc),
                kdc => kdc_step(kdc, &self.realm),
            }),
            found(Check::Server, &|found| match &found.server {
                Err(ServerFault::Name(_)) if names_fail => untried(Check::Server),
                server => server_step(server, &wall::words(self.now)),
            }),
        ]
    }

    fn link(&self) -> StepFound {
        let say = |health, found: &str, remedy: &str| step(Check::Link, health, found, remedy);
        let names = |carrier: bool| {
            let names = self.links.iter().filter(|link| link.carrier == carrier);
            names.map(|link| link.name.as_str()).collect::<Vec<_>>().join(", ")
        };
        if self.links.is_empty() {
            let remedy = "Ask IT to check the network card, or to add its driver or firmware to the image.";
            return say(Health::Bad, "No network card was found.", remedy);
        }
        match (names(true), names(false)) {
            (on, off) if on.is_empty() => say(
                Health::Bad,
                &format!("No network cable is plugged in, or its other end is off ({off})."),
                "Plug the cable in at both ends, or try another cable or socket.",
            ),
            (on, off) if off.is_empty() => say(Health::Good, &format!("A cable is plugged in ({on})."), ""),
            (on, off) => say(Health::Good, &format!("A cable is plugged in ({on}); none at {off}."), ""),
        }
    }

    fn address(&self) -> StepFound {
        if !self.links.iter().any(|link| link.carrier) {
            return untried(Check::Address);
        }
        let network = view::sentence(&self.links);
        match network.up {
            Some(up) if network.detail.contains(&up) => {
                step(Check::Address, Health::Good, format!("{up}."), "")
            }
            Some(up) if network.detail.contains("nowhere") => {
                let remedy = "If the server is not reached, unplug the cable of the link that leads nowhere.";
                step(Check::Address, Health::Doubtful, format!("{up}, {}.", network.detail), remedy)
            }
            Some(up) => step(Check::Address, Health::Good, format!("{up}, {}.", network.detail), ""),
            None => {
                let found = network.detail.trim_start_matches("No network: ").trim_start_matches("Network: ");
                let mut chars = found.chars();
                let found = chars
                    .next()
                    .map_or(String::new(), |first| first.to_uppercase().chain(chars).collect::<String>());
                let found = format!("{}.", found.trim_end_matches('.'));
                let remedy = "Try another network socket, or ask the network's IT desk to check DHCP.";
                step(Check::Address, Health::Bad, found, remedy)
            }
        }
    }

    fn clock(&self) -> StepFound {
        let now = wall::words(self.now);
        let why = self.clock.problems.first().map_or("Nobody was asked yet", |why| why.trim_end_matches('.'));
        let remedy = "If it is wrong, set the clock in the machine's firmware, or ask IT for an NTP server.";
        match &self.clock.source {
            Source::Ntp { server } | Source::Server { server } => {
                step(Check::Clock, Health::Good, format!("It is {now}, by {server}."), "")
            }
            Source::Dhcp { server } => step(
                Check::Clock,
                Health::Doubtful,
                format!(
                    "It is {now}, by the network's own time server {server}, which nothing vouches for. {why}."
                ),
                "If it is wrong, ask IT for an NTP server of the site.",
            ),
            Source::Machine => step(
                Check::Clock,
                Health::Doubtful,
                format!("It is {now} by this machine's own clock. {why}."),
                remedy,
            ),
            Source::Image => step(
                Check::Clock,
                Health::Bad,
                format!("The machine's clock had lost the time and says {now} now. {why}."),
                remedy,
            ),
        }
    }
}

fn dns(dns: Option<&Result<(), Silence>>) -> StepFound {
    let say = |health, found: String, remedy: &str| step(Check::Dns, health, found, remedy);
    match dns {
        None => say(Health::Good, "Not needed: the kiosk knows the addresses.".into(), ""),
        Some(Ok(())) => say(Health::Good, "Names are found.".into(), ""),
        Some(Err(Silence::NoServer)) => say(
            Health::Bad,
            "The network names no DNS server.".into(),
            "Ask the network's IT desk to name one by DHCP.",
        ),
        Some(Err(silence @ Silence::Silent(_))) => {
            say(Health::Bad, sentence(silence), "Wait a moment, then ask the network's IT desk.")
        }
        Some(Err(silence @ Silence::Nothing(_))) => say(
            Health::Bad,
            sentence(silence),
            "You may need your organisation's own network; else ask IT to check the name.",
        ),
    }
}

/// What to do when the CA has expired, or seems to have.
const NEW_CA: &str =
    "If the clock is wrong, see above; else tell IT: this kiosk needs the certificate of a new CA.";

fn kdc_step(kdc: &Result<String, KdcFault>, realm: &str) -> StepFound {
    let say = |health, found: String, remedy: &str| step(Check::Kdc, health, found, remedy);
    match kdc {
        Ok(kdc) => say(Health::Good, format!("{kdc} answers."), ""),
        Err(KdcFault::Name(silence)) => say(
            Health::Bad,
            format!("No log-in server of {realm} is found: {silence}."),
            "You may need your organisation's own network; else ask IT.",
        ),
        Err(KdcFault::Silent(kdcs)) => say(
            Health::Bad,
            format!("No log-in server of {realm} answers ({}).", kdcs.join(", ")),
            "A firewall may be in the way. Try another network, or ask IT.",
        ),
        Err(KdcFault::Proxy(proxy, fault @ ServerFault::CaExpired { clients_go_on: true, .. })) => {
            say(Health::Doubtful, format!("{proxy} answers, but {fault}. Log-ins still work."), NEW_CA)
        }
        Err(KdcFault::Proxy(proxy, fault)) => {
            say(Health::Bad, format!("The log-in proxy {proxy} cannot be used: {fault}."), "Ask IT.")
        }
    }
}

fn server_step(server: &Result<(), ServerFault>, now: &str) -> StepFound {
    let say = |health, found: String, remedy: &str| step(Check::Server, health, found, remedy);
    match server {
        Ok(()) => say(Health::Good, "The parcel server answers and proves who it is.".into(), ""),
        Err(fault @ ServerFault::Untrusted(_)) => say(
            Health::Bad,
            format!("Whoever answers is not the parcel server: {fault}."),
            "Do not log in here. Tell IT: the network or the certificate is wrong.",
        ),
        Err(fault @ ServerFault::Time { .. }) => say(
            Health::Bad,
            format!("By this kiosk's clock ({now}), it cannot be trusted: {fault}."),
            "If the clock is wrong, see above; else tell IT of the certificate.",
        ),
        Err(fault @ ServerFault::CaExpired { last, clients_go_on }) => {
            let end = wall::words(last.saturating_mul(1000));
            let (health, found) = match clients_go_on {
                true => (
                    Health::Doubtful,
                    format!(
                        "The parcel server answers, but by this kiosk's clock ({now}), {fault} ({end}). Log-ins still \
                         work."
                    ),
                ),
                false => (
                    Health::Bad,
                    format!("By this kiosk's clock ({now}), it cannot be trusted: {fault} ({end})."),
                ),
            };
            say(health, found, NEW_CA)
        }
        Err(fault) => say(
            Health::Bad,
            format!("The parcel server cannot be used: {fault}."),
            "A firewall may be in the way, or the server is off. Ask IT.",
        ),
    }
}

fn sentence(silence: &Silence) -> String {
    let text = silence.to_string();
    let mut chars = text.chars();
    chars.next().map_or(String::new(), |first| format!("{}{}.", first.to_uppercase(), chars.as_str()))
}

#[cfg(test)]
mod tests;
