//! FTP figures: a GiB down and up with curl, the servers' processor time, and the memory of idle sessions.
//!
//! Knows no server's command line (`ftp_servers.rs` does).

use std::fs;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::Result;

use super::ftp_servers::{self, Server};
use super::rig;
use super::table::Table;
use super::web;

/// No server takes this long to end a session.
const PATIENCE: Duration = Duration::from_secs(10);

/// Logins that have ended before memory is looked at.
const WARM_UPS: usize = 5;

/// A directory to be served: what is fetched lies in it, what is stored goes into `in`, since vsftpd wants a root that
/// nobody may write to.
fn site() -> Result<PathBuf> {
    let dir = PathBuf::from("/tmp").join(format!("tidegate-bench-ftp-{}", std::process::id()));
    fs::create_dir_all(dir.join("in"))?;
    Command::new("chmod").arg("755").arg(&dir).status()?;
    Command::new("chmod").arg("777").arg(dir.join("in")).status()?;
    let made = Command::new("dd")
        .args(["if=/dev/urandom", "bs=1M", "status=none"])
        .arg(format!("count={}", rig::served_mib()))
        .arg(format!("of={}", dir.join("big.bin").display()))
        .status()?;
    anyhow::ensure!(made.success(), "cannot make the big file");
    Ok(dir)
}

/// RETR and STOR of the large file, the server's processor time for each, and KiB per idle session.
pub(crate) fn bulk() -> Result<Table> {
    let columns = &[
        "RETR GiB/s",
        "RETR CPU s/GiB",
        "STOR GiB/s",
        "STOR CPU s/GiB",
        "KiB per idle session",
    ];
    let title = format!("FTP: {} MiB with curl", rig::served_mib());
    let mut table = Table::new(&title, columns, "RETR GiB/s");
    let dir = site()?;
    let done = rounds(&dir, &mut table);
    let _ = fs::remove_dir_all(&dir);
    done.map(|()| table)
}

fn rounds(dir: &Path, table: &mut Table) -> Result<()> {
    let mut servers = ftp_servers::all()?;
    for _ in 0..rig::rounds_or(5, 3) {
        for server in &servers {
            table.add_or_tell(server.name, round(server, dir));
        }
        // Who stores first after a large file was removed finds warm memory: everybody in turn.
        servers.rotate_left(1);
    }
    Ok(())
}

fn round(server: &Server, dir: &Path) -> Result<[f64; 5]> {
    let port = rig::free_port()?;
    let meter = Meter::new();
    let guard = (server.start)(dir, port, &meter)?;
    rig::listening(port)?;
    let url = format!("ftp://{}127.0.0.1:{port}", server.login);
    let big = dir.join("big.bin").display().to_string();
    let up = dir.join("in/up.bin");
    let tree = || guard.iter().flat_map(rig::Guard::tree).collect::<Vec<_>>();
    let spent = |before: f64| meter.seconds(&tree()) - before;
    let before = meter.seconds(&tree());
    let get = web::rate(Command::new("curl").args(["-sf", "-o", "/dev/null", &format!("{url}/big.bin")]))?;
    let gib = rig::served_mib() as f64 / 1024.0;
    let get_cpu = spent(before) / gib;
    super::bulk::touch_memory(&up, rig::served_bytes())?;
    let before = meter.seconds(&tree());
    let put = web::rate(Command::new("curl").args(["-sf", "-T", &big, &format!("{url}/in/up.bin")]))?;
    let put_cpu = spent(before) / gib;
    anyhow::ensure!(
        fs::metadata(&up)?.len() == rig::served_bytes(),
        "an upload is not whole"
    );
    fs::remove_file(&up)?;
    drop(guard);
    Ok([get, get_cpu, put, put_cpu, idle_session_kib(server, dir, &meter)?])
}

/// In a server of its own: one that has moved bytes holds freed memory, and sessions that go into it seem to cost nothing. What the
/// first logins set up once is no session's either.
fn idle_session_kib(server: &Server, dir: &Path, meter: &Meter) -> Result<f64> {
    let port = rig::free_port()?;
    let guard = (server.start)(dir, port, meter)?;
    rig::listening(port)?;
    let tree = || guard.iter().flat_map(rig::Guard::tree).collect::<Vec<_>>();
    for _ in 0..WARM_UPS {
        let mut control = login(port, server.user)?;
        control.set_read_timeout(Some(PATIENCE))?;
        control.write_all(b"QUIT\r\n")?;
        // Until the server has ended the session.
        control.read_to_end(&mut Vec::new())?;
    }
    let base = rig::resident_kib(&tree());
    let held: Vec<TcpStream> = (0..server.sessions)
        .map(|_| login(port, server.user))
        .collect::<Result<_>>()?;
    let used = rig::resident_kib(&tree()).saturating_sub(base);
    drop(held);
    Ok(used as f64 / server.sessions as f64)
}

fn login(port: u16, user: &str) -> Result<TcpStream> {
    let mut control = TcpStream::connect(("127.0.0.1", port))?;
    let code = |control: &mut TcpStream| -> Result<u8> {
        let mut reply = [0; 2048];
        let count = control.read(&mut reply)?;
        anyhow::ensure!(count > 0, "a session was refused");
        Ok(reply[0])
    };
    code(&mut control)?;
    control.write_all(format!("USER {user}\r\n").as_bytes())?;
    if code(&mut control)? == b'3' {
        control.write_all(b"PASS secret\r\n")?;
        anyhow::ensure!(code(&mut control)? == b'2', "a login was refused");
    }
    Ok(control)
}

/// Processor time of a server with all it forks, also of processes nobody waited for: vsftpd loses those of its sessions.
pub(crate) struct Meter {
    group: Option<PathBuf>,
}

impl Meter {
    fn new() -> Self {
        let group = PathBuf::from(format!(
            "/sys/fs/cgroup/cpuacct/tidegate-bench-{}",
            std::process::id()
        ));
        let made = group.exists() || fs::create_dir(&group).is_ok();
        Self {
            group: made.then_some(group),
        }
    }

    /// A command that enters the group and becomes `program`.
    pub(crate) fn command(&self, program: impl AsRef<std::ffi::OsStr>) -> Command {
        let Some(group) = &self.group else {
            return Command::new(program);
        };
        let mut command = Command::new("sh");
        command
            .arg("-c")
            .arg("echo $$ > \"$0/tasks\"; exec \"$@\"")
            .arg(group);
        command.arg(program);
        command
    }

    fn seconds(&self, tree: &[u32]) -> f64 {
        let counted = self
            .group
            .as_ref()
            .and_then(|group| fs::read_to_string(group.join("cpuacct.usage")).ok());
        match counted.and_then(|text| text.trim().parse::<f64>().ok()) {
            Some(nanoseconds) => nanoseconds / 1e9,
            None => rig::cpu_seconds(tree),
        }
    }
}

impl Drop for Meter {
    fn drop(&mut self) {
        if let Some(group) = &self.group {
            // Refused while the last process is going; the next round uses it again.
            let _ = fs::remove_dir(group);
        }
    }
}
