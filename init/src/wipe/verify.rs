//! What is looked for after a wipe. Every check asks the kernel, none asks what the wipe believes it did.

use super::{FOLDERS, Outcome, kernel};
use crate::{folder, keys, lockdown, media, mounts, net, procs};
use parcel::wire::{kiosk, session::WipeCheck};
use std::{fs, io, path::Path};

/// More shared memory than at the first login, in KiB, that is still the log's and not a session's.
const SHARED_SLACK: u64 = 16 << 10;

/// Where the first manager since the power came on leaves its measure: a successor starts amid what its predecessor left.
const FIRST: &str = "/run/init/shmem";

/// What verification compares with.
#[derive(Debug, Default, Clone, Copy)]
pub struct Evidence {
    /// Shared memory (tmpfs, memfd) in KiB before the first session.
    pub shared_kib: Option<u64>,
}

impl Evidence {
    /// As it was before the first session since the power came on.
    pub fn of_first_boot() -> Self {
        Self::kept_in(Path::new(FIRST))
    }

    fn kept_in(file: &Path) -> Self {
        if let Some(kept) = fs::read_to_string(file).ok().and_then(|text| text.parse().ok()) {
            return Self { shared_kib: Some(kept) };
        }
        let now = Self::measure();
        if let Some(kib) = now.shared_kib {
            // Without it a successor measures for itself.
            let _ = fs::write(file, kib.to_string());
        }
        now
    }

    /// Measures now.
    pub fn measure() -> Self {
        Self { shared_kib: meminfo(&fs::read_to_string("/proc/meminfo").unwrap_or_default(), "Shmem") }
    }
}

/// What a check found that must not be there; an error: it could not look, which is no better.
pub(super) type Found = io::Result<Vec<String>>;

