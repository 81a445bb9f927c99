//! Where a server takes its connections from.
//!
//! Knows nothing of who serves them.

use std::io;
use std::time::Duration;

#[cfg(unix)]
use tokio::net::UnixListener;
use tokio::net::{TcpListener, TcpStream};

use crate::limits::Limits;

#[derive(Debug)]
pub(crate) enum Listener {
    Tcp(TcpListener),
    #[cfg(unix)]
    Unix(UnixListener),
}

/// An error of one connection is passed over; out of descriptors or memory, waiting is all one can do.
pub(crate) async fn rest_after(error: &io::Error) {
    use io::ErrorKind as Kind;
    if !matches!(
        error.kind(),
        Kind::ConnectionAborted | Kind::ConnectionReset | Kind::Interrupted
    ) {
        tracing::warn!(%error, "cannot accept a connection");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

/// A connection that belongs to no loop yet.
pub(crate) enum Connection {
    Tcp(std::net::TcpStream, std::net::SocketAddr),
    #[cfg(unix)]
    Unix(std::os::unix::net::UnixStream),
}

impl Listener {
    pub(crate) async fn accept(&self, limits: &Limits) -> io::Result<Connection> {
        match self {
            Self::Tcp(listener) => {
                let (stream, peer) = listener.accept().await?;
                let _ = stream.set_nodelay(true);
                limit_unsent(&stream, limits);
                Ok(Connection::Tcp(stream.into_std()?, peer))
            }
            #[cfg(unix)]
            Self::Unix(listener) => Ok(Connection::Unix(listener.accept().await?.0.into_std()?)),
        }
    }
}

/// Failing leaves the kernel its own limits.
#[cfg(any(target_os = "linux", target_os = "android"))]
fn limit_unsent(stream: &TcpStream, limits: &Limits) {
    let _ = socket2::SockRef::from(stream).set_tcp_notsent_lowat(limits.unsent_bytes_max);
}

/// The option is not to be had.
#[cfg(not(any(target_os = "linux", target_os = "android")))]
fn limit_unsent(_stream: &TcpStream, _limits: &Limits) {}
