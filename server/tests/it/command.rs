//! The `waystation` command against the server, both as programs: what fails or is stopped leaves nothing half-made.

use crate::{
    discard::{assert_same, everything},
    realm::{LOCAL_SERVICE, SERVICE, realm},
    server::{Server, Setup},
};
use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use parcel::wire::http::ParcelInfo;
use std::{
    collections::BTreeSet,
    fs,
    io::Read,
    os::unix::{fs::FileExt, process::CommandExt},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

const MIB: u64 = 1 << 20;

/// A machine of somebody from IT, who has a ticket: what he imports, and the command.
struct Desk {
    setup: Setup,
}

/// How a command ended.
#[derive(Debug)]
struct Ended {
    code: i32,
    out: String,
    err: String,
}

impl Ended {
    /// The one line that was said on the standard error.
    fn sentence(&self) -> &str {
        let said = self.err.trim_end();
        assert_eq!(said.lines().count(), 1, "{self:?}");
        said.strip_prefix("waystation: ").unwrap_or_else(|| panic!("{self:?}"))
    }
}

impl Desk {
    /// With a disk of so many bytes that cannot be compressed.
    fn new(disk: u64) -> Self {
        let setup = Setup::new();
        setup.edit(SERVICE, LOCAL_SERVICE);
        fs::write(setup.path("ca.pem"), &setup.ca).unwrap();
        fs::write(setup.path("password"), "correct horse\n").unwrap();
        realm().kinit("it", &setup.path("ticket"));

        let file = fs::File::create(setup.path("disk.img")).unwrap();
        let mut piece = vec![0; MIB as usize];
        for at in 0..disk / MIB {
            getrandom::fill(&mut piece).unwrap();
            file.write_all_at(&piece, at * MIB).unwrap();
        }
        // An ext file system, as far as it is looked at: 1 KiB blocks, their number, the magic.
        file.write_all_at(&[0; 1024], 1024).unwrap();
        file.write_all_at(&((disk >> 10) as u32).to_le_bytes(), 1028).unwrap();
        file.write_all_at(&[0x53, 0xef], 1080).unwrap();

        let mut kernel = vec![7; 4096];
        kernel[0x1f1] = 1;
        kernel[0x1f4..0x1f8].copy_from_slice(&64u32.to_le_bytes());
        kernel[0x1fe..0x200].copy_from_slice(&[0x55, 0xaa]);
        kernel[0x202..0x208].copy_from_slice(b"HdrS\x0f\x02");
        kernel[0x236] = 1;
        fs::write(setup.path("vmlinuz"), kernel).unwrap();
        let mut initrd = b"070701".to_vec();
        for field in [0, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, "TRAILER!!!\0".len(), 0] {
            initrd.extend(format!("{field:08x}").bytes());
        }
        initrd.extend(b"TRAILER!!!\0\0\0\0");
        fs::write(setup.path("initrd.img"), initrd).unwrap();
        Self { setup }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.setup.path(name)
    }

    /// `waystation` with these arguments, in the folder of the files.
    fn command(&self, server: &Server, arguments: &[&str]) -> Command {
        let beside = Path::new(env!("CARGO_BIN_EXE_parcel-server")).parent().unwrap();
        let program = beside.join("examples/waystation");
        assert!(program.exists(), "{}: build the examples, too", program.display());
        let mut command = Command::new(program);
        command
            .args(arguments)
            .current_dir(self.path(""))
            .env("KRB5CCNAME", self.path("ticket"))
            .env("WAYSTATION_SERVER", format!("https://localhost:{}", server.addr.port()))
            .env("WAYSTATION_CA", self.path("ca.pem"))
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        command
    }

    fn run(&self, server: &Server, arguments: &[&str]) -> Ended {
        ended(self.command(server, arguments).spawn().unwrap())
    }

    fn import<'a>(&self, more: &[&'a str]) -> Vec<&'a str> {
        let mut line = vec!["import", "--name", "golden", "--disk", "disk.img", "--kernel", "vmlinuz"];
        line.extend([
            "--initrd",
            "initrd.img",
            "--cmdline",
            "quiet",
            "--memory",
            "64",
            "--key-file",
            "golden.key",
        ]);
        line.extend(more);
        line
    }

    fn clone<'a>(&self, more: &[&'a str]) -> Vec<&'a str> {
        let mut line = vec!["clone", "golden", "--key-file", "golden.key", "--name", "work"];
        line.extend(["--owner", "shanta@WAYSTATION.TEST", "--password-file", "password"]);
        line.extend(more);
        line
    }

    /// The parcels that IT sees, unfinished ones too.
    fn parcels(&self, server: &Server) -> Vec<ParcelInfo> {
        let listed = self.run(server, &["ls", "--all", "--json"]);
        assert_eq!(listed.code, 0, "{listed:?}");
        serde_json::from_str(&listed.out).unwrap()
    }

    /// The files of the folder that no test begins with.
    fn written(&self) -> BTreeSet<String> {
        let there = ["golden.key", "recovery.txt"];
        there.into_iter().filter(|name| self.path(name).exists()).map(str::to_owned).collect()
    }

    /// Starts a command that has much to send, and waits until the server has some of it.
    fn started(&self, server: &Server, arguments: &[&str]) -> Child {
        let child = self.command(server, arguments).spawn().unwrap();
        let begun = Instant::now();
        while sent(&self.path("store")) == 0 {
            assert!(begun.elapsed() < Duration::from_secs(60), "nothing is sent");
            std::thread::sleep(Duration::from_millis(10));
        }
        child
    }
}

