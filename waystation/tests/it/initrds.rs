//! Initial RAM disks.

use crate::workshop::Workshop;

fn judge(shop: &Workshop, initrd: &str) -> Option<String> {
    shop.import(&["--disk", "disk.img", "--initrd", initrd, "--cmdline", "root=/dev/vda"])
}

fn shop() -> Workshop {
    let shop = Workshop::new();
    shop.sh("truncate -s 8M disk.img && mke2fs -q -F disk.img && head -c 100000 /dev/urandom > tree/b");
    shop.sh("mkdir -p early/kernel/x86/microcode && echo code > early/kernel/x86/microcode/GenuineIntel.bin");
    shop.sh("(cd early && find . | cpio -o -H newc --quiet) > early.cpio; (cd tree && find . | cpio -o -H newc --quiet) > main.cpio");
    shop
}

#[test]
fn every_packing_that_the_kernel_reads_is_taken_alone_and_behind_microcode() {
    let shop = shop();
    for pack in [
        "cat",
        "gzip -c",
        "bzip2 -c",
        "xz -c --check=crc32",
        "xz -c --format=lzma",
        "lzop -c",
        "lzop -c -9",
        "lz4 -q -l -c",
        "zstd -q -c",
        "zstd -q -c -19 --check",
    ] {
        shop.sh(&format!("{pack} main.cpio > one && cat early.cpio one > two"));
        assert_eq!(judge(&shop, "one"), None, "{pack}");
        assert_eq!(judge(&shop, "two"), None, "{pack}");
        // Several packed ones, padded, as a distribution and then an administrator put them together.
        shop.sh("cat early.cpio one > many; truncate -s %512 many; cat one >> many; truncate -s %4 many; cat early.cpio >> many");
        assert_eq!(judge(&shop, "many"), None, "{pack}");
        if pack.contains("gzip") || pack.contains("bzip2") || pack.contains("lzma") {
            continue;
        }
        shop.sh("head -c -3000 two > cut");
        let said = judge(&shop, "cut").unwrap_or_else(|| panic!("{pack}"));
        assert!(said.contains("so it is cut off; copy it again"), "{pack}: {said}");
    }
}

#[test]
fn what_is_no_initial_ram_disk_is_named() {
    let shop = shop();
    shop.sh("lz4 -q -c main.cpio > frame; (cd tree && find . | cpio -o -H odc --quiet) > old; head -c 600 /dev/zero > uki; printf MZ | dd of=uki conv=notrunc status=none");
    shop.sh("zstd -q -c main.cpio > odd; head -c $((4 + 1 - $(stat -c %s odd) % 4)) /dev/zero >> odd; cat main.cpio >> odd; head -c 4096 /dev/zero > zeros");
    for (given, part) in [
        ("odd", "is not at a multiple of four, where the kernel would look for it; fill the archive"),
        ("zeros", "it is no cpio archive, plain or compressed; give"),
        ("frame", "lz4's newer format, which the kernel does not read; pack it with lz4 -l"),
        ("old", "in an old format, which the kernel does not read; make it with cpio -o -H newc"),
        ("vmlinuz", "it is a Linux kernel; give its initrd.img"),
        ("uki", "--only-section=.initrd"),
        ("disk.img", "it is no cpio archive, plain or compressed; give"),
    ] {
        let said = judge(&shop, given).unwrap_or_else(|| panic!("{given}"));
        assert!(said.contains(part), "{said}");
    }
}
