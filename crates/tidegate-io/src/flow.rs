//! One source, one sink and the gate between them, run by one task.
//!
//! Knows the order of things (write before read, flush before waiting, finish after the end, abort for everything
//! else) and no kind of endpoint.

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::task::{Context, Poll};
use std::time::Duration;

use tidegate::gate::{Kind, Registered, Signal};
use tidegate::{AbortReason, Gate, HoldReason, Marks, StopReason, TokenBucket};
use tokio::time::{Instant, Sleep};

use crate::handle::{FlowHandle, FlowState, Shared, WISH_ABORT, WISH_RATE, WISH_STOP};
use crate::lane::{Kernel, Step};
use crate::rate::{self, SharedRate};
use crate::report::{FlowError, FlowErrorKind, LaneChoice, Report, Side};
use crate::{Blame, Buffers, Confirmation, EndpointError, ErrorKind, Held, Sink, Source};

/// How long a sink may take without any progress once the source has ended.
pub const DRAIN_DEFAULT: Duration = Duration::from_secs(30);

/// How often a stopped flow looks whether the kernel has got rid of everything.
const STOP_LOOK: Duration = Duration::from_millis(20);

/// How long a sink may go without progress when the source has failed and only what it had given is to go out.
const FAILED_DRAIN_MAX: Duration = Duration::from_secs(2);

/// Work done in one turn before other tasks get theirs.
const TURN_BYTES: usize = 2 * 1024 * 1024;
const TURN_STEPS: usize = 32;

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
    pub(crate) watch_sink: bool,
    /// One of a relay's two: waiting for a source that sends nothing is no stall, and a failure does not wait.
    pub(crate) of_relay: bool,
    phase: Phase,
    lane: LaneChoice,
    kernel: Kernel,
    limits: Limits,
    rate: Option<Box<TokenBucket>>,
    total: Option<Box<SharedRate>>,
    inspect: Option<Box<Inspect>>,
    clock: Clock,
}

#[derive(Clone, Copy)]
struct Limits {
    stall: Option<Duration>,
    drain: Duration,
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

struct Aborting {
    error: FlowError,
    sink_gone: bool,
    source_gone: bool,
}

/// Watches for progress with one timer that is moved as rarely as can be.
#[derive(Default)]
struct Clock {
    timer: Option<Pin<Box<Sleep>>>,
    progress_at: Option<Instant>,
    moved: bool,
    unsent_bytes: Option<u64>,
    /// When the rate limit lets the next bytes go.
    shaped_until: Option<Instant>,
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
            watch_sink: true,
            of_relay: false,
            phase: Phase::Moving,
            lane: LaneChoice::Auto,
            kernel: Kernel::default(),
            limits: Limits {
                stall: None,
                drain: DRAIN_DEFAULT,
            },
            rate: None,
            total: None,
            inspect: None,
            clock: Clock::default(),
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
        let now = self.shared.age(Instant::now());
        self.rate = Some(Box::new(TokenBucket::new(
            rate::per_second(bytes_per_second),
            now,
        )));
        self.shared.set_rate(Some(bytes_per_second));
        self
    }

    /// Limits the rate of several flows together.
    pub fn total_rate(mut self, rate: SharedRate) -> Self {
        self.total = Some(Box::new(rate));
        self
    }

    /// Fails the flow when no byte moves on either side for so long. Time paused by the user or by a rate limit does
    /// not count. Without it a flow waits for ever.
    pub fn stall(mut self, limit: Duration) -> Self {
        self.limits.stall = Some(limit);
        self
    }

    /// How long the sink may go without progress once the source has ended. Any progress starts it anew.
    pub fn drain(mut self, limit: Duration) -> Self {
        self.limits.drain = limit;
        self
    }

    /// Chooses the lane.
    pub fn lane(mut self, choice: LaneChoice) -> Self {
        self.lane = choice;
        self
    }

