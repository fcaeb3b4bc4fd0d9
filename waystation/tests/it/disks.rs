//! Disk images.

use crate::workshop::Workshop;
use std::process::Command;

/// The command in a sentence, between two words.
fn between<'a>(said: &'a str, before: &str, after: &str) -> &'a str {
    said.split_once(before).and_then(|(_, rest)| rest.split_once(after)).unwrap_or_else(|| panic!("{said}")).0
}

const EXT: &str = "truncate -s 8M disk.img && mke2fs -q -F -t ext4 disk.img";
/// An EFI system partition, /boot and a root.
const GPT: &str = "truncate -s 64M gpt.img && printf 'label: gpt\nsize=4M,type=uefi\nsize=8M,type=linux\n\
     type=4F68BCE3-E8CD-4DB1-96E7-FBCAF984B709,uuid=11111111-2222-4333-8444-555555555555\n' | sfdisk -q gpt.img && \
     mkfs.vfat -C esp 4096 >/dev/null && truncate -s 8M boot && mke2fs -q -F -t ext4 boot && truncate -s 50M root && \
     mke2fs -q -F -t ext4 -U 99999999-aaaa-4bbb-8ccc-dddddddddddd root && \
     dd if=esp of=gpt.img bs=1M seek=1 conv=notrunc status=none && dd if=boot of=gpt.img bs=1M seek=5 conv=notrunc status=none && \
     dd if=root of=gpt.img bs=1M seek=13 conv=notrunc status=none";

#[test]
fn images_of_other_programs_are_named_and_their_commands_work() {
    let shop = Workshop::new();
    shop.sh(EXT);
    assert_eq!(shop.disk("disk.img", "root=/dev/vda"), None);
    let cases = [
        ("qcow2", "-O qcow2", "it is a qcow2 image, not a raw one; convert it with"),
        ("qed", "-O qed", "a QED image"),
        ("vdi", "-O vdi", "a VDI image"),
        ("vhdx", "-O vhdx", "a VHDX image"),
        ("dynamic.vhd", "-O vpc -o force_size", "a VHD image"),
        ("fixed.vhd", "-O vpc -o subformat=fixed,force_size", "a fixed VHD image"),
        ("vmdk", "-O vmdk", "a VMDK image"),
        ("stream.vmdk", "-O vmdk -o subformat=streamOptimized", "a VMDK image"),
        ("flat.vmdk", "-O vmdk -o subformat=monolithicFlat", "a VMDK descriptor"),
    ];
    for (name, format, said) in cases {
        shop.sh(&format!("qemu-img convert -f raw {format} disk.img it.{name}"));
        let refused = shop.refused(&format!("it.{name}"), "root=/dev/vda", &[said]);
        assert!(!refused.contains("cut off;"), "{refused}");
        let lead = if name == "fixed.vhd" { "cut that off with " } else { "convert it with " };
        shop.sh(between(&refused, lead, " and import that"));
        let raw = std::path::Path::new(&format!("it.{name}")).with_extension("raw").display().to_string();
        assert_eq!(shop.disk(&raw, "root=/dev/vda"), None, "{refused}");
        shop.sh(&format!("cmp {raw} disk.img && rm {raw}"));
    }
    // By what it is, not by its name.
    shop.sh("cp it.qcow2 'my disk.img'; cp disk.img it.vmdk");
    shop.refused(
        "my disk.img",
        "root=/dev/vda",
        &["qcow2", "qemu-img convert -O raw 'my disk.img' 'my disk.raw' and"],
    );
    assert_eq!(shop.disk("it.vmdk", "root=/dev/vda"), None);
    assert_eq!(shop.disk("it-flat.vmdk", "root=/dev/vda").is_some(), !shop.path("it-flat.vmdk").exists());
}

