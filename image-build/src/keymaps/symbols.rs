//! What the words of a Linux console key map mean to the kernel (`linux/keyboard.h`: a type in the upper byte, a value
//! in the lower one; Unicode values are marked by the four upper bits).

use parcel::keymap::NOTHING;

const LATIN: u16 = 0;
const FUNCTION: u16 = 1;
const SPECIAL: u16 = 2;
const PAD: u16 = 3;
const DEAD: u16 = 4;
const CURSOR: u16 = 6;
const SHIFT: u16 = 7;
const META: u16 = 8;
const LOCK: u16 = 10;
const LETTER: u16 = 11;
/// What marks a Unicode value.
const UNICODE: u16 = 0xf000;

const fn key(kind: u16, value: u16) -> u16 {
    kind << 8 | value
}

/// A dead key: its word, the kernel's sign for it (`ret_diacr` in `keyboard.c`), Unicode's combining character, and
/// what it makes with a blank where the sign itself would surprise.
pub(super) struct Dead {
    word: &'static str,
    pub(super) mark: char,
    pub(super) combining: char,
    pub(super) alone: Option<char>,
}

const fn dead(word: &'static str, mark: char, combining: char, alone: Option<char>) -> Dead {
    Dead { word, mark, combining, alone }
}

#[cfg(test)]
impl Dead {
    pub(super) fn name(&self) -> String {
        format!("dead_{}", self.word)
    }
}

/// In the kernel's order: the place is the value.
pub(super) const DEADS: [Dead; 25] = [
    dead("grave", '`', '\u{300}', None),
    dead("acute", '\'', '\u{301}', None),
    dead("circumflex", '^', '\u{302}', None),
    dead("tilde", '~', '\u{303}', None),
    dead("diaeresis", '"', '\u{308}', None),
    dead("cedilla", ',', '\u{327}', Some('\u{b8}')),
    dead("macron", '_', '\u{304}', Some('\u{af}')),
    dead("kbreve", 'U', '\u{306}', Some('\u{2d8}')),
    dead("abovedot", '.', '\u{307}', Some('\u{2d9}')),
    dead("abovering", '*', '\u{30a}', Some('\u{b0}')),
    dead("kdoubleacute", '=', '\u{30b}', Some('\u{2dd}')),
    dead("kcaron", 'c', '\u{30c}', Some('\u{2c7}')),
    dead("kogonek", 'k', '\u{328}', Some('\u{2db}')),
    dead("iota", 'i', '\u{345}', Some('\u{37a}')),
    dead("voiced_sound", '#', '\u{3099}', Some('\u{309b}')),
    dead("semivoiced_sound", 'o', '\u{309a}', Some('\u{309c}')),
    dead("belowdot", '!', '\u{323}', Some('.')),
    dead("hook", '?', '\u{309}', Some('?')),
    dead("horn", '+', '\u{31b}', Some('+')),
    dead("stroke", '-', '\u{338}', Some('-')),
    dead("abovecomma", ')', '\u{313}', Some('\'')),
    dead("abovereversedcomma", '(', '\u{314}', Some('`')),
    dead("doublegrave", ':', '\u{30f}', Some('"')),
    dead("invertedbreve", 'n', '\u{311}', Some('^')),
    dead("belowcomma", ';', '\u{326}', Some(',')),
];

/// The dead key of a value, if it is one.
pub(super) fn dead_key(value: u16) -> Option<&'static Dead> {
    if value >> 8 == DEAD { DEADS.get(usize::from(value & 0xff)) } else { None }
}

/// The character of a value, if it types one.
pub(super) fn character(value: u16) -> Option<char> {
    let code = match value >> 8 {
        LATIN | LETTER => value & 0xff,
        // Above the kernel's types.
        0x10.. => value ^ UNICODE,
        _ => return None,
    };
    char::from_u32(u32::from(code)).filter(|c| !c.is_control())
}

