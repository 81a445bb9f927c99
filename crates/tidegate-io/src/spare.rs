//! A process-wide pool of spare things (buffers, pipes) that shrinks by itself when nobody uses it.
//!
//! Knows nothing of what is kept.

use std::collections::VecDeque;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// How often an overfull pool looks for what was not used meanwhile.
const TRIM_EVERY: Duration = Duration::from_millis(200);

/// Spare things: `keep` for good, up to `most` while they are used, measured by `weigh`.
pub(crate) struct Spares<T: 'static> {
    state: Mutex<State<T>>,
    keep: usize,
    most: usize,
    weigh: fn(&T) -> usize,
}

struct State<T> {
    items: VecDeque<T>,
    weight: usize,
    /// The fewest there were since the last look: so many were not needed.
    unused: usize,
    trimming: bool,
}

impl<T: Send> Spares<T> {
    pub(crate) const fn new(keep: usize, most: usize, weigh: fn(&T) -> usize) -> Self {
        Self {
            state: Mutex::new(State {
                items: VecDeque::new(),
                weight: 0,
                unused: 0,
                trimming: false,
            }),
            keep,
            most,
            weigh,
        }
    }

    fn state(&self) -> MutexGuard<'_, State<T>> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The one that came back last of those that fit.
    pub(crate) fn take(&self, fits: impl Fn(&T) -> bool) -> Option<T> {
        let mut state = self.state();
        let index = state.items.iter().rposition(fits)?;
        let item = state.items.remove(index)?;
        state.weight -= (self.weigh)(&item);
        state.unused = state.unused.min(state.items.len());
        Some(item)
    }

    /// Keeps `item` if there is room.
    pub(crate) fn put(&'static self, item: T) {
        let weight = (self.weigh)(&item);
        let mut state = self.state();
        // More than what is kept for good needs a runtime that trims it; the usual case asks for none.
        let runtime = match state.weight + weight > self.keep {
            true => match tokio::runtime::Handle::try_current() {
                Ok(runtime) if state.weight + weight <= self.most => Some(runtime),
                _ => return,
            },
            false => None,
        };
        state.items.push_back(item);
        state.weight += weight;
        if let Some(runtime) = runtime
            && !state.trimming
        {
            state.trimming = true;
            drop(state);
            runtime.spawn(self.trim(TrimEnds(self)));
        }
    }

    async fn trim(&'static self, _ended: TrimEnds<T>) {
        while self.excess() {
            tokio::time::sleep(TRIM_EVERY).await;
            let dropped = self.take_unused();
            drop(dropped);
        }
    }

    fn excess(&self) -> bool {
        let mut state = self.state();
        state.unused = state.items.len();
        if state.weight <= self.keep {
            // Said under the lock, so that a `put` from now on starts another.
            state.trimming = false;
        }
        state.trimming
    }

    fn take_unused(&self) -> Vec<T> {
        let mut state = self.state();
        let mut taken = Vec::new();
        while state.unused > 0 && state.weight > self.keep {
            let Some(item) = state.items.pop_front() else {
                break;
            };
            state.weight -= (self.weigh)(&item);
            state.unused -= 1;
            taken.push(item);
        }
        taken
    }

    /// How many are kept now.
    #[cfg(test)]
    pub(crate) fn len(&self) -> usize {
        self.state().items.len()
    }
}

/// A runtime that is shut down drops the trimming task: the next `put` must start another.
struct TrimEnds<T: Send + 'static>(&'static Spares<T>);

impl<T: Send> Drop for TrimEnds<T> {
    fn drop(&mut self) {
        self.0.state().trimming = false;
    }
}
