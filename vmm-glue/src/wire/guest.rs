//! The conversation with `cached` over `guest.sock`.

use crate::{
    boot::Boot,
    error::{Error, Result},
    memory::GuestRam,
};
use parcel::wire::guest::{Machine, Reply, Request, Start};
use sockets::blocking::Connection;
use std::{
    fs::File,
    os::{
        fd::{AsFd, BorrowedFd},
        unix::{fs::FileExt, net::UnixStream},
    },
    path::Path,
};

/// Most bytes of a saved state.
pub const STATE_MAX: u64 = 32 << 20;

/// How the machine starts, with what came along.
pub enum Origin {
    /// From its kernel.
    Cold(Boot),
    /// From the bytes of its saved state.
    Restore(Vec<u8>),
}

/// A machine as `cached` described it.
pub struct Described {
    /// Its fixed parts.
    pub machine: Machine,
    /// How it starts.
    pub origin: Origin,
    /// Path of the vhost-user-blk socket; empty: no disk.
    pub disk_socket: String,
}

/// The connection.
pub struct GuestClient {
    socket: Connection,
}

impl GuestClient {
    /// Connects to `guest.sock`.
    ///
    /// # Errors
    /// Nobody listens.
    pub fn connect(path: &Path) -> Result<Self> {
        let stream = UnixStream::connect(path)
            .map_err(Error::io(format!("connecting to {}; is a parcel open?", path.display())))?;
        Ok(Self::new(stream))
    }

    /// Talks over a connected socket.
    pub fn new(stream: UnixStream) -> Self {
        Self { socket: Connection::with_descriptors(stream) }
    }

    fn ask(&mut self, request: &Request, files: &[BorrowedFd]) -> Result<(Reply, Vec<File>)> {
        let failed = || Error::peer("cached");
        self.socket.send_with(request, files).map_err(failed())?;
        match self.socket.receive_with().map_err(failed())? {
            (Reply::Error(why), _) => Err(Error::Refused(why)),
            (answer, files) => Ok((answer, files.into_iter().map(File::from).collect())),
        }
    }

    fn out_of_turn<T>(what: &str) -> Result<T> {
        Err(Error::Protocol { peer: "cached", what: what.into() })
    }

    /// Asks what machine this is.
    ///
    /// # Errors
    /// A refusal, or an answer without its files.
    pub fn describe(&mut self) -> Result<Described> {
        self.described(&Request::Describe)
    }

    /// Asks what a guest that restarts starts from.
    ///
    /// # Errors
    /// As [`GuestClient::describe`].
    pub fn kernel(&mut self) -> Result<Boot> {
        match self.described(&Request::Kernel)?.origin {
            Origin::Cold(boot) => Ok(boot),
            Origin::Restore(_) => Self::out_of_turn("it gave a saved state for a kernel"),
        }
    }

    fn described(&mut self, request: &Request) -> Result<Described> {
        let (reply, files) = self.ask(request, &[])?;
        let Reply::Machine { machine, start, disk_socket } = reply else {
            return Self::out_of_turn("it did not describe the machine");
        };
        let mut files = files.into_iter();
        let origin = match (start, files.next(), files.next()) {
            (Start::Cold { cmdline }, Some(kernel), Some(initrd)) => {
                Origin::Cold(Boot { kernel, initrd, cmdline })
            }
            (Start::Restore, Some(state), _) => Origin::Restore(read_state(&state)?),
            _ => return Self::out_of_turn("the machine came without its files"),
        };
        Ok(Described { machine, origin, disk_socket })
    }

    /// Hands over guest memory, and waits until the guest may run.
    ///
    /// # Errors
    /// A refusal.
    pub fn memory(&mut self, ram: &GuestRam, faults: Option<BorrowedFd>) -> Result<()> {
        let mut files = vec![ram.file.as_fd()];
        files.extend(faults);
        match self.ask(&Request::Memory { regions: ram.regions.clone() }, &files)?.0 {
            Reply::Ready => Ok(()),
            _ => Self::out_of_turn("it did not say that memory is ready"),
        }
    }

    /// Hands over the saved state, of this device model, and the bitmap of changed pages.
    ///
    /// # Errors
    /// A refusal.
    pub fn save(&mut self, state: &File, dirty: &File, device_model: u32) -> Result<()> {
        match self.ask(&Request::Save { device_model }, &[state.as_fd(), dirty.as_fd()])?.0 {
            Reply::Saved => Ok(()),
            _ => Self::out_of_turn("it did not take the saved machine"),
        }
    }

    /// Says that the guest powered itself off.
    ///
    /// # Errors
    /// A refusal.
    pub fn powered_off(&mut self) -> Result<()> {
        match self.ask(&Request::PoweredOff, &[])?.0 {
            Reply::Saved => Ok(()),
            _ => Self::out_of_turn("it did not note that the guest powered off"),
        }
    }
}

/// Reads a state by value: whoever made the file may change it later.
fn read_state(file: &File) -> Result<Vec<u8>> {
    let len = file.metadata().map_err(Error::io("reading the saved state"))?.len();
    if len > STATE_MAX {
        return Err(Error::State(format!("it has {len} bytes, more than the {STATE_MAX} that one can have")));
    }
    let mut bytes = vec![0; len as usize];
    file.read_exact_at(&mut bytes, 0).map_err(Error::io("reading the saved state"))?;
    Ok(bytes)
}
