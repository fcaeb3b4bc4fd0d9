//! A path that swallows big packets without a word.

use crate::places::{in_own_network, ip, is_root};
use std::{
    fs,
    io::{Read as _, Write as _},
    net::{TcpListener, TcpStream},
    process::{Command, Stdio},
    sync::mpsc::channel,
    time::Duration,
};
use waystation_init::lockdown::SYSCTLS;

const BYTES: usize = 256 << 10;
const SETTING: &str = "net/ipv4/tcp_mtu_probing";

/// Whether a transfer from a machine with this setting comes through within `limit`.
fn comes_through(setting: &'static str, limit: Duration) -> bool {
    let (ready, server) = channel();
    let (come, arrived) = channel();
    // The other end is a machine of its own, before which big packets vanish.
    let _server = std::thread::spawn(move || {
        in_own_network(move || {
            let (client, connected) = channel();
            ready.send((nix::unistd::gettid(), client)).unwrap();
            connected.recv().unwrap();
            ip("address add 192.168.9.1/24 dev hole1");
            ip("link set hole1 up");
            let mut nft = Command::new("nft").arg("-f").arg("-").stdin(Stdio::piped()).spawn().unwrap();
            let rules =
                "table ip hole { chain in { type filter hook input priority 0; meta length > 1300 drop; }; }";
            nft.stdin.take().unwrap().write_all(rules.as_bytes()).unwrap();
            assert!(nft.wait().unwrap().success());
            let listener = TcpListener::bind("192.168.9.1:7000").unwrap();
            come.send(0).unwrap();
            let (mut stream, _) = listener.accept().unwrap();
            let mut all = Vec::new();
            let _ = stream.read_to_end(&mut all);
            let _ = come.send(all.len());
        });
    });
    let (server, linked) = server.recv().unwrap();
    in_own_network(move || {
        fs::write(format!("/proc/sys/{SETTING}"), setting).unwrap();
        ip("link add hole0 type veth peer name hole1");
        // Big packets that the kernel would cut only on the cable are none of the path's.
        for end in ["hole0", "hole1"] {
            ip(&format!("link set {end} gso_max_segs 1"));
        }
        ip(&format!("link set hole1 netns {server}"));
        linked.send(()).unwrap();
        ip("address add 192.168.9.2/24 dev hole0");
        ip("link set hole0 up");
        assert_eq!(arrived.recv().unwrap(), 0, "the server listens");
        let mut stream = TcpStream::connect("192.168.9.1:7000").unwrap();
        let sender = stream.try_clone().unwrap();
        std::thread::spawn(move || {
            let _ = stream.write_all(&vec![7; BYTES]);
            let _ = stream.shutdown(std::net::Shutdown::Write);
        });
        let came = arrived.recv_timeout(limit);
        let _ = sender.shutdown(std::net::Shutdown::Both);
        came == Ok(BYTES)
    })
}

#[test]
fn tcp_finds_the_size_that_gets_through() {
    if !is_root() {
        return;
    }
    let (_, kiosk) = SYSCTLS.iter().find(|(name, _)| *name == SETTING).expect("kiosks set it");
    assert!(comes_through(kiosk, Duration::from_secs(60)));
    // The hole is one: without the setting nothing comes through.
    assert!(!comes_through("0", Duration::from_secs(12)));
}
