//! What the children may do that read what anybody on the network writes: the DHCP client and the [probe](super::probe).
//! Each runs as a user of its own, with the rights that it needs and a short list of system calls. What they say is only data.

use parcel::wire::users;
use seccompiler::{
    BpfProgram, SeccompAction, SeccompCmpArgLen, SeccompCmpOp, SeccompCondition, SeccompFilter, SeccompRule,
    TargetArch,
};
use std::{collections::BTreeMap, io};

/// Who is confined, and to what.
pub struct Cell {
    /// User id that it takes, and group id.
    user: u32,
    /// Capabilities of `linux/capability.h`.
    rights: &'static [u32],
    /// System calls beyond those that every program makes.
    calls: &'static [libc::c_long],
    /// Kinds of sockets.
    domains: &'static [libc::c_int],
}

/// `udhcpc` and its script.
pub const DHCP: Cell = Cell {
    user: users::DHCP.id,
    // CAP_NET_BIND_SERVICE and CAP_NET_RAW: port 68, and packets before there is an address.
    rights: &[10, 13],
    // The client starts its script.
    calls: &[libc::SYS_fork, libc::SYS_vfork],
    domains: &[libc::AF_INET, libc::AF_PACKET, libc::AF_UNIX],
};

/// The probe.
pub const PROBE: Cell = Cell {
    user: users::PROBE.id,
    rights: &[],
    // Rust's threads.
    calls: &[libc::SYS_sched_yield],
    domains: &[libc::AF_INET, libc::AF_INET6],
};

/// The highest capability there may be.
const LAST_RIGHT: u32 = 63;
/// `_LINUX_CAPABILITY_VERSION_3`.
const VERSION_3: u32 = 0x2008_0522;

/// What all of them call. Whatever else they try fails.
const CALLS: [libc::c_long; 69] = [
    // Files and memory.
    libc::SYS_read,
    libc::SYS_write,
    libc::SYS_writev,
    libc::SYS_open,
    libc::SYS_openat,
    libc::SYS_close,
    libc::SYS_pread64,
    libc::SYS_lseek,
    libc::SYS_stat,
    libc::SYS_fstat,
    libc::SYS_lstat,
    libc::SYS_newfstatat,
    libc::SYS_statx,
    libc::SYS_access,
    libc::SYS_faccessat,
    libc::SYS_faccessat2,
    libc::SYS_readlink,
    libc::SYS_readlinkat,
    libc::SYS_getcwd,
    libc::SYS_fcntl,
    libc::SYS_dup,
    libc::SYS_dup2,
    libc::SYS_dup3,
    libc::SYS_pipe2,
    libc::SYS_pipe,
    libc::SYS_mmap,
    libc::SYS_munmap,
    libc::SYS_mprotect,
    libc::SYS_mremap,
    libc::SYS_madvise,
    libc::SYS_brk,
    // Processes and threads.
    libc::SYS_execve,
    libc::SYS_clone,
    libc::SYS_clone3,
    libc::SYS_wait4,
    libc::SYS_exit,
    libc::SYS_exit_group,
    libc::SYS_getpid,
    libc::SYS_getppid,
    libc::SYS_gettid,
    libc::SYS_getuid,
    libc::SYS_geteuid,
    libc::SYS_getgid,
    libc::SYS_getegid,
    libc::SYS_prlimit64,
    libc::SYS_getrlimit,
    libc::SYS_set_tid_address,
    libc::SYS_set_robust_list,
    libc::SYS_rseq,
    libc::SYS_futex,
    libc::SYS_arch_prctl,
    libc::SYS_sched_getaffinity,
    libc::SYS_sigaltstack,
    libc::SYS_rt_sigaction,
    libc::SYS_rt_sigprocmask,
    libc::SYS_rt_sigreturn,
    libc::SYS_rt_sigtimedwait,
    // Time and waiting.
    libc::SYS_poll,
    libc::SYS_ppoll,
    libc::SYS_select,
    libc::SYS_nanosleep,
    libc::SYS_clock_nanosleep,
    libc::SYS_clock_gettime,
    libc::SYS_gettimeofday,
    libc::SYS_getrandom,
    libc::SYS_uname,
    libc::SYS_sysinfo,
    libc::SYS_restart_syscall,
    libc::SYS_tgkill,
];
/// What they call on sockets; making one is in [`Cell::domains`].
const ON_SOCKETS: [libc::c_long; 11] = [
    libc::SYS_bind,
    libc::SYS_connect,
    libc::SYS_sendto,
    libc::SYS_recvfrom,
    libc::SYS_sendmsg,
    libc::SYS_recvmsg,
    libc::SYS_setsockopt,
    libc::SYS_getsockopt,
    libc::SYS_getsockname,
    libc::SYS_shutdown,
    libc::SYS_ioctl,
];
/// The confinement, made before the fork; entering it takes system calls only.
pub struct Confinement {
    cell: &'static Cell,
    filter: BpfProgram,
}

