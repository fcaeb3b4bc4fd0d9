//! The kiosk's `krb5.conf`.

use parcel::wire::kiosk::Kiosk;

/// Writes it. Names are never looked up backwards or made canonical: whoever answers DNS could else choose which
/// service a ticket is for. TCP comes first, since a lost datagram costs a traveller seconds.
pub fn conf(kiosk: &Kiosk) -> String {
    let realm = &kiosk.realm.name;
    let by_dns = kiosk.realm.kdc.is_empty();
    let mut text = format!(
        "[libdefaults]\n\
         \tdefault_realm = {realm}\n\
         \tdefault_ccache_name = MEMORY:\n\
         \tdns_lookup_realm = false\n\
         \tdns_lookup_kdc = {by_dns}\n\
         \tdns_canonicalize_hostname = false\n\
         \trdns = false\n\
         \tudp_preference_limit = 1\n\
         \tallow_weak_crypto = false\n\
         \tforwardable = false\n\
         \n\
         [realms]\n\
         \t{realm} = {{\n"
    );
    for kdc in &kiosk.realm.kdc {
        text.push_str(&format!("\t\tkdc = {kdc}\n"));
    }
    // The library would ask DNS for it, even where KDCs are named.
    let beside = || Some(format!("{}:464", kiosk.realm.kdc.first()?.rsplit_once(':')?.0));
    if let Some(kpasswd) = kiosk.realm.kpasswd.clone().or_else(beside) {
        text.push_str(&format!("\t\tkpasswd_server = {kpasswd}\n"));
    }
    text.push_str("\t}\n\n[domain_realm]\n");
    let host = kiosk.server_url.trim_start_matches("https://");
    let host = host.split(':').next().unwrap_or(host);
    text.push_str(&format!("\t{host} = {realm}\n"));
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use parcel::wire::kiosk::{Cache, CacheKind, Realm, Wipe};
    use std::collections::BTreeMap;

    fn conf_of(kdc: &[&str], kpasswd: Option<&str>) -> String {
        conf(&Kiosk {
            name: None,
            title: "Library".to_owned(),
            realm: Realm {
                name: "EXAMPLE.ORG".to_owned(),
                kdc: kdc.iter().map(|kdc| (*kdc).to_owned()).collect(),
                kpasswd: kpasswd.map(str::to_owned),
            },
            server_url: "https://parcels.example.org:8443".to_owned(),
            hosts: BTreeMap::new(),
            console: "tty1".to_owned(),
            log: None,
            cache: Cache { kind: CacheKind::Auto, size_mib: 0, zstd_level: 3 },
            wipe: Wipe { discard: true, power_off_on_failure: true },
        })
    }

    #[test]
    fn named_kdcs_are_asked_and_dns_is_not() {
        let text = conf_of(&["kdc1.example.org:88", "[2001:db8::1]:1088"], None);
        assert!(text.contains("dns_lookup_kdc = false\n"), "{text}");
        assert!(text.contains("\t\tkdc = kdc1.example.org:88\n\t\tkdc = [2001:db8::1]:1088\n"), "{text}");
        assert!(text.contains("\t\tkpasswd_server = kdc1.example.org:464\n"), "{text}");
        assert!(text.ends_with("[domain_realm]\n\tparcels.example.org = EXAMPLE.ORG\n"), "{text}");
    }

    #[test]
    fn without_kdcs_dns_is_asked_for_everything() {
        let text = conf_of(&[], None);
        assert!(text.contains("dns_lookup_kdc = true\n") && !text.contains("kpasswd_server"), "{text}");
    }

    #[test]
    fn a_named_password_server_counts() {
        let text = conf_of(&["kdc1.example.org:88"], Some("pw.example.org:4464"));
        assert!(text.contains("\t\tkpasswd_server = pw.example.org:4464\n"), "{text}");
    }
}
