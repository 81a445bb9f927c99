//! A connected socket that a source and a sink share: reading, writing, lanes, and its death, which the system tells once.
//!
//! Knows nothing of ends: what a finish or an abort is, the two halves know.

use std::fmt;
use std::future::Future;
use std::io::{self, IoSlice, Read, Write};
use std::net::SocketAddrV4;
use std::pin::Pin;
use std::sync::{Arc, OnceLock};
use std::task::{Context, Poll, ready};

use tokio::io::Interest;

use super::kernel::ReceiveBound;
use super::{StreamSocket, watch};
use crate::{AfterAbort, EndpointError, LaneEnd, LaneKind, LaneOp, RunAhead};

/// Who is at the other end, as error lines and reports name it. Small, and without a text that few connections need.
#[derive(Clone)]
pub(crate) enum Peer {
    /// `tcp://` before an address: the common case.
    Tcp(SocketAddrV4),
    /// Anything else, written out.
    Named(Arc<str>),
}

/// The far end of a connection, asked of the system once.
pub(crate) struct Far {
    pub(crate) peer: Peer,
    pub(crate) kind: LaneKind,
}

impl fmt::Display for Peer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp(address) => write!(f, "tcp://{address}"),
            Self::Named(name) => f.write_str(name),
        }
    }
}

/// A connection that its source and its sink share.
pub(super) struct Connection<T> {
    pub(super) socket: T,
    pub(super) peer: Peer,
    /// Taken from the socket, which tells it only once.
    died: OnceLock<Box<EndpointError>>,
    kind: LaneKind,
    receive_bound: ReceiveBound,
}

pub(super) type Watch = Pin<Box<dyn Future<Output = ()> + Send>>;

impl<T: StreamSocket> Connection<T> {
    pub(super) fn new(socket: T, far: Far) -> Arc<Self> {
        Arc::new(Self {
            socket,
            peer: far.peer,
            died: OnceLock::new(),
            kind: far.kind,
            receive_bound: ReceiveBound::default(),
        })
    }

