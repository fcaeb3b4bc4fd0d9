//! Memory through `guest.sock`, as a VMM hands it over and gets it back: random dirtying over several versions against
//! a naive oracle.

use crate::support::{Rng, World, until};
use cache::{guest::GuestServer, open::OpenParcel};
use nix::sys::memfd::{MFdFlags, memfd_create};
use parcel::{
    pages::PAGE_SIZE,
    wire::{
        Code,
        guest::{Region, Reply, Request, Start},
    },
};
use proptest::prelude::*;
use sockets::{
    asynchronous::Connection,
    blocking::send_line,
    names,
    transfer::{self, MOST_AT_ONCE},
};
use std::{
    fs::File,
    io::{Read as _, Seek as _, Write as _},
    os::{
        fd::{AsFd as _, BorrowedFd, OwnedFd},
        unix::{fs::FileExt as _, net::UnixStream},
    },
    path::Path,
    sync::{Arc, atomic::Ordering::SeqCst},
};

const MIB: u64 = 64;
const PAGES: usize = (MIB as usize) << 8;

/// The VMM's side of the socket.
struct Vmm {
    _server: GuestServer,
    connection: Connection,
    memory: File,
    marked: Vec<u8>,
}

fn memfd(bytes: &[u8]) -> OwnedFd {
    let fd = memfd_create(c"test", MFdFlags::MFD_CLOEXEC).unwrap();
    let mut file = File::from(fd);
    file.write_all(bytes).unwrap();
    file.rewind().unwrap();
    file.into()
}

async fn connect(path: &Path) -> Connection {
    Connection::with_descriptors(tokio::net::UnixStream::connect(path).await.unwrap())
}

impl Vmm {
    async fn start(world: &World, open: &Arc<OpenParcel>) -> (Self, Start, Vec<Vec<u8>>) {
        let path = world.cache.path().join(names::GUEST);
        let server = GuestServer::start(&path, &world.cache.path().join(names::DISK), open.clone()).unwrap();
        let mut connection = connect(&path).await;
        connection.send(&Request::Describe).await.unwrap();
        let (reply, fds) = connection.receive_with::<Reply>().await.unwrap();
        let Reply::Machine { machine, start, disk_socket } = reply else { panic!("{reply:?}") };
        assert_eq!((machine.memory_mib, disk_socket.ends_with(names::DISK)), (MIB, true));
        let files = fds.into_iter().map(|fd| {
            let mut bytes = Vec::new();
            let mut file = File::from(fd);
            file.read_to_end(&mut bytes).unwrap();
            assert!(file.write(b"x").is_err(), "nobody changes what was handed over");
            bytes
        });
        let memory = File::from(memfd_create(c"memory", MFdFlags::MFD_ALLOW_SEALING).unwrap());
        memory.set_len(MIB << 20).unwrap();
        let vmm = Self { _server: server, connection, memory, marked: vec![0; PAGES / 8] };
        let files = files.collect();
        (vmm, start, files)
    }

    async fn ask(&mut self, request: &Request, fds: &[OwnedFd]) -> Reply {
        let fds: Vec<BorrowedFd> = fds.iter().map(|fd| fd.as_fd()).collect();
        self.connection.send_with(request, &fds).await.unwrap();
        self.connection.receive().await.unwrap()
    }

    async fn hand_over(&mut self) {
        // A hole in the guest's addresses, as there is below 4 GiB; the file has none.
        let low = 24 << 20;
        let regions = vec![
            Region { guest_addr: 0, file_offset: 0, len: low },
            Region { guest_addr: 1 << 32, file_offset: low, len: (MIB << 20) - low },
        ];
        let fd = self.memory.try_clone().unwrap().into();
        let reply = self.ask(&Request::Memory { regions }, &[fd]).await;
        assert!(matches!(reply, Reply::Ready), "{reply:?}");
    }

    fn write(&mut self, page: usize, bytes: &[u8]) {
        self.memory.write_all_at(bytes, (page * PAGE_SIZE) as u64).unwrap();
        self.marked[page / 8] |= 1 << (page % 8);
    }

    fn contents(&self) -> Vec<u8> {
        let mut bytes = vec![0; (MIB as usize) << 20];
        self.memory.read_exact_at(&mut bytes, 0).unwrap();
        bytes
    }

    async fn save(&mut self, state: &[u8]) {
        let reply =
            self.ask(&Request::Save { device_model: 1 }, &[memfd(state), memfd(&self.marked.clone())]).await;
        assert!(matches!(reply, Reply::Saved), "{reply:?}");
    }
}

