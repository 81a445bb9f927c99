//! Unix stream sockets: connecting, listening, and connections as sources, sinks or both.
//!
//! Knows paths and stale socket files; what a finish or an abort means for a stream is `socket`'s. There is no reset
//! on these sockets: a peer sees an abort as an end, unless it still had sent something that nobody read.

use std::io;
use std::os::fd::AsFd;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::time::Duration;

use tokio::io::Interest;
use tokio::net::{UnixListener, UnixStream};

use super::os::PEER_CLOSED;
use super::polled::{HALF_CLOSED_PAUSE, is_dead};
use super::socket::{self, Far, Peer, SocketSink, SocketSource, stream_socket};
use crate::{Duplex, EndpointError, LaneKind};

stream_socket!(UnixStream, hung_up);

async fn hung_up(stream: &UnixStream) {
    loop {
        if stream.ready(Interest::ERROR | PEER_CLOSED).await.is_err() || is_dead(stream.as_fd()) {
            return;
        }
        // One direction only. The runtime keeps that news for ever, so there is no event to wait for.
        tokio::time::sleep(HALF_CLOSED_PAUSE).await;
    }
}

/// The reading half of a Unix connection.
pub type UnixSource = SocketSource<UnixStream>;
/// The writing half of a Unix connection.
pub type UnixSink = SocketSink<UnixStream>;

/// Connects to the socket at `path`.
///
/// # Errors
/// `ErrorKind::Open` or `TimedOut`.
pub async fn connect(path: &Path, timeout: Duration) -> Result<UnixStream, EndpointError> {
    let failed = |error| EndpointError::open(format!("cannot connect to {}", path.display()), error);
    match tokio::time::timeout(timeout, UnixStream::connect(path)).await {
        Ok(result) => result.map_err(failed),
        Err(_) => Err(failed(io::Error::new(
            io::ErrorKind::TimedOut,
            "no answer in time",
        ))),
    }
}

/// A connection to be read only.
pub fn source(stream: UnixStream, path: &Path) -> UnixSource {
    socket::source(stream, far(path))
}

/// A connection to be written only.
pub fn sink(stream: UnixStream, path: &Path) -> UnixSink {
    socket::sink(stream, far(path))
}

/// A connection as both ends of a relay.
pub fn duplex(stream: UnixStream, path: &Path) -> Duplex {
    socket::duplex(stream, far(path))
}

fn far(path: &Path) -> Far {
    Far {
        peer: Peer::Named(format!("unix:{}", path.display()).into()),
        kind: LaneKind::LocalSocket,
    }
}

/// A listening Unix socket. Its file is removed when it is dropped.
#[derive(Debug)]
pub struct Listener {
    listener: UnixListener,
    path: PathBuf,
    /// Device and inode of our own file, so that a successor's is left alone.
    file: Option<(u64, u64)>,
}

impl Listener {
    /// Listens at `path`. A socket file that nobody listens on is replaced; anything else that is there stays.
    ///
    /// # Errors
    /// `ErrorKind::Exists` when something is there, `Open` for the rest.
    pub async fn bind(path: &Path) -> Result<Self, EndpointError> {
        let failed = |error: io::Error| {
            let error = match error.kind() {
                io::ErrorKind::AddrInUse => io::Error::new(io::ErrorKind::AlreadyExists, error),
                _ => error,
            };
            EndpointError::open(format!("cannot listen on {}", path.display()), error)
        };
        let listener = match UnixListener::bind(path) {
            Err(error) if error.kind() == io::ErrorKind::AddrInUse && is_stale(path).await => {
                std::fs::remove_file(path).map_err(failed)?;
                UnixListener::bind(path).map_err(failed)?
            }
            result => result.map_err(failed)?,
        };
        Ok(Self {
            listener,
            path: path.to_owned(),
            file: identity(path),
        })
    }

    /// The next connection.
    ///
    /// # Errors
    /// The listening socket itself is broken.
    ///
    /// # Cancel safety
    /// No connection is lost when the future is dropped.
    pub async fn accept(&self) -> Result<UnixStream, EndpointError> {
        let mut logged = false;
        loop {
            match self.listener.accept().await {
                Ok((stream, _)) => return Ok(stream),
                Err(error) if error.kind() == io::ErrorKind::InvalidInput => {
                    return Err(EndpointError::io("accepting", error));
                }
                Err(error) => {
                    if !std::mem::replace(&mut logged, true) {
                        tracing::warn!(%error, "cannot accept now, trying again");
                    }
                    tokio::time::sleep(Duration::from_millis(50)).await;
                }
            }
        }
    }

    /// Where it listens.
    pub fn path(&self) -> &Path {
        &self.path
    }
}

impl Drop for Listener {
    fn drop(&mut self) {
        if self.file.is_some() && identity(&self.path) == self.file {
            let _ = std::fs::remove_file(&self.path);
        }
    }
}

fn identity(path: &Path) -> Option<(u64, u64)> {
    let metadata = std::fs::symlink_metadata(path).ok()?;
    Some((metadata.dev(), metadata.ino()))
}

/// Whether `path` is a socket that refuses connections: its listener is gone.
async fn is_stale(path: &Path) -> bool {
    let is_socket = std::fs::symlink_metadata(path).is_ok_and(|found| found.file_type().is_socket());
    is_socket
        && matches!(UnixStream::connect(path).await,
            Err(error) if error.kind() == io::ErrorKind::ConnectionRefused)
}

impl crate::transport::Listen for Listener {
    async fn next(&self) -> Result<Duplex, EndpointError> {
        Ok(duplex(self.accept().await?, self.path()))
    }
}
