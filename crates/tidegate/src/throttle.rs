//! One rate for a group of streams: when together they have moved more than it allows, all of them are held until time
//! has paid it off.
//!
//! Knows no clock and delays no byte that was written: it counts what passed, and its only means is a hold on the gate
//! of each member. (Twisted: `policies.ThrottlingFactory`, which paused producers directly and in each other's way.)

use std::any::Any;
use std::collections::BTreeMap;
use std::error::Error;
use std::fmt;
use std::num::NonZeroUsize;
use std::sync::{Arc, Weak};
use std::task::Waker;
use std::time::Duration;

use bytes::Bytes;

use crate::forward::{debug_held, forward};
use crate::shape::Timer;
use crate::sync::{Mutex, lock};
use crate::{
    AbortReason, Accepted, AlreadyRegistered, Below, BelowPause, Consumer, FinishableConsumer, Finished,
    HoldReason, Marks, Over, Producer, Rate, Stage, TokenBucket,
};

/// A group of streams that share a rate and, if wanted, a number of seats. Clones are the same group.
///
/// ```
/// # use std::{num::NonZeroU64, sync::Arc, task::Waker, time::Duration};
/// use bytes::Bytes;
/// use tidegate::{Consumer as _, Marks, Pressure, Rate, Throttle, Throttled, channel};
/// # let bytes = |n| NonZeroU64::new(n).unwrap();
/// let rate = Rate::per_second(bytes(10)).with_burst(bytes(10));
/// let group = Throttle::new(rate, None, Duration::ZERO);
/// let (sender, receiver) = channel(Marks::default());
/// let stream = Throttled::new(Arc::new(sender), Marks::default(), &group).unwrap();
/// // Twenty bytes pass at once, and then the group owes a second.
/// assert_eq!(stream.write(Bytes::from(vec![0; 20])).unwrap(), Pressure::Full);
/// assert_eq!(receiver.held(), 20);
/// assert_eq!(group.tick(Duration::ZERO, Waker::noop()), Some(Duration::from_secs(1)));
/// assert_eq!(group.tick(Duration::from_secs(1), Waker::noop()), None);
/// assert_eq!(group.tick(Duration::from_secs(2), Waker::noop()), None);
/// assert_eq!(stream.write(Bytes::from_static(b"y")).unwrap(), Pressure::Open);
/// ```
#[derive(Clone)]
pub struct Throttle(Arc<Group>);

struct Group {
    timer: Timer,
    state: Mutex<State>,
}

struct State {
    bucket: TokenBucket,
    seats_max: Option<NonZeroUsize>,
    counted: u64,
    joined: u64,
    members: BTreeMap<u64, Slot>,
}

type Guard = Box<dyn Any + Send + Sync>;
type TakeHold = Arc<dyn Fn() -> Option<Guard> + Send + Sync>;

struct Slot {
    take: TakeHold,
    hold: Held,
}

enum Held {
    No,
    /// Some thread is about to say.
    Asking,
    Yes(Guard),
    /// There is nothing left to hold.
    Gone,
}

/// What has to be done to one member, without the lock.
enum Work {
    Take(u64, TakeHold),
    Release(Guard),
}

/// A seat in a [`Throttle`]'s group. Dropping it leaves the group and releases its hold.
#[must_use = "dropping the seat leaves the group"]
pub struct Member {
    group: Arc<Group>,
    id: u64,
}

/// Every seat of the group is taken.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct NoSeat;

impl Throttle {
    /// A group that moves `rate` in the long run, `seats_max` members at once if given.
    pub fn new(rate: Rate, seats_max: Option<NonZeroUsize>, now: Duration) -> Self {
        let state = State {
            bucket: TokenBucket::new(rate, now),
            seats_max,
            counted: 0,
            joined: 0,
            members: BTreeMap::new(),
        };
        Self(Arc::new(Group {
            timer: Timer::new(now),
            state: Mutex::new(state),
        }))
    }

    /// Takes a seat. `hold` is called, never under a lock, each time the group has to stand still, and what it gives is
    /// dropped when it may go on; `None` says that there is nothing left to hold. One who joins a group that stands still
    /// is held at once.
    ///
    /// # Errors
    /// [`NoSeat`] when all are taken.
    pub fn join<G: Any + Send + Sync>(
        &self,
        hold: impl Fn() -> Option<G> + Send + Sync + 'static,
    ) -> Result<Member, NoSeat> {
        let take: TakeHold = Arc::new(move || hold().map(|guard| Box::new(guard) as Guard));
        let id = {
            let mut state = lock(&self.0.state);
            if state
                .seats_max
                .is_some_and(|seats| state.members.len() >= seats.get())
            {
                return Err(NoSeat);
            }
            state.joined += 1;
            let id = state.joined;
            state.members.insert(id, Slot { take, hold: Held::No });
            id
        };
        self.0.settle();
        let group = Arc::clone(&self.0);
        Ok(Member { group, id })
    }

    /// Tells the time: releases everybody once nothing is owed any more. Says when to call again; `None` while nothing
    /// is owed, and then `waker` is woken when something is.
    pub fn tick(&self, now: Duration, waker: &Waker) -> Option<Duration> {
        let kept = waker.clone();
        self.0.timer.advance(now);
        self.0.settle();
        self.0.timer.due_or_wake(kept)
    }

    /// Bytes counted since the group was made.
    pub fn counted(&self) -> u64 {
        lock(&self.0.state).counted
    }

    /// Seats taken.
    pub fn members(&self) -> usize {
        lock(&self.0.state).members.len()
    }
}

