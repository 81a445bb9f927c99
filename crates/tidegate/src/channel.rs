//! A gate with a queue behind it: producers write at one end, one task takes bytes out at the other.
//!
//! Knows no runtime and no device. [`Sender`] is the consumer that producers see; [`Receiver`] is the end of whoever
//! drives a device, and bytes count as held until it says with [`advance`](Receiver::advance) that the device accepted
//! them.

use std::collections::VecDeque;
use std::fmt;
use std::future::poll_fn;
use std::io::IoSlice;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};

use bytes::{Buf, Bytes};

use crate::forward::{debug_held, forward};
use crate::gate::{Ended, Gate, HoldReason};
use crate::hold::{Hold, Holding};
use crate::mutants::{self, Mutant};
use crate::outcome::{Delivered, Outcome, Verdict};
use crate::signals::{Inner, Later, Shell, Signals};
use crate::sync::{AtomicBool, Ordering};
use crate::{
    AbortReason, AlreadyRegistered, Cause, Consumer, FinishableConsumer, Marks, Pressure, Producer,
    StopReason, WriteError,
};

/// Joins a consumer and the task that drains it, with a gate of these `marks` between them.
///
/// ```
/// use bytes::Bytes;
/// use tidegate::{Consumer as _, FinishableConsumer as _, Marks, channel};
/// # futures_util::FutureExt::now_or_never(async {
/// let (sender, mut receiver) = channel(Marks::default());
/// sender.write(Bytes::from_static(b"hello")).unwrap();
/// sender.finish();
/// assert_eq!(receiver.recv().await.unwrap().unwrap(), "hello");
/// assert!(receiver.recv().await.is_none());
/// receiver.complete();
/// assert_eq!(sender.outcome().await.unwrap().bytes, 5);
/// # }).unwrap();
/// ```
pub fn channel(marks: Marks) -> (Sender, Receiver) {
    let verdict = Verdict::new();
    let outcome = verdict.outcome();
    let dead = Arc::new(AtomicBool::new(false));
    let queue = Queue {
        pieces: VecDeque::new(),
        waker: None,
        verdict,
        taken: 0,
        dead: Arc::clone(&dead),
    };
    let shared = Arc::new(Shared {
        signals: Signals::new(marks, queue),
        dead,
        outcome,
    });
    let sender = Sender {
        shared: Arc::clone(&shared),
    };
    let receiver = Receiver {
        shared,
        batch: VecDeque::new(),
        batch_bytes: 0,
        end: None,
    };
    (sender, receiver)
}

/// The write end: a consumer that can be finished. Not `Clone`; dropping it without [`finish`] aborts the stream.
///
/// A producer that needs something to write to gets a [`consumer`](Self::consumer) handle.
///
/// [`finish`]: FinishableConsumer::finish
pub struct Sender {
    shared: Arc<Shared>,
}

/// The read end, for whoever drives the device. Dropping it before the end of the stream is a death that stops the
/// producer.
pub struct Receiver {
    shared: Arc<Shared>,
    /// Taken over from the shared queue in one go, still counted as held by the gate.
    batch: VecDeque<Bytes>,
    batch_bytes: usize,
    end: Option<Result<(), Aborted>>,
}

/// What a receiver has when it is ready.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
#[must_use]
pub enum Ready {
    /// Bytes wait in [`pieces`](Receiver::pieces).
    Bytes,
    /// The stream is complete; everything was taken.
    End,
}

/// The stream was cut short: what came out of it is not the whole.
#[derive(Clone, Debug)]
pub struct Aborted(pub AbortReason);

struct Shared {
    signals: Signals<Queue>,
    /// Set with the gate's death, so that a receiver that still has a batch notices without taking the lock.
    dead: Arc<AtomicBool>,
    outcome: Outcome,
}

struct Queue {
    pieces: VecDeque<Bytes>,
    waker: Option<Waker>,
    verdict: Verdict,
    taken: u64,
    dead: Arc<AtomicBool>,
}

impl Shell for Queue {
    #[inline]
    fn settle(&mut self, gate: &mut Gate, later: &mut Later) {
        if let Some(reason) = gate.death() {
            if !self.dead.swap(true, Ordering::Relaxed) {
                later.discard(self.pieces.drain(..));
                later.wake_all(self.verdict.decide(Err(reason.clone())));
                later.wake(self.waker.take());
            }
        } else if self.waker.is_some() && (!self.pieces.is_empty() || gate.closing()) {
            later.wake(self.waker.take());
        }
    }
}

