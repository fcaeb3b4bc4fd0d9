//! The thread that owns the machine: starts it, obeys `init`, and answers what the guest asks for.

use super::{
    build::{Connections, Machine, lock},
    clock::Moment,
    service::{Service, ServiceHandle},
    state::MachineState,
};
use crate::{
    boot::Boot,
    cpu::thread::{self, Exit},
    devices::{
        block::Backend,
        bus::{Bus, Request},
        net::tap::Tap,
        power::BUTTON,
    },
    error::{Error, Result},
    jail,
    memory::{
        GuestRam,
        dirty::{DirtyBitmap, memfd_of},
        lazy,
    },
    planted,
    wire::guest::{GuestClient, Origin},
};
use kvm_ioctls::Kvm;
use parcel::wire::{
    WireError,
    vmm::{GuestState, Reply, Request as Command},
};
use std::{
    collections::VecDeque,
    os::{fd::AsFd, unix::net::UnixListener},
    path::PathBuf,
    sync::{
        Arc, Mutex, OnceLock,
        atomic::{AtomicU8, Ordering},
        mpsc::{Receiver, Sender},
    },
};
use userfaultfd::Uffd;

/// What the manager hears.
pub enum Event {
    /// `init` wants this; the number names who is to be answered.
    Command(u64, Command),
    /// A vCPU stopped.
    Exit(Exit),
}

/// How `init` sees the guest, kept for whoever answers it.
#[derive(Default)]
pub struct Shared {
    state: AtomicU8,
    /// A terminal size that was told before the machine was there.
    pub size: Mutex<Option<(u16, u16)>>,
    failure: Mutex<Option<WireError>>,
    /// The machine's bus, once there is one.
    bus: OnceLock<Arc<Bus>>,
}

const STATES: [GuestState; 5] = [
    GuestState::Starting,
    GuestState::Running,
    GuestState::Paused,
    GuestState::PoweredOff,
    GuestState::Failed,
];

impl Shared {
    /// The guest's state.
    pub fn state(&self) -> GuestState {
        STATES[self.state.load(Ordering::SeqCst) as usize % STATES.len()]
    }

    /// The guest's wall clock is wrong, and nothing in the guest is known to set it.
    pub fn clock_behind(&self) -> bool {
        self.bus.get().is_some_and(|bus| lock(&bus.com2).behind())
    }

    /// The guest is in another state.
    pub fn set(&self, state: GuestState) {
        let index = STATES.iter().position(|s| *s == state).unwrap_or(0);
        self.state.store(index as u8, Ordering::SeqCst);
    }

    /// Why the guest failed, if it did.
    pub fn failure(&self) -> Option<WireError> {
        lock(&self.failure).clone().filter(|_| self.state() == GuestState::Failed)
    }

    fn fail(&self, why: WireError) {
        *lock(&self.failure) = Some(why);
        self.set(GuestState::Failed);
    }
}

/// What the manager needs to begin.
pub struct Settings {
    /// Where `cached` tells of the machine.
    pub guest_socket: PathBuf,
    /// The console's socket.
    pub console: UnixListener,
    /// The network's tap; none: the link is down.
    pub tap: Option<String>,
    /// What the manager hears.
    pub events: Receiver<Event>,
    /// For the vCPU threads.
    pub sender: Sender<Event>,
    /// Takes the answers to commands.
    pub answer: Box<dyn Fn(u64, Reply) + Send>,
    /// For whoever answers `init`.
    pub shared: Arc<Shared>,
}

struct Manager {
    events: Receiver<Event>,
    /// Commands that came while the guest was made to stand.
    waiting: VecDeque<Event>,
    /// What the guest asked for just before it was made to stand.
    asked: Option<Request>,
    machine: Machine,
    client: GuestClient,
    service: ServiceHandle,
    shared: Arc<Shared>,
    boot: Option<Boot>,
    restarts: u32,
    /// Why a vCPU cannot go on, until the others stand.
    failed: Option<Error>,
    changed: DirtyBitmap,
    /// When the guest was last made to stand.
    stood: Option<Moment>,
    /// Kept open for as long as the guest lives; see [`lazy::register`].
    _faults: Option<Uffd>,
}

