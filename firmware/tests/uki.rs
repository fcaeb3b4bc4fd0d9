//! UKIs and the PE writer below them, read back by an independent reader and held against damaged input.

use firmware::pe::{Image, PeError};
use firmware::uki::{self, Parts, UkiError};
use object::read::pe::PeFile64;
use object::{LittleEndian, Object as _, ObjectSection as _};
use proptest::prelude::*;

/// Debian's stub, the one that images are made with (package systemd-boot-efi).
fn stub() -> Vec<u8> {
    let path = "/usr/lib/systemd/boot/efi/linuxx64.efi.stub";
    std::fs::read(path).unwrap_or_else(|error| panic!("{path}: {error}: apt-get install systemd-boot-efi"))
}

fn kernel() -> Vec<u8> {
    let mut bytes = vec![0; 5000];
    bytes[..2].copy_from_slice(b"MZ");
    bytes[0x202..0x206].copy_from_slice(b"HdrS");
    bytes
}

fn build(initrd: &[u8]) -> Vec<u8> {
    let (stub, linux) = (stub(), kernel());
    uki::build(&Parts {
        stub: &stub,
        os_release: "ID=waystation\n",
        cmdline: "quiet",
        uname: "6.1.0-56-amd64",
        initrd,
        linux: &linux,
    })
    .unwrap()
}

/// The PE checksum as Windows' `CheckSumMappedFile` describes it, word by word with an end-around carry.
fn independent_checksum(file: &[u8], field: usize) -> u32 {
    let mut sum: u32 = 0;
    for at in (0..file.len()).step_by(2) {
        let byte = |at: usize| {
            let in_field = (field..field + 4).contains(&at);
            if in_field { 0 } else { file.get(at).copied().unwrap_or(0) }
        };
        sum += u32::from(byte(at)) | u32::from(byte(at + 1)) << 8;
        sum = (sum & 0xffff) + (sum >> 16);
    }
    sum + file.len() as u32
}

#[test]
fn an_independent_reader_finds_every_section() {
    let initrd: Vec<u8> = (0..100_000u32).map(|i| i as u8).collect();
    let file = build(&initrd);
    let pe = PeFile64::parse(&*file).unwrap();
    let read = |name: &str| {
        let section = pe.section_by_name(name).unwrap_or_else(|| panic!("{name}"));
        let size = section.pe_section().virtual_size.get(LittleEndian) as usize;
        section.data().unwrap()[..size].to_vec()
    };
    assert_eq!(read(".osrel"), b"ID=waystation\n");
    assert_eq!(read(".cmdline"), b"quiet");
    assert_eq!(read(".uname"), b"6.1.0-56-amd64");
    assert_eq!(read(".initrd"), initrd);
    assert_eq!(read(".linux"), kernel());
}

#[test]
fn the_stub_keeps_its_sections_where_its_code_expects_them() {
    let (before, after) = (stub(), build(b"initrd"));
    let (before, after) = (PeFile64::parse(&*before).unwrap(), PeFile64::parse(&*after).unwrap());
    assert_eq!(before.entry(), after.entry());
    for section in before.sections() {
        let same = after.section_by_name(section.name().unwrap()).unwrap();
        assert_eq!(section.address(), same.address());
        assert_eq!(section.data().unwrap(), same.data().unwrap());
    }
}

#[test]
fn sections_lie_in_order_without_touching_within_the_image() {
    let count = Image::parse(&stub()).unwrap().sections().len();
    let file = build(&[7; 12_345]);
    let pe = PeFile64::parse(&*file).unwrap();
    let mut end = 0;
    for (index, section) in pe.section_table().iter().enumerate() {
        let address = section.virtual_address.get(LittleEndian);
        let raw = section.size_of_raw_data.get(LittleEndian);
        if index >= count {
            assert!(address >= end, "{:?}", section.name);
            assert_eq!(address % 4096, 0);
        }
        end = end.max(address + section.virtual_size.get(LittleEndian).max(raw));
    }
    let optional = &pe.nt_headers().optional_header;
    assert!(section_count(&pe) == count + 5 && end <= optional.size_of_image.get(LittleEndian));
}

fn section_count(pe: &PeFile64<'_>) -> usize {
    pe.section_table().iter().count()
}

