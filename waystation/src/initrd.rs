//! Is an initial RAM disk whole? It is one cpio archive or several, one after the other, each plain or compressed
//! (Documentation/driver-api/early-userspace/buffer-format.rst). Nothing is unpacked: cpio, zstd (RFC 8878), LZO and LZ4's
//! legacy format say how long their parts are, and xz has a footer. Of gzip, bzip2 and lzma only the beginning can be known.

use super::inspect::Input;

/// The longest block that LZ4's legacy format has: what 8 MiB may grow to.
const LZ4_BLOCK: u64 = (8 << 20) + (8 << 20) / 255 + 16;

/// A part that the file ends in.
struct CutOff(&'static str);

/// Why a file cannot be an initial RAM disk; `None` if it can.
pub(super) fn fault(file: &Input) -> Option<String> {
    let mut at = 0;
    // Zeros may stand before the first archive as well.
    let mut any = false;
    loop {
        match zeros(file, at) {
            Some(next) => at = next,
            None if any => return None,
            None => {}
        }
        let end = match file.at::<6>(at).unwrap_or_default() {
            [b'0', b'7', b'0', b'7', b'0', b'1' | b'2'] if at % 4 != 0 => return Some(unaligned(at)),
            [b'0', b'7', b'0', b'7', b'0', b'1' | b'2'] => cpio(file, at),
            [0x28, 0xb5, 0x2f, 0xfd, ..] => zstd(file, at),
            [0x50..=0x5f, 0x2a, 0x4d, 0x18, ..] if any => skippable(file, at),
            [0x02, 0x21, 0x4c, 0x18, ..] => lz4(file, at),
            [0x89, b'L', b'Z', b'O', 0, 0x0d] => lzo(file, at),
            [0xfd, b'7', b'z', b'X', b'Z', 0] => xz(file, at),
            [0x1f, 0x8b | 0x9e, ..] | [b'B', b'Z', b'h', ..] | [0x5d, 0, ..] => return None,
            // What follows concerns an early archive as well: the kernel would stop at it.
            [0x04, 0x22, 0x4d, 0x18, ..] => return Some(LZ4_FRAME.to_owned()),
            // Something behind an archive is the kernel's to judge.
            _ if any => return None,
            _ => return Some(other(file).to_owned()),
        };
        any = true;
        match end {
            Ok(next) if next <= file.bytes => at = next,
            Ok(_) => return Some(said(CutOff("last part"))),
            Err(cut) => return Some(said(cut)),
        }
    }
}

const LZ4_FRAME: &str =
    "it is packed in lz4's newer format, which the kernel does not read; pack it with lz4 -l";

/// After a compressed archive, the kernel takes a plain one only where a word begins.
fn unaligned(at: u64) -> String {
    format!(
        "its cpio archive at byte {at} is not at a multiple of four, where the kernel would look for it; fill the archive \
         before it with truncate -s %4 and put them together again"
    )
}

/// What people give for an initial RAM disk.
fn other(file: &Input) -> &'static str {
    // A cpio archive in the old ASCII or binary format.
    if [&b"070707"[..], &[0xc7, 0x71], &[0x71, 0xc7]].iter().any(|magic| file.is(0, magic)) {
        return "it is a cpio archive in an old format, which the kernel does not read; make it with cpio -o -H newc";
    }
    if file.is(0x202, b"HdrS") {
        return "it is a Linux kernel; give its initrd.img here, and the kernel with --kernel";
    }
    if file.is(0, b"MZ") {
        return "it is an EFI program, such as a unified kernel image; take the initial RAM disk out with objcopy -O binary \
                --only-section=.initrd and give that";
    }
    if file.is(0, &[0x27, 0x05, 0x19, 0x56]) {
        return "it has a header of U-Boot; cut its 64 bytes off with tail -c +65";
    }
    "it is no cpio archive, plain or compressed; give the initrd.img of the kernel"
}

fn said(CutOff(what): CutOff) -> String {
    format!("it ends in the middle of its {what}, so it is cut off; copy it again")
}

/// Where the next byte that is not zero is; `None` if there is none any more.
fn zeros(file: &Input, mut at: u64) -> Option<u64> {
    while at < file.bytes {
        let len = (file.bytes - at).min(4096) as usize;
        let bytes = file.read(at, len).ok()?;
        match bytes.iter().position(|byte| *byte != 0) {
            Some(found) => return Some(at + found as u64),
            None => at += len as u64,
        }
    }
    None
}

