//! A code that this program does not know: kept as it came, within bounds.

use std::fmt;

/// The text of a code that this program does not know. Only [`super::Code`] makes one, so that a known code is never in here.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct UnknownCode {
    bytes: [u8; UnknownCode::MAX],
    len: u8,
}

impl UnknownCode {
    /// The most characters that are kept.
    pub const MAX: usize = 40;

    /// Keeps `text`, which comes from outside, as far as it is a code: letters, digits, `-`, `_` and `.` stay, anything else and an
    /// empty text become `?`.
    pub(super) fn new(text: &str) -> Self {
        let mut kept = Self { bytes: [b'?'; Self::MAX], len: 1 };
        for (at, letter) in text.chars().take(Self::MAX).enumerate() {
            let plain = letter.is_ascii_alphanumeric() || matches!(letter, '-' | '_' | '.');
            kept.bytes[at] = if plain { letter as u8 } else { b'?' };
            kept.len = at as u8 + 1;
        }
        // What was cut off is not compared.
        kept.bytes[usize::from(kept.len)..].fill(b'?');
        kept
    }

    /// The text.
    pub fn as_str(&self) -> &str {
        self.bytes.get(..usize::from(self.len)).and_then(|text| std::str::from_utf8(text).ok()).unwrap_or("?")
    }
}

impl fmt::Debug for UnknownCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self.as_str(), f)
    }
}
