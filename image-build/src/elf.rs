//! What ELF files need to run, and the closure of it over the unpacked packages.

use crate::error::BuildError;
use crate::tree::{Kind, Tree};
use object::elf;
use object::read::elf::{FileHeader as _, ProgramHeader as _};
use std::collections::BTreeSet;

/// Where Debian's loader looks.
const LIBRARY_FOLDERS: [&str; 2] = ["usr/lib/x86_64-linux-gnu", "usr/lib"];

/// What a program or library asks of the system.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Needs {
    /// Its dynamic loader.
    pub loader: Option<String>,
    /// Names of the libraries it is linked with.
    pub libraries: Vec<String>,
    /// Newest symbol version of glibc that it uses, such as (2, 36).
    pub glibc: Option<(u32, u32)>,
}

/// Reads an x86-64 ELF file.
///
/// # Errors
/// Half a sentence, when it is not one or is damaged.
pub fn needs(data: &[u8]) -> Result<Needs, String> {
    if !data.starts_with(b"\x7fELF") {
        return Err("it is not an ELF file".to_owned());
    }
    let damaged = |error: object::read::Error| format!("its ELF structure is damaged ({error})");
    let header = elf::FileHeader64::<object::Endianness>::parse(data).map_err(damaged)?;
    let endian = header.endian().map_err(damaged)?;
    if header.e_machine(endian) != elf::EM_X86_64 {
        return Err("it is not for x86-64".to_owned());
    }
    let mut found = Needs::default();
    for segment in header.program_headers(endian, data).map_err(damaged)? {
        if let Some(loader) = segment.interpreter(endian, data).map_err(damaged)? {
            found.loader = Some(String::from_utf8_lossy(loader).into_owned());
        }
    }
    let sections = header.sections(endian, data).map_err(damaged)?;
    let dynamic = sections.dynamic_table(endian, data).map_err(damaged)?;
    for entry in dynamic.iter().filter(|entry| entry.tag == elf::DT_NEEDED) {
        let name = dynamic.string(entry).map_err(damaged)?;
        found.libraries.push(String::from_utf8_lossy(name).into_owned());
    }
    if let Some((mut files, link)) = sections.gnu_verneed(endian, data).map_err(damaged)? {
        let strings = sections.strings(endian, data, link).map_err(damaged)?;
        while let Some((_, mut versions)) = files.next().map_err(damaged)? {
            while let Some(version) = versions.next().map_err(damaged)? {
                let name = version.name(endian, strings).map_err(damaged)?;
                found.glibc = found.glibc.max(glibc_version(&String::from_utf8_lossy(name)));
            }
        }
    }
    Ok(found)
}

/// The newest symbol version that glibc itself defines.
pub fn provides_glibc(libc: &[u8]) -> Option<(u32, u32)> {
    let header = elf::FileHeader64::<object::Endianness>::parse(libc).ok()?;
    let endian = header.endian().ok()?;
    let sections = header.sections(endian, libc).ok()?;
    let (mut definitions, link) = sections.gnu_verdef(endian, libc).ok()??;
    let strings = sections.strings(endian, libc, link).ok()?;
    let mut newest = None;
    while let Some((_, mut names)) = definitions.next().ok()? {
        // The first name is the version's own; the others are those it follows.
        if let Some(name) = names.next().ok()? {
            newest = newest.max(glibc_version(&String::from_utf8_lossy(name.name(endian, strings).ok()?)));
        }
    }
    newest
}

/// `GLIBC_2.36` as a pair; other names (`GLIBC_PRIVATE`, `GCC_3.0`) are none.
fn glibc_version(name: &str) -> Option<(u32, u32)> {
    let mut parts = name.strip_prefix("GLIBC_")?.split('.');
    Some((parts.next()?.parse().ok()?, parts.next()?.parse().ok()?))
}

