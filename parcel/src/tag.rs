//! The hardware tag of a parcel, a kiosk's inventory, and how one is held against the other.

use serde::{Deserialize, Serialize};
use std::collections::BTreeSet;

/// What a machine needs, in the clear, so that the server can refuse a kiosk before it takes the lock.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Tag {
    /// The guest's CPU: what *must* be there.
    pub cpu: CpuTag,
    /// Virtual CPUs. Must.
    pub vcpus: u32,
    /// Guest memory in MiB. Must.
    pub memory_mib: u64,
    /// Version of the VMM's device model that saved it. Must be one the kiosk can restore.
    pub device_model: u32,
    /// What the user would like; a miss is shown and does not refuse.
    #[serde(default)]
    pub wishes: Wishes,
}

/// The CPU that the guest was given.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CpuTag {
    /// CPUID vendor string, such as `AuthenticAMD`; absent for a machine that was never started (any will do).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub vendor: Option<String>,
    /// The named baseline, such as `x86-64-v2`.
    pub baseline: String,
    /// Feature names as in `/proc/cpuinfo` that the guest may use.
    pub features: BTreeSet<String>,
}

/// Requirements that *should* be met.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Wishes {
    /// Least screen size, columns and rows of text or pixels as the guest's display counts.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub screen: Option<(u32, u32)>,
    /// Physical cores.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cores: Option<u32>,
    /// A sound device.
    #[serde(default)]
    pub sound: bool,
    /// Bandwidth to the server in kbit/s.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub kbit_per_s: Option<u64>,
}

/// What a kiosk has, measured on the kiosk.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Inventory {
    /// CPUID vendor string.
    pub vendor: String,
    /// Model name for people.
    pub cpu_model: String,
    /// Feature names as in `/proc/cpuinfo` that KVM can give a guest here.
    pub features: BTreeSet<String>,
    /// Logical CPUs.
    pub cpus: u32,
    /// Memory that a guest could get here, in MiB.
    pub memory_mib: u64,
    /// Device model versions that this kiosk's VMM restores.
    pub device_models: BTreeSet<u32>,
    /// `true` when `/dev/kvm` works.
    pub kvm: bool,
    /// Screen size, if known.
    #[serde(default)]
    pub screen: Option<(u32, u32)>,
    /// A sound device was found.
    #[serde(default)]
    pub sound: bool,
    /// Measured bandwidth to the server in kbit/s, if known.
    #[serde(default)]
    pub kbit_per_s: Option<u64>,
}

/// One requirement that an inventory does not meet.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Miss {
    /// `true`: the machine cannot run here; `false`: it runs, but not as the user would like.
    pub must: bool,
    /// What is concerned, for code: `kvm`, `cpu.vendor`, `cpu.feature.<name>`, `vcpus`, `memory`, `device_model`, `screen`, `cores`, `sound`, `bandwidth`.
    pub item: String,
    /// What the tag asks for, for people: `512 MiB`.
    pub needed: String,
    /// What the kiosk has, for people.
    pub found: String,
}
