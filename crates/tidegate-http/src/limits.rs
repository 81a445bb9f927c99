//! What a server allows one client, each limit with its default and the reason for it.
//!
//! Knows nothing of how they are enforced: hyper enforces some, the guard under it and the bodies above it the others.

use std::time::Duration;

use tidegate::Marks;

/// The limits of a server. Every field has a default; start from [`Limits::default`].
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub struct Limits {
    /// Bytes of one request head. 32 KiB: nginx takes 4 × 8 KiB, Apache 8 KiB a line; cookies rarely pass 16 KiB.
    pub header_bytes_max: usize,
    /// Header lines. 100, as in hyper and Apache.
    pub headers_max: usize,
    /// From the first byte waited for to the end of a head; also how long an idle connection is kept. 30 s: slow enough
    /// for a bad mobile link, too short for a slowloris to be cheap. nginx has 60 s, Apache 20 s.
    pub header_timeout: Duration,
    /// The TLS handshake. 10 s: two round trips and a slow handset.
    pub handshake_timeout: Duration,
    /// Bytes of one request body. 64 GiB: the disk is the real limit, this one stops an endless stream.
    pub body_bytes_max: u64,
    /// How long a peer may take no byte that waits for it, or send none that is waited for. 60 s, as nginx.
    pub stall_timeout: Duration,
    /// Connections served at a time; more wait in the kernel's backlog. 4,096: under the usual limit of open files with
    /// room for one file each being raised by the administrator.
    pub connections_max: usize,
    /// Requests at a time on one HTTP/2 connection. 100, the least RFC 9113 recommends.
    pub streams_max: u32,
    /// How long a drain waits for requests under way while nothing moves (HTTP/2: nothing of a body). 30 s, the grace most
    /// supervisors give; progress starts it anew.
    pub drain_timeout: Duration,
    /// Bytes hyper may hold of one connection in each direction. 256 KiB: one vectored write of sixteen frames.
    pub wire_bytes_max: usize,
    /// Bytes the kernel may take of one connection before it can send them, where it can be told (Linux). 256 KiB: left to
    /// itself it takes megabytes for each client that stalls, and resets healthy connections when its memory is used up.
    pub unsent_bytes_max: u32,
    /// HTTP/2: bytes hyper may hold of one stream it sends. 64 KiB: four frames.
    pub stream_bytes_max: usize,
    /// HTTP/2: what a client may send ahead of us on one stream. 256 KiB: a window that fills 100 Mbit/s at 20 ms.
    pub stream_window_bytes: u32,
    /// HTTP/2: the same over all streams of a connection. 1 MiB.
    pub connection_window_bytes: u32,
    /// The marks of each response that is produced piece by piece.
    pub marks: Marks,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            header_bytes_max: 32 * 1024,
            headers_max: 100,
            header_timeout: Duration::from_secs(30),
            handshake_timeout: Duration::from_secs(10),
            body_bytes_max: 64 << 30,
            stall_timeout: Duration::from_secs(60),
            connections_max: 4096,
            streams_max: 100,
            drain_timeout: Duration::from_secs(30),
            wire_bytes_max: 256 * 1024,
            unsent_bytes_max: 256 * 1024,
            stream_bytes_max: 64 * 1024,
            stream_window_bytes: 256 * 1024,
            connection_window_bytes: 1024 * 1024,
            marks: Marks::default(),
        }
    }
}
