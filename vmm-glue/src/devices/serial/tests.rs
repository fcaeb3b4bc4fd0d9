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
        let back = Serial::restored("COM1", Line::new().unwrap(), &serde_json::from_str(&text).unwrap()).unwrap();
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
    assert!(Serial::restored("COM1", Line::new().unwrap(), &state).is_err());
}
