//! The kiosk's `krb5.conf`, for what the libraries still read by themselves once `kiosk-ui` has a ticket.

use parcel::wire::kiosk::Kiosk;

/// Writes it. It names no KDC and lets nobody look for one: `kiosk-ui` carries Kerberos' messages, by `kiosk.json`. Names
/// are never looked up backwards or made canonical: whoever answers DNS could else choose which service a ticket is for.
pub fn conf(kiosk: &Kiosk) -> String {
    const AES: &str = "aes256-cts-hmac-sha384-192 aes128-cts-hmac-sha256-128 aes256-cts-hmac-sha1-96 aes128-cts-hmac-sha1-96";
    let realm = &kiosk.realm.name;
    let host = kiosk.server_url.trim_start_matches("https://");
    let host = host.split(':').next().unwrap_or(host);
    format!(
        "[libdefaults]\n\
         \tdefault_realm = {realm}\n\
         \tdefault_ccache_name = MEMORY:\n\
         \tdns_lookup_realm = false\n\
         \tdns_lookup_kdc = false\n\
         \tdns_canonicalize_hostname = false\n\
         \trdns = false\n\
         \tallow_weak_crypto = false\n\
         \tpermitted_enctypes = {AES}\n\
         \tdefault_tkt_enctypes = {AES}\n\
         \tdefault_tgs_enctypes = {AES}\n\
         \tforwardable = false\n\
         \n\
         [realms]\n\
         \t{realm} = {{\n\t\tdisable_encrypted_timestamp = true\n\t}}\n\
         \n\
         [domain_realm]\n\t{host} = {realm}\n"
    )
}
