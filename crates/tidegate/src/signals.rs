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
//! A producer that writes inside its handler mostly makes the next resume due by that. Such a resume is *decided ahead*:
//! the write leaves it in [`Signals::ahead`], and the thread takes it when the handler has returned, without another
//! turn of the lock. It is a decision that can still be revoked: whoever changes the gate meanwhile so that no resume is
//! wanted takes it back, and whichever of the two swaps first has it.
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

use crate::gate::{Ended, Gate, Kind, Registered, Signal, Wants};
use crate::mutants::{self, Mutant};
use crate::sync::{AtomicBool, Mutex, MutexGuard, Ordering, ThreadId, here, lock};
use crate::{AbortReason, AlreadyRegistered, Marks, Producer};

/// What a shell keeps beside the gate, under the same lock.
pub(crate) trait Shell: Send {
    /// Looks at the gate after a change, and puts what has to be told or dropped into `later`. Calls nobody.
    fn settle(&mut self, gate: &mut Gate, later: &mut Later);
}

/// Foreign things to wake and to drop once the lock is free. Mostly there is none, or one waker.
#[derive(Default)]
pub(crate) struct Later {
    waker: Option<Waker>,
    more: Option<Box<More>>,
}

#[derive(Default)]
struct More {
    wakers: Vec<Waker>,
    bytes: Vec<Bytes>,
}

impl Later {
    pub(crate) fn wake(&mut self, waker: Option<Waker>) {
        if let Some(waker) = waker {
            if self.waker.is_none() {
                self.waker = Some(waker);
            } else {
                self.more().wakers.push(waker);
            }
        }
    }

    pub(crate) fn wake_all(&mut self, wakers: Vec<Waker>) {
        if !wakers.is_empty() {
            self.more().wakers.extend(wakers);
        }
    }

    pub(crate) fn discard(&mut self, bytes: impl IntoIterator<Item = Bytes>) {
        self.more().bytes.extend(bytes);
    }

    fn more(&mut self) -> &mut More {
        self.more.get_or_insert_default()
    }

    #[inline]
    pub(crate) fn is_empty(&self) -> bool {
        self.waker.is_none() && self.more.is_none()
    }

    #[inline]
    pub(crate) fn run(self, panicked: &mut Panicked) {
        if !self.is_empty() {
            self.run_all(panicked);
        }
    }

