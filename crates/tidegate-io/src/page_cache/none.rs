//! The stand-in where the page cache cannot be asked.
//!
//! Knows the shape of `page_cache.rs` and does nothing.

use std::fs::File;
use std::io;

/// Whether the page cache can be asked at all.
pub const CAN_BE_ASKED: bool = false;

/// What came of asking the page cache.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Cached {
    /// So many bytes, or the end of the file.
    Read(usize),
    /// It has nothing there now: a thread must wait for the disk.
    Later,
    /// This file cannot be read so.
    Never,
}

/// Reads nothing.
///
/// # Errors
/// None here.
pub fn read(_file: &File, _space: &mut [u8], _offset: u64) -> io::Result<Cached> {
    Ok(Cached::Never)
}

pub(crate) fn will_be_read_in_order(_file: &File) {}

pub(crate) fn start_writing(_file: &File, _from: u64, _to: u64) {}

pub(crate) fn takes_writes_at_once(_file: &File) -> bool {
    false
}
