//! Kernel lanes: which one two ends allow, and what a flow can ask of any of them.
//!
//! Knows what the ends are and nothing of marks or limits: the flow decides when, a lane moves bytes and says how it
//! went. Whatever a kernel refuses is left to the flow's own copying, which is the `copy` lane.

mod copy_file_range;
mod sendfile;
mod splice;

use std::io;
use std::task::{Context, Poll};

use copy_file_range::CopyFileRange;
use splice::{Pipe, WayOut};

use crate::{Lane, LaneChoice, LaneKind, Sink, Source};

/// How many bytes a stream must have carried before `auto` takes it for bulk.
const BULK_BYTES: u64 = 512 * 1024;

/// The lane of one flow.
#[derive(Debug, Default)]
pub(crate) struct Kernel {
    way: Way,
}

#[derive(Debug, Default)]
enum Way {
    /// Nobody has looked yet.
    #[default]
    Undecided,
    /// User space, for good.
    Copy,
    /// From a socket to a socket or a file through a pipe of ours.
    Through(Box<Pipe>),
    /// The same while there is nothing to do: not even room for a pipe is held.
    Resting(WayOut),
    /// One of the ends is a pipe itself.
    Direct,
    Sendfile,
    CopyFileRange(Box<CopyFileRange>),
}

/// How one step of a kernel lane went.
#[derive(Debug)]
pub(crate) enum Step {
    /// So many bytes came in and are held in the lane.
    In(usize),
    /// So many bytes came in and went out.
    Across(usize),
    /// The source has nothing.
    SourceWaits,
    /// The sink takes nothing.
    SinkWaits,
    /// Work is under way that ends by itself.
    Works,
    /// These bytes are the copy lane's, this once: the end of the stream, or what a disk must be asked for.
    CopyOnce,
    /// The kernel will not do it: the copy lane goes on from here.
    Refused,
}

impl Kernel {
    /// Whether bytes travel in the kernel; decides it when there is enough to decide by.
    pub(crate) fn is_chosen(
        &mut self,
        choice: LaneChoice,
        source: &dyn Source,
        sink: &dyn Sink,
        bytes_read: u64,
    ) -> bool {
        if matches!(self.way, Way::Undecided) {
            self.way = Self::decide(choice, source, sink, bytes_read);
        }
        !matches!(self.way, Way::Undecided | Way::Copy)
    }

    fn decide(choice: LaneChoice, source: &dyn Source, sink: &dyn Sink, bytes_read: u64) -> Way {
        if choice == LaneChoice::Copy {
            return Way::Copy;
        }
        let ends = source
            .lane_end()
            .and_then(|from| Some((from.kind, sink.lane_end()?.kind)));
        let Some((from, to)) = ends else {
            // An end that has no handle to show may have one after its first bytes.
            return if bytes_read < BULK_BYTES {
                Way::Undecided
            } else {
                Way::Copy
            };
        };
        match choose(choice, from, to) {
            Some(Lane::Splice)
                if (choice == LaneChoice::Auto || to == LaneKind::File) && bytes_read < BULK_BYTES =>
            {
                Way::Undecided
            }
            Some(lane) => Self::enter(lane, from, to),
            None => Way::Copy,
        }
    }

    fn enter(lane: Lane, from: LaneKind, to: LaneKind) -> Way {
        match lane {
            Lane::Splice if from == LaneKind::Pipe || to == LaneKind::Pipe => Way::Direct,
            Lane::Splice => Way::Resting(WayOut::to(to)),
            Lane::Sendfile => Way::Sendfile,
            Lane::CopyFileRange => Way::CopyFileRange(Box::default()),
            Lane::Copy => Way::Copy,
        }
    }

    /// The lane's name in reports.
    pub(crate) fn lane(&self) -> Lane {
        match self.way {
            Way::Undecided | Way::Copy => Lane::Copy,
            Way::Through(_) | Way::Resting(_) | Way::Direct => Lane::Splice,
            Way::Sendfile => Lane::Sendfile,
            Way::CopyFileRange(_) => Lane::CopyFileRange,
        }
    }

    /// Bytes that wait in the lane.
    pub(crate) fn held(&self) -> usize {
        match &self.way {
            Way::Through(pipe) => pipe.held(),
            _ => 0,
        }
    }

