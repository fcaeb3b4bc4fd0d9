//! A cache medium that is slow, full or broken on command: the kernel asks this process about every `pread64` and `pwrite64` of
//! a program before it makes them (seccomp user notification). On the medium those are for changed chunks alone.

use nix::{
    errno::Errno,
    libc::{self, c_long, c_ulong, sock_filter, sock_fprog},
    poll::{PollFd, PollFlags, PollTimeout, poll},
};
use std::{
    io::{self, IoSliceMut},
    mem::zeroed,
    os::{
        fd::{AsFd as _, AsRawFd as _, FromRawFd as _, OwnedFd, RawFd},
        unix::{net::UnixStream, process::CommandExt as _},
    },
    process::{Child, Command},
    sync::{
        Arc, Mutex,
        atomic::{AtomicU64, Ordering::SeqCst},
    },
    thread,
    time::Duration,
};

/// `SECCOMP_IOCTL_NOTIF_RECV` and `SECCOMP_IOCTL_NOTIF_SEND` of `linux/seccomp.h`.
const RECEIVE: c_ulong = 0xc050_2100;
const SEND: c_ulong = 0xc018_2101;
/// `SECCOMP_USER_NOTIF_FLAG_CONTINUE`: the call is made.
const CONTINUE: u32 = 1;
/// `AUDIT_ARCH_X86_64`.
const ARCH: u32 = 0xc000_003e;

/// How the medium is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mood {
    /// As it should be.
    Well,
    /// Takes so long for each chunk that is written.
    Slow(Duration),
    /// Takes no more, and gives what it has.
    Full,
    /// Neither takes nor gives anything.
    Broken,
}

/// The medium of a program.
#[derive(Clone)]
pub struct Medium(Arc<State>);

struct State {
    mood: Mutex<Mood>,
    /// Chunks that it was given so far.
    writes: AtomicU64,
}

impl Medium {
    pub fn is(&self, mood: Mood) {
        *self.0.mood.lock().unwrap() = mood;
    }

    pub fn writes(&self) -> u64 {
        self.0.writes.load(SeqCst)
    }

    /// Starts a program on a medium that is well.
    pub fn start(command: &mut Command) -> (Child, Self) {
        let (ours, theirs) = UnixStream::pair().unwrap();
        let socket = theirs.as_raw_fd();
        // SAFETY: between fork and exec only system calls are made, on memory of the stack.
        let child = unsafe { command.pre_exec(move || confine(socket)) }.spawn().unwrap();
        let listener = receive(&ours);
        let medium = Self(Arc::new(State { mood: Mutex::new(Mood::Well), writes: AtomicU64::new(0) }));
        let mood = medium.clone();
        thread::spawn(move || while answer(&listener, &mood).is_ok() {});
        (child, medium)
    }
}

/// Installs the filter and sends its listener away.
fn confine(socket: RawFd) -> io::Result<()> {
    let step = |code: u32, k: u32, jt: u8, jf: u8| sock_filter { code: code as u16, jt, jf, k };
    let (load, equal, done) = (
        libc::BPF_LD | libc::BPF_W | libc::BPF_ABS,
        libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K,
        libc::BPF_RET | libc::BPF_K,
    );
    let mut program = [
        step(load, 4, 0, 0),
        step(equal, ARCH, 0, 3),
        step(load, 0, 0, 0),
        step(equal, libc::SYS_pread64 as u32, 2, 0),
        step(equal, libc::SYS_pwrite64 as u32, 1, 0),
        step(done, libc::SECCOMP_RET_ALLOW, 0, 0),
        step(done, libc::SECCOMP_RET_USER_NOTIF, 0, 0),
    ];
    let program = sock_fprog { len: program.len() as u16, filter: program.as_mut_ptr() };
    nix::sys::prctl::set_no_new_privs()?;
    // SAFETY: the program is valid for the call, which copies it.
    let listener: c_long = unsafe {
        libc::syscall(
            libc::SYS_seccomp,
            libc::SECCOMP_SET_MODE_FILTER,
            libc::SECCOMP_FILTER_FLAG_NEW_LISTENER,
            &raw const program,
        )
    };
    let listener = [Errno::result(listener)? as RawFd];
    let byte = [io::IoSlice::new(b"x")];
    send(socket, &byte, listener[0])
}

