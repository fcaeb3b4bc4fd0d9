//! Lines of JSON over a stream socket, with descriptors as `SCM_RIGHTS`.

use crate::error::{Error, Result};
use nix::{
    cmsg_space,
    sys::socket::{ControlMessage, ControlMessageOwned, MsgFlags, recvmsg, sendmsg},
};
use parcel::wire::MAX_LINE;
use serde::{Serialize, de::DeserializeOwned};
use std::{
    fs::File,
    io::{IoSlice, IoSliceMut, Write},
    os::{
        fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd},
        unix::net::UnixStream,
    },
};

/// Most descriptors that a peer may send with one line.
const DESCRIPTORS: usize = 4;
/// Most that the kernel passes at once (`SCM_MAX_FD`). Room for fewer would leave those of a peer that sends too many open,
/// and unknown to anybody.
const DESCRIPTORS_AT_ONCE: usize = 253;

/// A socket that speaks in lines.
pub struct LineSocket {
    stream: UnixStream,
    peer: &'static str,
    unread: Vec<u8>,
    files: Vec<File>,
}

impl LineSocket {
    /// A connected socket; `peer` names the other side in errors.
    pub fn new(stream: UnixStream, peer: &'static str) -> Self {
        Self { stream, peer, unread: Vec::new(), files: Vec::new() }
    }

    /// The stream.
    pub fn stream(&self) -> &UnixStream {
        &self.stream
    }

    /// Sends a message with descriptors.
    ///
    /// # Errors
    /// The peer has gone.
    pub fn send<T: Serialize>(&mut self, message: &T, files: &[BorrowedFd]) -> Result<()> {
        let mut line = serde_json::to_vec(message).map_err(|e| self.broken(e.to_string()))?;
        line.push(b'\n');
        let fds: Vec<_> = files.iter().map(AsRawFd::as_raw_fd).collect();
        let rights = [ControlMessage::ScmRights(&fds)];
        let control: &[ControlMessage] = if fds.is_empty() { &[] } else { &rights };
        let parts = [IoSlice::new(&line)];
        let sent = sendmsg::<()>(self.stream.as_raw_fd(), &parts, control, MsgFlags::MSG_NOSIGNAL, None)
            .map_err(|e| self.lost(e))?;
        // Descriptors have gone with the first bytes.
        (&self.stream).write_all(&line[sent..]).map_err(|e| self.lost(e))
    }

    /// Waits for a message; with it the descriptors that came.
    ///
    /// # Errors
    /// The peer has gone, or sent something that is no message.
    pub fn receive<T: DeserializeOwned>(&mut self) -> Result<(T, Vec<File>)> {
        loop {
            if let Some(line) = self.take_line() {
                let message = serde_json::from_slice(&line).map_err(|e| self.broken(e.to_string()))?;
                return Ok((message, std::mem::take(&mut self.files)));
            }
            if self.fill()? == 0 {
                return Err(Error::Gone(self.peer));
            }
        }
    }

    /// Takes what has arrived; 0 at the end of the stream.
    ///
    /// # Errors
    /// The peer has gone, or sends without ever ending a line.
    pub fn fill(&mut self) -> Result<usize> {
        if self.unread.len() > MAX_LINE {
            return Err(self.broken(format!("a line is longer than {MAX_LINE} bytes")));
        }
        let mut piece = [0; 4096];
        let mut control = cmsg_space!([std::os::fd::RawFd; DESCRIPTORS_AT_ONCE]);
        let mut parts = [IoSliceMut::new(&mut piece)];
        let flags = MsgFlags::MSG_CMSG_CLOEXEC;
        let (count, files) = loop {
            match recvmsg::<()>(self.stream.as_raw_fd(), &mut parts, Some(&mut control), flags) {
                Err(nix::errno::Errno::EINTR) => {}
                Err(e) => return Err(self.lost(e)),
                Ok(received) => {
                    let mut files = Vec::new();
                    for message in received.cmsgs().map_err(|e| self.lost(e))? {
                        if let ControlMessageOwned::ScmRights(fds) = message {
                            // SAFETY: the kernel has just made these descriptors for this process, and nothing else
                            // knows them.
                            files.extend(
                                fds.into_iter().map(|fd| File::from(unsafe { OwnedFd::from_raw_fd(fd) })),
                            );
                        }
                    }
                    break (received.bytes, files);
                }
            }
        };
        self.files.extend(files);
        if self.files.len() > DESCRIPTORS {
            return Err(self.broken("it sent too many descriptors".into()));
        }
        self.unread.extend_from_slice(&piece[..count]);
        Ok(count)
    }

    /// Takes a whole line that has arrived, without its end.
    pub fn take_line(&mut self) -> Option<Vec<u8>> {
        let end = self.unread.iter().position(|b| *b == b'\n')?;
        let mut line: Vec<u8> = self.unread.drain(..=end).collect();
        line.pop();
        Some(line)
    }

    fn broken(&self, what: String) -> Error {
        Error::Protocol { peer: self.peer, what }
    }

    fn lost<E: Into<std::io::Error>>(&self, e: E) -> Error {
        Error::Io { what: format!("talking to {}", self.peer), cause: e.into() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use parcel::wire::vmm::{GuestState, Reply};
    use std::os::fd::AsFd;

    fn pair() -> (LineSocket, LineSocket) {
        let (a, b) = UnixStream::pair().unwrap();
        (LineSocket::new(a, "a test"), LineSocket::new(b, "a test"))
    }

    #[test]
    fn a_message_arrives_with_its_descriptors() {
        let (mut a, mut b) = pair();
        let file = tempfile::tempfile().unwrap();
        a.send(&Reply::Status { state: GuestState::Paused }, &[file.as_fd(), file.as_fd()]).unwrap();
        a.send(&Reply::Ok, &[]).unwrap();
        let (first, files): (Reply, _) = b.receive().unwrap();
        assert!(matches!(first, Reply::Status { state: GuestState::Paused }));
        assert_eq!(files.len(), 2);
        let (second, files): (Reply, _) = b.receive().unwrap();
        assert!(matches!(second, Reply::Ok));
        assert!(files.is_empty());
    }

    #[test]
    fn garbage_a_hang_up_and_an_endless_line_are_errors() {
        let (a, mut b) = pair();
        (&a.stream).write_all(b"{\"reply\":\"nonsense\"}\n").unwrap();
        assert!(b.receive::<Reply>().is_err());
        drop(a);
        assert!(b.receive::<Reply>().is_err());
        let (a, mut b) = pair();
        let writer = std::thread::spawn(move || {
            let _ = (&a.stream).write_all(&vec![b'x'; 3 * MAX_LINE]);
        });
        let why = b.receive::<Reply>().unwrap_err().to_string();
        assert!(why.contains("longer than"), "{why}");
        drop(b);
        writer.join().unwrap();
    }
}
