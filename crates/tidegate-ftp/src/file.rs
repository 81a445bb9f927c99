//! The file consumer: an upload that push and pull producers write to.
//!
//! Knows nothing of connections and replies. (Twisted: `ftp.FileConsumer`, which took push producers only and wrote on
//! the reactor's thread: D87.)

use std::time::Duration;

use tidegate::{Marks, Sender};

use crate::consume::{Drain, consume};
use crate::storage::Upload;

/// A consumer in front of an upload, and what drains it off the runtime's threads. The target is replaced only when the
/// stream was finished and everything is down; the [`Outcome`](tidegate::Outcome) of the sender tells.
///
/// A file system that takes nothing for `stall` does not count as stalled while a write is under way.
pub fn file_consumer(upload: Upload, marks: Marks, stall: Duration) -> (Sender, Drain<Upload>) {
    consume(upload, marks, stall)
}
