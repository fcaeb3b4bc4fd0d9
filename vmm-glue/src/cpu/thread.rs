//! The thread of a vCPU: runs the guest, hands port and memory accesses to the devices, and stands when told.

use crate::{
    devices::bus::{Bus, Request},
    error::{Error, Result},
};
use kvm_ioctls::{VcpuExit, VcpuFd};
use nix::sys::{
    pthread::{Pthread, pthread_kill, pthread_self},
    signal::{SaFlags, SigAction, SigHandler, SigSet, Signal, sigaction},
};
use std::{
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
    /// The vCPU cannot go on.
    Failed(String),
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
        let outcome =
            run_until_stopped(&mut vcpu, gate, bus).and_then(|asked| Ok(asked.or(finish(&mut vcpu, bus)?)));
        drop(vcpu);
        let exit = match outcome {
            Ok(None) => continue,
            Ok(Some(request)) => Exit::Request(request),
            Err(why) => Exit::Failed(format!("vCPU {id}: {why}")),
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

fn step(vcpu: &mut VcpuFd, bus: &Bus) -> std::result::Result<Step, String> {
    match vcpu.run() {
        Ok(VcpuExit::IoIn(port, data)) => bus.port_read(port, data),
        Ok(VcpuExit::IoOut(port, data)) => {
            if let Some(request) = bus.port_write(port, data) {
                return Ok(Step::Asked(request));
            }
        }
        Ok(VcpuExit::MmioRead(address, data)) => bus.mmio_read(address, data),
        Ok(VcpuExit::MmioWrite(address, data)) => bus.mmio_write(address, data),
        // A triple fault is how a PC restarts when all else fails.
        Ok(VcpuExit::Shutdown) => return Ok(Step::Asked(Request::Reset)),
        Ok(VcpuExit::Intr | VcpuExit::Hlt | VcpuExit::IrqWindowOpen) => return Ok(Step::Interrupted),
        Ok(VcpuExit::FailEntry(reason, _)) => return Err(format!("entry failed with {reason:#x}")),
        Ok(VcpuExit::InternalError) => return Err("KVM met an instruction that it cannot emulate".into()),
        Ok(other) => return Err(format!("unexpected exit {other:?}")),
        Err(e) if [libc::EINTR, libc::EAGAIN].contains(&e.errno()) => return Ok(Step::Interrupted),
        Err(e) => return Err(format!("KVM_RUN: {e}")),
    }
    Ok(Step::Served)
}

fn run_until_stopped(
    vcpu: &mut VcpuFd,
    gate: &Gate,
    bus: &Bus,
) -> std::result::Result<Option<Request>, String> {
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
fn finish(vcpu: &mut VcpuFd, bus: &Bus) -> std::result::Result<Option<Request>, String> {
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
