use super::*;

#[test]
fn only_the_reset_pulse_resets() {
    for offset in 0..5 {
        for value in 0..=255 {
            let expected = (offset == 4 && value == 0xfe).then_some(Request::Reset);
            assert_eq!(I8042::write(offset, value), expected);
        }
        assert_eq!(I8042::read(offset), 0);
    }
}
