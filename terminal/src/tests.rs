//! The terminal under hostile output, with sizes that change.

use super::*;
use proptest::prelude::*;

fn terminal(cols: u16, rows: u16) -> Terminal {
    Terminal::new(cols, rows)
}

/// Every cell, the cursor, and what keys send.
fn shown(terminal: &Terminal) -> (Vec<(u16, u16, Cell)>, Cursor, bool) {
    let mut cells = Vec::new();
    terminal.cells(|col, row, cell| cells.push((col, row, cell)));
    (cells, terminal.cursor(), terminal.application_cursor())
}

/// A terminal that showed something else, after the drawing.
fn redrawn(of: &Terminal) -> Terminal {
    let (cols, rows) = of.size();
    let mut other = terminal(cols, rows);
    other
        .write(b"rubbish from before \x1b[7m\x1b[2;3r\x1b[?1049h\x1b[?6h\x1b(0\x0e\x1b[4h\x1b[?2004h\x1b]0;");
    other.write(b"\x18");
    other.write(&of.drawing());
    other
}

#[test]
fn a_question_is_answered_where_it_is_asked() {
    let mut terminal = terminal(80, 24);
    assert_eq!(terminal.write(b"ab\x1b[6ncd\x1b[6n"), b"\x1b[1;3R\x1b[1;5R");
    assert_eq!(terminal.write(b"\x1b[c\x1b[>c\x1b[5n"), b"\x1b[?6c\x1b[>0;1;0c\x1b[0n");
    assert!(terminal.write(&b"\x1b[6n".repeat(4000)).len() < 1000);
    assert_eq!(terminal.text(), "abcd");
}

#[test]
fn modes_that_show_nothing_come_back_with_the_drawing() {
    let mut terminal = terminal(80, 24);
    terminal.write(b"$ \x1b[?2004h\x1b[?1000;1006h\x1b=\x1b[?1h");
    let drawing = String::from_utf8(terminal.drawing()).unwrap();
    for mode in ["\x1b[?2004h", "\x1b[?1000h", "\x1b[?1006h", "\x1b="] {
        assert!(drawing.contains(mode), "{mode:?} is not in {drawing:?}");
    }
    assert!(redrawn(&terminal).application_cursor());
    terminal.write(b"\x1b[?2004l\x1b[?1000l\x1b>");
    let drawing = String::from_utf8(terminal.drawing()).unwrap();
    assert!(!drawing.contains("2004") && !drawing.contains("1000") && !drawing.contains("\x1b="));
}

/// Who connects in the middle of a sequence or a character gets the rest of it.
#[test]
fn what_has_only_begun_goes_on_in_the_drawing() {
    for whole in ["\x1b[31mred", "日本", "\x1b]0;title\x07after", "\x1b(0qq", "\x1b[3;4Hx"] {
        for cut in 0..whole.len() {
            let mut first = terminal(20, 5);
            first.write(&whole.as_bytes()[..cut]);
            let mut second = redrawn(&first);
            first.write(&whole.as_bytes()[cut..]);
            second.write(&whole.as_bytes()[cut..]);
            assert_eq!(shown(&first), shown(&second), "{whole:?} cut at {cut}");
        }
    }
}

#[test]
fn no_sequence_is_begun_by_a_character_that_the_dialect_takes_for_text() {
    let mut terminal = terminal(20, 4);
    terminal.write("a\u{9b}65535Lb\u{9d}c\u{90}d\u{85}e".as_bytes());
    assert_eq!(terminal.text(), "a65535Lbcde");
}

#[test]
fn a_character_that_has_begun_before_a_sequence_goes_on_in_the_drawing() {
    for rest in ["", "\x1b", "\x1b[", "\x1bP", "\x1b(", "\x1b#"] {
        let mut one = terminal(20, 4);
        one.write(&[&b"a\xc3"[..], rest.as_bytes()].concat());
        let mut two = redrawn(&one);
        for terminal in [&mut one, &mut two] {
            terminal.write(b"\xa4\x1b[@b");
        }
        assert_eq!(shown(&one), shown(&two), "{rest:?}");
    }
}

/// A shift within a sequence acts at once, as every control character does, and a drawing knows of it.
#[test]
fn a_shift_within_a_sequence_counts() {
    for (begun, rest) in [("\x1b\x0e", "[@"), ("\x1b[\x0e", "@"), ("\x1b[1\x0e", "@"), ("\x1b(\x0e", "0")] {
        let mut one = terminal(20, 4);
        one.write(format!("\x1b(0q{begun}").as_bytes());
        let mut two = redrawn(&one);
        for terminal in [&mut one, &mut two] {
            terminal.write(format!("{rest}q\x0fq").as_bytes());
        }
        assert_eq!(one.text(), "─q─", "{begun:?}");
        assert_eq!(shown(&one), shown(&two), "{begun:?}");
    }
}

