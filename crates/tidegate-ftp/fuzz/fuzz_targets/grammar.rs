//! The parsers: `cargo +nightly fuzz run grammar -- -max_total_time=60` in `crates/tidegate-ftp`.
#![no_main]

#[allow(dead_code, reason = "each target calls one")]
#[path = "../properties.rs"]
mod properties;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| properties::grammar(bytes));
