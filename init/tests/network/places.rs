//! What the tests stand on.

use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair, date_time_ymd};
use std::{
    collections::BTreeMap,
    fs,
    io::{Read as _, Write as _},
    net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener, UdpSocket},
    os::unix::fs::{PermissionsExt as _, symlink},
    path::PathBuf,
    process::Command,
    sync::{Arc, OnceLock},
};
use tempfile::TempDir;
use waystation_init::net::probe::{Names, Prober, Server};

/// The name of the parcel server.
pub const HOST: &str = "parcels.example.org";

pub fn is_root() -> bool {
    let root = nix::unistd::geteuid().is_root();
    if !root {
        eprintln!("SKIPPED: needs root");
    }
    root
}

/// A folder that everybody may enter, as the kiosk's is.
pub fn open_folder() -> TempDir {
    let folder = tempfile::tempdir().unwrap();
    fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o755)).unwrap();
    folder
}

/// The program where users without rights can run it, and beside it the DHCP client's script.
fn program() -> PathBuf {
    static FOLDER: OnceLock<TempDir> = OnceLock::new();
    let folder = FOLDER.get_or_init(|| {
        let folder = open_folder();
        fs::copy(env!("CARGO_BIN_EXE_init"), folder.path().join("init")).unwrap();
        symlink("init", folder.path().join("dhcp-event")).unwrap();
        folder
    });
    folder.path().join("init")
}

pub fn prober() -> Prober {
    Prober::new(&program())
}

pub fn hook() -> PathBuf {
    program().with_file_name("dhcp-event")
}

/// Runs `test` in a network of its own.
pub fn in_own_network<T: Send + 'static>(test: impl FnOnce() -> T + Send + 'static) -> T {
    let thread = std::thread::spawn(|| {
        nix::sched::unshare(nix::sched::CloneFlags::CLONE_NEWNET).unwrap();
        ip("link set lo up");
        test()
    });
    thread.join().unwrap()
}

/// What `ip` prints.
pub fn ip(words: &str) -> String {
    let output = Command::new("ip").args(words.split(' ')).output().unwrap();
    String::from_utf8(output.stdout).unwrap()
}

/// The parcel server is at this machine.
pub fn names() -> Names {
    let hosts = BTreeMap::from([(HOST.to_owned(), IpAddr::from(Ipv4Addr::LOCALHOST))]);
    Names { hosts, servers: vec![], link: None }
}

/// A CA of the years 2020 to 2060.
pub fn ca() -> CertifiedIssuer<'static, KeyPair> {
    ca_of(2020, 2060)
}

/// A CA of those years.
pub fn ca_of(first: i32, last: i32) -> CertifiedIssuer<'static, KeyPair> {
    let mut params = CertificateParams::new(Vec::new()).unwrap();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    (params.not_before, params.not_after) = (date_time_ymd(first, 1, 1), date_time_ymd(last, 1, 1));
    CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap()
}

/// An HTTPS server for `host` whose certificate holds in those years, and whose clock says `date`.
pub fn https(ca: &CertifiedIssuer<'static, KeyPair>, host: &str, years: (i32, i32), date: &str) -> Server {
    https_at("127.0.0.1:0", ca, host, years, date)
}

/// Likewise, at that address.
pub fn https_at(
    at: &str,
    ca: &CertifiedIssuer<'static, KeyPair>,
    host: &str,
    years: (i32, i32),
    date: &str,
) -> Server {
    let key = KeyPair::generate().unwrap();
    let mut params = CertificateParams::new(vec![host.to_owned()]).unwrap();
    (params.not_before, params.not_after) = (date_time_ymd(years.0, 1, 1), date_time_ymd(years.1, 1, 1));
    let certificate = params.signed_by(&key, ca).unwrap();
    let config = rustls::ServerConfig::builder_with_provider(tls::trust::provider())
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![certificate.der().clone()], key.serialize_der().try_into().unwrap())
        .unwrap();
    let listener = TcpListener::bind(at).unwrap();
    let at = listener.local_addr().unwrap();
    let (config, answer) = (Arc::new(config), format!("HTTP/1.1 200 OK\r\nDate: {date}\r\n\r\n"));
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let connection = rustls::ServerConnection::new(config.clone()).unwrap();
            let mut stream = rustls::StreamOwned::new(connection, stream.unwrap());
            let mut question = [0; 4096];
            if stream.read(&mut question).is_ok() {
                let _ = stream.write_all(answer.as_bytes());
                let _ = stream.flush();
            }
        }
    });
    Server { url: format!("https://{HOST}:{}", at.port()), ca: ca.pem() }
}

/// An NTP server at `at`, whose answer `change` spoils; answers where it is.
pub fn ntp(at: &str, seconds: i64, change: impl Fn(&mut [u8; 48]) + Send + 'static) -> SocketAddr {
    let socket = UdpSocket::bind(at).unwrap();
    let at = socket.local_addr().unwrap();
    std::thread::spawn(move || {
        let mut question = [0; 48];
        while let Ok((48, from)) = socket.recv_from(&mut question) {
            assert_eq!(question[0], 0x23, "a client's question, version 4");
            let mut answer = [0; 48];
            (answer[0], answer[1]) = (0x24, 2);
            answer[24..32].copy_from_slice(&question[40..48]);
            let since_1900 = u32::try_from(seconds + 2_208_988_800).unwrap().to_be_bytes();
            answer[32..36].copy_from_slice(&since_1900);
            answer[40..44].copy_from_slice(&since_1900);
            change(&mut answer);
            socket.send_to(&answer, from).unwrap();
        }
    });
    at
}
