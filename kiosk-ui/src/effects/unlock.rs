//! From a password to a parcel's key in the hands of `cached`.

use super::{
    Unlock,
    real::{ask, unexpected},
};
use crate::{event::OpenError, password::Password, trouble::Trouble};
use parcel::{
    id::ParcelId,
    secret::ParcelKey,
    slot::{Argon2Cost, BadRecoveryKey, Proof, RecoveryKey, Slot, SlotError, Slots},
    wire::{
        Code,
        daemon::{Reply, Request},
    },
};
use std::{path::Path, str::FromStr, sync::Arc};
use tokio::{sync::Semaphore, task::spawn_blocking};

/// Argon2 takes much memory: whatever the screens ask for, one key is derived at a time.
static ONE: Semaphore = Semaphore::const_new(1);

/// Opens a slot with the log-in password, else with what was typed: one of the session under way, if there is one, else one
/// on the server. Gives the key to `cached`; and when it was not the
/// log-in password that opened, rewrites the password slot for it, so that next time it does. Answers what proves the
/// password from now on.
pub async fn open(cached: &Path, unlock: Unlock) -> Result<Proof, OpenError> {
    let parcel = unlock.parcel;
    let unlock = Arc::new(unlock);
    let opened = match &unlock.proof {
        None => opened_by(fetch(cached, parcel).await?, &unlock).await?,
        Some(proof) => match opened_by(proof.slots().clone(), &unlock).await {
            Ok(opened) => rebased(opened, cached, &unlock).await,
            // Written anew at another place, they may open by what was typed here; or somebody made them up.
            Err(first) => match fetch(cached, parcel).await {
                Ok(slots) if slots != *proof.slots() => match opened_by(slots, &unlock).await {
                    Err(OpenError::OtherKey) => return Err(OpenError::OtherKey),
                    other => other.map_err(|_| first)?,
                },
                _ => return Err(first),
            },
        },
    };
    let request = Request::Key { parcel, key: opened.key.to_hex().into() };
    match ask(cached, request).await {
        Ok(Reply::Ok) => {}
        Ok(_) => return Err(OpenError::Trouble(unexpected())),
        Err(error) => return Err(OpenError::Trouble((&error).into())),
    }
    if let Some(slots) = &opened.rewritten {
        // The machine opens all the same; next time the old password is asked for again.
        if let Err(error) = ask(cached, Request::PutSlots { parcel, slots: slots.to_json() }).await {
            tracing::warn!(%error, "the password slot could not be rewritten");
        }
    }
    let slots = cheap(opened.slots, &opened.key, &unlock).await;
    Ok(Proof::new(slots, &opened.key))
}

/// What proves the password in the session: guest and engine share the memory by then, so whoever tries a password at a locked
/// screen must not take much more of it than a usual slot does, whatever the slot on the server asks for.
async fn cheap(slots: Slots, key: &ParcelKey, unlock: &Arc<Unlock>) -> Slots {
    let usual = Argon2Cost::default();
    let dear = password_cost(&slots).is_some_and(|cost| cost.memory_kib > usual.memory_kib);
    if !dear || unlock.login.is_none() {
        return slots;
    }
    let (mut made, unlock, key) = (slots.clone(), Arc::clone(unlock), key.clone());
    let making = alone(&ONE, move || {
        if let Some(login) = &unlock.login {
            put_password(&mut made, login, &key, &unlock.parcel, usual)?;
        }
        Ok(made)
    });
    making.await.unwrap_or(slots)
}

/// The slots on the server.
async fn fetch(cached: &Path, parcel: ParcelId) -> Result<Slots, OpenError> {
    match ask(cached, Request::Slots { parcel }).await {
        Ok(Reply::Slots { slots }) => Slots::from_json(slots.as_bytes()).map_err(trouble),
        Ok(_) => Err(OpenError::Trouble(unexpected())),
        Err(error) => Err(OpenError::Trouble((&error).into())),
    }
}

