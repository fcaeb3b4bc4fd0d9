//! Runs checks, one after the other or some beside a long one, and adds up what passed and failed.

use crate::paths;
use anyhow::Result;
use std::{
    io::{self, BufRead, BufReader, Read, Write as _},
    process::{Command, ExitCode, Stdio},
    sync::{Mutex, PoisonError},
    time::Instant,
};

/// Sums over the checks so far.
#[derive(Debug, Default)]
pub struct Suite {
    /// Passed, failed.
    sums: Mutex<(u64, u64)>,
}

impl Suite {
    /// Checks whose output is shown as it comes.
    pub fn live(&self) -> Lane<'_> {
        Lane { suite: self, live: true }
    }

    /// Checks that run beside others: the output of each is shown in one piece, when it is done.
    pub fn beside(&self) -> Lane<'_> {
        Lane { suite: self, live: false }
    }

    /// The closing line, and what `make` is told.
    pub fn close(self) -> ExitCode {
        let (passed, failed) = self.sums.into_inner().unwrap_or_else(PoisonError::into_inner);
        println!("\n{passed} passed, {failed} failed");
        if failed == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
    }

    fn add(&self, passed: u64, failed: u64) {
        let mut sums = self.sums.lock().unwrap_or_else(PoisonError::into_inner);
        *sums = (sums.0 + passed, sums.1 + failed);
    }
}

/// Checks that run one after the other.
#[derive(Debug, Clone, Copy)]
pub struct Lane<'a> {
    suite: &'a Suite,
    live: bool,
}

impl Lane<'_> {
    /// A command that passes when it exits with 0.
    pub fn check(&self, name: &str, command: &[&str], environment: &[(&str, &str)]) {
        let mut shown = self.begin(name);
        let ran = run(prepared(command, environment), |line| shown.line(line));
        self.end(shown, name, ran.is_ok_and(|ok| ok));
    }

    /// A check in this process: what it finds wrong, as text; nothing when all is well.
    pub fn part(&self, name: &str, check: impl FnOnce() -> Result<String>) {
        let mut shown = self.begin(name);
        let wrong = check().unwrap_or_else(|error| format!("{error:#}"));
        wrong.lines().for_each(|line| shown.line(line));
        self.end(shown, name, wrong.is_empty());
    }

    /// A command that runs tests and closes each group with cargo's `test result:` line, which are added up. A command
    /// that fails without a failed test (it did not compile, say) counts as one failure.
    pub fn tests(&self, name: &str, command: &[&str], environment: &[(&str, &str)]) {
        let mut shown = self.begin(name);
        let (mut passed, mut failed) = (0, 0);
        let ran = run(prepared(command, environment), |line| {
            shown.line(line);
            if let Some((p, f)) = result_line(line) {
                passed += p;
                failed += f;
            }
        });
        self.suite.add(passed, failed);
        self.end(shown, name, ran.is_ok_and(|ok| ok) || failed > 0);
    }

    fn begin(&self, name: &str) -> Shown {
        if self.live {
            println!("\n== {name}");
        } else {
            println!("== {name}: begins beside this");
        }
        Shown { kept: (!self.live).then(Vec::new), start: Instant::now() }
    }

    fn end(&self, shown: Shown, name: &str, ok: bool) {
        self.suite.add(u64::from(ok), u64::from(!ok));
        let (word, seconds) = (if ok { "done" } else { "FAILED" }, shown.start.elapsed().as_secs_f64());
        let mut out = io::stdout().lock();
        if let Some(kept) = shown.kept {
            // That nobody reads it is no fault of the check.
            let _ = writeln!(out, "\n== {name}").and_then(|()| out.write_all(&kept));
        }
        let _ = writeln!(out, "== {name}: {word} in {seconds:.0} s");
    }
}

/// What a check prints: shown at once, or kept until it is done.
struct Shown {
    kept: Option<Vec<u8>>,
    start: Instant,
}

impl Shown {
    fn line(&mut self, line: &str) {
        match &mut self.kept {
            Some(kept) => kept.extend([line.as_bytes(), b"\n"].concat()),
            None => println!("{line}"),
        }
    }
}

/// Runs a command, and tells each line of its output; `true` when it exits with 0.
fn run(mut command: Command, heard: impl FnMut(&str)) -> io::Result<bool> {
    let (output, given) = io::pipe()?;
    let mut child = command.stdin(Stdio::null()).stdout(given.try_clone()?).stderr(given).spawn()?;
    // It holds the pipe open.
    drop(command);
    lines(output, heard)?;
    Ok(child.wait()?.success())
}

fn lines(from: impl Read, mut heard: impl FnMut(&str)) -> io::Result<()> {
    for line in BufReader::new(from).split(b'\n') {
        heard(&String::from_utf8_lossy(&line?));
    }
    Ok(())
}

fn prepared(command: &[&str], environment: &[(&str, &str)]) -> Command {
    let mut prepared = Command::new(command[0]);
    prepared.args(&command[1..]).envs(environment.iter().copied()).current_dir(paths::workspace());
    prepared
}

/// `test result: ok. 12 passed; 0 failed; …`
fn result_line(line: &str) -> Option<(u64, u64)> {
    let rest = line.trim().strip_prefix("test result: ")?;
    let mut passed = None;
    let mut failed = None;
    for part in rest.split(['.', ';']) {
        let mut words = part.split_whitespace();
        match (words.next().and_then(|number| number.parse().ok()), words.next()) {
            (Some(n), Some("passed")) => passed = Some(n),
            (Some(n), Some("failed")) => failed = Some(n),
            _ => {}
        }
    }
    passed.zip(failed)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sums(suite: &Suite) -> (u64, u64) {
        *suite.sums.lock().unwrap()
    }

    #[test]
    fn cargos_result_lines_are_read() {
        let line = "test result: FAILED. 12 passed; 3 failed; 0 ignored; 0 measured; 0 filtered out; finished in 0.00s";
        assert_eq!(result_line(line), Some((12, 3)));
        assert_eq!(result_line("test a::b ... ok"), None);
    }

    #[test]
    fn a_command_that_fails_counts() {
        let suite = Suite::default();
        for lane in [suite.live(), suite.beside()] {
            lane.tests("t", &["sh", "-c", "echo 'test result: ok. 2 passed; 0 failed;'"], &[]);
            lane.check("c", &["false"], &[]);
            lane.tests("n", &["no-such-command"], &[]);
            lane.part("p", || Ok(String::new()));
        }
        assert_eq!(sums(&suite), (8, 4));
    }

    #[test]
    fn what_a_command_prints_is_heard_on_both_streams_and_whatever_it_is() {
        let mut heard = Vec::new();
        let script = "echo one; echo two >&2; printf 'th\\377ee\\n'; exit 3";
        let ok = run(prepared(&["sh", "-c", script], &[]), |line| heard.push(line.to_owned())).unwrap();
        assert_eq!((ok, heard), (false, vec!["one".to_owned(), "two".to_owned(), "th\u{fffd}ee".to_owned()]));
    }
}
