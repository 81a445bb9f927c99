//! Building for Windows and running the tests there, under wine: Debian's own compiler with its std sources, mingw's
//! linker, and one small library that this wine lacks.
//!
//! Knows nothing of what differs between the systems: the crates' `cfg`s do.

use std::fs;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::Instant;

use anyhow::{Context, Result, bail};

use crate::peers::{apt, apt_update};
use crate::shell::{self, find, peers_required, root, succeeds, target};

const PACKAGES: [&str; 5] = [
    "gcc-mingw-w64-x86-64",
    "rustc-web",
    "cargo-web",
    "rust-web-src",
    "wine64",
];
const TRIPLE: &str = "x86_64-pc-windows-gnu";
const WINE: &str = "/usr/lib/wine/wine64";
const CARGO: &str = "/usr/bin/cargo";

/// Seconds one test binary may take before it counts as hung.
const BINARY_SECONDS: u32 = 240;

/// The one function of `bcryptprimitives.dll` that Rust's std needs and wine 8.0 has not.
const PROCESS_PRNG: &str = "\
#include <windows.h>
BOOLEAN NTAPI SystemFunction036(PVOID, ULONG);
__declspec(dllexport) BOOL WINAPI ProcessPrng(PBYTE data, SIZE_T length) {
    return SystemFunction036(data, (ULONG)length);
}
";

/// What runs under wine. Everything else is compiled and linked, and named as not run.
const RUN: [&[&str]; 5] = [
    &["--package", "tidegate", "--lib", "--tests"],
    &["--package", "tidegate-cli", "--bins"],
    &["--package", "tidegate-ftp", "--package", "tidegate-pb", "--lib"],
    &["--package", "tidegate-io", "--lib", "--test", "flow"],
    &["--package", "tidegate-pb", "--test", "pair"],
];

/// What is known not to pass there, and why it is not run.
const NOT_RUN: [&str; 4] = [
    "tidegate-io tests/relay, tests/files_and_sockets: a peer's reset is not noticed while nobody reads, so some hang",
    "tidegate-ftp tests: the same, and uploads cut by a reset",
    "tidegate-http: 3 of 24 unit tests fail (file_parts, path); its integration tests were not tried",
    "tidegate-maildir: 1 of 39 unit tests fails (the sweep by age); its integration tests were not tried",
];

/// The chore: compiles every crate for Windows and runs the tests that are known to pass; skips loudly where the tools
/// cannot be had.
pub(crate) fn run() -> Result<()> {
    let start = Instant::now();
    if !ready()? {
        return Ok(());
    }
    prepare_wine()?;
    let every = [
        "--workspace",
        "--exclude",
        "xtask",
        "--lib",
        "--bins",
        "--tests",
        "--no-run",
    ];
    let tested = shell::run("windows: compile every test", &mut tests(&every)).and_then(|()| {
        RUN.iter()
            .try_for_each(|words| shell::run(&format!("windows: {}", words.join(" ")), &mut tests(words)))
    });
    succeeds(
        Command::new("/usr/lib/wine/wineserver")
            .arg("-k")
            .env("WINEPREFIX", prefix()),
    );
    for line in NOT_RUN {
        println!("NOT RUN on Windows: {line}");
    }
    println!("== windows: {:.0} s in all", start.elapsed().as_secs_f64());
    tested
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

fn tests(words: &[&str]) -> Command {
    let mut command = Command::new(CARGO);
    command.current_dir(root()).args([
        "-Zbuild-std=std,panic_unwind,test",
        "test",
        "--locked",
        "--no-fail-fast",
    ]);
    // Compiling is most of the time here; nothing is measured.
    command.args([
        "--config",
        "profile.dev.package.\"*\".opt-level=0",
        "--config",
        "profile.dev.debug=false",
    ]);
    command.args(["--target", TRIPLE]).args(words);
    for name in ["RUSTUP_TOOLCHAIN", "RUSTFLAGS", "CARGO", "RUSTC_WRAPPER"] {
        command.env_remove(name);
    }
    command
        .env("RUSTC", "/usr/bin/rustc")
        .env("RUSTDOC", "/usr/bin/rustdoc")
        .env("RUSTC_BOOTSTRAP", "1")
        .env("RUST_BACKTRACE", "0")
        .env("CARGO_TARGET_DIR", target().join("windows"))
        .env(
            "CARGO_TARGET_X86_64_PC_WINDOWS_GNU_RUNNER",
            format!("timeout {BINARY_SECONDS} {WINE}"),
        );
    wine(&mut command);
    command
}
