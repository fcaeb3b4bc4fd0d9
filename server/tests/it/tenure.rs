//! Who holds a parcel when the server is wrong, with the real server and the real client engine: an empty mount point,
//! another store, a backup, a kiosk's name twice, a lock that is broken. Nobody's work is lost, and never do two hold.

use crate::{
    client::{Client, Code, send},
    machine::{Machine, kiosk, random_id},
    realm::principal,
    server::{Server, Setup, run},
};
use cache::{
    daemon::{Daemon, Settings},
    status::Board,
};
use client::{api::Api, traffic::Traffic};
use parcel::{
    id::{BootId, ParcelId, Version},
    record::Record,
    slot::{Argon2Cost, Slots},
    wire::{
        self, WireError,
        daemon::{Policy, Reply, Request},
        hold::HEADER,
    },
};
use reqwest::Method;
use std::{
    collections::BTreeMap,
    fs,
    io::{BufRead as _, BufReader, Write as _},
    net::TcpListener,
    os::unix::net::UnixStream,
    path::Path,
    process::Command,
    sync::Arc,
    time::Duration,
};
use tempfile::TempDir;

const CHEAP: Argon2Cost = Argon2Cost { memory_kib: 8, passes: 1, lanes: 1 };
const PASSWORD: &[u8] = b"correct horse";

/// A server on a port that stays, with one parcel at version 1 that nobody holds.
pub struct Site {
    pub setup: Setup,
    pub server: Option<Server>,
    pub machine: Machine,
    pub token: String,
}

impl Site {
    pub async fn new() -> Self {
        let setup = Setup::new();
        let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        setup.edit("127.0.0.1:0", &format!("127.0.0.1:{port}"));
        fs::write(setup.path("ca.pem"), &setup.ca).unwrap();
        let server = setup.start();
        let mut site = Self { setup, server: Some(server), machine: Machine::new(), token: String::new() };
        let client = site.client().await;
        site.token = client.token.clone().unwrap();
        let id = site.machine.id;
        let first = site.machine.seal(1, 0, 8, &BTreeMap::from([(0, 1), (5, 2)]));
        let epoch = client.create(id, "work", "shanta", "import").await.unwrap().epoch;
        first.send(&client, id, epoch).await;
        let mut slots = Slots::default();
        slots.set_password(PASSWORD, site.machine.key(), &id, [1; 16], CHEAP).unwrap();
        client.put(&format!("parcels/{id}/slots?epoch={epoch}"), slots.to_json()).await.unwrap();
        client.commit(id, epoch, Version(1), &first.record).await.unwrap();
        client.unlock(id, epoch).await.unwrap();
        site
    }

    pub async fn client(&self) -> Client {
        Client::of("shanta", &self.setup, self.server.as_ref().unwrap()).await
    }

    pub fn down(&mut self) {
        assert!(self.server.take().unwrap().terminate().success());
    }

    pub fn up(&mut self) {
        self.server = Some(self.setup.start_as_it_is());
    }

    /// Copies what `names` are, as a backup tool would.
    pub fn copy(&self, names: &[&str], from: &str, to: &str) {
        for name in names {
            let (from, to) =
                (self.setup.path(&format!("{from}{name}")), self.setup.path(&format!("{to}{name}")));
            let _ = fs::remove_dir_all(&to);
            let _ = fs::remove_file(&to);
            let done = Command::new("cp").arg("-a").arg(&from).arg(&to).status().unwrap();
            assert!(done.success(), "{from:?}");
        }
    }

    /// What the program says when it is started as it is: its exit code, and its sentence.
    pub fn says(&self, more: &[&str]) -> (i32, String) {
        let config = self.setup.config();
        let (code, out, err) = run(&[&["--config", config.to_str().unwrap()], more].concat());
        (code, format!("{out}{err}"))
    }

    async fn kiosk(&self, name: &str, boot: u8) -> Kiosk {
        self.kiosk_at(self.server.as_ref().unwrap().addr.port(), name, boot).await
    }