/// Objects that unfinished parcels have in a store.
fn sent(store: &Path) -> usize {
    let of = |parcel: &Path| fs::read_dir(parcel.join("new")).map_or(0, Iterator::count);
    fs::read_dir(store.join("parcels")).unwrap().map(|parcel| of(&parcel.unwrap().path())).sum()
}

fn ended(mut child: Child) -> Ended {
    let (mut out, mut err) = (String::new(), String::new());
    child.stdout.take().unwrap().read_to_string(&mut out).unwrap();
    child.stderr.take().unwrap().read_to_string(&mut err).unwrap();
    Ended { code: child.wait().unwrap().code().unwrap(), out, err }
}

fn signal(child: &Child, signal: Signal) {
    kill(Pid::from_raw(child.id() as i32), signal).unwrap();
}

#[test]
fn an_import_that_does_not_fit_leaves_nothing_and_succeeds_once_there_is_space() {
    let desk = Desk::new(4 * MIB);
    let server = desk.setup.start_in_a_store_of("8m");
    let store = server.root().join(desk.path("store").strip_prefix("/").unwrap());
    let others = store.join("others");
    fs::write(&others, vec![1; 5 << 20]).unwrap();
    let before = everything(&store);

    let import = desk.import(&["--recovery-out", "recovery.txt"]);
    let failed = desk.run(&server, &import);
    assert_eq!((failed.code, failed.out.as_str()), (6, ""));
    assert_eq!(
        failed.sentence(),
        "disk image disk.img does not fit into the store of the parcel server localhost, which has no space left: make \
         space there, then give the command again; nothing of the parcel \"golden\" is left on the server [store-full]"
    );
    assert_same(&store, &before);
    assert!(desk.parcels(&server).is_empty());
    assert!(desk.written().is_empty(), "{:?}", desk.written());

    fs::remove_file(&others).unwrap();
    let done = desk.run(&server, &import);
    assert_eq!(done.code, 0, "{done:?}");
    assert!(done.out.starts_with("imported \"golden\" as "), "{done:?}");
    let listed = desk.parcels(&server);
    assert_eq!((listed.len(), listed[0].version.0, &listed[0].lock), (1, 1, &None));
    assert_eq!(listed[0].disk_bytes, 4 * MIB);
    assert_eq!(desk.written().len(), 2);
    assert_eq!(sent(&store), 0);

    // So for a clone, when nothing at all fits any more; and what is there stays as it is.
    let mut left = fs::File::create(&others).unwrap();
    while std::io::Write::write_all(&mut left, &[1; 4096]).is_ok() {}
    let before = everything(&store);
    let clone = desk.clone(&["--recovery-out", "shanta.txt"]);
    let failed = desk.run(&server, &clone);
    assert_eq!(failed.code, 6, "{failed:?}");
    assert!(
        failed.sentence().starts_with("the parcel \"work\" does not fit into the store of"),
        "{failed:?}"
    );
    assert!(failed.sentence().ends_with("\"work\" is left on the server [store-full]"), "{failed:?}");
    assert_same(&store, &before);
    assert!(!desk.path("shanta.txt").exists());
    assert_eq!(desk.parcels(&server), listed);
    drop(left);
    fs::remove_file(&others).unwrap();
    let done = desk.run(&server, &clone);
    assert_eq!(done.code, 0, "{done:?}");
    assert!(fs::read_to_string(desk.path("shanta.txt")).unwrap().len() > 30);
}

