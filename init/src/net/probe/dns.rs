//! Questions to the network's DNS. The system's own look-up answers "not found" alike whether there is no DNS server, none
//! that answers, or no such name; here the three differ, and a question can be kept to one link.

use super::{Names, PATIENCE};
use crate::clock;
use serde::{Deserialize, Serialize};
use simple_dns::{
    CLASS, Name, Packet, PacketFlag, QTYPE, Question, RCODE, TYPE, header_buffer, rdata::RData,
};
use std::{
    io::{self, Read as _, Write as _},
    net::{IpAddr, Ipv4Addr, SocketAddr, TcpStream},
    time::Duration,
};

/// The most of a network's servers that are asked, as the C library does.
const SERVERS: usize = 3;
/// Answers to other questions that are passed over while one is waited for.
const STRAYS: usize = 16;

/// Why DNS gave no answer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Silence {
    /// The network named no DNS server.
    NoServer,
    /// None of these answers.
    Silent(Vec<Ipv4Addr>),
    /// There is no such name.
    Nothing(String),
}

impl std::fmt::Display for Silence {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::NoServer => f.write_str("the network names no DNS server"),
            Self::Silent(servers) => {
                let servers: Vec<String> = servers.iter().map(ToString::to_string).collect();
                write!(f, "the DNS server {} does not answer", servers.join(", "))
            }
            Self::Nothing(name) => write!(f, "DNS does not know {name}"),
        }
    }
}

/// The addresses of a host.
///
/// # Errors
/// See [`Silence`].
pub fn addresses(names: &Names, host: &str) -> Result<Vec<IpAddr>, Silence> {
    let mut found = Vec::new();
    let mut why = Silence::Nothing(host.to_owned());
    for kind in [TYPE::A, TYPE::AAAA] {
        match ask(names, host, kind) {
            Ok(answer) => found.extend(Packet::parse(&answer).into_iter().flat_map(|packet| {
                let addresses = packet.answers.into_iter().filter_map(|record| match record.rdata {
                    RData::A(a) => Some(IpAddr::from(Ipv4Addr::from(a.address))),
                    RData::AAAA(a) => Some(IpAddr::from(std::net::Ipv6Addr::from(a.address))),
                    _ => None,
                });
                addresses.collect::<Vec<_>>()
            })),
            Err(silence @ Silence::Nothing(_)) => why = silence,
            Err(silence) => return Err(silence),
        }
        if !found.is_empty() {
            return Ok(found);
        }
    }
    Err(why)
}

/// `host:port` of a service, in the order of preference.
///
/// # Errors
/// See [`Silence`].
pub fn services(names: &Names, name: &str) -> Result<Vec<String>, Silence> {
    let answer = ask(names, name, TYPE::SRV)?;
    let nothing = || Silence::Nothing(name.to_owned());
    let packet = Packet::parse(&answer).map_err(|_| nothing())?;
    let mut found: Vec<_> = packet
        .answers
        .iter()
        .filter_map(|record| match &record.rdata {
            // A lone dot says that the service is not there (RFC 2782).
            RData::SRV(srv) if !srv.target.to_string().is_empty() => {
                Some((srv.priority, format!("{}:{}", srv.target, srv.port)))
            }
            _ => None,
        })
        .collect();
    found.sort();
    if found.is_empty() { Err(nothing()) } else { Ok(found.into_iter().map(|(_, at)| at).collect()) }
}

/// The first answer that a server gives, of any content but "no".
fn ask(names: &Names, name: &str, kind: TYPE) -> Result<Vec<u8>, Silence> {
    if names.servers.is_empty() {
        return Err(Silence::NoServer);
    }
    let asked: Vec<Ipv4Addr> = names.servers.iter().copied().take(SERVERS).collect();
    for server in &asked {
        match ask_one(names, SocketAddr::from((*server, 53)), name, kind) {
            Ok(Some(answer)) => return Ok(answer),
            Ok(None) => return Err(Silence::Nothing(name.to_owned())),
            Err(_) => {}
        }
    }
    Err(Silence::Silent(asked))
}

