//! Bytes that stay in the kernel, as the flow sees them: counted in, counted out, and taken back where a lane ends.
//!
//! Knows nothing of how a lane moves them; `lane` does.

use std::sync::atomic::Ordering::Relaxed;
use std::task::{Context, Poll};

use super::moving::Turn;
use super::{Flow, Phase};
use crate::handle::FlowState;
use crate::lane::Step;
use crate::report::{FlowError, Side};
use crate::{EndpointError, Sink, Source};

/// How a step in a kernel lane went, for the flow.
pub(super) enum Kerneled {
    Moved,
    SourceWaits,
    SinkWaits,
    /// User space has to carry on: this once, or for good.
    CopyOnce,
    Copy,
}

impl<S: Source, K: Sink> Flow<S, K> {
    /// Whether bytes may travel in the kernel now: nobody needs to see or count out each of them.
    pub(super) fn in_kernel(&mut self) -> bool {
        let seen = self.tolls.as_ref().is_some_and(|tolls| tolls.count());
        let bytes_read = self.shared.bytes_read.load(Relaxed);
        !seen
            && self
                .kernel
                .is_chosen(self.lane, &self.source, &self.sink, bytes_read)
    }

    pub(super) fn poll_kernel(&mut self, cx: &mut Context<'_>, turn: &mut Turn, most: usize) -> Kerneled {
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
            Step::CopyOnce => Kerneled::CopyOnce,
            Step::Refused => Kerneled::Copy,
        }
    }

    /// The sink takes nothing: the kernel's own queue is the full one.
    pub(super) fn wait_kernel_sink(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), FlowError>> {
        self.shared.enter(FlowState::WaitingSink);
        self.watch_source(cx)?;
        Poll::Pending
    }

    /// Brings out what waits in a kernel lane, and says whether the sink waits.
    pub(super) fn empty_lane(&mut self, cx: &mut Context<'_>) -> Result<bool, FlowError> {
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
}
