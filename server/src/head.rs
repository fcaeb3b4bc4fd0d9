//! The one mutable object of a parcel, and the rules by which it changes.
//!
//! Pure: no store, no clock. Every change of the lock raises the epoch, and nothing else does; so two writers that
//! both believe to hold the lock never have the same epoch, and the one with the older epoch is refused. Where epochs
//! repeat, because an earlier state of the store was restored, their claims differ: a claim is drawn for each
//! acquisition, and only the one in the head may write. The head remembers the claims that ended, so it tells a holder
//! whose lock was broken from one that this store never knew. Nothing here depends on time: `since` is only shown to
//! people.

use crate::refusal::{Code, Refusal};
use parcel::{
    id::{BootId, Epoch, ParcelId, Version},
    wire::{hold::ClaimTag, http::LockInfo},
};
use serde::{Deserialize, Serialize};

/// Format of a stored head that this program writes, and the newest it reads.
pub const FORMAT: u32 = 2;
/// How many ended claims a head remembers. A holder whose claim is forgotten is not told that its lock was broken: it waits.
const REMEMBERED: usize = 64;

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
    /// Acquisitions that ended, the last one last.
    pub ended: Vec<Ended>,
}

/// An acquisition that ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Ended {
    /// The tag of the claim.
    pub claim: ClaimTag,
    /// How it ended.
    pub how: How,
    /// The parcel that its holder made for work that it could not commit.
    pub rescue: Option<ParcelId>,
}

/// How an acquisition ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum How {
    /// Its holder gave the lock back.
    Released,
    /// The owner took it away.
    Broken,
}

/// Who asks for a lock, from where, and when.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Acquirer<'a> {
    /// Kerberos principal.
    pub principal: &'a str,
    /// Name of the kiosk.
    pub kiosk: &'a str,
    /// Which boot of it.
    pub boot: BootId,
    /// What tells this acquisition from any other.
    pub claim: ClaimTag,
    /// Seconds since 1970, for people.
    pub now: u64,
}

/// Who writes: the principal, and what it shows of its lock.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Writer<'a> {
    /// Kerberos principal.
    pub principal: &'a str,
    /// Epoch of its lock.
    pub epoch: Epoch,
    /// Its acquisition.
    pub claim: ClaimTag,
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
    pub fn create(name: &str, owner: &str, by: &Acquirer<'_>) -> Self {
        let mut head = Self {
            format: FORMAT,
            name: name.to_owned(),
            owner: owner.to_owned(),
            version: Version(0),
            epoch: Epoch(0),
            lock: None,
            ended: Vec::new(),
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

    /// Takes the free lock. Asked again for the same acquisition, because an answer was lost, it changes nothing and
    /// succeeds. A kiosk that was restarted, or another one of the same name, is somebody else.
    ///
    /// # Errors
    /// `locked`, with the holder; `stale-epoch` for an acquisition that ended.
    pub fn acquire(&mut self, by: &Acquirer<'_>) -> Result<Epoch, Refusal> {
        if let Some(epoch) = self.given(by)? {
            return Ok(epoch);
        }
        match &self.lock {
            Some(lock) => Err(held(&self.name, lock)),
            None => Ok(self.give_to(by)),
        }
    }

    /// Takes the lock whoever holds it. Owner only, but whoever makes a parcel for somebody else and has not finished may
    /// take it over from where he began. An unlocked parcel is simply locked.
    ///
    /// # Errors
    /// `not-owner`; `stale-epoch` for an acquisition that ended.
    pub fn take_over(&mut self, by: &Acquirer<'_>) -> Result<Epoch, Refusal> {
        let makes_it = self.version == Version(0)
            && self.lock.as_ref().is_some_and(|lock| lock.principal == by.principal);
        if self.owner != by.principal && !makes_it {
            return Err(Refusal::new(
                Code::NotOwner,
                format!("Only {}, who owns the parcel {:?}, may break its lock.", self.owner, self.name),
            ));
        }
        if let Some(epoch) = self.given(by)? {
            return Ok(epoch);
        }
        self.end(How::Broken);
        Ok(self.give_to(by))
    }

    /// Gives the lock back. Asked again after its answer was lost, it does nothing and succeeds.
    ///
    /// # Errors
    /// As [`Self::may_write`].
    pub fn release(&mut self, by: Writer<'_>) -> Result<(), Refusal> {
        if self.ended(by.claim).is_some_and(|ended| ended.how == How::Released) {
            return Ok(());
        }
        self.may_write(by)?;
        self.end(How::Released);
        self.epoch = self.epoch.next();
        Ok(())
    }

    /// Is this the one who may write?
    ///
    /// # Errors
    /// `stale-epoch` when its lock has ended; `unknown-claim` when this store never gave it, as after a backup was
    /// restored; `locked` when it is somebody else's.
    pub fn may_write(&self, by: Writer<'_>) -> Result<(), Refusal> {
        match &self.lock {
            Some(lock) if lock.claim == by.claim && lock.principal != by.principal => {
                return Err(held(&self.name, lock));
            }
            Some(lock) if lock.claim == by.claim && by.epoch == self.epoch => return Ok(()),
            _ => {}
        }
        let now = match &self.lock {
            Some(lock) => format!("{} holds it at {} under epoch {}", lock.principal, lock.kiosk, self.epoch),
            None => "nobody holds it".to_owned(),
        };
        let mut refusal = match self.ended(by.claim) {
            Some(_) => self.over(by.epoch, &now),
            None => Refusal::new(
                Code::UnknownClaim,
                format!(
                    "The server does not know this hold on the parcel {:?} ({now}); nothing was changed. Its store may be an \
                     older copy: tell IT. The kiosk keeps your work and asks again.",
                    self.name
                ),
            ),
        };
        refusal.error.holder = self.lock.clone();
        Err(refusal)
    }

    /// The acquisition, if it was broken.
    pub fn broken(&mut self, claim: ClaimTag) -> Option<&mut Ended> {
        self.ended.iter_mut().find(|ended| ended.claim == claim && ended.how == How::Broken)
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

    /// The epoch of this very acquisition, if it has been made already.
    fn given(&self, by: &Acquirer<'_>) -> Result<Option<Epoch>, Refusal> {
        match &self.lock {
            Some(lock) if lock.claim == by.claim && lock.principal == by.principal => Ok(Some(self.epoch)),
            _ if self.ended(by.claim).is_some() => {
                let mut refusal = self.over(self.epoch, "a lock is asked for once");
                refusal.error.holder = self.lock.clone();
                Err(refusal)
            }
            _ => Ok(None),
        }
    }

    fn over(&self, epoch: Epoch, now: &str) -> Refusal {
        Refusal::new(
            Code::StaleEpoch,
            format!(
                "The lock of the parcel {:?} under epoch {epoch} has ended and {now}; nothing was changed. Take the lock \
                 again before writing.",
                self.name
            ),
        )
    }

    /// How the acquisition ended, if it did.
    pub fn ended(&self, claim: ClaimTag) -> Option<&Ended> {
        self.ended.iter().find(|ended| ended.claim == claim)
    }

    fn end(&mut self, how: How) {
        let Some(lock) = self.lock.take() else { return };
        if self.ended.len() >= REMEMBERED {
            self.ended.remove(0);
        }
        self.ended.push(Ended { claim: lock.claim, how, rescue: None });
    }

    fn give_to(&mut self, by: &Acquirer<'_>) -> Epoch {
        self.epoch = self.epoch.next();
        self.lock = Some(LockInfo {
            principal: by.principal.to_owned(),
            kiosk: by.kiosk.to_owned(),
            boot: by.boot,
            claim: by.claim,
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
