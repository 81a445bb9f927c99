//! The stand-in where the page cache cannot be asked.
//!
//! Knows the shape of `page_cache.rs` and does nothing.

use std::fs::File;
use std::io;

pub(crate) const CAN_BE_ASKED: bool = false;

#[allow(dead_code, reason = "the answers of systems that can be asked")]
pub(crate) enum Cached {
    Read(usize),
    Later,
    Never,
}

pub(crate) fn read(_file: &File, _space: &mut [u8], _offset: u64) -> io::Result<Cached> {
    Ok(Cached::Never)
}

pub(crate) fn will_be_read_in_order(_file: &File) {}

pub(crate) fn start_writing(_file: &File, _from: u64, _to: u64) {}

pub(crate) fn takes_writes_at_once(_file: &File) -> bool {
    false
}
