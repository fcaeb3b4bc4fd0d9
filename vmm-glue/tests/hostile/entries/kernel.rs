//! A guest's kernel, which whoever made its image chose.

use super::input::{Input, changed};
use vmm_glue::{
    boot::{self, Boot},
    layout,
    memory::{GuestRam, dirty::memfd_of},
};

/// The least that is taken for a 64-bit bzImage.
pub fn least_kernel() -> Vec<u8> {
    let mut image = vec![0; 1024];
    image[0x1f1] = 1;
    image[0x1fe..0x200].copy_from_slice(&0xaa55u16.to_le_bytes());
    image[0x202..0x206].copy_from_slice(b"HdrS");
    image[0x206..0x208].copy_from_slice(&0x020fu16.to_le_bytes());
    image[0x211] = 1;
    image[0x214..0x218].copy_from_slice(&0x10_0000u32.to_le_bytes());
    image[0x22c..0x230].copy_from_slice(&0x7fff_ffffu32.to_le_bytes());
    image[0x236] = 1;
    image[0x260..0x264].copy_from_slice(&(8u32 << 20).to_le_bytes());
    image.extend(b"kernel code");
    image
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
