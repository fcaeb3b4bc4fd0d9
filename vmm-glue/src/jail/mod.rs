//! What each thread may still do once it is set up: no file of any kind (Landlock), and only the system calls of its
//! kind (`syscalls`).

mod syscalls;

use crate::error::{Error, Result};
use landlock::{ABI, Access, AccessFs, Ruleset, RulesetAttr, RulesetStatus};
use nix::sys::{
    prctl,
    resource::{Resource, setrlimit},
    signal::{SaFlags, SigAction, SigHandler, SigSet, Signal, sigaction},
};

/// Kinds of threads.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Serves `vmm.sock`.
    Control,
    /// Owns the machine.
    Manager,
    /// Serves the devices.
    Devices,
    /// Runs a vCPU.
    Vcpu,
}

/// For the whole process, before any thread: no new privileges, no core dumps, no debugger, and a word on standard error
/// when a thread is caught at a system call that its jail does not allow.
///
/// # Errors
/// The system's refusal.
pub fn prepare() -> Result<()> {
    let failed = || Error::io("giving up privileges");
    // glibc reads a file of /proc when a thread's own arena gives much memory back, and the jail would kill for that: all
    // threads share the first arena, which grows and shrinks without.
    // SAFETY: sets a number of the allocator, before there is any other thread.
    if unsafe { libc::mallopt(libc::M_ARENA_MAX, 1) } != 1 {
        return Err(Error::Machine("the allocator takes no limit of arenas".into()));
    }
    prctl::set_no_new_privs().map_err(failed())?;
    prctl::set_dumpable(false).map_err(failed())?;
    setrlimit(Resource::RLIMIT_CORE, 0, 0).map_err(failed())?;
    let action = SigAction::new(SigHandler::SigAction(caught), SaFlags::SA_SIGINFO, SigSet::empty());
    // SAFETY: the handler makes only calls that a signal handler may make: it writes and ends the process.
    unsafe { sigaction(Signal::SIGSYS, &action) }.map_err(failed())?;
    Ok(())
}

extern "C" fn caught(_signal: libc::c_int, _info: *mut libc::siginfo_t, context: *mut libc::c_void) {
    // SAFETY: the kernel hands a handler with SA_SIGINFO the interrupted thread's context.
    let number = unsafe { (*context.cast::<libc::ucontext_t>()).uc_mcontext.gregs[libc::REG_RAX as usize] };
    let mut text = *b"vmm: a thread was caught at system call     , which its jail does not allow\n";
    let mut rest = number.unsigned_abs();
    for place in text[40..44].iter_mut().rev() {
        *place = b'0' + (rest % 10) as u8;
        rest /= 10;
    }
    // SAFETY: the text lives through the call, and `_exit` does not return.
    unsafe {
        libc::write(libc::STDERR_FILENO, text.as_ptr().cast(), text.len());
        libc::_exit(1);
    }
}

/// Gives up, for the calling thread, everything that its kind does not need.
///
/// # Errors
/// The system's refusal. A kernel without Landlock is logged, not refused: the system calls that open files are not
/// allowed either.
pub fn enter(kind: Kind) -> Result<()> {
    let failed = |e: landlock::RulesetError| Error::Machine(format!("Landlock refused: {e}"));
    let status = Ruleset::default()
        .handle_access(AccessFs::from_all(ABI::V2))
        .map_err(failed)?
        .create()
        .map_err(failed)?
        .restrict_self()
        .map_err(failed)?;
    if status.ruleset == RulesetStatus::NotEnforced {
        tracing::warn!(?kind, "this kernel has no Landlock");
    }
    let filter =
        syscalls::filter(kind).map_err(|e| Error::Machine(format!("the jail cannot be built: {e}")))?;
    seccompiler::apply_filter(&filter).map_err(|e| Error::Machine(format!("the jail was refused: {e}")))
}

#[cfg(test)]
mod tests;
