//! The body that a peer sends: a source with a limit and a progress timer.
//!
//! Nothing is read, and no `100 Continue` is sent, before somebody polls: hyper asks the peer for bytes only then.
//! Serves requests and answers alike.

use std::future::Future;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, Version};
use http_body::Body as _;
use hyper::body::Incoming;
use tidegate_io::{Blame, Buffers, EndpointError, ErrorKind, Source};
use tokio::time::{Instant, Sleep};

use crate::drain::Moved;
use crate::hangup::Hangup;

/// Bytes that a peer sends as the body of a message.
#[derive(Debug)]
pub struct IncomingBody {
    incoming: Slot,
    /// What is left of a frame that was larger than a read.
    left: Bytes,
    announced: Option<u64>,
    end_is_marked: bool,
    read: u64,
    limit: u64,
    stall_timeout: Duration,
    waiting_since: Option<Instant>,
    timer: Option<Pin<Box<Sleep>>>,
    trailers: Option<HeaderMap>,
    /// Tells while nobody reads that the peer is gone.
    hangup: Option<Arc<Hangup>>,
    /// What the drain of a server goes by.
    moved: Option<Moved>,
    name: String,
}

impl IncomingBody {
    pub(crate) fn new(incoming: Incoming, limit: u64, stall_timeout: Duration, name: String) -> Self {
        Self {
            announced: incoming.size_hint().exact(),
            incoming: Slot::new(incoming),
            left: Bytes::new(),
            end_is_marked: false,
            read: 0,
            limit,
            stall_timeout,
            waiting_since: None,
            timer: None,
            trailers: None,
            hangup: None,
            moved: None,
            name,
        }
    }

    /// Over HTTP/2 hyper takes a stream that was reset without an error, or a connection that was closed politely, for the
    /// end of the body. It is one only if the peer has marked it.
    pub(crate) fn over(mut self, version: Version) -> Self {
        self.end_is_marked = version == Version::HTTP_2;
        self
    }

    /// A peer that goes away is noticed also while nobody reads.
    pub(crate) fn watched_by(mut self, hangup: Arc<Hangup>) -> Self {
        hangup.want();
        self.hangup = Some(hangup);
        self
    }

    pub(crate) fn counted_by(mut self, moved: Option<Moved>) -> Self {
        self.moved = moved;
        self
    }

    /// The length the peer announced.
    pub fn announced(&self) -> Option<u64> {
        self.announced
    }

    /// Trailers, once the end was read.
    pub fn trailers(&self) -> Option<&HeaderMap> {
        self.trailers.as_ref()
    }

    /// Lets whoever ends the exchange take the body away: as long as it is there, hyper keeps an HTTP/2 stream.
    pub(crate) fn slot(&self) -> Slot {
        self.incoming.clone()
    }

    /// The next piece, as hyper read it; `None` at the end.
    ///
    /// # Errors
    /// Cut short, over the limit, or nothing came for too long.
    pub(crate) fn poll_piece(&mut self, cx: &mut Context<'_>) -> Poll<Result<Option<Bytes>, EndpointError>> {
        if !self.left.is_empty() {
            return Poll::Ready(Ok(Some(std::mem::take(&mut self.left))));
        }
        loop {
            let mut incoming = match self.incoming.take() {
                Some(incoming) => incoming,
                None if self.incoming.is_cut() => return Poll::Ready(Err(self.ended())),
                None => return Poll::Ready(Ok(None)),
            };
            let polled = Pin::new(&mut incoming).poll_frame(cx);
            match polled {
                Poll::Pending => {
                    self.incoming.put(incoming);
                    return self.poll_stall(cx);
                }
                Poll::Ready(None) if self.end_is_marked && !incoming.is_end_stream() => {
                    return Poll::Ready(Err(self.cut_short(ErrorKind::Truncated)));
                }
                Poll::Ready(None) => return Poll::Ready(Ok(None)),
                Poll::Ready(Some(Err(error))) => return Poll::Ready(Err(self.failed(error))),
                Poll::Ready(Some(Ok(frame))) => {
                    self.incoming.put(incoming);
                    self.waiting_since = None;
                    match frame.into_data() {
                        Ok(data) if data.is_empty() => {}
                        Ok(data) => return Poll::Ready(self.count(data).map(Some)),
                        Err(frame) => self.trailers = frame.into_trailers().ok(),
                    }
                }
            }
        }
    }

    fn ended(&self) -> EndpointError {
        let what = format!(
            "the exchange with {} was ended after {} bytes",
            self.name, self.read
        );
        EndpointError::new(ErrorKind::Truncated, Blame::Peer, what)
    }

