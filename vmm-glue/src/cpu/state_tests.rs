//! These need `/dev/kvm`, if only a software one; without it they fail, for nothing else tests the orders.

use super::*;
use crate::{
    cpu::{baseline::Baseline, cpuid},
    memory::GuestRam,
};
use kvm_bindings::{KVM_MEM_LOG_DIRTY_PAGES, kvm_userspace_memory_region};
use kvm_ioctls::{Kvm, VcpuExit, VmFd};
use vm_memory::{Bytes, GuestAddress};

const CODE: u64 = 0x2000;
const COUNTER: u64 = 0x1_0000;

/// inc word [es:0]; mov ax, [es:0]; out 0x80, ax; jmp back
const COUNT: [u8; 13] = [0x26, 0xff, 0x06, 0, 0, 0x26, 0xa1, 0, 0, 0xe7, 0x80, 0xeb, 0xf3];

/// A vCPU that counts in memory and says each number at port 0x80.
struct Counter {
    vm: VmFd,
    vcpu: VcpuFd,
    answers: CpuId,
}

impl Counter {
    fn new(ram: &GuestRam) -> Self {
        let kvm = Kvm::new().expect("these tests need /dev/kvm");
        let vm = kvm.create_vm().unwrap();
        vm.set_tss_address(crate::layout::KVM_TSS).unwrap();
        vm.create_irq_chip().unwrap();
        let (region, base) = ram.mappings()[0];
        let region = kvm_userspace_memory_region {
            slot: 0,
            flags: KVM_MEM_LOG_DIRTY_PAGES,
            guest_phys_addr: 0,
            memory_size: region.len,
            userspace_addr: base,
        };
        // SAFETY: the mapping outlives the machine: every test keeps `ram` to its end.
        unsafe { vm.set_user_memory_region(region) }.unwrap();
        let vcpu = vm.create_vcpu(0).unwrap();
        let supported = kvm.get_supported_cpuid(kvm_bindings::KVM_MAX_CPUID_ENTRIES).unwrap();
        let answers = cpuid::compose(&supported, Baseline::V1, 1, 0).unwrap();
        vcpu.set_cpuid2(&answers).unwrap();
        Self { vm, vcpu, answers }
    }

    fn start(&self) {
        let mut sregs = self.vcpu.get_sregs().unwrap();
        (sregs.cs.base, sregs.cs.selector) = (0, 0);
        (sregs.es.base, sregs.es.selector) = (COUNTER, (COUNTER >> 4) as u16);
        self.vcpu.set_sregs(&sregs).unwrap();
        self.vcpu.set_regs(&kvm_regs { rip: CODE, rflags: 2, rbx: 0x1234, ..Default::default() }).unwrap();
    }

    fn count(&mut self, times: usize) -> Vec<u16> {
        let mut said = Vec::new();
        while said.len() < times {
            match self.vcpu.run().unwrap() {
                VcpuExit::IoOut(0x80, data) => said.push(u16::from_le_bytes([data[0], data[1]])),
                other => panic!("{other:?}"),
            }
        }
        // Completes the last access, as the vCPU's thread does.
        self.vcpu.set_kvm_immediate_exit(1);
        assert!(self.vcpu.run().is_err());
        self.vcpu.set_kvm_immediate_exit(0);
        said
    }
}

fn ram() -> GuestRam {
    let ram = GuestRam::new(64).unwrap();
    ram.memory.write_slice(&COUNT, GuestAddress(CODE)).unwrap();
    ram
}

#[test]
fn a_guest_goes_on_in_another_vcpu_where_it_stood() {
    let ram = ram();
    let mut first = Counter::new(&ram);
    first.start();
    assert_eq!(first.count(5), [1, 2, 3, 4, 5]);
    let saved = VcpuState::save(&first.vcpu, &first.answers).unwrap();
    drop(first);

    let text = serde_json::to_string(&saved).unwrap();
    let saved: VcpuState = serde_json::from_str(&text).unwrap();
    let mut second = Counter::new(&ram);
    saved.validate(&second.answers).unwrap();
    saved.restore(&second.vcpu).unwrap();
    assert_eq!(second.vcpu.get_regs().unwrap().rbx, 0x1234);
    assert_eq!(second.count(3), [6, 7, 8]);
}

#[test]
fn a_state_comes_back_from_a_fresh_vcpu_as_it_went_in() {
    let ram = ram();
    let mut first = Counter::new(&ram);
    first.start();
    first.count(2);
    let saved = VcpuState::save(&first.vcpu, &first.answers).unwrap();
    let second = Counter::new(&ram);
    saved.restore(&second.vcpu).unwrap();
    let again = VcpuState::save(&second.vcpu, &second.answers).unwrap();
    // Time goes on in between.
    let timeless = |state: &VcpuState| {
        let mut state = state.clone();
        state.msrs.retain(|(index, _)| ![MSR_TSC, 0x3b].contains(index));
        state
    };
    let (saved, again) = (timeless(&saved), timeless(&again));
    assert_eq!(saved.regs, again.regs);
    assert_eq!(saved.sregs, again.sregs);
    assert_eq!(saved.msrs, again.msrs);
    assert_eq!(saved.mp_state, again.mp_state);
    assert_eq!(saved.xcrs, again.xcrs);
}

#[test]
fn kvms_log_names_every_page_that_the_guest_wrote() {
    let ram = ram();
    let mut guest = Counter::new(&ram);
    guest.start();
    guest.vm.get_dirty_log(0, 64 << 20).unwrap();
    guest.count(1);
    let words = guest.vm.get_dirty_log(0, 64 << 20).unwrap();
    let page = (COUNTER / 4096) as usize;
    assert_ne!(words[page / 64] & 1 << (page % 64), 0);
}

#[test]
fn a_state_that_is_not_of_this_cpu_is_refused() {
    let ram = ram();
    let guest = Counter::new(&ram);
    let good = VcpuState::save(&guest.vcpu, &guest.answers).unwrap();
    good.validate(&guest.answers).unwrap();
    let refused = |change: &dyn Fn(&mut VcpuState)| {
        let mut bad = good.clone();
        change(&mut bad);
        bad.validate(&guest.answers).unwrap_err().to_string()
    };
    assert!(refused(&|s| s.msrs[0] = (0xc001_1029, 0)).contains("0xc0011029"));
    assert!(refused(&|s| s.msrs = vec![(0x10, 0); 1000]).contains("too many MSRs"));
    assert!(refused(&|s| s.cpuid[1].0.ecx ^= 1).contains("differs from this one"));
    assert!(refused(&|s| s.cpuid.truncate(1)).contains("differs from this one"));
    assert!(VcpuState::blank().validate(&guest.answers).is_err());
}

#[test]
fn a_value_that_kvm_refuses_is_an_error_and_not_a_crash() {
    let ram = ram();
    let guest = Counter::new(&ram);
    let mut bad = VcpuState::save(&guest.vcpu, &guest.answers).unwrap();
    // Long mode without paging structures that allow it.
    bad.sregs.0.cr4 = u64::MAX;
    bad.sregs.0.efer = u64::MAX;
    assert!(bad.restore(&guest.vcpu).is_err());
}
