//! A folder in which disks are made, and the command that judges them.

use std::{
    fs,
    path::PathBuf,
    process::{Command, Stdio},
};
use tempfile::TempDir;

pub struct Workshop(TempDir);

impl Workshop {
    /// With a kernel and an initial RAM disk that are as they should be.
    pub fn new() -> Self {
        let shop = Self(tempfile::tempdir().unwrap());
        let mut kernel = vec![7; 4096];
        kernel[0x1f1] = 1;
        kernel[0x1f4..0x1f8].copy_from_slice(&64u32.to_le_bytes());
        kernel[0x1fe..0x200].copy_from_slice(&[0x55, 0xaa]);
        kernel[0x202..0x208].copy_from_slice(b"HdrS\x0f\x02");
        kernel[0x236] = 1;
        fs::write(shop.path("vmlinuz"), kernel).unwrap();
        shop.sh(
            "mkdir tree && echo a > tree/a && (cd tree && find . | cpio -o -H newc --quiet) > initrd.img",
        );
        shop
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    /// Runs a script of the shell in the folder.
    pub fn sh(&self, script: &str) {
        let path = format!("{}:/usr/sbin:/sbin", std::env::var("PATH").unwrap_or_default());
        let ran = Command::new("sh")
            .args(["-euc", script])
            .env("PATH", path)
            .current_dir(self.0.path())
            .stdin(Stdio::null())
            .output()
            .unwrap();
        assert!(ran.status.success(), "{script}: {}", String::from_utf8_lossy(&ran.stderr));
    }

    /// What `import` says: `None` when it goes on to ask for the server, and none is named here.
    pub fn import(&self, arguments: &[&str]) -> Option<String> {
        let run = |more: &[&str]| {
            let ran = Command::new(env!("CARGO_BIN_EXE_waystation"))
                .args(["import", "--name", "golden", "--memory", "64", "--kernel", "vmlinuz"])
                .args(arguments)
                .args(more)
                .current_dir(self.0.path())
                .env_remove("WAYSTATION_SERVER")
                .stdin(Stdio::null())
                .output()
                .unwrap();
            assert_eq!(ran.status.code(), Some(3), "{ran:?}");
            let said = String::from_utf8(ran.stderr).unwrap();
            let said = said.strip_prefix("waystation: ").unwrap().trim_end().to_owned();
            assert!(!said.contains('\n'), "{said}");
            (String::from_utf8(ran.stdout).unwrap(), said)
        };
        let (out, said) = run(&[]);
        assert_eq!(out, "");
        let (out, again) = run(&["--json"]);
        assert_eq!(said, again);
        let error: serde_json::Value = serde_json::from_str(&out).unwrap();
        let message = error["error"]["message"].as_str().unwrap();
        assert_eq!(
            (error["error"]["code"].as_str(), format!("{message} [bad-input]")),
            (Some("bad-input"), said)
        );
        if message.starts_with("no parcel server is named") { None } else { Some(message.to_owned()) }
    }

    /// A disk, with this command line.
    pub fn disk(&self, disk: &str, cmdline: &str) -> Option<String> {
        self.import(&["--disk", disk, "--initrd", "initrd.img", "--cmdline", cmdline])
    }

    /// What it says of a disk that it refuses, which has these parts and a next step.
    pub fn refused(&self, disk: &str, cmdline: &str, parts: &[&str]) -> String {
        let said = self.disk(disk, cmdline).unwrap_or_else(|| panic!("{disk} is taken with {cmdline}"));
        for part in parts {
            assert!(said.contains(part), "{said:?} lacks {part:?}");
        }
        assert!(said.contains("; "), "no next step: {said}");
        said
    }
}
