//! Ends that are connected to or started: for a copy one of them, for a relay a new one for each connection.
//!
//! Knows nothing of listeners but that one may stand where others are dialled.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use tidegate_io::endpoint::stdio::standard_io;
use tidegate_io::endpoint::tcp;
#[cfg(feature = "tls")]
use tidegate_io::endpoint::tls::Tls;
use tidegate_io::{Duplex, EndpointError};

use super::accept::Acceptor;
use super::local::process;
#[cfg(feature = "tls")]
use super::tls;
use super::{BoxSink, BoxSource, join, system};
use crate::address::{Address, Place, Scheme};
use crate::settings::EndSettings;

/// A connection as the source of a copy.
pub(super) async fn source(
    address: &Address,
    ends: &EndSettings,
    timeout: Duration,
) -> Result<BoxSource, EndpointError> {
    #[cfg(not(feature = "tls"))]
    let _ = ends;
    Ok(match (address.scheme, &address.place) {
        (Scheme::Tcp, Place::HostPort { host, port }) => {
            Box::new(tcp::source(tcp::connect(&join(host, *port), timeout).await?))
        }
        #[cfg(feature = "tls")]
        (Scheme::Tls, Place::HostPort { host, port }) => Box::new(
            tls_connect(address, host, *port, ends, timeout)
                .await?
                .into_source(),
        ),
        _ => system::Connection::open(address, timeout).await?.into_source(),
    })
}

/// A connection as the sink of a copy.
pub(super) async fn sink(
    address: &Address,
    ends: &EndSettings,
    timeout: Duration,
) -> Result<BoxSink, EndpointError> {
    #[cfg(not(feature = "tls"))]
    let _ = ends;
    Ok(match (address.scheme, &address.place) {
        (Scheme::Tcp, Place::HostPort { host, port }) => {
            Box::new(tcp::sink(tcp::connect(&join(host, *port), timeout).await?))
        }
        #[cfg(feature = "tls")]
        (Scheme::Tls, Place::HostPort { host, port }) => Box::new(
            tls_connect(address, host, *port, ends, timeout)
                .await?
                .into_sink(),
        ),
        _ => system::Connection::open(address, timeout).await?.into_sink(),
    })
}

#[cfg(feature = "tls")]
async fn tls_connect(
    address: &Address,
    host: &str,
    port: u16,
    ends: &EndSettings,
    timeout: Duration,
) -> Result<Tls, EndpointError> {
    let client = tls::client(address, &ends.tls)?.handshake_timeout(timeout);
    let stream = tcp::connect(&join(host, port), timeout).await?;
    client
        .connect(tcp::duplex(stream), address.option("name").unwrap_or(host))
        .await
}

/// The other side of a relay: made anew for each connection.
pub(crate) struct Dialler {
    address: Address,
    timeout: Duration,
    #[cfg(feature = "tls")]
    tls: Option<tls::Client>,
    /// A listener as the other side: each connection here waits for one there.
    acceptor: Option<Acceptor>,
}

impl Dialler {
    pub(crate) async fn bind(
        address: &Address,
        ends: &EndSettings,
        timeout: Duration,
    ) -> Result<Self, EndpointError> {
        let acceptor = match address.row().listens() {
            true => Some(Acceptor::bind(address, ends).await?),
            false => None,
        };
        Ok(Self {
            address: address.clone(),
            timeout,
            // Certificates are read once, not for each connection.
            #[cfg(feature = "tls")]
            tls: match address.scheme {
                Scheme::Tls => Some(tls::client(address, &ends.tls)?.handshake_timeout(timeout)),
                _ => None,
            },
            acceptor,
        })
    }

    /// Where a listening side can be reached.
    pub(crate) fn listens_at(&self) -> Option<String> {
        self.acceptor.as_ref().map(Acceptor::address)
    }

    /// A new end of the other side.
    pub(crate) async fn dial(&self) -> Result<Duplex, EndpointError> {
        if let Some(acceptor) = &self.acceptor {
            return Box::pin(async { acceptor.accept().await?.greet(self.timeout).await }).await;
        }
        match (self.address.scheme, &self.address.place) {
            (Scheme::Tcp, Place::HostPort { host, port }) => {
                match host.parse::<IpAddr>() {
                    Ok(ip) => {
                        let to = SocketAddr::new(ip, *port);
                        Ok(tcp::duplex_with(tcp::connect_to(to, self.timeout).await?, to))
                    }
                    // Boxed, so that connections to a literal address keep no room for the lookup.
                    Err(_) => Ok(tcp::duplex(
                        Box::pin(tcp::connect(&join(host, *port), self.timeout)).await?,
                    )),
                }
            }
            (Scheme::Unix | Scheme::NamedPipe, _) => {
                let connection = system::Connection::open(&self.address, self.timeout).await?;
                Ok(connection.into_duplex())
            }
            #[cfg(feature = "tls")]
            (Scheme::Tls, Place::HostPort { host, port }) => {
                let client = self.tls.as_ref().ok_or_else(|| super::not_here(&self.address))?;
                let stream = tcp::connect(&join(host, *port), self.timeout).await?;
                let name = self.address.option("name").unwrap_or(host);
                Ok(Box::pin(client.connect(tcp::duplex(stream), name))
                    .await?
                    .into_duplex())
            }
            (Scheme::Stdio, _) => standard_io(),
            (Scheme::Exec | Scheme::Shell, place) => process(place, &self.address)?.into_duplex(),
            _ => system::duplex(&self.address),
        }
    }
}
