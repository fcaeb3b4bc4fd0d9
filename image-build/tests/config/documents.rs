//! The example and the documentation say what the code reads.

use crate::{folder, parse};
use image_build::config;

#[test]
fn the_example_is_right_and_its_comments_are_too() {
    let folder = folder();
    let example = include_str!("../../examples/kiosk.toml");
    parse(folder.path(), example).unwrap();
    // Commented-out keys are part of the documentation: they must work when uncommented.
    let keys = |line: &str| {
        line.starts_with("# [secure_boot")
            || line.split_once(" = ").is_some_and(|(key, _)| !key[2..].contains(' '))
    };
    let all: String = example
        .lines()
        .map(|line| if line.starts_with("# ") && keys(line) { &line[2..] } else { line })
        .flat_map(|line| [line, "\n"])
        .collect::<String>()
        .replace("db.pem", "ca.pem")
        .replace("kdc-ca.pem", "ca.pem");
    let config = parse(folder.path(), &all).unwrap();
    assert_eq!(config.kiosk.name.as_deref(), Some("front-desk-1"));
    assert_eq!(config.kiosk.log.as_deref(), Some("ttyS1"));
    assert_eq!(config.kiosk.hosts.len(), 1);
    assert!(config.secure_boot.is_some());
}

/// Every kiosk.toml in the documentation is right, and names the server as the example does.
#[test]
fn the_configurations_in_the_documentation_are_right() {
    let folder = folder();
    let example = parse(folder.path(), include_str!("../../examples/kiosk.toml")).unwrap();
    let operations = include_str!("../../../docs/operations.md");
    let images = include_str!("../../../docs/images.md");
    for (page, at) in [(operations, "Write `kiosk.toml`"), (images, "Write `kiosk.toml`")] {
        let text =
            page.split(at).nth(1).unwrap().split("```toml\n").nth(1).unwrap().split("```").next().unwrap();
        let config = parse(folder.path(), &text.replace("/etc/waystation/ca.pem", "ca.pem")).unwrap();
        assert_eq!(config.kiosk.server_url, example.kiosk.server_url);
        assert_eq!(config.kiosk.realm.name, example.kiosk.realm.name);
    }
}

/// Every key in the code is in the example and in the documentation's table, and the other way round.
#[test]
fn keys_of_code_example_and_documentation_are_the_same() {
    let example = include_str!("../../examples/kiosk.toml");
    let docs = include_str!("../../../docs/images.md");
    let mut of_example = Vec::new();
    let mut table = String::new();
    for line in example.lines().map(|line| line.strip_prefix("# ").unwrap_or(line)) {
        if let Some(name) = line.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')) {
            table = format!("{name}.");
        } else if let Some((key, _)) = line.split_once(" = ").filter(|(key, _)| !key.contains(' ')) {
            of_example.push(if table == "hosts." {
                "hosts.\"name\"".to_owned()
            } else {
                format!("{table}{key}")
            });
        }
    }
    let rows = docs.split("## kiosk.toml").nth(1).unwrap().lines().filter(|line| line.starts_with("| `"));
    let of_docs: Vec<String> = rows
        .flat_map(|row| {
            let cell = row.split('|').nth(1).unwrap();
            let names: Vec<&str> = cell.split('`').skip(1).step_by(2).collect();
            let table = names[0].split_once('.').map_or("", |(table, _)| table).to_owned();
            names
                .into_iter()
                .map(|name| if name.starts_with('.') { format!("{table}{name}") } else { name.to_owned() })
                .collect::<Vec<_>>()
        })
        .take(of_example.len())
        .collect();
    assert_eq!(of_docs, of_example);
    let known: Vec<String> = config::KEYS
        .iter()
        .flat_map(|(table, keys)| keys.iter().map(move |key| format!("{table}.{key}")))
        .map(|key| key.trim_start_matches('.').to_owned())
        .filter(|key| {
            !config::KEYS.iter().any(|(table, _)| table == key) && key != "hosts" && key != "realms"
        })
        .collect();
    let named = |key: &&String| !key.starts_with("hosts.") && !key.starts_with("realms.");
    let mut of_example: Vec<&String> = of_example.iter().filter(named).collect();
    of_example.sort();
    let mut known: Vec<&String> = known.iter().collect();
    known.sort();
    assert_eq!(known, of_example);
}
