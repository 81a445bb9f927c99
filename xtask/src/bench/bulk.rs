//! Bulk figures: one long stream through a relay, from a file, to a file, between files, and through a pipeline.
//!
//! Knows how to drive each and how to time it; the peers are elsewhere or named here as plain command lines.

use std::fs;
use std::io::Read as _;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

use super::rig::{self, Guard};
use super::table::Table;
use super::{peers, rig::bulk_bytes};
use crate::shell::find;

const GIB: f64 = (1u64 << 30) as f64;
/// A run that takes longer hangs.
const LIMIT: Duration = Duration::from_secs(120);

/// TCP to TCP through every relay.
pub(crate) fn relay() -> Result<Table> {
    let mut table = Table::new("relay, TCP → TCP", &["GiB/s", "CPU s/GiB"], "GiB/s");
    let relays = peers::relays();
    for _ in 0..rig::rounds() {
        for relay in &relays {
            let (listen, to) = (rig::free_port()?, rig::free_port()?);
            let receiver = receiver(to, &[])?;
            rig::listening(to)?;
            let Ok(guard) = relay.start(listen, to) else {
                println!("  {} does not start here", relay.name);
                continue;
            };
            let sender = Guard::start(Command::new(rig::bound()).args([
                "send",
                "127.0.0.1",
                &listen.to_string(),
                &bulk_bytes().to_string(),
            ]))?;
            let ended = received(receiver).map(|rate| {
                let cpu = rig::cpu_seconds(&guard.tree()) / (bulk_bytes() as f64 / GIB);
                [rate, cpu]
            });
            drop(sender);
            table.add_or_tell(relay.name, ended);
        }
    }
    Ok(table)
}

fn receiver(port: u16, more: &[&str]) -> Result<Guard> {
    Guard::start(
        Command::new(rig::bound())
            .args(["recv", &port.to_string()])
            .args(more)
            .stdout(Stdio::piped()),
    )
}

/// GiB/s as the receiver saw it, after checking that all bytes came.
fn received(receiver: Guard) -> Result<f64> {
    let text = receiver.output(LIMIT)?;
    let (bytes, seconds) = text
        .trim()
        .split_once(' ')
        .context("the receiver printed nothing")?;
    let (bytes, seconds): (u64, f64) = (bytes.parse()?, seconds.parse()?);
    if bytes != bulk_bytes() {
        bail!("{bytes} bytes arrived of {}", bulk_bytes());
    }
    Ok(bytes as f64 / GIB / seconds)
}

/// A command whose words are filled in for each run.
struct Copier {
    name: &'static str,
    words: &'static [&'static str],
    shell: Shell,
}

#[derive(Clone, Copy, Eq, PartialEq)]
enum Shell {
    No,
    Yes,
}

const fn plain(name: &'static str, words: &'static [&'static str]) -> Copier {
    Copier {
        name,
        words,
        shell: Shell::No,
    }
}

const fn script(name: &'static str, words: &'static [&'static str]) -> Copier {
    Copier {
        name,
        words,
        shell: Shell::Yes,
    }
}

/// Where a run's words come from.
struct Fill<'a> {
    file: &'a Path,
    out: &'a Path,
    port: u16,
}

impl Copier {
    fn available(&self) -> bool {
        match self.words.first() {
            Some(&("{tidegate}" | "{bound}" | "{load}")) | None => true,
            Some(_) if self.shell == Shell::Yes => self.words[0]
                .split(' ')
                .next()
                .is_some_and(|p| find(p).is_some() || p.starts_with('{')),
            Some(program) => find(program).is_some(),
        }
    }

    /// Runs to the end; one that hangs is ended.
    fn run(&self, fill: &Fill<'_>) -> Result<()> {
        Guard::start(&mut self.command(fill))?.succeeds(LIMIT)
    }

    fn command(&self, fill: &Fill<'_>) -> Command {
        let words: Vec<String> = self.words.iter().map(|word| fill.word(word)).collect();
        if self.shell == Shell::Yes {
            let mut command = Command::new("sh");
            command.arg("-c").arg(&words[0]);
            return command;
        }
        let mut command = Command::new(&words[0]);
        command.args(&words[1..]);
        command
    }
}

impl Fill<'_> {
    fn word(&self, word: &str) -> String {
        let show = |path: &Path| path.display().to_string();
        word.replace("{tidegate}", &show(&rig::tidegate()))
            .replace("{bound}", &show(&rig::bound()))
            .replace("{load}", &show(&rig::load()))
            .replace("{file}", &show(self.file))
            .replace("{out}", &show(self.out))
            .replace("{port}", &self.port.to_string())
            .replace("{bytes}", &bulk_bytes().to_string())
    }
}

