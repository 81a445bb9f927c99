//! A user's files: looked at, listed, opened, renamed and removed, always inside one root.
//!
//! Knows nothing of replies and sessions. Every name is resolved by cap-std relative to an open directory, so that no
//! `..`, no symbolic link and no rename under way leads out. Everything here blocks the disk, not the runtime: the work
//! is done on the blocking pool.

mod error;
mod hash;
mod listing;
#[cfg(unix)]
mod modes;
mod upload;

use std::fs::File;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use cap_std::ambient_authority;
use cap_std::fs::{Dir, Metadata, OpenOptions};

use crate::grammar::{Facts, Kind, VirtualPath};
use crate::system;

pub use error::StorageError;
pub use hash::HashRange;
pub use listing::{HeadEnd, Listing, ListingStyle};
pub use tidegate_io::endpoint::file::Durability;
pub use upload::{Partial, StoreAs, Upload, partial_name};

/// What a user may do with the files.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub enum Access {
    /// Look and fetch.
    #[default]
    ReadOnly,
    /// Everything.
    Writable,
}

/// One root directory and what lies below it.
#[derive(Clone, Debug)]
pub struct Storage {
    dir: Arc<Dir>,
    access: Access,
}

/// A file opened for reading.
#[derive(Debug)]
pub struct Opened {
    /// The file, at its beginning.
    pub file: File,
    /// Bytes in it when it was opened.
    pub size: u64,
}

impl Storage {
    /// Opens `root`. Blocks.
    ///
    /// # Errors
    /// [`StorageError`].
    pub fn open(root: &Path, access: Access) -> Result<Self, StorageError> {
        let dir = Dir::open_ambient_dir(root, ambient_authority())?;
        Ok(Self {
            dir: Arc::new(dir),
            access,
        })
    }

    /// A root below this one.
    ///
    /// # Errors
    /// [`StorageError`].
    pub async fn below(&self, directory: &Path) -> Result<Self, StorageError> {
        if directory.as_os_str().is_empty() {
            return Ok(self.clone());
        }
        let directory = directory.to_owned();
        let dir = self.work(move |dir| Ok(dir.open_dir(directory)?)).await?;
        Ok(Self {
            dir: Arc::new(dir),
            access: self.access,
        })
    }

    /// Whether anything may be changed.
    pub fn access(&self) -> Access {
        self.access
    }

    /// What is known of an entry; links are followed.
    ///
    /// # Errors
    /// [`StorageError`].
    pub async fn facts(&self, path: &VirtualPath) -> Result<Facts, StorageError> {
        let (path, access) = (path.to_relative(), self.access);
        self.work(move |dir| Ok(facts_of(&dir.metadata(path)?, access)))
            .await
    }

    /// Opens a regular file for reading.
    ///
    /// # Errors
    /// [`StorageError`]; what is no regular file is [`StorageError::NotAFile`].
    pub async fn open_file(&self, path: &VirtualPath) -> Result<Opened, StorageError> {
        let path = path.to_relative();
        self.work(move |dir| open_now(dir, &path)).await
    }

    /// Begins to list a directory, or the one entry that `path` names.
    ///
    /// # Errors
    /// [`StorageError`].
    pub async fn list(&self, path: &VirtualPath, style: ListingStyle) -> Result<Listing, StorageError> {
        let (path, access) = (path.clone(), self.access);
        self.work(move |dir| Listing::open(dir, &path, style, access))
            .await
    }

    /// Begins an upload.
    ///
    /// # Errors
    /// [`StorageError`].
    pub async fn upload(
        &self,
        path: &VirtualPath,
        store_as: StoreAs,
        partial: Partial,
        durability: Durability,
    ) -> Result<Upload, StorageError> {
        self.may_write()?;
        let path = path.clone();
        self.work(move |dir| Upload::open(dir, &path, store_as, partial, durability))
            .await
    }

    /// Makes a directory.
    ///
    /// # Errors
    /// [`StorageError`].
    pub async fn make_directory(&self, path: &VirtualPath) -> Result<(), StorageError> {
        self.may_write()?;
        let path = path.to_relative();
        self.work(move |dir| Ok(dir.create_dir(path)?)).await
    }

    /// Removes an empty directory.
    ///
    /// # Errors
    /// [`StorageError`].
    pub async fn remove_directory(&self, path: &VirtualPath) -> Result<(), StorageError> {
        self.may_write()?;
        let path = path.to_relative();
        self.work(move |dir| Ok(dir.remove_dir(path)?)).await
    }

