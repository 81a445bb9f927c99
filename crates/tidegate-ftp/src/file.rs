//! The file consumer: an upload that push and pull producers write to.
//!
//! Knows nothing of connections and replies. (Twisted: `ftp.FileConsumer`, which took push producers only and wrote on
//! the reactor's thread: D87.)

use tidegate::Marks;
use tidegate_io::{SinkConsumer, SinkDriver};

use crate::storage::Upload;

/// A consumer in front of an upload, and the driver to be run, which writes off the runtime's threads. The target is
/// replaced only when the stream was finished and everything is down; the consumer's [`Outcome`](tidegate::Outcome) tells.
pub fn file_consumer(upload: Upload, marks: Marks) -> (SinkConsumer, SinkDriver<Upload>) {
    SinkConsumer::with_driver(upload, marks)
}
