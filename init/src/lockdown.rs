//! What nobody at the kiosk may do, and what the session's users may.

use crate::{folder, log::Log, tty};
use parcel::wire::users;
use std::{fs, io, os::unix::fs::PermissionsExt, path::Path};

/// Kernel settings, below `/proc/sys`, and why.
pub const SYSCTLS: [(&str, &str); 31] = [
    // Magic SysRq could dump memory to the screen or kill the wipe.
    ("kernel/sysrq", "0"),
    // Ctrl-Alt-Del goes to PID 1, which ignores it.
    ("kernel/ctrl-alt-del", "0"),
    // Kernel messages go to the log, not over the screen.
    ("kernel/printk", "1 4 1 7"),
    // A core dump is a copy of a session's memory.
    ("kernel/core_pattern", "|/bin/false"),
    ("fs/suid_dumpable", "0"),
    // Addresses and messages of the kernel are not for the session's users.
    ("kernel/kptr_restrict", "2"),
    ("kernel/dmesg_restrict", "1"),
    // Memory and messages that outlive the process that made them: nothing here uses them.
    ("kernel/shmmni", "0"),
    ("kernel/msgmni", "0"),
    ("fs/mqueue/queues_max", "0"),
    // Attack surface that nothing here needs.
    ("kernel/unprivileged_bpf_disabled", "1"),
    ("net/core/bpf_jit_harden", "2"),
    ("kernel/unprivileged_userns_clone", "0"),
    ("user/max_user_namespaces", "0"),
    ("kernel/perf_event_paranoid", "3"),
    ("kernel/io_uring_disabled", "2"),
    ("kernel/ftrace_enabled", "0"),
    ("dev/tty/ldisc_autoload", "0"),
    ("dev/tty/legacy_tiocsti", "0"),
    ("kernel/kexec_load_disabled", "1"),
    // Nobody may read another's memory, and nobody can allow it again.
    ("kernel/yama/ptrace_scope", "3"),
    // No program's faults are told to the kernel's log, with registers and code.
    ("debug/exception-trace", "0"),
    ("kernel/print-fatal-signals", "0"),
    // The VMM's userfaultfd comes from its device node, whose owner it is.
    ("vm/unprivileged_userfaultfd", "0"),
    // Where a router drops big packets without a word, TCP finds the size that gets through.
    ("net/ipv4/tcp_mtu_probing", "1"),
    // A link whose cable is out keeps its address, and so the kernel's own route to its network, which has no metric that
    // could come after another link's.
    ("net/ipv4/conf/all/ignore_routes_with_linkdown", "1"),
    ("net/ipv4/conf/default/ignore_routes_with_linkdown", "1"),
    // What waits to be written to a slow disk is memory that nothing else has: bounded, and counted before the lock is taken.
    ("vm/dirty_bytes", "33554432"),
    ("vm/dirty_background_bytes", "8388608"),
    // A panicking kernel restarts: memory is gone then, and the traveller sees a login screen.
    ("kernel/panic", "5"),
    ("kernel/panic_on_oops", "1"),
];

/// Device nodes that a session's user owns: path, user, mode.
const DEVICES: [(&str, u32, u32); 4] = [
    ("/dev/kvm", users::VMM.id, 0o600),
    ("/dev/net/tun", users::VMM.id, 0o600),
    ("/dev/userfaultfd", users::VMM.id, 0o600),
    ("/dev/vhost-vsock", users::VMM.id, 0o600),
];

/// Nodes that everybody uses, with the modes that udev would give them.
const COMMON: [(&str, u32); 7] = [
    ("/dev/null", 0o666),
    ("/dev/zero", 0o666),
    ("/dev/full", 0o666),
    ("/dev/random", 0o666),
    ("/dev/urandom", 0o666),
    ("/dev/tty", 0o666),
    ("/dev/ptmx", 0o666),
];

/// Applies all settings. One that this kernel lacks is logged and passed over.
pub fn apply(log: &Log) {
    for (name, value) in SYSCTLS {
        let path = Path::new("/proc/sys").join(name);
        if let Err(error) = fs::write(&path, value)
            && path.exists()
        {
            log.line("lockdown", &format!("{name} cannot be set to {value}: {error}"));
        }
    }
    if let Err(errno) = nix::sys::reboot::set_cad_enabled(false) {
        log.line("lockdown", &format!("ctrl-alt-del cannot be disabled: {errno}"));
    }
    if Path::new("/sys/class/tty/tty0").exists()
        && let Err(error) = tty::lock_switching()
    {
        log.line("lockdown", &format!("switching consoles cannot be locked: {error}"));
    }
    devices();
}

