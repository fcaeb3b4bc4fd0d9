//! What the parts of Waystation say to each other.
//!
//! Local sockets speak one line of JSON per message, at most [`MAX_LINE`] bytes; file descriptors ride along as
//! `SCM_RIGHTS` with the line that speaks of them. The crate `sockets` carries them. Every socket is a stream socket whose listener belongs to the
//! server side's user.

pub mod clock;
pub mod code;
pub mod daemon;
pub mod diagnosis;
pub mod guest;
pub mod health;
pub mod hold;
pub mod http;
pub mod kiosk;
pub mod memory;
pub mod session;
pub mod users;
pub mod vmm;

pub use code::{Code, Fate, Stake};

use serde::{Deserialize, Serialize};

/// The longest line that either side of a local socket accepts, in bytes, its end included.
pub const MAX_LINE: usize = 1 << 20;

/// The environment of every program that `init` starts.
pub const ENVIRONMENT: [(&str, &str); 5] = [
    ("PATH", "/usr/sbin:/usr/bin:/sbin:/bin"),
    ("HOME", "/"),
    ("LANG", "C.UTF-8"),
    ("RUST_BACKTRACE", "1"),
    ("KRB5_CONFIG", "/etc/krb5.conf"),
];

/// An error as it travels: a code for IT, a sentence for the traveller.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[error("{message} [{code}]")]
pub struct WireError {
    /// What happened, for IT and for control flow; listed in `docs/errors.md`.
    pub code: Code,
    /// What happened, to what, and what to do now. Never holds a secret.
    pub message: String,
    /// Hardware requirements that are not met, when that is the error.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub misses: Vec<crate::tag::Miss>,
    /// Who holds the lock, when that is the error.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub holder: Option<http::LockInfo>,
}

impl WireError {
    /// An error without further particulars.
    pub fn new(code: Code, message: impl Into<String>) -> Self {
        Self { code, message: message.into(), misses: Vec::new(), holder: None }
    }

    /// The same, with who holds the lock.
    #[must_use]
    pub fn with_holder(self, holder: Option<http::LockInfo>) -> Self {
        Self { holder, ..self }
    }
}

/// How far a long step has come.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Progress {
    /// Bytes done.
    pub done: u64,
    /// Bytes in all; 0 while unknown.
    pub total: u64,
    /// Bytes a second lately; 0 while unknown.
    pub rate: u64,
}
