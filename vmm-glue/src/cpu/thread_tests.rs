//! A vCPU that is stopped in the middle of an instruction with many accesses; needs `/dev/kvm`, if only a software one.

use super::*;
use crate::{
    devices::{bus::Window, irq::Line, power::Power, rtc::Rtc, serial::Serial},
    layout::MMIO_BASE,
    memory::GuestRam,
};
use kvm_bindings::{kvm_regs, kvm_userspace_memory_region};
use kvm_ioctls::Kvm;
use std::time::Instant;
use vm_memory::{Bytes, GuestAddress};

const CODE: u64 = 0x2000;
const TEXT: u64 = 0x3000;
const BYTES: usize = 500;

/// rep movsb; out 0x80, al; jmp back to the out
const COPY: [u8; 6] = [0xf3, 0xa4, 0xe6, 0x80, 0xeb, 0xfc];

/// Keeps what is written, in order.
#[derive(Default)]
struct Recorder(Mutex<Vec<u8>>);

impl Window for Recorder {
    fn read(&self, _offset: u64, _data: &mut [u8]) {}

    fn write(&self, _offset: u64, data: &[u8]) {
        lock(&self.0).extend(data);
    }
}

fn bus(recorder: &Arc<Recorder>) -> Bus {
    let line = || Line::new().unwrap();
    Bus {
        com1: Mutex::new(Serial::new("COM1", line())),
        com2: Mutex::new(Serial::new("COM2", line())),
        rtc: Mutex::new(Rtc::default()),
        power: Mutex::new(Power::new(line())),
        windows: std::array::from_fn(|_| Arc::clone(recorder) as Arc<dyn Window>),
    }
}

#[test]
fn a_guest_that_is_stopped_within_an_instruction_loses_and_repeats_nothing() {
    let ram = GuestRam::new(64).unwrap();
    let text: Vec<u8> = (0..BYTES).map(|n| n as u8).collect();
    ram.memory.write_slice(&COPY, GuestAddress(CODE)).unwrap();
    ram.memory.write_slice(&text, GuestAddress(TEXT)).unwrap();
    let kvm = Kvm::new().expect("these tests need /dev/kvm");
    let vm = kvm.create_vm().unwrap();
    vm.set_tss_address(crate::layout::KVM_TSS).unwrap();
    vm.create_irq_chip().unwrap();
    let (region, base) = ram.mappings()[0];
    let region =
        kvm_userspace_memory_region { memory_size: region.len, userspace_addr: base, ..Default::default() };
    // SAFETY: the mapping outlives the machine: `ram` is leaked below, and the vCPU's thread ends with the process.
    unsafe { vm.set_user_memory_region(region) }.unwrap();
    std::mem::forget(ram);
    let vcpu = vm.create_vcpu(0).unwrap();
    let mut sregs = vcpu.get_sregs().unwrap();
    (sregs.cs.base, sregs.cs.selector) = (0, 0);
    (sregs.ds.base, sregs.ds.selector) = (0, 0);
    (sregs.es.base, sregs.es.limit) = (MMIO_BASE, 0xffff_ffff);
    vcpu.set_sregs(&sregs).unwrap();
    let regs = kvm_regs { rip: CODE, rflags: 2, rsi: TEXT, rcx: BYTES as u64, ..Default::default() };
    vcpu.set_regs(&regs).unwrap();

    let recorder = Arc::new(Recorder::default());
    let (gate, bus) = (Gate::new(1), bus(&recorder));
    install_kick().unwrap();
    let patience = Instant::now() + Duration::from_secs(20);
    let (theirs, vcpu) = (Arc::clone(&gate), Mutex::new(vcpu));
    // Ends with the test's process, as in the VMM.
    std::thread::spawn(move || run(0, &vcpu, &theirs, &bus, |exit| panic!("{exit:?}")));
    while lock(&recorder.0).len() < BYTES {
        assert!(Instant::now() < patience, "the guest does not get on");
        gate.open();
        gate.close();
    }
    assert_eq!(*lock(&recorder.0), text);
}
