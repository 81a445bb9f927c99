//! What is under the root of a served directory: files, listings, places for uploads.
//!
//! Knows names and directory handles, and nothing of how an answer is made. Blocks on the disk.

use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;
use cap_std::fs::{Dir, Permissions};
use http::{HeaderMap, Method, StatusCode};

use crate::listing::{self, Completeness};
use crate::negotiate::Coding;
use crate::open_files::{self, Dress, OpenFile, OpenFiles};
use crate::path::{self, DecodedPath, Shape};
use crate::static_files::{Listings, Precompressed, StaticOptions, Symlinks};
use crate::upload::{self, Durability, Partial};
use crate::validators::{Validators, Verdict};

#[derive(Debug)]
pub(crate) struct Shared {
    pub(crate) root: Dir,
    pub(crate) options: StaticOptions,
    pub(crate) open: OpenFiles,
    /// Held by whoever weighs the preconditions of an upload that is whole, until it is in its place.
    pub(crate) placing: Mutex<()>,
}

/// A PUT without its body.
pub(crate) struct Put {
    pub(crate) path: PathBuf,
    pub(crate) method: Method,
    pub(crate) headers: HeaderMap,
    pub(crate) durability: Durability,
}

/// Whether there was a file before.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Replaced {
    Nothing,
    AFile,
}

/// What a path turned out to be.
pub(crate) enum Found {
    File(Arc<OpenFile>),
    Listing(Bytes),
    /// A directory asked for without its slash.
    NeedsSlash,
    Refused(StatusCode),
}

impl Shared {
    pub(crate) fn look_up(&self, path: &DecodedPath, shown: &str) -> io::Result<Found> {
        if !self.links_allowed(&path.relative)? {
            return Ok(Found::Refused(StatusCode::NOT_FOUND));
        }
        let here = if path.relative.as_os_str().is_empty() {
            Path::new(".")
        } else {
            &path.relative
        };
        if self.root.metadata(here)?.is_dir() {
            return match path.shape {
                Shape::Name => Ok(Found::NeedsSlash),
                Shape::Directory => self.directory(here, shown),
            };
        }
        match path.shape {
            Shape::Name => self.open_file(here).map(Found::File),
            Shape::Directory => Ok(Found::Refused(StatusCode::NOT_FOUND)),
        }
    }

