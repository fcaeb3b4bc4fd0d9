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
    if let Some(kpasswd) = &kiosk.realm.kpasswd {
        text.push_str(&format!("\t\tkpasswd_server = {kpasswd}\n"));
    }
    text.push_str("\t}\n\n[domain_realm]\n");
    let host = kiosk.server_url.trim_start_matches("https://");
    let host = host.split(':').next().unwrap_or(host);
    text.push_str(&format!("\t{host} = {realm}\n"));
    text
}
