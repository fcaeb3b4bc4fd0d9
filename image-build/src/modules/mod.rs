//! The kernel's modules: which of them the kiosk carries, with all that they need, and their index for `modprobe`.

mod usual;

use crate::config::Placed;
use crate::error::BuildError;
use crate::tree::{Kind, Tree};
use object::{Object as _, ObjectSection as _};
use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io::Read as _;
use std::path::Path;
use std::process::Command;
use std::sync::Arc;

/// The modules of one kernel.
#[derive(Debug)]
pub struct Index(Known<Packed>);

/// Modules of which each can say what it is.
#[derive(Debug)]
struct Known<M> {
    /// Kernel release, such as `6.12.118+deb13-amd64`.
    release: String,
    modules: BTreeMap<String, M>,
    builtin: BTreeSet<String>,
}

/// A module as it lies in its package, packed by xz. Only the few that are carried are unpacked.
#[derive(Debug)]
struct Packed {
    /// Path of the module when it is unpacked.
    path: String,
    bytes: Arc<[u8]>,
    xz: bool,
}

#[derive(Debug, Default, Clone, PartialEq, Eq)]
struct Module {
    path: String,
    bytes: Arc<[u8]>,
    depends: Vec<String>,
    /// Wanted before or after, without being linked with it.
    soft: Vec<String>,
    firmware: Vec<String>,
}

/// What can say what it is.
trait Describe {
    fn module(&self) -> Result<Module, BuildError>;
}

impl Describe for Packed {
    fn module(&self) -> Result<Module, BuildError> {
        let unfit = |why| BuildError::Unfit { path: self.path.clone(), why };
        let bytes = if self.xz {
            unpack(&self.bytes).map_err(|error| unfit(format!("the module is damaged ({error})")))?.into()
        } else {
            self.bytes.clone()
        };
        describe(&self.path, bytes).map_err(unfit)
    }
}

/// Most bytes that a module has unpacked; the largest of Debian's has 9 MiB.
const LARGEST: u64 = 64 << 20;

fn unpack(packed: &[u8]) -> std::io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    let read = lzma_rust2::XzReader::new(packed, true).take(LARGEST + 1).read_to_end(&mut bytes)?;
    if read as u64 > LARGEST {
        return Err(std::io::Error::other("it is larger than 64 MiB"));
    }
    Ok(bytes)
}

/// Which modules are carried.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Selection {
    /// The modules by path, unpacked: the initrd is packed as a whole, and the kernel then needs no xz to load one.
    pub files: BTreeMap<String, Arc<[u8]>>,
    /// Names of the firmware files that these modules may ask for, and which of them may.
    pub firmware: BTreeMap<String, BTreeSet<String>>,
    /// Modules to load at boot.
    pub load: Vec<String>,
}

impl Index {
    /// Reads the modules of an unpacked kernel package.
    ///
    /// # Errors
    /// When there are none.
    pub fn read(kernel: &Tree) -> Result<Self, BuildError> {
        let lacks =
            |file: &str| BuildError::Lacks { package: "linux-image".to_owned(), file: file.to_owned() };
        let root = "usr/lib/modules/";
        let release = kernel
            .below(root)
            .find_map(|(path, _)| path[root.len()..].split_once('/').map(|(release, _)| release.to_owned()))
            .ok_or_else(|| lacks(root))?;
        let mut modules = BTreeMap::new();
        for (path, node) in kernel.below(&format!("{root}{release}/kernel/")) {
            let Kind::File(bytes) = &node.kind else { continue };
            let unpacked = path.strip_suffix(".xz").unwrap_or(path);
            if let Some(stem) = unpacked.strip_suffix(".ko") {
                let name = plain(stem.rsplit('/').next().unwrap_or(stem));
                let xz = unpacked != path;
                modules.insert(name, Packed { path: unpacked.to_owned(), bytes: bytes.clone(), xz });
            }
        }
        if modules.is_empty() {
            return Err(lacks("*.ko.xz files"));
        }
        let builtin = format!("{root}{release}/modules.builtin");
        let (_, list) = kernel.resolve(&builtin).ok_or_else(|| lacks(&builtin))?;
        let builtin = String::from_utf8_lossy(&list)
            .lines()
            .filter_map(|line| Some(plain(line.rsplit('/').next()?.strip_suffix(".ko")?)))
            .collect();
        Ok(Self(Known { release, modules, builtin }))
    }

    /// The kernel's release.
    pub fn release(&self) -> &str {
        &self.0.release
    }

    /// Selects the usual modules and those that kiosk.toml adds.
    ///
    /// # Errors
    /// When the kernel has no module of a name, or one is damaged.
    pub fn select(&self, extra: &[Placed<String>], load: &[Placed<String>]) -> Result<Selection, BuildError> {
        self.0.select(extra, load)
    }
}

impl<M: Describe> Known<M> {
    fn has(&self, name: &str) -> bool {
        self.modules.contains_key(name) || self.builtin.contains(name)
    }