impl Group {
    /// Brings every member's hold in line with whether the group owes time. Level-triggered: looks again after each
    /// call, so it does not matter who else does the same meanwhile.
    fn settle(&self) {
        while let Some(work) = self.work() {
            match work {
                Work::Release(guard) => drop(guard),
                Work::Take(id, take) => {
                    let hold = take().map_or(Held::Gone, Held::Yes);
                    let left = lock(&self.state).keep(id, hold);
                    drop(left);
                }
            }
        }
    }

    fn work(&self) -> Option<Work> {
        let now = self.timer.now();
        let (work, until) = {
            let mut state = lock(&self.state);
            let until = state.bucket.debt_until(now);
            (state.next(until.is_some()), until)
        };
        if let Some(until) = until {
            self.timer.arm(until);
        }
        work
    }
}

impl State {
    fn next(&mut self, stands_still: bool) -> Option<Work> {
        self.members.iter_mut().find_map(|(id, slot)| match slot.hold {
            Held::No if stands_still => {
                slot.hold = Held::Asking;
                Some(Work::Take(*id, Arc::clone(&slot.take)))
            }
            Held::Yes(_) if !stands_still => match std::mem::replace(&mut slot.hold, Held::No) {
                Held::Yes(guard) => Some(Work::Release(guard)),
                Held::No | Held::Asking | Held::Gone => None,
            },
            Held::No | Held::Asking | Held::Yes(_) | Held::Gone => None,
        })
    }

    /// Keeps a hold for a member, or gives it back when the member has left.
    fn keep(&mut self, id: u64, hold: Held) -> Option<Held> {
        match self.members.get_mut(&id) {
            Some(slot) => {
                slot.hold = hold;
                None
            }
            None => Some(hold),
        }
    }
}

impl Member {
    /// Counts bytes that passed. May hold every member of the group, this one too, before it returns.
    pub fn passed(&self, bytes: u64) {
        let now = self.group.timer.now();
        {
            let mut state = lock(&self.group.state);
            state.bucket.spend(bytes, now);
            state.counted += bytes;
        }
        self.group.settle();
    }
}

impl Drop for Member {
    fn drop(&mut self) {
        let slot = lock(&self.group.state).members.remove(&self.id);
        drop(slot);
    }
}

/// A consumer in front of another whose bytes count for a [`Throttle`], and whose producer is held with the group.
pub struct Throttled {
    stage: Stage<Metered>,
    /// Out of the stage, so that a hold of the group does not keep the stage alive.
    _member: Option<Arc<Member>>,
}

/// Why a [`Throttled`] could not be made.
#[derive(Debug)]
pub enum ThrottledError {
    /// The consumer has a producer.
    AlreadyRegistered(AlreadyRegistered),
    /// Every seat of the group is taken.
    NoSeat,
}

impl Throttled {
    /// Takes a seat in `group` and registers with `consumer` as its push producer. `marks` bound what is kept while the
    /// consumer is paused.
    ///
    /// # Errors
    /// [`ThrottledError`]; the consumer is as it was then.
    pub fn new(
        consumer: Arc<dyn FinishableConsumer>,
        marks: Marks,
        group: &Throttle,
    ) -> Result<Self, ThrottledError> {
        let member = Arc::new(Mutex::new(Weak::new()));
        let below = |_| Metered {
            over: Over::new(Arc::clone(&consumer)),
            member: Arc::clone(&member),
        };
        let stage = Stage::new(marks, BelowPause::Buffer, below);
        let handle = stage.handle();
        let Ok(seat) = group.join(move || handle.hold(HoldReason::Shaped)) else {
            stage.disconnect();
            return Err(ThrottledError::NoSeat);
        };
        let seat = Arc::new(seat);
        *lock(&member) = Arc::downgrade(&seat);
        let producer = Producer::push(Arc::new(stage.handle()));
        let stage = stage
            .joined(&*consumer, producer)
            .map_err(ThrottledError::AlreadyRegistered)?;
        let _member = Some(seat);
        Ok(Self { stage, _member })
    }

    forward!(stage: outcome hold held);
}

impl Consumer for Throttled {
    forward!(stage: register_producer unregister_producer write write_list);
}

impl FinishableConsumer for Throttled {
    forward!(stage: finish abort);
}

/// The lower half: counts what passed.
struct Metered {
    over: Over,
    member: Arc<Mutex<Weak<Member>>>,
}

impl Below for Metered {
    fn accept(&self, held: &[Bytes]) -> Accepted {
        let accepted = self.over.accept(held);
        if let Accepted::Took(bytes) = accepted {
            let member = lock(&self.member).upgrade();
            if let Some(member) = member {
                member.passed(bytes as u64);
            }
        }
        accepted
    }

    fn finish(&self) -> Finished {
        self.over.finish()
    }

    fn abort(&self, reason: AbortReason) {
        self.over.abort(reason);
    }
}

impl fmt::Debug for Throttle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Throttle")
            .field("members", &self.members())
            .finish_non_exhaustive()
    }
}

impl fmt::Debug for Member {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Member")
            .field("id", &self.id)
            .finish_non_exhaustive()
    }
}

debug_held!(Throttled);

impl fmt::Display for NoSeat {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("every seat of the group is taken")
    }
}

impl Error for NoSeat {}

impl fmt::Display for ThrottledError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::AlreadyRegistered(refused) => refused.fmt(f),
            Self::NoSeat => NoSeat.fmt(f),
        }
    }
}

impl Error for ThrottledError {}
