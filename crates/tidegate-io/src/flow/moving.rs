//! While the source goes on: write what is held, read what may be read, and wait for whoever has to come next.
//!
//! Knows nothing of how a stream ends, nor of clocks.

use std::sync::atomic::Ordering::Relaxed;
use std::task::{Context, Poll};

use tidegate::HoldReason;
use tokio::time::Instant;

use super::lanes::Kerneled;
use super::pace::{self, Pace};
use super::{Flow, Out, Phase, Reads};
use crate::handle::{FlowState, Shared};
use crate::report::{FlowError, Lane, Side};
use crate::{Sink, Source};

/// Work done in one turn before other tasks get theirs.
const TURN_BYTES: usize = 2 * 1024 * 1024;
const TURN_STEPS: usize = 32;
/// What a flow moves before its pace is looked at: a small one has none to speak of.
const PACED_BYTES: u64 = 512 * 1024;

impl<S: Source, K: Sink> Flow<S, K> {
    pub(super) fn poll_move(&mut self, cx: &mut Context<'_>, turn: &mut Turn) -> Poll<Result<(), FlowError>> {
        loop {
            let sink_waits = self.write_held(cx)?;
            if sink_waits {
                self.learn_sink_waits();
            }
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
            let paced = self.pace().map(|pace| pace.most());
            let paced = paced.unwrap_or_else(|| pace::most_at_first(self.shared.bytes_sent.load(Relaxed)));
            let most = self.gate.marks().chunk().min(allowed).min(paced);
            let mut lane = Lane::Copy;
            if !sink_waits && self.in_kernel() {
                match self.poll_kernel(cx, turn, most) {
                    Kerneled::Moved => continue,
                    Kerneled::SourceWaits => return self.wait_source(cx, false),
                    Kerneled::SinkWaits => return self.wait_kernel_sink(cx),
                    Kerneled::CopyOnce => lane = self.kernel.lane(),
                    Kerneled::Copy => {}
                }
            }
            match self.source.poll_read(cx, &mut self.buffers, most) {
                Poll::Ready(Ok(Some(bytes))) => {
                    self.shared.set_lane(lane);
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

    pub(super) fn count_in(&mut self, count: usize) {
        Shared::count(&self.shared.bytes_read, count);
        self.moved = true;
        self.gate.wrote(count);
        self.heed_gate();
    }

    pub(super) fn count_out(&mut self, count: usize) {
        Shared::count(&self.shared.bytes_sent, count);
        if let Some(pace) = self.pace() {
            pace.took(count);
        }
        self.moved = true;
        self.gate.drained(count);
        self.heed_gate();
    }

    fn took(&mut self, bytes: bytes::Bytes) {
        if let Some(tolls) = &mut self.tolls {
            tolls.took(&bytes);
        }
        let count = bytes.len();
        self.held.push(bytes);
        self.count_in(count);
    }

    /// Writes until nothing is held or the sink waits, and says whether it waits.
    pub(super) fn write_held(&mut self, cx: &mut Context<'_>) -> Result<bool, FlowError> {
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

    pub(super) fn flush(&mut self, cx: &mut Context<'_>) -> Result<(), FlowError> {
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
        if let Some(ahead) = self.pace().and_then(Pace::source_waits) {
            self.source.set_run_ahead(ahead);
        }
        self.kernel.rest();
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

    fn pace(&mut self) -> Option<&mut Pace> {
        self.tolls.as_mut()?.pace.as_mut()
    }

    /// The sink is the slow side, at least now: its source is not to run far ahead of it.
    fn learn_sink_waits(&mut self) {
        let now = Instant::now();
        if let Some(pace) = self.pace() {
            if let Some(ahead) = pace.sink_waits(now) {
                self.source.set_run_ahead(ahead);
            }
        } else if self.shared.bytes_sent.load(Relaxed) >= PACED_BYTES {
            self.tolls.get_or_insert_default().pace = Some(Pace::new(now));
        }
    }

    /// A pause is not blind.
    pub(super) fn watch_source(&mut self, cx: &mut Context<'_>) -> Result<(), FlowError> {
        match self.source.poll_hangup(cx) {
            Poll::Ready(error) => Err(FlowError::endpoint(Side::Source, error)),
            Poll::Pending => Ok(()),
        }
    }

    pub(super) fn watch_sink(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), FlowError>> {
        if !self.watch_sink {
            return Poll::Pending;
        }
        self.sink
            .poll_hangup(cx)
            .map(|error| Err(FlowError::endpoint(Side::Sink, error)))
    }
}

/// How much one poll may still do.
pub(super) struct Turn {
    pub(super) bytes: usize,
    pub(super) steps: usize,
    pub(super) yielded: bool,
}

impl Turn {
    pub(super) fn new() -> Self {
        Self {
            bytes: TURN_BYTES,
            steps: TURN_STEPS,
            yielded: false,
        }
    }

    pub(super) fn worked(&mut self, bytes: usize) {
        self.bytes = self.bytes.saturating_sub(bytes);
        self.steps -= 1;
    }

    fn is_over(&self) -> bool {
        self.bytes == 0 || self.steps == 0
    }
}