    /// Removes a file, or a link and not what it points to.
    ///
    /// # Errors
    /// [`StorageError`].
    pub async fn remove_file(&self, path: &VirtualPath) -> Result<(), StorageError> {
        self.may_write()?;
        let path = path.to_relative();
        self.work(move |dir| Ok(dir.remove_file(path)?)).await
    }

    /// Whether an entry is there, be it a link that points nowhere.
    ///
    /// # Errors
    /// [`StorageError`].
    pub async fn exists(&self, path: &VirtualPath) -> Result<(), StorageError> {
        let path = path.to_relative();
        self.work(move |dir| Ok(dir.symlink_metadata(path).map(drop)?))
            .await
    }

    /// Gives an entry another name. A file that has the name already is replaced.
    ///
    /// # Errors
    /// [`StorageError`].
    pub async fn rename(&self, from: &VirtualPath, to: &VirtualPath) -> Result<(), StorageError> {
        self.may_write()?;
        if from.is_root() || to.is_root() {
            return Err(StorageError::Denied);
        }
        let (from, to) = (from.to_relative(), to.to_relative());
        self.work(move |dir| Ok(dir.rename(from, dir, to)?)).await
    }

    /// Sets the time of last modification.
    ///
    /// # Errors
    /// [`StorageError`].
    pub async fn set_modified(&self, path: &VirtualPath, unix_seconds: i64) -> Result<(), StorageError> {
        self.may_write()?;
        let path = path.to_relative();
        self.work(move |dir| {
            let time = system_time(unix_seconds).ok_or(StorageError::BadName)?;
            let file = dir.open_with(path, OpenOptions::new().write(true))?.into_std();
            Ok(file.set_modified(time)?)
        })
        .await
    }

    fn may_write(&self) -> Result<(), StorageError> {
        match self.access {
            Access::Writable => Ok(()),
            Access::ReadOnly => Err(StorageError::ReadOnly),
        }
    }

    async fn work<T: Send + 'static>(
        &self,
        job: impl FnOnce(&Dir) -> Result<T, StorageError> + Send + 'static,
    ) -> Result<T, StorageError> {
        let dir = Arc::clone(&self.dir);
        match tokio::task::spawn_blocking(move || job(&dir)).await {
            Ok(result) => result,
            Err(panicked) => Err(StorageError::Io(Arc::new(std::io::Error::other(panicked)))),
        }
    }
}

fn open_now(dir: &Dir, path: &Path) -> Result<Opened, StorageError> {
    let mut options = OpenOptions::new();
    options.read(true);
    system::never_wait(&mut options);
    let file = dir.open_with(path, &options)?.into_std();
    let metadata = file.metadata()?;
    if metadata.is_dir() {
        return Err(StorageError::IsADirectory);
    }
    if !metadata.is_file() {
        return Err(StorageError::NotAFile);
    }
    Ok(Opened {
        file,
        size: metadata.len(),
    })
}

fn facts_of(metadata: &Metadata, access: Access) -> Facts {
    let kind = if metadata.is_file() {
        Kind::File
    } else if metadata.is_dir() {
        Kind::Directory
    } else {
        Kind::Other
    };
    let mut facts = Facts::of(kind);
    facts.size = (kind == Kind::File).then(|| metadata.len());
    facts.modify = metadata
        .modified()
        .ok()
        .and_then(|time| unix_seconds(time.into_std()));
    facts.perm = Some(perm(kind, access).to_owned());
    facts.unix_mode = system::mode(metadata);
    facts.unique = system::unique(metadata);
    facts
}

/// RFC 3659 §7.5.5.
fn perm(kind: Kind, access: Access) -> &'static str {
    match (kind, access) {
        (Kind::File, Access::ReadOnly) => "r",
        (Kind::File, Access::Writable) => "adfrw",
        (Kind::Directory | Kind::Current | Kind::Parent, Access::ReadOnly) => "el",
        (Kind::Directory | Kind::Current | Kind::Parent, Access::Writable) => "cdeflmp",
        (Kind::Other, Access::ReadOnly) => "",
        (Kind::Other, Access::Writable) => "df",
    }
}

fn unix_seconds(time: SystemTime) -> Option<i64> {
    match time.duration_since(SystemTime::UNIX_EPOCH) {
        Ok(after) => i64::try_from(after.as_secs()).ok(),
        Err(before) => i64::try_from(before.duration().as_secs())
            .ok()
            .map(|seconds| -seconds),
    }
}

fn system_time(unix_seconds: i64) -> Option<SystemTime> {
    let distance = Duration::from_secs(unix_seconds.unsigned_abs());
    if unix_seconds < 0 {
        SystemTime::UNIX_EPOCH.checked_sub(distance)
    } else {
        SystemTime::UNIX_EPOCH.checked_add(distance)
    }
}