/// Starts the machine and steers it; returns only with an error.
///
/// # Errors
/// A machine that cannot be started, or a thread that ended.
pub fn run(settings: Settings) -> Result<()> {
    let Settings { guest_socket, console, tap, events, sender, answer, shared } = settings;
    let mut client = GuestClient::connect(&guest_socket)?;
    let described = client.describe()?;
    let kvm = Kvm::new().map_err(Error::NoKvm)?;
    let ram = GuestRam::new(described.machine.memory_mib)?;
    let connections = Connections {
        tap: tap.as_deref().map(Tap::open).transpose()?,
        disk: match described.disk_socket.as_str() {
            "" => None,
            path => Some(Backend::connect(path, &ram)?),
        },
    };
    let (saved, mut boot) = match described.origin {
        Origin::Cold(boot) => (None, Some(boot)),
        Origin::Restore(bytes) => (Some(MachineState::from_bytes(&bytes, &described.machine)?), None),
    };
    let changed = DirtyBitmap::new(ram.bytes());
    let machine = Machine::build(&kvm, &described.machine, ram, connections, saved.as_ref())?;
    let mut faults = None;
    match (&saved, &mut boot) {
        (Some(saved), _) => {
            // Everything that can be refused is refused before the memory is fetched.
            machine.check_state(saved)?;
            let uffd = lazy::register(&machine.ram)?;
            client.memory(&machine.ram, Some(uffd.as_fd()))?;
            faults = Some(uffd);
            machine.restore_state(saved)?;
        }
        (None, boot) => {
            client.memory(&machine.ram, None)?;
            if let Some(boot) = boot {
                machine.load(boot)?;
            }
        }
    }
    // Nobody else sets it.
    let _ = shared.bus.set(Arc::clone(&machine.bus));
    let restored = saved.is_some();
    let (service, handle) = Service::new(Arc::clone(&machine.devices), console)?;
    let mut manager = Manager {
        events,
        waiting: VecDeque::new(),
        asked: None,
        machine,
        client,
        service: handle,
        shared,
        boot,
        restarts: 0,
        failed: None,
        changed,
        stood: saved.map(|s| s.stood),
        _faults: faults,
    };
    manager.spawn(service, &sender)?;
    jail::enter(jail::Kind::Manager)?;
    manager.begin(restored)?;
    while let Some(event) = manager.waiting.pop_front().or_else(|| manager.events.recv().ok()) {
        match event {
            Event::Command(who, command) => {
                let reply = match crate::caught(|| manager.obey(command)) {
                    Ok(()) => Reply::Ok,
                    Err(e) => {
                        tracing::error!("{e}");
                        Reply::Error(e.to_wire())
                    }
                };
                answer(who, reply);
            }
            Event::Exit(exit) => {
                if let Err(e) = crate::caught(|| manager.exited(exit)) {
                    tracing::error!("{e}");
                    if manager.shared.state() != GuestState::PoweredOff && manager.shared.failure().is_none()
                    {
                        manager.fail(&e);
                    }
                }
            }
        }
    }
    Err(Error::Thread("nobody steers the machine any more".into()))
}

impl Manager {
    fn spawn(&self, service: Service, sender: &Sender<Event>) -> Result<()> {
        thread::install_kick()?;
        crate::spawn("devices", move || {
            jail::enter(jail::Kind::Devices)?;
            service.run()?;
            Err(Error::Thread("the device service ended".into()))
        })?;
        for (id, vcpu) in self.machine.vcpus.iter().cloned().enumerate() {
            let (gate, bus, sender) =
                (Arc::clone(&self.machine.gate), Arc::clone(&self.machine.bus), sender.clone());
            crate::spawn(&format!("vcpu{id}"), move || {
                jail::enter(jail::Kind::Vcpu)?;
                // A send fails only when the manager has ended, and with it the process.
                thread::run(id, &vcpu, &gate, &bus, |exit| drop(sender.send(Event::Exit(exit))));
                Err(Error::Thread(format!("vCPU {id} ended")))
            })?;
        }
        Ok(())
    }

