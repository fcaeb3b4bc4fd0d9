//! What ELF files need to run, and the closure of it over the unpacked packages.

use crate::error::BuildError;
use crate::suite;
use crate::tree::{Kind, Tree};
use object::elf;
use object::read::elf::{FileHeader as _, ProgramHeader as _, Sym as _};
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

/// Where Debian's loader looks.
const LIBRARY_FOLDERS: [&str; 2] = ["usr/lib/x86_64-linux-gnu", "usr/lib"];

/// What a program or library asks of the system, and what it offers.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Needs {
    /// Its dynamic loader.
    pub loader: Option<String>,
    /// Names of the libraries it is linked with.
    pub libraries: Vec<String>,
    /// Symbols that it cannot do without and does not define itself.
    undefined: BTreeSet<Symbol>,
    /// Symbols that it defines, each with its versions; none: any version will do.
    defined: BTreeMap<String, BTreeSet<Option<String>>>,
}

/// A symbol's name and, where it has one, its version: `memcpy` of `GLIBC_2.14`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
struct Symbol {
    name: String,
    version: Option<String>,
}

impl fmt::Display for Symbol {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.version {
            Some(version) => write!(f, "{} of {version}", self.name),
            None => f.write_str(&self.name),
        }
    }
}

impl Needs {
    fn defines(&self, symbol: &Symbol) -> bool {
        self.defined.get(&symbol.name).is_some_and(|versions| {
            symbol.version.is_none() || versions.contains(&None) || versions.contains(&symbol.version)
        })
    }
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
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    let symbols = sections.symbols(endian, data, elf::SHT_DYNSYM).map_err(damaged)?;
    let versions = sections.versions(endian, data).map_err(damaged)?;
    for (index, symbol) in symbols.enumerate() {
        let name = text(symbols.symbol_name(endian, symbol).map_err(damaged)?);
        if name.is_empty() {
            continue;
        }
        let version = match &versions {
            Some(versions) => {
                let index = versions.version_index(endian, index);
                versions.version(index.index()).map_err(damaged)?.map(|version| text(version.name()))
            }
            None => None,
        };
        if !symbol.is_undefined(endian) {
            found.defined.entry(name).or_default().insert(version);
        } else if symbol.st_bind() != elf::STB_WEAK {
            found.undefined.insert(Symbol { name, version });
        }
    }
    Ok(found)
}

/// Adds to `image` every loader and library that its ELF files need, from `packages`, and theirs in turn, and checks
/// that every symbol that one of them cannot do without is there. So a program that was linked on a machine with newer
/// libraries is refused here, and not by the loader in a kiosk.
///
/// # Errors
/// Naming the library that no package has, or the symbol that no library has, and who needs it.
pub fn close(image: &mut Tree, packages: &Tree) -> Result<(), BuildError> {
    let mut objects: BTreeMap<String, Needs> = BTreeMap::new();
    let mut queue: Vec<String> = Vec::new();
    for (path, node) in image.iter() {
        if let Kind::File(bytes) = &node.kind
            && bytes.starts_with(b"\x7fELF")
            && !path.ends_with(".ko")
        {
            objects.insert(path.to_owned(), needs(bytes).map_err(|why| unfit(path, why))?);
            queue.push(path.to_owned());
        }
    }
    while let Some(who) = queue.pop() {
        let Some(needs) = objects.get(&who) else { continue };
        let loader = needs.loader.iter().map(|path| crate::tree::usr_merged(path));
        let libraries =
            needs.libraries.iter().map(|name| library(packages, name).unwrap_or_else(|| name.clone()));
        for path in loader.chain(libraries).collect::<Vec<_>>() {
            if objects.contains_key(&path) {
                continue;
            }
            let Some((_, bytes)) = packages.resolve(&path) else {
                let name = path.rsplit('/').next().unwrap_or(&path);
                return Err(unfit(
                    &who,
                    format!(
                        "it needs {name}, which no package of the image has: {REMEDY}, without other libraries"
                    ),
                ));
            };
            image.copy_resolved(packages, &path);
            let found = self::needs(&bytes).map_err(|why| unfit(&path, why))?;
            objects.insert(path.clone(), found);
            queue.push(path);
        }
    }
    objects.keys().try_for_each(|who| symbols_are_there(who, &objects, packages))
}

const REMEDY: &str = "build it on Debian 12 or 13";

