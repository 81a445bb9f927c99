//! How a flow ends: what is held goes out, the sink finishes and the source hears of it; or the sink is aborted.
//!
//! Knows nothing of deadlines; `limits` calls when one has passed.

use std::sync::Arc;
use std::task::{Context, Poll};

use tidegate::{AbortReason, StopReason};

use super::{Flow, Phase};
use crate::handle::FlowState;
use crate::report::{FlowError, FlowErrorKind, Report, Side};
use crate::{Blame, Confirmation, EndpointError, ErrorKind, Held, Sink, Source};

pub(super) struct Aborting {
    pub(super) error: FlowError,
    pub(super) sink_gone: bool,
    pub(super) source_gone: bool,
    /// In a relay that was told to stop, or whose far side has died, the source's endpoint may still be taking what the
    /// other direction holds.
    pub(super) source_waits: bool,
}

impl<S: Source, K: Sink> Flow<S, K> {
    pub(super) fn poll_drain(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), FlowError>> {
        self.shared.enter(FlowState::Draining);
        if self.write_held(cx)? {
            return Poll::Pending;
        }
        self.phase = Phase::Finishing;
        Poll::Ready(Ok(()))
    }

    pub(super) fn poll_finish(&mut self, cx: &mut Context<'_>) -> Poll<Result<Confirmation, FlowError>> {
        self.shared.enter(FlowState::Finishing);
        self.sink
            .poll_finish(cx)
            .map_err(|error| FlowError::endpoint(Side::Sink, error))
    }

    pub(super) fn poll_stopping(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), FlowError>> {
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

    pub(super) fn finished(&mut self, confirmation: Confirmation) -> Report {
        self.shared.enter(FlowState::Done);
        self.phase = Phase::Done;
        let mut report = self.shared.report();
        report.confirmation = Some(confirmation);
        if confirmation == Confirmation::Confirmed {
            report.bytes_confirmed = report.bytes_sent;
        }
        report
    }

    /// Ends the stream as not complete. The first error stands.
    /// What a failed source had given still goes out, so that none of it is lost; then the sink is aborted. In a relay the
    /// other direction must not wait for that, but where the far side has died having said all.
    pub(super) fn fail(&mut self, error: FlowError) {
        let source_failed = matches!(self.phase, Phase::Moving) && error.side == Some(Side::Source);
        if source_failed && (!self.of_relay || error.cause.kind == ErrorKind::Died) {
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
        let source_waits = self.of_relay && (self.is_stopping() || is_obituary(&error));
        if source_waits && error.cause.kind == ErrorKind::Declined {
            // The wish was for an end, which reading what nobody wants is not: the relay grants the rest of it.
            self.shared.wish_to_stop();
        }
        self.sink.abort(&reason);
        self.clock = None;
        self.moved = true;
        self.held = Held::default();
        self.phase = Phase::Aborting(Box::new(Aborting {
            error,
            sink_gone: false,
            source_gone: false,
            source_waits,
        }));
    }

    /// The error it will end with, as soon as that is known.
    pub(crate) fn ends_with(&self) -> Option<&FlowError> {
        match &self.phase {
            Phase::Aborting(aborting) => Some(&aborting.error),
            _ => None,
        }
    }

    /// Whether what is held goes out because the user wants an end.
    pub(crate) fn is_stopping(&self) -> bool {
        matches!(&self.phase, Phase::Stopping(error) if error.side.is_none())
    }

    /// What the far side declined is not read any longer.
    pub(crate) fn stop_discarding(&mut self) {
        if let Phase::Aborting(aborting) = &mut self.phase
            && aborting.error.cause.kind == ErrorKind::Declined
        {
            aborting.source_gone = true;
        }
    }

    /// A source that waited for the other direction's stop is stopped. Says whether one did.
    pub(crate) fn release_source(&mut self) -> bool {
        match &mut self.phase {
            Phase::Aborting(aborting) => std::mem::take(&mut aborting.source_waits),
            _ => false,
        }
    }

    pub(super) fn poll_aborting(&mut self, cx: &mut Context<'_>) -> Poll<FlowError> {
        let Phase::Aborting(aborting) = &mut self.phase else {
            return Poll::Pending;
        };
        aborting.sink_gone = aborting.sink_gone || self.sink.poll_aborted(cx).is_ready();
        aborting.source_gone = aborting.source_gone
            || match aborting.error.cause.kind {
                _ if aborting.source_waits => false,
                ErrorKind::Declined if self.of_relay => self.source.poll_discard(cx).is_ready(),
                _ => self.source.poll_stop(cx).is_ready(),
            };
        if aborting.sink_gone && aborting.source_gone {
            return Poll::Ready(self.aborted());
        }
        Poll::Pending
    }

    pub(super) fn aborted(&mut self) -> FlowError {
        self.shared.enter(FlowState::Done);
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
}

/// A sink's far side has died. What it had said may still be on its way to where this flow reads.
pub(crate) fn is_obituary(error: &FlowError) -> bool {
    error.side == Some(Side::Sink) && error.cause.kind == ErrorKind::Died
}

pub(super) fn requested(cause: EndpointError) -> FlowError {
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
