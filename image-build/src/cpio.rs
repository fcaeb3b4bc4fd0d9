//! Writes a tree as a cpio archive in the `newc` form that the kernel unpacks
//! (Documentation/driver-api/early-userspace/buffer-format.rst). No times, no inode numbers of this machine: the same
//! tree gives the same bytes.

use crate::tree::{Kind, Tree};
use std::io::{self, Write};

const S_IFDIR: u32 = 0o040_000;
const S_IFCHR: u32 = 0o020_000;
const S_IFREG: u32 = 0o100_000;
const S_IFLNK: u32 = 0o120_000;

struct Header<'a> {
    inode: u32,
    mode: u32,
    uid: u32,
    gid: u32,
    links: u32,
    device: (u32, u32),
    name: &'a str,
}

/// Writes the archive.
///
/// # Errors
/// Those of the writer, and a file of 4 GiB or more.
pub fn write(tree: &Tree, out: &mut impl Write) -> io::Result<()> {
    for (index, (name, node)) in tree.iter().enumerate() {
        let (format, links, device, bytes): (u32, u32, (u32, u32), &[u8]) = match &node.kind {
            Kind::Folder => (S_IFDIR, 2, (0, 0), &[]),
            Kind::File(bytes) => (S_IFREG, 1, (0, 0), bytes),
            Kind::Link(target) => (S_IFLNK, 1, (0, 0), target.as_bytes()),
            Kind::CharDevice { major, minor } => (S_IFCHR, 1, (*major, *minor), &[]),
        };
        let inode = u32::try_from(index + 1).map_err(io::Error::other)?;
        let mode = format | (node.mode & 0o7777);
        entry(out, &Header { inode, mode, uid: node.uid, gid: node.gid, links, device, name }, bytes)?;
    }
    entry(
        out,
        &Header { inode: 0, mode: 0, uid: 0, gid: 0, links: 1, device: (0, 0), name: "TRAILER!!!" },
        &[],
    )
}

fn entry(out: &mut impl Write, header: &Header<'_>, bytes: &[u8]) -> io::Result<()> {
    let size = u32::try_from(bytes.len()).map_err(|_| {
        io::Error::new(io::ErrorKind::InvalidInput, format!("{} is larger than 4 GiB", header.name))
    })?;
    let name_size = header.name.len() + 1;
    write!(out, "070701")?;
    let fields = [
        header.inode,
        header.mode,
        header.uid,
        header.gid,
        header.links,
        0, // time
        size,
        0, // device that the file was on
        0,
        header.device.0,
        header.device.1,
        name_size as u32,
        0, // checksum, unused in this form
    ];
    for field in fields {
        write!(out, "{field:08x}")?;
    }
    out.write_all(header.name.as_bytes())?;
    // The header has 110 bytes; name and content each end on a multiple of four.
    pad(out, 1, 110 + name_size)?;
    out.write_all(bytes)?;
    pad(out, 0, bytes.len())
}

fn pad(out: &mut impl Write, least: usize, written: usize) -> io::Result<()> {
    out.write_all(&[0; 4][..least + written.wrapping_neg() % 4])
}
