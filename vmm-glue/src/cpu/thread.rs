//! The thread of a vCPU: runs the guest, hands port and memory accesses to the devices, and stands when told.

use crate::{
    devices::bus::{Bus, Request},
    error::{Error, Result},
};
use kvm_bindings::{KVM_INTERNAL_ERROR_EMULATION, KVM_INTERNAL_ERROR_EMULATION_FLAG_INSTRUCTION_BYTES};
use kvm_ioctls::{VcpuExit, VcpuFd};
use nix::sys::{
    pthread::{Pthread, pthread_kill, pthread_self},
    signal::{SaFlags, SigAction, SigHandler, SigSet, Signal, sigaction},
};
use std::{
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

/// Interrupts `KVM_RUN`. Its handler does nothing: the interruption is the message.
const KICK: Signal = Signal::SIGUSR1;

/// What a vCPU thread tells the manager.
#[derive(Debug)]
pub enum Exit {
    /// The guest asked for this.
    Request(Request),
    /// The vCPU with this number met a triple fault.
    TripleFault(usize),
    /// The vCPU with this number cannot go on, for this reason.
    Failed(usize, String),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Wish {
    Stand,
    Run,
}

struct GateState {
    wish: Wish,
    standing: Vec<bool>,
    threads: Vec<Option<Pthread>>,
}

/// Where vCPU threads stand and whence they are let go.
pub struct Gate {
    state: Mutex<GateState>,
    changed: Condvar,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Gate {
    /// A closed gate for so many vCPUs.
    pub fn new(vcpus: usize) -> Arc<Self> {
        let state = GateState { wish: Wish::Stand, standing: vec![false; vcpus], threads: vec![None; vcpus] };
        Arc::new(Self { state: Mutex::new(state), changed: Condvar::new() })
    }

    /// Lets all vCPUs run.
    pub fn open(&self) {
        lock(&self.state).wish = Wish::Run;
        self.changed.notify_all();
    }

    /// Makes all vCPUs stand, and waits until they do.
    pub fn close(&self) {
        let mut state = lock(&self.state);
        state.wish = Wish::Stand;
        while state.standing.iter().any(|stands| !stands) {
            // A kick between a thread's look at the gate and its entry into the guest is lost; hence again.
            for thread in state.threads.iter().zip(&state.standing).filter(|(_, stands)| !**stands) {
                if let Some(thread) = thread.0 {
                    let _ = pthread_kill(*thread, KICK);
                }
            }
            let wait = Duration::from_millis(5);
            state = self.changed.wait_timeout(state, wait).unwrap_or_else(PoisonError::into_inner).0;
        }
    }

    fn should_stand(&self) -> bool {
        lock(&self.state).wish == Wish::Stand
    }

    fn stand(&self, id: usize) {
        let mut state = lock(&self.state);
        state.standing[id] = true;
        self.changed.notify_all();
        while state.wish == Wish::Stand {
            state = self.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
        state.standing[id] = false;
    }

    /// Stands until the gate was closed by the manager and opened again, even if it is open now.
    fn stand_until_reopened(&self, id: usize) {
        lock(&self.state).wish = Wish::Stand;
        self.stand(id);
    }

    fn enter(&self, id: usize) {
        lock(&self.state).threads[id] = Some(pthread_self());
    }
}

/// Installs the handler that lets a kick interrupt system calls. Once for the process.
///
/// # Errors
/// The system's refusal.
pub fn install_kick() -> Result<()> {
    extern "C" fn nothing(_: libc::c_int) {}
    let action = SigAction::new(SigHandler::Handler(nothing), SaFlags::empty(), SigSet::empty());
    // SAFETY: the handler does nothing, so it is safe whenever it runs.
    unsafe { sigaction(KICK, &action) }.map_err(Error::io("installing a signal handler"))?;
    Ok(())
}

/// The body of a vCPU's thread; it never returns. What the guest asks for is reported.
pub fn run(id: usize, vcpu: &Mutex<VcpuFd>, gate: &Gate, bus: &Bus, report: impl Fn(Exit)) {
    gate.enter(id);
    loop {
        gate.stand(id);
        let mut vcpu = lock(vcpu);
        let outcome = catch_unwind(AssertUnwindSafe(|| {
            run_until_stopped(&mut vcpu, gate, bus).and_then(|asked| Ok(asked.or(finish(&mut vcpu, bus)?)))
        }));
        drop(vcpu);
        let exit = match outcome {
            Ok(Ok(None)) => continue,
            Ok(Ok(Some(request))) => Exit::Request(request),
            Ok(Err(Stuck::TripleFault)) => Exit::TripleFault(id),
            Ok(Err(Stuck::Failed(why))) => Exit::Failed(id, why),
            Err(_) => Exit::Failed(id, "a device panicked".into()),
        };
        report(exit);
        gate.stand_until_reopened(id);
    }
}

/// Why `KVM_RUN` came back.
enum Step {
    /// For an access, which was served; the next entry finishes it in the guest.
    Served,
    /// For nothing that the guest did.
    Interrupted,
    /// The guest asks for this.
    Asked(Request),
}

/// Why a vCPU cannot go on.
enum Stuck {
    TripleFault,
    Failed(String),
}

fn step(vcpu: &mut VcpuFd, bus: &Bus) -> std::result::Result<Step, Stuck> {
    let failed = |why: String| Err(Stuck::Failed(why));
    match vcpu.run() {
        Ok(VcpuExit::IoIn(port, data)) => bus.port_read(port, data),
        Ok(VcpuExit::IoOut(port, data)) => {
            if let Some(request) = bus.port_write(port, data) {
                return Ok(Step::Asked(request));
            }
        }
        Ok(VcpuExit::MmioRead(address, data)) => bus.mmio_read(address, data),
        Ok(VcpuExit::MmioWrite(address, data)) => bus.mmio_write(address, data),
        Ok(VcpuExit::Shutdown) => return Err(Stuck::TripleFault),
        Ok(VcpuExit::Intr | VcpuExit::Hlt | VcpuExit::IrqWindowOpen) => return Ok(Step::Interrupted),
        Ok(VcpuExit::FailEntry(reason, _)) => {
            return failed(format!("KVM_EXIT_FAIL_ENTRY, reason {reason:#x}"));
        }
        Ok(VcpuExit::InternalError) => return failed(internal_error(vcpu)),
        Ok(other) => return failed(format!("unexpected exit {other:?}")),
        Err(e) if [libc::EINTR, libc::EAGAIN].contains(&e.errno()) => return Ok(Step::Interrupted),
        Err(e) => return failed(format!("KVM_RUN: {e}")),
    }
    Ok(Step::Served)
}

/// What KVM says of an error of its own: which kind, its particulars, and the instruction where it could not emulate one.
fn internal_error(vcpu: &mut VcpuFd) -> String {
    let run = vcpu.get_kvm_run();
    // SAFETY: the exit reason was KVM_EXIT_INTERNAL_ERROR, for which the kernel has filled this member; any bytes are
    // integers.
    let error = unsafe { run.__bindgen_anon_1.internal };
    let count = (error.ndata as usize).min(error.data.len());
    let mut text = format!("KVM_EXIT_INTERNAL_ERROR, suberror {}", error.suberror);
    if error.suberror == KVM_INTERNAL_ERROR_EMULATION {
        text += " (an instruction that KVM cannot emulate)";
        // The first word is flags; with the first of them, the second and third hold a length and the bytes.
        if count >= 3 && error.data[0] & u64::from(KVM_INTERNAL_ERROR_EMULATION_FLAG_INSTRUCTION_BYTES) != 0 {
            let words: Vec<u8> = error.data[1..3].iter().flat_map(|word| word.to_le_bytes()).collect();
            let len = usize::from(words[0]).min(words.len() - 1);
            text += ", instruction bytes";
            words[1..=len].iter().for_each(|byte| text += &format!(" {byte:02x}"));
            return text;
        }
    }
    error.data[..count].iter().for_each(|word| text += &format!(" {word:#x}"));
    text
}

fn run_until_stopped(
    vcpu: &mut VcpuFd,
    gate: &Gate,
    bus: &Bus,
) -> std::result::Result<Option<Request>, Stuck> {
    while !gate.should_stand() {
        if let Step::Asked(request) = step(vcpu, bus)? {
            return Ok(Some(request));
        }
    }
    Ok(None)
}

/// Finishes the access that was under way when the guest was stopped, by entering without running: a saved state would
/// repeat it, or lose it. One instruction may need several entries, for a string of ports or an access across two
/// pages; KVM bounds how many.
fn finish(vcpu: &mut VcpuFd, bus: &Bus) -> std::result::Result<Option<Request>, Stuck> {
    vcpu.set_kvm_immediate_exit(1);
    let finished = loop {
        match step(vcpu, bus) {
            Ok(Step::Served) => {}
            Ok(Step::Interrupted) => break Ok(None),
            Ok(Step::Asked(request)) => break Ok(Some(request)),
            Err(why) => break Err(why),
        }
    };
    vcpu.set_kvm_immediate_exit(0);
    finished
}

#[cfg(test)]
#[path = "thread_tests.rs"]
mod tests;
