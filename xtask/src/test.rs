//! Every test of the workspace in one command, with the peers it needs, and an honest account at the end.
//!
//! Knows how cargo's test harness prints, and nothing of what the tests assert.

use std::collections::BTreeSet;
use std::io::{BufRead, BufReader};
use std::process::{Child, ChildStdout, Command, Stdio};
use std::sync::mpsc::{RecvTimeoutError, channel};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

use crate::peers;
use crate::shell::{self, cargo, peers_required};

/// A run that takes longer than this hangs.
const LIMIT: Duration = Duration::from_secs(40 * 60);

/// How often to look whether cargo has ended.
const TICK: Duration = Duration::from_secs(2);

/// How a test says that a foreign program is not there.
const SKIPPED: &str = "SKIPPED-PEER:";

/// The chore: installs the peers, runs the tests, and tells what ran and what did not.
pub(crate) fn run(extra: &[String]) -> Result<()> {
    let missing = peers::ensure()?;
    if !missing.is_empty() && peers_required() {
        bail!("peers are required and missing: {}", missing.join(", "));
    }
    // The tests start the program, some of them without going through cargo.
    shell::run(
        "build the program",
        cargo().args(["build", "--quiet", "--package", "tidegate-cli"]),
    )?;
    let mut command = cargo();
    command
        .args(["test", "--workspace", "--no-fail-fast"])
        .args(extra);
    if !extra.iter().any(|arg| arg == "--") {
        command.arg("--");
    }
    command.arg("--show-output");
    let mut account = Account {
        missing,
        ..Account::default()
    };
    let succeeded = account.watch(&mut command)?;
    account.tell();
    if !succeeded {
        bail!("tests failed");
    }
    if account.passed == 0 {
        bail!("no test ran");
    }
    Ok(())
}

/// What a test run came to.
#[derive(Default)]
struct Account {
    passed: u64,
    failed: u64,
    ignored: u64,
    skipped: BTreeSet<String>,
    missing: Vec<String>,
    failures: Vec<String>,
}

impl Account {
    /// Runs the tests, printing what matters as it comes.
    fn watch(&mut self, command: &mut Command) -> Result<bool> {
        println!("== {command:?}");
        let mut child = command
            .stdout(Stdio::piped())
            .stderr(Stdio::inherit())
            .spawn()
            .context("cannot start cargo")?;
        let stdout = child.stdout.take().context("cargo has no stdout")?;
        self.read(&mut child, stdout)?;
        Ok(child.wait()?.success())
    }

    fn read(&mut self, child: &mut Child, stdout: ChildStdout) -> Result<()> {
        let (lines, inbox) = channel();
        thread::spawn(move || {
            for line in BufReader::new(stdout).split(b'\n').map_while(Result::ok) {
                if lines.send(String::from_utf8_lossy(&line).into_owned()).is_err() {
                    break;
                }
            }
        });
        let deadline = Instant::now() + LIMIT;
        let mut quiet = false;
        loop {
            match inbox.recv_timeout(TICK) {
                Ok(line) if self.takes(&line, &mut quiet) => println!("{line}"),
                Ok(_) => {}
                Err(RecvTimeoutError::Disconnected) => return Ok(()),
                // A process that a test left behind may hold the pipe open: cargo's own end counts.
                Err(RecvTimeoutError::Timeout) if child.try_wait()?.is_some() => {
                    println!("A process outlived its test and holds the output open.");
                    return Ok(());
                }
                Err(RecvTimeoutError::Timeout) if Instant::now() > deadline => {
                    child.kill()?;
                    bail!("the tests did not end within {} minutes", LIMIT.as_secs() / 60);
                }
                Err(RecvTimeoutError::Timeout) => {}
            }
        }
    }

    /// Takes note of a line, and says whether it is worth printing: not what a passing test printed.
    fn takes(&mut self, line: &str, quiet: &mut bool) -> bool {
        if let Some(at) = line.find(SKIPPED) {
            self.skipped.insert(line[at + SKIPPED.len()..].trim().to_owned());
        }
        if line == "successes:" {
            *quiet = true;
        }
        if line == "failures:" || line.starts_with("test result:") {
            *quiet = false;
        }
        if let Some(counts) = line.strip_prefix("test result:") {
            self.count(counts);
        }
        if line.starts_with("test ") && line.ends_with("... FAILED") {
            self.failures.push(line.to_owned());
        }
        let passing = line.starts_with("test ") && line.ends_with("... ok");
        !*quiet && !passing && !line.is_empty()
    }

    fn count(&mut self, counts: &str) {
        let number = |word: &str| {
            let before = counts
                .split(';')
                .find_map(|part| part.trim().strip_suffix(word))?;
            before
                .rsplit(' ')
                .find(|piece| !piece.is_empty())?
                .parse::<u64>()
                .ok()
        };
        self.passed += number("passed").unwrap_or(0);
        self.failed += number("failed").unwrap_or(0);
        self.ignored += number("ignored").unwrap_or(0);
    }

    fn tell(&self) {
        println!();
        for failure in &self.failures {
            println!("{failure}");
        }
        if !self.missing.is_empty() {
            println!(
                "MISSING PEERS (their tests did not run): {}",
                self.missing.join(", ")
            );
        }
        for name in &self.skipped {
            println!("SKIPPED: {name}");
        }
        println!(
            "{} passed, {} failed, {} skipped",
            self.passed,
            self.failed,
            self.skipped.len() as u64 + self.ignored
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_what_the_harness_prints() {
        let mut account = Account::default();
        let mut quiet = false;
        for line in [
            "test a ... ok",
            "successes:",
            "SKIPPED-PEER: socat: a",
            "test result: ok. 3 passed; 0 failed; 1 ignored; 0 measured; 0 filtered out; finished in 0.00s",
            "test result: FAILED. 1 passed; 2 failed; 0 ignored; 0 measured; 0 filtered out; finished in 0.00s",
            "test b ... FAILED",
        ] {
            account.takes(line, &mut quiet);
        }
        assert_eq!((account.passed, account.failed, account.ignored), (4, 2, 1));
        assert_eq!(account.skipped.iter().collect::<Vec<_>>(), ["socat: a"]);
        assert_eq!(account.failures.len(), 1);
        assert!(!quiet);
    }
}
