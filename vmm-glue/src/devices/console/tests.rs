use super::*;
use crate::devices::virtio::tests::{Driver, setup};
use proptest::prelude::*;

const RX: u64 = RECEIVE as u64;
const TX: u64 = TRANSMIT as u64;

/// What a terminal of the same size shows after the drawing.
fn shown(drawing: &[u8], cols: u16, rows: u16) -> vt100::Parser {
    let side = |n: u16| n.try_into().unwrap();
    let mut terminal = vt100::Parser::new(side(rows), side(cols), 0);
    terminal.process(b"rubbish from before \x1b[7m\x1b[2;3r");
    terminal.process(drawing);
    terminal
}

/// What a terminal shows, without the spaces at the ends of lines that a drawing may have written.
fn text_on(terminal: &vt100::Parser) -> String {
    let cols = terminal.screen().size().1;
    let rows = terminal.screen().rows(0, cols.get());
    let lines: Vec<_> = rows.map(|row| row.trim_end_matches(' ').to_owned()).collect();
    lines.join("\n").trim_end_matches('\n').to_owned()
}

#[test]
fn what_the_guest_writes_is_kept_and_passed_on() {
    let (transport, ram, _line) = setup(Console::new(80, 25));
    let mut driver = Driver::new(&transport, &ram);
    driver.start();
    driver.send(TX, b"\x1b[31mhello", 0);
    driver.send(TX, b" world", 0);
    assert!(driver.used(TX, 0).is_some() && driver.used(TX, 0).is_some());
    let mut transport = transport.lock().unwrap();
    assert_eq!(transport.device().take_written(), b"\x1b[31mhello world");
    assert_eq!(transport.device().screen.text(), "hello world");
}

#[test]
fn typed_bytes_wait_for_the_guests_buffers() {
    let (transport, ram, line) = setup(Console::new(80, 25));
    let mut driver = Driver::new(&transport, &ram);
    driver.start();
    assert_eq!(transport.lock().unwrap().device().type_in(b"ls -l\n"), 6);
    driver.send(RX, &[], 4);
    driver.send(RX, &[], 4);
    assert_eq!(driver.used(RX, 0).unwrap().1, b"ls -");
    assert_eq!(driver.used(RX, 0).unwrap().1, b"l\n");
    assert!(line.fd().read().is_ok());
    assert_eq!(transport.lock().unwrap().device().type_in(&[b'x'; TYPED_MAX + 1]), TYPED_MAX);
}

#[test]
fn the_size_shows_in_the_configuration_and_changes_with_an_interrupt() {
    let (transport, ram, line) = setup(Console::new(80, 25));
    let driver = Driver::new(&transport, &ram);
    driver.start();
    assert_eq!(driver.read(0x100), 25 << 16 | 80);
    let before = driver.read(0xfc);
    transport.lock().unwrap().reconfigure(|c| c.resize(132, 43));
    assert_eq!(driver.read(0x100), 43 << 16 | 132);
    assert_ne!(driver.read(0xfc), before);
    assert_eq!(driver.read(0x60) & 2, 2);
    assert!(line.fd().read().is_ok());
}

#[test]
fn an_editor_and_the_shell_under_it_come_back() {
    let mut console = Console::new(80, 25);
    console
        .screen
        .write(b"$ vi letter\r\n\x1b[?1049h\x1b[2J\x1b[H\x1b[1mDear all,\x1b[m\r\nunsaved\x1b[5;7H");
    console.type_in(b"pending");
    let text = serde_json::to_string(&console.save()).unwrap();
    let back = Console::restored(&serde_json::from_str(&text).unwrap()).unwrap();
    assert_eq!(back.typed, console.typed);
    let mut terminal = shown(&back.redraw(), 80, 25);
    assert_eq!(text_on(&terminal), "Dear all,\nunsaved");
    assert_eq!(terminal.screen().cursor_position(), (4, 6));
    assert!(terminal.screen().cell(0, 0).unwrap().bold());
    // The editor ends.
    terminal.process(b"\x1b[?1049l");
    assert_eq!(text_on(&terminal), "$ vi letter");
    assert_eq!(terminal.screen().cursor_position(), (1, 0));
}

