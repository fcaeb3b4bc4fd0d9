//! The one mutable object of a parcel, and the rules by which it changes.
//!
//! Pure: no store, no clock. Every change of the lock raises the epoch, and nothing else does; so two writers that
//! both believe to hold the lock never have the same epoch, and the one with the older epoch is refused. Nothing
//! here depends on time: `since` is only shown to people.

use crate::refusal::{Code, Refusal};
use parcel::{
    id::{Epoch, ParcelId, Version},
    wire::http::LockInfo,
};
use serde::{Deserialize, Serialize};

/// Format of a stored head that this program writes, and the newest it reads.
pub const FORMAT: u32 = 1;

/// A parcel's head as stored, JSON in `parcels/<id>/head`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Head {
    /// [`FORMAT`].
    pub format: u32,
    /// The parcel's name for people.
    pub name: String,
    /// Kerberos principal that owns it.
    pub owner: String,
    /// Last committed version; 0 before the first.
    pub version: Version,
    /// Rises with every change of the lock.
    pub epoch: Epoch,
    /// Who holds the lock. Its epoch is always the head's.
    pub lock: Option<LockInfo>,
}

/// Who asks for a lock, from where, and when.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Claim<'a> {
    /// Kerberos principal.
    pub principal: &'a str,
    /// Name of the kiosk.
    pub kiosk: &'a str,
    /// Seconds since 1970, for people.
    pub now: u64,
}

/// What a commit is to the head.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Step {
    /// The version follows the head's.
    Next,
    /// The head is at this version already: the record decides whether this is the same commit, sent again.
    Again,
}

impl Head {
    /// The head of a new parcel, locked by its creator.
    pub fn create(name: &str, owner: &str, by: &Claim<'_>) -> Self {
        let mut head = Self {
            format: FORMAT,
            name: name.to_owned(),
            owner: owner.to_owned(),
            version: Version(0),
            epoch: Epoch(0),
            lock: None,
        };
        head.give_to(by);
        head
    }

    /// Reads a stored head.
    ///
    /// # Errors
    /// Text for the log: the object is not a head that this program understands.
    pub fn decode(bytes: &[u8]) -> Result<Self, String> {
        let head: Self =
            serde_json::from_slice(bytes).map_err(|e| format!("the head cannot be read: {e}"))?;
        if head.format != FORMAT {
            return Err(format!("the head has format {}, this program knows {FORMAT}", head.format));
        }
        if head.lock.as_ref().is_some_and(|lock| lock.epoch != head.epoch) {
            return Err("the head's lock has another epoch than the head".to_owned());
        }
        Ok(head)
    }

    /// As stored.
    pub fn encode(&self) -> Vec<u8> {
        serde_json::to_vec(self).expect("a head has only string keys")
    }

    /// `true` when this principal may know of the parcel: its owner, and whoever holds its lock.
    pub fn visible_to(&self, principal: &str) -> bool {
        self.owner == principal || self.lock.as_ref().is_some_and(|lock| lock.principal == principal)
    }

    /// Takes the free lock, or takes it anew for a kiosk that lost count (it was restarted): the epoch rises, so
    /// whatever is left of the earlier run is refused.
    ///
    /// # Errors
    /// `locked`, with the holder.
    pub fn acquire(&mut self, by: &Claim<'_>) -> Result<Epoch, Refusal> {
        if let Some(lock) = &self.lock
            && (lock.principal != by.principal || lock.kiosk != by.kiosk)
        {
            return Err(held(&self.name, lock));
        }
        Ok(self.give_to(by))
    }

    /// Takes the lock whoever holds it. Owner only, but whoever makes a parcel for somebody else and has not finished may
    /// take it over from where he began. An unlocked parcel is simply locked.
    ///
    /// # Errors
    /// `not-owner`.
    pub fn take_over(&mut self, by: &Claim<'_>) -> Result<Epoch, Refusal> {
        let makes_it = self.version == Version(0)
            && self.lock.as_ref().is_some_and(|lock| lock.principal == by.principal);
        if self.owner != by.principal && !makes_it {
            return Err(Refusal::new(
                Code::NotOwner,
                format!("Only {}, who owns the parcel {:?}, may break its lock.", self.owner, self.name),
            ));
        }
        Ok(self.give_to(by))
    }

    /// Gives the lock back. Asked again after its answer was lost, it does nothing and succeeds.
    ///
    /// # Errors
    /// `stale-epoch`, `locked`.
    pub fn release(&mut self, principal: &str, epoch: Epoch) -> Result<(), Refusal> {
        if self.lock.is_none() && self.epoch == epoch.next() {
            return Ok(());
        }
        self.may_write(principal, epoch)?;
        self.lock = None;
        self.epoch = self.epoch.next();
        Ok(())
    }

    /// Is this principal, under this epoch, the one who may write?
    ///
    /// # Errors
    /// `stale-epoch` for any epoch but the current one, `locked` when the epoch is somebody else's.
    pub fn may_write(&self, principal: &str, epoch: Epoch) -> Result<(), Refusal> {
        match &self.lock {
            Some(lock) if epoch == self.epoch && lock.principal == principal => Ok(()),
            Some(lock) if epoch == self.epoch => Err(held(&self.name, lock)),
            lock => {
                let now = match lock {
                    Some(lock) => {
                        format!("{} holds it at {} under epoch {}", lock.principal, lock.kiosk, self.epoch)
                    }
                    None => "nobody holds it".to_owned(),
                };
                let mut refusal = Refusal::new(
                    Code::StaleEpoch,
                    format!(
                        "The lock of the parcel {:?} under epoch {epoch} has ended and {now}; nothing was changed. \
                         Take the lock again before writing.",
                        self.name
                    ),
                );
                refusal.error.holder = lock.clone();
                Err(refusal)
            }
        }
    }

    /// Does `version`, made from `parent`, follow?
    ///
    /// # Errors
    /// `wrong-parent`.
    pub fn may_commit(&self, parent: Version, version: Version) -> Result<Step, Refusal> {
        let follows = |last: Version| parent == last && last.0.checked_add(1) == Some(version.0);
        if follows(self.version) {
            return Ok(Step::Next);
        }
        if self.version.0.checked_sub(1).map(Version).is_some_and(follows) {
            return Ok(Step::Again);
        }
        Err(Refusal::new(
            Code::WrongParent,
            format!(
                "Version {version} made from version {parent} does not follow the last version {} of the parcel {:?}; \
                 nothing was changed. Open the last version and commit from there.",
                self.version, self.name
            ),
        ))
    }

    fn give_to(&mut self, by: &Claim<'_>) -> Epoch {
        self.epoch = self.epoch.next();
        self.lock = Some(LockInfo {
            principal: by.principal.to_owned(),
            kiosk: by.kiosk.to_owned(),
            epoch: self.epoch,
            since: by.now,
        });
        self.epoch
    }
}

/// What is told about a stored head that cannot be read: the particulars are for the log.
pub fn unreadable(id: &ParcelId) -> Refusal {
    Refusal::new(
        Code::Store,
        format!(
            "The server cannot read what it stored of the parcel {id}; IT finds the reason in the server's log."
        ),
    )
}

fn held(name: &str, lock: &LockInfo) -> Refusal {
    let mut refusal = Refusal::new(
        Code::Locked,
        format!(
            "The parcel {name:?} is in use by {} at {}; suspend it there, or break the lock.",
            lock.principal, lock.kiosk
        ),
    );
    refusal.error.holder = Some(lock.clone());
    refusal
}

#[cfg(test)]
mod tests;