const TO_TCP: &[Copier] = &[
    plain(
        "tidegate",
        &["{tidegate}", "-q", "{file}", "tcp://127.0.0.1:{port}"],
    ),
    plain(
        "C read/write 256k",
        &["{bound}", "file-rw", "{file}", "127.0.0.1", "{port}"],
    ),
    plain(
        "C sendfile",
        &["{bound}", "file-sendfile", "{file}", "127.0.0.1", "{port}"],
    ),
    plain(
        "C splice",
        &["{bound}", "file-splice", "{file}", "127.0.0.1", "{port}"],
    ),
    plain(
        "socat -b64k",
        &["socat", "-u", "-b65536", "OPEN:{file}", "TCP:127.0.0.1:{port}"],
    ),
    script("nc", &["nc -N 127.0.0.1 {port} <{file}"]),
    script("pv | socat", &["pv -q {file} | socat -u - TCP:127.0.0.1:{port}"]),
    plain("tokio::io::copy", &["{load}", "tokio-file", "{file}", "{port}"]),
];

/// A page-cached file to TCP.
pub(crate) fn file_to_tcp() -> Result<Table> {
    let mut table = Table::new("page-cached file → TCP", &["GiB/s", "CPU s/GiB"], "GiB/s");
    let file = big_file()?;
    for _ in 0..rig::rounds() {
        for copier in TO_TCP.iter().filter(|copier| copier.available()) {
            let port = rig::free_port()?;
            let receiver = receiver(port, &[])?;
            rig::listening(port)?;
            let cpu = ChildCpu::start();
            let fill = Fill {
                file: &file,
                out: Path::new("/dev/null"),
                port,
            };
            let ended = copier.run(&fill).and_then(|()| {
                let cpu = cpu.seconds() / (bulk_bytes() as f64 / GIB);
                Ok([received(receiver)?, cpu])
            });
            table.add_or_tell(copier.name, ended);
        }
    }
    Ok(table)
}

/// None of these waits for the disk.
const TO_FILE: &[Copier] = &[
    plain(
        "tidegate --durability cached",
        &[
            "{tidegate}",
            "-q",
            "--force",
            "--durability",
            "cached",
            "tcp-listen://127.0.0.1:{port}",
            "{out}",
        ],
    ),
    plain("C read/write 1 MiB", &["{bound}", "tofile", "{port}", "{out}"]),
    plain(
        "socat -b64k",
        &[
            "socat",
            "-u",
            "-b65536",
            "TCP-LISTEN:{port},bind=127.0.0.1,reuseaddr",
            "CREATE:{out}",
        ],
    ),
];

/// All of these do.
const TO_SYNCED_FILE: &[Copier] = &[
    plain(
        "tidegate",
        &[
            "{tidegate}",
            "-q",
            "--force",
            "tcp-listen://127.0.0.1:{port}",
            "{out}",
        ],
    ),
    plain(
        "C read/write 1 MiB + fsync",
        &["{bound}", "tofile-sync", "{port}", "{out}"],
    ),
];

/// TCP to a file that is left to the system's own pace. The time is the copier's own, to its exit.
pub(crate) fn tcp_to_file() -> Result<Table> {
    into_file("TCP → file", TO_FILE)
}

/// TCP to a file that is on the disk when the copier ends.
pub(crate) fn tcp_to_synced_file() -> Result<Table> {
    into_file("TCP → file, synced", TO_SYNCED_FILE)
}

fn into_file(title: &str, copiers: &[Copier]) -> Result<Table> {
    let mut table = Table::new(title, &["GiB/s", "CPU s/GiB"], "GiB/s");
    let out = rig::scratch()?.join("received");
    for _ in 0..rig::rounds() {
        for copier in copiers.iter().filter(|copier| copier.available()) {
            let port = rig::free_port()?;
            touch_memory(&out, bulk_bytes())?;
            table.add_or_tell(copier.name, received_into(copier, &out, port));
        }
    }
    let _ = fs::remove_file(&out);
    Ok(table)
}

/// Leaves no file at `out`, nothing for the disk to do, and as much memory as it will take touched a moment ago: on a virtual
/// machine the first touch may cost ten times a write, and who came first would pay it for all.
pub(super) fn touch_memory(out: &Path, bytes: u64) -> Result<()> {
    let _ = fs::remove_file(out);
    rig::sync(out.parent().unwrap_or(Path::new(".")))?;
    let zeros = std::io::repeat(0).take(bytes);
    std::io::copy(
        &mut std::io::BufReader::with_capacity(1 << 20, zeros),
        &mut fs::File::create(out)?,
    )?;
    Ok(fs::remove_file(out)?)
}

/// GiB/s and processor time of a copier that listens and writes `out`.
fn received_into(copier: &Copier, out: &Path, port: u16) -> Result<[f64; 2]> {
    let cpu = ChildCpu::start();
    let mut command = copier.command(&Fill { file: out, out, port });
    let listener = Guard::start(command.stdout(Stdio::piped()))?;
    rig::listening(port)?;
    let start = Instant::now();
    let (to, bytes) = (port.to_string(), bulk_bytes().to_string());
    let sender = Guard::start(Command::new(rig::bound()).args(["send", "127.0.0.1", &to, &bytes]))?;
    listener.output(LIMIT)?;
    let seconds = start.elapsed().as_secs_f64();
    // The sender is not reaped yet, so this is the copier's alone.
    let cpu = cpu.seconds();
    drop(sender);
    let written = fs::metadata(out)?.len();
    if written != bulk_bytes() {
        bail!("{written} bytes were written");
    }
    let gib = bulk_bytes() as f64 / GIB;
    Ok([gib / seconds, cpu / gib])
}

