//! Runs checks, one after the other or some beside a long one, and adds up what passed and failed.

use crate::paths;
use anyhow::Result;
use std::{
    fmt,
    io::{self, BufRead, BufReader, Read},
    process::{Command, ExitCode, Stdio},
    sync::{Mutex, PoisonError},
    time::Instant,
};

/// What of a failure is repeated at the end: so many lines, each of so many characters.
const REPEATED: (usize, usize) = (4, 160);

/// The worlds of the end-to-end tests, the longest first.
pub const WORLDS: [&str; 3] = ["session", "fresh", "demo"];

/// What the checks so far came to.
#[derive(Debug, Default)]
pub struct Suite {
    sums: Mutex<Sums>,
}

#[derive(Debug, Default)]
struct Sums {
    passed: u64,
    failed: u64,
    failures: Vec<Failure>,
}

/// What failed, and the start of what was said of it.
#[derive(Debug, PartialEq, Eq)]
struct Failure {
    name: String,
    said: Vec<String>,
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

    /// Repeats what failed, prints the closing line, and gives what `make` is told.
    pub fn close(self) -> ExitCode {
        let sums = self.sums.into_inner().unwrap_or_else(PoisonError::into_inner);
        println!();
        sums.failures.iter().for_each(|failure| print!("{failure}"));
        println!("{} passed, {} failed", sums.passed, sums.failed);
        if sums.failed == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
    }

    fn add(&self, passed: u64, failed: u64, failures: Vec<Failure>) {
        let mut sums = self.sums.lock().unwrap_or_else(PoisonError::into_inner);
        sums.passed += passed;
        sums.failed += failed;
        sums.failures.extend(failures);
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
        let mut errors = Failure::new(name);
        let ran = run(prepared(command, environment), |line| {
            shown.line(line);
            errors.hear_error(line);
        });
        self.end(shown, ran.is_ok_and(|ok| ok), errors);
    }

    /// A check in this process: what it finds wrong, as text; nothing when all is well.
    pub fn part(&self, name: &str, check: impl FnOnce() -> Result<String>) {
        let mut shown = self.begin(name);
        let wrong = check().unwrap_or_else(|error| format!("{error:#}"));
        let mut errors = Failure::new(name);
        for line in wrong.lines() {
            shown.line(line);
            errors.hear(line);
        }
        self.end(shown, wrong.is_empty(), errors);
    }

    /// A command that runs tests and closes each group with cargo's `test result:` line, which are added up. A command
    /// that fails without a failed test (it did not compile, say) counts as one failure.
    pub fn tests(&self, name: &str, command: &[&str], environment: &[(&str, &str)]) {
        let mut shown = self.begin(name);
        let (mut passed, mut failed) = (0, 0);
        let mut heard = Heard::default();
        let mut errors = Failure::new(name);
        let ran = run(prepared(command, environment), |line| {
            shown.line(line);
            heard.line(line);
            errors.hear_error(line);
            if let Some((p, f)) = result_line(line) {
                passed += p;
                failed += f;
            }
        });
        self.suite.add(passed, failed, heard.failures);
        self.end(shown, ran.is_ok_and(|ok| ok) || failed > 0, errors);
    }

    fn begin(&self, name: &str) -> Shown {
        if self.live {
            println!("\n== {name}");
        } else {
            println!("== {name}: begins beside this");
        }
        Shown { kept: (!self.live).then(Vec::new), start: Instant::now() }
    }

    fn end(&self, shown: Shown, ok: bool, errors: Failure) {
        let name = errors.name.clone();
        self.suite.add(u64::from(ok), u64::from(!ok), if ok { vec![] } else { vec![errors] });
        let (word, seconds) = (if ok { "done" } else { "FAILED" }, shown.start.elapsed().as_secs_f64());
        let kept = shown.kept.map(|kept| format!("\n== {name}\n{}", String::from_utf8_lossy(&kept)));
        // In one piece: others print, too.
        println!("{}== {name}: {word} in {seconds:.0} s", kept.unwrap_or_default());
    }
}

