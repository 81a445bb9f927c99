//! The first bytes of a connection: which protocol it speaks.
//!
//! Knows nothing of what follows them.

use std::time::Duration;

use bytes::Bytes;
use tokio::io::{AsyncRead, AsyncReadExt};

/// The first bytes of an HTTP/2 connection. (RFC 9113, section 3.4.)
const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

pub(crate) enum Opening {
    One(Bytes),
    Two(Bytes),
}

/// Reads until it is clear which protocol this is. `None`: the client went away, or sent nothing for too long.
///
/// hyper-util's `auto` server does the same without a deadline, so that a silent connection would stay for ever.
pub(crate) async fn read_opening(io: &mut (impl AsyncRead + Unpin), limit: Duration) -> Option<Opening> {
    let reading = async {
        let mut ahead = Vec::with_capacity(1024);
        loop {
            if io.read_buf(&mut ahead).await.ok()? == 0 {
                return None;
            }
            let same = ahead.len().min(PREFACE.len());
            if ahead[..same] != PREFACE[..same] {
                return Some(Opening::One(ahead.into()));
            }
            if same == PREFACE.len() {
                return Some(Opening::Two(ahead.into()));
            }
        }
    };
    tokio::time::timeout(limit, reading).await.ok().flatten()
}
