//! A client of the Simple Network Time Protocol (RFC 4330). Nothing proves who answers: whoever is on the path can claim any
//! time. What it can check, it does: that this is the answer to our own question, and of a server that knows the time.

use super::{Instant, Names, Time, since_boot_ms};
use std::{io, net::SocketAddr};

const PORT: u16 = 123;
const PACKET: usize = 48;
/// From 1900, which NTP counts from, to 1970, in seconds.
const TO_1970: i64 = 2_208_988_800;
/// The era that begins when 32 bits of seconds have run out, in 2036.
const ERA: i64 = 1 << 32;
/// Version 4, mode 3: a client's question.
const QUESTION: u8 = 0x23;
/// Mode 4: a server's answer.
const SERVER: u8 = 4;
/// Answers to something else that are passed over while ours is waited for.
const STRAYS: usize = 16;

/// Why an answer is not used.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    /// It is too short, or not a server's.
    #[error("its answer is not one of NTP")]
    Form,
    /// It repeats another question than ours: late, or made up by somebody who did not see ours.
    #[error("its answer is not to our question")]
    NotOurs,
    /// It says itself that it does not know the time.
    #[error("it is not synchronised")]
    Unsynchronised,
}

/// The time by the first of `servers` that answers as it should.
pub fn first(names: &Names, servers: &[String]) -> Result<Time, String> {
    let mut why = Vec::new();
    for server in servers {
        match one(names, server) {
            Ok(instant) => return Ok(Time { instant, from: server.clone() }),
            Err(error) => why.push(format!("{server}: {error}")),
        }
    }
    Err(why.join("; "))
}

fn one(names: &Names, server: &str) -> Result<Instant, String> {
    let (host, port) = super::kdc::host_port(server);
    let addresses = names.look_up(&host).map_err(|silence| silence.to_string())?;
    let mut why = String::new();
    for address in addresses.into_iter().take(3) {
        match ask(names, SocketAddr::new(address, port.unwrap_or(PORT))) {
            Ok(instant) => return Ok(instant),
            Err(error) => why = error,
        }
    }
    Err(why)
}

fn ask(names: &Names, server: SocketAddr) -> Result<Instant, String> {
    let silent = |error: io::Error| match error.kind() {
        io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut => "it does not answer".to_owned(),
        _ => format!("it does not answer ({error})"),
    };
    let socket = names.udp(server).map_err(silent)?;
    // Random instead of our clock: it is wrong, perhaps, and tells others who we are.
    let mut nonce = [0; 8];
    getrandom::fill(&mut nonce).map_err(|error| error.to_string())?;
    let asked = since_boot_ms();
    socket.send(&question(nonce)).map_err(silent)?;
    let mut refused = None;
    for _ in 0..STRAYS {
        let mut buffer = [0; 512];
        let length = match socket.recv(&mut buffer) {
            Ok(length) => length,
            Err(error) => return Err(refused.map_or_else(|| silent(error), |why: Refused| why.to_string())),
        };
        let now = since_boot_ms();
        match read(buffer.get(..length).unwrap_or_default(), nonce) {
            // It took its way back half the time that the server did not spend on it.
            Ok((time, spent)) => {
                let back = now.saturating_sub(asked).saturating_sub(spent) / 2;
                return Ok(Instant { time: time.saturating_add_unsigned(back), at: now });
            }
            Err(Refused::Unsynchronised) => return Err(Refused::Unsynchronised.to_string()),
            Err(other) => refused = Some(other),
        }
    }
    Err(refused.map_or_else(|| "it does not answer".to_owned(), |why| why.to_string()))
}

fn question(nonce: [u8; 8]) -> [u8; PACKET] {
    let mut packet = [0; PACKET];
    packet[0] = QUESTION;
    packet[40..].copy_from_slice(&nonce);
    packet
}

