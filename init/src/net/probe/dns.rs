//! Questions to the network's DNS. The system's own look-up answers "not found" alike whether there is no DNS server, none
//! that answers, or no such name; here the three differ, and a question can be kept to one link.

use super::Names;
use serde::{Deserialize, Serialize};
use simple_dns::{CLASS, Name, Packet, PacketFlag, QTYPE, Question, RCODE, TYPE, rdata::RData};
use std::{
    io,
    net::{IpAddr, Ipv4Addr, SocketAddr},
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
    let socket = names.udp(server)?;
    socket.send(&query.build_bytes_vec().map_err(io::Error::other)?)?;
    let mut buffer = [0; 4096];
    for _ in 0..STRAYS {
        let length = socket.recv(&mut buffer)?;
        let bytes = buffer.get(..length).unwrap_or_default();
        let Ok(packet) = Packet::parse(bytes) else { continue };
        let ours = packet.id() == id
            && packet.has_flags(PacketFlag::RESPONSE)
            && packet
                .questions
                .first()
                .is_some_and(|question| question.qname.to_string().eq_ignore_ascii_case(&asked.to_string()));
        if !ours {
            continue;
        }
        return match packet.rcode() {
            RCODE::NoError if packet.answers.is_empty() => Ok(None),
            RCODE::NoError => Ok(Some(bytes.to_vec())),
            RCODE::NameError => Ok(None),
            _ => Err(io::Error::other("the DNS server failed")),
        };
    }
    Err(io::ErrorKind::TimedOut.into())
}
