//! How the kiosk itself is, whoever uses it: part of the state that `init` sends to `kiosk-ui`.

use super::{clock::ClockState, diagnosis::Diagnosis, memory::Room};
use serde::{Deserialize, Serialize};

/// What a traveller or IT can see of the kiosk before anybody logs in.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Health {
    /// The machine has nothing that tells it from others, so the kiosk has a new name after each start: a lock that it held
    /// before stands under another name.
    #[serde(default)]
    pub passing_name: bool,
    /// USB devices that are plugged in and not used, one sentence each for the traveller.
    #[serde(default)]
    pub refused: Vec<String>,
    /// The kiosk lives on its battery, which has so many percent left, too little for a session.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub low_battery: Option<u8>,
    /// The kiosk's clock.
    #[serde(default)]
    pub clock: ClockState,
    /// What the last diagnosis found, while somebody looks at it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub diagnosis: Option<Diagnosis>,
    /// How much room its memory has for what the guest changes on its disk.
    #[serde(default)]
    pub room: Room,
}
