//! What a protocol is connected to: a two-way endpoint, run by one task that reads, writes and calls the protocol.
//!
//! Knows no protocol grammar. Writing goes through a [`SinkConsumer`], so that a producer a protocol registers meets the
//! same gate as everywhere; a change to TLS in mid-stream swaps what is below that gate and leaves it, with the producer
//! and its pause, as it is.

mod connection;
mod running;
#[cfg(feature = "tls")]
mod upgrade;

use std::future::Future;
use std::sync::atomic::AtomicU64;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tidegate::{Marks, Protocol};

pub use self::connection::Connection;
use self::connection::Shared;
pub use self::running::Running;
#[cfg(feature = "tls")]
pub use self::upgrade::HandshakeSide;
use crate::endpoint::tcp;
use crate::{CHUNK_DEFAULT, DRAIN_DEFAULT, Duplex, EndpointError, Sink, SinkConsumer, SinkDriver, Source};

/// Bounds of a connection.
#[derive(Clone, Copy, Debug)]
pub struct Settings {
    /// Of the gate in front of what the protocol writes.
    pub marks: Marks,
    /// The largest single delivery to the protocol, in bytes.
    pub chunk: usize,
    /// How long a finished direction may go without progress before it is aborted.
    pub drain: Duration,
    /// How long the peer's end is waited for once the protocol is done and all it wrote was sent.
    pub linger: Duration,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            marks: Marks::default(),
            chunk: CHUNK_DEFAULT,
            drain: DRAIN_DEFAULT,
            linger: DRAIN_DEFAULT,
        }
    }
}

/// A connection without its protocol yet: what is written to it waits, nothing is read.
#[must_use = "a connection does nothing until it is run"]
pub struct Opened {
    connection: Arc<Connection>,
    source: Box<dyn Source + Send>,
    driver: SinkDriver<Box<dyn Sink + Send>>,
    settings: Settings,
}

/// Makes a connection of a two-way endpoint. The handle can be given to others before the protocol is known.
///
/// ```no_run
/// # async fn example(a: tidegate_io::Duplex, b: tidegate_io::Duplex) {
/// // Everything that a sends goes to b, and the other way round.
/// use std::sync::Arc;
/// use tidegate::ConsumerProtocol;
/// use tidegate_io::transport::{Settings, open};
/// let (a, running_a) = open(a, Settings::default());
/// let (b, running_b) = open(b, Settings::default());
/// let running_a = running_a.run(Arc::new(ConsumerProtocol::new(b)));
/// let running_b = running_b.run(Arc::new(ConsumerProtocol::new(a)));
/// tokio::join!(running_a, running_b);
/// # }
/// ```
pub fn open(endpoint: Duplex, settings: Settings) -> (Arc<Connection>, Opened) {
    let (write, driver) = SinkConsumer::with_driver(endpoint.sink, settings.marks);
    let connection = Arc::new(Connection {
        write,
        written: AtomicU64::new(0),
        #[cfg(feature = "tls")]
        barrier: Arc::clone(driver.barrier()),
        shared: Mutex::new(Shared::default()),
    });
    let opened = Opened {
        connection: Arc::clone(&connection),
        source: endpoint.source,
        driver: driver.drain(settings.drain),
        settings,
    };
    (connection, opened)
}

/// Connects `protocol` to a two-way endpoint.
pub fn connect(endpoint: Duplex, protocol: Arc<dyn Protocol>, settings: Settings) -> Running {
    open(endpoint, settings).1.run(protocol)
}

/// What connections come from.
pub trait Listen: Send + Sync {
    /// The next connection.
    fn next(&self) -> impl Future<Output = Result<Duplex, EndpointError>> + Send;
}

impl Listen for tcp::Listener {
    async fn next(&self) -> Result<Duplex, EndpointError> {
        Ok(tcp::duplex(self.accept().await?.0))
    }
}

/// Gives every connection that comes a protocol of `factory`'s, each in a task of its own. The factory is told the
/// peer's name; with `None` it refuses the connection, which is logged.
///
/// # Errors
/// The listener is broken.
///
/// # Cancel safety
/// Dropping the future stops accepting; connections that stand go on.
pub async fn serve(
    listener: impl Listen,
    settings: Settings,
    mut factory: impl FnMut(&str) -> Option<Arc<dyn Protocol>>,
) -> Result<(), EndpointError> {
    loop {
        let endpoint = listener.next().await?;
        let peer = endpoint.sink.name();
        match factory(&peer) {
            Some(protocol) => drop(tokio::spawn(connect(endpoint, protocol, settings))),
            None => tracing::info!(peer, "a connection was refused"),
        }
    }
}
