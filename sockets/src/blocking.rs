//! The front end that waits.

use crate::{
    CHUNK, MAX_DESCRIPTORS,
    codec::{Decoder, encode},
    error::{Broken, Error},
    transfer,
};
use serde::{Serialize, de::DeserializeOwned};
use std::{
    io,
    os::{
        fd::{BorrowedFd, OwnedFd},
        unix::net::UnixStream,
    },
    path::Path,
};
use zeroize::Zeroizing;

/// A connection that speaks in lines.
pub struct Connection {
    stream: UnixStream,
    decoder: Decoder<OwnedFd>,
}

impl Connection {
    /// Over a connected socket. Whoever sends descriptors over it breaks it.
    pub fn new(stream: UnixStream) -> Self {
        Self { stream, decoder: Decoder::new(0) }
    }

    /// Over a connected socket on which lines bring up to [`MAX_DESCRIPTORS`] descriptors.
    pub fn with_descriptors(stream: UnixStream) -> Self {
        Self { stream, decoder: Decoder::new(MAX_DESCRIPTORS) }
    }

    /// Connects to the socket at `path`, for lines without descriptors.
    ///
    /// # Errors
    /// Nobody listens.
    pub fn connect(path: &Path) -> io::Result<Self> {
        Ok(Self::new(UnixStream::connect(path)?))
    }

    /// The stream.
    pub fn stream(&self) -> &UnixStream {
        &self.stream
    }

    /// Sends a message.
    ///
    /// # Errors
    /// The peer has gone, or no connection takes so long a message.
    pub fn send<T: Serialize + ?Sized>(&self, message: &T) -> Result<(), Error> {
        self.send_with(message, &[])
    }

    /// Sends a message with descriptors.
    ///
    /// # Errors
    /// As [`Connection::send`].
    pub fn send_with<T: Serialize + ?Sized>(
        &self,
        message: &T,
        descriptors: &[BorrowedFd],
    ) -> Result<(), Error> {
        Ok(send_line(&self.stream, &encode(message)?, descriptors)?)
    }

    /// Waits for a message. Descriptors that came with it are closed.
    ///
    /// # Errors
    /// See [`Error`].
    pub fn receive<T: DeserializeOwned>(&mut self) -> Result<T, Error> {
        Ok(self.receive_with()?.0)
    }

    /// Waits for a message and its descriptors.
    ///
    /// # Errors
    /// See [`Error`].
    pub fn receive_with<T: DeserializeOwned>(&mut self) -> Result<(T, Vec<OwnedFd>), Error> {
        loop {
            if let Some(line) = self.decoder.take()? {
                return line.parse();
            }
            if !self.read()? {
                return Err(self.decoder.end());
            }
        }
    }

    /// Takes in what has arrived, for a server that polls; [`Connection::take`] gives the messages.
    ///
    /// # Errors
    /// The peer has gone, or sends although its last messages wait to be taken.
    pub fn fill(&mut self) -> Result<(), Error> {
        if !self.decoder.has_room() {
            return Err(Broken::Flood.into());
        }
        match self.read()? {
            true => Ok(()),
            false => Err(self.decoder.end()),
        }
    }

    /// Takes a message that has arrived whole.
    ///
    /// # Errors
    /// See [`Error`].
    pub fn take<T: DeserializeOwned>(&mut self) -> Result<Option<T>, Error> {
        self.decoder.take()?.map(|line| Ok(line.parse()?.0)).transpose()
    }

    /// `false` at the end of the stream.
    fn read(&mut self) -> io::Result<bool> {
        let mut chunk = Zeroizing::new([0; CHUNK]);
        let got = transfer::receive(&self.stream, &mut *chunk, self.decoder.most() > 0)?;
        self.decoder.push(&chunk[..got.bytes], got.descriptors, got.lost);
        Ok(got.bytes > 0)
    }
}

/// Sends a line that is encoded already, for a server that tells several the same.
///
/// # Errors
/// The peer has gone, or does not read for as long as the stream's time limit.
pub fn send_line(stream: &UnixStream, line: &[u8], descriptors: &[BorrowedFd]) -> io::Result<()> {
    let mut sent = 0;
    while sent < line.len() {
        // Descriptors have gone with the first bytes.
        let descriptors = if sent == 0 { descriptors } else { &[] };
        sent += transfer::send(stream, &line[sent..], descriptors)?;
    }
    Ok(())
}