/// Whether everything that `who` leaves undefined is defined by a library that is loaded with it.
fn symbols_are_there(
    who: &str,
    objects: &BTreeMap<String, Needs>,
    packages: &Tree,
) -> Result<(), BuildError> {
    let mut loaded = BTreeSet::new();
    let mut queue = vec![who.to_owned()];
    while let Some(path) = queue.pop() {
        let Some(needs) = objects.get(&path) else { continue };
        if loaded.insert(path) {
            let loader = needs.loader.iter().map(|path| crate::tree::usr_merged(path));
            queue.extend(loader.chain(needs.libraries.iter().filter_map(|name| library(packages, name))));
        }
    }
    let loaded: Vec<&Needs> = loaded.iter().filter_map(|path| objects.get(path)).collect();
    let needed = objects.get(who).into_iter().flat_map(|needs| &needs.undefined);
    let absent: Vec<&Symbol> =
        needed.filter(|symbol| !loaded.iter().any(|other| other.defines(symbol))).collect();
    let Some(first) = absent.first() else { return Ok(()) };
    let more = match absent.len() {
        1 => String::new(),
        count => format!(" and {} more", count - 1),
    };
    Err(unfit(
        who,
        format!(
            "it needs the symbol {first}{more}, which the libraries of {} do not have: {REMEDY}",
            suite::TITLE
        ),
    ))
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

    /// Everything that this test program is linked with on this machine.
    fn machine() -> Tree {
        let mut packages = Tree::default();
        let own = needs(&std::fs::read("/proc/self/exe").unwrap()).unwrap();
        let loader = own.loader.clone().unwrap();
        packages.file(&crate::tree::usr_merged(&loader), 0o755, std::fs::read(&loader).unwrap());
        for name in own.libraries.iter().map(String::as_str).chain(["libc.so.6"]) {
            let path = format!("{}/{name}", LIBRARY_FOLDERS[0]);
            if let Ok(bytes) = std::fs::read(format!("/{path}")) {
                packages.file(&path, 0o644, bytes);
            }
        }
        packages
    }

    fn image() -> Tree {
        let mut image = Tree::default();
        image.file("usr/bin/own", 0o755, std::fs::read("/proc/self/exe").unwrap());
        image
    }

    #[test]
    fn this_test_program_needs_libc_and_a_loader() {
        let own = std::fs::read("/proc/self/exe").unwrap();
        let needs = needs(&own).unwrap();
        assert!(needs.libraries.iter().any(|name| name == "libc.so.6"), "{needs:?}");
        assert!(needs.loader.is_some_and(|path| path.contains("ld-linux-x86-64")));
        let glibc =
            |symbol: &Symbol| symbol.version.as_deref().is_some_and(|name| name.starts_with("GLIBC_2."));
        assert!(needs.undefined.iter().any(glibc));
    }

    #[test]
    fn what_is_no_program_is_refused_with_a_reason() {
        assert_eq!(needs(b"#!/bin/sh\n").unwrap_err(), "it is not an ELF file");
        assert!(needs(b"\x7fELF\x02\x01\x01").unwrap_err().contains("damaged"));
    }

    #[test]
    fn a_missing_library_is_named_with_who_needs_it() {
        let error = close(&mut image(), &Tree::default()).unwrap_err().to_string();
        assert!(error.starts_with("usr/bin/own cannot run in the image: it needs "), "{error}");
    }

    #[test]
    fn with_its_own_machines_libraries_it_runs() {
        let mut image = image();
        close(&mut image, &machine()).unwrap();
        assert!(image.get("usr/lib/x86_64-linux-gnu/libc.so.6").is_some());
    }

    /// The version of a symbol that the program needs, renamed as in a library that is older or newer.
    #[test]
    fn a_symbol_that_no_library_has_is_refused_and_named() {
        let mut packages = machine();
        let path = format!("{}/libc.so.6", LIBRARY_FOLDERS[0]);
        let (_, bytes) = packages.resolve(&path).unwrap();
        let mut bytes = bytes.to_vec();
        let name = b"__libc_start_main\0";
        let places: Vec<usize> =
            bytes.windows(name.len()).enumerate().filter(|(_, w)| w == name).map(|(at, _)| at).collect();
        assert!(!places.is_empty());
        for at in places {
            bytes[at + 2] = b'L';
        }
        packages.file(&path, 0o644, bytes);
        let error = close(&mut image(), &packages).unwrap_err().to_string();
        assert!(
            error.starts_with(
                "usr/bin/own cannot run in the image: it needs the symbol __libc_start_main of GLIBC_2."
            ),
            "{error}"
        );
        assert!(
            error.ends_with("which the libraries of Debian 13 do not have: build it on Debian 12 or 13"),
            "{error}"
        );
    }

    #[test]
    fn a_version_counts_where_both_sides_have_one() {
        let symbol =
            |version: Option<&str>| Symbol { name: "f".to_owned(), version: version.map(str::to_owned) };
        let mut library = Needs::default();
        library.defined.entry("f".to_owned()).or_default().insert(Some("V_1".to_owned()));
        assert!(library.defines(&symbol(Some("V_1"))) && library.defines(&symbol(None)));
        assert!(!library.defines(&symbol(Some("V_2"))));
        library.defined.entry("f".to_owned()).or_default().insert(None);
        assert!(library.defines(&symbol(Some("V_2"))), "an unversioned library serves every version");
    }
}
