//! Files as sources and sinks: reads that do not block the runtime, writes that only show when they are complete.
//!
//! Knows paths and the file system; of a stream's end only what finish and abort mean for a file.
//!
//! A sink writes beside its target and renames on finish. It appends in place, and writes in place to what is no
//! regular file. System calls that may wait for a disk run on the runtime's threads for blocking work; a read that the
//! page cache can serve does not need one, nor a prompt write whose caller asked to do it.
//!
//! The two ends are `file/source.rs` and `file/sink.rs`; `file/output.rs` is what a sink has open and how to take it back,
//! `file/place.rs` where a sink's bytes go first and how they get their name, `file/pieces.rs` the writes.

mod output;
mod pieces;
mod place;
mod sink;
mod source;

use std::io;

use tokio::task::spawn_blocking;

pub use self::sink::FileSink;
pub use self::source::FileSource;
pub use super::prompt::WritesOn;

/// Runs `work` where it may block.
async fn blocking<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> io::Result<T> {
    spawn_blocking(work).await.map_err(io::Error::other)
}

/// What to do with a target that exists already.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub enum Overwrite {
    /// Leave it alone: `ErrorKind::Exists`, also when it appears while the stream runs.
    #[default]
    Refuse,
    /// Replace it when the stream is complete, keeping its permissions.
    Allow,
}

/// Whether a finish waits until the disk has the bytes.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub enum Durability {
    /// Bytes and name survive a power cut once the finish is confirmed.
    #[default]
    Synced,
    /// Left to the system's own pace.
    Cached,
}
