//! A gate in front of something synchronous: what is written is kept in order and handed on as soon as the other side
//! takes it, on whichever thread happens to be there.
//!
//! Knows no task and no device. What it hands on to is a [`Below`]: usually the next consumer ([`Over`]), or one that
//! also transforms, limits or counts what passes. Proxies, shapers, length checks, adapters and loopbacks are each a
//! `Below` and little else.
//!
//! # How it drains
//!
//! One thread at a time is the drainer; others leave their bytes and go. No lock is held during a call of `Below`, so
//! it may call back: write, pause, poke, abort. The drainer takes what is held, offers it until `Below` says
//! [`Wait`](Accepted::Wait), and only then lets signals be delivered: a write that passes through at once pauses nobody.
//! A stage that was told to wait, or paused, tries again at [`poke`](StageHandle::poke) or when it is resumed; a poke that
//! comes while `Below` is being asked is not lost.
//!
//! # How it ends
//!
//! After `finish`, when nothing is held and no producer is registered, [`Below::finish`] is called once. After any other
//! end, whoever caused it, [`Below::abort`] is called once, and what was held is dropped.

use std::collections::VecDeque;
use std::fmt;
use std::sync::{Arc, Weak};

use bytes::{Buf, Bytes};

use crate::gate::{Ended, Gate, HoldReason};
use crate::hold::{Hold, Holding};
use crate::mutants::{self, Mutant};
use crate::outcome::{Delivered, Outcome, Verdict};
use crate::signals::{Inner, Later, Panicked, Shell, Signals};
use crate::{
    AbortReason, AlreadyRegistered, Consumer, FinishableConsumer, Marks, Pressure, Producer, PushProducer,
    Refusal, StopReason, WriteError,
};

/// What a stage hands on to. All calls come without a lock; `accept` and the ends come one at a time.
pub trait Below: Send + Sync + 'static {
    /// Takes bytes from the front of `held`, which is never empty and has no empty piece. Cloning a piece is cheap.
    fn accept(&self, held: &[Bytes]) -> Accepted;

    /// The stream is complete and all of it was accepted. Called once, and then nothing follows.
    fn finish(&self) -> Finished;

    /// The stream is cut short: whatever is further down must not look complete. Called once, and then nothing follows.
    /// Also called when the end came from below itself, which should not mind.
    fn abort(&self, reason: AbortReason);
}

/// What became of an offer.
#[derive(Clone, Debug)]
#[must_use]
pub enum Accepted {
    /// So many bytes from the front, at least one, are accepted: they are no longer held. The rest is offered again.
    Took(usize),
    /// Nothing now. Offered again after the next poke or resume.
    Wait,
    /// Nothing any more: the stage dies of this.
    Fail(StopReason),
}

/// Whether the end that was passed on is also done.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
#[must_use]
pub enum Finished {
    /// Nothing more can go wrong as far as this stage knows.
    Done,
    /// [`StageHandle::complete`] or [`StageHandle::close`] will say how it went.
    Later,
}

/// What a pause from the consumer below does.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum BelowPause {
    /// The stage only stops handing on. Its own producer goes on until the stage is full.
    Buffer,
    /// Passed on at once: the stage's producer is paused too, by [`HoldReason::Below`].
    Relay,
}

/// The write end of a stage: a consumer that can be finished. Not `Clone`; dropping it without `finish` aborts.
pub struct Stage<B: Below> {
    core: Arc<Core<B>>,
}

/// A small handle to a stage, for the one below and for timers. Does not own the stage and keeps nothing alive; on a
/// stage that is gone every call does nothing.
///
/// It is also the push producer that a stage registers with the consumer below.
#[derive(Clone)]
pub struct StageHandle {
    core: Weak<dyn Operations>,
}

