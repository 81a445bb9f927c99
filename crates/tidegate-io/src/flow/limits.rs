//! Clocks and rates of a flow: how long it may wait for whom, and how many bytes may go now.
//!
//! Knows nothing of how bytes move; it looks after everything else has said that it waits.

use std::future::Future;
use std::num::NonZeroU32;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use tidegate::TokenBucket;
use tokio::time::{Instant, Sleep};

use super::pace::Pace;
use super::{Flow, Inspect, Phase};
use crate::handle::{FlowState, age};
use crate::rate::{self, SharedRate};
use crate::report::{FlowError, Side};
use crate::{Blame, Confirmation, EndpointError, ErrorKind, Sink, Source};

/// How long a sink may take without any progress once the source has ended.
pub const DRAIN_DEFAULT: Duration = Duration::from_secs(30);

/// How often a stopped flow looks whether the kernel has got rid of everything, at first.
const STOP_LOOK: Duration = Duration::from_millis(20);

/// How long a sink may go without progress when the source has failed and only what it had given is to go out.
const FAILED_DRAIN_MAX: Duration = Duration::from_secs(2);

/// A limit in whole milliseconds, some seven weeks at most: idle flows are many, so it is kept small.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) struct Millis(NonZeroU32);

impl From<Duration> for Millis {
    /// Rounds up: no limit becomes stricter.
    fn from(limit: Duration) -> Self {
        let whole_ms = limit.as_nanos().div_ceil(1_000_000);
        let whole_ms = u32::try_from(whole_ms).unwrap_or(u32::MAX);
        Self(NonZeroU32::new(whole_ms).unwrap_or(NonZeroU32::MIN))
    }
}

impl From<Millis> for Duration {
    fn from(limit: Millis) -> Self {
        Self::from_millis(limit.0.get().into())
    }
}

#[derive(Clone, Copy)]
pub(super) struct Limits {
    pub(super) stall: Option<Millis>,
    pub(super) drain: Millis,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            stall: None,
            drain: DRAIN_DEFAULT.into(),
        }
    }
}

/// Who sees or counts out every byte of a flow.
#[derive(Default)]
pub(super) struct Tolls {
    rate: Option<TokenBucket>,
    pub(super) total: Option<SharedRate>,
    pub(super) inspect: Option<Inspect>,
    /// Once the flow has moved much and its sink had to be waited for. It needs only the counts.
    pub(super) pace: Option<Pace>,
}

impl Tolls {
    /// Whether anybody does now.
    pub(super) fn count(&self) -> bool {
        self.rate.is_some() || self.total.is_some() || self.inspect.is_some()
    }

    /// Changes the flow's own rate limit, or lifts it.
    pub(super) fn set_rate(&mut self, bytes_per_second: Option<u64>, now: Duration) {
        let rate = bytes_per_second.map(rate::per_second);
        self.rate = rate.map(|rate| match self.rate.take() {
            Some(mut bucket) => {
                bucket.set_rate(rate, now);
                bucket
            }
            None => TokenBucket::new(rate, now),
        });
    }

    /// These bytes were read.
    pub(super) fn took(&mut self, bytes: &[u8]) {
        if let Some(rate) = &mut self.rate {
            rate.spend(bytes.len() as u64, age(Instant::now()));
        }
        if let Some(total) = &self.total {
            total.spend(bytes.len());
        }
        if let Some(inspect) = &mut self.inspect {
            inspect(bytes);
        }
    }

    /// How many bytes the rate limits let go now, or when to look again.
    fn allowance(&mut self) -> Result<usize, Instant> {
        if self.rate.is_none() && self.total.is_none() {
            return Ok(usize::MAX);
        }
        let now = Instant::now();
        let age = age(now);
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
        match (own, total) {
            (Ok(own), Ok(total)) => Ok(own.min(total)),
            (Err(own), Err(total)) => Err(own.max(total)),
            (Err(at), _) | (_, Err(at)) => Err(at),
        }
    }
}

/// Watches for progress with one timer that is moved as rarely as can be.
#[derive(Default)]
pub(super) struct Clock {
    timer: Option<Pin<Box<Sleep>>>,
    progress_at: Option<Instant>,
    unsent_bytes: Option<u64>,
    /// When the rate limit lets the next bytes go.
    pub(super) shaped_until: Option<Instant>,
}

