//! Coldplug: kernel modules for the hardware that is there, and those that a session needs.

use crate::{helper, log::Log};
use std::{collections::BTreeSet, fs, path::Path, process::Command};

/// Modules that are loaded whatever the hardware, one a line; `#` begins a comment.
pub const LIST: &str = "/etc/waystation/modules";

/// Longest modalias that is passed on, in bytes; input devices have the longest, well under this.
const LONGEST: usize = 2048;
/// Arguments a call: keeps the argument list far below the kernel's limit.
const BATCH: usize = 64;

/// A modalias that may be handed to `modprobe` as an argument.
pub fn modalias(text: &str) -> Option<&str> {
    let alias = text.trim_end_matches('\n');
    let fits = !alias.is_empty()
        && alias.len() <= LONGEST
        && !alias.starts_with('-')
        && alias.bytes().all(|b| b.is_ascii_graphic() || b == b' ');
    fits.then_some(alias)
}

/// Every modalias below `folder` (`/sys/devices`), each once, as `known` gives that of a device at its path.
pub fn modaliases(folder: &Path, known: impl Fn(&Path, &str) -> String) -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    let mut folders = vec![folder.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).into_iter().flatten().filter_map(Result::ok) {
            // Symbolic links lead in circles; `file_type` does not follow them.
            match entry.file_type() {
                Ok(kind) if kind.is_dir() => folders.push(entry.path()),
                Ok(kind) if kind.is_file() && entry.file_name() == "modalias" => {
                    let text = fs::read_to_string(entry.path()).unwrap_or_default();
                    found.extend(modalias(&text).map(|alias| known(&folder, alias)));
                }
                _ => {}
            }
        }
    }
    found
}

/// Module names in the text of [`LIST`].
pub fn listed(text: &str) -> Vec<String> {
    text.lines()
        .map(|line| line.split('#').next().unwrap_or_default().trim())
        .filter(|name| {
            !name.is_empty()
                && !name.starts_with('-')
                && name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_' || b == b'-')
        })
        .map(str::to_owned)
        .collect()
}

/// Loads all of `names` (modules or modaliases). What has no module is passed over: most hardware needs none.
pub fn load<'a>(names: impl IntoIterator<Item = &'a str>, log: &Log) {
    let names: Vec<&str> = names.into_iter().collect();
    let modprobe = match helper::find("modprobe") {
        Ok(path) => path,
        Err(error) => return log.line("modules", &error.to_string()),
    };
    for batch in names.chunks(BATCH) {
        let mut command = Command::new(&modprobe);
        command.args(["-a", "-b", "-q", "--"]).args(batch);
        match helper::output(&mut command, b"", helper::LIMIT) {
            Ok(output) => {
                for line in String::from_utf8_lossy(&output.stderr).lines().take(16) {
                    log.line("modprobe", line);
                }
            }
            // A driver that hangs must not keep the others out.
            Err(error) => log.line("modules", &format!("modprobe: {error}: hardware may be missing")),
        }
    }
}

/// Loads modules for the hardware present, until no new hardware shows up behind what was loaded, and the list's.
pub fn coldplug(log: &Log, known: impl Fn(&Path, &str) -> String) {
    let mut tried = BTreeSet::new();
    // A bus's module brings up devices that need modules themselves: controller, disk, partition.
    for _ in 0..4 {
        let found = modaliases(Path::new("/sys/devices"), &known);
        let new: Vec<String> = found.difference(&tried).cloned().collect();
        if new.is_empty() {
            break;
        }
        load(new.iter().map(String::as_str), log);
        tried.extend(new);
    }
    let list = fs::read_to_string(LIST).unwrap_or_default();
    let list = listed(&list);
    // One by one: `kvm_amd` fails on Intel and must not keep the rest from loading.
    for name in &list {
        load([name.as_str()], log);
    }
    log.line("modules", &format!("{} device identities, {} listed modules", tried.len(), list.len()));
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn lists_have_comments() {
        assert_eq!(listed("kvm_amd\n# no\ntun # yes\n\n-q\n../x\n"), ["kvm_amd", "tun"]);
    }

    #[test]
    fn collects_each_once_without_following_links() {
        let sys = tempfile::tempdir().unwrap();
        for name in ["a", "a/b", "c"] {
            fs::create_dir(sys.path().join(name)).unwrap();
            fs::write(sys.path().join(name).join("modalias"), "pci:v00008086d\n").unwrap();
        }
        fs::write(sys.path().join("c/modalias"), "acpi:PNP0C0A:\n").unwrap();
        std::os::unix::fs::symlink(sys.path(), sys.path().join("a/loop")).unwrap();
        let as_it_is = |_: &Path, alias: &str| alias.to_owned();
        let found: Vec<_> = modaliases(sys.path(), as_it_is).into_iter().collect();
        assert_eq!(found, ["acpi:PNP0C0A:", "pci:v00008086d"]);
        let by_path = |path: &Path, alias: &str| match path.ends_with("c") {
            true => "another".to_owned(),
            false => as_it_is(path, alias),
        };
        let found: Vec<_> = modaliases(sys.path(), by_path).into_iter().collect();
        assert_eq!(found, ["another", "pci:v00008086d"]);
    }

    proptest! {
        #[test]
        fn no_alias_becomes_an_option(text in "\\PC*") {
            if let Some(alias) = modalias(&text) {
                prop_assert!(!alias.starts_with('-') && alias.is_ascii());
            }
        }
    }
}
