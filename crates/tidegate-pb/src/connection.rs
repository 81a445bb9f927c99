//! One connection: the handshake, and the task that reads, dispatches and writes.
//!
//! Knows the socket and the order of things; knows nothing of calls or pages.

use std::future::{Future, poll_fn};
use std::io::{self, IoSlice};
use std::net::Shutdown;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use socket2::SockRef;
use tidegate::{Marks, Outcome, Ready, Receiver, StopReason, channel};
use tokio::net::TcpStream;
use tokio::time::{Sleep, sleep, timeout};

use crate::PbError;
use crate::banana::{Decoder, Dialect, Expr, Limits};
use crate::broker::{Broker, Referenceable, Shared};
use crate::kept::Kept;
use crate::message;
use crate::reads::Allowed;
use crate::watch::Watch;

/// How long the peer may take to end its side once we ended ours.
pub const CLOSE_DEADLINE: Duration = Duration::from_secs(10);

/// How long nothing may move once a peer that takes no answers is not read any more.
pub const STALL_LIMIT: Duration = Duration::from_secs(60);

const READ_BYTES: usize = 64 * 1024;
const SLICES: usize = 16;
/// Reads and writes in one turn before other tasks get theirs.
const TURN_STEPS: usize = 32;

/// What may be chosen about a connection.
pub struct Options {
    /// The object the peer gets for `root`.
    pub root: Option<Arc<dyn Referenceable>>,
    /// The marks of the gate in front of the socket.
    pub marks: Marks,
    /// Bounds on what is decoded and encoded.
    pub limits: Limits,
    /// How many objects may be lent to the peer at once: Twisted's 1,024.
    pub objects_max: usize,
    /// How long a peer that asks and takes no answers is borne once reading has stopped because of it and nothing moves:
    /// [`STALL_LIMIT`]. Then the connection is cut, with [`PbError::Stalled`]. `None` waits for ever. A peer that merely
    /// does not read is borne for ever in any case.
    pub stall_limit: Option<Duration>,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            root: None,
            marks: Marks::default(),
            limits: Limits::default(),
            objects_max: 1024,
            stall_limit: Some(STALL_LIMIT),
        }
    }
}

/// Which side of the handshake.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Role {
    Client,
    Server,
}

/// What of the handshake is still to come from the peer.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Expecting {
    Dialects,
    Choice,
    Messages,
}

/// Speaks Perspective Broker as the side that connected. The future drives the connection: spawn it. Calls made before
/// the handshake is done wait for it.
///
/// # Cancel safety
/// Dropping the future cuts the connection.
pub fn client(stream: TcpStream, options: Options) -> (Broker, impl Future<Output = PbError> + Send) {
    connection(stream, options, Role::Client)
}

/// Speaks Perspective Broker as the side that accepted. As [`client`] otherwise.
pub fn server(stream: TcpStream, options: Options) -> (Broker, impl Future<Output = PbError> + Send) {
    connection(stream, options, Role::Server)
}

fn connection(
    stream: TcpStream,
    options: Options,
    role: Role,
) -> (Broker, impl Future<Output = PbError> + Send) {
    let (out, receiver) = channel(options.marks);
    let shared = Shared::new(
        out,
        options.marks,
        options.limits,
        options.objects_max,
        options.root,
    );
    let broker = Broker {
        shared: Arc::clone(&shared),
    };
    let aborted = broker.shared.outcome();
    let driver = Driver {
        stream: Arc::new(stream),
        watch: Watch::default(),
        kept: Kept::default(),
        peer_ended: false,
        stall_limit: options.stall_limit,
        stall: None,
        receiver: Some(receiver),
        aborted,
        decoder: Decoder::with_limits(options.limits),
        expecting: if role == Role::Client {
            Expecting::Dialects
        } else {
            Expecting::Choice
        },
        shared,
    };
    let drive = async move {
        if role == Role::Server {
            let offer = [Dialect::Pb, Dialect::None].map(|dialect| Expr::word(dialect.name()));
            if let Err(error) = driver.shared.send_first(&Expr::List(offer.into())) {
                return error;
            }
        }
        driver.run().await
    };
    (broker, drive)
}

