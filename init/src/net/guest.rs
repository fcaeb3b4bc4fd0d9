//! The guest's network: a tap device, an address from dnsmasq, and NAT out of the uplink. The guest reaches nothing
//! of the kiosk but its DHCP and name service.

use super::link;
use crate::{child, helper, log::Log};
use nix::{
    fcntl::{OFlag, open},
    sys::stat::Mode,
};
use parcel::wire::users;
use std::{
    fs, io,
    net::Ipv4Addr,
    os::fd::{AsRawFd, OwnedFd},
    process::{Child, Command, Stdio},
};

/// Name of the tap device.
pub const TAP: &str = "tap0";
/// The kiosk's address on it.
pub const GATEWAY: Ipv4Addr = Ipv4Addr::new(10, 77, 0, 1);
const MASK: Ipv4Addr = Ipv4Addr::new(255, 255, 255, 0);
/// There is one guest, so its address is always the same: connections that survive a suspend find it there.
const GUEST: Ipv4Addr = Ipv4Addr::new(10, 77, 0, 2);

/// Whether an address is of the network between kiosk and guest.
pub fn is_inside(address: Ipv4Addr) -> bool {
    address & MASK == GATEWAY & MASK
}

/// The kiosk's hardware address on it, the same at every kiosk: a guest that was suspended elsewhere goes on sending to
/// the one that it remembers.
const GATEWAY_MAC: [u8; 6] = [0x02, 0x57, 0x41, 0x59, 0x00, 0x01];

/// The kiosk's packet filter. It also keeps the kiosk itself closed to its network.
pub const RULES: &str = r#"
table inet waystation
delete table inet waystation
table inet waystation {
    chain input {
        type filter hook input priority filter; policy drop;
        ct state established,related accept
        iifname "lo" accept
        iifname "tap0" udp dport { 53, 67 } accept
        iifname "tap0" tcp dport 53 accept
        iifname "tap0" drop
        meta l4proto { 1, 58 } accept comment "ICMP, ICMPv6: a kiosk has no /etc/protocols"
        udp dport 68 accept
    }
    chain forward {
        type filter hook forward priority filter; policy drop;
        ct state established,related accept
        iifname "tap0" oifname != "tap0" accept
    }
    chain postrouting {
        type nat hook postrouting priority srcnat;
        iifname "tap0" oifname != "tap0" masquerade
    }
}
"#;

const TUN: &str = "/dev/net/tun";
// Of `linux/if_tun.h`.
const TUNSETIFF: libc::c_ulong = 0x4004_54ca;
const TUNSETPERSIST: libc::c_ulong = 0x4004_54cb;
const TUNSETOWNER: libc::c_ulong = 0x4004_54cc;
const IFF_TAP: libc::c_short = 0x0002;
const IFF_NO_PI: libc::c_short = 0x1000;
const IFF_VNET_HDR: libc::c_short = 0x4000;

fn tap() -> io::Result<OwnedFd> {
    let tun = open(TUN, OFlag::O_RDWR | OFlag::O_CLOEXEC, Mode::empty())?;
    // SAFETY: an all-zero `ifreq` is a valid value of that plain C struct.
    let mut request: libc::ifreq = unsafe { std::mem::zeroed() };
    for (to, from) in request.ifr_name.iter_mut().zip(TAP.bytes()) {
        *to = from.cast_signed();
    }
    request.ifr_ifru.ifru_flags = IFF_TAP | IFF_NO_PI | IFF_VNET_HDR;
    // SAFETY: TUNSETIFF reads and writes one `ifreq`, which lives through the call.
    match unsafe { libc::ioctl(tun.as_raw_fd(), TUNSETIFF, &mut request) } {
        0 => Ok(tun),
        _ => Err(io::Error::last_os_error()),
    }
}

