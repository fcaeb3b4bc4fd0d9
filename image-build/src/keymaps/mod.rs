//! Keyboard layouts for the console, made of Debian's `xkb-data` by console-setup's `ckbcomp`, as Debian's own installer
//! and console-setup make theirs.

mod list;
mod symbols;

pub use list::{SHIPPED, Shipped};

use crate::error::BuildError;
use crate::manifest::sha256;
use crate::tree::{Kind, Tree};
use parcel::keymap::{COMPOSITIONS, Composition, KEYS, Layout, NOTHING, Table};
use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::process::Command;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use unicode_normalization::UnicodeNormalization as _;

/// The compiler, in package console-setup.
const COMPILER: &str = "usr/bin/ckbcomp";
/// What it reads, in package xkb-data.
pub const DATA: &str = "usr/share/X11/xkb/";

/// Makes the image's file of layouts. What the compiler said is kept in the package cache: it takes longer than all else.
///
/// # Errors
/// When a package lacks what is needed, or the compiler fails.
pub fn compile(packages: &Tree, cache: &Path, scratch: &Path) -> Result<Vec<u8>, BuildError> {
    let kept = cache.join(format!("keymaps-{}.json", recipe(packages)?));
    let texts: Vec<String> = match fs::read(&kept).ok().and_then(|bytes| serde_json::from_slice(&bytes).ok())
    {
        Some(texts) => texts,
        None => {
            let texts = run_all(packages, scratch)?;
            keep(cache, &kept, &texts)?;
            texts
        }
    };
    let layouts: Vec<Layout> =
        SHIPPED.iter().zip(&texts).map(|(shipped, text)| layout(shipped, text)).collect();
    if let Some(broken) = layouts.iter().find(|layout| !is_whole(layout)) {
        return Err(BuildError::Keymap {
            name: broken.name.clone(),
            why: "it has no letters or no Return".to_owned(),
        });
    }
    Ok(parcel::keymap::write(&layouts))
}

/// Renamed into place when it is whole: two builds may share a cache.
fn keep(cache: &Path, place: &Path, texts: &[String]) -> Result<(), BuildError> {
    let keep = || -> std::io::Result<()> {
        let file = tempfile::NamedTempFile::new_in(cache)?;
        fs::write(file.path(), serde_json::to_vec(texts)?)?;
        file.persist(place)?;
        Ok(())
    };
    keep().map_err(BuildError::io(place, "keeping keyboard layouts"))
}

/// Names everything that the texts follow from.
fn recipe(packages: &Tree) -> Result<String, BuildError> {
    let lacks =
        |package: &str, file: &str| BuildError::Lacks { package: package.to_owned(), file: file.to_owned() };
    let (_, compiler) = packages.resolve(COMPILER).ok_or_else(|| lacks("console-setup", COMPILER))?;
    let mut text = sha256(&compiler);
    for (path, node) in packages.below(DATA) {
        if let Kind::File(bytes) = &node.kind {
            text.push_str(&format!("{path} {}\n", sha256(bytes)));
        }
    }
    if !text.contains(DATA) {
        return Err(lacks("xkb-data", DATA));
    }
    SHIPPED.iter().for_each(|shipped| text.push_str(&arguments(shipped).join(" ")));
    Ok(sha256(text.as_bytes()))
}

fn arguments(shipped: &Shipped) -> Vec<String> {
    let mut arguments = vec!["-compact".to_owned(), "-layout".to_owned()];
    if shipped.second {
        arguments.push(format!("us,{}", shipped.layout));
        arguments.extend(["-option".to_owned(), "grp:alt_shift_toggle".to_owned()]);
    } else {
        arguments.push(shipped.layout.to_owned());
        if !shipped.variant.is_empty() {
            arguments.extend(["-variant".to_owned(), shipped.variant.to_owned()]);
        }
    }
    arguments
}