#[test]
fn packed_images_are_named_and_their_commands_work() {
    let shop = Workshop::new();
    shop.sh(EXT);
    for (name, pack) in [
        ("gz", "gzip"),
        ("xz", "xz -1"),
        ("zst", "zstd -q"),
        ("bz2", "bzip2"),
        ("lz4", "lz4 -q"),
        ("lzo", "lzop"),
        ("l.lz4", "lz4 -q -l"),
    ] {
        shop.sh(&format!("{pack} -c disk.img > packed.{name}"));
        let said = shop.refused(&format!("packed.{name}"), "root=/dev/vda", &["it is packed by "]);
        shop.sh(between(&said, "unpack it with ", " and import that"));
        shop.sh("cmp packed*raw disk.img && rm packed*raw");
    }
    shop.sh("tar -cf disk.ova disk.img");
    shop.refused("disk.ova", "quiet", &["a tar archive", "tar -xf disk.ova"]);
}

#[test]
fn the_root_is_where_the_command_line_says() {
    let shop = Workshop::new();
    shop.sh(GPT);
    for root in ["/dev/vda", "/dev/sda3", "/dev/nvme0n1p3", "/dev/vda1", "/dev/vda4"] {
        let said = shop.refused("gpt.img", &format!("quiet root={root} rw"), &[&format!("root={root} is n")]);
        assert!(said.contains("write root=/dev/vda3 in --cmdline"), "{said}");
        assert!(said.contains("/dev/vda2 (an ext file system of 8 MiB)"), "{said}");
    }
    shop.refused(
        "gpt.img",
        "root=UUID=00000000-aaaa-4bbb-8ccc-dddddddddddd",
        &["has that UUID; write root=/dev/vda3"],
    );
    shop.refused(
        "gpt.img",
        "root=PARTUUID=00000000-2222-4333-8444-555555555555",
        &["has that PARTUUID; write"],
    );
    for good in [
        "root=/dev/vda3",
        "root=/dev/vda root=/dev/vda3",
        "root=UUID=99999999-aaaa-4bbb-8ccc-dddddddddddd",
        "root=PARTUUID=11111111-2222-4333-8444-555555555555",
        "root=LABEL=root",
        "quiet",
    ] {
        assert_eq!(shop.disk("gpt.img", good), None, "{good}");
    }
    let forced = ["--disk", "gpt.img", "--initrd", "initrd.img", "--cmdline", "root=/dev/vda", "--force-raw"];
    assert_eq!(shop.import(&forced), None);
    // No table at all.
    shop.sh(EXT);
    shop.refused(
        "disk.img",
        "root=/dev/vda1",
        &["the whole disk is an ext file system; write root=/dev/vda in"],
    );
    // An MBR with logical partitions, for a PC that only has a BIOS.
    shop.sh(
        "truncate -s 64M mbr.img && printf 'label: dos\\nlabel-id: 0xabcdef01\\nsize=8M,type=82\\ntype=5\\nsize=20M,type=83\\ntype=83\\n' | \
         sfdisk -q mbr.img && truncate -s 19M one && mkfs.btrfs -q -f --mixed one 2>/dev/null || mke2fs -q -F one; \
         start=$(sfdisk -d mbr.img | sed -n 's/.*img5 : start= *\\([0-9]*\\),.*/\\1/p') && \
         dd if=one of=mbr.img seek=$start conv=notrunc status=none",
    );
    shop.refused("mbr.img", "root=/dev/vda", &["partition table (MBR)", "write root=/dev/vda5 in --cmdline"]);
    assert_eq!(shop.disk("mbr.img", "root=/dev/vda5"), None);
    assert_eq!(shop.disk("mbr.img", "root=PARTUUID=abcdef01-05"), None);
    // F2FS, whose UUID is not read; then a file system that is not known.
    shop.sh("truncate -s 300M it && printf '\\020\\040\\365\\362' | dd of=it bs=1024 seek=1 conv=notrunc status=none");
    assert_eq!(shop.disk("it", "root=UUID=99999999-aaaa-4bbb-8ccc-dddddddddddd"), None);
    shop.sh("truncate -s 300M it && printf 'label: gpt\\nsize=1M\\ntype=linux\\n' | sfdisk -q it");
    assert_eq!(shop.disk("it", "root=/dev/vda2"), None);
    shop.refused("it", "root=/dev/vda1", &["is no file system that is known here; ", "or give --force-raw"]);
}

