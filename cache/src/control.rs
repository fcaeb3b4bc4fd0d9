//! Client of `cached.sock`, blocking and asynchronous, for `init` and `kiosk-ui`.

use parcel::wire::{
    MAX_LINE, WireError,
    daemon::{Reply, Request, Status},
};
use std::{
    io::{self, BufRead, BufReader, Read, Write},
    os::unix::net::UnixStream,
    path::Path,
};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt};
use zeroize::Zeroizing;

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
            other => WireError::new("cache-service", other.to_string()),
        }
    }
}

/// The line of a request. With room for every secret from the start: a buffer that grows leaves a copy behind.
fn line_of(request: &Request) -> io::Result<Zeroizing<Vec<u8>>> {
    const ROOM: usize = 16 << 10;
    let mut line = Zeroizing::new(Vec::with_capacity(ROOM));
    serde_json::to_writer(&mut *line, request)?;
    line.push(b'\n');
    Ok(line)
}

fn parse(line: &[u8]) -> Result<Reply, ControlError> {
    if line.last() != Some(&b'\n') {
        return Err(io::Error::from(io::ErrorKind::UnexpectedEof).into());
    }
    match serde_json::from_slice(line).map_err(io::Error::from)? {
        Reply::Error(error) => Err(error.into()),
        reply => Ok(reply),
    }
}

/// A blocking connection to `cached`.
pub struct Client {
    stream: BufReader<UnixStream>,
}

impl Client {
    /// Connects to the socket at `path`.
    pub fn connect(path: &Path) -> io::Result<Self> {
        Ok(Self { stream: BufReader::new(UnixStream::connect(path)?) })
    }

    /// Asks, and waits for the answer; an error that `cached` answers is `Err`.
    pub fn ask(&mut self, request: &Request) -> Result<Reply, ControlError> {
        self.stream.get_mut().write_all(&line_of(request)?)?;
        self.read()
    }

    /// The next line, for [`Request::Watch`].
    pub fn read(&mut self) -> Result<Reply, ControlError> {
        let mut line = Vec::new();
        let limit = MAX_LINE as u64 + 1;
        Read::take(&mut self.stream, limit).read_until(b'\n', &mut line)?;
        parse(&line)
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
pub struct AsyncClient {
    input: tokio::io::BufReader<tokio::net::unix::OwnedReadHalf>,
    write: tokio::net::unix::OwnedWriteHalf,
}

impl AsyncClient {
    /// Connects to the socket at `path`.
    pub async fn connect(path: &Path) -> io::Result<Self> {
        let (read, write) = tokio::net::UnixStream::connect(path).await?.into_split();
        Ok(Self { input: tokio::io::BufReader::new(read), write })
    }

    /// Asks, and waits for the answer; an error that `cached` answers is `Err`.
    pub async fn ask(&mut self, request: &Request) -> Result<Reply, ControlError> {
        self.write.write_all(&line_of(request)?).await?;
        self.read().await
    }

    /// The next line, for [`Request::Watch`].
    pub async fn read(&mut self) -> Result<Reply, ControlError> {
        let mut line = Vec::new();
        (&mut self.input).take(MAX_LINE as u64 + 1).read_until(b'\n', &mut line).await?;
        parse(&line)
    }
}
