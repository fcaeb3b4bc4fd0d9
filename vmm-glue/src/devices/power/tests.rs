use super::*;

#[test]
fn only_soft_off_powers_off_and_only_the_reset_value_resets() {
    let mut power = Power::new(Line::new().unwrap());
    for value in 0..=255u8 {
        assert_eq!(power.write(SLEEP_CONTROL, value), (value == 0x34).then_some(Request::PowerOff));
        assert_eq!(power.write(RESET, value), (value == 1).then_some(Request::Reset));
        assert_eq!(power.write(SLEEP_STATUS, value), None);
    }
}

#[test]
fn events_are_taken_once_and_survive_a_save() {
    let line = Line::new().unwrap();
    let mut power = Power::new(line.clone());
    power.notify(BUTTON);
    assert_eq!(line.fd().read().unwrap(), 1);
    let mut back = Power::restored(line.clone(), power.save());
    back.notify(GENERATION);
    assert_eq!(line.fd().read().unwrap(), 1);
    assert_eq!((back.read(EVENTS), back.read(EVENTS)), (BUTTON | GENERATION, 0));
    assert_eq!(Power::restored(line, PowerState { events: 0xff }).save().events, BUTTON | GENERATION);
}
