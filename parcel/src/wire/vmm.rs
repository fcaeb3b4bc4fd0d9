//! `vmm.sock`: `init` steers the VMM. One request line, one reply line; several connections may be open.
//!
//! Beside it, `console.sock` carries the guest's console as raw bytes: a client that connects is first sent the
//! escape sequences that redraw the screen as it stands (also after a restore), then what the guest writes; what
//! it sends is typed into the guest.

use super::WireError;
use serde::{Deserialize, Serialize};

/// What `init` asks.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(tag = "cmd", rename_all = "snake_case")]
pub enum Request {
    /// How is the guest? Answer: [`Reply::Status`].
    Status,
    /// Stop the vCPUs and devices.
    Pause,
    /// Go on.
    Resume,
    /// Pause, hand state, memory and dirty pages to `cached` over `guest.sock`, and stay paused.
    Save,
    /// The size of the terminal that shows the console.
    ConsoleSize {
        /// Width in columns.
        cols: u16,
        /// Height in rows.
        rows: u16,
    },
    /// Ask the guest to shut down, as by its power button.
    PowerButton,
    /// End now, without saving.
    Quit,
}

/// What the VMM answers.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(tag = "reply", rename_all = "snake_case")]
pub enum Reply {
    /// The request was carried out.
    Ok,
    /// How the guest is.
    Status {
        /// Its state.
        state: GuestState,
        /// Why it is [`GuestState::Failed`].
        #[serde(default, skip_serializing_if = "Option::is_none")]
        failure: Option<WireError>,
        /// Its wall clock is wrong, and nothing in it is known to set it.
        #[serde(default, skip_serializing_if = "std::ops::Not::not")]
        clock_behind: bool,
    },
    /// It did not work.
    Error(WireError),
}

/// States of a guest.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum GuestState {
    /// Waiting for memory or kernel.
    Starting,
    /// vCPUs run.
    Running,
    /// vCPUs stand.
    Paused,
    /// The guest powered off; the VMM has told `cached` and will exit with 0 after `Quit`.
    PoweredOff,
    /// A vCPU cannot go on; all stand. `Save` works if they can still be read, and else answers `vmm-unreadable`: then the
    /// disk alone is left, as after a power cut. `Resume` tries again.
    Failed,
}