#[test]
fn nothing_in_it_tells_the_time_and_the_checksum_is_right() {
    let file = build(b"initrd");
    assert_eq!(file, build(b"initrd"));
    let pe = PeFile64::parse(&*file).unwrap();
    let headers = pe.nt_headers();
    assert_eq!(headers.file_header.time_date_stamp.get(LittleEndian), 0);
    let field = pe.dos_header().e_lfanew.get(LittleEndian) as usize + 24 + 64;
    assert_eq!(headers.optional_header.check_sum.get(LittleEndian), independent_checksum(&file, field));
}

#[test]
fn what_is_no_kernel_is_refused() {
    let stub = stub();
    let attempt = |linux: &[u8]| {
        uki::build(&Parts { stub: &stub, os_release: "", cmdline: "", uname: "", initrd: b"", linux })
    };
    for linux in [&b""[..], b"MZ", &[0; 4096]] {
        assert!(matches!(attempt(linux), Err(UkiError::Kernel(_))));
    }
    let mut no_efi = kernel();
    no_efi[0] = 0;
    assert!(matches!(attempt(&no_efi), Err(UkiError::Kernel(_))));
}

#[test]
fn what_is_no_stub_is_refused_with_its_reason() {
    let elf = std::fs::read("/proc/self/exe").unwrap();
    assert_eq!(Image::parse(&elf).unwrap_err(), PeError::NotEfi("no MZ signature"));
    assert_eq!(Image::parse(b"MZ").unwrap_err(), PeError::Truncated("DOS header"));
    let stub = stub();
    let pe = u32::from_le_bytes(stub[0x3c..0x40].try_into().unwrap()) as usize;
    let changed = |at: usize, byte: u8| {
        let mut bytes = stub.clone();
        bytes[at] = byte;
        Image::parse(&bytes).unwrap_err()
    };
    assert_eq!(changed(pe, b'X'), PeError::NotEfi("no PE signature"));
    assert_eq!(changed(pe + 5, 0x01), PeError::NotEfi("not for x86-64"));
    assert_eq!(changed(pe + 24, 0), PeError::NotEfi("not PE32+"));
    assert_eq!(changed(pe + 24 + 68, 3), PeError::NotEfi("not an EFI application"));
    assert_eq!(changed(pe + 24 + 112 + 8 * 4, 1), PeError::Signed);
    assert_eq!(Image::parse(&stub[..stub.len() / 4]).unwrap_err(), PeError::Truncated("sections"));
}

#[test]
fn a_section_name_is_taken_once_and_short() {
    let stub = stub();
    let mut image = Image::parse(&stub).unwrap();
    image.append(".linux", &b"x"[..]).unwrap();
    assert_eq!(image.append(".linux", &b"y"[..]), Err(PeError::Duplicate(".linux".to_owned())));
    assert_eq!(image.append(".toolong9", &b"y"[..]), Err(PeError::LongName(".toolong9".to_owned())));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    /// Whatever is appended reads back, here and by the independent reader.
    #[test]
    fn appended_sections_read_back(pieces in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..9000), 1..6)) {
        let stub = stub();
        let mut image = Image::parse(&stub).unwrap();
        for (index, piece) in pieces.iter().enumerate() {
            image.append(&format!(".s{index}"), &piece[..]).unwrap();
        }
        let file = image.write().unwrap();
        let again = Image::parse(&file).unwrap();
        let pe = PeFile64::parse(&*file).unwrap();
        for (index, piece) in pieces.iter().enumerate() {
            let name = format!(".s{index}");
            prop_assert_eq!(again.section(&name), Some(&piece[..]));
            let data = pe.section_by_name(&name).unwrap().data().unwrap();
            prop_assert!(data.starts_with(piece));
        }
        prop_assert_eq!(again.write().unwrap(), file);
    }

    /// Damaged images are refused or read, never a panic; what is read can be written.
    #[test]
    fn damaged_images_never_panic(at in 0usize..0x400, value in any::<u8>(), cut in 0usize..90_000) {
        let mut bytes = stub();
        bytes[at] = value;
        bytes.truncate(cut.max(1));
        if let Ok(mut image) = Image::parse(&bytes) {
            let _ = image.append(".more", &b"data"[..]);
            let _ = image.write();
        }
    }
}
