//! Names of the local sockets in the run folder ([`parcel::wire::kiosk::RUN`]).

/// `init` serves `kiosk-ui`: [`parcel::wire::session`].
pub const INIT: &str = "init.sock";
/// `cached` serves `init` and `kiosk-ui`: [`parcel::wire::daemon`].
pub const CACHED: &str = "cached.sock";
/// `cached` serves the VMM: [`parcel::wire::guest`].
pub const GUEST: &str = "guest.sock";
/// `cached` serves the VMM its disk: vhost-user-blk.
pub const DISK: &str = "disk.sock";
/// The VMM serves `init`: [`parcel::wire::vmm`].
pub const VMM: &str = "vmm.sock";
/// The VMM serves `kiosk-ui` the guest's console: raw bytes.
pub const CONSOLE: &str = "console.sock";
