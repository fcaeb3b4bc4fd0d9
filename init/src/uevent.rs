//! Hot-plug: the kernel's uevents over netlink.

use nix::sys::socket::{
    AddressFamily, MsgFlags, NetlinkAddr, SockFlag, SockProtocol, SockType, bind, recv, socket,
};
use std::{
    io,
    os::fd::{AsRawFd, OwnedFd},
};

/// What is needed of a uevent.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Uevent {
    /// `add`, `remove`, `change`, …
    pub action: String,
    /// `block`, `net`, `misc`, …
    pub subsystem: String,
    /// Its path below `/sys`.
    pub devpath: String,
    /// Kernel name of the device below `/dev`, if it has a node.
    pub devname: Option<String>,
    /// What `modprobe` resolves.
    pub modalias: Option<String>,
}

/// Reads a datagram: `action@path`, then `KEY=value` strings, each ended by a zero byte.
pub fn parse(datagram: &[u8]) -> Option<Uevent> {
    let mut strings =
        datagram.split(|byte| *byte == 0).map(|bytes| std::str::from_utf8(bytes).unwrap_or_default());
    let header = strings.next()?;
    if !header.contains('@') {
        return None;
    }
    let mut event = Uevent::default();
    for (key, value) in strings.filter_map(|string| string.split_once('=')) {
        match key {
            "ACTION" => event.action = value.to_owned(),
            "SUBSYSTEM" => event.subsystem = value.to_owned(),
            "DEVPATH" if is_path(value) => event.devpath = value.to_owned(),
            "DEVNAME" => event.devname = Some(value.to_owned()),
            "MODALIAS" => event.modalias = crate::modules::modalias(value).map(str::to_owned),
            _ => {}
        }
    }
    (!event.action.is_empty()).then_some(event)
}

/// A device's path, and no way out of where devices are.
fn is_path(text: &str) -> bool {
    text.starts_with("/devices/") && text.split('/').all(|part| part != "..")
}

/// A socket on which the kernel sends uevents.
pub struct Uevents(OwnedFd);

impl Uevents {
    /// Opens a socket that receives the kernel's uevents.
    ///
    /// # Errors
    /// The kernel refuses.
    pub fn open() -> io::Result<Self> {
        let fd = socket(
            AddressFamily::Netlink,
            SockType::Datagram,
            SockFlag::SOCK_CLOEXEC,
            SockProtocol::NetlinkKObjectUEvent,
        )?;
        let _ = nix::sys::socket::setsockopt(&fd, nix::sys::socket::sockopt::RcvBufForce, &(4 << 20));
        bind(fd.as_raw_fd(), &NetlinkAddr::new(0, 1))?;
        Ok(Self(fd))
    }

    /// Waits for the next one.
    ///
    /// # Errors
    /// Reading fails; an overrun of the socket's buffer is `ENOBUFS`, after which a coldplug catches up.
    pub fn receive(&mut self) -> io::Result<Uevent> {
        let mut buffer = vec![0u8; 16 << 10];
        loop {
            let len = match recv(self.0.as_raw_fd(), &mut buffer, MsgFlags::empty()) {
                Err(nix::errno::Errno::EINTR) => continue,
                len => len?,
            };
            if let Some(event) = parse(buffer.get(..len).unwrap_or_default()) {
                return Ok(event);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn reads_what_the_kernel_sends() {
        let datagram =
            b"add@/devices/pci0000:00/0000:00:1f.2\0ACTION=add\0DEVPATH=/devices/x\0SUBSYSTEM=pci\0\
                         MODALIAS=pci:v00008086d00002922\0SEQNUM=7\0";
        let event = parse(datagram).unwrap();
        assert_eq!((event.action.as_str(), event.subsystem.as_str()), ("add", "pci"));
        assert_eq!(event.modalias.as_deref(), Some("pci:v00008086d00002922"));
        assert_eq!((event.devname, event.devpath.as_str()), (None, "/devices/x"));
        let odd = parse(b"add@/x\0ACTION=add\0DEVPATH=/devices/../../etc\0").unwrap();
        assert_eq!(odd.devpath, "");
    }

    #[test]
    fn refuses_what_a_daemon_would_send() {
        assert_eq!(parse(b"libudev\0\xfe\xed\xca\xfe"), None);
        assert_eq!(parse(b""), None);
    }

    proptest! {
        #[test]
        fn is_total(bytes in proptest::collection::vec(any::<u8>(), 0..512)) {
            if let Some(event) = parse(&bytes) {
                prop_assert!(!event.action.is_empty());
                prop_assert!(event.devpath.is_empty() || event.devpath.starts_with("/devices/"));
            }
        }
    }
}