impl<B: Below> Stage<B> {
    /// A stage in front of what `below` makes. The handle it is given is not usable before this returns.
    pub fn new(marks: Marks, on_pause: BelowPause, below: impl FnOnce(StageHandle) -> B) -> Self {
        let verdict = Verdict::new();
        let outcome = verdict.outcome();
        let core = Arc::new_cyclic(|weak: &Weak<Core<B>>| {
            let weak: Weak<dyn Operations> = weak.clone();
            let line = Line {
                verdict,
                ..Line::new()
            };
            Core {
                below: below(StageHandle { core: weak }),
                signals: Signals::new(marks, line),
                on_pause,
                outcome,
            }
        });
        Self { core }
    }

    /// What it hands on to.
    pub fn below(&self) -> &B {
        &self.core.below
    }

    /// A handle that does not keep the stage alive.
    pub fn handle(&self) -> StageHandle {
        let core: Weak<Core<B>> = Arc::downgrade(&self.core);
        StageHandle { core }
    }

    /// A handle to write and register through that does not own the write end.
    pub fn consumer(&self) -> Arc<dyn Consumer> {
        Arc::clone(&self.core) as Arc<dyn Consumer>
    }

    /// How the stream ends, as far as this stage knows: that all was accepted below, or why not.
    pub fn outcome(&self) -> Outcome {
        self.core.outcome.clone()
    }

    /// One more reason for the producer not to run, until the guard is dropped. Does not keep held bytes back.
    pub fn hold(&self, reason: HoldReason) -> Hold {
        Hold::new(Arc::clone(&self.core) as Arc<dyn Holding>, reason)
    }

    /// Bytes accepted and not yet taken from below.
    pub fn held(&self) -> usize {
        self.core.signals.look(|inner| inner.gate.held())
    }

    /// Takes note that there is nothing below after all: no end is passed on.
    pub(crate) fn disconnect(&self) {
        self.core.signals.look(|inner| inner.shell.ended = true);
    }
}

impl<B: Below> Consumer for Stage<B> {
    fn register_producer(&self, producer: Producer) -> Result<(), AlreadyRegistered> {
        self.core.register_producer(producer)
    }

    fn unregister_producer(&self) {
        self.core.unregister_producer();
    }

    fn write(&self, data: Bytes) -> Result<Pressure, WriteError> {
        self.core.write(data)
    }

    fn write_list(&self, data: Vec<Bytes>) -> Result<Pressure, WriteError<Vec<Bytes>>> {
        self.core.write_list(data)
    }
}

impl<B: Below> FinishableConsumer for Stage<B> {
    fn finish(&self) {
        self.core.change(|gate, _| gate.finish());
    }

    fn abort(&self, reason: AbortReason) {
        self.core.abort(reason);
    }
}

impl<B: Below> Drop for Stage<B> {
    fn drop(&mut self) {
        let finished = self.core.signals.look(|inner| inner.gate.is_finished());
        if !finished {
            self.core.abort(AbortReason::Dropped);
        }
    }
}

impl StageHandle {
    /// Something changed below: offer again what is held.
    pub fn poke(&self) {
        self.with(|core| core.poke());
    }

    /// The consumer below, or the far side, is gone: the stage dies, its producer is stopped with this reason.
    pub fn close(&self, reason: StopReason) {
        self.with(|core| core.close(reason));
    }

    /// Cuts the stream short from the writing side.
    pub fn abort(&self, reason: AbortReason) {
        self.with(|core| core.abort(reason));
    }

    /// The end that [`Finished::Later`] announced is done.
    pub fn complete(&self) {
        self.with(|core| core.complete());
    }

    /// One more reason for the producer not to run. `None` when the stage is gone.
    pub fn hold(&self, reason: HoldReason) -> Option<Hold> {
        Some(self.core.upgrade()?.hold_one(reason))
    }

    fn with(&self, call: impl FnOnce(&dyn Operations)) {
        if let Some(core) = self.core.upgrade() {
            call(&*core);
        }
    }
}

/// The signals of the consumer below.
impl PushProducer for StageHandle {
    fn pause_producing(&self) {
        self.with(|core| core.paused_below());
    }

