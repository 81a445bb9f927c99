//! TCP: connecting, listening, and connections as sources, sinks or both.
//!
//! Knows sockets and addresses; what a finish or an abort means for a stream is `socket`'s.
//!
//! A sink that has a connection to itself finishes by ending its direction and waiting for the peer's end (what the
//! peer sends meanwhile is read and dropped); the wait has no limit of its own: [`Flow`](crate::Flow)'s drain
//! deadline ends it with [`Confirmation::Sent`](crate::Confirmation). An abort is a reset.

use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use tokio::net::{TcpListener, TcpSocket, TcpStream, lookup_host};
use tokio::time::Instant;

use super::socket::{self, Far, Peer, SocketSink, SocketSource, stream_socket};
use crate::{Duplex, EndpointError, LaneKind, system};

/// How long connecting may take in all unless told otherwise.
pub const CONNECT_TIMEOUT_DEFAULT: Duration = Duration::from_secs(30);

/// Unsent bytes in a connection's send queue above which it is not writable.
const NOTSENT_BYTES: u32 = 256 * 1024;

const BACKLOG: u32 = 4096;
/// How long to wait before accepting again when descriptors ran out.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

stream_socket!(TcpStream, never);

/// A TCP peer that has closed says so with a reset, once something is sent to it.
async fn never(_stream: &TcpStream) {
    std::future::pending().await
}

/// The reading half of a TCP connection.
pub type TcpSource = SocketSource<TcpStream>;
/// The writing half of a TCP connection.
pub type TcpSink = SocketSink<TcpStream>;

/// Connects to `host:port`, trying every address of the host within `timeout`. A literal address is not looked up; a
/// name is, on a thread of its own, each time.
///
/// # Errors
/// `ErrorKind::Open` or `TimedOut`, with the last address's error as the cause.
pub async fn connect(address: &str, timeout: Duration) -> Result<TcpStream, EndpointError> {
    let failed = |error| EndpointError::open(format!("cannot connect to {address}"), error);
    let deadline = Instant::now() + timeout;
    let found = within(deadline, lookup_host(address)).await.map_err(failed)?;
    let addresses = found.collect::<Vec<_>>();
    let mut last = io::Error::new(io::ErrorKind::NotFound, "the host has no address");
    for (index, address) in addresses.iter().enumerate() {
        // A dead address may not use up the time of those behind it.
        let share = deadline.saturating_duration_since(Instant::now()) / (addresses.len() - index) as u32;
        match within(Instant::now() + share, TcpStream::connect(address)).await {
            Ok(stream) => return Ok(tuned(stream)),
            Err(error) => last = error,
        }
    }
    Err(failed(last))
}

/// Connects to one address.
///
/// # Errors
/// As [`connect`].
pub async fn connect_to(address: SocketAddr, timeout: Duration) -> Result<TcpStream, EndpointError> {
    within(Instant::now() + timeout, TcpStream::connect(address))
        .await
        .map(tuned)
        .map_err(|error| EndpointError::open(format!("cannot connect to {address}"), error))
}

async fn within<T>(deadline: Instant, work: impl Future<Output = io::Result<T>>) -> io::Result<T> {
    match tokio::time::timeout_at(deadline, work).await {
        Ok(result) => result,
        Err(_) => Err(io::Error::new(io::ErrorKind::TimedOut, "no answer in time")),
    }
}

/// Small messages go at once; batching is the gate's business. A connection that has this much which its peer has no
/// window for is not writable: the rest waits where it is counted.
fn tuned(stream: TcpStream) -> TcpStream {
    let _ = stream.set_nodelay(true);
    limit_unsent(&stream, NOTSENT_BYTES);
    stream
}

/// Has a connection be writable only below so many bytes that its peer has no window for, where the system can (Linux): the
/// rest waits where it is counted. Failing leaves the kernel its own limit.
pub fn limit_unsent(stream: &TcpStream, bytes: u32) {
    socket::limit_unsent(&socket2::SockRef::from(stream), bytes);
}

/// What is to be known of the other end, whose address the caller may know already.
fn far(stream: &TcpStream, peer: Option<SocketAddr>) -> Far {
    let Some(peer) = peer.or_else(|| stream.peer_addr().ok()) else {
        return Far {
            peer: Peer::Named("tcp".into()),
            kind: LaneKind::Socket,
        };
    };
    // A connection to an address of one's own goes through loopback, whatever the address.
    let is_local = peer.ip().to_canonical().is_loopback()
        || stream.local_addr().is_ok_and(|local| local.ip() == peer.ip());
    Far {
        peer: match peer {
            SocketAddr::V4(peer) => Peer::Tcp(peer),
            SocketAddr::V6(_) => Peer::Named(format!("tcp://{peer}").into()),
        },
        kind: if is_local {
            LaneKind::LocalSocket
        } else {
            LaneKind::Socket
        },
    }
}

