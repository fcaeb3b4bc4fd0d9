//! Running the image's small programs (`nft`, `cryptsetup`, `mke2fs`, `modprobe`) to their end, or to the end of the
//! kiosk's patience: a disk or driver that hangs must not hang the kiosk.

use crate::clock;
use std::{
    io::{self, Read, Write},
    path::{Path, PathBuf},
    process::{Child, Command, ExitStatus, Output, Stdio},
    sync::mpsc::{Receiver, channel},
    time::Duration,
};

const FOLDERS: [&str; 4] = ["/usr/sbin", "/sbin", "/usr/bin", "/bin"];
/// How long a program may take that does its work in a moment.
pub const LIMIT: Duration = Duration::from_secs(120);
/// How long an ended program may take to disappear, and its pipes to run dry.
const LAST_WORDS: Duration = Duration::from_secs(2);
/// How much of a program's output is kept, in bytes.
const MOST: u64 = 1 << 20;

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

/// Runs a program to its end with `input`, of a pipe's size at most, on its standard input.
///
/// # Errors
/// It cannot be run, or it failed; then with the first line it said.
pub fn run(program: &str, args: &[&str], input: &[u8]) -> io::Result<()> {
    let mut command = Command::new(find(program)?);
    command
        .args(args)
        .env_clear()
        .env("PATH", FOLDERS.join(":"))
        // There is no udev: libdevmapper makes its nodes itself.
        .env("DM_DISABLE_UDEV", "1")
        .current_dir("/");
    let output = output(&mut command, input, LIMIT)
        .map_err(|error| io::Error::new(error.kind(), format!("{program} cannot be run: {error}")))?;
    if output.status.success() {
        return Ok(());
    }
    let said = String::from_utf8_lossy(&output.stderr);
    let said = said.lines().find(|line| !line.trim().is_empty()).unwrap_or("it did not say why").trim();
    Err(io::Error::other(format!("{program} failed ({}): {said}", output.status)))
}

/// Runs a program to its end with `input`, of a pipe's size at most, on its standard input, and gives what it printed.
///
/// # Errors
/// It cannot be run, or did not end within `limit` and was killed.
pub fn output(command: &mut Command, input: &[u8], limit: Duration) -> io::Result<Output> {
    let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn()?;
    if let Some(mut stdin) = child.stdin.take() {
        // A program that does not read its input to the end tells why by its exit status.
        let _ = stdin.write_all(input);
    }
    let stdout = child.stdout.take().map(drain).transpose()?;
    let stderr = child.stderr.take().map(drain).transpose()?;
    let status = match ended(&mut child, limit)? {
        Some(status) => status,
        None => {
            let _ = child.kill();
            // One that hangs in the kernel cannot be killed; it is left behind rather than waited for.
            ended(&mut child, LAST_WORDS)?;
            let text = format!("it did not end within {} seconds", limit.as_secs());
            return Err(io::Error::new(io::ErrorKind::TimedOut, text));
        }
    };
    // A grandchild may hold the pipes open.
    let said = |pipe: Option<Receiver<Vec<u8>>>| {
        pipe.and_then(|pipe| pipe.recv_timeout(LAST_WORDS).ok()).unwrap_or_default()
    };
    Ok(Output { status, stdout: said(stdout), stderr: said(stderr) })
}

/// How a child ended, if it does within `limit`.
fn ended(child: &mut Child, limit: Duration) -> io::Result<Option<ExitStatus>> {
    let until = clock::since_boot() + limit;
    let mut pause = Duration::from_millis(1);
    loop {
        if let Some(status) = child.try_wait()? {
            return Ok(Some(status));
        }
        if clock::since_boot() >= until {
            return Ok(None);
        }
        std::thread::sleep(pause);
        pause = (pause * 2).min(Duration::from_millis(50));
    }
}

/// Reads a pipe to its end in a thread; what is beyond [`MOST`] is thrown away.
fn drain(mut pipe: impl Read + Send + 'static) -> io::Result<Receiver<Vec<u8>>> {
    let (done, text) = channel();
    std::thread::Builder::new().name("pipe".to_owned()).spawn(move || {
        let mut kept = Vec::new();
        let _ = (&mut pipe).take(MOST).read_to_end(&mut kept);
        let _ = io::copy(&mut pipe, &mut io::sink());
        let _ = done.send(kept);
    })?;
    Ok(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shell(script: &str) -> Command {
        let mut command = Command::new("/bin/sh");
        command.args(["-c", script]);
        command
    }

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

    #[test]
    fn what_is_printed_is_kept_up_to_a_limit() {
        let echoed = output(&mut shell("cat; echo end >&2"), b"input", LIMIT).unwrap();
        assert_eq!((echoed.stdout.as_slice(), echoed.stderr.as_slice()), (&b"input"[..], &b"end\n"[..]));
        let flood = output(&mut shell("head -c 3000000 /dev/zero"), b"", LIMIT).unwrap();
        assert!(flood.status.success());
        assert_eq!(flood.stdout.len() as u64, MOST);
    }

    #[test]
    fn one_that_hangs_is_ended() {
        let error = output(&mut shell("exec sleep 1000"), b"", Duration::from_millis(50)).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::TimedOut);
    }
}
