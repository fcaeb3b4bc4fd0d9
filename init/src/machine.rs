//! The real machine behind [`System`].

use crate::{
    calls::Calls,
    child::Program,
    client::connect,
    clock,
    config::Config,
    control::Control,
    diagnosis::Doctor,
    helper,
    keyboard::Keyboard,
    lockdown,
    log::Log,
    media, net,
    service::Service,
    session,
    system::{Event, Live, Role, Sign, System, Ticket},
    tty,
    wall::Keeper,
    wipe::{self, Evidence, Outcome, Scene, Watchdog},
};
use parcel::{
    tag::Inventory,
    wire::{
        Code, WireError, daemon, kiosk,
        session::{self as session_wire, State, WipeCheck},
        users,
        vmm::{self, GuestState},
    },
};
use serde::{Serialize, de::DeserializeOwned};
use sockets::names;
use std::{
    collections::BTreeMap,
    fs, io,
    path::{Path, PathBuf},
    sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel},
    time::Duration,
};

/// What a crashed manager leaves; only root reads it.
const LIVE: &str = "/run/init/live.json";
const INVENTORY_LIMIT: Duration = Duration::from_secs(60);

/// An event, and which run of which program it is of: what a killed program still sent must not be taken for its
/// successor's.
pub struct Tagged {
    run: Option<(Role, u64)>,
    event: Event,
}

/// The kiosk's hardware, kernel and programs.
pub struct Machine {
    config: Config,
    /// Folder of the sockets.
    run: PathBuf,
    log: Log,
    control: Control,
    events: Sender<Tagged>,
    queue: Receiver<Tagged>,
    services: BTreeMap<Role, (u64, Service)>,
    /// The cache was made since the last wipe.
    cache_made: bool,
    dnsmasq: Option<Service>,
    calls: Calls,
    next: u64,
    before: Evidence,
    outcome: Outcome,
    keyboard: Option<Keyboard>,
    wall: Keeper,
    doctor: Doctor,
}

impl Machine {
    /// Takes over a machine that has booted.
    pub fn new(
        config: Config,
        log: Log,
        control: Control,
        before: Evidence,
        wall: Keeper,
        doctor: Doctor,
    ) -> Self {
        let (events, queue) = channel();
        let image = &config.kiosk;
        let keyboard = Keyboard::of(&image.console, &image.keymap, Path::new(kiosk::KEYMAPS_PATH), &log);
        Self {
            config,
            run: PathBuf::from(kiosk::RUN),
            log,
            control,
            events,
            queue,
            services: BTreeMap::new(),
            cache_made: false,
            dnsmasq: None,
            calls: Calls::default(),
            next: 1,
            before,
            outcome: Outcome::default(),
            keyboard,
            wall,
            doctor,
        }
    }

