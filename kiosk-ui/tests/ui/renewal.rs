//! A log-in that the server does not take any more, with a real KDC, a real parcel server and a real client engine: what
//! waits for it goes on after the user has logged in again at the real screen.

use crate::{
    desk::{PASSWORD, login, running, state},
    kiosk::{Kiosk, World},
    loopback::free_port,
    peers::{Init, PATIENCE},
    realm::{REALM, Realm},
};
use cache::{
    control::{Client, ControlError},
    daemon::{Daemon, Settings, run},
    status::Board,
};
use client::{api::Api, traffic::Traffic};
use parcel::{
    id::{BootId, ParcelId},
    tag::Inventory,
    wire::{
        Code,
        daemon::{Reply, Request, Waiting},
        hold::{Claim, Hold},
        http::CreateParcel,
        session::{Command, Login, Phase, State},
    },
};
use parcel_server::{config::Config, serve, store::local};
use std::{
    fs,
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
    sync::Arc,
    thread,
    time::{Duration, Instant},
};
use tokio::runtime::Runtime;

/// A parcel server with its store in a folder.
pub struct Server {
    config: PathBuf,
    runtime: Option<Runtime>,
}

impl Server {
    pub fn start(dir: &Path, port: u16, keytab: &Path) -> Self {
        fs::create_dir_all(dir).expect("a folder");
        let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]).expect("a certificate");
        fs::write(dir.join("cert.pem"), made.cert.pem()).expect("the certificate");
        let key = dir.join("key.pem");
        fs::write(&key, made.signing_key.serialize_pem()).expect("its key");
        fs::set_permissions(&key, fs::Permissions::from_mode(0o600)).expect("private");
        let config = dir.join("server.toml");
        let text = format!(
            "listen = \"127.0.0.1:{port}\"\nservice = \"HTTP/localhost@{REALM}\"\nkeytab = {keytab:?}\n\
             store = \"store\"\ntoken_key_file = \"token-key\"\n[tls]\ncert = \"cert.pem\"\nkey = \"key.pem\"\n"
        );
        fs::write(&config, text).expect("the configuration");
        local::init(&dir.join("store"), &dir.join("store.witness")).expect("a store");
        let mut server = Self { config, runtime: None };
        server.up();
        server
    }

    fn up(&mut self) {
        let runtime = Runtime::new().expect("a runtime");
        let config = Config::load(&self.config).expect("a configuration");
        runtime.block_on(serve::start(config)).expect("it listens");
        self.runtime = Some(runtime);
    }

    /// Ends it, and starts it with another key for its tokens.
    fn replace_token_key(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_timeout(PATIENCE);
        }
        fs::remove_file(self.config.with_file_name("token-key")).expect("there was one");
        self.up();
    }

    pub fn ca(&self) -> PathBuf {
        self.config.with_file_name("cert.pem")
    }
}

fn inventory() -> Inventory {
    Inventory {
        vendor: "AuthenticAMD".into(),
        cpu_model: "test".into(),
        features: Default::default(),
        cpus: 2,
        memory_mib: 1024,
        device_models: [1].into(),
        kvm: true,
        screen: None,
        sound: false,
        kbit_per_s: None,
    }
}

/// Makes a parcel of this user; it is locked.
pub async fn create(api: &Api, parcel: ParcelId, login: &Login) -> Hold {
    let create = CreateParcel {
        id: parcel,
        name: "desk".into(),
        owner: login.principal.clone(),
        kiosk: "office".into(),
        boot: BootId([1; 16]),
        claim: Claim::from_bytes([1; 16]),
        rescues: None,
    };
    let made = api.create(&create).await.expect("a parcel");
    Hold { store: made.store, epoch: made.epoch, claim: create.claim }
}

/// A client engine on the sockets of `dir`, and what it asks the server by.
pub fn engine(dir: &Path, port: u16, ca: &Path) -> (Runtime, Api, PathBuf) {
    let traffic = Arc::new(Traffic::default());
    let api = Api::new(&format!("https://localhost:{port}"), ca, traffic.clone()).expect("a client");
    let cache = dir.join("cache");
    fs::create_dir_all(&cache).expect("a folder");
    let settings = Settings::sized(dir.into(), cache, 1);
    let daemon = Daemon::new(settings, api.clone(), Board::new(traffic)).expect("a daemon");
    let socket = daemon.sockets().control.clone();
    let engine = Runtime::new().expect("a runtime");
    engine.spawn(run(daemon));
    (engine, api, socket)
}

