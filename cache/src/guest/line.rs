//! One line of JSON per message, with descriptors riding along, on a stream socket.

use nix::{
    cmsg_space,
    sys::socket::{ControlMessage, ControlMessageOwned, MsgFlags, recv, recvmsg, sendmsg},
};
use parcel::wire::MAX_LINE;
use serde::{Serialize, de::DeserializeOwned};
use std::{
    io::{self, IoSlice, IoSliceMut},
    os::fd::{AsRawFd as _, FromRawFd as _, OwnedFd, RawFd},
};
use tokio::{io::Interest, net::UnixStream};

/// The most descriptors that come with a line.
const MAX_FDS: usize = 4;

/// A connection that carries lines with descriptors.
pub struct Connection {
    stream: UnixStream,
    bytes: Vec<u8>,
    fds: Vec<OwnedFd>,
}

impl Connection {
    /// Over a connected socket.
    pub fn new(stream: UnixStream) -> Self {
        Self { stream, bytes: Vec::new(), fds: Vec::new() }
    }

    /// The next message and its descriptors; `None` at the end.
    pub async fn receive<T: DeserializeOwned>(&mut self) -> io::Result<Option<(T, Vec<OwnedFd>)>> {
        loop {
            if let Some(end) = self.bytes.iter().position(|byte| *byte == b'\n') {
                let line: Vec<u8> = self.bytes.drain(..=end).collect();
                let message = serde_json::from_slice(&line)?;
                return Ok(Some((message, std::mem::take(&mut self.fds))));
            }
            if self.bytes.len() > MAX_LINE {
                return Err(io::Error::new(io::ErrorKind::InvalidData, "a line longer than any"));
            }
            let (bytes, fds) = self.stream.async_io(Interest::READABLE, || read(&self.stream)).await?;
            self.fds.extend(fds);
            if self.fds.len() > MAX_FDS {
                return Err(io::Error::new(
                    io::ErrorKind::InvalidData,
                    "more descriptors than any message has",
                ));
            }
            if bytes.is_empty() {
                return match self.bytes.is_empty() {
                    true => Ok(None),
                    false => Err(io::ErrorKind::UnexpectedEof.into()),
                };
            }
            self.bytes.extend(bytes);
        }
    }

    /// Ends when the other side has closed; what it has sent is left for [`Connection::receive`].
    pub async fn gone(&self) {
        let peek = || {
            let mut byte = [0];
            Ok(recv(self.stream.as_raw_fd(), &mut byte, MsgFlags::MSG_PEEK)?)
        };
        if let Ok(1..) = self.stream.async_io(Interest::READABLE, peek).await {
            std::future::pending().await
        }
    }

    /// Sends a message with descriptors.
    pub async fn send<T: Serialize>(&mut self, message: &T, fds: &[OwnedFd]) -> io::Result<()> {
        let mut line = serde_json::to_vec(message)?;
        line.push(b'\n');
        let raw: Vec<RawFd> = fds.iter().map(|fd| fd.as_raw_fd()).collect();
        let mut sent = 0;
        while sent < line.len() {
            let fds: &[RawFd] = if sent == 0 { &raw } else { &[] };
            let rest = &line[sent..];
            sent += self.stream.async_io(Interest::WRITABLE, || write(&self.stream, rest, fds)).await?;
        }
        Ok(())
    }
}

fn read(stream: &UnixStream) -> io::Result<(Vec<u8>, Vec<OwnedFd>)> {
    let mut bytes = vec![0; 4096];
    let mut space = cmsg_space!([RawFd; MAX_FDS]);
    let mut iov = [IoSliceMut::new(&mut bytes)];
    let message = recvmsg::<()>(stream.as_raw_fd(), &mut iov, Some(&mut space), MsgFlags::MSG_CMSG_CLOEXEC)?;
    let mut fds = Vec::new();
    for control in message.cmsgs()? {
        if let ControlMessageOwned::ScmRights(raw) = control {
            // SAFETY: the kernel has just made these descriptors for this process, and nobody else has them.
            fds.extend(raw.into_iter().map(|fd| unsafe { OwnedFd::from_raw_fd(fd) }));
        }
    }
    let len = message.bytes;
    bytes.truncate(len);
    Ok((bytes, fds))
}

fn write(stream: &UnixStream, bytes: &[u8], fds: &[RawFd]) -> io::Result<usize> {
    let rights = [ControlMessage::ScmRights(fds)];
    let control = if fds.is_empty() { &[][..] } else { &rights[..] };
    Ok(sendmsg::<()>(stream.as_raw_fd(), &[IoSlice::new(bytes)], control, MsgFlags::MSG_NOSIGNAL, None)?)
}
