//! Saved machines that nobody saved: decoded, checked, and built as far as that goes without `/dev/kvm`.

use super::{GOLDEN, input::Input};
use kvm_bindings::{CpuId, kvm_cpuid_entry2};
use serde_json::Value;
use std::sync::{Arc, OnceLock};
use vmm_glue::{
    cpu::{
        baseline::Baseline,
        cpuid,
        features::{FEATURES, Register},
    },
    devices::{bus::Bus, irq::Line},
    error::Result,
    machine::{
        build::{Connections, Devices, Lines, build_bus, parse_mac},
        state::MachineState,
    },
    memory::GuestRam,
};

/// The golden machine's description.
pub fn description() -> parcel::wire::guest::Machine {
    parcel::wire::guest::Machine {
        vcpus: 2,
        memory_mib: 64,
        cpu_baseline: "x86-64-v1".into(),
        mac: "52:54:00:12:34:56".into(),
    }
}

/// The CPUID answers of the golden machine, composed for a host that has everything.
fn cpuids() -> &'static [CpuId] {
    static ANSWERS: OnceLock<Vec<CpuId>> = OnceLock::new();
    ANSWERS.get_or_init(|| {
        let word = |text: &[u8; 4]| u32::from_le_bytes(*text);
        let mut leaves = vec![
            kvm_cpuid_entry2 {
                ebx: word(b"Genu"),
                edx: word(b"ineI"),
                ecx: word(b"ntel"),
                ..Default::default()
            },
            kvm_cpuid_entry2 { function: 0x8000_0008, eax: 48, ..Default::default() },
            kvm_cpuid_entry2 { function: 0x4000_0001, eax: u32::MAX, ..Default::default() },
        ];
        for feature in FEATURES {
            let mut leaf =
                kvm_cpuid_entry2 { function: feature.leaf, index: feature.subleaf, ..Default::default() };
            match feature.register {
                Register::Eax => leaf.eax = 1 << feature.bit,
                Register::Ebx => leaf.ebx = 1 << feature.bit,
                Register::Ecx => leaf.ecx = 1 << feature.bit,
                Register::Edx => leaf.edx = 1 << feature.bit,
            }
            leaves.push(leaf);
        }
        // `has` looks at every entry of a leaf, so one entry a feature will do; 80 are the most that a list holds.
        leaves.truncate(80);
        let host = CpuId::from_entries(&leaves).unwrap();
        (0..2).map(|id| cpuid::compose(&host, Baseline::V1, 2, id).unwrap()).collect()
    })
}

/// Interrupts that lead nowhere.
pub fn lines() -> Lines {
    let line = || Line::new().unwrap();
    Lines { com1: line(), com2: line(), events: line() }
}

/// Devices and bus, after power-on or as they were saved.
pub fn machine_without_kvm(saved: Option<&MachineState>, lines: Lines) -> Result<(Devices, Arc<Bus>)> {
    let description = description();
    let ram = GuestRam::new(description.memory_mib)?;
    let nothing = Connections { tap: None, disk: None };
    let devices = Devices::build(&ram, parse_mac(&description.mac)?, nothing, saved)?;
    let bus = build_bus(lines, &devices, saved)?;
    Ok((devices, bus))
}

/// Saves devices and bus beside the vCPUs of `of`, or of the golden machine, and restores them: what can be saved must come
/// back, and as it was.
pub fn saved_of(devices: &Devices, bus: &Bus, of: Option<&MachineState>) {
    let mut state = of.cloned().unwrap_or_else(|| MachineState::from_bytes(GOLDEN, &description()).unwrap());
    state.com1 = bus.com1.lock().unwrap().save();
    state.com2 = bus.com2.lock().unwrap().save();
    state.rtc = bus.rtc.lock().unwrap().save();
    state.power = bus.power.lock().unwrap().save();
    state.block = devices.block.lock().unwrap().save();
    state.net = devices.net.lock().unwrap().save();
    state.console = devices.console.lock().unwrap().save();
    state.rng = devices.rng.lock().unwrap().save();
    let bytes = state.to_bytes().unwrap();
    let again = MachineState::from_bytes(&bytes, &description()).expect("what was saved is read");
    assert_eq!(again.to_bytes().unwrap(), bytes);
    machine_without_kvm(Some(&again), lines()).expect("what was saved is restored");
}

