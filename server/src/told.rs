//! Foreign text in logs and answers: cut, and without characters that move a reader's cursor or turn his text around.

use std::fmt::{self, Display, Write};

/// Longest foreign text in a line of the log, in bytes.
pub const IN_LOG: usize = 200;
/// Longest sentence of a refusal, in bytes.
pub const IN_ANSWER: usize = 1000;

/// Shows at most `most` bytes of `text`, and how much is left out; control characters are escaped.
#[derive(Debug, Clone, Copy)]
pub struct Brief<'a>(pub &'a str, pub usize);

impl Display for Brief<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut written = 0;
        for (at, c) in self.0.char_indices() {
            let shown = if moves(c) { c.escape_unicode().len() } else { c.len_utf8() };
            if written + shown > self.1 {
                return write!(f, "[{} more bytes]", self.0.len() - at);
            }
            written += shown;
            if moves(c) {
                Display::fmt(&c.escape_unicode(), f)?;
            } else {
                f.write_char(c)?;
            }
        }
        Ok(())
    }
}

/// Control characters, line separators, and what changes the direction of text.
fn moves(c: char) -> bool {
    c.is_control()
        || matches!(c, '\u{61c}' | '\u{200e}' | '\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}' | '\u{feff}')
}

/// The text itself, as [`Brief`] shows it.
pub fn brief(text: &str, most: usize) -> String {
    Brief(text, most).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn what_is_long_or_moves_is_cut_or_escaped() {
        assert_eq!(brief("über", 10), "über");
        assert_eq!(brief("abcdef", 3), "abc[3 more bytes]");
        assert_eq!(brief("üü", 3), "ü[2 more bytes]");
        assert_eq!(brief("a\u{1b}[2J\n\u{202e}", 40), "a\\u{1b}[2J\\u{a}\\u{202e}");
    }

    proptest! {
        #[test]
        fn any_text_stays_in_bounds(text in "\\PC{0,40}|.{0,40}", most in 0usize..100) {
            let shown = brief(&text, most);
            prop_assert!(shown.len() <= most + "[more bytes]".len() + 21);
            prop_assert!(!shown.chars().any(moves));
        }
    }
}