/// What a word means; what is no word for anything that a kiosk lets a keyboard do is [`NOTHING`]. The kernel's words for
/// its own work (switching consoles, showing its memory, restarting the machine) are among those.
pub(super) fn value(word: &str) -> u16 {
    letter(word)
        .or_else(|| control(word).map(|code| key(LATIN, code)))
        .or_else(|| word.strip_prefix("Meta_").and_then(ascii).map(|code| key(META, code)))
        .or_else(|| named(word))
        .unwrap_or(NOTHING)
}

/// `U+00fc`, or `+U+00fc` for a letter, which caps lock changes. The kernel can change Latin-1 letters only.
fn letter(word: &str) -> Option<u16> {
    let (caps, word) = word.strip_prefix('+').map_or((false, word), |word| (true, word));
    let code = u16::from_str_radix(word.strip_prefix("U+")?, 16).ok()?;
    Some(match code {
        0..=0xff if caps => key(LETTER, code),
        0..=0x7f => key(LATIN, code),
        // Values whose mark would read as a type of the kernel's, private ones, are of no keyboard.
        0xe000..=0xffff => NOTHING,
        code => code ^ UNICODE,
    })
}

/// `Control_x`, and control characters that have names.
fn control(word: &str) -> Option<u16> {
    let named = match word {
        "nul" => 0,
        "BackSpace" => 8,
        "Tab" => 9,
        "Linefeed" => 10,
        "Escape" => 27,
        "Delete" => 127,
        _ => return Some(ascii(word.strip_prefix("Control_")?)? & 0x1f),
    };
    Some(named)
}

/// An ASCII character by its name: `a`, `one`, `braceleft`, `Control_a`, `Escape`.
fn ascii(word: &str) -> Option<u16> {
    const NAMES: [(&str, char); 42] = [
        ("space", ' '),
        ("exclam", '!'),
        ("quotedbl", '"'),
        ("numbersign", '#'),
        ("dollar", '$'),
        ("percent", '%'),
        ("ampersand", '&'),
        ("apostrophe", '\''),
        ("parenleft", '('),
        ("parenright", ')'),
        ("asterisk", '*'),
        ("plus", '+'),
        ("comma", ','),
        ("minus", '-'),
        ("period", '.'),
        ("slash", '/'),
        ("zero", '0'),
        ("one", '1'),
        ("two", '2'),
        ("three", '3'),
        ("four", '4'),
        ("five", '5'),
        ("six", '6'),
        ("seven", '7'),
        ("eight", '8'),
        ("nine", '9'),
        ("colon", ':'),
        ("semicolon", ';'),
        ("less", '<'),
        ("equal", '='),
        ("greater", '>'),
        ("question", '?'),
        ("at", '@'),
        ("bracketleft", '['),
        ("backslash", '\\'),
        ("bracketright", ']'),
        ("asciicircum", '^'),
        ("underscore", '_'),
        ("grave", '`'),
        ("braceleft", '{'),
        ("bar", '|'),
        ("braceright", '}'),
    ];
    let one = |word: &str| {
        let mut chars = word.chars();
        let only = chars.next().filter(|c| c.is_ascii_alphabetic())?;
        chars.next().is_none().then_some(only)
    };
    let found = one(word)
        .or_else(|| NAMES.iter().find(|(name, _)| *name == word).map(|(_, c)| *c))
        .or_else(|| (word == "asciitilde").then_some('~'));
    match found {
        Some(c) => Some(c as u16),
        None => control(word),
    }
}

