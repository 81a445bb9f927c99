//! A connected socket that a source and a sink share: reading, writing, lanes, and its death, which the system tells once.
//!
//! Knows nothing of ends: what a finish or an abort is, the two halves know.

use std::fmt;
use std::future::Future;
use std::io::{self, IoSlice, Read, Write};
use std::net::SocketAddrV4;
use std::pin::Pin;
#[cfg(target_os = "linux")]
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::sync::{Arc, OnceLock};
use std::task::{Context, Poll, ready};
#[cfg(target_os = "linux")]
use std::time::Duration;

use tokio::io::Interest;

#[cfg(target_os = "linux")]
use super::diag;
use super::{StreamSocket, watch};
#[cfg(unix)]
use crate::LaneEnd;
#[cfg(target_os = "linux")]
use crate::RunAhead;
use crate::{EndpointError, LaneKind};

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
    #[cfg_attr(not(unix), allow(dead_code, reason = "there are no lanes"))]
    kind: LaneKind,
    /// The receive queue has a bound of ours, and is the kernel's own no more.
    #[cfg(target_os = "linux")]
    is_bounded: AtomicBool,
}

pub(super) type Watch = Pin<Box<dyn Future<Output = ()> + Send>>;

impl<T: StreamSocket> Connection<T> {
    pub(super) fn new(socket: T, far: Far) -> Arc<Self> {
        Arc::new(Self {
            socket,
            peer: far.peer,
            died: OnceLock::new(),
            kind: far.kind,
            #[cfg(target_os = "linux")]
            is_bounded: AtomicBool::new(false),
        })
    }

    #[cfg(unix)]
    pub(super) fn lane_end(&self) -> LaneEnd<'_> {
        LaneEnd {
            kind: self.kind,
            fd: self.socket.fd(),
            offset: 0,
            after_abort: crate::AfterAbort::Stays,
        }
    }

    /// Bounds the kernel's receive queue of a TCP socket, or lets it have all that may be had.
    #[cfg(target_os = "linux")]
    pub(super) fn set_run_ahead(&self, ahead: RunAhead) {
        let raw = self.socket.raw();
        // The queue of a Unix socket is its sender's.
        let is_unix = raw.domain().is_ok_and(|domain| domain == socket2::Domain::UNIX);
        let (Some(most), false) = (receive_bytes_max(), is_unix) else {
            return;
        };
        let bytes = match ahead {
            RunAhead::Free if self.is_bounded.load(Relaxed) => most,
            RunAhead::Limited(bytes) if self.may_be_bounded(most) => bytes.min(most),
            RunAhead::Free | RunAhead::Limited(_) => return,
        };
        if raw.set_recv_buffer_size(bytes).is_ok() {
            self.is_bounded.store(true, Relaxed);
        }
    }

    /// A long way keeps its window: too little of it would be slower than any sink. What can be given back is enough for a short
    /// one; where the way is not known, no more is taken than can be given back.
    #[cfg(target_os = "linux")]
    fn may_be_bounded(&self, most: usize) -> bool {
        match diag::round_trip(self.socket.fd()) {
            Some(time) => time < LONG_WAY,
            // The kernel reports twice what is asked for.
            None => self
                .socket
                .raw()
                .recv_buffer_size()
                .is_ok_and(|has| has <= most * 2),
        }
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
                if cfg!(unix) && count > 0 && count < space.len() {
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
                if cfg!(unix) && count < total {
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

    #[cfg(unix)]
    pub(super) fn poll_lane(
        &self,
        cx: &mut Context<'_>,
        interest: Interest,
        op: crate::LaneOp<'_>,
    ) -> Poll<io::Result<usize>> {
        loop {
            if interest.is_readable() {
                ready!(self.socket.poll_readable(cx))?;
            } else {
                ready!(self.socket.poll_writable(cx))?;
            }
            match self.socket.attempt(interest, || op(self.socket.fd())) {
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

/// The largest receive queue that may be asked for; `None` where that is too little to be worth it. Setting a queue's size
/// ends the kernel's own tuning of it, so it is only done where the size set later is as good: a sender's queue grows to
/// 4 MiB unless its system was told otherwise, and the kernel doubles what is asked for.
#[cfg(target_os = "linux")]
fn receive_bytes_max() -> Option<usize> {
    static MOST: OnceLock<Option<usize>> = OnceLock::new();
    *MOST.get_or_init(|| {
        let text = std::fs::read_to_string("/proc/sys/net/core/rmem_max").ok()?;
        let bytes = text.trim().parse::<usize>().ok()?;
        (bytes >= RECEIVE_BYTES_NEEDED).then_some(bytes)
    })
}

/// A round trip from which on the queue is not bounded. Half of what the first bound is for.
#[cfg(target_os = "linux")]
const LONG_WAY: Duration = Duration::from_millis(8);

#[cfg(target_os = "linux")]
const RECEIVE_BYTES_NEEDED: usize = 4 * 1024 * 1024;