fn set(tun: &OwnedFd, code: libc::c_ulong, value: u32) -> io::Result<()> {
    // SAFETY: TUNSETPERSIST and TUNSETOWNER take an integer by value.
    match unsafe { libc::ioctl(tun.as_raw_fd(), code, libc::c_ulong::from(value)) } {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}

/// Makes the tap device for the VMM's user, with the gateway's address, and loads the packet filter.
///
/// # Errors
/// A module or program is missing; the message names it.
pub fn set_up() -> io::Result<()> {
    let tun = tap()?;
    set(&tun, TUNSETOWNER, users::VMM.id)?;
    set(&tun, TUNSETPERSIST, 1)?;
    drop(tun);
    link::set_hardware_address(TAP, GATEWAY_MAC)?;
    link::set_own_address(TAP, GATEWAY, MASK)?;
    link::up(TAP)?;
    helper::run("nft", &["-f", "-"], RULES.as_bytes())?;
    fs::write("/proc/sys/net/ipv4/ip_forward", "1")
}

/// Takes the tap device away, and with it what was queued on it.
///
/// # Errors
/// It is in use.
pub fn tear_down() -> io::Result<()> {
    if !exists()? {
        return Ok(());
    }
    set(&tap()?, TUNSETPERSIST, 0)
}

/// Makes the kernel forget which connections went through: they tell whom the guest talked to.
///
/// # Errors
/// The kernel refuses; one without connection tracking has nothing to forget.
pub fn forget_connections() -> io::Result<()> {
    use nix::sys::socket::{AddressFamily, MsgFlags, SockFlag, SockProtocol, SockType, recv, send, socket};
    /// `NFNL_SUBSYS_CTNETLINK << 8 | IPCTNL_MSG_CT_DELETE` of `linux/netfilter/nfnetlink*.h`.
    const DELETE: u16 = 1 << 8 | 2;
    const FLAGS: u16 = (libc::NLM_F_REQUEST | libc::NLM_F_ACK) as u16;
    if !std::path::Path::new("/proc/sys/net/netfilter/nf_conntrack_count").exists() {
        return Ok(());
    }
    let netlink = socket(
        AddressFamily::Netlink,
        SockType::Raw,
        SockFlag::SOCK_CLOEXEC,
        SockProtocol::NetlinkNetFilter,
    )?;
    // A header of 16 bytes (length, type, flags, sequence, port) and an empty nfgenmsg: all of every family.
    let mut message = Vec::with_capacity(20);
    message.extend_from_slice(&20u32.to_ne_bytes());
    message.extend_from_slice(&DELETE.to_ne_bytes());
    message.extend_from_slice(&FLAGS.to_ne_bytes());
    message.extend_from_slice(&[0; 12]);
    send(netlink.as_raw_fd(), &message, MsgFlags::empty())?;
    let mut answer = [0u8; 256];
    let len = recv(netlink.as_raw_fd(), &mut answer, MsgFlags::empty())?;
    let code =
        answer.get(..len).and_then(|answer| answer.get(16..20)?.try_into().ok()).map(i32::from_ne_bytes);
    match code {
        Some(0) => Ok(()),
        Some(code) => Err(io::Error::from_raw_os_error(code.saturating_neg())),
        None => Err(io::ErrorKind::UnexpectedEof.into()),
    }
}

/// Whether the tap device is there.
///
/// # Errors
/// The kernel does not tell.
pub fn exists() -> io::Result<bool> {
    std::path::Path::new("/sys/class/net").join(TAP).try_exists()
}

/// Starts dnsmasq on the tap device only. `nothing` it learns is kept on disk but the one lease, in `leases`.
///
/// # Errors
/// It cannot be run.
pub fn dnsmasq(leases: &str, log: &Log) -> io::Result<Child> {
    let mut child = Command::new(helper::find("dnsmasq")?)
        .args([
            "--keep-in-foreground",
            "--conf-file=/dev/null",
            "--user=nobody",
            "--group=nogroup",
            "--pid-file=",
        ])
        .args([
            "--bind-interfaces",
            "--except-interface=lo",
            "--no-hosts",
            "--no-ping",
            "--dhcp-authoritative",
        ])
        .args(["--log-facility=-", "--quiet-dhcp"])
        .arg(format!("--interface={TAP}"))
        .arg(format!("--dhcp-range={GUEST},{GUEST},{MASK},12h"))
        .arg(format!("--dhcp-leasefile={leases}"))
        .arg(format!("--resolv-file={}", super::RESOLV))
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()?;
    if let Some(stderr) = child.stderr.take() {
        child::log_lines(stderr, "dnsmasq", log)?;
    }
    Ok(child)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_filter_is_what_nft_understands() {
        // Checking needs CAP_NET_ADMIN; without nft or the right the kernel's word is not to be had here.
        let checked = super::helper::run("nft", &["--check", "-f", "-"], RULES.as_bytes());
        if let Err(error) = checked {
            let text = error.to_string();
            assert!(!text.contains("syntax error"), "{text}");
        }
    }

    #[test]
    fn the_guest_reaches_no_kiosk_service_but_names_and_addresses() {
        let input = RULES.split("chain input").nth(1).unwrap().split("chain forward").next().unwrap();
        let guest: Vec<&str> = input.lines().map(str::trim).filter(|line| line.contains("tap0")).collect();
        assert_eq!(
            guest,
            [
                r#"iifname "tap0" udp dport { 53, 67 } accept"#,
                r#"iifname "tap0" tcp dport 53 accept"#,
                r#"iifname "tap0" drop"#
            ]
        );
        assert!(input.contains("policy drop"));
    }
}
