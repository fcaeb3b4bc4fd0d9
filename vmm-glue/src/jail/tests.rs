use super::*;
use std::process::{Command, Output};

const KIND: &str = "VMM_JAIL_TEST_KIND";
const DEED: &str = "VMM_JAIL_TEST_DEED";

/// Runs [`prisoner`] in a process of its own, for a jail has no way out.
fn confined(kind: &str, deed: &str) -> Output {
    Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "jail::tests::prisoner", "--nocapture", "--test-threads=1"])
        .env_clear()
        .envs(parcel::wire::ENVIRONMENT)
        .env(KIND, kind)
        .env(DEED, deed)
        .output()
        .unwrap()
}

/// Does one deed in a jail, when the tests above ask for it; nothing otherwise.
#[test]
fn prisoner() {
    let (Ok(kind), Ok(deed)) = (std::env::var(KIND), std::env::var(DEED)) else { return };
    let kind = match kind.as_str() {
        "control" => Kind::Control,
        "manager" => Kind::Manager,
        "devices" => Kind::Devices,
        _ => Kind::Vcpu,
    };
    prepare().unwrap();
    enter(kind).unwrap();
    match deed.as_str() {
        "work" => {
            // Allocation, locks and output, as every thread does.
            let text: Vec<String> = (0..20_000).map(|n| n.to_string()).collect();
            eprintln!("worked {}", text.len());
            std::process::exit(7);
        }
        "panic" | "backtrace" => {
            if deed == "panic" {
                crate::last_words::install();
            }
            assert!(crate::caught(|| -> Result<()> { panic!("in\nthe jail") }).is_err());
            std::process::exit(7);
        }
        "open" => drop(std::fs::File::open("/etc/hostname")),
        "socket" => drop(std::net::UdpSocket::bind("127.0.0.1:0")),
        "exec" => drop(Command::new("/bin/true").status()),
        "memfd" => drop(crate::memory::sealed_memfd(c"test", 4096)),
        "code" => {
            // SAFETY: a fresh anonymous mapping touches nothing else.
            unsafe {
                libc::mmap(
                    std::ptr::null_mut(),
                    4096,
                    libc::PROT_READ | libc::PROT_EXEC,
                    libc::MAP_PRIVATE | libc::MAP_ANONYMOUS,
                    -1,
                    0,
                )
            };
        }
        other => panic!("{other}"),
    }
    std::process::exit(8);
}

#[test]
fn every_kind_works_and_is_caught_at_what_is_not_its_own() {
    for kind in ["control", "manager", "devices", "vcpu"] {
        let done = confined(kind, "work");
        assert_eq!(done.status.code(), Some(7), "{kind}: {}", String::from_utf8_lossy(&done.stderr));
        // A process that is being made has its signals blocked: the kernel ends it without a word.
        assert_ne!(confined(kind, "exec").status.code(), Some(8), "{kind}");
        let panicked = confined(kind, "panic");
        let said = String::from_utf8_lossy(&panicked.stderr).into_owned();
        assert_eq!(panicked.status.code(), Some(7), "{kind}: {said}");
        assert!(said.lines().any(|l| l.starts_with("vmm: ") && l.ends_with(": in the jail")), "{said}");
        assert!(!said.contains("backtrace"), "{said}");
        // "backtrace": a hook that looks for one, as the runtime's does, is caught.
        for deed in ["open", "socket", "code", "backtrace"] {
            let done = confined(kind, deed);
            let said = String::from_utf8_lossy(&done.stderr).into_owned();
            assert_eq!(done.status.code(), Some(1), "{kind} {deed}: {said}");
            let last = said.lines().last().unwrap_or_default();
            assert!(last.starts_with("vmm: a thread was caught at system call "), "{kind} {deed}: {said}");
        }
    }
    assert_eq!(confined("manager", "memfd").status.code(), Some(8));
    assert_eq!(confined("vcpu", "memfd").status.code(), Some(1));
}
