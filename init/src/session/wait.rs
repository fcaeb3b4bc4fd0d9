//! Waiting: every phase waits here, so that in every phase a dead program, a lost network or a user who gives up
//! is noticed at once.

use super::{
    Kiosk, Stop,
    words::{brief, cached_died, noticed, too_low, vmm_died},
};
use crate::system::{Event, Power, Role, Sign};
use parcel::wire::{
    Code, WireError, daemon,
    session::{Command, Login, Phase},
    vmm::{self, GuestState},
};
use std::time::Duration;

impl Kiosk<'_> {
    /// The next event that the phase itself must handle; `None` at `until`.
    pub(super) fn next(&mut self, until: Option<Duration>) -> Result<Option<Event>, Stop> {
        loop {
            self.restart_what_is_due();
            let wake = self.due.values().copied().chain(self.prepare_due).chain(until).min();
            let event = match self.held.pop_front() {
                Some(event) => event,
                None => match self.sys.next_event(wake) {
                    Some(event) => event,
                    None if until.is_some_and(|until| self.sys.now() >= until) => return Ok(None),
                    None => continue,
                },
            };
            if let Some(event) = self.common(event)? {
                return Ok(Some(event));
            }
        }
    }

    fn restart_what_is_due(&mut self) {
        let now = self.sys.now();
        let due: Vec<Role> = self.due.iter().filter(|(_, at)| **at <= now).map(|(role, _)| *role).collect();
        for role in due {
            self.start(role);
        }
        if self.prepare_due.is_some_and(|at| at <= now) {
            self.prepare();
        }
    }

    /// Shows what is only to be shown; gives back every other event.
    pub(super) fn show(&mut self, event: Event) -> Option<Event> {
        match event {
            Event::Network(network) => {
                self.state.network = network.up;
                self.state.network_detail = network.detail;
            }
            Event::Refused(refused) => self.state.health.refused = refused,
            Event::Clock(clock) => self.state.health.clock = clock,
            // It is for whoever stands at the login screen.
            Event::Diagnosis(found) => {
                self.state.health.diagnosis = Some(*found).filter(|_| self.state.phase == Phase::Login);
            }
            Event::ClockBehind(behind) => {
                let word = if behind {
                    "the guest's clock is wrong and nothing in the guest sets it"
                } else {
                    "the guest's clock is set"
                };
                self.sys.log(word);
                self.state.clock_behind = behind;
            }
            Event::Status(status) => {
                self.state.progress = match self.state.phase {
                    Phase::Open | Phase::Restore | Phase::Save | Phase::Commit | Phase::Rescue => {
                        status.progress
                    }
                    _ => None,
                };
                self.log_waiting(status.waiting.as_ref());
                self.state.health.room = status.room;
                self.status = status;
            }
            // The session is on its way out already, and a sign ends nothing there.
            Event::Sign(sign) if self.state.phase > Phase::Run => self.note(sign),
            other => return Some(other),
        }
        self.publish();
        None
    }

    /// Puts an event aside until a phase can handle it, unless it only needs to be shown.
    pub(super) fn put_aside(&mut self, event: Event) {
        // It was nobody's who is here: the last session is over, and the next user did neither.
        let phase = self.state.phase;
        if let (Phase::Boot | Phase::Wipe | Phase::Verify, Event::Sign(sign @ (Sign::Button | Sign::Lid))) =
            (phase, &event)
        {
            self.sys.log(&format!("{} in phase {}: ignored", noticed(*sign), super::name(phase)));
            return;
        }
        let event = self.show(event);
        self.held.extend(event);
    }

    /// Handles what every phase handles alike; gives back what is left for the phase.
    fn common(&mut self, event: Event) -> Result<Option<Event>, Stop> {
        let Some(event) = self.show(event) else { return Ok(None) };
        match event {
            Event::Guest(state) => {
                self.guest = Some(state);
                Ok(Some(Event::Guest(state)))
            }
            Event::GuestFailed(why) => {
                self.sys.log(&format!("the guest failed [{}]", why.code));
                self.state.notice = Some(why);
                self.publish();
                Ok(None)
            }
            Event::Exited { role, how } => self.exited(role, &how),
            Event::Vmm(ticket, _) if self.console.is_about(ticket) => {
                self.tell_size();
                Ok(None)
            }
            Event::Command(command) => self.command(command),
            Event::Sign(sign) => self.sign(sign),
            other => Ok(Some(other)),
        }
    }

    /// A running session is suspended; on the way to one nothing is lost yet, and it is left.
    fn sign(&mut self, sign: Sign) -> Result<Option<Event>, Stop> {
        self.note(sign);
        match (self.state.phase, sign) {
            (_, Sign::Powered) => Ok(None),
            (Phase::Login, Sign::Button) => Err(Stop::Power(Power::Off)),
            (Phase::Boot | Phase::Login, _) => Ok(None),
            (Phase::Run, _) => Ok(Some(Event::Sign(sign))),
            (_, Sign::Battery(percent)) => Err(Stop::Failed(too_low(percent))),
            (Phase::Choose, _) => Err(Stop::LoggedOut),
            _ => Err(Stop::GaveUp),
        }
    }

    /// Writes a sign down and shows what follows from it in every phase.
    fn note(&mut self, sign: Sign) {
        let phase = self.state.phase;
        let in_use = (Phase::Choose..=Phase::Run).contains(&phase);
        let by_hand = matches!(sign, Sign::Button | Sign::Lid);
        let low = match sign {
            Sign::Battery(percent) => Some(percent),
            Sign::Powered => None,
            Sign::Button | Sign::Lid => self.state.health.low_battery,
        };
        let before = std::mem::replace(&mut self.state.health.low_battery, low);
        // A low battery is told again and again.
        if in_use || before.is_some() != low.is_some() || by_hand {
            self.sys.log(&format!("{} in phase {}", noticed(sign), super::name(phase)));
        }
        let pressed = phase > Phase::Run && sign == Sign::Button;
        self.state.presses = self.state.presses.saturating_add(u32::from(pressed));
        // Whoever does that leaves, and the machine may go on after a save that fails.
        let on = phase == Phase::Save && self.alive.contains(&Role::Vmm);
        let locks = by_hand && on && !self.state.locked;
        self.state.locked |= locks;
        if before != low || pressed || locks {
            self.publish();
        }
    }

    fn exited(&mut self, role: Role, how: &str) -> Result<Option<Event>, Stop> {
        self.sys.log(&format!("{} ended: {how}", role.name()));
        self.alive.remove(&role);
        let phase = self.state.phase;
        match role {
            Role::KioskUi if phase == Phase::Choose => Err(Stop::Failed(WireError::new(
                Code::ScreenDied,
                "The screen program stopped, and your log-in with it. Please log in again.",
            ))),
            Role::KioskUi => {
                self.restart_later(role);
                Ok(None)
            }
            Role::Cached if phase == Phase::Login => {
                self.restart_later(role);
                Ok(None)
            }
            Role::Cached => Err(self.engine_lost(cached_died(how))),
            // The guest is off and `cached` knows, so nothing is lost with the VMM; or it ran, and its disk is left.
            Role::Vmm if self.guest == Some(GuestState::PoweredOff) || self.disk_is_at_stake() => {
                Ok(Some(Event::Exited { role, how: how.to_owned() }))
            }
            Role::Vmm => Err(Stop::Failed(vmm_died(how))),
        }
    }

    /// The machine has run, and what it wrote is not home yet.
    fn disk_is_at_stake(&self) -> bool {
        !self.walking && matches!(self.state.phase, Phase::Run | Phase::Save)
    }

    /// `cached` has gone, or cannot be asked.
    fn engine_lost(&self, error: WireError) -> Stop {
        let sending = matches!(self.state.phase, Phase::Commit | Phase::Rescue);
        match self.disk_is_at_stake() || (sending && !self.walking) {
            true => Stop::EngineLost(error),
            false => Stop::Failed(error),
        }
    }

    fn command(&mut self, command: Command) -> Result<Option<Event>, Stop> {
        let phase = self.state.phase;
        match command {
            Command::Dismiss => {
                self.state.notice = None;
                self.state.report = None;
                self.publish();
            }
            Command::Keyboard { layout } => {
                self.state.keyboard = self.sys.set_keyboard(Some(&layout));
                self.publish();
            }
            Command::ConsoleSize { cols, rows } => {
                self.console.want(cols, rows);
                if self.state.console {
                    self.tell_size();
                }
            }
            Command::Opened(proof) if (Phase::Choose..=Phase::Rescue).contains(&phase) => {
                let kept = self.state.proof.as_ref().filter(|_| phase > Phase::Choose);
                if kept.is_some_and(|kept| !kept.same_key(&proof)) {
                    self.sys.log("what was opened has another key than the session: ignored");
                } else {
                    self.state.proof = Some(proof);
                    self.publish();
                }
            }
            // Kept here, so that screens that start again come back locked.
            Command::Lock if phase == Phase::Run => {
                if !self.state.locked {
                    self.sys.log("the screen is locked");
                    self.state.locked = true;
                    self.publish();
                }
            }
            Command::Unlocked => {
                if std::mem::take(&mut self.state.locked) {
                    self.sys.log("the screen is unlocked");
                }
                self.state.failures = 0;
                self.publish();
            }
            Command::WrongPassword if phase >= Phase::Run => {
                self.state.failures = self.state.failures.saturating_add(1);
                self.sys
                    .log(&format!("a wrong password at the running session: {} so far", self.state.failures));
                self.publish();
            }
            Command::GiveUp if self.state.locked => {
                self.sys.log("the screen is locked: nobody gives the session up");
            }
            Command::GiveUp | Command::LogOut if phase == Phase::Choose => return Err(Stop::LoggedOut),
            Command::GiveUp if phase > Phase::Choose => return Err(Stop::GaveUp),
            Command::Diagnose if phase == Phase::Login => self.sys.diagnose(),
            Command::PowerOff if phase == Phase::Login => return Err(Stop::Power(Power::Off)),
            Command::Reboot if phase == Phase::Login => return Err(Stop::Power(Power::Reboot)),
            Command::LoggedIn(login) if phase > Phase::Login => return Ok(self.logged_in_again(login)),
            wanted @ (Command::LoggedIn(_) | Command::Resume { .. } | Command::Suspend) => {
                return Ok(Some(Event::Command(wanted)));
            }
            Command::GiveUp
            | Command::LogOut
            | Command::PowerOff
            | Command::Reboot
            | Command::Opened(_)
            | Command::Lock
            | Command::Diagnose
            | Command::WrongPassword => {
                self.sys.log(&format!("a command does not fit phase {}: ignored", super::name(phase)));
            }
        }
        Ok(None)
    }

    /// The session's user logged in again; gives the command back to a phase that waits to try again.
    fn logged_in_again(&mut self, login: Login) -> Option<Event> {
        if self.state.login.as_ref().is_none_or(|now| now.principal != login.principal) {
            self.sys.log("a log-in that is not of this session's user: ignored");
            return None;
        }
        self.sys.log("the user logged in again");
        self.state.login = Some(login.clone());
        self.publish();
        Some(Event::Command(Command::LoggedIn(login)))
    }

    /// Writes down what the engine waits for when that changes, so that IT finds it in the log.
    fn log_waiting(&mut self, waiting: Option<&daemon::Waiting>) {
        let before = self.status.waiting.as_ref().map(|before| before.code);
        if let Some(now) = waiting.filter(|now| before != Some(now.code)) {
            self.sys.log(&format!("waiting [{}]", now.code));
        }
    }

    /// Asks `cached` and waits as long as it takes; its own errors are the inner result.
    pub(super) fn try_cached(
        &mut self,
        request: daemon::Request,
    ) -> Result<Result<daemon::Reply, WireError>, Stop> {
        loop {
            if let Some(answer) = self.try_cached_until(request.clone(), None)? {
                return Ok(answer);
            }
        }
    }

    /// Asks `cached` and waits until then; `None`: it has not answered.
    pub(super) fn try_cached_until(
        &mut self,
        request: daemon::Request,
        until: Option<Duration>,
    ) -> Result<Option<Result<daemon::Reply, WireError>>, Stop> {
        if !self.alive.contains(&Role::Cached) {
            return Err(self.engine_lost(cached_died("before it was asked")));
        }
        let ticket = self.sys.ask_cached(request);
        loop {
            match self.next(until)? {
                Some(Event::Cached(got, reply)) if got == ticket => {
                    return match reply {
                        Ok(daemon::Reply::Error(error)) => Ok(Some(Err(brief(error)))),
                        Ok(reply) => Ok(Some(Ok(reply))),
                        Err(error) => Err(self.engine_lost(error)),
                    };
                }
                None if until.is_some() => return Ok(None),
                _ => {}
            }
        }
    }

    /// Asks `cached`; any error ends the phase.
    pub(super) fn cached(&mut self, request: daemon::Request) -> Result<daemon::Reply, Stop> {
        self.try_cached(request)?.map_err(Stop::Failed)
    }

    /// Asks `cached` while walking back: an answer that does not come within `limit` is an error.
    pub(super) fn cached_within(
        &mut self,
        request: daemon::Request,
        limit: Duration,
    ) -> Result<daemon::Reply, WireError> {
        if !self.alive.contains(&Role::Cached) {
            return Err(cached_died("before it was asked"));
        }
        let ticket = self.sys.ask_cached(request);
        match self.answer_within(ticket, limit) {
            Some(Ok(daemon::Reply::Error(error)) | Err(error)) => Err(brief(error)),
            Some(Ok(reply)) => Ok(reply),
            None => Err(WireError::new(Code::NoAnswer, "The client engine did not answer in time.")),
        }
    }

    /// Lets `time` pass; events are put aside.
    pub(super) fn pause(&mut self, time: Duration) {
        let until = self.sys.now() + time;
        while self.sys.now() < until {
            if let Some(event) = self.sys.next_event(Some(until)) {
                self.put_aside(event);
            }
        }
    }

    /// Asks the VMM and waits as long as it takes; its own errors are the inner result.
    pub(super) fn try_vmm(&mut self, request: vmm::Request) -> Result<Result<vmm::Reply, WireError>, Stop> {
        let ticket = self.sys.ask_vmm(request);
        loop {
            match self.next(None)? {
                Some(Event::Vmm(got, reply)) if got == ticket => {
                    return match reply {
                        Ok(vmm::Reply::Error(error)) => Ok(Err(brief(error))),
                        Ok(reply) => Ok(Ok(reply)),
                        Err(error) => Err(Stop::Failed(error)),
                    };
                }
                // It will not answer any more.
                Some(Event::Exited { role: Role::Vmm, how }) => return Ok(Err(vmm_died(&how))),
                _ => {}
            }
        }
    }

    /// Tells the VMM to end and waits a little; then ends it.
    pub(super) fn end_vmm(&mut self) {
        if self.alive.contains(&Role::Vmm) {
            self.guest = None;
            self.sys.ask_vmm(vmm::Request::Quit);
            let until = self.sys.now() + Duration::from_secs(3);
            while self.alive.contains(&Role::Vmm) {
                let Some(event) = self.sys.next_event(Some(until)) else { break };
                match event {
                    Event::Exited { role: Role::Vmm, .. } => {
                        self.alive.remove(&Role::Vmm);
                    }
                    Event::Guest(_) | Event::Vmm(..) => {}
                    other => self.put_aside(other),
                }
            }
        }
        self.sys.stop(Role::Vmm);
        self.alive.remove(&Role::Vmm);
        self.guest = None;
        self.state.console = false;
    }
}