#[test]
fn sectors_of_4096_bytes_are_told_and_the_root_can_be_taken_out() {
    let shop = Workshop::new();
    // As sfdisk --sector-size 4096 makes it, where that is new enough: GPT by hand from one of 512.
    shop.sh(&format!(
        "{GPT} && truncate -s 512M big.img && dd if=gpt.img of=big.img bs=512 skip=1 seek=8 count=1 conv=notrunc status=none && \
         dd if=gpt.img of=big.img bs=512 skip=2 seek=16 count=32 conv=notrunc status=none && \
         dd if=root of=big.img bs=4096 seek=26624 conv=notrunc status=none"
    ));
    let said =
        shop.refused("big.img", "root=/dev/vda3", &["partition table (GPT) is for sectors of 4096 bytes"]);
    shop.sh(between(&said, "take its partition 3 out with ", " and import that with root=/dev/vda"));
    assert_eq!(shop.disk("big.raw", "root=/dev/vda"), None);
    // What is there is never overwritten.
    shop.refused("big.img", "root=/dev/vda3", &["of=big.raw.raw bs=4096"]);
}

#[test]
fn every_root_that_linux_has_is_taken() {
    let shop = Workshop::new();
    for (name, make) in [
        ("xfs", "truncate -s 400M it && mkfs.xfs -q -f it"),
        ("btrfs", "truncate -s 200M it && mkfs.btrfs -q -f it"),
        ("ext2", "truncate -s 4M it && mke2fs -q -F -t ext2 it"),
        ("sparse", "truncate -s 40G it && mke2fs -q -F -t ext4 -E lazy_itable_init=1 it"),
    ] {
        shop.sh(&format!("rm -f it; {make}"));
        assert_eq!(shop.disk("it", "root=/dev/vda"), None, "{name}");
        shop.sh("truncate -s -1M it");
        shop.refused("it", "root=/dev/vda", &["so it is cut off; copy it again, or give --force-raw"]);
    }
}

#[test]
fn volumes_want_their_own_names() {
    let shop = Workshop::new();
    shop.sh("truncate -s 40M luks && echo secret | cryptsetup -q luksFormat --pbkdf pbkdf2 --pbkdf-force-iterations 1000 luks -");
    shop.refused(
        "luks",
        "root=/dev/vda",
        &["the whole disk is a LUKS volume; name what is in it", "cryptsetup"],
    );
    assert_eq!(shop.disk("luks", "root=/dev/mapper/root"), None);
    // What pvcreate leaves: its label in the second sector.
    shop.sh("truncate -s 200M lvm.img && printf 'label: gpt\\ntype=lvm\\n' | sfdisk -q lvm.img && \
         printf LABELONE | dd of=lvm.img bs=512 seek=2049 conv=notrunc status=none");
    shop.refused(
        "lvm.img",
        "root=/dev/vda1",
        &["partition 1 is an LVM physical volume", "root=/dev/mapper/GROUP-VOLUME", "lvm2"],
    );
    assert_eq!(shop.disk("lvm.img", "root=/dev/mapper/vg-root"), None);
    assert_eq!(shop.disk("lvm.img", "root=UUID=99999999-aaaa-4bbb-8ccc-dddddddddddd"), None);
}

