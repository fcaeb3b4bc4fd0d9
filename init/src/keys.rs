//! The kernel's key rings: what a session's user may have left there.
//!
//! Root does not see other users' keys in `/proc/keys`; a thread that takes the user's file-system id does.

use crate::{folder, procs};
use std::{io, path::Path};

/// A line of `/proc/keys`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Key {
    /// Serial number.
    pub id: i32,
    /// The user id that owns it.
    pub user: u32,
    /// `user`, `logon`, `keyring`, …
    pub kind: String,
    /// What follows.
    pub description: String,
}

impl Key {
    /// A key ring that holds nothing.
    pub fn is_empty_ring(&self) -> bool {
        self.kind == "keyring" && self.description.ends_with(": empty")
    }
}

/// Reads the text of `/proc/keys`; lines that are not keys are skipped.
pub fn parse(text: &str) -> Vec<Key> {
    text.lines()
        .filter_map(|line| {
            let mut words = line.split_ascii_whitespace();
            let id = u32::from_str_radix(words.next()?, 16).ok()?.cast_signed();
            let user = words.nth(4)?.parse().ok()?;
            let kind = words.nth(1)?.to_owned();
            Some(Key { id, user, kind, description: words.collect::<Vec<_>>().join(" ") })
        })
        .collect()
}

/// Runs `work` with the file-system user id `user`, in a thread of its own, which ends with that id.
fn as_user<T: Send>(user: u32, work: impl FnOnce() -> T + Send) -> Option<T> {
    std::thread::scope(|scope| {
        let thread = scope.spawn(|| {
            // SAFETY: setfsuid takes an integer and changes only the calling thread's credentials.
            unsafe { libc::setfsuid(user) };
            work()
        });
        thread.join().ok()
    })
}

/// Keys of the session's users that hold something.
///
/// # Errors
/// The kernel's table cannot be read.
pub fn of_session() -> io::Result<Vec<Key>> {
    let mut found = Vec::new();
    for user in procs::SESSION_USERS {
        let text = as_user(user, || folder::text_of(Path::new("/proc/keys")))
            .ok_or_else(|| io::Error::other("the thread that looks for keys failed"))??;
        // A kernel without the table has no keys.
        let keys = parse(&text.unwrap_or_default());
        found.extend(keys.into_iter().filter(|key| key.user == user && !key.is_empty_ring()));
    }
    Ok(found)
}

/// Invalidates the keys of the session's users. What resists, [`of_session`] finds again.
///
/// # Errors
/// The kernel's table cannot be read.
pub fn clear() -> io::Result<()> {
    for key in of_session()? {
        as_user(key.user, || {
            // SAFETY: keyctl with SETPERM takes a serial number and a mask, with INVALIDATE a serial number.
            unsafe {
                libc::syscall(libc::SYS_keyctl, libc::KEYCTL_SETPERM, key.id, 0x3f3f_0000_u32);
                libc::syscall(libc::SYS_keyctl, libc::KEYCTL_INVALIDATE, key.id);
            }
        });
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn reads_the_kernels_table() {
        let text = "0d8d3a0e I--Q---     1 perm 3f010000   101   101 user      krb5cc: 12\n\
                    3a1c9f27 I--Q---     2 perm 1f3f0000   101 65534 keyring   _uid.101: empty\nnonsense\n";
        let keys = parse(text);
        assert_eq!(keys.len(), 2);
        assert_eq!((keys[0].id, keys[0].user, keys[0].kind.as_str()), (0x0d8d_3a0e, 101, "user"));
        assert!(!keys[0].is_empty_ring() && keys[1].is_empty_ring());
    }

    proptest! {
        #[test]
        fn is_total(text in "\\PC*") {
            for key in parse(&text) {
                prop_assert!(!key.kind.contains(' '));
            }
        }
    }
}
