//! A kernel for tests, laid out as the Linux boot protocol says.

/// The least that is taken for a 64-bit bzImage: one setup sector more, and `body`, whose 64-bit entry is at 0x200.
pub fn bzimage(body: &[u8]) -> Vec<u8> {
    let mut image = vec![0; 1024];
    image[0x1f1] = 1;
    image[0x1fe..0x200].copy_from_slice(&0xaa55u16.to_le_bytes());
    image[0x202..0x206].copy_from_slice(b"HdrS");
    image[0x206..0x208].copy_from_slice(&0x020fu16.to_le_bytes());
    image[0x211] = 1;
    image[0x214..0x218].copy_from_slice(&0x10_0000u32.to_le_bytes());
    image[0x22c..0x230].copy_from_slice(&0x7fff_ffffu32.to_le_bytes());
    // XLF_KERNEL_64
    image[0x236] = 1;
    image[0x260..0x264].copy_from_slice(&(8u32 << 20).to_le_bytes());
    image.extend(body);
    image
}
