//! Who is calling: Kerberos once ([`spnego`]), then a bearer token ([`token`]).

pub mod keytab;
pub mod names;
pub mod spnego;
pub mod token;

/// Is this the form `name@REALM` of a Kerberos principal? The name may have instances (`name/instance`), and an `@` behind a
/// backslash (an enterprise name, `user\\@example.org@REALM`).
pub fn is_principal(text: &str) -> bool {
    text.len() <= 512
        && !text.chars().any(|c| c.is_control() || c.is_whitespace())
        && names::split(text)
            .is_some_and(|(name, realm)| !name.is_empty() && !realm.is_empty() && !realm.contains('@'))
}

#[cfg(test)]
mod tests {
    use super::is_principal;

    #[test]
    fn principals_have_a_name_and_a_realm() {
        assert!(is_principal("shanta@WAYSTATION.TEST"));
        assert!(is_principal("HTTP/parcels.waystation.test@WAYSTATION.TEST"));
        assert!(is_principal("Shanta@Corp.Example"));
        assert!(is_principal("shanta\\@mail.example@CORP.EXAMPLE"));
        for bad in [
            "shanta\\@REALM",
            "shanta@mail.example@REALM",
            "shanta",
            "@REALM",
            "shanta@",
            "a@b@c",
            "sh anta@REALM",
            "shanta@REALM\n",
            "",
        ] {
            assert!(!is_principal(bad), "{bad:?}");
        }
    }
}
