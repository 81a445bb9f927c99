//! Whether source and sink are one file: reading a file into itself has no end, or none that is wanted.
//!
//! Knows what a name leads to, not what it is called.

use tidegate_io::{Blame, EndpointError, ErrorKind};

#[cfg(unix)]
use super::{STDIN, STDOUT};
use crate::address::{Address, Place, Scheme};

/// Refuses a copy of a file into itself.
#[cfg(unix)]
pub(super) fn refuse_same_file(source: &Address, sink: &Address) -> Result<(), EndpointError> {
    let (Some(from), Some(to)) = (identity(source, STDIN), identity(sink, STDOUT)) else {
        return Ok(());
    };
    if from != to {
        return Ok(());
    }
    Err(refused())
}

/// Device and inode of a regular file behind an address.
#[cfg(unix)]
fn identity(address: &Address, dash: &str) -> Option<(u64, u64)> {
    use rustix::fs::{FileType, fstat, stat};
    let found = match (&address.place, address.scheme) {
        (Place::Path(path), Scheme::File) => stat(path),
        (_, Scheme::Stdio) if dash == STDIN => fstat(std::io::stdin()),
        (_, Scheme::Stdio) => fstat(std::io::stdout()),
        _ => return None,
    };
    let found = found.ok()?;
    (FileType::from_raw_mode(found.st_mode) == FileType::RegularFile).then_some((found.st_dev, found.st_ino))
}

#[cfg(not(unix))]
pub(super) fn refuse_same_file(source: &Address, sink: &Address) -> Result<(), EndpointError> {
    // Only files: looking at a pipe's name would be a connection to it.
    let (Scheme::File, Place::Path(from), Scheme::File, Place::Path(to)) =
        (source.scheme, &source.place, sink.scheme, &sink.place)
    else {
        return Ok(());
    };
    match (std::fs::canonicalize(from), std::fs::canonicalize(to)) {
        (Ok(from), Ok(to)) if from == to => Err(refused()),
        _ => Ok(()),
    }
}

fn refused() -> EndpointError {
    EndpointError::new(
        ErrorKind::Exists,
        Blame::Caller,
        "source and sink are the same file",
    )
}
