//! What a protocol is, and what it is connected to.
//!
//! Knows no socket: a driver, a loopback or an adapter is the transport.

use std::any::Any;
use std::fmt;
use std::sync::Arc;

use bytes::Bytes;

use crate::{AbortReason, FinishableConsumer};

/// Something that talks over a [`Transport`]. (Twisted: `IProtocol` with `IHalfCloseableProtocol`.)
///
/// Calls come one at a time, in this order: [`connection_made`](Self::connection_made), any number of
/// [`data_received`](Self::data_received), at most one [`end_received`](Self::end_received), and
/// [`connection_lost`](Self::connection_lost) exactly once, the last. No lock of the transport is held over them, so
/// a protocol may write, finish, hold or abort from inside any of them; what that causes is delivered after the call
/// under way has returned.
///
/// ```
/// use std::sync::{Arc, OnceLock};
/// use bytes::Bytes;
/// use tidegate::{Loss, Protocol, Transport};
///
/// #[derive(Default)]
/// struct Echo(OnceLock<Arc<dyn Transport>>);
/// impl Protocol for Echo {
///     fn connection_made(&self, transport: Arc<dyn Transport>) {
///         let _ = self.0.set(transport);
///     }
///     fn data_received(&self, data: Bytes) {
///         if let Some(transport) = self.0.get() {
///             // A real echo would hold reading while its answer is `Full`; the adapters do.
///             let _ = transport.write(data);
///         }
///     }
///     fn connection_lost(&self, _: Loss) {}
/// }
/// ```
pub trait Protocol: Send + Sync {
    /// The connection stands; `transport` is where to write to.
    fn connection_made(&self, transport: Arc<dyn Transport>);

    /// Bytes from the peer, in order, never empty.
    fn data_received(&self, data: Bytes);

    /// The peer will send nothing more, and said so. The answer decides over the other direction.
    fn end_received(&self) -> HalfClose {
        HalfClose::Close
    }

    /// Both directions are over. The transport lets go of the protocol when this returns.
    fn connection_lost(&self, loss: Loss);
}

/// What a protocol wants when its peer has ended its direction.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum HalfClose {
    /// Finish writing too, then close.
    Close,
    /// Go on writing; the protocol ends its direction itself.
    KeepWriting,
}

/// How a connection ended.
#[derive(Clone, Debug)]
pub enum Loss {
    /// Both directions were finished and delivered.
    Clean,
    /// At least one direction was cut short.
    Cut(AbortReason),
}

impl fmt::Display for Loss {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Clean => f.write_str("the connection was closed cleanly"),
            Self::Cut(reason) => write!(f, "the connection was cut: {reason}"),
        }
    }
}

/// What a [`Protocol`] is connected to: a consumer for what it writes, and a way to hold back what it is to read.
/// (Twisted: `ITransport`, `IHalfCloseableTransport` and the producer side of a connection.)
pub trait Transport: FinishableConsumer {
    /// Holds reading: while any hold is out, no data is delivered, and the peer feels it once what lies between is
    /// full. Dropping the hold releases it. What is already under way on another thread may still be delivered.
    fn hold_reading(&self) -> ReadHold;

    /// Ends both directions in good order: what was written, and a producer still registered, go first; what the
    /// peer still sends is dropped.
    fn lose_connection(&self);

    /// Ends the writing direction only. The same as [`finish`](FinishableConsumer::finish).
    fn lose_write_connection(&self) {
        self.finish();
    }

    /// Ends both directions at once, visibly cut short. The same as [`abort`](FinishableConsumer::abort).
    fn abort_connection(&self, reason: AbortReason) {
        self.abort(reason);
    }
}

/// An owned reason not to read. Dropping it releases it.
#[must_use = "reading goes on when the hold is dropped"]
pub struct ReadHold(#[expect(dead_code, reason = "kept for its drop")] Box<dyn Any + Send + Sync>);

impl ReadHold {
    /// Wraps whatever a transport releases its hold by dropping.
    pub fn new(guard: impl Any + Send + Sync) -> Self {
        Self(Box::new(guard))
    }
}

impl fmt::Debug for ReadHold {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ReadHold")
    }
}
