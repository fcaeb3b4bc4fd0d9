//! The program, started with a configuration of its own.

use crate::realm::{HOST, SERVICE, principal, realm};
use std::{
    fs,
    io::{BufRead, BufReader, Read},
    net::SocketAddr,
    os::unix::fs::PermissionsExt,
    path::PathBuf,
    process::{Child, Command, ExitStatus, Stdio},
};
use tempfile::TempDir;

/// A folder with everything that a server needs.
pub struct Setup {
    dir: TempDir,
    /// PEM of the CA that the certificate is from.
    pub ca: String,
}

impl Setup {
    pub fn new() -> Self {
        Self::with_limits("")
    }

    /// With these lines in `[limits]`.
    pub fn with_limits(limits: &str) -> Self {
        let realm = realm();
        let dir = tempfile::Builder::new().prefix("server").tempdir().unwrap();
        let ca_key = rcgen::KeyPair::generate().unwrap();
        let mut ca = rcgen::CertificateParams::new(Vec::new()).unwrap();
        ca.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
        let ca_cert = ca.self_signed(&ca_key).unwrap();
        let issuer = rcgen::Issuer::new(ca, ca_key);
        let key = rcgen::KeyPair::generate().unwrap();
        let cert =
            rcgen::CertificateParams::new(["localhost", "other.waystation.test", HOST].map(str::to_owned))
                .unwrap()
                .signed_by(&key, &issuer)
                .unwrap();
        let setup = Self { dir, ca: ca_cert.pem() };
        fs::write(setup.path("cert.pem"), cert.pem()).unwrap();
        fs::write(setup.path("key.pem"), key.serialize_pem()).unwrap();
        fs::set_permissions(setup.path("key.pem"), PermissionsExt::from_mode(0o600)).unwrap();
        crate::realm::copy_private(&realm.keytab(), &setup.path("keytab"));
        let text = format!(
            "listen = \"127.0.0.1:0\"\nservice = \"{SERVICE}\"\nkeytab = \"keytab\"\nstore = \"store\"\nadmins = [\"{}\"]\n\
             ready_file = \"ready\"\n[tls]\ncert = \"cert.pem\"\nkey = \"key.pem\"\n[limits]\n{limits}\n",
            principal("it")
        );
        fs::write(setup.config(), text).unwrap();
        setup
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    pub fn config(&self) -> PathBuf {
        self.path("server.toml")
    }

    /// Changes the configuration.
    pub fn edit(&self, from: &str, to: &str) {
        let text = fs::read_to_string(self.config()).unwrap();
        assert!(text.contains(from), "{from}");
        fs::write(self.config(), text.replacen(from, to, 1)).unwrap();
    }

    /// Makes the store, unless there is one.
    pub fn init_store(&self) {
        if !self.path("store/format").exists() {
            let (code, out, err) = run(&["--config", self.config().to_str().unwrap(), "init-store"]);
            assert_eq!(code, 0, "{out}{err}");
        }
    }

    pub fn start(&self) -> Server {
        self.init_store();
        self.start_as_it_is()
    }

    /// Without making a store.
    pub fn start_as_it_is(&self) -> Server {
        Server::start(program(&["--config", self.config().to_str().unwrap()]))
    }

    /// As a service manager of old starts it: with few open files, which it may raise.
    pub fn start_with_few_files(&self) -> Server {
        self.init_store();
        let mut command = Command::new("sh");
        command.args(["-c", "ulimit -Sn 1024 && exec \"$0\" --config \"$1\""]);
        command.arg(env!("CARGO_BIN_EXE_parcel-server")).arg(self.config());
        Server::start(command)
    }

    /// With all that it logs at level debug in the file `log`.
    pub fn start_talkative(&self) -> Server {
        self.start_with_log("debug")
    }

    /// With what it logs at this level in the file `log`.
    pub fn start_with_log(&self, level: &str) -> Server {
        self.init_store();
        let log = fs::File::create(self.path("log")).unwrap();
        let mut command = program(&["--config", self.config().to_str().unwrap(), "--log", level]);
        command.stderr(log);
        Server::start(command)
    }

    /// With its store on a file system of its own of this size, in a mount namespace of its own.
    pub fn start_in_a_store_of(&self, size: &str) -> Server {
        fs::create_dir(self.path("store")).unwrap();
        let script = format!(
            "mount -t tmpfs -o size={size} store \"$1\" && \"$2\" --config \"$3\" init-store >&2 && exec \"$2\" --config \"$3\""
        );
        let mut command = Command::new("unshare");
        command.args(["--map-root-user", "--mount", "sh", "-c", &script, "sh"]);
        command.arg(self.path("store")).arg(env!("CARGO_BIN_EXE_parcel-server")).arg(self.config());
        Server::start(command)
    }
}

/// The running program; killed when dropped.
pub struct Server {
    child: Child,
    pub addr: SocketAddr,
}

impl Server {
    fn start(mut command: Command) -> Self {
        let mut child = command.stdin(Stdio::null()).stdout(Stdio::piped()).spawn().unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
        let addr = line
            .trim()
            .strip_prefix("listening on https://")
            .unwrap_or_else(|| panic!("it did not start: {line:?}"));
        Self { addr: addr.parse().unwrap(), child }
    }

    /// The file system as the program sees it.
    pub fn root(&self) -> PathBuf {
        format!("/proc/{}/root", self.child.id()).into()
    }

    /// Memory that the process has, in bytes.
    pub fn memory(&self) -> usize {
        let status = fs::read_to_string(format!("/proc/{}/status", self.child.id())).unwrap();
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
        line.trim().strip_suffix(" kB").unwrap().parse::<usize>().unwrap() << 10
    }

    /// SIGKILL: what a crash of the process is.
    pub fn kill(mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    /// SIGTERM, and the exit status.
    pub fn terminate(mut self) -> ExitStatus {
        self.signal(nix::sys::signal::Signal::SIGTERM);
        self.child.wait().unwrap()
    }

    pub fn signal(&self, signal: nix::sys::signal::Signal) {
        nix::sys::signal::kill(nix::unistd::Pid::from_raw(self.child.id() as i32), signal).unwrap();
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The program with arguments, its log on the test's standard error.
pub fn program(arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_parcel-server"));
    command.args(arguments).stdin(Stdio::null());
    command
}

/// Runs the program to its end: exit code, standard output, standard error.
pub fn run(arguments: &[&str]) -> (i32, String, String) {
    let mut child = program(arguments).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let (mut out, mut err) = (String::new(), String::new());
    child.stdout.take().unwrap().read_to_string(&mut out).unwrap();
    child.stderr.take().unwrap().read_to_string(&mut err).unwrap();
    (child.wait().unwrap().code().unwrap(), out, err)
}