async fn opened_by(slots: Slots, unlock: &Arc<Unlock>) -> Result<Opened, OpenError> {
    let unlock = Arc::clone(unlock);
    alone(&ONE, move || unwrap(slots, &unlock)).await
}

/// What is rewritten is what the server has now: its other slots may be newer than the session's.
async fn rebased(mut opened: Opened, cached: &Path, unlock: &Arc<Unlock>) -> Opened {
    if opened.rewritten.is_none() {
        return opened;
    }
    let theirs = fetch(cached, unlock.parcel).await.ok();
    let known = unlock.proof.as_ref().map(Proof::slots);
    if theirs.as_ref() == known {
        return opened;
    }
    opened.rewritten = None;
    if let Some(mut theirs) = theirs {
        let (unlock, key) = (Arc::clone(unlock), opened.key.clone());
        let done = alone(&ONE, move || {
            if let Some(login) = &unlock.login {
                rewrite(&mut theirs, login, &key, &unlock.parcel)?;
            }
            Ok(theirs)
        });
        opened.rewritten = done.await.ok();
    }
    opened
}

/// Checks that `typed` opens a slot of the parcel that is in use, and that what is in it is the key in use. Asks nobody: it
/// works when the server is away, and when the client engine is dead.
pub async fn prove(parcel: ParcelId, proof: Proof, typed: Password) -> Result<(), OpenError> {
    let checking = alone(&ONE, move || Ok(proof.is_of(&open_with(proof.slots(), &typed, &parcel)?)));
    checking.await?.then_some(()).ok_or(OpenError::OtherKey)
}

/// Does what takes about a second off the thread that draws, after what was asked for before. It cannot be stopped, so it
/// keeps its turn until it has ended, also when nobody waits for it any more.
async fn alone<T: Send + 'static>(
    one: &'static Semaphore,
    work: impl FnOnce() -> Result<T, OpenError> + Send + 'static,
) -> Result<T, OpenError> {
    let turn = one.acquire().await.map_err(|_| OpenError::Trouble(broken()))?;
    let done = spawn_blocking(move || {
        let done = work();
        drop(turn);
        done
    });
    done.await.map_err(|_| OpenError::Trouble(broken()))?
}

struct Opened {
    key: ParcelKey,
    /// With the password slot as it is from now on.
    slots: Slots,
    /// The same for the server, if the log-in password did not open them.
    rewritten: Option<Slots>,
}

fn unwrap(mut slots: Slots, unlock: &Unlock) -> Result<Opened, OpenError> {
    let Unlock { parcel, login, typed, proof, .. } = unlock;
    let in_use = |key: &ParcelKey| proof.as_ref().is_none_or(|proof| proof.is_of(key));
    if let Some(login) = login {
        match slots.open_password(login.as_bytes(), parcel) {
            Ok(key) if in_use(&key) => return Ok(Opened { key, slots, rewritten: None }),
            // What opens the key in use may still be typed.
            Ok(_) => tracing::warn!("the log-in password opens another key than the one in use"),
            Err(error) if does_not_open(&error) => {}
            Err(error) => return Err(trouble(error)),
        }
    }
    let key = open_with(&slots, typed.as_ref().ok_or(OpenError::Wrong)?, parcel)?;
    if !in_use(&key) {
        return Err(OpenError::OtherKey);
    }
    let mut rewritten = None;
    if let Some(login) = login {
        rewrite(&mut slots, login, &key, parcel)?;
        rewritten = Some(slots.clone());
    }
    Ok(Opened { key, slots, rewritten })
}

/// Tries what was typed as an older password, then as the recovery key.
fn open_with(slots: &Slots, typed: &Password, parcel: &ParcelId) -> Result<ParcelKey, OpenError> {
    match slots.open_password(typed.as_bytes(), parcel) {
        Ok(key) => return Ok(key),
        Err(error) if does_not_open(&error) => {}
        Err(error) => return Err(trouble(error)),
    }
    match RecoveryKey::from_str(typed.as_str()) {
        Ok(recovery) => match slots.open_recovery(&recovery, parcel) {
            Err(error) if !does_not_open(&error) => Err(trouble(error)),
            other => other.map_err(|_| OpenError::Wrong),
        },
        // 33 characters of the right kind: meant as a recovery key, with one of them wrong.
        Err(BadRecoveryKey::Check) => Err(OpenError::Slip),
        Err(_) => Err(OpenError::Wrong),
    }
}

