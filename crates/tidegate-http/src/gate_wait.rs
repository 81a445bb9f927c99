//! Waits for a consumer's gate from a task: a push producer whose handlers only set a flag and wake.
//!
//! Knows nothing of what is written.

use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, Waker};

use tidegate::{Consumer, Producer, PushProducer, StopReason};

/// Registered on a consumer on behalf of one task.
#[derive(Debug, Default)]
pub(crate) struct GateWait {
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    paused: bool,
    stopped: Option<StopReason>,
    waker: Option<Waker>,
}

impl GateWait {
    /// Registers on a fresh consumer.
    pub(crate) fn on(consumer: &dyn Consumer) -> Arc<Self> {
        let wait = Arc::new(Self::default());
        // A fresh consumer has no producer.
        let _ = consumer.register_producer(Producer::push(Arc::clone(&wait)));
        wait
    }

    /// Ready when the gate is open.
    ///
    /// # Errors
    /// The consumer stopped us.
    pub(crate) fn poll_open(&self, cx: &mut Context<'_>) -> Poll<Result<(), StopReason>> {
        let fresh = cx.waker().clone();
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(reason) = &state.stopped {
            return Poll::Ready(Err(reason.clone()));
        }
        if !state.paused {
            return Poll::Ready(Ok(()));
        }
        let old = state.waker.replace(fresh);
        drop(state);
        drop(old);
        Poll::Pending
    }

    fn change(&self, change: impl FnOnce(&mut State)) {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        change(&mut state);
        let waker = if state.paused && state.stopped.is_none() {
            None
        } else {
            state.waker.take()
        };
        drop(state);
        if let Some(waker) = waker {
            waker.wake();
        }
    }
}

impl PushProducer for GateWait {
    fn pause_producing(&self) {
        self.change(|state| state.paused = true);
    }

    fn resume_producing(&self) {
        self.change(|state| state.paused = false);
    }

    fn stop_producing(&self, reason: StopReason) {
        self.change(|state| state.stopped = Some(reason));
    }
}