struct Driver {
    stream: Arc<TcpStream>,
    /// Looks at the stream while nobody reads from it.
    watch: Watch,
    /// Calls that are not made before the peer has taken answers.
    kept: Kept,
    /// The peer ended its side while calls were kept: they are still made.
    peer_ended: bool,
    stall_limit: Option<Duration>,
    /// Runs while reading stands still because of answers the peer does not take.
    stall: Option<Pin<Box<Sleep>>>,
    receiver: Option<Receiver>,
    /// Ready when the connection was aborted: the receiver itself is not asked while a write is blocked.
    aborted: Outcome,
    decoder: Decoder,
    expecting: Expecting,
    shared: Arc<Shared>,
}

/// Why the loop was left.
enum Left {
    /// All was sent and this end wants no more.
    Finished,
    /// The peer ended its side.
    PeerClosed,
    Failed(PbError),
}

impl Driver {
    async fn run(mut self) -> PbError {
        let _ = self.stream.set_nodelay(true);
        let left = poll_fn(|cx| self.poll(cx)).await;
        let error = match left {
            Left::Finished => self.close().await,
            Left::PeerClosed => self.peer_closed(),
            Left::Failed(error) => {
                self.reset();
                error
            }
        };
        self.end(&error);
        error
    }

    /// Sends the end and waits for the peer's.
    async fn close(&mut self) -> PbError {
        let _ = SockRef::from(&self.stream).shutdown(Shutdown::Write);
        if let Some(receiver) = self.receiver.take() {
            receiver.complete();
        }
        let peer_end = timeout(CLOSE_DEADLINE, poll_fn(|cx| self.poll_read(cx))).await;
        match peer_end {
            Ok(Left::Failed(error)) => error,
            Ok(Left::Finished | Left::PeerClosed) | Err(_) => PbError::Closed,
        }
    }

    /// A clean end of the peer is none when it left unread what we still had for it.
    fn peer_closed(&mut self) -> PbError {
        let held = self.receiver.as_ref().map_or(0, Receiver::held);
        if held > 0 {
            return io::Error::new(
                io::ErrorKind::BrokenPipe,
                "the peer closed before it read everything",
            )
            .into();
        }
        PbError::Closed
    }

    /// Makes sure that the peer sees no orderly end.
    fn reset(&self) {
        let _ = SockRef::from(&self.stream).set_linger(Some(Duration::ZERO));
    }

    fn end(&mut self, error: &PbError) {
        self.shared.lose(error);
        if let Some(receiver) = self.receiver.take() {
            receiver.close(StopReason::Failed(error.clone().into_cause()));
        }
    }

    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Left> {
        for _ in 0..TURN_STEPS {
            let mut idle = true;
            match self.poll_read_once(cx) {
                Poll::Ready(Ok(())) => idle = false,
                Poll::Ready(Err(left)) => return Poll::Ready(left),
                Poll::Pending => {}
            }
            match self.poll_write_once(cx) {
                Poll::Ready(Ok(())) => idle = false,
                Poll::Ready(Err(left)) => return Poll::Ready(left),
                Poll::Pending => {}
            }
            if idle {
                return Poll::Pending;
            }
        }
        cx.waker().wake_by_ref();
        Poll::Pending
    }

    fn poll_read(&mut self, cx: &mut Context<'_>) -> Poll<Left> {
        loop {
            if let Err(left) = std::task::ready!(self.poll_read_once(cx)) {
                return Poll::Ready(left);
            }
        }
    }

    /// Takes one message, or reads once when none is whole.
    fn poll_read_once(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Left>> {
        let allowed = self.shared.reads.allowed(cx.waker());
        match allowed {
            Allowed::Nothing => return self.poll_broken(cx),
            Allowed::Answers if self.kept.is_full() || self.peer_ended => {
                self.poll_stalled(cx)?;
                return self.poll_broken(cx);
            }
            Allowed::Answers => {}
            Allowed::All => {
                if let Some(expr) = self.kept.pop() {
                    return Poll::Ready(self.dispatch(expr).map_err(Left::Failed));
                }
            }
        }
        if self.peer_ended {
            return Poll::Ready(Err(Left::PeerClosed));
        }
        self.watch.forget();
        self.stall = None;
        match self.decoder.next_expr() {
            Ok(Some(expr)) => return Poll::Ready(self.take(expr, allowed).map_err(Left::Failed)),
            Ok(None) => {}
            Err(error) => return Poll::Ready(Err(Left::Failed(error.into()))),
        }
        std::task::ready!(self.stream.poll_read_ready(cx)).map_err(failed)?;
        let space = self.decoder.space();
        space.reserve(READ_BYTES);
        match self.stream.try_read_buf(space) {
            Ok(0) if self.kept.is_empty() => Poll::Ready(Err(Left::PeerClosed)),
            Ok(0) => {
                self.peer_ended = true;
                Poll::Ready(Ok(()))
            }
            Ok(_) => Poll::Ready(Ok(())),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                // The readiness was stale and is cleared now: this registers the waker, or finds it ready again.
                std::task::ready!(self.stream.poll_read_ready(cx)).map_err(failed)?;
                Poll::Ready(Ok(()))
            }
            Err(error) => Poll::Ready(Err(failed(error))),
        }
    }

