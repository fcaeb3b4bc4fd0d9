//! The program: its arguments, its configuration's mistakes, its beginning and its end.

use crate::{
    client::Client,
    realm::{copy_private, realm},
    server::{Setup, run},
};
use std::{fs, os::unix::fs::PermissionsExt};

fn check(setup: &Setup) -> (i32, String) {
    let (code, out, err) = run(&["--config", setup.config().to_str().unwrap(), "--check"]);
    (code, format!("{out}{err}"))
}

#[test]
fn check_finds_nothing_wrong_and_changes_nothing() {
    let setup = Setup::new();
    setup.init_store();
    let before = crate::discard::everything(&setup.path(""));
    let (code, said) = check(&setup);
    assert_eq!(code, 0, "{said}");
    assert!(said.contains("nothing wrong"), "{said}");
    assert_eq!(crate::discard::everything(&setup.path("")), before);
}

#[test]
fn every_file_that_is_wrong_is_named_with_its_line_and_a_remedy() {
    type Break = fn(&Setup);
    let cases: [(Break, &str, &str); 16] = [
        (|s| fs::remove_file(s.path("keytab")).unwrap(), "line 3, keytab: ", "No such file"),
        (
            |s| mode(s, "keytab", 0o640),
            "line 3, keytab: ",
            "others than its owner may read it; run chmod 600",
        ),
        (
            |s| fs::write(s.path("keytab"), "x").unwrap(),
            "line 3, keytab: ",
            "not a keytab of format 5.2; make one with",
        ),
        (
            |s| fs::write(s.path("keytab"), [5, 2]).unwrap(),
            "line 3, keytab: ",
            "is empty, and no key of HTTP/",
        ),
        (
            |s| copy_private(&realm().other_keytab(), &s.path("keytab")),
            "line 3, keytab: ",
            "holds only HTTP/other.waystation.test@WAYSTATION.TEST, and no key of HTTP/parcels",
        ),
        (|s| mode(s, "key.pem", 0o644), "line 9, tls.key: ", "run chmod 600"),
        (|s| fs::write(s.path("cert.pem"), "x").unwrap(), "line 8, tls.cert: ", "give the certificate chain"),
        (
            |s| copy_private(&s.path("cert.pem"), &s.path("key.pem")),
            "line 9, tls.key: ",
            "give the certificate",
        ),
        (
            |s| fs::write(s.path("key.pem"), rcgen::KeyPair::generate().unwrap().serialize_pem()).unwrap(),
            "line 9, tls.key: ",
            "belonging together",
        ),
        (
            |s| fs::write(s.path("store"), "x").unwrap(),
            "line 4, store: ",
            "is not a directory; give the directory",
        ),
        (
            |s| s.edit("\"store\"", "\".\""),
            "line 4, store: ",
            "holds files but is not a parcel store; give the directory of the store",
        ),
        (|s| set_format(s, "0"), "line 4, store: ", "does not know; use the version that wrote it"),
        (|s| s.edit("\"store\"", "\"a/b/store\""), "token_key_file: ", "there is no folder"),
        (|s| fs::write(s.path("store.token-key"), "x").unwrap(), "token_key_file: ", "may be read by others"),
        (|s| s.edit("\"ready\"", "\"none/ready\""), "line 6, ready_file: ", "there is no folder"),
        (|s| s.edit("listen", "lisen"), "line 1: unknown field `lisen`", "correct its spelling"),
    ];
    for (break_it, place, part) in cases {
        let setup = Setup::new();
        break_it(&setup);
        let (code, said) = check(&setup);
        assert_eq!(code, 2, "{said}");
        let file = setup.config();
        assert!(said.starts_with(&format!("parcel-server: {}", file.display())), "{said}");
        assert!(said.contains(place) && said.contains(part), "{said} lacks {place} or {part}");
        assert_eq!(said.trim_end().lines().count(), 1, "{said}");
        // Started for real, it says the same and leaves nothing half-made.
        let (code, _, err) = run(&["--config", file.to_str().unwrap()]);
        assert_eq!((code, err), (2, said));
        assert!(!setup.path("store").is_dir() && !setup.path("ready").exists());
    }
}

fn set_format(setup: &Setup, format: &str) {
    fs::create_dir(setup.path("other")).unwrap();
    fs::write(setup.path("other/format"), format).unwrap();
    setup.edit("\"store\"", "\"other\"");
}

fn mode(setup: &Setup, name: &str, mode: u32) {
    fs::set_permissions(setup.path(name), fs::Permissions::from_mode(mode)).unwrap();
}

#[test]
fn it_says_where_it_listens_and_stops_when_told() {
    let setup = Setup::new();
    let server = setup.start();
    assert_eq!(fs::read_to_string(setup.path("ready")).unwrap(), format!("{}\n", server.addr));
    // A second one on the same store, or on the same port, is told why not.
    let (code, _, err) = run(&["--config", setup.config().to_str().unwrap()]);
    assert_eq!(code, 1);
    assert!(err.contains("in use by another parcel-server; stop that one"), "{err}");
    let other = Setup::new();
    other.init_store();
    other.edit("127.0.0.1:0", &server.addr.to_string());
    let (code, _, err) = run(&["--config", other.config().to_str().unwrap()]);
    assert_eq!(code, 1);
    assert!(err.contains(&format!("cannot listen on {}", server.addr)), "{err}");
    assert_eq!(server.terminate().code(), Some(0));
}

#[tokio::test]
async fn a_request_under_way_is_finished_before_the_end() {
    let setup = Setup::new();
    let server = setup.start();
    let client = Client::of("shanta", &setup, &server).await;
    let id = crate::machine::random_id();
    let epoch = client.create(id, "work", "shanta", "a").await.unwrap().epoch;
    let bytes = vec![5; 200_000];
    let path = format!("parcels/{id}/chunks/{}?epoch={epoch}", parcel::chunk::name_of(&bytes));
    let (feed, body) = futures::channel::mpsc::unbounded::<Result<Vec<u8>, std::io::Error>>();
    feed.unbounded_send(Ok(bytes[..1000].to_vec())).unwrap();
    let sending = {
        let client = client.clone();
        tokio::spawn(async move { client.put(&path, reqwest::Body::wrap_stream(body)).await.map(drop) })
    };
    // Once the server answers something else, it has begun with the first piece, sent before.
    client.list().await;
    server.signal(nix::sys::signal::Signal::SIGTERM);
    while std::net::TcpStream::connect(server.addr).is_ok() {
        tokio::time::sleep(std::time::Duration::from_millis(5)).await;
    }
    feed.unbounded_send(Ok(bytes[1000..].to_vec())).unwrap();
    drop(feed);
    sending.await.unwrap().unwrap();
    assert_eq!(server.terminate().code(), Some(0));
}

#[test]
fn help_shows_an_example_and_the_exit_codes() {
    let (code, out, _) = run(&["--help"]);
    assert_eq!(code, 0);
    assert!(out.contains(parcel_server::config::EXAMPLE) && out.contains("Exit status: 0"), "{out}");
    let (code, _, err) = run(&["--confg", "x"]);
    assert_eq!(code, 2);
    assert!(err.contains("--confg"), "{err}");
}
