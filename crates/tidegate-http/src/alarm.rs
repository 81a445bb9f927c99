//! The timer that hyper uses on an HTTP/1 connection: one entry in the runtime's wheel, however many requests come.
//!
//! hyper asks for a new sleep for every head it waits for, and drops it when the head is there: with the runtime's own
//! sleeps that is an entry made and removed for each request. Here a sleep is a deadline; the one real timer of the
//! connection is moved only when it fires too early, and looked at only when it could have fired. Knows nothing of what is
//! timed.

use std::future::Future;
use std::pin::{Pin, pin};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant};

use tokio::task::coop::unconstrained;
use tokio::time::Sleep;

/// The alarm of one connection. Its sleeps are polled by one task.
#[derive(Clone, Debug)]
pub(crate) struct Alarm {
    /// Made at the first poll; taken out to be polled, so that no waker runs under the lock.
    real: Arc<Mutex<Option<Real>>>,
}

#[derive(Debug)]
struct Real {
    sleep: Pin<Box<Sleep>>,
    /// Whom it wakes when it fires; `None` before it was polled.
    wakes: Option<Waker>,
}

impl Real {
    /// It fires by then and wakes this task: until it has fired, a poll would change nothing.
    fn is_set(&self, cx: &Context<'_>, deadline: tokio::time::Instant) -> bool {
        let wakes_it = self
            .wakes
            .as_ref()
            .is_some_and(|waker| waker.will_wake(cx.waker()));
        wakes_it && self.sleep.deadline() <= deadline && !self.sleep.is_elapsed()
    }
}

impl Alarm {
    pub(crate) fn new() -> Self {
        Self { real: Arc::default() }
    }

    fn poll(&self, cx: &mut Context<'_>, deadline: tokio::time::Instant) -> Poll<()> {
        let mut slot = self.slot();
        if slot.as_ref().is_some_and(|real| real.is_set(cx, deadline)) {
            return Poll::Pending;
        }
        let known = slot.take();
        drop(slot);
        let mut sleep = match known {
            Some(real) => real.sleep,
            None => Box::pin(tokio::time::sleep_until(deadline)),
        };
        if sleep.deadline() > deadline {
            sleep.as_mut().reset(deadline);
        }
        let polled = loop {
            // Beside the budget of the task: once that is spent the timer would not be set, and nobody would know.
            if pin!(unconstrained(sleep.as_mut())).poll(cx).is_pending() {
                break Poll::Pending;
            }
            if tokio::time::Instant::now() >= deadline {
                break Poll::Ready(());
            }
            sleep.as_mut().reset(deadline);
        };
        let wakes = polled.is_pending().then(|| cx.waker().clone());
        *self.slot() = Some(Real { sleep, wakes });
        polled
    }

    fn slot(&self) -> MutexGuard<'_, Option<Real>> {
        self.real.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl hyper::rt::Timer for Alarm {
    fn sleep(&self, duration: Duration) -> Pin<Box<dyn hyper::rt::Sleep>> {
        self.sleep_until(self.now() + duration)
    }

    fn sleep_until(&self, deadline: Instant) -> Pin<Box<dyn hyper::rt::Sleep>> {
        Box::pin(Deadline {
            alarm: self.clone(),
            deadline: deadline.into(),
        })
    }

    fn reset(&self, sleep: &mut Pin<Box<dyn hyper::rt::Sleep>>, new_deadline: Instant) {
        *sleep = self.sleep_until(new_deadline);
    }

    fn now(&self) -> Instant {
        tokio::time::Instant::now().into_std()
    }
}

/// One sleep: a moment, and the alarm that looks at it.
struct Deadline {
    alarm: Alarm,
    deadline: tokio::time::Instant,
}

impl Future for Deadline {
    type Output = ();

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        self.alarm.poll(cx, self.deadline)
    }
}

impl hyper::rt::Sleep for Deadline {}

#[cfg(test)]
mod tests {
    use super::*;
    use hyper::rt::Timer as _;

    #[tokio::test(start_paused = true)]
    async fn sleeps_one_after_the_other_end_on_time() {
        let alarm = Alarm::new();
        let start = tokio::time::Instant::now();
        // The first is given up; its time passes within the second.
        let mut first = alarm.sleep(Duration::from_secs(10));
        assert!(std::future::poll_fn(|cx| Poll::Ready(first.as_mut().poll(cx).is_pending())).await);
        drop(first);
        tokio::time::advance(Duration::from_secs(8)).await;
        alarm.sleep(Duration::from_secs(10)).await;
        assert_eq!(start.elapsed(), Duration::from_secs(18));
        // One that is due sooner than the alarm is set for.
        let mut late = alarm.sleep(Duration::from_secs(100));
        assert!(std::future::poll_fn(|cx| Poll::Ready(late.as_mut().poll(cx).is_pending())).await);
        alarm.reset(&mut late, alarm.now() + Duration::from_secs(3));
        late.await;
        assert_eq!(start.elapsed(), Duration::from_secs(21));
    }

    #[tokio::test(start_paused = true)]
    async fn a_sleep_first_polled_by_a_task_without_budget_ends_too() {
        use tokio::task::coop;
        let alarm = Alarm::new();
        let mut sleep = alarm.sleep(Duration::from_secs(10));
        std::future::poll_fn(|cx| {
            while coop::has_budget_remaining() {
                let _ = pin!(coop::consume_budget()).poll(cx);
            }
            let _ = sleep.as_mut().poll(cx);
            Poll::Ready(())
        })
        .await;
        let ended = tokio::time::timeout(Duration::from_secs(60), sleep).await;
        assert!(ended.is_ok(), "the timer was never set");
    }
}
