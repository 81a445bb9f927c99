//! `splice`: between two sockets or into a file through a pipe of ours, or straight when one of the ends is a pipe.
//!
//! Knows pipes; nothing of the streams on both sides.
//!
//! A pipe has slots, and a small segment takes a whole one: `EAGAIN` from splicing in may mean "the socket is empty" or
//! "no slot is free". So we only splice in while our pipe is **empty**, when it can only mean the socket; and with a
//! foreign pipe as an end we ask `poll` whether it was the source.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;
use std::task::{Context, Poll};

use rustix::event::{PollFd, PollFlags, poll};
use rustix::io::Errno;
use rustix::pipe::{PipeFlags, SpliceFlags, fcntl_getpipe_size, pipe_with, splice};

use super::{Step, is_refusal};
use crate::pipe_room::{PIPE_BYTES, PipeRoom};
use crate::spare::Spares;
use crate::{LaneJob, LaneKind, Sink, Source};

/// What a pipe holds at least: one page.
const PIPE_BYTES_MIN: usize = 4096;

/// What a splice out of a pipe must bring to be followed by the next at once.
const LARGE_BYTES: usize = 64 * 1024;

/// Spare pipes kept for good, and while streams are busy.
const SPARE_PIPES_KEEP: usize = 2;
const SPARE_PIPES_MOST: usize = 32;

static SPARE: Spares<Ends> = Spares::new(SPARE_PIPES_KEEP, SPARE_PIPES_MOST, |_| 1);

/// Both ends of a pipe that is empty while nobody has it.
#[derive(Debug)]
struct Ends {
    /// Shared with a thread that empties it into a file.
    read: Arc<OwnedFd>,
    write: OwnedFd,
    size: usize,
    _room: Option<PipeRoom>,
}

impl Ends {
    fn get(least: usize) -> io::Result<Self> {
        if let Some(spare) = SPARE.take(|ends| ends.size >= least) {
            return Ok(spare);
        }
        let (read, write) = pipe_with(PipeFlags::CLOEXEC | PipeFlags::NONBLOCK)?;
        let room = PipeRoom::widen(write.as_fd());
        let size = fcntl_getpipe_size(&write).unwrap_or(PIPE_BYTES_MIN);
        Ok(Self {
            read: Arc::new(read),
            write,
            size,
            _room: room,
        })
    }
}

/// The queue of a splice lane: a pipe, borrowed from the spare ones while there are bytes in it.
#[derive(Debug)]
pub(super) struct Pipe {
    ends: Option<Ends>,
    held: usize,
    way_out: WayOut,
}

/// How the bytes leave the pipe.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum WayOut {
    /// Once the sink is ready.
    Here,
    /// On a thread of the sink's, which may wait for the disk.
    OnThread,
}

impl WayOut {
    /// The one to an end of this kind.
    pub(super) fn to(kind: LaneKind) -> Self {
        match kind {
            LaneKind::File => Self::OnThread,
            _ => Self::Here,
        }
    }
}

impl Pipe {
    pub(super) fn new(way_out: WayOut) -> Self {
        Self {
            ends: None,
            held: 0,
            way_out,
        }
    }

    pub(super) fn way_out(&self) -> WayOut {
        self.way_out
    }

    pub(super) fn held(&self) -> usize {
        self.held
    }

    pub(super) fn poll_in(&mut self, cx: &mut Context<'_>, source: &mut dyn Source, most: usize) -> Step {
        debug_assert_eq!(self.held, 0, "splicing into a pipe that is not empty");
        // A thread for each of many small pipefuls costs more than copying.
        let least = match self.way_out {
            WayOut::Here => 0,
            WayOut::OnThread => PIPE_BYTES,
        };
        let ends = match self.ends.take().map_or_else(|| Ends::get(least), Ok) {
            Ok(ends) if ends.size >= least => ends,
            _ => return Step::Refused,
        };
        let most = most.min(ends.size);
        let result = source.poll_lane(cx, &mut |from| splice_once(from, ends.write.as_fd(), most));
        self.ends = Some(ends);
        match result {
            Poll::Pending => {
                self.rest();
                Step::SourceWaits
            }
            Poll::Ready(Ok(0)) => Step::CopyOnce,
            Poll::Ready(Ok(count)) => {
                self.held = count;
                source.lane_moved(count as u64);
                Step::In(count)
            }
            Poll::Ready(Err(error)) if is_refusal(&error) => Step::Refused,
            // The source's own call will tell the same, in its own words: a socket keeps its error for that.
            Poll::Ready(Err(_)) => Step::CopyOnce,
        }
    }