impl Sender {
    /// A handle to write and register through that does not own the write end: when the sender is dropped unfinished
    /// the stream is aborted, whoever has such a handle.
    pub fn consumer(&self) -> Arc<dyn Consumer> {
        Arc::clone(&self.shared) as Arc<dyn Consumer>
    }

    /// How the stream ends.
    pub fn outcome(&self) -> Outcome {
        self.shared.outcome.clone()
    }

    /// One more reason for the producer not to run, until the guard is dropped.
    pub fn hold(&self, reason: HoldReason) -> Hold {
        Hold::new(Arc::clone(&self.shared) as Arc<dyn Holding>, reason)
    }

    /// Bytes accepted and not yet taken by the device.
    pub fn held(&self) -> usize {
        self.shared.signals.look(|inner| inner.gate.held())
    }

    /// The marks the channel was made with.
    pub fn marks(&self) -> Marks {
        self.shared.signals.look(|inner| inner.gate.marks())
    }
}

impl Consumer for Sender {
    forward!(shared: register_producer unregister_producer write write_list);
}

impl FinishableConsumer for Sender {
    fn finish(&self) {
        self.shared.signals.change(|inner, _| inner.gate.finish());
    }

    fn abort(&self, reason: AbortReason) {
        self.shared.end(reason, Gate::abort);
    }
}

impl Drop for Sender {
    fn drop(&mut self) {
        // A finished stream goes on: what is held and a producer that is still registered go first.
        let finished = self.shared.signals.look(|inner| inner.gate.is_finished());
        if !finished {
            self.shared.end(AbortReason::Dropped, Gate::abort);
        }
    }
}

impl Receiver {
    /// Ready when bytes wait in [`pieces`](Self::pieces), or at the end of the stream. Whoever is told
    /// [`Ready::End`] brings the device to its end and then says [`complete`](Self::complete) or [`fail`](Self::fail).
    ///
    /// # Errors
    /// [`Aborted`] as soon as the stream is aborted, whatever still waited; and ever after. While bytes wait, nobody is
    /// woken for that: a driver whose device blocks polls the sender's [`Outcome`] beside it, as an abort does not wait.
    ///
    /// # Cancel safety
    /// Nothing is taken by asking.
    pub fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<Ready, Aborted>> {
        if let Some(end) = &self.end {
            return Poll::Ready(end.clone().map(|()| Ready::End));
        }
        if !self.batch.is_empty() && !self.shared.dead.load(Ordering::Relaxed) {
            return Poll::Ready(Ok(Ready::Bytes));
        }
        let (looked, stale) = self.look(cx);
        drop(stale);
        match looked {
            Looked::Pending => Poll::Pending,
            Looked::Bytes => Poll::Ready(Ok(Ready::Bytes)),
            Looked::End => {
                self.end = Some(Ok(()));
                Poll::Ready(Ok(Ready::End))
            }
            Looked::Dead(reason) => {
                let aborted = Aborted(match reason {
                    StopReason::Aborted(reason) => reason,
                    other => AbortReason::Stopped(Arc::new(other)),
                });
                self.batch.clear();
                self.batch_bytes = 0;
                self.end = Some(Err(aborted.clone()));
                Poll::Ready(Err(aborted))
            }
        }
    }

    /// Waits as [`poll_ready`](Self::poll_ready) does.
    ///
    /// # Errors
    /// As [`poll_ready`](Self::poll_ready).
    ///
    /// # Cancel safety
    /// Nothing is taken by asking.
    pub async fn ready(&mut self) -> Result<Ready, Aborted> {
        poll_fn(|cx| self.poll_ready(cx)).await
    }

    /// What waits, in order, as far as it was taken over at the last [`poll_ready`](Self::poll_ready): more may have
    /// come since. Cloning a piece is cheap. All of it counts as held until [`advance`](Self::advance).
    pub fn pieces(&self) -> impl Iterator<Item = &Bytes> {
        self.batch.iter()
    }

    /// Fills `slices` from the front for a vectored write and says how many it filled.
    pub fn slices<'a>(&'a self, slices: &mut [IoSlice<'a>]) -> usize {
        let mut filled = 0;
        for (slot, piece) in slices.iter_mut().zip(&self.batch) {
            *slot = IoSlice::new(piece);
            filled += 1;
        }
        filled
    }

