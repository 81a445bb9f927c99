//! A consumer in front of another consumer, for whoever has to stand between: it keeps what comes while the one below
//! is not taking any.
//!
//! Knows nothing of what passes. Three kinds: [`basic`] passes a pause straight up, [`buffered`] pauses only when its
//! own buffer is full, and [`pull`] answers the one below chunk by chunk.
//! (Twisted: `pcp.BasicProducerConsumerProxy`, `pcp.ProducerConsumerProxy` and the pull kind of either.)
//!
//! Upstream producers may come and go, push or pull, one after the other: only [`finish`] ends the registration below,
//! after everything that is held.
//!
//! [`finish`]: crate::FinishableConsumer::finish

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use bytes::Bytes;

use crate::{
    AbortReason, Accepted, AlreadyRegistered, Below, BelowPause, FinishableConsumer, Finished, Marks, Over,
    Producer, PullProducer, Stage, StageHandle, StopReason,
};

/// A proxy that is a push producer to the one below.
pub type Proxy = Stage<Over>;

/// A proxy that is a pull producer to the one below.
pub type PullProxy = Stage<Answers>;

/// Stands in front of `consumer` and passes its pauses straight up. `marks` bound what comes in spite of them.
///
/// ```
/// # use std::sync::Arc;
/// use bytes::Bytes;
/// use tidegate::{Consumer as _, FinishableConsumer as _, Marks, channel, proxy};
/// # futures_util::FutureExt::now_or_never(async {
/// let (sender, mut receiver) = channel(Marks::default());
/// let between = proxy::basic(Arc::new(sender), Marks::default()).unwrap();
/// between.write(Bytes::from_static(b"yakkity yak")).unwrap();
/// between.finish();
/// assert_eq!(receiver.recv().await.unwrap().unwrap(), "yakkity yak");
/// assert!(receiver.recv().await.is_none());
/// # }).unwrap();
/// ```
///
/// # Errors
/// [`AlreadyRegistered`] when `consumer` has a producer.
pub fn basic(consumer: Arc<dyn FinishableConsumer>, marks: Marks) -> Result<Proxy, AlreadyRegistered> {
    Stage::over(consumer, marks, BelowPause::Relay)
}

/// Stands in front of `consumer` and keeps what comes while it is paused; pauses upstream by `marks` alone.
///
/// # Errors
/// [`AlreadyRegistered`] when `consumer` has a producer.
pub fn buffered(consumer: Arc<dyn FinishableConsumer>, marks: Marks) -> Result<Proxy, AlreadyRegistered> {
    Stage::over(consumer, marks, BelowPause::Buffer)
}

/// Stands in front of `consumer` as its pull producer: one write of at most `marks.chunk()` bytes for each pull. A pull
/// that finds nothing held is answered by the next write.
///
/// # Errors
/// [`AlreadyRegistered`] when `consumer` has a producer.
pub fn pull(consumer: Arc<dyn FinishableConsumer>, marks: Marks) -> Result<PullProxy, AlreadyRegistered> {
    let asked = Arc::new(AtomicBool::new(false));
    let below = Answers {
        over: Over::new(Arc::clone(&consumer)),
        asked: Arc::clone(&asked),
        bytes_max: marks.chunk(),
    };
    let stage = Stage::new(marks, BelowPause::Buffer, |_| below);
    let handle = stage.handle();
    stage.joined(&*consumer, Producer::pull(Arc::new(Pulled { asked, handle })))
}

/// The lower half of a [`PullProxy`].
pub struct Answers {
    over: Over,
    asked: Arc<AtomicBool>,
    bytes_max: usize,
}

impl Below for Answers {
    fn accept(&self, held: &[Bytes]) -> Accepted {
        // Taken back before the write: the next pull may come from inside it.
        if self.asked.swap(false, Ordering::AcqRel) {
            // A refused answer is asked for again from below, once there is room.
            self.over.pass(held, self.bytes_max)
        } else {
            Accepted::Wait
        }
    }

    fn finish(&self) -> Finished {
        self.over.finish()
    }

    fn abort(&self, reason: AbortReason) {
        self.over.abort(reason);
    }
}

/// What the consumer below keeps of a [`PullProxy`].
struct Pulled {
    asked: Arc<AtomicBool>,
    handle: StageHandle,
}

impl PullProducer for Pulled {
    fn resume_producing(&self) {
        self.asked.store(true, Ordering::Release);
        self.handle.poke();
    }

    fn stop_producing(&self, reason: StopReason) {
        self.handle.close(reason);
    }
}
