//! Keyboard layouts as they lie in a kiosk's image: what `image-build` makes of Debian's layouts, and what `init` hands to
//! the kernel.
//!
//! ```text
//! file    = "WAYKBD1\n" layout*
//! layout  = text(name) text(title) u8(tables) table* u16(compositions) composition*
//! table   = u8(modifiers) KEYS × u16          the kernel's key map of these modifiers, as KDSKBENT takes it
//! composition = u16(mark) u16(base) u16(result)    Unicode, as KDSKBDIACRUC takes it
//! text    = u8(length) UTF-8
//! ```
//! Integers are little-endian.

/// Name of the layout that a kiosk has if nothing is said.
pub const US: &str = "us";
/// Keys in a table; those above are not on keyboards.
pub const KEYS: usize = 128;
/// Most compositions that the kernel takes (one less than `MAX_DIACR` of `linux/kd.h`).
pub const COMPOSITIONS: usize = 255;
/// A key that does nothing (`K_HOLE` of `linux/keyboard.h`).
pub const NOTHING: u16 = 0x0200;

const MAGIC: &[u8] = b"WAYKBD1\n";
/// Most layouts that a file may have.
const LAYOUTS: usize = 1024;

/// A layout.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Layout {
    /// Its name in kiosk.toml, such as `de` or `de-nodeadkeys`.
    pub name: String,
    /// Its name for people: `German`.
    pub title: String,
    /// The key map of each set of modifiers.
    pub tables: Vec<Table>,
    /// What a dead key and a letter make.
    pub compositions: Vec<Composition>,
}

/// The key map of one set of modifiers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Table {
    /// The modifiers, as the kernel counts them: shift 1, AltGr 2, control 4, alt 8.
    pub modifiers: u8,
    /// What each key means.
    pub keys: [u16; KEYS],
}

/// What a dead key and a letter make.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Composition {
    /// The kernel's sign for the dead key, such as `\u{b4}`.
    pub mark: u16,
    /// The letter.
    pub base: u16,
    /// What they make.
    pub result: u16,
}

/// Why a file of layouts cannot be used.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the file of keyboard layouts is damaged")]
pub struct Damaged;

/// Writes layouts. A name or title is cut at 255 bytes.
pub fn write(layouts: &[Layout]) -> Vec<u8> {
    let mut out = MAGIC.to_vec();
    for layout in layouts {
        for text in [&layout.name, &layout.title] {
            let mut end = text.len().min(255);
            while !text.is_char_boundary(end) {
                end -= 1;
            }
            out.push(end as u8);
            out.extend_from_slice(&text.as_bytes()[..end]);
        }
        let tables = &layout.tables[..layout.tables.len().min(255)];
        out.push(tables.len() as u8);
        for table in tables {
            out.push(table.modifiers);
            table.keys.iter().for_each(|key| out.extend_from_slice(&key.to_le_bytes()));
        }
        let compositions = &layout.compositions[..layout.compositions.len().min(COMPOSITIONS)];
        out.extend_from_slice(&(compositions.len() as u16).to_le_bytes());
        for composition in compositions {
            for value in [composition.mark, composition.base, composition.result] {
                out.extend_from_slice(&value.to_le_bytes());
            }
        }
    }
    out
}

/// Reads layouts.
///
/// # Errors
/// The file is damaged.
pub fn read(bytes: &[u8]) -> Result<Vec<Layout>, Damaged> {
    let mut rest = bytes.strip_prefix(MAGIC).ok_or(Damaged)?;
    let mut layouts = Vec::new();
    while !rest.is_empty() {
        if layouts.len() >= LAYOUTS {
            return Err(Damaged);
        }
        layouts.push(layout(&mut rest).ok_or(Damaged)?);
    }
    Ok(layouts)
}

fn layout(rest: &mut &[u8]) -> Option<Layout> {
    let name = text(rest)?;
    let title = text(rest)?;
    let mut tables = Vec::new();
    for _ in 0..byte(rest)? {
        let modifiers = byte(rest)?;
        let mut keys = [NOTHING; KEYS];
        for key in &mut keys {
            *key = word(rest)?;
        }
        tables.push(Table { modifiers, keys });
    }
    let count = usize::from(word(rest)?);
    if count > COMPOSITIONS {
        return None;
    }
    let mut compositions = Vec::with_capacity(count);
    for _ in 0..count {
        compositions.push(Composition { mark: word(rest)?, base: word(rest)?, result: word(rest)? });
    }
    Some(Layout { name, title, tables, compositions })
}

fn take<'a>(rest: &mut &'a [u8], count: usize) -> Option<&'a [u8]> {
    let (head, tail) = rest.split_at_checked(count)?;
    *rest = tail;
    Some(head)
}

fn byte(rest: &mut &[u8]) -> Option<u8> {
    take(rest, 1)?.first().copied()
}

fn word(rest: &mut &[u8]) -> Option<u16> {
    Some(u16::from_le_bytes(take(rest, 2)?.try_into().ok()?))
}

fn text(rest: &mut &[u8]) -> Option<String> {
    let length = usize::from(byte(rest)?);
    String::from_utf8(take(rest, length)?.to_vec()).ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn layout(name: &str) -> Layout {
        let mut keys = [NOTHING; KEYS];
        keys[21] = 0x0b7a;
        Layout {
            name: name.to_owned(),
            title: "Français (Québec)".to_owned(),
            tables: vec![Table { modifiers: 0, keys }, Table { modifiers: 14, keys: [0xf0e4; KEYS] }],
            compositions: vec![Composition { mark: 0x27, base: 0x65, result: 0xe9 }],
        }
    }

    #[test]
    fn what_is_written_is_read() {
        let layouts = [layout("us"), layout("ca")];
        assert_eq!(read(&write(&layouts)).unwrap(), layouts);
        assert_eq!(read(&write(&[])).unwrap(), []);
    }

    #[test]
    fn what_is_cut_off_is_damaged() {
        let whole = write(&[layout("us")]);
        for end in 0..whole.len() {
            let cut = read(&whole[..end]);
            assert!(cut == Err(Damaged) || end == MAGIC.len(), "{end}");
        }
    }

    proptest! {
        #[test]
        fn is_total(bytes in proptest::collection::vec(any::<u8>(), 0..600)) {
            let mut file = MAGIC.to_vec();
            file.extend(bytes);
            if let Ok(layouts) = read(&file) {
                prop_assert_eq!(write(&layouts), file);
            }
        }
    }
}