    /// The device accepted `bytes` from the front of what waits: only now they cease to be held.
    ///
    /// # Panics
    /// If fewer bytes wait in [`pieces`](Self::pieces).
    pub fn advance(&mut self, bytes: usize) {
        assert!(
            bytes <= self.batch_bytes,
            "the device accepted more than it was shown"
        );
        if bytes == self.batch_bytes {
            self.batch_bytes = 0;
            self.batch.clear();
            return self.account(bytes);
        }
        self.batch_bytes -= bytes;
        let mut rest = bytes;
        while let Some(front) = self.batch.front_mut() {
            if front.len() > rest {
                front.advance(rest);
                break;
            }
            rest -= front.len();
            self.batch.pop_front();
        }
        self.account(bytes);
    }

    /// The next piece; `None` at the end. Taking a piece says that it is accepted, and taking the end that the stream
    /// is delivered: where the device can still refuse, use [`ready`](Self::ready) and [`advance`](Self::advance).
    ///
    /// # Errors
    /// [`Aborted`] when the stream was cut short, once; `None` follows.
    ///
    /// # Cancel safety
    /// Dropping the future takes nothing.
    pub async fn recv(&mut self) -> Option<Result<Bytes, Aborted>> {
        poll_fn(|cx| self.poll_recv(cx)).await
    }

    /// As [`recv`](Self::recv).
    pub fn poll_recv(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Bytes, Aborted>>> {
        let told_before = matches!(self.end, Some(Err(_)));
        Poll::Ready(match std::task::ready!(self.poll_ready(cx)) {
            Ok(Ready::Bytes) => self.take_piece().map(Ok),
            Ok(Ready::End) => {
                self.delivered();
                None
            }
            Err(_) if told_before => None,
            Err(aborted) => Some(Err(aborted)),
        })
    }

    /// The device has brought the stream to its end. Before the end of the stream it means that the reading side has
    /// all it wants: the producer is stopped with [`StopReason::Closed`].
    pub fn complete(mut self) {
        if self.end.is_some() {
            self.decide(Ok(()));
        } else {
            self.shared.end(StopReason::Closed, Gate::closed);
        }
    }

    /// The device failed. After the end of the stream too, when it could not be brought to its own end.
    pub fn fail(self, cause: Cause) {
        self.close(StopReason::Failed(cause));
    }

    /// The reading side is gone for this reason.
    pub fn close(mut self, reason: StopReason) {
        self.shared.end(reason.clone(), Gate::closed);
        self.decide(Err(reason));
    }

    /// Bytes accepted from the writer and not yet by the device.
    pub fn held(&self) -> usize {
        self.shared.signals.look(|inner| inner.gate.held())
    }

    /// One more reason for the producer not to run, until the guard is dropped.
    pub fn hold(&self, reason: HoldReason) -> Hold {
        Hold::new(Arc::clone(&self.shared) as Arc<dyn Holding>, reason)
    }

    fn look(&mut self, cx: &mut Context<'_>) -> (Looked, Option<Waker>) {
        let batch = &mut self.batch;
        let batch_bytes = &mut self.batch_bytes;
        let mut look = |fresh: Option<Waker>| {
            self.shared.signals.look(|inner| {
                let Inner { gate, shell, .. } = inner;
                if fresh.is_some() && mutants::is(Mutant::WaitBlindly) {
                    return Ok((Looked::Pending, std::mem::replace(&mut shell.waker, fresh)));
                }
                if let Some(reason) = gate.death() {
                    return Ok((Looked::Dead(reason.clone()), fresh));
                }
                if !shell.pieces.is_empty() {
                    std::mem::swap(batch, &mut shell.pieces);
                    *batch_bytes = gate.held();
                    return Ok((Looked::Bytes, fresh));
                }
                if gate.closing() {
                    gate.close();
                    return Ok((Looked::End, fresh));
                }
                match (&shell.waker, fresh) {
                    (Some(known), fresh) if known.will_wake(cx.waker()) => Ok((Looked::Pending, fresh)),
                    (_, Some(fresh)) => Ok((Looked::Pending, shell.waker.replace(fresh))),
                    (_, None) => Err(()),
                }
            })
        };
        // Cloning a waker is foreign code, so it happens without the lock, and then we look again.
        look(None)
            .or_else(|()| look(Some(cx.waker().clone())))
            .unwrap_or((Looked::Pending, None))
    }

    fn take_piece(&mut self) -> Option<Bytes> {
        let piece = self.batch.pop_front()?;
        self.batch_bytes -= piece.len();
        self.account(piece.len());
        Some(piece)
    }

    fn account(&self, bytes: usize) {
        self.shared.signals.change(|inner, _| {
            if !inner.gate.is_over() {
                inner.gate.drained(bytes);
                inner.shell.taken += bytes as u64;
            }
        });
    }

    /// The end was seen by somebody for whom seeing it is all there is to do.
    pub(crate) fn delivered(&mut self) {
        self.decide(Ok(()));
    }

    fn decide(&mut self, result: Result<(), StopReason>) {
        // Our own copy keeps the reason's cause alive, so that it is not dropped under the lock.
        let kept = result.clone();
        self.shared.signals.change(|inner, later| {
            let bytes = inner.shell.taken;
            let wakers = inner.shell.verdict.decide(result.map(|()| Delivered { bytes }));
            later.wake_all(wakers);
        });
        drop(kept);
    }
}

impl Drop for Receiver {
    fn drop(&mut self) {
        self.shared.end(StopReason::Dropped, Gate::closed);
        if self.end.is_some() {
            self.decide(Err(StopReason::Dropped));
        }
    }
}

enum Looked {
    Pending,
    Bytes,
    End,
    Dead(StopReason),
}

impl Shared {
    /// Ends the stream unless it has ended before.
    fn end<R: Clone>(&self, reason: R, end: impl FnOnce(&mut Gate, R) -> Ended) {
        // Our own copy keeps the reason's cause alive, so that it is not dropped under the lock.
        let kept = reason.clone();
        let _ = self.signals.change(|inner, _| end(&mut inner.gate, reason));
        drop(kept);
    }

