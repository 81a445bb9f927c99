//! `cargo xtask bench`: Tidegate beside the tools people use and beside the kernel's own bound, in the same run.
//!
//! Writes `docs/benchmarks.md`. Judges nothing and fails no CI.

mod bulk;
mod connections;
mod core;
mod ftp;
mod ftp_servers;
mod long_link;
mod peers;
mod rig;
mod table;
mod web;

use std::fmt::Write;
use std::process::Command;
use std::time::Instant;

use anyhow::{Result, bail};

use crate::shell::{find, output, root};
use table::Table;

/// A row of the document.
struct Bench {
    name: &'static str,
    what: &'static str,
    /// What it took on two cores, once everything is built: as it is, and with `--quick`.
    seconds: [u32; 2],
    run: fn() -> Result<Table>,
}

const fn bench(
    name: &'static str,
    what: &'static str,
    seconds: [u32; 2],
    run: fn() -> Result<Table>,
) -> Bench {
    Bench {
        name,
        what,
        seconds,
        run,
    }
}

const BENCHES: &[Bench] = &[
    bench("relay", "a long stream, TCP to TCP", [220, 35], bulk::relay),
    bench("file-tcp", "a cached file to TCP", [180, 35], bulk::file_to_tcp),
    bench("tcp-file", "TCP to a file", [60, 12], bulk::tcp_to_file),
    bench(
        "tcp-file-sync",
        "TCP to a file that is on the disk at the end",
        [40, 8],
        bulk::tcp_to_synced_file,
    ),
    bench("file-file", "a file to a file", [60, 15], bulk::file_to_file),
    bench(
        "pipeline",
        "standard input to output, fed by splice",
        [90, 20],
        bulk::pipeline,
    ),
    bench("head", "the same, fed by head -c", [60, 10], bulk::headed),
    bench("idle", "memory of idle connections", [60, 60], connections::idle),
    bench("echo", "latency of small messages", [155, 85], connections::echo),
    bench(
        "accept",
        "accepting and dialling 9,900 connections",
        [75, 75],
        connections::accept,
    ),
    bench(
        "overshoot",
        "how far a source runs ahead of a slow reader",
        [180, 75],
        connections::overshoot,
    ),
    bench(
        "long-link",
        "throughput over 100 ms, in network namespaces",
        [330, 75],
        long_link::long_link,
    ),
    bench("http", "small files over HTTP", [180, 110], web::small),
    bench(
        "http-big",
        "a large file down and up over HTTP",
        [200, 140],
        web::big,
    ),
    bench("ftp", "a large file down and up over FTP", [90, 20], ftp::bulk),
    bench("core", "a chunk in process", [20, 20], core::chunks),
];

/// The chore: all benches, or those named; with `--quick` over fewer and shorter rounds.
pub(crate) fn run(words: &[String]) -> Result<()> {
    let (flags, names): (Vec<&String>, Vec<&String>) = words.iter().partition(|word| word.starts_with('-'));
    match flags.as_slice() {
        [] => {}
        [flag] if *flag == "--quick" => rig::be_quick(),
        [flag] if *flag == "--build" => return build(),
        [flag] if *flag == "--help" => {
            print!("{}", help());
            return Ok(());
        }
        other => bail!("no option {other:?}; there are --quick, --build and --help"),
    }
    if let Some(unknown) = names
        .iter()
        .find(|name| !BENCHES.iter().any(|bench| bench.name == name.as_str()))
    {
        bail!("no bench {unknown}; there are:\n{}", help());
    }
    let wanted = |bench: &&Bench| names.is_empty() || names.iter().any(|given| *given == bench.name);
    if names.iter().any(|name| *name != "core") || names.is_empty() {
        crate::peers::ensure_bench()?;
        rig::build()?;
    }
    for bench in BENCHES.iter().filter(wanted) {
        println!("== bench {}", bench.name);
        let start = Instant::now();
        // Each is written at once: what a later one does is no reason to lose it.
        match (bench.run)() {
            Ok(table) => write(bench.name, &table)?,
            Err(error) => println!("SKIPPED: bench {}: {error:#}", bench.name),
        }
        println!("== bench {}: {:.0} s", bench.name, start.elapsed().as_secs_f64());
    }
    Ok(())
}