/// `sendmsg` with one descriptor, without the allocator, which another thread may have held at the fork.
fn send(socket: RawFd, bytes: &[io::IoSlice<'_>], descriptor: RawFd) -> io::Result<()> {
    let mut control = [0u64; 3];
    // SAFETY: the header, the data and the control buffer, which has room for one descriptor, live through the call.
    let sent = unsafe {
        let mut message: libc::msghdr = zeroed();
        message.msg_iov = bytes.as_ptr().cast_mut().cast();
        message.msg_iovlen = bytes.len();
        message.msg_control = control.as_mut_ptr().cast();
        message.msg_controllen = libc::CMSG_SPACE(size_of::<RawFd>() as u32) as usize;
        let header = libc::CMSG_FIRSTHDR(&raw const message);
        (*header).cmsg_level = libc::SOL_SOCKET;
        (*header).cmsg_type = libc::SCM_RIGHTS;
        (*header).cmsg_len = libc::CMSG_LEN(size_of::<RawFd>() as u32) as usize;
        libc::CMSG_DATA(header).cast::<RawFd>().write_unaligned(descriptor);
        libc::sendmsg(socket, &raw const message, 0)
    };
    Errno::result(sent).map(drop).map_err(io::Error::from)
}

fn receive(socket: &UnixStream) -> OwnedFd {
    use nix::sys::socket::{ControlMessageOwned, MsgFlags, recvmsg};
    let mut byte = [0];
    let mut parts = [IoSliceMut::new(&mut byte)];
    let mut space = nix::cmsg_space!(RawFd);
    let flags = MsgFlags::MSG_CMSG_CLOEXEC;
    let message = recvmsg::<()>(socket.as_raw_fd(), &mut parts, Some(&mut space), flags).unwrap();
    let mut descriptors = message.cmsgs().unwrap().filter_map(|message| match message {
        ControlMessageOwned::ScmRights(found) => found.first().copied(),
        _ => None,
    });
    let descriptor = descriptors.next().expect("the listener");
    // SAFETY: it was just received, and nobody else has it.
    unsafe { OwnedFd::from_raw_fd(descriptor) }
}

/// Answers one question of the kernel; an error when nobody is left to ask any.
fn answer(listener: &OwnedFd, medium: &Medium) -> io::Result<()> {
    let mut ready = [PollFd::new(listener.as_fd(), PollFlags::POLLIN)];
    poll(&mut ready, PollTimeout::NONE)?;
    if ready[0].revents().is_some_and(|events| events.contains(PollFlags::POLLHUP)) {
        return Err(io::ErrorKind::BrokenPipe.into());
    }
    // SAFETY: the structure is all integers.
    let mut question: libc::seccomp_notif = unsafe { zeroed() };
    // SAFETY: the kernel writes one such structure, which lives through the call.
    if unsafe { libc::ioctl(listener.as_raw_fd(), RECEIVE, &raw mut question) } != 0 {
        // Whoever asked was killed meanwhile.
        return Ok(());
    }
    let writes = i64::from(question.data.nr) == libc::SYS_pwrite64;
    medium.0.writes.fetch_add(u64::from(writes), SeqCst);
    let mood = *medium.0.mood.lock().unwrap();
    let error = match mood {
        Mood::Full if writes => libc::ENOSPC,
        Mood::Broken => libc::EIO,
        Mood::Slow(time) if writes => {
            thread::sleep(time);
            0
        }
        Mood::Well | Mood::Slow(_) | Mood::Full => 0,
    };
    let flags = if error == 0 { CONTINUE } else { 0 };
    let answer = libc::seccomp_notif_resp { id: question.id, val: 0, error: -error, flags };
    // SAFETY: the kernel reads one such structure, which lives through the call. That the asker is gone is no error.
    unsafe { libc::ioctl(listener.as_raw_fd(), SEND, &raw const answer) };
    Ok(())
}
