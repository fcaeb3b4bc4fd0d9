//! One system call each way. What is received is owned before anything else is looked at.

use crate::MAX_DESCRIPTORS;
use rustix::{
    io::retry_on_intr,
    net::{
        RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, ReturnFlags, SendAncillaryBuffer,
        SendAncillaryMessage, SendFlags, recvmsg, sendmsg,
    },
};
use std::{
    io::{self, IoSlice, IoSliceMut},
    mem::MaybeUninit,
    os::fd::{AsFd, BorrowedFd, OwnedFd},
};

/// The most descriptors that the kernel passes at once (`SCM_MAX_FD`). With room for fewer, it would depend on the peer
/// which of them get lost.
pub const MOST_AT_ONCE: usize = 253;

const _: () = assert!(MAX_DESCRIPTORS <= MOST_AT_ONCE);

/// What came at once.
#[derive(Debug)]
pub struct Received {
    /// How many bytes of the buffer; 0 at the end of the stream.
    pub bytes: usize,
    /// The descriptors, closed on `exec`.
    pub descriptors: Vec<OwnedFd>,
    /// More were sent than could be handed over.
    pub lost: bool,
}

/// Receives bytes into `buffer`. Where `descriptors` is false, the kernel drops those that were sent, and says so.
///
/// # Errors
/// The system's refusal.
pub fn receive(socket: impl AsFd, buffer: &mut [u8], descriptors: bool) -> io::Result<Received> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MOST_AT_ONCE))];
    let room = if descriptors { &mut space[..] } else { &mut [] };
    // The buffer owns what comes into it. A control message that was cut off has those that fitted in.
    let mut control = RecvAncillaryBuffer::new(room);
    let mut parts = [IoSliceMut::new(buffer)];
    let got = retry_on_intr(|| recvmsg(socket.as_fd(), &mut parts, &mut control, RecvFlags::CMSG_CLOEXEC))?;
    let mut owned = Vec::new();
    for message in control.drain() {
        if let RecvAncillaryMessage::ScmRights(descriptors) = message {
            owned.extend(descriptors);
        }
    }
    Ok(Received { bytes: got.bytes, descriptors: owned, lost: got.flags.contains(ReturnFlags::CTRUNC) })
}

/// Sends some of `bytes`, at least one if there are any, with descriptors; says how many went. No `SIGPIPE`.
///
/// # Errors
/// The peer has gone; there are more descriptors than [`MOST_AT_ONCE`]; the system's refusal.
pub fn send(socket: impl AsFd, bytes: &[u8], descriptors: &[BorrowedFd]) -> io::Result<usize> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MOST_AT_ONCE))];
    let mut control = SendAncillaryBuffer::new(&mut space);
    if !descriptors.is_empty() && !control.push(SendAncillaryMessage::ScmRights(descriptors)) {
        return Err(io::ErrorKind::InvalidInput.into());
    }
    let parts = [IoSlice::new(bytes)];
    Ok(retry_on_intr(|| sendmsg(socket.as_fd(), &parts, &mut control, SendFlags::NOSIGNAL))?)
}
