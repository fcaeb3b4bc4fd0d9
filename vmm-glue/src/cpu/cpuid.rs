//! The CPUID answers that a guest sees: composed leaf by leaf from the baseline, never copied from the host, so that two
//! kiosks of one vendor show the same CPU.

use super::{
    baseline::Baseline,
    features::{self, FEATURES, Register},
};
use crate::error::{Error, Result};
use kvm_bindings::{CpuId, KVM_CPUID_FLAG_SIGNIFCANT_INDEX, kvm_cpuid_entry2};

/// Physical address bits of every guest: what the smallest client CPUs have.
const PHYS_BITS: u32 = 39;
/// Family, model and stepping: for AMD those of QEMU's `x86-64-vN` models, for others those of its `kvm64`.
const AMD_SIGNATURE: u32 = 0x0006_0fb1;
const OTHER_SIGNATURE: u32 = 0x0000_0f61;
/// KVM's paravirtual features: both clock sources, no delay after port writes, and a clock that is stable.
const KVM_FEATURES: u32 = (1 << 0) | (1 << 1) | (1 << 3) | (1 << 24);
const KVM_SIGNATURE: u32 = 0x4000_0000;
const BRAND: &[u8; 48] = b"Waystation virtual CPU\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0";

/// The CPU's vendor string, from CPUID leaf 0.
pub fn vendor(cpuid: &CpuId) -> String {
    let leaf = find(cpuid, 0, 0).unwrap_or_default();
    let bytes: Vec<u8> = [leaf.ebx, leaf.edx, leaf.ecx].iter().flat_map(|r| r.to_le_bytes()).collect();
    String::from_utf8_lossy(&bytes).into_owned()
}

fn find(cpuid: &CpuId, function: u32, index: u32) -> Option<kvm_cpuid_entry2> {
    cpuid.as_slice().iter().find(|e| e.function == function && e.index == index).copied()
}

/// The least power of two of CPUs, as a shift.
fn shift(vcpus: u32) -> u32 {
    vcpus.next_power_of_two().trailing_zeros()
}

