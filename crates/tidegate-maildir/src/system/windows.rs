//! Names, modes and durability of files as Windows has them.
//!
//! Knows nothing of deliveries.

use std::fs::{DirBuilder, OpenOptions};
use std::io;
use std::path::Path;

/// What stands between the unique name and `2,FLAGS`: file names have no colon here.
pub(crate) const INFO_SEPARATOR: char = ';';

/// The directory says who may read what is in it.
pub(crate) fn keep_file_private(_options: &mut OpenOptions) {}

/// The directory above says who may read it.
pub(crate) fn keep_directory_private(_builder: &mut DirBuilder) {}

/// There is no such call: the file systems journal their entries.
pub(crate) fn sync_directory(_path: &Path) -> io::Result<()> {
    Ok(())
}
