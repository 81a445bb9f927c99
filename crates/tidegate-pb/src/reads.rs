//! When a connection does not read: counted reasons, and answers that the peer does not take.
//!
//! A gate decides. Knows nothing of sockets; wakes whoever drives one.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::Waker;

use tidegate::{Gate, HoldReason, Marks};

/// The reasons not to read.
#[derive(Debug)]
pub(crate) struct Reads {
    /// What it counts are answers that are owed; what holds it are consumers of pages.
    gate: Mutex<Gate>,
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
    pub(crate) fn new(marks: Marks) -> Self {
        Self {
            gate: Mutex::new(Gate::new(marks)),
            waker: Mutex::default(),
        }
    }

    pub(crate) fn hold(self: &Arc<Self>) -> ReadHold {
        self.gate().hold(HoldReason::Below);
        ReadHold(Arc::clone(self))
    }

    /// An answer found the connection full. Above the high mark of them, nothing more is read that might need answering.
    pub(crate) fn owe(self: &Arc<Self>, bytes: usize) -> Owed {
        self.gate().wrote(bytes);
        Owed {
            reads: Arc::clone(self),
            bytes,
        }
    }

    /// What may be read. When that is not everything, the waker is woken once it may have changed.
    pub(crate) fn allowed(&self, waker: &Waker) -> Allowed {
        let now = self.now();
        if now == Allowed::All {
            return now;
        }
        let old = self.slot().replace(waker.clone());
        drop(old);
        self.now()
    }

    fn now(&self) -> Allowed {
        let gate = self.gate();
        if gate.is_held_by(HoldReason::Below) {
            Allowed::Nothing
        } else if gate.is_held_by(HoldReason::Full) {
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

    fn gate(&self) -> MutexGuard<'_, Gate> {
        self.gate.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn slot(&self) -> MutexGuard<'_, Option<Waker>> {
        self.waker.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for ReadHold {
    fn drop(&mut self) {
        self.0.gate().release(HoldReason::Below);
        self.0.wake();
    }
}

impl Drop for Owed {
    fn drop(&mut self) {
        self.reads.gate().drained(self.bytes);
        self.reads.wake();
    }
}