impl Confinement {
    /// Makes the filter.
    ///
    /// # Errors
    /// The filter cannot be made.
    pub fn new(cell: &'static Cell) -> io::Result<Self> {
        let mut rules: BTreeMap<i64, Vec<SeccompRule>> =
            CALLS.iter().chain(&ON_SOCKETS).chain(cell.calls).map(|call| (*call, Vec::new())).collect();
        let domain = |domain: libc::c_int| {
            let wanted = u64::from(domain.unsigned_abs());
            SeccompRule::new(vec![SeccompCondition::new(
                0,
                SeccompCmpArgLen::Dword,
                SeccompCmpOp::Eq,
                wanted,
            )?])
        };
        let domains: Result<Vec<_>, _> = cell.domains.iter().copied().map(domain).collect();
        rules.insert(libc::SYS_socket, domains.map_err(io::Error::other)?);
        let refused = SeccompAction::Errno(libc::EPERM.unsigned_abs());
        let filter = SeccompFilter::new(rules, refused, SeccompAction::Allow, TargetArch::x86_64);
        let filter = filter.and_then(BpfProgram::try_from).map_err(io::Error::other)?;
        Ok(Self { cell, filter })
    }

    /// Gives up everything else, for good. Runs in the child, after the fork.
    ///
    /// # Errors
    /// The kernel refuses a step; the program must not be started then.
    pub fn enter(&self) -> io::Result<()> {
        enter_user(self.cell.user, self.cell.rights)?;
        seccompiler::apply_filter(&self.filter).map_err(|_| io::Error::from_raw_os_error(libc::EPERM))
    }
}

/// `struct __user_cap_header_struct`.
#[repr(C)]
struct Header {
    version: u32,
    pid: libc::c_int,
}

/// `struct __user_cap_data_struct`, of which version 3 has two.
#[repr(C)]
#[derive(Clone, Copy)]
struct Rights {
    effective: u32,
    permitted: u32,
    inheritable: u32,
}

/// Another user, these rights, and none that can come back. The order matters: the bounding set and the user change need
/// rights that the last steps give up.
fn enter_user(user: u32, kept: &[u32]) -> io::Result<()> {
    for right in (0..=LAST_RIGHT).filter(|right| !kept.contains(right)) {
        // Those that this kernel does not have cannot be dropped, and need not be.
        // SAFETY: prctl takes plain integers here.
        unsafe { libc::prctl(libc::PR_CAPBSET_DROP, libc::c_ulong::from(right), 0, 0, 0) };
    }
    for (limit, most) in
        [(libc::RLIMIT_CORE, 0), (libc::RLIMIT_FSIZE, 0), (libc::RLIMIT_NOFILE, 64), (libc::RLIMIT_NPROC, 64)]
    {
        let limit_value = libc::rlimit { rlim_cur: most, rlim_max: most };
        // SAFETY: setrlimit reads one struct, which lives through the call.
        check(unsafe { libc::setrlimit(limit, &limit_value) })?;
    }
    // SAFETY: plain integers, and an empty list of groups.
    unsafe {
        libc::umask(0o077);
        check(libc::prctl(libc::PR_SET_KEEPCAPS, 1, 0, 0, 0))?;
        check(libc::setgroups(0, std::ptr::null()))?;
        check(libc::setresgid(user, user, user))?;
        check(libc::setresuid(user, user, user))?;
    }
    let mask = kept.iter().fold(0, |mask, right| mask | 1 << right);
    let header = Header { version: VERSION_3, pid: 0 };
    let low = Rights { effective: mask, permitted: mask, inheritable: mask };
    let rights = [low, Rights { effective: 0, permitted: 0, inheritable: 0 }];
    // SAFETY: capset reads a header and, for version 3, two structs; both live through the call.
    if unsafe { libc::syscall(libc::SYS_capset, &raw const header, rights.as_ptr()) } != 0 {
        return Err(io::Error::last_os_error());
    }
    for right in kept {
        // SAFETY: prctl takes plain integers here.
        check(unsafe {
            libc::prctl(libc::PR_CAP_AMBIENT, libc::PR_CAP_AMBIENT_RAISE, libc::c_ulong::from(*right), 0, 0)
        })?;
    }
    // SAFETY: as above.
    unsafe {
        check(libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0))?;
        check(libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL, 0, 0, 0))
    }
}

