//! From a checked configuration to the output folder.

use crate::apt::{self, Package};
use crate::config::{Config, SecureBoot};
use crate::error::BuildError;
use crate::manifest::{FileEntry, Manifest, PackageEntry, sha256};
use crate::modules::Index;
use crate::output::{MANIFEST, Staging};
use crate::progress::Progress;
use crate::rootfs::Image;
use crate::scratch::Scratch;
use crate::tree::{Kind, Tree};
use crate::{cmdline, cpio, deb, keymaps, rootfs};
use firmware::sign::SignError;
use firmware::{disk, netboot, sign, uki};
use sha2::{Digest as _, Sha256};
use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io::{self, Read as _};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::{SystemTime, UNIX_EPOCH};

/// Packages whose programs or files the image uses. Their libraries follow.
const PACKAGES: [&str; 12] = [
    "linux-image-amd64",
    "busybox-static",
    "kmod",
    "nftables",
    "dnsmasq-base",
    "cryptsetup-bin",
    "e2fsprogs",
    "libgcc-s1",
    "libgssapi-krb5-2",
    "systemd-boot-efi",
    "console-setup",
    "xkb-data",
];
/// The environment variable by which reproducible builds are told when they happen.
const SOURCE_DATE: &str = "SOURCE_DATE_EPOCH";
/// systemd's EFI stub, by its merged-/usr path.
const STUB: &str = "usr/lib/systemd/boot/efi/linuxx64.efi.stub";

/// What is to be built, from what, and where.
#[derive(Debug, Clone)]
pub struct Job {
    /// The checked configuration.
    pub config: Config,
    /// The output folder.
    pub out: PathBuf,
    /// Folder of the release binaries.
    pub binaries: PathBuf,
    /// Folder of the package cache.
    pub cache: PathBuf,
}

/// Builds the image and puts it in place.
///
/// # Errors
/// Whatever goes wrong; the output folder then is as it was.
pub fn build(job: &Job, progress: &Progress) -> Result<Manifest, BuildError> {
    let config = &job.config;
    rootfs::check_binaries(&job.binaries)?;
    if config.secure_boot.is_some() {
        sign::check_tools()?;
    }
    fs::create_dir_all(&job.cache).map_err(BuildError::io(&job.cache, "making the package cache"))?;
    let staging = Staging::begin(&job.out)?;
    let temporary = std::env::temp_dir();
    let scratch = Scratch::new_in(&temporary, "waystation-image-build-")
        .map_err(BuildError::io(&temporary, "making a folder for temporary files (TMPDIR)"))?;

    let firmware = config.firmware.iter().map(|name| name.value.as_str());
    let pkinit = config.kdc_ca.is_some().then_some("krb5-pkinit");
    let wanted: Vec<&str> = PACKAGES.into_iter().chain(pkinit).chain(firmware).collect();
    let packages = apt::fetch(&job.cache, &config.mirrors, &wanted, progress)
        .map_err(|error| whose_package(error, config))?;
    let unpacked = progress.step("Unpacking packages", || unpack(&packages))?;
    let index = progress.step("Reading kernel modules", || Index::read(&unpacked.tree))?;
    let keymaps = progress
        .step("Making keyboard layouts", || keymaps::compile(&unpacked.tree, &job.cache, scratch.path()))?;
    let built = source_date(std::env::var(SOURCE_DATE).ok().as_deref(), unpacked.newest)?;
    let image = progress.step("Laying out the file system", || {
        rootfs::build(&rootfs::Parts {
            config,
            binaries: &job.binaries,
            packages: &unpacked.tree,
            index: &index,
            keymaps: &keymaps,
            built,
            scratch: scratch.path(),
        })
    })?;
    check_firmware(config, &unpacked, &image.tree)?;
    let initrd = progress.step("Compressing the initrd", || compress(&image.tree, config.zstd_level))?;
    let cmdline = cmdline::build(config);
    let kernel_path = format!("boot/vmlinuz-{}", index.release());
    let kernel = unpacked.file(&kernel_path, "linux-image")?;
    let stub = unpacked.file(STUB, "systemd-boot-efi")?;
    let efi = progress.step("Making kiosk.efi", || -> Result<Vec<u8>, BuildError> {
        let efi = uki::build(&uki::Parts {
            stub: &stub,
            os_release: &image.os_release,
            cmdline: &cmdline,
            uname: index.release(),
            initrd: &initrd,
            linux: &kernel,
        })?;
        match &config.secure_boot {
            Some(keys) => sign_with(&efi, keys, scratch.path()),
            None => Ok(efi),
        }
    })?;
    drop(scratch);

    let script = netboot::script(&cmdline);
    let mut files = BTreeMap::new();
    progress.step("Writing the output", || -> Result<(), BuildError> {
        let written: [(&str, &[u8]); 4] = [
            ("kiosk.efi", &efi),
            ("netboot/vmlinuz", &kernel),
            ("netboot/initrd", &initrd),
            ("netboot/boot.ipxe", script.as_bytes()),
        ];
        for (name, bytes) in written {
            staging.write(name, bytes)?;
            files.insert(name.to_owned(), FileEntry::of(bytes));
        }
        write_disk(&staging, job, &efi)
    })?;
    // With a large cache partition this takes a minute.
    files.insert("kiosk.img".to_owned(), digest_disk(&staging, job, progress)?);
    let manifest = describe(job, &packages, &unpacked, &index, &image, cmdline, files)?;
    let mut json = serde_json::to_vec_pretty(&manifest).map_err(|error| BuildError::Io {
        path: job.out.join(MANIFEST),
        doing: "writing",
        source: error.into(),
    })?;
    json.push(b'\n');
    staging.write(MANIFEST, &json)?;
    staging.finish()?;
    Ok(manifest)
}

