//! Does a KDC of the realm answer? Each is asked for a ticket of nobody: an answer to that is an error in Kerberos's own
//! form, and says nothing of anybody.

use super::{KdcFault, Names, Server, date, dns, unix_now};
use parcel::wire::kiosk::Realm;
use std::{
    io::{self, Read as _, Write as _},
    net::SocketAddr,
    sync::mpsc::channel,
};

const PORT: u16 = 88;
/// The most KDCs that are asked, all at once.
const MOST: usize = 8;
/// The longest answer that is taken, in bytes.
const LONGEST: u32 = 64 << 10;
/// `KRB-ERROR`, the only answer that there can be.
const KRB_ERROR: u8 = 0x7e;

/// Host and port of `host`, `host:port` or `[address]:port`.
pub fn host_port(text: &str) -> (String, Option<u16>) {
    match text.rsplit_once(':') {
        Some((host, port)) if !host.contains(':') || host.ends_with(']') => match port.parse() {
            Ok(port) => (host.to_owned(), Some(port)),
            Err(_) => (text.to_owned(), None),
        },
        _ => (text.to_owned(), None),
    }
}

/// The first KDC that answers.
///
/// # Errors
/// See [`KdcFault`].
pub fn answers(names: &Names, server: &Server, realm: &Realm) -> Result<String, KdcFault> {
    if let Some(proxy) = &realm.kdc_proxy {
        let at = Server { url: proxy.clone(), ca: server.ca.clone() };
        let trusted = date::trusted(names, &at, unix_now());
        return trusted.map(|()| proxy.clone()).map_err(|fault| KdcFault::Proxy(proxy.clone(), fault));
    }
    let kdcs = match realm.kdc.is_empty() {
        false => realm.kdc.clone(),
        true => {
            let name = |protocol| format!("_kerberos._{protocol}.{}", realm.name);
            let found = match dns::services(names, &name("tcp")) {
                Err(dns::Silence::Nothing(_)) => dns::services(names, &name("udp")),
                found => found,
            };
            found.map_err(KdcFault::Name)?
        }
    };
    let asked: Vec<String> = kdcs.into_iter().take(MOST).collect();
    let question = question(&realm.name);
    std::thread::scope(|scope| {
        let (answer, answers) = channel();
        for kdc in &asked {
            let (answer, question) = (answer.clone(), &question);
            scope.spawn(move || drop(answer.send((kdc, ask(names, kdc, question)))));
        }
        drop(answer);
        let mut fault = KdcFault::Silent(asked.clone());
        for (kdc, result) in answers {
            match result {
                Ok(()) => return Ok(kdc.clone()),
                Err(Some(silence)) => fault = KdcFault::Name(silence),
                Err(None) => {}
            }
        }
        Err(fault)
    })
}

/// The error: its name is not found, or it does not answer.
fn ask(names: &Names, kdc: &str, question: &[u8]) -> Result<(), Option<dns::Silence>> {
    let (host, port) = host_port(kdc);
    let addresses = names.look_up(&host).map_err(Some)?;
    let answered =
        |address| exchange(names, SocketAddr::new(address, port.unwrap_or(PORT)), question).is_ok();
    if addresses.into_iter().take(2).any(answered) { Ok(()) } else { Err(None) }
}

fn exchange(names: &Names, kdc: SocketAddr, question: &[u8]) -> io::Result<()> {
    let mut stream = names.tcp(kdc)?;
    let length = u32::try_from(question.len()).map_err(io::Error::other)?;
    stream.write_all(&[&length.to_be_bytes(), question].concat())?;
    let mut length = [0; 4];
    stream.read_exact(&mut length)?;
    let length = u32::from_be_bytes(length);
    let mut tag = [0];
    stream.read_exact(&mut tag)?;
    if (1..=LONGEST).contains(&length) && tag[0] == KRB_ERROR {
        Ok(())
    } else {
        Err(io::Error::other("no answer of Kerberos"))
    }
}

/// An `AS-REQ` (RFC 4120, 5.4.1) that names no client, in DER.
fn question(realm: &str) -> Vec<u8> {
    let integer = |value: u8| der(0x02, &[&[value]]);
    let text = |text: &str| der(0x1b, &[text.as_bytes()]);
    // krbtgt/REALM, of kind NT-SRV-INST.
    let service =
        der(0x30, &[&der(0xa0, &[&integer(2)]), &der(0xa1, &[&der(0x30, &[&text("krbtgt"), &text(realm)])])]);
    let body = der(
        0x30,
        &[
            &der(0xa0, &[&der(0x03, &[&[0; 5]])]),
            &der(0xa2, &[&text(realm)]),
            &der(0xa3, &[&service]),
            &der(0xa5, &[&der(0x18, &[b"19700101000000Z"])]),
            &der(0xa7, &[&integer(1)]),
            // AES with SHA-1, 256 and 128 bits.
            &der(0xa8, &[&der(0x30, &[&integer(18), &integer(17)])]),
        ],
    );
    let request = der(0x30, &[&der(0xa1, &[&integer(5)]), &der(0xa2, &[&integer(10)]), &der(0xa4, &[&body])]);
    der(0x6a, &[&request])
}

/// One value in DER.
fn der(tag: u8, parts: &[&[u8]]) -> Vec<u8> {
    let value = parts.concat();
    let mut out = vec![tag];
    match u8::try_from(value.len()) {
        Ok(short @ ..0x80) => out.push(short),
        Ok(long) => out.extend([0x81, long]),
        Err(_) => {
            out.push(0x82);
            out.extend(u16::try_from(value.len()).unwrap_or(u16::MAX).to_be_bytes());
        }
    }
    out.extend(value);
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hosts_and_ports() {
        for (text, host, port) in [
            ("kdc.example.org", "kdc.example.org", None),
            ("kdc.example.org:8888", "kdc.example.org", Some(8888)),
            ("192.0.2.1:88", "192.0.2.1", Some(88)),
            ("[2001:db8::1]:88", "[2001:db8::1]", Some(88)),
            ("2001:db8::1", "2001:db8::1", None),
            ("kdc:x", "kdc:x", None),
        ] {
            assert_eq!(host_port(text), (host.to_owned(), port), "{text}");
        }
    }

    #[test]
    fn lengths_are_as_der_wants_them() {
        assert_eq!(der(0x04, &[&[7; 3]]), [4, 3, 7, 7, 7]);
        assert_eq!(der(0x04, &[&[0; 200]])[..3], [4, 0x81, 200]);
        assert_eq!(der(0x04, &[&[0; 300]])[..4], [4, 0x82, 1, 44]);
    }
}
