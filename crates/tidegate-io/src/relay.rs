//! Two flows, one each way, in one task, and what the end of one means for the other.
//!
//! Knows when a direction ends and how; how bytes move is the flows' business.

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use tidegate::{AbortReason, Marks};
use tokio::time::{Instant, Sleep};

use crate::flow::{Flow, Millis, is_obituary};
use crate::handle::FlowHandle;
use crate::rate::SharedRate;
use crate::report::{FlowError, FlowErrorKind, LaneChoice, Report};
use crate::{Blame, Duplex, EndpointError, ErrorKind, Sink, Source};

/// What one direction's clean end means for the other. A reset or an error aborts both at once, whatever the policy.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub enum HalfClose {
    /// The end is passed on, and the other direction goes on for as long as it likes.
    #[default]
    Propagate,
    /// The end is passed on, and the other direction is aborted once nothing has moved in it for so long.
    Linger(Duration),
    /// What is held is delivered, then the other direction is aborted.
    Abort,
}

/// One of a relay's two directions.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub enum Direction {
    /// From the first endpoint to the second.
    AToB,
    /// From the second endpoint to the first.
    BToA,
}

/// What a relay did.
#[derive(Clone, Debug, PartialEq)]
pub struct RelayReport {
    /// From the first endpoint to the second.
    pub a_to_b: Report,
    /// From the second endpoint to the first.
    pub b_to_a: Report,
}

/// A relay that did not end cleanly.
#[derive(Clone, Debug)]
pub struct RelayError {
    /// The direction that failed first.
    pub direction: Direction,
    /// Its error, with its report.
    pub error: Box<FlowError>,
    /// What was moved each way.
    pub report: Box<RelayReport>,
}

impl fmt::Display for RelayError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let direction = match self.direction {
            Direction::AToB => "a to b",
            Direction::BToA => "b to a",
        };
        write!(f, "{direction}: {}", self.error)
    }
}

impl std::error::Error for RelayError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        Some(&*self.error)
    }
}

type BoxedFlow = Flow<Box<dyn Source + Send>, Box<dyn Sink + Send>>;

/// A relay between two two-way endpoints.
///
/// A child that ends with 0 without having read all its input is no failure, as it is none behind a pipe or over ssh: all
/// it wrote is delivered, what it did not want is dropped, and the report says how much it was sent. What a child that
/// fails has written is delivered too, and then the other end is aborted: it must not look whole.
///
/// # Cancel safety
/// Dropping it aborts both directions.
#[must_use = "a relay moves nothing until it is run"]
pub struct Relay {
    a_to_b: Half,
    b_to_a: Half,
    half_close: Closing,
    idle: Option<Millis>,
    failed: Option<Direction>,
    /// The policy has ended the other direction: that is no failure.
    closing: bool,
    timer: Option<Box<Watch>>,
}

/// The half-close policy, kept small.
#[derive(Clone, Copy, Eq, PartialEq)]
enum Closing {
    Propagate,
    Linger(Millis),
    Abort,
}

impl From<HalfClose> for Closing {
    fn from(policy: HalfClose) -> Self {
        match policy {
            HalfClose::Propagate => Self::Propagate,
            HalfClose::Linger(limit) => Self::Linger(limit.into()),
            HalfClose::Abort => Self::Abort,
        }
    }
}

struct Half {
    flow: BoxedFlow,
    /// Boxed, because a relay that runs should be small.
    result: Option<Result<Box<Report>, Box<FlowError>>>,
}

/// Watches that bytes move, with a timer that is only moved when it goes off.
struct Watch {
    timer: Pin<Box<Sleep>>,
    moved_bytes: u64,
}

/// Remote control of a relay: one handle for each direction.
#[derive(Clone, Debug)]
pub struct RelayHandle {
    /// From the first endpoint to the second.
    pub a_to_b: FlowHandle,
    /// From the second endpoint to the first.
    pub b_to_a: FlowHandle,
}

