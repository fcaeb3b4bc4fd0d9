//! What the screens do, step by step, against a world that only writes down.

use crate::desk::*;
use kiosk_ui::{
    app::{Dialog, View},
    event::{Event, OpenError},
    trouble::Trouble,
};
use parcel::{
    id::ParcelId,
    wire::{
        Code, WireError,
        session::{Command, Phase, State},
    },
};

fn resume(parcel: ParcelId, name: &str, cold_boot: bool, break_lock: bool) -> [Did; 2] {
    let resume = Command::Resume { parcel, name: name.into(), cold_boot, break_lock };
    [Command::Opened(proof()), resume].map(command)
}

#[test]
fn the_whole_path() {
    let mut desk = Desk::at_login();
    desk.did();
    desk.keys(&format!("shanta\r{PASSWORD}\r"));
    assert_eq!(desk.world.0, [Did::Login { attempt: 1, user: "shanta".into(), password: PASSWORD.into() }]);
    desk.did();
    desk.event(Event::LoggedIn { attempt: 1, result: Ok(session()) });
    assert_eq!(desk.did(), [Did::Adopt(1, "shanta@WAYSTATION.TEST".into())]);
    desk.event(Event::Adopted { attempt: 1, result: Ok(()) });
    assert_eq!(desk.did(), [command(Command::LoggedIn(login()))]);

    desk.state(state(Phase::Choose));
    assert_eq!(desk.did(), [Did::Parcels]);
    desk.list(Ok(parcels()));
    assert!(desk.text().contains("Your computers"));
    desk.keys("\r");
    let parcel = parcels()[0].id;
    let login = Some(PASSWORD.to_owned());
    assert_eq!(desk.world.0, [Did::Open { attempt: 3, parcel, login, typed: None, proof: false }]);
    desk.opened(parcel, Ok(()));
    assert_eq!(desk.did(), resume(parcel, "desk", false, false));

    for phase in [Phase::Check, Phase::Lock, Phase::Open, Phase::Restore] {
        desk.state(State { parcel: Some("desk".into()), ..state(phase) });
        assert!(desk.text().contains("Resuming desk"), "{phase:?}");
    }
    assert_eq!(desk.did(), [command(Command::ConsoleSize { cols: 80, rows: 24 })]);
    desk.state(running());
    assert_eq!(desk.did(), [Did::Console(true)]);
    desk.event(Event::Console(b"$ ".to_vec()));
    desk.keys("ls\r\x1b[A\x03");
    let typed: Vec<u8> = desk
        .did()
        .into_iter()
        .flat_map(|did| if let Did::Typed(bytes) = did { bytes } else { panic!("{did:?}") })
        .collect();
    assert_eq!(typed, b"ls\r\x1b[A\x03");
    desk.event(Event::Resize(100, 40));
    assert_eq!(desk.did(), [command(Command::ConsoleSize { cols: 100, rows: 39 })]);

    desk.keys("\x1ds");
    assert_eq!(desk.did(), [command(Command::Suspend)]);
    for phase in [Phase::Save, Phase::Commit, Phase::Unlock, Phase::Wipe, Phase::Verify] {
        desk.state(State { parcel: Some("desk".into()), timeline: timeline(&[Phase::Save]), ..state(phase) });
        assert!(desk.text().contains("Suspending desk"), "{phase:?}");
    }
    desk.state(State { report: Some(report(true)), ..state(Phase::Login) });
    assert!(desk.text().contains("Wipe report") && desk.text().contains("verified"));
    desk.did();
    desk.keys("\r");
    assert_eq!(desk.did(), [command(Command::Dismiss)]);
    assert_eq!(desk.app.view(), View::Login);
    assert!(desk.text().contains("Log in") && !desk.text().contains("shanta"));
}

