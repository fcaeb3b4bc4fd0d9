//! The users of the kiosk's programs, as its image has them.

/// A user.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct User {
    /// Its name.
    pub name: &'static str,
    /// Its id, and that of its own group.
    pub id: u32,
}

/// Runs `init`.
pub const ROOT: User = User { name: "root", id: 0 };
/// Runs `cached`.
pub const CACHED: User = User { name: "cached", id: 101 };
/// Runs `kiosk-ui`.
pub const KIOSK_UI: User = User { name: "kiosk-ui", id: 102 };
/// Runs `vmm`.
pub const VMM: User = User { name: "vmm", id: 103 };
/// The DHCP client. It outlives sessions and belongs to none.
pub const DHCP: User = User { name: "dhcp", id: 104 };
/// The probe, which asks the network for the time and for what fails. It belongs to no session.
pub const PROBE: User = User { name: "probe", id: 105 };
/// Runs `dnsmasq`: Debian's `nobody`.
pub const NOBODY: User = User { name: "nobody", id: 65534 };
/// Id of the group `waystation`, which the session's programs share, and which may use their sockets.
pub const GROUP: u32 = 100;
