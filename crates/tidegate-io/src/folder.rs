//! How far the entry of a file in its folder can be made durable.
//!
//! Knows nothing of what the file is for.

use std::io;

/// What the sync of a folder came to, for a file that is complete and in place: a folder that cannot be synced at all does
/// not make that a failure. Some file systems cannot, and a folder that may be written may still not be read.
///
/// # Errors
/// Those of a disk that fails.
pub fn as_far_as_folders_sync(synced: io::Result<()>) -> io::Result<()> {
    use io::ErrorKind::{InvalidInput, PermissionDenied, Unsupported};
    match synced {
        Err(error) if matches!(error.kind(), InvalidInput | PermissionDenied | Unsupported) => {
            tracing::debug!(%error, "a folder cannot be synced");
            Ok(())
        }
        synced => synced,
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn a_folder_that_cannot_be_synced_is_no_failure_and_a_disk_that_fails_is() {
        use io::ErrorKind::{InvalidInput, PermissionDenied, StorageFull, Unsupported};
        for kind in [InvalidInput, PermissionDenied, Unsupported] {
            as_far_as_folders_sync(Err(kind.into())).unwrap();
        }
        as_far_as_folders_sync(Ok(())).unwrap();
        let failed = as_far_as_folders_sync(Err(StorageFull.into()));
        assert_eq!(failed.unwrap_err().kind(), StorageFull);
    }
}