    fn begin(&mut self, restored: bool) -> Result<()> {
        self.take_size();
        if restored {
            lock(&self.machine.devices.net).reconfigure(|net| net.ask_to_announce());
        }
        self.let_go(restored)?;
        // One that was told meanwhile: from now on sizes come as commands.
        self.take_size();
        tracing::info!(restored, "the guest runs");
        Ok(())
    }

    fn take_size(&self) {
        let told = lock(&self.shared.size).take();
        if let Some((cols, rows)) = told {
            lock(&self.machine.devices.console).reconfigure(|c| c.resize(cols, rows));
        }
    }

    fn let_go(&mut self, restored: bool) -> Result<()> {
        self.machine.devices.resume(restored);
        self.service.resume();
        // Last: what passes between this and the gate, the guest takes for time that it ran.
        if let Some(stood) = self.stood {
            self.machine.go_on_from(stood)?;
        }
        self.stood = None;
        self.machine.gate.open();
        self.shared.set(GuestState::Running);
        Ok(())
    }

    fn obey(&mut self, command: Command) -> Result<()> {
        if matches!(command, Command::PowerButton) {
            planted::here("manager");
        }
        match (command, self.shared.state()) {
            (Command::ConsoleSize { cols, rows }, _) => {
                lock(&self.machine.devices.console).reconfigure(|c| c.resize(cols, rows));
                Ok(())
            }
            (Command::Pause, GuestState::Running | GuestState::Paused | GuestState::Failed) => self.pause(),
            (Command::Resume, GuestState::Paused | GuestState::Failed) => self.resume(),
            (Command::Resume, GuestState::Running) => Ok(()),
            (Command::Save, GuestState::Running | GuestState::Paused | GuestState::Failed) => self.save(),
            // `cached` was told: there is no memory to take.
            (Command::Save, GuestState::PoweredOff) => Ok(()),
            (Command::PowerButton, GuestState::Running) => {
                lock(&self.machine.bus.power).notify(BUTTON);
                Ok(())
            }
            (command, state) => Err(Error::Protocol {
                peer: "init",
                what: format!("{command:?} cannot be done while the guest is {state:?}"),
            }),
        }
    }

    fn exited(&mut self, exit: Exit) -> Result<()> {
        match exit {
            Exit::Request(Request::PowerOff) => self.power_off(),
            Exit::Request(Request::Reset) => self.restart(),
            stuck @ (Exit::TripleFault(_) | Exit::Failed(..)) => {
                let asked = self.stuck(stuck);
                self.pause()?;
                if asked && self.shared.state() == GuestState::Paused {
                    self.restart()?;
                }
                Ok(())
            }
        }
    }

    /// Notes that a vCPU cannot go on, with where it stands; `true`: it is how the guest restarts.
    fn stuck(&mut self, exit: Exit) -> bool {
        let (id, why) = match exit {
            Exit::TripleFault(id) => (id, "triple fault".to_owned()),
            Exit::Failed(id, why) => (id, why),
            Exit::Request(_) => return false,
        };
        let (regs, sregs) = {
            let vcpu = lock(&self.machine.vcpus[id]);
            (vcpu.get_regs(), vcpu.get_sregs())
        };
        if let ("triple fault", Ok(sregs), Ok(regs)) = (&why[..], &sregs, &regs) {
            // A PC that is to restart by all means is given an empty table of interrupts and made to fault. Some KVMs put
            // the vCPU back to power-on before they tell: then nothing is left that could be saved.
            if sregs.idt.limit == 0 || (regs.rip, sregs.cs.selector) == (0xfff0, 0xf000) {
                tracing::warn!("vCPU {id}: the guest restarts by a triple fault");
                return true;
            }
        }
        let at = regs
            .map_or_else(|e| format!("its registers cannot be read: {e}"), |r| format!("RIP {:#x}", r.rip));
        let cs = sregs.map_or_else(|_| String::new(), |s| format!(", CS {:#x}, CR0 {:#x}", s.cs.base, s.cr0));
        tracing::error!("vCPU {id} cannot go on: {why}; {at}{cs}");
        self.failed = Some(Error::Guest(format!("vCPU {id}: {why}")));
        false
    }

    /// The guest stands for good, unless somebody lets it try again.
    fn fail(&mut self, why: &Error) {
        self.machine.gate.close();
        self.shared.fail(why.to_wire());
    }

