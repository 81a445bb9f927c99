//! Calls on files and sockets, and names, that each system makes in its own way, on Unix.
//!
//! Knows nothing of FTP.

use std::ffi::OsString;
use std::fs::File;
use std::io;
use std::os::unix::ffi::OsStringExt;
use std::os::unix::fs::FileExt;

use cap_std::fs::{Dir, Metadata, MetadataExt, OpenOptions, OpenOptionsExt};
use tokio::net::{TcpSocket, TcpStream};

/// Whether a name may hold any letter, and be that of any device elsewhere.
pub(crate) const ANY_NAME_GOES: bool = true;

/// A name from the wire as the system has it.
pub fn os_name(name: &[u8]) -> OsString {
    OsString::from_vec(name.to_vec())
}

/// Writes at an offset, leaving the file's own alone.
pub(crate) fn write_at(file: &File, bytes: &[u8], offset: u64) -> io::Result<usize> {
    file.write_at(bytes, offset)
}

/// Opening a FIFO would wait for its writer for ever.
pub(crate) fn never_wait(options: &mut OpenOptions) {
    options.custom_flags(rustix::fs::OFlags::NONBLOCK.bits() as i32);
}

/// Opens the directory once more: a handle to walk with (`O_PATH`) syncs nothing.
pub(crate) fn sync_directory(dir: &Dir) -> io::Result<()> {
    dir.open(".")?.sync_all()
}

/// How many names a file has.
pub(crate) fn links(metadata: &Metadata) -> u64 {
    metadata.nlink()
}

/// The permission bits, where the system has any.
pub(crate) fn mode(metadata: &Metadata) -> Option<u32> {
    Some(metadata.mode() & 0o7777)
}

/// What is the same for every name of one file, and for no other file.
pub(crate) fn unique(metadata: &Metadata) -> Option<String> {
    Some(format!("{:x}g{:x}", metadata.dev(), metadata.ino()))
}

/// Lets a port be bound whose last connections are not forgotten yet.
pub(crate) fn allow_rebinding(socket: &TcpSocket) -> io::Result<()> {
    socket.set_reuseaddr(true)
}

/// Clients send the end of ABOR as urgent data; without this the system would take that byte out of the line.
pub(crate) fn keep_urgent_in_line(stream: &TcpStream) -> io::Result<()> {
    socket2::SockRef::from(stream).set_out_of_band_inline(true)
}
