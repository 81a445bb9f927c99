//! TLS over any two-way endpoint: a socket, a pair of pipes, a child process, a plain transport in mid-stream.
//!
//! Knows records and certificates, and nothing of what is below: that endpoint's own finish and abort stand. A
//! connection that closes without TLS's own end is [`ErrorKind::Truncated`], never an end. Writing can end while reading
//! goes on. One record each way is all that is buffered (`buffered_bytes` of either half counts it), and a byte counts as
//! accepted once its whole record was accepted below.

mod config;
mod engine;
mod records;
mod trouble;

use std::future::{Future, poll_fn};
use std::io;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use rustls::pki_types::ServerName;
use rustls::{ClientConfig, ClientConnection, Connection, ServerConfig, ServerConnection};
use tidegate::AbortReason;
use tokio::time::Sleep;

pub use self::config::{Identity, Options, Verification};
use self::engine::Engine;
use crate::{Blame, Buffers, Confirmation, Duplex, EndpointError, ErrorKind, Held, RunAhead, Sink, Source};

/// The configuration a [`Client`] of these options would use, for protocols that speak TLS themselves.
///
/// # Errors
/// As [`Client::new`].
pub fn client_config(options: &Options) -> Result<Arc<ClientConfig>, EndpointError> {
    config::client(options)
}

/// The configuration a [`Server`] of these options would use, for protocols that speak TLS themselves.
///
/// # Errors
/// As [`Server::new`].
pub fn server_config(identity: &Identity, options: &Options) -> Result<Arc<ServerConfig>, EndpointError> {
    config::server(identity, options)
}

/// Why a handshake failed, in words for people, for protocols that speak TLS themselves: `error` is what the stream of
/// rustls gave.
pub fn handshake_failed(name: &str, error: io::Error) -> EndpointError {
    match error.downcast::<rustls::Error>() {
        Ok(error) => trouble::told(ErrorKind::Open, name, error),
        Err(error) => EndpointError::open(format!("no TLS with {name}"), error),
    }
}

/// How long a handshake may take.
pub const HANDSHAKE_TIMEOUT_DEFAULT: Duration = Duration::from_secs(30);

/// The side that connects.
///
/// ```no_run
/// # async fn example() -> Result<(), tidegate_io::EndpointError> {
/// use tidegate_io::endpoint::{tcp, tls};
/// let client = tls::Client::new(&tls::Options::default())?;
/// let plain = tcp::connect("example.org:443", tcp::CONNECT_TIMEOUT_DEFAULT).await?;
/// let both = client.connect(tcp::duplex(plain), "example.org").await?.into_duplex();
/// # Ok(()) }
/// ```
#[derive(Clone)]
pub struct Client {
    config: Arc<ClientConfig>,
    timeout: Duration,
}

impl Client {
    /// A client that trusts as `options` say.
    ///
    /// # Errors
    /// `ErrorKind::Open` when a file of certificates cannot be read or used.
    pub fn new(options: &Options) -> Result<Self, EndpointError> {
        Ok(Self::with_config(config::client(options)?))
    }

    /// A client with a configuration of the caller's own.
    pub fn with_config(config: Arc<ClientConfig>) -> Self {
        Self {
            config,
            timeout: HANDSHAKE_TIMEOUT_DEFAULT,
        }
    }

    /// How long the handshake may take.
    #[must_use]
    pub fn handshake_timeout(self, timeout: Duration) -> Self {
        Self { timeout, ..self }
    }

