//! Any sink as a consumer: a channel with its gate, and a driver that hands what waits in it to the sink.
//!
//! Knows no kind of sink. Bytes are held until the device has accepted them; a device that dies while nothing is
//! written to it stops the producer all the same.

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use tidegate::{
    AbortReason, AlreadyRegistered, Consumer, FinishableConsumer, Hold, HoldReason, Marks, Outcome, Pressure,
    Producer, Ready, Receiver, Sender, WriteError, channel,
};
use tokio::sync::Notify;
use tokio::time::{Instant, Sleep};

use crate::{Blame, Confirmation, DRAIN_DEFAULT, EndpointError, ErrorKind, Held, Sink};

/// Work done in one turn before other tasks get theirs.
const TURN_STEPS: usize = 64;

/// A consumer whose device is a sink. Dropping it unfinished is an abort.
///
/// ```no_run
/// # async fn example() -> Result<(), Box<dyn std::error::Error>> {
/// use tidegate::{Consumer as _, FinishableConsumer as _, Marks};
/// use tidegate_io::{SinkConsumer, endpoint::tcp};
/// let plain = tcp::connect("localhost:9000", tcp::CONNECT_TIMEOUT_DEFAULT).await?;
/// let consumer = SinkConsumer::spawn(tcp::sink(plain), Marks::default());
/// let _ = consumer.write("hello".into())?;
/// consumer.finish();
/// assert_eq!(consumer.outcome().await?.bytes, 5);
/// # Ok(()) }
/// ```
pub struct SinkConsumer {
    sender: Sender,
    closing: Arc<Notify>,
}

/// What became of the sink.
pub type Driven = Result<Confirmation, DriveError>;

/// Why a sink was not brought to its end.
#[derive(Clone, Debug)]
pub enum DriveError {
    /// The writer cut the stream short.
    Aborted(AbortReason),
    /// The sink failed, or made no progress for too long.
    Failed(EndpointError),
}

impl fmt::Display for DriveError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Aborted(reason) => reason.fmt(f),
            Self::Failed(error) => error.fmt(f),
        }
    }
}

impl std::error::Error for DriveError {}

impl SinkConsumer {
    /// A consumer over `sink` whose driver is a task of the running tokio runtime.
    pub fn spawn(sink: impl Sink + Send + 'static, marks: Marks) -> Self {
        let (consumer, driver) = Self::with_driver(sink, marks);
        tokio::spawn(driver);
        consumer
    }

    /// A consumer over `sink`, and the driver for the caller to run. Dropping the driver is a death.
    pub fn with_driver<K: Sink>(sink: K, marks: Marks) -> (Self, SinkDriver<K>) {
        let (sender, receiver) = channel(marks);
        let closing = Arc::new(Notify::new());
        let driver = SinkDriver {
            closing: Box::pin(Arc::clone(&closing).notified_owned()),
            aborted: sender.outcome(),
            sink,
            receiver: Some(receiver),
            held: Held::default(),
            accepted: 0,
            barrier: Arc::new(AtomicU64::new(u64::MAX)),
            is_dirty: false,
            phase: Phase::Moving,
            drain: DRAIN_DEFAULT,
            deadline: None,
            unsent: None,
        };
        (Self { sender, closing }, driver)
    }

    /// A handle to write and register through that does not own the write end.
    pub fn consumer(&self) -> Arc<dyn Consumer> {
        self.sender.consumer()
    }

    /// How the stream ends: `Ok` once the sink's finish was acknowledged.
    pub fn outcome(&self) -> Outcome {
        self.sender.outcome()
    }

    /// One more reason for the producer not to run, until the guard is dropped.
    pub fn hold(&self, reason: HoldReason) -> Hold {
        self.sender.hold(reason)
    }

    /// Bytes accepted and not yet taken by the device.
    pub fn held(&self) -> usize {
        self.sender.held()
    }
}

impl Consumer for SinkConsumer {
    fn register_producer(&self, producer: Producer) -> Result<(), AlreadyRegistered> {
        self.sender.register_producer(producer)
    }
    fn unregister_producer(&self) {
        self.sender.unregister_producer();
    }
    fn write(&self, data: Bytes) -> Result<Pressure, WriteError> {
        self.sender.write(data)
    }
    fn write_list(&self, data: Vec<Bytes>) -> Result<Pressure, WriteError<Vec<Bytes>>> {
        self.sender.write_list(data)
    }
}

