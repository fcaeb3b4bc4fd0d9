//! The front end for tokio. Nothing is lost when a future of it is dropped, except of a message half sent.

use crate::{
    CHUNK, MAX_DESCRIPTORS,
    codec::{Decoder, encode},
    error::Error,
    listen::{Access, Peers, bind},
    transfer,
};
use serde::{Serialize, de::DeserializeOwned};
use std::{
    io,
    os::fd::{BorrowedFd, OwnedFd},
    path::Path,
    sync::Arc,
    time::Duration,
};
use tokio::{
    io::Interest,
    net::{UnixListener, UnixStream},
};
use zeroize::Zeroizing;

/// How long a listener that cannot take a connection pauses.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// The half of a connection that receives.
pub struct Receiver {
    stream: Arc<UnixStream>,
    decoder: Decoder<OwnedFd>,
}

/// The half of a connection that sends.
pub struct Sender {
    stream: Arc<UnixStream>,
}

/// A connection that speaks in lines. Its fields may be used apart.
pub struct Connection {
    /// The half that reads lines.
    pub receiver: Receiver,
    /// The half that writes lines.
    pub sender: Sender,
}

impl Connection {
    /// Over a connected socket. Whoever sends descriptors over it breaks it.
    pub fn new(stream: UnixStream) -> Self {
        Self::taking(stream, 0)
    }

    /// Over a connected socket on which lines bring up to [`MAX_DESCRIPTORS`] descriptors.
    pub fn with_descriptors(stream: UnixStream) -> Self {
        Self::taking(stream, MAX_DESCRIPTORS)
    }

    fn taking(stream: UnixStream, descriptors: usize) -> Self {
        let stream = Arc::new(stream);
        Self {
            receiver: Receiver { stream: Arc::clone(&stream), decoder: Decoder::new(descriptors) },
            sender: Sender { stream },
        }
    }

    /// Connects to the socket at `path`, for lines without descriptors.
    ///
    /// # Errors
    /// Nobody listens.
    pub async fn connect(path: &Path) -> io::Result<Self> {
        Ok(Self::new(UnixStream::connect(path).await?))
    }

    /// Sends a message.
    ///
    /// # Errors
    /// As [`Sender::send_with`].
    pub async fn send<T: Serialize + ?Sized>(&self, message: &T) -> Result<(), Error> {
        self.sender.send_with(message, &[]).await
    }

    /// Sends a message with descriptors.
    ///
    /// # Errors
    /// As [`Sender::send_with`].
    pub async fn send_with<T: Serialize + ?Sized>(
        &self,
        message: &T,
        descriptors: &[BorrowedFd<'_>],
    ) -> Result<(), Error> {
        self.sender.send_with(message, descriptors).await
    }

    /// Waits for a message. Descriptors that came with it are closed.
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn receive<T: DeserializeOwned>(&mut self) -> Result<T, Error> {
        self.receiver.receive().await
    }

    /// Waits for a message and its descriptors.
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn receive_with<T: DeserializeOwned>(&mut self) -> Result<(T, Vec<OwnedFd>), Error> {
        self.receiver.receive_with().await
    }

    /// Ends when the other side has closed; what it sends meanwhile is kept for [`Connection::receive`].
    pub async fn gone(&mut self) {
        self.receiver.gone().await;
    }
}

impl Receiver {
    /// As [`Connection::receive`].
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn receive<T: DeserializeOwned>(&mut self) -> Result<T, Error> {
        Ok(self.receive_with().await?.0)
    }

    /// As [`Connection::receive_with`].
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn receive_with<T: DeserializeOwned>(&mut self) -> Result<(T, Vec<OwnedFd>), Error> {
        loop {
            if let Some(line) = self.decoder.take()? {
                return line.parse();
            }
            if !self.read().await? {
                return Err(self.decoder.end());
            }
        }
    }

    /// As [`Connection::gone`].
    pub async fn gone(&mut self) {
        while self.decoder.has_room() {
            if let Ok(false) | Err(_) = self.read().await {
                return;
            }
        }
        // Who sends more than is kept is not watched any more: the next message shows how it is.
        std::future::pending().await
    }

    /// `false` at the end of the stream.
    async fn read(&mut self) -> io::Result<bool> {
        let Self { stream, decoder } = self;
        let stream: &UnixStream = stream;
        let descriptors = decoder.most() > 0;
        let read = || {
            let mut chunk = Zeroizing::new([0; CHUNK]);
            let got = transfer::receive(stream, &mut *chunk, descriptors)?;
            decoder.push(&chunk[..got.bytes], got.descriptors, got.lost);
            Ok(got.bytes > 0)
        };
        stream.async_io(Interest::READABLE, read).await
    }
}

impl Sender {
    /// Sends a message.
    ///
    /// # Errors
    /// As [`Sender::send_with`].
    pub async fn send<T: Serialize + ?Sized>(&self, message: &T) -> Result<(), Error> {
        self.send_with(message, &[]).await
    }

    /// Sends a message with descriptors.
    ///
    /// # Errors
    /// The peer has gone, or no connection takes so long a message.
    pub async fn send_with<T: Serialize + ?Sized>(
        &self,
        message: &T,
        descriptors: &[BorrowedFd<'_>],
    ) -> Result<(), Error> {
        let line = encode(message)?;
        let mut sent = 0;
        while sent < line.len() {
            // Descriptors have gone with the first bytes.
            let descriptors = if sent == 0 { descriptors } else { &[] };
            let send = || transfer::send(&self.stream, &line[sent..], descriptors);
            sent += self.stream.async_io(Interest::WRITABLE, send).await?;
        }
        Ok(())
    }
}

/// A socket that waits for its peers.
pub struct Listener {
    socket: UnixListener,
    peers: Peers,
}

impl Listener {
    /// Makes the socket at `path`, for `peers` out of its group.
    ///
    /// # Errors
    /// The socket cannot be made.
    pub fn bind(path: &Path, peers: Peers) -> io::Result<Self> {
        let socket = bind(path, Access::Group)?;
        socket.set_nonblocking(true)?;
        Ok(Self { socket: UnixListener::from_std(socket)?, peers })
    }

    /// The next connection of somebody who may connect. A listener that cannot take one now, for want of descriptors or
    /// memory, can later: whoever serves a session must not end for it.
    pub async fn accept(&self) -> UnixStream {
        loop {
            match self.socket.accept().await {
                Ok((stream, _)) if self.peers.admit(&stream) => return stream,
                Ok(_) => tracing::warn!("a program that has no business here is turned away"),
                Err(error) => {
                    tracing::warn!(%error, "a connection cannot be taken");
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                }
            }
        }
    }
}
