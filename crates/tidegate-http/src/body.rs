//! What hyper polls for bytes: a body that is empty, whole, or the reading end of a response consumer.
//!
//! Knows nothing of where bytes come from. hyper takes a whole frame whatever room it has, so frames are small, and
//! a byte ceases to be held when hyper took its frame. Where a length was announced, the last frame waits for the
//! writer's `finish`: bytes that are all there are not yet a stream that is complete.

use std::fmt;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use http::HeaderMap;
use http_body::{Frame, SizeHint};
use tidegate::{AbortReason, Cause, Ready, Receiver, StopReason};
use tokio::time::Instant;

use crate::breaker::Breaker;
use crate::drain::Moved;

/// The largest frame handed to hyper.
pub const FRAME_BYTES_MAX: usize = 16 * 1024;

/// Pieces up to this size are copied together.
const SMALL_BYTES_MAX: usize = 1024;

/// The body of a message that we send.
#[derive(Default)]
pub struct Body {
    kind: Kind,
    /// Says what became of it when it is dropped.
    witness: Option<Witness>,
    /// What the drain of a server goes by.
    moved: Option<Moved>,
}

/// Called once, when hyper lets go of a body, with the bytes it took and whether it took them all.
pub(crate) type Witness = Box<dyn FnOnce(u64, BodyEnd) + Send>;

/// How far hyper took a body.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum BodyEnd {
    /// To its end.
    Whole,
    /// Not to its end.
    Cut,
}

#[derive(Default)]
enum Kind {
    #[default]
    Empty,
    Whole {
        bytes: Option<Bytes>,
        length: u64,
    },
    Stream(Box<StreamBody>),
}

/// Why a body failed. hyper shows it in its own errors.
#[derive(Clone, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum BodyError {
    /// The writer aborted.
    #[error("{0}")]
    Aborted(AbortReason),
    /// The writer finished before the announced length.
    #[error("finished after {sent} of {length} announced bytes")]
    TooShort {
        /// What was announced.
        length: u64,
        /// What came.
        sent: u64,
    },
}

/// What a writer or a peer is told when the connection went away under a body.
#[derive(Clone, Copy, Debug, thiserror::Error)]
#[error("the connection ended before the body did")]
pub struct PeerGone;

/// Seen from the connection: since when a body waits for its peer. Shared with whoever looks for stalled streams.
#[derive(Debug)]
pub(crate) struct Progress {
    epoch: Instant,
    polled_ms: AtomicU64,
    waits_for_writer: AtomicBool,
}

impl Progress {
    pub(crate) fn new() -> Self {
        Self {
            epoch: Instant::now(),
            polled_ms: AtomicU64::new(0),
            waits_for_writer: AtomicBool::new(false),
        }
    }

    fn note(&self, waits_for_writer: bool) {
        let since = u64::try_from(self.epoch.elapsed().as_millis()).unwrap_or(u64::MAX);
        self.polled_ms.store(since, Ordering::Relaxed);
        self.waits_for_writer.store(waits_for_writer, Ordering::Relaxed);
    }

    /// How long the peer has taken nothing although there was something, or the end, to take.
    pub(crate) fn stalled_for(&self) -> Duration {
        if self.waits_for_writer.load(Ordering::Relaxed) {
            return Duration::ZERO;
        }
        let polled = Duration::from_millis(self.polled_ms.load(Ordering::Relaxed));
        self.epoch.elapsed().saturating_sub(polled)
    }
}

/// The reading end of a response consumer or of a request body consumer.
pub(crate) struct StreamBody {
    receiver: Option<Receiver>,
    length: Option<u64>,
    sent: u64,
    /// The last frame of an announced length, until the writer finished.
    last: Option<Bytes>,
    trailers: Arc<Mutex<Option<HeaderMap>>>,
    progress: Option<Arc<Progress>>,
    breaker: Breaker,
    /// What must live as long as the body is read: a write end whose producers are called from in here.
    keep: Option<Box<dyn Send + Sync>>,
    state: State,
}

#[derive(Clone, Copy, Eq, PartialEq)]
enum State {
    Data,
    Trailers,
    Done,
}