#[test]
fn a_wrong_password_is_asked_for_again_and_the_user_name_stays() {
    let mut desk = Desk::at_login();
    desk.keys("shanta\tnot it\r");
    desk.event(Event::LoggedIn { attempt: 1, result: Err(Trouble::new("No.", Code::LoginDenied)) });
    assert!(desk.app.login.password.is_empty());
    desk.did();
    desk.keys(&format!("{PASSWORD}\r"));
    assert_eq!(desk.did(), [Did::Login { attempt: 2, user: "shanta".into(), password: PASSWORD.into() }]);
}

#[test]
fn an_empty_field_is_gone_to_and_nothing_is_asked() {
    let mut desk = Desk::at_login();
    desk.did();
    desk.keys("\r\r");
    desk.keys("x\r\r\r");
    assert_eq!(desk.did(), []);
}

#[test]
fn an_answer_after_the_user_gave_up_changes_nothing() {
    let mut desk = Desk::at_login();
    desk.keys(&format!("shanta\r{PASSWORD}\r"));
    desk.keys("\x1b");
    desk.did();
    desk.event(Event::LoggedIn { attempt: 1, result: Ok(session()) });
    assert_eq!(desk.did(), []);
    desk.keys(&format!("{PASSWORD}\r"));
    desk.did();
    desk.event(Event::LoggedIn { attempt: 1, result: Ok(session()) });
    assert_eq!(desk.did(), [], "the first attempt's answer is not the second's");
}

#[test]
fn leaving_after_init_was_told_logs_out() {
    let mut desk = Desk::at_login();
    desk.log_in();
    desk.did();
    desk.keys("\x1b");
    assert_eq!(desk.did(), [command(Command::LogOut)]);
}

#[test]
fn a_session_that_the_cache_does_not_take_is_an_error() {
    let mut desk = Desk::at_login();
    desk.keys(&format!("shanta\r{PASSWORD}\r"));
    desk.event(Event::LoggedIn { attempt: 1, result: Ok(session()) });
    desk.did();
    desk.event(Event::Adopted {
        attempt: 1,
        result: Err(Trouble::new("It does not answer.", Code::CacheService)),
    });
    assert_eq!(desk.did(), []);
    assert!(desk.text().contains("cache-service"));
}

#[test]
fn the_power_menu_is_there_only_before_a_log_in() {
    let mut desk = Desk::at_login();
    desk.did();
    desk.function(10);
    desk.keys("x\x1b");
    assert_eq!(desk.did(), []);
    desk.keys("\x0fr");
    assert_eq!(desk.did(), [command(Command::Reboot)]);
    let mut desk = Desk::at_list();
    desk.did();
    desk.keys("\x0fp");
    assert_eq!(desk.did(), []);
    desk.function(10);
    assert_eq!(desk.did(), [command(Command::LogOut)]);
}

#[test]
fn a_changed_password_costs_one_question() {
    let mut desk = Desk::at_list();
    desk.keys("\r");
    let parcel = parcels()[0].id;
    desk.opened(parcel, Err(OpenError::Wrong));
    assert!(desk.text().contains("recovery key"));
    desk.keys("the old one\r");
    let open = Did::Open {
        attempt: 4,
        parcel,
        login: Some(PASSWORD.into()),
        typed: Some("the old one".into()),
        proof: false,
    };
    assert_eq!(desk.world.0, [open]);
    desk.opened(parcel, Err(OpenError::Wrong));
    assert!(desk.text().contains("That does not open it"));
    desk.keys("older\r");
    desk.opened(parcel, Ok(()));
    assert_eq!(desk.did(), resume(parcel, "desk", false, false));
}

#[test]
fn opening_can_be_left() {
    let mut desk = Desk::at_list();
    desk.keys("\r\x1b");
    let parcel = parcels()[0].id;
    desk.opened(parcel, Ok(()));
    assert_eq!(desk.did(), []);
    assert_eq!(desk.app.view(), View::List);
}

