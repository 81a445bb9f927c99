//! Serving over a Unix socket.
//!
//! Knows how such connections are had, and nothing of who serves them.

use std::io;
use std::os::unix::net;
use std::path::Path;

use tidegate_io::EndpointError;
use tokio::net::{UnixListener, UnixStream};

use crate::listener::Listener;
use crate::server::Server;
use crate::wire::UnixWire;

/// A listening Unix socket.
pub(crate) type LocalListener = UnixListener;
/// A connection over one that belongs to no loop yet.
pub(crate) type LocalConnection = net::UnixStream;

impl Server {
    /// Listens on a Unix socket.
    ///
    /// # Errors
    /// The path cannot be bound.
    pub fn bind_unix(path: &Path) -> Result<Self, EndpointError> {
        let listener = UnixListener::bind(path)
            .map_err(|error| EndpointError::open(format!("cannot listen on {}", path.display()), error))?;
        Ok(Self::new(Listener::Local(listener)))
    }
}

pub(crate) async fn accept(listener: &LocalListener) -> io::Result<LocalConnection> {
    listener.accept().await?.0.into_std()
}

/// The connection on the loop that runs this.
pub(crate) fn wire(connection: LocalConnection) -> io::Result<UnixWire> {
    Ok(UnixStream::from_std(connection)?.into())
}
