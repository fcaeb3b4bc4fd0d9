//! The thread that serves the in-process devices: their queues, the tap, and the watchers of the console.

use super::build::{Devices, lock};
use crate::{
    devices::console::socket::{Typed, Watchers},
    error::{Error, Result},
};
use std::{
    os::{fd::AsRawFd, unix::net::UnixListener},
    sync::{
        Arc,
        mpsc::{Receiver, Sender, channel},
    },
};
use vmm_sys_util::{
    epoll::{ControlOperation, Epoll, EpollEvent, EventSet},
    eventfd::{EFD_NONBLOCK, EventFd},
};

const WAKE: u64 = 0;
const TAP: u64 = 1;
const NET: u64 = 0x100;
const CONSOLE: u64 = 0x200;
const RNG: u64 = 0x300;
const WATCHERS: u64 = 0x1_0000;

enum Command {
    /// Stand until [`Command::Resume`]; the sender is told when it stands.
    Pause(Sender<()>),
    Resume,
}

/// The handle by which the manager stops and resumes the thread.
pub struct ServiceHandle {
    commands: Sender<Command>,
    wake: EventFd,
}

impl ServiceHandle {
    /// Makes the thread stand, and waits until it does.
    pub fn pause(&self) {
        let (told, stands) = channel();
        if self.commands.send(Command::Pause(told)).is_ok() && self.wake.write(1).is_ok() {
            // An error means that the thread has ended, and with it the process soon.
            let _ = stands.recv();
        }
    }

    /// Lets the thread go on.
    pub fn resume(&self) {
        let _ = self.commands.send(Command::Resume);
    }
}

/// The thread's own side.
pub struct Service {
    epoll: Epoll,
    wake: EventFd,
    commands: Receiver<Command>,
    devices: Arc<Devices>,
    watchers: Watchers,
}

impl Service {
    /// Prepares to serve; the thread begins by standing.
    ///
    /// # Errors
    /// The system's refusal.
    pub fn new(devices: Arc<Devices>, console: UnixListener) -> Result<(Self, ServiceHandle)> {
        let failed = || Error::io("preparing to serve the devices");
        let epoll = Epoll::new().map_err(failed())?;
        let wake = EventFd::new(EFD_NONBLOCK).map_err(failed())?;
        let (sender, commands) = channel();
        let add = |fd, token, set| {
            epoll.ctl(ControlOperation::Add, fd, EpollEvent::new(set, token)).map_err(failed())
        };
        add(wake.as_raw_fd(), WAKE, EventSet::IN)?;
        macro_rules! queues {
            ($device:ident, $base:expr) => {
                for (kick, token) in lock(&devices.$device).kicks().iter().zip($base..) {
                    add(kick.as_raw_fd(), token, EventSet::IN)?;
                }
            };
        }
        queues!(net, NET);
        queues!(console, CONSOLE);
        queues!(rng, RNG);
        if let Some(tap) = lock(&devices.net).device().tap() {
            // By edges: a frame that finds no buffer waits for the guest's next notification.
            add(tap.as_raw_fd(), TAP, EventSet::IN | EventSet::EDGE_TRIGGERED)?;
        }
        let watchers = Watchers::new(console, WATCHERS, &epoll)?;
        let handle = ServiceHandle { commands: sender, wake: wake.try_clone().map_err(failed())? };
        Ok((Self { epoll, wake, commands, devices, watchers }, handle))
    }

    /// Serves until the manager's side has gone.
    ///
    /// # Errors
    /// The system's refusal to wait.
    pub fn run(mut self) -> Result<()> {
        if !self.stand() {
            return Ok(());
        }
        let mut events = [EpollEvent::default(); 16];
        loop {
            let count = match self.epoll.wait(-1, &mut events) {
                Ok(count) => count,
                Err(e) if e.kind() == std::io::ErrorKind::Interrupted => 0,
                Err(e) => return Err(Error::io("waiting for device events")(e)),
            };
            for event in &events[..count] {
                if event.data() == WAKE {
                    let _ = self.wake.read();
                    if !self.obey() {
                        return Ok(());
                    }
                } else {
                    // A panic costs this event; the others are served on, and the machine can be saved.
                    let served = crate::caught(|| {
                        self.event(event.data(), event.event_set());
                        Ok(())
                    });
                    if let Err(why) = served {
                        tracing::error!("an event of the devices was dropped: {why}");
                        self.watchers.drop_one(event.data());
                    }
                }
            }
            let console = &mut *lock(&self.devices.console);
            self.watchers.update_interests(&self.epoll, console.device().room() > 0);
        }
    }

    /// Waits to be let go; `false` when nobody can any more.
    fn stand(&self) -> bool {
        loop {
            match self.commands.recv() {
                Ok(Command::Resume) => return true,
                Ok(Command::Pause(told)) => drop(told.send(())),
                Err(_) => return false,
            }
        }
    }

    fn obey(&self) -> bool {
        while let Ok(command) = self.commands.try_recv() {
            if let Command::Pause(told) = command {
                let _ = told.send(());
                if !self.stand() {
                    return false;
                }
            }
        }
        true
    }

    fn event(&mut self, token: u64, set: EventSet) {
        let devices = Arc::clone(&self.devices);
        match token {
            TAP => lock(&devices.net).with(|net, io| net.receive(io)),
            NET..CONSOLE => {
                let mut net = lock(&devices.net);
                drain(net.kicks(), token - NET);
                net.serve((token - NET) as usize);
            }
            CONSOLE..RNG => {
                let mut console = lock(&devices.console);
                drain(console.kicks(), token - CONSOLE);
                console.serve((token - CONSOLE) as usize);
                let written = console.device().take_written();
                if !written.is_empty() {
                    let device = &*console.device();
                    self.watchers.send(&written, || device.redraw());
                }
            }
            RNG..WATCHERS => {
                let mut rng = lock(&devices.rng);
                drain(rng.kicks(), token - RNG);
                rng.serve((token - RNG) as usize);
            }
            WATCHERS => {
                crate::planted::here("devices");
                let drawing = lock(&devices.console).device().redraw();
                self.watchers.accept(&self.epoll, &drawing);
            }
            _ => {
                let mut console = lock(&devices.console);
                let room = console.device().room();
                if let Some(Typed::Bytes(bytes)) = self.watchers.event(token, set, room) {
                    console.device().type_in(&bytes);
                    console.with(|device, io| device.deliver(io));
                }
            }
        }
    }
}

fn drain(kicks: &[EventFd], index: u64) {
    if let Some(kick) = kicks.get(index as usize) {
        let _ = kick.read();
    }
}
