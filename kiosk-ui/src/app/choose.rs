//! Choosing a parcel and having its key.

use super::{
    App, Dialog, Step, Unlocking,
    keys::{is_enter, letter},
};
use crate::{effects::Effects, event::OpenError, password::Password, trouble::Trouble};
use crossterm::event::{KeyCode, KeyEvent};
use parcel::{
    id::ParcelId,
    slot::Proof,
    wire::{
        http::ParcelInfo,
        session::{Command, Phase},
    },
};

/// How long a list of parcels, or a question about one, waits for somebody, in seconds: then the user went away without
/// logging out.
const IDLE: u32 = 600;
/// How long before that it is announced, in seconds.
const IDLE_WARNING: u32 = 60;

/// The user's parcels.
#[derive(Debug, Default)]
pub struct List {
    /// As the server lists them; `None` until it did.
    pub parcels: Option<Vec<ParcelInfo>>,
    /// Why they could not be had.
    pub trouble: Option<Trouble>,
    /// The number of the attempt, while they are asked for.
    pub asking: Option<u64>,
    /// Which one the cursor is on.
    pub selected: usize,
}

impl List {
    fn answer(&mut self, result: Result<Vec<ParcelInfo>, Trouble>) {
        self.asking = None;
        match result {
            Ok(parcels) => {
                // The cursor stays on its parcel, wherever that is in the new list.
                let before = self.current().map(|parcel| parcel.id);
                let found = parcels.iter().position(|parcel| Some(parcel.id) == before);
                self.selected = found.unwrap_or(self.selected).min(parcels.len().saturating_sub(1));
                self.parcels = Some(parcels);
            }
            Err(trouble) => self.trouble = Some(trouble),
        }
    }

    /// The parcel that the cursor is on; none while trouble is shown in the list's place.
    pub fn current(&self) -> Option<&ParcelInfo> {
        if self.trouble.is_some() {
            return None;
        }
        self.parcels.as_ref()?.get(self.selected)
    }

    fn go(&mut self, to: usize) {
        let last = self.parcels.as_ref().map_or(0, |parcels| parcels.len().saturating_sub(1));
        self.selected = to.min(last);
    }
}

/// The parcel that was chosen, while its key is being had.
#[derive(Debug)]
pub struct Opening {
    /// Its name.
    pub name: String,
    /// Boot from disk.
    pub cold_boot: bool,
    /// Take the lock from its holder.
    pub break_lock: bool,
    /// How far its key is.
    pub unlocking: Unlocking,
}

impl App {
    /// Seconds until a user who went away is logged out, when there is one.
    pub fn logs_out_in(&self) -> Option<u32> {
        let busy = self
            .opening
            .as_ref()
            .is_some_and(|opening| matches!(opening.unlocking.step, Step::Working { .. }));
        let waits = self.phase() == Phase::Choose && self.told.is_none() && !busy;
        waits.then(|| IDLE.saturating_sub(self.idle))
    }

    /// The same, once it is near enough to say so.
    pub fn logs_out_soon(&self) -> Option<u32> {
        self.logs_out_in().filter(|seconds| *seconds <= IDLE_WARNING)
    }

    pub(super) fn ask_for_parcels(&mut self, effects: &mut dyn Effects) {
        let attempt = self.next_attempt();
        self.list.asking = Some(attempt);
        self.list.trouble = None;
        effects.parcels(attempt);
    }

    pub(super) fn listed(&mut self, attempt: u64, result: Result<Vec<ParcelInfo>, Trouble>) {
        if self.list.asking != Some(attempt) {
            return;
        }
        let before = self.list.current().map(|parcel| parcel.id);
        self.list.answer(result);
        // A question about one parcel must not be answered for another.
        if self.list.current().map(|parcel| parcel.id) != before
            && matches!(self.dialog, Some(Dialog::BreakLock { .. } | Dialog::ColdBoot))
        {
            self.dialog = None;
        }
    }

    pub(super) fn list_key(&mut self, key: KeyEvent, effects: &mut dyn Effects) {
        if self.told.is_some() {
            return;
        }
        let selected = self.list.selected;
        match (key.code, letter(key)) {
            (KeyCode::Up, _) | (_, Some('k')) => self.list.go(selected.saturating_sub(1)),
            (KeyCode::Down, _) | (_, Some('j')) => self.list.go(selected + 1),
            (KeyCode::Home, _) => self.list.go(0),
            (KeyCode::End, _) => self.list.go(usize::MAX),
            (KeyCode::F(2), _) | (_, Some('r')) if self.list.asking.is_none() => {
                self.ask_for_parcels(effects)
            }
            (KeyCode::F(10), _) | (_, Some('l')) => self.tell(Command::LogOut, effects),
            (KeyCode::F(5), _) | (_, Some('c')) => self.choose(true, effects),
            _ if is_enter(key) => self.choose(false, effects),
            _ => {}
        }
    }

    fn choose(&mut self, cold_boot: bool, effects: &mut dyn Effects) {
        let Some(parcel) = self.list.current() else { return };
        if parcel.lock.is_some() {
            self.dialog = Some(Dialog::BreakLock { cold_boot });
        } else if cold_boot && parcel.suspended {
            self.dialog = Some(Dialog::ColdBoot);
        } else {
            self.start_opening(false, false, effects);
        }
    }

    pub(super) fn start_opening(&mut self, cold_boot: bool, break_lock: bool, effects: &mut dyn Effects) {
        let Some(parcel) = self.list.current() else { return };
        let (id, name) = (parcel.id, parcel.name.clone());
        let login = self.kept.as_ref().map(Password::duplicate);
        let unlocking = Unlocking::start(id, login, None, &mut self.attempts, effects);
        self.opening = Some(Opening { name, cold_boot, break_lock, unlocking });
    }

    pub(super) fn opening_key(&mut self, key: KeyEvent, effects: &mut dyn Effects) {
        let Some(opening) = &mut self.opening else { return };
        match &opening.unlocking.step {
            Step::Working { .. } | Step::Ask { .. } if key.code == KeyCode::Esc => self.opening = None,
            Step::Ask { .. } => opening.unlocking.key(key, &mut self.attempts, effects),
            Step::Failed(_) if is_enter(key) || key.code == KeyCode::Esc => {
                self.opening = None;
                self.ask_for_parcels(effects);
            }
            Step::Working { .. } | Step::Failed(_) | Step::Told => {}
        }
    }

    pub(super) fn opened(
        &mut self,
        attempt: u64,
        parcel: ParcelId,
        result: Result<Proof, OpenError>,
        effects: &mut dyn Effects,
    ) {
        let Some(opening) = self.opening.as_mut().filter(|opening| opening.unlocking.awaits(attempt, parcel))
        else {
            return;
        };
        if let Some(proof) = opening.unlocking.answered(result) {
            let resume = Command::Resume {
                parcel,
                name: opening.name.clone(),
                cold_boot: opening.cold_boot,
                break_lock: opening.break_lock,
            };
            effects.command(Command::Opened(proof));
            self.tell(resume, effects);
        }
    }
}
