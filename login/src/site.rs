//! Who a typed name is, and what libkrb5 is told of the site.

use crate::LoginError;
use parcel::wire::kiosk::Realm;
use std::path::Path;
use zeroize::Zeroizing;

/// Key types whose passwords are not guessed at the speed of a hash.
const AES: &str =
    "aes256-cts-hmac-sha384-192 aes128-cts-hmac-sha256-128 aes256-cts-hmac-sha1-96 aes128-cts-hmac-sha1-96";

/// Whom a typed name means.
#[derive(PartialEq, Eq, Debug)]
pub struct User {
    /// The name as libkrb5 takes it.
    pub name: Zeroizing<String>,
    /// Its realm.
    pub realm: String,
    /// The name has the form of an address, and the realm's KDC knows whose it is.
    pub enterprise: bool,
}

/// Whom does the name mean at this site? Only the realms that it lists are asked, so that no typed name chooses who
/// gets to see a log-in. What looks like an address, `user@domain.example`, is a name in the site's first realm.
pub fn user(site: &Realm, typed: &str) -> Result<User, LoginError> {
    if typed.contains('\0') {
        return Err(LoginError::Denied);
    }
    // libkrb5 takes a backslash for an escape, and would ask for another user.
    if typed.contains('\\') {
        return Err(LoginError::Backslash);
    }
    let (user, suffix) = match typed.rsplit_once('@') {
        Some(parts) => parts,
        None => (typed, site.name.as_str()),
    };
    if user.is_empty() || suffix.is_empty() {
        return Err(LoginError::Denied);
    }
    let listed = || std::iter::once(&site.name).chain(site.others.keys());
    let realm = listed()
        .find(|realm| *realm == suffix)
        .or_else(|| listed().find(|realm| realm.eq_ignore_ascii_case(suffix)));
    match realm {
        Some(realm) => Ok(User {
            name: Zeroizing::new(format!("{user}@{realm}")),
            realm: realm.clone(),
            enterprise: false,
        }),
        None if suffix.bytes().any(|byte| byte.is_ascii_lowercase()) => {
            Ok(User { name: Zeroizing::new(typed.to_owned()), realm: site.name.clone(), enterprise: true })
        }
        None => Err(LoginError::RealmUnknown { realm: suffix.to_owned() }),
    }
}

/// libkrb5's whole configuration for a log-in. It names no KDC and asks no DNS, since [`crate::Network`] carries the
/// messages. With encrypted timestamps off, nothing leaves for a KDC that proves itself by nothing but its address from
/// which a password could be guessed; a KDC proxy has proved itself by its certificate.
pub fn profile(site: &Realm, kdc_ca: &Path) -> String {
    let mut text = format!(
        "[libdefaults]\n\
         default_realm = {}\n\
         dns_lookup_realm = false\n\
         dns_lookup_kdc = false\n\
         dns_canonicalize_hostname = false\n\
         rdns = false\n\
         allow_weak_crypto = false\n\
         permitted_enctypes = {AES}\n\
         default_tkt_enctypes = {AES}\n\
         default_tgs_enctypes = {AES}\n\
         [realms]\n",
        site.name
    );
    let strong = !site.weak_preauth && site.kdc_proxy.is_none();
    for realm in std::iter::once(&site.name).chain(site.others.keys()) {
        text.push_str(&format!("{realm} = {{\ndisable_encrypted_timestamp = {strong}\n"));
        if site.fast {
            text.push_str(&format!("pkinit_anchors = FILE:{}\n", kdc_ca.display()));
        }
        text.push_str("}\n");
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use parcel::wire::Code;

    #[test]
    fn only_listed_realms_are_asked() {
        let site = Realm {
            name: "Example.ORG".into(),
            others: [("OTHER.ORG".to_owned(), Vec::new())].into(),
            ..Realm::default()
        };
        let of = |typed: &str| {
            user(&site, typed).map(|user| (user.name.to_string(), user.realm, user.enterprise)).ok()
        };
        let plain = |name: &str, realm: &str| Some((name.to_owned(), realm.to_owned(), false));
        assert_eq!(of("shanta"), plain("shanta@Example.ORG", "Example.ORG"));
        assert_eq!(of("shanta@Example.ORG"), plain("shanta@Example.ORG", "Example.ORG"));
        assert_eq!(of("shanta@EXAMPLE.ORG"), plain("shanta@Example.ORG", "Example.ORG"));
        assert_eq!(of("ravi@other.org"), plain("ravi@OTHER.ORG", "OTHER.ORG"));
        let enterprise = Some(("ravi@mail.example".to_owned(), "Example.ORG".to_owned(), true));
        assert_eq!(of("ravi@mail.example"), enterprise);
        let unknown = user(&site, "shanta@ELSEWHERE.TEST").map_err(|error| error.code());
        assert_eq!(unknown.err(), Some(Code::RealmUnknown));
        for windows in ["CORP\\shanta", "CORP\\shanta@Example.ORG", "\\shanta", "shanta\\"] {
            let refused = user(&site, windows).expect_err(windows);
            assert!(matches!(refused, LoginError::Backslash), "{windows}: {refused}");
        }
        for nobody in ["", "@", "@Example.ORG", "shanta@", "a\0b"] {
            assert_eq!(of(nobody), None, "{nobody:?}");
        }
    }

    #[test]
    fn encrypted_timestamps_are_off_unless_the_site_says_otherwise() {
        let mut site = Realm { name: "EXAMPLE.ORG".into(), ..Realm::default() };
        assert!(
            profile(&site, Path::new("/ca.pem"))
                .contains("EXAMPLE.ORG = {\ndisable_encrypted_timestamp = true\n")
        );
        site.weak_preauth = true;
        assert!(profile(&site, Path::new("/ca.pem")).contains("disable_encrypted_timestamp = false\n"));
        assert!(
            !profile(&site, Path::new("/ca.pem")).contains("arcfour")
                && !profile(&site, Path::new("/ca.pem")).contains("rc4")
        );
    }
}