/// Everything in the packages, and which package has what.
struct Unpacked {
    tree: Tree,
    owners: BTreeMap<String, String>,
    /// When the newest file of all packages was made, in seconds since 1970.
    newest: u64,
}

impl Unpacked {
    fn file(&self, path: &str, package: &str) -> Result<std::sync::Arc<[u8]>, BuildError> {
        let lacks = || BuildError::Lacks { package: package.to_owned(), file: path.to_owned() };
        self.tree.resolve(path).map(|(_, bytes)| bytes).ok_or_else(lacks)
    }
}

/// A package that apt does not know is a mistake of the configuration when it is named there.
fn whose_package(error: BuildError, config: &Config) -> BuildError {
    let named = |package: &String| config.firmware.iter().find(|name| name.value == *package);
    match &error {
        BuildError::NoPackage(package) => match named(package) {
            Some(name) => BuildError::Config(name.mistake(format!(
                "names {package:?}, which {} does not have in main or non-free-firmware: correct the name",
                crate::suite::TITLE
            ))),
            None => error,
        },
        _ => error,
    }
}

/// Firmware that nothing asks for is a configuration half written: its module is missing.
fn check_firmware(config: &Config, unpacked: &Unpacked, image: &Tree) -> Result<(), BuildError> {
    let used = |package: &String| image.iter().any(|(path, _)| unpacked.owners.get(path) == Some(package));
    match config.firmware.iter().find(|name| !used(&name.value)) {
        None => Ok(()),
        Some(name) => Err(BuildError::Config(name.mistake(format!(
            "names {:?}, but no module of the image asks for a file of it: name the module under modules.extra, or \
             leave the package out",
            name.value
        )))),
    }
}

/// What sbsign refuses is a key, or a certificate, that the configuration should not name.
fn sign_with(efi: &[u8], keys: &SecureBoot, scratch: &Path) -> Result<Vec<u8>, BuildError> {
    sign::sign(efi, &keys.key.value, &keys.cert, scratch).map_err(|error| match error {
        SignError::Failed { .. } => BuildError::Config(keys.key.mistake(format!(
            "names {}, which does not sign with {} ({error}): name a key and the certificate that was made with it",
            keys.key.value.display(),
            keys.cert.display()
        ))),
        other => BuildError::Sign(other),
    })
}

/// Unpacks into memory, the kernel (most of the bytes) beside the others.
fn unpack(packages: &[Package]) -> Result<Unpacked, BuildError> {
    let (kernels, others): (Vec<&Package>, Vec<&Package>) =
        packages.iter().partition(|package| package.name.starts_with("linux-image-"));
    let read = |list: &[&Package]| -> Result<Vec<(String, deb::Package)>, BuildError> {
        list.iter().map(|package| Ok((package.name.clone(), deb::read(&package.path, is_useful)?))).collect()
    };
    let (kernels, others) = thread::scope(|scope| {
        let kernels = scope.spawn(|| read(&kernels));
        let others = read(&others);
        (kernels.join(), others)
    });
    // A panic over there is a panic here.
    let kernels = kernels.unwrap_or_else(|panic| std::panic::resume_unwind(panic))?;
    let mut unpacked = Unpacked { tree: Tree::default(), owners: BTreeMap::new(), newest: 0 };
    for (name, deb::Package { tree, newest }) in others?.into_iter().chain(kernels) {
        unpacked.newest = unpacked.newest.max(newest);
        for (path, node) in tree.iter() {
            if !matches!(node.kind, Kind::Folder) {
                unpacked.owners.insert(path.to_owned(), name.clone());
            }
        }
        unpacked.tree.merge(tree);
    }
    Ok(unpacked)
}

/// When the image counts as built, in seconds since 1970: as the environment says, else when the newest file of its packages
/// was made. So the same packages make the same image, whenever they do.
fn source_date(told: Option<&str>, newest: u64) -> Result<u64, BuildError> {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(u64::MAX, |since| since.as_secs());
    match told {
        Some(told) => match told.trim().parse() {
            Ok(built) if built <= now => Ok(built),
            _ => Err(BuildError::SourceDate { told: told.to_owned() }),
        },
        // A kiosk's clock is never before it: it must not be in the future.
        None => Ok(newest.min(now)),
    }
}