#[test]
fn an_import_that_is_stopped_leaves_nothing() {
    let desk = Desk::new(64 * MIB);
    let server = desk.setup.start();
    let before = everything(&desk.path("store"));
    // The highest level takes long enough to be stopped in the middle.
    let import = desk.import(&["--recovery-out", "recovery.txt", "--zstd-level", "19"]);
    for stop in [Signal::SIGINT, Signal::SIGTERM, Signal::SIGHUP] {
        let child = desk.started(&server, &import);
        assert_eq!(desk.written().len(), 2);
        signal(&child, stop);
        let stopped = ended(child);
        assert_eq!((stopped.code, stopped.out.as_str()), (130, ""), "{stopped:?}");
        assert_eq!(
            stopped.sentence(),
            "interrupted; nothing of the parcel \"golden\" is left on the server [interrupted]"
        );
        assert_same(&desk.path("store"), &before);
        assert!(desk.written().is_empty(), "{:?}", desk.written());
    }
    assert!(desk.parcels(&server).is_empty());
}

#[test]
fn what_cannot_be_taken_back_is_said_and_taken_away_later() {
    let desk = Desk::new(64 * MIB);
    let server = desk.setup.start();
    let empty = everything(&desk.path("store"));
    let import = desk.import(&["--zstd-level", "19"]);

    // The server goes away in the middle, and the user does not want to wait for it.
    let child = desk.started(&server, &import);
    server.kill();
    signal(&child, Signal::SIGINT);
    let stopped = ended(child);
    assert_eq!(stopped.code, 130, "{stopped:?}");
    let server = desk.setup.start();
    let left = desk.parcels(&server);
    assert_eq!((left.len(), left[0].version.0), (1, 0));
    let last = stopped.err.trim_end().lines().last().unwrap();
    assert!(
        last.contains("could not be taken off the server (the parcel server localhost cannot be reached"),
        "{last}"
    );
    assert!(last.contains(&format!("so run waystation discard {} when", left[0].id)), "{last}");
    // Nobody may lose a key that opens something.
    assert_eq!(desk.written().len(), 1);
    assert_eq!(desk.run(&server, &["ls", "--json"]).out.trim(), "[]");
    assert_eq!(desk.run(&server, &["show", "golden"]).code, 6);
    let gone = desk.run(&server, &["discard", "golden"]);
    assert_eq!(gone.code, 0, "{gone:?}");
    assert_same(&desk.path("store"), &empty);
    let again = desk.run(&server, &["discard", "golden"]);
    assert_eq!(again.code, 6);
    assert!(again.sentence().contains("waystation ls --all"), "{again:?}");

    // The machine goes away in the middle: there is nobody to take anything back, until the same command is given again.
    let mut child = desk.started(&server, &import);
    child.kill().unwrap();
    child.wait().unwrap();
    let left = desk.parcels(&server);
    assert_eq!((left.len(), left[0].version.0), (1, 0));
    let done = desk.run(&server, &desk.import(&["--zstd-level", "1"]));
    assert_eq!(done.code, 0, "{done:?}");
    let listed = desk.parcels(&server);
    assert_eq!((listed.len(), listed[0].version.0), (1, 1));
    assert_ne!(listed[0].id, left[0].id);
    assert_eq!(sent(&desk.path("store")), 0);
    let kept = desk.run(&server, &["discard", "golden"]);
    assert_eq!(kept.code, 6, "{kept:?}");
    assert_eq!(desk.parcels(&server), listed);
}

