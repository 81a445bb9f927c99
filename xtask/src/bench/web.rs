//! HTTP figures: small files under wrk, also beside slow downloads; a GiB down; a GiB up, to nothing and to a file; the
//! memory of a slow download. Beside nginx, a server on hyper alone, twisted.web and a C program that does no more than
//! it must.
//!
//! Knows the servers' command lines and how to read wrk.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

use super::rig::{self, Guard};
use super::table::Table;
use crate::shell::{find, output, peers_dir, root};

/// Downloads that go on slowly while small files are asked for.
const SLOW: usize = 100;

/// A server of one directory.
struct Server {
    name: &'static str,
    start: fn(&Path, u16) -> Result<Guard>,
    uploads: Uploads,
}

/// How a server is made to take an upload, if it is.
#[derive(Clone, Copy)]
enum Uploads {
    /// What it does with a PUT is in the path.
    Paths,
    /// Ours: two more servers, one that throws away and one that does not sync.
    Ours,
    /// Only to a file, and never synced.
    File,
    None,
}

/// Where an upload goes, and when it is answered.
#[derive(Clone, Copy)]
enum Fate {
    /// Read and thrown away.
    Dropped,
    /// Written, and answered when the page cache has it.
    Cached,
    /// Written, and answered when the disk has it.
    Synced,
}

fn servers() -> Vec<Server> {
    let server = |name, start: fn(&Path, u16) -> Result<Guard>, uploads| Server { name, start, uploads };
    let mut all = vec![server("tidegate", tidegate, Uploads::Ours)];
    if find("nginx").is_some() {
        all.push(server("nginx, tuned", nginx_tuned, Uploads::File));
        all.push(server("nginx, as it comes", nginx_plain, Uploads::None));
    }
    all.push(server("hyper alone", hyper, Uploads::Paths));
    if twistd().is_some() {
        all.push(server("twisted.web", twisted, Uploads::None));
    }
    all.push(server("C, epoll and sendfile", bound, Uploads::Paths));
    all
}

fn site() -> Result<PathBuf> {
    let dir = rig::scratch()?.join("site");
    fs::create_dir_all(&dir)?;
    fs::write(dir.join("small.txt"), [b'x'; 1024])?;
    let big = dir.join("big.bin");
    if fs::metadata(&big).map(|meta| meta.len()).ok() != Some(rig::served_bytes()) {
        let made = Command::new("dd")
            .args(["if=/dev/urandom", "bs=1M", "status=none"])
            .arg(format!("count={}", rig::served_mib()))
            .arg(format!("of={}", big.display()))
            .status()?;
        if !made.success() {
            bail!("cannot make {}", big.display());
        }
    }
    std::io::copy(&mut fs::File::open(&big)?, &mut std::io::sink())?;
    Ok(dir)
}

fn tidegate(dir: &Path, port: u16) -> Result<Guard> {
    tidegate_with(dir, port, "synced")
}

fn tidegate_with(dir: &Path, port: u16, durability: &str) -> Result<Guard> {
    let mut command = Command::new(rig::tidegate());
    command.args(["serve", "http", "-q", "--writable"]).arg(dir);
    command.args(["--durability", durability]);
    command.args(["--listen", &format!("127.0.0.1:{port}")]);
    Guard::start(command.stdout(Stdio::null()))
}

/// Ours as it takes one upload and throws it away.
fn tidegate_to_nothing(port: u16) -> Result<Guard> {
    let mut command = Command::new(rig::tidegate());
    command.args(["-q", &format!("http-listen://127.0.0.1:{port}"), "file:/dev/null"]);
    Guard::start(command.stdout(Stdio::null()))
}

fn nginx_tuned(dir: &Path, port: u16) -> Result<Guard> {
    nginx(
        dir,
        port,
        "access_log off; sendfile on; tcp_nopush on; keepalive_requests 1000000; open_file_cache max=100;",
    )
}

/// What Debian's package sets, but for the limit of requests on one connection.
fn nginx_plain(dir: &Path, port: u16) -> Result<Guard> {
    let log = rig::scratch()?.join("nginx-access.log");
    let options = format!(
        "access_log {}; sendfile on; tcp_nopush on; keepalive_requests 1000000;",
        log.display()
    );
    nginx(dir, port, &options)
}

