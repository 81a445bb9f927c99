//! Names, modes and durability of files as Unix has them.
//!
//! Knows nothing of deliveries.

use std::fs::{DirBuilder, File, OpenOptions};
use std::io;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::Path;

/// What stands between the unique name and `2,FLAGS`.
pub(crate) const INFO_SEPARATOR: char = ':';

/// What is created is its owner's alone.
pub(crate) fn keep_file_private(options: &mut OpenOptions) {
    options.mode(0o600);
}

/// What is created is its owner's alone.
pub(crate) fn keep_directory_private(builder: &mut DirBuilder) {
    builder.mode(0o700);
}

/// Makes the entries of a directory durable.
pub(crate) fn sync_directory(path: &Path) -> io::Result<()> {
    File::open(path)?.sync_all()
}
