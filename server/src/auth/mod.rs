//! Who is calling: Kerberos once ([`spnego`]), then a bearer token ([`token`]).

pub mod keytab;
pub mod spnego;
pub mod token;

/// Is this the canonical form `name@REALM` (or `name/instance@REALM`) of a Kerberos principal?
pub fn is_principal(text: &str) -> bool {
    text.len() <= 512
        && !text.chars().any(|c| c.is_control() || c.is_whitespace())
        && text
            .split_once('@')
            .is_some_and(|(name, realm)| !name.is_empty() && !realm.is_empty() && !realm.contains('@'))
}

#[cfg(test)]
mod tests {
    use super::is_principal;

    #[test]
    fn principals_have_a_name_and_a_realm() {
        assert!(is_principal("shanta@WAYSTATION.TEST"));
        assert!(is_principal("HTTP/parcels.waystation.test@WAYSTATION.TEST"));
        for bad in ["shanta", "@REALM", "shanta@", "a@b@c", "sh anta@REALM", "shanta@REALM\n", ""] {
            assert!(!is_principal(bad), "{bad:?}");
        }
    }
}