/// `None`: the server says that there is no such name, or nothing of that kind under it.
fn ask_one(names: &Names, server: SocketAddr, name: &str, kind: TYPE) -> io::Result<Option<Vec<u8>>> {
    let mut id = [0; 2];
    getrandom::fill(&mut id).map_err(io::Error::other)?;
    let id = u16::from_ne_bytes(id);
    let mut query = Packet::new_query(id);
    query.set_flags(PacketFlag::RECURSION_DESIRED);
    let asked = Name::new(name).map_err(io::Error::other)?;
    query.questions.push(Question::new(asked.clone(), QTYPE::TYPE(kind), CLASS::IN.into(), false));
    let query = query.build_bytes_vec().map_err(io::Error::other)?;
    let socket = names.udp(server)?;
    socket.send(&query)?;
    let mut buffer = [0; 4096];
    for _ in 0..STRAYS {
        let length = socket.recv(&mut buffer)?;
        let bytes = buffer.get(..length).unwrap_or_default();
        let Some(cut) = is_cut(bytes, id) else { continue };
        // One that was cut in the middle of a record cannot be read.
        let packet = Packet::parse(bytes).ok();
        if packet.as_ref().map_or(!cut, |packet| !is_answer(packet, id, &asked)) {
            continue;
        }
        if let (false, Some(packet)) = (cut, &packet) {
            return content(packet, bytes);
        }
        // An answer that does not fit in one packet says little or nothing of what there is.
        return match ask_by_tcp(names, server, &query, clock::since_boot() + PATIENCE) {
            Ok(whole) => match Packet::parse(&whole) {
                Ok(packet) if is_answer(&packet, id, &asked) => content(&packet, &whole),
                _ => Err(io::Error::other("the DNS server answers something else")),
            },
            Err(error) => match packet {
                Some(packet) if !packet.answers.is_empty() => content(&packet, bytes),
                _ => Err(error),
            },
        };
    }
    Err(io::ErrorKind::TimedOut.into())
}

/// The whole answer must be there at `until`, counted since the kernel started.
fn ask_by_tcp(names: &Names, server: SocketAddr, query: &[u8], until: Duration) -> io::Result<Vec<u8>> {
    let length = u16::try_from(query.len()).map_err(io::Error::other)?;
    let mut stream = names.tcp(server)?;
    stream.write_all(&[&length.to_be_bytes(), query].concat())?;
    let mut answer = Until { stream, until };
    let mut length = [0; 2];
    answer.read_exact(&mut length)?;
    let mut bytes = vec![0; u16::from_be_bytes(length).into()];
    answer.read_exact(&mut bytes)?;
    Ok(bytes)
}

/// A stream whose every read ends at one time: a server that sends byte by byte does not get a limit for each.
struct Until {
    stream: TcpStream,
    until: Duration,
}

impl io::Read for Until {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let left = self.until.saturating_sub(clock::since_boot());
        if left.is_zero() {
            return Err(io::ErrorKind::TimedOut.into());
        }
        self.stream.set_read_timeout(Some(left))?;
        self.stream.read(buffer)
    }
}

/// Whether an answer to the question `id` was cut to fit in one packet, by its head alone; `None`: it answers another one, or
/// nothing.
fn is_cut(bytes: &[u8], id: u16) -> Option<bool> {
    let has = |flag| header_buffer::has_flags(bytes, flag).ok();
    let is_answer = header_buffer::id(bytes).ok()? == id && has(PacketFlag::RESPONSE)?;
    if is_answer { has(PacketFlag::TRUNCATION) } else { None }
}

/// Whether it answers that question.
fn is_answer(packet: &Packet<'_>, id: u16, asked: &Name<'_>) -> bool {
    let same = |question: &Question<'_>| question.qname.to_string().eq_ignore_ascii_case(&asked.to_string());
    packet.id() == id && packet.has_flags(PacketFlag::RESPONSE) && packet.questions.first().is_some_and(same)
}

