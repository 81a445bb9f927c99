//! Where a sink's bytes go first, and how they get their name: beside the target and renamed, or in place.
//!
//! Knows paths, links and the disk's promises; nothing of how bytes are written. Everything here may wait for a disk.

use std::ffi::OsStr;
use std::fs::OpenOptions;
use std::io;
use std::path::{Path, PathBuf};

use tempfile::TempPath;

use super::output::{Output, Undo};
use super::{Durability, Overwrite};
use crate::system::{keep_owner, new_file_in, sync_folder};
use crate::{Blame, Confirmation, EndpointError, ErrorKind};

/// As many links as the kernel follows.
const LINKS_MAX: usize = 40;

pub(super) fn create(path: &Path, overwrite: Overwrite) -> io::Result<Output> {
    let found = match std::fs::metadata(path) {
        Ok(found) => Some(found),
        Err(error) if error.kind() == io::ErrorKind::NotFound => None,
        Err(error) => return Err(error),
    };
    match &found {
        Some(found) if found.is_dir() => return Err(io::ErrorKind::IsADirectory.into()),
        Some(found) if !found.is_file() => {
            let file = OpenOptions::new().write(true).open(path)?;
            return Ok(Output::new(file, false, Undo::Nothing));
        }
        Some(_) if overwrite == Overwrite::Refuse => return Err(io::ErrorKind::AlreadyExists.into()),
        _ => {}
    }
    // A link to a file keeps pointing at it: what it points at is replaced.
    let target = match &found {
        Some(_) => std::fs::canonicalize(path)?,
        None => through_links(path)?,
    };
    if target.file_name().is_none() {
        return Err(io::ErrorKind::InvalidInput.into());
    }
    let (file, temp) = beside(&target)?.into_parts();
    if let Some(found) = &found {
        keep_owner(&file, found);
        file.set_permissions(found.permissions())?;
    }
    let undo = Undo::Beside {
        temp,
        target,
        overwrite,
    };
    Ok(Output::new(file, true, undo))
}

/// Where a link that leads to nothing points: there the file appears, as with a shell's `>`.
fn through_links(path: &Path) -> io::Result<PathBuf> {
    let mut target = path.to_owned();
    for _ in 0..LINKS_MAX {
        match std::fs::read_link(&target) {
            Ok(next) => target = target.parent().unwrap_or(Path::new("")).join(next),
            Err(_) => return Ok(target),
        }
    }
    Err(io::Error::other("too many links"))
}

/// A new file in the target's folder, so that a rename stays inside one file system.
fn beside(target: &Path) -> io::Result<tempfile::NamedTempFile> {
    let mut builder = tempfile::Builder::new();
    builder
        .prefix(OsStr::new(".tidegate-"))
        .suffix(OsStr::new(".part"));
    new_file_in(&builder, folder_of(target))
}

fn folder_of(file: &Path) -> &Path {
    match file.parent() {
        Some(folder) if folder != Path::new("") => folder,
        _ => Path::new("."),
    }
}

/// What becomes of what was appended when the stream is cut short.
#[derive(Clone, Copy, Debug)]
pub(super) enum CutShort {
    TakenBack,
    Stays,
}

pub(super) fn append(path: &Path, cut_short: CutShort) -> io::Result<Output> {
    let existed = path.exists();
    let file = OpenOptions::new().append(true).create(true).open(path)?;
    let metadata = file.metadata()?;
    if metadata.is_dir() {
        return Err(io::ErrorKind::IsADirectory.into());
    }
    if !metadata.is_file() {
        return Ok(Output::new(file, false, Undo::Nothing));
    }
    let undo = match cut_short {
        // Where a link leads to, as its folder is the one that holds the name.
        CutShort::Stays => Undo::Stays(std::fs::canonicalize(path).unwrap_or_else(|_| path.to_owned())),
        CutShort::TakenBack if existed => Undo::CutTo(metadata.len()),
        CutShort::TakenBack => Undo::Remove(TempPath::try_from_path(std::path::absolute(path)?)?),
    };
    Ok(Output::new(file, true, undo))
}

pub(super) fn finish(
    output: &Output,
    name: &str,
    durability: Durability,
) -> Result<Confirmation, EndpointError> {
    let failed = |error| EndpointError::io(format!("cannot complete {name}"), error);
    if !output.regular {
        return Ok(Confirmation::Sent);
    }
    if durability == Durability::Synced {
        output.file.sync_all().map_err(failed)?;
    }
    let named = match output.keep() {
        Undo::Beside {
            temp,
            target,
            overwrite,
        } => {
            match overwrite {
                Overwrite::Allow => temp.persist(&target),
                Overwrite::Refuse => temp.persist_noclobber(&target),
            }
            .map_err(|error| not_in_place(name, error.error))?;
            Some(target)
        }
        // The file is complete: the guard that would remove it is taken off.
        Undo::Remove(temp) => Some(temp.keep().map_err(|error| failed(error.error))?),
        Undo::Stays(path) => Some(path),
        Undo::CutTo(_) | Undo::Nothing => None,
    };
    if let Some(path) = named
        && durability == Durability::Synced
    {
        sync_folder(folder_of(&path)).map_err(failed)?;
    }
    Ok(Confirmation::Confirmed)
}

fn not_in_place(name: &str, error: io::Error) -> EndpointError {
    if error.kind() == io::ErrorKind::AlreadyExists {
        let what = format!("{name} appeared meanwhile and is not to be overwritten");
        return EndpointError::new(ErrorKind::Exists, Blame::Caller, what);
    }
    EndpointError::io(format!("cannot complete {name}"), error)
}
