//! Client of `cached.sock`, blocking and asynchronous, for `init` and `kiosk-ui`.

use parcel::wire::{
    Code, WireError,
    daemon::{Reply, Request, Status},
};
use sockets::{asynchronous, blocking};
use std::{io, path::Path};

/// Why a request to `cached` did not succeed.
#[derive(Debug, thiserror::Error)]
pub enum ControlError {
    /// The socket failed, or `cached` is gone.
    #[error(
        "the cache service does not answer ({0}); log in again, and restart the kiosk if that does not help"
    )]
    Io(#[from] io::Error),
    /// The answer is not one that fits the request.
    #[error(
        "the cache service answered something else than was asked; this kiosk's image is mixed: build it again"
    )]
    Unexpected,
    /// `cached` says no.
    #[error(transparent)]
    Refused(#[from] WireError),
}

impl ControlError {
    /// The error as it travels on.
    pub fn to_wire(&self) -> WireError {
        match self {
            Self::Refused(error) => error.clone(),
            other => WireError::new(Code::CacheService, other.to_string()),
        }
    }
}

impl From<sockets::Error> for ControlError {
    fn from(error: sockets::Error) -> Self {
        match error {
            sockets::Error::NotUnderstood(_) => Self::Unexpected,
            other => Self::Io(other.into()),
        }
    }
}

fn accepted(reply: Reply) -> Result<Reply, ControlError> {
    match reply {
        Reply::Error(error) => Err(error.into()),
        reply => Ok(reply),
    }
}

/// A blocking connection to `cached`.
pub struct Client(blocking::Connection);

impl Client {
    /// Connects to the socket at `path`.
    pub fn connect(path: &Path) -> io::Result<Self> {
        Ok(Self(blocking::Connection::connect(path)?))
    }

    /// Asks, and waits for the answer; an error that `cached` answers is `Err`.
    pub fn ask(&mut self, request: &Request) -> Result<Reply, ControlError> {
        self.0.send(request)?;
        self.read()
    }

    /// The next line, for [`Request::Watch`].
    pub fn read(&mut self) -> Result<Reply, ControlError> {
        accepted(self.0.receive()?)
    }

    /// How things are.
    pub fn status(&mut self) -> Result<Status, ControlError> {
        match self.ask(&Request::Status)? {
            Reply::Status(status) => Ok(status),
            _ => Err(ControlError::Unexpected),
        }
    }
}

/// An asynchronous connection to `cached`.
pub struct AsyncClient(asynchronous::Connection);

impl AsyncClient {
    /// Connects to the socket at `path`.
    pub async fn connect(path: &Path) -> io::Result<Self> {
        Ok(Self(asynchronous::Connection::connect(path).await?))
    }

    /// Asks, and waits for the answer; an error that `cached` answers is `Err`.
    pub async fn ask(&mut self, request: &Request) -> Result<Reply, ControlError> {
        self.0.send(request).await?;
        self.read().await
    }

    /// The next line, for [`Request::Watch`].
    pub async fn read(&mut self) -> Result<Reply, ControlError> {
        accepted(self.0.receive().await?)
    }
}