fn nginx(dir: &Path, port: u16, options: &str) -> Result<Guard> {
    let home = rig::scratch()?.join(format!("nginx-http-{port}"));
    fs::create_dir_all(&home)?;
    let conf = home.join("nginx.conf");
    fs::write(
        &conf,
        format!(
            "daemon off;\nuser root;\nworker_processes 2;\npid {0}/pid;\nerror_log {0}/error.log;\nevents {{ \
             worker_connections 4000; }}\nhttp {{ {options} client_body_temp_path {0}/body; client_max_body_size 0; \
             server {{ listen 127.0.0.1:{port}; root {1}; dav_methods PUT; }} }}\n",
            home.display(),
            dir.display()
        ),
    )?;
    let mut command = Command::new(find("nginx").context("nginx")?);
    command.arg("-c").arg(conf).arg("-e").arg(home.join("error.log"));
    Guard::start(command.stdout(Stdio::null()))
}

fn hyper(dir: &Path, port: u16) -> Result<Guard> {
    let mut command = Command::new(rig::plain_hyper());
    command.arg(dir).arg(format!("127.0.0.1:{port}"));
    Guard::start(command.stdout(Stdio::null()))
}

fn bound(dir: &Path, port: u16) -> Result<Guard> {
    let mut command = Command::new(rig::http_bound());
    command.args(["serve", &port.to_string()]).arg(dir).arg("2");
    Guard::start(command.stdout(Stdio::null()))
}

fn twistd() -> Option<PathBuf> {
    let python =
        std::env::var_os("TIDEGATE_PYTHON").map_or_else(|| peers_dir().join("venv/bin/python"), Into::into);
    let twistd = python.with_file_name("twistd");
    twistd.exists().then_some(twistd)
}

fn twisted(dir: &Path, port: u16) -> Result<Guard> {
    let mut command = Command::new(twistd().context("twistd")?);
    command.args([
        "--nodaemon",
        "--pidfile=",
        "web",
        "--listen",
        &format!("tcp:{port}:interface=127.0.0.1"),
    ]);
    command.arg("--path").arg(dir);
    Guard::start(command.stdout(Stdio::null()))
}

/// Small files, keep-alive, two wrk threads and 64 connections: as many requests as there can be, and at a pace that leaves
/// the processor idle now and then.
pub(crate) fn small() -> Result<Table> {
    let mut table = Table::new(
        "HTTP: 1 KiB file under wrk",
        &[
            "requests/s",
            "p99 ms",
            "p99 ms beside 100 slow downloads",
            "p99 ms, paced",
            "p99 ms, paced, beside 100 slow downloads",
        ],
        "requests/s",
    );
    let dir = site()?;
    let mut servers = servers();
    for _ in 0..rig::rounds_or(5, 3) {
        for server in &servers {
            table.add_or_tell(server.name, small_round(server, &dir));
        }
        // Whoever comes after whom is somebody else each time.
        servers.rotate_left(1);
    }
    Ok(table)
}

fn small_round(server: &Server, dir: &Path) -> Result<[f64; 5]> {
    let port = rig::free_port()?;
    let _guard = (server.start)(dir, port)?;
    rig::listening(port)?;
    let (rate, p99) = wrk(port, Pace::Any)?;
    let (_, paced) = wrk(port, Pace::Slow)?;
    let _slow = slow_downloads(port)?;
    let (_, beside) = wrk(port, Pace::Any)?;
    let (_, paced_beside) = wrk(port, Pace::Slow)?;
    Ok([rate, p99, beside, paced, paced_beside])
}

/// How soon a connection of wrk asks again.
#[derive(Clone, Copy)]
enum Pace {
    /// At once: the processors are never idle, and the slowest answers waited for one.
    Any,
    /// After a rest.
    Slow,
}

fn wrk(port: u16, pace: Pace) -> Result<(f64, f64)> {
    let url = format!("http://127.0.0.1:{port}/small.txt");
    let mut command = Command::new("wrk");
    command.args(["-t2", "-c64", "-d1s", "--latency"]);
    if let Pace::Slow = pace {
        command.arg("-s").arg(root().join("xtask/bench/pace.lua"));
    }
    let text = output(command.arg(&url))?;
    let after = |label: &str| {
        let line = text.lines().find(|line| line.trim_start().starts_with(label))?;
        line.split_whitespace().last().map(str::to_owned)
    };
    let rate = after("Requests/sec:").context("wrk told no rate")?.parse()?;
    let p99 = after("99%").context("wrk told no p99")?;
    Ok((rate, milliseconds(&p99)?))
}

