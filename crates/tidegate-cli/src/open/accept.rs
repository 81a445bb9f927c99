//! Listeners of every kind, and the connections they take.
//!
//! Knows nothing of who asked for them: a copy takes one connection, a relay many.

use std::fmt;
use std::net::{SocketAddr, SocketAddrV4};
use std::sync::Arc;
use std::time::Duration;

use tidegate::AbortReason;
use tidegate_io::endpoint::tcp;
#[cfg(feature = "tls")]
use tidegate_io::endpoint::tls::{Server as TlsServer, Tls};
use tidegate_io::{Duplex, EndpointError, Sink};
use tokio::net::TcpStream;

#[cfg(feature = "tls")]
use super::tls;
use super::{BoxSink, BoxSource, join, system};
use crate::address::{Address, Place, Scheme};
use crate::settings::EndSettings;

/// One connection; the listener is closed as soon as it has come.
pub(super) async fn one(acceptor: Acceptor, timeout: Duration) -> Result<Connection, EndpointError> {
    let accepted = acceptor.accept().await?;
    drop(acceptor);
    accepted.ready(timeout).await
}

/// Something that takes connections, of any kind.
pub(crate) struct Acceptor {
    listener: Listener,
}

enum Listener {
    Tcp(tcp::Listener),
    System(system::Listener),
    #[cfg(feature = "tls")]
    Tls(tcp::Listener, TlsServer),
}

impl Acceptor {
    /// Begins to listen.
    pub(crate) async fn bind(address: &Address, ends: &EndSettings) -> Result<Self, EndpointError> {
        #[cfg(not(feature = "tls"))]
        let _ = ends;
        let listener = match (address.scheme, &address.place) {
            (Scheme::TcpListen, Place::HostPort { host, port }) => {
                Listener::Tcp(tcp::Listener::bind(&join(host, *port)).await?)
            }
            #[cfg(feature = "tls")]
            (Scheme::TlsListen, Place::HostPort { host, port }) => {
                let server = tls::server(address, &ends.tls)?;
                Listener::Tls(tcp::Listener::bind(&join(host, *port)).await?, server)
            }
            _ => Listener::System(system::Listener::bind(address).await?),
        };
        Ok(Self { listener })
    }

    /// Where it can be reached: with the real port.
    pub(crate) fn address(&self) -> String {
        let at = |scheme: &str, listener: &tcp::Listener| match listener.local_addr() {
            Ok(at) => format!("{scheme}://{at}"),
            Err(_) => scheme.to_owned(),
        };
        match &self.listener {
            Listener::Tcp(listener) => at("tcp-listen", listener),
            #[cfg(feature = "tls")]
            Listener::Tls(listener, _) => at("tls-listen", listener),
            Listener::System(listener) => listener.address(),
        }
    }

    /// The next connection. Cancel safe.
    pub(crate) async fn accept(&self) -> Result<Accepted, EndpointError> {
        Ok(match &self.listener {
            Listener::Tcp(listener) => {
                let (stream, peer) = listener.accept().await?;
                Accepted {
                    peer: peer.into(),
                    stream: Stream::Tcp(stream, peer),
                }
            }
            Listener::System(listener) => {
                let connection = listener.accept().await?;
                Accepted {
                    peer: Peer::Other(Arc::clone(connection.name())),
                    stream: Stream::System(connection),
                }
            }
            #[cfg(feature = "tls")]
            Listener::Tls(listener, server) => {
                let (stream, peer) = listener.accept().await?;
                Accepted {
                    peer: peer.into(),
                    stream: Stream::Tls(stream, server.clone()),
                }
            }
        })
    }
}

/// Who has come, as lines and snapshots name it. Small: every connection keeps one.
#[derive(Clone, Debug)]
pub(crate) enum Peer {
    V4(SocketAddrV4),
    Other(Arc<str>),
}

impl From<SocketAddr> for Peer {
    fn from(address: SocketAddr) -> Self {
        match address {
            SocketAddr::V4(address) => Self::V4(address),
            SocketAddr::V6(_) => Self::Other(address.to_string().into()),
        }
    }
}

impl fmt::Display for Peer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::V4(address) => address.fmt(f),
            Self::Other(text) => f.write_str(text),
        }
    }
}

/// A connection that has come and said nothing yet.
pub(crate) struct Accepted {
    peer: Peer,
    stream: Stream,
}

enum Stream {
    Tcp(TcpStream, SocketAddr),
    System(system::Connection),
    /// Before its handshake.
    #[cfg(feature = "tls")]
    Tls(TcpStream, TlsServer),
}

impl Accepted {
    /// Who it is.
    pub(crate) fn peer(&self) -> &Peer {
        &self.peer
    }

    /// Sends it away at once.
    pub(crate) fn refuse(self) {
        let mut end = match self.stream {
            Stream::Tcp(stream, peer) => tcp::duplex_with(stream, peer),
            Stream::System(connection) => connection.into_duplex(),
            #[cfg(feature = "tls")]
            Stream::Tls(stream, _) => tcp::duplex(stream),
        };
        end.sink.abort(&AbortReason::Requested);
    }

    /// Both its ends, after whatever greeting its kind needs.
    pub(crate) async fn greet(self, timeout: Duration) -> Result<Duplex, EndpointError> {
        Ok(match self.ready(timeout).await? {
            Connection::Tcp(stream, peer) => tcp::duplex_with(stream, peer),
            Connection::System(connection) => connection.into_duplex(),
            #[cfg(feature = "tls")]
            Connection::Tls(session) => session.into_duplex(),
        })
    }

    async fn ready(self, timeout: Duration) -> Result<Connection, EndpointError> {
        Ok(match self.stream {
            Stream::Tcp(stream, peer) => Connection::Tcp(stream, peer),
            Stream::System(connection) => Connection::System(connection),
            #[cfg(feature = "tls")]
            Stream::Tls(stream, server) => {
                let server = server.handshake_timeout(timeout);
                // Boxed, so that the tasks of plain connections keep no room for a handshake.
                let shaking = Box::pin(server.accept(tcp::duplex(stream)));
                Connection::Tls(Box::new(shaking.await?))
            }
        })
    }
}

/// A connection over which bytes can go.
pub(super) enum Connection {
    Tcp(TcpStream, SocketAddr),
    System(system::Connection),
    #[cfg(feature = "tls")]
    Tls(Box<Tls>),
}

impl Connection {
    pub(super) fn source(self) -> BoxSource {
        match self {
            Self::Tcp(stream, _) => Box::new(tcp::source(stream)),
            Self::System(connection) => connection.into_source(),
            #[cfg(feature = "tls")]
            Self::Tls(session) => Box::new(session.into_source()),
        }
    }

    pub(super) fn sink(self) -> BoxSink {
        match self {
            Self::Tcp(stream, _) => Box::new(tcp::sink(stream)),
            Self::System(connection) => connection.into_sink(),
            #[cfg(feature = "tls")]
            Self::Tls(session) => Box::new(session.into_sink()),
        }
    }
}