/// What the compiler says of each layout, on every core.
fn run_all(packages: &Tree, scratch: &Path) -> Result<Vec<String>, BuildError> {
    let folder = tempfile::tempdir_in(scratch).map_err(BuildError::io(scratch, "making a folder"))?;
    let compiler = packages.below(COMPILER).take(1);
    for (path, node) in packages.below(DATA).chain(compiler) {
        let place = folder.path().join(path);
        let parent = place.parent().unwrap_or(folder.path());
        fs::create_dir_all(parent).map_err(BuildError::io(parent, "making a folder"))?;
        // Links are resolved: they lead through folders of the image, not of this machine.
        let bytes = match &node.kind {
            Kind::File(bytes) => Some(bytes.clone()),
            Kind::Link(_) => packages.resolve(path).map(|(_, bytes)| bytes),
            _ => None,
        };
        if let Some(bytes) = bytes {
            fs::write(&place, bytes).map_err(BuildError::io(&place, "writing"))?;
        }
    }
    let next = AtomicUsize::new(0);
    let done: Mutex<Vec<(usize, Result<String, BuildError>)>> = Mutex::new(Vec::new());
    let cores = thread::available_parallelism().map_or(1, usize::from);
    thread::scope(|scope| {
        for _ in 0..cores {
            scope.spawn(|| {
                while let at = next.fetch_add(1, Ordering::Relaxed)
                    && let Some(shipped) = SHIPPED.get(at)
                {
                    let text = run(folder.path(), shipped);
                    done.lock().unwrap_or_else(std::sync::PoisonError::into_inner).push((at, text));
                }
            });
        }
    });
    let mut done = done.into_inner().unwrap_or_else(std::sync::PoisonError::into_inner);
    done.sort_by_key(|(at, _)| *at);
    done.into_iter().map(|(_, text)| text).collect()
}

fn run(folder: &Path, shipped: &Shipped) -> Result<String, BuildError> {
    let output = Command::new("perl")
        .env_clear()
        .env("PATH", "/usr/bin:/bin")
        .env("LC_ALL", "C")
        .arg(folder.join(COMPILER))
        .arg(format!("-I{}", folder.join(DATA).display()))
        .args(arguments(shipped))
        .output()
        .map_err(|source| BuildError::tool("perl", "perl-base", source))?;
    if output.status.success() {
        return Ok(String::from_utf8_lossy(&output.stdout).into_owned());
    }
    let said = String::from_utf8_lossy(&output.stderr);
    let why = said.lines().rfind(|line| !line.starts_with("WARNING")).unwrap_or("it did not say why");
    Err(BuildError::Keymap { name: shipped.name.to_owned(), why: why.to_owned() })
}

/// Reads a key map as `loadkeys` takes it: the tables, then a line for each key with a word for each table.
fn layout(shipped: &Shipped, text: &str) -> Layout {
    let mut tables: Vec<Table> = Vec::new();
    for line in text.lines() {
        let mut words = line.split_ascii_whitespace();
        match words.next() {
            Some("keymaps") => {
                let list = words.collect::<String>();
                tables =
                    modifiers(&list).map(|modifiers| Table { modifiers, keys: [NOTHING; KEYS] }).collect();
            }
            Some("keycode") => {
                let code = words.next().and_then(|code| code.parse::<usize>().ok());
                let Some(code) = code.filter(|code| *code < KEYS) else { continue };
                let meanings = words.skip_while(|word| *word == "=").map(symbols::value);
                tables.iter_mut().zip(meanings).for_each(|(table, meaning)| table.keys[code] = meaning);
            }
            _ => {}
        }
    }
    let compositions = compositions(&tables);
    Layout { name: shipped.name.to_owned(), title: shipped.title.to_owned(), tables, compositions }
}

/// `0-4,6,8`.
fn modifiers(list: &str) -> impl Iterator<Item = u8> + '_ {
    let range = |part: &str| {
        let (from, to) = part.split_once('-').unwrap_or((part, part));
        Some(from.parse::<u8>().ok()?..=to.parse::<u8>().ok()?)
    };
    list.split(',').filter_map(range).flatten()
}

/// What each dead key of a layout makes with each of its letters; the letters of the first tables count most, since the
/// kernel has room for only so many.
fn compositions(tables: &[Table]) -> Vec<Composition> {
    let values = || tables.iter().flat_map(|table| table.keys);
    let mut seen = BTreeSet::new();
    let letters: Vec<char> = ('a'..='z')
        .chain('A'..='Z')
        .chain(values().filter_map(symbols::character))
        .filter(|c| c.is_alphabetic() && seen.insert(*c))
        .collect();
    let deads: BTreeSet<u16> = values().filter(|value| symbols::dead_key(*value).is_some()).collect();
    let mut found = Vec::new();
    let mut add = |mark: char, base: char, result: char| {
        if let (Ok(mark), Ok(base), Ok(result)) =
            (u16::try_from(mark as u32), u16::try_from(base as u32), u16::try_from(result as u32))
        {
            found.push(Composition { mark, base, result });
        }
    };
    let deads: Vec<_> = deads.into_iter().filter_map(symbols::dead_key).collect();
    for dead in &deads {
        if let Some(alone) = dead.alone {
            add(dead.mark, ' ', alone);
        }
    }
    for letter in letters {
        for dead in &deads {
            let mut composed = [letter, dead.combining].into_iter().nfc();
            let stroke = (dead.combining == STROKE).then(|| stroked(letter)).flatten();
            if let Some(result) = stroke.or_else(|| composed.next().filter(|_| composed.next().is_none())) {
                add(dead.mark, letter, result);
            }
        }
    }
    found.truncate(COMPOSITIONS);
    found
}

