//! What a protocol is connected to: a two-way endpoint, run by one task that reads, writes and calls the protocol.
//!
//! Knows no protocol grammar. Writing goes through a [`SinkConsumer`], so that a producer a protocol registers meets the
//! same gate as everywhere; a change to TLS in mid-stream swaps what is below that gate and leaves it, with the producer
//! and its pause, as it is.

#[cfg(feature = "tls")]
mod upgrade;

#[cfg(feature = "tls")]
pub use self::upgrade::HandshakeSide;
use std::any::Any;
use std::future::Future;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::pin::Pin;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use bytes::Bytes;
use tidegate::{
    AbortReason, AlreadyRegistered, Cause, Consumer, FinishableConsumer, HalfClose, Loss, Marks, Pressure,
    Producer, Protocol, ReadHold, Transport, WriteError,
};
use tokio::time::Sleep;

use crate::endpoint::tcp;
use crate::{
    Buffers, CHUNK_DEFAULT, DRAIN_DEFAULT, DriveError, Duplex, EndpointError, ErrorKind, Sink, SinkConsumer,
    SinkDriver, Source,
};

/// Deliveries in one turn before other tasks get theirs.
const TURN_STEPS: usize = 32;

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

#[cfg(unix)]
impl Listen for crate::endpoint::unix::Listener {
    async fn next(&self) -> Result<Duplex, EndpointError> {
        let stream = self.accept().await?;
        Ok(crate::endpoint::unix::duplex(stream, self.path()))
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

/// A connection as its protocol, and others, write to it.
pub struct Connection {
    write: SinkConsumer,
    /// Bytes taken from the protocol in all.
    written: AtomicU64,
    #[cfg(feature = "tls")]
    barrier: Arc<AtomicU64>,
    shared: Mutex<Shared>,
}

#[derive(Default)]
struct Shared {
    read_holds: usize,
    /// The protocol is done: what still comes is dropped.
    discards: bool,
    /// Why the connection was cut, the first reason.
    cut: Option<AbortReason>,
    #[cfg(feature = "tls")]
    upgrade: Option<upgrade::Request>,
    waker: Option<Waker>,
}

impl Connection {
    fn lock(&self) -> MutexGuard<'_, Shared> {
        self.shared.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn change<T>(&self, change: impl FnOnce(&mut Shared) -> T) -> T {
        let mut shared = self.lock();
        let result = change(&mut shared);
        let waker = shared.waker.take();
        drop(shared);
        if let Some(waker) = waker {
            waker.wake();
        }
        result
    }

    fn listen(&self, waker: &Waker) {
        let fresh = waker.clone();
        let stale = self.lock().waker.replace(fresh);
        drop(stale);
    }

    fn count<E>(&self, bytes: usize, result: Result<Pressure, E>) -> Result<Pressure, E> {
        if result.is_ok() {
            self.written.fetch_add(bytes as u64, Ordering::Release);
        }
        result
    }
}

impl Consumer for Connection {
    fn register_producer(&self, producer: Producer) -> Result<(), AlreadyRegistered> {
        self.write.register_producer(producer)
    }
    fn unregister_producer(&self) {
        self.write.unregister_producer();
    }
    fn write(&self, data: Bytes) -> Result<Pressure, WriteError> {
        self.count(data.len(), self.write.write(data))
    }
    fn write_list(&self, data: Vec<Bytes>) -> Result<Pressure, WriteError<Vec<Bytes>>> {
        let bytes = data.iter().map(Bytes::len).sum();
        self.count(bytes, self.write.write_list(data))
    }
}

impl FinishableConsumer for Connection {
    fn finish(&self) {
        self.write.finish();
    }

    /// Both directions: a connection that is half cut does not exist.
    fn abort(&self, reason: AbortReason) {
        self.change(|shared| shared.cut.get_or_insert_with(|| reason.clone()).clone());
        self.write.abort(reason);
    }
}

/// The connection as a transport: a type of its own, so that a hold can keep the connection.
struct Link(Arc<Connection>);

impl Consumer for Link {
    fn register_producer(&self, producer: Producer) -> Result<(), AlreadyRegistered> {
        self.0.register_producer(producer)
    }
    fn unregister_producer(&self) {
        self.0.unregister_producer();
    }
    fn write(&self, data: Bytes) -> Result<Pressure, WriteError> {
        self.0.write(data)
    }
    fn write_list(&self, data: Vec<Bytes>) -> Result<Pressure, WriteError<Vec<Bytes>>> {
        self.0.write_list(data)
    }
}

impl FinishableConsumer for Link {
    fn finish(&self) {
        self.0.finish();
    }
    fn abort(&self, reason: AbortReason) {
        self.0.abort(reason);
    }
}

impl Transport for Link {
    fn hold_reading(&self) -> ReadHold {
        self.0.change(|shared| shared.read_holds += 1);
        ReadHold::new(Reading(Arc::clone(&self.0)))
    }

    fn lose_connection(&self) {
        self.0.change(|shared| shared.discards = true);
        self.0.finish();
    }
}

struct Reading(Arc<Connection>);

impl Drop for Reading {
    fn drop(&mut self) {
        self.0.change(|shared| shared.read_holds -= 1);
    }
}

impl Opened {
    /// Runs the connection for `protocol`.
    pub fn run(self, protocol: Arc<dyn Protocol>) -> Running {
        Running {
            connection: self.connection,
            protocol: Some(protocol),
            is_made: false,
            source: Some(self.source),
            driver: self.driver,
            buffers: Buffers::default(),
            settings: self.settings,
            is_read: false,
            is_written: false,
            linger: None,
            panic: None,
            #[cfg(feature = "tls")]
            upgrade: None,
        }
    }
}

/// A running connection: a future that ends once, with how the connection was lost, after the protocol was told.
///
/// A panic of the protocol cuts the connection and goes on from here. Dropping it cuts the connection, and tells the
/// protocol.
#[must_use = "a connection does nothing until it is polled"]
pub struct Running {
    connection: Arc<Connection>,
    /// Given up when the connection is lost.
    protocol: Option<Arc<dyn Protocol>>,
    is_made: bool,
    source: Option<Box<dyn Source + Send>>,
    driver: SinkDriver<Box<dyn Sink + Send>>,
    buffers: Buffers,
    settings: Settings,
    is_read: bool,
    is_written: bool,
    linger: Option<Pin<Box<Sleep>>>,
    panic: Option<Box<dyn Any + Send>>,
    #[cfg(feature = "tls")]
    upgrade: Option<upgrade::Upgrade>,
}

impl Future for Running {
    type Output = Loss;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Loss> {
        let this = &mut *self;
        if !std::mem::replace(&mut this.is_made, true) {
            let transport = Arc::new(Link(Arc::clone(&this.connection)));
            this.call(|protocol| protocol.connection_made(transport));
        }
        for _ in 0..TURN_STEPS {
            this.connection.listen(cx.waker());
            // Once more after the write, which may have brought out the last that goes before an upgrade.
            let mut moved = this.upgrade_is_on(cx) | this.write(cx);
            moved |= this.upgrade_is_on(cx) | this.read(cx);
            if let Some(loss) = this.loss(cx) {
                this.lose(loss.clone());
                if let Some(panic) = this.panic.take() {
                    resume_unwind(panic);
                }
                return Poll::Ready(loss);
            }
            if !moved {
                return Poll::Pending;
            }
        }
        cx.waker().wake_by_ref();
        Poll::Pending
    }
}

impl Running {
    /// Calls the protocol. A panic cuts the connection.
    fn call<T>(&mut self, call: impl FnOnce(&dyn Protocol) -> T) -> Option<T> {
        let protocol = self.protocol.clone()?;
        match catch_unwind(AssertUnwindSafe(|| call(&*protocol))) {
            Ok(result) => Some(result),
            Err(panic) => {
                let text = panic
                    .downcast_ref::<&str>()
                    .map(|text| (*text).to_owned())
                    .or_else(|| panic.downcast_ref::<String>().cloned());
                let text = text.unwrap_or_else(|| "a protocol panicked".into());
                self.connection.abort(AbortReason::Panicked(text.into()));
                self.panic.get_or_insert(panic);
                None
            }
        }
    }

    /// Says whether anything happened. (So do the next two.)
    #[cfg(feature = "tls")]
    fn upgrade_is_on(&mut self, cx: &mut Context<'_>) -> bool {
        self.poll_upgrade(cx)
    }

    #[cfg(not(feature = "tls"))]
    fn upgrade_is_on(&mut self, _cx: &mut Context<'_>) -> bool {
        false
    }

    #[cfg(feature = "tls")]
    fn is_upgrading(&self) -> bool {
        self.upgrade.is_some()
    }

    #[cfg(not(feature = "tls"))]
    fn is_upgrading(&self) -> bool {
        false
    }

    fn write(&mut self, cx: &mut Context<'_>) -> bool {
        if self.is_written || self.is_shaking_hands() {
            return false;
        }
        let Poll::Ready(driven) = Pin::new(&mut self.driver).poll(cx) else {
            return false;
        };
        self.is_written = true;
        match driven {
            Ok(_) => {}
            Err(DriveError::Aborted(reason)) => self.cut(reason),
            Err(DriveError::Failed(error)) => self.fail(error),
        }
        true
    }

    #[cfg(feature = "tls")]
    fn is_shaking_hands(&self) -> bool {
        matches!(self.upgrade, Some(upgrade::Upgrade::Shaking { .. }))
    }

    #[cfg(not(feature = "tls"))]
    fn is_shaking_hands(&self) -> bool {
        false
    }

    fn read(&mut self, cx: &mut Context<'_>) -> bool {
        if self.is_read || self.is_upgrading() {
            return false;
        }
        let (held, discards) = {
            let shared = self.connection.lock();
            (shared.read_holds > 0 && !shared.discards, shared.discards)
        };
        let Some(source) = &mut self.source else {
            return false;
        };
        if held {
            // A pause is not blind.
            let Poll::Ready(error) = source.poll_hangup(cx) else {
                return false;
            };
            self.fail(error);
            return true;
        }
        let Poll::Ready(read) = source.poll_read(cx, &mut self.buffers, self.settings.chunk) else {
            return false;
        };
        match read {
            Ok(Some(_)) if discards => {}
            Ok(Some(data)) => {
                self.call(|protocol| protocol.data_received(data));
            }
            Ok(None) => {
                self.is_read = true;
                if !discards && self.call(|protocol| protocol.end_received()) == Some(HalfClose::Close) {
                    self.connection.finish();
                }
            }
            Err(error) => self.fail(error),
        }
        true
    }

    fn fail(&mut self, error: EndpointError) {
        let truncated = error.kind == ErrorKind::Truncated;
        let cause: Cause = Arc::new(error);
        self.cut(match truncated {
            true => AbortReason::Truncated(cause),
            false => AbortReason::Failed(cause),
        });
    }

    fn cut(&mut self, reason: AbortReason) {
        self.is_read = true;
        self.connection.abort(reason);
    }

    /// How the connection was lost, once it is.
    fn loss(&mut self, cx: &mut Context<'_>) -> Option<Loss> {
        let (cut, discards) = {
            let shared = self.connection.lock();
            (shared.cut.clone(), shared.discards)
        };
        if let Some(reason) = cut {
            // The sink is told first, and has its time to take the stream back.
            if !self.is_written && !self.is_shaking_hands() {
                self.write(cx);
            }
            let is_stopped = match &mut self.source {
                Some(source) => source.poll_stop(cx).is_ready(),
                None => true,
            };
            let is_over = is_stopped && (self.is_written || self.is_shaking_hands());
            return is_over.then_some(Loss::Cut(reason));
        }
        if self.is_written && !self.is_read && discards {
            let linger = self.settings.linger;
            let timer = self
                .linger
                .get_or_insert_with(|| Box::pin(tokio::time::sleep(linger)));
            // Both sides have had all they wanted, and the peer was given its time.
            self.is_read = timer.as_mut().poll(cx).is_ready();
        }
        (self.is_written && self.is_read).then_some(Loss::Clean)
    }

    fn lose(&mut self, loss: Loss) {
        #[cfg(feature = "tls")]
        drop(self.upgrade.take());
        self.call(|protocol| protocol.connection_lost(loss));
        let (protocol, source) = (self.protocol.take(), self.source.take());
        if let Err(panic) = catch_unwind(AssertUnwindSafe(|| drop((protocol, source)))) {
            self.panic.get_or_insert(panic);
        }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        if self.is_made && self.protocol.is_some() {
            self.connection.abort(AbortReason::Dropped);
            self.lose(Loss::Cut(AbortReason::Dropped));
        }
    }
}
