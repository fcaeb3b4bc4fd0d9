//! What a character cell of the kiosk's screen may hold.
//!
//! The Linux console's built-in font has the 256 glyphs of code page 437; anything else shows as a blank box or, worse,
//! shifts a line when it is two cells wide. Everything drawn passes through here.

/// What the terminal can show.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Glyphs {
    /// A Linux virtual console: the font's 256 glyphs.
    Font,
    /// A terminal emulator at the other end of a serial line or of a network connection.
    Unicode,
}

/// The glyphs of code page 437 beyond ASCII, as the console font maps them.
const CP437: &str = "☺☻♥♦♣♠•◘○◙♂♀♪♫☼►◄↕‼¶§▬↨↑↓→←∟↔▲▼⌂\
ÇüéâäàåçêëèïîìÄÅÉæÆôöòûùÿÖÜ¢£¥₧ƒáíóúñÑªº¿⌐¬½¼¡«»░▒▓│┤╡╢╖╕╣║╗╝╜╛┐└┴┬├─┼╞╟╚╔╩╦╠═╬╧╨╤╥╙╘╒╓╫╪┘┌█▄▌▐▀\
αßΓπΣσµτΦΘΩδ∞φε∩≡±≥≤⌠⌡÷≈°∙·√ⁿ²■";

/// The console-font glyph that says the same as `c`, `None` when there is none.
pub fn in_font(c: char) -> Option<char> {
    if c.is_ascii() {
        return (!c.is_ascii_control()).then_some(c);
    }
    if CP437.contains(c) {
        return Some(c);
    }
    Some(match c {
        '\u{a0}' | '\u{2000}'..='\u{200a}' => ' ',
        '‐'..='―' | '−' => '-',
        '‘' | '’' | '‚' | '′' => '\'',
        '“' | '”' | '„' | '″' => '"',
        '…' => '.',
        '━' | '┄' | '┅' | '┈' | '┉' | '╌' | '╍' => '─',
        '┃' | '┆' | '┇' | '┊' | '┋' | '╎' | '╏' => '│',
        '╭' | '┏' => '┌',
        '╮' | '┓' => '┐',
        '╰' | '┗' => '└',
        '╯' | '┛' => '┘',
        '┣' => '├',
        '┫' => '┤',
        '┳' => '┬',
        '┻' => '┴',
        '╋' => '┼',
        '▪' | '●' => '•',
        '▶' | '▸' => '►',
        '◀' | '◂' => '◄',
        '✓' | '✔' => '√',
        '×' => 'x',
        'Ω' => 'Ω',
        'μ' => 'µ',
        _ => return None,
    })
}

/// A string of somebody else's making (a parcel's name, an error's sentence) as it may be drawn: one line, at most
/// `most` characters, only glyphs that the console font has.
pub fn plain(text: &str, most: usize) -> String {
    let mut cut = text.chars();
    let mut line: String = cut
        .by_ref()
        .take(most)
        .map(|c| if c.is_whitespace() { ' ' } else { in_font(c).unwrap_or('?') })
        .collect();
    if cut.next().is_some() && most > 0 {
        line.pop();
        line.push('~');
    }
    line
}

/// A kiosk's name as it may be drawn: what tells it from others is at its end, so a long one is cut in the middle.
pub fn name(text: &str, most: usize) -> String {
    let length = text.chars().count();
    if length <= most {
        return plain(text, most);
    }
    let end = most / 2;
    let begin: String = text.chars().take(most.saturating_sub(end + 1)).collect();
    let end: String = text.chars().skip(length - end).collect();
    plain(&format!("{begin}~{end}"), most)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_long_name_keeps_its_end() {
        assert_eq!(name("kiosk-A", 24), "kiosk-A");
        assert_eq!(name("0123456789abcdef01234567", 24), "0123456789abcdef01234567");
        let long = name("the-riverside-library-second-floor-9k3fzt", 24);
        assert_eq!((long.as_str(), long.chars().count()), ("the-riversi~floor-9k3fzt", 24));
        assert_eq!(name("a\u{1b}b-long-9k3f", 9), "a?b-~9k3f");
        assert_eq!(name("abc", 0), "");
    }

    #[test]
    fn foreign_text_becomes_one_line_of_known_glyphs() {
        assert_eq!(plain("a\u{1b}[2Jb\nc", 20), "a?[2Jb c");
        assert_eq!(plain("日本", 20), "??");
        assert_eq!(plain("Café – “x”", 20), "Café - \"x\"");
        assert_eq!(plain("abcdef", 4), "abc~");
        assert_eq!(plain("abcd", 4), "abcd");
    }
}