/// Composes the answers for one vCPU of a guest.
///
/// # Errors
/// When the host cannot give a feature of the baseline.
pub fn compose(supported: &CpuId, baseline: Baseline, vcpus: u32, id: u32) -> Result<CpuId> {
    let given = baseline.features();
    let mut missing: Vec<&str> = given
        .iter()
        .filter(|name| features::by_name(name).is_none_or(|f| !features::has(supported, f)))
        .copied()
        .collect();
    let host_phys_bits = find(supported, 0x8000_0008, 0).map_or(36, |e| e.eax & 0xff);
    if host_phys_bits < PHYS_BITS {
        missing.push("39-bit physical addresses");
    }
    if !missing.is_empty() {
        return Err(Error::Cpu { baseline: baseline.to_string(), missing: missing.join(", ") });
    }

    let bits = |leaf: u32, register: Register| -> u32 {
        let named = FEATURES.iter().filter(|f| f.leaf == leaf && f.subleaf == 0 && f.register == register);
        named.filter(|f| given.contains(&f.name)).fold(0, |all, f| all | 1 << f.bit)
    };
    let host = find(supported, 0, 0).unwrap_or_default();
    let amd = vendor(supported) == "AuthenticAMD";
    let mut leaves = Vec::new();
    let mut add = |function: u32, index: Option<u32>, [eax, ebx, ecx, edx]: [u32; 4]| {
        leaves.push(kvm_cpuid_entry2 {
            function,
            index: index.unwrap_or(0),
            flags: if index.is_some() { KVM_CPUID_FLAG_SIGNIFCANT_INDEX } else { 0 },
            eax,
            ebx,
            ecx,
            edx,
            ..Default::default()
        });
    };

    add(0, None, [0xd, host.ebx, host.ecx, host.edx]);
    let signature = if amd { AMD_SIGNATURE } else { OTHER_SIGNATURE };
    let topology = (id << 24) | (vcpus.next_power_of_two() << 16) | (8 << 8);
    // Bit 31: "runs under a hypervisor". Bit 28 of EDX: the logical CPU count is valid.
    let several = u32::from(vcpus > 1) << 28;
    add(1, None, [signature, topology, bits(1, Register::Ecx) | 1 << 31, bits(1, Register::Edx) | several]);
    if !amd {
        // 32 KiB L1 data, 32 KiB L1 code, 512 KiB L2, 16 MiB L3, 64-byte lines.
        let cores = ((1 << shift(vcpus)) - 1) << 26;
        add(4, Some(0), [0x121 | cores, 0x01c0_003f, 63, 0]);
        add(4, Some(1), [0x122 | cores, 0x01c0_003f, 63, 0]);
        add(4, Some(2), [0x143 | cores, 0x01c0_003f, 1023, 0]);
        add(4, Some(3), [0x163 | cores | (((1 << shift(vcpus)) - 1) << 14), 0x03c0_003f, 16383, 0]);
        add(4, Some(4), [0; 4]);
    }
    add(7, Some(0), [0, bits(7, Register::Ebx), bits(7, Register::Ecx), 0]);
    add(0xb, Some(0), [0, 1, 1 << 8, id]);
    add(0xb, Some(1), [shift(vcpus), vcpus, (2 << 8) | 1, id]);
    add(0xb, Some(2), [0, 0, 2, id]);
    if given.contains(&"xsave") {
        // x87, SSE and AVX; EBX is kept up to date by KVM as the guest sets XCR0.
        add(0xd, Some(0), [7, 832, 832, 0]);
        add(0xd, Some(1), [0; 4]);
        add(0xd, Some(2), [256, 576, 0, 0]);
    } else {
        add(0xd, Some(0), [0; 4]);
    }
    let [k0, k1, k2] = [b"KVMK", b"VMKV", b"M\0\0\0"].map(|part| u32::from_le_bytes(*part));
    add(KVM_SIGNATURE, None, [KVM_SIGNATURE + 1, k0, k1, k2]);
    let kvm = find(supported, KVM_SIGNATURE + 1, 0).map_or(0, |e| e.eax) & KVM_FEATURES;
    add(KVM_SIGNATURE + 1, None, [kvm, 0, 0, 0]);
    add(0x8000_0000, None, [0x8000_0008, host.ebx, host.ecx, host.edx]);
    // AMD repeats a part of leaf 1 here.
    let repeated = if amd { bits(1, Register::Edx) & 0x0183_f3ff } else { 0 };
    let extended = [bits(0x8000_0001, Register::Ecx), bits(0x8000_0001, Register::Edx) | repeated];
    add(0x8000_0001, None, [if amd { signature } else { 0 }, 0, extended[0], extended[1]]);
    for (index, part) in BRAND.chunks_exact(16).enumerate() {
        let word = |at: usize| u32::from_le_bytes([part[at], part[at + 1], part[at + 2], part[at + 3]]);
        add(0x8000_0002 + index as u32, None, [word(0), word(4), word(8), word(12)]);
    }
    if amd {
        add(0x8000_0005, None, [0, 0, 0x2008_0140, 0x2008_0140]);
        add(0x8000_0006, None, [0, 0, 0x0200_6140, 0x0080_9140]);
    } else {
        add(0x8000_0006, None, [0, 0, 0x0200_6040, 0]);
    }
    // No invariant TSC: a guest that trusted it would be wrong on a kiosk whose clock rate differs.
    add(0x8000_0007, None, [0; 4]);
    add(0x8000_0008, None, [PHYS_BITS | (48 << 8), 0, vcpus - 1, 0]);
    CpuId::from_entries(&leaves).map_err(|e| Error::Machine(format!("too many CPUID answers: {e:?}")))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    /// A host that has everything that has a name here.
    fn host(vendor: &[u8; 12], without: &[&str]) -> CpuId {
        let word =
            |at: usize| u32::from_le_bytes([vendor[at], vendor[at + 1], vendor[at + 2], vendor[at + 3]]);
        let mut leaves = vec![
            kvm_cpuid_entry2 { ebx: word(0), edx: word(4), ecx: word(8), ..Default::default() },
            kvm_cpuid_entry2 { function: 0x8000_0008, eax: 48, ..Default::default() },
        ];
        for feature in FEATURES.iter().filter(|f| !without.contains(&f.name)) {
            let mut leaf =
                kvm_cpuid_entry2 { function: feature.leaf, index: feature.subleaf, ..Default::default() };
            match feature.register {
                Register::Eax => leaf.eax = 1 << feature.bit,
                Register::Ebx => leaf.ebx = 1 << feature.bit,
                Register::Ecx => leaf.ecx = 1 << feature.bit,
                Register::Edx => leaf.edx = 1 << feature.bit,
            }
            match leaves.iter_mut().find(|l| l.function == leaf.function && l.index == leaf.index) {
                Some(l) => {
                    (l.eax, l.ebx) = (l.eax | leaf.eax, l.ebx | leaf.ebx);
                    (l.ecx, l.edx) = (l.ecx | leaf.ecx, l.edx | leaf.edx);
                }
                None => leaves.push(leaf),
            }
        }
        CpuId::from_entries(&leaves).unwrap()
    }

    #[test]
    fn the_guest_sees_the_baseline_and_nothing_else() {
        for vendor_name in [b"AuthenticAMD", b"GenuineIntel"] {
            for level in [Baseline::V1, Baseline::V2, Baseline::V3] {
                let guest = compose(&host(vendor_name, &[]), level, 2, 1).unwrap();
                let promised: BTreeSet<String> = level.features().into_iter().map(str::to_owned).collect();
                assert_eq!(features::named(&guest), promised, "{level}");
                assert_eq!(vendor(&guest).as_bytes(), vendor_name);
            }
        }
    }

    #[test]
    fn two_hosts_of_one_vendor_show_the_same_cpu() {
        let plain = compose(&host(b"AuthenticAMD", &["aes", "avx2", "smep"]), Baseline::V2, 2, 0).unwrap();
        let rich = compose(&host(b"AuthenticAMD", &[]), Baseline::V2, 2, 0).unwrap();
        assert_eq!(plain.as_slice(), rich.as_slice());
    }

    #[test]
    fn a_host_without_a_promised_feature_is_refused_by_name() {
        let refusal = compose(&host(b"AuthenticAMD", &["sse4_2", "popcnt"]), Baseline::V2, 1, 0).unwrap_err();
        assert_eq!(
            refusal.to_string(),
            "this CPU lacks popcnt, sse4_2 of the baseline x86-64-v2; use a kiosk with a newer CPU"
        );
        assert!(compose(&host(b"AuthenticAMD", &["sse4_2", "popcnt"]), Baseline::V1, 1, 0).is_ok());
    }
}
