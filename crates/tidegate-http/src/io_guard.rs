//! The wrapper under hyper: a progress timer that drops a stalled peer, and a kill switch for aborts.
//!
//! hyper waits for ever on a peer that takes nothing, and while it waits it looks at no body, so that an abort would
//! wait with it. Both are decided here, below TLS and HTTP, where a blocked write can be seen.
//! Knows nothing of either protocol.

use std::io;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use bytes::{Buf, Bytes};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::{Instant, Sleep};

use crate::drain::Moved;
use crate::hangup::Hangup;
use crate::wire::{Watch, Wire};

/// How a connection whose response was aborted is to end.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Ending {
    /// The peer can tell that something is missing: close, once hyper has seen the abort or is blocked.
    Close,
    /// The end of the connection would look like the end of the body: reset.
    Reset,
}

/// Ends a connection from outside of hyper. Shared by the guard and by whatever may abort.
#[derive(Debug, Default)]
pub(crate) struct KillSwitch {
    armed: AtomicBool,
    /// Until the body under way is complete, the end of the connection would look like its end.
    ambiguous: AtomicBool,
    waker: Mutex<Option<Waker>>,
    /// For who holds the body of a request unread.
    pub(crate) hangup: Arc<Hangup>,
}

impl KillSwitch {
    /// A response was aborted: the connection ends as soon as it would have to wait for the peer.
    pub(crate) fn arm(&self, ending: Ending) {
        if ending == Ending::Reset {
            self.ambiguous.store(true, Ordering::Release);
        }
        self.armed.store(true, Ordering::Release);
        self.wake();
    }

    /// A body begins whose end is the end of the connection: whatever ends it before its time must reset it.
    pub(crate) fn begin_ambiguous(&self) {
        self.ambiguous.store(true, Ordering::Release);
    }

    /// That body is complete.
    pub(crate) fn end_ambiguous(&self) {
        self.ambiguous
            .store(self.armed.load(Ordering::Acquire), Ordering::Release);
    }

    fn wake(&self) {
        let waker = self.waker.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(waker) = waker {
            waker.wake();
        }
    }

    fn register(&self, waker: &Waker) {
        let mut slot = self.waker.lock().unwrap_or_else(PoisonError::into_inner);
        let old = match &*slot {
            Some(known) if known.will_wake(waker) => None,
            _ => slot.replace(waker.clone()),
        };
        drop(slot);
        drop(old); // a foreign waker is not dropped under our lock
    }
}

/// A connection under watch.
pub(crate) struct Guarded<W: Wire> {
    wire: W,
    switch: Arc<KillSwitch>,
    /// Bytes already read to find out which protocol it is.
    ahead: Bytes,
    stall_timeout: Duration,
    /// When the write that waits now began to; `None` while none waits.
    blocked_since: Option<Instant>,
    timer: Option<Pin<Box<Sleep>>>,
    /// What the drain of a server goes by.
    moved: Moved,
}

impl<W: Wire> Guarded<W> {
    pub(crate) fn new(wire: W, switch: Arc<KillSwitch>, stall_timeout: Duration) -> Self {
        Self {
            wire,
            switch,
            ahead: Bytes::new(),
            stall_timeout,
            blocked_since: None,
            timer: None,
            moved: Moved::default(),
        }
    }

    /// From now on `moved` counts every byte: for a protocol that moves none of its own accord.
    pub(crate) fn count_by(&mut self, moved: Moved) {
        self.moved = moved;
    }

    /// A watch for a reset by the peer.
    pub(crate) fn watch(&self) -> Watch {
        self.wire.watch()
    }

    /// Puts bytes back in front of what the connection still has to give.
    pub(crate) fn give_back(&mut self, ahead: Bytes) {
        self.ahead = ahead;
    }

    /// A write waits for the peer.
    fn blocked<T>(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<T>> {
        self.switch.register(cx.waker());
        if self.switch.armed.load(Ordering::Acquire) {
            return Poll::Ready(Err(io::Error::new(
                io::ErrorKind::ConnectionAborted,
                "a response was aborted while the peer took nothing",
            )));
        }
        let since = *self.blocked_since.get_or_insert_with(Instant::now);
        let deadline = since + self.stall_timeout;
        let timer = self
            .timer
            .get_or_insert_with(|| Box::pin(tokio::time::sleep_until(deadline)));
        while timer.as_mut().poll(cx).is_ready() {
            if Instant::now() >= deadline {
                self.wire.reset_on_close();
                return Poll::Ready(Err(io::Error::new(
                    io::ErrorKind::TimedOut,
                    "the peer took nothing for too long",
                )));
            }
            timer.as_mut().reset(deadline);
        }
        Poll::Pending
    }

    fn wrote(&mut self, cx: &mut Context<'_>, went: Poll<io::Result<usize>>) -> Poll<io::Result<usize>> {
        if let Poll::Ready(Ok(bytes)) = &went {
            self.moved.add(*bytes);
        }
        self.judge(cx, went)
    }

    fn judge<T>(&mut self, cx: &mut Context<'_>, went: Poll<io::Result<T>>) -> Poll<io::Result<T>> {
        if went.is_ready() {
            self.blocked_since = None;
            return went;
        }
        self.blocked(cx)
    }
}

/// Up to this much is copied together: a head and a small body then go out by `send`, which costs the kernel less than
/// gathering them.
const JOINED_BYTES_MAX: usize = 2048;

fn joined<'s>(bufs: &[io::IoSlice<'_>], space: &'s mut [u8; JOINED_BYTES_MAX]) -> Option<&'s [u8]> {
    let mut filled = 0;
    for buf in bufs {
        space.get_mut(filled..filled + buf.len())?.copy_from_slice(buf);
        filled += buf.len();
    }
    Some(&space[..filled])
}

