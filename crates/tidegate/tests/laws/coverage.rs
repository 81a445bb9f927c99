//! That no consumer of the crate goes without the suite.
//!
//! Reads the crate's sources for whatever implements the consumer traits, and the files of this test for the suites.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

/// Every type of the crate that is a consumer, and the suites that have it on the near side.
const SUITES: [(&str, &str); 11] = [
    ("Sender", "channel"),
    ("Shared", "channel"),
    (
        "Stage",
        "stage_that_buffers stage_that_relays basic_proxy_suite buffered_proxy pull_proxy",
    ),
    ("Core", "stage_that_buffers stage_that_relays"),
    ("ExactLength", "exact_length"),
    ("Shaper", "shaper"),
    ("Throttled", "throttled"),
    ("ProtocolConsumer", "protocol_consumer adapters_both_ways"),
    ("Link", "loopback_transport answers_of_a_protocol_consumer"),
    ("Relay", "relay"),
    ("Intake", "pull_to_push"),
];

#[test]
fn every_consumer_of_the_crate_runs_the_suite() {
    let consumers = consumers();
    assert!(consumers.len() > 8, "the sources were not found: {consumers:?}");
    let suites: BTreeMap<_, _> = SUITES.into_iter().collect();
    let tests = text_of(Path::new("tests/laws"));
    for consumer in &consumers {
        let names = suites
            .get(&consumer[..])
            .unwrap_or_else(|| panic!("{consumer} runs no law suite"));
        for name in names.split_whitespace() {
            let found = ["(", "\n    "].iter().any(|before| {
                [",", ";"]
                    .iter()
                    .any(|after| tests.contains(&format!("suite!{before}{name}{after}")))
            });
            assert!(found, "no suite is called {name}");
        }
    }
}

fn consumers() -> Vec<String> {
    let mut found = Vec::new();
    for line in text_of(Path::new("src")).lines() {
        let of = ["Consumer for ", "FinishableConsumer for "]
            .iter()
            .find_map(|of| Some((line, line.split_once(*of)?.1)));
        if let Some((line, name)) = of
            && line.starts_with("impl")
        {
            let name = name.split(['<', ' ', '{']).next().unwrap_or_default();
            found.push(name.to_owned());
        }
    }
    found.sort();
    found.dedup();
    found
}

/// All of the folder's Rust, but what stands in documents.
fn text_of(folder: &Path) -> String {
    let mut text = String::new();
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            text += &text_of(&path);
        } else {
            text += &fs::read_to_string(path).unwrap().replace('\r', "");
        }
    }
    text
}
