//! The `waystation` command: parcels on an administrator's or a user's own machine, with the ticket that `kinit` got.

#![deny(clippy::print_stderr)]

mod begun;
mod claims;
mod cli;
mod clock_helper;
mod clone;
mod connect;
mod discard;
mod disk;
mod import;
mod initrd;
mod inspect;
mod list;
mod lock;
mod record;
mod secrets;
mod session;
mod show;
mod tag;
mod terminal;

pub use cli::main;

use client::api::{ApiError, SetupError};
use login::LoginError;
use parcel::wire::{Code, WireError};
use std::process::ExitCode;

/// How a command ends when it fails; the numbers are in `--help`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum Exit {
    /// Anything else.
    Failed = 1,
    /// What was given cannot be used.
    Input = 3,
    /// No ticket, or one that is not accepted.
    Login = 4,
    /// The server cannot be reached.
    Unreachable = 5,
    /// The server refuses.
    Refused = 6,
    /// Stopped by Ctrl-C, SIGTERM or SIGHUP.
    Interrupted = 130,
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(exit as u8)
    }
}

/// Why a command did not do what it was told.
#[derive(Debug, Clone, thiserror::Error)]
#[error("{error}")]
pub struct AdminError {
    /// How the command ends.
    pub exit: Exit,
    /// What is said, with its code.
    pub error: WireError,
}

impl AdminError {
    fn new(exit: Exit, code: Code, message: impl Into<String>) -> Self {
        Self { exit, error: WireError::new(code, message) }
    }

    /// Something given on the command line cannot be used.
    fn input(message: impl Into<String>) -> Self {
        Self::new(Exit::Input, Code::BadInput, message)
    }
}

impl From<ApiError> for AdminError {
    fn from(error: ApiError) -> Self {
        let exit = match &error {
            ApiError::Unreachable { .. }
            | ApiError::Certificate { .. }
            | ApiError::CertificateTime { .. } => Exit::Unreachable,
            _ if error.session_ended() => Exit::Login,
            ApiError::Refused { .. } => Exit::Refused,
            ApiError::Protocol { .. } => Exit::Failed,
        };
        Self { exit, error: error.to_wire() }
    }
}

impl From<WireError> for AdminError {
    fn from(error: WireError) -> Self {
        // What became of a request is known by its code alone once it has been through the uploader.
        let exit = match error.code {
            Code::ServerUnreachable
            | Code::ServerCertificate
            | Code::CertificateExpired
            | Code::CertificateNotYetValid => Exit::Unreachable,
            code if code.needs_login() => Exit::Login,
            Code::Interrupted => Exit::Interrupted,
            Code::ServerProtocol | Code::InternalError => Exit::Failed,
            _ => Exit::Refused,
        };
        Self { exit, error }
    }
}

impl From<SetupError> for AdminError {
    fn from(error: SetupError) -> Self {
        Self::input(error.to_string())
    }
}

impl From<LoginError> for AdminError {
    fn from(error: LoginError) -> Self {
        match error {
            LoginError::Server(error) => error.into(),
            other => Self { exit: Exit::Login, error: other.to_wire() },
        }
    }
}

type Result<T> = std::result::Result<T, AdminError>;