impl FinishableConsumer for SinkConsumer {
    fn finish(&self) {
        self.sender.finish();
        // The driver's deadline runs from now on.
        self.closing.notify_one();
    }
    fn abort(&self, reason: AbortReason) {
        self.sender.abort(reason);
    }
}

impl fmt::Debug for SinkConsumer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SinkConsumer")
            .field("held", &self.held())
            .finish_non_exhaustive()
    }
}

/// Hands what the consumer was given to the sink. Ends once, with what became of it.
#[must_use = "a consumer without its driver takes bytes and brings them nowhere"]
pub struct SinkDriver<K> {
    sink: K,
    receiver: Option<Receiver>,
    /// Ready when the stream died: the receiver itself is not asked while a write is blocked.
    aborted: Outcome,
    /// What the receiver shows, as the sink wants to see it.
    held: Held,
    accepted: u64,
    /// Nothing beyond this many bytes goes to the sink. Looked at after the queue is, so that what was written after it
    /// was set never slips through.
    barrier: Arc<AtomicU64>,
    is_dirty: bool,
    phase: Phase,
    closing: Pin<Box<dyn Future<Output = ()> + Send>>,
    drain: Duration,
    deadline: Option<Pin<Box<Sleep>>>,
    unsent: Option<u64>,
}

#[derive(Debug)]
enum Phase {
    Moving,
    /// Finished by the writer; what is held, and a producer still registered, go first.
    Closing,
    /// The sink makes the stream complete.
    Finishing,
    /// The sink takes back what it can.
    Aborting(DriveError),
    /// The result was handed out.
    Over,
}

// Sinks are never pinned: they are used through `&mut`.
impl<K> Unpin for SinkDriver<K> {}

impl<K> SinkDriver<K> {
    /// How long a finished stream may go without progress before it is aborted: also when a producer is still
    /// registered and says nothing. 30 s unless set.
    pub fn drain(mut self, limit: Duration) -> Self {
        self.drain = limit;
        self
    }

    /// The sink, for a change of what is below it.
    #[cfg(feature = "tls")]
    pub(crate) fn sink_mut(&mut self) -> &mut K {
        &mut self.sink
    }

    /// How many bytes of the stream may go to the sink; `u64::MAX` for all.
    #[cfg(feature = "tls")]
    pub(crate) fn barrier(&self) -> &Arc<AtomicU64> {
        &self.barrier
    }
}

impl<K: Sink> Future for SinkDriver<K> {
    type Output = Driven;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Driven> {
        for _ in 0..TURN_STEPS {
            match self.poll_step(cx) {
                Poll::Ready(None) => {}
                Poll::Ready(Some(driven)) => return Poll::Ready(driven),
                Poll::Pending => return self.poll_deadline(cx),
            }
        }
        cx.waker().wake_by_ref();
        Poll::Pending
    }
}

impl<K: Sink> SinkDriver<K> {
    /// Everything before the barrier was accepted and pushed out.
    #[cfg(feature = "tls")]
    pub(crate) fn poll_barrier(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), EndpointError>> {
        if self.accepted >= self.barrier.load(Ordering::Acquire) {
            return self.sink.poll_flush(cx);
        }
        Poll::Pending
    }

    fn poll_step(&mut self, cx: &mut Context<'_>) -> Poll<Option<Driven>> {
        match &self.phase {
            Phase::Moving | Phase::Closing => self.poll_moving(cx),
            Phase::Finishing => match ready!(self.sink.poll_finish(cx)) {
                Ok(confirmation) => self.complete(confirmation),
                Err(error) => self.fail(error),
            },
            Phase::Aborting(_) => {
                ready!(self.sink.poll_aborted(cx));
                let aborting = std::mem::replace(&mut self.phase, Phase::Over);
                let Phase::Aborting(error) = aborting else {
                    return Poll::Pending;
                };
                Poll::Ready(Some(Err(error)))
            }
            Phase::Over => Poll::Pending,
        }
    }

    fn poll_moving(&mut self, cx: &mut Context<'_>) -> Poll<Option<Driven>> {
        if matches!(self.phase, Phase::Moving) && self.closing.as_mut().poll(cx).is_ready() {
            self.phase = Phase::Closing;
            self.progress();
        }
        let Some(receiver) = &mut self.receiver else {
            return Poll::Pending;
        };
        match receiver.poll_ready(cx) {
            Poll::Ready(Ok(Ready::Bytes)) => self.poll_bytes(cx),
            Poll::Ready(Ok(Ready::End)) if self.barrier.load(Ordering::Acquire) != u64::MAX => Poll::Pending,
            Poll::Ready(Ok(Ready::End)) => {
                self.phase = Phase::Finishing;
                self.progress();
                Poll::Ready(None)
            }
            Poll::Ready(Err(aborted)) => self.cut(DriveError::Aborted(aborted.0)),
            Poll::Pending => self.poll_idle(cx),
        }
    }

