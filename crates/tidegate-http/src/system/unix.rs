//! Calls on files, and names for them, that each system makes in its own way, on Unix.
//!
//! Knows nothing of HTTP.

use std::ffi::OsString;
use std::fs::{File, Metadata};
use std::io;
use std::os::unix::ffi::OsStringExt;
use std::os::unix::fs::{FileExt, MetadataExt};

use cap_std::fs::{Dir, OpenOptions, OpenOptionsExt};

use crate::path::BadPath;

/// Whether an open file tells that another was renamed over it.
pub(crate) const OPEN_FILES_TELL: bool = true;

/// What tells one file from another, beside its size and time.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) struct Marks {
    changed_ns: i128,
    links: u64,
    /// 0 where files have no number.
    pub(crate) inode: u64,
}

impl Marks {
    pub(crate) fn of(metadata: &Metadata) -> Self {
        Self {
            changed_ns: i128::from(metadata.ctime()) * 1_000_000_000 + i128::from(metadata.ctime_nsec()),
            links: metadata.nlink(),
            inode: metadata.ino(),
        }
    }
}

/// The number of a file; 0 where files have none.
pub(crate) fn inode(metadata: &cap_std::fs::Metadata) -> u64 {
    cap_std::fs::MetadataExt::ino(metadata)
}

/// Reads at an offset, leaving the file's own alone: a file is shared by all who send it.
pub(crate) fn read_at(file: &File, space: &mut [u8], offset: u64) -> io::Result<usize> {
    file.read_at(space, offset)
}

/// The new name is on the disk only when its directory is.
pub(crate) fn sync_folder(folder: &Dir) -> io::Result<()> {
    // The handle itself may be one that is only good for looking up names.
    folder.open(".")?.sync_all()
}

/// Opening a FIFO must not wait for its other end.
pub(crate) fn never_wait(options: &mut OpenOptions) {
    options.custom_flags(rustix::fs::OFlags::NONBLOCK.bits().cast_signed());
}

/// Any bytes are a name here.
#[allow(clippy::unnecessary_wraps, reason = "elsewhere some are not")]
pub(crate) fn file_name(name: Vec<u8>) -> Result<OsString, BadPath> {
    Ok(OsString::from_vec(name))
}
