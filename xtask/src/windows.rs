//! Building for Windows and running the tests there, under wine: Debian's own compiler with its std sources, mingw's
//! linker, and one small library that this wine lacks. Its clippy looks at our crates while it compiles them.
//!
//! Knows nothing of what differs between the systems: the crates' `cfg`s do.

mod binaries;

use std::fs;
use std::io::{BufRead, BufReader};
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::Instant;

use anyhow::{Context, Result, bail};

use self::binaries::Binary;
use crate::peers::{apt, apt_update};
use crate::shell::{self, find, peers_required, root, succeeds, target};

const PACKAGES: [&str; 6] = [
    "gcc-mingw-w64-x86-64",
    "rustc-web",
    "cargo-web",
    "rust-web-src",
    "rust-web-clippy",
    "wine64",
];
const TRIPLE: &str = "x86_64-pc-windows-gnu";
const WINE: &str = "/usr/lib/wine/wine64";
const CARGO: &str = "/usr/bin/cargo";

/// The one function of `bcryptprimitives.dll` that Rust's std needs and wine 8.0 has not.
const PROCESS_PRNG: &str = "\
#include <windows.h>
BOOLEAN NTAPI SystemFunction036(PVOID, ULONG);
__declspec(dllexport) BOOL WINAPI ProcessPrng(PBYTE data, SIZE_T length) {
    return SystemFunction036(data, (ULONG)length);
}
";

/// The chore: compiles every test for Windows once, and runs them there; skips loudly where the tools cannot be had.
pub(crate) fn run() -> Result<()> {
    let start = Instant::now();
    if !ready()? {
        return Ok(());
    }
    prepare_wine()?;
    let tested = compile().and_then(|binaries| binaries::run_all(&binaries));
    succeeds(
        Command::new("/usr/lib/wine/wineserver")
            .arg("-k")
            .env("WINEPREFIX", prefix()),
    );
    println!("== windows: {:.0} s in all", start.elapsed().as_secs_f64());
    tested
}

/// Compiles everything in one go and says which test binaries came of it.
fn compile() -> Result<Vec<Binary>> {
    println!("== windows: compile every test");
    let start = Instant::now();
    shell::run(
        "windows: the child of the tests",
        cargo_for_windows("build").args(["--example", "child"]),
    )?;
    let mut child = cargo_for_windows("test")
        .args(["--no-run", "--message-format=json-render-diagnostics"])
        .args(["--lib", "--bins", "--tests"])
        .stdout(Stdio::piped())
        .spawn()
        .context("cannot start Debian's cargo")?;
    let stdout = child.stdout.take().context("cargo has no stdout")?;
    let mut binaries = Vec::new();
    for line in BufReader::new(stdout).lines() {
        binaries.extend(Binary::announced(&line?));
    }
    let status = child.wait()?;
    println!(
        "== windows: compile every test: {:.0} s",
        start.elapsed().as_secs_f64()
    );
    if !status.success() {
        bail!("compiling for Windows failed ({status})");
    }
    Ok(binaries)
}

fn prefix() -> PathBuf {
    target().join("wine")
}

/// Whether the tools are there, after installing them where that is allowed.
fn ready() -> Result<bool> {
    let there = || find("rustc").is_some() && installed();
    if !there()
        && std::env::var_os("TIDEGATE_NO_INSTALL").is_none()
        && let Some(mut apt) = apt()
    {
        println!("== windows: installing {}", PACKAGES.join(" "));
        apt_update();
        succeeds(
            apt.args(["install", "-y", "-qq", "--no-install-recommends"])
                .args(PACKAGES),
        );
    }
    if there() {
        return Ok(true);
    }
    let missing = format!("needs the Debian packages {}", PACKAGES.join(" "));
    if peers_required() {
        bail!("{missing}");
    }
    println!("SKIPPED: windows: {missing}");
    Ok(false)
}

fn installed() -> bool {
    PACKAGES
        .iter()
        .all(|package| succeeds(Command::new("dpkg").args(["-s", package])))
}

fn prepare_wine() -> Result<()> {
    let system32 = prefix().join("drive_c/windows/system32");
    if !system32.join("kernel32.dll").exists() {
        fs::create_dir_all(target())?;
        shell::run(
            "windows: a wine prefix",
            wine(Command::new("timeout").args(["300", WINE, "wineboot", "-i"])),
        )?;
    }
    let library = system32.join("bcryptprimitives.dll");
    if !library.exists() {
        let source = target().join("process_prng.c");
        fs::write(&source, PROCESS_PRNG).context("cannot write the C file")?;
        let mut gcc = Command::new("x86_64-w64-mingw32-gcc");
        gcc.args(["-O2", "-shared", "-s", "-o"])
            .arg(&library)
            .arg(&source)
            .arg("-ladvapi32");
        shell::run("windows: ProcessPrng for wine", &mut gcc)?;
    }
    Ok(())
}

/// The environment that keeps wine quiet and to its own prefix.
fn wine(command: &mut Command) -> &mut Command {
    command
        .env("WINEPREFIX", prefix())
        .env("WINEDEBUG", "-all")
        .env("WINEDLLOVERRIDES", "mscoree,mshtml=")
        .stdin(Stdio::null())
}

/// Debian's cargo, so that compiler and std sources are of one version. Compiling is most of the time here and nothing is
/// measured, so nothing is optimised, and there is nothing to debug with.
fn cargo_for_windows(verb: &str) -> Command {
    let mut command = Command::new(CARGO);
    command.current_dir(root()).args([
        "-Zbuild-std=std,panic_unwind,test",
        "-Zwarnings",
        verb,
        "--locked",
        "--workspace",
        "--exclude=xtask",
        "--target",
        TRIPLE,
        "--config",
        "profile.dev.package.\"*\".opt-level=0",
        "--config",
        "profile.dev.debug=false",
        // As everywhere: a warning of ours is an error, the compiler's and clippy's.
        "--config",
        "build.warnings=\"deny\"",
    ]);
    for name in ["RUSTUP_TOOLCHAIN", "RUSTFLAGS", "CARGO", "RUSTC_WRAPPER"] {
        command.env_remove(name);
    }
    command
        .env("RUSTC", "/usr/bin/rustc")
        .env("RUSTDOC", "/usr/bin/rustdoc")
        // A compiler that lints: checking apart from compiling would do the dependencies once more.
        .env("RUSTC_WORKSPACE_WRAPPER", "/usr/bin/clippy-driver")
        .env("RUSTC_BOOTSTRAP", "1")
        .env("CARGO_INCREMENTAL", "0")
        .env("CARGO_TARGET_DIR", target().join("windows"));
    command
}