impl<W: Wire> Drop for Guarded<W> {
    fn drop(&mut self) {
        if self.switch.ambiguous.load(Ordering::Acquire) {
            self.wire.reset_on_close();
        }
    }
}

impl<W: Wire> AsyncRead for Guarded<W> {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        if !this.ahead.is_empty() {
            let take = this.ahead.len().min(buf.remaining());
            buf.put_slice(&this.ahead[..take]);
            this.ahead.advance(take);
            return Poll::Ready(Ok(()));
        }
        let before = buf.filled().len();
        let went = Pin::new(&mut this.wire).poll_read(cx, buf);
        this.moved.add(buf.filled().len() - before);
        went
    }
}

impl<W: Wire> AsyncWrite for Guarded<W> {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        let went = Pin::new(&mut this.wire).poll_write(cx, buf);
        this.wrote(cx, went)
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        let went = match joined(bufs, &mut [0; JOINED_BYTES_MAX]) {
            Some(joined) => Pin::new(&mut this.wire).poll_write(cx, joined),
            None => Pin::new(&mut this.wire).poll_write_vectored(cx, bufs),
        };
        this.wrote(cx, went)
    }

    fn is_write_vectored(&self) -> bool {
        self.wire.is_write_vectored()
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        Pin::new(&mut this.wire).poll_flush(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        if this.switch.ambiguous.load(Ordering::Acquire) && this.switch.armed.load(Ordering::Acquire) {
            // A tidy end would look like the end of the body.
            this.wire.reset_on_close();
            return Poll::Ready(Ok(()));
        }
        let went = Pin::new(&mut this.wire).poll_shutdown(cx);
        this.judge(cx, went)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use tokio::io::{AsyncReadExt, AsyncWriteExt, duplex};

    const STALL: Duration = Duration::from_secs(60);

    fn guarded(
        bytes: usize,
    ) -> (
        Guarded<tokio::io::DuplexStream>,
        tokio::io::DuplexStream,
        Arc<KillSwitch>,
    ) {
        let (near, far) = duplex(bytes);
        let switch = Arc::new(KillSwitch::default());
        (Guarded::new(near, Arc::clone(&switch), STALL), far, switch)
    }

    #[tokio::test(start_paused = true)]
    async fn a_peer_that_takes_nothing_is_dropped_and_a_slow_one_is_not() {
        let (mut near, mut far, _switch) = guarded(4);
        let writer = tokio::spawn(async move { (near.write_all(&[7; 40]).await, Instant::now()) });
        let start = Instant::now();
        // Four bytes in every fifty seconds are progress.
        for _ in 0..3 {
            tokio::time::sleep(Duration::from_secs(50)).await;
            far.read_exact(&mut [0; 4]).await.unwrap();
        }
        let (went, end) = writer.await.unwrap();
        assert_eq!(went.unwrap_err().kind(), io::ErrorKind::TimedOut);
        assert_eq!(end - start, Duration::from_secs(150) + STALL);
    }

    #[tokio::test(start_paused = true)]
    async fn an_armed_switch_ends_only_what_is_blocked() {
        let (mut near, far, switch) = guarded(4);
        switch.arm(Ending::Close);
        near.write_all(b"fits").await.unwrap();
        let went = near.write_all(b"x").await;
        assert_eq!(went.unwrap_err().kind(), io::ErrorKind::ConnectionAborted);
        drop(far);
    }

    #[tokio::test(start_paused = true)]
    async fn arming_wakes_a_blocked_write() {
        let (mut near, far, switch) = guarded(4);
        let writer = tokio::spawn(async move { near.write_all(&[0; 9]).await });
        tokio::time::sleep(Duration::from_secs(1)).await;
        switch.arm(Ending::Close);
        assert_eq!(
            writer.await.unwrap().unwrap_err().kind(),
            io::ErrorKind::ConnectionAborted
        );
        drop(far);
    }

    #[tokio::test]
    async fn what_moves_is_counted_both_ways() {
        let (mut near, mut far, _switch) = guarded(64);
        let moved = Moved::default();
        near.count_by(moved.clone());
        near.write_all(b"four").await.unwrap();
        far.write_all(b"seven..").await.unwrap();
        near.read_exact(&mut [0; 7]).await.unwrap();
        assert_eq!(moved.bytes(), 11);
    }

    #[tokio::test]
    async fn bytes_given_back_come_first() {
        let (mut near, mut far, _switch) = guarded(16);
        far.write_all(b"world").await.unwrap();
        near.give_back(Bytes::from_static(b"hello "));
        let mut all = [0; 11];
        near.read_exact(&mut all).await.unwrap();
        assert_eq!(&all, b"hello world");
    }
}