#[test]
fn drawn_lines_are_lines_on_the_next_terminal_too() {
    let mut screen = Screen::new(80, 25);
    screen.write(b"\x1b(0lq\x1b[3bk\x1b(B ok");
    let terminal = shown(&screen.drawing(), 80, 25);
    assert_eq!(text_on(&terminal), "┌────┐ ok");
}

/// Counts beyond the screen, and strings that never end, would keep the devices' thread, and with it a save, for hours.
#[test]
fn a_hostile_guest_costs_little_time_and_memory() {
    let mut screen = Screen::new(240, 67);
    for hostile in [&b"\x1b[65535@"[..], b"\x1b[65535L", b"\x1b[65535T", b"\x1b]0;"] {
        screen.write(&hostile.repeat(4096));
    }
    screen.write(b"\x07\x1b[H\x1b[2Jstill here");
    assert_eq!(screen.text(), "still here");
}

#[test]
fn impossible_states_are_refused() {
    let good = serde_json::to_value(Console::new(80, 25).save()).unwrap();
    let refused = |field: &str, value: serde_json::Value| {
        let mut bad = good.clone();
        bad[field] = value;
        match serde_json::from_value::<ConsoleState>(bad) {
            Ok(state) => state.check().is_err(),
            Err(_) => true,
        }
    };
    assert!(refused("cols", 0.into()));
    assert!(refused("rows", 60_000.into()));
    assert!(refused("typed", "00".repeat(TYPED_MAX + 1).into()));
    assert!(refused("drawing", "xyz".into()));
    assert!(refused("more", 1.into()));
}

#[test]
fn a_screen_that_takes_too_much_to_draw_does_not_make_the_state_unusable() {
    let mut console = Console::new(500, 500);
    let mut art = Vec::new();
    for n in 0..500 * 500u32 {
        let [_, r, g, b] = n.wrapping_mul(0x9e37_79b1).to_be_bytes();
        art.extend(format!("\x1b[38;2;{r};{g};{b};48;2;{b};{r};{g}m#").into_bytes());
    }
    console.screen.write(&art);
    let back = Console::restored(&console.save()).unwrap();
    assert_eq!(back.screen.text(), console.screen.text());
}

/// A resume on a narrower screen cuts a wide character in half; what the guest writes there next found half a character.
#[test]
fn a_wide_character_that_a_narrower_screen_cuts_is_whole_or_gone() {
    let mut screen = Screen::new(80, 25);
    screen.write("$ ls\r\nletter\x1b[5;79H\u{4f60}".as_bytes());
    screen.resize(79, 25);
    screen.write(b"\x1b[5;79Hx");
    assert!(screen.text().starts_with("$ ls\nletter"), "{:?}", screen.text());
    assert!(screen.text().contains(" x"), "{:?}", screen.text());
    assert_eq!(screen.size(), (79, 25));
}

proptest! {
    /// Whatever a guest writes, its drawing shows the same screen on a terminal that showed something else.
    #[test]
    fn a_drawing_shows_the_same_screen(
        parts in prop::collection::vec(prop_oneof![
            "[ -~]{0,30}",
            Just("\r\n".to_owned()),
            Just("\x1b[?1049h".to_owned()),
            Just("\x1b[?1049l".to_owned()),
            (0u8..120).prop_map(|n| format!("\x1b[{n}m")),
            (1u8..30, 1u8..90).prop_map(|(r, c)| format!("\x1b[{r};{c}H")),
            Just("\x1b[2J".to_owned()),
            Just("\x1b[K".to_owned()),
            Just("\u{4f60}\u{597d}".to_owned()),
        ], 0..40),
    ) {
        let mut screen = Screen::new(80, 25);
        screen.write(parts.concat().as_bytes());
        let terminal = shown(&screen.drawing(), 80, 25);
        prop_assert_eq!(text_on(&terminal), screen.text());
    }

    /// Any bytes at all, with sizes changing under way, are survived.
    #[test]
    fn any_bytes_are_survived(parts in prop::collection::vec((prop::collection::vec(any::<u8>(), 0..200), any::<u16>(), any::<u16>()), 0..6)) {
        let mut screen = Screen::new(80, 25);
        for (bytes, cols, rows) in parts {
            screen.write(&bytes);
            screen.resize(cols, rows);
        }
        screen.drawing();
    }
}
