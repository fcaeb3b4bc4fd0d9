//! Every mistake: the sentence says file, place and remedy.

use super::*;

fn mistake(change: impl FnOnce(&str) -> String) -> String {
    Config::parse(Path::new("/etc/server.toml"), &change(EXAMPLE)).unwrap_err().to_string()
}

fn swapped(from: &'static str, to: &'static str) -> String {
    mistake(|text| {
        assert!(text.contains(from), "{from}");
        text.replacen(from, to, 1)
    })
}

#[test]
fn the_example_is_right_and_its_defaults_are_true() {
    let config = Config::parse(Path::new("/etc/server.toml"), EXAMPLE).unwrap();
    assert_eq!(config.limits, Limits::default());
    assert_eq!(config.token_key_file, Path::new("/var/lib/waystation/store.token-key"));
    assert_eq!(config.replay_cache, Path::new("/var/lib/waystation/store.replay-cache"));
    assert_eq!(config.witness, Path::new("/var/lib/waystation/store.witness"));
    let without = EXAMPLE.split("[limits]").next().unwrap();
    assert_eq!(Config::parse(Path::new("x"), without).unwrap().limits, Limits::default());
}

/// The guide of docs/operations.md and the example of `--help` use the same files, ports and names.
#[test]
fn the_guide_and_the_example_agree() {
    let page = include_str!("../../../docs/operations.md");
    let text = page.split("server.toml <<'END'\n").nth(1).unwrap().split("\nEND").next().unwrap();
    let guide = Config::parse(Path::new("/etc/waystation/server.toml"), text).unwrap();
    let example = Config::parse(Path::new("/etc/waystation/server.toml"), EXAMPLE).unwrap();
    let files = |config: &Config| {
        let ca = config.tls_ca.clone().unwrap();
        let own = [&config.keytab, &config.tls_cert, &config.tls_key, &config.store, &config.witness];
        (own.map(Clone::clone), ca, config.listen, config.service.clone(), config.admins.clone())
    };
    assert_eq!(files(&guide), files(&example));
    let unit = include_str!("../../parcel-server.service");
    assert!(unit.contains("ExecStart=/usr/local/bin/parcel-server --config /etc/waystation/server.toml\n"));
}

#[test]
fn relative_paths_start_at_the_files_folder() {
    let text = EXAMPLE.replace("/var/lib/waystation/store", "data/store/").replace("/etc/waystation/", "");
    let config = Config::parse(Path::new("/srv/server.toml"), &text).unwrap();
    assert_eq!(config.store, Path::new("/srv/data/store"));
    assert_eq!(config.token_key_file, Path::new("/srv/data/store.token-key"));
    assert_eq!(config.keytab, Path::new("/srv/http.keytab"));
}

#[test]
fn each_mistake_is_one_sentence_with_file_place_and_remedy() {
    let line = |needle: &str| 1 + EXAMPLE.lines().position(|line| line.starts_with(needle)).unwrap();
    let cases = [
        (
            swapped("0.0.0.0:8443", "0.0.0.0"),
            line("listen"),
            "listen: \"0.0.0.0\" is not an address with a port; write it as",
        ),
        (
            swapped("HTTP/parcels", "parcels"),
            line("service"),
            "service: \"parcels.example.org\" is not the principal of an HTTP service; write it as",
        ),
        (
            swapped("it@EXAMPLE.ORG", "it"),
            line("admins"),
            "admins: \"it\" is not a Kerberos principal; write it with its realm",
        ),
        (swapped("listen = ", "listne = "), line("listen"), "unknown field `listne`"),
        (
            swapped("1048576", "10"),
            line("max_object_bytes"),
            "limits.max_object_bytes: 10 is out of range; write a number from 262144 to 1048576",
        ),
        (
            swapped("36000", "0"),
            line("token_lifetime_s"),
            "limits.token_lifetime_s: 0 is out of range; write a number from 60",
        ),
        (swapped("36000", "-1"), line("token_lifetime_s"), "write the value as in the example"),
        (swapped("36000", "\"10h\""), line("token_lifetime_s"), "invalid type"),
        (
            swapped("\"/etc/waystation/http.keytab\"", "\"\""),
            line("keytab"),
            "keytab: the path is empty; write a path",
        ),
        (swapped("[tls]", "[tls"), line("[tls]"), "correct the line to TOML"),
        (swapped("cert = ", "# "), line("[tls]"), "missing field `cert`; add it"),
    ];
    for (sentence, line, part) in cases {
        assert!(sentence.starts_with(&format!("/etc/server.toml, line {line}")), "{sentence}");
        assert!(sentence.contains(part), "{sentence} lacks {part}");
        assert!(sentence.ends_with('.') && !sentence.contains('\n'), "{sentence}");
    }
    assert!(mistake(|_| String::new()).contains("missing field `listen`; add it."));
}

#[test]
fn a_file_that_is_not_there_is_named() {
    let sentence = Config::load(Path::new("/nonexistent/server.toml")).unwrap_err().to_string();
    assert!(sentence.starts_with("/nonexistent/server.toml: No such file"), "{sentence}");
    assert!(sentence.contains("--config"), "{sentence}");
}