    /// Where commands and network changes go in.
    pub fn teller(&self) -> impl Fn(Event) -> bool + Clone + Send + 'static {
        let events = self.events.clone();
        move |event| events.send(Tagged { run: None, event }).is_ok()
    }

    fn ticket(&mut self) -> Ticket {
        self.next += 1;
        self.next
    }

    fn scene(&self) -> Scene<'_> {
        Scene { config: &self.config, log: &self.log }
    }

    fn program(&self, role: Role) -> io::Result<Program<'static>> {
        let run = |name: &str| format!("{}/{name}", kiosk::RUN);
        Ok(match role {
            Role::Cached => Program {
                path: "/usr/bin/cached",
                args: [
                    ["--run-dir", kiosk::RUN],
                    ["--cache-dir", kiosk::CACHE],
                    ["--server", &self.config.kiosk.server_url],
                    ["--ca", kiosk::CA_PATH],
                    ["--zstd-level", &self.config.kiosk.cache.zstd_level.to_string()],
                ]
                .concat()
                .into_iter()
                .map(str::to_owned)
                .collect(),
                user: users::CACHED.id,
                terminal: None,
                oom: -500,
            },
            Role::KioskUi => Program {
                path: "/usr/bin/kiosk-ui",
                args: ["--config", kiosk::PATH, "--run-dir", kiosk::RUN].map(str::to_owned).to_vec(),
                user: users::KIOSK_UI.id,
                terminal: Some((
                    tty::open_console(&self.config.kiosk.console)?,
                    tty::term(&self.config.kiosk.console),
                )),
                oom: -200,
            },
            Role::Vmm => Program {
                path: "/usr/bin/vmm",
                args: [
                    "run".to_owned(),
                    "--guest-socket".to_owned(),
                    run(names::GUEST),
                    "--control-socket".to_owned(),
                    run(names::VMM),
                    "--console-socket".to_owned(),
                    run(names::CONSOLE),
                    "--tap".to_owned(),
                    net::guest::TAP.to_owned(),
                ]
                .to_vec(),
                user: users::VMM.id,
                terminal: None,
                oom: 100,
            },
        })
    }

    /// Runs `work` in a thread and sends what it gives as an event of the current run of `role`.
    fn in_background(&mut self, role: Role, work: impl FnOnce() -> Event + Send + 'static) {
        let run = self.services.get(&role).map(|(run, _)| (role, *run));
        let events = self.events.clone();
        let thread = std::thread::Builder::new().name(format!("ask {}", role.name()));
        let started = thread.spawn(move || events.send(Tagged { run, event: work() }));
        if let Err(error) = started {
            self.log.line("init", &format!("no thread to ask {}: {error}", role.name()));
        }
    }

    /// Asks the program `role` at its socket; the request can be hung up on by [`System::cancel`].
    fn ask<Q: Serialize + Send + 'static, A: DeserializeOwned + 'static>(
        &mut self,
        role: Role,
        socket: &str,
        request: Q,
        event: fn(Ticket, io::Result<A>) -> Event,
    ) -> Ticket {
        let ticket = self.ticket();
        let alive = self.services.get(&role).map(|(_, service)| service.alive());
        let (calls, socket) = (self.calls.clone(), self.run.join(socket));
        calls.begin(ticket);
        self.in_background(role, move || {
            let alive = || alive.as_ref().is_some_and(|alive| alive());
            event(ticket, calls.ask(ticket, &socket, &request, alive))
        });
        ticket
    }

    /// Whether an event is of a program that still runs, or of none.
    fn is_current(&self, tagged: &Tagged) -> bool {
        match tagged.run {
            None => true,
            Some((role, run)) => self.services.get(&role).is_some_and(|(current, _)| *current == run),
        }
    }
}

impl System for Machine {
    fn now(&mut self) -> Duration {
        clock::since_boot()
    }

    fn log(&mut self, line: &str) {
        self.log.line("init", line);
    }

    fn publish(&mut self, state: &State) {
        self.control.publish(state);
    }

    fn next_event(&mut self, until: Option<Duration>) -> Option<Event> {
        loop {
            let tagged = match until {
                Some(until) => match self.queue.recv_timeout(until.saturating_sub(clock::since_boot())) {
                    Ok(tagged) => tagged,
                    Err(RecvTimeoutError::Timeout | RecvTimeoutError::Disconnected) => return None,
                },
                None => self.queue.recv().ok()?,
            };
            if !self.is_current(&tagged) {
                continue;
            }
            if let Event::Exited { role, .. } = &tagged.event {
                self.services.remove(role);
            }
            return Some(tagged.event);
        }
    }

    fn prepare(&mut self) -> Result<(), WireError> {
        let error = |code: Code, what: &str, error: io::Error| {
            WireError::new(
                code,
                format!("This kiosk cannot take a session: {what}: {error}. Please call its owner."),
            )
        };
        if let Some(wrong) = &self.config.wrong {
            return Err(WireError::new(
                Code::BadConfig,
                format!("This kiosk's image cannot be used: {wrong}."),
            ));
        }
        lockdown::devices();
        let _watchdog = Watchdog::start("making the cache", &self.log);
        if !self.cache_made {
            media::mount_cache(&self.config.kiosk.cache, Path::new(kiosk::CACHE), &self.log)
                .map_err(|e| error(Code::NoCache, "its cache does not work", e))?;
            self.cache_made = true;
        }
        net::guest::set_up()
            .map_err(|e| error(Code::NoGuestNetwork, "its guest network does not work", e))?;
        if self.dnsmasq.is_none() {
            let leases = format!("{}/dnsmasq.leases", kiosk::RUN);
            let log = self.log.clone();
            let service =
                Service::keep("dnsmasq", self.log.clone(), move || net::guest::dnsmasq(&leases, &log))
                    .map_err(|e| error(Code::NoGuestNetwork, "dnsmasq does not start", e))?;
            self.dnsmasq = Some(service);
        }
        Ok(())
    }

