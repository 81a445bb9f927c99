//! What only Linux does for a server: it limits what a connection holds unsent, and says what of a file is in memory.
//!
//! Knows nothing of HTTP.

use std::fs::File;
use std::io;

use rustix::io::{Errno, ReadWriteFlags, preadv2};
use socket2::SockRef;
use tokio::net::TcpStream;

/// Whether the page cache can be asked. Where it cannot, each part would be a chunk of its own.
pub(crate) const PAGE_CACHE_TELLS: bool = true;

/// Above so many unsent bytes a connection is not writable. Failing leaves the kernel its own limit.
pub(crate) fn limit_unsent(stream: &TcpStream, bytes: u32) {
    let _ = SockRef::from(stream).set_tcp_notsent_lowat(bytes);
}

/// Reads what the page cache has. `WouldBlock`: it has nothing there, or the file system cannot tell.
pub(crate) fn read_now(file: &File, space: &mut [u8], offset: u64) -> io::Result<usize> {
    let mut slices = [io::IoSliceMut::new(space)];
    match preadv2(file, &mut slices, offset, ReadWriteFlags::NOWAIT) {
        Err(Errno::AGAIN | Errno::NOTSUP | Errno::INVAL | Errno::NOSYS) => {
            Err(io::ErrorKind::WouldBlock.into())
        }
        other => Ok(other?),
    }
}
