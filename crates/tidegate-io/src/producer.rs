//! Any source as a producer: push (goes on until paused) or pull (one chunk a resume).
//!
//! Knows no kind of source. The consumer gets a small handle that owns nothing; a future reads the source and writes.

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, Waker, ready};

use tidegate::{
    AbortReason, AlreadyRegistered, Cause, FinishableConsumer, Producer, PullProducer, PushProducer, Refusal,
    StopReason,
};

use crate::{Buffers, EndpointError, ErrorKind, Source};

/// The largest single write of a producer unless told otherwise.
pub const CHUNK_DEFAULT: usize = 64 * 1024;

/// Work done in one turn before other tasks get theirs.
const TURN_STEPS: usize = 32;

/// Why a source was not brought to its end.
#[derive(Clone, Debug)]
pub enum ProduceError {
    /// The source failed or was cut short; the consumer was told with an abort.
    Source(EndpointError),
    /// The consumer is done with it.
    Stopped(StopReason),
    /// The consumer refused a write although it had not asked for a pause.
    Refused(Refusal),
}

impl fmt::Display for ProduceError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Source(error) => error.fmt(f),
            Self::Stopped(reason) => reason.fmt(f),
            Self::Refused(refusal) => write!(f, "write refused: {refusal}"),
        }
    }
}

impl std::error::Error for ProduceError {}

/// A source at work as a producer. Run it (as a task, or beside other things); it ends with the number of bytes
/// written, after unregistering and finishing the consumer. A source that fails aborts the consumer instead.
///
/// Dropping it before its end aborts the consumer.
#[must_use = "a producer produces nothing unless it is polled"]
pub struct SourceProducer<S> {
    source: S,
    to: Arc<dyn FinishableConsumer>,
    handle: Arc<Handle>,
    buffers: Buffers,
    chunk: usize,
    written: u64,
    stopping: Option<StopReason>,
    is_over: bool,
}

impl<S: Source> SourceProducer<S> {
    /// Registers `source` as a push producer.
    ///
    /// # Errors
    /// Another producer is registered.
    pub fn push(source: S, to: Arc<dyn FinishableConsumer>) -> Result<Self, AlreadyRegistered> {
        Self::register(source, to, Handle::new(true), |handle| Producer::Push(handle))
    }

    /// Registers `source` as a pull producer.
    ///
    /// # Errors
    /// Another producer is registered.
    pub fn pull(source: S, to: Arc<dyn FinishableConsumer>) -> Result<Self, AlreadyRegistered> {
        Self::register(source, to, Handle::new(false), |handle| Producer::Pull(handle))
    }

    fn register(
        source: S,
        to: Arc<dyn FinishableConsumer>,
        handle: Arc<Handle>,
        producer: impl FnOnce(Arc<Handle>) -> Producer,
    ) -> Result<Self, AlreadyRegistered> {
        to.register_producer(producer(Arc::clone(&handle)))?;
        Ok(Self {
            source,
            to,
            handle,
            buffers: Buffers::default(),
            chunk: CHUNK_DEFAULT,
            written: 0,
            stopping: None,
            is_over: false,
        })
    }

    /// The largest single write.
    pub fn chunk(mut self, bytes: usize) -> Self {
        self.chunk = bytes.max(1);
        self
    }
}

// Sources are never pinned: they are used through `&mut`.
impl<S> Unpin for SourceProducer<S> {}

impl<S: Source> Future for SourceProducer<S> {
    type Output = Result<u64, ProduceError>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        for _ in 0..TURN_STEPS {
            if let Some(result) = ready!(self.poll_step(cx)) {
                self.is_over = true;
                return Poll::Ready(result);
            }
        }
        cx.waker().wake_by_ref();
        Poll::Pending
    }
}

