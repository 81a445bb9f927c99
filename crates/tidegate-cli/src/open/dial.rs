//! Ends that are connected to or started: for a copy one of them, for a relay a new one for each connection.
//!
//! Knows nothing of listeners but that one may stand where others are dialled.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

#[cfg(windows)]
use tidegate_io::endpoint::npipe;
#[cfg(any(unix, windows))]
use tidegate_io::endpoint::stdio::standard_io;
use tidegate_io::endpoint::tcp;
#[cfg(feature = "tls")]
use tidegate_io::endpoint::tls::Tls;
#[cfg(unix)]
use tidegate_io::endpoint::{fd::Descriptor, unix};
use tidegate_io::{Duplex, EndpointError};

use super::accept::Acceptor;
#[cfg(any(unix, windows))]
use super::local::process;
#[cfg(feature = "tls")]
use super::tls;
use super::{BoxSink, BoxSource, join, not_here};
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
        #[cfg(unix)]
        (Scheme::Unix, Place::Path(path)) => {
            Box::new(unix::source(unix::connect(path, timeout).await?, path))
        }
        #[cfg(windows)]
        (Scheme::NamedPipe, Place::Path(path)) => Box::new(npipe::source(
            npipe::connect(&path.to_string_lossy(), timeout).await?,
        )),
        #[cfg(feature = "tls")]
        (Scheme::Tls, Place::HostPort { host, port }) => Box::new(
            tls_connect(address, host, *port, ends, timeout)
                .await?
                .into_source(),
        ),
        _ => return Err(not_here(address)),
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
        #[cfg(unix)]
        (Scheme::Unix, Place::Path(path)) => Box::new(unix::sink(unix::connect(path, timeout).await?, path)),
        #[cfg(windows)]
        (Scheme::NamedPipe, Place::Path(path)) => Box::new(npipe::sink(
            npipe::connect(&path.to_string_lossy(), timeout).await?,
        )),
        #[cfg(feature = "tls")]
        (Scheme::Tls, Place::HostPort { host, port }) => Box::new(
            tls_connect(address, host, *port, ends, timeout)
                .await?
                .into_sink(),
        ),
        _ => return Err(not_here(address)),
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
            #[cfg(unix)]
            (Scheme::Unix, Place::Path(path)) => {
                Ok(unix::duplex(unix::connect(path, self.timeout).await?, path))
            }
            #[cfg(windows)]
            (Scheme::NamedPipe, Place::Path(path)) => Ok(npipe::duplex(
                npipe::connect(&path.to_string_lossy(), self.timeout).await?,
            )),
            #[cfg(feature = "tls")]
            (Scheme::Tls, Place::HostPort { host, port }) => {
                let client = self.tls.as_ref().ok_or_else(|| not_here(&self.address))?;
                let stream = tcp::connect(&join(host, *port), self.timeout).await?;
                let name = self.address.option("name").unwrap_or(host);
                Ok(Box::pin(client.connect(tcp::duplex(stream), name))
                    .await?
                    .into_duplex())
            }
            #[cfg(any(unix, windows))]
            (Scheme::Stdio, _) => standard_io(),
            #[cfg(unix)]
            (Scheme::Fd, Place::Number(number)) => Descriptor::adopt(*number)?.into_duplex(),
            #[cfg(any(unix, windows))]
            (Scheme::Exec | Scheme::Shell, place) => process(place, &self.address)?.into_duplex(),
            _ => Err(not_here(&self.address)),
        }
    }
}
