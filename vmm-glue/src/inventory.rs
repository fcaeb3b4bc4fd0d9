//! What this kiosk has, for the hardware check.

use crate::{
    cpu::{cpuid, features},
    machine::model::Model,
};
use kvm_ioctls::Kvm;
use parcel::{tag::Inventory, wire::memory};
use std::collections::{BTreeMap, BTreeSet};

/// Measures the kiosk. Never fails: what cannot be found out is reported as not there.
pub fn measure() -> Inventory {
    let read = |path: &str| std::fs::read_to_string(path).unwrap_or_default();
    let supported = Kvm::new()
        .ok()
        .filter(|kvm| kvm.create_vm().is_ok())
        .and_then(|kvm| kvm.get_supported_cpuid(kvm_bindings::KVM_MAX_CPUID_ENTRIES).ok());
    let cpuinfo = read("/proc/cpuinfo");
    let fields = first_cpu(&cpuinfo);
    let field = |name: &str| fields.get(name).cloned().unwrap_or_default();
    Inventory {
        vendor: supported.as_ref().map_or_else(|| field("vendor_id"), cpuid::vendor),
        cpu_model: field("model name"),
        features: supported.as_ref().map_or_else(BTreeSet::new, features::named),
        cpus: cpuinfo.lines().filter(|line| line.starts_with("processor")).count() as u32,
        memory_mib: memory::guest_most(available_mib(&read("/proc/meminfo"))),
        device_models: Model::ALL.map(Model::number).into(),
        kvm: supported.is_some(),
        screen: None,
        sound: std::fs::read_dir("/sys/class/sound").is_ok_and(|mut d| d.next().is_some()),
        kbit_per_s: None,
    }
}

fn first_cpu(cpuinfo: &str) -> BTreeMap<String, String> {
    let first = cpuinfo.lines().take_while(|line| !line.is_empty());
    let pairs = first.filter_map(|line| line.split_once(':'));
    pairs.map(|(name, value)| (name.trim().to_owned(), value.trim().to_owned())).collect()
}

fn available_mib(meminfo: &str) -> u64 {
    let line = meminfo.lines().find_map(|line| line.strip_prefix("MemAvailable:"));
    let kib = line.and_then(|rest| rest.split_whitespace().next()).and_then(|number| number.parse().ok());
    kib.unwrap_or(0u64) / 1024
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_cpu_and_the_available_memory_are_read() {
        let fields = first_cpu(
            "processor\t: 0\nvendor_id\t: AuthenticAMD\nmodel name\t: X Y\n\nprocessor\t: 1\nvendor_id\t: other\n",
        );
        assert_eq!((fields["vendor_id"].as_str(), fields["model name"].as_str()), ("AuthenticAMD", "X Y"));
        assert_eq!(available_mib("MemTotal: 9 kB\nMemAvailable:   2097152 kB\n"), 2048);
        assert_eq!(available_mib("garbage"), 0);
    }

    #[test]
    fn this_machine_can_be_measured() {
        let inventory = measure();
        assert!(inventory.cpus > 0 && inventory.device_models == BTreeSet::from([1, 2]));
        assert_eq!(inventory.kvm, !inventory.features.is_empty());
    }
}
