//! Where a server takes its connections from.
//!
//! Knows nothing of who serves them.

use std::io;
use std::time::Duration;

use tidegate_io::endpoint::tcp;
use tokio::net::TcpListener;

use crate::limits::Limits;
use crate::local::{self, LocalConnection, LocalListener};

#[derive(Debug)]
pub(crate) enum Listener {
    Tcp(TcpListener),
    #[allow(dead_code, reason = "where there are no Unix sockets, nobody makes one")]
    Local(LocalListener),
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
    Local(LocalConnection),
}

impl Listener {
    pub(crate) async fn accept(&self, limits: &Limits) -> io::Result<Connection> {
        match self {
            Self::Tcp(listener) => {
                let (stream, peer) = listener.accept().await?;
                let _ = stream.set_nodelay(true);
                tcp::limit_unsent(&stream, limits.unsent_bytes_max);
                Ok(Connection::Tcp(stream.into_std()?, peer))
            }
            Self::Local(listener) => Ok(Connection::Local(local::accept(listener).await?)),
        }
    }
}
