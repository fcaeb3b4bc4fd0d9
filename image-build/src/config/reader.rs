//! Reads a TOML document key by key and remembers every mistake with its line, so that one run names them all.

use super::mistake::{Mistake, Mistakes, Placed};
use std::cell::RefCell;
use std::path::{Path, PathBuf};
use toml::Spanned;
use toml::de::{DeTable, DeValue};

/// The tables of a kiosk.toml and the keys of each; `""` is the top.
pub const KEYS: [(&str, &[&str]); 13] = [
    (
        "",
        &[
            "name",
            "title",
            "realm",
            "realms",
            "server",
            "hosts",
            "console",
            "clock",
            "session",
            "cache",
            "wipe",
            "boot",
            "modules",
            "hardware",
            "image",
            "secure_boot",
        ],
    ),
    ("realm", &["name", "kdc", "kpasswd", "kdc_proxy", "pkinit_anchors", "weak_preauth", "case_insensitive"]),
    ("server", &["url", "ca"]),
    ("console", &["screen", "log", "keymap"]),
    ("clock", &["ntp"]),
    ("session", &["lock_after_s", "suspend_after_s", "low_battery_percent"]),
    ("cache", &["kind", "device", "size_mib", "zstd_level"]),
    ("wipe", &["discard", "power_off_on_failure"]),
    ("boot", &["cmdline_extra"]),
    ("modules", &["extra", "load"]),
    ("hardware", &["firmware"]),
    ("image", &["zstd_level", "cache_partition_mib", "mirror", "security_mirror"]),
    ("secure_boot", &["key", "cert"]),
];

/// A document under inspection.
pub(super) struct Doc<'t> {
    file: PathBuf,
    text: &'t str,
    mistakes: RefCell<Vec<Mistake>>,
}

/// A table of the document.
pub(super) struct Section<'d, 't> {
    doc: &'d Doc<'t>,
    path: String,
    offset: usize,
    table: Option<&'d DeTable<'t>>,
}

/// A value and where it stands.
#[derive(Clone)]
pub(super) struct Found<T> {
    pub(super) value: T,
    /// Whole key, such as `realm.name`.
    pub(super) key: String,
    /// Byte offset in the text.
    pub(super) offset: usize,
}

impl<'t> Doc<'t> {
    pub(super) fn new(file: &Path, text: &'t str) -> Self {
        Self { file: file.to_owned(), text, mistakes: RefCell::new(Vec::new()) }
    }

    /// Parses the text; a syntax error is a mistake and gives `None`.
    pub(super) fn parse(&self) -> Option<DeTable<'t>> {
        match DeTable::parse(self.text) {
            Ok(table) => Some(table.into_inner()),
            Err(error) => {
                let offset = error.span().map_or(0, |span| span.start);
                let what = error.message().lines().collect::<Vec<_>>().join(", ");
                self.mistake(
                    offset,
                    "",
                    format!("this is not TOML ({what}): compare the line with the example kiosk.toml"),
                );
                None
            }
        }
    }

    pub(super) fn root<'d>(&'d self, table: &'d DeTable<'t>) -> Section<'d, 't> {
        Section { doc: self, path: String::new(), offset: 0, table: Some(table) }
    }

    pub(super) fn mistake(&self, offset: usize, key: &str, text: impl Into<String>) {
        let place = self.place(offset, key);
        self.mistakes.borrow_mut().push(Mistake { text: text.into(), ..place });
    }

    fn place(&self, offset: usize, key: &str) -> Mistake {
        let before = &self.text.as_bytes()[..offset.min(self.text.len())];
        let line = before.iter().filter(|byte| **byte == b'\n').count() + 1;
        Mistake { file: self.file.clone(), line, key: key.to_owned(), text: String::new() }
    }

    /// The mistakes in the order of their lines.
    pub(super) fn into_mistakes(self) -> Mistakes {
        let mut list = self.mistakes.into_inner();
        list.sort_by_key(|mistake| mistake.line);
        Mistakes(list)
    }
}

impl<'d, 't> Section<'d, 't> {
    /// Records a mistake about a found value.
    pub(super) fn wrong<T>(&self, found: &Found<T>, text: impl Into<String>) {
        self.doc.mistake(found.offset, &found.key, text);
    }

    /// A value that is checked further when the image is built, together with where it was found.
    pub(super) fn placed<T>(&self, value: T, offset: usize, key: &str) -> Placed<T> {
        Placed { value, place: self.doc.place(offset, key) }
    }