#[test]
fn a_cold_boot_and_a_broken_lock_are_confirmed() {
    let mut desk = Desk::at_list();
    let list = parcels();
    desk.did();
    desk.function(5);
    assert_eq!(desk.did(), []);
    desk.keys("ccc\r");
    assert_eq!(desk.did(), [], "a key that repeats itself confirms nothing");
    desk.keys("y");
    desk.opened(list[0].id, Ok(()));
    assert_eq!(desk.did(), resume(list[0].id, "desk", true, false));

    let mut desk = Desk::at_list();
    desk.did();
    desk.keys("j\r");
    assert_eq!(desk.app.dialog, Some(Dialog::BreakLock { cold_boot: false }));
    desk.keys("\r");
    assert_eq!(desk.did(), [], "Enter alone breaks no lock");
    desk.keys("b");
    desk.opened(list[1].id, Ok(()));
    assert_eq!(desk.did(), resume(list[1].id, "travel", false, true));

    // What that costs is said, too.
    let mut desk = Desk::at_list();
    desk.keys("jc");
    assert!(desk.text().contains("what they did not save is lost"), "{}", desk.text());
    desk.keys("b");
    desk.opened(list[1].id, Ok(()));
    assert_eq!(desk.did(), resume(list[1].id, "travel", true, true));

    // What was never started has no memory to lose.
    let mut desk = Desk::at_list();
    desk.keys("jjc");
    desk.opened(list[2].id, Ok(()));
    assert_eq!(desk.did(), resume(list[2].id, "new machine", false, false));
}

#[test]
fn a_notice_and_a_report_are_read_one_after_the_other() {
    let mut desk = Desk::new();
    desk.state(State {
        notice: Some(WireError::new(Code::VmmDied, "It stopped.")),
        report: Some(report(true)),
        ..state(Phase::Login)
    });
    desk.did();
    assert!(desk.text().contains("It stopped."));
    desk.keys("x\r");
    assert!(desk.text().contains("Wipe report"));
    assert_eq!(desk.did(), []);
    desk.keys("\r");
    assert_eq!(desk.did(), [command(Command::Dismiss)]);
}

#[test]
fn a_failed_save_is_told_over_the_machine_that_goes_on() {
    let mut desk = Desk::at_run();
    desk.state(State {
        notice: Some(WireError::new(Code::VmmSystem, "It could not be saved.")),
        ..running()
    });
    desk.did();
    desk.keys("x");
    assert!(desk.text().contains("It could not be saved."));
    assert_eq!(desk.did(), [], "what is typed at a notice is not the guest's");
    desk.keys("\r");
    assert_eq!(desk.did(), [command(Command::Dismiss)]);
    assert!(desk.text().contains("shanta@guest"));
}

#[test]
fn missing_hardware_leads_back_to_the_list_if_init_stays_there() {
    let mut desk = Desk::at_list();
    desk.keys("\r");
    desk.opened(parcels()[0].id, Ok(()));
    desk.state(state(Phase::Check));
    let mut error = WireError::new(Code::Hardware, "This kiosk cannot run desk.");
    error.misses = misses();
    desk.state(State { notice: Some(error), ..state(Phase::Choose) });
    assert!(desk.text().contains("Hardware") && desk.text().contains("CPU feature avx2"));
    desk.did();
    desk.keys("\r");
    assert_eq!(desk.app.view(), View::List);
    desk.list(Ok(parcels()));
    desk.did();
    desk.keys("\r");
    assert!(matches!(&desk.did()[..], [Did::Open { login: Some(_), .. }]), "the password is still there");
}

#[test]
fn the_password_is_gone_when_the_machine_is_open() {
    let mut desk = Desk::at_list();
    desk.keys("\r");
    desk.opened(parcels()[0].id, Ok(()));
    desk.state(state(Phase::Restore));
    desk.state(state(Phase::Choose));
    desk.list(Ok(parcels()));
    desk.did();
    desk.keys("\r");
    assert_eq!(desk.did(), []);
    assert!(desk.text().contains("Type the password"));
}

