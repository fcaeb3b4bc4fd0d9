//! The `waystation` command against the server, both as programs: what fails or is stopped leaves nothing half-made.

use crate::{
    desk::{Desk, MIB, elsewhere, ended, sent},
    discard::{assert_same, everything},
};
use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use std::{
    fs,
    os::unix::{fs::FileExt, process::CommandExt},
    path::Path,
    process::{Child, Command, Stdio},
    thread,
    time::{Duration, Instant},
};

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
         space there, then give the command again; nothing of the new parcel \"golden\" is left on the server [store-full]"
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
    let clone = desk.clone("shanta@WAYSTATION.TEST", &["--recovery-out", "shanta.txt"]);
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
            "interrupted; nothing of the new parcel \"golden\" is left on the server [interrupted]"
        );
        assert_same(&desk.path("store"), &before);
        assert!(desk.written().is_empty(), "{:?}", desk.written());
    }
    assert!(desk.parcels(&server).is_empty());
}

#[test]
fn what_cannot_be_taken_back_is_said_and_taken_away_later() {
    let desk = Desk::new(32 * MIB);
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
    // From another machine, where nobody can know that, only when it is meant.
    for command in [desk.import(&[]), vec!["discard", "golden"]] {
        let refused = elsewhere(&desk.command(&server, &command));
        assert_eq!(refused.code, 6, "{refused:?}");
        let said =
            format!("let that end, or take it away with waystation discard --break {} [locked]", left[0].id);
        assert!(refused.sentence().ends_with(&said), "{refused:?}");
    }
    assert_eq!(desk.parcels(&server), left);
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
            "disk image disk.img: there is no partition table and no known",
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

#[test]
fn the_largest_disk_costs_no_memory_for_its_holes() {
    const MOST: u64 = 128 * MIB;
    let desk = Desk::new(4 * MIB);
    let server = desk.setup.start();
    let disk = fs::File::options().write(true).open(desk.path("disk.img")).unwrap();
    disk.set_len(2 << 40).unwrap();
    for (at, data) in [(300 << 30, b"one"), (1 << 40, b"two"), ((2 << 40) - 3, b"end")] {
        disk.write_all_at(data, at).unwrap();
    }
    let mut child = desk.command(&server, &desk.import(&[])).spawn().unwrap();
    // The last look is a little before its end, when it has done its work.
    let mut peak = 0;
    while child.try_wait().unwrap().is_none() {
        let told = fs::read_to_string(format!("/proc/{}/status", child.id())).unwrap_or_default();
        let high = told.lines().find_map(|line| line.strip_prefix("VmHWM:")?.strip_suffix("kB"));
        peak = peak.max(high.map_or(0, |kib| kib.trim().parse::<u64>().unwrap() << 10));
        thread::sleep(Duration::from_millis(10));
    }
    let done = ended(child);
    assert_eq!(done.code, 0, "{done:?}");
    assert!(peak > 0, "nobody saw it");
    assert!(peak < MOST, "{} MiB", peak / MIB);
    assert_eq!(desk.parcels(&server)[0].disk_bytes, 2 << 40);
    // 32 of the disk's beginning, three far away, kernel and initial RAM disk.
    let chunks = everything(&desk.path("store/chunks")).into_iter().filter(|path| path.is_file()).count();
    let leaves = 4 + 2;
    assert_eq!(chunks, 32 + 3 + 2 + leaves);
}

fn cut(desk: &Desk, name: &str, len: u64) {
    fs::OpenOptions::new().write(true).open(desk.path(name)).unwrap().set_len(len).unwrap();
}

/// Does any of its threads read its standard input? Who may not look waits until it hears of signals.
fn asks(child: &Child) -> bool {
    let process = format!("/proc/{}", child.id());
    let reads = |task: &Path| fs::read_to_string(task.join("syscall")).map(|call| call.starts_with("0 0x0 "));
    let tasks = fs::read_dir(format!("{process}/task")).unwrap();
    let seen: Result<Vec<_>, _> = tasks.map(|task| reads(&task?.path())).collect();
    seen.map(|threads| threads.contains(&true)).unwrap_or_else(|_| {
        let status = fs::read_to_string(format!("{process}/status")).unwrap();
        let caught = status.lines().find_map(|line| line.strip_prefix("SigCgt:\t")).unwrap();
        u64::from_str_radix(caught, 16).unwrap() & 1 << (Signal::SIGTERM as u32 - 1) != 0
    })
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
    let begun = Instant::now();
    while !asks(&child) {
        assert!(begun.elapsed() < Duration::from_secs(60), "it does not ask");
        std::thread::sleep(Duration::from_millis(10));
    }
    let stdin = child.stdin.take();
    signal(&child, Signal::SIGTERM);
    let stopped = ended(child);
    drop(stdin);
    assert_eq!((stopped.code, stopped.sentence()), (130, "interrupted [interrupted]"));
    assert!(desk.parcels(&server).is_empty());
}
