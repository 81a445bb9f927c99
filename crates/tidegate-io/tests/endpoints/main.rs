//! The endpoints over real descriptors, real processes and real peers.
#![cfg(unix)]
#![allow(clippy::unwrap_used)]

mod above;
mod blocking;
mod cases;
mod coverage;
mod coverage_windows;
#[path = "../../../tidegate/tests/cases/digits.rs"]
mod digits;
mod hangups;
mod harness;
mod laws;
mod pipes;
mod process;
mod process_alike;
mod producers;
#[path = "../../../tidegate/tests/cases/recorder.rs"]
mod recorder;
mod scenarios;
#[path = "../../../tidegate/tests/cases/script.rs"]
mod script;
mod socat;
mod support;
#[cfg(feature = "tls")]
mod tls;
#[cfg(feature = "tls")]
mod tls_below;
mod transport;
mod twisted;
#[path = "../../../tidegate/tests/cases/world.rs"]
mod world;

/// Every scheme of the program's own list of addresses has its place in the table of endpoints.
#[test]
fn the_table_of_endpoints_lists_every_address() {
    let docs = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs");
    let addresses = std::fs::read_to_string(docs.join("addresses.md")).unwrap();
    let endpoints = std::fs::read_to_string(docs.join("endpoints.md")).unwrap();
    let rows = addresses.lines().filter_map(|line| line.strip_prefix("| `"));
    let schemes: std::collections::BTreeSet<_> = rows
        .filter_map(|row| row.split('`').next()?.split_once(':'))
        .map(|(scheme, _)| scheme.rsplit(' ').next().unwrap_or(scheme))
        .collect();
    assert!(schemes.len() > 10, "{schemes:?}");
    for scheme in schemes {
        assert!(
            endpoints.contains(&format!("`{scheme}:`")),
            "docs/endpoints.md does not list {scheme}:"
        );
    }
}
