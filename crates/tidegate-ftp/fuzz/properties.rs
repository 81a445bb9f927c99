//! What must hold for any bytes a peer sends: the bodies of the fuzz targets, and of `tests/fuzz.rs`.
//!
//! Knows no fuzzer: libFuzzer calls these functions on a nightly toolchain, proptest on every other.

use std::path::Component;

use tidegate_ftp::client::FtpUrl;
use tidegate_ftp::grammar::{Command, Facts, Lines, Replies, VirtualPath, address, time};

const LINE_BYTES_MAX: usize = 40;

/// What a client sends, in pieces of any size: the lines are the same as in one piece, bounded, and never a panic.
pub(crate) fn control(pieces: &[Vec<u8>]) {
    let mut whole = Lines::new(LINE_BYTES_MAX);
    whole.push(&pieces.concat());
    let expected: Vec<_> = std::iter::from_fn(|| whole.next_line()).collect();
    let mut lines = Lines::new(LINE_BYTES_MAX);
    let mut seen = Vec::new();
    for piece in pieces {
        lines.push(piece);
        seen.extend(std::iter::from_fn(|| lines.next_line()));
        assert!(lines.held_bytes() <= LINE_BYTES_MAX + 1);
    }
    assert_eq!(seen, expected);
    for line in seen.into_iter().flatten() {
        let _ = Command::parse(&line);
    }
}

/// Replies, addresses, facts, times, paths and URLs: no bytes make a parser panic, and no path leaves the root.
pub(crate) fn grammar(bytes: &[u8]) {
    let mut replies = Replies::default();
    replies.push(bytes);
    while let Some(Ok(reply)) = replies.next_reply() {
        assert!((100..600).contains(&reply.code));
    }
    let _ = address::parse_port(bytes);
    let _ = address::parse_eprt(bytes);
    let _ = address::parse_epsv(bytes);
    let _ = address::parse_passive_text(bytes);
    let _ = address::parse_extended_passive_text(bytes);
    let _ = Facts::parse(bytes);
    if let Some(seconds) = time::parse_timestamp(bytes) {
        assert_eq!(
            time::parse_timestamp(time::format_timestamp(seconds).as_bytes()),
            Some(seconds)
        );
    }
    if let Ok(path) = VirtualPath::root().resolve(bytes, 4096) {
        let relative = path.to_relative();
        let is_plain = |part| matches!(part, Component::Normal(_) | Component::CurDir);
        assert!(relative.components().all(is_plain));
        assert_eq!(VirtualPath::root().resolve(&path.to_bytes(), 4096), Ok(path));
    }
    if let Ok(text) = std::str::from_utf8(bytes)
        && let Ok(url) = text.parse::<FtpUrl>()
    {
        assert_eq!(
            url.to_string().parse::<FtpUrl>().map(|again| again.path),
            Ok(url.path)
        );
    }
}
