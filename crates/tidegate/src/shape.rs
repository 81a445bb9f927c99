//! A consumer that lets through no more than a stated rate allows.
//!
//! Knows no clock: it is told the time, and says when it wants to be told next. What the rate allows is the business
//! of the token bucket.

use std::sync::Arc;
use std::task::Waker;
use std::time::Duration;

use bytes::Bytes;

use crate::forward::{debug_held, forward};
use crate::stage::total;
use crate::sync::{Mutex, MutexGuard, lock};
use crate::{
    AbortReason, Accepted, Allowance, AlreadyRegistered, Below, BelowPause, Consumer, FinishableConsumer,
    Finished, Limiter, Marks, Over, Rate, Stage, StageHandle,
};

/// Stands in front of a consumer and shapes what passes by a [`Limiter`], which others may share.
/// (Twisted: `htb.ShapedConsumer`.)
///
/// What the rate does not allow yet is held, in order, until [`tick`](Self::tick) tells of a later time; the producer
/// feels it when the marks say so. Idle time earns one burst and no more. Dropped before all has passed, it is aborted,
/// finished or not.
///
/// ```
/// # use std::{num::NonZeroU64, sync::Arc, task::Waker, time::Duration};
/// use bytes::Bytes;
/// use tidegate::{Consumer as _, Limiter, Marks, Rate, Shaper, channel};
/// # let bytes = |n| NonZeroU64::new(n).unwrap();
/// let (sender, receiver) = channel(Marks::default());
/// let limit = Limiter::new(Rate::per_second(bytes(10)).with_burst(bytes(4)), Duration::ZERO);
/// let shaper = Shaper::new(Arc::new(sender), Marks::default(), limit, Duration::ZERO).unwrap();
/// shaper.write(Bytes::from_static(b"hello!")).unwrap();
/// assert_eq!((receiver.held(), shaper.held()), (4, 2)); // the burst, and the rest
/// let next = shaper.tick(Duration::ZERO, Waker::noop()).unwrap();
/// assert_eq!(next, Duration::from_millis(100));
/// assert_eq!(shaper.tick(Duration::from_millis(200), Waker::noop()), None); // nothing waits any more
/// assert_eq!((receiver.held(), shaper.held()), (6, 0));
/// ```
pub struct Shaper {
    stage: Stage<Shaped>,
    timer: Arc<Timer>,
    limiter: Limiter,
}

impl Shaper {
    /// Registers with `consumer` as its push producer. `now` is where the clock of every later [`tick`](Self::tick)
    /// stands; `marks` bound what is held while the rate or the consumer allows nothing.
    ///
    /// # Errors
    /// [`AlreadyRegistered`] when `consumer` has a producer.
    pub fn new(
        consumer: Arc<dyn FinishableConsumer>,
        marks: Marks,
        limiter: Limiter,
        now: Duration,
    ) -> Result<Self, AlreadyRegistered> {
        let timer = Arc::new(Timer::new(now));
        let below = |_: StageHandle| Shaped {
            over: Over::new(Arc::clone(&consumer)),
            limiter: limiter.clone(),
            timer: Arc::clone(&timer),
        };
        let stage = Stage::before(&consumer, marks, BelowPause::Buffer, below)?;
        Ok(Self {
            stage,
            timer,
            limiter,
        })
    }

    /// Tells the time. Lets pass what may pass now, and says when to call again: `None` while nothing waits for the
    /// rate, and then `waker` is woken once something does. Calling at any other time does no harm.
    pub fn tick(&self, now: Duration, waker: &Waker) -> Option<Duration> {
        let kept = waker.clone();
        if self.timer.advance(now) {
            self.stage.handle().poke();
        }
        self.timer.due_or_wake(kept)
    }

    /// Changes the rate from `now` on, for all who share the limiter. Whoever waits is to be told the time once more.
    pub fn set_rate(&self, rate: Rate, now: Duration) {
        self.limiter.set_rate(rate, now);
        self.timer.advance(now);
        self.stage.handle().poke();
    }

    forward!(stage: outcome hold held);
}

impl Consumer for Shaper {
    forward!(stage: register_producer unregister_producer write write_list);
}

impl FinishableConsumer for Shaper {
    forward!(stage: finish abort);
}

/// Nobody can tell the time any more, so what still waits for it never passes.
impl Drop for Shaper {
    fn drop(&mut self) {
        if self.outcome().now().is_none() {
            self.stage.abort(AbortReason::Dropped);
        }
    }
}

debug_held!(Shaper);

/// The lower half: asks the limiter before it hands on.
struct Shaped {
    over: Over,
    limiter: Limiter,
    timer: Arc<Timer>,
}

impl Below for Shaped {
    fn accept(&self, held: &[Bytes]) -> Accepted {
        let now = self.timer.now();
        let allowed = match self.limiter.allowance(total(held) as u64, now) {
            Allowance::Bytes(bytes) => usize::try_from(bytes.get()).unwrap_or(usize::MAX),
            Allowance::NotBefore(at) => {
                self.timer.arm(at);
                return Accepted::Wait;
            }
        };
        let accepted = self.over.pass(held, allowed);
        if let Accepted::Took(bytes) = accepted {
            self.limiter.spend(bytes as u64, now);
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

/// The last time told, the next one wanted, and whom to wake when that changes. Shared with the throttle.
pub(crate) struct Timer(Mutex<Times>);

struct Times {
    now: Duration,
    due: Option<Duration>,
    waker: Option<Waker>,
}

impl Timer {
    pub(crate) fn new(now: Duration) -> Self {
        let (due, waker) = (None, None);
        Self(Mutex::new(Times { now, due, waker }))
    }

    pub(crate) fn now(&self) -> Duration {
        self.lock().now
    }

    /// Says whether something was due by `now`; it is not any more.
    pub(crate) fn advance(&self, now: Duration) -> bool {
        let mut times = self.lock();
        times.now = times.now.max(now);
        times.due.take_if(|due| *due <= now).is_some()
    }

    /// Wants to be told the time at `at`.
    pub(crate) fn arm(&self, at: Duration) {
        let waker = {
            let mut times = self.lock();
            times.due = Some(at);
            times.waker.take()
        };
        // A waker is foreign code, so it runs without the lock.
        if let Some(waker) = waker {
            waker.wake();
        }
    }

    /// The next time wanted; `waker` is woken when another one is.
    pub(crate) fn due_or_wake(&self, waker: Waker) -> Option<Duration> {
        let (due, old) = {
            let mut times = self.lock();
            (times.due, times.waker.replace(waker))
        };
        drop(old);
        due
    }

    fn lock(&self) -> MutexGuard<'_, Times> {
        lock(&self.0)
    }
}
