//! Questions to the site's DNS that a log-in depends on. The system's own look-up answers "not found" alike whether
//! there is no DNS server, none that answers, or no such name; here the three differ.

use simple_dns::{CLASS, Name, Packet, PacketFlag, QTYPE, Question, RCODE, TYPE, rdata::RData};
use std::{
    cmp::Reverse,
    io,
    net::{IpAddr, SocketAddr},
    path::PathBuf,
    time::Duration,
};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpStream, UdpSocket},
    time::timeout,
};

/// How long one server may take over one question.
const PATIENCE: Duration = Duration::from_secs(3);
/// How often each server is asked.
const ROUNDS: usize = 2;
/// The most of a site's servers that are asked, as the C library does.
const SERVERS: usize = 3;

/// Where to ask.
#[derive(Debug, Clone)]
pub enum Servers {
    /// The `nameserver` lines of a file like `/etc/resolv.conf`, read anew for each question.
    File(PathBuf),
    /// Servers at fixed addresses.
    At(Vec<SocketAddr>),
}

impl Servers {
    fn list(&self) -> Vec<SocketAddr> {
        match self {
            Self::At(list) => list.clone(),
            Self::File(path) => parse(&std::fs::read_to_string(path).unwrap_or_default()),
        }
    }
}

fn parse(text: &str) -> Vec<SocketAddr> {
    let addresses = text.lines().filter_map(|line| {
        let address = line.trim().strip_prefix("nameserver")?.trim().split('%').next()?;
        Some(SocketAddr::new(address.parse::<IpAddr>().ok()?, 53))
    });
    addresses.take(SERVERS).collect()
}

/// Why DNS gave no answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Silence {
    /// The network named no DNS server.
    NoServer,
    /// None of these answers.
    Silent(String),
    /// It answers that there is no such thing.
    Nothing,
}

/// `host:port` of a service, in the order of preference.
pub async fn services(servers: &Servers, name: &str) -> Result<Vec<String>, Silence> {
    let answer = ask(servers, name, TYPE::SRV).await?;
    let packet = Packet::parse(&answer).map_err(|_| Silence::Nothing)?;
    let mut found: Vec<_> = packet
        .answers
        .iter()
        .filter_map(|record| match &record.rdata {
            // A lone dot says that the service is not there (RFC 2782).
            RData::SRV(srv) if !srv.target.to_string().is_empty() => {
                Some((srv.priority, Reverse(srv.weight), format!("{}:{}", srv.target, srv.port)))
            }
            _ => None,
        })
        .collect();
    found.sort();
    match found.is_empty() {
        true => Err(Silence::Nothing),
        false => Ok(found.into_iter().map(|(_, _, at)| at).collect()),
    }
}

/// Is there an address of that name? The error says why it is not known.
pub async fn has_address(servers: &Servers, name: &str) -> Result<(), Silence> {
    ask(servers, name, TYPE::A).await.map(drop)
}

/// The first answer that a server gives, of any content but "no".
async fn ask(servers: &Servers, name: &str, kind: TYPE) -> Result<Vec<u8>, Silence> {
    let list = servers.list();
    if list.is_empty() {
        return Err(Silence::NoServer);
    }
    for _ in 0..ROUNDS {
        for server in &list {
            match timeout(PATIENCE, ask_one(*server, name, kind)).await {
                Ok(Ok(Some(answer))) => return Ok(answer),
                Ok(Ok(None)) => return Err(Silence::Nothing),
                Ok(Err(_)) | Err(_) => {}
            }
        }
    }
    let names: Vec<_> = list.iter().map(|server| server.ip().to_string()).collect();
    Err(Silence::Silent(names.join(", ")))
}

/// `None`: the server says that there is no such name, or nothing of that kind under it.
async fn ask_one(server: SocketAddr, name: &str, kind: TYPE) -> io::Result<Option<Vec<u8>>> {
    let mut id = [0; 2];
    getrandom::fill(&mut id).map_err(io::Error::other)?;
    let id = u16::from_be_bytes(id);
    let mut query = Packet::new_query(id);
    query.set_flags(PacketFlag::RECURSION_DESIRED);
    let asked = Name::new(name).map_err(io::Error::other)?;
    query.questions.push(Question::new(asked.clone(), QTYPE::TYPE(kind), CLASS::IN.into(), false));
    let query = query.build_bytes_vec().map_err(io::Error::other)?;

    let any: IpAddr = if server.is_ipv4() { [0; 4].into() } else { [0; 16].into() };
    let socket = UdpSocket::bind((any, 0)).await?;
    socket.connect(server).await?;
    socket.send(&query).await?;
    let mut buffer = vec![0; 4096];
    loop {
        let length = socket.recv(&mut buffer).await?;
        // What answers another question is no answer.
        let Some(mut judged) = judge(&buffer[..length], id, &asked) else { continue };
        let mut answer = buffer[..length].to_vec();
        if judged == Judged::Truncated {
            answer = over_tcp(server, &query).await?;
            judged = judge(&answer, id, &asked).unwrap_or(Judged::Failed);
        }
        return match judged {
            Judged::Answer => Ok(Some(answer)),
            Judged::Nothing => Ok(None),
            Judged::Truncated | Judged::Failed => Err(io::Error::other("the DNS server failed")),
        };
    }
}

#[derive(PartialEq, Eq)]
enum Judged {
    Answer,
    Nothing,
    Truncated,
    Failed,
}

fn judge(bytes: &[u8], id: u16, asked: &Name<'_>) -> Option<Judged> {
    let packet = Packet::parse(bytes).ok()?;
    let ours = packet.id() == id
        && packet.has_flags(PacketFlag::RESPONSE)
        && packet
            .questions
            .first()
            .is_some_and(|question| question.qname.to_string().eq_ignore_ascii_case(&asked.to_string()));
    ours.then(|| match packet.rcode() {
        _ if packet.has_flags(PacketFlag::TRUNCATION) => Judged::Truncated,
        RCODE::NoError if packet.answers.is_empty() => Judged::Nothing,
        RCODE::NoError => Judged::Answer,
        RCODE::NameError => Judged::Nothing,
        _ => Judged::Failed,
    })
}

async fn over_tcp(server: SocketAddr, query: &[u8]) -> io::Result<Vec<u8>> {
    let mut stream = TcpStream::connect(server).await?;
    let mut framed = (query.len() as u16).to_be_bytes().to_vec();
    framed.extend_from_slice(query);
    stream.write_all(&framed).await?;
    let length = stream.read_u16().await?;
    let mut answer = vec![0; usize::from(length)];
    stream.read_exact(&mut answer).await?;
    Ok(answer)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn servers_are_read_from_resolv_conf() {
        let text =
            "# DHCP\nsearch example.org\nnameserver 192.0.2.1\nnameserver fe80::1%eth0\nnameserver x\n";
        let list: Vec<_> = parse(text).iter().map(ToString::to_string).collect();
        assert_eq!(list, ["192.0.2.1:53", "[fe80::1]:53"]);
        assert!(parse("").is_empty());
    }
}
