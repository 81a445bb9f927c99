//! What TCP and Unix stream sockets have in common as a source, a sink or both.
//!
//! Knows no addresses: `tcp` and `unix` open the sockets.

#[cfg(target_os = "linux")]
mod diag;
#[cfg(target_os = "linux")]
mod unsent;
#[cfg_attr(windows, path = "socket/watch_windows.rs")]
mod watch;

use std::fmt;
use std::future::Future;
use std::io::{self, IoSlice, Read, Write};
use std::net::SocketAddrV4;
use std::pin::Pin;
#[cfg(target_os = "linux")]
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::sync::{Arc, OnceLock};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use socket2::SockRef;
use tidegate::AbortReason;
use tokio::io::{Interest, Ready};

#[cfg(unix)]
use crate::LaneEnd;
#[cfg(target_os = "linux")]
use crate::RunAhead;
use crate::{Buffers, Confirmation, Duplex, EndpointError, Held, LaneKind, Sink, Source};

/// Pieces in one vectored write.
const SLICES_MAX: usize = 16;

/// What a stream socket of the runtime must offer.
pub trait StreamSocket: Send + Sync + 'static {
    fn poll_readable(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>>;
    fn poll_writable(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>>;
    fn attempt<T>(&self, interest: Interest, run: impl FnOnce() -> io::Result<T>) -> io::Result<T>;
    /// Resolves once the runtime has news of that kind.
    fn news(&self, interest: Interest) -> impl Future<Output = io::Result<Ready>> + Send;
    /// Resolves once the peer has closed both directions, where the system tells that without an error.
    fn hung_up(&self) -> impl Future<Output = ()> + Send;
    fn raw(&self) -> SockRef<'_>;
    #[cfg(unix)]
    fn fd(&self) -> std::os::fd::BorrowedFd<'_>;
}

macro_rules! stream_socket {
    ($socket:ty, $hung_up:path) => {
        impl $crate::endpoint::socket::StreamSocket for $socket {
            fn poll_readable(&self, cx: &mut std::task::Context<'_>) -> std::task::Poll<std::io::Result<()>> {
                self.poll_read_ready(cx)
            }
            fn poll_writable(&self, cx: &mut std::task::Context<'_>) -> std::task::Poll<std::io::Result<()>> {
                self.poll_write_ready(cx)
            }
            fn attempt<T>(
                &self,
                interest: tokio::io::Interest,
                run: impl FnOnce() -> std::io::Result<T>,
            ) -> std::io::Result<T> {
                self.try_io(interest, run)
            }
            fn news(
                &self,
                interest: tokio::io::Interest,
            ) -> impl Future<Output = std::io::Result<tokio::io::Ready>> + Send {
                self.ready(interest)
            }
            fn hung_up(&self) -> impl Future<Output = ()> + Send {
                $hung_up(self)
            }
            fn raw(&self) -> socket2::SockRef<'_> {
                socket2::SockRef::from(self)
            }
            #[cfg(unix)]
            fn fd(&self) -> std::os::fd::BorrowedFd<'_> {
                std::os::fd::AsFd::as_fd(self)
            }
        }
    };
}
pub(crate) use stream_socket;

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
struct Connection<T> {
    socket: T,
    peer: Peer,
    /// Taken from the socket, which tells it only once.
    died: OnceLock<Box<EndpointError>>,
    #[cfg_attr(not(unix), allow(dead_code, reason = "there are no lanes"))]
    kind: LaneKind,
    /// The receive queue has a bound of ours, and is the kernel's own no more.
    #[cfg(target_os = "linux")]
    is_bounded: AtomicBool,
}

type Watch = Pin<Box<dyn Future<Output = ()> + Send>>;

impl<T: StreamSocket> Connection<T> {
    fn new(socket: T, far: Far) -> Arc<Self> {
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
    fn lane_end(&self) -> LaneEnd<'_> {
        LaneEnd {
            kind: self.kind,
            fd: self.socket.fd(),
            offset: 0,
            after_abort: crate::AfterAbort::Stays,
        }
    }

