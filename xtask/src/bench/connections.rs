//! Figures of many connections: memory of idle ones, latency of small messages, the time to accept and dial, and how far
//! a fast source runs ahead of a slow reader.
//!
//! Knows how to drive each with `bench_load`; the relays are elsewhere.

use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result};

use super::peers::{Relay, crowd, relays};
use super::rig::{self, Guard};
use super::table::Table;

const LIMIT: Duration = Duration::from_secs(180);

fn load(words: &[&str]) -> Result<Guard> {
    Guard::start(Command::new(rig::load()).args(words).stdout(Stdio::piped()))
}

/// Connections that come and go before memory is looked at: what a relay has once (code, arenas, spare buffers) is no
/// connection's.
const WARM: &str = "50";

/// A relay in front of an echo server, with the ports told to the load.
fn behind<T>(relay: &Relay, work: impl FnOnce(&Guard, &str) -> Result<T>) -> Result<T> {
    let (listen, to) = (rig::free_port()?, rig::free_port()?);
    let echo = load(&["echo", &to.to_string()])?;
    rig::listening(to)?;
    let guard = relay.start(listen, to)?;
    let done = work(&guard, &listen.to_string());
    drop(echo);
    done
}

/// KiB per idle relayed connection that has moved a byte each way.
pub(crate) fn idle() -> Result<Table> {
    let mut table = Table::new(
        "memory of an idle relayed connection",
        &["KiB at 1,000", "KiB at 9,900"],
        "KiB at 1,000",
    );
    for relay in &crowd() {
        let figures = behind(relay, |guard, listen| {
            load(&["open", listen, WARM])?.output(LIMIT)?;
            std::thread::sleep(Duration::from_secs(1));
            let base = rig::resident_kib(&guard.tree());
            let mut figures = Vec::new();
            for count in [1_000u32, 9_900] {
                let mut held = load(&["hold", listen, &count.to_string()])?;
                held_ready(&mut held, count)?;
                let used = rig::resident_kib(&guard.tree()).saturating_sub(base);
                figures.push(used as f64 / f64::from(count));
                drop(held);
                std::thread::sleep(Duration::from_secs(1));
            }
            Ok(figures)
        });
        table.add_or_tell(relay.name, figures);
    }
    Ok(table)
}

/// Waits until the load says that all connections are up: it writes a file, its output being read only at its end.
fn held_ready(held: &mut Guard, count: u32) -> Result<()> {
    let pid = *held.tree().first().context("no load")?;
    let flag = rig::scratch()?.join(format!("held-{pid}"));
    let deadline = Instant::now() + LIMIT;
    while !flag.exists() {
        anyhow::ensure!(
            Instant::now() < deadline && !held.has_ended(),
            "{count} connections did not come up"
        );
        std::thread::sleep(Duration::from_millis(20));
    }
    std::thread::sleep(Duration::from_secs(1));
    std::fs::remove_file(flag)?;
    Ok(())
}

/// Each round begins with the next relay: who comes first meets another machine than who comes last.
fn in_turn(rounds: usize, mut measure: impl FnMut(&Relay)) {
    let mut relays = crowd();
    for _ in 0..rounds {
        relays.iter().for_each(&mut measure);
        relays.rotate_left(1);
    }
}

/// Messages a second of the echo.
const ECHO_RATE: &str = "2000";

/// Microseconds of a 64-byte echo over 1,000 connections at 2,000 messages a second in all, and of the relay's processor
/// time for each. Many short rounds: what else happens to the machine spoils some of them, and their median little.
pub(crate) fn echo() -> Result<Table> {
    let mut table = Table::new(
        "echo, 1,000 connections, 2,000 msg/s, µs",
        &["p50", "p99", "relay's CPU"],
        "p50",
    );
    in_turn(rig::rounds_or(9, 5), |relay| {
        let figures = behind(relay, |guard, listen| {
            let load = load(&["echo-load", listen, "1000", ECHO_RATE, "1"])?;
            // Once all connections are up, and while each of them sends.
            std::thread::sleep(Duration::from_millis(600));
            let load_on_relay = busy(guard, Duration::from_millis(700));
            let mut figures = numbers(&load.output(LIMIT)?)?;
            figures.push(load_on_relay * 1e6 / ECHO_RATE.parse::<f64>()?);
            Ok(figures)
        });
        table.add_or_tell(relay.name, figures);
    });
    Ok(table)
}

/// Processor seconds that a relay uses in a second.
fn busy(guard: &Guard, over: Duration) -> f64 {
    let tree = guard.tree();
    let (before, since) = (rig::run_seconds(&tree), Instant::now());
    std::thread::sleep(over);
    (rig::run_seconds(&tree) - before) / since.elapsed().as_secs_f64()
}

/// Seconds to open 9,900 connections through the relay, each answered by one byte from behind it.
pub(crate) fn accept() -> Result<Table> {
    let mut table = Table::new(
        "accepting and dialling 9,900 connections",
        &["seconds"],
        "seconds",
    );
    in_turn(rig::rounds().min(3), |relay| {
        let figures = behind(relay, |_, listen| {
            let text = load(&["open", listen, "9900"])?.output(LIMIT)?;
            numbers(&text)
        });
        table.add_or_tell(relay.name, figures);
        std::thread::sleep(Duration::from_secs(1));
    });
    Ok(table)
}

/// MiB that a fast source got rid of beyond what a 10 MiB/s reader had read, over the later half of three seconds, and what
/// the relay's memory grew by meanwhile.
pub(crate) fn overshoot() -> Result<Table> {
    let mut table = Table::new(
        "fast source, 10 MiB/s reader: MiB run ahead",
        &["mean", "most", "KiB the relay grew by"],
        "mean",
    );
    for _ in 0..rig::rounds_or(5, 2) {
        for relay in &relays() {
            let (listen, to) = (rig::free_port()?, rig::free_port()?);
            let figures = relay.start(listen, to).and_then(|guard| {
                let before = rig::resident_kib(&guard.tree());
                let load = run_ahead(to, listen)?;
                std::thread::sleep(Duration::from_millis(2500));
                let grown = rig::resident_kib(&guard.tree()).saturating_sub(before);
                let [mean, most] = ahead(load)?;
                Ok([mean, most, grown as f64])
            });
            table.add_or_tell(relay.name, figures);
        }
        let port = rig::free_port()?;
        let direct = run_ahead(port, port).and_then(ahead);
        table.add_or_tell(
            "no relay at all",
            direct.map(|[mean, most]| [mean, most, f64::NAN]),
        );
    }
    Ok(table.over("no relay at all"))
}

fn run_ahead(port: u16, via: u16) -> Result<Guard> {
    load(&["run-ahead", &port.to_string(), &via.to_string(), "10485760", "3"])
}

fn ahead(load: Guard) -> Result<[f64; 2]> {
    let figures = numbers(&load.output(LIMIT)?)?;
    let mib = |at: usize| {
        figures
            .get(at)
            .map(|bytes| bytes / 1_048_576.0)
            .context("no figure")
    };
    Ok([mib(0)?, mib(1)?])
}

pub(super) fn numbers(text: &str) -> Result<Vec<f64>> {
    text.split_whitespace()
        .map(|word| {
            word.parse::<f64>()
                .with_context(|| format!("not a figure: {word}"))
        })
        .collect()
}
