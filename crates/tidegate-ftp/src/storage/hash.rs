//! The SHA-256 of a file or of a part of it, computed off the runtime.
//!
//! Refuses to know which command asked.

use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use sha2::{Digest, Sha256};

use super::{Opened, StorageError};

const PIECE_BYTES: usize = 128 * 1024;

/// From where to where a hash goes, in bytes; `end` is not included.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct HashRange {
    /// The first byte.
    pub start: u64,
    /// One past the last.
    pub end: u64,
}

struct Cancel(Arc<AtomicBool>);

impl Drop for Cancel {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

impl Opened {
    /// The SHA-256 of `range` as lower-case hex.
    ///
    /// # Errors
    /// [`StorageError`]; a file that ends before the range does is [`StorageError::PastEnd`]: a read error is never
    /// taken for the end.
    ///
    /// # Cancel safety
    /// Dropping the future ends the work after the piece under way.
    pub async fn sha256(self, range: HashRange) -> Result<String, StorageError> {
        let cancelled = Arc::new(AtomicBool::new(false));
        let cancel = Cancel(Arc::clone(&cancelled));
        let job = tokio::task::spawn_blocking(move || sha256_now(self.file, range, &cancelled));
        let result = job.await;
        drop(cancel);
        result.unwrap_or_else(|panicked| Err(std::io::Error::other(panicked).into()))
    }
}

fn sha256_now(mut file: File, range: HashRange, cancelled: &AtomicBool) -> Result<String, StorageError> {
    file.seek(SeekFrom::Start(range.start))?;
    let mut left = range.end.saturating_sub(range.start);
    let mut piece = vec![0; PIECE_BYTES];
    let mut hash = Sha256::new();
    while left > 0 {
        if cancelled.load(Ordering::Relaxed) {
            return Err(std::io::Error::from(std::io::ErrorKind::Interrupted).into());
        }
        let want = usize::try_from(left).unwrap_or(PIECE_BYTES).min(PIECE_BYTES);
        match file.read(&mut piece[..want]) {
            Ok(0) => {
                return Err(StorageError::PastEnd {
                    size: range.end - left,
                });
            }
            Ok(got) => {
                hash.update(&piece[..got]);
                left -= got as u64;
            }
            Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error.into()),
        }
    }
    Ok(hash.finalize().iter().map(|byte| format!("{byte:02x}")).collect())
}
