//! The machine of somebody from IT: the `waystation` command with a ticket, and what he imports.

use crate::{
    realm::{LOCAL_SERVICE, SERVICE, realm},
    server::{Server, Setup},
};
use parcel::wire::http::ParcelInfo;
use std::{
    collections::BTreeSet,
    fs,
    io::Read,
    os::unix::fs::FileExt,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

pub const MIB: u64 = 1 << 20;

/// A folder with a ticket, a disk, a kernel and an initial RAM disk.
pub struct Desk {
    pub setup: Setup,
}

/// How a command ended.
#[derive(Debug)]
pub struct Ended {
    pub code: i32,
    pub out: String,
    pub err: String,
}

impl Ended {
    /// The one line that was said on the standard error.
    pub fn sentence(&self) -> &str {
        let said = self.err.trim_end();
        assert_eq!(said.lines().count(), 1, "{self:?}");
        said.strip_prefix("waystation: ").unwrap_or_else(|| panic!("{self:?}"))
    }
}

impl Desk {
    /// With a disk of so many bytes that cannot be compressed.
    pub fn new(disk: u64) -> Self {
        let setup = Setup::new();
        setup.edit(SERVICE, LOCAL_SERVICE);
        fs::write(setup.path("ca.pem"), &setup.ca).unwrap();
        fs::write(setup.path("password"), "correct horse\n").unwrap();
        realm().kinit("it", &setup.path("ticket"));

        let file = fs::File::create(setup.path("disk.img")).unwrap();
        let mut piece = vec![0; MIB as usize];
        for at in 0..disk / MIB {
            getrandom::fill(&mut piece).unwrap();
            file.write_all_at(&piece, at * MIB).unwrap();
        }
        // An ext file system, as far as it is looked at: 1 KiB blocks, their number, the magic.
        file.write_all_at(&[0; 1024], 1024).unwrap();
        file.write_all_at(&((disk >> 10) as u32).to_le_bytes(), 1028).unwrap();
        file.write_all_at(&[0x53, 0xef], 1080).unwrap();

        let mut kernel = vec![7; 4096];
        kernel[0x1f1] = 1;
        kernel[0x1f4..0x1f8].copy_from_slice(&64u32.to_le_bytes());
        kernel[0x1fe..0x200].copy_from_slice(&[0x55, 0xaa]);
        kernel[0x202..0x208].copy_from_slice(b"HdrS\x0f\x02");
        kernel[0x236] = 1;
        fs::write(setup.path("vmlinuz"), kernel).unwrap();
        let mut initrd = b"070701".to_vec();
        for field in [0, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, "TRAILER!!!\0".len(), 0] {
            initrd.extend(format!("{field:08x}").bytes());
        }
        initrd.extend(b"TRAILER!!!\0\0\0\0");
        fs::write(setup.path("initrd.img"), initrd).unwrap();
        Self { setup }
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.setup.path(name)
    }

    /// `waystation` with these arguments, in the folder of the files.
    pub fn command(&self, server: &Server, arguments: &[&str]) -> Command {
        let beside = Path::new(env!("CARGO_BIN_EXE_parcel-server")).parent().unwrap();
        let program = beside.join("examples/waystation");
        assert!(program.exists(), "{}: build the examples, too", program.display());
        let mut command = Command::new(program);
        command
            .args(arguments)
            .current_dir(self.path(""))
            .env("XDG_STATE_HOME", self.path("state"))
            .env("KRB5CCNAME", self.path("ticket"))
            .env("WAYSTATION_SERVER", format!("https://localhost:{}", server.addr.port()))
            .env("WAYSTATION_CA", self.path("ca.pem"))
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        command
    }

    pub fn run(&self, server: &Server, arguments: &[&str]) -> Ended {
        ended(self.command(server, arguments).spawn().unwrap())
    }

    pub fn import<'a>(&self, more: &[&'a str]) -> Vec<&'a str> {
        let mut line = vec!["import", "--name", "golden", "--disk", "disk.img", "--kernel", "vmlinuz"];
        line.extend([
            "--initrd",
            "initrd.img",
            "--cmdline",
            "quiet",
            "--memory",
            "64",
            "--key-file",
            "golden.key",
        ]);
        line.extend(more);
        line
    }

    pub fn clone<'a>(&self, owner: &'a str, more: &[&'a str]) -> Vec<&'a str> {
        let mut line = vec!["clone", "golden", "--key-file", "golden.key", "--name", "work"];
        line.extend(["--owner", owner, "--password-file", "password"]);
        line.extend(more);
        line
    }

    /// The parcels that IT sees, unfinished ones too.
    pub fn parcels(&self, server: &Server) -> Vec<ParcelInfo> {
        let listed = self.run(server, &["ls", "--all", "--json"]);
        assert_eq!(listed.code, 0, "{listed:?}");
        serde_json::from_str(&listed.out).unwrap()
    }

    /// The files of the folder that no test begins with.
    pub fn written(&self) -> BTreeSet<String> {
        let there = ["golden.key", "recovery.txt"];
        there.into_iter().filter(|name| self.path(name).exists()).map(str::to_owned).collect()
    }

    /// Starts a command that has much to send, and waits until the server has some of it.
    pub fn started(&self, server: &Server, arguments: &[&str]) -> Child {
        self.sending(self.command(server, arguments).spawn().unwrap())
    }

    /// Waits until the server has some of what a command has to send.
    pub fn sending(&self, child: Child) -> Child {
        let begun = Instant::now();
        while sent(&self.path("store")) == 0 {
            assert!(begun.elapsed() < Duration::from_secs(60), "nothing is sent");
            std::thread::sleep(Duration::from_millis(10));
        }
        child
    }
}

/// Objects that unfinished parcels have in a store.
pub fn sent(store: &Path) -> usize {
    let of = |parcel: &Path| fs::read_dir(parcel.join("new")).map_or(0, Iterator::count);
    fs::read_dir(store.join("parcels")).unwrap().map(|parcel| of(&parcel.unwrap().path())).sum()
}

pub fn ended(mut child: Child) -> Ended {
    let (mut out, mut err) = (String::new(), String::new());
    child.stdout.take().unwrap().read_to_string(&mut out).unwrap();
    child.stderr.take().unwrap().read_to_string(&mut err).unwrap();
    Ended { code: child.wait().unwrap().code().unwrap(), out, err }
}

/// The same command on another machine.
pub fn elsewhere(command: &Command) -> Ended {
    let mut there = Command::new("unshare");
    there.args(["--map-root-user", "--uts", "sh", "-c", "hostname elsewhere && exec \"$@\"", "sh"]);
    there.arg(command.get_program()).args(command.get_args());
    there.envs(command.get_envs().filter_map(|(name, value)| Some((name, value?))));
    there.env("XDG_STATE_HOME", command.get_current_dir().unwrap().join("elsewhere"));
    there.current_dir(command.get_current_dir().unwrap());
    ended(there.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap())
}
