//! What the traveller and the log are told when something goes wrong.

use crate::system::{Changes, Live, Lock, Sign};
use parcel::{
    id::Version,
    wire::{Code, WireError},
};
use std::borrow::Cow;

/// What it costs that the session ends as it stands: sentences to be put after the error's own.
pub(super) fn losses(live: &Live, committed: Option<Version>) -> String {
    let version = live.version;
    let changes = match (live.changes, committed) {
        (Changes::None, None) => Cow::from(""),
        (Changes::None, Some(home)) => {
            format!(" Version {home} of your computer is on the server, whole.").into()
        }
        (Changes::Unsaved, _) if version == Version(0) => {
            " Nothing of this computer had been saved yet: it starts from its beginning the next time.".into()
        }
        (Changes::Unsaved, _) => {
            format!(" What changed since version {version} is lost; your computer resumes as it was then.").into()
        }
        (Changes::InDoubt, _) => format!(
            " Your last changes may not have reached the server: your computer resumes as you left it, or as in \
             version {version}."
        )
        .into(),
    };
    let lock = match live.lock {
        Lock::None => "",
        Lock::Asked => " If this kiosk still holds its lock at the next log-in, break the lock.",
        Lock::Held => " This kiosk still holds its lock; break the lock at the next log-in.",
        Lock::Returned => {
            " The server did not confirm the release of its lock. If this kiosk still holds the lock at the next log-in, \
             break the lock."
        }
    };
    format!("{changes}{lock}")
}

/// What the user reads of a version without memory.
pub(super) const MEMORY_LOST: &str = " Your computer's disk is saved as it was then, as after a power cut. What was open and \
                                      not saved is lost. It starts from its disk the next time.";

/// What helps where the machine cannot be saved: a machine that is off needs no memory.
pub(super) const SHUT_DOWN: &str = " Try again. If it fails again, save what is open and shut your computer down in its own window: then its disk is kept.";

/// What the screens show of a sentence, in characters.
const SENTENCE: usize = 400;
/// And of a word.
const WORD: usize = 60;
/// And of a list.
const MISSES: usize = 32;

/// Cuts an error to what the screen has room for, so that nobody makes a state too long to be sent.
pub(super) fn brief(mut error: WireError) -> WireError {
    cut(&mut error.message, SENTENCE);
    error.misses.truncate(MISSES);
    for miss in &mut error.misses {
        for text in [&mut miss.item, &mut miss.needed, &mut miss.found] {
            cut(text, WORD);
        }
    }
    if let Some(holder) = &mut error.holder {
        cut(&mut holder.principal, WORD);
        cut(&mut holder.kiosk, WORD);
    }
    error
}

/// Puts `more` behind an error's sentence, which is cut if there is not room for both: what was lost matters more.
pub(super) fn extend(mut error: WireError, more: &str) -> WireError {
    cut(&mut error.message, SENTENCE.saturating_sub(more.chars().count()));
    error.message.push_str(more);
    error
}

/// Cuts a text to `most` characters.
fn cut(text: &mut String, most: usize) {
    if text.chars().count() > most {
        *text = text.chars().take(most.saturating_sub(3)).chain("...".chars()).collect();
    }
}

/// `cached` is gone.
pub fn cached_died(how: &str) -> WireError {
    WireError::new(
        Code::CachedDied,
        format!("The part of this kiosk that keeps your computer's data stopped unexpectedly ({how})."),
    )
}

/// A sign in words.
pub(super) fn noticed(sign: Sign) -> String {
    match sign {
        Sign::Button => "The power button was pressed".to_owned(),
        Sign::Lid => "The lid was closed".to_owned(),
        Sign::Battery(percent) => format!("The battery is down to {percent} %"),
        Sign::Powered => "The kiosk has power again".to_owned(),
    }
}

/// The battery would not last for a session.
pub(super) fn too_low(percent: u8) -> WireError {
    let text = format!(
        "This kiosk's battery is down to {percent} %, too little for a session. Connect the kiosk to power, and log in again."
    );
    WireError::new(Code::BatteryLow, text)
}

/// Why a user who was away finds the session ended.
pub(super) fn suspended_for(percent: u8) -> WireError {
    let text = format!(
        "This kiosk's battery was down to {percent} %, so your computer was suspended. Connect the kiosk to power before you resume it."
    );
    WireError::new(Code::BatteryLow, text)
}

/// The VMM is gone.
pub fn vmm_died(how: &str) -> WireError {
    WireError::new(Code::VmmDied, format!("Your computer stopped unexpectedly ({how})."))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_notice_fits_the_screen_and_tells_all_losses() {
        for changes in [Changes::None, Changes::Unsaved, Changes::InDoubt] {
            for lock in [Lock::None, Lock::Asked, Lock::Held, Lock::Returned] {
                let live = Live { version: Version(99_999), changes, lock };
                for home in [None, Some(live.version)] {
                    let losses = losses(&live, home);
                    let long = extend(WireError::new(Code::Hardware, "é".repeat(1000)), &losses);
                    assert_eq!(long.message.chars().count(), SENTENCE, "{changes:?} {lock:?}");
                    assert!(long.message.ends_with(&losses));
                    // The kiosk's own sentences are not cut.
                    let own = cached_died("exit status 101");
                    assert_eq!(extend(own.clone(), &losses).message, format!("{}{losses}", own.message));
                }
            }
        }
        assert_eq!(brief(WireError::new(Code::Hardware, "short")).message, "short");
    }
}