impl RelayHandle {
    /// The gentle end of both directions: reading stops, what is held is delivered, then both are aborted.
    pub fn stop(&self) {
        self.a_to_b.stop_both(&self.b_to_a);
    }

    /// Aborts both directions.
    pub fn abort(&self, reason: AbortReason) {
        self.a_to_b.abort(reason.clone());
        self.b_to_a.abort(reason);
    }
}

impl Relay {
    /// A relay that does not limit anything and passes half-closes on.
    pub fn new(a: Duplex, b: Duplex) -> Self {
        let mut a_to_b = Flow::new(a.source, b.sink);
        let mut b_to_a = Flow::new(b.source, a.sink);
        // The other direction reads the same endpoint, so it notices a death without our watching.
        a_to_b.watch_sink = false;
        b_to_a.watch_sink = false;
        a_to_b.of_relay = true;
        b_to_a.of_relay = true;
        Self {
            a_to_b: Half {
                flow: a_to_b,
                result: None,
            },
            b_to_a: Half {
                flow: b_to_a,
                result: None,
            },
            half_close: Closing::Propagate,
            idle: None,
            failed: None,
            closing: false,
            timer: None,
        }
    }

    fn both(mut self, change: impl Fn(BoxedFlow) -> BoxedFlow) -> Self {
        self.a_to_b.flow = change(self.a_to_b.flow);
        self.b_to_a.flow = change(self.b_to_a.flow);
        self
    }

    /// Bounds what is held in each direction.
    pub fn marks(self, marks: Marks) -> Self {
        self.both(|flow| flow.marks(marks))
    }

    /// What a clean end of one direction means for the other.
    pub fn half_close(mut self, policy: HalfClose) -> Self {
        self.half_close = policy.into();
        self
    }

    /// Fails a direction that holds bytes which nobody takes for so long.
    pub fn stall(self, limit: Duration) -> Self {
        self.both(|flow| flow.stall(limit))
    }

    /// Aborts both directions when nothing has moved in either for so long.
    pub fn idle(mut self, limit: Duration) -> Self {
        self.idle = Some(limit.into());
        self
    }

    /// How long a direction's sink may go without progress once its source has ended.
    pub fn drain(self, limit: Duration) -> Self {
        self.both(|flow| flow.drain(limit))
    }

    /// Limits each direction, in bytes a second.
    pub fn rate(self, bytes_per_second: u64) -> Self {
        self.both(|flow| flow.rate(bytes_per_second))
    }

    /// Limits this relay together with all others that share the limit.
    pub fn total_rate(self, rate: &SharedRate) -> Self {
        self.both(|flow| flow.total_rate(rate.clone()))
    }

    /// Chooses the lane of both directions.
    pub fn lane(self, choice: LaneChoice) -> Self {
        self.both(|flow| flow.lane(choice))
    }

    /// Remote controls of both directions.
    pub fn handle(&self) -> RelayHandle {
        RelayHandle {
            a_to_b: self.a_to_b.flow.handle(),
            b_to_a: self.b_to_a.flow.handle(),
        }
    }

    /// What will run the relay.
    pub fn run(self) -> RelayRun {
        RelayRun { relay: self }
    }
}

/// A running relay. Ends once both directions have.
#[must_use = "futures do nothing unless polled"]
pub struct RelayRun {
    relay: Relay,
}

impl Future for RelayRun {
    type Output = Result<RelayReport, RelayError>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        self.relay.poll_run(cx)
    }
}

impl Half {
    /// Whether this poll brought the end.
    fn poll(&mut self, cx: &mut Context<'_>) -> bool {
        if self.result.is_some() {
            return false;
        }
        match self.flow.poll_run(cx) {
            Poll::Ready(result) => {
                self.result = Some(result.map(Box::new).map_err(Box::new));
                true
            }
            Poll::Pending => false,
        }
    }

