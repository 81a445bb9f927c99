//! Calls on files and sockets that each system makes in its own way, on Unix.
//!
//! Knows no streams.

use std::fs::{File, Metadata, OpenOptions};
use std::io;
use std::os::unix::fs::{FileExt, MetadataExt, OpenOptionsExt};
use std::path::Path;

use rustix::fs::{FileType, fstat};
use tempfile::NamedTempFile;
use tokio::net::TcpSocket;

/// Reads at an offset, leaving the file's own alone.
pub(crate) fn read_at(file: &File, space: &mut [u8], offset: u64) -> io::Result<usize> {
    file.read_at(space, offset)
}

/// A new file under a name of the builder's. Opened by us, so that an error does not name a file nobody asked for.
pub(crate) fn new_file_in(builder: &tempfile::Builder<'_, '_>, folder: &Path) -> io::Result<NamedTempFile> {
    let mut options = OpenOptions::new();
    // The mode is what any new file gets: the umask takes away from it.
    options.read(true).write(true).create_new(true).mode(0o666);
    builder.make_in(folder, |path| options.open(path))
}

/// Gives a file the owner that another has.
pub(crate) fn keep_owner(file: &File, found: &Metadata) {
    // Only a privileged user can, and nobody else needs it.
    let _ = std::os::unix::fs::fchown(file, Some(found.uid()), Some(found.gid()));
}

/// Makes the names in a folder durable.
pub(crate) fn sync_folder(folder: &Path) -> io::Result<()> {
    crate::as_far_as_folders_sync(File::open(folder).and_then(|folder| folder.sync_all()))
}

/// The null device throws away what it is given, at once.
pub(crate) fn is_null(file: &File) -> bool {
    fstat(file).is_ok_and(|found| {
        FileType::from_raw_mode(found.st_mode) == FileType::CharacterDevice
            && crate::endpoint::is_null_device(found.st_rdev)
    })
}

/// Lets a port be bound whose last connections are not forgotten yet.
pub(crate) fn allow_rebinding(socket: &TcpSocket) -> io::Result<()> {
    socket.set_reuseaddr(true)
}
