//! The foreign programs the tests talk to: which, from which package, and how to install them without starting a daemon.
//!
//! Knows nothing of what the tests do with them.

use std::fs;
use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result};

use crate::shell::{find, peers_dir, root, succeeds};

/// One foreign program.
struct Peer {
    program: &'static str,
    package: &'static str,
}

const fn peer(program: &'static str, package: &'static str) -> Peer {
    Peer { program, package }
}

/// What the tests look up on the path.
const APT: &[Peer] = &[
    peer("socat", "socat"),
    peer("curl", "curl"),
    peer("openssl", "openssl"),
    peer("nginx", "nginx-light"),
    peer("wrk", "wrk"),
    peer("lftp", "lftp"),
    peer("vsftpd", "vsftpd"),
    peer("doveadm", "dovecot-imapd"),
    peer("strace", "strace"),
    peer("script", "bsdutils"),
    peer("tinyproxy", "tinyproxy-bin"),
    peer("faketime", "faketime"),
    peer("pv", "pv"),
    peer("zsh", "zsh"),
    peer("fish", "fish"),
    peer("mandoc", "mandoc"),
    peer("groff", "groff-base"),
];

/// Peers that are unpacked, not installed: their packages conflict with another peer's.
const UNPACKED: &[Peer] = &[peer("pure-ftpd", "pure-ftpd")];

/// What goes into the Python environment.
const PIP: &[&str] = &["twisted", "pyopenssl", "service-identity"];

/// What only the benches use.
const BENCH: &[Peer] = &[
    peer("haproxy", "haproxy"),
    peer("nc", "netcat-openbsd"),
    peer("../lib/nginx/modules/ngx_stream_module.so", "libnginx-mod-stream"),
];

/// Installs what the benches need besides; what cannot be had is left out of the tables.
pub(crate) fn ensure_bench() -> Result<()> {
    let missing: Vec<&Peer> = BENCH.iter().filter(|peer| find(peer.program).is_none()).collect();
    if may_install() && !missing.is_empty() {
        apt_update();
        apt_install(&missing)?;
    }
    ensure().map(|_| ())
}

/// Installs what is missing where that is allowed, and returns the names of what is still missing.
pub(crate) fn ensure() -> Result<Vec<String>> {
    let missing: Vec<&Peer> = APT.iter().filter(|peer| find(peer.program).is_none()).collect();
    let unpacked = unpacked_missing();
    if may_install() {
        if !missing.is_empty() || !unpacked.is_empty() {
            println!(
                "== peers: installing {}",
                names(missing.iter().copied().chain(unpacked.iter().copied()))
            );
            apt_update();
            if !missing.is_empty() {
                apt_install(&missing)?;
            }
            for peer in &unpacked {
                unpack(peer)?;
            }
        }
        python()?;
    }
    let mut left: Vec<String> = APT
        .iter()
        .filter(|peer| find(peer.program).is_none())
        .map(|peer| peer.program.to_owned())
        .collect();
    left.extend(unpacked_missing().iter().map(|peer| peer.program.to_owned()));
    if !python_ready() {
        left.push("Twisted (PyPI)".to_owned());
    }
    Ok(left)
}

fn names<'a>(peers: impl Iterator<Item = &'a Peer>) -> String {
    peers.map(|peer| peer.package).collect::<Vec<_>>().join(" ")
}

fn may_install() -> bool {
    std::env::var_os("TIDEGATE_NO_INSTALL").is_none()
}

/// `apt-get`, as root or through a sudo that asks nothing.
pub(crate) fn apt() -> Option<Command> {
    let is_root = Command::new("id")
        .arg("-u")
        .output()
        .is_ok_and(|out| out.stdout.trim_ascii() == b"0");
    find("apt-get")?;
    let mut command = if is_root {
        Command::new("apt-get")
    } else if succeeds(Command::new("sudo").args(["-n", "true"])) {
        let mut sudo = Command::new("sudo");
        sudo.args(["-n", "apt-get"]);
        sudo
    } else {
        return None;
    };
    command.env("DEBIAN_FRONTEND", "noninteractive");
    Some(command)
}

/// Refreshes the package lists; an old list may still do, so a failure is only told.
pub(crate) fn apt_update() {
    if let Some(mut apt) = apt()
        && !succeeds(apt.args(["update", "-qq"]))
    {
        println!("== peers: the package lists could not be refreshed");
    }
}

/// Installs packages, keeping their daemons from starting.
fn apt_install(peers: &[&Peer]) -> Result<()> {
    let _guard = NoDaemons::set();
    let Some(mut apt) = apt() else { return Ok(()) };
    apt.args(["install", "-y", "-qq", "--no-install-recommends"]);
    apt.args(peers.iter().map(|peer| peer.package));
    if !succeeds(&mut apt) {
        // One package that cannot be had must not keep the others away.
        for peer in peers {
            if let Some(mut apt) = self::apt() {
                succeeds(apt.args(["install", "-y", "-qq", "--no-install-recommends", peer.package]));
            }
        }
    }
    Ok(())
}

/// While it lives, packages start no service when they are installed.
struct NoDaemons {
    ours: bool,
}

const POLICY: &str = "/usr/sbin/policy-rc.d";

impl NoDaemons {
    fn set() -> Self {
        let ours = !Path::new(POLICY).exists()
            && fs::write(POLICY, "#!/bin/sh\nexit 101\n").is_ok()
            && succeeds(Command::new("chmod").args(["755", POLICY]));
        Self { ours }
    }
}

impl Drop for NoDaemons {
    fn drop(&mut self) {
        if self.ours {
            let _ = fs::remove_file(POLICY);
        }
    }
}

fn unpacked_missing() -> Vec<&'static Peer> {
    UNPACKED
        .iter()
        .filter(|peer| find(peer.program).is_none() && !unpacked_at(peer).exists())
        .collect()
}

fn unpacked_at(peer: &Peer) -> std::path::PathBuf {
    peers_dir().join(peer.program).join("usr/sbin").join(peer.program)
}

fn unpack(peer: &Peer) -> Result<()> {
    let dir = peers_dir().join(peer.program);
    fs::create_dir_all(&dir).with_context(|| format!("cannot make {}", dir.display()))?;
    let fetched = succeeds(
        Command::new("apt-get")
            .args(["download", "-qq", peer.package])
            .current_dir(&dir),
    );
    if fetched {
        for entry in fs::read_dir(&dir)?.flatten() {
            if entry.path().extension().is_some_and(|kind| kind == "deb") {
                succeeds(Command::new("dpkg").arg("-x").arg(entry.path()).arg(&dir));
                fs::remove_file(entry.path())?;
            }
        }
    }
    Ok(())
}

fn venv_python() -> std::path::PathBuf {
    peers_dir().join("venv/bin/python")
}

fn python_ready() -> bool {
    let python = std::env::var_os("TIDEGATE_PYTHON").map_or_else(venv_python, Into::into);
    succeeds(Command::new(python).args(["-c", "import twisted, OpenSSL, service_identity"]))
}

fn python() -> Result<()> {
    if python_ready() {
        return Ok(());
    }
    println!(
        "== peers: installing {} into a virtual environment",
        PIP.join(" ")
    );
    fs::create_dir_all(peers_dir())?;
    let venv = peers_dir().join("venv");
    if succeeds(
        Command::new("python3")
            .args(["-m", "venv"])
            .arg(&venv)
            .current_dir(root()),
    ) {
        succeeds(
            Command::new(venv_python())
                .args(["-m", "pip", "install", "-q"])
                .args(PIP),
        );
    }
    Ok(())
}