/// The end of an archive: behind the entry named `TRAILER!!!`.
fn cpio(file: &Input, mut at: u64) -> Result<u64, CutOff> {
    const CUT: CutOff = CutOff("cpio archive");
    loop {
        let header: [u8; 110] = file.at(at).ok_or(CUT)?;
        if !matches!(&header[..6], b"070701" | b"070702") {
            return Err(CUT);
        }
        let field = |n: usize| {
            let text = std::str::from_utf8(&header[6 + 8 * n..14 + 8 * n]).ok()?;
            u64::from_str_radix(text, 16).ok()
        };
        let (size, name) = field(6).zip(field(11)).ok_or(CUT)?;
        // An archive begins at a multiple of four, so its entries may be aligned by their place in the file.
        let data = (at + 110 + name).next_multiple_of(4);
        if name == 11 && file.is(at + 110, b"TRAILER!!!\0") {
            return Ok(data.min(file.bytes));
        }
        at = (data + size).next_multiple_of(4);
    }
}

/// The end of a zstd frame.
fn zstd(file: &Input, at: u64) -> Result<u64, CutOff> {
    const CUT: CutOff = CutOff("zstd stream");
    let [descriptor] = file.at(at + 4).ok_or(CUT)?;
    let single = descriptor & 0x20 != 0;
    let window = u64::from(!single);
    let dictionary = [0, 1, 2, 4][usize::from(descriptor & 3)];
    let content = match descriptor >> 6 {
        0 => u64::from(single),
        flag => 1 << flag,
    };
    let mut at = at + 5 + window + dictionary + content;
    loop {
        let [a, b, c] = file.at(at).ok_or(CUT)?;
        let header = u32::from_le_bytes([a, b, c, 0]);
        let size = match header >> 1 & 3 {
            // Run-length: one byte.
            1 => 1,
            _ => u64::from(header >> 3),
        };
        at += 3 + size;
        if header & 1 != 0 {
            let end = at + if descriptor & 4 != 0 { 4 } else { 0 };
            return if end <= file.bytes { Ok(end) } else { Err(CUT) };
        }
    }
}

fn skippable(file: &Input, at: u64) -> Result<u64, CutOff> {
    let size = file.at(at + 4).map(u32::from_le_bytes).ok_or(CutOff("zstd stream"))?;
    Ok(at + 8 + u64::from(size))
}

/// The end of an LZ4 stream in the legacy format: where no length of a block follows.
fn lz4(file: &Input, at: u64) -> Result<u64, CutOff> {
    let mut at = at + 4;
    loop {
        match file.at(at).map(u32::from_le_bytes).map(u64::from) {
            Some(size) if size > 0 && size <= LZ4_BLOCK => at += 4 + size,
            Some(_) => return Ok(at),
            // Less than a length is left: padding at most.
            None if at <= file.bytes && zeros(file, at).is_none() => return Ok(at),
            None => return Err(CutOff("LZ4 stream")),
        }
    }
}

/// The end of a stream that lzop has written: each block says how long it is, and none follows one of no length.
fn lzo(file: &Input, at: u64) -> Result<u64, CutOff> {
    const CUT: CutOff = CutOff("LZO stream");
    let u32 = |at| file.at(at).map(u32::from_be_bytes).ok_or(CUT);
    let version = file.at(at + 9).map(u16::from_be_bytes).ok_or(CUT)?;
    // Versions of the program, of its library and of what can unpack it, and the method; newer ones add a level.
    let new = version >= 0x0940;
    let mut at = at + 9 + if new { 8 } else { 5 };
    let flags = u32(at)?;
    // Flags, a filter, mode, time and its upper half.
    at += 4 + if flags & 0x800 != 0 { 4 } else { 0 } + 8 + if new { 4 } else { 0 };
    let [name] = file.at(at).ok_or(CUT)?;
    // The name and a checksum.
    at += 1 + u64::from(name) + 4;
    let sums = |adler, crc| 4 * (u64::from(flags & adler != 0) + u64::from(flags & crc != 0));
    loop {
        let plain = u32(at)?;
        if plain == 0 {
            return Ok(at + 4);
        }
        let packed = u32(at + 4)?;
        let more = if packed < plain { sums(0x2, 0x200) } else { 0 };
        at += 8 + sums(0x1, 0x100) + more + u64::from(packed);
        if at > file.bytes {
            return Err(CUT);
        }
    }
}

/// The end of an xz stream: the first footer that fits to its own checksum and to the stream's header. Something else may
/// follow it.
fn xz(file: &Input, start: u64) -> Result<u64, CutOff> {
    const CUT: CutOff = CutOff("xz stream");
    const PIECE: u64 = 64 << 10;
    let flags: [u8; 2] = file.at(start + 6).ok_or(CUT)?;
    let mut at = start + 12;
    while at < file.bytes {
        let len = (file.bytes - at).min(PIECE) as usize;
        let bytes = file.read(at, len).map_err(|_| CUT)?;
        // A stream is whole words long, so its last two bytes are a word's last.
        for end in (4..=len as u64).step_by(4).filter(|end| bytes[..*end as usize].ends_with(b"YZ")) {
            let footer: Option<[u8; 12]> = (at + end).checked_sub(12).and_then(|footer| file.at(footer));
            if footer.is_some_and(|footer| footer[8..10] == flags && sum(&footer[4..10]) == footer[..4]) {
                return Ok(at + end);
            }
        }
        at += len as u64;
    }
    Err(CUT)
}

