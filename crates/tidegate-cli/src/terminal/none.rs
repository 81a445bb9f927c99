//! The stand-in where a terminal is not asked.
//!
//! Knows the shape of `terminal.rs`.

use std::io::{self, BufRead};

/// The terminal does not tell.
pub(crate) fn columns() -> Option<usize> {
    None
}

/// Reads a line, which is shown.
pub(crate) fn read_unseen(line: &mut String) -> io::Result<usize> {
    io::stdin().lock().read_line(line)
}