/// What a session does to memory: pages from a place on, and what they hold then.
#[derive(Debug, Clone)]
struct Touch {
    page: usize,
    count: usize,
    fill: Fill,
}

#[derive(Debug, Clone)]
enum Fill {
    Random(u64),
    Zero,
    /// Marked, but left as it is: a dirty log may mark too much.
    Same,
}

fn touch() -> impl Strategy<Value = Touch> {
    let fill =
        prop_oneof![3 => any::<u64>().prop_map(Fill::Random), 1 => Just(Fill::Zero), 1 => Just(Fill::Same)];
    (0..PAGES, 1..150usize, fill).prop_map(|(page, count, fill)| Touch {
        page,
        count: count.min(PAGES - page),
        fill,
    })
}

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 6, max_shrink_iters: 40, ..ProptestConfig::default() })]

    #[test]
    fn memory_comes_back_as_it_was(
        sessions in proptest::collection::vec(proptest::collection::vec(touch(), 0..8), 1..5),
        flaky in 2..30u64,
    ) {
        runtime().block_on(async {
            let mut world = World::new(&[1; 4096], MIB).await;
            world.server.flaky.store(flaky, SeqCst);
            let mut oracle = vec![0u8; (MIB as usize) << 20];
            let mut version = 1;
            for (number, session) in sessions.into_iter().enumerate() {
                world.move_on();
                let open = world.open(version, false).await;
                let (mut vmm, start, files) = Vmm::start(&world, &open).await;
                if number == 0 {
                    assert_eq!(start, Start::Cold { cmdline: "quiet".into() });
                    assert_eq!(files, [b"kernel".to_vec(), b"initrd".to_vec()]);
                } else {
                    assert_eq!(start, Start::Restore);
                    assert_eq!(files, [format!("state {number}").into_bytes()]);
                }
                vmm.hand_over().await;
                assert!(vmm.contents() == oracle, "restored memory of version {version}");
                let mut pages = 0;
                for Touch { page, count, fill } in session {
                    for page in page..page + count {
                        let old = &mut oracle[page * PAGE_SIZE..][..PAGE_SIZE];
                        match fill {
                            Fill::Random(seed) => old.copy_from_slice(&Rng(seed ^ page as u64 | 1).bytes(PAGE_SIZE)),
                            Fill::Zero => old.fill(0),
                            Fill::Same => {}
                        }
                        pages += u64::from(matches!(fill, Fill::Random(_)));
                        vmm.write(page, old);
                    }
                }
                vmm.save(format!("state {}", number + 1).as_bytes()).await;
                world.server.put_bytes.store(0, SeqCst);
                version = world.commit(&open).await.unwrap().0;
                // Random pages do not compress; moved pages of stale packs at most double what changed.
                let sent = world.server.put_bytes.load(SeqCst);
                let most = 2 * pages * PAGE_SIZE as u64 + 40 * PAGE_SIZE as u64 + 16_384;
                assert!(sent <= most, "{sent} bytes for {pages} changed pages");
            }
        });
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_page_that_is_only_marked_is_not_sent() {
    let mut world = World::new(&[1; 4096], MIB).await;
    let open = world.open(1, false).await;
    let (mut vmm, ..) = Vmm::start(&world, &open).await;
    vmm.hand_over().await;
    for page in 0..320 {
        vmm.write(page, &Rng(page as u64 + 1).bytes(PAGE_SIZE));
    }
    vmm.save(b"one").await;
    world.commit(&open).await.unwrap();
    assert!(world.server.put_bytes.load(SeqCst) > 320 * PAGE_SIZE as u64);

    world.move_on();
    world.server.put_bytes.store(0, SeqCst);
    let open = world.open(2, false).await;
    let (mut vmm, ..) = Vmm::start(&world, &open).await;
    vmm.hand_over().await;
    vmm.marked.fill(255);
    vmm.save(b"two").await;
    world.commit(&open).await.unwrap();
    assert!(world.server.put_bytes.load(SeqCst) < 2048, "the state, its leaf, and nothing else");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cold_boot_leaves_the_saved_memory_behind() {
    let mut world = World::new(&[1; 4096], MIB).await;
    for (version, cold) in [(1, false), (2, true), (3, false)] {
        world.move_on();
        let open = world.open(version, cold).await;
        let (mut vmm, start, _) = Vmm::start(&world, &open).await;
        assert_eq!(matches!(start, Start::Cold { .. }), version < 3);
        vmm.hand_over().await;
        let found = vmm.contents();
        match version {
            1 | 2 => assert!(found.iter().all(|byte| *byte == 0)),
            _ => {
                assert!(found[..PAGE_SIZE].iter().all(|byte| *byte == 2));
                assert!(found[PAGE_SIZE..].iter().all(|byte| *byte == 0));
            }
        }
        for page in 0..if version == 1 { 64 } else { 1 } {
            vmm.write(page, &[version as u8; PAGE_SIZE]);
        }
        vmm.save(b"state").await;
        world.commit(&open).await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_tag_has_the_device_model_of_the_saved_state() {
    let world = World::new(&[1; 4096], MIB).await;
    // What the VMM says that it saved counts, whatever else this kiosk could restore; a power-off leaves the model alone.
    for (version, saved, vendor) in [(1, Some(2), Some("V")), (2, Some(1), Some("V")), (3, None, None)] {
        let open = world.open(version, false).await;
        let (mut vmm, _, _) = Vmm::start(&world, &open).await;
        vmm.hand_over().await;
        let reply = match saved {
            Some(device_model) => {
                let files = [memfd(b"state"), memfd(&[0; PAGES / 8])];
                vmm.ask(&Request::Save { device_model }, &files).await
            }
            None => vmm.ask(&Request::PoweredOff, &[]).await,
        };
        assert!(matches!(reply, Reply::Saved), "{reply:?}");
        world.commit(&open).await.unwrap();
        let tag = world.open(version + 1, false).await.record.public.tag.clone();
        assert_eq!((tag.device_model, tag.cpu.vendor.as_deref()), (saved.unwrap_or(1), vendor));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_resume_waits_for_a_damaged_pack() {
    let mut world = World::new(&[1; 4096], MIB).await;
    let open = world.open(1, false).await;
    let before = world.server.names();
    let (mut vmm, ..) = Vmm::start(&world, &open).await;
    vmm.hand_over().await;
    for page in 0..32 {
        vmm.write(page, &Rng(page as u64 + 1).bytes(PAGE_SIZE));
    }
    vmm.save(b"state").await;
    world.commit(&open).await.unwrap();
    let pack = world.server.names().into_iter().filter(|name| !before.contains(name));
    world.server.damaged.lock().unwrap().extend(pack);
    world.move_on();
    let open = world.open(2, false).await;
    let (board, server) = (world.board.clone(), world.server.clone());
    let repair = tokio::spawn(async move {
        until("the damage shows", || board.status().waiting.is_some_and(|w| w.code == Code::PieceDamaged))
            .await;
        server.damaged.lock().unwrap().clear();
    });
    let (mut vmm, ..) = Vmm::start(&world, &open).await;
    vmm.hand_over().await;
    repair.await.unwrap();
    assert!(vmm.contents()[..PAGE_SIZE] == Rng(1).bytes(PAGE_SIZE));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_vmm_that_ends_while_its_memory_is_fetched_leaves_the_place_to_the_next() {
    let mut world = World::new(&[1; 4096], MIB).await;
    let open = world.open(1, false).await;
    let (mut vmm, ..) = Vmm::start(&world, &open).await;
    vmm.hand_over().await;
    vmm.write(0, &[3; PAGE_SIZE]);
    vmm.save(b"state").await;
    world.commit(&open).await.unwrap();
    drop(vmm);
    world.move_on();
    let open = world.open(2, false).await;
    let (first, ..) = Vmm::start(&world, &open).await;
    world.server.down.store(true, SeqCst);
    let regions = vec![Region { guest_addr: 0, file_offset: 0, len: MIB << 20 }];
    let fd = first.memory.as_fd();
    first.connection.send_with(&Request::Memory { regions }, &[fd]).await.unwrap();
    let board = world.board.clone();
    until("the memory is waited for", || board.status().waiting.is_some()).await;
    let Vmm { _server, connection, .. } = first;
    drop(connection);
    let path = world.cache.path().join(names::GUEST);
    let mut next = connect(&path).await;
    next.send(&Request::PoweredOff).await.unwrap();
    assert!(matches!(next.receive::<Reply>().await, Ok(Reply::Saved)));
    assert_eq!(world.board.status().waiting, None);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_vmm_must_not_send_is_refused() {
    let world = World::new(&[1; 4096], MIB).await;
    let open = world.open(1, false).await;
    let (mut vmm, ..) = Vmm::start(&world, &open).await;
    let code = |reply| match reply {
        Reply::Error(error) => error.code,
        other => panic!("{other:?}"),
    };
    let all = Region { guest_addr: 0, file_offset: 0, len: MIB << 20 };
    let fd = || vmm.memory.try_clone().unwrap().into();
    let (one, two, three): (OwnedFd, OwnedFd, OwnedFd) = (fd(), fd(), fd());
    assert_eq!(
        code(vmm.ask(&Request::Save { device_model: 1 }, &[memfd(b"s"), memfd(&[0; PAGES / 8])]).await),
        Code::NoMemory
    );
    assert_eq!(code(vmm.ask(&Request::Memory { regions: vec![all] }, &[]).await), Code::NoDescriptor);
    let half = Region { len: MIB << 19, ..all };
    assert_eq!(code(vmm.ask(&Request::Memory { regions: vec![half] }, &[one]).await), Code::BadMemoryLayout);
    let twice = vec![half, Region { guest_addr: MIB << 19, ..half }];
    assert_eq!(code(vmm.ask(&Request::Memory { regions: twice }, &[two]).await), Code::BadMemoryLayout);
    let endless = Region { guest_addr: 0, file_offset: 0, len: !4095 };
    assert_eq!(
        code(vmm.ask(&Request::Memory { regions: vec![all, endless] }, &[three]).await),
        Code::BadMemoryLayout
    );
    let small = memfd(b"too small");
    assert_eq!(code(vmm.ask(&Request::Memory { regions: vec![all] }, &[small]).await), Code::InternalError);
    let shrinkable = memfd(&vec![0; (MIB as usize) << 20]);
    let reply = vmm.ask(&Request::Memory { regions: vec![all] }, &[shrinkable]).await;
    assert_eq!(code(reply), Code::InternalError, "a memory that its owner may shrink");
    vmm.hand_over().await;
    assert_eq!(code(vmm.ask(&Request::Save { device_model: 1 }, &[memfd(b"s")]).await), Code::NoDescriptor);
    assert_eq!(
        code(vmm.ask(&Request::Save { device_model: 1 }, &[memfd(b"s"), memfd(&[0; 8])]).await),
        Code::NoDirtyPages
    );
    assert_eq!(
        code(vmm.ask(&Request::Save { device_model: 1 }, &[memfd(b""), memfd(&[0; PAGES / 8])]).await),
        Code::NoState
    );
    assert!(open.saved().is_none());
}

/// How many descriptors of this process are of the memory file `name`.
fn open_descriptors(name: &str) -> usize {
    let links = std::fs::read_dir("/proc/self/fd").unwrap().filter_map(|fd| fd.ok()?.path().read_link().ok());
    links.filter(|link| link.to_string_lossy().starts_with(&format!("/memfd:{name} "))).count()
}

#[tokio::test(flavor = "multi_thread")]
async fn no_descriptor_of_a_hostile_vmm_stays_open() {
    let world = World::new(&[1; 4096], MIB).await;
    let open = world.open(1, false).await;
    let path = world.cache.path().join(names::GUEST);
    let _server = GuestServer::start(&path, &world.cache.path().join(names::DISK), open.clone()).unwrap();
    let file = memfd_create(c"hostile-vmm", MFdFlags::MFD_CLOEXEC).unwrap();
    let times = |count| vec![file.as_fd(); count];
    // Far more than a line may have, with a line, half a line and no line; a few with what is no message, and with
    // requests that speak of none.
    type Act<'a> = Box<dyn Fn(&UnixStream) + 'a>;
    let acts: Vec<Act> = vec![
        Box::new(|vmm| drop(transfer::send(vmm, b"{\"cmd\":\"save\"}\n", &times(MOST_AT_ONCE)))),
        Box::new(|vmm| drop(transfer::send(vmm, b"{\"cmd\"", &times(MOST_AT_ONCE)))),
        Box::new(|vmm| drop(transfer::send(vmm, b"\n", &times(5)))),
        Box::new(|vmm| drop(transfer::send(vmm, b"{\"cmd\":\"brew\"}\n", &times(4)))),
        Box::new(|vmm| drop(transfer::send(vmm, b"{\"cmd\":\"sa", &times(4)))),
        Box::new(|vmm| drop(send_line(vmm, b"{\"cmd\":\"describe\"}\n", &times(4)))),
        Box::new(|vmm| drop(send_line(vmm, &vec![b'x'; sockets::MAX_LINE + 1], &times(4)))),
    ];
    for act in acts.iter().cycle().take(3 * acts.len()) {
        let vmm = UnixStream::connect(&path).unwrap();
        tokio::task::block_in_place(|| act(&vmm));
    }
    // The next one is served only when the last one has ended.
    let mut vmm = connect(&path).await;
    vmm.send(&Request::Describe).await.unwrap();
    assert!(matches!(vmm.receive::<Reply>().await, Ok(Reply::Machine { .. })));
    until("all of them are closed", || open_descriptors("hostile-vmm") == 1).await;
}
