//! One function for each place where bytes from outside come in. None may panic or hang, whatever the bytes are, and what
//! is accepted must hold together. The fuzz targets in `fuzz/` and the smoke test call the same functions.

mod bzimage;
mod devices;
mod input;
mod kernel;
mod peers;
mod queues;
mod state;

pub use devices::{console, net, ports, rng};
pub use kernel::kernel;
pub use peers::{control, disk_replies, guest_replies};
pub use state::{state, state_parts};

/// An entry, with its name.
pub type Entry = (&'static str, fn(&[u8]));

/// All of them.
pub const ALL: &[Entry] = &[
    ("rng", rng),
    ("net", net),
    ("console", console),
    ("ports", ports),
    ("state", state),
    ("state_parts", state_parts),
    ("kernel", kernel),
    ("guest_replies", guest_replies),
    ("disk_replies", disk_replies),
    ("control", control),
];

/// Takes what the entries change, unchanged, through every check, and fails where it does not pass: changes to what is
/// refused whole would try nothing.
pub fn good_passes() {
    state::golden_passes();
    kernel::least_passes();
    peers::good_disk_passes();
}

/// A saved machine as this device model writes it.
pub const GOLDEN: &[u8] = include_bytes!("../../golden/machine-2.state");
