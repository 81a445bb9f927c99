//! The bench rig: child processes that end with their guard, ports, processor time and memory of a process tree,
//! medians and tables.
//!
//! Knows nothing of what is measured.

use std::collections::HashMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::atomic::AtomicBool;
use std::sync::atomic::Ordering::Relaxed;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

use crate::shell::{cargo, root, run, target};

/// Where bench files live: on the same disk as the build.
pub(crate) fn scratch() -> Result<PathBuf> {
    let dir = target().join("bench");
    fs::create_dir_all(&dir)?;
    Ok(dir)
}

/// Builds what is measured and what drives it.
pub(crate) fn build() -> Result<()> {
    run(
        "build tidegate",
        cargo().args(["build", "--release", "--locked", "--package", "tidegate-cli"]),
    )?;
    // In one go: each selection of packages has features of its own, and is built anew.
    let mut examples = cargo();
    examples.args(["build", "--release", "--locked"]);
    examples.args(["--package", "tidegate-io", "--example", "bench_load"]);
    examples.args(["--package", "tidegate-http", "--example", "plain_hyper"]);
    run("build the load and a server on hyper alone", &mut examples)?;
    fs::create_dir_all(target().join("release"))?;
    for (source, program) in [
        ("bound.c", bound()),
        ("http_bound.c", http_bound()),
        ("long_link.c", long_link()),
    ] {
        let mut cc = Command::new("cc");
        cc.args(["-O2", "-o"])
            .arg(program)
            .arg(root().join("xtask/bench").join(source));
        run("build the C programs", &mut cc)?;
    }
    Ok(())
}

/// The C program of `xtask/bench/http_bound.c`.
pub(crate) fn http_bound() -> PathBuf {
    target().join("release/bench-http-bound")
}

/// The server of `crates/tidegate-http/examples/plain_hyper.rs`.
pub(crate) fn plain_hyper() -> PathBuf {
    target().join("release/examples/plain_hyper")
}

/// The C program of `xtask/bench/bound.c`.
pub(crate) fn bound() -> PathBuf {
    target().join("release/bench-bound")
}

/// The C program of `xtask/bench/long_link.c`.
pub(crate) fn long_link() -> PathBuf {
    target().join("release/bench-long-link")
}

/// The program under measurement.
pub(crate) fn tidegate() -> PathBuf {
    target().join("release/tidegate")
}

/// The load of `crates/tidegate-io/examples/bench_load.rs`.
pub(crate) fn load() -> PathBuf {
    target().join("release/examples/bench_load")
}

/// A child process in a group of its own, ended when dropped.
pub(crate) struct Guard {
    child: Child,
}

impl Guard {
    /// Starts a command, quietly unless its output is piped.
    pub(crate) fn start(command: &mut Command) -> Result<Self> {
        use std::os::unix::process::CommandExt;
        let child = command
            .stdin(Stdio::null())
            .stderr(Stdio::null())
            .process_group(0)
            .spawn()
            .with_context(|| format!("cannot start {command:?}"))?;
        Ok(Self { child })
    }

    /// The process and all below it.
    pub(crate) fn tree(&self) -> Vec<u32> {
        tree(self.child.id())
    }

    /// Waits for its end by itself, which is to be a good one.
    pub(crate) fn succeeds(mut self, limit: Duration) -> Result<()> {
        let status = self.wait(limit)?;
        if !status.success() {
            bail!("ended with {status}");
        }
        Ok(())
    }

    fn wait(&mut self, limit: Duration) -> Result<ExitStatus> {
        let deadline = Instant::now() + limit;
        loop {
            if let Some(status) = self.child.try_wait()? {
                return Ok(status);
            }
            if Instant::now() > deadline {
                bail!("did not end within {} s", limit.as_secs());
            }
            std::thread::sleep(Duration::from_millis(2));
        }
    }