fn milliseconds(text: &str) -> Result<f64> {
    let digits = text.trim_end_matches(char::is_alphabetic);
    let scale = match &text[digits.len()..] {
        "us" => 0.001,
        "ms" => 1.0,
        "s" => 1000.0,
        unit => bail!("no unit of time: {unit}"),
    };
    Ok(digits.parse::<f64>()? * scale)
}

/// One curl that downloads the big file many times at once, slowly; returns when all are connected.
fn slow_downloads(port: u16) -> Result<Guard> {
    let url = format!("http://127.0.0.1:{port}/big.bin");
    let mut curl = Command::new("curl");
    curl.args(["-s", "-Z", "--parallel-immediate", "--parallel-max"])
        .arg(SLOW.to_string())
        .args(["--limit-rate", "100k", "-m", "60"]);
    for _ in 0..SLOW {
        curl.args(["-o", "/dev/null", &url]);
    }
    let guard = Guard::start(curl.stdout(Stdio::null()))?;
    let deadline = Instant::now() + Duration::from_secs(20);
    while established(port)? < SLOW {
        if Instant::now() > deadline {
            bail!("the slow downloads did not begin");
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    Ok(guard)
}

/// Connections that are open to a port on this machine.
fn established(port: u16) -> Result<usize> {
    let needle = format!(":{port:04X}");
    let table = fs::read_to_string("/proc/net/tcp")?;
    let open = |line: &&str| {
        let mut fields = line.split_whitespace().skip(2);
        fields.next().is_some_and(|remote| remote.ends_with(&needle)) && fields.next() == Some("01")
    };
    Ok(table.lines().filter(open).count())
}

/// A GiB down, a GiB up in chunks, and the memory of one slow download.
pub(crate) fn big() -> Result<Table> {
    let columns = &[
        "GET GiB/s",
        "PUT of 1 GiB to nothing GiB/s",
        "to a file GiB/s",
        "to a synced file GiB/s",
        "peak KiB over idle at 1 MiB/s",
    ];
    let title = format!("HTTP: {} MiB", rig::served_mib());
    let mut table = Table::new(&title, columns, "GET GiB/s");
    let dir = site()?;
    let mut servers = servers();
    for round in 0..rig::rounds_or(5, 5) {
        let memory = if round < MEMORY_ROUNDS {
            Memory::Seen
        } else {
            Memory::Passed
        };
        for server in &servers {
            table.add_or_tell(server.name, big_round(server, &dir, memory));
        }
        servers.rotate_left(1);
    }
    clear_uploads(&dir);
    Ok(table)
}

/// Rounds that also look at memory, which takes three seconds a server and hardly swings.
const MEMORY_ROUNDS: usize = 2;

/// Whether a round looks at memory.
#[derive(Clone, Copy)]
enum Memory {
    Seen,
    Passed,
}

fn big_round(server: &Server, dir: &Path, memory: Memory) -> Result<[f64; 5]> {
    let port = rig::free_port()?;
    let guard = (server.start)(dir, port)?;
    rig::listening(port)?;
    // A small file and a short download first: they load the program's own pages, which are no download's memory.
    // Nothing larger: what a fast download took from the heap would hide what the slow one takes.
    for (path, range) in [("small.txt", "0-"), ("big.bin", "0-65535")] {
        output(
            Command::new("curl")
                .args(["-sf", "-r", range, "-o", "/dev/null"])
                .arg(format!("http://127.0.0.1:{port}/{path}")),
        )?;
    }
    let peak = match memory {
        Memory::Seen => slow_peak_kib(&guard, port)?,
        Memory::Passed => f64::NAN,
    };
    let get = exchange(&["get", &port.to_string(), "/big.bin"], rig::served_bytes())?;
    let put = |fate| {
        clear_uploads(dir);
        if !matches!((fate, server.uploads), (Fate::Dropped, _) | (_, Uploads::None)) {
            super::bulk::touch_memory(&dir.join("up.bin"), rig::served_bytes())?;
        }
        upload(server, dir, fate)
    };
    let (dropped, cached, synced) = (put(Fate::Dropped)?, put(Fate::Cached)?, put(Fate::Synced)?);
    Ok([get, dropped, cached, synced, peak])
}

/// The rate of an upload, to a server that was started for it; NaN where a server takes none of the kind.
fn upload(server: &Server, dir: &Path, fate: Fate) -> Result<f64> {
    let path = match (server.uploads, fate) {
        (Uploads::None, _) | (Uploads::File, Fate::Dropped | Fate::Synced) => return Ok(f64::NAN),
        (Uploads::File | Uploads::Ours, _) => "/up.bin",
        (Uploads::Paths, Fate::Dropped) => "/null",
        (Uploads::Paths, Fate::Cached) => "/file.bin",
        (Uploads::Paths, Fate::Synced) => "/synced.bin",
    };
    let port = rig::free_port()?;
    let _taking = match (server.uploads, fate) {
        (Uploads::Ours, Fate::Dropped) => tidegate_to_nothing(port)?,
        (Uploads::Ours, Fate::Cached) => tidegate_with(dir, port, "cached")?,
        _ => (server.start)(dir, port)?,
    };
    rig::listening(port)?;
    let bytes = match fate {
        Fate::Dropped => DROPPED_BYTES,
        Fate::Cached | Fate::Synced => rig::served_bytes(),
    };
    exchange(&["put", &port.to_string(), path, &bytes.to_string()], bytes)
}

/// What is thrown away costs no disk and no memory, and of less the rate swings from round to round.
const DROPPED_BYTES: u64 = 1 << 30;

/// Every upload to a file is a new file.
fn clear_uploads(dir: &Path) {
    for left in ["up.bin", "file.bin", "synced.bin", "bound.bin"] {
        let _ = fs::remove_file(dir.join(left));
    }
}

/// One exchange of so many bytes by the C client, in GiB/s.
fn exchange(words: &[&str], bytes: u64) -> Result<f64> {
    let seconds: f64 = output(Command::new(rig::http_bound()).args(words))?
        .trim()
        .parse()?;
    Ok(bytes as f64 / f64::from(1 << 30) / seconds)
}

/// The most a server grows over what it was when idle, while it sends a file at 1 MiB/s for three seconds.
fn slow_peak_kib(guard: &Guard, port: u16) -> Result<f64> {
    let pids = guard.tree();
    for pid in &pids {
        // Sets the peak back to what is resident now.
        let _ = fs::write(format!("/proc/{pid}/clear_refs"), "5");
    }
    let idle = status_kib(&pids, "VmRSS:");
    let slow = slow_download(port)?;
    std::thread::sleep(Duration::from_secs(3));
    let peak = status_kib(&pids, "VmHWM:");
    drop(slow);
    Ok(peak.saturating_sub(idle) as f64)
}

/// The sum of one line of `/proc/PID/status` over some processes.
fn status_kib(pids: &[u32], label: &str) -> u64 {
    let of = |pid: &u32| {
        let text = fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
        let line = text.lines().find(|line| line.starts_with(label))?;
        line.split_whitespace().nth(1)?.parse::<u64>().ok()
    };
    pids.iter().filter_map(of).sum()
}

fn slow_download(port: u16) -> Result<Guard> {
    let mut curl = Command::new("curl");
    curl.args([
        "-s",
        "--limit-rate",
        "1M",
        "-o",
        "/dev/null",
        &format!("http://127.0.0.1:{port}/big.bin"),
    ]);
    Guard::start(curl.stdout(Stdio::null()))
}

/// GiB/s of a command that moves the large file.
pub(crate) fn rate(command: &mut Command) -> Result<f64> {
    let start = Instant::now();
    let status = command.stdin(Stdio::null()).stdout(Stdio::null()).status()?;
    if !status.success() {
        bail!("{command:?}: {status}");
    }
    Ok(rig::served_rate(start.elapsed().as_secs_f64()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_the_times_of_wrk() {
        assert!((milliseconds("850.00us").unwrap() - 0.85).abs() < 1e-9);
        assert!((milliseconds("1.20s").unwrap() - 1200.0).abs() < 1e-9);
        assert!(milliseconds("3 parsecs").is_err());
    }
}
