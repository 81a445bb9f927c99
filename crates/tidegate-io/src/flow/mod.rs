//! One source, one sink and the gate between them, run by one task.
//!
//! Knows the order of things (write before read, flush before waiting, finish after the end, abort for everything
//! else) and no kind of endpoint. Here is what a flow is and the order of its phases; the steps are in the modules:
//! `moving` while the source goes on, `lanes` for bytes that stay in the kernel, `ending` for everything after,
//! `limits` for clocks and rates, `pace` for how far the source may run ahead, `wishes` for the remote control.

mod ending;
mod lanes;
mod limits;
mod moving;
mod pace;
mod wishes;

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::task::{Context, Poll};
use std::time::Duration;

use tidegate::gate::{Kind, Registered, Signal};
use tidegate::{AbortReason, Gate, HoldReason, Marks};
use tokio::time::Instant;

use crate::handle::{FlowHandle, Shared, age};
use crate::lane::Kernel;
use crate::rate::SharedRate;
use crate::report::{FlowError, LaneChoice, Report};
use crate::{Buffers, Confirmation, Held, Sink, Source};

use ending::Aborting;
use limits::{Clock, Limits, Tolls, Verdict};
use moving::Turn;

pub(crate) use ending::is_obituary;
pub use limits::DRAIN_DEFAULT;
pub(crate) use limits::Millis;

/// What sees the bytes of a flow on their way: a checksum, a copy to somewhere else.
pub type Inspect = Box<dyn FnMut(&[u8]) + Send>;

/// A flow, being set up.
///
/// ```no_run
/// # async fn example(source: impl tidegate_io::Source, sink: impl tidegate_io::Sink) {
/// let report = tidegate_io::Flow::new(source, sink).rate(10 << 20).run().await;
/// # let _ = report;
/// # }
/// ```
///
/// # Cancel safety
/// Dropping a flow before its end is an abort: the sink never looks finished.
#[must_use = "a flow moves nothing until it is run"]
pub struct Flow<S, K> {
    source: S,
    sink: K,
    shared: Arc<Shared>,
    held: Held,
    buffers: Buffers,
    gate: Gate,
    reads: Reads,
    sink_dirty: bool,
    /// Something moved since the clock last looked.
    moved: bool,
    pub(crate) watch_sink: bool,
    /// One of a relay's two: waiting for a source that sends nothing is no stall, and a failure does not wait.
    pub(crate) of_relay: bool,
    phase: Phase,
    lane: LaneChoice,
    kernel: Kernel,
    limits: Limits,
    /// `None` while nobody sees or counts the bytes, and their pace is no matter.
    tolls: Option<Box<Tolls>>,
    /// `None` while no limit runs: idle connections are many.
    clock: Option<Box<Clock>>,
}

/// What the gate last told the flow, which reads as its push producer, and which holds the flow has out on it.
#[derive(Clone, Copy)]
struct Reads {
    running: bool,
    user: Out,
    shaped: Out,
}

#[derive(Clone, Copy, Eq, PartialEq)]
enum Out {
    Yes,
    No,
}

impl Default for Reads {
    fn default() -> Self {
        Self {
            running: true,
            user: Out::No,
            shaped: Out::No,
        }
    }
}

/// A gate with the flow itself registered.
fn opened(marks: Marks) -> Gate {
    let mut gate = Gate::new(marks);
    let registered = gate.register(Kind::Push);
    debug_assert!(
        matches!(registered, Registered::Yes),
        "a new gate takes its first producer"
    );
    gate
}

enum Phase {
    /// The source has not ended.
    Moving,
    /// The source has ended; what is held goes out.
    Draining,
    /// The sink makes the stream complete.
    Finishing,
    /// The sink has made it so; the source may tell its far side.
    Confirming(Confirmation),
    /// Stopped by the user, or the source failed: what is held goes out, then the sink is aborted for this error.
    Stopping(Box<FlowError>),
    /// The end is known and waits for both ends to have let go.
    Aborting(Box<Aborting>),
    /// The result was handed out.
    Done,
}

impl<S, K> Flow<S, K> {
    /// A flow from `source` to `sink` with default marks and limits.
    pub fn new(source: S, sink: K) -> Self {
        let marks = Marks::default();
        Self {
            source,
            sink,
            shared: Arc::new(Shared::new(marks.high())),
            held: Held::default(),
            buffers: Buffers::default(),
            gate: opened(marks),
            reads: Reads::default(),
            sink_dirty: false,
            moved: false,
            watch_sink: true,
            of_relay: false,
            phase: Phase::Moving,
            lane: LaneChoice::Auto,
            kernel: Kernel::default(),
            limits: Limits::default(),
            tolls: None,
            clock: None,
        }
    }

    /// Bounds what is held: at most `high + chunk`.
    pub fn marks(mut self, marks: Marks) -> Self {
        self.shared.set_high(marks.high());
        self.gate = opened(marks);
        self
    }

    /// Limits the rate, in bytes a second.
    pub fn rate(mut self, bytes_per_second: u64) -> Self {
        self.tolls().set_rate(Some(bytes_per_second), age(Instant::now()));
        self.shared.set_rate(Some(bytes_per_second));
        self
    }

    /// Limits the rate of several flows together.
    pub fn total_rate(mut self, rate: SharedRate) -> Self {
        self.tolls().total = Some(rate);
        self
    }

    /// Fails the flow when no byte moves on either side for so long. Time paused by the user or by a rate limit does
    /// not count. Without it a flow waits for ever.
    pub fn stall(mut self, limit: Duration) -> Self {
        self.limits.stall = Some(limit.into());
        self
    }

