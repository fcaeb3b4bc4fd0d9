//! The other side of `cached`'s and the VMM's sockets.

use sockets::blocking::Connection;
use std::{io, path::Path, time::Duration};

/// Connects, trying again while `alive` says that the server is still coming up.
///
/// # Errors
/// `alive` said no before the socket was there.
pub fn connect(path: &Path, alive: impl Fn() -> bool) -> io::Result<Connection> {
    loop {
        match Connection::connect(path) {
            Err(_) if alive() => std::thread::sleep(Duration::from_millis(100)),
            tried => return tried,
        }
    }
}