impl Failure {
    fn new(name: &str) -> Self {
        Self { name: name.to_owned(), said: vec![] }
    }

    fn hear(&mut self, line: &str) {
        if self.said.len() < REPEATED.0 && !line.trim().is_empty() {
            self.said.push(line.trim_end().chars().take(REPEATED.1).collect());
        }
    }

    /// Keeps a line that cargo or make begins with "error".
    fn hear_error(&mut self, line: &str) {
        if line.trim_start().starts_with("error") {
            self.hear(line);
        }
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "FAILED: {}", self.name)?;
        self.said.iter().try_for_each(|line| writeln!(f, "    {line}"))
    }
}

/// Tests that failed, as their output tells: what was said of a test follows its line, or comes later below its name.
#[derive(Debug, Default)]
struct Heard {
    failures: Vec<Failure>,
    /// Whose text the next lines are.
    of: Option<usize>,
}

impl Heard {
    fn line(&mut self, line: &str) {
        if let Some(rest) = line.strip_prefix("test ") {
            self.of = rest.split_once(" ... FAILED").map(|(name, _)| self.failed(name));
        } else if let Some(name) =
            line.strip_prefix("---- ").and_then(|rest| rest.strip_suffix(" stdout ----"))
        {
            self.of = Some(self.failed(name));
        } else if line == "failures:" {
            self.of = None;
        } else if let Some(at) = self.of {
            self.failures[at].hear(line);
        }
    }

    /// The place of a failed test.
    fn failed(&mut self, name: &str) -> usize {
        self.failures.iter().position(|failure| failure.name == name).unwrap_or_else(|| {
            self.failures.push(Failure::new(name));
            self.failures.len() - 1
        })
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
        let sums = suite.sums.lock().unwrap();
        (sums.passed, sums.failed)
    }

    fn repeated(suite: Suite) -> String {
        suite.sums.into_inner().unwrap().failures.iter().map(Failure::to_string).collect()
    }

    #[test]
    fn failed_tests_are_repeated_with_what_was_said_of_them() {
        let suite = Suite::default();
        let cargo = "test a::good ... ok\ntest a::bad ... FAILED\ntest a::last ... ok\n\nfailures:\n\n---- a::bad stdout ----\n\n\
            thread 'a::bad' panicked at a.rs:1:2:\nnot so\n\nfailures:\n    a::bad\n\n\
            test result: FAILED. 2 passed; 1 failed;\nerror: 1 target failed:";
        suite.live().tests("unit tests", &["sh", "-c", "printf '%s\\n' \"$0\"; exit 1", cargo], &[]);
        let whole = "test one ... FAILED (3 s)\none starved: [88, 40]\ntest two ... ok (1 s)\nnothing of one\n\
            test result: FAILED. 1 passed; 1 failed;";
        suite.beside().tests("e2e", &["sh", "-c", "printf '%s\\n' \"$0\"; exit 1", whole], &[]);
        assert_eq!(sums(&suite), (5, 2));
        assert_eq!(
            repeated(suite),
            "FAILED: a::bad\n    thread 'a::bad' panicked at a.rs:1:2:\n    not so\nFAILED: one\n    one starved: [88, 40]\n"
        );
    }

    #[test]
    fn a_check_that_failed_is_repeated_with_its_errors() {
        let suite = Suite::default();
        suite.live().check("lints", &["sh", "-c", "echo Checking a; echo 'error: unused'; exit 1"], &[]);
        suite.live().tests("tests", &["sh", "-c", "echo 'error[E0001]: no'; exit 101"], &[]);
        suite.live().part("licences", || Ok("x has none\n".to_owned()));
        suite.live().part("broken", || anyhow::bail!("no file"));
        assert_eq!(
            repeated(suite),
            "FAILED: lints\n    error: unused\nFAILED: tests\n    error[E0001]: no\nFAILED: licences\n    x has none\n\
             FAILED: broken\n    no file\n"
        );
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
