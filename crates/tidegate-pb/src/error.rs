//! What can go wrong on a connection of Perspective Broker, sorted by who is to blame.
//!
//! Knows nothing of exit codes.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use tidegate::{AbortReason, Cause};
use tidegate_io::{Blame, EndpointError, ErrorKind};

use crate::banana::BananaError;
use crate::jelly::JellyError;

/// Why a call, a page transfer or a connection failed. Cheap to clone: all that share a connection learn the same.
#[derive(Clone, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum PbError {
    /// What came in is no banana, or what was to go out would be refused.
    #[error("banana: {0}")]
    Banana(#[from] BananaError),
    /// What came in is beyond the plain data this end takes.
    #[error("jelly: {0}")]
    Jelly(#[from] JellyError),
    /// The peer broke a rule of the protocol.
    #[error("the peer broke the protocol: {0}")]
    Protocol(&'static str),
    /// The peer speaks another version.
    #[error("the peer speaks version {0}, this end version 6")]
    Version(i64),
    /// No dialect in common.
    #[error("the peer offers no dialect this end knows")]
    NoDialect,
    /// The called object raised.
    #[error(transparent)]
    Remote(#[from] RemoteError),
    /// The peer ended the connection.
    #[error("the peer closed the connection")]
    Closed,
    /// The connection broke.
    #[error("the connection broke: {0}")]
    Io(#[source] Arc<io::Error>),
    /// This end cut the connection.
    #[error("this end cut the connection: {0}")]
    Aborted(#[source] AbortReason),
    /// The peer went on asking, took none of the answers it is owed, and nothing moved any more. Its fault; this end has
    /// stopped reading long before, so that nothing grows.
    #[error("the peer asks and takes no answers: nothing moved for {0:?}")]
    Stalled(Duration),
    /// More objects are lent to the peer than allowed.
    #[error("more than {0} objects lent to the peer")]
    TooManyObjects(usize),
    /// More pages came than the limit allows.
    #[error("more than {0} bytes of pages")]
    TooManyPages(u64),
    /// The peer gave up its pager before the end of its pages.
    #[error("the peer's pager went away before its end notice")]
    PagerGone,
    /// What was asked for is not an object of the peer.
    #[error("no object where one is needed: {0}")]
    NoObject(&'static str),
}

/// An exception of the peer, as far as its text goes.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
#[error("{kind}: {message}")]
pub struct RemoteError {
    /// The exception's class, by its full name.
    pub kind: String,
    /// Its text.
    pub message: String,
}

impl RemoteError {
    /// An error to answer a call with.
    pub fn new(kind: impl Into<String>, message: impl Into<String>) -> Self {
        Self {
            kind: kind.into(),
            message: message.into(),
        }
    }
}

impl From<io::Error> for PbError {
    fn from(error: io::Error) -> Self {
        Self::Io(Arc::new(error))
    }
}

impl PbError {
    /// The error as a cause that reasons carry.
    pub(crate) fn into_cause(self) -> Cause {
        Arc::new(self)
    }
}

impl From<PbError> for EndpointError {
    fn from(error: PbError) -> Self {
        let (kind, blame) = match &error {
            PbError::Remote(_) => (ErrorKind::Open, Blame::Peer),
            PbError::Closed | PbError::PagerGone | PbError::Io(_) => (ErrorKind::Truncated, Blame::Peer),
            PbError::Stalled(_) => (ErrorKind::TimedOut, Blame::Peer),
            PbError::Aborted(_) | PbError::TooManyObjects(_) | PbError::TooManyPages(_) => {
                (ErrorKind::Failed, Blame::Caller)
            }
            _ => (ErrorKind::Failed, Blame::Peer),
        };
        Self::new(kind, blame, "perspective broker").caused_by(error)
    }
}
