//! Where bytes come from: the asynchronous read end of an endpoint.
//!
//! Knows nothing of marks or producers: whoever drives a source decides when to read.

use std::io;
use std::task::{Context, Poll};

use bytes::Bytes;

use crate::{Buffers, EndpointError, LaneEnd, LaneOp};

/// How much a source may let the system receive before it is read.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum RunAhead {
    /// As much as the system thinks right.
    Free,
    /// About so many bytes.
    Limited(usize),
}

/// An asynchronous source of bytes. Not `Send` by itself: helpers that spawn ask for it.
///
/// # Cancel safety
/// Every method is a poll: dropping what drives it loses no byte that was not handed out.
pub trait Source {
    /// Reads at most `max` bytes (never zero). `None` is the clean end and is repeated; an empty `Bytes` is never
    /// returned. A buffer is taken from `buffers` only once bytes are there, so that an idle source holds none.
    ///
    /// # Errors
    /// A stream that ended before its announced end is `ErrorKind::Truncated`, never `None`.
    fn poll_read(
        &mut self,
        cx: &mut Context<'_>,
        buffers: &mut Buffers,
        max: usize,
    ) -> Poll<Result<Option<Bytes>, EndpointError>>;

    /// Resolves when the source died while nobody reads from it (a reset, a broken connection); bytes already received
    /// stay readable. A clean end that still has unread data before it does not resolve this. Pending by default.
    fn poll_hangup(&mut self, cx: &mut Context<'_>) -> Poll<EndpointError> {
        let _ = cx;
        Poll::Pending
    }

    /// Nobody will read on: let the far side know as its kind allows (close, reset, kill), then be ready when that is
    /// done. Called at most once, polled until ready; dropping instead is allowed and does what can be done at once.
    fn poll_stop(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let _ = cx;
        Poll::Ready(())
    }

    /// The far side's bytes are no longer wanted, and that is no fault: reads and drops them until its end, where letting
    /// go of them unread would look like a failure to it (a socket answers them with a reset). The caller limits the
    /// time. Called instead of [`poll_stop`](Self::poll_stop).
    fn poll_discard(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let _ = cx;
        Poll::Ready(())
    }

    /// The sink has finished: everything that came from here is delivered as well as that sink can say. A source whose
    /// far side waits for an answer gives it now and is ready when it is out. Called only after the end was read.
    fn poll_confirm(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let _ = cx;
        Poll::Ready(())
    }

    /// Asks the source to bound what the system receives before it is read, so that its far side learns early that the
    /// sink is slow. A request that a source can ignore, as it does by default; it never loses a byte.
    fn set_run_ahead(&mut self, ahead: RunAhead) {
        let _ = ahead;
    }

    /// How many bytes are still to come, where it is known.
    fn size_hint(&self) -> Option<u64> {
        None
    }

    /// The OS handle, when its bytes may travel in a kernel lane. `None` while bytes wait in user space.
    fn lane_end(&self) -> Option<LaneEnd<'_>> {
        None
    }

    /// Runs `op` on the handle once it may be readable, as often as it says `WouldBlock`. Only asked of a source that
    /// has a [`lane_end`](Self::lane_end).
    ///
    /// # Errors
    /// What `op` said, other than `WouldBlock`.
    fn poll_lane(&mut self, cx: &mut Context<'_>, op: LaneOp<'_>) -> Poll<io::Result<usize>> {
        let _ = (cx, op);
        Poll::Ready(Err(io::ErrorKind::Unsupported.into()))
    }

    /// Bytes that left through a kernel lane, so that the source keeps its own account (offset, remaining length).
    fn lane_moved(&mut self, bytes: u64) {
        let _ = bytes;
    }

    /// One short line for people: `tcp://127.0.0.1:9000`, `big.iso`.
    fn name(&self) -> String;
}

#[deny(clippy::missing_trait_methods)]
impl<S: Source + ?Sized> Source for Box<S> {
    fn poll_read(
        &mut self,
        cx: &mut Context<'_>,
        buffers: &mut Buffers,
        max: usize,
    ) -> Poll<Result<Option<Bytes>, EndpointError>> {
        (**self).poll_read(cx, buffers, max)
    }
    fn poll_hangup(&mut self, cx: &mut Context<'_>) -> Poll<EndpointError> {
        (**self).poll_hangup(cx)
    }
    fn poll_stop(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        (**self).poll_stop(cx)
    }
    fn poll_discard(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        (**self).poll_discard(cx)
    }
    fn poll_confirm(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        (**self).poll_confirm(cx)
    }
    fn set_run_ahead(&mut self, ahead: RunAhead) {
        (**self).set_run_ahead(ahead);
    }
    fn size_hint(&self) -> Option<u64> {
        (**self).size_hint()
    }
    fn lane_end(&self) -> Option<LaneEnd<'_>> {
        (**self).lane_end()
    }
    fn poll_lane(&mut self, cx: &mut Context<'_>, op: LaneOp<'_>) -> Poll<io::Result<usize>> {
        (**self).poll_lane(cx, op)
    }
    fn lane_moved(&mut self, bytes: u64) {
        (**self).lane_moved(bytes);
    }
    fn name(&self) -> String {
        (**self).name()
    }
}