    fn count(&mut self, data: Bytes) -> Result<Bytes, EndpointError> {
        self.read += data.len() as u64;
        if let Some(moved) = &self.moved {
            moved.add(data.len());
        }
        if self.read > self.limit {
            let what = format!(
                "the body from {} passes the limit of {} bytes",
                self.name, self.limit
            );
            return Err(EndpointError::new(ErrorKind::Failed, Blame::Peer, what));
        }
        Ok(data)
    }

    fn failed(&mut self, error: hyper::Error) -> EndpointError {
        let kind = if error.is_timeout() {
            ErrorKind::TimedOut
        } else {
            ErrorKind::Truncated
        };
        self.cut_short(kind).caused_by(error)
    }

    fn cut_short(&mut self, kind: ErrorKind) -> EndpointError {
        self.incoming.cut(); // whoever asks again hears no clean end
        let what = format!(
            "the body from {} was cut short after {} bytes",
            self.name, self.read
        );
        EndpointError::new(kind, Blame::Peer, what)
    }

    fn poll_stall(&mut self, cx: &mut Context<'_>) -> Poll<Result<Option<Bytes>, EndpointError>> {
        let since = *self.waiting_since.get_or_insert_with(Instant::now);
        let deadline = since + self.stall_timeout;
        let timer = self
            .timer
            .get_or_insert_with(|| Box::pin(tokio::time::sleep_until(deadline)));
        // A timer set for an earlier wait fires early and is set anew: cheaper than re-arming it for each frame.
        while Instant::now() < deadline {
            ready!(timer.as_mut().poll(cx));
            timer.as_mut().reset(deadline);
        }
        let what = format!(
            "{} sent nothing for {} s",
            self.name,
            self.stall_timeout.as_secs()
        );
        self.incoming.cut();
        Poll::Ready(Err(EndpointError::new(ErrorKind::TimedOut, Blame::Peer, what)))
    }
}

/// hyper's body, which the end of the exchange may take away from its reader. It is taken out to be polled, so that
/// nothing of hyper's runs under the lock.
#[derive(Clone, Debug)]
pub(crate) struct Slot {
    shared: Arc<SlotShared>,
}

#[derive(Debug)]
struct SlotShared {
    incoming: Mutex<Option<Incoming>>,
    cut: AtomicBool,
}

impl Slot {
    fn new(incoming: Incoming) -> Self {
        let shared = SlotShared {
            incoming: Mutex::new(Some(incoming)),
            cut: AtomicBool::new(false),
        };
        Self {
            shared: Arc::new(shared),
        }
    }

    fn take(&self) -> Option<Incoming> {
        self.shared
            .incoming
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .take()
    }

    fn put(&self, incoming: Incoming) {
        *self
            .shared
            .incoming
            .lock()
            .unwrap_or_else(PoisonError::into_inner) = Some(incoming);
        if self.is_cut() {
            drop(self.take());
        }
    }

    /// Takes the body away for good.
    pub(crate) fn cut(&self) {
        self.shared.cut.store(true, Ordering::SeqCst);
        drop(self.take());
    }

    /// Read to its end, and not cut.
    fn is_over(&self) -> bool {
        let incoming = self
            .shared
            .incoming
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        incoming.is_none() && !self.is_cut()
    }

    fn is_cut(&self) -> bool {
        self.shared.cut.load(Ordering::SeqCst)
    }
}

impl Source for IncomingBody {
    fn poll_read(
        &mut self,
        cx: &mut Context<'_>,
        _buffers: &mut Buffers,
        max: usize,
    ) -> Poll<Result<Option<Bytes>, EndpointError>> {
        let Some(mut piece) = ready!(self.poll_piece(cx))? else {
            return Poll::Ready(Ok(None));
        };
        if piece.len() > max {
            self.left = piece.split_off(max);
        }
        Poll::Ready(Ok(Some(piece)))
    }

    fn poll_hangup(&mut self, cx: &mut Context<'_>) -> Poll<EndpointError> {
        let Some(hangup) = &self.hangup else {
            return Poll::Pending;
        };
        ready!(hangup.poll(cx));
        // A body that was read to its end has no peer to lose.
        if self.incoming.is_over() {
            Poll::Pending
        } else {
            Poll::Ready(self.ended())
        }
    }

    fn size_hint(&self) -> Option<u64> {
        Some(self.announced?.saturating_sub(self.read) + self.left.len() as u64)
    }

    fn name(&self) -> String {
        self.name.clone()
    }
}
