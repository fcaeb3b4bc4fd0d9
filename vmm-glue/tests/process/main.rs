//! The whole process, `vmm run`, between a stand-in for `cached` and one for `init`, with guests of a few bytes. Needs
//! `/dev/kvm`, if only a software one.

#[path = "../hostile/entries/bzimage.rs"]
mod bzimage;
mod hostile;

use parcel::wire::{
    guest::{Machine, Reply as GuestReply, Request as GuestRequest, Start},
    vmm::{GuestState, Reply, Request},
};
use sockets::{
    blocking::{Connection, send_line},
    codec::encode,
    names,
    transfer::{self, MOST_AT_ONCE},
};
use std::{
    fs::File,
    io::{Read, Write},
    os::{
        fd::AsFd,
        unix::{
            fs::FileExt,
            net::{UnixListener, UnixStream},
        },
    },
    path::PathBuf,
    process::{Child, Command},
    sync::{Arc, Mutex},
    thread::{sleep, spawn},
    time::{Duration, Instant},
};
use vmm_glue::memory::dirty::memfd_of;

const PATIENCE: Duration = Duration::from_secs(60);
const COUNTER: u64 = 0x1_0000;

/// 64-bit code: inc dword [0x10000]; out 0x80, al; jmp back
const COUNT: &[u8] = &[0xff, 0x04, 0x25, 0, 0, 1, 0, 0xe6, 0x80, 0xeb, 0xf5];
/// inc dword [0x10000]; mov dx, 0x602; mov al, 1; out dx, al (the reset register); hlt
const RESET: &[u8] = &[0xff, 0x04, 0x25, 0, 0, 1, 0, 0x66, 0xba, 0x02, 0x06, 0xb0, 0x01, 0xee, 0xf4];
/// mov dx, 0x600; mov al, 0x34 (soft off); out dx, al; hlt
const POWER_OFF: &[u8] = &[0x66, 0xba, 0x00, 0x06, 0xb0, 0x34, 0xee, 0xf4];

/// A kernel with this code at its 64-bit entry.
fn kernel(code: &[u8]) -> Vec<u8> {
    bzimage::bzimage(&[&[0; 0x200], code].concat())
}

/// What `cached` holds of a machine.
#[derive(Default)]
struct Kept {
    memory: Option<File>,
    state: Option<Vec<u8>>,
    powered_off: usize,
}

fn content(file: &File) -> Vec<u8> {
    let mut bytes = vec![0; file.metadata().unwrap().len() as usize];
    file.read_exact_at(&mut bytes, 0).unwrap();
    bytes
}

/// Answers one VMM until it goes, or until `until`, which may answer itself, says that it is time to hang up.
fn cached(
    listener: UnixListener,
    code: &'static [u8],
    before: Option<(Vec<u8>, Vec<u8>)>,
    kept: Arc<Mutex<Kept>>,
    until: impl Fn(&GuestRequest, &UnixStream) -> bool + Send + 'static,
) {
    spawn(move || {
        let mut socket = Connection::with_descriptors(listener.accept().unwrap().0);
        let mut faults = Vec::new();
        while let Ok((request, files)) = socket.receive_with::<GuestRequest>() {
            let mut files: Vec<File> = files.into_iter().map(File::from).collect();
            if until(&request, socket.stream()) {
                return;
            }
            let mut kept = kept.lock().unwrap();
            let file = |bytes: &[u8]| memfd_of(c"test", bytes).unwrap();
            let machine = Machine {
                vcpus: 1,
                memory_mib: 64,
                cpu_baseline: "x86-64-v1".into(),
                mac: "52:54:00:12:34:56".into(),
            };
            let answer = |start| GuestReply::Machine { machine, start, disk_socket: String::new() };
            match request {
                GuestRequest::Describe if before.is_some() => {
                    let state = file(&before.as_ref().unwrap().0);
                    socket.send_with(&answer(Start::Restore), &[state.as_fd()]).unwrap();
                }
                GuestRequest::Describe | GuestRequest::Kernel => {
                    let (kernel, initrd) = (file(&kernel(code)), file(&[]));
                    let start = Start::Cold { cmdline: "quiet".into() };
                    socket.send_with(&answer(start), &[kernel.as_fd(), initrd.as_fd()]).unwrap();
                }
                GuestRequest::Memory { .. } => {
                    if let Some((_, memory)) = &before {
                        files[0].write_all_at(memory, 0).unwrap();
                    }
                    faults.extend(files.drain(1..));
                    kept.memory = files.pop();
                    socket.send(&GuestReply::Ready).unwrap();
                }
                GuestRequest::Save { .. } => {
                    kept.state = Some(content(&files[0]));
                    socket.send(&GuestReply::Saved).unwrap();
                }
                GuestRequest::PoweredOff => {
                    kept.powered_off += 1;
                    socket.send(&GuestReply::Saved).unwrap();
                }
            }
        }
    });
}

