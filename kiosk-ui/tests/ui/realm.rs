//! A throwaway Kerberos realm: MIT's own KDC, without root, on a loopback port.

use crate::{loopback::free_port, peers::PATIENCE};
use std::{
    net::TcpStream,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    thread,
    time::{Duration, Instant},
};

pub const REALM: &str = "WAYSTATION.TEST";

/// What a client is told of the realm.
pub fn client_config(kdc: u16) -> String {
    format!(
        "[libdefaults]\n default_realm = {REALM}\n dns_lookup_kdc = false\n dns_lookup_realm = false\n \
         dns_canonicalize_hostname = false\n rdns = false\n spake_preauth_groups = edwards25519\n[realms]\n {REALM} = {{\n  kdc = 127.0.0.1:{kdc}\n }}\n"
    )
}

/// What the certificate of a KDC must have (RFC 4556, section 3.2.4).
const PKINIT_EXTENSIONS: &str = "[kdc]\nbasicConstraints = CA:FALSE\nkeyUsage = digitalSignature,keyEncipherment\n\
    extendedKeyUsage = 1.3.6.1.5.2.3.5\nsubjectAltName = otherName:1.3.6.1.5.2.2;SEQUENCE:name\n\
    [name]\nrealm = EXP:0,GeneralString:WAYSTATION.TEST\nprincipal_name = EXP:1,SEQUENCE:principal\n\
    [principal]\nname_type = EXP:0,INTEGER:2\nname_string = EXP:1,SEQUENCE:strings\n\
    [strings]\none = GeneralString:krbtgt\ntwo = GeneralString:WAYSTATION.TEST\n";

pub struct Realm {
    dir: PathBuf,
    pub port: u16,
    kdc: Option<Child>,
}

impl Realm {
    /// Makes the realm in `dir`, with the service of a parcel server on this machine, and starts its KDC.
    pub fn start(dir: &Path) -> Self {
        Self::start_with(dir, client_config)
    }

    /// The same with a KDC that knows no SPAKE.
    pub fn start_without_spake(dir: &Path) -> Self {
        Self::start_with(dir, |kdc| client_config(kdc).replace(" spake_preauth_groups = edwards25519\n", ""))
    }

    fn start_with(dir: &Path, config: fn(u16) -> String) -> Self {
        let port = free_port();
        std::fs::create_dir_all(dir).expect("a folder");
        std::fs::write(dir.join("krb5.conf"), config(port)).expect("krb5.conf");
        let shown = dir.display();
        let pkinit = match dir.join("kdc.pem").exists() {
            true => format!(
                "  pkinit_identity = FILE:{shown}/kdc.pem,{shown}/kdc.key\n  pkinit_anchors = FILE:{shown}/ca.pem\n"
            ),
            false => String::new(),
        };
        let kdc = format!(
            "[logging]\n kdc = FILE:{shown}/kdc.log\n[kdcdefaults]\n kdc_listen = 127.0.0.1:{port}\n kdc_tcp_listen = 127.0.0.1:{port}\n[realms]\n {REALM} = {{\n  \
             database_name = {shown}/principal\n  key_stash_file = {shown}/stash\n  acl_file = {shown}/acl\n{pkinit} }}\n"
        );
        std::fs::write(dir.join("kdc.conf"), kdc).expect("kdc.conf");
        Self::create(dir, port)
    }

    /// The same with a KDC that proves itself by a certificate (PKINIT), gives anybody an anonymous ticket, and knows no
    /// SPAKE. Answers with the PEM of the certificate's CA, too.
    pub fn start_with_pkinit(dir: &Path) -> (Self, String) {
        std::fs::create_dir_all(dir).expect("a folder");
        std::fs::write(dir.join("extensions"), PKINIT_EXTENSIONS).expect("the certificate's extensions");
        let openssl = |arguments: &str| {
            let mut command = Command::new("/usr/bin/openssl");
            command.current_dir(dir).args(arguments.split(' ')).stdout(Stdio::null()).stderr(Stdio::null());
            assert!(command.status().expect("openssl").success(), "{arguments}");
        };
        openssl("req -x509 -newkey rsa:2048 -nodes -keyout ca.key -out ca.pem -days 2 -subj /CN=CA");
        openssl("req -newkey rsa:2048 -nodes -keyout kdc.key -out kdc.csr -subj /CN=kdc");
        openssl(
            "x509 -req -in kdc.csr -CA ca.pem -CAkey ca.key -days 2 -out kdc.pem -extfile extensions -extensions kdc",
        );
        let realm = Self::start_with(dir, |kdc| {
            client_config(kdc).replace(" spake_preauth_groups = edwards25519\n", "")
        });
        realm.admin("addprinc -randkey WELLKNOWN/ANONYMOUS");
        (realm, std::fs::read_to_string(dir.join("ca.pem")).expect("the CA"))
    }

    fn create(dir: &Path, port: u16) -> Self {
        let mut realm = Self { dir: dir.to_owned(), port, kdc: None };
        realm.run("kdb5_util", &["-r", REALM, "create", "-s", "-P", "only-a-test"]);
        realm.admin("addprinc -randkey HTTP/localhost");
        let child = realm.command("krb5kdc").arg("-n").spawn().expect("krb5kdc (Debian package krb5-kdc)");
        realm.kdc = Some(child);
        let start = Instant::now();
        while TcpStream::connect(("127.0.0.1", port)).is_err() {
            assert!(start.elapsed() < PATIENCE, "the KDC does not listen");
            thread::sleep(Duration::from_millis(20));
        }
        realm
    }

    /// Asks the realm's administration: add users, lock them, let their passwords expire.
    pub fn admin(&self, query: &str) {
        self.run("kadmin.local", &["-r", REALM, "-q", query]);
    }

    /// What its administration says of a principal.
    pub fn principal(&self, name: &str) -> String {
        let query = format!("getprinc {name}");
        let mut command = self.command("kadmin.local");
        let done = command.args(["-r", REALM, "-q", &query]).stdout(Stdio::piped()).output();
        String::from_utf8(done.expect("kadmin.local").stdout).expect("text")
    }

    /// Tickets for `service` that the KDC gave.
    pub fn tickets_for(&self, service: &str) -> usize {
        let log = std::fs::read_to_string(self.dir.join("kdc.log")).expect("the KDC's log");
        let to = format!(" for {service}@{REALM}");
        log.lines().filter(|line| line.contains("ISSUE:") && line.contains(&to)).count()
    }

    /// The keys of its parcel server.
    pub fn keytab(&self) -> PathBuf {
        let path = self.dir.join("keytab");
        self.admin(&format!("ktadd -k {} HTTP/localhost", path.display()));
        path
    }

    fn run(&self, program: &str, arguments: &[&str]) {
        let done = self.command(program).args(arguments).status().expect(program);
        assert!(done.success(), "{program} {arguments:?}");
    }

    fn command(&self, program: &str) -> Command {
        let mut command = Command::new(Path::new("/usr/sbin").join(program));
        command
            .env("KRB5_CONFIG", self.dir.join("krb5.conf"))
            .env("KRB5_KDC_PROFILE", self.dir.join("kdc.conf"))
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null());
        command
    }
}

impl Drop for Realm {
    fn drop(&mut self) {
        if let Some(mut kdc) = self.kdc.take() {
            drop(kdc.kill());
            drop(kdc.wait());
        }
    }
}
