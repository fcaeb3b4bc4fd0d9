//! The way to the KDCs of the realms that the site lists: by name, found by DNS, or through a KDC proxy over HTTPS.
//!
//! Several KDCs of which few answer are tried one after the other, a new one each second, and the one that answered is
//! asked first from then on. Only one of them is sent the message, so that a wrong password counts once; the next gets
//! it when that one breaks off, is silent, or answers that it is not available.

use crate::{
    LoginError,
    dns::{self, Servers, Silence},
    reply,
};
use client::proxy::KdcProxy;
use futures::{StreamExt as _, stream::FuturesUnordered};
use parcel::wire::kiosk::Realm;
use std::{
    collections::{HashMap, VecDeque},
    io,
    path::{Path, PathBuf},
    sync::{Mutex, PoisonError},
    time::Duration,
};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
    sync::watch,
    time::{sleep, timeout},
};

/// After so long the next KDC is tried beside the last one.
const STAGGER: Duration = Duration::from_secs(1);
/// How long a connection may take to come up, with its look-up.
const CONNECT: Duration = Duration::from_secs(15);
/// How long a KDC may take over one answer.
const ANSWER: Duration = Duration::from_secs(15);
/// How long all of them may take together. A user who does not want to wait cancels.
const OVERALL: Duration = Duration::from_secs(120);
/// The longest answer that is taken.
const MAX_ANSWER: u32 = 1 << 20;

/// How far the search for a KDC is, for the screen.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Trying {
    /// The KDC that is tried now.
    pub host: String,
    /// Which of them it is, from 1.
    pub number: usize,
    /// How many there are.
    pub of: usize,
}

/// The way to the KDCs.
pub struct Network {
    realm: Realm,
    proxy: Option<KdcProxy>,
    kdc_ca: PathBuf,
    servers: Servers,
    answered: Mutex<HashMap<String, String>>,
    trying: watch::Sender<Option<Trying>>,
}

impl Network {
    /// The way that the site's configuration describes. `proxy` is for its `kdc_proxy`; the CA of the KDCs' certificates
    /// lies at `kdc_ca`, where it has `fast`.
    pub fn new(realm: Realm, proxy: Option<KdcProxy>, kdc_ca: &Path) -> Self {
        let network = Self::asking(realm, proxy, Servers::File(PathBuf::from("/etc/resolv.conf")));
        Self { kdc_ca: kdc_ca.to_owned(), ..network }
    }

    /// The same with these DNS servers.
    pub fn asking(realm: Realm, proxy: Option<KdcProxy>, servers: Servers) -> Self {
        let kdc_ca = PathBuf::new();
        Self { realm, proxy, kdc_ca, servers, answered: Mutex::default(), trying: watch::Sender::new(None) }
    }

    /// The site's realms.
    pub fn realm(&self) -> &Realm {
        &self.realm
    }

    /// Where the CA of the KDCs' certificates lies.
    pub fn kdc_ca(&self) -> &Path {
        &self.kdc_ca
    }

    /// How far the search is.
    pub fn trying(&self) -> watch::Receiver<Option<Trying>> {
        self.trying.subscribe()
    }

    /// Sends a message to a KDC of the realm and answers with its answer.
    pub async fn ask(&self, realm: &str, message: Vec<u8>) -> Result<Vec<u8>, LoginError> {
        let named = match realm == self.realm.name {
            true => &self.realm.kdc,
            // A KDC may refer to any realm; the site's configuration says which are meant.
            false => self
                .realm
                .others
                .get(realm)
                .ok_or_else(|| LoginError::RealmUnknown { realm: realm.to_owned() })?,
        };
        if let Some(proxy) = &self.proxy {
            return proxy.ask(realm, &message).await.map_err(LoginError::Proxy);
        }
        let unreachable = || LoginError::KdcUnreachable { realm: realm.to_owned() };
        let all = async {
            let found = match named.is_empty() {
                false => named.clone(),
                true => self.by_dns(realm).await?,
            };
            self.first_answer(realm, found, &message).await
        };
        let answer = timeout(OVERALL, all).await.unwrap_or_else(|_| Err(unreachable()));
        self.trying.send_replace(None);
        answer
    }

    async fn by_dns(&self, realm: &str) -> Result<Vec<String>, LoginError> {
        let name = |protocol| format!("_kerberos._{protocol}.{realm}");
        let found = match dns::services(&self.servers, &name("tcp")).await {
            // Every KDC of today listens on TCP, also where DNS names UDP alone.
            Err(Silence::Nothing) => dns::services(&self.servers, &name("udp")).await,
            found => found,
        };
        found.map_err(|silence| no_name(silence, || LoginError::KdcNotInDns { realm: realm.to_owned() }))
    }