#[test]
fn a_full_disk_here_is_found_before_the_server_hears_of_anything() {
    let desk = Desk::new(MIB);
    let server = desk.setup.start();
    let before = everything(&desk.path("store"));
    fs::create_dir(desk.path("small")).unwrap();
    let import = desk.import(&["--recovery-out", "small/recovery.txt"]);
    let waystation = desk.command(&server, &import);
    // Room for one page, which another file has.
    let script = "mount -t tmpfs -o size=4k small small && echo taken > small/file && \"$@\"; code=$?; ls small; exit $code";
    let mut command = Command::new("unshare");
    command.args(["--map-root-user", "--mount", "sh", "-c", script, "sh"]);
    command.arg(waystation.get_program()).args(waystation.get_args());
    command.envs(waystation.get_envs().filter_map(|(name, value)| Some((name, value?))));
    command.current_dir(desk.path("")).stdout(Stdio::piped()).stderr(Stdio::piped());
    let failed = ended(command.spawn().unwrap());
    assert_eq!((failed.code, failed.out.as_str()), (3, "file\n"), "{failed:?}");
    assert_eq!(
        failed.sentence(),
        "recovery file small/recovery.txt: No space left on device (os error 28); choose another place [bad-input]"
    );
    assert_same(&desk.path("store"), &before);
    assert!(desk.written().is_empty(), "{:?}", desk.written());
}

#[test]
fn an_image_that_is_bad_is_named_with_a_remedy_and_nothing_is_made() {
    let desk = Desk::new(4 * MIB);
    let server = desk.setup.start();
    let before = everything(&desk.path("store"));
    let files = ["disk.img", "vmlinuz", "initrd.img"];
    let whole = files.map(|name| fs::read(desk.path(name)).unwrap());
    type Break = fn(&Desk);
    let cases: [(Break, &str); 6] = [
        (
            |d| cut(d, "disk.img", 3 * MIB),
            "disk image disk.img: its ext file system is of 4194304 bytes, but",
        ),
        (
            |d| fs::write(d.path("disk.img"), [7; 4096]).unwrap(),
            "disk image disk.img: there is no boot sector",
        ),
        (|d| fs::write(d.path("disk.img"), "").unwrap(), "disk image disk.img: it is empty; make it again"),
        (|d| fs::remove_file(d.path("disk.img")).unwrap(), "disk image disk.img: No such file or directory"),
        (
            |d| cut(d, "vmlinuz", 1000),
            "kernel vmlinuz: it ends before its header says, so it is cut off; copy",
        ),
        (|d| cut(d, "initrd.img", 100), "initrd initrd.img: it ends in the middle"),
    ];
    for (damage, said) in cases {
        damage(&desk);
        let failed = desk.run(&server, &desk.import(&[]));
        assert_eq!((failed.code, failed.out.as_str()), (3, ""), "{failed:?}");
        assert!(failed.sentence().starts_with(said), "{failed:?}");
        for (name, bytes) in files.iter().zip(&whole) {
            fs::write(desk.path(name), bytes).unwrap();
        }
    }
    assert_same(&desk.path("store"), &before);
    assert!(desk.written().is_empty(), "{:?}", desk.written());
}

fn cut(desk: &Desk, name: &str, len: u64) {
    fs::OpenOptions::new().write(true).open(desk.path(name)).unwrap().set_len(len).unwrap();
}

#[test]
fn a_command_in_the_background_that_is_told_to_end_ends_while_it_asks_for_a_password() {
    let desk = Desk::new(MIB);
    let server = desk.setup.start();
    let import: Vec<_> =
        desk.import(&[]).into_iter().filter(|word| !["--key-file", "golden.key"].contains(word)).collect();
    let mut command = desk.command(&server, &import);
    command.stdin(Stdio::piped()).process_group(0);
    let mut child = command.spawn().unwrap();
    // It reads its standard input now, or will; both are to end.
    std::thread::sleep(Duration::from_millis(300));
    let stdin = child.stdin.take();
    signal(&child, Signal::SIGTERM);
    let stopped = ended(child);
    drop(stdin);
    assert_eq!((stopped.code, stopped.sentence()), (130, "interrupted [interrupted]"));
    assert!(desk.parcels(&server).is_empty());
}
