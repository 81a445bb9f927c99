//! What Windows alone has: named pipes. It has no FIFOs and no numbered descriptors, and no inodes for us to see.
//!
//! Its counterpart is `system.rs`, with the same names: nobody else in here asks which system it is.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use tidegate_io::endpoint::npipe;
use tidegate_io::{Duplex, EndpointError};

use super::{BoxSink, BoxSource, Opening, not_here};
use crate::address::{Address, Place, Scheme};

/// A named pipe that takes connections.
pub(super) struct Listener {
    pipe: npipe::Listener,
    name: Arc<str>,
}

impl Listener {
    pub(super) async fn bind(address: &Address) -> Result<Self, EndpointError> {
        let (Scheme::NamedPipeListen, Place::Path(path)) = (address.scheme, &address.place) else {
            return Err(not_here(address));
        };
        let pipe = npipe::Listener::bind(&path.to_string_lossy())?;
        let name = pipe.name().into();
        Ok(Self { pipe, name })
    }

    /// Where it can be reached.
    pub(super) fn address(&self) -> String {
        format!("npipe-listen:{}", self.name)
    }

    /// The next connection. Cancel safe.
    pub(super) async fn accept(&self) -> Result<Connection, EndpointError> {
        Ok(Connection {
            pipe: self.pipe.accept().await?,
            name: Arc::clone(&self.name),
        })
    }
}

/// A connected pipe.
pub(super) struct Connection {
    pipe: npipe::NamedPipe,
    name: Arc<str>,
}

impl Connection {
    pub(super) async fn open(address: &Address, timeout: Duration) -> Result<Self, EndpointError> {
        let (Scheme::NamedPipe, Place::Path(path)) = (address.scheme, &address.place) else {
            return Err(not_here(address));
        };
        let name: Arc<str> = path.to_string_lossy().into();
        let pipe = npipe::connect(&name, timeout).await?;
        Ok(Self { pipe, name })
    }

    /// What it goes over.
    pub(super) fn name(&self) -> &Arc<str> {
        &self.name
    }

    pub(super) fn into_source(self) -> BoxSource {
        Box::new(npipe::source(self.pipe))
    }

    pub(super) fn into_sink(self) -> BoxSink {
        Box::new(npipe::sink(self.pipe))
    }

    pub(super) fn into_duplex(self) -> Duplex {
        npipe::duplex(self.pipe)
    }
}

/// There are no others than those both systems have.
pub(super) fn source(_: &Address) -> Result<Option<BoxSource>, EndpointError> {
    Ok(None)
}

/// There are no others than those both systems have.
pub(super) fn sink(_: &Address) -> Result<Option<Opening<'_, BoxSink>>, EndpointError> {
    Ok(None)
}

/// There are no others than those both systems have.
pub(super) fn duplex(address: &Address) -> Result<Duplex, EndpointError> {
    Err(not_here(address))
}

/// Whether both are one file. Looks at files only: a look at a pipe's name would be a connection to it.
pub(super) fn are_one_file(source: &Address, sink: &Address) -> bool {
    let (Scheme::File, Place::Path(from), Scheme::File, Place::Path(to)) =
        (source.scheme, &source.place, sink.scheme, &sink.place)
    else {
        return false;
    };
    match (std::fs::canonicalize(from), std::fs::canonicalize(to)) {
        (Ok(from), Ok(to)) => from == to,
        _ => false,
    }
}

/// What a shell is told to make a directory a stream.
pub(super) fn tar_of(folder: &Path) -> String {
    let folder = folder.display().to_string();
    match folder.contains(' ') {
        true => format!(r#""exec:tar c \"{folder}\"""#),
        false => format!(r#""exec:tar c {folder}""#),
    }
}
