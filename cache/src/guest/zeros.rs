//! Missing-page faults of a resumed guest. Pages that the version has were filled in before the guest runs; a page that
//! still faults is one of zeros.

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use std::{
    io,
    os::fd::{AsRawFd as _, BorrowedFd, FromRawFd as _, IntoRawFd as _, OwnedFd},
};
use userfaultfd::{Error, Event, Uffd};

const PAGE: usize = 4096;

/// Answers the faults of the VMM behind `faults` until it is gone.
pub fn serve(faults: OwnedFd) -> io::Result<()> {
    let flags = nix::fcntl::OFlag::O_NONBLOCK | nix::fcntl::OFlag::O_CLOEXEC;
    nix::fcntl::fcntl(&faults, nix::fcntl::FcntlArg::F_SETFL(flags))?;
    // SAFETY: the descriptor is owned and given up here; that it is a userfaultfd is checked by every call on it.
    let uffd = unsafe { Uffd::from_raw_fd(faults.into_raw_fd()) };
    std::thread::Builder::new().name("faults".into()).spawn(move || {
        if let Err(error) = answer(&uffd) {
            tracing::info!(%error, "missing pages are no longer served");
        }
    })?;
    Ok(())
}

fn answer(uffd: &Uffd) -> io::Result<()> {
    // SAFETY: the descriptor is open as long as `uffd` lives, which is longer than this borrow.
    let fd = unsafe { BorrowedFd::borrow_raw(uffd.as_raw_fd()) };
    loop {
        let mut fds = [PollFd::new(fd, PollFlags::POLLIN)];
        match poll(&mut fds, PollTimeout::NONE) {
            Ok(_) => {}
            Err(nix::errno::Errno::EINTR) => continue,
            Err(errno) => return Err(errno.into()),
        }
        if fds[0].revents().is_some_and(|events| events.intersects(PollFlags::POLLERR | PollFlags::POLLNVAL))
        {
            return Ok(());
        }
        while let Some(event) = uffd.read_event().map_err(io::Error::other)? {
            if let Event::Pagefault { addr, .. } = event {
                fill(uffd, addr as usize & !(PAGE - 1)).map_err(io::Error::other)?;
            }
        }
        if fds[0].revents().is_some_and(|events| events.contains(PollFlags::POLLHUP)) {
            return Ok(());
        }
    }
}

fn fill(uffd: &Uffd, page: usize) -> Result<(), Error> {
    loop {
        // SAFETY: the address is one of the VMM's process, not of this one; the kernel checks that it is registered.
        let filled = unsafe { uffd.zeropage(page as *mut _, PAGE, true) };
        match filled {
            Ok(_) => return Ok(()),
            // Another thread of the VMM was faster: whoever waits only needs waking.
            Err(Error::ZeropageFailed(errno)) if errno as i32 == nix::errno::Errno::EEXIST as i32 => {
                return uffd.wake(page as *mut _, PAGE);
            }
            // The VMM is changing its mappings; the kernel wants to be asked again.
            Err(Error::ZeropageFailed(errno)) if errno as i32 == nix::errno::Errno::EAGAIN as i32 => {
                std::thread::yield_now();
            }
            Err(error) => return Err(error),
        }
    }
}
