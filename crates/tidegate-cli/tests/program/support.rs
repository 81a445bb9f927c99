//! Starting the program and other people's, with a limit on how long each may take.

use std::ffi::OsStr;
use std::io::{BufRead, BufReader, Read, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStderr, Command, Stdio};
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

#[path = "../../../tidegate-io/tests/common/free_port.rs"]
mod port;
pub(crate) use port::free_port;

/// No single run may take longer: a hang is a failure.
const RUN_LIMIT: Duration = Duration::from_secs(90);

pub(crate) const MIB: usize = 1 << 20;

/// The program, in an environment of its own.
pub(crate) fn tidegate<A: AsRef<OsStr>>(args: impl IntoIterator<Item = A>) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_tidegate"));
    clean(&mut command);
    command
        .args(args)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    command
}

/// Nothing of who runs the tests reaches the program.
pub(crate) fn clean(command: &mut Command) {
    for (name, _) in std::env::vars_os() {
        let text = name.to_string_lossy().into_owned();
        if text.starts_with("TIDEGATE_")
            || text.ends_with("_proxy")
            || text.ends_with("_PROXY")
            || text == "RUST_LOG"
        {
            command.env_remove(name);
        }
    }
    command
        .env("XDG_CONFIG_HOME", "/nonexistent")
        .env("HOME", "/nonexistent")
        .env_remove("NO_COLOR");
}

/// What a run came to.
#[derive(Debug)]
pub(crate) struct Run {
    pub(crate) code: i32,
    pub(crate) out: Vec<u8>,
    pub(crate) err: String,
}

impl Run {
    /// The last line on stderr.
    pub(crate) fn last(&self) -> &str {
        self.err.lines().last().unwrap_or("")
    }

    pub(crate) fn expect(self, code: i32) -> Self {
        assert_eq!(self.code, code, "stderr: {}", self.err);
        self
    }
}

/// Runs to the end.
pub(crate) fn run(mut command: Command) -> Run {
    Running::start(&mut command).end()
}

pub(crate) fn go<A: AsRef<OsStr>>(args: impl IntoIterator<Item = A>) -> Run {
    run(tidegate(args))
}

/// A run with bytes on its standard input.
pub(crate) fn go_with<A: AsRef<OsStr>>(input: &[u8], args: impl IntoIterator<Item = A>) -> Run {
    let mut command = tidegate(args);
    command.stdin(Stdio::piped());
    let mut running = Running::start(&mut command);
    let mut stdin = running.child.stdin.take().unwrap();
    let input = input.to_vec();
    let writer = thread::spawn(move || {
        let _ = stdin.write_all(&input);
    });
    let run = running.end();
    writer.join().unwrap();
    run
}

/// A program under way. Killed when dropped.
pub(crate) struct Running {
    pub(crate) child: Child,
    out: Option<thread::JoinHandle<Vec<u8>>>,
    lines: mpsc::Receiver<String>,
    seen: Vec<String>,
}

impl Running {
    pub(crate) fn start(command: &mut Command) -> Self {
        Self::start_with(command.spawn().unwrap())
    }

    pub(crate) fn start_with(mut child: Child) -> Self {
        let out = child.stdout.take().map(|mut stdout| {
            thread::spawn(move || {
                let mut all = Vec::new();
                let _ = stdout.read_to_end(&mut all);
                all
            })
        });
        let lines = lines(child.stderr.take());
        Self {
            child,
            out,
            lines,
            seen: Vec::new(),
        }
    }

