//! Calls on files and sockets that each system makes in its own way, on Windows.
//!
//! Knows no streams.

use std::fs::{File, Metadata};
use std::io;
use std::os::windows::fs::FileExt;
use std::path::Path;

use tempfile::NamedTempFile;
use tokio::net::TcpSocket;

/// Reads at an offset. Moves the file's own, which nobody here goes by.
pub(crate) fn read_at(file: &File, space: &mut [u8], offset: u64) -> io::Result<usize> {
    file.seek_read(space, offset)
}

/// A new file under a name of the builder's.
pub(crate) fn new_file_in(builder: &tempfile::Builder<'_, '_>, folder: &Path) -> io::Result<NamedTempFile> {
    builder.tempfile_in(folder)
}

/// The folder says who owns what is in it.
pub(crate) fn keep_owner(_file: &File, _found: &Metadata) {}

/// There is no such call: the file system journals its names.
pub(crate) fn sync_folder(_folder: &Path) -> io::Result<()> {
    Ok(())
}

/// A device like others.
pub(crate) fn is_null(_file: &File) -> bool {
    false
}

/// The option for it would let another program take the port over, and it is not needed.
pub(crate) fn allow_rebinding(_socket: &TcpSocket) -> io::Result<()> {
    Ok(())
}
