//! Claims of the locks that this user's commands hold: what a command took, a later one can give back.
//!
//! One file a parcel, readable by the user only. Where there is no place for them, a lock lasts as long as its command.

use super::{Result, terminal::say};
use parcel::{
    id::{BootId, ParcelId},
    wire::{
        hold::Claim,
        http::{LockInfo, LockRequest, ParcelInfo},
    },
};
use std::{
    fs::{self, DirBuilder, OpenOptions},
    io::{self, Write as _},
    os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _},
    path::PathBuf,
};

/// Who this command is, and what it and its predecessors hold.
#[derive(Clone)]
pub(super) struct Claims {
    folder: Option<PathBuf>,
    /// Under what name locks are held, for people.
    pub client: String,
    boot: BootId,
}

impl Claims {
    /// Those of the user who runs this.
    pub fn open() -> Result<Self> {
        let set = |name: &str| std::env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
        let state = set("XDG_STATE_HOME").or_else(|| Some(set("HOME")?.join(".local/state")));
        let host = nix::unistd::gethostname().unwrap_or_default().to_string_lossy().into_owned();
        let client = format!("waystation on {host}").chars().take(64).collect();
        let boot = BootId(*super::secrets::random()?);
        Ok(Self { folder: state.map(|state| state.join("waystation/claims")), client, boot })
    }

    /// A request for the lock of a parcel: for the one that is held here already, or for a new one.
    pub fn ask(&self, parcel: &ParcelId, held: Option<&LockInfo>) -> Result<LockRequest> {
        let claim = match held.and_then(|lock| self.held(parcel, lock)) {
            Some(claim) => claim,
            None => {
                let claim = Claim::from_bytes(*super::secrets::random()?);
                self.keep(parcel, &claim).unwrap_or_else(|error| {
                    say(format_args!(
                        "waystation: the claim of the lock cannot be kept ({error}); if this command is cut short, break the \
                         lock"
                    ));
                });
                claim
            }
        };
        Ok(LockRequest {
            kiosk: self.client.clone(),
            boot: self.boot,
            claim,
            again: None,
            inventory: None,
            cold_boot: false,
        })
    }

    /// Is the parcel's lock one of these?
    pub fn holds(&self, parcel: &ParcelInfo) -> bool {
        parcel.lock.as_ref().is_some_and(|lock| self.held(&parcel.id, lock).is_some())
    }

    /// The lock was given back.
    pub fn forget(&self, parcel: &ParcelId) {
        if let Some(file) = self.file(parcel) {
            let _ = fs::remove_file(file);
        }
    }

    fn held(&self, parcel: &ParcelId, lock: &LockInfo) -> Option<Claim> {
        let text = zeroize::Zeroizing::new(fs::read_to_string(self.file(parcel)?).ok()?);
        text.trim().parse::<Claim>().ok().filter(|claim| claim.tag() == lock.claim)
    }

    fn keep(&self, parcel: &ParcelId, claim: &Claim) -> io::Result<()> {
        let (Some(folder), Some(file)) = (&self.folder, self.file(parcel)) else {
            return Err(io::Error::new(io::ErrorKind::NotFound, "neither XDG_STATE_HOME nor HOME is set"));
        };
        DirBuilder::new().recursive(true).mode(0o700).create(folder)?;
        let aside = file.with_extension("new");
        let _ = fs::remove_file(&aside);
        let mut written = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&aside)?;
        written.write_all(claim.to_hex().as_bytes())?;
        written.sync_all()?;
        fs::rename(&aside, &file)
    }

    fn file(&self, parcel: &ParcelId) -> Option<PathBuf> {
        Some(self.folder.as_ref()?.join(parcel.to_string()))
    }
}
