//! What Unix alone has: Unix sockets, FIFOs, inherited descriptors, and inodes that tell whether two names are one file.
//!
//! Its counterpart is `system_windows.rs`, with the same names: nobody else in here asks which system it is.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use rustix::fs::{FileType, fstat, stat};
use tidegate_io::endpoint::fd::Descriptor;
use tidegate_io::endpoint::pipe::{PipeSink, PipeSource};
use tidegate_io::endpoint::unix;
use tidegate_io::{Duplex, EndpointError};
use tokio::net::UnixStream;

use super::{BoxSink, BoxSource, Opening, STDIN, STDOUT, not_here};
use crate::address::{Address, Place, Scheme};

/// A listening Unix socket.
pub(super) struct Listener {
    socket: unix::Listener,
    path: Arc<str>,
}

impl Listener {
    pub(super) async fn bind(address: &Address) -> Result<Self, EndpointError> {
        let (Scheme::UnixListen, Place::Path(path)) = (address.scheme, &address.place) else {
            return Err(not_here(address));
        };
        let socket = unix::Listener::bind(path).await?;
        let path = socket.path().display().to_string().into();
        Ok(Self { socket, path })
    }

    /// Where it can be reached.
    pub(super) fn address(&self) -> String {
        format!("unix-listen:{}", self.path)
    }

    /// The next connection. Cancel safe.
    pub(super) async fn accept(&self) -> Result<Connection, EndpointError> {
        Ok(Connection {
            stream: self.socket.accept().await?,
            path: Arc::clone(&self.path),
        })
    }
}

/// A connected Unix socket.
pub(super) struct Connection {
    stream: UnixStream,
    path: Arc<str>,
}

impl Connection {
    pub(super) async fn open(address: &Address, timeout: Duration) -> Result<Self, EndpointError> {
        let (Scheme::Unix, Place::Path(path)) = (address.scheme, &address.place) else {
            return Err(not_here(address));
        };
        Ok(Self {
            stream: unix::connect(path, timeout).await?,
            path: path.display().to_string().into(),
        })
    }

    /// What it goes over.
    pub(super) fn name(&self) -> &Arc<str> {
        &self.path
    }

    pub(super) fn into_source(self) -> BoxSource {
        Box::new(unix::source(self.stream, Path::new(&*self.path)))
    }

    pub(super) fn into_sink(self) -> BoxSink {
        Box::new(unix::sink(self.stream, Path::new(&*self.path)))
    }

    pub(super) fn into_duplex(self) -> Duplex {
        unix::duplex(self.stream, Path::new(&*self.path))
    }
}

/// A FIFO or a descriptor to read from, if the address means one.
pub(super) fn source(address: &Address) -> Result<Option<BoxSource>, EndpointError> {
    Ok(match (address.scheme, &address.place) {
        (Scheme::Pipe, Place::Path(path)) => Some(Box::new(PipeSource::open(path)?)),
        (Scheme::File, Place::Path(path)) if is_fifo(path) => Some(Box::new(PipeSource::open(path)?)),
        (Scheme::Fd, Place::Number(number)) => Some(Box::new(Descriptor::adopt(*number)?.into_source()?)),
        _ => None,
    })
}

/// A FIFO or a descriptor to write to, if the address means one. A FIFO waits for its reader.
pub(super) fn sink(address: &Address) -> Result<Option<Opening<'_, BoxSink>>, EndpointError> {
    let fifo = |path| Opening::later(async move { Ok(Box::new(PipeSink::open(path).await?) as BoxSink) });
    Ok(match (address.scheme, &address.place) {
        (Scheme::Pipe, Place::Path(path)) => Some(fifo(path)),
        (Scheme::File, Place::Path(path)) if is_fifo(path) => Some(fifo(path)),
        (Scheme::Fd, Place::Number(number)) => {
            Some(Opening::Open(Box::new(Descriptor::adopt(*number)?.into_sink()?)))
        }
        _ => None,
    })
}

/// Both ends of a descriptor.
pub(super) fn duplex(address: &Address) -> Result<Duplex, EndpointError> {
    match (address.scheme, &address.place) {
        (Scheme::Fd, Place::Number(number)) => Descriptor::adopt(*number)?.into_duplex(),
        _ => Err(not_here(address)),
    }
}

fn is_fifo(path: &Path) -> bool {
    stat(path).is_ok_and(|found| FileType::from_raw_mode(found.st_mode) == FileType::Fifo)
}

/// Whether both are one regular file, whatever it is called.
pub(super) fn are_one_file(source: &Address, sink: &Address) -> bool {
    match (identity(source, STDIN), identity(sink, STDOUT)) {
        (Some(from), Some(to)) => from == to,
        _ => false,
    }
}

/// Device and inode of a regular file behind an address.
fn identity(address: &Address, dash: &str) -> Option<(rustix::fs::Dev, u64)> {
    let found = match (&address.place, address.scheme) {
        (Place::Path(path), Scheme::File) => stat(path),
        (_, Scheme::Stdio) if dash == STDIN => fstat(std::io::stdin()),
        (_, Scheme::Stdio) => fstat(std::io::stdout()),
        _ => return None,
    };
    let found = found.ok()?;
    (FileType::from_raw_mode(found.st_mode) == FileType::RegularFile).then_some((found.st_dev, found.st_ino))
}

/// What a shell is told to make a directory a stream.
pub(super) fn tar_of(folder: &Path) -> String {
    let folder = folder.display().to_string();
    format!("'exec:tar c {}'", shell_words::quote(&folder))
}