    /// A kiosk that finds the server at this port.
    pub async fn kiosk_at(&self, port: u16, name: &str, boot: u8) -> Kiosk {
        let dir = tempfile::Builder::new().prefix("kiosk").tempdir().unwrap();
        let url = format!("https://localhost:{port}");
        let traffic = Arc::new(Traffic::default());
        let api = Api::new(&url, &self.setup.path("ca.pem"), traffic.clone()).unwrap();
        let cache = dir.path().join("cache");
        fs::create_dir(&cache).unwrap();
        let settings = Settings::sized(dir.path().into(), cache, 1);
        let daemon = Daemon::new(settings, api, Board::new(traffic)).unwrap();
        let kiosk = Kiosk { daemon, dir, name: name.to_owned(), boot: BootId([boot; 16]) };
        kiosk.ask(Request::Session { token: self.token.as_str().into() }).await.unwrap();
        kiosk
    }
}

/// A kiosk without a VMM: its guest does nothing but power off.
pub struct Kiosk {
    pub daemon: Arc<Daemon>,
    dir: TempDir,
    name: String,
    boot: BootId,
}

impl Kiosk {
    pub async fn ask(&self, request: Request) -> Result<Reply, WireError> {
        self.daemon.answer(request).await
    }

    async fn lock(&self, parcel: ParcelId, break_lock: bool) -> Result<Reply, WireError> {
        let (kiosk, inventory) = (self.name.clone(), kiosk(1024));
        self.ask(Request::Lock { parcel, kiosk, boot: self.boot, inventory, break_lock, cold_boot: false })
            .await
    }

    /// Lock, open, and a guest that powers itself off: there is something to commit.
    pub async fn work(&self, machine: &Machine, break_lock: bool) {
        let parcel = machine.id;
        self.lock(parcel, break_lock).await.unwrap();
        self.ask(Request::Key { parcel, key: machine.key().to_hex().into() }).await.unwrap();
        self.ask(Request::Open { parcel, policy: Policy::Demand, cold_boot: false, memory_mib: None })
            .await
            .unwrap();
        let socket = self.dir.path().join("guest.sock");
        tokio::task::spawn_blocking(move || powered_off(&socket)).await.unwrap();
    }

    /// Begins a commit, and waits until it waits for a reason with this code.
    async fn waits(&self, code: &str) -> tokio::task::JoinHandle<Result<Reply, WireError>> {
        let daemon = self.daemon.clone();
        let committing = tokio::spawn(async move { daemon.answer(Request::Commit).await });
        self.shows(code).await;
        assert!(!committing.is_finished());
        committing
    }