    fn select(&self, extra: &[Placed<String>], load: &[Placed<String>]) -> Result<Selection, BuildError> {
        let mut load_all: Vec<String> = usual::LOAD.iter().map(|name| (*name).to_owned()).collect();
        let named = |list: &[Placed<String>]| list.iter().map(|name| plain(&name.value)).collect::<Vec<_>>();
        load_all.extend(named(load).into_iter().filter(|name| !usual::LOAD.contains(&name.as_str())));
        if let Some(name) = extra.iter().chain(load).find(|name| !self.has(&plain(&name.value))) {
            return Err(BuildError::Config(name.mistake(format!(
                "names {0:?}, which kernel {1} does not have: see `modinfo {0}` on a Debian 13 machine, or leave it out",
                name.value, self.release
            ))));
        }
        let usual = usual::NAMES.iter().map(|name| (*name).to_owned());
        let mut queue: Vec<String> = usual.chain(named(extra)).chain(load_all.iter().cloned()).collect();
        let mut chosen: BTreeMap<String, Module> = BTreeMap::new();
        while let Some(name) = queue.pop() {
            if chosen.contains_key(&name) || self.builtin.contains(&name) {
                continue;
            }
            let Some(packed) = self.modules.get(&name) else {
                return Err(BuildError::Module { release: self.release.clone(), name });
            };
            let module = packed.module()?;
            queue.extend(module.depends.iter().cloned());
            queue.extend(module.soft.iter().filter(|soft| self.modules.contains_key(*soft)).cloned());
            chosen.insert(name, module);
        }
        let mut firmware: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
        for (name, module) in &chosen {
            for file in &module.firmware {
                firmware.entry(file.clone()).or_default().insert(name.clone());
            }
        }
        Ok(Selection {
            files: chosen.into_values().map(|module| (module.path, module.bytes)).collect(),
            firmware,
            load: load_all.into_iter().filter(|name| self.modules.contains_key(name)).collect(),
        })
    }
}

/// Module names have `_` where file names may have `-`.
fn plain(name: &str) -> String {
    name.replace('-', "_")
}

/// Reads a module's `.modinfo` section: strings `key=value`, each ended by a zero byte.
fn describe(path: &str, bytes: Arc<[u8]>) -> Result<Module, String> {
    let file = object::File::parse(&*bytes).map_err(|error| format!("the module is damaged ({error})"))?;
    let section = file.section_by_name(".modinfo").ok_or("the module does not describe itself")?;
    let data = section.data().map_err(|error| format!("the module is damaged ({error})"))?;
    let mut module = Module { path: path.to_owned(), bytes: bytes.clone(), ..Module::default() };
    for line in data.split(|byte| *byte == 0) {
        let line = String::from_utf8_lossy(line);
        let Some((key, value)) = line.split_once('=') else { continue };
        match key {
            "depends" => module.depends.extend(value.split(',').filter(|name| !name.is_empty()).map(plain)),
            "softdep" => {
                module.soft.extend(value.split_whitespace().filter(|word| !word.ends_with(':')).map(plain));
            }
            "firmware" => module.firmware.push(value.to_owned()),
            _ => {}
        }
    }
    Ok(module)
}

/// Copies the selected modules and makes their index.
///
/// # Errors
/// When `depmod` is missing or fails.
pub fn install(
    image: &mut Tree,
    kernel: &Tree,
    index: &Index,
    selection: &Selection,
    scratch: &Path,
) -> Result<(), BuildError> {
    let release = index.release();
    let folder = tempfile::tempdir_in(scratch).map_err(BuildError::io(scratch, "making a folder"))?;
    let lists = ["modules.order", "modules.builtin", "modules.builtin.modinfo"];
    let lists = lists.iter().map(|name| format!("usr/lib/modules/{release}/{name}"));
    let lists = lists.filter_map(|path| kernel.resolve(&path).map(|(_, bytes)| (path, bytes)));
    for (path, bytes) in
        selection.files.iter().map(|(path, bytes)| (path.clone(), bytes.clone())).chain(lists)
    {
        // depmod looks in lib/modules below its base folder.
        let place = folder.path().join(path.trim_start_matches("usr/"));
        let parent = place.parent().unwrap_or(folder.path());
        fs::create_dir_all(parent).map_err(BuildError::io(parent, "making a folder"))?;
        fs::write(&place, &bytes).map_err(BuildError::io(&place, "writing"))?;
        if path.ends_with(".ko") {
            image.file(&path, 0o644, bytes);
        }
    }
    let output = depmod()
        .arg("-b")
        .arg(folder.path())
        .arg(release)
        .output()
        .map_err(|source| BuildError::tool("depmod", "kmod", source))?;
    let said = String::from_utf8_lossy(&output.stderr);
    if !output.status.success() || said.contains("needs unknown symbol") {
        return Err(BuildError::Depmod(said.trim().replace('\n', "; ")));
    }
    let made = folder.path().join("lib/modules").join(release);
    for entry in fs::read_dir(&made).map_err(BuildError::io(&made, "reading"))?.flatten() {
        let name = entry.file_name().to_string_lossy().into_owned();
        // What modprobe reads is in the .bin files; of the others it wants only these.
        let wanted = name.ends_with(".bin") || matches!(name.as_str(), "modules.softdep" | "modules.devname");
        if wanted {
            let bytes = fs::read(entry.path()).map_err(BuildError::io(&entry.path(), "reading"))?;
            image.file(&format!("usr/lib/modules/{release}/{name}"), 0o644, bytes);
        }
    }
    Ok(())
}

