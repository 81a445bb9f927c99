//! What is written to: the consumer traits and what their calls answer.
//!
//! Knows nothing of how a consumer keeps its marks; the shells `channel` and `stage` do.

use std::error::Error;
use std::fmt;
use std::sync::Arc;

use bytes::Bytes;

use crate::{AbortReason, Producer, StopReason};

/// Something that takes bytes, and tells at most one registered producer when to pause, resume and stop.
/// (Twisted: `IConsumer`.)
///
/// Every consumer that ships with Tidegate obeys the same sixteen laws, checked by one suite.
pub trait Consumer: Send + Sync {
    /// Makes `producer` the one this consumer signals.
    ///
    /// A pull producer's first pull is delivered before this returns. A push producer that comes while the consumer
    /// is full is paused at once. On a dead or finished consumer the producer is stopped at once, and that is `Ok`.
    ///
    /// # Errors
    /// [`AlreadyRegistered`] gives the newcomer back; the registration that stands is not disturbed.
    fn register_producer(&self, producer: Producer) -> Result<(), AlreadyRegistered>;

    /// Ends the registration. Silent when there is none. Does not finish the stream: another producer may follow.
    fn unregister_producer(&self);

    /// Hands over `data`. Never blocks. An empty write is inert.
    ///
    /// # Errors
    /// The error gives the data back and says why it was refused; nothing of it was taken.
    fn write(&self, data: Bytes) -> Result<Pressure, WriteError>;

    /// Hands over several pieces as one write: all or nothing, with nothing in between.
    ///
    /// # Errors
    /// As [`write`](Self::write).
    fn write_list(&self, data: Vec<Bytes>) -> Result<Pressure, WriteError<Vec<Bytes>>>;
}

/// A consumer whose stream can be ended by its writer. (Twisted: `IFinishableConsumer`.)
pub trait FinishableConsumer: Consumer {
    /// The stream is complete. What is held, and a producer still registered, go first. Idempotent.
    fn finish(&self);

    /// The stream is not complete and must never look complete. Does not wait. Idempotent; nothing after a close.
    fn abort(&self, reason: AbortReason);
}

/// What a consumer that took a write says of its fill.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
#[must_use = "a producer that ignores `Full` breaks the memory bound"]
pub enum Pressure {
    /// Go on.
    Open,
    /// Taken, but the consumer is above its high mark: wait for resume.
    Full,
}

/// Why a write was refused.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum Refusal {
    /// It would take the consumer past its `max` mark. The caller's fault: it wrote on after [`Pressure::Full`].
    OverMax {
        /// Bytes held now.
        held: usize,
        /// The mark.
        max: usize,
    },
    /// The stream was finished and has no producer any more. The caller's fault.
    Finished,
    /// The consumer is dead; the reason is what its producer was stopped with.
    Dead(StopReason),
    /// More bytes than the stream announced. The caller's fault.
    PastEnd {
        /// The announced length.
        length: u64,
    },
}

/// A refused write, with the data given back.
pub struct WriteError<D = Bytes> {
    /// Why.
    pub refusal: Refusal,
    /// All of what was to be written.
    pub data: D,
}

/// A second producer was to be registered; it is given back.
pub struct AlreadyRegistered(pub Producer);

impl Refusal {
    /// What this refusal means to a producer that cannot go on because of it.
    pub fn into_stop(self) -> StopReason {
        match self {
            Self::Dead(reason) => reason,
            Self::Finished => StopReason::Finished,
            refusal @ (Self::OverMax { .. } | Self::PastEnd { .. }) => StopReason::Failed(Arc::new(refusal)),
        }
    }
}

impl Error for Refusal {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        match self {
            Self::Dead(reason) => Some(reason),
            Self::OverMax { .. } | Self::Finished | Self::PastEnd { .. } => None,
        }
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::OverMax { held, max } => write!(f, "would pass the limit of {max} bytes ({held} held)"),
            Self::Finished => f.write_str("the stream is finished"),
            Self::Dead(reason) => write!(f, "{reason}"),
            Self::PastEnd { length } => write!(f, "more than the announced {length} bytes"),
        }
    }
}

impl<D> fmt::Debug for WriteError<D> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("WriteError")
            .field("refusal", &self.refusal)
            .finish_non_exhaustive()
    }
}

impl<D> fmt::Display for WriteError<D> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "write refused: {}", self.refusal)
    }
}

impl<D> Error for WriteError<D> {}

impl fmt::Debug for AlreadyRegistered {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("AlreadyRegistered")
    }
}

impl fmt::Display for AlreadyRegistered {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a producer is already registered")
    }
}

impl Error for AlreadyRegistered {}