/// Puts the key under the log-in password, at the cost that the slot had, but no less than the usual one: a slot that
/// somebody made to look cheap must not make guessing this password cheap.
fn rewrite(slots: &mut Slots, login: &Password, key: &ParcelKey, parcel: &ParcelId) -> Result<(), OpenError> {
    let least = Argon2Cost::default();
    let cost = password_cost(slots).map_or(least, |had| Argon2Cost {
        memory_kib: had.memory_kib.max(least.memory_kib),
        passes: had.passes.max(least.passes),
        lanes: had.lanes,
    });
    put_password(slots, login, key, parcel, cost)
}

fn password_cost(slots: &Slots) -> Option<Argon2Cost> {
    slots.slots.iter().find_map(|slot| match slot {
        Slot::Password { cost, .. } => Some(*cost),
        Slot::Recovery { .. } => None,
    })
}

fn put_password(
    slots: &mut Slots,
    login: &Password,
    key: &ParcelKey,
    parcel: &ParcelId,
    cost: Argon2Cost,
) -> Result<(), OpenError> {
    let mut salt = [0; 16];
    getrandom::fill(&mut salt).map_err(|_| OpenError::Trouble(broken()))?;
    slots.set_password(login.as_bytes(), key, parcel, salt, cost).map_err(trouble)
}

/// Another password or the recovery key may still open it.
fn does_not_open(error: &SlotError) -> bool {
    matches!(error, SlotError::Wrong(_) | SlotError::Missing(_) | SlotError::PasswordLength)
}

fn trouble(error: SlotError) -> OpenError {
    tracing::warn!(%error, "key slots");
    OpenError::Trouble(Trouble::new(
        "The key slots of this computer cannot be read, so it cannot be opened here. Tell your IT desk.",
        Code::SlotsUnreadable,
    ))
}

