//! A throwaway Kerberos realm on loopback: MIT's own KDC, one for all tests of this process.

use libgssapi::{
    context::{ClientCtx, CtxFlags, SecurityContext},
    credential::{Cred, CredUsage},
    name::Name,
    oid::{GSS_MECH_SPNEGO, GSS_NT_HOSTBASED_SERVICE, GSS_NT_USER_NAME, OidSet},
};
use std::{
    fs,
    io::Write,
    net::{TcpListener, TcpStream},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::LazyLock,
    time::{Duration, Instant},
};

pub const HOST: &str = "parcels.waystation.test";
pub const SERVICE: &str = "HTTP/parcels.waystation.test";
/// The service under the name by which another program finds it without DNS.
pub const LOCAL_SERVICE: &str = "HTTP/localhost";
/// What every test principal's password is.
pub const PASSWORD: &str = "correct horse";

pub struct Realm {
    dir: PathBuf,
    /// Ends the KDC and removes the folder when its standard input closes, that is, with this process.
    _kdc: Child,
}

static REALM: LazyLock<Realm> = LazyLock::new(Realm::start);

/// The realm. Every test begins here, because it sets `KRB5_CONFIG`.
pub fn realm() -> &'static Realm {
    &REALM
}

/// `name@WAYSTATION.TEST`.
pub fn principal(name: &str) -> String {
    format!("{name}@WAYSTATION.TEST")
}

impl Realm {
    fn start() -> Self {
        let dir = tempfile::Builder::new().prefix("realm").tempdir().unwrap();
        let at = |name: &str| dir.path().join(name).display().to_string();
        let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let krb5 = format!(
            "[libdefaults]\n default_realm = WAYSTATION.TEST\n dns_lookup_kdc = false\n dns_canonicalize_hostname = false\n \
             rdns = false\n udp_preference_limit = 1\n[realms]\n WAYSTATION.TEST = {{\n  kdc = 127.0.0.1:{port}\n }}\n"
        );
        let kdc = format!(
            "[kdcdefaults]\n kdc_listen = 127.0.0.1:{port}\n kdc_tcp_listen = 127.0.0.1:{port}\n[realms]\n WAYSTATION.TEST = {{\n  \
             max_renewable_life = 7d\n  database_name = {}\n  key_stash_file = {}\n  acl_file = {}\n  supported_enctypes = aes256-cts-hmac-sha1-96:normal\n }}\n",
            at("db"),
            at("stash"),
            at("acl")
        );
        fs::write(at("krb5.conf"), krb5).unwrap();
        fs::write(at("kdc.conf"), kdc).unwrap();
        // SAFETY: every test of this program starts with `realm()`, and all but the first wait here for it, so no
        // other thread reads or writes the environment meanwhile.
        unsafe {
            std::env::set_var("KRB5_CONFIG", at("krb5.conf"));
            std::env::set_var("KRB5_KDC_PROFILE", at("kdc.conf"));
        }
        run(Command::new("/usr/sbin/kdb5_util").args([
            "create",
            "-s",
            "-r",
            "WAYSTATION.TEST",
            "-P",
            "master",
        ]));
        let mut orders = String::new();
        for user in ["shanta", "Shanta", "ravi", "it", "desk\\@mail.test"] {
            orders += &format!("addprinc -pw \"{PASSWORD}\" {user}\n");
        }
        orders += &format!("addprinc -maxlife \"10 min\" -pw \"{PASSWORD}\" brief\n");
        for service in [SERVICE, LOCAL_SERVICE, "host/parcels.waystation.test", "HTTP/other.waystation.test"]
        {
            orders += &format!("addprinc -randkey {service}\n");
        }
        orders +=
            &format!("ktadd -q -k {} {SERVICE} {LOCAL_SERVICE} host/parcels.waystation.test\n", at("keytab"));
        orders += &format!("ktadd -q -k {} HTTP/other.waystation.test\n", at("other.keytab"));
        fs::write(at("orders"), orders).unwrap();
        run(Command::new("/usr/sbin/kadmin.local").stdin(fs::File::open(at("orders")).unwrap()));
        let kdc = Command::new("sh")
            .args(["-c", "krb5kdc -n & kdc=$!; read end; kill $kdc; wait; rm -r \"$0\""])
            .arg(dir.path())
            .env("PATH", "/usr/sbin:/usr/bin:/bin")
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let begun = Instant::now();
        while TcpStream::connect(("127.0.0.1", port)).is_err() {
            assert!(begun.elapsed() < Duration::from_secs(20), "the KDC does not listen");
            std::thread::sleep(Duration::from_millis(20));
        }
        Self { dir: dir.keep(), _kdc: kdc }
    }

