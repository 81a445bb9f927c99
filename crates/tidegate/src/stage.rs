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

mod drain;
mod line;
mod over;

use std::fmt;
use std::sync::{Arc, Weak};

use bytes::Bytes;

use crate::forward::forward;
use crate::gate::HoldReason;
use crate::hold::{Hold, Holding};
use crate::outcome::{Outcome, Verdict};
use crate::signals::Signals;
use crate::{
    AbortReason, AlreadyRegistered, Consumer, FinishableConsumer, Marks, Producer, PushProducer, StopReason,
};

use self::drain::{Core, Operations};
use self::line::Line;
pub use self::over::Over;
pub(crate) use self::over::{cut, total};

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

/// The write end of a stage: a consumer that can be finished. Not `Clone`; dropping it without `finish` aborts, after
/// `finish` what is held still goes out.
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
            Core {
                below: below(StageHandle { core: weak }),
                signals: Signals::new(marks, Line::new(verdict)),
                on_pause,
                outcome,
            }
        });
        Self { core }
    }

    /// A stage in front of `consumer`, registered with it as its push producer, for a [`Below`] that hands on to it.
    ///
    /// # Errors
    /// [`AlreadyRegistered`] when `consumer` has a producer; nothing is ended then.
    pub fn before(
        consumer: &Arc<dyn FinishableConsumer>,
        marks: Marks,
        on_pause: BelowPause,
        below: impl FnOnce(StageHandle) -> B,
    ) -> Result<Self, AlreadyRegistered> {
        let stage = Self::new(marks, on_pause, below);
        let producer = Producer::push(Arc::new(stage.handle()));
        stage.joined(&**consumer, producer)
    }

    /// Registers `producer`, which signals this stage, with the consumer below. Only now, for a consumer that is full or
    /// dead says so from inside this call, and the handle works once the stage is made.
    pub(crate) fn joined(
        self,
        consumer: &dyn Consumer,
        producer: Producer,
    ) -> Result<Self, AlreadyRegistered> {
        match consumer.register_producer(producer) {
            Ok(()) => Ok(self),
            Err(refused) => {
                self.disconnect();
                Err(refused)
            }
        }
    }

    /// Takes note that there is nothing below after all: no end is passed on.
    pub(crate) fn disconnect(&self) {
        self.core.signals.look(|inner| inner.shell.ended = true);
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
}

impl<B: Below> Consumer for Stage<B> {
    forward!(core: register_producer unregister_producer write write_list);
}

impl<B: Below> FinishableConsumer for Stage<B> {
    forward!(core: finish abort);
}

impl<B: Below> Drop for Stage<B> {
    fn drop(&mut self) {
        let finished = self.core.signals.look(|inner| {
            let finished = inner.gate.is_finished();
            if finished && !inner.shell.over {
                inner.shell.kept = Some(Arc::clone(&self.core) as Arc<dyn Operations>);
            }
            finished
        });
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
        self.with(|core| core.cut(reason));
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