impl StreamBody {
    pub(crate) fn new(
        receiver: Receiver,
        length: Option<u64>,
        trailers: Arc<Mutex<Option<HeaderMap>>>,
        breaker: Breaker,
    ) -> Self {
        breaker.begin();
        Self {
            receiver: Some(receiver),
            length,
            sent: 0,
            last: None,
            trailers,
            progress: None,
            breaker,
            keep: None,
            state: State::Data,
        }
    }

    pub(crate) fn watched_by(mut self, progress: Arc<Progress>) -> Self {
        self.progress = Some(progress);
        self
    }

    fn poll_frame(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        match self.state {
            State::Done => Poll::Ready(None),
            State::Trailers => {
                Poll::Ready(self.take_trailers().map(|trailers| Ok(Frame::trailers(trailers))))
            }
            State::Data => {
                let polled = self.poll_data(cx);
                if let Some(progress) = &self.progress {
                    progress.note(polled.is_pending());
                }
                polled
            }
        }
    }

    fn poll_data(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        loop {
            let Some(receiver) = &mut self.receiver else {
                return Poll::Ready(None);
            };
            match ready!(receiver.poll_ready(cx)) {
                Err(aborted) => {
                    self.end(State::Done);
                    return Poll::Ready(Some(Err(BodyError::Aborted(aborted.0))));
                }
                Ok(Ready::End) => return Poll::Ready(self.at_end()),
                Ok(Ready::Bytes) => {}
            }
            let frame = take_frame(receiver, cx);
            self.sent += frame.len() as u64;
            if self.length.is_some_and(|length| self.sent >= length) {
                self.last = Some(frame);
            } else if !frame.is_empty() {
                return Poll::Ready(Some(Ok(Frame::data(frame))));
            }
        }
    }

    /// The writer finished and everything was taken.
    fn at_end(&mut self) -> Option<Result<Frame<Bytes>, BodyError>> {
        if let Some(length) = self.length
            && self.sent < length
        {
            let error = BodyError::TooShort {
                length,
                sent: self.sent,
            };
            if let Some(receiver) = self.receiver.take() {
                receiver.fail(Arc::new(error.clone()) as Cause);
            }
            self.end(State::Done);
            return Some(Err(error));
        }
        if let Some(receiver) = self.receiver.take() {
            receiver.complete();
        }
        self.breaker.complete();
        self.end(State::Trailers);
        match self.last.take() {
            Some(frame) => Some(Ok(Frame::data(frame))),
            None => self.take_trailers().map(|trailers| Ok(Frame::trailers(trailers))),
        }
    }

    fn end(&mut self, state: State) {
        self.state = state;
        self.receiver = None;
        self.keep = None;
    }

    fn take_trailers(&mut self) -> Option<HeaderMap> {
        self.state = State::Done;
        self.trailers
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .take()
    }

    fn is_end_stream(&self) -> bool {
        match self.state {
            State::Data => false,
            State::Done => true,
            State::Trailers => self
                .trailers
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
                .is_none(),
        }
    }
}

/// The next frame of what waits: a part of one piece, or many small pieces copied together. Frames of a few bytes cost
/// more than their bytes, and an HTTP/2 peer that lets two thousand of them pile up ends the connection.
fn take_frame(receiver: &mut Receiver, cx: &mut Context<'_>) -> Bytes {
    let first = receiver
        .pieces()
        .next()
        .map(|piece| piece.slice(..piece.len().min(FRAME_BYTES_MAX)));
    let Some(first) = first else { return Bytes::new() };
    receiver.advance(first.len());
    if first.len() > SMALL_BYTES_MAX {
        return first;
    }
    let mut gathered: Option<BytesMut> = None;
    // Only what is there already, or comes of a pull on the spot: nothing is waited for.
    while let Poll::Ready(Ok(Ready::Bytes)) = receiver.poll_ready(cx) {
        let so_far = gathered.as_ref().map_or(first.len(), BytesMut::len);
        let fits = |piece: &&Bytes| piece.len() <= SMALL_BYTES_MAX && so_far + piece.len() <= FRAME_BYTES_MAX;
        let Some(next) = receiver.pieces().next().filter(fits).cloned() else {
            break;
        };
        receiver.advance(next.len());
        gathered
            .get_or_insert_with(|| BytesMut::from(&first[..]))
            .extend_from_slice(&next);
    }
    gathered.map_or(first, BytesMut::freeze)
}

