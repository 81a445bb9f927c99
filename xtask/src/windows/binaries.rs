//! The test binaries of the Windows build: which there are, how they ran, and what wine cannot show.
//!
//! Knows cargo's messages and the harness's last line, and nothing of how the binaries were made.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Mutex;
use std::time::Instant;

use anyhow::{Context, Result, bail};
use serde_json::Value;

use super::{WINE, wine};

/// Seconds one binary may take before it counts as hung.
const SECONDS_MAX: u32 = 180;

/// How many run at once.
const AT_ONCE: usize = 2;

/// Tests that pass or fail under wine for reasons of wine's, by binary and name; they are not run there and said so.
const NOT_VERIFIED: &[(&str, &str, &str)] = &[
    (
        "tidegate-io tests/windows",
        "npipe::a_name_that_is_taken_is_refused",
        "wine ignores FILE_FLAG_FIRST_PIPE_INSTANCE",
    ),
    (
        "tidegate-io tests/windows",
        "reset::a_flow_from_a_reset_connection_is_aborted",
        EATS,
    ),
    (
        "tidegate-pb tests/pair",
        "a_full_collector_notices_a_reset",
        FIN_FIRST,
    ),
    (
        "tidegate-io tests/relay",
        "linger_and_abort_end_a_half_closed_relay",
        FIN_FIRST,
    ),
    (
        "tidegate-io tests/files_and_sockets",
        "an_abort_is_a_reset_and_a_reset_is_an_error",
        FIN_FIRST,
    ),
    (
        "tidegate-io tests/windows",
        "laws::over_tcp_accepted::law_05_stop_is_last",
        FIN_FIRST,
    ),
    (
        "tidegate-io tests/windows",
        "laws::over_tcp_accepted::law_06_second_registration",
        FIN_FIRST,
    ),
    (
        "tidegate-io tests/windows",
        "laws::over_tcp_accepted::law_07_reentrancy",
        FIN_FIRST,
    ),
    (
        "tidegate-io tests/windows",
        "laws::over_tcp_accepted::law_10_reasons_travel",
        FIN_FIRST,
    ),
    (
        "tidegate-io tests/windows",
        "laws::over_tcp_connected::law_05_stop_is_last",
        FIN_FIRST,
    ),
    (
        "tidegate-io tests/windows",
        "laws::over_tcp_connected::law_06_second_registration",
        FIN_FIRST,
    ),
    (
        "tidegate-io tests/windows",
        "laws::over_tcp_connected::law_07_reentrancy",
        FIN_FIRST,
    ),
    (
        "tidegate-io tests/windows",
        "laws::over_tcp_connected::law_10_reasons_travel",
        FIN_FIRST,
    ),
    (
        "tidegate-io tests/windows",
        "laws::over_tcp_accepted::law_14_panics_end_one_registration",
        FIN_FIRST,
    ),
    (
        "tidegate-io tests/windows",
        "laws::over_tcp_connected::law_14_panics_end_one_registration",
        FIN_FIRST,
    ),
    (
        "tidegate-io tests/windows",
        "scenarios::the_scenarios_hold_over_tcp_connected",
        FIN_FIRST,
    ),
    (
        "tidegate-io tests/windows",
        "scenarios::the_scenarios_hold_over_tcp_accepted",
        FIN_FIRST,
    ),
    (
        "tidegate-http tests/http",
        "gone::a_body_that_ends_with_its_connection_is_reset_when_it_is_cut",
        FIN_FIRST,
    ),
    (
        "tidegate-http tests/http",
        "gone::a_paused_request_body_hears_of_a_reset",
        FIN_FIRST,
    ),
    (
        "tidegate-http tests/http",
        "gone::a_paused_download_hears_of_a_reset",
        FIN_FIRST,
    ),
    (
        "tidegate-http tests/http",
        "static_files::a_file_that_was_renamed_over_is_seen_at_once",
        "wine renames over no open file",
    ),
    (
        "tidegate-http tests/http",
        "static_files::an_upload_weighs_the_version_it_replaces_and_keeps_its_permissions",
        "wine renames over no open file",
    ),
    (
        "tidegate-ftp tests/laws",
        "data_connection::law_10_reasons_travel",
        FIN_FIRST,
    ),
    (
        "tidegate-ftp tests/laws",
        "data_connection::law_14_panics_end_one_registration",
        FIN_FIRST,
    ),
    (
        "tidegate-ftp tests/server",
        "partial_uploads_are_thrown_away_where_that_was_chosen",
        FIN_FIRST,
    ),
    (
        "tidegate-ftp tests/faults",
        "a_lost_control_connection_resets_the_download",
        FIN_FIRST,
    ),
    (
        "tidegate-ftp tests/faults",
        "abor_is_heard_while_a_client_does_not_read",
        FIN_FIRST,
    ),
    (
        "tidegate-ftp tests/faults",
        "an_upload_whose_connection_breaks_never_replaces",
        FIN_FIRST,
    ),
    (
        "tidegate-ftp tests/faults",
        "five_hundred_clients_at_once_are_served",
        EVERY_POLL,
    ),
];

const FIN_FIRST: &str = "wine ends a connection before it closes one, so its own peers cannot reset";
/// Measured: of 45 s with 1,000 idle sockets and the first uploads, wine's server took 38 s of processor time and the test 2 s.
const EVERY_POLL: &str = "wine's one server thread looks through every pending poll at each event of a socket, and the clients give up after 10 s";
const EATS: &str = "wine takes the reset for itself, and the read that follows sees an end";