    fn start(&mut self, role: Role) -> Result<(), WireError> {
        self.stop(role);
        let code = match role {
            Role::Cached => Code::CachedMissing,
            Role::KioskUi => Code::KioskUiMissing,
            Role::Vmm => Code::VmmMissing,
        };
        let failed = |error: io::Error| {
            WireError::new(code, format!("This kiosk's program {} does not start: {error}.", role.name()))
        };
        let child =
            self.program(role).and_then(|program| program.spawn(role.name(), &self.log)).map_err(failed)?;
        let run = self.ticket();
        let events = self.events.clone();
        let service = Service::watch(role.name(), child, move |how| {
            let _ = events.send(Tagged { run: Some((role, run)), event: Event::Exited { role, how } });
        })
        .map_err(failed)?;
        let alive = service.alive();
        self.services.insert(role, (run, service));
        let events = self.events.clone();
        let tell = move |event| events.send(Tagged { run: Some((role, run)), event }).is_ok();
        let (cached, vmm) = (self.run.join(names::CACHED), self.run.join(names::VMM));
        let watched =
            std::thread::Builder::new().name(format!("watch {}", role.name())).spawn(move || match role {
                Role::Cached => watch_cached(&cached, &alive, &tell),
                Role::Vmm => watch_vmm(&vmm, &alive, &tell),
                Role::KioskUi => {}
            });
        watched.map(|_| ()).map_err(failed)
    }

    fn stop(&mut self, role: Role) {
        if let Some((_, service)) = self.services.remove(&role) {
            service.end();
        }
    }

    fn inventory(&mut self) -> Ticket {
        let ticket = self.ticket();
        self.in_background(Role::Cached, move || Event::Inventory(ticket, inventory()));
        ticket
    }

    fn ask_cached(&mut self, request: daemon::Request) -> Ticket {
        self.ask(Role::Cached, names::CACHED, request, |ticket, reply| {
            Event::Cached(ticket, reply.map_err(|error| session::cached_died(&error.to_string())))
        })
    }

    fn ask_vmm(&mut self, request: vmm::Request) -> Ticket {
        self.ask(Role::Vmm, names::VMM, request, |ticket, reply| {
            Event::Vmm(ticket, reply.map_err(|error| session::vmm_died(&error.to_string())))
        })
    }

    fn cancel(&mut self) {
        self.calls.cancel();
    }

    fn remember(&mut self, live: Option<&Live>) {
        let done = match live.map(serde_json::to_vec) {
            // Over the last one only when it is whole: a full memory file system must not leave half a fact.
            Some(Ok(json)) => {
                let fresh = format!("{LIVE}.new");
                fs::write(&fresh, json).and_then(|()| fs::rename(&fresh, LIVE))
            }
            Some(Err(error)) => Err(error.into()),
            None => match fs::remove_file(LIVE) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
                _ => Ok(()),
            },
        };
        if let Err(error) = done {
            self.log.line("init", &format!("{LIVE} cannot be kept: {error}"));
        }
    }

    fn recall(&mut self) -> Option<Live> {
        serde_json::from_slice(&fs::read(LIVE).ok()?).ok()
    }

    fn wipe(&mut self) {
        let began = clock::since_boot();
        let watchdog = Watchdog::start("the wipe", &self.log);
        if !watchdog.watches() {
            self.log.line("wipe", "nobody watches whether it ends");
        }
        self.cache_made = false;
        self.calls.cancel();
        self.stop(Role::KioskUi);
        // The traveller sees this and nothing else until the screens are back.
        let _ = tty::show(&self.config.kiosk.console, "\r\n  Wiping this kiosk. Please wait a moment.\r\n");
        self.control.disconnect();
        self.stop(Role::Vmm);
        self.stop(Role::Cached);
        if let Some(dnsmasq) = self.dnsmasq.take() {
            dnsmasq.end();
        }
        wipe::tell_if_long(&self.log, "end the session's programs", began);
        self.outcome = wipe::destroy(&self.scene());
        // Events of the session are over with it; only those of the kiosk itself outlive it.
        let of_kiosk = |tagged: &Tagged| {
            matches!(
                tagged.event,
                Event::Network(_) | Event::Refused(_) | Event::Clock(_) | Event::Sign(Sign::Powered)
            )
        };
        let kept: Vec<Tagged> = self.queue.try_iter().filter(of_kiosk).collect();
        for tagged in kept {
            let _ = self.events.send(tagged);
        }
    }

    fn set_keyboard(&mut self, layout: Option<&str>) -> Option<session_wire::Keyboard> {
        let keyboard = self.keyboard.as_mut()?;
        keyboard.choose(layout, &self.log);
        Some(keyboard.state())
    }

    fn hold_clock(&mut self, held: bool) {
        self.wall.hold(held);
    }

    fn diagnose(&mut self) {
        let events = self.events.clone();
        self.doctor.examine(move |found| {
            let _ = events.send(Tagged { run: None, event: Event::Diagnosis(Box::new(found)) });
        });
    }

    fn verify(&mut self) -> Vec<WipeCheck> {
        let _watchdog = Watchdog::start("the verification of the wipe", &self.log);
        wipe::verify(&self.outcome, self.before)
    }
}