impl<S: Source> SourceProducer<S> {
    fn poll_step(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<u64, ProduceError>>> {
        if let Some(reason) = &self.stopping {
            ready!(self.source.poll_stop(cx));
            return Poll::Ready(Some(Err(ProduceError::Stopped(reason.clone()))));
        }
        match self.handle.look(cx.waker()) {
            Wish::Stop(reason) => {
                self.stopping = Some(reason);
                Poll::Ready(None)
            }
            Wish::Wait => {
                // A pause is not blind.
                let error = ready!(self.source.poll_hangup(cx));
                Poll::Ready(Some(Err(self.failed(error))))
            }
            Wish::Produce => self.poll_produce(cx),
        }
    }

    fn poll_produce(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<u64, ProduceError>>> {
        match ready!(self.source.poll_read(cx, &mut self.buffers, self.chunk)) {
            Ok(Some(bytes)) => {
                let length = bytes.len() as u64;
                // Before the write: the next pull may come from inside it.
                self.handle.answered();
                match self.to.write(bytes) {
                    Ok(_) => {
                        self.written += length;
                        Poll::Ready(None)
                    }
                    Err(error) => match error.refusal {
                        Refusal::Dead(reason) => {
                            self.stopping = Some(reason);
                            Poll::Ready(None)
                        }
                        refusal => {
                            self.to
                                .abort(AbortReason::Stopped(Arc::new(StopReason::Finished)));
                            Poll::Ready(Some(Err(ProduceError::Refused(refusal))))
                        }
                    },
                }
            }
            Ok(None) => {
                // Finished before it is unregistered, so that nobody comes in between.
                self.to.finish();
                self.to.unregister_producer();
                Poll::Ready(Some(Ok(self.written)))
            }
            Err(error) => Poll::Ready(Some(Err(self.failed(error)))),
        }
    }

    fn failed(&self, error: EndpointError) -> ProduceError {
        let cause: Cause = Arc::new(error.clone());
        self.to.abort(match error.kind {
            ErrorKind::Truncated => AbortReason::Truncated(cause),
            _ => AbortReason::Failed(cause),
        });
        ProduceError::Source(error)
    }
}

impl<S> Drop for SourceProducer<S> {
    fn drop(&mut self) {
        if !self.is_over {
            self.to.abort(AbortReason::Dropped);
        }
    }
}

/// What the consumer holds: flags and a waker.
struct Handle {
    state: Mutex<State>,
    pushes: bool,
}

#[derive(Default)]
struct State {
    may_produce: bool,
    stopped: Option<StopReason>,
    waker: Option<Waker>,
}

enum Wish {
    Produce,
    Wait,
    Stop(StopReason),
}

impl Handle {
    fn new(pushes: bool) -> Arc<Self> {
        let state = State {
            may_produce: pushes,
            ..State::default()
        };
        Arc::new(Self {
            state: Mutex::new(state),
            pushes,
        })
    }

    fn change(&self, change: impl FnOnce(&mut State)) {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        change(&mut state);
        let waker = state.waker.take();
        drop(state);
        if let Some(waker) = waker {
            waker.wake();
        }
    }

    fn look(&self, waker: &Waker) -> Wish {
        let fresh = waker.clone();
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let stale = state.waker.replace(fresh);
        let wish = match &state.stopped {
            Some(reason) => Wish::Stop(reason.clone()),
            None if state.may_produce => Wish::Produce,
            None => Wish::Wait,
        };
        drop(state);
        drop(stale);
        wish
    }

    /// A chunk is on its way: a pull producer waits for the next pull.
    fn answered(&self) {
        if !self.pushes {
            self.state
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
                .may_produce = false;
        }
    }
}

impl PushProducer for Handle {
    fn pause_producing(&self) {
        self.change(|state| state.may_produce = false);
    }
    fn resume_producing(&self) {
        self.change(|state| state.may_produce = true);
    }
    fn stop_producing(&self, reason: StopReason) {
        self.change(|state| state.stopped = Some(reason));
    }
}

impl PullProducer for Handle {
    fn resume_producing(&self) {
        self.change(|state| state.may_produce = true);
    }
    fn stop_producing(&self, reason: StopReason) {
        self.change(|state| state.stopped = Some(reason));
    }
}