/// The bytes of a state.
pub fn state(data: &[u8]) {
    let Ok(state) = MachineState::from_bytes(data, &description()) else { return };
    let again = state.to_bytes().unwrap();
    assert_eq!(MachineState::from_bytes(&again, &description()).unwrap().to_bytes().unwrap(), again);
    // Foreign vCPUs are refused before anything is built of the rest; here the rest is looked at all the same.
    let _ = state.check_cpus(cpuids());
    let Ok((devices, bus)) = machine_without_kvm(Some(&state), lines()) else { return };
    devices.resume(true);
    for queue in 0..3 {
        devices.net.lock().unwrap().serve(queue);
    }
    for queue in 0..2 {
        devices.console.lock().unwrap().serve(queue);
    }
    devices.rng.lock().unwrap().serve(0);
    let mut byte = [0];
    for port in [0x3f8, 0x2f8, 0x70, 0x71, 0x603] {
        bus.port_read(port, &mut byte);
        bus.port_write(port, &byte);
    }
    devices.stop().unwrap();
    saved_of(&devices, &bus, Some(&state));
}

/// The golden state with parts replaced, at any depth: reaches what random bytes hardly do.
pub fn state_parts(data: &[u8]) {
    static PARTS: OnceLock<(Vec<u8>, Value)> = OnceLock::new();
    let (first, golden) = PARTS.get_or_init(|| {
        let end = GOLDEN.iter().position(|byte| *byte == b'\n').unwrap() + 1;
        (GOLDEN[..end].to_vec(), serde_json::from_slice(&GOLDEN[end..]).unwrap())
    });
    let mut input = Input::new(data);
    let mut value = golden.clone();
    for _ in 0..input.u8().unwrap_or(0) % 8 + 1 {
        replace(&mut value, &mut input);
    }
    let mut bytes = first.clone();
    serde_json::to_writer(&mut bytes, &value).unwrap();
    state(&bytes);
}

/// Walks down to a part that the input chooses, and puts something else there.
fn replace(value: &mut Value, input: &mut Input) {
    let choice = usize::from(input.u8().unwrap_or(0));
    match value {
        Value::Object(fields) if !fields.is_empty() => {
            let name = fields.keys().nth(choice % fields.len()).cloned().unwrap_or_default();
            if let Some(part) = fields.get_mut(&name) {
                replace(part, input);
            }
        }
        Value::Array(entries) if !entries.is_empty() && choice < 0xf0 => {
            let len = entries.len();
            replace(&mut entries[choice % len], input);
        }
        Value::Array(entries) => match choice % 4 {
            0 => entries.clear(),
            1 => drop(entries.pop()),
            _ => entries.extend(entries.first().cloned()),
        },
        part => {
            *part = match choice % 8 {
                0 => Value::Bool(choice & 8 != 0),
                1 => input.u8().unwrap_or(0).into(),
                2 => input.u16().unwrap_or(0).into(),
                3 => input.u32().unwrap_or(0).into(),
                4 => input.u64().unwrap_or(0).into(),
                5 => (64u64 << 20).wrapping_sub(input.u16().unwrap_or(0).into()).into(),
                6 => {
                    let len = usize::from(input.u8().unwrap_or(0));
                    let digits: String = input.bytes(len).iter().map(|byte| format!("{byte:02x}")).collect();
                    Value::String(digits)
                }
                _ => Value::Null,
            }
        }
    }
}

/// Takes the golden state through every check, and fails where it does not pass.
pub fn golden_passes() {
    let state = MachineState::from_bytes(GOLDEN, &description()).unwrap();
    state.check_cpus(cpuids()).unwrap();
    machine_without_kvm(Some(&state), lines()).unwrap();
}