/// Unlocks as `init` does: it asks once and waits.
fn unlock(socket: &Path) -> Result<Reply, ControlError> {
    Client::connect(socket)?.ask(&Request::Unlock)
}

/// What `cached` says that it waits for.
fn waits(client: &mut Client) -> Waiting {
    let start = Instant::now();
    loop {
        if let Some(waiting) = client.status().expect("cached answers").waiting {
            return waiting;
        }
        assert!(start.elapsed() < PATIENCE, "it does not wait");
        thread::sleep(Duration::from_millis(20));
    }
}

/// The next log-in that `init` is told of.
pub fn logged_in(init: &Init) -> Login {
    loop {
        match init.next() {
            Command::LoggedIn(login) => return login,
            Command::ConsoleSize { .. } => {}
            other => panic!("{other:?}"),
        }
    }
}

#[test]
fn what_waits_goes_on_after_the_same_user_has_logged_in_again() {
    let dir = tempfile::tempdir().expect("a folder");
    let realm = Realm::start(&dir.path().join("kdc"));
    realm.admin(&format!("addprinc +requires_preauth -pw {PASSWORD} shanta"));
    let port = free_port();
    let mut server = Server::start(&dir.path().join("server"), port, &realm.keytab());
    let ca = fs::read_to_string(server.ca()).expect("the CA");

    let (engine, api, socket) = engine(dir.path(), port, &server.ca());
    let world = World { kdc: realm.port, server: port, ca: Some(&ca) };
    let init = Init::listen(dir.path());
    let mut kiosk = Kiosk::start(dir.path(), world, Some((80, 25)));
    init.say(state(Phase::Login));
    kiosk.wait_for("Log in");
    kiosk.keys(&format!("shanta\t{PASSWORD}\r"));
    let first = logged_in(&init);
    assert_eq!(first.principal, login().principal);

    // A parcel of this user, which this kiosk holds.
    let parcel = ParcelId([9; 16]);
    let hold = engine.block_on(create(&api, parcel, &first));
    engine.block_on(api.unlock(&parcel, &hold)).expect("it is free");
    let mut client = Client::connect(&socket).expect("cached listens");
    let lock = Request::Lock {
        parcel,
        kiosk: "kiosk-A".into(),
        boot: BootId([2; 16]),
        inventory: inventory(),
        break_lock: false,
        cold_boot: false,
    };
    assert!(matches!(client.ask(&lock), Ok(Reply::Locked(_))));

    // The screens that knew whose session it is are gone, and so is all that the server's tokens stood on.
    kiosk.terminate();
    drop(init);
    server.replace_token_key();
    let pending = thread::spawn({
        let socket = socket.clone();
        move || unlock(&socket)
    });
    let waiting = waits(&mut client);
    assert_eq!(waiting.code, Code::SessionExpired);

    let init = Init::listen(dir.path());
    let kiosk = Kiosk::start(dir.path(), world, Some((80, 25)));
    init.say(State { waiting: Some(waiting), login: Some(first.clone()), ..running() });
    kiosk.wait_for("Your log-in has run out: Ctrl-] L logs you in again");
    kiosk.keys("\x1dl");
    kiosk.wait_for("shanta");
    kiosk.keys("not it\r");
    kiosk.wait_for("Code for IT: login-denied");
    assert!(!pending.is_finished());
    kiosk.keys(&format!("{PASSWORD}\r"));
    kiosk.wait_for("You are logged in again.");
    let second = logged_in(&init);
    assert_eq!(second.principal, first.principal);
    assert!(matches!(pending.join().expect("no panic"), Ok(Reply::Ok)), "what waited was done");
    let info = engine.block_on(api.parcel(&parcel)).expect("the new token is good");
    assert_eq!(info.lock, None);
    assert_eq!(realm.tickets_for("krbtgt/WAYSTATION.TEST"), 2, "one exchange a log-in");
    assert!(!kiosk.everything().contains(PASSWORD));
    engine.shutdown_background();
}