#[test]
fn giving_up_is_confirmed_where_it_is_possible() {
    for phase in [Phase::Check, Phase::Lock, Phase::Open, Phase::Restore] {
        let mut desk = Desk::new();
        desk.state(state(phase));
        desk.did();
        desk.keys("cn");
        assert_eq!(desk.did(), []);
        desk.keys("cy");
        assert_eq!(desk.did(), [command(Command::GiveUp)], "{phase:?}");
    }
    for phase in [Phase::Unlock, Phase::Wipe, Phase::Verify] {
        let mut desk = Desk::new();
        desk.state(state(phase));
        desk.did();
        desk.keys("cy\x1by");
        assert_eq!(desk.did(), [], "{phase:?}");
    }
}

#[test]
fn the_menu_works_by_letters_by_cursor_and_twice_pressed() {
    let mut desk = Desk::at_run();
    desk.did();
    desk.keys("\x1db");
    desk.keys("\x1d\r");
    desk.keys("\x1d\x1b");
    assert_eq!(desk.did(), []);
    desk.keys("\x1d\x1b[B\r");
    assert_eq!(desk.did(), [command(Command::Suspend)]);
    desk.keys("\x1d\x1d");
    assert_eq!(desk.did(), [Did::Typed(vec![0x1d])]);
    desk.function(12);
    assert_eq!(desk.app.dialog, Some(Dialog::Menu(0)));
    desk.keys("d");
    assert_eq!(desk.did(), [Did::Status]);
    desk.event(Event::Tick(NOW + 1));
    assert_eq!(desk.did(), [Did::Status], "details are kept up to date");
    desk.keys("\x1b");
    desk.event(Event::Tick(NOW + 2));
    assert_eq!(desk.did(), []);
}

#[test]
fn ctrl_l_draws_again_unless_the_guest_has_the_keys() {
    let mut desk = Desk::at_list();
    desk.did();
    desk.keys("\x0c");
    assert_eq!((desk.app.take_repaint(), desk.app.take_repaint()), (true, false));
    assert_eq!(desk.did(), [], "it logs nobody out");
    let mut desk = Desk::at_run();
    desk.did();
    desk.keys("\x0c");
    assert!(!desk.app.take_repaint());
    assert_eq!(desk.did(), [Did::Typed(vec![0x0c])]);
    desk.keys("\x1d\x0c");
    assert!(desk.app.take_repaint());
}

#[test]
fn the_network_is_told_once() {
    let mut desk = Desk::at_login();
    let mut online = state(Phase::Login);
    online.network = Some("10.0.2.15 (eth0)".into());
    online.network_detail = "Network: 10.0.2.15 (eth0)".into();
    desk.state(online);
    assert_eq!(desk.text().matches("10.0.2.15").count(), 1, "{}", desk.text());
}

#[test]
fn the_console_follows_init() {
    let mut desk = Desk::at_run();
    desk.event(Event::Console(b"secret".to_vec()));
    desk.event(Event::ConsoleLost);
    assert!(!desk.text().contains("secret"));
    desk.event(Event::Console(b"again".to_vec()));
    desk.did();
    desk.state(State { console: false, ..running() });
    assert_eq!(desk.did(), [Did::Console(false)]);
    desk.state(running());
    assert!(!desk.text().contains("again"));
    assert_eq!(desk.did(), [Did::Console(true)]);
    // After `init` came back it is told the size again.
    desk.event(Event::InitLost);
    desk.state(running());
    assert_eq!(desk.did(), [command(Command::ConsoleSize { cols: 80, rows: 24 })]);
}

#[test]
fn a_window_closes_when_what_it_is_about_has_passed() {
    let mut desk = Desk::at_run();
    desk.keys("\x1dg");
    desk.state(state(Phase::Wipe));
    assert_eq!(desk.app.dialog, None);
    desk.did();
    desk.keys("y");
    assert_eq!(desk.did(), []);
}

#[test]
fn nothing_of_a_session_is_left_on_the_screens_after_it() {
    let mut desk = Desk::at_list();
    desk.state(state(Phase::Wipe));
    desk.state(state(Phase::Login));
    assert!(desk.app.list.parcels.is_none());
    assert!(desk.app.login.user.is_empty() && desk.app.login.password.is_empty());
}