    /// Where a value of this table is missing, the table's own place is the nearest one to name.
    fn missing(&self, key: &str, example: &str) {
        let section =
            if self.path.is_empty() { "at the top".to_owned() } else { format!("under [{}]", self.path) };
        self.doc.mistake(
            self.offset,
            &self.full(key),
            format!("is missing: write {key} = {example} {section}"),
        );
    }

    fn full(&self, key: &str) -> String {
        if self.path.is_empty() { key.to_owned() } else { format!("{}.{key}", self.path) }
    }

    fn get(&self, key: &str) -> Option<Found<&'d DeValue<'t>>> {
        let table = self.table?;
        table.iter().find(|(name, _)| name.get_ref() == key).map(|(_, value)| self.found(key, value))
    }

    fn found(&self, key: &str, value: &'d Spanned<DeValue<'t>>) -> Found<&'d DeValue<'t>> {
        Found { value: value.get_ref(), key: self.full(key), offset: value.span().start }
    }

    fn typed<T>(
        &self,
        key: &str,
        kind: &str,
        take: impl FnOnce(&'d DeValue<'t>) -> Option<T>,
    ) -> Option<Found<T>> {
        let found = self.get(key)?;
        match take(found.value) {
            Some(value) => Some(Found { value, key: found.key, offset: found.offset }),
            None => {
                self.wrong(&found, format!("is {} where {kind} belongs", a_type(found.value)));
                None
            }
        }
    }

    pub(super) fn string(&self, key: &str) -> Option<Found<String>> {
        self.typed(key, "a string in quotes", |value| value.as_str().map(str::to_owned))
    }

    pub(super) fn required_string(&self, key: &str, example: &str) -> Option<Found<String>> {
        if self.get(key).is_none() {
            self.missing(key, example);
        }
        self.string(key)
    }

    pub(super) fn boolean(&self, key: &str) -> Option<Found<bool>> {
        self.typed(key, "true or false", DeValue::as_bool)
    }

    /// A whole number within a range.
    pub(super) fn integer(&self, key: &str, range: std::ops::RangeInclusive<i64>) -> Option<Found<i64>> {
        let found = self.typed(key, "a whole number", DeValue::as_integer)?;
        let number = i64::from_str_radix(found.value.as_str(), found.value.radix()).ok();
        if let Some(value) = number.filter(|number| range.contains(number)) {
            return Some(Found { value, key: found.key, offset: found.offset });
        }
        let (from, to) = range.into_inner();
        self.wrong(&found, format!("is {}: write a number from {from} to {to}", found.value));
        None
    }

