//! `pb://` and `pb-listen:` addresses.
//!
//! Knows the addresses; pages are the Perspective Broker crate's.

use tidegate_io::EndpointError;
use tidegate_pb::{FetchSource, ServeSink};
use tokio::net::TcpListener;

/// Connects at the first read.
pub(super) fn source(host: &str, port: u16, name: &str) -> FetchSource {
    tidegate_pb::fetch(host, port, name)
}

/// Serves the one client that will ask.
pub(super) fn sink(listener: TcpListener, name: &str) -> Result<ServeSink, EndpointError> {
    tidegate_pb::serve(listener, name)
        .map_err(|error| EndpointError::open(format!("cannot serve {name}"), error))
}