/// The process, as `init` sees it.
struct Vmm {
    child: Child,
    control: PathBuf,
    kept: Arc<Mutex<Kept>>,
    folder: tempfile::TempDir,
}

impl Vmm {
    fn start(code: &'static [u8], before: Option<(Vec<u8>, Vec<u8>)>) -> Self {
        Self::start_until(code, before, |_, _| false)
    }

    fn start_planted(code: &'static [u8], place: &str) -> Self {
        Self::start_with(code, None, |_, _| false, Some(place))
    }

    fn start_until(
        code: &'static [u8],
        before: Option<(Vec<u8>, Vec<u8>)>,
        until: impl Fn(&GuestRequest, &UnixStream) -> bool + Send + 'static,
    ) -> Self {
        Self::start_with(code, before, until, None)
    }

    fn start_with(
        code: &'static [u8],
        before: Option<(Vec<u8>, Vec<u8>)>,
        until: impl Fn(&GuestRequest, &UnixStream) -> bool + Send + 'static,
        planted: Option<&str>,
    ) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name);
        let kept = Arc::new(Mutex::new(Kept::default()));
        cached(UnixListener::bind(at(names::GUEST)).unwrap(), code, before, Arc::clone(&kept), until);
        let mut command = Command::new(env!("CARGO_BIN_EXE_vmm"));
        command.env_clear().envs(parcel::wire::ENVIRONMENT);
        if let Some(place) = planted {
            command.env("VMM_PLANTED_PANIC", place);
        }
        let child = command
            .args(["run", "--guest-socket"])
            .arg(at(names::GUEST))
            .arg("--control-socket")
            .arg(at(names::VMM))
            .arg("--console-socket")
            .arg(at(names::CONSOLE))
            .stderr(File::create(at("log")).unwrap())
            .spawn()
            .unwrap();
        let vmm = Self { child, control: at(names::VMM), kept, folder };
        // It may have ended again, when it is to: the file stays.
        wait("the control socket", || vmm.control.exists());
        vmm
    }

    fn connect(&self) -> Connection {
        let connected = || UnixStream::connect(&self.control).ok();
        let patience = Instant::now() + PATIENCE;
        // Between the socket's name and its listening there is a moment.
        let stream =
            std::iter::repeat_with(connected).find(|tried| tried.is_some() || Instant::now() > patience);
        Connection::new(stream.flatten().expect("the control socket listens"))
    }

    fn ask(&self, request: &Request) -> Reply {
        say(&mut self.connect(), request)
    }

    fn state(&self) -> GuestState {
        match self.ask(&Request::Status) {
            Reply::Status { state, .. } => state,
            other => panic!("{other:?}"),
        }
    }

    fn ok(&self, request: &Request) {
        let reply = self.ask(request);
        assert!(matches!(reply, Reply::Ok), "{request:?}: {reply:?}");
    }

    fn until_running(&self) {
        wait("the guest", || self.state() != GuestState::Starting);
    }

    fn counter(&self) -> u32 {
        let mut word = [0; 4];
        self.kept.lock().unwrap().memory.as_ref().unwrap().read_exact_at(&mut word, COUNTER).unwrap();
        u32::from_le_bytes(word)
    }

    fn until_it_counts(&self) {
        let before = self.counter();
        wait("the guest's counting", || self.counter() > before + 2);
    }

    /// Its exit status and last words.
    fn end(mut self) -> (i32, String) {
        (self.child.wait().unwrap().code().unwrap_or(-1), self.said())
    }

    fn said(&self) -> String {
        std::fs::read_to_string(self.folder.path().join("log")).unwrap()
    }
}

