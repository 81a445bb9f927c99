//! What other Unixes than Linux do with descriptors.
//!
//! Knows the shape of `endpoint/linux.rs`.

use std::io;
use std::os::fd::{OwnedFd, RawFd};

use rustix::fs::{Dev, Mode, OFlags, open};
use rustix::net::SendFlags;
use tokio::io::Interest;

/// What wakes for a peer's end without waking for its bytes.
pub(crate) const PEER_CLOSED: Interest = Interest::ERROR;

/// How to write to a socket whose description others wait on. The signal of a broken one is ignored by Rust's runtime; not all
/// can leave it out.
pub(crate) const SEND_FLAGS: SendFlags = SendFlags::DONTWAIT;

/// A device like others.
pub(crate) fn is_null_device(_device: Dev) -> bool {
    false
}

/// Opening `/dev/fd/N` only copies the descriptor: a thread does the work.
pub(crate) fn reopen(_fd: &OwnedFd, _access: OFlags) -> io::Result<OwnedFd> {
    Err(io::ErrorKind::Unsupported.into())
}

/// Copies a descriptor known only by its number.
pub(crate) fn foreign(number: RawFd) -> io::Result<OwnedFd> {
    let flags = OFlags::RDWR | OFlags::CLOEXEC;
    Ok(open(format!("/dev/fd/{number}"), flags, Mode::empty())?)
}