/// What the deadlines say.
pub(super) enum Verdict {
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

impl<S: Source, K: Sink> Flow<S, K> {
    /// How many bytes the rate limits let go now; none after setting when to look again.
    pub(super) fn allowance(&mut self) -> usize {
        match self
            .tolls
            .as_mut()
            .map_or(Ok(usize::MAX), |tolls| tolls.allowance())
        {
            Ok(bytes) => bytes,
            Err(at) => {
                self.clock().shaped_until = Some(at);
                0
            }
        }
    }

    fn clock(&mut self) -> &mut Clock {
        self.clock.get_or_insert_default()
    }

    /// The limit that runs in this phase, if one does.
    fn limit(&self) -> Option<Duration> {
        if matches!(self.shared.state(), FlowState::Paused | FlowState::Shaped) {
            return None;
        }
        let stall = self.limits.stall.map(Duration::from);
        let drain = Duration::from(self.limits.drain);
        match self.phase {
            Phase::Moving if self.of_relay && self.shared.state() == FlowState::Reading => None,
            Phase::Moving => stall,
            Phase::Draining => Some(stall.map_or(drain, |stall| stall.min(drain))),
            // The last words of a child that has died are its whole output, and nothing follows them.
            Phase::Stopping(ref error) if error.side.is_some() && error.cause.kind != ErrorKind::Died => {
                Some(drain.min(FAILED_DRAIN_MAX))
            }
            _ => Some(drain),
        }
    }

    /// Looks at the deadlines after everything else has said that it waits.
    pub(super) fn poll_limits(&mut self, cx: &mut Context<'_>) -> Poll<Verdict> {
        let Some(limit) = self.limit() else {
            return self.poll_shaped(cx);
        };
        let now = Instant::now();
        let moved = std::mem::take(&mut self.moved);
        let clock = self.clock();
        if moved || clock.progress_at.is_none() {
            clock.progress_at = Some(now);
            clock.unsent_bytes = None;
        }
        loop {
            let late = self.clock().progress_at.unwrap_or(now) + limit;
            if now >= late && !self.sampled_progress(now) {
                return Poll::Ready(self.late());
            }
            let progress_at = self.clock().progress_at.unwrap_or(now);
            // Looked at four times a limit, because a shrinking send queue wakes nobody.
            let often = match self.phase {
                // The more seldom the longer nothing has moved: many flows may be stopped at once.
                Phase::Stopping(_) => STOP_LOOK.max((now - progress_at) / 4).min(limit / 4),
                _ => limit / 4,
            };
            let clock = self.clock();
            let look = (progress_at + limit).min(now + often + Duration::from_millis(1));
            match clock.poll_until(cx, look) {
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

    /// No limit runs: waits at most for the rate limit's next bytes.
    fn poll_shaped(&mut self, cx: &mut Context<'_>) -> Poll<Verdict> {
        let Some(clock) = &mut self.clock else {
            return Poll::Pending;
        };
        clock.progress_at = None;
        match clock.shaped_until {
            Some(until) => clock.poll_until(cx, until).map(|()| Verdict::Again),
            None => {
                self.clock = None;
                Poll::Pending
            }
        }
    }

    fn stop_is_done(&self) -> bool {
        matches!(self.phase, Phase::Stopping(_)) && self.sink.unsent_bytes() == Some(0)
    }

    /// Whether something moved that nobody was woken for.
    fn sampled_progress(&mut self, now: Instant) -> bool {
        let unsent_bytes = self.sink.unsent_bytes();
        let busy = match self.phase {
            Phase::Moving => self.sink.is_heard_out(),
            // A relay that was stopped reads no more, so who is waited for through its output would never end.
            Phase::Stopping(_) if self.of_relay => false,
            _ => self.sink.is_heard_out() || self.sink.is_busy(),
        };
        let clock = self.clock();
        let shrank = matches!((clock.unsent_bytes, unsent_bytes), (Some(old), Some(new)) if new < old);
        clock.unsent_bytes = unsent_bytes;
        if shrank || busy {
            clock.progress_at = Some(now);
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
