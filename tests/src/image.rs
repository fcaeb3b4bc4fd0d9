//! The kiosk image, built by `image-build` as IT would build it.

use crate::{
    guest::fingerprint,
    paths, process,
    realm::{REALM, Realm, SERVER_HOST},
    server::Server,
};
use anyhow::{Context, Result};
use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

/// Where the outer machine reaches the host: QEMU's user networking.
pub const HOST: &str = "10.0.2.2";

/// A built image.
#[derive(Debug, Clone)]
pub struct Image {
    /// The folder that `image-build` filled.
    pub dir: PathBuf,
}

impl Image {
    /// Builds the image for this realm and server, with its screen on `console`, or takes the one that was built from
    /// the same configuration and programs.
    pub fn build(dir: &Path, realm: &Realm, server: &Server, console: &str) -> Result<Self> {
        Self::build_with(dir, &configuration(realm.port(), server, console), server)
    }

    /// Builds it from the text of a `kiosk.toml`.
    pub fn build_with(dir: &Path, toml: &str, server: &Server) -> Result<Self> {
        fs::create_dir_all(dir)?;
        let config = dir.join("kiosk.toml");
        fs::write(&config, toml)?;
        fs::copy(server.ca(), dir.join("ca.pem"))?;
        let mut inputs = vec![config.clone(), dir.join("ca.pem")];
        for program in ["image-build", "init", "cached", "vmm", "kiosk-ui"] {
            inputs.push(paths::binary(program)?);
        }
        let inputs: Vec<&Path> = inputs.iter().map(PathBuf::as_path).collect();
        let out = dir.join(format!("image-{}", fingerprint(&inputs)?));
        if !out.is_dir() {
            let half = dir.join("image.half");
            let _ = fs::remove_dir_all(&half);
            let mut build = Command::new(paths::binary("image-build")?);
            build.arg("build").arg("--config").arg(&config).arg("--out").arg(&half);
            process::run_logged(&mut build, &dir.join("image-build.log"))
                .context("the kiosk image was not built")?;
            fs::rename(&half, &out)?;
        }
        Ok(Self { dir: out })
    }

    /// The USB stick's image.
    pub fn stick(&self) -> PathBuf {
        self.dir.join("kiosk.img")
    }

    /// Kernel, initrd and iPXE script.
    pub fn netboot(&self) -> PathBuf {
        self.dir.join("netboot")
    }
}

/// The rig's `kiosk.toml`.
pub fn configuration(kdc_port: u16, server: &Server, console: &str) -> String {
    format!(
        "# No name: each machine is called by its own serial number and six characters more.\n\
         title = \"Waystation rig\"\n\
         [realm]\nname = \"{REALM}\"\nkdc = [\"{HOST}:{kdc_port}\"]\n\
         [server]\nurl = \"{}\"\nca = \"ca.pem\"\n\
         [hosts]\n\"{SERVER_HOST}\" = \"{HOST}\"\n\
         [console]\nscreen = \"{console}\"\nlog = \"ttyS1\"\n\
         [session]\nlock_after_s = 1800\nsuspend_after_s = 0\n\
         [cache]\nkind = \"auto\"\nzstd_level = 1\n\
         [wipe]\ndiscard = true\npower_off_on_failure = false\n\
         [boot]\ncmdline_extra = \"mitigations=off\"\n\
         [image]\nzstd_level = 3\n",
        server.url()
    )
}