fn check(result: libc::c_int) -> io::Result<()> {
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::{fs, os::unix::process::CommandExt as _, process::Command};

    fn confined(cell: &'static Cell, program: &str, args: &[&str]) -> Command {
        let confinement = Confinement::new(cell).unwrap();
        let mut command = Command::new(program);
        command.args(args);
        // SAFETY: only system calls are made between fork and exec, on values captured before the fork.
        unsafe { command.pre_exec(move || confinement.enter()) };
        command
    }

    /// Only root can become another user; the suite runs as root where it can.
    fn is_root() -> bool {
        let root = nix::unistd::geteuid().is_root();
        if !root {
            eprintln!("not run: only root can become another user");
        }
        root
    }

    /// What the kernel says of a process that is confined: busybox, since it is what runs so.
    #[test]
    fn each_is_another_user_with_its_rights_and_no_way_to_more() {
        if !is_root() {
            return;
        }
        for (cell, user, rights) in [(&DHCP, "104", "0000000000002400"), (&PROBE, "105", "0000000000000000")]
        {
            is_confined(cell, user, rights);
        }
    }

    fn is_confined(cell: &'static Cell, user: &str, rights: &str) {
        let output = confined(cell, "/bin/busybox", &["cat", "/proc/self/status"]).output().unwrap();
        let status = String::from_utf8(output.stdout).unwrap();
        let field = |key: &str| {
            let line = status.lines().find_map(|line| line.strip_prefix(key)).unwrap_or_default();
            line.split_ascii_whitespace().map(str::to_owned).collect::<Vec<_>>().join(" ")
        };
        let ids = [user; 4].join(" ");
        assert_eq!(field("Uid:"), ids, "{status}");
        assert_eq!((field("Gid:"), field("Groups:")), (ids, String::new()));
        for set in ["CapInh:", "CapPrm:", "CapEff:", "CapBnd:", "CapAmb:"] {
            assert_eq!(field(set), rights, "{set} {status}");
        }
        assert_eq!((field("NoNewPrivs:"), field("Seccomp:")), ("1".to_owned(), "2".to_owned()));
    }

    #[test]
    fn what_they_do_not_need_fails() {
        if !is_root() {
            return;
        }
        let folder = tempfile::tempdir().unwrap();
        fs::set_permissions(folder.path(), std::os::unix::fs::PermissionsExt::from_mode(0o777)).unwrap();
        let file = folder.path().join("x").display().to_string();
        for args in [
            &["mount", "-t", "tmpfs", "x", "/mnt"][..],
            &["dmesg"],
            &["unshare", "-U", "true"],
            &["kill", "-0", "1"],
            &["chroot", "/", "true"],
            &["mkdir", &file],
        ] {
            for cell in [&DHCP, &PROBE] {
                let output = confined(cell, "/bin/busybox", args).output().unwrap();
                assert!(!output.status.success(), "{args:?} works");
            }
        }
    }
}