    /// The error this direction ends with, as soon as it is known. That the far side wants no more is none.
    fn failure(&self) -> Option<&FlowError> {
        let error = match &self.result {
            Some(result) => result.as_ref().err().map(|error| &**error),
            None => self.flow.ends_with(),
        };
        error.filter(|error| !is_declined(error))
    }

    fn ended_well(&self) -> bool {
        self.result.is_some() && self.failure().is_none()
    }

    /// Told to stop, and still busy with it.
    fn is_stopping(&self) -> bool {
        let heeds = self.result.is_none() && self.flow.ends_with().is_none();
        heeds && (self.flow.is_stopping() || self.flow.will_stop())
    }

    /// Whether the other direction may hear of this failure now. One that was stopped has nothing to say while the other
    /// still delivers what it holds.
    fn spreads(&self, while_stopping: bool, other: &Self) -> bool {
        !self.mourns(other)
            && self.failure().is_some_and(|error| {
                !while_stopping || error.side.is_some() || error.kind != FlowErrorKind::Aborted
            })
    }

    /// Whether the far side has died while the other direction still brings what it had said.
    fn mourns(&self, other: &Self) -> bool {
        let speaks = other.result.is_none() && other.flow.ends_with().is_none();
        speaks && self.failure().is_some_and(is_obituary)
    }
}

impl Relay {
    fn poll_run(&mut self, cx: &mut Context<'_>) -> Poll<Result<RelayReport, RelayError>> {
        loop {
            self.heed_stop();
            let ended = self.a_to_b.poll(cx) | self.b_to_a.poll(cx);
            let spread = self.spread_failure() | self.release_sources();
            if self.a_to_b.result.is_some() && self.b_to_a.result.is_some() {
                return Poll::Ready(self.outcome());
            }
            if ended {
                self.one_ended();
            }
            if !ended && !spread && !self.poll_watch(cx) {
                return Poll::Pending;
            }
        }
    }

    /// A reset or an error in one direction aborts both at once, also while the other is blocked. Only the last words of
    /// a far side that has died are delivered first.
    fn spread_failure(&mut self) -> bool {
        if self.failed.is_some() || self.closing {
            return false;
        }
        let stopping = self.is_stopping();
        let (direction, other) = if self.a_to_b.spreads(stopping, &self.b_to_a) {
            (Direction::AToB, &mut self.b_to_a)
        } else if self.b_to_a.spreads(stopping, &self.a_to_b) {
            (Direction::BToA, &mut self.a_to_b)
        } else {
            return false;
        };
        self.failed = Some(direction);
        other.cut("the other direction failed");
        other.flow.stop_discarding();
        true
    }

    fn is_stopping(&self) -> bool {
        self.a_to_b.is_stopping() || self.b_to_a.is_stopping()
    }

    /// Once neither direction delivers what it held, the endpoints of a stopped relay, or of one that mourns, may go.
    fn release_sources(&mut self) -> bool {
        let mourns = self.a_to_b.mourns(&self.b_to_a) || self.b_to_a.mourns(&self.a_to_b);
        !self.is_stopping()
            && !mourns
            && (self.a_to_b.flow.release_source() | self.b_to_a.flow.release_source())
    }

    /// Where one direction has ended and the other only reads what nobody wants, a stop ends that too.
    fn heed_stop(&mut self) {
        for (ended, other) in [
            (&self.a_to_b.result, &mut self.b_to_a.flow),
            (&self.b_to_a.result, &mut self.a_to_b.flow),
        ] {
            if ended.is_some() && other.is_told_to_stop() {
                other.stop_discarding();
            }
        }
    }

    /// One direction has ended cleanly: what the policy says about the other.
    fn one_ended(&mut self) {
        if self.failed.is_some() || self.closing {
            return;
        }
        let (ended, other) = if self.a_to_b.result.is_some() {
            (&self.a_to_b, &mut self.b_to_a)
        } else {
            (&self.b_to_a, &mut self.a_to_b)
        };
        // What was declined, the far side has said all: its last words go out whatever the policy.
        let declined = matches!(&ended.result, Some(Err(error)) if is_declined(error));
        // Nobody reads that endpoint any more, so its death must be watched for.
        other.flow.watch_sink = true;
        let failed = ended.failure().is_some();
        if self.half_close == Closing::Abort && !declined && !failed {
            self.closing = true;
            other.cut("the other direction ended");
        }
        self.timer = None;
    }

