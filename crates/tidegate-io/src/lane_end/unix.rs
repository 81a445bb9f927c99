//! The handles lanes work on: descriptors.
//!
//! Knows nothing of what is behind one.

use std::os::fd::{AsFd, BorrowedFd};

/// A handle that a lane may use: a descriptor. Systems without lanes have none.
pub type LaneFd<'a> = BorrowedFd<'a>;

/// The handle of what owns one; `None` on systems without lanes.
#[inline]
pub fn lane_fd<T: AsFd>(owner: &T) -> Option<LaneFd<'_>> {
    Some(owner.as_fd())
}
