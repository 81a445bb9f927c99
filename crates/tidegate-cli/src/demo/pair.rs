//! A pair of Unix sockets, for where there is no network at all.
//!
//! Knows nothing of what goes over it.

use std::path::Path;

use tidegate_io::EndpointError;
use tidegate_io::endpoint::unix;
use tokio::net::UnixStream;

use super::Joined;

/// The pair, and why it is needed.
pub(super) fn joined(why: &EndpointError) -> Result<Joined, EndpointError> {
    let (near, far) =
        UnixStream::pair().map_err(|error| EndpointError::open("cannot make a pair of sockets", error))?;
    Ok(Joined {
        near: Box::new(unix::sink(near, Path::new("demo"))),
        far: Box::new(unix::source(far, Path::new("demo"))),
        by: format!("a pair of Unix sockets ({why})"),
    })
}
