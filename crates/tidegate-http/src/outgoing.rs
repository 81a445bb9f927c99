//! A body that is written by producers: the consumer at the near end of a message body.
//!
//! One type for responses and for uploads, with or without an announced length. Knows nothing of servers or clients:
//! what an abort does to the connection is the breaker's.

use std::fmt;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;
use http::HeaderMap;
use tidegate::{
    AbortReason, AlreadyRegistered, Consumer, FinishableConsumer, Hold, HoldReason, Marks, Outcome, Pressure,
    Producer, Refusal, Sender, StopReason, WriteError, channel,
};

use crate::body::{Body, Progress, StreamBody};
use crate::breaker::Breaker;

/// The consumer that writes a message body: a response, or what a client uploads. (Twisted: `web.http.Request`,
/// `_newclient.ChunkedEncoder` and `LengthEnforcingConsumer` in one.)
///
/// Without an announced length the message is chunked (HTTP/1.1) or ends with its stream (HTTP/2). With one, a write
/// past it is refused with [`Refusal::PastEnd`] and fails the message, and a finish before it fails the message too;
/// neither ever looks complete. Bytes count as held until hyper took their frame, 16 KiB at a time.
pub struct OutgoingBody {
    sender: Sender,
    outcome: Outcome,
    length: Option<u64>,
    written: AtomicU64,
    finished: AtomicBool,
    trailers: Arc<Mutex<Option<HeaderMap>>>,
    breaker: Breaker,
}

impl OutgoingBody {
    /// A consumer and the body it fills, for use with hyper without this crate's server and client. There, an abort
    /// reaches hyper only as an error of the body.
    pub fn pair(length: Option<u64>, marks: Marks) -> (Self, Body) {
        Self::new(length, marks, Breaker::Body, None)
    }

    /// A body and the end that hyper polls.
    pub(crate) fn new(
        length: Option<u64>,
        marks: Marks,
        breaker: Breaker,
        progress: Option<Arc<Progress>>,
    ) -> (Self, Body) {
        let (sender, receiver) = channel(marks);
        let trailers = Arc::new(Mutex::new(None));
        let mut stream = StreamBody::new(receiver, length, Arc::clone(&trailers), breaker.clone());
        if let Some(progress) = progress {
            stream = stream.watched_by(progress);
        }
        let outcome = sender.outcome();
        let near = Self {
            sender,
            outcome,
            length,
            written: AtomicU64::new(0),
            finished: AtomicBool::new(false),
            trailers,
            breaker,
        };
        (near, Body::stream(stream))
    }

    /// Ends once: `Ok` when hyper took the last byte after [`finish`](FinishableConsumer::finish), else the reason.
    /// What hyper took may still wait for the peer, up to the limits of the connection.
    pub fn outcome(&self) -> Outcome {
        self.outcome.clone()
    }

    /// Finishes with trailers. They are sent where the protocol and the peer allow it.
    pub fn finish_with(&self, trailers: HeaderMap) {
        *self.trailers.lock().unwrap_or_else(PoisonError::into_inner) = Some(trailers);
        self.finish();
    }

    /// Bytes accepted and not yet taken by hyper.
    pub fn held(&self) -> usize {
        self.sender.held()
    }

    /// One more reason for the producer not to run, until the guard is dropped.
    pub fn hold(&self, reason: HoldReason) -> Hold {
        self.sender.hold(reason)
    }

    /// Reserves room under the announced length, or fails the message.
    fn admit(&self, bytes: usize) -> Result<(), Refusal> {
        let Some(length) = self.length else { return Ok(()) };
        let add = |written: u64| written.checked_add(bytes as u64).filter(|sum| *sum <= length);
        match self
            .written
            .fetch_update(Ordering::AcqRel, Ordering::Acquire, add)
        {
            Ok(_) => Ok(()),
            Err(_) => {
                let refusal = Refusal::PastEnd { length };
                if self.outcome.now().is_none() {
                    self.abort(AbortReason::Failed(Arc::new(PastEnd { length })));
                }
                Err(refusal)
            }
        }
    }

    fn give_back(&self, bytes: usize) {
        if self.length.is_some() {
            self.written.fetch_sub(bytes as u64, Ordering::AcqRel);
        }
    }
}

/// A write went past the announced length.
#[derive(Clone, Copy, Debug, thiserror::Error)]
#[error("more than the announced {length} bytes were written")]
struct PastEnd {
    length: u64,
}

impl Consumer for OutgoingBody {
    fn register_producer(&self, producer: Producer) -> Result<(), AlreadyRegistered> {
        self.sender.register_producer(producer)
    }

    fn unregister_producer(&self) {
        self.sender.unregister_producer();
    }

    fn write(&self, data: Bytes) -> Result<Pressure, WriteError> {
        let bytes = data.len();
        if let Err(refusal) = self.admit(bytes) {
            return Err(WriteError { refusal, data });
        }
        self.sender.write(data).inspect_err(|_| self.give_back(bytes))
    }

    fn write_list(&self, data: Vec<Bytes>) -> Result<Pressure, WriteError<Vec<Bytes>>> {
        let bytes = data
            .iter()
            .fold(0, |sum: usize, piece| sum.saturating_add(piece.len()));
        if let Err(refusal) = self.admit(bytes) {
            return Err(WriteError { refusal, data });
        }
        self.sender
            .write_list(data)
            .inspect_err(|_| self.give_back(bytes))
    }
}

impl FinishableConsumer for OutgoingBody {
    fn finish(&self) {
        self.finished.store(true, Ordering::Release);
        self.sender.finish();
    }

    fn abort(&self, reason: AbortReason) {
        self.sender.abort(reason);
        // Only an abort that came in time may touch the connection: it may already serve the next request.
        if matches!(self.outcome.now(), Some(Err(StopReason::Aborted(_)))) {
            self.breaker.break_off();
        }
    }
}

impl Drop for OutgoingBody {
    fn drop(&mut self) {
        if !self.finished.load(Ordering::Acquire) && self.outcome.now().is_none() {
            self.abort(AbortReason::Dropped);
        }
    }
}

impl fmt::Debug for OutgoingBody {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("OutgoingBody")
            .field("length", &self.length)
            .field("held", &self.sender.held())
            .finish_non_exhaustive()
    }
}
