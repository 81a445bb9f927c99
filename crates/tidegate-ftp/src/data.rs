//! The data connection: a source for uploads and a sink for downloads and listings.
//!
//! Knows sockets and TLS, and no verb. Finished means closed in good order; cut short means reset, so that nobody takes a
//! part for the whole. Nothing is read before somebody wants it: what a client sends early waits in the socket, and
//! comes out in order.

mod ends;

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;

use tidegate::{AlreadyRegistered, FinishableConsumer, Marks};
use tidegate_io::{SinkConsumer, SinkDriver, SourceProducer};
use tokio::net::TcpStream;
use tokio_rustls::server::TlsStream;

pub use ends::{DataSink, DataSource};

/// An open data connection, plain or under TLS.
#[derive(Debug)]
pub struct DataConnection {
    stream: Stream,
    peer: SocketAddr,
}

#[derive(Debug)]
enum Stream {
    Plain(TcpStream),
    Tls(Box<TlsStream<TcpStream>>),
}

impl DataConnection {
    /// A plain connection.
    ///
    /// # Errors
    /// The peer has gone already.
    pub fn plain(stream: TcpStream) -> io::Result<Self> {
        Ok(Self {
            peer: stream.peer_addr()?,
            stream: Stream::Plain(stream),
        })
    }

    /// A connection whose TLS handshake is done.
    ///
    /// # Errors
    /// The peer has gone already.
    pub fn tls(stream: TlsStream<TcpStream>) -> io::Result<Self> {
        Ok(Self {
            peer: stream.get_ref().0.peer_addr()?,
            stream: Stream::Tls(Box::new(stream)),
        })
    }

    /// The far end.
    pub fn peer(&self) -> SocketAddr {
        self.peer
    }

    /// What the client sends.
    pub fn into_source(self) -> DataSource {
        DataSource::new(self)
    }

    /// What the client gets.
    pub fn into_sink(self) -> DataSink {
        DataSink::new(self)
    }

    /// The download end as a consumer for push and pull producers: `finish` closes, `abort` resets. The driver is to be
    /// run. (Twisted: `ftp.DTP` and `ftp.SenderProtocol`.)
    pub fn into_consumer(self, marks: Marks) -> (SinkConsumer, SinkDriver<DataSink>) {
        SinkConsumer::with_driver(self.into_sink(), marks)
    }

    /// The upload end as a push producer, to be run: everything the client sends goes to `consumer`, what came early
    /// first; a consumer that fails stops the client. (Twisted: `ftp.DTP.registerConsumer`.)
    ///
    /// # Errors
    /// Another producer is registered; it is not disturbed.
    pub fn into_producer(
        self,
        consumer: Arc<dyn FinishableConsumer>,
    ) -> Result<SourceProducer<DataSource>, AlreadyRegistered> {
        SourceProducer::push(self.into_source(), consumer)
    }
}
