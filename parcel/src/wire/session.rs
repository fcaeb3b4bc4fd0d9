//! `init.sock`: `init` tells `kiosk-ui` where the session stands, `kiosk-ui` tells `init` what the user wants.
//!
//! On connecting, and at every change, `init` sends the whole [`State`] as one line, so a restarted `kiosk-ui` knows
//! all. `kiosk-ui` sends [`Command`] lines, which have no replies: what they do shows in the state.

use super::{Progress, WireError, daemon::Waiting, health::Health};
use crate::{id::ParcelId, slot::Proof, tag::Miss};
use serde::{Deserialize, Serialize};

/// The phases of a session, in order.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Phase {
    /// From power-on to the login screen.
    Boot,
    /// Waiting for a user, and logging one in.
    Login,
    /// Waiting for a parcel to be chosen.
    Choose,
    /// The kiosk's hardware is measured.
    Check,
    /// The server holds it against the tag and gives the lock.
    Lock,
    /// The parcel's record and keyring are opened.
    Open,
    /// The VMM restores (or boots) the machine.
    Restore,
    /// The user works.
    Run,
    /// The machine is paused and taken over.
    Save,
    /// Changes go home.
    Commit,
    /// The lock was broken elsewhere: changes go home as a parcel of their own.
    Rescue,
    /// The lock is released.
    Unlock,
    /// Everything of the session is destroyed.
    Wipe,
    /// And looked for.
    Verify,
}

/// Who is logged in, and for how long.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Login {
    /// Kerberos principal.
    pub principal: String,
    /// Seconds since 1970 by the kiosk's clock at which the parcel server's token ends.
    pub ends: u64,
    /// Likewise, at which the user logged in.
    #[serde(default)]
    pub began: u64,
}

/// The keyboard of a screen's terminal.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Keyboard {
    /// Name of the layout in use; empty: the kernel's own, because none could be applied.
    pub layout: String,
    /// The layouts that there are.
    pub layouts: Vec<KeyboardLayout>,
}

/// A keyboard layout that can be chosen.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct KeyboardLayout {
    /// Its name, such as `de`.
    pub name: String,
    /// Its name for people: `German`.
    pub title: String,
}

/// Where the session stands.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct State {
    /// Name of this kiosk.
    pub kiosk: String,
    /// Version of its image.
    #[serde(default)]
    pub image: String,
    /// The phase.
    pub phase: Phase,
    /// What is being done in it, one line for the traveller.
    pub doing: String,
    /// Progress of a long step.
    pub progress: Option<Progress>,
    /// Network: `None` while there is none, with the reason in `network_detail`.
    pub network: Option<String>,
    /// One line on the network for the traveller.
    pub network_detail: String,
    /// Whose session it is; `None` at login.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub login: Option<Login>,
    /// The parcel in use, by its name.
    pub parcel: Option<String>,
    /// Its id; from the choice to the wipe.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub parcel_id: Option<ParcelId>,
    /// What shows that a password opens it, as [`Command::Opened`] said; likewise. It is kept here so that neither a dead
    /// engine nor screens that start again need the server for it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub proof: Option<Proof>,
    /// The screen is locked: nothing of the guest is shown and no key reaches it until [`Command::Unlocked`].
    #[serde(default)]
    pub locked: bool,
    /// Passwords that were wrong at the screen's lock since one was right: screens that start again make the next try wait.
    #[serde(default)]
    pub failures: u32,
    /// How often the power button was pressed on the way out of this session, where it ends nothing: the screens say why.
    #[serde(default)]
    pub presses: u32,
    /// Something went wrong and the session walked back to login: shown until dismissed.
    pub notice: Option<WireError>,
    /// Wishes the kiosk does not meet.
    pub wishes_missed: Vec<Miss>,
    /// The guest waits for a piece.
    pub waiting: Option<Waiting>,
    /// The guest's wall clock is wrong, and nothing in it is known to set it.
    #[serde(default)]
    pub clock_behind: bool,
    /// The last wipe's report: shown until dismissed.
    pub report: Option<WipeReport>,
    /// The keyboard, where there is one: not on a serial terminal.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub keyboard: Option<Keyboard>,
    /// How the kiosk itself is.
    #[serde(default)]
    pub health: Health,
    /// `true` when the guest's console can be shown (`console.sock`).
    pub console: bool,
    /// The phases of the session so far.
    pub timeline: Vec<PhaseRecord>,
}

/// What the user wants.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "cmd", rename_all = "snake_case")]
pub enum Command {
    /// A user logged in, or the same one again in mid-session; `cached` has the token.
    LoggedIn(Login),
    /// A key slot of the parcel was opened, and `cached` has the key; this is what proves a password until the session ends.
    Opened(Proof),
    /// Resume this parcel, after [`Command::Opened`].
    Resume {
        /// The id of the parcel.
        parcel: ParcelId,
        /// Its name.
        name: String,
        /// Boot from disk, leaving the saved memory.
        #[serde(default)]
        cold_boot: bool,
        /// Take the lock from another session of the same user.
        #[serde(default)]
        break_lock: bool,
    },
    /// Suspend, commit, unlock, wipe.
    Suspend,
    /// Nobody sits at the session, or the user wants it: the screen is locked until [`Command::Unlocked`].
    Lock,
    /// The user has shown that the session is theirs: the screen is not locked any more.
    Unlocked,
    /// What was typed to unlock the screen, or to give work up, was wrong.
    WrongPassword,
    /// Give up the step under way: walk back to login, keeping the last committed version.
    GiveUp,
    /// Log out before a parcel was resumed.
    LogOut,
    /// The notice or report was read.
    Dismiss,
    /// Size of the guest's console on the screen.
    ConsoleSize {
        /// Width in columns.
        cols: u16,
        /// Height in rows.
        rows: u16,
    },
    /// Use this keyboard layout from now on, until the session ends.
    Keyboard {
        /// Its name.
        layout: String,
    },
    /// Find out what stands between this kiosk and a log-in, once (only when nobody is logged in).
    Diagnose,
    /// Power the kiosk off (only when nobody is logged in).
    PowerOff,
    /// Restart the kiosk (only when nobody is logged in).
    Reboot,
}

/// One phase as it went; also a line of the kiosk's log, after the word `timeline`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct PhaseRecord {
    /// Name of the kiosk.
    pub kiosk: String,
    /// Which phase.
    pub phase: Phase,
    /// How long it took.
    pub seconds: f64,
    /// Bytes received from the server in it.
    pub bytes_in: u64,
    /// Bytes sent to the server in it.
    pub bytes_out: u64,
    /// `false` when it failed.
    pub ok: bool,
}

/// What the wipe did and what was looked for afterwards.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct WipeReport {
    /// `true` when every check passed.
    pub verified: bool,
    /// The version that the suspend committed, if one was.
    pub committed: Option<crate::id::Version>,
    /// The checks, in order.
    pub checks: Vec<WipeCheck>,
}

/// One thing that was looked for after the wipe.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct WipeCheck {
    /// What, for people: `no process of the session is left`.
    pub what: String,
    /// Whether it holds.
    pub ok: bool,
    /// What was found otherwise.
    #[serde(default)]
    pub found: String,
}
