//! What stands between a kiosk and a log-in, step by step, in words for whoever stands there.

use serde::{Deserialize, Serialize};

/// A step on the way to a log-in, in order.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Check {
    /// A cable, and a network card.
    Link,
    /// An address and a route, by DHCP.
    Address,
    /// Names of hosts.
    Dns,
    /// The kiosk's clock.
    Clock,
    /// The realm's log-in server.
    Kdc,
    /// The parcel server.
    Server,
}

/// How a step went.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Health {
    /// As it should.
    Good,
    /// It works, and somebody should know something of it.
    Doubtful,
    /// It fails.
    Bad,
    /// It was not tried, because a step before it fails.
    Untried,
}

/// One step and what was found.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct StepFound {
    /// The step that was tried.
    pub check: Check,
    /// Whether it works.
    pub health: Health,
    /// What was found, one sentence.
    pub found: String,
    /// What to do about it; empty: nothing.
    #[serde(default)]
    pub remedy: String,
}

/// One round of all steps, and the end of the kiosk's log.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Diagnosis {
    /// The steps, in order.
    pub steps: Vec<StepFound>,
    /// The last lines of the kiosk's log, the oldest first: without those of a session's programs.
    pub log: Vec<String>,
}