    /// Waits for a line on stderr that holds a text.
    pub(crate) fn line(&mut self, holding: &str) -> String {
        let deadline = Instant::now() + RUN_LIMIT;
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            match self.lines.recv_timeout(left) {
                Ok(line) => {
                    self.seen.push(line.clone());
                    if line.contains(holding) {
                        return line;
                    }
                }
                Err(error) => panic!("no line with {holding:?} ({error}); stderr was {:?}", self.seen),
            }
        }
    }

    /// Where it listens, once it says so.
    pub(crate) fn port(&mut self) -> u16 {
        let line = self.line("listening");
        let at = line.split("-listen://").nth(1).unwrap_or(&line);
        let at = at.split(['"', '/', ' ']).next().unwrap();
        at.rsplit(':').next().unwrap().parse().unwrap()
    }

    pub(crate) fn signal(&self, name: &str) {
        let id = self.child.id().to_string();
        assert!(
            Command::new("kill")
                .args([format!("-{name}"), id])
                .status()
                .unwrap()
                .success()
        );
    }

    pub(crate) fn end(mut self) -> Run {
        let deadline = Instant::now() + RUN_LIMIT;
        let code = loop {
            match self.child.try_wait().unwrap() {
                Some(status) => {
                    use std::os::unix::process::ExitStatusExt;
                    break status.code().unwrap_or_else(|| -status.signal().unwrap());
                }
                None if Instant::now() >= deadline => panic!("it hangs; stderr was {:?}", self.seen),
                None => thread::sleep(Duration::from_millis(2)),
            }
        };
        let out = self.out.take().map(|out| out.join().unwrap()).unwrap_or_default();
        self.seen.extend(self.lines.iter());
        Run {
            code,
            out,
            err: self.seen.join("\n"),
        }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn lines(stderr: Option<ChildStderr>) -> mpsc::Receiver<String> {
    let (send, lines) = mpsc::channel();
    if let Some(stderr) = stderr {
        thread::spawn(move || {
            let mut reader = BufReader::new(stderr);
            let mut line = Vec::new();
            while reader.read_until(b'\n', &mut line).is_ok_and(|count| count > 0) {
                let text = String::from_utf8_lossy(&line).trim_end_matches('\n').to_owned();
                line.clear();
                if send.send(text).is_err() {
                    return;
                }
            }
        });
    }
    lines
}

/// Bytes that do not repeat soon.
pub(crate) fn noise(count: usize) -> Vec<u8> {
    let mut state = 0x9E37_79B9_7F4A_7C15_u64;
    let mut bytes = Vec::with_capacity(count + 8);
    while bytes.len() < count {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        bytes.extend_from_slice(&state.to_le_bytes());
    }
    bytes.truncate(count);
    bytes
}

/// A directory with a file of noise in it.
pub(crate) struct Place {
    dir: tempfile::TempDir,
    pub(crate) bytes: Vec<u8>,
}

impl Place {
    pub(crate) fn new(count: usize) -> Self {
        let place = Self {
            dir: tempfile::tempdir().unwrap(),
            bytes: noise(count),
        };
        std::fs::write(place.path("big"), &place.bytes).unwrap();
        place
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    pub(crate) fn text(&self, name: &str) -> String {
        self.path(name).display().to_string()
    }

    /// Everything in the directory, sorted.
    pub(crate) fn names(&self) -> Vec<String> {
        let mut names: Vec<String> = std::fs::read_dir(self.dir.path())
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        names.sort();
        names
    }

    pub(crate) fn holds_all(&self, name: &str) {
        // Not assert_eq: megabytes of noise help nobody.
        assert!(
            std::fs::read(self.path(name)).unwrap() == self.bytes,
            "{name} is not what was sent"
        );
    }
}

/// A disk of two mebibytes. Unmounted when dropped.
pub(crate) struct SmallDisk(PathBuf);

impl SmallDisk {
    pub(crate) fn path(&self) -> &Path {
        &self.0
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg(&self.0).status();
    }
}

/// Mounts a small disk, or says that the test cannot run.
pub(crate) fn small_disk(at: &Path, test: &str) -> Option<SmallDisk> {
    std::fs::create_dir(at).unwrap();
    let mounted = Command::new("mount")
        .args(["-t", "tmpfs", "-o", "size=2m", "tmpfs"])
        .arg(at)
        .stderr(Stdio::null())
        .status()
        .is_ok_and(|status| status.success());
    if !mounted {
        eprintln!("SKIPPED: {test}: no right to mount a tmpfs");
        return None;
    }
    Some(SmallDisk(at.to_owned()))
}

/// A program of others, or `None` after saying that the test cannot run.
pub(crate) fn peer(program: &str, test: &str) -> Option<PathBuf> {
    let found = std::env::var_os("PATH").and_then(|path| {
        std::env::split_paths(&path)
            .map(|dir| dir.join(program))
            .find(|path| path.is_file())
    });
    if found.is_none() {
        missing(program, test);
    }
    found
}

/// Python with Twisted, or `None` after saying that the test cannot run.
pub(crate) fn twisted(test: &str) -> Option<PathBuf> {
    let named = std::env::var_os("TIDEGATE_PYTHON").map(PathBuf::from);
    let usual = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../target/peers/venv/bin/python");
    let found = named.or_else(|| usual.is_file().then_some(usual));
    if found.is_none() {
        missing("python with Twisted", test);
    }
    found
}

/// Says that a test cannot run for want of a foreign program; fails where none may be missing.
pub(crate) fn missing(program: &str, test: &str) {
    assert!(
        std::env::var_os("TIDEGATE_REQUIRE_PEERS").is_none_or(|set| set != "1"),
        "{program} is missing"
    );
    eprintln!("SKIPPED-PEER: {program}: {test}");
}

/// A line for bash, in the place, with the program as `$T`.
pub(crate) fn shell(line: &str, place: &Place) -> Command {
    let mut command = Command::new("bash");
    clean(&mut command);
    command
        .args(["-o", "pipefail", "-c", line])
        .env("T", env!("CARGO_BIN_EXE_tidegate"))
        .current_dir(place.path(""));
    command
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    command
}

/// Until somebody listens, without connecting: a connection would be taken for the real one.
pub(crate) fn listening(port: u16) {
    let wanted = format!(":{port:04X} ");
    until("the peer listens", || {
        ["/proc/net/tcp", "/proc/net/tcp6"].iter().any(|file| {
            let table = std::fs::read_to_string(file).unwrap_or_default();
            table.lines().any(|line| {
                let mut words = line.split_whitespace();
                let local = format!("{} ", words.nth(1).unwrap_or_default());
                local.contains(&wanted) && words.nth(1) == Some("0A")
            })
        })
    });
}

/// Waits until something holds.
pub(crate) fn until(what: &str, mut holds: impl FnMut() -> bool) {
    let deadline = Instant::now() + RUN_LIMIT;
    while !holds() {
        assert!(Instant::now() < deadline, "never: {what}");
        thread::sleep(Duration::from_millis(2));
    }
}
