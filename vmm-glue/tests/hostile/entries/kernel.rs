//! A guest's kernel, which whoever made its image chose.

use super::{
    bzimage::bzimage,
    input::{Input, changed},
};
use vmm_glue::{
    boot::{self, Boot},
    layout,
    memory::{GuestRam, dirty::memfd_of},
};

/// A kernel that is taken.
pub fn least_kernel() -> Vec<u8> {
    bzimage(b"kernel code")
}

/// Takes the least kernel through every check.
pub fn least_passes() {
    let file = |bytes: &[u8]| memfd_of(c"test", bytes).unwrap();
    let mut boot = Boot { kernel: file(&least_kernel()), initrd: file(b"initrd"), cmdline: "quiet".into() };
    boot::load(&GuestRam::new(64).unwrap(), &mut boot, 32).unwrap();
}

/// A kernel with changes, an initial RAM disk, and a command line.
pub fn kernel(data: &[u8]) {
    let mut input = Input::new(data);
    let image = changed(&least_kernel(), &mut input);
    let len = usize::from(input.u8().unwrap_or(0));
    let cmdline = String::from_utf8_lossy(input.bytes(len)).repeat(1 + usize::from(input.u8().unwrap_or(0)));
    let initrd = input.rest();
    let ram = GuestRam::new(64).unwrap();
    let file = |bytes| memfd_of(c"test", bytes).unwrap();
    let mut boot = Boot { kernel: file(&image), initrd: file(initrd), cmdline };
    if let Ok(entry) = boot::load(&ram, &mut boot, 32) {
        assert!((layout::KERNEL..64 << 20).contains(&entry));
    }
    // It may be loaded again: the guest restarts.
    let _ = boot::load(&ram, &mut boot, 1);
}
