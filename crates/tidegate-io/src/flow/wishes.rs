//! What the remote control asked for, obeyed by the flow's own task.
//!
//! Knows nothing of who asked; `handle` takes the wishes down.

use tokio::time::Instant;

use super::ending::requested;
use super::{Flow, Phase};
use crate::handle::{WISH_ABORT, WISH_RATE, WISH_STOP, age};
use crate::{Blame, EndpointError, ErrorKind, Sink, Source};

impl<S: Source, K: Sink> Flow<S, K> {
    pub(super) fn obey_wishes(&mut self) {
        let wishes = self.shared.wishes();
        if wishes == 0 || matches!(self.phase, Phase::Done) {
            return;
        }
        if matches!(self.phase, Phase::Aborting(_)) {
            // All that can still take long there is to read what nobody wants.
            if wishes & WISH_ABORT != 0 {
                self.stop_discarding();
            }
            return;
        }
        if wishes & WISH_ABORT != 0 {
            let reason = self.shared.abort_reason();
            let cause = EndpointError::new(ErrorKind::Failed, Blame::Caller, reason.to_string());
            self.begin_abort(requested(cause), Some(reason));
            return;
        }
        if self.will_stop() {
            self.shared.granted(WISH_STOP);
            let cause = EndpointError::new(ErrorKind::Failed, Blame::Caller, "stopped on request");
            self.phase = Phase::Stopping(Box::new(requested(cause)));
        }
        if wishes & WISH_RATE != 0 {
            self.shared.granted(WISH_RATE);
            let rate = self.shared.rate();
            self.tolls
                .get_or_insert_default()
                .set_rate(rate, age(Instant::now()));
        }
    }

    /// Whether the next poll begins a gentle end.
    pub(crate) fn will_stop(&self) -> bool {
        self.is_told_to_stop() && matches!(self.phase, Phase::Moving | Phase::Draining)
    }

    /// Whether a gentle end was asked for and is not granted yet.
    pub(crate) fn is_told_to_stop(&self) -> bool {
        self.shared.wishes() & WISH_STOP != 0
    }
}
