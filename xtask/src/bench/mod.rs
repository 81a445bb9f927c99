//! `cargo xtask bench`: Tidegate beside the tools people use and beside the kernel's own bound, in the same run.
//!
//! Writes `docs/benchmarks.md`. Judges nothing and fails no CI.

mod bulk;
mod connections;
mod ftp;
mod ftp_servers;
mod peers;
mod rig;
mod table;
mod web;

use std::fmt::Write;
use std::process::Command;

use anyhow::{Result, bail};

use crate::shell::{self, cargo, find, output, root};
use table::Table;

type Bench = (&'static str, fn() -> Result<Table>);

const BENCHES: &[Bench] = &[
    ("relay", bulk::relay),
    ("file-tcp", bulk::file_to_tcp),
    ("tcp-file", bulk::tcp_to_file),
    ("file-file", bulk::file_to_file),
    ("pipeline", bulk::pipeline),
    ("head", bulk::headed),
    ("idle", connections::idle),
    ("echo", connections::echo),
    ("accept", connections::accept),
    ("overshoot", connections::overshoot),
    ("http", web::small),
    ("http-big", web::big),
    ("ftp", ftp::bulk),
];

/// The chore: all benches, or those named; with `--quick` over fewer and shorter rounds.
pub(crate) fn run(words: &[String]) -> Result<()> {
    let (flags, names): (Vec<&String>, Vec<&String>) = words.iter().partition(|word| word.starts_with('-'));
    match flags.as_slice() {
        [] => {}
        [flag] if *flag == "--quick" => rig::be_quick(),
        other => bail!("no option {other:?}; there is --quick"),
    }
    if let Some(unknown) = names
        .iter()
        .find(|name| name.as_str() != "core" && !BENCHES.iter().any(|bench| bench.0 == name.as_str()))
    {
        let known: Vec<&str> = BENCHES.iter().map(|bench| bench.0).chain(["core"]).collect();
        bail!("no bench {unknown}; there are: {}", known.join(" "));
    }
    let wanted = |name: &str| names.is_empty() || names.iter().any(|given| *given == name);
    if wanted("core") {
        shell::run(
            "bench core",
            cargo().args(["bench", "--locked", "--package", "tidegate", "--bench", "core"]),
        )?;
    }
    if names.len() == 1 && wanted("core") {
        return Ok(());
    }
    crate::peers::ensure_bench()?;
    rig::build()?;
    let mut sections = Vec::new();
    for (name, bench) in BENCHES.iter().filter(|bench| wanted(bench.0)) {
        println!("== bench {name}");
        match bench() {
            Ok(table) => sections.push((*name, table.markdown())),
            Err(error) => println!("bench {name}: {error:#}"),
        }
    }
    write(&sections)
}

/// Puts each section into the document in place of its last one.
fn write(sections: &[(&str, String)]) -> Result<()> {
    let path = root().join("docs/benchmarks.md");
    let mut text = std::fs::read_to_string(&path).unwrap_or_default();
    for (name, section) in sections {
        let (open, close) = (format!("<!-- {name} -->\n"), format!("<!-- /{name} -->\n"));
        let block = format!("{open}{}\n{}\n{close}", section, machine()?);
        text = match (text.find(&open), text.find(&close)) {
            (Some(from), Some(to)) if from < to => {
                format!("{}{block}{}", &text[..from], &text[to + close.len()..])
            }
            _ => format!("{text}\n{block}"),
        };
        println!("{section}");
    }
    std::fs::create_dir_all(root().join("docs"))?;
    std::fs::write(path, text)?;
    Ok(())
}

/// One line on what the figures were taken on.
fn machine() -> Result<String> {
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
    let _ = write!(
        line,
        " on {cores} cores, Linux {}",
        first("uname", &["-r"]).unwrap_or_default()
    );
    let versions = [("socat", "-V"), ("pv", "-V"), ("haproxy", "-v"), ("cargo", "-V")];
    for (program, flag) in versions {
        if let Some(version) = first(program, &[flag]).or_else(|| version_line(program, flag)) {
            let _ = write!(line, "; {}", version.trim());
        }
    }
    let _ = write!(line, "; medians of {} interleaved rounds.", rig::rounds());
    Ok(line)
}

/// Some programs put their version on a later line.
fn version_line(program: &str, flag: &str) -> Option<String> {
    let text = output(Command::new(find(program)?).arg(flag)).ok()?;
    text.lines()
        .find(|line| line.contains("version"))
        .map(str::to_owned)
}
