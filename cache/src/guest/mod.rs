//! `guest.sock`: hands the machine to the VMM, and takes it back.

mod zeros;

use crate::{
    fetch::Plain,
    harden,
    memory::{GuestMemory, Mapping, SharedMemory, check_regions},
    open::{OpenParcel, Saved},
    status::lock,
};
use nix::{
    fcntl::{FcntlArg, SealFlag, fcntl},
    sys::memfd::{MFdFlags, memfd_create},
};
use parcel::{
    keyring::ImageKind,
    wire::{
        Code, WireError,
        guest::{Region, Reply, Request, Start},
        users,
    },
};
use sockets::asynchronous::{Connection, Listener};
use std::{
    fs::File,
    io::{self, Read as _, Seek as _, Write as _},
    os::fd::{AsFd as _, OwnedFd},
    path::{Path, PathBuf},
    sync::{Arc, Mutex},
};
use tokio::task::AbortHandle;
use zeroize::Zeroizing;

/// The largest saved state that is accepted, in bytes: the VMM takes no larger one back.
const MAX_STATE: u64 = 32 << 20;

/// A parcel on the VMM's socket; closed when dropped.
pub struct GuestServer {
    task: AbortHandle,
    path: PathBuf,
}

impl GuestServer {
    /// Serves `open` at `path`; the VMM is told that its disk is at `disk`.
    pub fn start(path: &Path, disk: &Path, open: Arc<OpenParcel>) -> io::Result<Self> {
        let listener = Listener::bind(path, harden::peers(users::VMM))?;
        let machine = Arc::new(Guest {
            open,
            disk: disk.display().to_string(),
            memory: Mutex::default(),
            faults: Mutex::default(),
        });
        let serve = async move {
            // One VMM at a time: the next connection is taken when the last one has ended.
            loop {
                let connection = Connection::with_descriptors(listener.accept().await);
                if let Err(error) = machine.converse(connection).await {
                    tracing::info!(%error, "the VMM has gone");
                }
                *lock(&machine.faults) = None;
            }
        };
        Ok(Self { task: tokio::spawn(serve).abort_handle(), path: path.to_owned() })
    }
}

impl Drop for GuestServer {
    fn drop(&mut self) {
        self.task.abort();
        let _ = std::fs::remove_file(&self.path);
    }
}

struct Guest {
    open: Arc<OpenParcel>,
    disk: String,
    memory: Mutex<Option<SharedMemory>>,
    faults: Mutex<Option<zeros::Server>>,
}

impl Guest {
    async fn converse(&self, mut vmm: Connection) -> Result<(), sockets::Error> {
        loop {
            let (request, descriptors) = match vmm.receive_with::<Request>().await {
                Err(sockets::Error::Closed) => return Ok(()),
                received => received?,
            };
            let answered = tokio::select! {
                biased;
                answered = self.answer(request, descriptors) => answered,
                // Nobody waits for the memory any more, and the next VMM must not wait for this one.
                () = vmm.gone() => return Ok(()),
            };
            let (reply, answer) = match answered {
                Ok((reply, descriptors)) => (reply, descriptors),
                Err(error) => {
                    tracing::warn!(code = %error.code, message = error.message, "the VMM's request fails");
                    (Reply::Error(error), Vec::new())
                }
            };
            let answer: Vec<_> = answer.iter().map(|descriptor| descriptor.as_fd()).collect();
            vmm.send_with(&reply, &answer).await?;
        }
    }

    async fn answer(
        &self,
        request: Request,
        mut fds: Vec<OwnedFd>,
    ) -> Result<(Reply, Vec<OwnedFd>), WireError> {
        match request {
            Request::Describe => self.describe(self.open.restored).await,
            // A guest that restarts does so from its kernel, whether it was restored or not.
            Request::Kernel => self.describe(false).await,
            Request::Memory { regions } => {
                let mut fds = fds.drain(..);
                let memfd = fds.next().ok_or_else(|| missing("the memory"))?;
                self.memory(&regions, memfd, fds.next()).await?;
                Ok((Reply::Ready, Vec::new()))
            }
            Request::Save { device_model } => {
                let mut fds = fds.drain(..);
                let state = fds.next().ok_or_else(|| missing("the state"))?;
                let dirty = fds.next().ok_or_else(|| missing("the dirty pages"))?;
                self.save(state, dirty, device_model)?;
                Ok((Reply::Saved, Vec::new()))
            }
            Request::PoweredOff => {
                self.open.save(Saved::PoweredOff);
                Ok((Reply::Saved, Vec::new()))
            }
        }
    }