/// What of the kernel's debugging facilities is open, although nothing of a kiosk needs it: settings that are not as
/// [`SYSCTLS`] wants them, and doors that other means close.
///
/// # Errors
/// The kernel does not let this be read.
pub fn open() -> io::Result<Vec<String>> {
    let mut found = loose(Path::new("/proc/sys"))?;
    let lockdown = folder::text_of(Path::new("/sys/kernel/security/lockdown"))?.unwrap_or_default();
    if !lockdown.contains("[confidentiality]") {
        found.push(format!("the kernel is not locked down: {}", lockdown.trim()));
    }
    let known = fs::read_to_string("/proc/filesystems")?;
    found.extend(debugging(&known).map(|name| format!("{name} can be mounted")));
    for file in ["/proc/kcore", "/dev/mem", "/dev/kmem", "/dev/port"] {
        if fs::File::open(file)
            .and_then(|mut file| io::Read::read(&mut file, &mut [0]))
            .is_ok_and(|read| read > 0)
        {
            found.push(format!("{file} can be read"));
        }
    }
    let crash = folder::text_of(Path::new("/sys/kernel/kexec_crash_loaded"))?.unwrap_or_default();
    if crash.trim() == "1" {
        found.push("a crash kernel is loaded".to_owned());
    }
    Ok(found)
}

/// Settings that are not as they must be. One that this kernel lacks is no door.
fn loose(sys: &Path) -> io::Result<Vec<String>> {
    let mut found = Vec::new();
    for (name, value) in SYSCTLS {
        let Some(now) = folder::text_of(&sys.join(name))? else { continue };
        if now.split_ascii_whitespace().ne(value.split_ascii_whitespace()) {
            found.push(format!("{name} is {}", now.trim()));
        }
    }
    Ok(found)
}

/// File systems that show the kernel's insides, of those that this kernel knows.
fn debugging(filesystems: &str) -> impl Iterator<Item = &str> {
    filesystems.split_ascii_whitespace().filter(|name| *name == "debugfs")
}

/// Gives the device nodes that are there to their users. Called again whenever a node appears.
pub fn devices() {
    for (path, mode) in COMMON {
        let _ = fs::set_permissions(path, fs::Permissions::from_mode(mode));
    }
    for (path, user, mode) in DEVICES {
        let _ = std::os::unix::fs::chown(path, Some(user), Some(user));
        let _ = fs::set_permissions(path, fs::Permissions::from_mode(mode));
    }
    let links = [
        ("/proc/self/fd", "/dev/fd"),
        ("/proc/self/fd/0", "/dev/stdin"),
        ("/proc/self/fd/1", "/dev/stdout"),
        ("/proc/self/fd/2", "/dev/stderr"),
    ];
    for (to, from) in links {
        let _ = std::os::unix::fs::symlink(to, from);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_setting_that_is_not_as_wanted_is_named() {
        let sys = tempfile::tempdir().unwrap();
        for (name, value) in SYSCTLS {
            let path = sys.path().join(name);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            // As the kernel writes them: tabs, and a newline.
            fs::write(path, format!("{}\n", value.replace(' ', "\t"))).unwrap();
        }
        assert_eq!(loose(sys.path()).unwrap(), Vec::<String>::new());
        fs::write(sys.path().join("kernel/yama/ptrace_scope"), "0\n").unwrap();
        fs::remove_file(sys.path().join("kernel/io_uring_disabled")).unwrap();
        assert_eq!(loose(sys.path()).unwrap(), ["kernel/yama/ptrace_scope is 0"]);
    }

    #[test]
    fn debugfs_is_a_door() {
        assert_eq!(debugging("nodev\tsysfs\nnodev\tdebugfs\n\text4\n").collect::<Vec<_>>(), ["debugfs"]);
        assert_eq!(debugging("nodev\tsysfs\n").count(), 0);
    }
}