/// Binaries that are only compiled, by the beginning of their name, and why.
const NOT_RUN: &[(&str, &str)] = &[
    (
        "tidegate-pb tests/memory",
        "reads the memory of a process from /proc",
    ),
    ("tidegate-pb tests/twisted", "Twisted is not installed under wine"),
    ("tidegate-cli tests/soak", "counts descriptors in /proc"),
    ("tidegate-cli tests/crowd", "counts descriptors in /proc"),
];

/// A test binary for Windows.
pub(super) struct Binary {
    /// `tidegate-io tests/relay`, or `tidegate-io` for its unit tests.
    name: String,
    exe: PathBuf,
    /// Where cargo would run it.
    folder: PathBuf,
}

impl Binary {
    /// The one that a message of cargo's tells of, if it does.
    pub(super) fn announced(message: &str) -> Option<Self> {
        let message: Value = serde_json::from_str(message).ok()?;
        if message["reason"] != "compiler-artifact" || message["profile"]["test"] != true {
            return None;
        }
        let exe = PathBuf::from(message["executable"].as_str()?);
        let folder = Path::new(message["manifest_path"].as_str()?).parent()?.to_owned();
        let package = folder.file_name()?.to_string_lossy().into_owned();
        let target = &message["target"];
        let name = match target["kind"][0].as_str()? {
            "test" => format!("{package} tests/{}", target["name"].as_str()?),
            _ => package,
        };
        Some(Self { name, exe, folder })
    }

    fn why_not_run(&self) -> Option<&'static str> {
        let found = NOT_RUN.iter().find(|(name, _)| self.name.starts_with(name));
        found.map(|(_, why)| *why)
    }

    fn not_verified(&self) -> impl Iterator<Item = (&'static str, &'static str)> {
        NOT_VERIFIED
            .iter()
            .filter(|(binary, ..)| *binary == self.name)
            .map(|(_, test, why)| (*test, *why))
    }

    /// Runs it, and says how many tests passed.
    fn run(&self) -> Result<u64> {
        let start = Instant::now();
        let mut command = Command::new("timeout");
        command
            .args(["--kill-after=5", &SECONDS_MAX.to_string(), WINE])
            .arg(&self.exe)
            .arg("--exact");
        for (test, _) in self.not_verified() {
            command.args(["--skip", test]);
        }
        let output = wine(&mut command)
            .current_dir(&self.folder)
            .env("RUST_BACKTRACE", "0")
            .output()
            .with_context(|| format!("cannot start {}", self.name))?;
        let stdout = String::from_utf8_lossy(&output.stdout);
        let result = stdout
            .lines()
            .filter_map(|line| line.strip_prefix("test result: "))
            .next_back();
        let seconds = start.elapsed().as_secs_f64();
        match result {
            Some(result) if output.status.success() => {
                println!("{}: {} ({seconds:.0} s)", self.name, result.trim_end());
                let passed = result
                    .split_once(" passed")
                    .and_then(|(words, _)| words.rsplit(' ').next());
                Ok(passed.and_then(|count| count.parse().ok()).unwrap_or(0))
            }
            _ => {
                let stderr = String::from_utf8_lossy(&output.stderr);
                println!("== {} failed\n{stdout}\n{stderr}", self.name);
                bail!("{} failed under wine ({})", self.name, output.status)
            }
        }
    }
}

/// Runs them all, also after one has failed, and tells what was left out.
pub(super) fn run_all(binaries: &[Binary]) -> Result<()> {
    let (left_out, binaries): (Vec<&Binary>, Vec<&Binary>) =
        binaries.iter().partition(|binary| binary.why_not_run().is_some());
    for binary in left_out {
        println!(
            "NOT RUN on Windows: {}: {}",
            binary.name,
            binary.why_not_run().unwrap_or("")
        );
    }
    let waiting = Mutex::new(binaries.iter());
    let outcomes = Mutex::new(Vec::new());
    std::thread::scope(|scope| {
        for _ in 0..AT_ONCE {
            scope.spawn(|| {
                loop {
                    let next = waiting.lock().ok().and_then(|mut waiting| waiting.next());
                    let Some(binary) = next else { break };
                    let outcome = binary.run();
                    if let Ok(mut outcomes) = outcomes.lock() {
                        outcomes.push(outcome);
                    }
                }
            });
        }
    });
    for binary in &binaries {
        for (test, why) in binary.not_verified() {
            println!("NOT VERIFIED under wine: {}: {test}: {why}", binary.name);
        }
    }
    let outcomes = outcomes.into_inner().unwrap_or_default();
    let failed: Vec<String> = outcomes
        .iter()
        .filter_map(|outcome| outcome.as_ref().err().map(ToString::to_string))
        .collect();
    let passed: u64 = outcomes.iter().filter_map(|outcome| outcome.as_ref().ok()).sum();
    println!("== windows: {passed} passed in {} binaries", outcomes.len());
    if !failed.is_empty() {
        bail!("{}", failed.join("; "));
    }
    if passed == 0 || outcomes.len() != binaries.len() {
        bail!("not every binary ran");
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn a_test_binary_is_told_by_package_and_target() {
        let message = |kind: &str, test: bool| {
            format!(
                r#"{{"reason":"compiler-artifact","manifest_path":"/w/crates/tidegate-io/Cargo.toml","executable":"/t/relay.exe",
                "target":{{"kind":["{kind}"],"name":"relay"}},"profile":{{"test":{test}}}}}"#
            )
        };
        assert_eq!(
            Binary::announced(&message("test", true)).unwrap().name,
            "tidegate-io tests/relay"
        );
        assert_eq!(
            Binary::announced(&message("lib", true)).unwrap().name,
            "tidegate-io"
        );
        assert!(Binary::announced(&message("bin", false)).is_none());
        assert!(Binary::announced("text").is_none());
    }
}
