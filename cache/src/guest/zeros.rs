//! Missing-page faults of a resumed guest. Pages that the version has were filled in before the guest runs; a page that
//! still faults is one of zeros.

use nix::{
    errno::Errno,
    fcntl::{FcntlArg, OFlag, fcntl},
    poll::{PollFd, PollFlags, PollTimeout, poll},
};
use std::{
    io,
    os::{
        fd::{AsFd as _, AsRawFd as _, BorrowedFd, FromRawFd as _, IntoRawFd as _, OwnedFd},
        unix::net::UnixStream,
    },
};
use userfaultfd::{Error, Event, Uffd};

const PAGE: usize = 4096;
/// Milliseconds until a page that there was no memory for is tried again.
const NO_MEMORY_PAUSE: u16 = 100;

/// Answers the faults of a VMM until dropped. A guest whose fault is not answered stands still for ever, so nothing else
/// ends it; and the descriptor does not tell when the VMM has gone.
pub struct Server {
    _stop: UnixStream,
}

impl Server {
    /// Serves `faults`, a userfaultfd.
    pub fn start(faults: OwnedFd) -> io::Result<Self> {
        fcntl(&faults, FcntlArg::F_SETFL(OFlag::O_NONBLOCK))?;
        // SAFETY: the descriptor is owned and given up here; that it is a userfaultfd is checked by every call on it.
        let uffd = unsafe { Uffd::from_raw_fd(faults.into_raw_fd()) };
        let (stop, stopped) = UnixStream::pair()?;
        std::thread::Builder::new().name("faults".into()).spawn(move || {
            if let Err(error) = answer(&uffd, &stopped) {
                tracing::warn!(%error, "missing pages are no longer served");
            }
        })?;
        Ok(Self { _stop: stop })
    }
}

fn answer(uffd: &Uffd, stopped: &UnixStream) -> io::Result<()> {
    // SAFETY: the descriptor is open as long as `uffd` lives, which is longer than this borrow.
    let fd = unsafe { BorrowedFd::borrow_raw(uffd.as_raw_fd()) };
    loop {
        let mut fds = [PollFd::new(fd, PollFlags::POLLIN), PollFd::new(stopped.as_fd(), PollFlags::POLLIN)];
        match poll(&mut fds, PollTimeout::NONE) {
            Ok(_) => {}
            Err(Errno::EINTR) => continue,
            Err(errno) => return Err(errno.into()),
        }
        if fds[1].revents().is_some_and(|events| !events.is_empty()) {
            return Ok(());
        }
        if fds[0].revents().is_some_and(|events| events.intersects(PollFlags::POLLERR | PollFlags::POLLNVAL))
        {
            return Err(io::Error::other("the VMM's descriptor is no userfaultfd"));
        }
        while let Some(event) = uffd.read_event().map_err(io::Error::other)? {
            if let Event::Pagefault { addr, .. } = event
                && !fill(uffd, addr as usize & !(PAGE - 1), stopped)?
            {
                return Ok(());
            }
        }
    }
}

/// Gives a page of zeros; `false` when there is nobody to give it to any more.
fn fill(uffd: &Uffd, page: usize, stopped: &UnixStream) -> io::Result<bool> {
    loop {
        // SAFETY: the address is one of the VMM's process, not of this one; the kernel checks that it is registered.
        let filled = unsafe { uffd.zeropage(page as *mut _, PAGE, true) };
        let errno = match filled {
            Ok(_) => return Ok(true),
            Err(Error::ZeropageFailed(errno)) => Errno::from_raw(errno as i32),
            Err(error) => return Err(io::Error::other(error)),
        };
        match errno {
            // Another thread of the VMM was faster: whoever waits only needs waking.
            Errno::EEXIST => {
                uffd.wake(page as *mut _, PAGE).map_err(io::Error::other)?;
                return Ok(true);
            }
            // The VMM is changing its mappings; the kernel wants to be asked again.
            Errno::EAGAIN => std::thread::yield_now(),
            Errno::ESRCH => return Ok(false),
            // Memory that the VMM has taken away: nobody waits for it.
            Errno::ENOENT => return Ok(true),
            errno => {
                tracing::warn!(%errno, "a page of zeros cannot be given; it is tried again");
                let mut fds = [PollFd::new(stopped.as_fd(), PollFlags::POLLIN)];
                if poll(&mut fds, NO_MEMORY_PAUSE).is_ok_and(|ready| ready > 0) {
                    return Ok(false);
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use nix::sys::{
        memfd::{MFdFlags, memfd_create},
        mman::{MapFlags, ProtFlags, mmap, munmap},
    };
    use std::{num::NonZeroUsize, sync::Arc};
    use userfaultfd::{FeatureFlags, RegisterMode, UffdBuilder};

    #[test]
    fn missing_pages_are_zeros_until_the_vmm_has_gone() {
        let made = UffdBuilder::new()
            .user_mode_only(true)
            .non_blocking(true)
            .require_features(FeatureFlags::MISSING_SHMEM)
            .create();
        let uffd = match made {
            Ok(uffd) => Arc::new(uffd),
            // Some build machines refuse it to everybody; the end-to-end tests need it then.
            Err(error) => return eprintln!("no userfaultfd here: {error}"),
        };
        let memory = std::fs::File::from(memfd_create(c"test", MFdFlags::empty()).unwrap());
        memory.set_len(2 * PAGE as u64).unwrap();
        std::os::unix::fs::FileExt::write_all_at(&memory, &[7; PAGE], 0).unwrap();
        let len = NonZeroUsize::new(2 * PAGE).unwrap();
        // SAFETY: a new mapping at an address of the kernel's choice touches no existing one.
        let start = unsafe {
            mmap(None, len, ProtFlags::PROT_READ | ProtFlags::PROT_WRITE, MapFlags::MAP_SHARED, &memory, 0)
        }
        .unwrap();
        uffd.register_with_mode(start.as_ptr(), len.get(), RegisterMode::MISSING).unwrap();
        // SAFETY: the descriptor is open while `uffd` lives.
        let fd = unsafe { BorrowedFd::borrow_raw(uffd.as_raw_fd()) };
        let server = Server::start(fd.try_clone_to_owned().unwrap()).unwrap();
        // SAFETY: both pages are within the mapping, which nothing else writes to.
        let read = |page: usize| unsafe { start.as_ptr().cast::<u8>().add(page * PAGE).read_volatile() };
        assert_eq!((read(0), read(1)), (7, 0));
        drop(server);
        let gone = || {
            let mut threads = std::fs::read_dir("/proc/self/task").unwrap().flatten();
            threads.all(|one| std::fs::read_to_string(one.path().join("comm")).is_ok_and(|n| n != "faults\n"))
        };
        while !gone() {
            std::thread::yield_now();
        }
        // SAFETY: the mapping is this test's own, and nothing refers to it any more.
        unsafe { munmap(start, len.get()) }.unwrap();
    }
}
