//! HTTP figures: small files under wrk, a big download, a chunked upload, memory of a slow download.
//!
//! Knows the servers' command lines and how to read wrk and curl.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

use super::rig::{self, Guard};
use super::table::Table;
use crate::shell::{find, output, peers_dir};

const GIB: u64 = 1 << 30;

/// A server of one directory.
struct Server {
    name: &'static str,
    start: fn(&Path, u16) -> Result<Guard>,
}

fn servers() -> Vec<Server> {
    let mut all = vec![Server {
        name: "tidegate",
        start: tidegate,
    }];
    if find("nginx").is_some() {
        all.push(Server {
            name: "nginx",
            start: nginx,
        });
    }
    if twistd().is_some() {
        all.push(Server {
            name: "twisted.web",
            start: twisted,
        });
    }
    all
}

fn site() -> Result<PathBuf> {
    let dir = rig::scratch()?.join("site");
    fs::create_dir_all(&dir)?;
    fs::write(dir.join("small.txt"), [b'x'; 1024])?;
    let big = dir.join("big.bin");
    if fs::metadata(&big).map(|meta| meta.len()).ok() != Some(GIB) {
        let made = Command::new("dd")
            .args(["if=/dev/urandom", "bs=1M", "count=1024", "status=none"])
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
    let mut command = Command::new(rig::tidegate());
    command.args(["serve", "http", "-q", "--writable"]).arg(dir);
    command.args(["--listen", &format!("127.0.0.1:{port}")]);
    Guard::start(command.stdout(Stdio::null()))
}

fn nginx(dir: &Path, port: u16) -> Result<Guard> {
    let home = rig::scratch()?.join(format!("nginx-http-{port}"));
    fs::create_dir_all(&home)?;
    let conf = home.join("nginx.conf");
    fs::write(
        &conf,
        format!(
            "daemon off;\nuser root;\nworker_processes 2;\npid {0}/pid;\nerror_log {0}/error.log;\nevents {{ worker_connections 4000; \
             }}\nhttp {{ access_log off; sendfile on; tcp_nopush on; keepalive_requests 1000000; open_file_cache \
             max=100; client_body_temp_path {0}/body; server {{ listen 127.0.0.1:{port}; root {1}; }} }}\n",
            home.display(),
            dir.display()
        ),
    )?;
    let mut command = Command::new(find("nginx").context("nginx")?);
    command.arg("-c").arg(conf).arg("-e").arg(home.join("error.log"));
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

/// Small files, keep-alive, two wrk threads and 64 connections.
pub(crate) fn small() -> Result<Table> {
    let mut table = Table::new(
        "HTTP: 1 KiB file under wrk",
        &["requests/s", "p99 ms", "p99 ms beside 100 slow"],
        "requests/s",
    );
    let dir = site()?;
    for _ in 0..rig::rounds().min(3) {
        for server in servers() {
            let port = rig::free_port()?;
            let _guard = (server.start)(&dir, port)?;
            rig::listening(port)?;
            let (rate, p99) = wrk(port)?;
            let slow = slow_downloads(port, 100)?;
            let (_, beside) = wrk(port)?;
            drop(slow);
            table.add(server.name, &[rate, p99, beside]);
        }
    }
    Ok(table)
}

fn wrk(port: u16) -> Result<(f64, f64)> {
    let url = format!("http://127.0.0.1:{port}/small.txt");
    let text = output(Command::new("wrk").args(["-t2", "-c64", "-d4s", "--latency", &url]))?;
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

fn slow_downloads(port: u16, count: usize) -> Result<Vec<Guard>> {
    let url = format!("http://127.0.0.1:{port}/big.bin");
    let one = || {
        let mut curl = Command::new("curl");
        curl.args(["-s", "--limit-rate", "100k", "-o", "/dev/null", "-m", "60", &url]);
        Guard::start(curl.stdout(Stdio::null()))
    };
    (0..count).map(|_| one()).collect()
}

/// A GiB down, a GiB chunked up, and the memory of one slow download.
pub(crate) fn big() -> Result<Table> {
    let columns = &["GET GiB/s", "PUT GiB/s", "KiB over idle at 1 MiB/s"];
    let mut table = Table::new("HTTP: 1 GiB", columns, "GET GiB/s");
    let dir = site()?;
    for _ in 0..rig::rounds().min(3) {
        for server in servers() {
            let port = rig::free_port()?;
            let guard = (server.start)(&dir, port)?;
            rig::listening(port)?;
            let url = format!("http://127.0.0.1:{port}");
            let get = rate(Command::new("curl").args(["-sf", "-o", "/dev/null", &format!("{url}/big.bin")]))?;
            let put = if server.name == "tidegate" {
                let script = format!("head -c {GIB} /dev/zero | curl -sf -T - {url}/up.bin");
                rate(Command::new("sh").args(["-c", &script]))?
            } else {
                f64::NAN
            };
            let idle = rig::resident_kib(&guard.tree());
            let slow = slow_download(port)?;
            std::thread::sleep(Duration::from_secs(3));
            let busy = rig::resident_kib(&guard.tree());
            drop(slow);
            table.add(server.name, &[get, put, busy.saturating_sub(idle) as f64]);
        }
    }
    let _ = fs::remove_file(dir.join("up.bin"));
    Ok(table)
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

/// GiB/s of a command that moves one GiB.
pub(crate) fn rate(command: &mut Command) -> Result<f64> {
    let start = Instant::now();
    let status = command.stdin(Stdio::null()).stdout(Stdio::null()).status()?;
    if !status.success() {
        bail!("{command:?}: {status}");
    }
    Ok(1.0 / start.elapsed().as_secs_f64())
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
