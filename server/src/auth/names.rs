//! Which names are the same person's.
//!
//! Kerberos compares names exactly, and so does this server, but for realms of which the configuration says otherwise:
//! Active Directory takes `Shanta` and `shanta` for one user and puts into the ticket what was typed. Names of such
//! realms have one form here, given to every name where it comes in: from a ticket, a token, a request, the
//! configuration and the store.

use std::collections::BTreeSet;

/// The realms in which capital letters make no difference.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Realms {
    insensitive: BTreeSet<String>,
}

impl Realms {
    /// These do not tell capital letters from small ones.
    pub fn insensitive(realms: impl IntoIterator<Item = String>) -> Self {
        Self { insensitive: realms.into_iter().map(|realm| realm.to_uppercase()).collect() }
    }

    /// The one form of a principal: itself, or small letters before a realm in capitals.
    pub fn canonical(&self, principal: &str) -> String {
        if let Some((name, realm)) = split(principal) {
            let realm = realm.to_uppercase();
            if self.insensitive.contains(&realm) {
                return format!("{}@{realm}", name.to_lowercase());
            }
        }
        principal.to_owned()
    }
}

/// Name and realm of a principal: `\@` belongs to the name, as in `user\@example.org@REALM` (an enterprise name), and so
/// does whatever else a backslash precedes.
pub fn split(principal: &str) -> Option<(&str, &str)> {
    let mut escaped = false;
    for (at, c) in principal.char_indices() {
        match c {
            _ if escaped => escaped = false,
            '\\' => escaped = true,
            '@' => return Some((&principal[..at], &principal[at + 1..])),
            _ => {}
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_exact_unless_their_realm_is_not() {
        let realms = Realms::insensitive(["Corp.Example".to_owned()]);
        assert_eq!(realms.canonical("Shanta@corp.example"), "shanta@CORP.EXAMPLE");
        assert_eq!(realms.canonical("ÜNAL\\@Mail.Example@CORP.EXAMPLE"), "ünal\\@mail.example@CORP.EXAMPLE");
        assert_eq!(realms.canonical("Shanta@EXAMPLE"), "Shanta@EXAMPLE");
        assert_eq!(realms.canonical("Shanta@Example"), "Shanta@Example");
        assert_eq!(Realms::default().canonical("Shanta@corp.example"), "Shanta@corp.example");
    }
}
