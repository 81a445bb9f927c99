//! How a stage hands on: one thread at a time is the drainer, and no lock is held while it calls below.
//!
//! Knows nothing of what is below. What to do next is `line.rs`'s word; pausing and resuming is the gate's.

use std::collections::VecDeque;
use std::fmt;
use std::sync::Arc;

use bytes::{Buf, Bytes};

use super::line::{Line, Step};
use super::{Accepted, Below, BelowPause, Finished, over::total};
use crate::gate::{Ended, Gate, HoldReason};
use crate::hold::{Hold, Holding};
use crate::outcome::{Delivered, Outcome};
use crate::signals::{Inner, Later, Panicked, Signals};
use crate::{
    AbortReason, AlreadyRegistered, Consumer, FinishableConsumer, Pressure, Producer, StopReason, WriteError,
};

/// A stage, shared with its handles.
pub(super) struct Core<B> {
    pub(super) below: B,
    pub(super) signals: Signals<Line>,
    pub(super) on_pause: BelowPause,
    pub(super) outcome: Outcome,
}
/// A stage without its type.
pub(super) trait Operations: Send + Sync {
    fn poke(&self);
    fn close(&self, reason: StopReason);
    fn cut(&self, reason: AbortReason);
    fn complete(&self);
    fn paused_below(&self);
    fn resumed_below(&self);
    fn hold_one(self: Arc<Self>, reason: HoldReason) -> Hold;
}
impl<B: Below> Core<B> {
    /// Changes the gate, delivers, hands on what can be handed on.
    fn change<R>(&self, change: impl FnOnce(&mut Gate, &mut Line) -> R) -> R {
        let (result, mut panicked) = self
            .signals
            .change_catching(|inner, _| change(&mut inner.gate, &mut inner.shell));
        self.drain(&mut panicked);
        panicked.rethrow();
        result
    }

    /// Takes a write under the lock, hands on, and delivers what is then due.
    fn take<D>(&self, bytes: usize, data: D, push: impl FnOnce(&mut Line, &mut Later, D)) -> Taken<D> {
        let mut later = Later::default();
        let refused = self.signals.look(|inner| {
            if let Err(refusal) = inner.gate.admit(bytes) {
                return Some((refusal, data));
            }
            inner.gate.wrote(bytes);
            push(&mut inner.shell, &mut later, data);
            None
        });
        let mut panicked = Panicked::default();
        later.run(&mut panicked);
        self.drain(&mut panicked);
        panicked.rethrow();
        match refused {
            Some((refusal, data)) => Err(WriteError { refusal, data }),
            None => Ok(self.signals.look(|inner| inner.gate.pressure())),
        }
    }

    /// Hands on until nothing can be; then delivers; and again, if that brought something new. Leaves what is due to be
    /// delivered to nobody else: it looks itself, also when another thread is the drainer.
    fn drain(&self, panicked: &mut Panicked) {
        loop {
            let mine = self.signals.look(|inner| {
                let free = !inner.shell.draining && inner.shell.has_step(&inner.gate);
                inner.shell.draining |= free;
                free
            });
            if mine {
                self.hand_on(panicked);
            }
            let ((), more) = self.signals.change_catching(|_, _| ());
            panicked.merge(more);
            // A handler that panicked has ended the stream: then there is something to do though nothing was written.
            let again = |inner: &mut Inner<Line>| !inner.shell.draining && inner.shell.has_step(&inner.gate);
            if !mine && !self.signals.look(again) {
                return;
            }
        }
    }

    /// One drainer's work, from when it was marked until it is not.
    fn hand_on(&self, panicked: &mut Panicked) {
        let mut batch = VecDeque::new();
        let mut kept = None;
        loop {
            let step = self.signals.look(|inner| {
                let step = inner.shell.step(&mut inner.gate, &mut batch);
                if let Step::Leave = step {
                    inner.shell.draining = false;
                    kept = inner.shell.let_go();
                    if !inner.shell.dead {
                        inner.shell.put_back(&mut batch);
                    }
                }
                step
            });
            match step {
                Step::Leave => break,
                Step::Offer => self.offer(&mut batch, panicked),
                Step::Finish => {
                    let mut finished = Finished::Later;
                    if self.guard(panicked, || finished = self.below.finish()) && finished == Finished::Done {
                        self.decide_delivered(panicked);
                    }
                }
                Step::Abort(reason) => {
                    let _ = self.guard(panicked, || self.below.abort(reason));
                }
            }
        }
        panicked.catch(|| drop(batch));
        drop(kept);
    }

    fn offer(&self, batch: &mut VecDeque<Bytes>, panicked: &mut Panicked) {
        let held = batch.make_contiguous();
        let offered = total(held);
        let mut accepted = Accepted::Wait;
        if !self.guard(panicked, || accepted = self.below.accept(held)) {
            return;
        }
        match accepted {
            Accepted::Took(bytes) => {
                if !self.guard(panicked, || {
                    assert!(bytes <= offered, "more was accepted than was offered")
                }) {
                    return;
                }
                panicked.catch(|| drop_front(batch, bytes));
                self.signals.look(|inner| {
                    if bytes == 0 {
                        inner.shell.wait();
                    } else if !inner.gate.is_over() {
                        inner.gate.drained(bytes);
                        inner.shell.accepted += bytes as u64;
                    }
                });
            }
            Accepted::Wait => self.signals.look(|inner| inner.shell.wait()),
            Accepted::Fail(reason) => self.die(reason, panicked),
        }
    }

