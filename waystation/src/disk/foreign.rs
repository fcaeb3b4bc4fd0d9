//! Files that hold a disk, and are not its bytes: images of other programs, packed images, archives. They are told by what is
//! in them, whatever they are called, and each comes with the command that makes a raw image of it.

use crate::inspect::Input;
use std::path::{Path, PathBuf};

/// What a file is, by some bytes of it.
struct Mark {
    at: u64,
    bytes: &'static [u8],
    what: &'static str,
    /// The command; `{}` stands for the file.
    command: Command,
}

#[derive(Clone, Copy)]
enum Command {
    /// Writes to the file that is named last.
    Into(&'static str),
    /// Writes to the standard output.
    Out(&'static str),
    /// Writes what is inside to where one stands.
    Unpack(&'static str),
}

const CONVERT: Command = Command::Into("qemu-img convert -O raw");
/// Length of a fixed VHD's footer.
const FOOTER: u64 = 512;

#[rustfmt::skip]
const MARKS: [Mark; 26] = [
    Mark { at: 0, bytes: b"QFI\xfb", what: "a qcow2 image", command: CONVERT },
    Mark { at: 0, bytes: b"QED\0", what: "a QED image", command: CONVERT },
    Mark { at: 0, bytes: b"KDMV", what: "a VMDK image", command: CONVERT },
    Mark { at: 0, bytes: b"COWD", what: "a VMDK image", command: CONVERT },
    Mark { at: 0, bytes: b"vhdxfile", what: "a VHDX image", command: CONVERT },
    Mark { at: 64, bytes: &[0x7f, 0x10, 0xda, 0xbe], what: "a VDI image", command: CONVERT },
    Mark { at: 0, bytes: b"conectix", what: "a VHD image", command: Command::Into("qemu-img convert -f vpc -O raw") },
    Mark { at: 0, bytes: b"WithoutFreeSpace", what: "a Parallels image", command: CONVERT },
    Mark { at: 0, bytes: b"WithouFreSpacExt", what: "a Parallels image", command: CONVERT },
    Mark { at: 0, bytes: b"Bochs Virtual HD Image", what: "a Bochs image", command: CONVERT },
    Mark { at: 0, bytes: &[0x3a, 0xff, 0x26, 0xed], what: "an Android sparse image", command: Command::Into("simg2img") },
    Mark { at: 0, bytes: &[0x1f, 0x8b, 8], what: "packed by gzip", command: Command::Out("gzip -dc") },
    Mark { at: 0, bytes: b"\xfd7zXZ\0", what: "packed by xz", command: Command::Out("xz -dc") },
    Mark { at: 0, bytes: &[0x5d, 0, 0], what: "packed by lzma", command: Command::Out("xz -dc --format=lzma") },
    Mark { at: 0, bytes: &[0x28, 0xb5, 0x2f, 0xfd], what: "packed by zstd", command: Command::Out("zstd -dc") },
    Mark { at: 0, bytes: b"BZh", what: "packed by bzip2", command: Command::Out("bzip2 -dc") },
    Mark { at: 0, bytes: &[0x04, 0x22, 0x4d, 0x18], what: "packed by lz4", command: Command::Out("lz4 -dc") },
    Mark { at: 0, bytes: &[0x02, 0x21, 0x4c, 0x18], what: "packed by lz4", command: Command::Out("lz4 -dc") },
    Mark { at: 0, bytes: b"\x89LZO\0", what: "packed by lzop", command: Command::Out("lzop -dc") },
    Mark { at: 0, bytes: b"LZIP", what: "packed by lzip", command: Command::Out("lzip -dc") },
    Mark { at: 0, bytes: b"PK\x03\x04", what: "a zip archive", command: Command::Unpack("unzip") },
    Mark { at: 0, bytes: b"7z\xbc\xaf\x27\x1c", what: "a 7z archive", command: Command::Unpack("7z x") },
    Mark { at: 0, bytes: b"Rar!\x1a\x07", what: "a RAR archive", command: Command::Unpack("unrar x") },
    Mark { at: 257, bytes: b"ustar", what: "a tar archive, as an OVA is", command: Command::Unpack("tar -xf") },
    Mark { at: 0, bytes: b"070701", what: "a cpio archive, as an initrd is", command: Command::Unpack("cpio -idF") },
    Mark { at: 0, bytes: b"!<arch>\n", what: "an ar archive, as a Debian package is", command: Command::Unpack("ar x") },
];

/// What the file is, and the command that makes a raw image of it; `None` if it may be raw.
pub(super) fn fault(file: &Input, path: &Path) -> Option<String> {
    if let Some(mark) = MARKS.iter().find(|mark| file.is(mark.at, mark.bytes)) {
        let said = match mark.command {
            Command::Into(_) => format!("it is {}, not a raw one; convert it with ", mark.what),
            Command::Out(_) => format!("it is {}; unpack it with ", mark.what),
            Command::Unpack(_) => format!("it is {}, not a disk image; unpack it with ", mark.what),
        };
        let ours = quoted(path);
        let (command, last) = match mark.command {
            Command::Into(command) => (format!("{command} {ours} {}", quoted(&raw(path))), "import that"),
            Command::Out(command) => (format!("{command} {ours} > {}", quoted(&raw(path))), "import that"),
            Command::Unpack(command) => (format!("{command} {ours}"), "import the disk that is in it"),
        };
        return Some(format!("{said}{command} and {last}"));
    }
    if described(file) {
        return Some(format!(
            "it is a VMDK descriptor, which only names the files with the disk; put those beside it, convert it with \
             qemu-img convert -O raw {} {} and import that",
            quoted(path),
            quoted(&raw(path))
        ));
    }
    tail(file, path)
}

/// Is it the text that says where a VMDK's disk is?
fn described(file: &Input) -> bool {
    let len = file.bytes.min(1024) as usize;
    let text = file.read(0, len).map(|bytes| String::from_utf8_lossy(&bytes).to_ascii_lowercase());
    text.is_ok_and(|text| {
        text.trim_start_matches(['\u{feff}', ' ', '\r', '\n']).starts_with("# disk descriptorfile")
    })
}

/// Formats that are raw up to something at the end.
fn tail(file: &Input, path: &Path) -> Option<String> {
    let (ours, raw) = (quoted(path), quoted(&raw(path)));
    // The footer of some old ones is a byte shorter.
    for len in [FOOTER, FOOTER - 1] {
        let at = file.bytes.checked_sub(len)?;
        if file.is(at, b"conectix") {
            return Some(format!(
                "it is a fixed VHD image, a raw one with a footer; cut that off with head -c -{len} {ours} > {raw} and \
                 import that"
            ));
        }
    }
    let dmg = file.is(file.bytes.checked_sub(512)?, b"koly");
    dmg.then(|| {
        format!(
            "it is a DMG image, not a raw one; convert it with qemu-img convert -f dmg -O raw {ours} {raw} and import that"
        )
    })
}

/// Where a raw image of a file may go: beside it, and over nothing that is there.
pub(super) fn raw(path: &Path) -> PathBuf {
    let mut raw = path.with_extension("raw");
    while raw == path || raw.exists() {
        raw.as_mut_os_string().push(".raw");
    }
    raw
}

/// A path as a shell takes it.
pub(crate) fn quoted(path: &Path) -> String {
    let text = path.display().to_string();
    let text = if text.starts_with('-') { format!("./{text}") } else { text };
    let plain = |c: char| c.is_ascii_alphanumeric() || "._/+=:@%,-".contains(c);
    if text.chars().all(plain) { text } else { format!("'{}'", text.replace('\'', r"'\''")) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn commands_can_be_pasted() {
        assert_eq!(quoted(Path::new("a/b-1.vmdk")), "a/b-1.vmdk");
        assert_eq!(quoted(Path::new("it's $HOME.img")), r"'it'\''s $HOME.img'");
        assert_eq!(quoted(Path::new("-rf")), "./-rf");
        assert_eq!(raw(Path::new("a/disk.raw")), Path::new("a/disk.raw.raw"));
        assert_eq!(raw(Path::new("a/disk.img.xz")), Path::new("a/disk.img.raw"));
        assert_eq!(raw(Path::new("disk")), Path::new("disk.raw"));
    }
}
