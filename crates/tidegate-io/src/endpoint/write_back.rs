//! Starts the way of written bytes to the disk early, so that a finish that waits for the disk has little left to wait
//! for.
//!
//! Knows a file and how far it was written; nothing of streams. Waits for nothing and reports nothing: what a disk cannot
//! take is told by the sync that follows.

use std::fs::File;
use std::sync::Arc;

use tokio::task::JoinHandle;

use crate::page_cache;

/// Started this much at a time: enough to be worth a hop to a thread, little enough to leave a short tail.
const STEP_BYTES: u64 = 16 * 1024 * 1024;

/// Follows the writes to one file.
#[derive(Debug)]
pub(super) struct WriteBack {
    file: Arc<File>,
    started: u64,
    written: u64,
    /// At most one at a time: a disk slower than the source makes the next step larger, not the queue longer.
    step: Option<JoinHandle<()>>,
}

impl WriteBack {
    /// Follows writes from `offset` on.
    pub(super) fn new(file: Arc<File>, offset: u64) -> Self {
        Self {
            file,
            started: offset,
            written: offset,
            step: None,
        }
    }

    /// So many more bytes are in the file.
    pub(super) fn wrote(&mut self, bytes: u64) {
        self.written += bytes;
        let busy = self.step.as_ref().is_some_and(|step| !step.is_finished());
        if busy || self.written - self.started < STEP_BYTES {
            return;
        }
        let (file, from, to) = (Arc::clone(&self.file), self.started, self.written);
        self.started = to;
        self.step = Some(tokio::task::spawn_blocking(move || {
            page_cache::start_writing(&file, from, to);
        }));
    }
}

#[cfg(all(test, unix))]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::os::unix::fs::FileExt;

    use super::*;

    #[tokio::test]
    async fn steps_begin_when_there_is_enough_and_cover_everything_once() {
        let file = Arc::new(tempfile::tempfile().unwrap());
        let bytes = vec![7; 1024 * 1024];
        let mut write_back = WriteBack::new(Arc::clone(&file), 0);
        for round in 0..40_u64 {
            file.write_all_at(&bytes, round << 20).unwrap();
            write_back.wrote(1 << 20);
            assert!(write_back.started <= write_back.written);
            if let Some(step) = write_back.step.take() {
                step.await.unwrap();
            }
            assert!(
                write_back.written - write_back.started < STEP_BYTES,
                "round {round}"
            );
        }
        assert_eq!(write_back.started, 32 << 20);
        let mut read = vec![0; bytes.len()];
        for round in 0..40_u64 {
            file.read_exact_at(&mut read, round << 20).unwrap();
            assert!(read == bytes, "round {round}");
        }
    }
}
