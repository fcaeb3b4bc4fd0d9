//! A whole machine under `/dev/kvm`, with a guest of a few bytes, saved and restored; and states that are not to be.

use super::*;
use crate::{
    cpu::thread,
    machine::build::{Connections, Machine, lock},
    memory::{GuestRam, dirty::DirtyBitmap},
};
use kvm_ioctls::Kvm;
use proptest::prelude::*;
use std::{
    sync::Arc,
    time::{Duration, Instant},
};
use vm_memory::{Bytes, GuestAddress};

const CODE: u64 = 0x2000;
const COUNTER: u64 = 0x1_0000;

/// inc dword [es:0]; out 0x80, al; jmp back
const COUNT: [u8; 10] = [0x26, 0x66, 0xff, 0x06, 0, 0, 0xe6, 0x80, 0xeb, 0xf6];

fn description() -> Description {
    Description {
        vcpus: 2,
        memory_mib: 64,
        cpu_baseline: "x86-64-v1".into(),
        mac: "52:54:00:12:34:56".into(),
    }
}

fn machine(ram: GuestRam, saved: Option<&MachineState>) -> Machine {
    let kvm = Kvm::new().expect("these tests need /dev/kvm");
    let nothing = Connections { tap: None, disk: None };
    let machine = Machine::build(&kvm, &description(), ram, nothing, saved).unwrap();
    thread::install_kick().unwrap();
    for (id, vcpu) in machine.vcpus.iter().cloned().enumerate() {
        let (gate, bus) = (Arc::clone(&machine.gate), Arc::clone(&machine.bus));
        // Ends with the test's process, as in the VMM.
        std::thread::spawn(move || thread::run(id, &vcpu, &gate, &bus, |exit| panic!("{exit:?}")));
    }
    machine
}

fn count(machine: &Machine) -> u32 {
    machine.ram.memory.read_obj(GuestAddress(COUNTER)).unwrap()
}

/// Lets the guest run until it has counted on, then makes it stand.
fn run(machine: &Machine) -> u32 {
    let before = count(machine);
    machine.gate.open();
    let patience = Instant::now() + Duration::from_secs(20);
    while count(machine) < before + 3 {
        assert!(Instant::now() < patience, "the guest does not count");
        std::thread::sleep(Duration::from_millis(1));
    }
    machine.gate.close();
    count(machine)
}

fn fresh() -> Machine {
    let ram = GuestRam::new(64).unwrap();
    ram.memory.write_slice(&COUNT, GuestAddress(CODE)).unwrap();
    let machine = machine(ram, None);
    {
        let vcpu = lock(&machine.vcpus[0]);
        let mut sregs = vcpu.get_sregs().unwrap();
        (sregs.cs.base, sregs.cs.selector) = (0, 0);
        (sregs.es.base, sregs.es.selector) = (COUNTER, (COUNTER >> 4) as u16);
        vcpu.set_sregs(&sregs).unwrap();
        let regs = kvm_bindings::kvm_regs { rip: CODE, rflags: 2, ..Default::default() };
        vcpu.set_regs(&regs).unwrap();
    }
    machine
}

/// The guest opens COM2 and greets, as its clock helper does.
fn greet(machine: &Machine) {
    let mut com2 = lock(&machine.bus.com2);
    com2.write(1, 1);
    format!("{}\n", crate::devices::serial::GREETING).bytes().for_each(|byte| com2.write(0, byte));
}

fn saved(machine: &Machine) -> Vec<u8> {
    machine.save_state(machine.moment().unwrap()).unwrap().to_bytes().unwrap()
}

