//! FTP figures: a GiB down and up with curl, and the memory of idle sessions.
//!
//! Knows the servers' command lines.

use std::fs;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result};

use super::rig::{self, Guard};
use super::table::Table;
use super::web;
use crate::shell::find;

/// A server of one directory to anonymous users who may write.
struct Server {
    name: &'static str,
    start: fn(&Path, u16) -> Result<Guard>,
}

fn servers() -> Vec<Server> {
    let mut all = vec![Server {
        name: "tidegate",
        start: tidegate,
    }];
    if find("vsftpd").is_some() {
        all.push(Server {
            name: "vsftpd",
            start: vsftpd,
        });
    }
    all
}

fn tidegate(dir: &Path, port: u16) -> Result<Guard> {
    let mut command = Command::new(rig::tidegate());
    command
        .args(["serve", "ftp", "-q", "--anonymous", "--writable"])
        .arg(dir);
    command.args(["--listen", &format!("127.0.0.1:{port}")]);
    Guard::start(command.stdout(Stdio::null()))
}

fn vsftpd(dir: &Path, port: u16) -> Result<Guard> {
    let conf = rig::scratch()?.join(format!("vsftpd-{port}.conf"));
    fs::create_dir_all("/var/run/vsftpd/empty")?;
    fs::write(
        &conf,
        format!(
            "listen=YES\nlisten_address=127.0.0.1\nlisten_port={port}\nbackground=NO\nanonymous_enable=YES\nno_anon_password=YES\n\
             anon_root={}\nwrite_enable=YES\nanon_upload_enable=YES\nanon_other_write_enable=YES\nanon_umask=022\n\
             seccomp_sandbox=NO\nxferlog_enable=NO\nsecure_chroot_dir=/var/run/vsftpd/empty\n",
            dir.display()
        ),
    )?;
    Guard::start(
        Command::new(find("vsftpd").context("vsftpd")?)
            .arg(conf)
            .stdout(Stdio::null()),
    )
}

/// A site vsftpd will serve: its root must not be writable, so files go into a folder.
fn site() -> Result<PathBuf> {
    let dir = PathBuf::from("/tmp").join(format!("tidegate-bench-ftp-{}", std::process::id()));
    fs::create_dir_all(dir.join("in"))?;
    Command::new("chmod").arg("755").arg(&dir).status()?;
    Command::new("chmod").arg("777").arg(dir.join("in")).status()?;
    let made = Command::new("dd")
        .args(["if=/dev/urandom", "bs=1M", "count=1024", "status=none"])
        .arg(format!("of={}", dir.join("big.bin").display()))
        .status()?;
    anyhow::ensure!(made.success(), "cannot make the big file");
    Ok(dir)
}

/// RETR and STOR of one GiB, the server's processor time, and KiB per idle session.
pub(crate) fn bulk() -> Result<Table> {
    let columns = &["RETR GiB/s", "STOR GiB/s", "CPU s/GiB", "KiB per idle session"];
    let mut table = Table::new("FTP: 1 GiB with curl", columns, "RETR GiB/s");
    let dir = site()?;
    let done = rounds(&dir, &mut table);
    let _ = fs::remove_dir_all(&dir);
    done.map(|()| table)
}

fn rounds(dir: &Path, table: &mut Table) -> Result<()> {
    for _ in 0..rig::rounds().min(3) {
        for server in servers() {
            let port = rig::free_port()?;
            let guard = (server.start)(dir, port)?;
            rig::listening(port)?;
            let url = format!("ftp://127.0.0.1:{port}");
            let get =
                web::rate(Command::new("curl").args(["-sf", "-o", "/dev/null", &format!("{url}/big.bin")]))?;
            let big = dir.join("big.bin").display().to_string();
            let put = web::rate(Command::new("curl").args(["-sf", "-T", &big, &format!("{url}/in/up.bin")]))?;
            let cpu = rig::cpu_seconds(&guard.tree()) / 2.0;
            let idle = idle_kib(&guard, port)?;
            let _ = fs::remove_file(dir.join("in/up.bin"));
            table.add(server.name, &[get, put, cpu, idle]);
        }
    }
    Ok(())
}

/// Sessions that have logged in and say nothing.
fn idle_kib(guard: &Guard, port: u16) -> Result<f64> {
    const SESSIONS: usize = 20;
    let base = rig::resident_kib(&guard.tree());
    let held: Vec<TcpStream> = (0..SESSIONS).map(|_| login(port)).collect::<Result<_>>()?;
    let used = rig::resident_kib(&guard.tree()).saturating_sub(base);
    drop(held);
    Ok(used as f64 / SESSIONS as f64)
}

fn login(port: u16) -> Result<TcpStream> {
    let mut control = TcpStream::connect(("127.0.0.1", port))?;
    let mut reply = [0; 512];
    let mut answered = |control: &mut TcpStream| control.read(&mut reply).map(|_| ());
    answered(&mut control)?;
    for line in ["USER anonymous\r\n", "PASS bench@\r\n"] {
        control.write_all(line.as_bytes())?;
        answered(&mut control)?;
    }
    Ok(control)
}
