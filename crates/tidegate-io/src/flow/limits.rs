//! Clocks and rates of a flow: how long it may wait for whom, and how many bytes may go now.
//!
//! Knows nothing of how bytes move; it looks after everything else has said that it waits.

use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::time::{Instant, Sleep};

use super::{Flow, Phase};
use crate::handle::FlowState;
use crate::rate;
use crate::report::{FlowError, Side};
use crate::{Blame, Confirmation, EndpointError, ErrorKind, Sink, Source};

/// How long a sink may take without any progress once the source has ended.
pub const DRAIN_DEFAULT: Duration = Duration::from_secs(30);

/// How often a stopped flow looks whether the kernel has got rid of everything.
const STOP_LOOK: Duration = Duration::from_millis(20);

/// How long a sink may go without progress when the source has failed and only what it had given is to go out.
const FAILED_DRAIN_MAX: Duration = Duration::from_secs(2);
#[derive(Clone, Copy)]
pub(super) struct Limits {
    pub(super) stall: Option<Duration>,
    pub(super) drain: Duration,
}
/// Watches for progress with one timer that is moved as rarely as can be.
#[derive(Default)]
pub(super) struct Clock {
    pub(super) timer: Option<Pin<Box<Sleep>>>,
    pub(super) progress_at: Option<Instant>,
    pub(super) moved: bool,
    pub(super) unsent_bytes: Option<u64>,
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

    /// Looks at the deadlines after everything else has said that it waits.
    pub(super) fn poll_limits(&mut self, cx: &mut Context<'_>) -> Poll<Verdict> {
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