    fn run_all(self, panicked: &mut Panicked) {
        if let Some(waker) = self.waker {
            panicked.catch(|| waker.wake());
        }
        let Some(more) = self.more else { return };
        for waker in more.wakers {
            panicked.catch(|| waker.wake());
        }
        for bytes in more.bytes {
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
    /// A resume was decided for the thread that is inside a signal of this registration: see [`Inner::decide_ahead`].
    ahead: AtomicBool,
}

/// What a change leaves to be done, with the lock that it is still under.
type Left<'a, S> = (MutexGuard<'a, Inner<S>>, Later);

/// What is under the lock.
pub(crate) struct Inner<S> {
    pub(crate) gate: Gate,
    pub(crate) shell: S,
    slot: Option<Slot>,
    registrations: u64,
    /// One entry for each signal of this gate that is being delivered, whichever registration it is for.
    under_way: Vec<UnderWay>,
    /// [`Signals::ahead`] was set, and it was not seen since that the resume was taken.
    is_ahead: bool,
}

struct Slot {
    id: u64,
    producer: Producer,
    /// A second handle, out while a signal is being delivered: cheaper than counting one more for each.
    spare: Option<Producer>,
}

#[derive(Clone, Copy, Eq, PartialEq)]
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
                is_ahead: false,
            }),
            ahead: AtomicBool::new(false),
        }
    }

    /// Changes the state under the lock, then wakes, drops and delivers without it. What `change` returns is dropped
    /// by the caller, so without the lock too.
    #[inline]
    pub(crate) fn change<R>(&self, change: impl FnOnce(&mut Inner<S>, &mut Later) -> R) -> R {
        let (result, left) = self.make_change(change);
        if let Some((inner, later)) = left {
            self.follow_up(inner, later).rethrow();
        }
        result
    }

    /// As [`change`](Self::change), but hands a panic to a caller who has business to end first.
    pub(crate) fn change_catching<R>(
        &self,
        change: impl FnOnce(&mut Inner<S>, &mut Later) -> R,
    ) -> (R, Panicked) {
        let (result, left) = self.make_change(change);
        let panicked = left.map_or_else(Panicked::default, |(inner, later)| self.follow_up(inner, later));
        (result, panicked)
    }

    /// The part under the lock, which stays locked if there is anything to do after it: mostly there is not, and then
    /// nothing is moved about.
    #[inline]
    fn make_change<R>(
        &self,
        change: impl FnOnce(&mut Inner<S>, &mut Later) -> R,
    ) -> (R, Option<Left<'_, S>>) {
        let mut later = Later::default();
        let mut inner = self.locked();
        let result = change(&mut inner, &mut later);
        inner.settle(&mut later);
        let quiet = match inner.gate.wants() {
            None => !inner.is_ahead,
            Some(Wants::Resume) => inner.decide_ahead(&self.ahead),
            Some(Wants::Pause | Wants::Stop) => false,
        };
        (
            result,
            if quiet && later.is_empty() {
                None
            } else {
                Some((inner, later))
            },
        )
    }

    fn follow_up(&self, mut inner: MutexGuard<'_, Inner<S>>, later: Later) -> Panicked {
        inner.revoke(&self.ahead);
        let due = inner.take_due();
        drop(inner);
        let mut panicked = Panicked::default();
        later.run(&mut panicked);
        self.deliver(due, &mut panicked);
        panicked
    }

    /// Looks and changes without delivering anything. Only for changes after which nothing can be due.
    #[inline]
    pub(crate) fn look<R>(&self, look: impl FnOnce(&mut Inner<S>) -> R) -> R {
        let mut inner = self.locked();
        let result = look(&mut inner);
        inner.revoke(&self.ahead);
        result
    }

    #[inline]
    fn locked(&self) -> MutexGuard<'_, Inner<S>> {
        let mut inner = lock(&self.inner);
        if inner.is_ahead {
            inner.see_taken(&self.ahead);
        }
        inner
    }

    /// Law 6, and law 4's first pull.
    pub(crate) fn register(&self, producer: Producer) -> (Result<(), AlreadyRegistered>, Panicked) {
        let kind = match &producer {
            Producer::Push(_) => Kind::Push,
            Producer::Pull(_) => Kind::Pull,
        };
        let blind = mutants::is(Mutant::RegisterBlindly) && self.look(|inner| inner.gate.death().is_none());
        let ((refused, registered), mut panicked) = self.change_catching(|inner, _| {
            let registered = inner.gate.register(kind);
            let refused = match registered {
                Registered::Yes => {
                    inner.registrations += 1;
                    let id = inner.registrations;
                    inner.slot = Some(Slot::new(id, producer));
                    None
                }
                Registered::Already | Registered::Over(_) => Some(producer),
            };
            (refused, registered)
        });
        match (refused, registered) {
            (Some(_), Registered::Over(_)) if blind => (Ok(()), panicked),
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

    /// Makes one call, and on while a resume was decided meanwhile; then decides the next.
    fn make(&self, call: Call, panicked: &mut Panicked) -> Option<Call> {
        let Call { id, signal, producer } = call;
        let mut message = panicked.catch(|| producer.tell(signal));
        while message.is_none() && self.take_ahead() {
            message = panicked.catch(|| producer.tell(Signal::Resume));
        }
        let mut later = Later::default();
        let mut inner = self.locked();
        inner.leave(id);
        let slot = message.and_then(|message| inner.end_panicked(id, message, &mut later));
        let producer = inner.give_back(id, producer);
        inner.revoke(&self.ahead);
        let blind = mutants::is(Mutant::NoSecondLook);
        let next = if blind { None } else { inner.take_due() };
        drop(inner);
        later.run(panicked);
        if slot.is_some() || producer.is_some() {
            // Either may be the last handle, and dropping one is foreign code.
            panicked.catch(|| drop((slot, producer)));
        }
        next
    }

    /// Whether another resume was decided while this thread was inside its last call. Without the lock: nobody else may
    /// take it, and who no longer wants it takes it back in the same way.
    #[inline]
    fn take_ahead(&self) -> bool {
        if mutants::is(Mutant::TakeInTwoSteps) {
            let decided = self.ahead.load(Ordering::Acquire);
            self.ahead.store(false, Ordering::Release);
            return decided;
        }
        self.ahead.load(Ordering::Relaxed) && self.ahead.swap(false, Ordering::AcqRel)
    }
}

impl Slot {
    fn new(id: u64, producer: Producer) -> Self {
        let spare = Some(producer.clone());
        Self { id, producer, spare }
    }

    fn lend(&mut self) -> Producer {
        self.spare.take().unwrap_or_else(|| self.producer.clone())
    }
}

impl<S: Shell> Inner<S> {
    #[inline]
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
            Signal::Pause | Signal::Resume => self.slot.as_mut()?.lend(),
        };
        self.enter(id);
        Some(Call { id, signal, producer })
    }

    /// A resume is due to the producer whose handler this thread is inside. It is made when the handler has returned;
    /// writing that down here saves the thread from taking the lock for it. Says whether it is written down.
    ///
    /// Until it is taken, the gate does not know of it, and every change looks whether it is still wanted.
    #[inline]
    fn decide_ahead(&mut self, ahead: &AtomicBool) -> bool {
        if self.is_ahead {
            return true;
        }
        let [only] = self.under_way[..] else { return false };
        let own = self.slot.as_ref().is_some_and(|slot| slot.id == only.id);
        if !own || only.thread != here() {
            return false;
        }
        self.is_ahead = true;
        ahead.store(true, Ordering::Release);
        true
    }

    /// Tells the gate if the resume that was decided ahead has been taken.
    fn see_taken(&mut self, ahead: &AtomicBool) {
        if !ahead.load(Ordering::Acquire) {
            self.is_ahead = false;
            self.gate.told(&Signal::Resume);
        }
    }

    /// Takes a resume back that was decided ahead and is not wanted any more, unless it was taken just now.
    #[inline]
    fn revoke(&mut self, ahead: &AtomicBool) {
        let revoked = self.is_ahead && self.gate.wants() != Some(Wants::Resume);
        if revoked && !mutants::is(Mutant::NothingIsRevoked) {
            self.is_ahead = false;
            if !ahead.swap(false, Ordering::AcqRel) {
                self.gate.told(&Signal::Resume);
            }
        }
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
        let left = UnderWay { id, thread: here() };
        let last = self.under_way.iter().rposition(|one| *one == left);
        debug_assert!(last.is_some(), "a signal ends on the thread it began on");
        if let Some(last) = last {
            self.under_way.swap_remove(last);
        }
    }

    /// Takes a lent handle of the current registration back; any other is to be dropped without the lock.
    fn give_back(&mut self, id: u64, producer: Producer) -> Option<Producer> {
        match &mut self.slot {
            Some(slot) if slot.id == id && slot.spare.is_none() => {
                slot.spare = Some(producer);
                None
            }
            _ => Some(producer),
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
