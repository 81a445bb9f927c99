//! What a sink has open, and how to make it look as if nothing had been written.
//!
//! Knows nothing of how the bytes get there, nor how they get their name.

use std::fs::File;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};

use tempfile::TempPath;

use super::Overwrite;
use crate::AfterAbort;
use crate::endpoint::write_back::WriteBack;
use crate::system::is_null;

/// An open file, and how to make it look as if nothing had been written. The last owner undoes: a write that is still
/// under way on a thread cannot come after.
#[derive(Debug)]
pub(super) struct Output {
    pub(super) file: Arc<File>,
    pub(super) regular: bool,
    /// A write cannot wait for anything: it needs no thread that may.
    pub(super) never_waits: bool,
    undo: Mutex<Undo>,
}

#[derive(Debug)]
pub(super) enum Undo {
    /// Written in place: nothing can be taken back.
    Nothing,
    /// The same in a file of this name, which may be as new as its content.
    Stays(PathBuf),
    /// Appended to: cut back to the old length.
    CutTo(u64),
    /// Not there before: dropping the path removes the file.
    Remove(TempPath),
    /// As `Remove`, and a finish renames it.
    Beside {
        temp: TempPath,
        target: PathBuf,
        overwrite: Overwrite,
    },
}

impl Output {
    pub(super) fn new(file: File, regular: bool, undo: Undo) -> Self {
        Self {
            never_waits: !regular && is_null(&file),
            file: Arc::new(file),
            regular,
            undo: Mutex::new(undo),
        }
    }

    /// What follows the writes, where a sync at the end is worth preparing for.
    pub(super) fn write_back(&self) -> Option<WriteBack> {
        let length = self.file.metadata().ok().filter(|_| self.regular)?.len();
        Some(WriteBack::new(Arc::clone(&self.file), length))
    }

    pub(super) fn after_abort(&self) -> AfterAbort {
        let undo = self.undo.lock().unwrap_or_else(PoisonError::into_inner);
        match *undo {
            Undo::Nothing | Undo::Stays(_) => AfterAbort::Stays,
            Undo::CutTo(_) | Undo::Remove(_) | Undo::Beside { .. } => AfterAbort::TakenBack,
        }
    }

    pub(super) fn keep(&self) -> Undo {
        let mut undo = self.undo.lock().unwrap_or_else(PoisonError::into_inner);
        std::mem::replace(&mut undo, Undo::Nothing)
    }
}

impl Drop for Output {
    fn drop(&mut self) {
        match self.keep() {
            Undo::CutTo(length) => {
                let _ = self.file.set_len(length);
            }
            Undo::Nothing | Undo::Stays(_) => {}
            Undo::Remove(temp) | Undo::Beside { temp, .. } => drop(temp),
        }
    }
}