    /// How long the sink may go without progress once the source has ended. Any progress starts it anew.
    pub fn drain(mut self, limit: Duration) -> Self {
        self.limits.drain = limit.into();
        self
    }

    /// Chooses the lane.
    pub fn lane(mut self, choice: LaneChoice) -> Self {
        self.lane = choice;
        self
    }

    /// Shows every byte to `inspect`, in order, once. The bytes then travel through user space.
    pub fn inspect(mut self, inspect: Inspect) -> Self {
        self.tolls().inspect = Some(inspect);
        self
    }

    fn tolls(&mut self) -> &mut Tolls {
        self.tolls.get_or_insert_default()
    }

    /// A remote control. Works before, during and after the run.
    pub fn handle(&self) -> FlowHandle {
        FlowHandle::new(Arc::clone(&self.shared))
    }

    /// What will run the flow: a future that ends exactly once.
    pub fn run(self) -> FlowRun<S, K>
    where
        S: Source,
        K: Sink,
    {
        FlowRun { flow: self }
    }
}

/// A running flow. Ends with the report only when the source's end was seen **and** the sink's finish was acknowledged.
#[must_use = "futures do nothing unless polled"]
pub struct FlowRun<S, K> {
    pub(crate) flow: Flow<S, K>,
}

// Endpoints are never pinned: they are moved into the flow and used through `&mut`.
impl<S, K> Unpin for FlowRun<S, K> {}

impl<S: Source, K: Sink> Future for FlowRun<S, K> {
    type Output = Result<Report, FlowError>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        self.flow.poll_run(cx)
    }
}

impl<S: Source, K: Sink> Flow<S, K> {
    pub(crate) fn poll_run(&mut self, cx: &mut Context<'_>) -> Poll<Result<Report, FlowError>> {
        self.shared.listen(cx.waker());
        self.obey_wishes();
        if let Some(clock) = &mut self.clock {
            clock.shaped_until = None;
        }
        let mut turn = Turn::new();
        loop {
            let step = match &mut self.phase {
                Phase::Moving => self.poll_move(cx, &mut turn),
                Phase::Draining => self.poll_drain(cx),
                Phase::Finishing => match self.poll_finish(cx) {
                    Poll::Ready(Ok(confirmation)) => {
                        self.phase = Phase::Confirming(confirmation);
                        Poll::Ready(Ok(()))
                    }
                    Poll::Ready(Err(error)) => Poll::Ready(Err(error)),
                    Poll::Pending => Poll::Pending,
                },
                Phase::Confirming(confirmation) => {
                    let confirmation = *confirmation;
                    if self.source.poll_confirm(cx).is_ready() {
                        return Poll::Ready(Ok(self.finished(confirmation)));
                    }
                    Poll::Pending
                }
                Phase::Stopping(_) => self.poll_stopping(cx),
                Phase::Aborting(_) => match self.poll_aborting(cx) {
                    Poll::Ready(error) => return Poll::Ready(Err(error)),
                    Poll::Pending => Poll::Pending,
                },
                Phase::Done => return Poll::Pending,
            };
            match step {
                Poll::Ready(Ok(())) => {}
                Poll::Ready(Err(error)) => self.fail(error),
                Poll::Pending if turn.yielded => return Poll::Pending,
                Poll::Pending => match self.poll_limits(cx) {
                    Poll::Ready(Verdict::Again) => {}
                    Poll::Ready(Verdict::Sent(confirmation)) => match self.phase {
                        Phase::Confirming(_) => return Poll::Ready(Ok(self.finished(confirmation))),
                        _ => self.phase = Phase::Confirming(confirmation),
                    },
                    Poll::Ready(Verdict::Late(error)) => self.begin_abort(error, Some(AbortReason::TimedOut)),
                    Poll::Ready(Verdict::Failed(error)) => self.begin_abort(*error, None),
                    Poll::Ready(Verdict::LateAbort) => return Poll::Ready(Err(self.aborted())),
                    Poll::Pending => return Poll::Pending,
                },
            }
        }
    }

    /// Obeys the gate, which alone decides whether to read.
    fn heed_gate(&mut self) {
        while let Some(signal) = self.gate.due() {
            self.gate.told(&signal);
            self.reads.running = matches!(signal, Signal::Resume);
        }
    }

    /// Keeps one hold of the gate out while `out_now` says so.
    fn set_hold(&mut self, reason: HoldReason, out_now: Out) {
        let out = match reason {
            HoldReason::Shaped => &mut self.reads.shaped,
            _ => &mut self.reads.user,
        };
        if *out == out_now {
            return;
        }
        *out = out_now;
        match out_now {
            Out::Yes => self.gate.hold(reason),
            Out::No => self.gate.release(reason),
        }
        self.heed_gate();
    }

    pub(crate) fn moved_bytes(&self) -> u64 {
        self.shared.bytes_read.load(Relaxed) + self.shared.bytes_sent.load(Relaxed)
    }
}

impl<S, K> fmt::Debug for Flow<S, K> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Flow")
            .field("handle", &self.handle())
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_relay_that_waits_is_small() {
        // Two KiB for an idle relayed connection, everything included, is the aim.
        assert!(
            size_of::<crate::RelayRun>() <= 512,
            "{} bytes",
            size_of::<crate::RelayRun>()
        );
        assert!(size_of::<Shared>() <= 120, "{} bytes", size_of::<Shared>());
    }
}