    /// Gets a ticket into the credential cache file `cache`, as a person does.
    pub fn kinit(&self, user: &str, cache: &Path) {
        self.kinit_with(user, cache, &[]);
    }

    /// The same with these options.
    pub fn kinit_with(&self, user: &str, cache: &Path, options: &[&str]) {
        let mut kinit = Command::new("kinit")
            .args(options)
            .arg("-c")
            .arg(cache)
            .arg(principal(user))
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .spawn()
            .unwrap_or_else(|e| panic!("kinit: {e}; install krb5-user"));
        writeln!(kinit.stdin.take().unwrap(), "{PASSWORD}").unwrap();
        assert!(kinit.wait().unwrap().success());
    }

    /// Keys of the service (and of another on the same host).
    pub fn keytab(&self) -> PathBuf {
        self.dir.join("keytab")
    }

    /// Keys of another host's service.
    pub fn other_keytab(&self) -> PathBuf {
        self.dir.join("other.keytab")
    }
}

fn run(command: &mut Command) {
    let output = command
        .output()
        .unwrap_or_else(|e| panic!("{command:?}: {e}; install krb5-kdc and krb5-admin-server"));
    assert!(output.status.success(), "{command:?}: {}", String::from_utf8_lossy(&output.stderr));
}

/// The initiator's side of one log-in.
pub struct Ticket {
    context: ClientCtx,
    /// What goes to the server.
    pub token: Vec<u8>,
}

impl Ticket {
    /// Gets a ticket of `user` for `HTTP` on `host`. Talks to the KDC.
    pub fn get(user: &str, host: &str) -> Self {
        Self::for_service(user, &format!("HTTP@{host}"))
    }

    /// Gets a ticket of `user` for `service@host`.
    pub fn for_service(user: &str, service: &str) -> Self {
        realm();
        let name = Name::new(principal(user).as_bytes(), Some(GSS_NT_USER_NAME)).unwrap();
        let spnego = OidSet::singleton(GSS_MECH_SPNEGO).unwrap();
        let usage = CredUsage::Initiate;
        let cred = Cred::acquire_with_password(Some(&name), PASSWORD, None, usage, Some(&spnego)).unwrap();
        let target = Name::new(service.as_bytes(), Some(GSS_NT_HOSTBASED_SERVICE)).unwrap();
        let flags = CtxFlags::GSS_C_MUTUAL_FLAG;
        let mut context = ClientCtx::new(Some(cred), target, flags, Some(GSS_MECH_SPNEGO));
        let token = context.step(None, None).unwrap_or_else(|e| panic!("{e}")).unwrap().to_vec();
        Self { context, token }
    }

    /// Takes the server's answer; `true` when it proved that it has the service's key.
    pub fn server_is_genuine(mut self, reply: &[u8]) -> bool {
        self.context.step(Some(reply), None).unwrap();
        self.context.is_complete()
    }
}

/// A copy of `from` with the mode that keys need.
pub fn copy_private(from: &Path, to: &Path) {
    fs::copy(from, to).unwrap();
    fs::set_permissions(to, std::os::unix::fs::PermissionsExt::from_mode(0o600)).unwrap();
}
