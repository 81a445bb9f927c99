//! Bounds how much the kernel receives on a TCP socket before it is read.
//!
//! Knows the receive queue and the way to the peer; not who wants it bounded.

use std::os::fd::AsFd;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::time::Duration;

use socket2::SockRef;

use super::diag;
use crate::RunAhead;

/// Whether the receive queue has a bound of ours, and is the kernel's own no more.
#[derive(Default)]
pub(in crate::endpoint::socket) struct ReceiveBound {
    is_ours: AtomicBool,
}

impl ReceiveBound {
    /// Bounds the kernel's receive queue of a TCP socket, or lets it have all that may be had.
    pub(in crate::endpoint::socket) fn set(&self, socket: &SockRef<'_>, ahead: RunAhead) {
        // The queue of a Unix socket is its sender's.
        let is_unix = socket
            .domain()
            .is_ok_and(|domain| domain == socket2::Domain::UNIX);
        let (Some(most), false) = (receive_bytes_max(), is_unix) else {
            return;
        };
        let bytes = match ahead {
            RunAhead::Free if self.is_ours.load(Relaxed) => most,
            RunAhead::Limited(bytes) if may_be_bounded(socket, most) => bytes.min(most),
            RunAhead::Free | RunAhead::Limited(_) => return,
        };
        if socket.set_recv_buffer_size(bytes).is_ok() {
            self.is_ours.store(true, Relaxed);
        }
    }
}

/// A long way keeps its window: too little of it would be slower than any sink. What can be given back is enough for a short
/// one; where the way is not known, no more is taken than can be given back.
fn may_be_bounded(socket: &SockRef<'_>, most: usize) -> bool {
    match diag::round_trip(socket.as_fd()) {
        Some(time) => time < LONG_WAY,
        // The kernel reports twice what is asked for.
        None => socket.recv_buffer_size().is_ok_and(|has| has <= most * 2),
    }
}

/// The largest receive queue that may be asked for; `None` where that is too little to be worth it. Setting a queue's size
/// ends the kernel's own tuning of it, so it is only done where the size set later is as good: a sender's queue grows to
/// 4 MiB unless its system was told otherwise, and the kernel doubles what is asked for.
fn receive_bytes_max() -> Option<usize> {
    static MOST: OnceLock<Option<usize>> = OnceLock::new();
    *MOST.get_or_init(|| {
        let text = std::fs::read_to_string("/proc/sys/net/core/rmem_max").ok()?;
        let bytes = text.trim().parse::<usize>().ok()?;
        (bytes >= RECEIVE_BYTES_NEEDED).then_some(bytes)
    })
}

/// A round trip from which on the queue is not bounded. Half of what the first bound is for.
const LONG_WAY: Duration = Duration::from_millis(8);

const RECEIVE_BYTES_NEEDED: usize = 4 * 1024 * 1024;
