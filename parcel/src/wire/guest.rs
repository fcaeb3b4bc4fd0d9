//! `guest.sock`: the VMM asks `cached` for its machine. The VMM connects, sends a request, reads one reply.
//!
//! The socket exists while a parcel is open and accepts one VMM at a time. The disk is a separate
//! vhost-user-blk socket, named in [`Reply::Machine`].

use super::WireError;
use serde::{Deserialize, Serialize};

/// What the VMM asks.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(tag = "cmd", rename_all = "snake_case")]
pub enum Request {
    /// What machine is this, and how does it start? Answer: [`Reply::Machine`].
    Describe,
    /// The guest restarts: what does it start from, wherever it came from? Answer: [`Reply::Machine`] with
    /// [`Start::Cold`].
    Kernel,
    /// Here is the guest's memory: descriptors `[memfd, userfaultfd]`, the second only when the VMM registered the
    /// regions for missing faults (it must when [`Start::Restore`]). Answer: [`Reply::Ready`] when the guest may run.
    Memory {
        /// Where the memfd's bytes lie in the guest, ascending.
        regions: Vec<Region>,
    },
    /// The guest is paused; take its memory and state. Descriptors `[state, dirty]`, both memfds: the VMM's saved
    /// state, and a bitmap of one bit per 4 KiB page of the memfd, least significant bit first, of pages that may
    /// have changed since [`Reply::Ready`] (the union of KVM's log, the VMM's own writes and the vhost log).
    /// Answer: [`Reply::Saved`]; `cached` keeps its own mapping, so the VMM may then end.
    Save {
        /// Device model of the saved state, for the tag.
        device_model: u32,
    },
    /// The guest powered itself off: what is committed next has a disk but no memory. Answer: [`Reply::Saved`].
    PoweredOff,
}

/// What `cached` answers.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(tag = "reply", rename_all = "snake_case")]
pub enum Reply {
    /// The machine. Descriptors: for [`Start::Cold`] `[kernel, initrd]`, for [`Start::Restore`] `[state]`; read-only memfds.
    Machine {
        /// Its fixed parts.
        machine: Machine,
        /// How it starts.
        start: Start,
        /// Path of the vhost-user-blk socket.
        disk_socket: String,
    },
    /// The guest may run. Missing pages, if any are left, are served through the userfaultfd.
    Ready,
    /// Memory and state are taken over.
    Saved,
    /// It did not work.
    Error(WireError),
}

/// How a machine starts.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "how", rename_all = "snake_case")]
pub enum Start {
    /// From its kernel.
    Cold {
        /// Kernel command line.
        cmdline: String,
    },
    /// From its saved state.
    Restore,
}

/// The least and the most memory that a machine may have, in MiB.
pub const MEMORY_MIB: std::ops::RangeInclusive<u64> = 64..=262_144;

/// The parts of a machine that never change between suspend and resume.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Machine {
    /// Virtual CPUs, 1 to 32.
    pub vcpus: u32,
    /// Memory in MiB, one of [`MEMORY_MIB`].
    pub memory_mib: u64,
    /// Named CPU baseline: `x86-64-v1`, `x86-64-v2`, `x86-64-v3`.
    pub cpu_baseline: String,
    /// The guest's network address, six bytes as `52:54:00:…`.
    pub mac: String,
}

/// A run of guest memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Region {
    /// Guest physical address in bytes, a multiple of 4096.
    pub guest_addr: u64,
    /// Offset into the memfd in bytes, a multiple of 4096.
    pub file_offset: u64,
    /// Length in bytes, a multiple of 4096.
    pub len: u64,
}
