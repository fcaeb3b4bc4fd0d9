//! What can go wrong, in words for people and codes for IT.

use parcel::wire::{Code, WireError};

/// An error of the VMM.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// There is no virtualization for this user.
    #[error(
        "/dev/kvm cannot be used: {0}; check that virtualization is switched on in the firmware, and that this user may \
         open /dev/kvm"
    )]
    NoKvm(kvm_ioctls::Error),
    /// A KVM call failed.
    #[error("KVM could not {what}: {cause}; try another kiosk, and send the kiosk's log to IT")]
    Kvm {
        /// What was tried.
        what: &'static str,
        /// The system's answer.
        cause: kvm_ioctls::Error,
    },
    /// A system call failed.
    #[error("{what}: {cause}")]
    Io {
        /// What was tried, and on what.
        what: String,
        /// The system's answer.
        cause: std::io::Error,
    },
    /// The machine described cannot be built.
    #[error("this machine cannot be built: {0}")]
    Machine(String),
    /// The host CPU does not have what the baseline promises.
    #[error("this CPU lacks {missing} of the baseline {baseline}; use a kiosk with a newer CPU")]
    Cpu {
        /// The baseline asked for.
        baseline: String,
        /// Features that are missing, as in `/proc/cpuinfo`.
        missing: String,
    },
    /// The guest's kernel or initial RAM disk cannot be loaded.
    #[error("the guest's kernel cannot be started: {0}")]
    Kernel(String),
    /// Guest memory refused an access.
    #[error("guest memory: {0}")]
    Memory(String),
    /// The saved state is not one that this VMM restores.
    #[error("the saved state cannot be restored: {0}; start the machine from its disk instead")]
    State(String),
    /// The disk's backend misbehaved.
    #[error("the disk: {0}")]
    Disk(String),
    /// `cached` answered with an error.
    #[error("{0}")]
    Refused(WireError),
    /// A peer on a local socket said something that it must not.
    #[error("{peer} broke the protocol: {what}")]
    Protocol {
        /// The peer, by its socket.
        peer: &'static str,
        /// What it said or left out.
        what: String,
    },
    /// A peer on a local socket has gone.
    #[error("{0} hung up; its log says why")]
    Gone(&'static str),
    /// The guest cannot go on, and stands.
    #[error(
        "the guest cannot go on here: {0}; suspend it, and resume it on another kiosk or start it from its disk"
    )]
    Guest(String),
    /// The guest's processors or devices cannot be read, so that its memory is of no use.
    #[error("the running guest cannot be saved ({0}); its disk can, as after a power cut")]
    Unreadable(String),
    /// A thread of the VMM failed.
    #[error("{0}")]
    Thread(String),
}

/// Result with the VMM's error.
pub type Result<T> = std::result::Result<T, Error>;

impl Error {
    /// The error as it travels.
    pub fn to_wire(&self) -> WireError {
        let code = match self {
            Self::Refused(inner) => return inner.clone(),
            Self::NoKvm(_) | Self::Kvm { .. } => Code::VmmKvm,
            Self::Io { .. } => Code::VmmSystem,
            Self::Machine(_) => Code::VmmMachine,
            Self::Cpu { .. } => Code::VmmCpu,
            Self::Kernel(_) => Code::VmmKernel,
            Self::Memory(_) => Code::VmmMemory,
            Self::State(_) => Code::VmmState,
            Self::Disk(_) => Code::VmmDisk,
            Self::Protocol { .. } | Self::Gone(_) => Code::VmmProtocol,
            Self::Guest(_) => Code::VmmGuest,
            Self::Unreadable(_) => Code::VmmUnreadable,
            Self::Thread(_) => Code::VmmInternal,
        };
        WireError::new(code, self.to_string())
    }

    /// The same for a call that KVM refused because of the saved state it was given.
    pub fn of_state(self) -> Self {
        match self {
            Self::Kvm { what, cause } => Self::State(format!("KVM here could not {what} ({cause})")),
            other => other,
        }
    }

    /// For `map_err`: a KVM call named `what` failed.
    pub fn kvm(what: &'static str) -> impl FnOnce(kvm_ioctls::Error) -> Self {
        move |cause| Self::Kvm { what, cause }
    }

    /// For `map_err`: a local socket on which `peer` talks failed.
    pub fn peer(peer: &'static str) -> impl FnOnce(sockets::Error) -> Self {
        move |cause| match cause {
            sockets::Error::Closed | sockets::Error::Broken(sockets::Broken::Unfinished) => Self::Gone(peer),
            sockets::Error::Io(cause) => Self::Io { what: format!("talking to {peer}"), cause },
            other => Self::Protocol { peer, what: other.to_string() },
        }
    }

    /// For `map_err`: a system call failed.
    pub fn io<E: Into<std::io::Error>>(what: impl Into<String>) -> impl FnOnce(E) -> Self {
        move |cause| Self::Io { what: what.into(), cause: cause.into() }
    }
}