const FILE_TO_FILE: &[Copier] = &[
    plain(
        "tidegate (fsync)",
        &["{tidegate}", "-q", "--force", "{file}", "{out}"],
    ),
    plain(
        "tidegate --durability cached",
        &[
            "{tidegate}",
            "-q",
            "--force",
            "--durability",
            "cached",
            "{file}",
            "{out}",
        ],
    ),
    plain("cp", &["cp", "{file}", "{out}"]),
    script("cp && sync", &["cp {file} {out} && sync {out}"]),
    plain(
        "dd bs=1M",
        &["dd", "if={file}", "of={out}", "bs=1M", "status=none"],
    ),
];

/// A file to another file.
pub(crate) fn file_to_file() -> Result<Table> {
    let out = rig::scratch()?.join("copied");
    timed("file → file", FILE_TO_FILE, &out)
}

const PIPED: &[Copier] = &[
    script(
        "tidegate",
        &["{bound} pipe-splice <{file} | {tidegate} -q - - | {bound} pipe-splice >/dev/null"],
    ),
    script(
        "C splice",
        &["{bound} pipe-splice <{file} | {bound} pipe-splice | {bound} pipe-splice >/dev/null"],
    ),
    script(
        "pv",
        &["{bound} pipe-splice <{file} | pv -q | {bound} pipe-splice >/dev/null"],
    ),
    script(
        "cat",
        &["{bound} pipe-splice <{file} | cat | {bound} pipe-splice >/dev/null"],
    ),
    script(
        "dd",
        &["{bound} pipe-splice <{file} | dd bs=64k status=none | {bound} pipe-splice >/dev/null"],
    ),
];

/// Standard input to standard output in a pipeline fed by splice.
pub(crate) fn pipeline() -> Result<Table> {
    timed("stdin → stdout, spliced source", PIPED, Path::new("/dev/null"))
}

const HEADED: &[Copier] = &[
    script(
        "tidegate",
        &["head -c {bytes} /dev/zero | {tidegate} -q - - >/dev/null"],
    ),
    script(
        "C splice",
        &["head -c {bytes} /dev/zero | {bound} pipe-splice >/dev/null"],
    ),
    script("pv", &["head -c {bytes} /dev/zero | pv -q >/dev/null"]),
    script("cat", &["head -c {bytes} /dev/zero | cat >/dev/null"]),
    script(
        "dd",
        &["head -c {bytes} /dev/zero | dd bs=64k status=none >/dev/null"],
    ),
];

/// The same fed by `head -c`.
pub(crate) fn headed() -> Result<Table> {
    timed("stdin → stdout, fed by head -c", HEADED, Path::new("/dev/null"))
}

fn timed(title: &str, copiers: &[Copier], out: &Path) -> Result<Table> {
    let mut table = Table::new(title, &["GiB/s"], "GiB/s");
    let file = big_file()?;
    for _ in 0..rig::rounds() {
        for copier in copiers.iter().filter(|copier| copier.available()) {
            if out.starts_with(rig::scratch()?) {
                touch_memory(out, bulk_bytes())?;
            }
            let start = Instant::now();
            let fill = Fill {
                file: &file,
                out,
                port: 0,
            };
            let ended = copier
                .run(&fill)
                .map(|()| [bulk_bytes() as f64 / GIB / start.elapsed().as_secs_f64()]);
            table.add_or_tell(copier.name, ended);
        }
    }
    if out.starts_with(rig::scratch()?) {
        let _ = fs::remove_file(out);
    }
    Ok(table)
}

/// A file of real blocks, read once so that it is in the page cache.
pub(crate) fn big_file() -> Result<std::path::PathBuf> {
    let path = rig::scratch()?.join("big");
    if fs::metadata(&path).map(|meta| meta.len()).ok() != Some(bulk_bytes()) {
        let count = (bulk_bytes() / (1 << 20)).to_string();
        let mut dd = Command::new("dd");
        dd.args([
            "if=/dev/urandom",
            "bs=1M",
            "status=none",
            &format!("count={count}"),
        ]);
        dd.arg(format!("of={}", path.display()));
        if !dd.status()?.success() {
            bail!("cannot make {}", path.display());
        }
    }
    std::io::copy(&mut fs::File::open(&path)?, &mut std::io::sink())?;
    Ok(path)
}

/// Processor seconds of the children reaped while it lives.
struct ChildCpu(f64);

impl ChildCpu {
    fn start() -> Self {
        Self(Self::read())
    }

    fn seconds(&self) -> f64 {
        Self::read() - self.0
    }

    fn read() -> f64 {
        let text = fs::read_to_string("/proc/self/stat").unwrap_or_default();
        let fields: Vec<&str> = text
            .rsplit_once(')')
            .map_or("", |(_, rest)| rest)
            .split_whitespace()
            .collect();
        (13..15)
            .filter_map(|at| fields.get(at)?.parse::<u64>().ok())
            .sum::<u64>() as f64
            / 100.0
    }
}