    async fn first_answer(
        &self,
        realm: &str,
        mut kdcs: Vec<String>,
        message: &[u8],
    ) -> Result<Vec<u8>, LoginError> {
        let answered = self.answered().get(realm).cloned();
        kdcs.sort_by_key(|kdc| Some(kdc) != answered.as_ref());
        let mut waiting = VecDeque::from(kdcs);
        let of = waiting.len();
        let mut flights = FuturesUnordered::new();
        let mut nameless = None;
        let mut unavailable = None;
        loop {
            if flights.is_empty() || !waiting.is_empty() {
                let Some(kdc) = waiting.pop_front() else { break };
                let number = of - waiting.len();
                self.trying.send_replace(Some(Trying { host: host(&kdc).to_owned(), number, of }));
                flights.push(async move { (connect(&kdc).await, kdc) });
            }
            let (connected, kdc) = tokio::select! {
                Some(landed) = flights.next() => landed,
                () = sleep(STAGGER), if !waiting.is_empty() => continue,
            };
            let answer = match connected {
                Ok(stream) => exchange(stream, message).await,
                Err(Lost::Name) => {
                    nameless = Some(kdc);
                    continue;
                }
                Err(Lost::Connection(error)) => Err(error),
            };
            match answer {
                // It is up, but cannot serve anybody now; another one may.
                Ok(answer) if reply::is_unavailable(&answer) => {
                    tracing::info!(kdc, "a KDC answers that it is not available");
                    unavailable = Some(answer);
                }
                Ok(answer) => {
                    self.answered().insert(realm.to_owned(), kdc);
                    return Ok(answer);
                }
                Err(error) => tracing::info!(kdc, %error, "a KDC does not answer"),
            }
        }
        if let Some(answer) = unavailable {
            return Ok(answer);
        }
        let Some(kdc) = nameless else { return Err(LoginError::KdcUnreachable { realm: realm.to_owned() }) };
        let host = host(&kdc);
        Err(match dns::has_address(&self.servers, host).await {
            Ok(()) => LoginError::KdcUnreachable { realm: realm.to_owned() },
            Err(silence) => no_name(silence, || LoginError::KdcName { host: host.to_owned() }),
        })
    }

    fn answered(&self) -> std::sync::MutexGuard<'_, HashMap<String, String>> {
        self.answered.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn no_name(silence: Silence, nothing: impl FnOnce() -> LoginError) -> LoginError {
    match silence {
        Silence::NoServer => LoginError::NoDns,
        Silence::Silent(servers) => LoginError::DnsSilent { servers },
        Silence::Nothing => nothing(),
    }
}

fn host(kdc: &str) -> &str {
    kdc.rsplit_once(':').map_or(kdc, |(host, _)| host)
}

/// Why there is no connection.
enum Lost {
    /// The name has no address here.
    Name,
    Connection(io::Error),
}

async fn connect(kdc: &str) -> Result<TcpStream, Lost> {
    let late = || io::Error::from(io::ErrorKind::TimedOut);
    let addresses: Vec<_> = match timeout(CONNECT, tokio::net::lookup_host(kdc)).await {
        Ok(Ok(found)) => found.collect(),
        Ok(Err(_)) | Err(_) => return Err(Lost::Name),
    };
    let mut last = late();
    for address in addresses {
        match timeout(CONNECT, TcpStream::connect(address)).await {
            Ok(Ok(stream)) => return Ok(stream),
            Ok(Err(error)) => last = error,
            Err(_) => last = late(),
        }
    }
    Err(Lost::Connection(last))
}

/// One message and its answer, each behind four bytes of length (RFC 4120, section 7.2.2).
async fn exchange(mut stream: TcpStream, message: &[u8]) -> io::Result<Vec<u8>> {
    let talk = async {
        let mut framed = (message.len() as u32).to_be_bytes().to_vec();
        framed.extend_from_slice(message);
        stream.write_all(&framed).await?;
        let length = stream.read_u32().await?;
        if length == 0 || length > MAX_ANSWER {
            return Err(io::Error::other("an answer of a length that no KDC sends"));
        }
        let mut answer = vec![0; length as usize];
        stream.read_exact(&mut answer).await?;
        Ok(answer)
    };
    timeout(ANSWER, talk).await.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()))
}