/// Adds to `image` every loader and library that its ELF files need, from `packages`, and theirs in turn.
///
/// # Errors
/// Naming the library that no package has, and who needs it; or the program that needs a newer glibc.
pub fn close(image: &mut Tree, packages: &Tree, glibc: Option<(u32, u32)>) -> Result<(), BuildError> {
    let mut queue: Vec<(String, Needs)> = Vec::new();
    for (path, node) in image.iter() {
        if let Kind::File(bytes) = &node.kind
            && bytes.starts_with(b"\x7fELF")
            && !path.ends_with(".ko")
        {
            queue.push((path.to_owned(), needs(bytes).map_err(|why| unfit(path, why))?));
        }
    }
    let mut seen = BTreeSet::new();
    while let Some((who, needs)) = queue.pop() {
        check_glibc(&who, needs.glibc, glibc)?;
        let loader = needs.loader.iter().map(|path| crate::tree::usr_merged(path));
        let libraries =
            needs.libraries.iter().map(|name| library(packages, name).unwrap_or_else(|| name.clone()));
        for path in loader.chain(libraries) {
            if !seen.insert(path.clone()) {
                continue;
            }
            let Some((_, bytes)) = packages.resolve(&path) else {
                let name = path.rsplit('/').next().unwrap_or(&path);
                return Err(unfit(
                    &who,
                    format!(
                        "it needs {name}, which no package of the image has: build it on Debian 12, without other libraries"
                    ),
                ));
            };
            image.copy_resolved(packages, &path);
            let found = self::needs(&bytes).map_err(|why| unfit(&path, why))?;
            queue.push((path, found));
        }
    }
    Ok(())
}

fn check_glibc(who: &str, needed: Option<(u32, u32)>, have: Option<(u32, u32)>) -> Result<(), BuildError> {
    match (needed, have) {
        (Some(needed), Some(have)) if needed > have => Err(unfit(
            who,
            format!(
                "it needs glibc {}.{} and the image has {}.{}: build it on Debian 12",
                needed.0, needed.1, have.0, have.1
            ),
        )),
        _ => Ok(()),
    }
}

/// Path of a library by its name.
pub fn library(packages: &Tree, name: &str) -> Option<String> {
    LIBRARY_FOLDERS
        .iter()
        .map(|folder| format!("{folder}/{name}"))
        .find(|path| packages.resolve(path).is_some())
}

fn unfit(path: &str, why: String) -> BuildError {
    BuildError::Unfit { path: path.to_owned(), why }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_test_program_needs_libc_and_a_loader() {
        let own = std::fs::read("/proc/self/exe").unwrap();
        let needs = needs(&own).unwrap();
        assert!(needs.libraries.iter().any(|name| name == "libc.so.6"), "{needs:?}");
        assert!(needs.loader.is_some_and(|path| path.contains("ld-linux-x86-64")));
        assert!(needs.glibc.is_some_and(|version| version >= (2, 2)));
    }

    #[test]
    fn what_is_no_program_is_refused_with_a_reason() {
        assert_eq!(needs(b"#!/bin/sh\n").unwrap_err(), "it is not an ELF file");
        assert!(needs(b"\x7fELF\x02\x01\x01").unwrap_err().contains("damaged"));
    }

    #[test]
    fn a_missing_library_is_named_with_who_needs_it() {
        let mut image = Tree::default();
        image.file("usr/bin/own", 0o755, std::fs::read("/proc/self/exe").unwrap());
        let error = close(&mut image, &Tree::default(), None).unwrap_err().to_string();
        assert!(error.starts_with("usr/bin/own cannot run in the image: it needs "), "{error}");
    }

    #[test]
    fn a_newer_glibc_is_refused() {
        let mut image = Tree::default();
        image.file("usr/bin/own", 0o755, std::fs::read("/proc/self/exe").unwrap());
        let error = close(&mut image, &Tree::default(), Some((2, 1))).unwrap_err().to_string();
        assert!(error.contains("the image has 2.1: build it on Debian 12"), "{error}");
    }

    #[test]
    fn versions_compare_as_numbers() {
        assert!(glibc_version("GLIBC_2.4") < glibc_version("GLIBC_2.36"));
        assert_eq!(glibc_version("GLIBC_PRIVATE"), None);
    }
}
