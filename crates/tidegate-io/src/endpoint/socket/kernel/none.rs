//! The stand-in where the system says nothing of a socket's queues.
//!
//! Knows the shape of `socket/kernel.rs` and does nothing.

use socket2::SockRef;

use crate::RunAhead;

/// A receive queue that the system alone sizes.
#[derive(Default)]
pub(crate) struct ReceiveBound {}

impl ReceiveBound {
    pub(crate) fn set(&self, _socket: &SockRef<'_>, _ahead: RunAhead) {}
}

/// Nobody can tell.
pub(crate) fn unsent_bytes(_socket: &SockRef<'_>) -> Option<u64> {
    None
}

/// There is no such limit.
pub(crate) fn limit_unsent(_socket: &SockRef<'_>, _bytes: u32) {}
