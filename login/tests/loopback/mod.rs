//! Loopback ports for tests.

use std::{
    net::{Ipv4Addr, TcpListener, UdpSocket},
    ops::Range,
    sync::atomic::{AtomicU16, Ordering},
};

/// The kernel takes none of them for a connection, and the rig none for a realm or a server, which may run beside a test.
const PORTS: Range<u16> = 10_000..20_000;

/// A port that nobody else in this program is given: it stays free, or closed, for as long as the test wants.
pub fn free_port() -> u16 {
    static NEXT: AtomicU16 = AtomicU16::new(0);
    let count = u32::from(PORTS.end - PORTS.start);
    // Two programs that run beside each other begin at different places.
    let begin = std::process::id() % count * 101;
    loop {
        let step = u32::from(NEXT.fetch_add(1, Ordering::Relaxed));
        let port = PORTS.start + u16::try_from((begin + step) % count).expect("it is small");
        let at = (Ipv4Addr::LOCALHOST, port);
        if TcpListener::bind(at).is_ok() && UdpSocket::bind(at).is_ok() {
            return port;
        }
    }
}
