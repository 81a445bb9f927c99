//! What an endpoint shows of its OS handle, so that a kernel lane can be chosen.
//!
//! Knows nothing of the lanes themselves. What a handle is, where lanes may have any, `lane_end/unix.rs` says.

#[cfg_attr(unix, path = "lane_end/unix.rs")]
#[cfg_attr(not(unix), path = "lane_end/none.rs")]
mod system;

use std::io;

pub use self::system::{LaneFd, lane_fd};

/// The kind of handle behind an endpoint, as far as lanes care.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum LaneKind {
    /// A stream socket without anything on top, to another machine.
    Socket,
    /// The same to a peer on this machine: TCP on loopback, or Unix. Lanes pay off differently there.
    LocalSocket,
    /// A pipe or FIFO.
    Pipe,
    /// A regular file at its current offset.
    File,
    /// The null device: takes everything at once.
    Null,
}

/// A borrowed OS handle that a kernel lane may use.
#[derive(Clone, Copy, Debug)]
pub struct LaneEnd<'a> {
    /// What it is.
    pub kind: LaneKind,
    /// The descriptor.
    pub fd: LaneFd<'a>,
    /// For a file: the offset of the next byte, to be read or written. A lane leaves the file's own position alone and
    /// tells by `lane_moved` how far it came.
    pub offset: u64,
    /// For a file that is written: what an abort leaves of it. Blocks are only set aside in a file that is taken back.
    pub after_abort: AfterAbort,
}

/// What an abort does to a file that was written to.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub enum AfterAbort {
    /// It stays as it is then: it is somebody else's, or no file.
    #[default]
    Stays,
    /// It is removed, or cut back to its old length.
    TakenBack,
}

/// A system call on a handle, tried when the handle may be ready.
pub type LaneOp<'a> = &'a mut dyn FnMut(LaneFd<'_>) -> io::Result<usize>;

/// A system call on a file at an offset that may wait for the disk: to be made on a thread for blocking work.
pub type LaneJob = Box<dyn FnOnce(LaneFd<'_>, u64) -> io::Result<usize> + Send>;
