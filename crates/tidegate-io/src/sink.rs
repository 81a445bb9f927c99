//! Where bytes go to: the asynchronous write end of an endpoint, with its two ways to end.
//!
//! Knows nothing of marks or producers: whoever drives a sink keeps the bytes until the sink says it accepted them.

use std::io;
use std::task::{Context, Poll};

use tidegate::AbortReason;

use crate::{EndpointError, Held, LaneEnd, LaneJob, LaneOp};

/// What a finished sink can promise.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Confirmation {
    /// The far side acknowledged the end (fsync and rename, FTP 226, an HTTP response, exit code 0, the peer's own end).
    Confirmed,
    /// Everything was handed to the system and the end was sent, but nobody acknowledged it.
    Sent,
}

/// An asynchronous sink of bytes. Not `Send` by itself: helpers that spawn ask for it.
///
/// Calls come in this order: any number of `poll_write` and `poll_flush`, then either `poll_finish` until ready or one
/// `abort` followed by `poll_aborted` until ready. Dropping an unfinished sink is an abort.
pub trait Sink {
    /// Takes bytes from the front of `held` (never empty) and says how many the **device accepted** (never zero).
    /// The caller then advances `held`. A sink that hands pieces to another thread clones the cheap `Bytes` and
    /// answers only when they are down; it is then polled again with the same bytes at the front.
    ///
    /// # Errors
    /// The device or the peer failed; nothing more will be taken.
    fn poll_write(&mut self, cx: &mut Context<'_>, held: &Held) -> Poll<Result<usize, EndpointError>>;

    /// Pushes out what the sink itself still buffers. Called before waiting on the source.
    ///
    /// # Errors
    /// As `poll_write`.
    fn poll_flush(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), EndpointError>> {
        let _ = cx;
        Poll::Ready(Ok(()))
    }

    /// The stream is complete: make it so, and wait for the acknowledgement the kind of sink can give.
    ///
    /// # Errors
    /// The end could not be made durable or was refused. The stream then counts as not delivered.
    fn poll_finish(&mut self, cx: &mut Context<'_>) -> Poll<Result<Confirmation, EndpointError>>;

    /// The stream is not complete and must never look so: reset, kill, remove the partial file.
    fn abort(&mut self, reason: &AbortReason);

    /// Ready when the abort has taken effect (child reaped, temporary file removed).
    fn poll_aborted(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let _ = cx;
        Poll::Ready(())
    }

    /// Resolves when the device died while there is nothing to write to it. Pending by default.
    fn poll_hangup(&mut self, cx: &mut Context<'_>) -> Poll<EndpointError> {
        let _ = cx;
        Poll::Pending
    }

    /// Bytes accepted but not yet gone, where the system can tell (the kernel's send queue). While it shrinks, a drain
    /// makes progress.
    fn unsent_bytes(&self) -> Option<u64> {
        None
    }

    /// Whether the far side wants no more and is waited for through what it still sends: nothing that it does not take is a
    /// stall, and no drain deadline runs.
    fn is_heard_out(&self) -> bool {
        false
    }

    /// Whether work of this machine's own is under way that ends by itself (a write or sync on a thread). A drain
    /// deadline does not run meanwhile.
    fn is_busy(&self) -> bool {
        false
    }

    /// The drain deadline passed while `poll_finish` waited: what may be reported without the acknowledgement, if
    /// everything else is done. `None` makes it an abort.
    fn finish_unconfirmed(&mut self) -> Option<Confirmation> {
        None
    }

    /// The OS handle, when bytes may enter in a kernel lane. `None` while bytes wait in user space.
    fn lane_end(&self) -> Option<LaneEnd<'_>> {
        None
    }

    /// Runs `op` on the handle once it may be writable, as often as it says `WouldBlock`. Only asked of a sink that has
    /// a [`lane_end`](Self::lane_end).
    ///
    /// # Errors
    /// What `op` said, other than `WouldBlock`.
    fn poll_lane(&mut self, cx: &mut Context<'_>, op: LaneOp<'_>) -> Poll<io::Result<usize>> {
        let _ = (cx, op);
        Poll::Ready(Err(io::ErrorKind::Unsupported.into()))
    }

    /// Runs a job on the file, at the offset of its [`lane_end`](Self::lane_end), on a thread that may wait for the disk, and
    /// says how many bytes it moved. `job` is asked for when none is under way. An abort must not overtake the job. Only
    /// asked of a sink whose end is a file.
    ///
    /// # Errors
    /// What the job said, or that the sink has no thread for it: the bytes are then written like any others.
    fn poll_lane_job(
        &mut self,
        cx: &mut Context<'_>,
        job: &mut dyn FnMut() -> LaneJob,
    ) -> Poll<io::Result<usize>> {
        let _ = (cx, job);
        Poll::Ready(Err(io::ErrorKind::Unsupported.into()))
    }

    /// Bytes that came through a kernel lane, so that the sink keeps its own account.
    fn lane_moved(&mut self, bytes: u64) {
        let _ = bytes;
    }

    /// One short line for people: `tcp://127.0.0.1:9000`, `big.iso`.
    fn name(&self) -> String;
}

#[deny(clippy::missing_trait_methods)]
impl<S: Sink + ?Sized> Sink for Box<S> {
    fn poll_write(&mut self, cx: &mut Context<'_>, held: &Held) -> Poll<Result<usize, EndpointError>> {
        (**self).poll_write(cx, held)
    }
    fn poll_flush(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), EndpointError>> {
        (**self).poll_flush(cx)
    }
    fn poll_finish(&mut self, cx: &mut Context<'_>) -> Poll<Result<Confirmation, EndpointError>> {
        (**self).poll_finish(cx)
    }
    fn abort(&mut self, reason: &AbortReason) {
        (**self).abort(reason);
    }
    fn poll_aborted(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        (**self).poll_aborted(cx)
    }
    fn poll_hangup(&mut self, cx: &mut Context<'_>) -> Poll<EndpointError> {
        (**self).poll_hangup(cx)
    }
    fn unsent_bytes(&self) -> Option<u64> {
        (**self).unsent_bytes()
    }
    fn is_heard_out(&self) -> bool {
        (**self).is_heard_out()
    }
    fn is_busy(&self) -> bool {
        (**self).is_busy()
    }
    fn finish_unconfirmed(&mut self) -> Option<Confirmation> {
        (**self).finish_unconfirmed()
    }
    fn lane_end(&self) -> Option<LaneEnd<'_>> {
        (**self).lane_end()
    }
    fn poll_lane(&mut self, cx: &mut Context<'_>, op: LaneOp<'_>) -> Poll<io::Result<usize>> {
        (**self).poll_lane(cx, op)
    }
    fn poll_lane_job(
        &mut self,
        cx: &mut Context<'_>,
        job: &mut dyn FnMut() -> LaneJob,
    ) -> Poll<io::Result<usize>> {
        (**self).poll_lane_job(cx, job)
    }
    fn lane_moved(&mut self, bytes: u64) {
        (**self).lane_moved(bytes);
    }
    fn name(&self) -> String {
        (**self).name()
    }
}