    pub async fn shows(&self, code: &str) {
        let mut last = None;
        for _ in 0..6000 {
            let waiting = self.daemon.board().status().waiting;
            if waiting.as_ref().is_some_and(|waiting| waiting.code.text() == code) {
                return;
            }
            last = waiting.or(last);
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        panic!("it does not wait for {code}, but for {last:?}");
    }
}

fn powered_off(socket: &Path) {
    let mut stream = UnixStream::connect(socket).unwrap();
    stream.write_all(b"{\"cmd\":\"powered_off\"}\n").unwrap();
    let mut line = String::new();
    BufReader::new(stream).read_line(&mut line).unwrap();
    assert!(line.contains("saved"), "{line}");
}

#[track_caller]
pub fn committed(reply: Result<Reply, WireError>, version: u64) {
    match reply.unwrap() {
        Reply::Committed { version: done, .. } => assert_eq!(done, Version(version)),
        other => panic!("{other:?}"),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_on_an_empty_mount_point_does_not_start_and_another_store_ends_no_session() {
    let mut site = Site::new().await;
    let kiosk = site.kiosk("A", 1).await;
    kiosk.work(&site.machine, false).await;
    site.down();
    // The disk is not mounted.
    fs::rename(site.setup.path("store"), site.setup.path("unmounted")).unwrap();
    fs::create_dir(site.setup.path("store")).unwrap();
    for more in [&[][..], &["--check"], &["init-store"]] {
        let (code, said) = site.says(more);
        assert_ne!(code, 0, "{said}");
        assert!(said.contains("is not there; mount it"), "{more:?}: {said}");
    }
    assert_eq!(fs::read_dir(site.setup.path("store")).unwrap().count(), 0, "nothing is made there");
    // An administrator who makes a new store there all the same.
    fs::rename(site.setup.path("store.witness"), site.setup.path("witness")).unwrap();
    let (code, said) = site.says(&[]);
    assert_eq!(code, 2, "{said}");
    assert!(said.contains("there is no parcel store in") && said.contains("init-store"), "{said}");
    assert_eq!(site.says(&["init-store"]).0, 0);
    assert_eq!(site.says(&["init-store"]).0, 1, "once");
    site.up();
    let committing = kiosk.waits("other-store").await;
    // The right one comes back, and the work goes home.
    site.down();
    fs::remove_dir_all(site.setup.path("store")).unwrap();
    fs::rename(site.setup.path("unmounted"), site.setup.path("store")).unwrap();
    let (code, said) = site.says(&[]);
    assert!(code == 2 && said.contains("is another store"), "{said}");
    fs::rename(site.setup.path("witness"), site.setup.path("store.witness")).unwrap();
    site.up();
    committed(committing.await.unwrap(), 2);
    kiosk.ask(Request::Unlock).await.unwrap();
    assert_eq!(site.client().await.show(site.machine.id).await.unwrap().lock, None);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_backup_that_nobody_marked_makes_no_two_holders() {
    let mut site = Site::new().await;
    let id = site.machine.id;
    site.down();
    site.copy(&["store", "store.witness"], "", "backup.");
    site.up();
    let first = site.kiosk("A", 1).await;
    first.work(&site.machine, false).await;
    site.down();
    site.copy(&["store", "store.witness"], "", "real.");
    // Without its witness, the backup is noticed.
    site.copy(&["store"], "backup.", "");
    let (code, said) = site.says(&[]);
    assert!(
        code == 2 && said.contains("lacks changes that this server made") && said.contains("restored"),
        "{said}"
    );
    // With it, nobody notices: the epoch that the first kiosk has is given again.
    site.copy(&["store", "store.witness"], "backup.", "");
    site.up();
    let second = site.kiosk("A", 1).await;
    second.work(&site.machine, false).await;
    let late = first.waits("other-store").await;
    committed(second.ask(Request::Commit).await, 2);
    second.ask(Request::Unlock).await.unwrap();
    // The first one's work is based on what is not the last version any more: it still waits.
    let client = site.client().await;
    assert_eq!(client.show(id).await.unwrap().version, Version(2));
    first.shows("other-store").await;
    assert!(!late.is_finished());
    // With the store that it knows, it goes home.
    site.down();
    site.copy(&["store", "store.witness"], "real.", "");
    site.up();
    committed(late.await.unwrap(), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn after_a_marked_restore_the_holder_goes_on_where_its_work_still_fits() {
    let mut site = Site::new().await;
    let id = site.machine.id;
    site.down();
    site.copy(&["store"], "", "backup.");
    site.up();
    let before = site.client().await.show(id).await.unwrap().store;
    let kiosk = site.kiosk("A", 1).await;
    kiosk.work(&site.machine, false).await;
    site.down();
    site.copy(&["store"], "backup.", "");
    assert_eq!(site.says(&[]).0, 2);
    let (code, said) = site.says(&["restored"]);
    assert!(code == 0 && said.contains("begins a new generation"), "{said}");
    site.up();
    let client = site.client().await;
    let restored = client.show(id).await.unwrap();
    assert_eq!((restored.store.id, &restored.lock), (before.id, &None));
    assert_ne!(restored.store.generation, before.generation);
    committed(kiosk.ask(Request::Commit).await, 2);
    // A hold from before the restore is of no use to anybody.
    let old =
        parcel::wire::hold::Hold { store: before, epoch: restored.epoch, claim: crate::client::claim() };
    let request = client.request(Method::DELETE, &format!("parcels/{id}/lock"));
    assert_eq!(send(request.header(HEADER, old.to_header().as_str())).await.code(), "409 other-store");
    kiosk.ask(Request::Unlock).await.unwrap();
    assert_eq!(client.show(id).await.unwrap().lock, None);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_kiosk_of_the_same_name_asks_before_it_takes_over() {
    let site = Site::new().await;
    let id = site.machine.id;
    let (first, second) = (site.kiosk("kiosk", 1).await, site.kiosk("kiosk", 2).await);
    first.work(&site.machine, false).await;
    // Another PC of that name, and the same one after a power cut, whose engine knows nothing any more.
    for other in [&second, &site.kiosk("kiosk", 1).await] {
        let refused = other.lock(id, false).await.unwrap_err();
        assert_eq!((refused.code.text(), refused.holder.unwrap().boot), ("locked", BootId([1; 16])));
    }
    committed(first.ask(Request::Commit).await, 2);
    match first.ask(Request::Learn).await.unwrap() {
        Reply::Learned { held, committed } => assert_eq!((held, committed), (true, Some(true))),
        other => panic!("{other:?}"),
    }
    first.ask(Request::Unlock).await.unwrap();
    second.work(&site.machine, false).await;
    // The same name on another version is not taken for one's own.
    match first.ask(Request::Learn).await.unwrap() {
        Reply::Learned { held, .. } => assert!(!held),
        other => panic!("{other:?}"),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_left_after_a_break_goes_home_as_a_parcel_that_resumes() {
    let site = Site::new().await;
    let id = site.machine.id;
    let client = site.client().await;
    let mut names = Vec::new();
    for boot in [1, 2] {
        let kiosk = site.kiosk("kiosk-A", boot).await;
        kiosk.work(&site.machine, false).await;
        let epoch = client.break_lock(id, "elsewhere").await.unwrap().epoch;
        let refused = kiosk.ask(Request::Commit).await.unwrap_err();
        assert_eq!(
            (refused.code.text(), refused.holder.unwrap().kiosk.as_str()),
            ("stale-epoch", "elsewhere")
        );
        client.unlock(id, epoch).await.unwrap();
        let Reply::Rescued { parcel, name, .. } = kiosk.ask(Request::Rescue).await.unwrap() else {
            panic!("no rescue")
        };
        let info = client.show(parcel).await.unwrap();
        assert_eq!(
            (&info.name, info.owner, info.version, info.lock),
            (&name, principal("shanta"), Version(1), None)
        );
        names.push(name);
        kiosk.ask(Request::Unlock).await.unwrap();
        assert_eq!(client.show(id).await.unwrap().version, Version(1), "the old one is as it was");

        // The user's password opens it, and it resumes and suspends like any other.
        let slots = client.get(&format!("parcels/{parcel}/slots")).await.unwrap();
        let key = Slots::from_json(&slots).unwrap().open_password(PASSWORD, &parcel).unwrap();
        let record = client.get(&format!("parcels/{parcel}/versions/1")).await.unwrap();
        let record = Record::open(&record, &key, &parcel).unwrap();
        assert_eq!(record.public.images[0].bytes, 8 * parcel::chunk::CHUNK_SIZE as u64);
        let again = site.kiosk("kiosk-B", 7).await;
        again.work(&Machine::of(parcel, key), false).await;
        committed(again.ask(Request::Commit).await, 2);
        again.ask(Request::Unlock).await.unwrap();
    }
    assert_eq!(names, ["work, rescued from kiosk-A", "work, rescued from kiosk-A (2)"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_machine_without_its_memory_is_committed_and_says_so() {
    let site = Site::new().await;
    let (id, client) = (site.machine.id, site.client().await);
    let kiosk = site.kiosk("A", 1).await;
    assert_eq!(kiosk.ask(Request::MemoryLost).await.unwrap_err().code.text(), "not-open");
    kiosk.lock(id, false).await.unwrap();
    kiosk.ask(Request::Key { parcel: id, key: site.machine.key().to_hex().into() }).await.unwrap();
    kiosk
        .ask(Request::Open { parcel: id, policy: Policy::Demand, cold_boot: false, memory_mib: None })
        .await
        .unwrap();
    let sockets = ["guest.sock", "disk.sock"].map(|name| kiosk.dir.path().join(name));
    assert!(sockets.iter().all(|socket| socket.exists()));
    assert_eq!(kiosk.ask(Request::Commit).await.unwrap_err().code.text(), "nothing-saved");
    let lost = kiosk.ask(Request::MemoryLost).await.unwrap();
    assert!(matches!(lost, Reply::Ok), "nothing was handed over");
    assert!(!sockets.iter().any(|socket| socket.exists()), "no machine runs on it any more");
    committed(kiosk.ask(Request::Commit).await, 2);
    kiosk.ask(Request::Unlock).await.unwrap();
    let seen = client.show(id).await.unwrap();
    assert_eq!((seen.version, seen.suspended, seen.memory_lost), (Version(2), false, true));
    // The next one that ends as it should is as any other.
    let again = site.kiosk("B", 2).await;
    again.work(&site.machine, false).await;
    // Its VMM dies after it handed the machine over.
    let kept = again.ask(Request::MemoryLost).await.unwrap();
    assert!(matches!(kept, Reply::Kept));
    committed(again.ask(Request::Commit).await, 3);
    assert!(!client.show(id).await.unwrap().memory_lost);
    again.ask(Request::Unlock).await.unwrap();
    // The machine went on after it was handed over.
    let third = site.kiosk("C", 3).await;
    third.work(&site.machine, false).await;
    third.ask(Request::GoesOn).await.unwrap();
    assert_eq!(third.ask(Request::Commit).await.unwrap_err().code.text(), "nothing-saved");
    assert!(matches!(third.ask(Request::MemoryLost).await.unwrap(), Reply::Ok));
}

/// Whoever breaks locks of his own has a reason for one more each time.
#[tokio::test(flavor = "multi_thread")]
async fn rescues_exceed_a_quota_by_so_many_and_no_more() {
    let site = Site::new().await;
    let (id, client) = (site.machine.id, site.client().await);
    let mut held = Client::ask("a", None);
    client.lock_as(id, &held, false).await.unwrap();
    let mut made = 0;
    let refused = loop {
        let next = Client::ask("a", None);
        client.lock_as(id, &next, true).await.unwrap();
        let ask = parcel::wire::http::CreateParcel {
            id: random_id(),
            name: format!("rescued {made}"),
            owner: principal("shanta"),
            kiosk: "a".to_owned(),
            boot: BootId([1; 16]),
            claim: crate::client::claim(),
            rescues: Some(parcel::wire::http::Rescue { parcel: id, claim: held.claim.clone() }),
        };
        held = next;
        match client.create_as(&ask).await {
            Ok(_) => made += 1,
            refused => break refused,
        }
        assert!(made < 100);
    };
    // The work waits, and IT can raise the quota.
    assert_eq!(refused.code(), "403 quota-parcels");
    assert_eq!(wire::Code::QuotaParcels.fate(wire::Stake::Work), wire::Fate::Retry);
    assert_eq!(made + 1, 16 + 16, "what everybody may have without a quota, and the rescues");
}

#[tokio::test(flavor = "multi_thread")]
async fn only_a_broken_claim_is_rescued_and_once() {
    let site = Site::new().await;
    let (id, client) = (site.machine.id, site.client().await);
    let ask = Client::ask("a", None);
    client.lock_as(id, &ask, false).await.unwrap();
    let create = |name: &str| parcel::wire::http::CreateParcel {
        id: random_id(),
        name: name.to_owned(),
        owner: principal("shanta"),
        kiosk: "a".to_owned(),
        boot: BootId([1; 16]),
        claim: crate::client::claim(),
        rescues: Some(parcel::wire::http::Rescue { parcel: id, claim: ask.claim.clone() }),
    };
    assert_eq!(client.create_as(&create("held")).await.code(), "409 unknown-claim");
    client.break_lock(id, "b").await.unwrap();
    let first = create("first");
    let epoch = client.create_as(&first).await.unwrap().epoch;
    assert_eq!(client.create_as(&first).await.unwrap().epoch, epoch, "the answer was lost");
    // The kiosk's engine was killed, and its successor does not know which name was free.
    let renamed = parcel::wire::http::CreateParcel { name: "work".to_owned(), ..first.clone() };
    let again = client.create_as(&renamed).await.unwrap();
    assert_eq!((again.name.as_str(), again.epoch, again.version), ("first", epoch, Version(0)));
    assert_eq!(client.create_as(&create("second")).await.code(), "409 unknown-claim");
    let other = parcel::wire::http::CreateParcel { claim: crate::client::claim(), ..first.clone() };
    assert_eq!(client.create_as(&other).await.code(), "409 exists");
}