/// depmod is in sbin, which is not in every user's PATH.
fn depmod() -> Command {
    let sbin = ["/usr/sbin/depmod", "/sbin/depmod"].into_iter().find(|path| Path::new(path).exists());
    Command::new(sbin.unwrap_or("depmod"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Mistake;

    impl Describe for Module {
        fn module(&self) -> Result<Module, BuildError> {
            Ok(self.clone())
        }
    }

    /// An index in which each of the usual modules stands alone, and a few are linked.
    fn index() -> Known<Module> {
        let mut modules = BTreeMap::new();
        for name in usual::NAMES {
            let path = format!("usr/lib/modules/6.12.0/kernel/{name}.ko");
            modules.insert((*name).to_owned(), Module { path, ..Module::default() });
        }
        for (name, depends, soft, firmware) in [
            ("iwlmvm", "iwlwifi", "", "iwl.ucode"),
            ("iwlwifi", "cfg80211", "rfkill gone", ""),
            ("cfg80211", "", "", ""),
        ] {
            let list = |text: &str| text.split_whitespace().map(str::to_owned).collect();
            let path = format!("{name}.ko");
            modules.insert(
                name.to_owned(),
                Module {
                    path,
                    bytes: Arc::default(),
                    depends: list(depends),
                    soft: list(soft),
                    firmware: list(firmware),
                },
            );
        }
        modules.insert("rfkill".to_owned(), Module { path: "rfkill.ko".to_owned(), ..Module::default() });
        Known { release: "6.12.0".to_owned(), modules, builtin: BTreeSet::from(["ipv6".to_owned()]) }
    }

    /// As kiosk.toml names them.
    fn named(key: &str, names: &[&str]) -> Vec<Placed<String>> {
        let place = Mistake { file: "kiosk.toml".into(), line: 7, key: key.to_owned(), text: String::new() };
        names.iter().map(|name| Placed { value: (*name).to_owned(), place: place.clone() }).collect()
    }

    #[test]
    fn a_module_brings_what_it_needs_and_what_it_wants_if_that_exists() {
        let plain = index().select(&[], &[]).unwrap();
        let more = index().select(&named("modules.extra", &["iwlmvm"]), &[]).unwrap();
        let added: Vec<&str> =
            more.files.keys().filter(|path| !plain.files.contains_key(*path)).map(String::as_str).collect();
        assert_eq!(added, ["cfg80211.ko", "iwlmvm.ko", "iwlwifi.ko", "rfkill.ko"]);
        let asked = BTreeMap::from([("iwl.ucode".to_owned(), BTreeSet::from(["iwlmvm".to_owned()]))]);
        assert_eq!(more.firmware, asked);
    }

    #[test]
    fn modules_to_load_are_carried_and_dashes_mean_underscores() {
        let selection =
            index().select(&[], &named("modules.load", &["iwlwifi", "nf-tables", "ipv6"])).unwrap();
        assert!(selection.files.contains_key("iwlwifi.ko"));
        // What is built in needs no loading, and what is loaded anyway is not listed twice.
        assert_eq!(selection.load.iter().filter(|name| *name == "nf_tables").count(), 1);
        assert!(
            selection.load.contains(&"iwlwifi".to_owned()) && !selection.load.contains(&"ipv6".to_owned())
        );
    }

    #[test]
    fn unknown_modules_are_named_with_their_place() {
        let error = index().select(&named("modules.extra", &["iwlwifii"]), &[]).unwrap_err().to_string();
        assert!(
            error.starts_with(
                "kiosk.toml:7: modules.extra names \"iwlwifii\", which kernel 6.12.0 does not have: see"
            ),
            "{error}"
        );
        let error = index().select(&[], &named("modules.load", &["x"])).unwrap_err().to_string();
        assert!(error.starts_with("kiosk.toml:7: modules.load names \"x\""), "{error}");
    }

    #[test]
    fn a_kernel_without_a_usual_module_is_refused() {
        let mut index = index();
        index.modules.remove("kvm_amd");
        let error = index.select(&[], &[]).unwrap_err().to_string();
        assert!(error.contains("has no module kvm_amd, which a kiosk needs"), "{error}");
    }

    #[test]
    fn what_is_no_module_is_damaged() {
        assert!(describe("x.ko", Arc::from(&b"text"[..])).is_err());
        let own = fs::read("/proc/self/exe").unwrap();
        assert_eq!(describe("x.ko", own.into()).unwrap_err(), "the module does not describe itself");
        for bytes in [&b""[..], b"text", b"\xfd7zXZ\0\0\x04"] {
            let packed = Packed { path: "x.ko".to_owned(), bytes: bytes.into(), xz: true };
            let error = packed.module().unwrap_err().to_string();
            assert!(error.starts_with("x.ko cannot run in the image: the module is damaged ("), "{error}");
        }
    }
}