    /// vCPUs first: they are what gives the devices work. Does no harm to a guest that stands already.
    fn stand(&mut self) -> Result<()> {
        self.machine.gate.close();
        // At once: what passes until the disk has answered must not count as time that the guest ran.
        if self.stood.is_none() {
            self.stood = Some(self.machine.moment()?);
        }
        // Every vCPU has reported before it stood; what it asked for comes before any command that is still waiting.
        while let Ok(event) = self.events.try_recv() {
            match event {
                Event::Exit(Exit::Request(request)) if self.asked != Some(Request::PowerOff) => {
                    self.asked = Some(request);
                }
                Event::Exit(Exit::Request(_)) => {}
                Event::Exit(stuck) => {
                    if self.stuck(stuck) && self.asked.is_none() {
                        self.asked = Some(Request::Reset);
                    }
                }
                command @ Event::Command(..) => self.waiting.push_back(command),
            }
        }
        self.service.pause();
        self.machine.devices.stop()
    }

    /// A guest that was about to power off or to restart does so first: saved on its way there, it would come back as a
    /// machine that waits for ever for its own end, or be let go behind the back of whoever had it saved.
    fn pause(&mut self) -> Result<()> {
        let stopped = self.stand();
        if self.shared.state() == GuestState::Running {
            self.shared.set(GuestState::Paused);
        }
        if let Some(why) = self.failed.take() {
            self.shared.fail(why.to_wire());
        }
        stopped?;
        match self.asked.take() {
            Some(Request::PowerOff) => self.power_off(),
            Some(Request::Reset) => self.start_anew(),
            None => Ok(()),
        }
    }

    fn resume(&mut self) -> Result<()> {
        match self.asked.take() {
            Some(Request::PowerOff) => self.power_off(),
            Some(Request::Reset) => self.restart(),
            None => self.let_go(false),
        }
    }

    fn save(&mut self) -> Result<()> {
        // Also when it stands: a disk that did not give its queue back must do so before it is saved.
        self.pause()?;
        if self.shared.state() == GuestState::PoweredOff {
            return Ok(());
        }
        let stood = self.stood.map_or_else(|| self.machine.moment(), Ok)?;
        let state = crate::caught(|| self.machine.save_state(stood)?.to_bytes());
        let state = state.map_err(|e| Error::Unreadable(e.to_string()))?;
        self.machine.changed_pages(&mut self.changed)?;
        tracing::info!(state = state.len(), pages = self.changed.count(), "saving");
        let model = self.machine.model.number();
        self.client.save(&memfd_of(c"guest-state", &state)?, &self.changed.to_memfd()?, model)
    }

    fn power_off(&mut self) -> Result<()> {
        tracing::info!("the guest powered off");
        let stopped = self.stand();
        let told = self.client.powered_off();
        self.shared.set(GuestState::PoweredOff);
        self.asked = None;
        stopped.and(told)
    }

    fn restart(&mut self) -> Result<()> {
        self.stand()?;
        if self.asked.take() == Some(Request::PowerOff) {
            return self.power_off();
        }
        self.start_anew()?;
        if self.shared.state() == GuestState::PoweredOff {
            return Ok(());
        }
        self.stood = None;
        self.let_go(false)
    }

    /// The guest, which stands, starts again: the same machine, from its kernel, which one that was restored must ask for.
    /// A guest whose kernel cannot be had is off: its disk is whole, and it starts from there the next time.
    fn start_anew(&mut self) -> Result<()> {
        self.restarts = self.restarts.saturating_add(1);
        // Ever more rarely: a guest that does nothing else must not fill the kiosk's log.
        if self.restarts.is_power_of_two() {
            tracing::info!(times = self.restarts, "the guest restarts");
        }
        let boot = self.boot.take().map_or_else(|| self.client.kernel(), Ok);
        let loaded = boot.and_then(|mut boot| {
            self.machine.reset()?;
            self.machine.load(&mut boot)?;
            Ok(boot)
        });
        match loaded {
            Ok(boot) => self.boot = Some(boot),
            Err(e) => {
                tracing::warn!("the guest cannot restart: {e}");
                return self.power_off();
            }
        }
        Ok(())
    }
}
