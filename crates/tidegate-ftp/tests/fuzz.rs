//! The fuzz targets' own functions under proptest, for a bounded time: no nightly toolchain is needed for that.
//!
//! Seconds a target: `TIDEGATE_FUZZ_SECONDS`, 2 unless told otherwise.
#![allow(clippy::unwrap_used)]

#[path = "../fuzz/properties.rs"]
mod properties;

use std::time::{Duration, Instant};

use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};

/// Runs a property until the time is over, and once at least.
fn for_a_while<S: Strategy>(strategy: &S, property: impl Fn(S::Value)) {
    let seconds = std::env::var("TIDEGATE_FUZZ_SECONDS")
        .ok()
        .map_or(2, |text| text.parse().unwrap());
    let until = Instant::now() + Duration::from_secs(seconds);
    let mut runner = TestRunner::new(Config::with_cases(500));
    loop {
        runner
            .run(strategy, |value| {
                property(value);
                Ok(())
            })
            .unwrap();
        if Instant::now() >= until {
            return;
        }
    }
}

/// Bytes at random, and what looks like FTP, so that the parsers are entered and not only refuse.
fn bytes() -> impl Strategy<Value = Vec<u8>> {
    let words = prop_oneof![
        "(USER|PASS|STOR|RETR|REST|PORT|EPRT|EPSV|MLST|OPTS|TYPE|AUTH|PROT|MFMT) [ -~]{0,30}\r\n",
        "[1-6][0-9]{2}[ -][ -~]{0,20}\r\n",
        "\\|[12]\\|[0-9a-f:.]{0,20}\\|[0-9]{0,6}\\|",
        "([0-9]{1,3},){5}[0-9]{1,3}",
        "(type|size|modify|perm)=[a-z0-9.]{0,16};[ -~]{0,16}",
        "[0-9]{14}(\\.[0-9]{1,3})?",
        "(/|\\.\\.|\\.|[ -~]{1,8}){0,8}",
        "ftps?://([a-z]{1,4}(:[a-z]{1,4})?@)?[a-z0-9.:\\[\\]]{1,12}(/[ -~]{0,12})?",
    ];
    let words = prop::collection::vec(words, 0..4).prop_map(|words| words.concat().into_bytes());
    prop_oneof![prop::collection::vec(any::<u8>(), 0..300), words]
}

#[test]
fn control() {
    let pieces = prop::collection::vec(bytes(), 0..12);
    for_a_while(&pieces, |pieces| properties::control(&pieces));
}

#[test]
fn grammar() {
    for_a_while(&bytes(), |bytes| properties::grammar(&bytes));
}

/// No property is left to only one of the two, and every target is a file that calls one.
#[test]
fn every_target_is_here() {
    let fuzz = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz");
    let read = |name: &str| std::fs::read_to_string(fuzz.join(name)).unwrap();
    let properties = read("properties.rs");
    let here = include_str!("fuzz.rs");
    let functions = properties
        .lines()
        .filter_map(|line| line.strip_prefix("pub(crate) fn ")?.split('(').next());
    let mut count = 0;
    for name in functions {
        let call = format!("properties::{name}(");
        assert!(read(&format!("fuzz_targets/{name}.rs")).contains(&call), "{name}");
        assert!(here.contains(&call), "{name} is not run under proptest");
        count += 1;
    }
    assert_eq!(
        count,
        std::fs::read_dir(fuzz.join("fuzz_targets")).unwrap().count()
    );
}
