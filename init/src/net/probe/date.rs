//! The parcel server over HTTPS: whether it can be reached and trusted, and what time it is there. A kiosk whose clock is
//! wrong by years cannot judge a certificate; so the chain is judged at the time that the server claims.

use super::{Instant, Names, Server, ServerFault, Time, since_boot_ms};
use rustls::{
    ClientConnection, StreamOwned,
    pki_types::{ServerName, UnixTime},
};
use std::{
    io::{self, BufRead as _, Read as _, Write as _},
    net::{IpAddr, SocketAddr, TcpStream},
    sync::Arc,
    time::{Duration, UNIX_EPOCH},
};
use tls::dated::{self, Chain, Fault};

const PORT: u16 = 443;
/// Longest head of an answer, in bytes.
const HEAD: usize = 16 << 10;
/// The end of the year 9999, in seconds since 1970: no certificate is valid later.
const LAST: u64 = 253_402_300_799;
/// Addresses of one name that are tried.
const ADDRESSES: usize = 3;

/// The time of the parcel server, if its chain is one of the site's CA and holds at that very time.
///
/// # Errors
/// Why it is not taken, for people.
pub fn time(names: &Names, server: &Server) -> Result<Time, String> {
    let (date, at, chain) = ask(names, server).map_err(|fault| fault.to_string())?;
    let claimed = UnixTime::since_unix_epoch(Duration::from_secs(date));
    match chain.holds_at(server.ca.as_bytes(), claimed) {
        Ok(()) => {
            let (host, _) = authority(&server.url).unwrap_or_default();
            let time = i64::try_from(date).unwrap_or(i64::MAX).saturating_mul(1000);
            Ok(Time { instant: Instant { time, at }, from: host })
        }
        Err(fault @ (Fault::Expired | Fault::NotYet | Fault::CaExpired { .. })) => {
            Err(format!("by its own clock, its certificate does not hold: {fault}"))
        }
        Err(Fault::Untrusted(why)) => Err(ServerFault::Untrusted(why).to_string()),
    }
}

/// Whether the parcel server answers and proves who it is at `now`.
///
/// # Errors
/// See [`ServerFault`].
pub fn trusted(names: &Names, server: &Server, now: UnixTime) -> Result<(), ServerFault> {
    let (_, _, chain) = ask(names, server)?;
    chain.holds_at(server.ca.as_bytes(), now).map_err(|fault| match fault {
        Fault::Expired => ServerFault::Time { expired: true },
        Fault::NotYet => ServerFault::Time { expired: false },
        Fault::CaExpired { last, clients_go_on } => ServerFault::CaExpired { last, clients_go_on },
        Fault::Untrusted(why) => ServerFault::Untrusted(why),
    })
}

/// Tells whether this network leads to the parcel server. The answer must come with a chain of the site's CA, valid now or in
/// another year: a captive portal takes connections to every address, and has none.
///
/// # Errors
/// See [`ServerFault`].
pub fn reach(names: &Names, server: &Server) -> Result<(), ServerFault> {
    let (date, _, chain) = ask(names, server)?;
    ever_holds(&chain, server.ca.as_bytes(), date).map_err(ServerFault::Untrusted)
}

/// Whether there is a time at which a chain holds, tried first at `guess`, in seconds since 1970. That it has expired says
/// nothing yet of whose it is.
fn ever_holds(chain: &Chain, ca: &[u8], guess: u64) -> Result<(), String> {
    let (mut first, mut last) = (0, LAST);
    let mut at = guess.min(LAST);
    while first <= last {
        match chain.holds_at(ca, UnixTime::since_unix_epoch(Duration::from_secs(at))) {
            Ok(()) => return Ok(()),
            Err(Fault::Untrusted(why)) => return Err(why),
            Err(Fault::NotYet) => first = at + 1,
            Err(Fault::Expired | Fault::CaExpired { .. }) if at == 0 => break,
            Err(Fault::Expired | Fault::CaExpired { .. }) => last = at - 1,
        }
        at = first.midpoint(last);
    }
    Err("it holds at no time".to_owned())
}

/// Host and port of an `https://` address.
pub fn authority(url: &str) -> Option<(String, u16)> {
    let rest = url.strip_prefix("https://")?;
    let (host, port) = super::kdc::host_port(rest.split('/').next()?);
    (!host.is_empty()).then(|| (host, port.unwrap_or(PORT)))
}

fn connect(names: &Names, server: &Server) -> Result<(String, TcpStream), ServerFault> {
    let (host, port) =
        authority(&server.url).ok_or_else(|| ServerFault::Speech("it has no address".into()))?;
    let mut why = "it has no address".to_owned();
    for address in names.look_up(&host).map_err(ServerFault::Name)?.into_iter().take(ADDRESSES) {
        match names.tcp(SocketAddr::new(address, port)) {
            Ok(stream) => return Ok((host, stream)),
            Err(error) => why = silence(&error, address),
        }
    }
    Err(ServerFault::Silent(why))
}

