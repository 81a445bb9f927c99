//! Endpoints and helpers that the tests of flows share: sources that make bytes, sinks that check them.

#![allow(dead_code, unreachable_pub, clippy::unwrap_used)]

use std::collections::VecDeque;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, Waker};

use bytes::Bytes;
use tidegate::AbortReason;
use tidegate_io::{Buffers, Confirmation, EndpointError, Held, Sink, Source};

/// A stream's byte at `offset`: nothing repeats at a power of two.
pub fn byte_at(offset: u64) -> u8 {
    eight_at(offset / 8)[usize::try_from(offset % 8).unwrap()]
}

fn eight_at(index: u64) -> [u8; 8] {
    let mixed = (index + 1).wrapping_mul(0x9E37_79B9_7F4A_7C15);
    (mixed ^ (mixed >> 29)).to_le_bytes()
}

/// Fills `space` with the stream's bytes from `offset` on.
pub fn fill(space: &mut [u8], offset: u64) {
    let (mut done, mut offset) = (0, offset);
    while done < space.len() {
        let eight = eight_at(offset / 8);
        let from = usize::try_from(offset % 8).unwrap();
        let count = (8 - from).min(space.len() - done);
        space[done..done + count].copy_from_slice(&eight[from..from + count]);
        done += count;
        offset += count as u64;
    }
}

/// The stream's first bytes.
pub fn made(bytes: u64) -> Vec<u8> {
    let mut space = vec![0; usize::try_from(bytes).unwrap()];
    fill(&mut space, 0);
    space
}

/// A small running checksum that notices lost, doubled and swapped bytes.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Checksum {
    pub bytes: u64,
    sum: u64,
}

impl Checksum {
    pub fn add(&mut self, data: &[u8]) {
        for &byte in data {
            self.sum = (self.sum ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01B3);
            self.bytes += 1;
        }
    }

    pub fn of(data: &[u8]) -> Self {
        let mut sum = Self::default();
        sum.add(data);
        sum
    }

    /// What `Made` with so many bytes comes to.
    pub fn of_made(bytes: u64) -> Self {
        let mut sum = Self::default();
        let mut space = [0; 65_536];
        while sum.bytes < bytes {
            let count = usize::try_from(bytes - sum.bytes)
                .unwrap_or(space.len())
                .min(space.len());
            fill(&mut space[..count], sum.bytes);
            sum.add(&space[..count]);
        }
        sum
    }
}

/// Makes so many bytes, at most `piece` at a time, always ready.
pub struct Made {
    pub offset: u64,
    pub end: u64,
    pub piece: usize,
}

impl Made {
    pub fn new(bytes: u64, piece: usize) -> Self {
        Self {
            offset: 0,
            end: bytes,
            piece,
        }
    }
}

impl Source for Made {
    fn poll_read(
        &mut self,
        _cx: &mut Context<'_>,
        buffers: &mut Buffers,
        max: usize,
    ) -> Poll<Result<Option<Bytes>, EndpointError>> {
        let left = usize::try_from(self.end - self.offset).unwrap();
        if left == 0 {
            return Poll::Ready(Ok(None));
        }
        let mut buffer = buffers.take(max.min(self.piece).min(left));
        let count = buffer.space().len();
        fill(buffer.space(), self.offset);
        self.offset += count as u64;
        Poll::Ready(Ok(Some(buffer.freeze(count))))
    }

    fn name(&self) -> String {
        "made".into()
    }
}

/// What a `Kept` sink has seen.
#[derive(Default)]
pub struct Seen {
    pub data: Vec<u8>,
    pub finished: bool,
    pub aborted: Option<String>,
    pub flushes: usize,
    /// The most bytes held in front of the sink at any write.
    pub held_most: usize,
}

/// Keeps what it is given while it has credit.
#[derive(Clone)]
pub struct Kept {
    pub seen: Arc<Mutex<Seen>>,
    pub credit: Arc<AtomicUsize>,
    waker: Arc<Mutex<Option<Waker>>>,
}