    /// Shakes hands over `transport` with a server that must prove to be `host`.
    ///
    /// # Errors
    /// `ErrorKind::Open` with what is wrong; `TimedOut`.
    ///
    /// # Cancel safety
    /// Dropping the future aborts the transport.
    pub async fn connect(&self, transport: Duplex, host: &str) -> Result<Tls, EndpointError> {
        let name = transport.sink.name().replacen("tcp:", "tls:", 1);
        let wrong_name = |error| {
            EndpointError::new(
                ErrorKind::Open,
                Blame::Caller,
                format!("{host} cannot be the name of a server"),
            )
            .caused_by(error)
        };
        let bare = host.trim_start_matches('[').trim_end_matches(']');
        let host = ServerName::try_from(bare.to_owned()).map_err(wrong_name)?;
        let session = ClientConnection::new(Arc::clone(&self.config), host)
            .map_err(|error| trouble::told(ErrorKind::Open, &name, error))?;
        Tls::shake_hands(session.into(), transport, name, self.timeout).await
    }
}

/// The side that accepts.
#[derive(Clone)]
pub struct Server {
    config: Arc<ServerConfig>,
    timeout: Duration,
}

impl Server {
    /// A server that proves to be `identity`. With extra authorities in `options`, clients must prove themselves by a
    /// certificate one of those has signed.
    ///
    /// # Errors
    /// `ErrorKind::Open` when a file cannot be read or used.
    pub fn new(identity: &Identity, options: &Options) -> Result<Self, EndpointError> {
        Ok(Self::with_config(config::server(identity, options)?))
    }

    /// A server with a configuration of the caller's own.
    pub fn with_config(config: Arc<ServerConfig>) -> Self {
        Self {
            config,
            timeout: HANDSHAKE_TIMEOUT_DEFAULT,
        }
    }

    /// How long the handshake may take.
    #[must_use]
    pub fn handshake_timeout(self, timeout: Duration) -> Self {
        Self { timeout, ..self }
    }

    /// Shakes hands over `transport`.
    ///
    /// # Errors
    /// `ErrorKind::Open` with what is wrong; `TimedOut`.
    ///
    /// # Cancel safety
    /// Dropping the future aborts the transport.
    pub async fn accept(&self, transport: Duplex) -> Result<Tls, EndpointError> {
        let name = transport.sink.name().replacen("tcp:", "tls:", 1);
        let session = ServerConnection::new(Arc::clone(&self.config))
            .map_err(|error| trouble::told(ErrorKind::Open, &name, error))?;
        Tls::shake_hands(session.into(), transport, name, self.timeout).await
    }
}

/// An established session, not yet put to use.
pub struct Tls {
    engine: Engine,
}

impl Tls {
    async fn shake_hands(
        session: Connection,
        transport: Duplex,
        name: String,
        timeout: Duration,
    ) -> Result<Self, EndpointError> {
        let mut engine = Engine::new(session, transport, name);
        match tokio::time::timeout(timeout, poll_fn(|cx| engine.poll_handshake(cx))).await {
            Ok(Ok(())) => Ok(Self { engine }),
            Ok(Err(error)) => {
                // An alert may be on its way: let it go ahead of the reset that a drop would be.
                let _ = tokio::time::timeout(ALERT_WAIT, poll_fn(|cx| engine.sink().poll_finish(cx))).await;
                Err(error)
            }
            Err(_) => {
                let what = format!("{} did not complete the TLS handshake in time", engine.name);
                Err(EndpointError::new(ErrorKind::TimedOut, Blame::Peer, what))
            }
        }
    }

    /// The application protocol agreed on.
    pub fn alpn(&self) -> Option<&[u8]> {
        self.engine.session().alpn_protocol()
    }

    /// Whether the peer has proved who it is.
    pub fn peer_has_certificate(&self) -> bool {
        self.engine.session().peer_certificates().is_some()
    }

    /// Both directions.
    pub fn into_duplex(self) -> Duplex {
        let (source, sink) = self.into_halves();
        Duplex {
            source: Box::new(source),
            sink: Box::new(sink),
        }
    }

