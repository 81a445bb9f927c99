//! Replies, addresses, facts, times, paths and URLs: no bytes make a parser panic, and no path leaves the root.
//!
//! `cargo +nightly fuzz run grammar -- -max_total_time=60` in `crates/tidegate-ftp`. The same properties run under
//! proptest in the crate's tests.
#![no_main]

use libfuzzer_sys::fuzz_target;
use tidegate_ftp::client::FtpUrl;
use tidegate_ftp::grammar::{Facts, Replies, VirtualPath, address, time};

fuzz_target!(|bytes: &[u8]| {
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
        assert_eq!(time::parse_timestamp(time::format_timestamp(seconds).as_bytes()), Some(seconds));
    }
    if let Ok(path) = VirtualPath::root().resolve(bytes, 4096) {
        let relative = path.to_relative();
        let is_plain = |part| matches!(part, std::path::Component::Normal(_) | std::path::Component::CurDir);
        assert!(relative.components().all(is_plain));
        assert_eq!(VirtualPath::root().resolve(&path.to_bytes(), 4096), Ok(path));
    }
    if let Ok(text) = std::str::from_utf8(bytes)
        && let Ok(url) = text.parse::<FtpUrl>()
    {
        assert_eq!(url.to_string().parse::<FtpUrl>().map(|again| again.path), Ok(url.path));
    }
});
