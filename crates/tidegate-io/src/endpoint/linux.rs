//! What Linux does with descriptors as no other Unix does.
//!
//! Knows no streams.

use std::io;
use std::os::fd::{AsRawFd, OwnedFd, RawFd};

use rustix::fs::{Dev, Mode, OFlags, major, minor, open};
use rustix::net::SendFlags;
use rustix::process::{PidfdFlags, PidfdGetfdFlags, getpid, pidfd_getfd, pidfd_open};
use tokio::io::Interest;

/// What wakes for a peer's end without waking for its bytes.
pub(crate) const PEER_CLOSED: Interest = Interest::PRIORITY;

/// How to write to a socket whose description others wait on.
pub(crate) const SEND_FLAGS: SendFlags = SendFlags::DONTWAIT.union(SendFlags::NOSIGNAL);

/// The null device has fixed numbers. (`null(4)`.)
pub(crate) fn is_null_device(device: Dev) -> bool {
    (major(device), minor(device)) == (1, 3)
}

/// A new description of the same pipe, non-blocking without touching the one we inherited.
pub(crate) fn reopen(fd: &OwnedFd, access: OFlags) -> io::Result<OwnedFd> {
    let path = format!("/proc/self/fd/{}", fd.as_raw_fd());
    let flags = access | OFlags::NONBLOCK | OFlags::CLOEXEC;
    Ok(open(path, flags, Mode::empty())?)
}

/// Copies a descriptor known only by its number, without trusting that it is open.
pub(crate) fn foreign(number: RawFd) -> io::Result<OwnedFd> {
    let own = pidfd_open(getpid(), PidfdFlags::empty())?;
    Ok(pidfd_getfd(own, number, PidfdGetfdFlags::empty())?)
}