/// Installs and builds all that the rows need and measures nothing: a build beside a measurement, or within its time, spoils it.
fn build() -> Result<()> {
    crate::peers::ensure_bench()?;
    rig::build()?;
    core::build()?;
    ftp_servers::build_libunftp();
    Ok(())
}

fn help() -> String {
    let mut text = String::from(
        "cargo xtask bench [--quick] [NAME…]; --build only builds what the rows need.\n\
         Seconds on two cores once all is built, and with --quick:\n\n",
    );
    for Bench {
        name, what, seconds, ..
    } in BENCHES
    {
        let _ = writeln!(text, "  {name:13} {:4} {:4}  {what}", seconds[0], seconds[1]);
    }
    text.push_str(
        "\nTIDEGATE_BENCH_ROUNDS and TIDEGATE_BENCH_BYTES set the rounds and the bytes of a bulk transfer.\n",
    );
    text
}

/// Puts a section into the document in place of its last one.
fn write(name: &str, table: &Table) -> Result<()> {
    let path = root().join("docs/benchmarks.md");
    let text = std::fs::read_to_string(&path).unwrap_or_default();
    let section = table.markdown();
    let (open, close) = (format!("<!-- {name} -->\n"), format!("<!-- /{name} -->\n"));
    let block = format!("{open}{section}\n{}\n{close}", machine(table.rounds())?);
    let text = match (text.find(&open), text.find(&close)) {
        (Some(from), Some(to)) if from < to => {
            format!("{}{block}{}", &text[..from], &text[to + close.len()..])
        }
        _ => format!("{text}\n{block}"),
    };
    println!("{section}");
    std::fs::create_dir_all(root().join("docs"))?;
    std::fs::write(path, text)?;
    Ok(())
}

/// One line on what the figures were taken on.
fn machine(rounds: usize) -> Result<String> {
    let mut line = String::from("Taken ");
    let first = |program: &str, args: &[&str]| {
        let text = find(program).and_then(|path| output(Command::new(path).args(args)).ok())?;
        text.lines().next().map(str::to_owned)
    };
    let _ = write!(
        line,
        "{}",
        first("date", &["-u", "+%Y-%m-%d"]).unwrap_or_default()
    );
    let cores = std::thread::available_parallelism().map_or(0, usize::from);
    let kernel = first("uname", &["-r"]).unwrap_or_default();
    let _ = write!(
        line,
        " on {cores} cores, Linux {}",
        kernel.split('-').next().unwrap_or_default()
    );
    for (program, flag) in [("socat", "-V"), ("pv", "-V"), ("haproxy", "-v"), ("cargo", "-V")] {
        let text = find(program).and_then(|path| output(Command::new(path).arg(flag)).ok());
        if let Some(version) = text.as_deref().and_then(version) {
            let _ = write!(line, "; {program} {version}");
        }
    }
    let _ = write!(line, "; medians of {rounds} interleaved rounds.");
    Ok(line)
}

/// The first word of what a program says of itself that looks like a version.
fn version(text: &str) -> Option<&str> {
    text.split_whitespace()
        .find(|word| word.starts_with(|first: char| first.is_ascii_digit()) && word.contains('.'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_version_is_what_looks_like_one() {
        let socat = "socat by Gerhard Rieger and contributors - see www.dest-unreach.org\nsocat version 1.7.4.4 on 06 Nov 2022";
        assert_eq!(version(socat), Some("1.7.4.4"));
        assert_eq!(version("pv 1.6.20 - Copyright 2021"), Some("1.6.20"));
        assert_eq!(version("nothing of the kind"), None);
    }
}
