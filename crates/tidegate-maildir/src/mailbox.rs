//! The directories of a mailbox: finding or creating them, syncing them, sweeping what crashed deliveries left.
//!
//! Blocking; knows nothing of messages under way.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use crate::system::{keep_directory_private, sync_directory};
use crate::{Create, Folder, MaildirError};

/// The three directories of a mailbox or subfolder.
#[derive(Clone, Debug)]
pub(crate) struct Mailbox {
    root: PathBuf,
}

impl Mailbox {
    /// Opens the mailbox at `path` (or its subfolder), creating what is missing if that is allowed.
    pub(crate) fn open(path: &Path, folder: Option<&Folder>, create: Create) -> Result<Self, MaildirError> {
        let inbox = Self {
            root: path.to_owned(),
        };
        let Some(folder) = folder else {
            inbox.ensure(create)?;
            return Ok(inbox);
        };
        inbox.ensure(create)?;
        let subfolder = Self {
            root: path.join(folder.directory_name()),
        };
        subfolder.ensure(create)?;
        if create == Create::Missing {
            subfolder.mark_as_folder()?;
        }
        Ok(subfolder)
    }

    pub(crate) fn tmp(&self) -> PathBuf {
        self.root.join("tmp")
    }

    pub(crate) fn new_mail(&self) -> PathBuf {
        self.root.join("new")
    }

    pub(crate) fn cur(&self) -> PathBuf {
        self.root.join("cur")
    }

    fn ensure(&self, create: Create) -> Result<(), MaildirError> {
        let parts = [self.tmp(), self.new_mail(), self.cur()];
        if parts.iter().all(|part| part.is_dir()) {
            return Ok(());
        }
        if create == Create::Never {
            return Err(MaildirError::Missing(self.root.clone()));
        }
        let changing = self.directories_that_gain_an_entry();
        for part in &parts {
            create_private_directory(part).map_err(|error| MaildirError::Open {
                path: part.clone(),
                error,
            })?;
        }
        // A message is durable only if the directories that lead to it are.
        for directory in changing {
            sync_directory(&directory).map_err(|error| MaildirError::Open {
                path: directory,
                error,
            })?;
        }
        Ok(())
    }

    /// The mailbox, and above it every directory up to the first that is there already.
    fn directories_that_gain_an_entry(&self) -> Vec<PathBuf> {
        let mut directories = Vec::new();
        for directory in self.root.ancestors() {
            let here = directory.as_os_str().is_empty();
            directories.push(if here {
                PathBuf::from(".")
            } else {
                directory.to_owned()
            });
            if here || (directory != self.root && directory.is_dir()) {
                break;
            }
        }
        directories
    }

    /// An empty file that tells readers of Maildir++ that this is a folder and not a mailbox of its own.
    fn mark_as_folder(&self) -> Result<(), MaildirError> {
        let path = self.root.join("maildirfolder");
        match fs::OpenOptions::new().write(true).create_new(true).open(&path) {
            Ok(_) => Ok(()),
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
            Err(error) => Err(MaildirError::Open { path, error }),
        }
    }

    /// Removes files of `tmp/` that nobody touched for `age`. Best effort: another delivery may sweep as well.
    pub(crate) fn sweep(&self, age: Duration) {
        let Ok(entries) = fs::read_dir(self.tmp()) else {
            return;
        };
        let now = SystemTime::now();
        for entry in entries.flatten() {
            let stale = entry.metadata().is_ok_and(|meta| {
                let touched = meta
                    .modified()
                    .ok()
                    .and_then(|touched| now.duration_since(touched).ok());
                meta.is_file() && touched.is_some_and(|idle| idle > age)
            });
            if stale && let Err(error) = fs::remove_file(entry.path()) {
                tracing::debug!(%error, path = %entry.path().display(), "a stale file stays in tmp");
            }
        }
    }
}

fn create_private_directory(path: &Path) -> io::Result<()> {
    let mut builder = fs::DirBuilder::new();
    builder.recursive(true);
    keep_directory_private(&mut builder);
    builder.create(path)
}
