//! Drives a pull producer as the push producer of a consumer that it does not know.
//!
//! Knows no schedule: the source is asked for its next chunk when the one before has gone on, never sooner, so a source
//! that has nothing yet is not polled. (Twisted: `tls._PullToPush`.)

use std::fmt;
use std::sync::{Arc, Weak};

use bytes::Bytes;

use crate::forward::forward;
use crate::{
    AbortReason, Accepted, AlreadyRegistered, Below, BelowPause, Consumer, FinishableConsumer, Finished,
    Marks, Outcome, Over, Producer, PullProducer, Stage,
};

/// A pull producer at work for a consumer that sees a push producer.
///
/// When the source unregisters, it is done: the consumer loses its producer once the last chunk has gone on, and is
/// **not** finished, so that another may follow. When the consumer stops us, the source is stopped. Dropping this while
/// the source is at work aborts the stream.
///
/// ```
/// # use std::sync::Arc;
/// # use std::sync::atomic::{AtomicUsize, Ordering};
/// # use bytes::Bytes;
/// # use tidegate::{Consumer, FinishableConsumer as _, Marks, PullProducer, PullToPush, StopReason, channel};
/// struct Digits { to: Arc<dyn Consumer>, next: AtomicUsize }
/// impl PullProducer for Digits {
///     fn resume_producing(&self) {
///         let digit = self.next.fetch_add(1, Ordering::Relaxed);
///         let _ = self.to.write(Bytes::from(digit.to_string()));
///         if digit == 9 {
///             self.to.unregister_producer();
///         }
///     }
///     fn stop_producing(&self, _: StopReason) {}
/// }
///
/// let (sender, receiver) = channel(Marks::default());
/// let sender = Arc::new(sender);
/// let digits = |to| Arc::new(Digits { to, next: AtomicUsize::new(0) });
/// let driven = PullToPush::start(sender.clone(), digits).unwrap();
/// assert_eq!(receiver.held(), 10);
/// assert!(driven.outcome().now().unwrap().is_ok());
/// sender.finish();
/// ```
pub struct PullToPush {
    stage: Arc<Stage<Unregisters>>,
}

impl PullToPush {
    /// Registers with `consumer` as its push producer, makes the source, which is to write to the consumer it is given,
    /// and asks it for its first chunk.
    ///
    /// # Errors
    /// [`AlreadyRegistered`] when `consumer` has a producer; the source is not made then.
    pub fn start<P: PullProducer + 'static>(
        consumer: Arc<dyn FinishableConsumer>,
        source: impl FnOnce(Arc<dyn Consumer>) -> Arc<P>,
    ) -> Result<Self, AlreadyRegistered> {
        let below = |_| Unregisters(Over::new(Arc::clone(&consumer)));
        // Low 0: the next chunk is asked for when nothing is held. A chunk itself may have any size.
        let stage = Stage::before(&consumer, Marks::TWISTED, BelowPause::Relay, below)?;
        let stage = Arc::new(stage);
        let (to, ends) = (stage.consumer(), Arc::downgrade(&stage));
        let source = source(Arc::new(Intake { to, ends }));
        stage.register_producer(Producer::pull(source))?;
        Ok(Self { stage })
    }

    /// Ends the relation early: the source is stopped, what it wrote and has not gone on is dropped, and the consumer is
    /// aborted. Nothing when it is done already.
    pub fn stop(&self) {
        self.stage.abort(AbortReason::Requested);
    }

    /// How it ends: `Ok` when the source unregistered and all it wrote has gone on.
    pub fn outcome(&self) -> Outcome {
        self.stage.outcome()
    }
}

impl fmt::Debug for PullToPush {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PullToPush")
            .field("outcome", &self.outcome())
            .finish_non_exhaustive()
    }
}

/// What the source writes to. When it unregisters, nobody follows.
struct Intake {
    to: Arc<dyn Consumer>,
    ends: Weak<Stage<Unregisters>>,
}

impl Consumer for Intake {
    forward!(to: register_producer write write_list);

    fn unregister_producer(&self) {
        self.to.unregister_producer();
        if let Some(stage) = self.ends.upgrade() {
            stage.finish();
        }
    }
}

/// The lower half: its end is the end of a registration, not of the stream.
struct Unregisters(Over);

impl Below for Unregisters {
    fn accept(&self, held: &[Bytes]) -> Accepted {
        self.0.accept(held)
    }

    fn finish(&self) -> Finished {
        self.0.unregister();
        Finished::Done
    }

    fn abort(&self, reason: AbortReason) {
        self.0.abort(reason);
    }
}
