//! Each `waystation` command against the server: its answer for people, in JSON, and its exit code.

use crate::desk::{Desk, Ended, MIB, elsewhere, ended};
use serde_json::Value;
use std::fs;

fn json(answer: &Ended) -> Value {
    serde_json::from_str(&answer.out).unwrap_or_else(|e| panic!("{e}: {answer:?}"))
}

#[test]
fn every_command_answers_people_and_programs() {
    let desk = Desk::new(MIB);
    let server = desk.setup.start();
    let run = |arguments: &[&str]| {
        let done = desk.run(&server, arguments);
        assert_eq!((done.code, done.err.as_str()), (0, ""), "{arguments:?}: {done:?}");
        done
    };
    assert_eq!(json(&run(&["ls", "--json"])), Value::Array(Vec::new()));
    let imported = json(&run(&desk.import(&["--json"])));
    assert_eq!(imported["name"], "golden");
    assert_eq!((&imported["version"], &imported["lock"]), (&1.into(), &Value::Null));
    // What was made up from what was sent is what the server says.
    assert_eq!(json(&run(&["ls", "--json"]))[0], imported);

    let cloned = json(&run(&desk.clone("it@WAYSTATION.TEST", &["--json"])));
    assert_eq!(cloned["parcel"]["name"], "work");
    let recovery = cloned["recovery_key"].as_str().unwrap();
    assert!(recovery.len() > 30, "{recovery}");
    assert!(run(&["ls"]).out.starts_with("NAME    OWNER"), "{}", run(&["ls"]).out);

    let shown = json(&run(&["show", "work", "--json"]));
    assert_eq!(shown["parcel"], cloned["parcel"]);
    assert_eq!(shown["versions"].as_array().unwrap().len(), 1);
    let text = run(&["show", "work"]).out;
    assert!(text.contains("held by  nobody") && text.contains("disk     1 MiB"), "{text}");

    assert_eq!(json(&run(&["tag", "work", "--json"]))["memory_mib"], 64);
    let mut tag =
        desk.command(&server, &["tag", "work", "--set", "memory=128", "--set", "sound=yes", "--recovery"]);
    fs::write(desk.path("recovery"), format!("{recovery}\n")).unwrap();
    tag.stdin(fs::File::open(desk.path("recovery")).unwrap());
    let changed = ended(tag.spawn().unwrap());
    assert_eq!(changed.code, 0, "{changed:?}");
    assert!(
        changed.out.contains("memory   128 MiB") && changed.out.contains("wishes   sound"),
        "{changed:?}"
    );
    assert_eq!(json(&run(&["show", "work", "--json"]))["versions"].as_array().unwrap().len(), 2);
    assert_eq!(json(&run(&["show", "work", "--json"]))["parcel"]["lock"], Value::Null);

    // A lock that was taken before stays through a change.
    let locked = json(&run(&["lock", "golden", "--json"]));
    assert_eq!(locked["version"], 1);
    run(&["tag", "golden", "--set", "vcpus=2", "--key-file", "golden.key"]);
    let held = json(&run(&["show", "golden", "--json"]))["parcel"].clone();
    assert_eq!((&held["version"], &held["lock"]["principal"]), (&2.into(), &"it@WAYSTATION.TEST".into()));

    // It is another kiosk's: refused, with the holder; then taken away from it.
    for command in ["lock", "unlock"] {
        let refused = elsewhere(&desk.command(&server, &[command, "golden", "--json"]));
        assert_eq!(refused.code, 6, "{refused:?}");
        assert_eq!(json(&refused)["error"]["code"], "locked");
        assert_eq!(json(&refused)["error"]["holder"], held["lock"]);
    }
    let tag =
        elsewhere(&desk.command(&server, &["tag", "golden", "--set", "vcpus=1", "--key-file", "golden.key"]));
    assert_eq!(tag.code, 6, "{tag:?}");
    assert!(tag.sentence().ends_with("[locked]"), "{tag:?}");
    let other = elsewhere(&desk.command(&server, &["discard", "golden", "--break"]));
    assert_eq!(other.code, 6, "one that has a version stays: {other:?}");
    let broken = elsewhere(&desk.command(&server, &["unlock", "golden", "--break", "--json"]));
    assert_eq!((broken.code, &json(&broken)["lock"]), (0, &Value::Null), "{broken:?}");
    assert_eq!(run(&["unlock", "golden"]).out, "\"golden\" was not locked\n");
}