#[test]
fn what_no_linux_starts_from_is_named() {
    let shop = Workshop::new();
    shop.sh(
        "truncate -s 64M windows.img && printf 'label: gpt\\nsize=4M,type=uefi\\nsize=1M,type=E3C9E316-0B5C-4DB8-817D-F92DF00215AE\\n\
         type=EBD0A0A2-B9E5-4433-87C0-68B6B72699C7\\n' | sfdisk -q windows.img && truncate -s 50M c && mkntfs -q -F c >/dev/null 2>&1 && \
         dd if=c of=windows.img bs=1M seek=6 conv=notrunc status=none",
    );
    shop.refused("windows.img", "quiet", &["an NTFS file system on it, so it is a disk of Windows"]);
    shop.refused("c", "root=/dev/vda", &["a disk of Windows"]);
    // A unified kernel image and nothing else.
    shop.sh(
        "truncate -s 40M uki.img && printf 'label: gpt\\ntype=uefi\\n' | sfdisk -q uki.img && mkfs.vfat -F 32 -C esp32 38000 >/dev/null && \
         dd if=esp32 of=uki.img bs=1M seek=1 conv=notrunc status=none",
    );
    shop.refused(
        "uki.img",
        "quiet",
        &["there is only a FAT file system on it, and no file system for a root"],
    );
    shop.sh("mkdir iso && echo a > iso/a && xorriso -as mkisofs -quiet -o it.iso iso 2>/dev/null");
    shop.refused("it.iso", "root=/dev/vda", &["an ISO 9660 image", "qemu-img create -f raw"]);
    shop.sh(
        "truncate -s 8M parts.img && printf 'label: gpt\\n' | sfdisk -q parts.img && truncate -s 8M zeros",
    );
    shop.refused("parts.img", "root=/dev/vda1", &["partition table (GPT) has no partitions; install"]);
    shop.refused("zeros", "root=/dev/vda", &["it is empty or no disk image; give another"]);
    shop.sh("dd if=windows.img of=lost.img bs=512 count=1 status=none && truncate -s 64M lost.img");
    shop.refused("lost.img", "root=/dev/vda", &["there is a partition table (GPT), and there is none; mend"]);
    shop.sh(&format!("{GPT} && truncate -s -8M gpt.img"));
    shop.refused(
        "gpt.img",
        "root=/dev/vda3",
        &["partition table (GPT) is of 67108864 bytes", "cut off; copy it again"],
    );
}

#[test]
fn what_is_no_file_is_named() {
    let shop = Workshop::new();
    shop.sh("mkdir folder && mkfifo pipe && : > empty && head -c 1000 /dev/zero > odd");
    for (given, part) in [
        ("folder", "it is a folder, not a file; give"),
        ("pipe", "it is not a file that can be read at any offset; write it to a file"),
        ("-", "the standard input cannot be read at any offset; write it to a file"),
        ("/dev/stdin", "it is not a file that can be read at any offset; write"),
        ("empty", "it is empty; make it again"),
        ("absent", "No such file or directory (os error 2); check its name"),
        ("odd", "its 1000 bytes are not whole sectors of 512"),
    ] {
        shop.refused(given, "root=/dev/vda", &[part]);
    }
}

#[test]
fn a_machine_has_as_much_memory_as_the_vmm_gives() {
    for (mib, code) in [("63", 2), ("64", 3), ("262144", 3), ("262145", 2)] {
        let files = ["--disk", "absent", "--kernel", "absent", "--initrd", "absent"];
        let ran = Command::new(env!("CARGO_BIN_EXE_waystation"))
            .args(["import", "--name", "golden", "--cmdline", "root=/dev/vda", "--memory", mib])
            .args(files)
            .output()
            .unwrap();
        assert_eq!(ran.status.code(), Some(code), "{mib}: {ran:?}");
    }
}

#[test]
fn a_recovery_file_that_a_cut_off_import_left_is_said_to_be_one() {
    let shop = Workshop::new();
    shop.sh(EXT);
    shop.sh("echo old > recovery");
    let arguments =
        ["--disk", "disk.img", "--initrd", "initrd.img", "--cmdline", "quiet", "--recovery-out", "recovery"];
    let said = shop.import(&arguments).expect("it is refused");
    assert!(said.contains("earlier attempt that was cut off") && said.contains("remove the file"), "{said}");
    shop.sh("grep -q old recovery && rm recovery");
    assert_eq!(shop.import(&arguments), None);
}