/// `vmm inventory`, as the VMM's own user, so that it sees what the VMM would see.
fn inventory() -> Result<Inventory, WireError> {
    let failed = |why: String| {
        WireError::new(Code::NoInventory, format!("This kiosk's hardware could not be measured: {why}."))
    };
    let program = Program {
        path: "/usr/bin/vmm",
        args: vec!["inventory".to_owned()],
        user: users::VMM.id,
        terminal: None,
        oom: 0,
    };
    // A hardware probe that hangs must not hang the kiosk.
    let output = program
        .command()
        .and_then(|mut command| helper::output(&mut command, b"", INVENTORY_LIMIT))
        .map_err(|error| failed(error.to_string()))?;
    if !output.status.success() {
        let said = String::from_utf8_lossy(&output.stderr);
        return Err(failed(said.lines().next_back().unwrap_or("the probe ended without a word").to_owned()));
    }
    serde_json::from_slice(&output.stdout).map_err(|e| failed(e.to_string()))
}

/// Passes on what `cached` tells of itself, for as long as it lives.
fn watch_cached(socket: &Path, alive: &impl Fn() -> bool, tell: &impl Fn(Event) -> bool) {
    while alive() {
        let Ok(mut server) = connect(socket, alive) else { return };
        if server.send(&daemon::Request::Watch).is_err() {
            continue;
        }
        while let Ok(reply) = server.receive() {
            if let daemon::Reply::Status(status) = reply
                && !tell(Event::Status(status))
            {
                return;
            }
        }
        std::thread::sleep(Duration::from_millis(200));
    }
}

/// Asks the VMM twice a second how its guest is, and passes on what changed.
fn watch_vmm(socket: &Path, alive: &impl Fn() -> bool, tell: &impl Fn(Event) -> bool) {
    let mut last: Option<GuestState> = None;
    let mut was_behind = false;
    while alive() {
        let Ok(mut server) = connect(socket, alive) else { return };
        while server.send(&vmm::Request::Status).is_ok() {
            match server.receive() {
                Ok(vmm::Reply::Status { state, failure, clock_behind }) => {
                    let news = last.replace(state) != Some(state);
                    if news && !tell(Event::Guest(state)) {
                        return;
                    }
                    if let (true, Some(why)) = (news, failure)
                        && !tell(Event::GuestFailed(why))
                    {
                        return;
                    }
                    let changed = std::mem::replace(&mut was_behind, clock_behind) != clock_behind;
                    if changed && !tell(Event::ClockBehind(clock_behind)) {
                        return;
                    }
                }
                Ok(_) => {}
                Err(_) => break,
            }
            std::thread::sleep(Duration::from_millis(500));
        }
        std::thread::sleep(Duration::from_millis(200));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        cmdline::Cmdline,
        net::{probe::Prober, view::Links},
        wall,
    };
    use sockets::{Error, blocking::Connection};
    use std::os::unix::net::UnixListener;

    #[test]
    fn whoever_was_asked_sees_that_it_is_given_up() {
        let folder = tempfile::tempdir().unwrap();
        let config = Config::from(Err("none".into()), Cmdline::default());
        let log = Log::open(folder.path(), None);
        let wall = Keeper::new(wall::Kernel, Some(0), log.clone());
        let doctor =
            Doctor::new(&config.kiosk, "", Prober::new(Path::new("/init")), Links::default(), &wall, &log);
        let mut machine = Machine::new(config, log, Control::default(), Evidence::default(), wall, doctor);
        machine.run = folder.path().to_owned();
        let listeners =
            [names::CACHED, names::VMM].map(|name| UnixListener::bind(folder.path().join(name)).unwrap());
        machine.ask_cached(daemon::Request::Commit);
        machine.ask_vmm(vmm::Request::Save);
        let mut asked = listeners.map(|listener| Connection::new(listener.accept().unwrap().0));
        for server in &mut asked {
            server.receive::<serde_json::Value>().unwrap();
        }
        machine.cancel();
        for server in &mut asked {
            assert!(matches!(server.receive::<serde_json::Value>(), Err(Error::Closed)));
        }
    }
}