impl Drop for Vmm {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        if std::thread::panicking() {
            eprintln!("{}", self.said());
        }
    }
}

fn wait(what: &str, ready: impl Fn() -> bool) {
    let patience = Instant::now() + PATIENCE;
    while !ready() {
        assert!(Instant::now() < patience, "{what} does not come");
        sleep(Duration::from_millis(2));
    }
}

fn say(connection: &mut Connection, request: &Request) -> Reply {
    connection.send(request).unwrap();
    connection.receive().unwrap()
}

#[test]
fn a_machine_is_saved_and_goes_on_in_another_process() {
    let first = Vmm::start(COUNT, None);
    first.until_running();
    first.until_it_counts();
    first.ok(&Request::Save);
    let stood = first.counter();
    let (state, memory) = {
        let kept = first.kept.lock().unwrap();
        (kept.state.clone().unwrap(), content(kept.memory.as_ref().unwrap()))
    };
    assert_eq!(first.state(), GuestState::Paused);
    assert_eq!(first.counter(), stood, "it stands");
    first.ok(&Request::Quit);
    assert_eq!(first.end().0, 0);

    let second = Vmm::start(COUNT, Some((state, memory)));
    second.until_running();
    wait("the guest's counting", || second.counter() > stood);
    second.ok(&Request::Pause);
    second.ok(&Request::Pause);
    second.ok(&Request::Resume);
    second.until_it_counts();
    second.ok(&Request::Quit);
    let (status, said) = second.end();
    assert_eq!(status, 0, "{said}");
}

#[test]
fn a_guest_that_powers_off_is_told_once_and_needs_no_save() {
    let vmm = Vmm::start(POWER_OFF, None);
    wait("the end", || vmm.state() == GuestState::PoweredOff);
    // Who asked for a save just before it knew is not told of a failure.
    vmm.ok(&Request::Save);
    assert!(matches!(vmm.ask(&Request::Resume), Reply::Error(_)));
    {
        let kept = vmm.kept.lock().unwrap();
        assert_eq!((kept.powered_off, kept.state.is_none()), (1, true));
    }
    vmm.ok(&Request::Quit);
    assert_eq!(vmm.end().0, 0);
}

#[test]
fn a_guest_that_restarts_all_the_time_stands_when_it_is_saved() {
    let vmm = Vmm::start(RESET, None);
    vmm.until_running();
    for _ in 0..20 {
        vmm.until_it_counts();
        vmm.ok(&Request::Save);
        let stood = vmm.counter();
        for _ in 0..5 {
            assert_eq!(vmm.state(), GuestState::Paused);
            sleep(Duration::from_millis(1));
        }
        assert_eq!(vmm.counter(), stood, "it went on behind the save");
        vmm.ok(&Request::Resume);
    }
}

#[test]
fn quitting_may_wait_behind_another_request() {
    let vmm = Vmm::start(COUNT, None);
    vmm.until_running();
    let mut connection = vmm.connect();
    let lines = [Request::Save, Request::Quit].map(|request| encode(&request).unwrap().to_vec()).concat();
    send_line(connection.stream(), &lines, &[]).unwrap();
    assert!(matches!(connection.receive().unwrap(), Reply::Ok));
    assert!(matches!(connection.receive().unwrap(), Reply::Ok));
    assert_eq!(vmm.end().0, 0);
}

#[test]
fn cached_that_dies_at_the_save_is_an_error_and_not_the_end() {
    let vmm = Vmm::start_until(COUNT, None, |request, _| matches!(request, GuestRequest::Save { .. }));
    vmm.until_running();
    for _ in 0..2 {
        let Reply::Error(why) = vmm.ask(&Request::Save) else { panic!("it cannot have been saved") };
        assert!(why.message.contains("cached"), "{why:?}");
        assert_eq!(vmm.state(), GuestState::Paused);
    }
    // Nothing is lost of the guest.
    vmm.ok(&Request::Resume);
    vmm.until_it_counts();
    vmm.ok(&Request::Quit);
    assert_eq!(vmm.end().0, 0);
}

