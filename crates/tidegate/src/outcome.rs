//! How a stream ended: a future that ends exactly once, with a report or a reason.
//!
//! Knows nothing of gates; a shell says once what became of the stream, under its own lock or not.

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};

use crate::StopReason;
use crate::sync::{Mutex, lock};

/// What a stream that was delivered to its end reports.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
#[non_exhaustive]
pub struct Delivered {
    /// Bytes that the device, or the consumer below, accepted.
    pub bytes: u64,
}

/// Ends once, when the reading side has brought the stream to its end or the stream died.
///
/// `Ok` means that the writer finished **and** the reading side accepted everything and said that its end is done: a
/// device that fails after the last byte, when it is to close, is an error here. It stays valid when both ends of the
/// stream are gone.
///
/// # Cancel safety
/// Dropping it loses nothing; ask the consumer for another.
#[must_use = "a stream whose outcome nobody looks at may have failed"]
pub struct Outcome {
    shared: Arc<Shared>,
}

/// The end that decides. Dropping it undecided says [`StopReason::Dropped`].
pub(crate) struct Verdict {
    shared: Arc<Shared>,
}

struct Shared {
    state: Mutex<State>,
}

struct State {
    result: Option<Result<Delivered, StopReason>>,
    wakers: Vec<Waker>,
}

impl Outcome {
    /// What is known by now, without waiting.
    pub fn now(&self) -> Option<Result<Delivered, StopReason>> {
        lock(&self.shared.state).result.clone()
    }
}

impl Clone for Outcome {
    fn clone(&self) -> Self {
        Self {
            shared: Arc::clone(&self.shared),
        }
    }
}

impl Future for Outcome {
    type Output = Result<Delivered, StopReason>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let mut waker = None;
        let mut state = lock(&self.shared.state);
        if state.result.is_none() && !state.wakers.iter().any(|known| known.will_wake(cx.waker())) {
            // Cloning a waker is foreign code, so it happens without the lock.
            drop(state);
            waker = Some(cx.waker().clone());
            state = lock(&self.shared.state);
        }
        if let Some(result) = &state.result {
            let result = result.clone();
            drop(state);
            return Poll::Ready(result);
        }
        state.wakers.extend(waker.take());
        Poll::Pending
    }
}

impl fmt::Debug for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Outcome").field(&self.now()).finish()
    }
}

impl Verdict {
    pub(crate) fn new() -> Self {
        let state = State {
            result: None,
            wakers: Vec::new(),
        };
        let shared = Shared {
            state: Mutex::new(state),
        };
        Self {
            shared: Arc::new(shared),
        }
    }

    pub(crate) fn outcome(&self) -> Outcome {
        Outcome {
            shared: Arc::clone(&self.shared),
        }
    }

    /// Decides, if nothing was decided before. The wakers are to be woken without any lock.
    #[must_use]
    pub(crate) fn decide(&self, result: Result<Delivered, StopReason>) -> Vec<Waker> {
        let mut state = lock(&self.shared.state);
        if state.result.is_some() {
            return Vec::new();
        }
        state.result = Some(result);
        std::mem::take(&mut state.wakers)
    }
}

impl Drop for Verdict {
    fn drop(&mut self) {
        for waker in self.decide(Err(StopReason::Dropped)) {
            waker.wake();
        }
    }
}
