//! Calls on files and sockets, and names, that each system makes in its own way, on Windows.
//!
//! Knows nothing of FTP.

use std::ffi::OsString;
use std::fs::File;
use std::io;
use std::os::windows::fs::FileExt;

use cap_std::fs::{Dir, Metadata, OpenOptions};
use tokio::net::{TcpSocket, TcpStream};

/// Whether a name may hold any letter, and be that of any device elsewhere.
pub(crate) const ANY_NAME_GOES: bool = false;

/// A name from the wire as the system has it.
pub fn os_name(name: &[u8]) -> OsString {
    String::from_utf8_lossy(name).into_owned().into()
}

/// Writes at an offset. Moves the file's own, which nobody here goes by.
pub(crate) fn write_at(file: &File, bytes: &[u8], offset: u64) -> io::Result<usize> {
    file.seek_write(bytes, offset)
}

/// No name in a directory leads to what waits when it is opened.
pub(crate) fn never_wait(_options: &mut OpenOptions) {}

/// A directory has nothing to sync.
pub(crate) fn sync_directory(_dir: &Dir) -> io::Result<()> {
    Ok(())
}

/// How many names a file has, as far as is known.
pub(crate) fn links(_metadata: &Metadata) -> u64 {
    1
}

/// There are no permission bits.
pub(crate) fn mode(_metadata: &Metadata) -> Option<u32> {
    None
}

/// Nothing in the metadata tells one file from another.
pub(crate) fn unique(_metadata: &Metadata) -> Option<String> {
    None
}

/// The option for it would let another program take the port over, and it is not needed.
pub(crate) fn allow_rebinding(_socket: &TcpSocket) -> io::Result<()> {
    Ok(())
}

/// Urgent data is left where the system has it.
pub(crate) fn keep_urgent_in_line(_stream: &TcpStream) -> io::Result<()> {
    Ok(())
}
