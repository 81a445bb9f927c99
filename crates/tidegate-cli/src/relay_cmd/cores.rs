//! The threads that serve: one for each core, each with a runtime of its own, so that no message wakes a second thread.
//!
//! A connection goes to the thread that has the fewest and stays there. Knows nothing of what connections do.

use std::future::{Future, poll_fn};
use std::io;
use std::pin::pin;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};

use tokio::runtime::{Builder, Handle};
use tokio::sync::oneshot;

/// Starts one thread for each core that this process may use.
pub(super) fn start() -> io::Result<(Seats, Cores)> {
    let count = thread::available_parallelism()?.get();
    let cores = (0..count)
        .map(|_| Core::start())
        .collect::<io::Result<Vec<_>>>()?;
    let seats = Seats {
        runtimes: cores.iter().map(|core| core.runtime.clone()).collect(),
        loads: Mutex::new(vec![0; count]),
    };
    Ok((seats, Cores { _cores: cores }))
}

/// The threads. Dropped, they end, and what still runs on them is dropped before.
pub(super) struct Cores {
    _cores: Vec<Core>,
}

struct Core {
    runtime: Handle,
    /// Ends the thread when it is dropped.
    end: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

/// Where connections are served.
pub(super) struct Seats {
    runtimes: Vec<Handle>,
    /// Connections that each thread serves.
    loads: Mutex<Vec<usize>>,
}

impl Seats {
    /// Waits for `opening`, whose socket then belongs to the thread that has the fewest connections when it opens, and
    /// says which one that is. Cancel safe if `opening` is.
    pub(super) async fn open<T>(&self, opening: impl Future<Output = T>) -> (usize, T) {
        let mut opening = pin!(opening);
        poll_fn(|cx| {
            let core = self.least();
            // A socket's events go to the runtime that is entered when it is made.
            let _entered = self.runtimes[core].enter();
            opening.as_mut().poll(cx).map(|opened| (core, opened))
        })
        .await
    }

    /// Takes a seat. Whoever took it gives it back with [`leave`](Self::leave).
    pub(super) fn take(&self, core: usize) {
        self.loads()[core] += 1;
    }

    /// Gives a seat back.
    pub(super) fn leave(&self, core: usize) {
        self.loads()[core] -= 1;
    }

    /// Runs a task where `core` is.
    pub(super) fn spawn(&self, core: usize, task: impl Future<Output = ()> + Send + 'static) {
        self.runtimes[core].spawn(task);
    }

    fn least(&self) -> usize {
        let loads = self.loads();
        let least = loads.iter().enumerate().min_by_key(|(_, load)| **load);
        least.map_or(0, |(core, _)| core)
    }

    fn loads(&self) -> MutexGuard<'_, Vec<usize>> {
        self.loads.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Core {
    fn start() -> io::Result<Self> {
        let runtime = Builder::new_current_thread().enable_all().build()?;
        let handle = runtime.handle().clone();
        let (end, ended) = oneshot::channel::<()>();
        let serve = move || {
            let _ = runtime.block_on(ended);
            runtime.shutdown_background();
        };
        let thread = thread::Builder::new().name("serve".to_owned()).spawn(serve)?;
        Ok(Self {
            runtime: handle,
            end: Some(end),
            thread: Some(thread),
        })
    }
}

impl Drop for Core {
    fn drop(&mut self) {
        drop(self.end.take());
        // The last handle may go on one of the threads themselves, which cannot wait for itself.
        if let Some(thread) = self
            .thread
            .take()
            .filter(|one| one.thread().id() != thread::current().id())
        {
            let _ = thread.join();
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use std::collections::HashSet;
    use std::sync::{Arc, mpsc};

    use super::*;

    #[test]
    fn connections_are_spread_evenly_and_seats_come_back() {
        let (seats, _cores) = start().unwrap();
        let count = seats.runtimes.len();
        for _ in 0..2 * count {
            seats.take(seats.least());
        }
        assert!(seats.loads().iter().all(|load| *load == 2));
        seats.leave(count - 1);
        assert_eq!(seats.least(), count - 1, "the one with the fewest is next");
    }

    #[tokio::test]
    async fn what_is_opened_belongs_to_the_thread_that_has_the_fewest() {
        let (seats, _cores) = start().unwrap();
        let last = seats.runtimes.len() - 1;
        for core in 0..last {
            seats.take(core);
        }
        let (core, runtime) = seats.open(async { Handle::current().id() }).await;
        assert_eq!((core, runtime), (last, seats.runtimes[last].id()));
    }

    #[test]
    fn each_has_a_thread_of_its_own_and_drops_what_runs_when_it_ends() {
        let (seats, cores) = start().unwrap();
        let count = seats.runtimes.len();
        let (tell, told) = mpsc::channel();
        let witness = Arc::new(());
        for core in 0..count {
            let (tell, witness) = (tell.clone(), Arc::clone(&witness));
            seats.spawn(core, async move {
                tell.send(thread::current().id()).unwrap();
                std::future::pending::<()>().await;
                drop(witness);
            });
        }
        let threads: HashSet<_> = told.iter().take(count).collect();
        assert_eq!(threads.len(), count);
        drop(cores);
        assert_eq!(Arc::strong_count(&witness), 1, "a task outlived its thread");
    }
}
