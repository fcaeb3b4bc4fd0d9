//! The local virtual machine monitor, from rust-vmm crates on KVM.
