use super::*;
use proptest::prelude::*;

#[test]
fn dates_are_those_of_the_calendar() {
    assert_eq!(date(0), (1970, 1, 1));
    assert_eq!(date(11_016), (2000, 2, 29));
    assert_eq!(date(20_779), (2026, 11, 22));
    assert_eq!(date(47_540), (2100, 2, 28));
    assert_eq!(date(47_541), (2100, 3, 1));
}

#[test]
fn time_is_told_in_the_format_asked_for() {
    let seconds = 951_827_696; // 2000-02-29 12:34:56 UTC, a Tuesday
    let mut rtc = Rtc::default();
    let mut read = |binary: bool| {
        rtc.write(0, STATUS_B);
        rtc.write(1, if binary { 0x06 } else { 0x02 });
        [0x00, 0x02, 0x04, 0x06, 0x07, 0x08, 0x09, CENTURY].map(|index| {
            rtc.write(0, index);
            rtc.register(seconds)
        })
    };
    assert_eq!(read(false), [0x56, 0x34, 0x12, 3, 0x29, 0x02, 0x00, 0x20]);
    assert_eq!(read(true), [56, 34, 12, 3, 29, 2, 0, 20]);
}

proptest! {
    #[test]
    fn any_use_is_survived_and_comes_back(steps in prop::collection::vec((0u8..2, any::<u8>()), 0..300)) {
        let mut rtc = Rtc::default();
        for (offset, value) in steps {
            rtc.write(offset, value);
            rtc.read(offset);
        }
        let text = serde_json::to_string(&rtc.save()).unwrap();
        let back = Rtc::restored(&serde_json::from_str(&text).unwrap());
        prop_assert_eq!(back.save(), rtc.save());
    }

    #[test]
    fn any_state_is_survived(index: u8, status_b: u8, cmos in prop::collection::vec(any::<u8>(), 0..300)) {
        let mut rtc = Rtc::restored(&RtcState { index, status_b, cmos });
        rtc.read(1);
        rtc.write(1, 7);
    }
}
