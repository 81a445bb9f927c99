//! Delivers what is due: the only file that calls a producer's handlers.
//!
//! Knows no queue, no device and no order of business: a shell puts its own state beside the gate, under the one lock
//! kept here, and changes both with [`Signals::change`].
//!
//! # How a signal is delivered
//!
//! A change is made under the lock. Then, in a loop: take what is due, mark the registration busy with this thread,
//! unlock, call, lock again. The loop leaves when nothing is due; when another thread has this registration busy, for
//! that thread looks again when its call returns; and when a resume is due but this thread is inside any signal of
//! this gate, for the signal further down the stack looks again when it returns. Pause and stop may nest, resume never
//! does, so the stack stays flat however many chunks a pull producer hands over.
//!
//! # What never runs under the lock
//!
//! Producers, wakers, and the drop of either or of `Bytes`: whatever is foreign is put into [`Later`] or goes out in
//! the return value of the change.
//!
//! # Panics
//!
//! A handler that panics loses its registration, the stream is aborted with the panic's message, what else is due is
//! delivered, and then the panic goes on (the first, if there are several). Wakers that panic are treated alike, but
//! end no registration.

use std::any::Any;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::Arc;
use std::task::Waker;

use bytes::Bytes;

use crate::gate::{Ended, Gate, Kind, Registered, Signal};
use crate::mutants::{self, Mutant};
use crate::sync::{Mutex, ThreadId, here, lock};
use crate::{AbortReason, AlreadyRegistered, Marks, Producer};

/// What a shell keeps beside the gate, under the same lock.
pub(crate) trait Shell: Send {
    /// Looks at the gate after a change, and puts what has to be told or dropped into `later`. Calls nobody.
    fn settle(&mut self, gate: &mut Gate, later: &mut Later);
}

/// Foreign things to wake and to drop once the lock is free.
#[derive(Default)]
pub(crate) struct Later {
    waker: Option<Waker>,
    more: Vec<Waker>,
    bytes: Vec<Bytes>,
}

impl Later {
    pub(crate) fn wake(&mut self, waker: Option<Waker>) {
        if let Some(waker) = waker {
            if self.waker.is_none() {
                self.waker = Some(waker);
            } else {
                self.more.push(waker);
            }
        }
    }

    pub(crate) fn wake_all(&mut self, wakers: Vec<Waker>) {
        if self.more.is_empty() {
            self.more = wakers;
        } else {
            self.more.extend(wakers);
        }
    }

    pub(crate) fn discard(&mut self, bytes: impl IntoIterator<Item = Bytes>) {
        self.bytes.extend(bytes);
    }

    pub(crate) fn run(self, panicked: &mut Panicked) {
        if let Some(waker) = self.waker {
            panicked.catch(|| waker.wake());
        }
        for waker in self.more {
            panicked.catch(|| waker.wake());
        }
        for bytes in self.bytes {
            panicked.catch(|| drop(bytes));
        }
    }
}

/// A panic that was caught so that our own business could be brought to an end first.
#[derive(Default)]
#[must_use = "a panic must go on"]
pub(crate) struct Panicked(Option<Box<dyn Any + Send>>);

impl Panicked {
    /// Runs `call`; keeps the first panic only. Says whether this call panicked, and with what message.
    pub(crate) fn catch(&mut self, call: impl FnOnce()) -> Option<Arc<str>> {
        let payload = catch_unwind(AssertUnwindSafe(call)).err()?;
        let message = message_of(&*payload);
        self.keep(payload);
        Some(message)
    }

    /// Takes over the panic of another, unless there is one here.
    pub(crate) fn merge(&mut self, other: Self) {
        if let Some(payload) = other.0 {
            self.keep(payload);
        }
    }

    /// Goes on panicking, if there was one.
    pub(crate) fn rethrow(self) {
        if let Some(payload) = self.0 {
            resume_unwind(payload);
        }
    }

