//! The local sockets of a kiosk: one line of JSON a message, with file descriptors beside it as `SCM_RIGHTS`.
//!
//! [`codec`] turns bytes and descriptors into lines and does no I/O; [`transfer`] is one system call each way; [`blocking`]
//! and `asynchronous` (feature `tokio`) are front ends over both. [`listen`] makes a socket and says who may connect to it.
//!
//! The rules that every connection keeps, whatever the other side sends:
//!
//! - A line has at most [`MAX_LINE`] bytes, its end included.
//! - Descriptors belong to the line that they were sent with, at most [`MAX_DESCRIPTORS`] of them, and only on connections
//!   that take descriptors at all.
//! - A descriptor that the kernel has handed over is owned from then on, and closed when nobody takes it: with a line that
//!   is no message, with more of its kind than a line may have, with a control message that was cut off, with no line at all.
//! - What came in and what goes out is wiped from memory: it may be a key.

#[cfg(feature = "tokio")]
pub mod asynchronous;
pub mod blocking;
pub mod codec;
pub mod error;
pub mod listen;
pub mod names;
pub mod transfer;

pub use error::{Broken, Error};
pub use parcel::wire::MAX_LINE;

/// The most descriptors that come with a line.
pub const MAX_DESCRIPTORS: usize = 4;

/// Bytes that are asked of the system at once.
const CHUNK: usize = 4096;
