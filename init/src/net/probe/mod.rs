//! Questions to the network that the manager itself must not ask: the answers come from anybody. A child that runs this
//! program as `init probe`, as a user of its own and [confined](super::confine), asks them, and says what it found in one
//! line of JSON. What it says is only data.

pub mod date;
pub mod dns;
pub mod kdc;
pub mod sntp;

use super::confine::{self, Confinement};
use crate::{clock, helper};
use parcel::wire::kiosk::Realm;
use rustls::pki_types::UnixTime;
use serde::{Deserialize, Serialize};
use std::{
    collections::BTreeMap,
    io::{self, Read as _},
    net::{IpAddr, Ipv4Addr, SocketAddr, TcpStream, UdpSocket},
    os::{
        fd::{AsRawFd, FromRawFd as _, OwnedFd},
        unix::process::CommandExt as _,
    },
    path::{Path, PathBuf},
    process::Command,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

/// How long one server may take over one answer.
const PATIENCE: Duration = Duration::from_secs(4);
/// How long the child may take over everything.
const LIMIT: Duration = Duration::from_secs(30);
/// The first argument of `init` that makes it the child.
pub const WORD: &str = "probe";

/// Where the network's names are found.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct Names {
    /// Names that are not in DNS.
    pub hosts: BTreeMap<String, IpAddr>,
    /// DNS servers, best first.
    pub servers: Vec<Ipv4Addr>,
    /// Only this link is used.
    pub link: Option<String>,
}

/// The parcel server.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct Server {
    /// `https://…`
    pub url: String,
    /// PEM text of the site's CA.
    pub ca: String,
}

/// What the child is asked.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub enum Ask {
    /// The time, from the first of these NTP servers that answers as it should.
    Ntp(Names, Vec<String>),
    /// The time, from the parcel server.
    Date(Names, Server),
    /// Whether a connection to the parcel server comes up.
    Reach(Names, Server),
    /// Every step on the way to a log-in.
    Diagnose(Names, Server, Realm),
}

/// A time, and when it was.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Instant {
    /// Milliseconds since 1970.
    pub time: i64,
    /// Since the kernel started, in milliseconds.
    pub at: u64,
}

/// Whose time it is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Time {
    /// The time that was told, and when.
    pub instant: Instant,
    /// The server, as it was named.
    pub from: String,
}

/// Why the parcel server cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum ServerFault {
    /// Its name is not found.
    Name(dns::Silence),
    /// No connection comes up.
    Silent(String),
    /// It does not speak HTTPS.
    Speech(String),
    /// Its certificate is not of the site's CA, or for another name.
    Untrusted(String),
    /// By the kiosk's clock, its certificate has expired or is not valid yet.
    Time {
        /// `false`: not valid yet.
        expired: bool,
    },
    /// By the kiosk's clock, the certificate of the site's CA has expired.
    CaExpired {
        /// The last second at which it was valid, in seconds since 1970.
        last: i64,
        /// All else is good: log-ins still work, because their clients take a CA as good for ever.
        clients_go_on: bool,
    },
}

/// Why no KDC can be used.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum KdcFault {
    /// The realm's KDCs are not found.
    Name(dns::Silence),
    /// None of these answers.
    Silent(Vec<String>),
    /// The proxy that all go through cannot be used.
    Proxy(String, ServerFault),
}

/// What a diagnosis found beyond the links.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Found {
    /// `None`: no name needs DNS.
    pub dns: Option<Result<(), dns::Silence>>,
    /// The KDC that answered.
    pub kdc: Result<String, KdcFault>,
    /// The server's own time, where it answered.
    pub server: Result<(), ServerFault>,
}

/// What the child says.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Said {
    /// To [`Ask::Ntp`] and [`Ask::Date`]; the error is for people.
    Time(Result<Time, String>),
    /// To [`Ask::Reach`].
    Reach(Result<(), String>),
    /// To [`Ask::Diagnose`].
    Found(Found),
}

/// Starts the child.
#[derive(Debug, Clone)]
pub struct Prober {
    program: PathBuf,
}

impl Prober {
    /// With the program `init` at this path.
    pub fn new(program: &Path) -> Self {
        Self { program: program.to_owned() }
    }