    fn keep(&mut self, payload: Box<dyn Any + Send>) {
        match self.0 {
            None => self.0 = Some(payload),
            // A second payload is foreign too, and its drop might panic a third time: let it be.
            Some(_) => std::mem::forget(payload),
        }
    }
}

fn message_of(payload: &(dyn Any + Send)) -> Arc<str> {
    if let Some(text) = payload.downcast_ref::<&str>() {
        Arc::from(*text)
    } else if let Some(text) = payload.downcast_ref::<String>() {
        Arc::from(text.as_str())
    } else {
        Arc::from("a panic without a message")
    }
}

/// A gate, its shell's state and the producer that is registered, under one lock.
pub(crate) struct Signals<S> {
    inner: Mutex<Inner<S>>,
}

/// What is under the lock.
pub(crate) struct Inner<S> {
    pub(crate) gate: Gate,
    pub(crate) shell: S,
    slot: Option<Slot>,
    registrations: u64,
    /// One entry for each signal of this gate that is being delivered, whichever registration it is for.
    under_way: Vec<UnderWay>,
}

struct Slot {
    id: u64,
    producer: Producer,
}

#[derive(Clone, Copy)]
struct UnderWay {
    id: u64,
    thread: ThreadId,
}

/// A delivery that was decided: the call is made without the lock.
struct Call {
    id: u64,
    signal: Signal,
    producer: Producer,
}

impl<S: Shell> Signals<S> {
    pub(crate) fn new(marks: Marks, shell: S) -> Self {
        Self {
            inner: Mutex::new(Inner {
                gate: Gate::new(marks),
                shell,
                slot: None,
                registrations: 0,
                under_way: Vec::new(),
            }),
        }
    }

    /// Changes the state under the lock, then wakes, drops and delivers without it. What `change` returns is dropped
    /// by the caller, so without the lock too.
    pub(crate) fn change<R>(&self, change: impl FnOnce(&mut Inner<S>, &mut Later) -> R) -> R {
        let (result, panicked) = self.change_catching(change);
        panicked.rethrow();
        result
    }

    /// As [`change`](Self::change), but hands a panic to a caller who has business to end first.
    pub(crate) fn change_catching<R>(
        &self,
        change: impl FnOnce(&mut Inner<S>, &mut Later) -> R,
    ) -> (R, Panicked) {
        let mut later = Later::default();
        let mut panicked = Panicked::default();
        let (result, due) = {
            let mut inner = lock(&self.inner);
            let result = change(&mut inner, &mut later);
            inner.settle(&mut later);
            (result, inner.take_due())
        };
        later.run(&mut panicked);
        self.deliver(due, &mut panicked);
        (result, panicked)
    }

    /// Looks and changes without delivering anything. Only for changes after which nothing can be due.
    pub(crate) fn look<R>(&self, look: impl FnOnce(&mut Inner<S>) -> R) -> R {
        look(&mut lock(&self.inner))
    }

    /// Law 6, and law 4's first pull.
    pub(crate) fn register(&self, producer: Producer) -> (Result<(), AlreadyRegistered>, Panicked) {
        let kind = match &producer {
            Producer::Push(_) => Kind::Push,
            Producer::Pull(_) => Kind::Pull,
        };
        let ((refused, registered), mut panicked) = self.change_catching(|inner, _| {
            let registered = inner.gate.register(kind);
            let refused = match registered {
                Registered::Yes => {
                    inner.registrations += 1;
                    let id = inner.registrations;
                    inner.slot = Some(Slot { id, producer });
                    None
                }
                Registered::Already | Registered::Over(_) => Some(producer),
            };
            (refused, registered)
        });
        match (refused, registered) {
            (Some(producer), Registered::Over(reason)) => {
                self.stop_at_once(producer, Signal::Stop(reason), &mut panicked);
                (Ok(()), panicked)
            }
            (Some(producer), _) => (Err(AlreadyRegistered(producer)), panicked),
            (None, _) => (Ok(()), panicked),
        }
    }

