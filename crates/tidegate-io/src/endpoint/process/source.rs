//! A child's standard output as a source: what it writes, then its end, then how it ended.
//!
//! Knows nothing of its input.

use std::future::Future;
use std::io;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;

use super::os::{self, Output};
use super::supervisor::Supervised;
use super::{Process, Verdict, verdict};
use crate::{Blame, Buffers, EndpointError, ErrorKind, LaneEnd, LaneOp, Source};

#[derive(Debug)]
enum Reading {
    /// Bytes are to come.
    Output,
    /// The output has ended; the exit is awaited.
    Exit,
    /// All is said.
    Over,
}

/// A child's standard output.
pub struct ProcessSource {
    child: Supervised,
    output: Option<Output>,
    verdict: Verdict,
    state: Reading,
    /// Runs while the child has exited and its output is open and silent.
    silence: Option<std::pin::Pin<Box<tokio::time::Sleep>>>,
    drain: Duration,
    name: String,
}

impl Process {
    pub(super) fn source(
        &self,
        child: Supervised,
        output: Option<Output>,
        verdict: Verdict,
    ) -> ProcessSource {
        ProcessSource {
            child,
            output,
            verdict,
            state: Reading::Output,
            silence: None,
            drain: self.drain,
            name: self.name.clone(),
        }
    }
}

impl ProcessSource {
    /// The process id, as long as the child has not been reaped.
    pub fn id(&self) -> Option<u32> {
        self.child.id()
    }

    /// Whether the child's end is still this side's affair.
    fn is_waited_for(&self) -> bool {
        match self.state {
            Reading::Output => true,
            Reading::Exit => self.verdict == Verdict::AtTheEnd,
            Reading::Over => false,
        }
    }

    /// What the exit makes of the end of the output. Beside a sink it counts when it comes soon, so that the output of a
    /// child that died does not look whole; a child that only closed its output may live on.
    fn poll_exit(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), EndpointError>> {
        let (ending, kind) = match self.verdict {
            Verdict::AtTheEnd => (Some(ready!(self.child.poll_ending(cx))), ErrorKind::Failed),
            Verdict::BySink => (ready!(self.child.poll_ending_soon(cx)), ErrorKind::Died),
        };
        Poll::Ready(ending.map_or(Ok(()), |ending| verdict(&self.name, &ending, kind)))
    }

    fn poll_output(
        &mut self,
        cx: &mut Context<'_>,
        buffers: &mut Buffers,
        max: usize,
    ) -> Poll<Result<Option<Bytes>, EndpointError>> {
        let Some(output) = self.output.as_mut() else {
            return Poll::Ready(Ok(None));
        };
        if let Poll::Ready(read) = output.poll_read(cx, buffers, max) {
            self.silence = None;
            let read = read.map_err(|error| EndpointError::io(format!("cannot read {}", self.name), error));
            return Poll::Ready(read);
        }
        ready!(self.child.poll_exited(cx));
        // Whoever the child started may hold its output for ever.
        let drain = self.drain;
        let silence = self
            .silence
            .get_or_insert_with(|| Box::pin(tokio::time::sleep(drain)));
        ready!(silence.as_mut().poll(cx));
        let what = format!(
            "the output of {} was not closed {} ms after its exit: something it started holds it",
            self.name,
            drain.as_millis()
        );
        Poll::Ready(Err(EndpointError::new(ErrorKind::TimedOut, Blame::Peer, what)))
    }
}

impl Source for ProcessSource {
    fn poll_read(
        &mut self,
        cx: &mut Context<'_>,
        buffers: &mut Buffers,
        max: usize,
    ) -> Poll<Result<Option<Bytes>, EndpointError>> {
        if matches!(self.state, Reading::Output) {
            let read = ready!(self.poll_output(cx, buffers, max));
            if matches!(read, Ok(Some(_))) {
                return Poll::Ready(read);
            }
            self.output = None;
            self.child.output_is_over();
            if read.is_err() {
                self.state = Reading::Over;
                self.child.stop(None);
                return Poll::Ready(read);
            }
            self.state = Reading::Exit;
        }
        if matches!(self.state, Reading::Exit) {
            let told = ready!(self.poll_exit(cx));
            self.state = Reading::Over;
            return Poll::Ready(told.map(|()| None));
        }
        Poll::Ready(Ok(None))
    }

    fn poll_stop(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        if !self.is_waited_for() {
            return Poll::Ready(());
        }
        if os::CLOSED_OUTPUT_ASKS {
            self.output = None;
        }
        self.child.stop(None);
        self.child.output_is_over();
        ready!(self.child.poll_gone(cx));
        self.state = Reading::Over;
        self.output = None;
        Poll::Ready(())
    }

    fn lane_end(&self) -> Option<LaneEnd<'_>> {
        self.output.as_ref()?.lane_end()
    }

    fn poll_lane(&mut self, cx: &mut Context<'_>, op: LaneOp<'_>) -> Poll<io::Result<usize>> {
        match &mut self.output {
            Some(end) => end.poll_lane(cx, op),
            None => Poll::Ready(Err(io::ErrorKind::NotConnected.into())),
        }
    }

    fn lane_moved(&mut self, bytes: u64) {
        self.silence = None;
        if let Some(output) = &mut self.output {
            output.lane_moved(bytes);
        }
    }

    fn name(&self) -> String {
        self.name.clone()
    }
}

impl Drop for ProcessSource {
    fn drop(&mut self) {
        if self.is_waited_for() {
            self.child.stop(None);
        }
        self.child.output_is_over();
    }
}
