//! Running the image's small programs (`nft`, `cryptsetup`, `mke2fs`) to their end.

use std::{
    io::{self, Write},
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

const FOLDERS: [&str; 4] = ["/usr/sbin", "/sbin", "/usr/bin", "/bin"];

/// Where a program lies, whether the image merges `/bin` into `/usr/bin` or not.
///
/// # Errors
/// The image lacks it.
pub fn find(program: &str) -> io::Result<PathBuf> {
    FOLDERS.iter().map(|folder| Path::new(folder).join(program)).find(|path| path.is_file()).ok_or_else(
        || {
            io::Error::new(
                io::ErrorKind::NotFound,
                format!("this image lacks the program {program}; build it again"),
            )
        },
    )
}

/// Runs a program to its end with `input` on its standard input.
///
/// # Errors
/// It cannot be run, or it failed; then with the first line it said.
pub fn run(program: &str, args: &[&str], input: &[u8]) -> io::Result<()> {
    let mut child = Command::new(find(program)?)
        .args(args)
        .env_clear()
        .env("PATH", FOLDERS.join(":"))
        // There is no udev: libdevmapper makes its nodes itself.
        .env("DM_DISABLE_UDEV", "1")
        .current_dir("/")
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .map_err(|error| io::Error::new(error.kind(), format!("{program} cannot be run: {error}")))?;
    if let Some(mut stdin) = child.stdin.take() {
        // A program that does not read its input to the end tells why by its exit status.
        let _ = stdin.write_all(input);
    }
    let output = child.wait_with_output()?;
    if output.status.success() {
        return Ok(());
    }
    let said = String::from_utf8_lossy(&output.stderr);
    let said = said.lines().find(|line| !line.trim().is_empty()).unwrap_or("it did not say why").trim();
    Err(io::Error::other(format!("{program} failed ({}): {said}", output.status)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn failures_name_the_program_and_its_first_word() {
        assert!(
            run("no-such-program", &[], b"")
                .unwrap_err()
                .to_string()
                .contains("lacks the program no-such-program")
        );
        run("cat", &[], b"input").unwrap();
        let error = run("sh", &["-c", "echo first >&2; echo last >&2; exit 3"], b"").unwrap_err().to_string();
        assert!(error.contains("sh failed") && error.contains("3") && error.contains("first"), "{error}");
    }
}