    async fn describe(&self, restored: bool) -> Result<(Reply, Vec<OwnedFd>), WireError> {
        let (start, kinds): (_, &[_]) = match restored {
            true => (Start::Restore, &[(ImageKind::State, c"state")]),
            false => (
                Start::Cold { cmdline: self.open.record.private.cmdline.clone() },
                &[(ImageKind::Kernel, c"kernel"), (ImageKind::Initrd, c"initrd")],
            ),
        };
        let total = kinds.iter().filter_map(|(kind, _)| self.open.keyring.bytes(*kind)).sum();
        let step = self.open.keyring.engine().board().step(total);
        let mut fds = Vec::new();
        for (kind, name) in kinds {
            let bytes = self.open.keyring.whole(*kind, |bytes| step.add(bytes)).await.ok_or_else(|| {
                WireError::new(
                    Code::RecordDamaged,
                    format!("the version has no {} to start from", name.to_string_lossy()),
                )
            })?;
            fds.push(sealed_file(name, &bytes).map_err(internal)?);
        }
        let machine = self.open.record.public.machine.clone();
        Ok((Reply::Machine { machine, start, disk_socket: self.disk.clone() }, fds))
    }

    async fn memory(
        &self,
        regions: &[Region],
        memfd: OwnedFd,
        faults: Option<OwnedFd>,
    ) -> Result<(), WireError> {
        let pages = self.open.pages();
        check_regions(regions, pages)?;
        let mapping = Mapping::new(&memfd, pages).map_err(internal)?;
        let memory = match self.open.restored {
            false => GuestMemory::blank(mapping)?,
            true => {
                let step = self.open.keyring.engine().board().step(0);
                GuestMemory::restore(mapping, &self.open.keyring, &step).await?
            }
        };
        *lock(&self.memory) = Some(Arc::new(memory));
        if let Some(faults) = faults {
            *lock(&self.faults) = Some(zeros::Server::start(faults).map_err(internal)?);
        }
        Ok(())
    }

    fn save(&self, state: OwnedFd, dirty: OwnedFd, device_model: u32) -> Result<(), WireError> {
        let memory = lock(&self.memory).clone();
        let memory =
            memory.ok_or_else(|| WireError::new(Code::NoMemory, "the VMM has not handed its memory over"))?;
        let state = Arc::new(read_file(state, MAX_STATE).map_err(internal)?);
        if state.is_empty() {
            return Err(WireError::new(Code::NoState, "the VMM's saved state is empty"));
        }
        let needed = self.open.pages().div_ceil(8);
        let dirty = read_file(dirty, needed).map_err(internal)?;
        if (dirty.len() as u64) < needed {
            return Err(WireError::new(
                Code::NoDirtyPages,
                "the VMM's dirty bitmap is shorter than its memory",
            ));
        }
        self.open.save(Saved::Suspended { memory, state, dirty: Arc::new(dirty.to_vec()), device_model });
        Ok(())
    }
}

fn missing(what: &str) -> WireError {
    WireError::new(Code::NoDescriptor, format!("the VMM sent no descriptor for {what}"))
}

fn internal(error: io::Error) -> WireError {
    WireError::new(Code::InternalError, format!("the VMM's files cannot be used: {error}"))
}

/// A memfd that nobody can change any more.
fn sealed_file(name: &std::ffi::CStr, bytes: &[u8]) -> io::Result<OwnedFd> {
    let fd = memfd_create(name, MFdFlags::MFD_CLOEXEC | MFdFlags::MFD_ALLOW_SEALING)?;
    let mut file = File::from(fd);
    file.write_all(bytes)?;
    file.rewind()?;
    let seals =
        SealFlag::F_SEAL_WRITE | SealFlag::F_SEAL_SHRINK | SealFlag::F_SEAL_GROW | SealFlag::F_SEAL_SEAL;
    fcntl(&file, FcntlArg::F_ADD_SEALS(seals))?;
    Ok(file.into())
}

/// Up to `most` bytes of a file, from its start; a longer file is refused.
fn read_file(fd: OwnedFd, most: u64) -> io::Result<Plain> {
    let mut file = File::from(fd);
    let size = file.metadata()?.len();
    // A bitmap is rounded up to whole pages by some.
    if size > most.next_multiple_of(4096) {
        return Err(io::Error::new(io::ErrorKind::InvalidData, "a file of the VMM is larger than it can be"));
    }
    file.rewind()?;
    let mut bytes = Zeroizing::new(Vec::with_capacity(size as usize));
    file.take(size).read_to_end(&mut bytes)?;
    Ok(bytes)
}