    /// A pause is not blind: the connection may break meanwhile.
    fn poll_broken(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Left>> {
        self.watch.poll(&self.stream, cx).map(|error| Err(failed(error)))
    }

    /// Reading stands still because of answers that are not taken; so may the peer. Somebody has to end it.
    fn poll_stalled(&mut self, cx: &mut Context<'_>) -> Result<(), Left> {
        let Some(limit) = self.stall_limit else {
            return Ok(());
        };
        let stall = self.stall.get_or_insert_with(|| Box::pin(sleep(limit)));
        match stall.as_mut().poll(cx) {
            Poll::Ready(()) => Err(Left::Failed(PbError::Stalled(limit))),
            Poll::Pending => Ok(()),
        }
    }

    fn poll_write_once(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Left>> {
        let Some(receiver) = &mut self.receiver else {
            return Poll::Pending;
        };
        match std::task::ready!(receiver.poll_ready(cx)) {
            Ok(Ready::Bytes) => {}
            Ok(Ready::End) => return Poll::Ready(Err(Left::Finished)),
            Err(aborted) => return Poll::Ready(Err(Left::Failed(PbError::Aborted(aborted.0)))),
        }
        match self.stream.poll_write_ready(cx) {
            Poll::Ready(ready) => ready.map_err(failed)?,
            // An abort does not wait for the peer: the next look at the receiver tells the reason.
            Poll::Pending => return Pin::new(&mut self.aborted).poll(cx).map(|_| Ok(())),
        }
        let mut slices = [IoSlice::new(&[]); SLICES];
        let filled = receiver.slices(&mut slices);
        let wrote = self.stream.try_write_vectored(&slices[..filled]);
        match wrote {
            Ok(bytes) => {
                self.stall = None;
                receiver.advance(bytes);
                Poll::Ready(Ok(()))
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                // The readiness was stale and is cleared now: asked again, it registers the waker.
                Poll::Ready(Ok(()))
            }
            Err(error) => Poll::Ready(Err(failed(error))),
        }
    }

    /// Calls wait, in their order, while the peer does not take the answers to others; answers to ours do not.
    fn take(&mut self, expr: Expr, allowed: Allowed) -> Result<(), PbError> {
        if allowed == Allowed::All || self.expecting != Expecting::Messages || message::ends_a_call(&expr) {
            return self.dispatch(expr);
        }
        self.kept.push(expr);
        Ok(())
    }

    fn dispatch(&mut self, expr: Expr) -> Result<(), PbError> {
        match (self.expecting, expr) {
            (Expecting::Messages, expr) => self.shared.handle(expr),
            (Expecting::Dialects, Expr::List(offer)) => {
                let known = offer.iter().find_map(|name| match name {
                    Expr::Bytes(name) => dialect(name),
                    _ => None,
                });
                let chosen = known.ok_or(PbError::NoDialect)?;
                self.shared.send_first(&Expr::word(chosen.name()))?;
                self.open(chosen)
            }
            (Expecting::Choice, Expr::Bytes(name)) => {
                let chosen = dialect(&name).ok_or(PbError::NoDialect)?;
                self.open(chosen)
            }
            _ => Err(PbError::Protocol("the handshake is out of order")),
        }
    }

    fn open(&mut self, dialect: Dialect) -> Result<(), PbError> {
        self.decoder.set_dialect(dialect);
        self.expecting = Expecting::Messages;
        self.shared.open(dialect)
    }
}

/// Dropped before its end: the connection is cut, and everybody learns it.
impl Drop for Driver {
    fn drop(&mut self) {
        if self.receiver.is_some() {
            self.reset();
            self.end(&PbError::Aborted(tidegate::AbortReason::Dropped));
        }
    }
}

fn dialect(name: &Bytes) -> Option<Dialect> {
    [Dialect::Pb, Dialect::None]
        .into_iter()
        .find(|dialect| dialect.name().as_bytes() == name)
}

fn failed(error: io::Error) -> Left {
    Left::Failed(error.into())
}
