//! Passwords, key files and key slots, as the command line handles them.

use super::{AdminError, Exit, Result, begun::Begun, terminal};
use parcel::{
    id::ParcelId,
    secret::{ParcelKey, Secret},
    slot::{Argon2Cost, RecoveryKey, SlotError, Slots},
    wire::Code,
};
use std::{
    fs::{self, OpenOptions},
    io::{self, Write as _},
    os::unix::fs::OpenOptionsExt as _,
    path::Path,
};
use zeroize::Zeroizing;

/// Fresh random bytes.
pub(super) fn random<const N: usize>() -> Result<Zeroizing<[u8; N]>> {
    let mut bytes = Zeroizing::new([0; N]);
    getrandom::fill(&mut *bytes)
        .map_err(|e| AdminError::new(Exit::Failed, Code::NoRandomness, e.to_string()))?;
    Ok(bytes)
}

/// A new parcel key.
pub(super) fn new_key() -> Result<ParcelKey> {
    Ok(ParcelKey::from_bytes(*random()?))
}

/// A new parcel secret.
pub(super) fn new_secret() -> Result<Secret> {
    Ok(Secret::from_bytes(*random()?))
}

/// The key in the file, or a new one in a new file that only its owner can read, which means nothing if what was
/// `begun` is not finished.
pub(super) fn key_file(path: &Path, begun: &Begun) -> Result<ParcelKey> {
    if path.exists() {
        return read_key(path);
    }
    let key = new_key()?;
    let failed =
        |e: io::Error| AdminError::input(format!("key file {}: {e}; choose another place", path.display()));
    write_private(path, key.to_hex().as_bytes()).map_err(failed)?;
    begun.file(path);
    Ok(key)
}

/// Refuses a key that is in no file any more: without it nobody could ever open what was sealed with it.
pub(super) fn check_key(path: &Path, key: &ParcelKey) -> Result<()> {
    match read_key(path)? == *key {
        true => Ok(()),
        false => Err(AdminError::input(format!(
            "key file {}: it was changed meanwhile and holds another key; give the command again",
            path.display()
        ))),
    }
}

/// The key in a file.
pub(super) fn read_key(path: &Path) -> Result<ParcelKey> {
    let bad = |why: String| {
        AdminError::input(format!("key file {}: {why}; give the file that import wrote", path.display()))
    };
    let text = Zeroizing::new(fs::read_to_string(path).map_err(|e| bad(e.to_string()))?);
    ParcelKey::from_hex(text.trim()).map_err(|e| bad(e.to_string()))
}

/// Writes a line to a file that must not exist yet, for its owner alone.
pub(super) fn write_private(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)?;
    let written = file.write_all(bytes).and_then(|()| file.write_all(b"\n")).and_then(|()| file.sync_all());
    if written.is_err() {
        let _ = fs::remove_file(path);
    }
    written
}

/// A password from a file's first line, or asked for; a new one is asked for twice.
pub(super) fn password(file: Option<&Path>, what: &str, new: bool) -> Result<Zeroizing<String>> {
    if let Some(path) = file {
        let bad = |why: &str| AdminError::input(format!("password file {}: {why}", path.display()));
        let text = Zeroizing::new(fs::read_to_string(path).map_err(|e| bad(&e.to_string()))?);
        let line = text.lines().next().filter(|line| !line.is_empty());
        return line
            .map(|line| Zeroizing::new(line.to_owned()))
            .ok_or_else(|| bad("its first line is empty"));
    }
    let first = ask(&format!("{what}: "))?;
    if new && *ask(&format!("{what} again: "))? != *first {
        return Err(AdminError::input("the two passwords are not the same; start again"));
    }
    Ok(first)
}

/// Reads a line without showing it.
fn ask(prompt: &str) -> Result<Zeroizing<String>> {
    let mut line = terminal::question(prompt)
        .map_err(|e| AdminError::input(format!("no password can be read: {e}; use --password-file")))?;
    let end = line.trim_end_matches(['\n', '\r']).len();
    line.truncate(end);
    if line.is_empty() {
        return Err(AdminError::input("no password was given; type it, or use --password-file"));
    }
    Ok(line)
}

/// Adds a password slot.
pub(super) fn set_password(
    slots: &mut Slots,
    password: &str,
    key: &ParcelKey,
    parcel: &ParcelId,
) -> Result<()> {
    let salt = random()?;
    slots
        .set_password(password.as_bytes(), key, parcel, *salt, Argon2Cost::default())
        .map_err(|e| AdminError::input(e.to_string()))
}

/// A new recovery key.
pub(super) fn new_recovery() -> Result<RecoveryKey> {
    Ok(RecoveryKey::from_bytes(*random()?))
}

/// Refuses a place for the recovery key that is taken already, before anything is begun.
pub(super) fn check_recovery_out(out: Option<&Path>) -> Result<()> {
    match out.filter(|path| path.exists()) {
        Some(path) => {
            let text = format!(
                "recovery file {}: it is there already; if that is from an earlier attempt that was cut off, and its parcel is \
                 not there, remove the file, else choose another place",
                path.display()
            );
            Err(AdminError::input(text))
        }
        None => Ok(()),
    }
}

/// Writes the recovery key to a new file, which means nothing if what was `begun` is not finished.
pub(super) fn write_recovery(path: &Path, recovery: &RecoveryKey, begun: &Begun) -> Result<()> {
    write_private(path, recovery.to_text().as_bytes()).map_err(|e| {
        AdminError::input(format!("recovery file {}: {e}; choose another place", path.display()))
    })?;
    begun.file(path);
    Ok(())
}

/// Where the key of an existing parcel comes from.
#[derive(clap::Args)]
pub(super) struct KeySource {
    /// File with the parcel key, as import wrote it; without it, the command asks for the parcel's password.
    #[arg(long, value_name = "FILE")]
    pub key_file: Option<std::path::PathBuf>,
    /// Ask for the recovery key instead of the password.
    #[arg(long, conflicts_with = "key_file")]
    pub recovery: bool,
}

impl KeySource {
    /// Opens the key of `parcel`, whose slots are `slots` if it has any.
    pub fn open(&self, parcel: &ParcelId, slots: Option<&[u8]>, what: &str) -> Result<ParcelKey> {
        if let Some(path) = &self.key_file {
            return read_key(path);
        }
        let slots =
            slots.ok_or_else(|| AdminError::input("the parcel has no key slots; give its --key-file"))?;
        let slots = Slots::from_json(slots).map_err(wrong)?;
        if self.recovery {
            let text = ask(&format!("Recovery key of {what}: "))?;
            let key: RecoveryKey = text.parse().map_err(|e| AdminError::input(format!("{e}")))?;
            return slots.open_recovery(&key, parcel).map_err(wrong);
        }
        let password = password(None, &format!("Password of {what}"), false)?;
        slots.open_password(password.as_bytes(), parcel).map_err(wrong)
    }
}

fn wrong(error: SlotError) -> AdminError {
    AdminError::input(error.to_string())
}