/// CRC-32 as xz has it.
fn sum(bytes: &[u8]) -> [u8; 4] {
    let step = |crc: u32, _| if crc & 1 != 0 { crc >> 1 ^ 0xedb8_8320 } else { crc >> 1 };
    let crc = bytes.iter().fold(!0, |crc, byte| (0..8).fold(crc ^ u32::from(*byte), step));
    (!crc).to_le_bytes()
}

#[cfg(test)]
mod tests {
    use super::{super::inspect, sum};
    use proptest::prelude::*;
    use std::{fs, path::Path};

    fn entry(name: &str, data: &[u8]) -> Vec<u8> {
        let mut bytes = b"070701".to_vec();
        for field in [1, 0o100_644, 0, 0, 1, 0, data.len(), 0, 0, 0, 0, name.len() + 1, 0] {
            bytes.extend(format!("{field:08x}").bytes());
        }
        bytes.extend(name.bytes().chain([0]));
        bytes.resize(bytes.len().next_multiple_of(4), 0);
        bytes.extend(data);
        bytes.resize(bytes.len().next_multiple_of(4), 0);
        bytes
    }

    fn archive() -> Vec<u8> {
        [entry("init", &[7; 301]), entry("TRAILER!!!", &[])].concat()
    }

    /// One raw block of these bytes, and a checksum that nobody looks at.
    fn zstd_of(data: &[u8]) -> Vec<u8> {
        let mut bytes = vec![0x28, 0xb5, 0x2f, 0xfd, 0x24, data.len() as u8];
        bytes.extend(&((data.len() as u32) << 3 | 1).to_le_bytes()[..3]);
        bytes.extend(data);
        bytes.extend([1; 4]);
        bytes
    }

    fn lz4_of(data: &[u8]) -> Vec<u8> {
        let size = (data.len() as u32).to_le_bytes();
        [&[0x02, 0x21, 0x4c, 0x18][..], &size, data, &size, data].concat()
    }

    fn xz_of(data: &[u8]) -> Vec<u8> {
        let footer = [0, 0, 0, 0, 0, 4];
        [&b"\xfd7zXZ\0\0\x04"[..], data, &sum(&footer), &footer, b"YZ"].concat()
    }

    #[test]
    fn checksums_are_those_of_xz() {
        assert_eq!(sum(b"123456789"), 0xcbf4_3926_u32.to_le_bytes());
    }

    fn fault_of(folder: &Path, bytes: &[u8]) -> Option<String> {
        let path = folder.join("initrd");
        fs::write(&path, bytes).unwrap();
        inspect::initrd(&path).err().map(|refused| refused.error.message)
    }

    #[test]
    fn whole_ones_are_taken_and_any_that_is_cut_off_is_not() {
        let folder = tempfile::tempdir().unwrap();
        let data = [9; 60];
        let early = [archive(), vec![0; 100]].concat();
        for (what, last) in
            [("cpio", archive()), ("zstd", zstd_of(&data)), ("LZ4", lz4_of(&data)), ("xz", xz_of(&data))]
        {
            // Alone, padded, and behind the early archive that holds a CPU's microcode.
            let padded = [last.clone(), vec![0; 8]].concat();
            for whole in [last.clone(), padded, [early.clone(), last.clone()].concat()] {
                assert_eq!(fault_of(folder.path(), &whole), None, "{what}");
            }
            for len in 6..last.len() {
                // Between its blocks, LZ4's legacy format may end; the last name's padding means nothing.
                let may_end =
                    (what == "LZ4" && [8 + 60].contains(&len)) || (what == "cpio" && len + 3 >= last.len());
                for cut in [last[..len].to_vec(), [early.clone(), last[..len].to_vec()].concat()] {
                    let fault = fault_of(folder.path(), &cut);
                    let found =
                        fault.as_ref().is_some_and(|text| text.contains("so it is cut off; copy it again"));
                    assert!(found || may_end, "{what}, {len} of {}: {fault:?}", last.len());
                }
            }
        }
    }

    proptest! {
        #[test]
        fn any_bytes_are_taken_or_refused(
            start in prop_oneof![
                Just(archive()), Just(zstd_of(&[1; 9])), Just(lz4_of(&[1; 9])), Just(b"070701".to_vec())
            ],
            cut in 0usize..700,
            rest in proptest::collection::vec(any::<u8>(), 0..300),
        ) {
            let folder = tempfile::tempdir().unwrap();
            let _ = fault_of(folder.path(), &[&start[..cut.min(start.len())], &rest].concat());
        }
    }
}