    /// Asks, and waits for what the child says.
    ///
    /// # Errors
    /// It cannot be started or confined, or did not say anything that can be understood.
    pub fn ask(&self, ask: &Ask) -> io::Result<Said> {
        let mut command = Command::new(&self.program);
        command.arg(WORD).env_clear().current_dir("/");
        let confinement = Confinement::new(&confine::PROBE)?;
        // SAFETY: between fork and exec only system calls are made, on values captured before the fork; nothing
        // allocates and no lock is taken.
        unsafe { command.pre_exec(move || confinement.enter()) };
        let output = helper::output(&mut command, &serde_json::to_vec(ask)?, LIMIT)?;
        if !output.status.success() {
            let why = String::from_utf8_lossy(&output.stderr);
            let why = why.lines().next().unwrap_or_default();
            return Err(io::Error::other(format!("the probe ended ({}): {why}", output.status)));
        }
        Ok(serde_json::from_slice(&output.stdout)?)
    }
}

/// The child's whole work: reads the question from its standard input, and prints what it found.
///
/// # Errors
/// The question is none.
pub fn child() -> io::Result<()> {
    let mut question = Vec::new();
    io::stdin().take(1 << 20).read_to_end(&mut question)?;
    let said = match serde_json::from_slice(&question)? {
        Ask::Ntp(names, servers) => Said::Time(sntp::first(&names, &servers)),
        Ask::Date(names, server) => Said::Time(date::time(&names, &server)),
        Ask::Reach(names, server) => {
            Said::Reach(date::reach(&names, &server).map_err(|fault| fault.to_string()))
        }
        Ask::Diagnose(names, server, realm) => Said::Found(diagnose(&names, &server, &realm)),
    };
    println!("{}", serde_json::to_string(&said)?);
    Ok(())
}

/// The steps beside each other: a network in which nothing answers is told as soon as the slowest is given up.
fn diagnose(names: &Names, server: &Server, realm: &Realm) -> Found {
    std::thread::scope(|scope| {
        let dns = scope.spawn(|| dns_needed(server, realm, names).map(|name| names.look_up(&name).map(drop)));
        let kdc = scope.spawn(|| kdc::answers(names, server, realm));
        let server = scope.spawn(|| date::trusted(names, server, unix_now()));
        let gone = || "the probe failed".to_owned();
        Found {
            dns: dns.join().unwrap_or(None),
            kdc: kdc.join().unwrap_or_else(|_| Err(KdcFault::Silent(Vec::new()))),
            server: server.join().unwrap_or_else(|_| Err(ServerFault::Silent(gone()))),
        }
    })
}

/// The name that DNS is asked for first, if any is.
fn dns_needed(server: &Server, realm: &Realm, names: &Names) -> Option<String> {
    let by_dns = realm.kdc.is_empty() && realm.kdc_proxy.is_none();
    let hosts = [date::authority(&server.url).map(|(host, _)| host)];
    let kdcs = realm.kdc.iter().map(|kdc| Some(kdc::host_port(kdc).0));
    let unknown = |host: &String| names.known(host).is_none();
    let named = hosts.into_iter().chain(kdcs).flatten().find(unknown);
    named.or_else(|| by_dns.then(|| realm.name.to_lowercase()))
}

impl Names {
    /// An address that needs no DNS.
    fn known(&self, host: &str) -> Option<IpAddr> {
        let bare = host.trim_start_matches('[').trim_end_matches(']');
        bare.parse().ok().or_else(|| self.hosts.get(host).copied())
    }

    /// The addresses of a host.
    ///
    /// # Errors
    /// Why there are none.
    pub fn look_up(&self, host: &str) -> Result<Vec<IpAddr>, dns::Silence> {
        match self.known(host) {
            Some(address) => Ok(vec![address]),
            None => dns::addresses(self, host),
        }
    }

    /// A UDP socket that is connected to `to`, on the one link if there is one, and that waits as long as one answer may
    /// take.
    fn udp(&self, to: SocketAddr) -> io::Result<UdpSocket> {
        let any: IpAddr = if to.is_ipv4() { [0; 4].into() } else { [0; 16].into() };
        let socket = UdpSocket::bind((any, 0))?;
        self.on_link(&socket)?;
        socket.set_read_timeout(Some(PATIENCE))?;
        socket.connect(to)?;
        Ok(socket)
    }

