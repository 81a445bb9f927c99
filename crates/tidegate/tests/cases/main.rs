//! The scenarios of the house, played by a table-driven interpreter over every consumer of the core that they fit.
//!
//! `table.txt` holds the scenarios any consumer can play, in the small language of `script.rs`.
#![allow(clippy::unwrap_used)]

mod coverage;
mod dam;
mod defects;
mod digits;
mod lengths;
mod protocols;
mod proxies;
mod pulls;
mod recorder;
mod rigs;
mod script;
mod shaping;
mod world;

use script::{Case, parse};

const TABLE: &str = include_str!("table.txt");

fn play_all(rig: &str) {
    let mut failures = Vec::new();
    let mut played = 0;
    for case in parse(TABLE).iter().filter(|case| fits(case, rig)) {
        played += 1;
        let outcome = world::play(case, rigs::build(rig, case, length_of(case)));
        if let Err(message) = outcome {
            failures.push(format!("CASES {} on {rig}: {message}", case.numbers.join(" ")));
        }
    }
    assert!(
        failures.is_empty(),
        "{} of {played} fail:\n{}",
        failures.len(),
        failures.join("\n")
    );
    assert!(played > 30, "hardly any scenario fits {rig}");
}

/// What an exact-length consumer has to be told for this case: all that comes out where the stream is finished, else
/// more than ever comes.
fn length_of(case: &Case) -> u64 {
    let finishes = |step: &script::Step| {
        step.expect
            .iter()
            .any(|(name, value)| name == "end" && value == "finished")
    };
    if case.steps.iter().any(finishes) {
        world::play(case, rigs::build("channel", case, 0)).unwrap_or(0)
    } else {
        u64::MAX
    }
}

fn fits(case: &Case, rig: &str) -> bool {
    case.rigs.iter().any(|name| name == rig || name == "all")
}

#[test]
fn the_scenarios_hold_for_the_channel() {
    play_all("channel");
}

#[test]
fn the_scenarios_hold_for_the_buffered_proxy() {
    play_all("proxy");
}

#[test]
fn the_scenarios_hold_for_the_pull_proxy() {
    play_all("pull");
}

#[test]
fn the_scenarios_hold_for_the_shaper() {
    play_all("shaper");
}

#[test]
fn the_scenarios_hold_for_the_exact_length_consumer() {
    play_all("length");
}

#[test]
fn the_scenarios_hold_for_the_throttled_consumer() {
    play_all("throttle");
}

#[test]
fn the_scenarios_hold_for_the_relay() {
    play_all("relay");
}