    fn poll_bytes(&mut self, cx: &mut Context<'_>) -> Poll<Option<Driven>> {
        self.show();
        let written = if self.held.is_empty() {
            Poll::Pending
        } else {
            self.sink.poll_write(cx, &self.held)
        };
        match written {
            Poll::Ready(Ok(bytes)) => {
                self.held.advance(bytes);
                self.accepted += bytes as u64;
                self.is_dirty = true;
                self.progress();
                if let Some(receiver) = &mut self.receiver {
                    // Credit returns, and the producer may be resumed, right here.
                    receiver.advance(bytes);
                }
                Poll::Ready(None)
            }
            Poll::Ready(Err(error)) => self.fail(error),
            Poll::Pending => {
                // An abort does not wait for the device: the next look at the receiver tells the reason.
                ready!(Pin::new(&mut self.aborted).poll(cx)).err();
                Poll::Ready(None)
            }
        }
    }

    /// Fills `held` from what the receiver shows, up to the barrier.
    fn show(&mut self) {
        let Some(receiver) = self.receiver.as_ref().filter(|_| self.held.is_empty()) else {
            return;
        };
        let room = self.barrier.load(Ordering::Acquire).saturating_sub(self.accepted);
        let mut room = usize::try_from(room).unwrap_or(usize::MAX);
        for piece in receiver.pieces() {
            let taken = piece.len().min(room);
            self.held.push(piece.slice(..taken));
            room -= taken;
        }
    }

    fn poll_idle(&mut self, cx: &mut Context<'_>) -> Poll<Option<Driven>> {
        if self.is_dirty {
            match ready!(self.sink.poll_flush(cx)) {
                Ok(()) => self.is_dirty = false,
                Err(error) => return self.fail(error),
            }
        }
        let error = ready!(self.sink.poll_hangup(cx));
        self.fail(error)
    }

    fn complete(&mut self, confirmation: Confirmation) -> Poll<Option<Driven>> {
        self.phase = Phase::Over;
        if let Some(receiver) = self.receiver.take() {
            receiver.complete();
        }
        Poll::Ready(Some(Ok(confirmation)))
    }

    fn fail(&mut self, error: EndpointError) -> Poll<Option<Driven>> {
        let cause = Arc::new(error.clone());
        self.sink.abort(&AbortReason::Failed(cause.clone()));
        if let Some(receiver) = self.receiver.take() {
            receiver.fail(cause);
        }
        self.phase = Phase::Aborting(DriveError::Failed(error));
        Poll::Ready(None)
    }

    fn cut(&mut self, error: DriveError) -> Poll<Option<Driven>> {
        if let DriveError::Aborted(reason) = &error {
            self.sink.abort(reason);
        }
        self.receiver = None;
        self.held = Held::default();
        self.phase = Phase::Aborting(error);
        Poll::Ready(None)
    }

    fn progress(&mut self) {
        if let Some(deadline) = &mut self.deadline {
            deadline.as_mut().reset(Instant::now() + self.drain);
        }
    }

    /// A stream that is to end may not wait for ever.
    fn poll_deadline(&mut self, cx: &mut Context<'_>) -> Poll<Driven> {
        if !matches!(self.phase, Phase::Closing | Phase::Finishing) {
            return Poll::Pending;
        }
        let unsent = self.sink.unsent_bytes();
        if self.sink.is_heard_out() || self.sink.is_busy() || unsent < self.unsent {
            self.progress();
        }
        self.unsent = unsent;
        let drain = self.drain;
        let deadline = self
            .deadline
            .get_or_insert_with(|| Box::pin(tokio::time::sleep(drain)));
        ready!(deadline.as_mut().poll(cx));
        let was_sent = match self.phase {
            Phase::Finishing => self.sink.finish_unconfirmed(),
            _ => None,
        };
        let next = match was_sent {
            Some(confirmation) => self.complete(confirmation),
            None => {
                let what = format!(
                    "{} made no progress for {} ms",
                    self.sink.name(),
                    drain.as_millis()
                );
                self.fail(EndpointError::new(ErrorKind::TimedOut, Blame::Peer, what))
            }
        };
        match next {
            Poll::Ready(Some(driven)) => Poll::Ready(driven),
            _ => {
                cx.waker().wake_by_ref();
                Poll::Pending
            }
        }
    }
}