#[test]
fn the_guest_does_not_choose_the_size() {
    let mut terminal = terminal(20, 4);
    terminal.write(b"\x1b[8;400;400t\x1b[?3h\x1b[?40h\x1b[?3hx");
    assert_eq!(terminal.size(), (20, 4));
    let mut cells = 0;
    terminal.cells(|_, _, _| cells += 1);
    assert_eq!(cells, 80);
}

/// What programs write, and what none should; wide and combining characters often stand at the edge.
fn output() -> impl Strategy<Value = Vec<u8>> {
    let number = prop_oneof![0u32..12, 0u32..300, Just(65_535), Just(4_294_967_296u64 as u32)];
    let last = prop::sample::select(&b"@ABCDEFGHIJKLMPSTXZ^`abcdefghlmnpqrstuWG"[..]);
    let mark = prop::sample::select(vec!["", "", "", "?", ">", "!"]);
    let control = (mark, prop::collection::vec(number, 0..4), last).prop_map(|(mark, numbers, last)| {
        let numbers: Vec<_> = numbers.iter().map(u32::to_string).collect();
        format!("\x1b[{mark}{}{}", numbers.join(";"), char::from(last)).into_bytes()
    });
    let mode = (prop::sample::select(vec![1, 5, 6, 7, 25, 47, 1047, 1048, 1049, 2004]), prop::bool::ANY)
        .prop_map(|(mode, set)| format!("\x1b[?{mode}{}", if set { 'h' } else { 'l' }).into_bytes());
    let other = prop::sample::select(vec![
        "\n",
        "\r",
        "\t",
        "\x08",
        "\x1bM",
        "\x1bD",
        "\x1bE",
        "\x1bH",
        "\x1b7",
        "\x1b8",
        "\x1bc",
        "\x1b#8",
        "\x1b(0",
        "\x1b)0",
        "\x1b(B",
        "\x0e",
        "\x0f",
        "日本語",
        "😀",
        "e\u{301}",
        "\u{301}",
        "\u{200d}",
        "👨\u{200d}👩\u{200d}👧",
        "\u{1100}\u{1161}",
        "\u{fe0f}",
        "\x1b[4h",
        "\x1b[4l",
        "\x1b[20h",
    ]);
    let part = prop_oneof![
        4 => control,
        2 => mode,
        3 => other.prop_map(|text| text.as_bytes().to_vec()),
        2 => "[a-z日]{1,90}".prop_map(String::into_bytes),
        1 => prop::collection::vec(any::<u8>(), 0..40),
    ];
    prop::collection::vec(part, 0..12).prop_map(|parts| parts.concat())
}

fn side() -> impl Strategy<Value = u16> {
    prop_oneof![3 => 1u16..4, 4 => 1u16..30, 1 => 1u16..140]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, ..Default::default() })]

    /// The emulation itself never fails: what guards it would hide it, so it is asked without.
    #[test]
    fn the_emulation_survives_any_output_and_any_sizes(
        first in (side(), side()),
        steps in prop::collection::vec((output(), side(), side()), 0..8),
    ) {
        let mut dialect = dialect::Dialect::default();
        let mut size = first;
        let mut emulation = <Emulator as Emulation>::new(size.0, size.1);
        for (bytes, cols, rows) in steps {
            let (out, _) = dialect.translate(&bytes, size);
            let text: String = String::from_utf8_lossy(&out).into_owned();
            Emulation::feed(&mut emulation, &text);
            size = (cols, rows);
            Emulation::resize(&mut emulation, cols, rows);
            Emulation::drawing(&emulation);
            // Every cell is whole, and there are as many as there is room for.
            let mut taken = 0u32;
            emulation.cells(&mut |col, row, cell| {
                assert!(col < cols && row < rows);
                assert!(!cell.wide || col + 1 < cols, "half of {cell:?} at {col}, {row} of {size:?}");
                taken += 1 + u32::from(cell.wide);
            });
            prop_assert_eq!(taken, u32::from(cols) * u32::from(rows));
            let cursor = Emulation::cursor(&emulation);
            prop_assert!(cursor.col < cols && cursor.row < rows);
        }
    }

    /// Whatever was written at whatever sizes, the drawing shows the same, and both go on alike.
    #[test]
    fn a_drawing_shows_the_same_and_goes_on_alike(
        first in (side(), side()),
        steps in prop::collection::vec((output(), side(), side()), 0..5),
        after in output(),
    ) {
        let mut one = terminal(first.0, first.1);
        for (bytes, cols, rows) in &steps {
            one.write(bytes);
            one.resize(*cols, *rows);
        }
        let mut two = redrawn(&one);
        prop_assert_eq!(shown(&one), shown(&two));
        // Repeating a character that was written before the drawing is the one thing that a drawing cannot bring back.
        prop_assume!(!after.contains(&b'b'));
        one.write(&after);
        two.write(&after);
        prop_assert_eq!(shown(&one), shown(&two));
    }
}