    /// Moves at most `most` bytes. Only called while nothing is held in the lane.
    pub(crate) fn poll_step(
        &mut self,
        cx: &mut Context<'_>,
        source: &mut dyn Source,
        sink: &mut dyn Sink,
        most: usize,
    ) -> Step {
        if let Way::Resting(way_out) = self.way {
            self.way = Way::Through(Box::new(Pipe::new(way_out)));
        }
        let step = match &mut self.way {
            Way::Undecided | Way::Copy | Way::Resting(_) => Step::Refused,
            Way::Through(pipe) => pipe.poll_in(cx, source, most),
            Way::Direct => splice::poll_direct(cx, source, sink, most),
            Way::Sendfile => sendfile::poll_step(cx, source, sink, most),
            Way::CopyFileRange(lane) => lane.poll_step(cx, source, sink),
        };
        if matches!(step, Step::Refused) {
            self.way = Way::Copy;
        }
        step
    }

    /// Brings out what waits in the lane.
    pub(crate) fn poll_out(&mut self, cx: &mut Context<'_>, sink: &mut dyn Sink) -> Poll<io::Result<usize>> {
        match &mut self.way {
            Way::Through(pipe) => pipe.poll_out(cx, sink),
            _ => Poll::Ready(Ok(0)),
        }
    }

    /// The sink refuses this lane: what waits in it comes back as bytes, and the copy lane goes on.
    pub(crate) fn take_back(&mut self) -> io::Result<Vec<u8>> {
        match std::mem::replace(&mut self.way, Way::Copy) {
            Way::Through(mut pipe) => pipe.take_back(),
            _ => Ok(Vec::new()),
        }
    }

    /// The flow has nothing to do: hold nothing.
    pub(crate) fn rest(&mut self) {
        if let Way::Through(pipe) = &self.way
            && pipe.held() == 0
        {
            // The pipe goes back to the spare ones as it is dropped.
            self.way = Way::Resting(pipe.way_out());
        }
    }
}

/// The lane for two ends. See `docs/performance.md` for the measurements behind `auto`.
pub(crate) fn choose(choice: LaneChoice, from: LaneKind, to: LaneKind) -> Option<Lane> {
    use LaneKind::{File, LocalSocket, Null, Pipe, Socket};
    let possible = match (from, to) {
        (File, File) => Lane::CopyFileRange,
        (File, Socket | LocalSocket) if choice == LaneChoice::Splice => return None,
        (File, Socket | LocalSocket) => Lane::Sendfile,
        (Socket | LocalSocket, Socket | LocalSocket) | (Pipe, Pipe | Socket | LocalSocket | Null) => {
            Lane::Splice
        }
        (Socket | LocalSocket, Pipe) => Lane::Splice,
        (File, Pipe) | (Socket | LocalSocket, File) if choice == LaneChoice::Splice => Lane::Splice,
        (File, Pipe) | (Pipe | Socket | LocalSocket, File) => return None,
        (Null, _) | (File | Socket | LocalSocket, Null) => return None,
    };
    let allowed = match choice {
        // Within one machine a large buffer in user space is faster than a pipe, and than references to the page cache.
        LaneChoice::Auto => !matches!(
            (from, to),
            (File | Socket | LocalSocket, LocalSocket) | (LocalSocket, Socket)
        ),
        LaneChoice::Copy => false,
        LaneChoice::Splice => possible == Lane::Splice,
        LaneChoice::Sendfile => possible == Lane::Sendfile,
        LaneChoice::CopyFileRange => possible == Lane::CopyFileRange,
    };
    allowed.then_some(possible)
}

/// Whether an error means "not with these ends", or "not here", rather than that an end failed.
fn is_refusal(error: &io::Error) -> bool {
    use rustix::io::Errno;
    let refusals = [
        Errno::INVAL,
        Errno::PERM,
        Errno::ACCESS,
        Errno::NOSYS,
        Errno::OPNOTSUPP,
        Errno::XDEV,
        Errno::BADF,
        Errno::NOMEM,
        Errno::MFILE,
        Errno::NFILE,
        Errno::OVERFLOW,
        Errno::TXTBSY,
    ];
    Errno::from_io_error(error).is_some_and(|errno| refusals.contains(&errno))
        || error.kind() == io::ErrorKind::Unsupported
}
