//! Where an upload is while it is under way, and what becomes of it: its target's place, a part kept for later, nothing.
//!
//! Knows files and names, and no stream.

use std::ffi::OsString;
use std::fs::File;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use cap_std::fs::Dir;
use tidegate_io::as_far_as_folders_sync;
use tidegate_io::endpoint::file::Durability;

use super::Partial;
use crate::storage::StorageError;
use crate::system::sync_directory;

/// What has to be done with the file at the end.
#[derive(Clone, Debug)]
pub(super) enum Place {
    /// Beside the target, under a name nobody knows.
    Beside {
        dir: Arc<Dir>,
        temporary: OsString,
        target: OsString,
        partial_name: OsString,
        partial: Partial,
    },
    /// In the target itself, which was `size` bytes long.
    Within { size: u64 },
}

impl Place {
    /// The stream was cut short.
    pub(super) fn undo(&self, file: &File) {
        match self {
            Self::Within { size } => drop(file.set_len(*size)),
            Self::Beside {
                dir,
                temporary,
                partial_name,
                partial: Partial::Keep,
                ..
            } if file.metadata().is_ok_and(|metadata| metadata.len() > 0) => {
                if dir.rename(temporary, dir, partial_name).is_err() {
                    self.discard();
                }
            }
            Self::Beside { .. } => self.discard(),
        }
    }

    pub(super) fn discard(&self) {
        if let Self::Beside { dir, temporary, .. } = self {
            let _ = dir.remove_file(temporary);
        }
    }
}

/// The stream is complete: the file takes its target's place.
pub(super) fn commit(
    file: &File,
    place: Option<Place>,
    durability: Durability,
    given_up: &AtomicBool,
) -> Result<(), StorageError> {
    if durability == Durability::Synced {
        file.sync_all()?;
    }
    if given_up.load(Ordering::SeqCst) {
        return Err(io::Error::from(io::ErrorKind::Interrupted).into());
    }
    if let Some(Place::Beside {
        dir,
        temporary,
        target,
        partial_name,
        ..
    }) = place
    {
        dir.rename(&temporary, &dir, &target)?;
        // What an earlier attempt left is of no use to anybody now.
        let _ = dir.remove_file(partial_name);
        if durability == Durability::Synced {
            as_far_as_folders_sync(sync_directory(&dir))?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use cap_std::ambient_authority;

    use super::*;

    #[test]
    fn the_directory_of_an_upload_is_synced() {
        let work = tempfile::tempdir().unwrap();
        std::fs::create_dir(work.path().join("below")).unwrap();
        let root = Dir::open_ambient_dir(work.path(), ambient_authority()).unwrap();
        sync_directory(&root).unwrap();
        // As an upload opens it.
        sync_directory(&root.open_dir(".").unwrap()).unwrap();
        sync_directory(&root.open_dir("below").unwrap()).unwrap();
    }
}