/// A connection to be read only. Its other direction stays open until the source is dropped.
pub fn source(stream: TcpStream) -> TcpSource {
    let far = far(&stream, None);
    socket::source(stream, far)
}

/// A connection to be written only.
pub fn sink(stream: TcpStream) -> TcpSink {
    let far = far(&stream, None);
    socket::sink(stream, far)
}

/// A connection as both ends of a relay.
pub fn duplex(stream: TcpStream) -> Duplex {
    let far = far(&stream, None);
    socket::duplex(stream, far)
}

/// The same to a peer whose address is known, which saves asking the system.
pub fn duplex_with(stream: TcpStream, peer: SocketAddr) -> Duplex {
    let far = far(&stream, Some(peer));
    socket::duplex(stream, far)
}

/// A listening socket.
#[derive(Debug)]
pub struct Listener {
    listener: TcpListener,
}

impl Listener {
    /// Listens on `address:port`; an empty address means every one, port 0 any free one.
    ///
    /// # Errors
    /// `ErrorKind::Open`.
    pub async fn bind(address: &str) -> Result<Self, EndpointError> {
        let failed = |error| EndpointError::open(format!("cannot listen on {address}"), error);
        if let Some(port) = address.strip_prefix(':') {
            // Both families where the system has IPv6, else IPv4 alone.
            if let Ok(listener) = bind_first(&format!("[::]:{port}")).await {
                return Ok(Self { listener });
            }
            let listener = bind_first(&format!("0.0.0.0:{port}")).await.map_err(failed)?;
            return Ok(Self { listener });
        }
        let listener = bind_first(address).await.map_err(failed)?;
        Ok(Self { listener })
    }

    /// The socket itself, for a server that accepts on its own.
    pub fn into_inner(self) -> TcpListener {
        self.listener
    }

    /// Where it listens.
    ///
    /// # Errors
    /// The socket does not know.
    pub fn local_addr(&self) -> Result<SocketAddr, EndpointError> {
        self.listener
            .local_addr()
            .map_err(|error| EndpointError::io("listening socket", error))
    }

    /// The next connection. Connections that died while they waited are passed over; when descriptors or memory run
    /// out this logs it, waits a little and tries again.
    ///
    /// # Errors
    /// The listening socket itself is broken.
    ///
    /// # Cancel safety
    /// No connection is lost when the future is dropped.
    pub async fn accept(&self) -> Result<(TcpStream, SocketAddr), EndpointError> {
        let mut logged = false;
        loop {
            match self.listener.accept().await {
                Ok((stream, peer)) => return Ok((tuned(stream), peer)),
                Err(error) if is_connections_own(&error) => {}
                Err(error) if is_broken(&error) => {
                    return Err(EndpointError::io("accepting", error));
                }
                Err(error) => {
                    if !std::mem::replace(&mut logged, true) {
                        tracing::warn!(%error, "cannot accept now, trying again");
                    }
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                }
            }
        }
    }
}

/// Takes one connection, then stops listening.
///
/// # Errors
/// As [`Listener::bind`] and [`Listener::accept`].
pub async fn accept_one(listener: Listener) -> Result<(TcpStream, SocketAddr), EndpointError> {
    listener.accept().await
}

async fn bind_first(address: &str) -> io::Result<TcpListener> {
    let mut last = io::Error::new(io::ErrorKind::NotFound, "the host has no address");
    for address in lookup_host(address).await? {
        match bind_one(address) {
            Ok(listener) => return Ok(listener),
            Err(error) => last = error,
        }
    }
    Err(last)
}

fn bind_one(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = match address {
        SocketAddr::V4(_) => TcpSocket::new_v4()?,
        SocketAddr::V6(_) => TcpSocket::new_v6()?,
    };
    system::allow_rebinding(&socket)?;
    if address.is_ipv6() && address.ip().is_unspecified() {
        let _ = socket2::SockRef::from(&socket).set_only_v6(false);
    }
    socket.bind(address)?;
    socket.listen(BACKLOG)
}

fn is_connections_own(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::ConnectionAborted | io::ErrorKind::ConnectionReset | io::ErrorKind::Interrupted
    )
}

fn is_broken(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::InvalidInput | io::ErrorKind::NotConnected
    )
}
