//! The DHCP options beyond address, mask, routers and name servers: packet size (26), search domains (119) and routes (121).
//! Whatever a server sends, what is not sound is left out.

use serde::{Deserialize, Serialize};
use std::net::Ipv4Addr;

/// Most of each that count.
const MOST_ROUTES: usize = 16;
const MOST_DOMAINS: usize = 6;
/// Packet sizes that every IPv4 host takes, and that Ethernet has.
const SIZES: std::ops::RangeInclusive<u16> = 576..=9216;

/// A route to a network.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Route {
    /// Its lowest address.
    pub to: Ipv4Addr,
    /// How many bits of it count.
    pub bits: u8,
    /// Through which router; unspecified: it is on the link itself.
    pub via: Ipv4Addr,
}

impl Route {
    /// To everybody else.
    pub fn default_via(via: Ipv4Addr) -> Self {
        Self { to: Ipv4Addr::UNSPECIFIED, bits: 0, via }
    }

    /// Its netmask.
    pub fn mask(&self) -> Ipv4Addr {
        Ipv4Addr::from(u32::MAX.checked_shl(32 - u32::from(self.bits.min(32))).unwrap_or(0))
    }

    /// Whether it may be set: not for the guest's network, this machine itself or groups, and through another machine.
    fn is_sound(&self) -> bool {
        let own = self.to.is_loopback() || self.to.is_multicast() || self.to.is_broadcast();
        let inside = self.bits >= 24 && super::guest::is_inside(self.to);
        let router = self.via.is_unspecified() && self.bits > 0 || super::dhcp::usable(&self.via);
        self.bits <= 32 && self.to & self.mask() == self.to && !own && !inside && router
    }
}

/// Routes as `udhcpc` writes them: `10.0.0.0/8 10.0.2.1 0.0.0.0/0 10.0.2.2`.
pub fn routes(text: &str) -> Vec<Route> {
    let words: Vec<&str> = text.split_ascii_whitespace().take(2 * MOST_ROUTES).collect();
    words
        .chunks_exact(2)
        .filter_map(|pair| {
            let [to, via] = pair else { return None };
            let (to, bits) = to.split_once('/')?;
            Some(Route { to: to.parse().ok()?, bits: bits.parse().ok()?, via: via.parse().ok()? })
        })
        .collect()
}

/// Those of `routes` that may be set.
pub fn sound_routes(routes: Vec<Route>) -> Vec<Route> {
    routes.into_iter().filter(Route::is_sound).take(MOST_ROUTES).collect()
}

/// A packet size that may be set.
pub fn sound_size(size: Option<u16>) -> Option<u16> {
    size.filter(|size| SIZES.contains(size))
}

/// Domains as `udhcpc` writes them, one after the other.
pub fn domains(text: &str) -> Vec<String> {
    text.split_ascii_whitespace()
        .filter(|word| is_domain(word))
        .take(MOST_DOMAINS)
        .map(str::to_owned)
        .collect()
}

/// Those of `domains` that may be written to a file of names.
pub fn sound_domains(domains: Vec<String>) -> Vec<String> {
    domains.into_iter().filter(|domain| is_domain(domain)).take(MOST_DOMAINS).collect()
}

fn is_domain(text: &str) -> bool {
    let label = |label: &str| {
        (1..=63).contains(&label.len())
            && !label.starts_with('-')
            && label.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_'))
    };
    text.len() <= 253 && text.strip_suffix('.').unwrap_or(text).split('.').all(label)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn what_no_kiosk_can_use_is_left_out() {
        let sound = |text: &str| sound_routes(routes(text)).len();
        assert_eq!(sound("10.0.0.0/8 10.0.2.1 0.0.0.0/0 10.0.2.2 192.168.7.1/32 0.0.0.0"), 3);
        for bad in [
            "10.0.0.0/33 10.0.2.1",
            "10.0.0.1/8 10.0.2.1",
            "10.0.0.0 10.0.2.1",
            "10.0.0.0/8",
            "127.0.0.0/8 10.0.2.1",
            "224.0.0.0/4 10.0.2.1",
            "10.77.0.0/24 10.0.2.1",
            "10.77.0.2/32 0.0.0.0",
            "10.0.0.0/8 127.0.0.1",
            "10.0.0.0/8 10.77.0.2",
            "0.0.0.0/0 0.0.0.0",
            "10.0.0.0/-1 10.0.2.1",
            "x/8 y",
        ] {
            assert_eq!(sound(bad), 0, "{bad}");
        }
        assert_eq!(
            [0, 67, 575, 576, 1492, 9216, 9217].map(|size| sound_size(Some(size)).is_some()),
            [false, false, false, true, true, true, false]
        );
        assert_eq!(
            domains("example.org -x a..b lab.example.org. ../etc nameserver\u{7}"),
            ["example.org", "lab.example.org."]
        );
        assert_eq!(sound_domains(vec!["a b".into(), "a\nnameserver 6.6.6.6".into(), "a.b".into()]), ["a.b"]);
    }

    proptest! {
        #[test]
        fn is_total_and_bounded(text in "\\PC{0,200}", bits in any::<u8>(), to in any::<u32>(), via in any::<u32>()) {
            prop_assert!(routes(&text).len() <= MOST_ROUTES && domains(&text).len() <= MOST_DOMAINS);
            let route = Route { to: to.into(), bits, via: via.into() };
            for route in sound_routes(vec![route; 40]) {
                prop_assert_eq!(super::super::prefix(route.mask()), Some(u32::from(bits)));
            }
        }
    }
}
