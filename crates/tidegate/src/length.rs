//! A consumer that lets exactly the announced number of bytes through.
//!
//! Knows nothing of who announced them: a `Content-Length`, a file's size, a size in a reply.

use std::error::Error;
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use bytes::Bytes;

use crate::forward::forward;
use crate::{
    AbortReason, Accepted, AlreadyRegistered, Below, BelowPause, Consumer, FinishableConsumer, Finished,
    Marks, Over, Pressure, Refusal, Stage, StageHandle, StopReason, WriteError,
};

/// Stands in front of a consumer and sees to it that exactly so many bytes reach it before its end.
/// (Twisted: `LengthEnforcingConsumer`, here a whole consumer with its own producer, D101.)
///
/// - A write that would pass the length is refused with [`Refusal::PastEnd`] and given back, nothing of it goes on, the
///   producer is stopped, and the consumer below is aborted, for it must not look complete.
/// - A finish that comes too early aborts the consumer below with [`AbortReason::Truncated`].
///
/// Both name a [`LengthError`] as their cause. Dropping it without `finish` is an abort.
///
/// ```
/// # use std::sync::Arc;
/// use bytes::Bytes;
/// use tidegate::{Consumer as _, ExactLength, FinishableConsumer as _, Marks, Refusal, channel};
/// let (sender, receiver) = channel(Marks::default());
/// let body = ExactLength::new(Arc::new(sender), Marks::default(), 5).unwrap();
/// body.write(Bytes::from_static(b"hello")).unwrap();
/// let refused = body.write(Bytes::from_static(b"!")).unwrap_err();
/// assert!(matches!(refused.refusal, Refusal::PastEnd { length: 5 }));
/// assert_eq!(refused.data, "!");
/// # drop(receiver);
/// ```
pub struct ExactLength {
    stage: Stage<Counted>,
    length: u64,
    /// Bytes that were let in, so never above `length`.
    taken: Arc<AtomicU64>,
}

/// The stream is not as long as was announced. The producer's fault.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
#[non_exhaustive]
pub enum LengthError {
    /// A write went past the end.
    TooLong {
        /// The announced length.
        length: u64,
    },
    /// The end came too early.
    TooShort {
        /// The announced length.
        length: u64,
        /// What came.
        written: u64,
    },
}

impl ExactLength {
    /// Registers with `consumer` as its push producer and lets `length` bytes through. `marks` bound what is kept while
    /// it is paused.
    ///
    /// # Errors
    /// [`AlreadyRegistered`] when `consumer` has a producer.
    pub fn new(
        consumer: Arc<dyn FinishableConsumer>,
        marks: Marks,
        length: u64,
    ) -> Result<Self, AlreadyRegistered> {
        let taken = Arc::new(AtomicU64::new(0));
        let below = |handle| Counted {
            over: Over::new(Arc::clone(&consumer)),
            handle,
            length,
            taken: Arc::clone(&taken),
        };
        let stage = Stage::before(&consumer, marks, BelowPause::Buffer, below)?;
        Ok(Self { stage, length, taken })
    }

    /// Bytes that may still be written.
    pub fn missing(&self) -> u64 {
        self.length - self.taken.load(Ordering::Acquire)
    }

    forward!(stage: outcome hold held);

    /// Counts `bytes` as written, unless they pass the end.
    fn reserve(&self, bytes: u64) -> bool {
        let more = |taken: u64| taken.checked_add(bytes).filter(|sum| *sum <= self.length);
        self.taken
            .fetch_update(Ordering::AcqRel, Ordering::Acquire, more)
            .is_ok()
    }

    /// Writes what was counted, or counts it back; ends the stream when it does not fit.
    fn admit<D>(
        &self,
        bytes: usize,
        data: D,
        write: impl FnOnce(D) -> Result<Pressure, WriteError<D>>,
    ) -> Result<Pressure, WriteError<D>> {
        let bytes = bytes as u64;
        if self.reserve(bytes) {
            return write(data).inspect_err(|_| {
                self.taken.fetch_sub(bytes, Ordering::AcqRel);
            });
        }
        // An empty write is inert, and says whether the stream was over before: then there is nothing to end.
        let refusal = match self.stage.write(Bytes::new()) {
            Err(over) => over.refusal,
            Ok(_) => {
                let length = self.length;
                self.stage
                    .abort(AbortReason::Failed(Arc::new(LengthError::TooLong { length })));
                Refusal::PastEnd { length }
            }
        };
        Err(WriteError { refusal, data })
    }
}

impl Consumer for ExactLength {
    forward!(stage: register_producer unregister_producer);

    fn write(&self, data: Bytes) -> Result<Pressure, WriteError> {
        self.admit(data.len(), data, |data| self.stage.write(data))
    }

    fn write_list(&self, data: Vec<Bytes>) -> Result<Pressure, WriteError<Vec<Bytes>>> {
        let bytes = data
            .iter()
            .fold(0, |sum: usize, piece| sum.saturating_add(piece.len()));
        self.admit(bytes, data, |data| self.stage.write_list(data))
    }
}

impl FinishableConsumer for ExactLength {
    forward!(stage: finish abort);
}

/// The lower half: looks at the end whether all came.
struct Counted {
    over: Over,
    handle: StageHandle,
    length: u64,
    taken: Arc<AtomicU64>,
}

impl Below for Counted {
    fn accept(&self, held: &[Bytes]) -> Accepted {
        self.over.accept(held)
    }

    fn finish(&self) -> Finished {
        let (length, written) = (self.length, self.taken.load(Ordering::Acquire));
        if written == length {
            return self.over.finish();
        }
        let reason = AbortReason::Truncated(Arc::new(LengthError::TooShort { length, written }));
        self.over.abort(reason.clone());
        self.handle.close(StopReason::Aborted(reason));
        Finished::Later
    }

    fn abort(&self, reason: AbortReason) {
        self.over.abort(reason);
    }
}

impl fmt::Debug for ExactLength {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ExactLength")
            .field("length", &self.length)
            .field("missing", &self.missing())
            .finish_non_exhaustive()
    }
}

impl fmt::Display for LengthError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::TooLong { length } => write!(f, "more than the announced {length} bytes"),
            Self::TooShort { length, written } => {
                write!(f, "{written} bytes instead of the announced {length}")
            }
        }
    }
}

impl Error for LengthError {}
