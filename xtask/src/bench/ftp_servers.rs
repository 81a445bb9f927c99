//! The FTP servers that are measured side by side, each as a command line.
//!
//! Knows no figure.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result};

use super::ftp::Meter;
use super::rig::{self, Guard};
use crate::shell::{cargo, find, peers_dir, root, succeeds, target};

/// A server of one directory to users who may write.
pub(crate) struct Server {
    /// What the table calls it.
    pub(crate) name: &'static str,
    /// The user and password part of an URL.
    pub(crate) login: &'static str,
    /// Who logs in.
    pub(crate) user: &'static str,
    /// Idle sessions to hold: fewer where each is a process.
    pub(crate) sessions: usize,
    /// Starts it, and what it needs, where the meter counts.
    pub(crate) start: fn(&Path, u16, &Meter) -> Result<Vec<Guard>>,
}

/// Those that can be had here, Tidegate first.
pub(crate) fn all() -> Result<Vec<Server>> {
    let anonymous = |name, sessions, start| Server {
        name,
        login: "",
        user: "anonymous",
        sessions,
        start,
    };
    let named = |name, sessions, start| Server {
        name,
        login: "anna:secret@",
        user: "anna",
        sessions,
        start,
    };
    let mut all = vec![anonymous("tidegate", 500, tidegate)];
    if find("vsftpd").is_some() {
        all.push(anonymous("vsftpd", 40, vsftpd));
    }
    if pure_ftpd("pure-ftpd").is_some() {
        all.push(named("pure-ftpd", 40, pure));
    }
    if python().is_some() {
        all.push(named("Twisted", 500, twisted));
    }
    if build_libunftp() {
        all.push(anonymous("libunftp", 500, libunftp));
    }
    Ok(all)
}

fn quiet(command: &mut Command) -> Result<Guard> {
    Guard::start(command.stdout(Stdio::null()))
}

fn tidegate(dir: &Path, port: u16, meter: &Meter) -> Result<Vec<Guard>> {
    let mut command = meter.command(rig::tidegate());
    command
        .args(["serve", "ftp", "-q", "--anonymous", "--writable"])
        .arg(dir);
    command.args([
        "--listen",
        &format!("127.0.0.1:{port}"),
        "--max-per-address",
        "1000",
    ]);
    Ok(vec![quiet(&mut command)?])
}

fn vsftpd(dir: &Path, port: u16, meter: &Meter) -> Result<Vec<Guard>> {
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
    let mut command = meter.command(find("vsftpd").context("vsftpd")?);
    Ok(vec![quiet(command.arg(conf))?])
}

fn pure_ftpd(name: &str) -> Option<PathBuf> {
    let unpacked = peers_dir().join("pure-ftpd/usr/sbin").join(name);
    find(name).or_else(|| Some(unpacked).filter(|file| file.is_file()))
}

/// Its users come from a program of ours; it wants to be root.
fn pure(dir: &Path, port: u16, meter: &Meter) -> Result<Vec<Guard>> {
    let home = rig::scratch()?;
    let script = home.join(format!("pure-{port}.sh"));
    let answer = "#!/bin/sh\necho auth_ok:1\necho uid:12345\necho gid:12345\necho dir:";
    fs::write(&script, format!("{answer}{}/./\necho end\n", dir.display()))?;
    fs::set_permissions(&script, fs::Permissions::from_mode(0o755))?;
    // A short path: a socket's name has 107 bytes.
    let socket = std::env::temp_dir().join(format!("tidegate-bench-{port}.sock"));
    let mut authority = Command::new(pure_ftpd("pure-authd").context("pure-authd")?);
    authority.arg("-s").arg(&socket).arg("-r").arg(script);
    let authority = quiet(&mut authority)?;
    for _ in 0..500 {
        if socket.exists() {
            break;
        }
        std::thread::sleep(std::time::Duration::from_millis(10));
    }
    let mut command = meter.command(pure_ftpd("pure-ftpd").context("pure-ftpd")?);
    command.arg("-S").arg(format!("127.0.0.1,{port}"));
    command.arg("-l").arg(format!("extauth:{}", socket.display()));
    command.args(["-E", "-H", "-c", "100", "-C", "100", "-g"]);
    let server = quiet(command.arg(home.join(format!("pure-{port}.pid"))))?;
    // The server first: it is what is measured, and its memory is all that counts.
    drop_later(authority);
    Ok(vec![server])
}

/// The authority ends with the bench: it is asked at every login.
fn drop_later(authority: Guard) {
    static HELD: std::sync::Mutex<Vec<Guard>> = std::sync::Mutex::new(Vec::new());
    let mut held = HELD.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
    // The one of the round before is not needed any more.
    held.clear();
    held.push(authority);
}

fn python() -> Option<PathBuf> {
    let python =
        std::env::var_os("TIDEGATE_PYTHON").map_or_else(|| peers_dir().join("venv/bin/python"), Into::into);
    python.exists().then_some(python)
}

/// The same server as in the tests of our client.
fn twisted(dir: &Path, port: u16, meter: &Meter) -> Result<Vec<Guard>> {
    let script = root().join("crates/tidegate-ftp/tests/twisted_server.py");
    let mut command = meter.command(python().context("python")?);
    command.arg(script).arg(port.to_string()).arg(dir);
    Ok(vec![quiet(&mut command)?])
}

fn libunftp_program() -> PathBuf {
    target().join("bench-libunftp/release/tidegate-bench-libunftp")
}

/// It is no dependency of ours, so it is built apart; where it cannot be had, the table does without. A quick run does not wait
/// for it.
pub(super) fn build_libunftp() -> bool {
    if rig::usual_or_quick(false, !libunftp_program().exists()) {
        println!("  libunftp is built by `cargo xtask bench --build`: left out");
        return false;
    }
    let built = succeeds(
        cargo()
            .args(["build", "--release", "--quiet", "--manifest-path"])
            .arg(root().join("xtask/bench/libunftp/Cargo.toml"))
            .env("CARGO_TARGET_DIR", target().join("bench-libunftp")),
    );
    if !built {
        println!("  libunftp cannot be built here: left out");
    }
    built
}

fn libunftp(dir: &Path, port: u16, meter: &Meter) -> Result<Vec<Guard>> {
    let mut command = meter.command(libunftp_program());
    Ok(vec![quiet(command.arg(dir).arg(port.to_string()))?])
}
