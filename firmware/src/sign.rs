//! Signing for Secure Boot, by Debian's `sbsign`, since no crate signs PE files.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::process::Command;

/// Why nothing was signed.
#[derive(Debug, thiserror::Error)]
pub enum SignError {
    /// A program is missing.
    #[error("{0} is not installed: apt-get install sbsigntool")]
    NoTool(&'static str),
    /// A program failed.
    #[error("{tool} failed: {output}")]
    Failed {
        /// Name of the program.
        tool: &'static str,
        /// What it said.
        output: String,
    },
    /// A temporary file could not be written or read.
    #[error("{path}: {source}")]
    Io {
        /// Path of the file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
}

/// Checks that the programs are there, so that their absence is known before there is anything to sign.
///
/// # Errors
/// Naming the one that is not.
pub fn check_tools() -> Result<(), SignError> {
    for tool in ["sbsign", "sbverify"] {
        run(tool, Command::new(tool).arg("--version"))?;
    }
    Ok(())
}

/// Signs an EFI application with a PEM key, and verifies the signature with its certificate, which also proves that
/// the two belong together. `scratch` is an existing folder.
///
/// # Errors
/// When sbsigntool is missing or refuses.
pub fn sign(image: &[u8], key: &Path, cert: &Path, scratch: &Path) -> Result<Vec<u8>, SignError> {
    let folder =
        tempfile::tempdir_in(scratch).map_err(|source| SignError::Io { path: scratch.to_owned(), source })?;
    let plain = folder.path().join("plain.efi");
    let signed = folder.path().join("signed.efi");
    fs::write(&plain, image).map_err(|source| SignError::Io { path: plain.clone(), source })?;
    run(
        "sbsign",
        Command::new("sbsign")
            .arg("--key")
            .arg(key)
            .arg("--cert")
            .arg(cert)
            .arg("--output")
            .args([&signed, &plain]),
    )?;
    run("sbverify", Command::new("sbverify").arg("--cert").arg(cert).arg(&signed))?;
    fs::read(&signed).map_err(|source| SignError::Io { path: signed, source })
}

fn run(tool: &'static str, command: &mut Command) -> Result<(), SignError> {
    let output = match command.output() {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Err(SignError::NoTool(tool)),
        Err(source) => return Err(SignError::Io { path: tool.into(), source }),
        Ok(output) => output,
    };
    if output.status.success() {
        return Ok(());
    }
    let said = String::from_utf8_lossy(&output.stderr);
    let said = said.lines().map(str::trim).filter(|line| !line.is_empty()).collect::<Vec<_>>().join("; ");
    Err(SignError::Failed { tool, output: if said.is_empty() { output.status.to_string() } else { said } })
}
