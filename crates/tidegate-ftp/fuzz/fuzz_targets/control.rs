//! A control connection: `cargo +nightly fuzz run control -- -max_total_time=60` in `crates/tidegate-ftp`.
#![no_main]

#[allow(dead_code, reason = "each target calls one")]
#[path = "../properties.rs"]
mod properties;

libfuzzer_sys::fuzz_target!(|pieces: Vec<Vec<u8>>| properties::control(&pieces));
