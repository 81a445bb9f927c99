//! A source as a push producer: reads it, writes to a consumer, and obeys the consumer's signals.
//!
//! Knows nothing of files and sockets.

use std::future::poll_fn;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};

use bytes::Bytes;
use tidegate::{AbortReason, FinishableConsumer, Producer, PushProducer, StopReason};
use tidegate_io::{Buffers, EndpointError, ErrorKind, Source};

/// The largest single read.
const CHUNK_BYTES: usize = 64 * 1024;

/// Why a source was not delivered to its end.
#[derive(Clone, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum FeedError {
    /// The consumer has a producer already; it was not disturbed.
    #[error("the consumer has a producer already")]
    Taken,
    /// The source failed; the consumer was told and does not look finished.
    #[error("{0}")]
    Source(#[from] EndpointError),
    /// The consumer stopped us; the source was told.
    #[error("the consumer stopped: {0}")]
    Stopped(#[from] StopReason),
}

/// Reads `source` to its end into `consumer`, as its push producer, then finishes it. Gives the bytes written; what became
/// of them, the consumer's outcome tells.
///
/// While the consumer is full nothing is read, and a source that breaks meanwhile is noticed. What was there before the
/// consumer comes first, in order. (Twisted: `DTP.registerConsumer`.)
///
/// # Errors
/// [`FeedError`].
///
/// # Cancel safety
/// Dropping the future aborts the consumer.
pub async fn feed(mut source: impl Source, consumer: Arc<dyn FinishableConsumer>) -> Result<u64, FeedError> {
    let valve = Arc::new(Valve::default());
    let producer = Producer::Push(Arc::clone(&valve) as Arc<dyn PushProducer>);
    consumer
        .register_producer(producer)
        .map_err(|_| FeedError::Taken)?;
    let mut seat = Seat {
        consumer,
        leaving: Some(AbortReason::Dropped),
    };
    let mut buffers = Buffers::default();
    let mut written = 0;
    loop {
        match poll_fn(|cx| step(&valve, &mut source, &mut buffers, cx)).await {
            Next::Bytes(bytes) => {
                let count = bytes.len() as u64;
                // A refusal comes with its stop.
                if seat.consumer.write(bytes).is_ok() {
                    written += count;
                } else if !valve.is_stopped() {
                    valve.stop_producing(StopReason::Finished);
                }
            }
            Next::End => {
                seat.leaving = None;
                seat.consumer.unregister_producer();
                seat.consumer.finish();
                return Ok(written);
            }
            Next::Failed(error) => {
                seat.leaving = Some(abort_reason(&error));
                return Err(error.into());
            }
            Next::Stopped(reason) => {
                seat.leaving = None;
                poll_fn(|cx| source.poll_stop(cx)).await;
                return Err(reason.into());
            }
        }
    }
}

enum Next {
    Bytes(Bytes),
    End,
    Failed(EndpointError),
    Stopped(StopReason),
}

fn step(valve: &Valve, source: &mut impl Source, buffers: &mut Buffers, cx: &mut Context<'_>) -> Poll<Next> {
    match valve.look(cx) {
        Told::Stop(reason) => Poll::Ready(Next::Stopped(reason)),
        Told::Pause => source.poll_hangup(cx).map(Next::Failed),
        Told::Run => source.poll_read(cx, buffers, CHUNK_BYTES).map(|read| match read {
            Ok(Some(bytes)) => Next::Bytes(bytes),
            Ok(None) => Next::End,
            Err(error) => Next::Failed(error),
        }),
    }
}

fn abort_reason(error: &EndpointError) -> AbortReason {
    let cause = Arc::new(error.clone());
    match error.kind {
        ErrorKind::Truncated => AbortReason::Truncated(cause),
        ErrorKind::TimedOut => AbortReason::TimedOut,
        _ => AbortReason::Failed(cause),
    }
}

/// What the consumer holds of us: flags and a waker, and not the source.
#[derive(Default)]
struct Valve {
    state: Mutex<ValveState>,
}

#[derive(Default)]
struct ValveState {
    told: Told,
    waker: Option<Waker>,
}

#[derive(Clone, Debug, Default)]
enum Told {
    #[default]
    Run,
    Pause,
    Stop(StopReason),
}

impl Valve {
    fn state(&self) -> MutexGuard<'_, ValveState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What we were told last, and a wakeup when that changes.
    fn look(&self, cx: &mut Context<'_>) -> Told {
        let waker = cx.waker().clone();
        let mut state = self.state();
        let told = state.told.clone();
        let old = state.waker.replace(waker);
        drop(state);
        drop(old);
        told
    }

    fn is_stopped(&self) -> bool {
        matches!(self.state().told, Told::Stop(_))
    }

    /// Nothing foreign runs under the lock.
    fn tell(&self, told: Told) {
        let mut state = self.state();
        let old = match state.told {
            // Stop is last.
            Told::Stop(_) => told,
            _ => std::mem::replace(&mut state.told, told),
        };
        let waker = state.waker.take();
        drop(state);
        drop(old);
        if let Some(waker) = waker {
            waker.wake();
        }
    }
}

impl PushProducer for Valve {
    fn pause_producing(&self) {
        self.tell(Told::Pause);
    }

    fn resume_producing(&self) {
        self.tell(Told::Run);
    }

    fn stop_producing(&self, reason: StopReason) {
        self.tell(Told::Stop(reason));
    }
}

/// Our registration: left in good order, or with an abort.
struct Seat {
    consumer: Arc<dyn FinishableConsumer>,
    leaving: Option<AbortReason>,
}

impl Drop for Seat {
    fn drop(&mut self) {
        if let Some(reason) = self.leaving.take() {
            self.consumer.unregister_producer();
            self.consumer.abort(reason);
        }
    }
}