#[test]
fn no_descriptor_that_is_sent_to_the_vmm_stays_open() {
    // One end goes to the VMM, as often as the kernel passes it. The other end sees when the last of them is closed.
    let (mut kept, given) = UnixStream::pair().unwrap();
    let (from_cached, from_init) = (Mutex::new(Some(given.try_clone().unwrap())), given);
    let vmm = Vmm::start_until(COUNT, None, move |request, vmm| {
        let save = matches!(request, GuestRequest::Save { .. });
        if let Some(given) = save.then(|| from_cached.lock().unwrap().take()).flatten() {
            transfer::send(vmm, b"{\"reply\":\"saved\"}\n", &vec![given.as_fd(); MOST_AT_ONCE]).unwrap();
        }
        save
    });
    vmm.until_running();
    let Reply::Error(why) = vmm.ask(&Request::Save) else { panic!("it cannot have been saved") };
    assert!(why.message.contains("descriptors"), "{why:?}");
    let mut init = vmm.connect();
    let line = encode(&Request::Status).unwrap();
    transfer::send(init.stream(), &line, &vec![from_init.as_fd(); MOST_AT_ONCE]).unwrap();
    drop(from_init);
    assert!(init.receive::<Reply>().is_err(), "vmm.sock takes no descriptors");
    kept.set_read_timeout(Some(PATIENCE)).unwrap();
    assert_eq!(kept.read(&mut [0]).expect("all are closed"), 0);
    // The machine is still there.
    assert_eq!(vmm.state(), GuestState::Paused);
    vmm.ok(&Request::Quit);
    assert_eq!(vmm.end().0, 0);
}

#[test]
fn cached_that_dies_before_the_start_ends_it_with_a_word() {
    let vmm = Vmm::start_until(COUNT, None, |request, _| matches!(request, GuestRequest::Memory { .. }));
    let (status, said) = vmm.end();
    assert_eq!(status, 1);
    let last = said.lines().last().unwrap_or_default();
    assert!(last.starts_with("vmm: manager: ") && last.contains("cached"), "{said}");
}

#[test]
fn a_damaged_state_is_refused_before_memory_is_fetched() {
    let damaged = include_bytes!("../golden/machine-1.state")[..4000].to_vec();
    let vmm = Vmm::start_until(COUNT, Some((damaged, Vec::new())), |request, _| {
        assert!(!matches!(request, GuestRequest::Memory { .. }));
        false
    });
    let (status, said) = vmm.end();
    assert_eq!(status, 1);
    let last = said.lines().last().unwrap_or_default();
    assert!(last.contains("the saved state cannot be restored: it is damaged"), "{said}");
    assert!(last.ends_with("start the machine from its disk instead"), "{said}");
}

#[test]
fn watchers_of_the_console_come_and_go() {
    let vmm = Vmm::start(COUNT, None);
    vmm.until_running();
    let at = vmm.folder.path().join(names::CONSOLE);
    for _ in 0..30 {
        let mut watcher = UnixStream::connect(&at).unwrap();
        let mut drawing = [0; 2];
        watcher.read_exact(&mut drawing).unwrap();
        assert_eq!(&drawing, b"\x1bc");
        // Typed, and gone before anybody answers.
        watcher.write_all(&[b'x'; 3000]).unwrap();
    }
    // More at a time than there is room for: those over are turned away, and none of the others.
    let many: Vec<_> = (0..12).map(|_| UnixStream::connect(&at).unwrap()).collect();
    let welcome =
        many.iter().filter(|watcher| (&mut &**watcher).read(&mut [0]).is_ok_and(|count| count == 1));
    assert!(welcome.count() >= 4);
    drop(many);
    vmm.ok(&Request::ConsoleSize { cols: 1, rows: u16::MAX });
    vmm.until_it_counts();
    vmm.ok(&Request::Quit);
    assert_eq!(vmm.end().0, 0);
}

