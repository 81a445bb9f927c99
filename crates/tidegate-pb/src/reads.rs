//! When a connection does not read: counted reasons, and answers that the peer does not take.
//!
//! Knows nothing of sockets; wakes whoever drives one.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::Waker;

/// The reasons not to read.
#[derive(Debug, Default)]
pub(crate) struct Reads {
    holds: AtomicUsize,
    owed_bytes: AtomicUsize,
    waker: Mutex<Option<Waker>>,
}

/// One reason not to read, until it is dropped.
#[derive(Debug)]
pub(crate) struct ReadHold(Arc<Reads>);

/// An answer that waits for its turn.
#[derive(Debug)]
pub(crate) struct Owed {
    reads: Arc<Reads>,
    bytes: usize,
}

/// What a connection may take in.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Allowed {
    All,
    /// What needs no answer itself: the peer is owed too many.
    Answers,
    /// Somebody holds reading.
    Nothing,
}

impl Reads {
    pub(crate) fn hold(self: &Arc<Self>) -> ReadHold {
        self.holds.fetch_add(1, Ordering::SeqCst);
        ReadHold(Arc::clone(self))
    }

    /// An answer found the connection full. Above `high` of them, nothing more is read that might need answering.
    pub(crate) fn owe(self: &Arc<Self>, bytes: usize) -> Owed {
        self.owed_bytes.fetch_add(bytes, Ordering::SeqCst);
        Owed {
            reads: Arc::clone(self),
            bytes,
        }
    }

    /// What may be read. When that is not everything, the waker is woken once it may have changed.
    pub(crate) fn allowed(&self, high: usize, waker: &Waker) -> Allowed {
        let now = self.now(high);
        if now == Allowed::All {
            return now;
        }
        let old = self.slot().replace(waker.clone());
        drop(old);
        self.now(high)
    }

    fn now(&self, high: usize) -> Allowed {
        if self.holds.load(Ordering::SeqCst) > 0 {
            Allowed::Nothing
        } else if self.owed_bytes.load(Ordering::SeqCst) > high {
            Allowed::Answers
        } else {
            Allowed::All
        }
    }

    fn wake(&self) {
        let waker = self.slot().take();
        if let Some(waker) = waker {
            waker.wake();
        }
    }

    fn slot(&self) -> std::sync::MutexGuard<'_, Option<Waker>> {
        self.waker.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for ReadHold {
    fn drop(&mut self) {
        self.0.holds.fetch_sub(1, Ordering::SeqCst);
        self.0.wake();
    }
}

impl Drop for Owed {
    fn drop(&mut self) {
        self.reads.owed_bytes.fetch_sub(self.bytes, Ordering::SeqCst);
        self.reads.wake();
    }
}