    /// Whether it has ended by itself.
    pub(crate) fn has_ended(&mut self) -> bool {
        self.child.try_wait().is_ok_and(|status| status.is_some())
    }

    /// The first line it prints.
    pub(crate) fn first_line(&mut self) -> Result<String> {
        use std::io::BufRead;
        let out = self.child.stdout.take().context("its output goes elsewhere")?;
        let mut line = String::new();
        std::io::BufReader::new(out).read_line(&mut line)?;
        if line.is_empty() {
            bail!("ended without a word");
        }
        Ok(line)
    }

    /// What it printed, after a good end.
    pub(crate) fn output(mut self, limit: Duration) -> Result<String> {
        use std::io::Read;
        let status = self.wait(limit)?;
        if !status.success() {
            bail!("ended with {status}");
        }
        let mut text = String::new();
        if let Some(out) = self.child.stdout.as_mut() {
            out.read_to_string(&mut text)?;
        }
        Ok(text)
    }
}

impl Drop for Guard {
    fn drop(&mut self) {
        let group = format!("-{}", self.child.id());
        let _ = Command::new("kill")
            .args(["-KILL", "--", &group])
            .stderr(Stdio::null())
            .status();
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn tree(top: u32) -> Vec<u32> {
    let mut children: HashMap<u32, Vec<u32>> = HashMap::new();
    for entry in fs::read_dir("/proc").into_iter().flatten().flatten() {
        if let Ok(pid) = entry.file_name().to_string_lossy().parse::<u32>()
            && let Some(parent) = stat(pid).and_then(|fields| fields.get(1)?.parse().ok())
        {
            children.entry(parent).or_default().push(pid);
        }
    }
    let mut all = vec![top];
    let mut at = 0;
    while let Some(&pid) = all.get(at) {
        all.extend(children.get(&pid).into_iter().flatten());
        at += 1;
    }
    all
}

/// The fields of `/proc/PID/stat` from the state on.
fn stat(pid: u32) -> Option<Vec<String>> {
    let text = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    let (_, rest) = text.rsplit_once(')')?;
    Some(rest.split_whitespace().map(str::to_owned).collect())
}

/// Processor seconds a tree has used, with what its reaped children used.
pub(crate) fn cpu_seconds(pids: &[u32]) -> f64 {
    let ticks: u64 = pids
        .iter()
        .filter_map(|&pid| stat(pid))
        .flat_map(|fields| {
            (11..15)
                .filter_map(move |at| fields.get(at)?.parse::<u64>().ok())
                .collect::<Vec<_>>()
        })
        .sum();
    ticks as f64 / 100.0
}

/// Processor seconds that the threads of a tree which still run have used, to the nanosecond.
pub(crate) fn run_seconds(pids: &[u32]) -> f64 {
    let tasks = |pid: &u32| fs::read_dir(format!("/proc/{pid}/task")).into_iter().flatten();
    let used_ns = |task: std::io::Result<fs::DirEntry>| {
        let text = fs::read_to_string(task.ok()?.path().join("schedstat")).ok()?;
        text.split(' ').next()?.parse::<u64>().ok()
    };
    let all_ns: u64 = pids.iter().flat_map(tasks).filter_map(used_ns).sum();
    all_ns as f64 / 1e9
}

/// Leaves the disk under `dir` nothing to do.
pub(crate) fn sync(dir: &Path) -> Result<()> {
    if !Command::new("sync").arg("-f").arg(dir).status()?.success() {
        bail!("cannot sync {}", dir.display());
    }
    Ok(())
}

/// Resident KiB of a tree, shared pages counted by share.
pub(crate) fn resident_kib(pids: &[u32]) -> u64 {
    let of = |pid: &u32| {
        let text = fs::read_to_string(format!("/proc/{pid}/smaps_rollup")).ok()?;
        text.lines().find_map(|line| {
            line.strip_prefix("Pss:")?
                .trim()
                .split(' ')
                .next()?
                .parse::<u64>()
                .ok()
        })
    };
    pids.iter().filter_map(of).sum()
}

/// A port nobody listens on now.
pub(crate) fn free_port() -> Result<u16> {
    Ok(std::net::TcpListener::bind("127.0.0.1:0")?.local_addr()?.port())
}

/// Waits until somebody listens on a port, without connecting: some listeners take one connection only.
pub(crate) fn listening(port: u16) -> Result<()> {
    listening_where("self", port)
}

/// As [`listening`], in the network of another process.
pub(crate) fn listening_where(pid: &str, port: u16) -> Result<()> {
    let needle = format!(":{port:04X} ");
    let deadline = Instant::now() + Duration::from_secs(10);
    while Instant::now() < deadline {
        let tables = ["tcp", "tcp6"]
            .map(|table| fs::read_to_string(format!("/proc/{pid}/net/{table}")).unwrap_or_default());
        let mut lines = tables.iter().flat_map(|table| table.lines());
        if lines.any(|line| {
            let mut fields = line.split_whitespace().skip(1);
            fields
                .next()
                .is_some_and(|local| format!("{local} ").ends_with(&needle))
                && fields.nth(1) == Some("0A")
        }) {
            return Ok(());
        }
        std::thread::sleep(Duration::from_millis(5));
    }
    bail!("nobody listens on port {port}")
}

/// The middle of some figures.
pub(crate) fn median(figures: &[f64]) -> f64 {
    let mut sorted = figures.to_vec();
    sorted.sort_by(f64::total_cmp);
    match sorted.len() {
        0 => f64::NAN,
        n if n % 2 == 1 => sorted[n / 2],
        n => f64::midpoint(sorted[n / 2 - 1], sorted[n / 2]),
    }
}

static QUICK: AtomicBool = AtomicBool::new(false);

/// From now on fewer rounds over fewer bytes, unless the environment says how many.
pub(crate) fn be_quick() {
    QUICK.store(true, Relaxed);
}

/// One of two figures: for a usual run and for a quick one.
pub(crate) fn usual_or_quick<T>(usual: T, quick: T) -> T {
    if QUICK.load(Relaxed) { quick } else { usual }
}

/// Rounds of every measurement.
pub(crate) fn rounds() -> usize {
    rounds_or(5, 3)
}

/// Rounds of one that has its own numbers of them.
pub(crate) fn rounds_or(usual: usize, quick: usize) -> usize {
    asked("TIDEGATE_BENCH_ROUNDS").unwrap_or(usual_or_quick(usual, quick))
}

/// Bytes of a bulk transfer.
pub(crate) fn bulk_bytes() -> u64 {
    asked("TIDEGATE_BENCH_BYTES").unwrap_or(usual_or_quick(4 << 30, 1 << 30))
}

/// MiB of the file that the servers of files move.
pub(crate) fn served_mib() -> u64 {
    usual_or_quick(1024, 256)
}

/// The same in bytes.
pub(crate) fn served_bytes() -> u64 {
    served_mib() << 20
}

/// GiB/s of such a file in so many seconds.
pub(crate) fn served_rate(seconds: f64) -> f64 {
    served_mib() as f64 / 1024.0 / seconds
}

fn asked<T: std::str::FromStr>(variable: &str) -> Option<T> {
    std::env::var(variable).ok()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_middle_of_figures() {
        assert!((median(&[3.0, 1.0, 2.0]) - 2.0).abs() < 1e-9);
        assert!((median(&[4.0, 1.0, 2.0, 3.0]) - 2.5).abs() < 1e-9);
        assert!(median(&[]).is_nan());
    }

    #[test]
    fn a_listener_is_seen_without_connecting() {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        listening(listener.local_addr().unwrap().port()).unwrap();
        listener.set_nonblocking(true).unwrap();
        assert!(listener.accept().is_err(), "somebody connected");
    }
}