    pub(super) fn poll_out(&mut self, cx: &mut Context<'_>, sink: &mut dyn Sink) -> Poll<io::Result<usize>> {
        let Some(ends) = &self.ends else {
            return Poll::Ready(Ok(0));
        };
        let held = self.held;
        let result = match self.way_out {
            WayOut::Here => sink.poll_lane(cx, &mut |to| splice_once(ends.read.as_fd(), to, held)),
            WayOut::OnThread => sink.poll_lane_job(cx, &mut || into_file(Arc::clone(&ends.read), held)),
        };
        if let Poll::Ready(Ok(count)) = &result {
            self.held -= count;
            sink.lane_moved(*count as u64);
        }
        result
    }

    pub(super) fn take_back(&mut self) -> io::Result<Vec<u8>> {
        let mut bytes = vec![0; self.held];
        if let Some(ends) = self.ends.take() {
            let mut got = 0;
            while got < bytes.len() {
                match rustix::io::read(&*ends.read, &mut bytes[got..])? {
                    0 => return Err(io::ErrorKind::UnexpectedEof.into()),
                    count => got += count,
                }
            }
        }
        self.held = 0;
        Ok(bytes)
    }

    pub(super) fn rest(&mut self) {
        if self.held == 0
            && let Some(ends) = self.ends.take()
        {
            SPARE.put(ends);
        }
    }
}

impl Drop for Pipe {
    fn drop(&mut self) {
        // One with bytes in it is closed: they are nobody else's.
        self.rest();
    }
}

fn splice_once(from: BorrowedFd<'_>, to: BorrowedFd<'_>, most: usize) -> io::Result<usize> {
    let flags = SpliceFlags::NONBLOCK | SpliceFlags::MOVE;
    Ok(splice(from, None, to, None, most, flags)?)
}

/// Empties the pipe into a file, as far as the file takes it.
fn into_file(pipe: Arc<OwnedFd>, held: usize) -> LaneJob {
    Box::new(move |file, offset| {
        let mut offset = offset;
        let mut moved = 0;
        while moved < held {
            match splice(
                &*pipe,
                None,
                file,
                Some(&mut offset),
                held - moved,
                SpliceFlags::MOVE,
            ) {
                Ok(0) => break,
                Ok(count) => moved += count,
                Err(Errno::INTR) => {}
                // What was moved counts; the next call meets the error again.
                Err(_) if moved > 0 => break,
                Err(error) => return Err(error.into()),
            }
        }
        Ok(moved)
    })
}

/// One splice between two ends of which one is a pipe.
pub(super) fn poll_direct(
    cx: &mut Context<'_>,
    source: &mut dyn Source,
    sink: &mut dyn Sink,
    most: usize,
) -> Step {
    let Some(to) = sink.lane_end() else {
        return Step::CopyOnce;
    };
    let mut sink_full = false;
    let result = source.poll_lane(cx, &mut |from| {
        let result = splice_once(from, to.fd, most);
        // Which of the two has to wait? A source with bytes must never look empty: its readiness would be given up, and a full
        // pipe reports no news. The sink cannot tell: it may have been emptied a moment ago.
        if matches!(&result, Err(error) if error.kind() == io::ErrorKind::WouldBlock)
            && is(from, PollFlags::IN)
        {
            sink_full = true;
            return Ok(0);
        }
        result
    });
    match result {
        _ if sink_full => wait_for_sink(cx, sink),
        Poll::Pending => Step::SourceWaits,
        Poll::Ready(Ok(0)) => Step::CopyOnce,
        Poll::Ready(Ok(count)) => {
            source.lane_moved(count as u64);
            sink.lane_moved(count as u64);
            if count < LARGE_BYTES {
                // Its writer is at work, or has just ended: another splice at once would only fight it for the pipe.
                std::thread::yield_now();
            }
            Step::Across(count)
        }
        Poll::Ready(Err(error)) if is_refusal(&error) => Step::Refused,
        Poll::Ready(Err(_)) => Step::CopyOnce,
    }
}

/// Whether `fd` is ready for this, has ended or has failed: the next call on it will not wait.
fn is(fd: BorrowedFd<'_>, ready: PollFlags) -> bool {
    let mut fds = [PollFd::new(&fd, ready)];
    match poll(&mut fds, Some(&rustix::event::Timespec::default())) {
        Ok(_) => !fds[0].revents().is_empty(),
        Err(_) => true,
    }
}

/// The sink was full a moment ago: waits until it is not.
pub(super) fn wait_for_sink(cx: &mut Context<'_>, sink: &mut dyn Sink) -> Step {
    let ready = sink.poll_lane(cx, &mut |to| {
        if is(to, PollFlags::OUT) {
            Ok(1)
        } else {
            Err(Errno::AGAIN.into())
        }
    });
    match ready {
        Poll::Pending => Step::SinkWaits,
        Poll::Ready(Ok(_)) => Step::Across(0),
        Poll::Ready(Err(_)) => Step::CopyOnce,
    }
}
