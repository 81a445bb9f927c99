//! What a client sends, in pieces of any size: the lines are the same as in one piece, bounded, and never a panic.
//!
//! `cargo +nightly fuzz run control -- -max_total_time=60` in `crates/tidegate-ftp`. The same properties run under
//! proptest in the crate's tests.
#![no_main]

use libfuzzer_sys::fuzz_target;
use tidegate_ftp::grammar::{Command, Lines};

const LINE_BYTES_MAX: usize = 40;

fuzz_target!(|pieces: Vec<Vec<u8>>| {
    let mut whole = Lines::new(LINE_BYTES_MAX);
    whole.push(&pieces.concat());
    let expected: Vec<_> = std::iter::from_fn(|| whole.next_line()).collect();
    let mut lines = Lines::new(LINE_BYTES_MAX);
    let mut seen = Vec::new();
    for piece in &pieces {
        lines.push(piece);
        seen.extend(std::iter::from_fn(|| lines.next_line()));
        assert!(lines.held_bytes() <= LINE_BYTES_MAX + 1);
    }
    assert_eq!(seen, expected);
    for line in seen.into_iter().flatten() {
        let _ = Command::parse(&line);
    }
});