/// Looks for everything that the wipe should have destroyed.
pub fn verify(outcome: &Outcome, before: Evidence) -> Vec<WipeCheck> {
    let mut checks = vec![
        check("every step of the wipe succeeded", Ok(outcome.failures.clone())),
        check("no process of the session is left", processes()),
        check("the cache is not mounted", mounted()),
        check(
            "no mapping of the cache's disk is left",
            media::mapped(Path::new("/sys/class/block")).map(|there| one(there, media::MAPPING)),
        ),
        check("no key of the session is left in the kernel", key_names()),
        check("no file or socket of the session is left", files()),
        check("no memory of the guest is held open", memory_files(Path::new("/proc"))),
        check("shared memory is back where it was", shared(before)),
        check("the guest's network is gone", net::guest::exists().map(|there| one(there, net::guest::TAP))),
        check("nothing was swapped to a disk", text("/proc/swaps").map(|text| swaps(&text))),
        check("the kernel was started as a kiosk's must be", kernel::started()),
        check("the kernel zeroes memory that is freed", kernel::zeroes()),
        check("debugging facilities are off", lockdown::open()),
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

fn check(what: &str, found: Found) -> WipeCheck {
    let found = found.unwrap_or_else(|error| vec![format!("nobody could look: {error}")]);
    // Names are the session's choice: no room for a text.
    let short = |name: &String| name.chars().take(80).collect::<String>();
    let mut shown = found.iter().take(8).map(short).collect::<Vec<_>>().join(", ");
    if found.len() > 8 {
        shown.push_str(&format!(" and {} more", found.len() - 8));
    }
    WipeCheck { what: what.to_owned(), ok: found.is_empty(), found: shown }
}

fn one(there: bool, name: &str) -> Vec<String> {
    there.then(|| name.to_owned()).into_iter().collect()
}

/// A table of the kernel's; empty in a kernel that lacks what it lists.
fn text(path: &str) -> io::Result<String> {
    Ok(folder::text_of(Path::new(path))?.unwrap_or_default())
}

fn processes() -> Found {
    let left = procs::of_session(Path::new("/proc"))?;
    Ok(left.into_iter().map(|process| format!("{} ({})", process.name, process.pid)).collect())
}

fn mounted() -> Found {
    let mounted = mounts::below(Path::new(kiosk::CACHE))?;
    Ok(mounted.into_iter().map(|mount| format!("{} on {}", mount.kind, mount.target)).collect())
}

fn key_names() -> Found {
    let keys = keys::of_session()?;
    Ok(keys.into_iter().map(|key| format!("{} key {:08x} of user {}", key.kind, key.id, key.user)).collect())
}

fn files() -> Found {
    let mut found = Vec::new();
    for folder in FOLDERS.iter().chain(&[kiosk::CACHE]) {
        for entry in folder::entries(Path::new(folder))? {
            if *folder != kiosk::RUN || entry.file_name() != super::KEPT {
                found.push(entry.path().display().to_string());
            }
        }
    }
    let sockets = text("/proc/net/unix")?;
    found.extend(bound_sockets(&sockets, kiosk::RUN).filter(|path| !path.ends_with(super::KEPT)));
    for kind in ["shm", "msg"] {
        let table = text(&format!("/proc/sysvipc/{kind}"))?;
        found.extend(ipc_objects(&table).map(|id| format!("System V {kind} {id}")));
    }
    Ok(found)
}

/// Ids in the text of `/proc/sysvipc/shm` or `msg`. Such an object outlives the process that made it; nothing of the
/// kiosk makes one.
fn ipc_objects(text: &str) -> impl Iterator<Item = &str> {
    text.lines().skip(1).filter_map(|line| line.split_ascii_whitespace().nth(1))
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
fn memory_files(proc: &Path) -> Found {
    let mut found = Vec::new();
    for pid in procs::all(proc)? {
        for entry in folder::entries(&proc.join(pid.to_string()).join("fd"))? {
            match fs::read_link(entry.path()) {
                Ok(target) if target.to_string_lossy().starts_with("/memfd:") => {
                    found.push(format!("{} in process {pid}", target.display()));
                }
                Err(error) if !folder::vanished(&error) => return Err(error),
                _ => {}
            }
        }
    }
    Ok(found)
}

fn shared(before: Evidence) -> Found {
    match (before.shared_kib, Evidence::measure().shared_kib) {
        (Some(before), Some(now)) if now > before + SHARED_SLACK => {
            Ok(vec![format!("{} MiB more than before the session", (now - before) >> 10)])
        }
        (Some(_), Some(_)) => Ok(Vec::new()),
        _ => Err(io::Error::other("/proc/meminfo does not tell")),
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
        assert_eq!(shared(leaked).unwrap().is_empty(), now <= SHARED_SLACK);
        assert!(shared(Evidence { shared_kib: Some(u64::MAX >> 1) }).unwrap().is_empty());
    }

    #[test]
    fn a_successor_compares_with_the_first_measure() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("shmem");
        assert!(Evidence::kept_in(&file).shared_kib.is_some());
        fs::write(&file, "7").unwrap();
        assert_eq!(Evidence::kept_in(&file).shared_kib, Some(7));
    }

    #[test]
    fn a_memory_file_anywhere_is_found() {
        let proc = tempfile::tempdir().unwrap();
        fs::create_dir_all(proc.path().join("12/fd")).unwrap();
        std::os::unix::fs::symlink("/dev/null", proc.path().join("12/fd/0")).unwrap();
        assert!(memory_files(proc.path()).unwrap().is_empty());
        std::os::unix::fs::symlink("/memfd:guest (deleted)", proc.path().join("12/fd/7")).unwrap();
        assert_eq!(memory_files(proc.path()).unwrap().len(), 1);
        // A process whose descriptors cannot be read may hold anything.
        fs::create_dir(proc.path().join("13")).unwrap();
        fs::write(proc.path().join("13/fd"), "").unwrap();
        assert!(memory_files(proc.path()).is_err());
    }

    #[test]
    fn a_long_list_is_cut() {
        let shown = check("x", Ok((0..10).map(|n| n.to_string()).collect()));
        assert!(!shown.ok && shown.found.ends_with("7 and 2 more"), "{}", shown.found);
        assert!(check("x", Ok(vec![])).ok);
    }

    #[test]
    fn who_cannot_look_has_not_found_nothing() {
        let blind = check("x", Err(io::Error::other("no descriptor is left")));
        assert!(!blind.ok && blind.found.contains("no descriptor is left"), "{}", blind.found);
    }

    /// On this machine, with all that comes and goes on it: the tables have the form that is expected.
    #[test]
    fn a_real_kernel_can_be_asked() {
        processes().unwrap();
        mounted().unwrap();
        key_names().unwrap();
        media::mapped(Path::new("/sys/class/block")).unwrap();
        net::guest::exists().unwrap();
        for table in ["/proc/swaps", "/proc/net/unix", "/proc/sysvipc/shm", "/proc/sysvipc/msg"] {
            text(table).unwrap();
        }
    }

    #[test]
    fn what_outlives_its_maker_is_found() {
        let text = "       key      shmid perms                  size  cpid\n         0          5   600   4096  77\n";
        assert_eq!(ipc_objects(text).collect::<Vec<_>>(), ["5"]);
        assert_eq!(ipc_objects("").count(), 0);
    }
}
