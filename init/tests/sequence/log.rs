//! Whoever stands at the login screen can read the log: of errors it has codes, and no words of a session.

use crate::{
    fake::{Fake, Go, waiting, wrong},
    two,
};
use parcel::wire::{Code, session::Command};
use waystation_init::system::Event;

/// Sessions that end in each of the ways that write an error down, and what the log has of it.
#[test]
fn the_log_has_codes_and_no_words() {
    let failing = |plan: &[(&'static str, Code)]| {
        let mut fake = Fake::with_user();
        plan.iter().for_each(|(what, code)| fake.goes(what, wrong(*code)));
        for command in [Command::GiveUp, Command::Suspend, Command::GiveUp] {
            fake.patience.push_back(Event::Command(command));
        }
        fake
    };
    let mut waits = failing(&[]);
    waits.goes("commit", Go::Silent);
    waits.follows.insert("commit", Event::Status(waiting(Code::ServerUnreachable)));
    let ways = [
        (waits, "waiting [server-unreachable]"),
        (failing(&[("open", Code::NoSuchParcel)]), "phase open failed [no-such-parcel]"),
        (
            failing(&[("open", Code::NoSuchParcel), ("unlock", Code::NotOwner)]),
            "undo lock failed [not-owner]",
        ),
        (failing(&[("save", Code::NoAnswer), ("resume", Code::NoAnswer)]), "going on failed [no-answer]"),
        (failing(&[("commit", Code::InternalError)]), "waiting for the user to give up [internal-error]"),
    ];
    for (mut fake, line) in ways {
        two(&mut fake);
        assert!(fake.log.iter().any(|written| written == line), "{line}: {:#?}", fake.log);
        let words = |written: &&String| written.contains("went wrong") || written.contains("it waits");
        assert_eq!(fake.log.iter().find(words), None, "{line}");
    }
}