fn silence(error: &io::Error, address: IpAddr) -> String {
    match error.kind() {
        io::ErrorKind::TimedOut | io::ErrorKind::WouldBlock => format!("nobody answers at {address}"),
        io::ErrorKind::ConnectionRefused => format!("{address} refuses the connection"),
        io::ErrorKind::NetworkUnreachable | io::ErrorKind::HostUnreachable => {
            format!("no route leads to {address}")
        }
        _ => format!("{address}: {error}"),
    }
}

/// What time it is at the server in seconds since 1970, when that was in milliseconds since this kernel's start, and what
/// the server showed of itself. Nothing of it is proven yet.
fn ask(names: &Names, server: &Server) -> Result<(u64, u64, Chain), ServerFault> {
    let (host, stream) = connect(names, server)?;
    let (mut config, later) = dated::client_config(server.ca.as_bytes())
        .map_err(|error| ServerFault::Untrusted(error.to_string()))?;
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    let speech = |error: String| ServerFault::Speech(error);
    let bare = host.trim_start_matches('[').trim_end_matches(']').to_owned();
    let name = ServerName::try_from(bare).map_err(|error| speech(error.to_string()))?;
    let connection =
        ClientConnection::new(Arc::new(config), name).map_err(|error| speech(error.to_string()))?;
    let mut stream = StreamOwned::new(connection, stream);
    let question = format!("GET /v1/health HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n");
    let head = stream
        .write_all(question.as_bytes())
        .and_then(|()| read_head(&mut stream))
        .map_err(|error| speech(error.to_string()))?;
    let at = since_boot_ms();
    let date = date(&head).ok_or_else(|| speech("its answer has no date".to_owned()))?;
    let chain = later.chain().ok_or_else(|| speech("it showed no certificate".to_owned()))?;
    Ok((date, at, chain))
}

/// An answer's lines up to the empty one.
fn read_head(stream: &mut impl io::Read) -> io::Result<Vec<u8>> {
    let mut head = Vec::new();
    let mut stream = io::BufReader::new(stream.take(HEAD as u64));
    while !head.ends_with(b"\r\n\r\n") {
        if stream.read_until(b'\n', &mut head)? == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
    }
    Ok(head)
}

/// The date of an HTTP answer, in seconds since 1970.
pub fn date(head: &[u8]) -> Option<u64> {
    let text = std::str::from_utf8(head).ok()?;
    let mut lines = text.split("\r\n");
    lines.next().filter(|first| first.starts_with("HTTP/1."))?;
    let mut dates = lines.filter_map(|line| {
        let (name, value) = line.split_once(':')?;
        name.eq_ignore_ascii_case("date").then_some(value.trim())
    });
    let date = httpdate::parse_http_date(dates.next()?).ok()?;
    // Two dates are none.
    dates.next().is_none().then(|| date.duration_since(UNIX_EPOCH).ok().map(|since| since.as_secs()))?
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn addresses_of_servers() {
        let read = |url: &str| authority(url);
        assert_eq!(read("https://parcels.example.org"), Some(("parcels.example.org".into(), 443)));
        assert_eq!(read("https://parcels.example.org:8443/x"), Some(("parcels.example.org".into(), 8443)));
        assert_eq!(read("https://[fe80::1]:8443"), Some(("[fe80::1]".into(), 8443)));
        for bad in ["", "http://parcels.example.org", "https://", "https:///x"] {
            assert_eq!(read(bad), None, "{bad}");
        }
    }

    #[test]
    fn one_date_of_an_http_answer_counts() {
        let head = |lines: &str| date(format!("HTTP/1.1 200 OK\r\n{lines}\r\n\r\n").as_bytes());
        assert_eq!(head("date: Fri, 27 Nov 2026 12:00:00 GMT"), Some(1_795_780_800));
        assert_eq!(head("Server: x\r\nDate: Fri, 27 Nov 2026 12:00:00 GMT"), Some(1_795_780_800));
        for bad in ["", "Date: soon", "Date: 1\r\nDate: 2", "X-Date: Fri, 27 Nov 2026 12:00:00 GMT"] {
            assert_eq!(head(bad), None, "{bad}");
        }
        let two = "Date: Fri, 27 Nov 2026 12:00:00 GMT\r\nDate: Fri, 27 Nov 2026 12:00:00 GMT";
        assert_eq!(head(two), None);
        assert_eq!(date(b"220 mail\r\nDate: Fri, 27 Nov 2026 12:00:00 GMT\r\n\r\n"), None);
    }

    proptest! {
        #[test]
        fn is_total(head in "\\PC{0,200}", url in "\\PC{0,60}") {
            let _ = date(head.as_bytes());
            let _ = date(format!("HTTP/1.1\r\nDate: {head}\r\n\r\n").as_bytes());
            let _ = authority(&url);
            let _ = authority(&format!("https://{url}"));
        }
    }
}
