//! The socket on which VMMs attach the disk, one after the other.

use super::{Disk, device::Device, queue::Memory};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use parcel::id::ParcelId;
use sockets::listen::{Access, bind};
use std::{
    io,
    os::{
        fd::AsFd,
        unix::net::{UnixListener, UnixStream},
    },
    path::{Path, PathBuf},
    sync::Arc,
    thread::JoinHandle,
    time::Duration,
};
use tokio::runtime::Handle;
use vhost::vhost_user::Listener;
use vhost_user_backend::VhostUserDaemon;
use vm_memory::GuestMemoryAtomic;

/// How long a front end that could not attach is kept from trying again.
const PAUSE: Duration = Duration::from_millis(100);

/// A disk on a socket; closed when dropped.
pub struct DiskServer {
    stop: Option<UnixStream>,
    thread: Option<JoinHandle<()>>,
    path: PathBuf,
}

impl DiskServer {
    /// Serves `disk` at `path` until dropped.
    pub fn start(path: &Path, disk: Arc<Disk>, parcel: ParcelId) -> io::Result<Self> {
        let listener = bind(path, Access::Group)?;
        let (stop, stopped) = UnixStream::pair()?;
        let runtime = Handle::current();
        let thread = std::thread::Builder::new().name("disk".into()).spawn(move || {
            serve(listener, &stopped, &disk, &parcel, &runtime);
        })?;
        Ok(Self { stop: Some(stop), thread: Some(thread), path: path.to_owned() })
    }
}

impl Drop for DiskServer {
    fn drop(&mut self) {
        self.stop = None;
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
        let _ = std::fs::remove_file(&self.path);
    }
}

/// Waits until one of two descriptors has something; `true` for the first.
fn first_ready(one: &impl AsFd, other: &impl AsFd) -> bool {
    let mut fds =
        [PollFd::new(one.as_fd(), PollFlags::POLLIN), PollFd::new(other.as_fd(), PollFlags::POLLIN)];
    loop {
        match poll(&mut fds, PollTimeout::NONE) {
            Ok(_) => {}
            Err(nix::errno::Errno::EINTR) => continue,
            Err(_) => return false,
        }
        let ready = |fd: &PollFd<'_>| fd.revents().is_some_and(|events| !events.is_empty());
        if ready(&fds[1]) {
            return false;
        }
        if ready(&fds[0]) {
            return true;
        }
    }
}

fn serve(
    listener: UnixListener,
    stopped: &UnixStream,
    disk: &Arc<Disk>,
    parcel: &ParcelId,
    runtime: &Handle,
) {
    let Ok(watched) = listener.try_clone() else { return };
    let mut listener = Listener::from(listener);
    while first_ready(&watched, stopped) {
        let memory = Device::no_memory();
        let device = Arc::new(Device::new(disk.clone(), parcel, memory.clone(), runtime.clone()));
        let attached = attach(&mut listener, stopped, &device, memory);
        device.abandon();
        if let Err(error) = attached {
            tracing::warn!(%error, "a front end could not attach the disk");
            // Whatever is wanting, such as descriptors, may be there later.
            std::thread::sleep(PAUSE);
        }
    }
}

/// Serves one front end until it has gone, or the disk is to be closed.
fn attach(
    listener: &mut Listener,
    stopped: &UnixStream,
    device: &Arc<Device>,
    memory: GuestMemoryAtomic<Memory>,
) -> io::Result<()> {
    let failed = |error: vhost_user_backend::Error| io::Error::other(error.to_string());
    let mut daemon = VhostUserDaemon::new("disk-front".into(), device.clone(), memory).map_err(failed)?;
    let watch = stopped.try_clone()?;
    let (over, ended) = UnixStream::pair()?;
    daemon.start(listener).map_err(failed)?;
    let handle = daemon.shutdown_handle().ok_or(io::ErrorKind::NotConnected)?;
    let watcher = std::thread::Builder::new().name("disk-watch".into()).spawn(move || {
        if first_ready(&watch, &ended) {
            handle.shutdown();
        }
    })?;
    if let Err(error) = daemon.wait() {
        tracing::info!(%error, "the front end of the disk has gone");
    }
    drop(over);
    let _ = watcher.join();
    Ok(())
}