    /// Whether a key holds a number above 0, without a word on whether it may.
    pub(super) fn has_positive(&self, key: &str) -> bool {
        let number = |value: &DeValue<'_>| {
            let number = value.as_integer()?;
            i64::from_str_radix(number.as_str(), number.radix()).ok()
        };
        self.get(key).and_then(|found| number(found.value)).is_some_and(|number| number > 0)
    }

    /// A list of strings; an absent one is empty.
    pub(super) fn strings(&self, key: &str) -> Vec<Found<String>> {
        let Some(list) = self.typed(key, "a list of strings", |value| value.as_array()) else {
            return Vec::new();
        };
        let mut strings = Vec::new();
        for item in list.value.iter() {
            let found = Found { value: item.get_ref(), key: list.key.clone(), offset: item.span().start };
            match found.value.as_str() {
                Some(text) => {
                    strings.push(Found { value: text.to_owned(), key: found.key, offset: found.offset });
                }
                None => self
                    .wrong(&found, format!("holds {} where a string in quotes belongs", a_type(found.value))),
            }
        }
        strings
    }

    /// A table of this table; an absent one reads as empty.
    pub(super) fn section(&self, key: &str) -> Section<'d, 't> {
        let kind = format!("a table, [{}] on a line of its own,", self.full(key));
        let found = self.typed(key, &kind, |value| value.as_table());
        Section {
            doc: self.doc,
            path: self.full(key),
            offset: found.as_ref().map_or(self.offset, |found| found.offset),
            table: found.map(|found| found.value),
        }
    }

    pub(super) fn is_present(&self) -> bool {
        self.table.is_some()
    }

    /// Every key and value, for tables whose keys are data.
    pub(super) fn entries(&self) -> Vec<(String, Option<Found<String>>)> {
        let Some(table) = self.table else { return Vec::new() };
        let entry = |(key, value): (&Spanned<_>, &'d Spanned<DeValue<'t>>)| {
            let key: &str = AsRef::<str>::as_ref(key.get_ref());
            if value.get_ref().is_table() {
                // TOML takes the dots of a bare name for tables in tables.
                let found = self.found(key, value);
                self.wrong(&found, "is a table, as dots make it: write the whole name in quotes");
                return (key.to_owned(), None);
            }
            (key.to_owned(), self.string(key))
        };
        table.iter().map(entry).collect()
    }

    /// The names of the entries, but for those that are tables, which are a mistake.
    pub(super) fn names(&self) -> Vec<Found<String>> {
        let Some(table) = self.table else { return Vec::new() };
        let mut names = Vec::new();
        for (key, value) in table {
            let name: &str = AsRef::<str>::as_ref(key.get_ref());
            let found = self.found(name, value);
            if found.value.is_table() {
                self.wrong(&found, "is a table, as dots make it: write the whole name in quotes");
            } else {
                names.push(Found { value: name.to_owned(), key: found.key, offset: found.offset });
            }
        }
        names
    }

    /// Names keys that mean nothing here, with the nearest one that does, or the table where they do.
    pub(super) fn only_known(&self) {
        let Some(table) = self.table else { return };
        let known = KEYS.iter().find(|(path, _)| *path == self.path).map_or(&[][..], |(_, keys)| *keys);
        for key in table.keys() {
            let name = key.get_ref().as_ref();
            if known.contains(&name) {
                continue;
            }
            let elsewhere =
                KEYS.iter().filter(|(_, keys)| keys.contains(&name)).map(|(table, _)| match *table {
                    "" => "at the top, before the first [table]".to_owned(),
                    table => format!("under [{table}]"),
                });
            let elsewhere: Vec<String> = elsewhere.collect();
            let remedy = match nearest(name, known) {
                _ if !elsewhere.is_empty() => format!("{name} belongs {}", elsewhere.join(" or ")),
                Some(near) => format!("did you mean {near}?"),
                None => format!("known here are {}", known.join(", ")),
            };
            self.doc.mistake(
                key.span().start,
                &self.full(name),
                format!("is not a key of kiosk.toml: {remedy}"),
            );
        }
    }
}

fn a_type(value: &DeValue<'_>) -> &'static str {
    match value {
        DeValue::String(_) => "a string",
        DeValue::Integer(_) => "a number",
        DeValue::Float(_) => "a fraction",
        DeValue::Boolean(_) => "true or false",
        DeValue::Datetime(_) => "a date",
        DeValue::Array(_) => "a list",
        DeValue::Table(_) => "a table",
    }
}

/// The known word within two edits, if any; capitals and dashes for underscores are no edits.
pub(super) fn nearest<'k>(word: &str, known: &[&'k str]) -> Option<&'k str> {
    let word = word.to_lowercase().replace('-', "_");
    known
        .iter()
        .map(|candidate| (edits(&word, candidate), *candidate))
        .filter(|(distance, candidate)| *distance <= 2 && *distance < candidate.len())
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, candidate)| candidate)
}

/// Levenshtein distance.
fn edits(a: &str, b: &str) -> usize {
    let b: Vec<char> = b.chars().collect();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, x) in a.chars().enumerate() {
        let mut diagonal = row[0];
        row[0] = i + 1;
        for (j, y) in b.iter().enumerate() {
            let substituted = diagonal + usize::from(x != *y);
            diagonal = row[j + 1];
            row[j + 1] = substituted.min(row[j] + 1).min(diagonal + 1);
        }
    }
    row[b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn edits_count_insertions_deletions_and_substitutions() {
        assert_eq!(edits("", "abc"), 3);
        assert_eq!(edits("abc", ""), 3);
        assert_eq!(edits("kitten", "sitting"), 3);
        assert_eq!(edits("same", "same"), 0);
    }

    #[test]
    fn suggestions_are_near_or_none() {
        assert_eq!(nearest("tittle", &["name", "title"]), Some("title"));
        assert_eq!(nearest("xyzzy", &["name", "title"]), None);
        assert_eq!(nearest("x", &["ca"]), None);
        assert_eq!(nearest("SECURE-BOOT", &["secure_boot"]), Some("secure_boot"));
    }
}