    /// Shows every byte to `inspect`, in order, once. The bytes then travel through user space.
    pub fn inspect(mut self, inspect: Inspect) -> Self {
        self.inspect = Some(Box::new(inspect));
        self
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
        self.clock.shaped_until = None;
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

    fn poll_move(&mut self, cx: &mut Context<'_>, turn: &mut Turn) -> Poll<Result<(), FlowError>> {
        loop {
            let sink_waits = self.write_held(cx)?;
            if turn.is_over() {
                // Still working: the others first, then on.
                turn.yielded = true;
                cx.waker().wake_by_ref();
                return Poll::Pending;
            }
            let allowed = self.allowance();
            self.set_hold(HoldReason::Shaped, if allowed == 0 { Out::Yes } else { Out::No });
            self.set_hold(
                HoldReason::User,
                if self.shared.is_held() { Out::Yes } else { Out::No },
            );
            if self.kernel.held() > 0 {
                // Only an empty pipe is spliced into: on that lane the low mark is 0.
                return self.wait_kernel_sink(cx);
            }
            if !self.reads.running {
                return self.wait_paused(cx, sink_waits);
            }
            self.shared.enter(FlowState::Reading);
            let most = self.gate.marks().chunk().min(allowed);
            if !sink_waits && self.in_kernel() {
                match self.poll_kernel(cx, turn, most) {
                    Kerneled::Moved => continue,
                    Kerneled::SourceWaits => return self.wait_source(cx, false),
                    Kerneled::SinkWaits => return self.wait_kernel_sink(cx),
                    Kerneled::Copy => {}
                }
            }
            match self.source.poll_read(cx, &mut self.buffers, most) {
                Poll::Ready(Ok(Some(bytes))) => {
                    turn.worked(bytes.len());
                    self.took(bytes);
                }
                Poll::Ready(Ok(None)) => {
                    self.phase = Phase::Draining;
                    return Poll::Ready(Ok(()));
                }
                Poll::Ready(Err(error)) => return Poll::Ready(Err(FlowError::endpoint(Side::Source, error))),
                Poll::Pending => return self.wait_source(cx, sink_waits),
            }
        }
    }

    /// Whether bytes may travel in the kernel now: nobody needs to see or count out each of them.
    fn in_kernel(&mut self) -> bool {
        let seen = self.inspect.is_some() || self.rate.is_some() || self.total.is_some();
        let bytes_read = self.shared.bytes_read.load(Relaxed);
        !seen
            && self
                .kernel
                .is_chosen(self.lane, &self.source, &self.sink, bytes_read)
    }

    fn poll_kernel(&mut self, cx: &mut Context<'_>, turn: &mut Turn, most: usize) -> Kerneled {
        let lane = self.kernel.lane();
        match self.kernel.poll_step(cx, &mut self.source, &mut self.sink, most) {
            Step::In(count) => {
                self.count_in(count);
                self.shared.set_lane(lane);
                turn.worked(count);
                Kerneled::Moved
            }
            Step::Across(count) => {
                self.count_in(count);
                self.count_out(count);
                if count > 0 {
                    self.shared.set_lane(lane);
                }
                turn.worked(count);
                Kerneled::Moved
            }
            Step::SourceWaits => Kerneled::SourceWaits,
            Step::SinkWaits | Step::Works => Kerneled::SinkWaits,
            Step::CopyOnce | Step::Refused => Kerneled::Copy,
        }
    }

    /// The sink takes nothing: the kernel's own queue is the full one.
    fn wait_kernel_sink(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), FlowError>> {
        self.shared.enter(FlowState::WaitingSink);
        self.watch_source(cx)?;
        Poll::Pending
    }

    fn count_in(&mut self, count: usize) {
        Shared::count(&self.shared.bytes_read, count);
        self.clock.moved = true;
        self.gate.wrote(count);
        self.shared.set_held(self.gate.held());
        self.heed_gate();
    }

    fn count_out(&mut self, count: usize) {
        Shared::count(&self.shared.bytes_sent, count);
        self.clock.moved = true;
        self.gate.drained(count);
        self.shared.set_held(self.gate.held());
        self.heed_gate();
    }

    fn took(&mut self, bytes: bytes::Bytes) {
        if let Some(rate) = &mut self.rate {
            rate.spend(bytes.len() as u64, self.shared.age(Instant::now()));
        }
        if let Some(total) = &self.total {
            total.spend(bytes.len());
        }
        if let Some(inspect) = &mut self.inspect {
            inspect(&bytes);
        }
        let count = bytes.len();
        self.held.push(bytes);
        self.count_in(count);
    }

    /// Writes until nothing is held or the sink waits, and says whether it waits.
    fn write_held(&mut self, cx: &mut Context<'_>) -> Result<bool, FlowError> {
        if self.kernel.held() > 0 && self.empty_lane(cx)? {
            return Ok(true);
        }
        while !self.held.is_empty() {
            if matches!(self.phase, Phase::Moving) {
                self.shared.enter(FlowState::Writing);
            }
            match self.sink.poll_write(cx, &self.held) {
                Poll::Ready(Ok(accepted)) => {
                    self.held.advance(accepted);
                    self.sink_dirty = true;
                    self.count_out(accepted);
                }
                Poll::Ready(Err(error)) => return Err(FlowError::endpoint(Side::Sink, error)),
                Poll::Pending => return Ok(true),
            }
        }
        Ok(false)
    }

    /// Brings out what waits in a kernel lane, and says whether the sink waits.
    fn empty_lane(&mut self, cx: &mut Context<'_>) -> Result<bool, FlowError> {
        if matches!(self.phase, Phase::Moving) {
            self.shared.enter(FlowState::Writing);
        }
        while self.kernel.held() > 0 {
            match self.kernel.poll_out(cx, &mut self.sink) {
                Poll::Ready(Ok(count)) if count > 0 => self.count_out(count),
                Poll::Pending => return Ok(true),
                Poll::Ready(_) => {
                    // Refused, or failed: the sink's own write tells which, with these same bytes.
                    let bytes = self.kernel.take_back().map_err(|error| {
                        FlowError::endpoint(Side::Source, EndpointError::io("a pipe of our own", error))
                    })?;
                    self.held.push(bytes.into());
                }
            }
        }
        Ok(false)
    }

    fn flush(&mut self, cx: &mut Context<'_>) -> Result<(), FlowError> {
        if self.sink_dirty {
            match self.sink.poll_flush(cx) {
                Poll::Ready(Ok(())) => self.sink_dirty = false,
                Poll::Ready(Err(error)) => return Err(FlowError::endpoint(Side::Sink, error)),
                Poll::Pending => {}
            }
        }
        Ok(())
    }

    fn wait_source(&mut self, cx: &mut Context<'_>, sink_waits: bool) -> Poll<Result<(), FlowError>> {
        if sink_waits {
            self.shared.enter(FlowState::Writing);
            return Poll::Pending;
        }
        debug_assert!(
            self.gate.held() == 0,
            "everything was written before waiting for the source"
        );
        self.flush(cx)?;
        self.kernel.rest();
        self.held.shrink();
        self.watch_sink(cx)
    }

    fn wait_paused(&mut self, cx: &mut Context<'_>, sink_waits: bool) -> Poll<Result<(), FlowError>> {
        let state = match &self.reads {
            Reads { user: Out::Yes, .. } => FlowState::Paused,
            _ if self.gate.is_held_by(HoldReason::Full) => FlowState::WaitingSink,
            _ => FlowState::Shaped,
        };
        self.shared.enter(state);
        if !sink_waits {
            self.flush(cx)?;
        }
        self.watch_source(cx)?;
        if sink_waits {
            Poll::Pending
        } else {
            self.watch_sink(cx)
        }
    }

    /// A pause is not blind.
    fn watch_source(&mut self, cx: &mut Context<'_>) -> Result<(), FlowError> {
        match self.source.poll_hangup(cx) {
            Poll::Ready(error) => Err(FlowError::endpoint(Side::Source, error)),
            Poll::Pending => Ok(()),
        }
    }

    fn watch_sink(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), FlowError>> {
        if !self.watch_sink {
            return Poll::Pending;
        }
        self.sink
            .poll_hangup(cx)
            .map(|error| Err(FlowError::endpoint(Side::Sink, error)))
    }

    fn poll_drain(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), FlowError>> {
        self.shared.enter(FlowState::Draining);
        if self.write_held(cx)? {
            return Poll::Pending;
        }
        self.phase = Phase::Finishing;
        Poll::Ready(Ok(()))
    }

    fn poll_finish(&mut self, cx: &mut Context<'_>) -> Poll<Result<Confirmation, FlowError>> {
        self.shared.enter(FlowState::Finishing);
        self.sink
            .poll_finish(cx)
            .map_err(|error| FlowError::endpoint(Side::Sink, error))
    }

    fn poll_stopping(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), FlowError>> {
        self.shared.enter(FlowState::Draining);
        if self.write_held(cx)? {
            return Poll::Pending;
        }
        self.flush(cx)?;
        if self.sink_dirty || self.sink.unsent_bytes().is_some_and(|unsent| unsent > 0) {
            return self.watch_sink(cx);
        }
        match std::mem::replace(&mut self.phase, Phase::Draining) {
            Phase::Stopping(error) => Poll::Ready(Err(*error)),
            _ => Poll::Ready(Ok(())),
        }
    }

    fn finished(&mut self, confirmation: Confirmation) -> Report {
        self.shared.enter(FlowState::Done);
        self.phase = Phase::Done;
        let mut report = self.shared.report();
        report.confirmation = Some(confirmation);
        if confirmation == Confirmation::Confirmed {
            report.bytes_confirmed = report.bytes_sent;
        }
        report
    }

    fn obey_wishes(&mut self) {
        let wishes = self.shared.wishes();
        if wishes == 0 || matches!(self.phase, Phase::Aborting(_) | Phase::Done) {
            return;
        }
        if wishes & WISH_ABORT != 0 {
            let reason = self.shared.abort_reason();
            let cause = EndpointError::new(ErrorKind::Failed, Blame::Caller, reason.to_string());
            self.begin_abort(requested(cause), Some(reason));
            return;
        }
        let ends = matches!(
            self.phase,
            Phase::Finishing | Phase::Confirming(_) | Phase::Stopping(_)
        );
        if wishes & WISH_STOP != 0 && !ends {
            self.shared.granted(WISH_STOP);
            let cause = EndpointError::new(ErrorKind::Failed, Blame::Caller, "stopped on request");
            self.phase = Phase::Stopping(Box::new(requested(cause)));
        }
        if wishes & WISH_RATE != 0 {
            self.shared.granted(WISH_RATE);
            let now = self.shared.age(Instant::now());
            self.rate = self
                .shared
                .rate()
                .map(rate::per_second)
                .map(|rate| match self.rate.take() {
                    Some(mut bucket) => {
                        bucket.set_rate(rate, now);
                        bucket
                    }
                    None => Box::new(TokenBucket::new(rate, now)),
                });
        }
    }

    /// How many bytes the rate limits let go now; none after setting when to look again.
    fn allowance(&mut self) -> usize {
        if self.rate.is_none() && self.total.is_none() {
            return usize::MAX;
        }
        let now = Instant::now();
        let age = self.shared.age(now);
        let own = match &mut self.rate {
            Some(bucket) => {
                rate::allowed(bucket.allowance(u64::MAX, age)).map_err(|at| now + at.saturating_sub(age))
            }
            None => Ok(usize::MAX),
        };
        let total = self
            .total
            .as_ref()
            .map_or(Ok(usize::MAX), |total| total.allowance(now));
        self.clock.shaped_until = own.err().max(total.err());
        match (own, total) {
            (Ok(own), Ok(total)) => own.min(total),
            _ => 0,
        }
    }

    /// Ends the stream as not complete. The first error stands.
    /// What a failed source had given still goes out, so that none of it is lost; then the sink is aborted. In a relay the
    /// other direction must not wait for that.
    fn fail(&mut self, error: FlowError) {
        let source_failed = matches!(self.phase, Phase::Moving) && error.side == Some(Side::Source);
        if source_failed && !self.of_relay {
            self.phase = Phase::Stopping(Box::new(error));
        } else {
            self.begin_abort(error, None);
        }
    }

    pub(crate) fn begin_abort(&mut self, error: FlowError, reason: Option<AbortReason>) {
        if matches!(self.phase, Phase::Aborting(_) | Phase::Done) {
            return;
        }
        let reason = reason.unwrap_or_else(|| abort_reason(&error));
        self.sink.abort(&reason);
        self.clock = Clock {
            moved: true,
            ..Clock::default()
        };
        self.held = Held::default();
        self.phase = Phase::Aborting(Box::new(Aborting {
            error,
            sink_gone: false,
            source_gone: false,
        }));
    }

    pub(crate) fn is_aborting(&self) -> bool {
        matches!(self.phase, Phase::Aborting(_))
    }

    pub(crate) fn moved_bytes(&self) -> u64 {
        self.shared.bytes_read.load(Relaxed) + self.shared.bytes_sent.load(Relaxed)
    }

    fn poll_aborting(&mut self, cx: &mut Context<'_>) -> Poll<FlowError> {
        let Phase::Aborting(aborting) = &mut self.phase else {
            return Poll::Pending;
        };
        aborting.sink_gone = aborting.sink_gone || self.sink.poll_aborted(cx).is_ready();
        aborting.source_gone = aborting.source_gone || self.source.poll_stop(cx).is_ready();
        if aborting.sink_gone && aborting.source_gone {
            return Poll::Ready(self.aborted());
        }
        Poll::Pending
    }

    fn aborted(&mut self) -> FlowError {
        self.shared.enter(FlowState::Done);
        self.shared.set_held(0);
        match std::mem::replace(&mut self.phase, Phase::Done) {
            Phase::Aborting(aborting) => FlowError {
                report: self.shared.report(),
                ..aborting.error
            },
            _ => requested(EndpointError::new(
                ErrorKind::Failed,
                Blame::Caller,
                "already over",
            )),
        }
    }

    /// Looks at the deadlines after everything else has said that it waits.
    fn poll_limits(&mut self, cx: &mut Context<'_>) -> Poll<Verdict> {
        let limit = match self.phase {
            Phase::Moving if self.of_relay && self.shared.state() == FlowState::Reading => None,
            Phase::Moving => self.limits.stall,
            Phase::Draining => Some(
                self.limits
                    .stall
                    .map_or(self.limits.drain, |stall| stall.min(self.limits.drain)),
            ),
            Phase::Stopping(ref error) if error.side.is_some() => {
                Some(self.limits.drain.min(FAILED_DRAIN_MAX))
            }
            _ => Some(self.limits.drain),
        };
        let waits_for_us = matches!(self.shared.state(), FlowState::Paused | FlowState::Shaped);
        let limit = limit.filter(|_| !waits_for_us);
        if limit.is_none() {
            self.clock.progress_at = None;
            if self.clock.shaped_until.is_none() {
                self.clock.timer = None;
                return Poll::Pending;
            }
        }
        let now = Instant::now();
        let Some(limit) = limit else {
            return self
                .clock
                .poll_until(cx, self.clock.shaped_until.unwrap_or(now))
                .map(|()| Verdict::Again);
        };
        if self.clock.moved || self.clock.progress_at.is_none() {
            self.clock.moved = false;
            self.clock.progress_at = Some(now);
            self.clock.unsent_bytes = None;
        }
        loop {
            let since = self.clock.progress_at.unwrap_or(now);
            let late = since + limit;
            if now >= late && !self.sampled_progress(now) {
                return Poll::Ready(self.late());
            }
            // Looked at four times a limit, because a shrinking send queue wakes nobody.
            let often = match self.phase {
                Phase::Stopping(_) => STOP_LOOK.min(limit / 4),
                _ => limit / 4,
            };
            let look =
                (self.clock.progress_at.unwrap_or(now) + limit).min(now + often + Duration::from_millis(1));
            match self.clock.poll_until(cx, look) {
                Poll::Pending => return Poll::Pending,
                Poll::Ready(()) if self.stop_is_done() => return Poll::Ready(Verdict::Again),
                Poll::Ready(()) => {
                    self.sampled_progress(now);
                    if Instant::now() > now {
                        return Poll::Ready(Verdict::Again);
                    }
                }
            }
        }
    }

    fn stop_is_done(&self) -> bool {
        matches!(self.phase, Phase::Stopping(_)) && self.sink.unsent_bytes() == Some(0)
    }

    /// Whether something moved that nobody was woken for.
    fn sampled_progress(&mut self, now: Instant) -> bool {
        let unsent_bytes = self.sink.unsent_bytes();
        let shrank = matches!((self.clock.unsent_bytes, unsent_bytes), (Some(old), Some(new)) if new < old);
        self.clock.unsent_bytes = unsent_bytes;
        let busy = !matches!(self.phase, Phase::Moving) && self.sink.is_busy();
        if shrank || busy {
            self.clock.progress_at = Some(now);
        }
        shrank || busy
    }

    fn late(&mut self) -> Verdict {
        if let Phase::Confirming(confirmation) = self.phase {
            // The stream is delivered; only its source's far side did not hear of it in time.
            return Verdict::Sent(confirmation);
        }
        if matches!(self.phase, Phase::Aborting(_)) {
            return Verdict::LateAbort;
        }
        if matches!(self.phase, Phase::Finishing)
            && let Some(confirmation) = self.sink.finish_unconfirmed()
        {
            return Verdict::Sent(confirmation);
        }
        if let Phase::Stopping(error) = &self.phase
            && error.side.is_some()
        {
            return Verdict::Failed(error.clone());
        }
        let (side, what) = match self.phase {
            Phase::Moving if self.shared.state() == FlowState::Reading => {
                (Side::Source, "nothing arrived for longer than the stall limit")
            }
            Phase::Moving => (Side::Sink, "took nothing for longer than the stall limit"),
            _ => (Side::Sink, "made no progress before the drain deadline"),
        };
        let cause = EndpointError::new(ErrorKind::TimedOut, Blame::Peer, what);
        Verdict::Late(FlowError::endpoint(side, cause))
    }
}

/// How a step in a kernel lane went, for the flow.
enum Kerneled {
    Moved,
    SourceWaits,
    SinkWaits,
    Copy,
}

/// What the deadlines say.
enum Verdict {
    /// Time has passed: look at everything again.
    Again,
    /// A deadline passed.
    Late(FlowError),
    /// The abort itself took too long.
    LateAbort,
    /// Nobody acknowledged the end in time, but it was sent.
    Sent(Confirmation),
    /// The source had failed, and the sink takes no more of what is left.
    Failed(Box<FlowError>),
}

impl Clock {
    fn poll_until(&mut self, cx: &mut Context<'_>, when: Instant) -> Poll<()> {
        let timer = match &mut self.timer {
            Some(timer) => {
                // An earlier timer is left alone: it only makes us look again.
                if timer.deadline() > when || timer.is_elapsed() {
                    timer.as_mut().reset(when);
                }
                timer
            }
            none => none.insert(Box::pin(tokio::time::sleep_until(when))),
        };
        timer.as_mut().poll(cx)
    }
}

/// How much one poll may still do.
struct Turn {
    bytes: usize,
    steps: usize,
    yielded: bool,
}

impl Turn {
    fn new() -> Self {
        Self {
            bytes: TURN_BYTES,
            steps: TURN_STEPS,
            yielded: false,
        }
    }

    fn worked(&mut self, bytes: usize) {
        self.bytes = self.bytes.saturating_sub(bytes);
        self.steps -= 1;
    }

    fn is_over(&self) -> bool {
        self.bytes == 0 || self.steps == 0
    }
}

fn requested(cause: EndpointError) -> FlowError {
    FlowError {
        side: None,
        kind: FlowErrorKind::Aborted,
        report: Report::default(),
        cause,
    }
}

fn abort_reason(error: &FlowError) -> AbortReason {
    let cause: tidegate::Cause = Arc::new(error.cause.clone());
    match (error.side, error.kind) {
        (_, FlowErrorKind::Stalled) => AbortReason::TimedOut,
        (Some(Side::Source), FlowErrorKind::Truncated) => AbortReason::Truncated(cause),
        (Some(Side::Source), _) => AbortReason::Failed(cause),
        (Some(Side::Sink), _) => AbortReason::Stopped(Arc::new(StopReason::Failed(cause))),
        (None, _) => AbortReason::Requested,
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
            size_of::<crate::RelayRun>() <= 768,
            "{} bytes",
            size_of::<crate::RelayRun>()
        );
        assert!(size_of::<Shared>() <= 200, "{} bytes", size_of::<Shared>());
    }
}
