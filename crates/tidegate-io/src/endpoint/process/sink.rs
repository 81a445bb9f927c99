//! A child's standard input as a sink: finishing it closes the input and waits for the exit, aborting it ends the child.
//!
//! Knows nothing of its output, but whether somebody of ours reads it.

use std::io;
use std::task::{Context, Poll, ready};

use tidegate::AbortReason;

use super::os::Input;
use super::supervisor::Supervised;
use super::{Process, Reader, Told, verdict};
use crate::{Blame, Confirmation, EndpointError, ErrorKind, Held, LaneEnd, LaneOp, Sink};

/// A child's standard input.
pub struct ProcessSink {
    child: Supervised,
    input: Option<Input>,
    reader: Reader,
    /// The child has ended, or was told to.
    is_over: bool,
    /// It was told to.
    is_stopped: bool,
    /// The child reads no more.
    has_closed_input: bool,
    name: String,
}

impl Process {
    pub(super) fn sink(&self, child: Supervised, input: Option<Input>, reader: Reader) -> ProcessSink {
        ProcessSink {
            child,
            input,
            reader,
            is_over: false,
            is_stopped: false,
            has_closed_input: false,
            name: self.name.clone(),
        }
    }
}

impl ProcessSink {
    /// The process id, as long as the child has not been reaped.
    pub fn id(&self) -> Option<u32> {
        self.child.id()
    }

    /// The child no longer reads: its exit, when it comes soon, says more than a broken pipe does. Beside a source it is
    /// no news before the output was read to its end: a child that exits early loses none of it.
    fn poll_closed(&mut self, cx: &mut Context<'_>) -> Poll<EndpointError> {
        self.has_closed_input = true;
        let ending = match self.reader {
            Reader::Ours => ready!(self.child.poll_all_over(cx)),
            Reader::Elsewhere => ready!(self.child.poll_ending_soon(cx)),
        };
        let what = match &ending {
            Some(ending) => format!("{} {} before it had read everything", self.name, Told(ending)),
            None => format!("{} has closed its input", self.name),
        };
        let ended_well = ending.is_some_and(|ending| ending.is_success());
        let kind = match self.reader {
            Reader::Ours if ended_well => {
                // What it has left behind is its own affair.
                self.is_over = true;
                ErrorKind::Declined
            }
            Reader::Ours => ErrorKind::Died,
            Reader::Elsewhere => ErrorKind::BrokenPipe,
        };
        Poll::Ready(EndpointError::new(kind, Blame::Peer, what))
    }
}

impl Sink for ProcessSink {
    fn poll_write(&mut self, cx: &mut Context<'_>, held: &Held) -> Poll<Result<usize, EndpointError>> {
        let Some(input) = self.input.as_mut() else {
            let what = format!("the input of {} was ended before", self.name);
            return Poll::Ready(Err(EndpointError::new(ErrorKind::Failed, Blame::Caller, what)));
        };
        match ready!(input.poll_write(cx, held)) {
            Ok(written) => Poll::Ready(Ok(written)),
            Err(error) if error.kind() == io::ErrorKind::BrokenPipe => self.poll_closed(cx).map(Err),
            Err(error) => Poll::Ready(Err(EndpointError::io(
                format!("cannot write {}", self.name),
                error,
            ))),
        }
    }

    fn poll_finish(&mut self, cx: &mut Context<'_>) -> Poll<Result<Confirmation, EndpointError>> {
        self.input = None;
        let ending = ready!(self.child.poll_ending(cx));
        self.is_over = true;
        let kind = match self.reader {
            Reader::Ours => ErrorKind::Died,
            Reader::Elsewhere => ErrorKind::Failed,
        };
        Poll::Ready(verdict(&self.name, &ending, kind).map(|()| Confirmation::Confirmed))
    }

    fn abort(&mut self, _reason: &AbortReason) {
        let input = self.input.take();
        if !std::mem::replace(&mut self.is_over, true) {
            self.is_stopped = true;
            self.child.stop(input);
        }
    }

    fn poll_aborted(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        match self.is_stopped {
            true => self.child.poll_gone(cx),
            false => Poll::Ready(()),
        }
    }

    fn poll_hangup(&mut self, cx: &mut Context<'_>) -> Poll<EndpointError> {
        let Some(input) = self.input.as_mut() else {
            return Poll::Pending;
        };
        ready!(input.poll_broken(cx));
        self.poll_closed(cx)
    }

    /// A child that reads no more, because it does not want to or because we have ended its input, is waited for through
    /// its output, which has limits of its own. Once that is over, only its exit is to come.
    fn is_heard_out(&self) -> bool {
        let reads_no_more = self.has_closed_input || self.input.is_none();
        self.reader == Reader::Ours && reads_no_more && !self.is_over && !self.child.is_output_over()
    }

    fn unsent_bytes(&self) -> Option<u64> {
        self.input.as_ref()?.unsent_bytes()
    }

    fn lane_end(&self) -> Option<LaneEnd<'_>> {
        self.input.as_ref()?.lane_end()
    }

    fn poll_lane(&mut self, cx: &mut Context<'_>, op: LaneOp<'_>) -> Poll<io::Result<usize>> {
        match &mut self.input {
            Some(end) => end.poll_lane(cx, op),
            None => Poll::Ready(Err(io::ErrorKind::NotConnected.into())),
        }
    }

    fn lane_moved(&mut self, bytes: u64) {
        if let Some(input) = &mut self.input {
            input.lane_moved(bytes);
        }
    }

    fn name(&self) -> String {
        self.name.clone()
    }
}

impl Drop for ProcessSink {
    fn drop(&mut self) {
        if !self.is_over {
            self.abort(&AbortReason::Dropped);
        }
    }
}
