//! What Linux tells of its page cache, and is told: reads that it can serve at once, writes that are to start early.
//!
//! Knows open files and offsets; nothing of streams.

use std::fs::File;
use std::io;
use std::num::NonZeroU64;
use std::os::fd::AsFd;

use rustix::fs::{Advice, fadvise, fstatfs};
use rustix::io::{Errno, ReadWriteFlags};

/// Whether the page cache can be asked at all.
pub const CAN_BE_ASKED: bool = true;

/// What came of asking the page cache.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Cached {
    /// So many bytes, or the end of the file.
    Read(usize),
    /// It has nothing there now: a thread must wait for the disk.
    Later,
    /// This file cannot be read so.
    Never,
}

/// Reads what is there without waiting for a disk.
///
/// # Errors
/// The system's, of a read that would not have to wait.
pub fn read(file: impl AsFd, space: &mut [u8], offset: u64) -> io::Result<Cached> {
    let mut space = [io::IoSliceMut::new(space)];
    match rustix::io::preadv2(file, &mut space, offset, ReadWriteFlags::NOWAIT) {
        Ok(got) => Ok(Cached::Read(got)),
        Err(Errno::AGAIN | Errno::INTR) => Ok(Cached::Later),
        Err(Errno::OPNOTSUPP | Errno::NOSYS | Errno::INVAL | Errno::PERM | Errno::SPIPE) => Ok(Cached::Never),
        Err(error) => Err(error.into()),
    }
}

/// The file will be read from its start to its end.
pub(crate) fn will_be_read_in_order(file: &File) {
    let _ = fadvise(file, 0, None, Advice::Sequential);
}

/// `POSIX_FADV_DONTNEED` starts writing what is dirty in the range without waiting for it. Pages on their way to the disk
/// are not dropped, so the range, advised once and at once, stays in the page cache.
pub(crate) fn start_writing(file: &File, from: u64, to: u64) {
    if let Some(length) = NonZeroU64::new(to - from) {
        let _ = fadvise(file, from, Some(length), Advice::DontNeed);
    }
}

/// File systems that keep written pages in memory and reach their disk without a network or another process.
pub(crate) fn takes_writes_at_once(file: &File) -> bool {
    const EXT: u32 = 0xef53;
    const XFS: u32 = 0x5846_5342;
    const BTRFS: u32 = 0x9123_683e;
    const F2FS: u32 = 0xf2f5_2010;
    const TMPFS: u32 = 0x0102_1994;
    const OVERLAY: u32 = 0x794c_7630;
    let local = [EXT, XFS, BTRFS, F2FS, TMPFS, OVERLAY];
    // Magic numbers have 32 bits, whatever the field.
    fstatfs(file).is_ok_and(|found| local.contains(&(found.f_type as u32)))
}
