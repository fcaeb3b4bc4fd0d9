//! What goes wrong on a local socket.

use crate::MAX_LINE;
use std::io;

/// Why a connection cannot go on: where its next message begins is not known any more, or must not matter.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Broken {
    /// A line has more than [`MAX_LINE`] bytes.
    #[error("a line is longer than {MAX_LINE} bytes")]
    LineTooLong,
    /// A line came with more descriptors than it may have.
    #[error("a line came with more than {0} descriptors")]
    TooManyDescriptors(usize),
    /// The kernel could not hand over all descriptors of a line: the table of this process is full.
    #[error("descriptors were lost on the way: this program has no room for more open files")]
    DescriptorsLost,
    /// The stream ended within a line.
    #[error("the connection ended in the middle of a line")]
    Unfinished,
    /// Lines come, and none is waited for to be answered.
    #[error("more came than one line while none could be taken")]
    Flood,
}

/// Why there is no message.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The other side closed the connection, between two messages.
    #[error("the connection was closed")]
    Closed,
    /// A whole line came that is not a message of this socket. The next one may be.
    #[error("a message was not understood: {0}")]
    NotUnderstood(serde_json::Error),
    /// The connection cannot be used any more.
    #[error(transparent)]
    Broken(#[from] Broken),
    /// The system's refusal.
    #[error(transparent)]
    Io(#[from] io::Error),
}

impl From<Error> for io::Error {
    fn from(error: Error) -> Self {
        let kind = match error {
            Error::Io(error) => return error,
            Error::Closed | Error::Broken(Broken::Unfinished) => io::ErrorKind::UnexpectedEof,
            Error::NotUnderstood(_) | Error::Broken(_) => io::ErrorKind::InvalidData,
        };
        io::Error::new(kind, error)
    }
}