fn broken() -> Trouble {
    Trouble::new(
        "The key of this computer could not be worked out here. Try again, or restart the kiosk.",
        Code::UnlockFailed,
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    const CHEAP: Argon2Cost = Argon2Cost { memory_kib: 8, passes: 1, lanes: 1 };

    fn typed(text: &str) -> Password {
        let mut password = Password::new();
        text.chars().for_each(|c| assert!(password.push(c)));
        password
    }

    fn unwrap(
        json: &str,
        parcel: &ParcelId,
        login: Option<&Password>,
        typed: Option<&Password>,
    ) -> Result<Opened, OpenError> {
        let [login, typed] = [login, typed].map(|password| password.map(Password::duplicate));
        let slots = Slots::from_json(json.as_bytes()).map_err(trouble)?;
        super::unwrap(slots, &Unlock { attempt: 1, parcel: *parcel, login, typed, proof: None })
    }

    fn slots() -> (String, ParcelId, ParcelKey, String) {
        let (parcel, key) = (ParcelId([7; 16]), ParcelKey::from_bytes([9; 32]));
        let recovery = RecoveryKey::from_bytes([3; 20]);
        let mut slots = Slots::default();
        slots.set_password(b"old", &key, &parcel, [1; 16], CHEAP).unwrap();
        slots.set_recovery(&recovery, &key, &parcel);
        (slots.to_json(), parcel, key, recovery.to_text().to_string())
    }

    #[test]
    fn the_login_password_opens_and_changes_nothing() {
        let (json, parcel, key, _) = slots();
        let opened = unwrap(&json, &parcel, Some(&typed("old")), None).unwrap();
        assert_eq!(opened.key, key);
        assert!(opened.rewritten.is_none());
    }

    #[test]
    fn a_changed_password_costs_one_question_and_never_again() {
        let (json, parcel, key, recovery) = slots();
        let new = typed("new");
        assert_eq!(unwrap(&json, &parcel, Some(&new), None).err(), Some(OpenError::Wrong));
        assert_eq!(unwrap(&json, &parcel, Some(&new), Some(&typed("x"))).err(), Some(OpenError::Wrong));
        for answer in ["old", &recovery, &recovery.to_lowercase().replace('-', " ")] {
            let opened = unwrap(&json, &parcel, Some(&new), Some(&typed(answer))).unwrap();
            assert_eq!(opened.key, key);
            let rewritten = opened.rewritten.expect("it is rewritten").to_json();
            let cost = password_cost(&Slots::from_json(rewritten.as_bytes()).unwrap());
            assert_eq!(cost, Some(Argon2Cost::default()), "a cheap slot is not rewritten as cheaply");
            assert_eq!(unwrap(&rewritten, &parcel, Some(&new), None).unwrap().key, key);
            // The recovery key goes on opening; the old password does not.
            assert!(unwrap(&rewritten, &parcel, None, Some(&typed(&recovery))).is_ok());
            assert_eq!(unwrap(&rewritten, &parcel, None, Some(&typed("old"))).err(), Some(OpenError::Wrong));
        }
    }

    #[tokio::test]
    async fn a_session_keeps_no_slot_that_takes_much_memory_to_try() {
        let (_, parcel, key, _) = slots();
        let usual = Argon2Cost::default();
        for (cost, kept) in [
            (Argon2Cost { memory_kib: 256 << 10, passes: 1, lanes: 1 }, usual),
            (CHEAP, CHEAP),
            (usual, usual),
        ] {
            let mut slots = Slots::default();
            slots.set_password(b"old", &key, &parcel, [1; 16], cost).unwrap();
            let unlock = Unlock { attempt: 1, parcel, login: Some(typed("old")), typed: None, proof: None };
            let made = cheap(slots, &key, &Arc::new(unlock)).await;
            assert_eq!(password_cost(&made), Some(kept));
            assert_eq!(made.open_password(b"old", &parcel), Ok(key.clone()));
        }
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 4)]
    async fn keys_are_derived_one_at_a_time() {
        use std::{
            sync::atomic::{AtomicUsize, Ordering::SeqCst},
            thread::sleep,
            time::Duration,
        };
        static TURNS: Semaphore = Semaphore::const_new(1);
        static WORKING: AtomicUsize = AtomicUsize::new(0);
        let work = || {
            let others = WORKING.fetch_add(1, SeqCst);
            sleep(Duration::from_millis(30));
            WORKING.fetch_sub(1, SeqCst);
            Ok(others)
        };
        let mut asked = tokio::task::JoinSet::new();
        // One that nobody waits for any more goes on all the same.
        drop(tokio::time::timeout(Duration::from_millis(5), alone(&TURNS, work)).await);
        for _ in 0..4 {
            asked.spawn(alone(&TURNS, work));
        }
        assert_eq!(asked.join_all().await, [Ok(0), Ok(0), Ok(0), Ok(0)]);
    }

    #[test]
    fn a_slip_in_the_recovery_key_is_named() {
        let (json, parcel, _, recovery) = slots();
        let wrong = if recovery.starts_with('0') { "1" } else { "0" };
        let slipped = format!("{wrong}{}", &recovery[1..]);
        assert_eq!(unwrap(&json, &parcel, None, Some(&typed(&slipped))).err(), Some(OpenError::Slip));
    }

    #[test]
    fn slots_that_are_none_are_trouble_not_a_wrong_password() {
        let (json, _, _, _) = slots();
        let other = ParcelId([8; 16]);
        assert_eq!(unwrap(&json, &other, Some(&typed("old")), None).err(), Some(OpenError::Wrong));
        for bad in ["", "{}", "[]", &json[1..]] {
            let error = unwrap(bad, &other, Some(&typed("old")), None).err();
            assert!(matches!(error, Some(OpenError::Trouble(t)) if t.code == Code::SlotsUnreadable), "{bad}");
        }
    }
}