/// What [`ask_one`] makes of an answer.
fn content(packet: &Packet<'_>, bytes: &[u8]) -> io::Result<Option<Vec<u8>>> {
    match packet.rcode() {
        RCODE::NoError if packet.answers.is_empty() => Ok(None),
        RCODE::NoError => Ok(Some(bytes.to_vec())),
        RCODE::NameError => Ok(None),
        _ => Err(io::Error::other("the DNS server failed")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::{TcpListener, UdpSocket};

    /// The last byte of the address that an answer brings, by how it came.
    const BY_UDP: u8 = 7;
    const BY_TCP: u8 = 8;

    /// The answer to `query`, with one address.
    fn answer(query: &[u8], last: u8) -> Vec<u8> {
        let mut answer = query.to_vec();
        answer[2] |= 0x80;
        answer[7] = 1;
        answer.extend([0xc0, 12, 0, 1, 0, 1, 0, 0, 0, 60, 0, 4, 192, 0, 2, last]);
        answer
    }

    /// What is found at a server that sends `by_udp` of the answer, and the whole by TCP.
    fn found(by_udp: impl Fn(&[u8]) -> Vec<Vec<u8>> + Send + 'static) -> u8 {
        let (socket, listener) = (0..100)
            .find_map(|_| {
                let listener = TcpListener::bind("127.0.0.1:0").ok()?;
                Some((UdpSocket::bind(listener.local_addr().ok()?).ok()?, listener))
            })
            .unwrap();
        let server = listener.local_addr().unwrap();
        std::thread::spawn(move || {
            let mut query = [0; 512];
            let (length, from) = socket.recv_from(&mut query).unwrap();
            for packet in by_udp(&query[..length]) {
                socket.send_to(&packet, from).unwrap();
            }
            let (mut stream, _) = listener.accept().unwrap();
            let mut length = [0; 2];
            stream.read_exact(&mut length).unwrap();
            let mut query = vec![0; u16::from_be_bytes(length).into()];
            stream.read_exact(&mut query).unwrap();
            let answer = answer(&query, BY_TCP);
            stream.write_all(&u16::try_from(answer.len()).unwrap().to_be_bytes()).unwrap();
            stream.write_all(&answer).unwrap();
        });
        let told = ask_one(&Names::default(), server, "big.example.org", TYPE::A).unwrap().unwrap();
        let packet = Packet::parse(&told).unwrap();
        let RData::A(a) = &packet.answers[0].rdata else { panic!("{packet:?}") };
        a.address.to_be_bytes()[3]
    }

    #[test]
    fn an_answer_that_was_cut_is_asked_for_by_tcp() {
        let cut = |query: &[u8], keep: usize| {
            let mut answer = answer(query, BY_UDP);
            answer[2] |= 0x02;
            answer.truncate(keep);
            answer
        };
        let without_records = move |query: &[u8]| {
            let mut answer = cut(query, query.len());
            answer[7] = 0;
            vec![answer]
        };
        assert_eq!(found(without_records), BY_TCP);
        assert_eq!(
            found(move |query| vec![cut(query, query.len() + 9)]),
            BY_TCP,
            "in the middle of a record"
        );
        assert_eq!(found(move |query| vec![cut(query, 12)]), BY_TCP, "behind the head");
    }

    #[test]
    fn what_answers_another_question_is_passed_over() {
        let strays = |query: &[u8]| {
            let with = |at: usize, bits: u8| {
                let mut stray = answer(query, 99);
                stray[at] ^= bits;
                stray
            };
            let (id, no_answer, name) = (with(1, 1), with(2, 0x80), with(13, 1));
            let cut = |mut stray: Vec<u8>, length: usize| {
                stray[2] |= 0x02;
                stray.truncate(length);
                stray
            };
            let strays = [cut(id.clone(), 20), cut(no_answer.clone(), 20), with(2, 0)[..20].to_vec()];
            let whole = [id, no_answer, name, answer(query, BY_UDP)];
            [vec![Vec::new(), vec![0; 11]], strays.to_vec(), whole.to_vec()].concat()
        };
        assert_eq!(found(strays), BY_UDP);
    }

    #[test]
    fn an_answer_by_tcp_that_comes_byte_by_byte_is_given_up_at_its_time() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let server = listener.local_addr().unwrap();
        let limit = Duration::from_millis(100);
        std::thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            let bytes = [&[0, 100][..], &[7; 100]].concat();
            // All of it takes far longer than the limit, each byte less.
            for byte in bytes {
                std::thread::sleep(limit / 5);
                if stream.write_all(&[byte]).is_err() {
                    return;
                }
            }
        });
        assert!(ask_by_tcp(&Names::default(), server, b"?", clock::since_boot() + limit).is_err());
    }
}
