//! The PC's real-time clock (MC146818): tells the kiosk's wall-clock time in UTC, keeps the CMOS bytes, raises nothing.

mod state;

pub use state::RtcState;

use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// CMOS bytes that are not the clock's.
const CMOS: std::ops::Range<u8> = 0x0e..0x80;
const STATUS_A: u8 = 0x0a;
const STATUS_B: u8 = 0x0b;
const STATUS_D: u8 = 0x0d;
const CENTURY: u8 = 0x32;

/// 24 hours, binary-coded decimal.
const STATUS_B_DEFAULT: u8 = 0x02;
const BINARY: u8 = 0x04;

/// The clock.
pub struct Rtc {
    index: u8,
    status_b: u8,
    cmos: [u8; 128],
}

impl Default for Rtc {
    fn default() -> Self {
        Self { index: 0, status_b: STATUS_B_DEFAULT, cmos: [0; 128] }
    }
}

impl Rtc {
    /// A clock as it was saved.
    pub fn restored(state: &RtcState) -> Self {
        let mut rtc = Self { index: state.index & 0x7f, status_b: state.status_b, ..Self::default() };
        for (to, from) in rtc.cmos.iter_mut().zip(&state.cmos) {
            *to = *from;
        }
        rtc
    }

    /// Its state. The time itself is the kiosk's and not saved.
    pub fn save(&self) -> RtcState {
        RtcState { index: self.index, status_b: self.status_b, cmos: self.cmos.to_vec() }
    }

    /// The guest reads the index or data port.
    pub fn read(&self, offset: u8) -> u8 {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or(Duration::ZERO);
        if offset == 0 { self.index } else { self.register(now.as_secs()) }
    }

    /// The guest writes the index or data port. Setting the time is not the guest's to do.
    pub fn write(&mut self, offset: u8, value: u8) {
        if offset == 0 {
            self.index = value & 0x7f;
        } else if self.index == STATUS_B {
            self.status_b = value;
        } else if CMOS.contains(&self.index) && self.index != CENTURY {
            self.cmos[self.index as usize] = value;
        }
    }

    fn register(&self, seconds: u64) -> u8 {
        let (year, month, day) = date(seconds / 86_400);
        let number = match self.index {
            0x00 => seconds % 60,
            0x02 => seconds / 60 % 60,
            0x04 => seconds / 3600 % 24,
            // 1 January 1970 was a Thursday; Sunday is 1.
            0x06 => (seconds / 86_400 + 4) % 7 + 1,
            0x07 => day,
            0x08 => month,
            0x09 => year % 100,
            CENTURY => year / 100,
            // 32.768 kHz time base, no update in progress.
            STATUS_A => return 0x26,
            STATUS_B => return self.status_b,
            // The battery is good.
            STATUS_D => return 0x80,
            index => return self.cmos[(index & 0x7f) as usize],
        } as u8;
        if self.status_b & BINARY != 0 { number } else { ((number / 10) << 4) | (number % 10) }
    }
}

/// Year, month and day of a day since 1970, by the civil calendar
/// (Howard Hinnant, "chrono-compatible low-level date algorithms").
fn date(days: u64) -> (u64, u64, u64) {
    let shifted = days + 719_468;
    let era = shifted / 146_097;
    let day_of_era = shifted % 146_097;
    let year_of_era = (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted_month = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * shifted_month + 2) / 5 + 1;
    let month = if shifted_month < 10 { shifted_month + 3 } else { shifted_month - 9 };
    (era * 400 + year_of_era + u64::from(month <= 2), month, day)
}

#[cfg(test)]
mod tests;