    /// The idle limit, and the linger limit once one direction has ended. Says whether to look again at once.
    fn poll_watch(&mut self, cx: &mut Context<'_>) -> bool {
        let one_ended = self.a_to_b.ended_well() || self.b_to_a.ended_well();
        let linger = match self.half_close {
            Closing::Linger(limit) if one_ended => Some(Duration::from(limit)),
            _ => None,
        };
        let Some(limit) = linger
            .into_iter()
            .chain(self.idle.map(Duration::from))
            .min()
            .filter(|_| self.failed.is_none() && !self.closing)
        else {
            return false;
        };
        let moved_bytes = self.a_to_b.flow.moved_bytes() + self.b_to_a.flow.moved_bytes();
        let watch = self.timer.get_or_insert_with(|| {
            Box::new(Watch {
                timer: Box::pin(tokio::time::sleep(limit)),
                moved_bytes,
            })
        });
        let idle_again = watch.moved_bytes != moved_bytes;
        if idle_again {
            watch.moved_bytes = moved_bytes;
            watch.timer.as_mut().reset(Instant::now() + limit);
        }
        if watch.timer.as_mut().poll(cx).is_pending() {
            return false;
        }
        self.timer = None;
        self.closing = linger == Some(limit);
        let what = if self.closing {
            "nothing moved for longer than the linger limit"
        } else {
            "nothing moved for longer than the idle limit"
        };
        self.a_to_b.late(what);
        self.b_to_a.late(what);
        true
    }

    fn outcome(&mut self) -> Result<RelayReport, RelayError> {
        let a_to_b = self.a_to_b.result.take();
        let b_to_a = self.b_to_a.result.take();
        let report = RelayReport {
            a_to_b: report_of(a_to_b.as_ref()),
            b_to_a: report_of(b_to_a.as_ref()),
        };
        let (direction, result) = match self.failed {
            None => return Ok(report),
            Some(Direction::AToB) => (Direction::AToB, a_to_b),
            Some(Direction::BToA) => (Direction::BToA, b_to_a),
        };
        match result {
            Some(Err(error)) => Err(RelayError {
                direction,
                error,
                report: Box::new(report),
            }),
            _ => Ok(report),
        }
    }
}

/// The far side ended well and wants no more: an end like any other.
fn is_declined(error: &FlowError) -> bool {
    error.cause.kind == ErrorKind::Declined
}

fn report_of(result: Option<&Result<Box<Report>, Box<FlowError>>>) -> Report {
    match result {
        Some(Ok(report)) => Report::clone(report),
        Some(Err(error)) => error.report.clone(),
        None => Report::default(),
    }
}

impl Half {
    fn cut(&mut self, what: &'static str) {
        if self.result.is_none() {
            let cause = EndpointError::new(ErrorKind::Failed, Blame::Peer, what);
            self.abort(FlowErrorKind::Aborted, cause, AbortReason::Requested);
        }
    }

    fn late(&mut self, what: &'static str) {
        if self.result.is_none() {
            let cause = EndpointError::new(ErrorKind::TimedOut, Blame::Peer, what);
            self.abort(FlowErrorKind::Stalled, cause, AbortReason::TimedOut);
            // One that is over but for reading what nobody wants is over now.
            self.flow.stop_discarding();
        }
    }

    fn abort(&mut self, kind: FlowErrorKind, cause: EndpointError, reason: AbortReason) {
        let error = FlowError {
            side: None,
            kind,
            report: Report::default(),
            cause,
        };
        self.flow.begin_abort(error, Some(reason));
    }
}