    /// Calls below. A panic there is a failed device: the stage dies of it, and it goes on later. Says whether it went
    /// well.
    fn guard(&self, panicked: &mut Panicked, call: impl FnOnce()) -> bool {
        match panicked.catch(call) {
            None => true,
            Some(message) => {
                self.die(StopReason::Failed(Arc::new(BelowPanicked(message))), panicked);
                false
            }
        }
    }

    fn die(&self, reason: StopReason, panicked: &mut Panicked) {
        // Our own copy keeps the reason's cause alive, so that it is not dropped under the lock.
        let kept = reason.clone();
        let (stage, more) = self.signals.change_catching(|inner, later| {
            if let Ended::Before = inner.gate.closed(reason.clone()) {
                later.wake_all(inner.shell.verdict.decide(Err(reason)));
                inner.shell.over = true;
            }
            inner.shell.let_go()
        });
        panicked.merge(more);
        panicked.catch(|| drop((kept, stage)));
    }

    fn decide_delivered(&self, panicked: &mut Panicked) {
        let (stage, more) = self.signals.change_catching(|inner, later| {
            let bytes = inner.shell.accepted;
            later.wake_all(inner.shell.verdict.decide(Ok(Delivered { bytes })));
            inner.shell.over = true;
            inner.shell.let_go()
        });
        panicked.merge(more);
        drop(stage);
    }
}

type Taken<D> = Result<Pressure, WriteError<D>>;

fn drop_front(batch: &mut VecDeque<Bytes>, mut bytes: usize) {
    while let Some(front) = batch.front_mut() {
        if front.len() > bytes {
            front.advance(bytes);
            return;
        }
        bytes -= front.len();
        batch.pop_front();
    }
}

impl<B: Below> Consumer for Core<B> {
    fn register_producer(&self, producer: Producer) -> Result<(), AlreadyRegistered> {
        let (result, mut panicked) = self.signals.register(producer);
        self.drain(&mut panicked);
        panicked.rethrow();
        result
    }

    fn unregister_producer(&self) {
        let mut panicked = self.signals.unregister();
        self.drain(&mut panicked);
        panicked.rethrow();
    }

    fn write(&self, data: Bytes) -> Result<Pressure, WriteError> {
        self.take(data.len(), data, |line, later, data| line.push(data, later))
    }

    fn write_list(&self, data: Vec<Bytes>) -> Result<Pressure, WriteError<Vec<Bytes>>> {
        let bytes = data
            .iter()
            .fold(0, |sum: usize, piece| sum.saturating_add(piece.len()));
        self.take(bytes, data, |line, later, data| {
            for piece in data {
                line.push(piece, later);
            }
        })
    }
}

impl<B: Below> FinishableConsumer for Core<B> {
    fn finish(&self) {
        self.change(|gate, _| gate.finish());
    }

    fn abort(&self, reason: AbortReason) {
        // Our own copy keeps the reason's cause alive, so that it is not dropped under the lock.
        let kept = reason.clone();
        let _ = self.change(|gate, _| gate.abort(reason));
        drop(kept);
    }
}

impl<B: Below> Operations for Core<B> {
    fn poke(&self) {
        self.change(|_, line| {
            line.poked = true;
            line.waits = false;
        });
    }

    fn close(&self, reason: StopReason) {
        let mut panicked = Panicked::default();
        self.die(reason, &mut panicked);
        self.drain(&mut panicked);
        panicked.rethrow();
    }

    fn cut(&self, reason: AbortReason) {
        self.abort(reason);
    }

    fn complete(&self) {
        let mut panicked = Panicked::default();
        let ended = self.signals.look(|inner| inner.shell.ended && !inner.shell.dead);
        if ended {
            self.decide_delivered(&mut panicked);
        }
        panicked.rethrow();
    }

    fn paused_below(&self) {
        self.change(|gate, line| {
            if !line.paused {
                line.paused = true;
                if self.on_pause == BelowPause::Relay {
                    gate.hold(HoldReason::Below);
                }
            }
        });
    }

    /// Hands on first and delivers then: who is paused again while taking what was held has resumed nobody.
    fn resumed_below(&self) {
        self.signals.look(|inner| {
            let line = &mut inner.shell;
            line.poked = true;
            line.waits = false;
            if line.paused {
                line.paused = false;
                if self.on_pause == BelowPause::Relay {
                    inner.gate.release(HoldReason::Below);
                }
            }
        });
        let mut panicked = Panicked::default();
        self.drain(&mut panicked);
        panicked.rethrow();
    }

    fn hold_one(self: Arc<Self>, reason: HoldReason) -> Hold {
        Hold::new(self, reason)
    }
}

impl<B: Below> Holding for Core<B> {
    fn hold(&self, reason: HoldReason) {
        self.change(|gate, _| gate.hold(reason));
    }

    fn release(&self, reason: HoldReason) {
        self.change(|gate, _| gate.release(reason));
    }
}
/// What is below panicked while it was asked.
#[derive(Debug)]
struct BelowPanicked(Arc<str>);

impl fmt::Display for BelowPanicked {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the consumer below panicked: {}", self.0)
    }
}

impl std::error::Error for BelowPanicked {}
