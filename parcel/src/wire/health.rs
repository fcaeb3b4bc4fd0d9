//! How the kiosk itself is, whoever uses it: part of the state that `init` sends to `kiosk-ui`.

use serde::{Deserialize, Serialize};

/// What a traveller or IT can see of the kiosk before anybody logs in.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Health {
    /// The machine has nothing that tells it from others, so the kiosk has a new name after each start: a lock that it held
    /// before is never taken over without a question.
    #[serde(default)]
    pub passing_name: bool,
    /// USB devices that are plugged in and not used, one sentence each for the traveller.
    #[serde(default)]
    pub refused: Vec<String>,
}