    /// Both directions, for whoever wants to look at what either holds.
    pub fn into_halves(self) -> (TlsSource, TlsSink) {
        let name = self.engine.name.clone();
        let engine = Arc::new(Mutex::new(self.engine));
        let source = TlsSource {
            engine: Arc::clone(&engine),
            use_: Use::BesideOther,
            name: name.clone(),
        };
        let sink = TlsSink {
            engine,
            use_: Use::BesideOther,
            is_over: false,
            patience: None,
            name,
        };
        (source, sink)
    }

    /// Only what the peer sends. Our own direction stays open until the stream is confirmed, and then ends in good order;
    /// dropping the source before that resets.
    pub fn into_source(self) -> TlsSource {
        TlsSource {
            name: self.engine.name.clone(),
            engine: Arc::new(Mutex::new(self.engine)),
            use_: Use::Alone,
        }
    }

    /// Only what we send: what the peer sends is read and dropped, and its end confirms ours.
    pub fn into_sink(self) -> TlsSink {
        TlsSink {
            name: self.engine.name.clone(),
            engine: Arc::new(Mutex::new(self.engine)),
            use_: Use::Alone,
            is_over: false,
            patience: None,
        }
    }
}

/// How long a failed handshake's alert may take to leave.
const ALERT_WAIT: Duration = Duration::from_millis(200);
/// How long a peer that takes no more may go on without saying why.
const REASON_WAIT: Duration = Duration::from_secs(2);

/// The reading half of a TLS session.
pub struct TlsSource {
    engine: Arc<Mutex<Engine>>,
    use_: Use,
    name: String,
}

/// The writing half of a TLS session.
pub struct TlsSink {
    engine: Arc<Mutex<Engine>>,
    use_: Use,
    is_over: bool,
    /// Runs once the peer takes no more.
    patience: Option<Pin<Box<Sleep>>>,
    name: String,
}

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Use {
    /// The other half is nobody's.
    Alone,
    /// The other half is in use too.
    BesideOther,
}

impl TlsSource {
    /// Bytes taken from below and not handed out: beside what the reader holds, and at most one record.
    pub fn buffered_bytes(&self) -> usize {
        lock(&self.engine).bytes_in()
    }
}

impl TlsSink {
    /// The record on its way down, whose bytes do not count as accepted yet.
    pub fn buffered_bytes(&self) -> usize {
        lock(&self.engine).bytes_out()
    }
}

/// Held during one poll and never across a wait; both halves may be driven by different tasks.
fn lock(engine: &Mutex<Engine>) -> MutexGuard<'_, Engine> {
    engine.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The peer takes no more. It may have said why before it closed (a certificate it refuses): that lies before its end or is
/// still on its way, and either comes where the connection is gone. Where only its reading half is (a child that closed its
/// standard input and lives on), nothing need ever come.
fn poll_why(
    engine: &mut Engine,
    patience: &mut Option<Pin<Box<Sleep>>>,
    cx: &mut Context<'_>,
    error: EndpointError,
) -> Poll<EndpointError> {
    if error.blame != Blame::Peer {
        return Poll::Ready(error);
    }
    match engine.poll_drop_rest(cx) {
        Poll::Ready(Err(said)) if said.kind == ErrorKind::Failed => return Poll::Ready(said),
        Poll::Ready(_) => return Poll::Ready(error),
        Poll::Pending => {}
    }
    let patience = patience.get_or_insert_with(|| Box::pin(tokio::time::sleep(REASON_WAIT)));
    patience.as_mut().poll(cx).map(|()| error)
}

impl Source for TlsSource {
    fn poll_read(
        &mut self,
        cx: &mut Context<'_>,
        buffers: &mut Buffers,
        max: usize,
    ) -> Poll<Result<Option<Bytes>, EndpointError>> {
        lock(&self.engine).poll_read(cx, buffers, max)
    }

    fn poll_hangup(&mut self, cx: &mut Context<'_>) -> Poll<EndpointError> {
        match lock(&self.engine).source() {
            Some(source) => source.poll_hangup(cx),
            None => Poll::Pending,
        }
    }