#[test]
fn every_failure_has_its_exit_code_and_one_sentence_with_a_next_step() {
    let desk = Desk::new(MIB);
    let server = desk.setup.start();
    let imported = desk.run(&server, &desk.import(&[]));
    assert_eq!(imported.code, 0, "{imported:?}");
    // With one variable of the environment changed.
    let failed = |arguments: &[&str], (name, value): (&str, &str)| {
        ended(desk.command(&server, arguments).env(name, value).spawn().unwrap())
    };
    let as_it_is = ("NOTHING", "");

    assert_eq!(failed(&["lss"], as_it_is).code, 2);
    let (server_is, ca_is) = ("WAYSTATION_SERVER", "WAYSTATION_CA");
    // A bundle counts whole, however it was put together, and the one that matters may be its last.
    let ca = &desk.setup.ca;
    let other = rcgen::generate_simple_self_signed(["other".to_owned()]).unwrap().cert.pem();
    let bundle = format!("\u{feff}{}{}", other.trim_end(), ca.replace('\n', "\r\n"));
    fs::write(desk.path("bundle.pem"), bundle).unwrap();
    assert_eq!(failed(&["ls"], (ca_is, "bundle.pem")).code, 0);
    fs::write(desk.path("cut.pem"), format!("{ca}{}", &ca[..ca.len() / 2])).unwrap();
    let cases = [
        (vec!["ls"], ("KRB5CCNAME", "/nonexistent"), 4, "run kinit first [ticket-missing]"),
        (vec!["ls"], (server_is, ""), 3, "give --server or set WAYSTATION_SERVER"),
        (vec!["ls"], (server_is, "http://x"), 3, "it looks like https://"),
        (vec!["ls"], (ca_is, "absent.pem"), 3, "the CA file absent.pem cannot be read"),
        (
            vec!["ls"],
            (ca_is, "cut.pem"),
            3,
            "the CA file cut.pem holds 2 blocks, of which only 1 can be read",
        ),
        (vec!["ls"], (ca_is, "password"), 3, "the CA file password is not PEM: no block begins in it; give"),
        (vec!["ls"], (server_is, "https://localhost:9"), 5, "[server-unreachable]"),
        (vec!["show", "absent"], as_it_is, 6, "waystation ls lists those you have [no-such-parcel]"),
        (
            vec!["tag", "golden", "--set", "memory=128", "--key-file", "password"],
            as_it_is,
            3,
            "key file password: ",
        ),
        (desk.import(&[]), as_it_is, 6, "choose another --name [name-taken]"),
        (
            desk.clone("it@WAYSTATION.TEST", &["--recovery-out", "password"]),
            as_it_is,
            3,
            "choose another place [bad-input]",
        ),
    ];
    for (arguments, change, code, part) in cases {
        let failed = failed(&arguments, change);
        assert_eq!((failed.code, failed.out.as_str()), (code, ""), "{failed:?}");
        assert!(failed.sentence().contains(part), "{failed:?} lacks {part}");
    }
    // One that IT cannot see is not said to be gone.
    let clone = desk.clone("shanta@WAYSTATION.TEST", &["--recovery-out", "shanta.txt"]);
    assert_eq!(desk.run(&server, &clone).code, 0);
    let again = desk.clone("shanta@WAYSTATION.TEST", &["--recovery-out", "again.txt"]);
    let taken = desk.run(&server, &again);
    assert_eq!(
        (taken.code, taken.sentence()),
        (6, "shanta@WAYSTATION.TEST has a parcel \"work\" already; choose another name. [name-taken]")
    );
    assert!(!desk.path("again.txt").exists());
    // The same key file in another's place: it opens nothing, and nothing is changed.
    fs::write(desk.path("other.key"), "00".repeat(32)).unwrap();
    let wrong =
        failed(&["tag", "golden", "--set", "memory=128", "--key-file", "other.key", "--json"], as_it_is);
    assert_eq!((wrong.code, &json(&wrong)["error"]["code"]), (3, &"wrong-key".into()), "{wrong:?}");
    let parcels = desk.parcels(&server);
    assert_eq!((parcels.len(), parcels[0].version.0, &parcels[0].lock), (1, 1, &None));
    assert!(desk.path("golden.key").exists(), "a key that opens a parcel is never removed");
}

#[test]
fn an_answer_that_cannot_be_written_is_not_lost() {
    let desk = Desk::new(MIB);
    let server = desk.setup.start();
    assert_eq!(desk.run(&server, &desk.import(&[])).code, 0);
    let onto = |arguments: &[&str], out: &str| {
        let mut command = desk.command(&server, arguments);
        command.stdout(fs::OpenOptions::new().write(true).open(out).unwrap());
        let done = command.output().unwrap();
        (done.status.code(), String::from_utf8(done.stderr).unwrap())
    };
    let (code, err) = onto(&["ls"], "/dev/full");
    assert_eq!(code, Some(1));
    assert!(err.contains("it is done, but the answer cannot be written: No space left on device"), "{err}");
    // The parcel is there, so the only copy of its recovery key must not go.
    let (code, err) = onto(&desk.clone("shanta@WAYSTATION.TEST", &["--json"]), "/dev/full");
    assert_eq!(code, Some(1));
    assert!(err.contains("recovery key (shown once, keep it on paper): "), "{err}");
}
