//! CPU features by their names in `/proc/cpuinfo`.

use kvm_bindings::CpuId;
use std::collections::BTreeSet;

/// A register of a CPUID answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Register {
    /// EAX.
    Eax,
    /// EBX.
    Ebx,
    /// ECX.
    Ecx,
    /// EDX.
    Edx,
}

/// Where CPUID tells of a feature.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Feature {
    /// Name in `/proc/cpuinfo`.
    pub name: &'static str,
    /// CPUID leaf.
    pub leaf: u32,
    /// CPUID sub-leaf.
    pub subleaf: u32,
    /// The register that has the bit.
    pub register: Register,
    /// Bit in the register.
    pub bit: u8,
}

const fn f(name: &'static str, leaf: u32, register: Register, bit: u8) -> Feature {
    Feature { name, leaf, subleaf: 0, register, bit }
}

use Register::{Eax, Ebx, Ecx, Edx};

/// Every feature that has a name here. Source: Intel SDM volume 2A "CPUID", AMD APM volume 3 appendix E, and the names
/// of Linux's `cpufeatures.h`.
pub const FEATURES: &[Feature] = &[
    f("fpu", 1, Edx, 0),
    f("vme", 1, Edx, 1),
    f("de", 1, Edx, 2),
    f("pse", 1, Edx, 3),
    f("tsc", 1, Edx, 4),
    f("msr", 1, Edx, 5),
    f("pae", 1, Edx, 6),
    f("mce", 1, Edx, 7),
    f("cx8", 1, Edx, 8),
    f("apic", 1, Edx, 9),
    f("sep", 1, Edx, 11),
    f("mtrr", 1, Edx, 12),
    f("pge", 1, Edx, 13),
    f("mca", 1, Edx, 14),
    f("cmov", 1, Edx, 15),
    f("pat", 1, Edx, 16),
    f("pse36", 1, Edx, 17),
    f("clflush", 1, Edx, 19),
    f("mmx", 1, Edx, 23),
    f("fxsr", 1, Edx, 24),
    f("sse", 1, Edx, 25),
    f("sse2", 1, Edx, 26),
    f("pni", 1, Ecx, 0),
    f("pclmulqdq", 1, Ecx, 1),
    f("ssse3", 1, Ecx, 9),
    f("fma", 1, Ecx, 12),
    f("cx16", 1, Ecx, 13),
    f("pcid", 1, Ecx, 17),
    f("sse4_1", 1, Ecx, 19),
    f("sse4_2", 1, Ecx, 20),
    f("x2apic", 1, Ecx, 21),
    f("movbe", 1, Ecx, 22),
    f("popcnt", 1, Ecx, 23),
    f("aes", 1, Ecx, 25),
    f("xsave", 1, Ecx, 26),
    f("avx", 1, Ecx, 28),
    f("f16c", 1, Ecx, 29),
    f("rdrand", 1, Ecx, 30),
    f("fsgsbase", 7, Ebx, 0),
    f("bmi1", 7, Ebx, 3),
    f("avx2", 7, Ebx, 5),
    f("smep", 7, Ebx, 7),
    f("bmi2", 7, Ebx, 8),
    f("erms", 7, Ebx, 9),
    f("invpcid", 7, Ebx, 10),
    f("avx512f", 7, Ebx, 16),
    f("avx512dq", 7, Ebx, 17),
    f("rdseed", 7, Ebx, 18),
    f("adx", 7, Ebx, 19),
    f("smap", 7, Ebx, 20),
    f("avx512cd", 7, Ebx, 28),
    f("sha_ni", 7, Ebx, 29),
    f("avx512bw", 7, Ebx, 30),
    f("avx512vl", 7, Ebx, 31),
    f("umip", 7, Ecx, 2),
    f("vaes", 7, Ecx, 9),
    f("vpclmulqdq", 7, Ecx, 10),
    Feature { name: "xsaveopt", leaf: 0xd, subleaf: 1, register: Eax, bit: 0 },
    f("lahf_lm", 0x8000_0001, Ecx, 0),
    f("abm", 0x8000_0001, Ecx, 5),
    f("sse4a", 0x8000_0001, Ecx, 6),
    f("3dnowprefetch", 0x8000_0001, Ecx, 8),
    f("syscall", 0x8000_0001, Edx, 11),
    f("nx", 0x8000_0001, Edx, 20),
    f("pdpe1gb", 0x8000_0001, Edx, 26),
    f("rdtscp", 0x8000_0001, Edx, 27),
    f("lm", 0x8000_0001, Edx, 29),
];

/// The feature of this name.
pub fn by_name(name: &str) -> Option<&'static Feature> {
    FEATURES.iter().find(|f| f.name == name)
}

/// The names of the features that these CPUID answers show.
pub fn named(cpuid: &CpuId) -> BTreeSet<String> {
    FEATURES.iter().filter(|f| has(cpuid, f)).map(|f| f.name.to_owned()).collect()
}

/// `true` when these CPUID answers show the feature.
pub fn has(cpuid: &CpuId, feature: &Feature) -> bool {
    cpuid.as_slice().iter().any(|e| {
        let register = match feature.register {
            Eax => e.eax,
            Ebx => e.ebx,
            Ecx => e.ecx,
            Edx => e.edx,
        };
        e.function == feature.leaf && e.index == feature.subleaf && register & (1 << feature.bit) != 0
    })
}
