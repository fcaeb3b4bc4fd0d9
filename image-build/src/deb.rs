//! What a Debian package holds, read into memory.

use crate::error::BuildError;
use crate::tree::{Kind, Node, Tree, usr_merged};
use std::io::Read as _;
use std::path::Path;
use std::process::{Command, Stdio};

/// What a package holds.
#[derive(Debug, Default)]
pub struct Package {
    /// Its files, by their merged-/usr paths.
    pub tree: Tree,
    /// When the newest of them was made, in seconds since 1970.
    pub newest: u64,
}

/// Reads the files of a package for which `wanted` holds.
///
/// # Errors
/// When `dpkg-deb` cannot unpack it.
pub fn read(package: &Path, wanted: impl Fn(&str) -> bool) -> Result<Package, BuildError> {
    let mut child = Command::new("dpkg-deb")
        .arg("--fsys-tarfile")
        .arg(package)
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .map_err(|source| BuildError::tool("dpkg-deb", "dpkg", source))?;
    let stdout = child.stdout.take().ok_or_else(|| BuildError::package(package, "dpkg-deb has no output"))?;
    let read = read_tar(stdout, &wanted);
    let output = child.wait_with_output().map_err(|source| BuildError::tool("dpkg-deb", "dpkg", source))?;
    let said = String::from_utf8_lossy(&output.stderr).trim().replace('\n', "; ");
    match read {
        Ok(read) if output.status.success() => Ok(read),
        // When it is we who stop reading, it has nothing to say.
        Err(error) if said.is_empty() => Err(BuildError::package(package, error)),
        _ => Err(BuildError::package(package, said)),
    }
}

fn read_tar(stream: impl std::io::Read, wanted: &impl Fn(&str) -> bool) -> std::io::Result<Package> {
    let mut package = Package::default();
    let mut archive = tar::Archive::new(std::io::BufReader::with_capacity(1 << 18, stream));
    for entry in archive.entries()? {
        let mut entry = entry?;
        let path = usr_merged(&String::from_utf8_lossy(&entry.path_bytes()));
        if path.is_empty() || !wanted(&path) {
            continue;
        }
        let header = entry.header();
        package.newest = package.newest.max(header.mtime()?);
        let mode = header.mode()? & 0o7777;
        let target = |entry: &tar::Entry<'_, _>| {
            entry
                .link_name_bytes()
                .map(|bytes| String::from_utf8_lossy(&bytes).into_owned())
                .unwrap_or_default()
        };
        let kind = match header.entry_type() {
            tar::EntryType::Directory => Kind::Folder,
            tar::EntryType::Regular => {
                let mut bytes = Vec::with_capacity(usize::try_from(entry.size()).unwrap_or(0).min(1 << 28));
                entry.read_to_end(&mut bytes)?;
                Kind::File(bytes.into())
            }
            tar::EntryType::Symlink => Kind::Link(target(&entry)),
            // A hard link names a path from the archive's root.
            tar::EntryType::Link => Kind::Link(format!("/{}", target(&entry).trim_start_matches("./"))),
            _ => continue,
        };
        package.tree.put_owned(&path, Node { kind, mode, uid: 0, gid: 0 });
    }
    // What follows the archive's end must be read too, or dpkg-deb dies of a closed pipe.
    std::io::copy(&mut archive.into_inner(), &mut std::io::sink())?;
    Ok(package)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_no_package_is_said_in_one_line() {
        let folder = tempfile::tempdir().unwrap();
        let package = folder.path().join("x.deb");
        for bytes in [&b""[..], b"!<arch>\nnot a package\n", &[7; 4096]] {
            std::fs::write(&package, bytes).unwrap();
            let error = read(&package, |_| true).unwrap_err().to_string();
            assert!(
                error.starts_with(&format!("package {} cannot be unpacked (", package.display())),
                "{error}"
            );
            assert!(error.ends_with("): delete the file and build again"), "{error}");
            assert!(!error.contains('\n') && !error.contains("()"), "{error}");
        }
    }
}