    /// Bounds the kernel's receive queue of a TCP socket, or lets it have all that may be had.
    #[cfg(target_os = "linux")]
    fn set_run_ahead(&self, ahead: RunAhead) {
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

    /// What could not be given back is not taken, and a long way keeps its window: too little of it would be slower than any sink.
    #[cfg(target_os = "linux")]
    fn may_be_bounded(&self, most: usize) -> bool {
        // The kernel reports twice what is asked for.
        let has = self.socket.raw().recv_buffer_size().unwrap_or(usize::MAX);
        has <= most * 2 && diag::round_trip(self.socket.fd()).is_none_or(|time| time < LONG_WAY)
    }

    fn death(&self) -> Option<&EndpointError> {
        self.died.get().map(|error| &**error)
    }

    fn error(&self, error: io::Error) -> EndpointError {
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

    fn poll_watch(self: &Arc<Self>, watch: &mut Option<Watch>, cx: &mut Context<'_>) -> Poll<EndpointError> {
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

    fn poll_read(&self, cx: &mut Context<'_>, space: &mut [u8]) -> Poll<io::Result<usize>> {
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
    fn poll_drop_rest(&self, cx: &mut Context<'_>) -> Poll<Result<(), EndpointError>> {
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

    fn poll_write(
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
    fn poll_lane(
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

/// The reading half of a stream socket.
pub struct SocketSource<T: StreamSocket> {
    connection: Arc<Connection<T>>,
    watch: Option<Watch>,
}

/// The writing half of a stream socket.
pub struct SocketSink<T: StreamSocket> {
    /// `None` once aborted: the socket is closed as soon as nobody else has it.
    connection: Option<Arc<Connection<T>>>,
    /// `None` for a sink that is neither watched nor aborted, as of most idle connections.
    aside: Option<Box<Aside>>,
    ending: Ending,
}

/// What few sinks need.
#[derive(Default)]
struct Aside {
    watch: Option<Watch>,
    hung_up: Option<Watch>,
    /// Whose connection it was, after an abort.
    peer: Option<Peer>,
}

/// What a finish waits for.
#[derive(Clone, Copy, Eq, PartialEq)]
enum Ending {
    /// This sink has the connection alone: the peer's end is the acknowledgement.
    PeersEnd,
    /// A source reads the other direction: sending our end is all.
    OurEnd,
    /// Our end was sent; waits for the peer's.
    EndSent,
    /// Nothing more to do.
    Over,
}

pub(crate) fn source<T: StreamSocket>(socket: T, far: Far) -> SocketSource<T> {
    SocketSource {
        connection: Connection::new(socket, far),
        watch: None,
    }
}

pub(crate) fn sink<T: StreamSocket>(socket: T, far: Far) -> SocketSink<T> {
    SocketSink {
        connection: Some(Connection::new(socket, far)),
        aside: None,
        ending: Ending::PeersEnd,
    }
}

pub(crate) fn duplex<T: StreamSocket>(socket: T, far: Far) -> Duplex {
    let connection = Connection::new(socket, far);
    Duplex {
        source: Box::new(SocketSource {
            connection: Arc::clone(&connection),
            watch: None,
        }),
        sink: Box::new(SocketSink {
            connection: Some(connection),
            aside: None,
            ending: Ending::OurEnd,
        }),
    }
}

impl<T: StreamSocket> Source for SocketSource<T> {
    fn poll_read(
        &mut self,
        cx: &mut Context<'_>,
        buffers: &mut Buffers,
        max: usize,
    ) -> Poll<Result<Option<Bytes>, EndpointError>> {
        let connection = &self.connection;
        // Bytes first, then the buffer: an idle connection holds none.
        ready!(connection.socket.poll_readable(cx)).map_err(|error| connection.error(error))?;
        let mut buffer = buffers.take(max);
        let asked = buffer.space().len();
        match ready!(connection.poll_read(cx, buffer.space())) {
            Ok(0) => Poll::Ready(match connection.death() {
                Some(error) => Err(error.clone()),
                None => Ok(None),
            }),
            Ok(got) => {
                buffers.learn(asked, got);
                Poll::Ready(Ok(Some(buffer.freeze(got))))
            }
            Err(error) => Poll::Ready(Err(connection.error(error))),
        }
    }

    fn poll_hangup(&mut self, cx: &mut Context<'_>) -> Poll<EndpointError> {
        self.connection.poll_watch(&mut self.watch, cx)
    }

    fn poll_discard(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let _gone = ready!(self.connection.poll_drop_rest(cx));
        Poll::Ready(())
    }

    #[cfg(target_os = "linux")]
    fn set_run_ahead(&mut self, ahead: RunAhead) {
        self.connection.set_run_ahead(ahead);
    }

    #[cfg(unix)]
    fn lane_end(&self) -> Option<LaneEnd<'_>> {
        Some(self.connection.lane_end())
    }

    #[cfg(unix)]
    fn poll_lane(&mut self, cx: &mut Context<'_>, op: crate::LaneOp<'_>) -> Poll<io::Result<usize>> {
        self.connection.poll_lane(cx, Interest::READABLE, op)
    }

    fn name(&self) -> String {
        self.connection.peer.to_string()
    }
}

impl<T: StreamSocket> SocketSink<T> {
    fn open(&self) -> Result<&Arc<Connection<T>>, EndpointError> {
        self.connection
            .as_ref()
            .ok_or_else(|| EndpointError::io(self.name(), io::ErrorKind::NotConnected.into()))
    }
}

impl<T: StreamSocket> Sink for SocketSink<T> {
    fn poll_write(&mut self, cx: &mut Context<'_>, held: &Held) -> Poll<Result<usize, EndpointError>> {
        let connection = self.open()?;
        let mut slices = [IoSlice::new(&[]); SLICES_MAX];
        let filled = held.slices(&mut slices);
        let slices = &slices[..filled];
        let total = slices.iter().map(|slice| slice.len()).sum();
        connection.poll_write(cx, slices, total).map_err(|error| {
            connection
                .death()
                .cloned()
                .unwrap_or_else(|| connection.error(error))
        })
    }

    fn poll_finish(&mut self, cx: &mut Context<'_>) -> Poll<Result<Confirmation, EndpointError>> {
        let connection = Arc::clone(self.open()?);
        if matches!(self.ending, Ending::PeersEnd | Ending::OurEnd) {
            connection
                .socket
                .raw()
                .shutdown(std::net::Shutdown::Write)
                .map_err(|error| connection.error(error))?;
            if self.ending == Ending::OurEnd {
                self.ending = Ending::Over;
                return Poll::Ready(Ok(Confirmation::Sent));
            }
            self.ending = Ending::EndSent;
        }
        ready!(connection.poll_drop_rest(cx))?;
        self.ending = Ending::Over;
        Poll::Ready(Ok(Confirmation::Confirmed))
    }

    fn abort(&mut self, _reason: &AbortReason) {
        if let Some(connection) = self.connection.take() {
            self.aside = Some(Box::new(Aside {
                peer: Some(connection.peer.clone()),
                ..Aside::default()
            }));
            // Closing with a linger of zero sends a reset: nobody takes the stream for complete.
            let _ = connection.socket.raw().set_linger(Some(Duration::ZERO));
        }
    }

    fn poll_hangup(&mut self, cx: &mut Context<'_>) -> Poll<EndpointError> {
        let Some(connection) = &self.connection else {
            return Poll::Pending;
        };
        let aside = self.aside.get_or_insert_default();
        let hung_up = aside.hung_up.get_or_insert_with(|| {
            let connection = Arc::clone(connection);
            Box::pin(async move { connection.socket.hung_up().await })
        });
        if hung_up.as_mut().poll(cx).is_ready() {
            aside.hung_up = None;
            return Poll::Ready(connection.error(io::ErrorKind::BrokenPipe.into()));
        }
        connection.poll_watch(&mut aside.watch, cx)
    }

    #[cfg(target_os = "linux")]
    fn unsent_bytes(&self) -> Option<u64> {
        unsent::unsent_bytes(self.connection.as_ref()?.socket.fd())
    }

    fn finish_unconfirmed(&mut self) -> Option<Confirmation> {
        let sent = self.ending == Ending::EndSent && self.unsent_bytes().is_none_or(|unsent| unsent == 0);
        sent.then_some(Confirmation::Sent)
    }

    #[cfg(unix)]
    fn lane_end(&self) -> Option<LaneEnd<'_>> {
        self.connection.as_ref().map(|connection| connection.lane_end())
    }

    #[cfg(unix)]
    fn poll_lane(&mut self, cx: &mut Context<'_>, op: crate::LaneOp<'_>) -> Poll<io::Result<usize>> {
        match &self.connection {
            Some(connection) => connection.poll_lane(cx, Interest::WRITABLE, op),
            None => Poll::Ready(Err(io::ErrorKind::NotConnected.into())),
        }
    }

    fn name(&self) -> String {
        let aborted = || self.aside.as_ref().and_then(|aside| aside.peer.as_ref());
        self.connection
            .as_ref()
            .map(|connection| &connection.peer)
            .or_else(aborted)
            .map_or_else(|| "a connection".to_owned(), Peer::to_string)
    }
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

impl<T: StreamSocket> Drop for SocketSink<T> {
    fn drop(&mut self) {
        if matches!(self.ending, Ending::PeersEnd | Ending::OurEnd) {
            self.abort(&AbortReason::Dropped);
        }
    }
}
