//! How an upload begins: beside its target, in what an earlier attempt left, or at the end of the target itself.
//!
//! Knows files and names, and no stream.

use std::ffi::OsString;
use std::fs::File;
use std::io::{self, Read};
use std::sync::Arc;

use cap_std::fs::{Dir, OpenOptions};

use super::names::{hidden_name, partial_name, random_suffix};
use super::place::Place;
use super::{Partial, StoreAs};
use crate::grammar::VirtualPath;
use crate::grammar::path::os_name;
use crate::storage::StorageError;

/// The file, where its next byte goes, and its place.
pub(super) type Opened = (File, u64, Place);

/// Opens what an upload of `path` writes into.
pub(super) fn open(
    root: &Dir,
    path: &VirtualPath,
    store_as: StoreAs,
    partial: Partial,
) -> Result<Opened, StorageError> {
    let name = path.name().ok_or(StorageError::IsADirectory)?;
    let dir = Arc::new(root.open_dir(path.parent().to_relative())?);
    let target = os_name(name);
    let standing = match dir.metadata(&target) {
        Ok(metadata) if metadata.is_dir() => return Err(StorageError::IsADirectory),
        Ok(metadata) if !metadata.is_file() => return Err(StorageError::NotAFile),
        Ok(metadata) => Some(metadata),
        Err(error) if error.kind() == io::ErrorKind::NotFound => None,
        Err(error) => return Err(error.into()),
    };
    let mut opening = Opening {
        dir,
        name: name.to_vec(),
        partial,
    };
    let standing_size = standing.as_ref().map(cap_std::fs::Metadata::len);
    let (file, offset, place) = match (store_as, standing_size) {
        (StoreAs::New | StoreAs::From(0), _) => opening.fresh()?,
        (StoreAs::From(offset), size) => opening.resume(offset, size)?,
        (StoreAs::Append, Some(size)) => opening.within(size)?,
        (StoreAs::Append, None) => opening.append_to_partial()?,
    };
    if let (Some(standing), Place::Beside { .. }) = (standing, &place) {
        // The new content keeps the old one's permissions; a file system without them is no reason to fail.
        let _ = file.set_permissions(standing.permissions().into_std(&file)?);
    }
    Ok((file, offset, place))
}

struct Opening {
    dir: Arc<Dir>,
    name: Vec<u8>,
    partial: Partial,
}

impl Opening {
    fn fresh(&mut self) -> Result<Opened, StorageError> {
        let (file, place) = self.beside()?;
        Ok((file, 0, place))
    }

    fn resume(&mut self, offset: u64, standing_size: Option<u64>) -> Result<Opened, StorageError> {
        if let Some((file, size, place)) = self.claim_partial()? {
            if offset <= size {
                file.set_len(offset)?;
                return Ok((file, offset, place));
            }
            // Not ours to shorten: it goes back under its name.
            place.undo(&file);
            return Err(StorageError::PastEnd { size });
        }
        let size = standing_size.ok_or(StorageError::NotFound)?;
        if offset > size {
            return Err(StorageError::PastEnd { size });
        }
        let standing = self.dir.open(os_name(&self.name))?.into_std();
        let (mut file, place) = self.beside()?;
        match io::copy(&mut standing.take(offset), &mut file) {
            Ok(copied) if copied == offset => Ok((file, offset, place)),
            Ok(copied) => {
                place.discard();
                Err(StorageError::PastEnd { size: copied })
            }
            Err(error) => {
                place.discard();
                Err(error.into())
            }
        }
    }

    fn append_to_partial(&mut self) -> Result<Opened, StorageError> {
        match self.claim_partial()? {
            Some(claimed) => Ok(claimed),
            None => self.fresh(),
        }
    }

    fn within(&mut self, size: u64) -> Result<Opened, StorageError> {
        let file = self
            .dir
            .open_with(os_name(&self.name), OpenOptions::new().write(true))?;
        Ok((file.into_std(), size, Place::Within { size }))
    }

    /// A rename takes what was left for ourselves: two clients that resume at once do not write into one file.
    fn claim_partial(&mut self) -> Result<Option<Opened>, StorageError> {
        let partial = os_name(&partial_name(&self.name));
        let temporary = os_name(&hidden_name(&self.name, &random_suffix()));
        match self.dir.rename(&partial, &self.dir, &temporary) {
            Ok(()) => {}
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(error.into()),
        }
        let file = self
            .dir
            .open_with(&temporary, OpenOptions::new().write(true))?
            .into_std();
        let size = file.metadata()?.len();
        // Whoever resumes wants to be able to resume again.
        let place = self.place(temporary, Partial::Keep);
        Ok(Some((file, size, place)))
    }

    fn beside(&mut self) -> Result<(File, Place), StorageError> {
        loop {
            let temporary = os_name(&hidden_name(&self.name, &random_suffix()));
            let mut options = OpenOptions::new();
            options.write(true).create_new(true);
            match self.dir.open_with(&temporary, &options) {
                Ok(file) => return Ok((file.into_std(), self.place(temporary, self.partial))),
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
                Err(error) => return Err(error.into()),
            }
        }
    }

    fn place(&self, temporary: OsString, partial: Partial) -> Place {
        Place::Beside {
            dir: Arc::clone(&self.dir),
            temporary,
            target: os_name(&self.name),
            partial_name: os_name(&partial_name(&self.name)),
            partial,
        }
    }
}