#[test]
fn init_that_goes_away_in_mid_request_leaves_the_machine_to_the_next() {
    let vmm = Vmm::start(COUNT, None);
    vmm.until_running();
    // Fewer at a time than are taken.
    for _ in 0..8 {
        vmm.connect().send(&Request::Save).unwrap();
    }
    wait("the save", || vmm.state() == GuestState::Paused);
    // Some of the saves may still be waiting.
    wait("the guest", || {
        vmm.ok(&Request::Resume);
        let before = vmm.counter();
        sleep(Duration::from_millis(5));
        vmm.counter() > before
    });
    vmm.ok(&Request::Quit);
    assert_eq!(vmm.end().0, 0);
}

/// mov eax, 0xd0010000 (a window behind which nothing is); jmp rax
const ASTRAY: &[u8] = &[0xb8, 0x00, 0x00, 0x01, 0xd0, 0xff, 0xe0];

#[test]
fn a_guest_that_kvm_cannot_run_on_stands_says_why_and_is_saved() {
    let vmm = Vmm::start(ASTRAY, None);
    wait("the failure", || vmm.state() == GuestState::Failed);
    let Reply::Status { failure: Some(why), .. } = vmm.ask(&Request::Status) else { panic!("it says why") };
    assert!(why.message.contains("cannot go on") && why.message.contains("vCPU 0"), "{why:?}");
    let said = vmm.said();
    assert!(
        said.contains("KVM_EXIT_INTERNAL_ERROR, suberror 1") && said.contains("RIP 0xd0010000"),
        "{said}"
    );
    // Trying again changes nothing, and does no harm.
    vmm.ok(&Request::Resume);
    wait("the failure", || vmm.state() == GuestState::Failed);
    vmm.ok(&Request::Save);
    let (state, memory) = {
        let kept = vmm.kept.lock().unwrap();
        (kept.state.clone().unwrap(), content(kept.memory.as_ref().unwrap()))
    };
    vmm.ok(&Request::Quit);
    assert_eq!(vmm.end().0, 0);
    // Another kiosk takes it, and fails there alike.
    let next = Vmm::start(ASTRAY, Some((state, memory)));
    wait("the failure", || next.state() == GuestState::Failed);
    next.ok(&Request::Save);
}

/// A panic costs what it was about, whichever thread it is in, and the guest can be saved.
#[test]
fn a_guest_is_saved_after_a_panic_of_any_thread() {
    for place in ["devices", "manager", "vcpu"] {
        let vmm = Vmm::start_planted(COUNT, place);
        match place {
            "devices" => {
                vmm.until_running();
                // Whoever watches is turned away by the panic.
                let watcher = UnixStream::connect(vmm.folder.path().join("console.sock")).unwrap();
                wait("the panic", || vmm.said().contains("planted"));
                drop(watcher);
                vmm.until_it_counts();
            }
            "manager" => {
                vmm.until_running();
                let Reply::Error(why) = vmm.ask(&Request::PowerButton) else { panic!("it panicked") };
                assert!(why.message.contains("panicked"), "{why:?}");
                vmm.until_it_counts();
            }
            _ => wait("the failure", || vmm.state() == GuestState::Failed),
        }
        vmm.ok(&Request::Save);
        assert!(vmm.kept.lock().unwrap().state.is_some());
        vmm.ok(&Request::Quit);
        let (status, said) = vmm.end();
        assert_eq!(status, 0, "{place}: {said}");
        assert!(said.contains(&format!("planted: {place}")) && !said.contains("backtrace"), "{said}");
    }
}

#[test]
fn a_panic_about_a_request_costs_the_connection_alone() {
    let mut vmm = Vmm::start_planted(COUNT, "control");
    for _ in 0..3 {
        let mut connection = vmm.connect();
        connection.send(&Request::Status).unwrap();
        assert!(connection.receive::<Reply>().is_err(), "it has no answer");
        assert!(vmm.child.try_wait().unwrap().is_none(), "it lives");
    }
}
