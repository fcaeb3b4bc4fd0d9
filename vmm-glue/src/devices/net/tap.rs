//! A tap that `init` has made and given to this user.

use crate::error::{Error, Result};
use std::{
    fs::{File, OpenOptions},
    io::{Read, Write},
    os::{
        fd::{AsRawFd, RawFd},
        unix::fs::OpenOptionsExt,
    },
};

/// Bytes of `virtio_net_hdr_v1`, which precedes every frame.
pub const HEADER: usize = 12;

nix::ioctl_write_ptr_bad!(
    /// Attaches to the interface that the request names.
    tun_set_iff,
    libc::TUNSETIFF,
    libc::ifreq
);
nix::ioctl_write_int_bad!(
    /// Says which offloads the reader of the tap understands.
    tun_set_offload,
    libc::TUNSETOFFLOAD
);
nix::ioctl_write_ptr_bad!(
    /// Says how long the header before each frame is.
    tun_set_header,
    libc::TUNSETVNETHDRSZ,
    libc::c_int
);

/// An open tap.
pub struct Tap {
    file: File,
}

impl Tap {
    /// Attaches to the tap of this name.
    ///
    /// # Errors
    /// A name that no interface can have, or the system's refusal: usually a tap that belongs to somebody else.
    pub fn open(name: &str) -> Result<Self> {
        let what = || format!("attaching to the network tap {name}; is it there, and is it this user's?");
        let bytes = name.as_bytes();
        if bytes.is_empty() || bytes.len() >= libc::IFNAMSIZ || !bytes.iter().all(u8::is_ascii_graphic) {
            return Err(Error::Machine(format!("{name:?} cannot be the name of a network tap")));
        }
        let file = OpenOptions::new()
            .read(true)
            .write(true)
            .custom_flags(libc::O_NONBLOCK)
            .open("/dev/net/tun")
            .map_err(Error::io("opening /dev/net/tun"))?;
        // SAFETY: `ifreq` is plain data for which zeroes are a valid value.
        let mut request: libc::ifreq = unsafe { std::mem::zeroed() };
        for (to, from) in request.ifr_name.iter_mut().zip(bytes) {
            *to = *from as libc::c_char;
        }
        request.ifr_ifru.ifru_flags = (libc::IFF_TAP | libc::IFF_NO_PI | libc::IFF_VNET_HDR) as libc::c_short;
        // SAFETY: the descriptor is open, and `request` is an `ifreq` that lives through the call.
        unsafe { tun_set_iff(file.as_raw_fd(), &request) }.map_err(Error::io(what()))?;
        let header = HEADER as libc::c_int;
        // SAFETY: the descriptor is open, and `header` is an int that lives through the call.
        unsafe { tun_set_header(file.as_raw_fd(), &header) }.map_err(Error::io(what()))?;
        Ok(Self { file })
    }

    /// A tap that was opened elsewhere, or anything that keeps frames apart as one does.
    pub fn from_file(file: File) -> Self {
        Self { file }
    }

    /// Tells the kernel whether the guest accepts frames with a checksum that is still to be filled in.
    pub fn set_offloads(&self, checksum: bool) {
        let flags = if checksum { libc::TUN_F_CSUM } else { 0 };
        // SAFETY: the descriptor is open, and the argument is a plain number.
        if let Err(e) = unsafe { tun_set_offload(self.file.as_raw_fd(), flags as libc::c_int) } {
            tracing::debug!("network tap offloads: {e}");
        }
    }

    /// The next frame with its header, if there is one; how many bytes it has.
    pub fn receive(&self, into: &mut [u8]) -> Option<usize> {
        (&self.file).read(into).ok().filter(|length| *length >= HEADER)
    }

    /// Sends a frame with its header. One that the kernel does not take is lost, as frames may be.
    pub fn send(&self, frame: &[u8]) {
        if let Err(e) = (&self.file).write(frame) {
            tracing::debug!("a frame was not sent: {e}");
        }
    }
}

impl AsRawFd for Tap {
    fn as_raw_fd(&self) -> RawFd {
        self.file.as_raw_fd()
    }
}
