//! Named CPU baselines: exactly what a guest is given, whatever the host has beyond it.
//!
//! The levels are those of the x86-64 psABI (section "Micro-Architecture Levels"), plus what any 64-bit system has and
//! `x2apic`, which KVM emulates on every host. Left out is what only 16-bit code uses (`vme`).

use std::{fmt, str::FromStr};

/// A named baseline.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Baseline {
    /// `x86-64-v1`.
    V1,
    /// `x86-64-v2`.
    V2,
    /// `x86-64-v3`.
    V3,
}

const V1: &[&str] = &[
    "fpu", "de", "pse", "tsc", "msr", "pae", "mce", "cx8", "apic", "sep", "mtrr", "pge", "mca", "cmov",
    "pat", "pse36", "clflush", "mmx", "fxsr", "sse", "sse2", "syscall", "nx", "lm", "x2apic",
];
const V2: &[&str] = &["cx16", "lahf_lm", "popcnt", "pni", "ssse3", "sse4_1", "sse4_2"];
const V3: &[&str] = &["avx", "avx2", "bmi1", "bmi2", "f16c", "fma", "abm", "movbe", "xsave"];

impl Baseline {
    /// The features that it promises, as in `/proc/cpuinfo`.
    pub fn features(self) -> Vec<&'static str> {
        let mut all = V1.to_vec();
        if self >= Self::V2 {
            all.extend(V2);
        }
        if self >= Self::V3 {
            all.extend(V3);
        }
        all
    }
}

impl fmt::Display for Baseline {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::V1 => "x86-64-v1",
            Self::V2 => "x86-64-v2",
            Self::V3 => "x86-64-v3",
        })
    }
}

impl FromStr for Baseline {
    type Err = crate::error::Error;

    fn from_str(name: &str) -> Result<Self, Self::Err> {
        [Self::V1, Self::V2, Self::V3].into_iter().find(|b| b.to_string() == name).ok_or_else(|| {
            let name: String = name.chars().take(40).collect();
            crate::error::Error::Machine(format!(
                "there is no CPU baseline {name:?}; the baselines are x86-64-v1, x86-64-v2 and x86-64-v3"
            ))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cpu::features;

    #[test]
    fn every_promised_feature_is_known_and_levels_grow() {
        let mut before = 0;
        for level in [Baseline::V1, Baseline::V2, Baseline::V3] {
            let all = level.features();
            assert!(all.iter().all(|name| features::by_name(name).is_some()), "{level}");
            assert!(all.len() > before);
            before = all.len();
            assert_eq!(level.to_string().parse::<Baseline>().unwrap(), level);
        }
        assert!("x86-64-v4".parse::<Baseline>().is_err());
    }
}
