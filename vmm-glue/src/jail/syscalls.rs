//! The system calls that each kind of thread may make. Anything else traps.

use super::Kind;
use seccompiler::{
    BpfProgram, Error, SeccompAction, SeccompCmpArgLen, SeccompCmpOp, SeccompCondition, SeccompFilter,
    SeccompRule, TargetArch,
};
use std::collections::BTreeMap;

/// What Rust's runtime and the allocator need in every thread.
const COMMON: &[i64] = &[
    libc::SYS_brk,
    libc::SYS_clock_gettime,
    libc::SYS_clock_nanosleep,
    libc::SYS_close,
    libc::SYS_exit,
    libc::SYS_exit_group,
    libc::SYS_futex,
    libc::SYS_getpid,
    libc::SYS_getrandom,
    libc::SYS_gettid,
    libc::SYS_madvise,
    libc::SYS_mremap,
    libc::SYS_munmap,
    libc::SYS_nanosleep,
    libc::SYS_read,
    libc::SYS_restart_syscall,
    libc::SYS_rt_sigprocmask,
    libc::SYS_rt_sigreturn,
    libc::SYS_sched_yield,
    libc::SYS_sigaltstack,
    libc::SYS_tgkill,
    libc::SYS_write,
    libc::SYS_writev,
];

/// Talking over connected sockets.
const SOCKETS: &[i64] = &[libc::SYS_recvfrom, libc::SYS_recvmsg, libc::SYS_sendmsg, libc::SYS_sendto];

/// Waiting for, and taking, connections.
const SERVER: &[i64] = &[libc::SYS_accept4, libc::SYS_epoll_ctl, libc::SYS_epoll_wait, libc::SYS_epoll_pwait];

/// Losing patience with a peer.
const TIMEOUTS: &[i64] = &[libc::SYS_setsockopt];

/// Making memory files, and reading those that came.
const FILES: &[i64] = &[
    libc::SYS_fcntl,
    libc::SYS_fstat,
    libc::SYS_ftruncate,
    libc::SYS_lseek,
    libc::SYS_memfd_create,
    libc::SYS_newfstatat,
    libc::SYS_pread64,
    libc::SYS_pwrite64,
    libc::SYS_statx,
];

const KVM_IOCTLS: u64 = 0xae00;
const IOCTL_TYPE: u64 = 0xff00;
const KVM_RUN: u64 = 0xae80;
const FIONBIO: u64 = 0x5421;
const TUNSETOFFLOAD: u64 = libc::TUNSETOFFLOAD;

fn when(argument: u8, operator: SeccompCmpOp, value: u64) -> Result<SeccompRule, seccompiler::BackendError> {
    SeccompRule::new(vec![SeccompCondition::new(argument, SeccompCmpArgLen::Dword, operator, value)?])
}

/// The filter of a kind.
///
/// # Errors
/// None that is known; the compiler's type demands it.
pub fn filter(kind: Kind) -> Result<BpfProgram, Error> {
    let lists: &[&[i64]] = match kind {
        Kind::Control => &[COMMON, SOCKETS, SERVER, TIMEOUTS],
        Kind::Manager => &[COMMON, SOCKETS, FILES],
        Kind::Devices => &[COMMON, SOCKETS, SERVER],
        // A driver that gets ready makes the disk's front end talk.
        Kind::Vcpu => &[COMMON, SOCKETS],
    };
    let mut rules: BTreeMap<i64, Vec<SeccompRule>> =
        lists.iter().copied().flatten().map(|call| (*call, Vec::new())).collect();
    // Memory never becomes code.
    for call in [libc::SYS_mmap, libc::SYS_mprotect] {
        let not_code = when(2, SeccompCmpOp::MaskedEq(libc::PROT_EXEC as u64), 0)?;
        rules.insert(call, vec![not_code]);
    }
    if cfg!(debug_assertions) {
        // In such builds Rust looks whether a descriptor is open before it closes it.
        rules.entry(libc::SYS_fcntl).or_insert(vec![when(1, SeccompCmpOp::Eq, libc::F_GETFD as u64)?]);
    }
    let exactly = |request| when(1, SeccompCmpOp::Eq, request);
    let ioctls = match kind {
        Kind::Control => vec![exactly(FIONBIO)?],
        Kind::Manager => {
            vec![when(1, SeccompCmpOp::MaskedEq(IOCTL_TYPE), KVM_IOCTLS)?, exactly(TUNSETOFFLOAD)?]
        }
        Kind::Devices => vec![exactly(FIONBIO)?],
        Kind::Vcpu => vec![exactly(KVM_RUN)?, exactly(TUNSETOFFLOAD)?],
    };
    rules.insert(libc::SYS_ioctl, ioctls);
    let filter = SeccompFilter::new(rules, SeccompAction::Trap, SeccompAction::Allow, TargetArch::x86_64)?;
    Ok(BpfProgram::try_from(filter)?)
}
