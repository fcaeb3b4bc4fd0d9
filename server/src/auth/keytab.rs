//! Which principals a keytab has keys for, so that a wrong keytab is found at start and named.
//!
//! The format is MIT's file format 5.2 (krb5 documentation, "Keytab file format"): `05 02`, then entries of a signed
//! 32-bit big-endian length, negative for a hole; each begins with the count of name components, the realm and the
//! components, as 16-bit counted strings. The keys that follow are not looked at.

/// A keytab that cannot be read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("not a keytab of format 5.2")]
pub struct NotAKeytab;

/// The principals in a keytab, each once, in order of appearance, as `component/component@REALM`.
///
/// # Errors
/// [`NotAKeytab`].
pub fn principals(bytes: &[u8]) -> Result<Vec<String>, NotAKeytab> {
    let mut rest = bytes.strip_prefix(&[5, 2]).ok_or(NotAKeytab)?;
    let mut found = Vec::new();
    while let Some((length, after)) = rest.split_first_chunk::<4>() {
        let length = i32::from_be_bytes(*length);
        if length == 0 {
            break;
        }
        let size = usize::try_from(length.unsigned_abs()).map_err(|_| NotAKeytab)?;
        let (entry, after) = after.split_at_checked(size).ok_or(NotAKeytab)?;
        rest = after;
        if length > 0 {
            let name = entry_principal(entry).ok_or(NotAKeytab)?;
            if !found.contains(&name) {
                found.push(name);
            }
        }
    }
    Ok(found)
}

fn entry_principal(entry: &[u8]) -> Option<String> {
    let (count, mut rest) = entry.split_first_chunk::<2>()?;
    let mut text = || -> Option<String> {
        let (length, after) = rest.split_first_chunk::<2>()?;
        let (text, after) = after.split_at_checked(u16::from_be_bytes(*length).into())?;
        rest = after;
        Some(String::from_utf8_lossy(text).into_owned())
    };
    let realm = text()?;
    let names = (0..u16::from_be_bytes(*count)).map(|_| text()).collect::<Option<Vec<_>>>()?;
    Some(format!("{}@{realm}", names.join("/")))
}

/// Is `principal` (`HTTP/host@REALM`) the service that the configuration names, with or without a realm? Capital letters
/// make no difference, since host names know none: the keys are all of the same keytab.
pub fn is_service(service: &str, principal: &str) -> bool {
    let same = |name: &str| name.eq_ignore_ascii_case(service);
    same(principal) || principal.rsplit_once('@').is_some_and(|(name, _)| same(name))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn entry(realm: &str, names: &[&str]) -> Vec<u8> {
        let mut body = (names.len() as u16).to_be_bytes().to_vec();
        for text in [&realm].into_iter().chain(names) {
            body.extend((text.len() as u16).to_be_bytes());
            body.extend(text.as_bytes());
        }
        body.extend([0; 20]);
        let mut entry = (body.len() as i32).to_be_bytes().to_vec();
        entry.extend(body);
        entry
    }

    #[test]
    fn names_are_found_past_holes() {
        let mut bytes = vec![5, 2];
        bytes.extend((-3i32).to_be_bytes());
        bytes.extend([9; 3]);
        bytes.extend(entry("R.TEST", &["HTTP", "host.test"]));
        bytes.extend(entry("R.TEST", &["HTTP", "host.test"]));
        bytes.extend(entry("R.TEST", &["host", "host.test"]));
        assert_eq!(principals(&bytes).unwrap(), ["HTTP/host.test@R.TEST", "host/host.test@R.TEST"]);
        assert_eq!(principals(&bytes[..bytes.len() - 1]), Err(NotAKeytab));
        assert_eq!(principals(b"text"), Err(NotAKeytab));
    }

    #[test]
    fn a_service_may_be_named_without_its_realm() {
        assert!(is_service("HTTP/h.t", "HTTP/h.t@R"));
        assert!(is_service("HTTP/h.t@R", "HTTP/h.t@R"));
        assert!(is_service("HTTP/h.t", "HTTP/H.t@Corp.Example"));
        assert!(!is_service("HTTP/h.t@S", "HTTP/h.t@R"));
        assert!(!is_service("HTTP/h", "HTTP/h.t@R"));
    }

    proptest! {
        #[test]
        fn any_bytes_are_read_or_refused(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let _ = principals(&bytes);
            let _ = principals(&[&[5, 2], bytes.as_slice()].concat());
        }
    }
}