fn named(word: &str) -> Option<u16> {
    const MODIFIERS: [&str; 9] =
        ["Shift", "AltGr", "Control", "Alt", "ShiftL", "ShiftR", "CtrlL", "CtrlR", "CapsShift"];
    const PAD_KEYS: [&str; 17] = [
        "KP_0",
        "KP_1",
        "KP_2",
        "KP_3",
        "KP_4",
        "KP_5",
        "KP_6",
        "KP_7",
        "KP_8",
        "KP_9",
        "KP_Add",
        "KP_Subtract",
        "KP_Multiply",
        "KP_Divide",
        "KP_Enter",
        "KP_Comma",
        "KP_Period",
    ];
    let place = |list: &[&str], word: &str| list.iter().position(|name| *name == word).map(|at| at as u16);
    if let Some(at) =
        word.strip_prefix("dead_").and_then(|word| DEADS.iter().position(|dead| dead.word == word))
    {
        return Some(key(DEAD, at as u16));
    }
    if let Some(at) = word.strip_suffix("_Lock").and_then(|word| place(&MODIFIERS, word)) {
        return Some(key(LOCK, at));
    }
    if let Some(at) = place(&MODIFIERS, word) {
        return Some(key(SHIFT, at));
    }
    if let Some(at) = place(&PAD_KEYS, word) {
        return Some(key(PAD, at));
    }
    if let Some(number) = word.strip_prefix('F').and_then(|number| number.parse::<u16>().ok()) {
        return match number {
            1..=20 => Some(key(FUNCTION, number - 1)),
            _ => None,
        };
    }
    Some(match word {
        "Return" => key(SPECIAL, 1),
        "Caps_Lock" => key(SPECIAL, 7),
        "Num_Lock" => key(SPECIAL, 8),
        "Compose" => key(SPECIAL, 12),
        "Home" | "Find" => key(FUNCTION, 20),
        "Insert" => key(FUNCTION, 21),
        "Remove" => key(FUNCTION, 22),
        "End" | "Select" => key(FUNCTION, 23),
        "Prior" | "PageUp" => key(FUNCTION, 24),
        "Next" | "PageDown" => key(FUNCTION, 25),
        "Pause" => key(FUNCTION, 29),
        "Down" => key(CURSOR, 0),
        "Left" => key(CURSOR, 1),
        "Right" => key(CURSOR, 2),
        "Up" => key(CURSOR, 3),
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_the_kernels_values() {
        for (word, expected) in [
            ("U+0031", 0x0031),
            ("+U+007a", 0x0b7a),
            ("+U+00fc", 0x0bfc),
            ("U+20ac", 0x20ac ^ 0xf000),
            ("+U+0161", 0x0161 ^ 0xf000),
            ("Control_a", 0x0001),
            ("Control_bracketright", 0x001d),
            ("Control_asciicircum", 0x001e),
            ("Meta_a", 0x0861),
            ("Meta_one", 0x0831),
            ("Meta_Control_m", 0x080d),
            ("Meta_Escape", 0x081b),
            ("Meta_Tab", 0x0809),
            ("dead_acute", 0x0401),
            ("dead_kcaron", 0x040b),
            ("AltGr", 0x0701),
            ("AltGr_Lock", 0x0a01),
            ("F12", 0x010b),
            ("KP_Period", 0x0310),
            ("Up", 0x0603),
            ("Return", 0x0201),
            ("Delete", 0x007f),
            ("Caps_Lock", 0x0207),
        ] {
            assert_eq!(value(word), expected, "{word}");
        }
    }

    /// Alt-F2, Ctrl-Alt-Del, and what shows the kernel's insides.
    #[test]
    fn no_key_does_the_kernels_own_work() {
        for word in [
            "Console_2",
            "Last_Console",
            "Incr_Console",
            "Boot",
            "Show_Memory",
            "Show_Registers",
            "Show_State",
            "SAK",
            "KeyboardSignal",
            "Break",
            "Scroll_Lock",
            "Scroll_Backward",
            "Hex_A",
            "VoidSymbol",
            "Brl_dot1",
            "F25",
            "U+f8ff",
        ] {
            assert_eq!(value(word), NOTHING, "{word}");
        }
    }

    #[test]
    fn characters_come_back() {
        for (word, c) in
            [("U+0031", '1'), ("+U+00fc", 'ü'), ("U+20ac", '€'), ("+U+0161", 'š'), ("+U+0439", 'й')]
        {
            assert_eq!(character(value(word)), Some(c), "{word}");
        }
        for word in ["Return", "dead_acute", "Shift", "Control_a", "Meta_a", "F1", "VoidSymbol"] {
            assert_eq!(character(value(word)), None, "{word}");
        }
    }
}
