//! What CI runs, in the order that fails soonest. Knows no test by name.

use anyhow::{Result, bail};

use crate::shell::{self, cargo, output, root, target};
use crate::{tidy, windows};

/// The chore: everything.
pub(crate) fn run() -> Result<()> {
    shell::run("format", cargo().args(["fmt", "--all", "--check"]))?;
    tidy::run()?;
    let deny = [
        "--workspace",
        "--all-targets",
        "--locked",
        "--quiet",
        "--",
        "-D",
        "warnings",
    ];
    shell::run("clippy", cargo().arg("clippy").args(deny))?;
    border()?;
    features()?;
    fuzz_targets()?;
    docs()?;
    // In a process of its own for the environment: CI soaks the relay for three minutes.
    shell::run(
        "tests",
        cargo()
            .args(["xtask", "test", "--locked"])
            .env("TIDEGATE_SOAK_SECONDS", soak_seconds()),
    )?;
    loom()?;
    windows::run()
}

/// How long CI soaks, unless told otherwise.
fn soak_seconds() -> String {
    std::env::var("TIDEGATE_SOAK_SECONDS").unwrap_or_else(|_| "180".to_owned())
}

/// The core's own `clippy.toml` keeps clocks, threads and sockets out. Clippy reads it only because it lies in the
/// crate's folder; this makes sure it is there and has teeth.
fn border() -> Result<()> {
    let rules = std::fs::read_to_string(root().join("crates/tidegate/clippy.toml"))?;
    for word in [
        "std::time::Instant::now",
        "std::thread::spawn",
        "std::net::TcpStream",
    ] {
        if !rules.contains(word) {
            bail!("crates/tidegate/clippy.toml no longer bans {word}");
        }
    }
    let tree = [
        "tree",
        "--package",
        "tidegate",
        "--edges",
        "normal",
        "--no-default-features",
        "--prefix",
        "none",
    ];
    let needs = output(cargo().args(tree))?;
    let names: Vec<&str> = needs
        .lines()
        .skip(1)
        .filter_map(|line| line.split(' ').next())
        .collect();
    if names != ["bytes"] {
        bail!("the core depends on more than bytes: {names:?}");
    }
    shell::run(
        "clippy on the core",
        cargo().args([
            "clippy",
            "--quiet",
            "--package",
            "tidegate",
            "--",
            "-D",
            "warnings",
        ]),
    )
}

/// Features add and never break: the core and the program with each of theirs alone.
fn features() -> Result<()> {
    for feature in ["", "futures", "tokio", "laws"] {
        only("core", "tidegate", feature)?;
    }
    for feature in ["", "http", "ftp", "maildir", "pb", "tls"] {
        only("program", "tidegate-cli", feature)?;
    }
    Ok(())
}

/// A package with one feature compiles without a warning.
fn only(what: &str, package: &str, feature: &str) -> Result<()> {
    shell::run(
        &format!("{what} with only [{feature}]"),
        cargo()
            .args(["clippy", "--quiet", "--locked", "--package", package])
            .args(["--no-default-features", "--features", feature])
            .args(["--", "-D", "warnings"]),
    )
}

/// The fuzz targets are no part of the workspace and run on a nightly toolchain only; here it is seen that they compile. What they
/// call runs under proptest with the other tests.
fn fuzz_targets() -> Result<()> {
    let folder = root().join("crates/tidegate-ftp/fuzz");
    // The versions of the workspace; only the fuzzer itself is added.
    std::fs::copy(root().join("Cargo.lock"), folder.join("Cargo.lock"))?;
    let mut check = cargo();
    check
        .args(["check", "--quiet", "--bins", "--target-dir"])
        .arg(target());
    check.arg("--manifest-path").arg(folder.join("Cargo.toml"));
    shell::run("fuzz targets", &mut check)
}

fn docs() -> Result<()> {
    let mut doc = cargo();
    doc.args([
        "doc",
        "--workspace",
        "--no-deps",
        "--document-private-items",
        "--locked",
        "--quiet",
    ]);
    shell::run("docs", doc.env("RUSTDOCFLAGS", "-D warnings"))
}

/// The model checks of signal delivery, in a target of their own: the flag would rebuild everything else.
pub(crate) fn loom() -> Result<()> {
    let mut check = cargo();
    check.args([
        "test",
        "--package",
        "tidegate",
        "--test",
        "loom",
        "--release",
        "--locked",
    ]);
    check
        .env("RUSTFLAGS", "--cfg loom")
        .env("CARGO_TARGET_DIR", target().join("loom"));
    shell::run("loom", &mut check)
}
