//! What a flow tells at its end: how much went where, what the time was spent on, who was slow, and what went wrong.
//!
//! Knows nothing of exit codes or of how a report is shown.

use std::fmt;
use std::time::Duration;

use crate::{Confirmation, EndpointError, ErrorKind, LaneKind};

/// The way bytes travel.
#[derive(Clone, Copy, Debug, Default, Eq, Hash, PartialEq)]
#[repr(u8)]
pub enum Lane {
    /// Through a buffer in user space.
    #[default]
    Copy = 0,
    /// Through a kernel pipe.
    Splice = 1,
    /// From the page cache to a socket.
    Sendfile = 2,
    /// Inside the file system.
    CopyFileRange = 3,
}

impl Lane {
    /// The lane's name in reports.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Copy => "copy",
            Self::Splice => "splice",
            Self::Sendfile => "sendfile",
            Self::CopyFileRange => "copy_file_range",
        }
    }

    pub(crate) const fn from_code(code: u8) -> Self {
        match code {
            1 => Self::Splice,
            2 => Self::Sendfile,
            3 => Self::CopyFileRange,
            _ => Self::Copy,
        }
    }
}

impl fmt::Display for Lane {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// Which lane a flow may take.
#[derive(Clone, Copy, Debug, Default, Eq, Hash, PartialEq)]
pub enum LaneChoice {
    /// Whatever has proved best for these two ends.
    #[default]
    Auto,
    /// User space only.
    Copy,
    /// `splice` where both ends can, else copy.
    Splice,
    /// `sendfile` where both ends can, else copy.
    Sendfile,
    /// `copy_file_range` where both ends can, else copy.
    CopyFileRange,
}

impl LaneChoice {
    /// The kernel lane it comes to between two ends of these kinds, where the kernel does not refuse. `None` is the copy lane.
    pub fn between(self, from: LaneKind, to: LaneKind) -> Option<Lane> {
        crate::lane::choose(self, from, to)
    }
}

/// One of a flow's two ends.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub enum Side {
    /// Where bytes come from.
    Source,
    /// Where bytes go to.
    Sink,
}

impl Side {
    /// The side's name in reports.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Source => "source",
            Self::Sink => "sink",
        }
    }
}

impl fmt::Display for Side {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// Who keeps the other waiting.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub enum SlowSide {
    /// The sink waits for the source.
    Source,
    /// The source waits for the sink.
    Sink,
    /// Neither waited long enough to say so.
    None,
}

impl SlowSide {
    /// The word in reports: `source`, `sink` or `none`.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Source => "source",
            Self::Sink => "sink",
            Self::None => "none",
        }
    }
}

impl fmt::Display for SlowSide {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// Time a flow was paused, by reason.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct PausedTime {
    /// The gate was full: the source waited for the sink.
    pub full: Duration,
    /// Held by the user through a handle.
    pub user: Duration,
    /// Held back by a rate limit.
    pub shaped: Duration,
}

/// What a flow did. Also part of every error.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Report {
    /// Bytes taken from the source.
    pub bytes_read: u64,
    /// Bytes the sink's device accepted.
    pub bytes_sent: u64,
    /// Bytes the far side acknowledged: all that were sent once the sink's finish was confirmed, else 0.
    pub bytes_confirmed: u64,
    /// What the sink's finish could promise. `None` when the stream was not finished.
    pub confirmation: Option<Confirmation>,
    /// The lane in use at the end: `Copy` where the kernel refused another one midway.
    pub lane: Lane,
    /// From the first poll to the end.
    pub elapsed: Duration,
    /// Spent reading or waiting for the source with nothing to write.
    pub reading: Duration,
    /// Spent writing or waiting for the sink, its finish included.
    pub writing: Duration,
    /// Spent paused. `full` is also part of `writing`.
    pub paused: PausedTime,
}

impl Report {
    /// Who kept the other waiting: the side waited for longer, if that was at least a tenth of the time and more than
    /// a tenth longer than the other.
    pub fn slow_side(&self) -> SlowSide {
        slow_side(self.elapsed, self.reading, self.writing)
    }
}

pub(crate) fn slow_side(elapsed: Duration, reading: Duration, writing: Duration) -> SlowSide {
    let enough = |time: Duration, other: Duration| time * 10 >= elapsed && time * 10 > other * 11;
    if elapsed.is_zero() {
        SlowSide::None
    } else if enough(writing, reading) {
        SlowSide::Sink
    } else if enough(reading, writing) {
        SlowSide::Source
    } else {
        SlowSide::None
    }
}

/// What kind of failure ended a flow.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
#[non_exhaustive]
pub enum FlowErrorKind {
    /// An endpoint failed; the cause says how.
    Failed,
    /// The source ended before its announced end.
    Truncated,
    /// Nothing moved for longer than allowed, or a drain passed its deadline.
    Stalled,
    /// Aborted, or stopped, through its handle.
    Aborted,
    /// The far reader has gone: a broken pipe at the sink.
    BrokenPipe,
}

/// A flow that did not deliver its stream.
#[derive(Clone, Debug)]
pub struct FlowError {
    /// The side at fault, where one is.
    pub side: Option<Side>,
    /// What happened.
    pub kind: FlowErrorKind,
    /// The account up to then.
    pub report: Report,
    /// The error underneath.
    pub cause: EndpointError,
}

impl FlowError {
    pub(crate) fn endpoint(side: Side, cause: EndpointError) -> Self {
        let kind = match (side, cause.kind) {
            (Side::Source, ErrorKind::Truncated) => FlowErrorKind::Truncated,
            (Side::Sink, ErrorKind::BrokenPipe) => FlowErrorKind::BrokenPipe,
            (_, ErrorKind::TimedOut) => FlowErrorKind::Stalled,
            _ => FlowErrorKind::Failed,
        };
        Self {
            side: Some(side),
            kind,
            report: Report::default(),
            cause,
        }
    }
}

impl fmt::Display for FlowError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.side {
            Some(side) => write!(f, "{side}: {}", self.cause),
            None => write!(f, "{}", self.cause),
        }
    }
}

impl std::error::Error for FlowError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        Some(&self.cause)
    }
}
