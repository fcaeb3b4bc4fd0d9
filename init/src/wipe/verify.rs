//! What is looked for after a wipe. Every check asks the kernel, none asks what the wipe believes it did.

use super::{FOLDERS, Outcome, Scene};
use crate::{keys, media, mounts, net, procs};
use parcel::wire::{kiosk, session::WipeCheck};
use std::{fs, path::Path};

/// More shared memory than at the first login, in KiB, that is still the log's and not a session's.
const SHARED_SLACK: u64 = 16 << 10;

/// What verification compares with.
#[derive(Debug, Default, Clone, Copy)]
pub struct Evidence {
    /// Shared memory (tmpfs, memfd) in KiB before the first session.
    pub shared_kib: Option<u64>,
}

impl Evidence {
    /// Measures now.
    pub fn measure() -> Self {
        Self { shared_kib: meminfo(&fs::read_to_string("/proc/meminfo").unwrap_or_default(), "Shmem") }
    }
}

/// Looks for everything that the wipe should have destroyed.
pub fn verify(scene: &Scene<'_>, outcome: &Outcome, before: Evidence) -> Vec<WipeCheck> {
    let mut checks = vec![
        check("every step of the wipe succeeded", outcome.failures.clone()),
        check("no process of the session is left", processes()),
        check("the cache is not mounted", mounted()),
        check(
            "no mapping of the cache's disk is left",
            one(media::mapped(Path::new("/sys/class/block")), media::MAPPING),
        ),
        check("no key of the session is left in the kernel", key_names()),
        check("no file or socket of the session is left", files()),
        check("no memory of the guest is held open", memory_files(Path::new("/proc"))),
        check("shared memory is back where it was", shared(before)),
        check("the guest's network is gone", one(net::guest::exists(), net::guest::TAP)),
        check("nothing was swapped to a disk", swaps(&fs::read_to_string("/proc/swaps").unwrap_or_default())),
        check("the kernel zeroes memory that is freed", zeroing(scene)),
    ];
    if let Some(discarded) = &outcome.discarded {
        checks.push(WipeCheck {
            what: "the cache's disk is noise without its key, and was discarded".to_owned(),
            // The lost key is what erases; a disk that cannot discard is no failure.
            ok: true,
            found: match discarded {
                media::Discarded::Yes => String::new(),
                media::Discarded::Unsupported => "the disk cannot discard blocks".to_owned(),
            },
        });
    }
    checks
}

fn check(what: &str, found: Vec<String>) -> WipeCheck {
    let mut shown = found.iter().take(8).cloned().collect::<Vec<_>>().join(", ");
    if found.len() > 8 {
        shown.push_str(&format!(" and {} more", found.len() - 8));
    }
    WipeCheck { what: what.to_owned(), ok: found.is_empty(), found: shown }
}

fn one(there: bool, name: &str) -> Vec<String> {
    there.then(|| name.to_owned()).into_iter().collect()
}

fn processes() -> Vec<String> {
    let left = procs::of_session(Path::new("/proc"));
    left.into_iter().map(|process| format!("{} ({})", process.name, process.pid)).collect()
}

fn mounted() -> Vec<String> {
    match mounts::below(Path::new(kiosk::CACHE)) {
        Ok(mounted) => {
            mounted.into_iter().map(|mount| format!("{} on {}", mount.kind, mount.target)).collect()
        }
        Err(error) => vec![format!("/proc/mounts cannot be read: {error}")],
    }
}

fn key_names() -> Vec<String> {
    keys::of_session()
        .into_iter()
        .map(|key| format!("{} key {:08x} of user {}", key.kind, key.id, key.user))
        .collect()
}

fn files() -> Vec<String> {
    let mut found = Vec::new();
    for folder in FOLDERS.iter().chain(&[kiosk::CACHE]) {
        for entry in fs::read_dir(folder).into_iter().flatten().filter_map(Result::ok) {
            if *folder != kiosk::RUN || entry.file_name() != super::KEPT {
                found.push(entry.path().display().to_string());
            }
        }
    }
    let sockets = fs::read_to_string("/proc/net/unix").unwrap_or_default();
    found.extend(bound_sockets(&sockets, kiosk::RUN).filter(|path| !path.ends_with(super::KEPT)));
    found
}