    pub(super) fn lane_end(&self) -> Option<LaneEnd<'_>> {
        Some(LaneEnd {
            kind: self.kind,
            fd: self.socket.lane_fd()?,
            offset: 0,
            after_abort: AfterAbort::Stays,
        })
    }

    /// Bounds the system's receive queue, where it can be done, or lets it have all that may be had.
    pub(super) fn set_run_ahead(&self, ahead: RunAhead) {
        self.receive_bound.set(&self.socket.raw(), ahead);
    }

    pub(super) fn death(&self) -> Option<&EndpointError> {
        self.died.get().map(|error| &**error)
    }

    pub(super) fn error(&self, error: io::Error) -> EndpointError {
        EndpointError::io(self.peer.to_string(), error)
    }

    /// Resolves once the connection has an error, without touching unread data.
    async fn watch(self: Arc<Self>) {
        while self.died.get().is_none() {
            match watch::error(&self.socket).await {
                Some(error) => drop(self.died.set(Box::new(self.error(error)))),
                // Taken by the other half's read or write.
                None => tokio::task::yield_now().await,
            }
        }
    }

    pub(super) fn poll_watch(
        self: &Arc<Self>,
        watch: &mut Option<Watch>,
        cx: &mut Context<'_>,
    ) -> Poll<EndpointError> {
        let watching = watch.get_or_insert_with(|| Box::pin(Arc::clone(self).watch()));
        ready!(watching.as_mut().poll(cx));
        *watch = None;
        Poll::Ready(
            self.death()
                .cloned()
                .unwrap_or_else(|| self.error(io::ErrorKind::ConnectionReset.into())),
        )
    }

    /// The system tells a connection's error once, to whoever calls first: a write, a splice, a look. Whoever reads
    /// afterwards sees what looks like a clean end, so it is kept here for them.
    fn keep(&self, error: io::Error) -> io::Error {
        use io::ErrorKind::{
            ConnectionAborted, ConnectionReset, HostUnreachable, NetworkUnreachable, TimedOut,
        };
        let ends = [
            ConnectionAborted,
            ConnectionReset,
            HostUnreachable,
            NetworkUnreachable,
            TimedOut,
        ];
        if ends.contains(&error.kind()) {
            let same = error
                .raw_os_error()
                .map_or_else(|| error.kind().into(), io::Error::from_raw_os_error);
            let _ = self.died.set(Box::new(self.error(same)));
        }
        error
    }

    pub(super) fn poll_read(&self, cx: &mut Context<'_>, space: &mut [u8]) -> Poll<io::Result<usize>> {
        loop {
            ready!(self.socket.poll_readable(cx))?;
            let mut got = None;
            let result = self.socket.attempt(Interest::READABLE, || {
                let count = (&*self.socket.raw()).read(space)?;
                got = Some(count);
                // A short read has emptied the socket: saying so saves the read that would find that out.
                if watch::SHORT_IS_BLOCKED && count > 0 && count < space.len() {
                    return Err(io::ErrorKind::WouldBlock.into());
                }
                Ok(())
            });
            match (got, result) {
                (Some(count), _) => return Poll::Ready(Ok(count)),
                (None, Err(error)) if is_passing(&error) => {}
                (None, Err(error)) => return Poll::Ready(Err(self.keep(error))),
                (None, Ok(())) => return Poll::Ready(Ok(0)),
            }
        }
    }

    /// Reads and drops what the peer sends, until it ends.
    pub(super) fn poll_drop_rest(&self, cx: &mut Context<'_>) -> Poll<Result<(), EndpointError>> {
        let mut dropped = [0; 4096];
        loop {
            match ready!(self.poll_read(cx, &mut dropped)) {
                Ok(0) => {
                    return Poll::Ready(match self.death() {
                        Some(error) => Err(error.clone()),
                        None => Ok(()),
                    });
                }
                Ok(_) => {}
                Err(error) => return Poll::Ready(Err(self.error(error))),
            }
        }
    }

    pub(super) fn poll_write(
        &self,
        cx: &mut Context<'_>,
        slices: &[IoSlice<'_>],
        total: usize,
    ) -> Poll<io::Result<usize>> {
        loop {
            ready!(self.socket.poll_writable(cx))?;
            let mut sent = None;
            let result = self.socket.attempt(Interest::WRITABLE, || {
                let count = match slices {
                    [only] => (&*self.socket.raw()).write(only)?,
                    several => (&*self.socket.raw()).write_vectored(several)?,
                };
                sent = Some(count);
                if watch::SHORT_IS_BLOCKED && count < total {
                    return Err(io::ErrorKind::WouldBlock.into());
                }
                Ok(())
            });
            match (sent, result) {
                (Some(0), _) => return Poll::Ready(Err(io::ErrorKind::WriteZero.into())),
                (Some(count), _) => return Poll::Ready(Ok(count)),
                (None, Err(error)) if is_passing(&error) => {}
                (None, Err(error)) => return Poll::Ready(Err(self.keep(error))),
                (None, Ok(())) => return Poll::Ready(Err(io::ErrorKind::WriteZero.into())),
            }
        }
    }

    pub(super) fn poll_lane(
        &self,
        cx: &mut Context<'_>,
        interest: Interest,
        op: LaneOp<'_>,
    ) -> Poll<io::Result<usize>> {
        loop {
            if interest.is_readable() {
                ready!(self.socket.poll_readable(cx))?;
            } else {
                ready!(self.socket.poll_writable(cx))?;
            }
            let attempt = || match self.socket.lane_fd() {
                Some(fd) => op(fd),
                None => Err(io::ErrorKind::Unsupported.into()),
            };
            match self.socket.attempt(interest, attempt) {
                Err(error) if is_passing(&error) => {}
                result => return Poll::Ready(result.map_err(|error| self.keep(error))),
            }
        }
    }
}

fn is_passing(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted
    )
}
