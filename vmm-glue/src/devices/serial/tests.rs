use super::*;
use proptest::prelude::*;

proptest! {
    #[test]
    fn any_use_is_survived_and_comes_back(steps in prop::collection::vec((0u8..8, any::<u8>()), 0..200)) {
        let mut port = Serial::new("COM1", Line::new().unwrap());
        for (offset, value) in steps {
            port.write(offset, value);
            port.read(offset.wrapping_add(value) % 8);
            port.type_in(&[value]);
        }
        let saved = port.save();
        let text = serde_json::to_string(&saved).unwrap();
        let back = Serial::restored("COM1", Line::new().unwrap(), &serde_json::from_str(&text).unwrap(), None).unwrap();
        prop_assert_eq!(back.save(), saved);
    }
}

#[test]
fn typed_bytes_are_read_in_order_and_bounded() {
    let mut port = Serial::new("COM2", Line::new().unwrap());
    assert_eq!(port.type_in(b"12"), 2);
    assert_eq!((port.read(0), port.read(0)), (b'1', b'2'));
    assert!(port.type_in(&[b'x'; 1000]) < 1000);
}

#[test]
fn only_a_guest_that_listens_is_told_and_only_the_newest() {
    let mut port = Serial::new("COM2", Line::new().unwrap());
    assert!(!port.announce(b"1\n"));
    port.write(1, 1);
    assert!(port.announce(b"1\n"));
    assert!(port.announce(b"23\n"));
    assert_eq!([port.read(0), port.read(0), port.read(0)], *b"23\n");
    assert!(!port.announce(&[b'x'; 1000]));
    port.write(3, 0x80);
    assert!(!port.announce(b"4\n"));
}

#[test]
fn too_many_typed_bytes_are_refused() {
    let json = serde_json::json!({"registers": vec![0; 9], "typed": vec![0; 65]});
    let state: SerialState = serde_json::from_value(json).unwrap();
    assert!(Serial::restored("COM1", Line::new().unwrap(), &state, None).is_err());
}

/// What the guest reads until nothing is left.
fn typed(port: &mut Serial) -> String {
    let mut text = String::new();
    while port.read(5) & 1 != 0 {
        text.push(char::from(port.read(0)));
    }
    text
}

fn greet(port: &mut Serial) {
    // As a terminal may send it.
    for byte in b"noise\r\nwaystation-clock\r\n" {
        port.write(0, *byte);
    }
}

#[test]
fn a_greeting_is_answered_with_the_time_and_remembered() {
    let mut port = Serial::new("COM2", Line::new().unwrap());
    port.write(1, 1);
    assert_eq!(port.helper(), Some(false));
    greet(&mut port);
    assert_eq!(port.helper(), Some(true));
    let told: f64 = typed(&mut port).trim_end().parse().unwrap();
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs_f64();
    assert!((now - 60.0..=now).contains(&told), "{told} {now}");
    for text in ["waystation-clock ", "xwaystation-clock", ""] {
        let mut port = Serial::new("COM2", Line::new().unwrap());
        text.bytes().for_each(|byte| port.write(0, byte));
        assert_eq!(port.helper(), Some(false), "{text:?}");
    }
    port.reset("COM2");
    assert_eq!(port.helper(), Some(false), "what starts again must greet again");
}

#[test]
fn a_guest_is_behind_until_something_in_it_sets_its_clock() {
    let now = Duration::from_secs(1_700_000_000);
    let mut port = Serial::new("COM2", Line::new().unwrap());
    port.tell_time(now, false);
    assert!(!port.behind(), "it was not away");
    port.tell_time(now, true);
    assert!(port.behind());
    port.tell_time(now, false);
    assert!(port.behind(), "it still is");
    // A terminal's log-in listens and is no helper.
    port.write(1, 1);
    port.tell_time(now, true);
    assert!(port.behind());
    assert_eq!(typed(&mut port), "1700000000.000000000\n");
    greet(&mut port);
    assert!(!port.behind());
    port.tell_time(now, true);
    assert!(!port.behind());
    // A helper that was stopped closed the port.
    port.write(1, 0);
    port.tell_time(now, true);
    assert!(port.behind());
    port.write(1, 1);
    port.tell_time(now, true);
    assert!(!port.behind());
    // Of a state of the first model it is not known, so whoever listens counts.
    let mut port = Serial::restored("COM2", Line::new().unwrap(), &port.save(), None).unwrap();
    port.tell_time(now, true);
    assert!(!port.behind());
    port.write(1, 0);
    port.tell_time(now, true);
    assert!(port.behind());
}