#[test]
fn a_machine_goes_on_where_it_stood_and_knows_what_it_changed() {
    let first = fresh();
    let stood = run(&first);
    std::thread::sleep(Duration::from_millis(20));
    assert_eq!(count(&first), stood, "it stands");
    let bytes = saved(&first);
    let mut cold = DirtyBitmap::new(first.ram.bytes());
    first.changed_pages(&mut cold).unwrap();
    assert!(cold.is_set(CODE / 4096) && cold.is_set(COUNTER / 4096));
    assert!(cold.count() < 100, "untouched memory is not named");

    // Memory travels; here it is the same file.
    let state = MachineState::from_bytes(&bytes, &description()).unwrap();
    let second = machine(first.ram.clone(), Some(&state));
    second.restore_state(&state).unwrap();
    // Its clock goes on where it stood, though the machine was away for an hour and nothing in it can be told the time.
    let hour = 3_600_000_000_000;
    let long_ago = Moment { wall: state.stood.wall - hour, ..state.stood };
    second.go_on_from(long_ago).unwrap();
    assert!(second.moment().unwrap().guest - state.stood.guest < hour);
    assert!(lock(&second.bus.com2).behind());
    // A guest that listens is told.
    greet(&second);
    assert!(!lock(&second.bus.com2).behind());
    second.go_on_from(long_ago).unwrap();
    assert!(second.moment().unwrap().guest - state.stood.guest < hour);
    assert!(lock(&second.bus.com2).read(0).is_ascii_digit());
    assert!(run(&second) > stood);
    let mut changed = DirtyBitmap::new(second.ram.bytes());
    second.changed_pages(&mut changed).unwrap();
    assert!(changed.is_set(COUNTER / 4096));
    // Bits accumulate over several saves of one run.
    let names = changed.count();
    second.changed_pages(&mut changed).unwrap();
    assert!(changed.count() >= names);
}

#[test]
fn a_reset_returns_to_power_on() {
    let machine = fresh();
    run(&machine);
    // An event that the guest has not taken, at an input of the second legacy controller too.
    lock(&machine.bus.power).notify(crate::devices::power::BUTTON);
    machine.reset().unwrap();
    let regs = lock(&machine.vcpus[0]).get_regs().unwrap();
    assert_eq!(regs.rip, 0xfff0, "the reset vector");
    for chip in &crate::machine::build::read_irqchips(&machine.vm).unwrap()[..2] {
        // SAFETY: the first two controllers are PICs.
        let pic = unsafe { chip.chip.pic };
        assert_eq!((pic.imr, pic.irr), (0xff, 0), "masked, and nothing pending");
    }
}

#[test]
fn another_model_another_machine_and_damage_are_refused_by_name() {
    let bytes = saved(&fresh());
    let refused = |bytes: &[u8], description: &Description| {
        MachineState::from_bytes(bytes, description).unwrap_err().to_string()
    };
    let text = String::from_utf8(bytes.clone()).unwrap();
    for unknown in [0, 3, 4_000_000_000_u64] {
        let other = text.replacen("machine 2\n", &format!("machine {unknown}\n"), 1);
        let words = format!("device model {unknown} and this kiosk restores models 1 to 2");
        assert!(refused(other.as_bytes(), &description()).contains(&words));
    }
    // Each model has its own parts, no more and no less.
    let older = text.replacen("machine 2\n", "machine 1\n", 1);
    assert!(refused(older.as_bytes(), &description()).contains("not of device model 1"));
    let less = text.replacen(",\"helper\":false}", "}", 1);
    assert!(refused(less.as_bytes(), &description()).contains("not of device model 2"));
    let other = Description { memory_mib: 128, ..description() };
    assert!(refused(&bytes, &other).contains("belongs to another machine"));
    assert!(refused(b"", &description()).contains("not the state of a machine"));
    assert!(refused(b"{}", &description()).contains("not the state of a machine"));
    assert!(refused(&bytes[..bytes.len() / 2], &description()).contains("damaged"));
    let surprise = text.replacen("{\"machine\"", "{\"surprise\":1,\"machine\"", 1);
    assert!(refused(surprise.as_bytes(), &description()).contains("damaged"));
    // A few bytes a piece, and half a kilobyte each in memory.
    let many = text.replacen("\"irqchips\":[", &format!("\"irqchips\":[{}", "\"\",".repeat(1000)), 1);
    assert!(refused(many.as_bytes(), &description()).contains("at most 3 entries"));
    let mut state = MachineState::from_bytes(&bytes, &description()).unwrap();
    state.vcpus.pop();
    assert!(refused(&state.to_bytes().unwrap(), &description()).contains("lacks a part"));
}

