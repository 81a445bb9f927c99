//! Says that the peer of an exchange is gone, to whoever holds its body without reading.
//!
//! Knows nothing of how that was found out: the watch on the wire tells, and the end of the exchange does.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, Waker};

/// Told once, asked by one task at a time.
#[derive(Debug, Default)]
pub(crate) struct Hangup {
    gone: AtomicBool,
    /// Whether anybody may ever ask.
    wanted: AtomicBool,
    waker: Mutex<Option<Waker>>,
}

impl Hangup {
    pub(crate) fn tell(&self) {
        self.gone.store(true, Ordering::SeqCst);
        let waker = self.waker.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(waker) = waker {
            waker.wake();
        }
    }

    /// Ready when the peer is gone.
    pub(crate) fn poll(&self, cx: &mut Context<'_>) -> Poll<()> {
        let fresh = cx.waker().clone();
        let old = self
            .waker
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .replace(fresh);
        drop(old); // a foreign waker is not dropped under our lock
        if self.gone.load(Ordering::SeqCst) {
            Poll::Ready(())
        } else {
            Poll::Pending
        }
    }

    pub(crate) fn want(&self) {
        self.wanted.store(true, Ordering::SeqCst);
    }

    pub(crate) fn is_wanted(&self) -> bool {
        self.wanted.load(Ordering::SeqCst)
    }

    /// Tells when it is dropped, unless it is disarmed before.
    pub(crate) fn unless_answered(self: &Arc<Self>) -> UnlessAnswered {
        UnlessAnswered(Some(Arc::clone(self)))
    }
}

/// Lives as long as a request waits for its answer: hyper drops the wait when the stream is reset or the connection
/// ends.
#[derive(Debug)]
pub(crate) struct UnlessAnswered(Option<Arc<Hangup>>);

impl UnlessAnswered {
    pub(crate) fn disarm(mut self) {
        self.0 = None;
    }
}

impl Drop for UnlessAnswered {
    fn drop(&mut self) {
        if let Some(hangup) = self.0.take() {
            hangup.tell();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wait_that_is_given_up_tells_and_one_that_is_answered_does_not() {
        let mut cx = Context::from_waker(Waker::noop());
        let hangup = Arc::new(Hangup::default());
        hangup.unless_answered().disarm();
        assert!(hangup.poll(&mut cx).is_pending());
        drop(hangup.unless_answered());
        assert!(hangup.poll(&mut cx).is_ready());
    }
}