    /// Takes a write, all or nothing.
    #[inline]
    fn take<D>(
        &self,
        bytes: usize,
        data: D,
        push: impl FnOnce(&mut Queue, D, &mut Later),
    ) -> Result<Pressure, WriteError<D>> {
        // What comes out of the lock is a byte; a refusal and what was refused are moved only when there is one.
        let mut data = Some(data);
        let mut refused = None;
        let pressure = self.signals.change(|inner, later| {
            match inner.gate.admit(bytes) {
                Ok(()) => {
                    inner.gate.wrote(bytes);
                    if let Some(data) = data.take() {
                        push(&mut inner.shell, data, later);
                    }
                }
                Err(refusal) => refused = Some(refusal),
            }
            inner.gate.pressure()
        });
        if let (Some(refusal), Some(data)) = (refused, data) {
            return Err(WriteError { refusal, data });
        }
        Ok(pressure)
    }
}

impl Consumer for Shared {
    fn register_producer(&self, producer: Producer) -> Result<(), AlreadyRegistered> {
        let (result, panicked) = self.signals.register(producer);
        panicked.rethrow();
        result
    }

    fn unregister_producer(&self) {
        self.signals.unregister().rethrow();
    }

    fn write(&self, data: Bytes) -> Result<Pressure, WriteError> {
        self.take(data.len(), data, Queue::push)
    }

    fn write_list(&self, data: Vec<Bytes>) -> Result<Pressure, WriteError<Vec<Bytes>>> {
        let bytes = data
            .iter()
            .fold(0, |sum: usize, piece| sum.saturating_add(piece.len()));
        self.take(bytes, data, |queue, data, later| {
            for piece in data {
                queue.push(piece, later);
            }
        })
    }
}

impl Queue {
    #[inline]
    fn push(&mut self, piece: Bytes, later: &mut Later) {
        if piece.is_empty() {
            later.discard([piece]);
        } else {
            self.pieces.push_back(piece);
        }
    }
}

impl Holding for Shared {
    fn hold(&self, reason: HoldReason) {
        self.signals.change(|inner, _| inner.gate.hold(reason));
    }

    fn release(&self, reason: HoldReason) {
        if mutants::is(Mutant::ReleaseBlindly) {
            return self.signals.look(|inner| inner.gate.release(reason));
        }
        self.signals.change(|inner, _| inner.gate.release(reason));
    }
}

debug_held!(Sender Receiver);

impl fmt::Display for Aborted {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the stream was cut short: {}", self.0)
    }
}

impl std::error::Error for Aborted {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        Some(&self.0)
    }
}
