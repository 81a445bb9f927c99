//! Why a stream ended: the reasons that `stop` carries to a producer and `abort` carries to a consumer.
//!
//! Knows nothing of exit codes, reply codes or reset frames: each driver translates a reason into what its own
//! protocol can say.

use std::error::Error;
use std::fmt;
use std::sync::Arc;

/// The error underneath a reason. Shared, so that reasons stay `Clone`.
pub type Cause = Arc<dyn Error + Send + Sync>;

/// Why a consumer tells its producer to stop for good.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum StopReason {
    /// The consumer was finished before this producer came: nothing can follow.
    Finished,
    /// The stream was aborted from the writing side; the abort's own reason is inside.
    Aborted(AbortReason),
    /// The device or the peer failed.
    Failed(Cause),
    /// The reading side has taken all it wants and closed in good order.
    Closed,
    /// The reading side was dropped without a word.
    Dropped,
}

/// Why a stream was cut short. A stream with an abort reason must never look finished to anyone downstream.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum AbortReason {
    /// The user, or the code that owns the stream, asked for it.
    Requested,
    /// The write end was dropped without `finish`.
    Dropped,
    /// A producer's handler panicked; the text is the panic's message where there was one.
    Panicked(Arc<str>),
    /// The source failed.
    Failed(Cause),
    /// The source ended before its announced end.
    Truncated(Cause),
    /// The consumer further down stopped us; its reason is inside.
    Stopped(Arc<StopReason>),
    /// A deadline passed, or nothing moved for longer than allowed.
    TimedOut,
}

impl fmt::Display for StopReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Finished => f.write_str("the consumer was already finished"),
            Self::Aborted(reason) => write!(f, "the stream was aborted: {reason}"),
            Self::Failed(cause) => write!(f, "the consumer failed: {cause}"),
            Self::Closed => f.write_str("the consumer closed"),
            Self::Dropped => f.write_str("the consumer was dropped"),
        }
    }
}

impl fmt::Display for AbortReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Requested => f.write_str("aborted on request"),
            Self::Dropped => f.write_str("the producer was dropped before it finished"),
            Self::Panicked(message) => write!(f, "a producer panicked: {message}"),
            Self::Failed(cause) => write!(f, "the source failed: {cause}"),
            Self::Truncated(cause) => write!(f, "the source ended too early: {cause}"),
            Self::Stopped(reason) => write!(f, "stopped from below: {reason}"),
            Self::TimedOut => f.write_str("timed out"),
        }
    }
}

impl Error for StopReason {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        match self {
            Self::Failed(cause) => Some(&**cause),
            Self::Aborted(reason) => Some(reason),
            Self::Finished | Self::Closed | Self::Dropped => None,
        }
    }
}

impl Error for AbortReason {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        match self {
            Self::Failed(cause) | Self::Truncated(cause) => Some(&**cause),
            Self::Stopped(reason) => Some(&**reason),
            Self::Requested | Self::Dropped | Self::Panicked(_) | Self::TimedOut => None,
        }
    }
}
