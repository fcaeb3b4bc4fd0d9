//! The hardware tag of a parcel, a kiosk's inventory, and how one is held against the other.

use serde::{Deserialize, Serialize};
use std::collections::BTreeSet;

/// How a machine is to start.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Start {
    /// From its saved memory, which only a CPU of the same vendor and a VMM that knows its device model take.
    Resume,
    /// From its disk.
    ColdBoot,
}

/// What a machine needs, in the clear, so that the server can refuse a kiosk before it takes the lock.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Tag {
    /// The guest's CPU: what *must* be there.
    pub cpu: CpuTag,
    /// Virtual CPUs. Must.
    pub vcpus: u32,
    /// Guest memory in MiB. Must.
    pub memory_mib: u64,
    /// Device model of its saved state. Must be one that the kiosk can restore, for a resume.
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
    /// Cores, held against the kiosk's logical CPUs.
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
    /// What is concerned, for code: `kvm`, `cpu.vendor`, `cpu.baseline`, `cpu.feature.<name>`, `vcpus`, `memory`, `device_model`, `screen`, `cores`, `sound`, `bandwidth`.
    pub item: String,
    /// What the tag asks for, for people: `512 MiB`.
    pub needed: String,
    /// What the kiosk has, for people.
    pub found: String,
}

/// What only a resume needs: [`Start::Resume`].
const ONLY_TO_RESUME: [&str; 2] = ["cpu.vendor", "device_model"];

impl Miss {
    /// A cold boot does without it.
    pub fn only_to_resume(&self) -> bool {
        ONLY_TO_RESUME.contains(&self.item.as_str())
    }
}

impl Tag {
    /// Holds the tag against what a kiosk has, where the machine is to start like this. Empty: it runs there as its user
    /// likes it. A cold boot needs neither the CPU's vendor nor the device model.
    ///
    /// The CPU must have every feature of [`CpuTag::features`] and of the named baseline, each of which is a miss of
    /// its own. A wish for something whose size the kiosk does not know (screen, bandwidth) counts as met.
    pub fn check(&self, kiosk: &Inventory, start: Start) -> Vec<Miss> {
        let mut misses = Misses(Vec::new());
        misses.must(kiosk.kvm, "kvm", || ("hardware virtualization (KVM)".into(), "none that works".into()));
        if let Some(vendor) = &self.cpu.vendor {
            misses.must(*vendor == kiosk.vendor, "cpu.vendor", || (vendor.clone(), kiosk.vendor.clone()));
        }
        let mut features = self.cpu.features.clone();
        match baseline_features(&self.cpu.baseline) {
            Some(baseline) => features.extend(baseline),
            None => misses.must(false, "cpu.baseline", || {
                (self.cpu.baseline.clone(), "a kiosk that does not know this baseline".into())
            }),
        }
        for name in features.difference(&kiosk.features) {
            misses.must(false, &format!("cpu.feature.{name}"), || {
                (format!("CPU feature {name}"), format!("{} without it", kiosk.cpu_model))
            });
        }
        misses.must(self.vcpus <= kiosk.cpus, "vcpus", || (cpus(self.vcpus), cpus(kiosk.cpus)));
        misses.must(self.memory_mib <= kiosk.memory_mib, "memory", || {
            (format!("{} MiB", self.memory_mib), format!("{} MiB", kiosk.memory_mib))
        });
        misses.must(kiosk.device_models.contains(&self.device_model), "device_model", || {
            let known: Vec<_> = kiosk.device_models.iter().map(u32::to_string).collect();
            (format!("device model {}", self.device_model), format!("device models {}", known.join(", ")))
        });
        self.wishes.check(kiosk, &mut misses);
        let Misses(mut misses) = misses;
        if start == Start::ColdBoot {
            misses.retain(|miss| !miss.only_to_resume());
        }
        misses
    }
}

impl Wishes {
    fn check(&self, kiosk: &Inventory, misses: &mut Misses) {
        if let (Some(want), Some(have)) = (self.screen, kiosk.screen) {
            misses.should(want.0 <= have.0 && want.1 <= have.1, "screen", || {
                (format!("{}×{}", want.0, want.1), format!("{}×{}", have.0, have.1))
            });
        }
        if let Some(want) = self.cores {
            misses.should(want <= kiosk.cpus, "cores", || (cpus(want), cpus(kiosk.cpus)));
        }
        misses.should(!self.sound || kiosk.sound, "sound", || ("a sound device".into(), "none".into()));
        if let (Some(want), Some(have)) = (self.kbit_per_s, kiosk.kbit_per_s) {
            misses.should(want <= have, "bandwidth", || (format!("{want} kbit/s"), format!("{have} kbit/s")));
        }
    }
}

/// Collects misses.
struct Misses(Vec<Miss>);

impl Misses {
    fn must(&mut self, met: bool, item: &str, words: impl FnOnce() -> (String, String)) {
        self.add(true, met, item, words);
    }

    fn should(&mut self, met: bool, item: &str, words: impl FnOnce() -> (String, String)) {
        self.add(false, met, item, words);
    }

    fn add(&mut self, must: bool, met: bool, item: &str, words: impl FnOnce() -> (String, String)) {
        if !met {
            let (needed, found) = words();
            self.0.push(Miss { must, item: item.to_owned(), needed, found });
        }
    }
}

fn cpus(n: u32) -> String {
    if n == 1 { "1 CPU".to_owned() } else { format!("{n} CPUs") }
}

const V1: &[&str] = &["cmov", "cx8", "fpu", "fxsr", "lm", "mmx", "sse", "sse2", "syscall"];
const V2: &[&str] = &["cx16", "lahf_lm", "pni", "popcnt", "sse4_1", "sse4_2", "ssse3"];
const V3: &[&str] = &["abm", "avx", "avx2", "bmi1", "bmi2", "f16c", "fma", "movbe", "xsave"];

/// The CPU features of a named baseline, by their names in `/proc/cpuinfo`: the micro-architecture levels of the
/// x86-64 psABI. `None`: no baseline has that name.
pub fn baseline_features(name: &str) -> Option<BTreeSet<String>> {
    let levels: &[&[&str]] = match name {
        "x86-64-v1" => &[V1],
        "x86-64-v2" => &[V1, V2],
        "x86-64-v3" => &[V1, V2, V3],
        _ => return None,
    };
    Some(levels.iter().copied().flatten().map(|feature| (*feature).to_owned()).collect())
}
