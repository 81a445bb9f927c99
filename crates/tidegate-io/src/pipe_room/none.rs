//! The stand-in where pipes have the size they have.
//!
//! Knows the shape of `pipe_room` and does nothing.

use std::os::fd::BorrowedFd;

#[derive(Debug, Default)]
pub(crate) struct Widening;

impl Widening {
    pub(crate) fn carried(&mut self, _pipe: BorrowedFd<'_>, _bytes: u64) {}
}
