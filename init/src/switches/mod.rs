//! The power button, the lid and the battery: whoever presses, closes or forgets to charge wants an orderly suspend.

mod battery;
mod evdev;

use crate::{log::Log, system::Sign};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use std::{
    path::PathBuf,
    thread,
    time::{Duration, Instant},
};

/// Between two looks for devices that came or went.
const LOOK: Duration = Duration::from_secs(2);
/// Between two looks at the battery.
const CHARGE: Duration = Duration::from_secs(20);

/// The machine's switches and batteries, below folders that a test can make.
#[derive(Debug)]
pub struct Switches {
    sys: PathBuf,
    dev: PathBuf,
    /// Percent below which a discharging battery is a sign; 0: never.
    low_battery: u8,
    inputs: evdev::Inputs,
    charge: Duration,
    charge_due: Option<Instant>,
    /// The battery was low at the last look.
    low: bool,
}

impl Switches {
    /// Below `sys` (`/sys`) and `dev` (`/dev`); `charge` is the time between two looks at the battery.
    pub fn new(sys: impl Into<PathBuf>, dev: impl Into<PathBuf>, low_battery: u8, charge: Duration) -> Self {
        let inputs = evdev::Inputs::default();
        Self { sys: sys.into(), dev: dev.into(), low_battery, inputs, charge, charge_due: None, low: false }
    }

    /// Listens until something happens, or for `longest`; also gives what it has begun to listen to.
    pub fn next(&mut self, longest: Duration) -> (Vec<PathBuf>, Vec<Sign>) {
        let new = self.inputs.look(&self.sys, &self.dev);
        let mut waited: Vec<PollFd<'_>> =
            self.inputs.descriptors().into_iter().map(|fd| PollFd::new(fd, PollFlags::POLLIN)).collect();
        let timeout = PollTimeout::try_from(longest).unwrap_or(PollTimeout::MAX);
        // Whatever stops the waiting, what is there is read.
        let _ = poll(&mut waited, timeout);
        let mut signs = self.inputs.read();
        signs.extend(self.charge());
        (new, signs)
    }

    /// As long as the battery is low, it is a sign again and again: a suspend that did not work out is tried again.
    fn charge(&mut self) -> Option<Sign> {
        let now = Instant::now();
        if self.charge_due.is_some_and(|due| now < due) {
            return None;
        }
        self.charge_due = Some(now + self.charge);
        let low = battery::low(&self.sys, self.low_battery);
        let was = std::mem::replace(&mut self.low, low.is_some());
        low.map(Sign::Battery).or(was.then_some(Sign::Powered))
    }
}

/// Tells every sign to `tell` from now on, until that answers `false`.
pub fn watch(low_battery: u8, log: Log, tell: impl Fn(Sign) -> bool + Send + 'static) {
    let mut switches = Switches::new("/sys", "/dev", low_battery, CHARGE);
    let own = log.clone();
    let begun = thread::Builder::new().name("switches".to_owned()).spawn(move || {
        loop {
            let (new, signs) = switches.next(LOOK);
            for node in new {
                own.line("switches", &format!("{} is a power button or a lid", node.display()));
            }
            if !signs.into_iter().all(&tell) {
                return;
            }
        }
    });
    if let Err(error) = begun {
        log.line("switches", &format!("nobody listens to the power button: {error}"));
    }
}