/// Of these letters Unicode has no composition.
const STROKE: char = '\u{338}';

fn stroked(letter: char) -> Option<char> {
    const LETTERS: [(char, char); 11] = [
        ('o', 'ø'),
        ('O', 'Ø'),
        ('l', 'ł'),
        ('L', 'Ł'),
        ('d', 'đ'),
        ('D', 'Đ'),
        ('h', 'ħ'),
        ('H', 'Ħ'),
        ('t', 'ŧ'),
        ('T', 'Ŧ'),
        ('b', 'ƀ'),
    ];
    LETTERS.iter().find(|(plain, _)| *plain == letter).map(|(_, stroked)| *stroked)
}

/// With a layout that lacks these nobody could ever log in. Some Latin layouts have no `w` or `q`.
fn is_whole(layout: &Layout) -> bool {
    let plain = layout.tables.iter().find(|table| table.modifiers == 0);
    let keys: BTreeSet<u16> = layout.tables.iter().flat_map(|table| table.keys).collect();
    let typed: BTreeSet<char> = keys.into_iter().filter_map(symbols::character).collect();
    let letters = ('a'..='z').filter(|letter| typed.contains(letter)).count();
    plain.is_some_and(|plain| plain.keys.contains(&symbols::value("Return"))) && letters >= 20
}

#[cfg(test)]
mod tests {
    use super::*;

    const GERMAN: Shipped = Shipped { name: "de", title: "German", layout: "de", variant: "", second: false };

    #[test]
    fn names_are_sorted_and_unique_and_the_usual_one_is_there() {
        assert!(SHIPPED.windows(2).all(|pair| pair[0].name < pair[1].name));
        assert!(SHIPPED.iter().any(|shipped| shipped.name == parcel::keymap::US));
    }

    #[test]
    fn a_key_map_is_read() {
        let text = "keymaps 0-2,4\n\
            keycode 21 = +U+007a +U+005a U+2190 Control_z\n\
            keycode 40 = +U+00e4 +U+00c4 dead_circumflex +U+00e4\n\
            keycode 200 = U+0031\n\
            strings as usual\n";
        let layout = layout(&GERMAN, text);
        assert_eq!(layout.tables.iter().map(|table| table.modifiers).collect::<Vec<_>>(), [0, 1, 2, 4]);
        assert_eq!(layout.tables[0].keys[21], 0x0b7a);
        assert_eq!(layout.tables[1].keys[40], 0x0bc4);
        assert_eq!(layout.tables[3].keys[21], 0x001a);
        assert_eq!(layout.tables[0].keys[22], NOTHING);
        let composed = |base: char| {
            let found = layout
                .compositions
                .iter()
                .find(|c| c.mark == u16::from(b'^') && u32::from(c.base) == base as u32);
            found.and_then(|found| char::from_u32(found.result.into()))
        };
        assert_eq!((composed('e'), composed('E'), composed('q')), (Some('ê'), Some('Ê'), None));
        assert!(!is_whole(&layout), "it has two letters");
    }

    #[test]
    fn letters_of_the_layout_compose_too_and_never_too_many() {
        let mut text = String::from(
            "keymaps 0\nkeycode 13 = dead_acute\nkeycode 14 = dead_stroke\nkeycode 16 = U+03b1\n",
        );
        for (at, dead) in symbols::DEADS.iter().enumerate() {
            text.push_str(&format!("keycode {} = {}\n", at + 20, symbols::DEADS[at].name()));
            assert!(dead.mark.is_ascii());
        }
        let layout = layout(&GERMAN, &text);
        assert_eq!(layout.compositions.len(), COMPOSITIONS);
        let few = super::layout(&GERMAN, &text[..text.find("keycode 20").unwrap()]);
        let results: BTreeSet<char> =
            few.compositions.iter().filter_map(|c| char::from_u32(c.result.into())).collect();
        assert!(results.contains(&'ά') && results.contains(&'ø') && results.contains(&'é'), "{results:?}");
    }
}