impl Drop for StreamBody {
    fn drop(&mut self) {
        if let Some(receiver) = self.receiver.take() {
            // hyper lets go of a body of no bytes without asking for its end.
            if self.length == Some(self.sent) && self.last.is_none() {
                receiver.complete();
            } else {
                receiver.close(StopReason::Failed(Arc::new(PeerGone)));
            }
        }
    }
}

impl Body {
    /// No bytes.
    pub fn empty() -> Self {
        Self::default()
    }

    /// All bytes at once, for small answers.
    pub fn whole(bytes: impl Into<Bytes>) -> Self {
        let bytes = bytes.into();
        let length = bytes.len() as u64;
        let kind = if bytes.is_empty() {
            Kind::Empty
        } else {
            Kind::Whole {
                bytes: Some(bytes),
                length,
            }
        };
        Self::of(kind)
    }

    pub(crate) fn stream(stream: StreamBody) -> Self {
        Self::of(Kind::Stream(Box::new(stream)))
    }

    fn of(kind: Kind) -> Self {
        Self {
            kind,
            witness: None,
            moved: None,
        }
    }

    /// Keeps `what` alive until hyper is done with the bytes.
    pub(crate) fn keeping(mut self, what: impl Send + Sync + 'static) -> Self {
        if let Kind::Stream(stream) = &mut self.kind {
            stream.keep = Some(Box::new(what));
        }
        self
    }

    /// Nobody will read on, and that is in order: the writer is told that the reading side has all it wants.
    pub(crate) fn close(&mut self) {
        if let Kind::Stream(stream) = &mut self.kind
            && let Some(receiver) = stream.receiver.take()
        {
            receiver.complete();
            stream.breaker.complete();
            stream.end(State::Done);
        }
    }

    pub(crate) fn counted_by(mut self, moved: Option<Moved>) -> Self {
        self.moved = moved;
        self
    }

    pub(crate) fn witnessed(mut self, witness: Witness) -> Self {
        self.witness = Some(witness);
        self
    }

    /// Bytes that hyper took so far, and whether that is all.
    fn account(&self) -> (u64, BodyEnd) {
        match &self.kind {
            Kind::Empty => (0, BodyEnd::Whole),
            Kind::Whole { bytes: None, length } => (*length, BodyEnd::Whole),
            Kind::Whole { bytes: Some(_), .. } => (0, BodyEnd::Cut),
            Kind::Stream(stream) if stream.is_end_stream() => (stream.sent, BodyEnd::Whole),
            Kind::Stream(stream) => (stream.sent, BodyEnd::Cut),
        }
    }
}

impl Drop for Body {
    fn drop(&mut self) {
        if let Some(witness) = self.witness.take() {
            let (bytes, end) = self.account();
            witness(bytes, end);
        }
    }
}

impl http_body::Body for Body {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let this = self.get_mut();
        let frame = match &mut this.kind {
            Kind::Empty => None,
            Kind::Whole { bytes, .. } => bytes.take().map(|bytes| Ok(Frame::data(bytes))),
            Kind::Stream(stream) => ready!(stream.poll_frame(cx)),
        };
        if let (Some(moved), Some(Ok(frame))) = (&this.moved, &frame) {
            moved.add(frame.data_ref().map_or(0, Bytes::len));
        }
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        match &self.kind {
            Kind::Empty => true,
            Kind::Whole { bytes, .. } => bytes.is_none(),
            Kind::Stream(stream) => stream.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match &self.kind {
            Kind::Empty => SizeHint::with_exact(0),
            Kind::Whole { bytes, .. } => {
                SizeHint::with_exact(bytes.as_ref().map_or(0, |bytes| bytes.len() as u64))
            }
            Kind::Stream(stream) => match stream.length {
                Some(length) => SizeHint::with_exact(length.saturating_sub(stream.sent)),
                None => SizeHint::default(),
            },
        }
    }
}

impl fmt::Debug for Body {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match &self.kind {
            Kind::Empty => "Body::Empty",
            Kind::Whole { .. } => "Body::Whole",
            Kind::Stream(_) => "Body::Stream",
        })
    }
}