    fn resume_producing(&self) {
        self.with(|core| core.resumed_below());
    }

    fn stop_producing(&self, reason: StopReason) {
        self.close(reason);
    }
}

struct Core<B> {
    below: B,
    signals: Signals<Line>,
    on_pause: BelowPause,
    outcome: Outcome,
}

/// What is kept under the lock: bytes not yet handed on, and who is at it.
struct Line {
    pieces: VecDeque<Bytes>,
    /// An empty queue that keeps its memory from one drainer to the next.
    spare: VecDeque<Bytes>,
    /// A thread is handing on, or about to.
    draining: bool,
    /// `Below` said to wait and nobody poked since.
    waits: bool,
    /// The consumer below paused us.
    paused: bool,
    /// A poke came; if it came while `Below` was being asked, its answer is out of date.
    poked: bool,
    /// The end was handed on.
    ended: bool,
    /// The gate's death was seen.
    dead: bool,
    verdict: Verdict,
    accepted: u64,
}

/// What the drainer does next, without the lock.
enum Step {
    Offer,
    Finish,
    Abort(AbortReason),
    Leave,
}

/// A stage without its type.
trait Operations: Send + Sync {
    fn poke(&self);
    fn close(&self, reason: StopReason);
    fn abort(&self, reason: AbortReason);
    fn complete(&self);
    fn paused_below(&self);
    fn resumed_below(&self);
    fn hold_one(self: Arc<Self>, reason: HoldReason) -> Hold;
}

impl Line {
    fn new() -> Self {
        Self {
            pieces: VecDeque::new(),
            spare: VecDeque::new(),
            draining: false,
            waits: false,
            paused: false,
            poked: false,
            ended: false,
            dead: false,
            verdict: Verdict::new(),
            accepted: 0,
        }
    }

    /// What the drainer is to do. `batch` is what it took out before and has not handed on.
    fn step(&mut self, gate: &mut Gate, batch: &mut VecDeque<Bytes>) -> Step {
        if self.ended {
            return Step::Leave;
        }
        if let Some(reason) = gate.death() {
            self.ended = true;
            return Step::Abort(match reason.clone() {
                StopReason::Aborted(reason) => reason,
                other => AbortReason::Stopped(Arc::new(other)),
            });
        }
        if gate.closing() {
            self.ended = true;
            gate.close();
            return Step::Finish;
        }
        if batch.is_empty() {
            if batch.capacity() == 0 {
                std::mem::swap(batch, &mut self.spare);
            }
            std::mem::swap(batch, &mut self.pieces);
        }
        if batch.is_empty() || self.waits || self.paused {
            return Step::Leave;
        }
        self.poked = false;
        Step::Offer
    }

    /// Whether a drainer would find anything to do.
    fn has_step(&self, gate: &Gate) -> bool {
        let can_offer = !self.pieces.is_empty() && !self.waits && !self.paused;
        !self.ended && (can_offer || gate.closing() || gate.death().is_some())
    }

    /// `Below` said to wait; if a poke came meanwhile that is out of date.
    fn wait(&mut self) {
        self.waits = !self.poked || mutants::is(Mutant::PokeIsForgotten);
    }

    /// Puts back, in front, what was taken out and not handed on.
    fn put_back(&mut self, batch: &mut VecDeque<Bytes>) {
        if self.pieces.is_empty() {
            std::mem::swap(batch, &mut self.pieces);
        }
        while let Some(piece) = batch.pop_back() {
            self.pieces.push_front(piece);
        }
        std::mem::swap(batch, &mut self.spare);
    }

    fn push(&mut self, piece: Bytes, later: &mut Later) {
        if piece.is_empty() {
            later.discard([piece]);
        } else {
            self.pieces.push_back(piece);
        }
    }
}