/// Documentation and translations are a tenth of the bytes and none of the image.
fn is_useful(path: &str) -> bool {
    !path.starts_with("usr/share/") || path.starts_with(keymaps::DATA)
}

/// The archive, compressed on every core. The kernel's decompressor allows windows up to 128 MiB; zstd stays below
/// that at every level up to 19.
fn compress(image: &Tree, level: i32) -> Result<Vec<u8>, BuildError> {
    let compress = || -> io::Result<Vec<u8>> {
        let mut out = zstd::Encoder::new(Vec::new(), level)?;
        // Any number of workers gives the same bytes, as long as there is one.
        let workers = thread::available_parallelism().map_or(1, |cores| cores.get() as u32);
        out.multithread(workers)?;
        out.include_checksum(true)?;
        cpio::write(image, &mut out)?;
        out.finish()
    };
    compress().map_err(|source| BuildError::Io { path: "initrd".into(), doing: "compressing", source })
}

fn write_disk(staging: &Staging, job: &Job, efi: &[u8]) -> Result<(), BuildError> {
    let path = staging.path().join("kiosk.img");
    let place = job.out.join("kiosk.img");
    let mut file = fs::File::options()
        .read(true)
        .write(true)
        .create_new(true)
        .open(&path)
        .map_err(BuildError::io(&place, "writing"))?;
    Ok(disk::write(&mut file, efi, job.config.cache_partition_mib)?)
}

fn digest_disk(staging: &Staging, job: &Job, progress: &Progress) -> Result<FileEntry, BuildError> {
    let done = AtomicU64::new(0);
    let digest = |mut file: fs::File| -> io::Result<FileEntry> {
        let mut hasher = Sha256::new();
        let mut block = vec![0; 1 << 20];
        loop {
            let count = file.read(&mut block)?;
            if count == 0 {
                let bytes = done.load(Ordering::Relaxed);
                return Ok(FileEntry { bytes, sha256: hex::encode(hasher.finalize()) });
            }
            hasher.update(&block[..count]);
            done.fetch_add(count as u64, Ordering::Relaxed);
        }
    };
    let read = || {
        let file = fs::File::open(staging.path().join("kiosk.img"))?;
        let total = file.metadata()?.len();
        let count = || done.load(Ordering::Relaxed);
        progress.watch("Reading the image back", total, count, || digest(file))
    };
    read().map_err(BuildError::io(&job.out.join("kiosk.img"), "reading back"))
}

fn describe(
    job: &Job,
    packages: &[Package],
    unpacked: &Unpacked,
    index: &Index,
    image: &Image,
    cmdline: String,
    files: BTreeMap<String, FileEntry>,
) -> Result<Manifest, BuildError> {
    let mut used: BTreeSet<&str> = BTreeSet::from(["systemd-boot-efi", "console-setup", "xkb-data"]);
    let kernel = format!("boot/vmlinuz-{}", index.release());
    for path in image.tree.iter().map(|(path, _)| path).chain([kernel.as_str()]) {
        used.extend(unpacked.owners.get(path).map(String::as_str));
    }
    let mut binaries = BTreeMap::new();
    for (name, path) in rootfs::BINARIES {
        if let Some((_, bytes)) = image.tree.resolve(path) {
            binaries.insert(name.to_owned(), sha256(&bytes));
        }
    }
    let modules = image.tree.iter().filter_map(|(path, _)| path.strip_suffix(".ko"));
    Ok(Manifest {
        image_build: env!("CARGO_PKG_VERSION").to_owned(),
        build_id: image.build_id.clone(),
        kernel: index.release().to_owned(),
        cmdline,
        signed: job.config.secure_boot.is_some(),
        modules: modules.map(|stem| stem.rsplit('/').next().unwrap_or(stem).to_owned()).collect(),
        firmware_absent: image.firmware_absent.clone(),
        unpacked_bytes: image.tree.bytes(),
        packages: packages
            .iter()
            .filter(|package| used.contains(package.name.as_str()))
            .map(|package| PackageEntry {
                name: package.name.clone(),
                version: package.version.clone(),
                sha256: package.sha256.clone(),
            })
            .collect(),
        binaries,
        files,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_date_of_a_build_is_told_or_follows_from_its_packages() {
        assert_eq!(source_date(None, 1_700_000_000).unwrap(), 1_700_000_000);
        assert_eq!(source_date(Some("1600000000\n"), 1_700_000_000).unwrap(), 1_600_000_000);
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs();
        assert!(source_date(None, u64::MAX).unwrap() <= now + 1, "never in the future");
        for bad in ["", "soon", "-1", "99999999999"] {
            assert!(source_date(Some(bad), 0).unwrap_err().to_string().contains(SOURCE_DATE), "{bad}");
        }
    }
}