    fn directory(&self, here: &Path, shown: &str) -> io::Result<Found> {
        let index = here.join(&self.options.index);
        match self.open_file(&index) {
            Ok(file) => return Ok(Found::File(file)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(error),
        }
        if self.options.listings == Listings::Hidden {
            return Ok(Found::Refused(StatusCode::FORBIDDEN));
        }
        let mut entries = Vec::new();
        let mut completeness = Completeness::Whole;
        for entry in self.root.read_dir(here)? {
            let entry = entry?;
            let name = entry.file_name().into_encoded_bytes();
            if name.starts_with(path::PARTIAL_PREFIX.as_bytes()) {
                continue;
            }
            if entries.len() == listing::ENTRIES_MAX {
                completeness = Completeness::Cut;
                break;
            }
            // A link that leads out, or one to nothing, is not shown: it could not be opened.
            let Ok(metadata) = self.root.metadata(here.join(entry.file_name())) else {
                continue;
            };
            let size = (!metadata.is_dir()).then(|| metadata.len());
            entries.push(listing::Entry { name, size });
        }
        Ok(Found::Listing(listing::page(shown, entries, completeness).into()))
    }

    fn open(&self, path: &Path) -> io::Result<File> {
        let mut options = cap_std::fs::OpenOptions::new();
        options.read(true);
        // A FIFO must not hold us up: it is refused once it is open.
        crate::system::never_wait(&mut options);
        Ok(self.root.open_with(path, &options)?.into_std())
    }

    fn open_file(&self, path: &Path) -> io::Result<Arc<OpenFile>> {
        let file = self.open(path)?;
        let siblings: Vec<Coding> = match self.options.precompressed {
            Precompressed::Ignored => Vec::new(),
            Precompressed::Served => {
                let there = |coding: &Coding| {
                    self.root
                        .metadata(sibling(path, *coding))
                        .is_ok_and(|found| found.is_file())
                };
                Coding::ALL.into_iter().filter(there).collect()
            }
        };
        OpenFile::new(
            file,
            Dress {
                name: path,
                coding: None,
                siblings: &siblings,
            },
        )
        .map(Arc::new)
    }

    pub(crate) fn open_sibling(&self, path: &DecodedPath, coding: Coding) -> io::Result<Arc<OpenFile>> {
        let plain = match path.shape {
            Shape::Name => path.relative.clone(),
            Shape::Directory => path.relative.join(&self.options.index),
        };
        let path = sibling(&plain, coding);
        if !self.links_allowed(&path)? {
            return Err(io::ErrorKind::NotFound.into());
        }
        let file = self.open(&path)?;
        OpenFile::new(
            file,
            Dress {
                name: &plain,
                coding: Some(coding),
                siblings: &[],
            },
        )
        .map(Arc::new)
    }

    /// Opens a temporary file beside the target, if the preconditions of the request allow it.
    pub(crate) fn open_target(&self, put: &Put) -> io::Result<Result<upload::Target, StatusCode>> {
        let path = &put.path;
        let replaced = match self.weigh(put)? {
            Ok(replaced) => replaced,
            Err(status) => return Ok(Err(status)),
        };
        let (parent, name) = match (path.parent(), path.file_name()) {
            (Some(parent), Some(name)) if parent.as_os_str().is_empty() => (self.root.try_clone()?, name),
            (Some(parent), Some(name)) => (self.root.open_dir(parent)?, name),
            _ => return Ok(Err(StatusCode::CONFLICT)),
        };
        upload::Target::create(parent, name.to_owned(), replaced).map(Ok)
    }

    /// Puts an upload in its place, if the preconditions hold now that it is whole: of two that are weighed against one
    /// version the second to arrive finds another.
    pub(crate) fn place(&self, mut partial: Partial, put: &Put) -> io::Result<Result<Replaced, StatusCode>> {
        partial.sync(put.durability)?;
        let placing = self.placing.lock().unwrap_or_else(PoisonError::into_inner);
        let replaced = match self.weigh(put)? {
            Ok(replaced) => replaced,
            Err(status) => return Ok(Err(status)),
        };
        let what = match replaced {
            Some(_) => Replaced::AFile,
            None => Replaced::Nothing,
        };
        partial.rename(replaced)?;
        drop(placing);
        partial.sync_name(put.durability)?;
        Ok(Ok(what))
    }

    /// The permissions of the file that a PUT is to replace, if there is one, or why it must not. Its content is not looked at,
    /// so it need not be readable.
    fn weigh(&self, put: &Put) -> io::Result<Result<Option<Permissions>, StatusCode>> {
        if !self.links_allowed(&put.path)? {
            return Ok(Err(StatusCode::FORBIDDEN));
        }
        let existing = match self.root.metadata(&put.path) {
            Ok(metadata) if metadata.is_dir() => return Ok(Err(StatusCode::CONFLICT)),
            Ok(metadata) if !metadata.is_file() => return Err(io::ErrorKind::InvalidInput.into()),
            Ok(metadata) => Some(metadata),
            Err(error) if error.kind() == io::ErrorKind::NotFound => None,
            Err(error) => return Err(error),
        };
        let nothing = Validators {
            etag: None,
            modified: None,
        };
        let validators = existing.as_ref().map_or(nothing, open_files::validators);
        Ok(match validators.weigh(&put.method, &put.headers) {
            Verdict::Failed => Err(StatusCode::PRECONDITION_FAILED),
            Verdict::Proceed(_) | Verdict::NotModified => Ok(existing.map(|metadata| metadata.permissions())),
        })
    }

    fn links_allowed(&self, path: &Path) -> io::Result<bool> {
        if self.options.symlinks == Symlinks::WithinRoot {
            return Ok(true);
        }
        let mut so_far = PathBuf::new();
        for part in path.components() {
            so_far.push(part);
            match self.root.symlink_metadata(&so_far) {
                Ok(metadata) if metadata.file_type().is_symlink() => return Ok(false),
                Ok(_) => {}
                Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(true),
                Err(error) => return Err(error),
            }
        }
        Ok(true)
    }
}

fn sibling(path: &Path, coding: Coding) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(coding.suffix());
    name.into()
}