/// Paths of bound sockets below `folder` in the text of `/proc/net/unix`; abstract ones count as anybody's.
fn bound_sockets(text: &str, folder: &str) -> impl Iterator<Item = String> {
    let below = format!("{folder}/");
    text.lines()
        .skip(1)
        .filter_map(|line| line.split_ascii_whitespace().nth(7))
        .filter(move |path| path.starts_with(&below))
        .map(str::to_owned)
        .collect::<Vec<_>>()
        .into_iter()
}

/// Memory files (`memfd_create`) that any process holds: a guest's memory is one.
fn memory_files(proc: &Path) -> Vec<String> {
    let mut found = Vec::new();
    for pid in procs::all(proc) {
        let folder = proc.join(pid.to_string()).join("fd");
        for entry in fs::read_dir(folder).into_iter().flatten().filter_map(Result::ok) {
            let target = fs::read_link(entry.path()).unwrap_or_default();
            if target.to_string_lossy().starts_with("/memfd:") {
                found.push(format!("{} in process {pid}", target.display()));
            }
        }
    }
    found
}

fn shared(before: Evidence) -> Vec<String> {
    match (before.shared_kib, Evidence::measure().shared_kib) {
        (Some(before), Some(now)) if now > before + SHARED_SLACK => {
            vec![format!("{} MiB more than before the session", (now - before) >> 10)]
        }
        (Some(_), Some(_)) => Vec::new(),
        _ => vec!["/proc/meminfo does not tell".to_owned()],
    }
}

/// A value in KiB from the text of `/proc/meminfo`.
fn meminfo(text: &str, key: &str) -> Option<u64> {
    let rest = text.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix(':'))?;
    rest.split_ascii_whitespace().next()?.parse().ok()
}

fn swaps(text: &str) -> Vec<String> {
    text.lines().skip(1).filter_map(|line| line.split_ascii_whitespace().next()).map(str::to_owned).collect()
}

fn zeroing(scene: &Scene<'_>) -> Vec<String> {
    one(!scene.config.init_on_free, "the kernel was started without init_on_free=1")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bound_sockets_below_the_folder() {
        let text = "Num       RefCount Protocol Flags    Type St Inode Path\n\
                    0: 00000002 00000000 00010000 0001 01 17 /run/waystation/cached.sock\n\
                    0: 00000002 00000000 00010000 0001 01 18 @abstract\n\
                    0: 00000002 00000000 00010000 0001 01 19\n\
                    0: 00000002 00000000 00010000 0001 01 20 /run/waystation-other/x\n";
        let found: Vec<String> = bound_sockets(text, "/run/waystation").collect();
        assert_eq!(found, ["/run/waystation/cached.sock"]);
    }

    #[test]
    fn swap_and_shared_memory_are_read() {
        assert_eq!(swaps("Filename Type Size\n/dev/sda2 partition 1 0 -2\n"), ["/dev/sda2"]);
        assert!(swaps("Filename Type Size\n").is_empty());
        assert_eq!(
            meminfo("MemTotal: 1 kB\nShmem:      2048 kB\nShmemHugePages: 7 kB\n", "Shmem"),
            Some(2048)
        );
        let leaked = Evidence { shared_kib: Some(0) };
        let now = Evidence::measure().shared_kib.unwrap();
        assert_eq!(shared(leaked).is_empty(), now <= SHARED_SLACK);
        assert!(shared(Evidence { shared_kib: Some(u64::MAX >> 1) }).is_empty());
    }

    #[test]
    fn a_memory_file_anywhere_is_found() {
        let proc = tempfile::tempdir().unwrap();
        fs::create_dir_all(proc.path().join("12/fd")).unwrap();
        std::os::unix::fs::symlink("/dev/null", proc.path().join("12/fd/0")).unwrap();
        assert!(memory_files(proc.path()).is_empty());
        std::os::unix::fs::symlink("/memfd:guest (deleted)", proc.path().join("12/fd/7")).unwrap();
        assert_eq!(memory_files(proc.path()).len(), 1);
    }

    #[test]
    fn a_long_list_is_cut() {
        let shown = check("x", (0..10).map(|n| n.to_string()).collect());
        assert!(!shown.ok && shown.found.ends_with("7 and 2 more"), "{}", shown.found);
        assert!(check("x", vec![]).ok);
    }
}
