//! Requests under way, so that they can be hung up on.

use crate::client::connect;
use serde::{Serialize, de::DeserializeOwned};
use std::{
    collections::BTreeMap,
    io,
    net::Shutdown,
    os::unix::net::UnixStream,
    path::Path,
    sync::{Arc, Mutex, PoisonError},
};

/// The requests under way, by ticket. Cheap to clone.
#[derive(Clone, Default)]
pub struct Calls(Arc<Mutex<BTreeMap<u64, Option<UnixStream>>>>);

impl Calls {
    /// Notes that a request begins. One that is hung up on before it is connected is never sent.
    pub fn begin(&self, ticket: u64) {
        self.lock().insert(ticket, None);
    }

    /// Connects, asks, and waits for the answer. `alive`: the server is running or still coming up.
    ///
    /// # Errors
    /// `ConnectionAborted`: hung up on by [`Calls::cancel`]; otherwise the server is gone or talks nonsense.
    pub fn ask<T: DeserializeOwned>(
        &self,
        ticket: u64,
        path: &Path,
        request: &impl Serialize,
        alive: impl Fn() -> bool,
    ) -> io::Result<T> {
        let answer = self.converse(ticket, path, request, alive);
        match self.lock().remove(&ticket) {
            Some(_) => answer,
            None => Err(io::ErrorKind::ConnectionAborted.into()),
        }
    }

    fn converse<T: DeserializeOwned>(
        &self,
        ticket: u64,
        path: &Path,
        request: &impl Serialize,
        alive: impl Fn() -> bool,
    ) -> io::Result<T> {
        let wanted = || self.lock().contains_key(&ticket);
        let mut server = connect(path, || alive() && wanted())?;
        match self.lock().get_mut(&ticket) {
            Some(handle) => *handle = Some(server.stream().try_clone()?),
            None => return Err(io::ErrorKind::ConnectionAborted.into()),
        }
        server.send(request)?;
        Ok(server.receive()?)
    }

    /// Hangs up on all.
    pub fn cancel(&self) {
        for (_, handle) in std::mem::take(&mut *self.lock()) {
            if let Some(stream) = handle {
                let _ = stream.shutdown(Shutdown::Both);
            }
        }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, BTreeMap<u64, Option<UnixStream>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use sockets::{Error, blocking::Connection};
    use std::os::unix::net::UnixListener;

    #[test]
    fn the_other_side_sees_a_cancelled_request_end() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("socket");
        let listener = UnixListener::bind(&path).unwrap();
        let calls = Calls::default();
        calls.begin(1);
        let asking = calls.clone();
        let asked = std::thread::spawn(move || asking.ask::<String>(1, &path, &"question", || true));
        let mut server = Connection::new(listener.accept().unwrap().0);
        assert_eq!(server.receive::<String>().unwrap(), "question");
        calls.cancel();
        assert!(matches!(server.receive::<String>(), Err(Error::Closed)));
        assert_eq!(asked.join().unwrap().unwrap_err().kind(), io::ErrorKind::ConnectionAborted);
    }

    #[test]
    fn a_request_cancelled_before_it_was_sent_is_not_sent() {
        let folder = tempfile::tempdir().unwrap();
        let calls = Calls::default();
        calls.begin(1);
        calls.cancel();
        let path = folder.path().join("nobody");
        let answer = calls.ask::<String>(1, &path, &"question", || true);
        assert_eq!(answer.unwrap_err().kind(), io::ErrorKind::ConnectionAborted);
    }
}
