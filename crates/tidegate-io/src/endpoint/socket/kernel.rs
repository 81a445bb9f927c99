//! What only Linux says of a socket, or lets one choose: its unsent bytes, its round trip, the size of its queues.
//!
//! Knows nothing of streams: who asks, and why, is a connection's affair.

mod bound;
mod diag;
mod unsent;

use socket2::SockRef;

pub(super) use self::bound::ReceiveBound;
pub(crate) use self::unsent::unsent_bytes;

/// Above so many unsent bytes a connection is not writable. Failing leaves the kernel its own limit.
pub(crate) fn limit_unsent(socket: &SockRef<'_>, bytes: u32) {
    let _ = socket.set_tcp_notsent_lowat(bytes);
}
