//! The other side of `cached`'s and the VMM's sockets: one line of JSON each way.

use parcel::wire::MAX_LINE;
use serde::{Serialize, de::DeserializeOwned};
use std::{
    io::{self, BufRead, BufReader, Read, Write},
    os::unix::net::UnixStream,
    path::Path,
    time::Duration,
};

/// A connection that speaks lines of JSON.
pub struct Lines(BufReader<UnixStream>);

impl Lines {
    /// Connects, trying again while `alive` says that the server is still coming up.
    ///
    /// # Errors
    /// `alive` said no before the socket was there.
    pub fn connect(path: &Path, alive: impl Fn() -> bool) -> io::Result<Self> {
        loop {
            match UnixStream::connect(path) {
                Ok(stream) => return Ok(Self(BufReader::new(stream))),
                Err(error) if !alive() => return Err(error),
                Err(_) => std::thread::sleep(Duration::from_millis(100)),
            }
        }
    }

    /// Over a connection that is there.
    pub fn new(stream: UnixStream) -> Self {
        Self(BufReader::new(stream))
    }

    /// A second handle on the connection, to hang it up while its owner waits.
    ///
    /// # Errors
    /// No descriptor is left.
    pub fn handle(&self) -> io::Result<UnixStream> {
        self.0.get_ref().try_clone()
    }

    /// Sends one message.
    ///
    /// # Errors
    /// The other side is gone.
    pub fn send(&mut self, message: &impl Serialize) -> io::Result<()> {
        let mut line = serde_json::to_vec(message)?;
        line.push(b'\n');
        self.0.get_mut().write_all(&line)
    }

    /// Receives one message.
    ///
    /// # Errors
    /// `UnexpectedEof`: the other side closed; `InvalidData`: not such a message, or longer than [`MAX_LINE`].
    pub fn receive<T: DeserializeOwned>(&mut self) -> io::Result<T> {
        let mut line = Vec::new();
        (&mut self.0).take(MAX_LINE as u64).read_until(b'\n', &mut line)?;
        if line.pop() != Some(b'\n') {
            let kind = if line.len() + 1 >= MAX_LINE {
                io::ErrorKind::InvalidData
            } else {
                io::ErrorKind::UnexpectedEof
            };
            return Err(kind.into());
        }
        Ok(serde_json::from_slice(&line)?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use parcel::wire::session::Command;

    #[test]
    fn lines_are_bounded_and_an_end_is_told_from_nonsense() {
        let (a, b) = UnixStream::pair().unwrap();
        let (mut a, mut b) = (Lines::new(a), Lines::new(b));
        a.send(&Command::Suspend).unwrap();
        assert_eq!(b.receive::<Command>().unwrap(), Command::Suspend);
        a.0.get_mut().write_all(b"{\"cmd\":\"fly\"}\n").unwrap();
        assert_eq!(b.receive::<Command>().unwrap_err().kind(), io::ErrorKind::InvalidData);
        let flood = std::thread::spawn(move || {
            let _ = a.0.get_mut().write_all(&vec![b'x'; MAX_LINE + 1]);
        });
        assert_eq!(b.receive::<Command>().unwrap_err().kind(), io::ErrorKind::InvalidData);
        drop(b);
        flood.join().unwrap();
        let (a, b) = UnixStream::pair().unwrap();
        drop(a);
        assert_eq!(Lines::new(b).receive::<Command>().unwrap_err().kind(), io::ErrorKind::UnexpectedEof);
    }
}
