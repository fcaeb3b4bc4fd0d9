//! How a local socket is made, and who may connect to it.

use nix::{
    sys::socket::{getsockopt, sockopt::PeerCredentials},
    unistd::geteuid,
};
use std::{
    fs, io,
    os::{
        fd::AsFd,
        unix::{fs::PermissionsExt as _, net::UnixListener},
    },
    path::Path,
};

/// To whom the kernel lets a socket be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Access {
    /// Its user and its group. The run folder is set-group-ID, so that is the group of the session's programs.
    Group,
    /// Its user, and root.
    User,
}

/// Listens on a fresh socket at `path`. One that an earlier process left is removed.
///
/// # Errors
/// The socket cannot be made.
pub fn bind(path: &Path, access: Access) -> io::Result<UnixListener> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let mode = match access {
        Access::Group => 0o660,
        Access::User => 0o600,
    };
    let listener = UnixListener::bind(path)?;
    fs::set_permissions(path, fs::Permissions::from_mode(mode))?;
    Ok(listener)
}

/// The users whose connections are taken. All programs of a session are in the group that may connect to its sockets, and
/// what the VMM runs is not trusted.
#[derive(Debug, Clone)]
pub struct Peers(Vec<u32>);

impl Peers {
    /// Root, this process's own user, and `others`.
    pub fn new(others: impl IntoIterator<Item = u32>) -> Self {
        Self([0, geteuid().as_raw()].into_iter().chain(others).collect())
    }

    /// Exactly these users.
    pub fn only(users: impl IntoIterator<Item = u32>) -> Self {
        Self(users.into_iter().collect())
    }

    /// Whether the other side of a connection is one of them (`SO_PEERCRED`: who it was when it connected).
    pub fn admit(&self, stream: &impl AsFd) -> bool {
        getsockopt(stream, PeerCredentials).is_ok_and(|peer| self.0.contains(&peer.uid()))
    }
}