/// The time in an answer, in milliseconds since 1970, and how long the server took over it, in milliseconds.
///
/// # Errors
/// See [`Refused`].
pub fn read(answer: &[u8], nonce: [u8; 8]) -> Result<(i64, u64), Refused> {
    let packet: &[u8; PACKET] = answer.first_chunk().ok_or(Refused::Form)?;
    let (leap, version, mode) = (packet[0] >> 6, packet[0] >> 3 & 7, packet[0] & 7);
    if mode != SERVER || !(3..=4).contains(&version) {
        return Err(Refused::Form);
    }
    if packet[24..32] != nonce {
        return Err(Refused::NotOurs);
    }
    let sent = stamp(packet, 40);
    if leap == 3 || !(1..=15).contains(&packet[1]) || sent.is_none() {
        return Err(Refused::Unsynchronised);
    }
    let sent = sent.ok_or(Refused::Unsynchronised)?;
    let spent = stamp(packet, 32).map_or(0, |received| u64::try_from(sent - received).unwrap_or(0));
    Ok((sent, spent))
}

/// The time stamp at `at`, in milliseconds since 1970; `None` where there is none.
fn stamp(packet: &[u8; PACKET], at: usize) -> Option<i64> {
    let word = |at: usize| packet.get(at..)?.first_chunk().map(|word| u32::from_be_bytes(*word));
    let (seconds, fraction) = (word(at)?, word(at + 4)?);
    if seconds == 0 && fraction == 0 {
        return None;
    }
    // Times whose first bit is not set are after 2036 (RFC 4330, 3).
    let era = if seconds >> 31 == 1 { 0 } else { ERA };
    let millis = (u64::from(fraction) * 1000) >> 32;
    Some((i64::from(seconds) + era - TO_1970) * 1000 + i64::try_from(millis).unwrap_or(0))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const NONCE: [u8; 8] = *b"our word";

    fn answer(first: u8, stratum: u8, nonce: [u8; 8], seconds: u32) -> [u8; PACKET] {
        let mut packet = [0; PACKET];
        (packet[0], packet[1]) = (first, stratum);
        packet[24..32].copy_from_slice(&nonce);
        packet[32..36].copy_from_slice(&seconds.to_be_bytes());
        packet[40..44].copy_from_slice(&seconds.to_be_bytes());
        packet[44] = 0x80;
        packet
    }

    /// 2026-11-27 12:00:00 UTC.
    const SECONDS: u32 = 1_795_780_800 + 2_208_988_800u32;

    #[test]
    fn a_good_answer_is_read() {
        assert_eq!(read(&answer(0x24, 2, NONCE, SECONDS), NONCE), Ok((1_795_780_800_500, 500)));
        // After 2036.
        let (later, _) = read(&answer(0x24, 2, NONCE, 1000), NONCE).unwrap();
        assert_eq!(later / 1000, ERA - TO_1970 + 1000);
    }

    #[test]
    fn a_bad_answer_is_refused_with_its_reason() {
        let refused = |packet: &[u8]| read(packet, NONCE).unwrap_err();
        assert_eq!(refused(&answer(0x24, 2, *b"not ours", SECONDS)), Refused::NotOurs);
        assert_eq!(refused(&answer(0xe4, 2, NONCE, SECONDS)), Refused::Unsynchronised);
        for stratum in [0, 16, 255] {
            assert_eq!(refused(&answer(0x24, stratum, NONCE, SECONDS)), Refused::Unsynchronised, "{stratum}");
        }
        let mut empty = answer(0x24, 2, NONCE, 0);
        empty[44] = 0;
        assert_eq!(refused(&empty), Refused::Unsynchronised);
        for first in [0x23, 0x25, 0x0c, 0x2c] {
            assert_eq!(refused(&answer(first, 2, NONCE, SECONDS)), Refused::Form, "{first:#x}");
        }
        assert_eq!(refused(&answer(0x24, 2, NONCE, SECONDS)[..47]), Refused::Form);
    }

    proptest! {
        #[test]
        fn is_total(bytes in proptest::collection::vec(any::<u8>(), 0..100), nonce in any::<[u8; 8]>()) {
            let _ = read(&bytes, nonce);
            let mut ours = bytes;
            ours.resize(PACKET, 0);
            ours[24..32].copy_from_slice(&nonce);
            ours[0] = 0x24;
            let _ = read(&ours, nonce);
        }
    }
}
