//! The kiosk's clock, as `init` tells of it: whose time it has, and what was wrong.

use serde::{Deserialize, Serialize};

/// Whose time a clock has.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "from", rename_all = "snake_case")]
pub enum Source {
    /// The machine's own: nobody else has told the time yet.
    #[default]
    Machine,
    /// The time at which the image was built: the machine's own clock was before that.
    Image,
    /// An NTP server that the site's configuration names.
    Ntp {
        /// As it is named there.
        server: String,
    },
    /// The parcel server, whose certificate holds at that time.
    Server {
        /// Its host.
        server: String,
    },
    /// An NTP server that the network's DHCP server names. Nothing proves that either is the site's.
    Dhcp {
        /// Its address.
        server: String,
    },
}

impl Source {
    /// Somebody told the time.
    pub fn is_told(&self) -> bool {
        !matches!(self, Self::Machine | Self::Image)
    }
}

/// The kiosk's clock.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ClockState {
    /// Whose time it has.
    pub source: Source,
    /// By how many seconds it was moved since the kiosk was switched on; less than 0: back.
    pub moved: i64,
    /// Why nobody better told the time, one sentence each.
    #[serde(default)]
    pub problems: Vec<String>,
}