impl Kept {
    pub fn new(credit: usize) -> Self {
        Self {
            seen: Arc::default(),
            credit: Arc::new(AtomicUsize::new(credit)),
            waker: Arc::default(),
        }
    }

    pub fn allow(&self, bytes: usize) {
        self.credit.fetch_add(bytes, Ordering::SeqCst);
        let waker = self.waker.lock().unwrap().take();
        if let Some(waker) = waker {
            waker.wake();
        }
    }
}

impl Sink for Kept {
    fn poll_write(&mut self, cx: &mut Context<'_>, held: &Held) -> Poll<Result<usize, EndpointError>> {
        *self.waker.lock().unwrap() = Some(cx.waker().clone());
        let mut seen = self.seen.lock().unwrap();
        seen.held_most = seen.held_most.max(held.len());
        let credit = self.credit.load(Ordering::SeqCst);
        let front = held.front().unwrap();
        let count = front.len().min(credit);
        if count == 0 {
            return Poll::Pending;
        }
        if credit != usize::MAX {
            self.credit.fetch_sub(count, Ordering::SeqCst);
        }
        seen.data.extend_from_slice(&front[..count]);
        Poll::Ready(Ok(count))
    }

    fn poll_flush(&mut self, _cx: &mut Context<'_>) -> Poll<Result<(), EndpointError>> {
        self.seen.lock().unwrap().flushes += 1;
        Poll::Ready(Ok(()))
    }

    fn poll_finish(&mut self, _cx: &mut Context<'_>) -> Poll<Result<Confirmation, EndpointError>> {
        self.seen.lock().unwrap().finished = true;
        Poll::Ready(Ok(Confirmation::Confirmed))
    }

    fn abort(&mut self, reason: &AbortReason) {
        self.seen.lock().unwrap().aborted = Some(reason.to_string());
    }

    fn name(&self) -> String {
        "kept".into()
    }
}

/// One step of a scripted source.
pub enum Step {
    Data(&'static [u8]),
    End,
    Fail(EndpointError),
}

/// Gives the steps it is fed, and waits in between.
#[derive(Clone, Default)]
pub struct Fed {
    inner: Arc<Mutex<(VecDeque<Step>, Option<Waker>)>>,
}

impl Fed {
    pub fn feed(&self, step: Step) {
        let mut inner = self.inner.lock().unwrap();
        inner.0.push_back(step);
        let waker = inner.1.take();
        drop(inner);
        if let Some(waker) = waker {
            waker.wake();
        }
    }
}

impl Source for Fed {
    fn poll_read(
        &mut self,
        cx: &mut Context<'_>,
        _buffers: &mut Buffers,
        max: usize,
    ) -> Poll<Result<Option<Bytes>, EndpointError>> {
        let mut inner = self.inner.lock().unwrap();
        match inner.0.pop_front() {
            None => {
                inner.1 = Some(cx.waker().clone());
                Poll::Pending
            }
            Some(Step::Data(data)) => {
                let count = data.len().min(max);
                if count < data.len() {
                    inner.0.push_front(Step::Data(&data[count..]));
                }
                Poll::Ready(Ok(Some(Bytes::from_static(&data[..count]))))
            }
            Some(Step::End) => {
                inner.0.push_front(Step::End);
                Poll::Ready(Ok(None))
            }
            Some(Step::Fail(error)) => Poll::Ready(Err(error)),
        }
    }

    fn name(&self) -> String {
        "fed".into()
    }
}

/// A connected pair of TCP streams on loopback.
pub async fn tcp_pair() -> (tokio::net::TcpStream, tokio::net::TcpStream) {
    let listener = tidegate_io::endpoint::tcp::Listener::bind("127.0.0.1:0")
        .await
        .unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let timeout = std::time::Duration::from_secs(5);
    let (near, far) = tokio::join!(
        tidegate_io::endpoint::tcp::connect(&address, timeout),
        listener.accept()
    );
    (near.unwrap(), far.unwrap().0)
}