    fn poll_stop(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let mut engine = lock(&self.engine);
        if let Some(source) = engine.source() {
            ready!(source.poll_stop(cx));
            engine.drop_source();
        }
        Poll::Ready(())
    }

    fn poll_discard(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let _gone = ready!(lock(&self.engine).poll_drop_rest(cx));
        Poll::Ready(())
    }

    /// The peer may wait for our end: it takes that for the confirmation.
    fn poll_confirm(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        if self.use_ == Use::Alone {
            let _peer_gone = ready!(lock(&self.engine).poll_end(cx));
        }
        Poll::Ready(())
    }

    fn set_run_ahead(&mut self, ahead: RunAhead) {
        if let Some(source) = lock(&self.engine).source() {
            source.set_run_ahead(ahead);
        }
    }

    fn name(&self) -> String {
        self.name.clone()
    }
}

impl Sink for TlsSink {
    fn poll_write(&mut self, cx: &mut Context<'_>, held: &Held) -> Poll<Result<usize, EndpointError>> {
        let mut engine = lock(&self.engine);
        match ready!(engine.poll_write(cx, held)) {
            Err(error) if self.use_ == Use::Alone => {
                poll_why(&mut engine, &mut self.patience, cx, error).map(Err)
            }
            result => Poll::Ready(result),
        }
    }

    fn poll_flush(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), EndpointError>> {
        lock(&self.engine).poll_flush(cx)
    }

    fn poll_finish(&mut self, cx: &mut Context<'_>) -> Poll<Result<Confirmation, EndpointError>> {
        let mut engine = lock(&self.engine);
        let mut confirmation = Confirmation::Sent;
        if !self.is_over {
            confirmation = match ready!(engine.poll_end(cx)) {
                Err(error) if self.use_ == Use::Alone => {
                    return poll_why(&mut engine, &mut self.patience, cx, error).map(Err);
                }
                result => result?,
            };
        }
        // Our end is out: what comes now can only confirm it.
        self.is_over = true;
        if self.use_ == Use::Alone {
            match ready!(engine.poll_drop_rest(cx)) {
                Ok(()) => confirmation = Confirmation::Confirmed,
                // Closed without TLS's end: perhaps by the peer, perhaps by somebody in between.
                Err(error) if error.kind == ErrorKind::Truncated => {}
                Err(error) => return Poll::Ready(Err(error)),
            }
        }
        Poll::Ready(Ok(confirmation))
    }

    fn finish_unconfirmed(&mut self) -> Option<Confirmation> {
        let engine = lock(&self.engine);
        (self.is_over && engine.is_end_sent()).then_some(Confirmation::Sent)
    }

    fn abort(&mut self, reason: &AbortReason) {
        self.is_over = true;
        let mut engine = lock(&self.engine);
        engine.sink().abort(reason);
        if self.use_ == Use::Alone {
            engine.drop_source();
        }
    }

    fn poll_aborted(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        lock(&self.engine).sink().poll_aborted(cx)
    }

    fn poll_hangup(&mut self, cx: &mut Context<'_>) -> Poll<EndpointError> {
        let mut engine = lock(&self.engine);
        if self.use_ == Use::Alone
            && let Poll::Ready(Err(error)) = engine.poll_drop_rest(cx)
            && error.kind != ErrorKind::Truncated
        {
            return Poll::Ready(error);
        }
        engine.sink().poll_hangup(cx)
    }

    fn unsent_bytes(&self) -> Option<u64> {
        lock(&self.engine).sink().unsent_bytes()
    }

    fn is_heard_out(&self) -> bool {
        lock(&self.engine).sink().is_heard_out()
    }

    fn is_busy(&self) -> bool {
        lock(&self.engine).sink().is_busy()
    }

    fn name(&self) -> String {
        self.name.clone()
    }
}

impl Drop for TlsSink {
    fn drop(&mut self) {
        if !self.is_over {
            self.abort(&AbortReason::Dropped);
        }
    }
}
