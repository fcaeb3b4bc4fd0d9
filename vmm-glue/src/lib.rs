//! The local virtual machine monitor, from rust-vmm crates on KVM.
//!
//! [`run`] is the process: the calling thread serves `vmm.sock` ([`wire::control`]), a manager owns the machine
//! ([`machine::manager`]), one thread serves the devices ([`machine::service`]), and one runs each vCPU
//! ([`cpu::thread`]). If one of them cannot go on the process ends, with the reason as its
//! last line on standard error; a panic while it serves costs what it was about ([`caught`]), and the guest can be saved.

pub mod boot;
pub mod bounded;
pub mod cpu;
pub mod devices;
pub mod error;
pub mod inventory;
pub mod jail;
pub mod last_words;
pub mod layout;
pub mod machine;
pub mod memory;
pub mod planted;
pub mod wire;

use error::{Error, Result};
use machine::manager::{self, Settings, Shared};
use sockets::listen::{Access, bind};
use std::{
    io::Write as _,
    os::unix::net::UnixListener,
    path::{Path, PathBuf},
    sync::{Arc, mpsc::channel},
};
use wire::control::Control;

/// What `vmm run` is told.
#[derive(Debug, Clone)]
pub struct Options {
    /// Where `cached` tells of the machine.
    pub guest_socket: PathBuf,
    /// Where `init` steers.
    pub control_socket: PathBuf,
    /// Where the guest's console is.
    pub console_socket: PathBuf,
    /// The network's tap.
    pub tap: Option<String>,
}

fn listen(path: &Path, access: Access) -> Result<UnixListener> {
    bind(path, access).map_err(Error::io(format!("listening on {}", path.display())))
}

/// Does `body`; a panic is an error like any other. What it had locked is unlocked, and used on as it is: the guest and its
/// memory are worth more than a device that may have stopped half-way.
pub fn caught<T>(body: impl FnOnce() -> Result<T>) -> Result<T> {
    std::panic::catch_unwind(std::panic::AssertUnwindSafe(body))
        .unwrap_or_else(|_| Err(Error::Thread("a part of the VMM panicked; its log says where".into())))
}

/// Starts a thread whose end, by error or panic, ends the process.
///
/// # Errors
/// The system's refusal.
pub fn spawn(name: &str, body: impl FnOnce() -> Result<()> + Send + 'static) -> Result<()> {
    let title = name.to_owned();
    std::thread::Builder::new()
        .name(title.clone())
        .spawn(move || {
            let Err(why) = caught(body) else { return };
            // Nothing is left to do about a standard error that cannot be written.
            let _ = writeln!(std::io::stderr(), "vmm: {title}: {why}");
            std::process::exit(1);
        })
        .map(drop)
        .map_err(Error::io(format!("starting the thread {name}")))
}

/// Runs a machine until `init` says quit.
///
/// # Errors
/// What kept the process from serving; a machine that fails later ends the process itself.
pub fn run(options: Options) -> Result<()> {
    last_words::install();
    planted::prepare();
    jail::prepare()?;
    // Only init steers, and it is root. The screens watch the console.
    let control = listen(&options.control_socket, Access::User)?;
    let console = listen(&options.console_socket, Access::Group)?;
    let shared = Arc::new(Shared::default());
    let (sender, events) = channel();
    let (control, answer) = Control::new(control, sender.clone(), Arc::clone(&shared))?;
    let settings = Settings {
        guest_socket: options.guest_socket,
        console,
        tap: options.tap,
        events,
        sender,
        answer,
        shared,
    };
    spawn("manager", move || manager::run(settings))?;
    jail::enter(jail::Kind::Control)?;
    caught(|| control.run())
}