impl Shell for Line {
    fn settle(&mut self, gate: &mut Gate, later: &mut Later) {
        if let Some(reason) = gate.death()
            && !self.dead
        {
            self.dead = true;
            later.discard(self.pieces.drain(..));
            later.wake_all(self.verdict.decide(Err(reason.clone())));
        }
    }
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
        loop {
            let step = self.signals.look(|inner| {
                let step = inner.shell.step(&mut inner.gate, &mut batch);
                if let Step::Leave = step {
                    inner.shell.draining = false;
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
    }

    fn offer(&self, batch: &mut VecDeque<Bytes>, panicked: &mut Panicked) {
        let held = batch.make_contiguous();
        let offered: usize = held.iter().map(Bytes::len).sum();
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
        let (_, more) = self.signals.change_catching(|inner, later| {
            if let Ended::Before = inner.gate.closed(reason.clone()) {
                later.wake_all(inner.shell.verdict.decide(Err(reason)));
            }
        });
        panicked.merge(more);
        panicked.catch(|| drop(kept));
    }

    fn decide_delivered(&self, panicked: &mut Panicked) {
        let ((), more) = self.signals.change_catching(|inner, later| {
            let bytes = inner.shell.accepted;
            later.wake_all(inner.shell.verdict.decide(Ok(Delivered { bytes })));
        });
        panicked.merge(more);
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

    fn abort(&self, reason: AbortReason) {
        // Our own copy keeps the reason's cause alive, so that it is not dropped under the lock.
        let kept = reason.clone();
        let _ = self.change(|gate, _| gate.abort(reason));
        drop(kept);
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

impl<B: Below> fmt::Debug for Stage<B> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Stage")
            .field("held", &self.held())
            .finish_non_exhaustive()
    }
}

impl fmt::Debug for StageHandle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("StageHandle")
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

/// The plainest [`Below`]: hands on to a consumer, unchanged.
pub struct Over {
    consumer: Arc<dyn FinishableConsumer>,
}

impl Over {
    /// In front of `consumer`. To be registered with it: see [`Stage::over`].
    pub fn new(consumer: Arc<dyn FinishableConsumer>) -> Self {
        Self { consumer }
    }
}

impl Stage<Over> {
    /// A stage in front of `consumer`, registered with it as its push producer.
    ///
    /// # Errors
    /// [`AlreadyRegistered`] when `consumer` has a producer; nothing is ended then.
    pub fn over(
        consumer: Arc<dyn FinishableConsumer>,
        marks: Marks,
        on_pause: BelowPause,
    ) -> Result<Self, AlreadyRegistered> {
        let registers_with = Arc::clone(&consumer);
        let stage = Self::new(marks, on_pause, |_| Over::new(consumer));
        // Only now the handle works: a consumer that is full or dead says so from inside this call.
        if let Err(error) = registers_with.register_producer(Producer::push(Arc::new(stage.handle()))) {
            stage.disconnect();
            return Err(error);
        }
        Ok(stage)
    }
}

impl Below for Over {
    fn accept(&self, held: &[Bytes]) -> Accepted {
        if held.len() > 1 {
            let bytes = held.iter().map(Bytes::len).sum();
            match self.consumer.write_list(held.to_vec()) {
                Ok(_) => return Accepted::Took(bytes),
                // Too much at once; perhaps the first piece alone is not.
                Err(error) if matches!(error.refusal, Refusal::OverMax { .. }) => {}
                Err(error) => return Accepted::Fail(error.refusal.into_stop()),
            }
        }
        match self.consumer.write(held[0].clone()) {
            Ok(_) => Accepted::Took(held[0].len()),
            Err(error) if matches!(error.refusal, Refusal::OverMax { .. }) => Accepted::Wait,
            Err(error) => Accepted::Fail(error.refusal.into_stop()),
        }
    }

    fn finish(&self) -> Finished {
        self.consumer.unregister_producer();
        self.consumer.finish();
        Finished::Done
    }

    fn abort(&self, reason: AbortReason) {
        self.consumer.unregister_producer();
        self.consumer.abort(reason);
    }
}