    pub(crate) fn unregister(&self) -> Panicked {
        let (slot, mut panicked) = self.change_catching(|inner, _| {
            inner.gate.unregister();
            inner.slot.take()
        });
        panicked.catch(|| drop(slot));
        panicked
    }

    fn stop_at_once(&self, producer: Producer, signal: Signal, panicked: &mut Panicked) {
        let call = self.look(|inner| {
            inner.registrations += 1;
            let id = inner.registrations;
            inner.enter(id);
            Call { id, signal, producer }
        });
        self.deliver(Some(call), panicked);
    }

    fn deliver(&self, first: Option<Call>, panicked: &mut Panicked) {
        let mut next = first;
        while let Some(call) = next {
            next = self.make(call, panicked);
        }
    }

    /// Makes one call and decides the next.
    fn make(&self, call: Call, panicked: &mut Panicked) -> Option<Call> {
        let Call { id, signal, producer } = call;
        let message = panicked.catch(|| match (&producer, signal) {
            (Producer::Push(push), Signal::Pause) => push.pause_producing(),
            (Producer::Push(push), Signal::Resume) => push.resume_producing(),
            (Producer::Pull(pull), Signal::Resume) => pull.resume_producing(),
            (_, Signal::Stop(reason)) => producer.stop(reason),
            (Producer::Pull(_), Signal::Pause) => unreachable!("the gate never pauses a pull producer"),
        });
        let mut later = Later::default();
        let (slot, next) = {
            let mut inner = lock(&self.inner);
            inner.leave(id);
            let slot = message.and_then(|message| inner.end_panicked(id, message, &mut later));
            let blind = mutants::is(Mutant::NoSecondLook);
            (slot, if blind { None } else { inner.take_due() })
        };
        later.run(panicked);
        // Both may be the last handle, and dropping one is foreign code.
        panicked.catch(|| drop((slot, producer)));
        next
    }
}

impl<S: Shell> Inner<S> {
    fn settle(&mut self, later: &mut Later) {
        self.shell.settle(&mut self.gate, later);
    }

    /// Decides the next call of this thread and marks it as under way.
    fn take_due(&mut self) -> Option<Call> {
        let id = self.slot.as_ref()?.id;
        let signal = self.gate.due()?;
        if !self.may_call(id, &signal) {
            return None;
        }
        self.gate.told(&signal);
        let producer = match &signal {
            // The last signal: let go of the producer.
            Signal::Stop(_) => self.slot.take()?.producer,
            Signal::Pause | Signal::Resume => self.slot.as_ref()?.producer.clone(),
        };
        self.enter(id);
        Some(Call { id, signal, producer })
    }

    fn may_call(&self, id: u64, signal: &Signal) -> bool {
        if self.under_way.is_empty() {
            return true;
        }
        let here = here();
        let resumes = matches!(signal, Signal::Resume);
        self.under_way.iter().all(|one| {
            let elsewhere = one.thread != here;
            if elsewhere {
                one.id != id || mutants::is(Mutant::IgnoreBusy)
            } else {
                !resumes
            }
        })
    }

    fn enter(&mut self, id: u64) {
        let thread = here();
        self.under_way.push(UnderWay { id, thread });
    }

    fn leave(&mut self, id: u64) {
        let here = here();
        let last = self
            .under_way
            .iter()
            .rposition(|one| one.id == id && one.thread == here);
        debug_assert!(last.is_some(), "a signal ends on the thread it began on");
        if let Some(last) = last {
            self.under_way.swap_remove(last);
        }
    }

    /// Law 14. Gives back the producer that panicked, if it was still registered, to be dropped without the lock.
    fn end_panicked(&mut self, id: u64, message: Arc<str>, later: &mut Later) -> Option<Slot> {
        let current = self.slot.as_ref().is_some_and(|slot| slot.id == id);
        let slot = if current {
            self.gate.unregister();
            self.slot.take()
        } else {
            None
        };
        if let Ended::Now = self.gate.abort(AbortReason::Panicked(message)) {
            self.settle(later);
        }
        slot
    }
}