#[test]
fn another_vendors_machine_is_refused() {
    let first = fresh();
    let mut state = MachineState::from_bytes(&saved(&first), &description()).unwrap();
    first.check_state(&state).unwrap();
    state.vendor = "SomebodyElse".into();
    assert!(first.check_state(&state).unwrap_err().to_string().contains("SomebodyElse"));
}

#[test]
fn what_kvm_refuses_of_a_state_is_the_states_fault() {
    let first = fresh();
    let mut text = String::from_utf8(saved(&first)).unwrap();
    let at = text.find("\"sregs\":\"").unwrap() + 9;
    // Every segment and control register of the first vCPU.
    let end = at + text[at..].find('"').unwrap();
    text.replace_range(at..end, &"ff".repeat(size_of::<kvm_bindings::kvm_sregs>()));
    let state = MachineState::from_bytes(text.as_bytes(), &description()).unwrap();
    let why = first.restore_state(&state).unwrap_err().to_string();
    assert!(why.contains("cannot be restored") && why.contains("start the machine from its disk"), "{why}");
}

/// One of each device model; none is ever taken away.
const GOLDEN: [&[u8]; 2] = [
    include_bytes!("../../tests/golden/machine-1.state"),
    include_bytes!("../../tests/golden/machine-2.state"),
];

#[test]
fn a_golden_state_of_each_device_model_is_read_and_written_as_it_was() {
    assert_eq!(GOLDEN.len(), Model::ALL.len(), "a new device model has a golden state");
    for (bytes, model) in GOLDEN.into_iter().zip(Model::ALL) {
        let state = MachineState::from_bytes(bytes, &description()).unwrap();
        assert_eq!(state.model, model);
        assert_eq!(state.to_bytes().unwrap(), bytes);
    }
}

#[test]
fn a_machine_keeps_its_device_model_until_a_cold_boot() {
    let mut first = fresh();
    assert_eq!(first.model, Model::Two, "a cold boot takes the newest");
    // As an older kiosk saved it.
    first.model = Model::One;
    greet(&first);
    let stood = run(&first);
    let bytes = saved(&first);
    assert!(bytes.starts_with(b"waystation-machine 1\n"));
    let state = MachineState::from_bytes(&bytes, &description()).unwrap();
    let second = machine(first.ram.clone(), Some(&state));
    second.restore_state(&state).unwrap();
    second.go_on_from(Moment { wall: 0, ..state.stood }).unwrap();
    assert!(!lock(&second.bus.com2).behind(), "a guest that listened under this model had a helper");
    assert!(run(&second) > stood);
    let again = saved(&second);
    assert!(again.starts_with(b"waystation-machine 1\n"), "an older kiosk takes it back");
    MachineState::from_bytes(&again, &description()).unwrap();
    // A restart of the guest is no cold boot: the machine around it is the same.
    second.reset().unwrap();
    assert!(saved(&second).starts_with(b"waystation-machine 1\n"));
}

#[test]
fn a_helper_that_greeted_is_remembered() {
    let first = fresh();
    run(&first);
    assert_eq!(MachineState::from_bytes(&saved(&first), &description()).unwrap().helper, Some(false));
    greet(&first);
    let state = MachineState::from_bytes(&saved(&first), &description()).unwrap();
    assert_eq!(state.helper, Some(true));
    let second = machine(first.ram.clone(), Some(&state));
    second.restore_state(&state).unwrap();
    second.go_on_from(Moment { wall: 0, ..state.stood }).unwrap();
    assert!(!lock(&second.bus.com2).behind());
    // It was stopped, or is starting again just now: it does not listen, and greets when it is back.
    lock(&second.bus.com2).write(1, 0);
    second.go_on_from(Moment { wall: 0, ..state.stood }).unwrap();
    assert!(lock(&second.bus.com2).behind());
    greet(&second);
    assert!(!lock(&second.bus.com2).behind());
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, ..Default::default() })]

    /// A state with any bytes changed is read or refused, and never more than that.
    #[test]
    fn damaged_states_are_survived(which in 0..GOLDEN.len(), changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..4)) {
        let mut bytes = GOLDEN[which].to_vec();
        for (place, value) in changes {
            let place = place.index(bytes.len());
            bytes[place] = value;
        }
        let _ = MachineState::from_bytes(&bytes, &description());
    }
}
