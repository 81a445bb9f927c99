//! What can go wrong at an endpoint, sorted by whose fault it is and what it means for the stream.
//!
//! Knows nothing of exit codes: the program translates.

use std::fmt;
use std::io;
use std::sync::Arc;

use tidegate::Cause;

/// Whose fault an error is; it decides what to do next.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Blame {
    /// The far side broke the rules or went away.
    Peer,
    /// Whoever called us asked for something that cannot be.
    Caller,
    /// The operating system or the hardware.
    System,
}

/// What an endpoint error means for the stream.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
#[non_exhaustive]
pub enum ErrorKind {
    /// Could not be opened (missing, refused, no permission, unknown host).
    Open,
    /// A sink's target exists and must not be overwritten.
    Exists,
    /// Failed while bytes were moving.
    Failed,
    /// Ended before its announced end. Sources only.
    Truncated,
    /// The far reader has gone: a broken pipe.
    BrokenPipe,
    /// The far side has ended well without reading everything: a child that exited with 0. Sinks of two-way endpoints
    /// only, and only once all that the far side had to say was read. A [`Relay`](crate::Relay) takes it for an end.
    Declined,
    /// The far side has ended by itself and not well: a child with a bad exit code, or one that was killed. Two-way
    /// endpoints only, and only once all that the far side had to say was read. A [`Relay`](crate::Relay) delivers that
    /// before it aborts.
    Died,
    /// A deadline passed.
    TimedOut,
    /// What arrived is not what was announced (checksum, length, verification).
    Mismatch,
}

/// An error of one endpoint. Cheap to clone.
#[derive(Clone, Debug)]
pub struct EndpointError {
    /// What it means for the stream.
    pub kind: ErrorKind,
    /// Whose fault it is.
    pub blame: Blame,
    /// One clause for people, lower case, without a full stop: `cannot open big.iso`.
    pub what: Arc<str>,
    /// The error underneath.
    pub cause: Option<Cause>,
}

impl EndpointError {
    /// An error without one underneath.
    pub fn new(kind: ErrorKind, blame: Blame, what: impl Into<Arc<str>>) -> Self {
        Self {
            kind,
            blame,
            what: what.into(),
            cause: None,
        }
    }

    /// The same with the error underneath.
    #[must_use]
    pub fn caused_by(mut self, cause: impl std::error::Error + Send + Sync + 'static) -> Self {
        self.cause = Some(Arc::new(cause));
        self
    }

    /// A system call on an open endpoint failed; kind and blame are read off the error.
    pub fn io(what: impl Into<Arc<str>>, error: io::Error) -> Self {
        let (kind, blame) = match error.kind() {
            io::ErrorKind::BrokenPipe => (ErrorKind::BrokenPipe, Blame::Peer),
            io::ErrorKind::ConnectionReset
            | io::ErrorKind::ConnectionAborted
            | io::ErrorKind::NotConnected => (ErrorKind::Failed, Blame::Peer),
            io::ErrorKind::UnexpectedEof => (ErrorKind::Truncated, Blame::Peer),
            io::ErrorKind::TimedOut => (ErrorKind::TimedOut, Blame::Peer),
            _ => (ErrorKind::Failed, Blame::System),
        };
        Self::new(kind, blame, what).caused_by(error)
    }

    /// An endpoint could not be opened.
    pub fn open(what: impl Into<Arc<str>>, error: io::Error) -> Self {
        let (kind, blame) = match error.kind() {
            io::ErrorKind::AlreadyExists => (ErrorKind::Exists, Blame::Caller),
            io::ErrorKind::TimedOut => (ErrorKind::TimedOut, Blame::Peer),
            io::ErrorKind::ConnectionRefused | io::ErrorKind::ConnectionReset => {
                (ErrorKind::Open, Blame::Peer)
            }
            io::ErrorKind::NotFound | io::ErrorKind::PermissionDenied | io::ErrorKind::IsADirectory => {
                (ErrorKind::Open, Blame::Caller)
            }
            _ => (ErrorKind::Open, Blame::System),
        };
        Self::new(kind, blame, what).caused_by(error)
    }
}

impl fmt::Display for EndpointError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.cause {
            Some(cause) => write!(f, "{}: {cause}", self.what),
            None => f.write_str(&self.what),
        }
    }
}

impl std::error::Error for EndpointError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        self.cause.as_deref().map(|cause| cause as _)
    }
}