    /// A TCP connection to `to`, likewise.
    fn tcp(&self, to: SocketAddr) -> io::Result<TcpStream> {
        let stream = match &self.link {
            None => TcpStream::connect_timeout(&to, PATIENCE)?,
            Some(_) => self.tcp_on_link(to)?,
        };
        stream.set_read_timeout(Some(PATIENCE))?;
        stream.set_write_timeout(Some(PATIENCE))?;
        Ok(stream)
    }

    /// The standard library has no way to bind a stream to a link before it connects.
    fn tcp_on_link(&self, to: SocketAddr) -> io::Result<TcpStream> {
        let SocketAddr::V4(v4) = to else {
            return Err(io::Error::new(io::ErrorKind::Unsupported, "only IPv4 is bound to a link"));
        };
        // SAFETY: socket takes integers and gives a new descriptor, or a negative number.
        let fd = unsafe { libc::socket(libc::AF_INET, libc::SOCK_STREAM | libc::SOCK_CLOEXEC, 0) };
        if fd < 0 {
            return Err(io::Error::last_os_error());
        }
        // SAFETY: the kernel has just given us this descriptor, and nobody else has it.
        let socket = unsafe { OwnedFd::from_raw_fd(fd) };
        self.on_link(&socket)?;
        let limit = libc::timeval { tv_sec: PATIENCE.as_secs().cast_signed(), tv_usec: 0 };
        // A connect that waits ends by the socket's time to send.
        // SAFETY: setsockopt reads one struct of the size given, which lives through the call.
        check(unsafe {
            libc::setsockopt(
                socket.as_raw_fd(),
                libc::SOL_SOCKET,
                libc::SO_SNDTIMEO,
                (&raw const limit).cast(),
                size_of::<libc::timeval>() as libc::socklen_t,
            )
        })?;
        let address = libc::sockaddr_in {
            sin_family: libc::AF_INET as libc::sa_family_t,
            sin_port: v4.port().to_be(),
            sin_addr: libc::in_addr { s_addr: u32::from_ne_bytes(v4.ip().octets()) },
            sin_zero: [0; 8],
        };
        // SAFETY: connect reads one struct of the size given, which lives through the call.
        let connected = check(unsafe {
            libc::connect(
                socket.as_raw_fd(),
                (&raw const address).cast(),
                size_of::<libc::sockaddr_in>() as libc::socklen_t,
            )
        });
        match connected {
            Err(error) if error.raw_os_error() == Some(libc::EINPROGRESS) => {
                Err(io::ErrorKind::TimedOut.into())
            }
            Err(error) => Err(error),
            Ok(()) => Ok(TcpStream::from(socket)),
        }
    }

    /// What a socket sends goes out of the one link, by that link's routes alone.
    fn on_link(&self, socket: &impl AsRawFd) -> io::Result<()> {
        let Some(link) = &self.link else { return Ok(()) };
        // SAFETY: setsockopt reads as many bytes as it is told, which live through the call.
        check(unsafe {
            libc::setsockopt(
                socket.as_raw_fd(),
                libc::SOL_SOCKET,
                libc::SO_BINDTODEVICE,
                link.as_ptr().cast(),
                link.len() as libc::socklen_t,
            )
        })
    }
}

fn check(result: libc::c_int) -> io::Result<()> {
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

/// By this kiosk's clock.
fn unix_now() -> UnixTime {
    UnixTime::since_unix_epoch(SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default())
}

fn since_boot_ms() -> u64 {
    u64::try_from(clock::since_boot().as_millis()).unwrap_or(u64::MAX)
}

impl std::fmt::Display for ServerFault {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Name(silence) => write!(f, "its name is not found: {silence}"),
            Self::Silent(why) => write!(f, "it does not answer ({why})"),
            Self::Speech(why) => write!(f, "it does not answer as a parcel server ({why})"),
            Self::Untrusted(why) => write!(f, "its certificate is not trusted ({why})"),
            Self::Time { expired: true } => f.write_str("its certificate has expired"),
            Self::Time { expired: false } => f.write_str("its certificate is not valid yet"),
            Self::CaExpired { .. } => f.write_str("the certificate of its CA has expired"),
        }
    }
}
