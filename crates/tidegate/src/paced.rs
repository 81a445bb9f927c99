//! The write end of a channel for code that waits instead of being signalled: a futures sink and an `AsyncWrite`.
//!
//! Knows no producer but its own: each wrapper registers itself as the channel's push producer, so that the two ways of
//! writing cannot be mixed. The read end's `Stream` and `AsyncRead` are here too.

#[cfg(any(feature = "futures", feature = "tokio"))]
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};

use bytes::Bytes;

#[cfg(any(feature = "futures", feature = "tokio"))]
use crate::Receiver;
use crate::sync::{Mutex, lock};
use crate::{Consumer, FinishableConsumer, Producer, PushProducer, Sender, StopReason};

/// A [`Sender`] that waits while the channel is full. (feature `futures`: `Sink<Bytes>`; feature `tokio`: `AsyncWrite`)
///
/// Closing the sink, or shutting the writer down, finishes the stream; dropping it before is an abort. What became of
/// the stream is what [`Sender::outcome`] tells. Flushing has nothing to do: bytes are the receiver's from the write on.
pub struct Paced {
    sender: Sender,
    tap: Arc<Tap>,
}

/// What is registered: a flag and a waker, and no way back to the write end.
#[derive(Default)]
struct Tap(Mutex<State>);

#[derive(Default)]
struct State {
    paused: bool,
    stopped: Option<StopReason>,
    waker: Option<Waker>,
}

impl Sender {
    /// Turns the write end into one that waits instead of being signalled.
    ///
    /// # Errors
    /// Gives the sender back when a producer is registered.
    pub fn into_paced(self) -> Result<Paced, Self> {
        let tap = Arc::new(Tap::default());
        match self.register_producer(Producer::push(Arc::clone(&tap))) {
            Ok(()) => Ok(Paced { sender: self, tap }),
            Err(_) => Err(self),
        }
    }
}

impl Paced {
    /// The write end, for its [`outcome`](Sender::outcome), its holds and its abort.
    pub fn sender(&self) -> &Sender {
        &self.sender
    }

    /// Ready when the channel takes a write.
    ///
    /// # Errors
    /// The stream is over.
    pub fn poll_open(&self, cx: &mut Context<'_>) -> Poll<Result<(), StopReason>> {
        self.tap.poll_open(cx)
    }

    /// Writes, whether or not the channel is full.
    ///
    /// # Errors
    /// The stream is over, or the write would pass `max`.
    pub fn write(&self, data: Bytes) -> Result<(), StopReason> {
        match self.sender.write(data) {
            Ok(_) => Ok(()),
            Err(error) => Err(error.refusal.into_stop()),
        }
    }

    /// The stream is complete.
    ///
    /// # Errors
    /// The stream was over before.
    pub fn close(&self) -> Result<(), StopReason> {
        if let Some(reason) = lock(&self.tap.0).stopped.clone() {
            return Err(reason);
        }
        self.sender.unregister_producer();
        self.sender.finish();
        Ok(())
    }
}

impl Tap {
    fn poll_open(&self, cx: &mut Context<'_>) -> Poll<Result<(), StopReason>> {
        if let Some(ready) = lock(&self.0).ready() {
            return Poll::Ready(ready);
        }
        // Cloning and dropping wakers is foreign code, so it happens without the lock, and then we look again.
        let fresh = cx.waker().clone();
        let mut state = lock(&self.0);
        let ready = state.ready();
        let stale = state.waker.replace(fresh);
        drop(state);
        drop(stale);
        ready.map_or(Poll::Pending, Poll::Ready)
    }

    fn change(&self, change: impl FnOnce(&mut State)) {
        let waker = {
            let mut state = lock(&self.0);
            change(&mut state);
            state.waker.take()
        };
        if let Some(waker) = waker {
            waker.wake();
        }
    }
}

impl State {
    fn ready(&self) -> Option<Result<(), StopReason>> {
        match &self.stopped {
            Some(reason) => Some(Err(reason.clone())),
            None if self.paused => None,
            None => Some(Ok(())),
        }
    }
}

impl PushProducer for Tap {
    fn pause_producing(&self) {
        lock(&self.0).paused = true;
    }

    fn resume_producing(&self) {
        self.change(|state| state.paused = false);
    }

    fn stop_producing(&self, reason: StopReason) {
        self.change(|state| state.stopped = Some(reason));
    }
}

#[cfg(feature = "futures")]
impl futures_sink::Sink<Bytes> for Paced {
    type Error = StopReason;

    fn poll_ready(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<(), StopReason>> {
        self.poll_open(cx)
    }

    fn start_send(self: Pin<&mut Self>, item: Bytes) -> Result<(), StopReason> {
        self.write(item)
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Result<(), StopReason>> {
        let stopped = lock(&self.tap.0).stopped.clone();
        Poll::Ready(stopped.map_or(Ok(()), Err))
    }

    fn poll_close(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Result<(), StopReason>> {
        Poll::Ready(self.close())
    }
}

#[cfg(feature = "futures")]
impl futures_core::Stream for Receiver {
    type Item = Result<Bytes, crate::Aborted>;

    fn poll_next(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        self.get_mut().poll_recv(cx)
    }
}

/// Writes copy at most `high` bytes at a time.
#[cfg(feature = "tokio")]
impl tokio::io::AsyncWrite for Paced {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<std::io::Result<usize>> {
        let taken = buf.len().min(self.sender.marks().high());
        std::task::ready!(self.poll_open(cx)).map_err(broken)?;
        self.write(Bytes::copy_from_slice(&buf[..taken]))
            .map_err(broken)?;
        Poll::Ready(Ok(taken))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        let stopped = lock(&self.tap.0).stopped.clone();
        Poll::Ready(stopped.map_or(Ok(()), |reason| Err(broken(reason))))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Poll::Ready(self.close().map_err(broken))
    }
}

/// Reading says that what was read is accepted, and reading the end that the stream is delivered.
#[cfg(feature = "tokio")]
impl tokio::io::AsyncRead for Receiver {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut tokio::io::ReadBuf<'_>,
    ) -> Poll<std::io::Result<()>> {
        let this = self.get_mut();
        if buf.remaining() == 0 {
            return Poll::Ready(Ok(()));
        }
        let cut = |aborted| std::io::Error::new(std::io::ErrorKind::ConnectionAborted, aborted);
        if std::task::ready!(this.poll_ready(cx)).map_err(cut)? == crate::Ready::End {
            this.delivered();
            return Poll::Ready(Ok(()));
        }
        let mut copied = 0;
        for piece in this.pieces() {
            let part = piece.len().min(buf.remaining());
            buf.put_slice(&piece[..part]);
            copied += part;
            if buf.remaining() == 0 {
                break;
            }
        }
        this.advance(copied);
        Poll::Ready(Ok(()))
    }
}

#[cfg(feature = "tokio")]
fn broken(reason: StopReason) -> std::io::Error {
    std::io::Error::new(std::io::ErrorKind::BrokenPipe, reason)
}
