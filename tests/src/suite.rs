//! Runs checks one after the other and adds up what passed and failed.

use crate::paths;
use anyhow::Result;
use std::{
    io::{BufRead, BufReader},
    process::{Command, ExitCode, Stdio},
    time::Instant,
};

/// Sums over the checks so far.
#[derive(Debug, Default)]
pub struct Suite {
    passed: u64,
    failed: u64,
}

impl Suite {
    /// A command that passes when it exits with 0.
    pub fn check(&mut self, name: &str, command: &[&str], environment: &[(&str, &str)]) {
        self.begin(name);
        let start = Instant::now();
        let ok = prepared(command, environment).status().is_ok_and(|status| status.success());
        self.end(name, ok, start);
    }

    /// A check in this process: what it finds wrong, as text; nothing when all is well.
    pub fn part(&mut self, name: &str, check: impl FnOnce() -> Result<String>) {
        self.begin(name);
        let start = Instant::now();
        let wrong = check().unwrap_or_else(|error| format!("{error:#}"));
        if !wrong.is_empty() {
            println!("{wrong}");
        }
        self.end(name, wrong.is_empty(), start);
    }

    /// A command that runs tests and closes each group with cargo's `test result:` line, which are added up. A command
    /// that fails without a failed test (it did not compile, say) counts as one failure.
    pub fn tests(&mut self, name: &str, command: &[&str], environment: &[(&str, &str)]) {
        self.begin(name);
        let start = Instant::now();
        let (mut passed, mut failed) = (0, 0);
        let mut ok = false;
        if let Ok(mut child) = prepared(command, environment).stdout(Stdio::piped()).spawn() {
            if let Some(output) = child.stdout.take() {
                for line in BufReader::new(output).lines().map_while(Result::ok) {
                    println!("{line}");
                    if let Some((p, f)) = result_line(&line) {
                        passed += p;
                        failed += f;
                    }
                }
            }
            ok = child.wait().is_ok_and(|status| status.success());
        }
        self.passed += passed;
        self.failed += failed;
        self.end(name, ok || failed > 0, start);
    }

    /// The closing line, and what `make` is told.
    pub fn close(self) -> ExitCode {
        println!("\n{} passed, {} failed", self.passed, self.failed);
        if self.failed == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
    }

    fn begin(&self, name: &str) {
        println!("\n== {name}");
    }

    fn end(&mut self, name: &str, ok: bool, start: Instant) {
        if ok {
            self.passed += 1;
        } else {
            self.failed += 1;
        }
        println!(
            "== {name}: {} in {:.0} s",
            if ok { "done" } else { "FAILED" },
            start.elapsed().as_secs_f64()
        );
    }
}

fn prepared(command: &[&str], environment: &[(&str, &str)]) -> Command {
    let mut prepared = Command::new(command[0]);
    prepared
        .args(&command[1..])
        .envs(environment.iter().copied())
        .current_dir(paths::workspace())
        .stdin(Stdio::null());
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

    #[test]
    fn cargos_result_lines_are_read() {
        let line = "test result: FAILED. 12 passed; 3 failed; 0 ignored; 0 measured; 0 filtered out; finished in 0.00s";
        assert_eq!(result_line(line), Some((12, 3)));
        assert_eq!(result_line("test a::b ... ok"), None);
    }

    #[test]
    fn a_command_that_fails_counts() {
        let mut suite = Suite::default();
        suite.tests("t", &["sh", "-c", "echo 'test result: ok. 2 passed; 0 failed;'"], &[]);
        suite.check("c", &["false"], &[]);
        suite.tests("n", &["no-such-command"], &[]);
        suite.part("p", || Ok(String::new()));
        assert_eq!((suite.passed, suite.failed), (4, 2));
    }
}
