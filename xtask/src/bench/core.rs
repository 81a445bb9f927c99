//! What a chunk costs in process: runs the core's own benches and reads what criterion found. Knows its names of them.

use std::fs;
use std::path::Path;

use anyhow::{Context, Result};

use super::table::Table;
use crate::shell::{cargo, run, target};

/// Chunks that go through in one iteration of `crates/tidegate/benches/core.rs`.
const CHUNKS: f64 = 10_000.0;

const ROWS: &[(&str, &str)] = &[
    ("push", "tidegate, pushed"),
    ("pull", "tidegate, pulled"),
    ("paced", "tidegate, as a Sink"),
    ("tokio_mpsc", "tokio mpsc"),
    ("futures_mpsc", "futures mpsc"),
    ("duplex", "tokio duplex"),
];

fn cargo_bench(more: &[&str]) -> Result<()> {
    let words = ["bench", "--locked", "--package", "tidegate", "--bench", "core"];
    run("bench core", cargo().args(words).args(more))
}

pub(super) fn build() -> Result<()> {
    cargo_bench(&["--no-run"])
}

pub(super) fn chunks() -> Result<Table> {
    cargo_bench(&[])?;
    let mut table = Table::new("a 1 KiB chunk in process", &["ns"], "ns").over("tokio mpsc");
    let found = target().join("criterion/1_kib_chunks");
    for (bench, name) in ROWS {
        let nanoseconds = median(&found.join(bench).join("new/estimates.json"));
        table.add_or_tell(name, nanoseconds.map(|all| [all / CHUNKS]));
    }
    Ok(table)
}

/// Nanoseconds of one iteration.
fn median(estimates: &Path) -> Result<f64> {
    let text = fs::read_to_string(estimates).with_context(|| estimates.display().to_string())?;
    let estimates: serde_json::Value = serde_json::from_str(&text)?;
    let median = estimates.pointer("/median/point_estimate");
    median
        .and_then(serde_json::Value::as_f64)
        .context("criterion names no median")
}
