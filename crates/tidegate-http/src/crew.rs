//! Who serves the connections of a server: one task on its runtime, or threads of its own, each with its own loop.
//!
//! Knows nothing of HTTP: what is done with a connection is the work it is given.

use std::future::Future;
use std::io;
use std::num::NonZeroUsize;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use tokio::sync::{OwnedSemaphorePermit, mpsc, oneshot};
use tokio::task::JoinSet;

use crate::listener::Connection;

/// Those who serve connections: one task on this runtime, or threads.
pub(crate) struct Crew {
    seats: Vec<Seat>,
    ends: JoinSet<usize>,
}

struct Seat {
    to: mpsc::UnboundedSender<Given>,
    /// Connections given and not yet ended.
    load: Arc<AtomicUsize>,
}

/// A connection, and what it takes up.
pub(crate) struct Given {
    pub(crate) connection: Connection,
    pub(crate) held: Taken,
}

/// A place under the limit and a part of a seat's load, until the connection ends.
pub(crate) struct Taken {
    _place: Option<OwnedSemaphorePermit>,
    load: Arc<AtomicUsize>,
}

impl Drop for Taken {
    fn drop(&mut self) {
        self.load.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Crew {
    /// As many as there are threads, or one without any. `work` is what each does with what it is given.
    pub(crate) fn hire<W>(
        threads: Option<NonZeroUsize>,
        work: impl Fn(mpsc::UnboundedReceiver<Given>) -> W,
    ) -> Self
    where
        W: Future<Output = usize> + Send + 'static,
    {
        let mut crew = Self {
            seats: Vec::new(),
            ends: JoinSet::new(),
        };
        for _ in 0..threads.map_or(0, NonZeroUsize::get) {
            let (seat, from) = Seat::new();
            match thread(work(from)) {
                Ok(end) => {
                    crew.ends.spawn(end);
                    crew.seats.push(seat);
                }
                Err(error) => tracing::warn!(%error, "cannot start a thread"),
            }
        }
        if crew.seats.is_empty() {
            let (seat, from) = Seat::new();
            crew.ends.spawn(work(from));
            crew.seats.push(seat);
        }
        crew
    }

    /// To the one with the least to do.
    pub(crate) fn give(&mut self, connection: Connection, place: Option<OwnedSemaphorePermit>) {
        if let Some(seat) = self
            .seats
            .iter()
            .min_by_key(|seat| seat.load.load(Ordering::Relaxed))
        {
            seat.load.fetch_add(1, Ordering::Relaxed);
            let held = Taken {
                _place: place,
                load: Arc::clone(&seat.load),
            };
            let _ = seat.to.send(Given { connection, held });
        }
    }

    /// Waits for all to end; says how many connections had to be cut.
    pub(crate) async fn dismiss(mut self) -> usize {
        self.seats.clear();
        let mut cut = 0;
        while let Some(end) = self.ends.join_next().await {
            cut += end.unwrap_or(0);
        }
        cut
    }
}

impl Seat {
    fn new() -> (Self, mpsc::UnboundedReceiver<Given>) {
        let (to, from) = mpsc::unbounded_channel();
        (
            Self {
                to,
                load: Arc::default(),
            },
            from,
        )
    }
}

/// Runs `work` on a thread of its own. Dropping the future that is returned ends it.
fn thread(
    work: impl Future<Output = usize> + Send + 'static,
) -> io::Result<impl Future<Output = usize> + Send + 'static> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    let (done, end) = oneshot::channel();
    let (wanted, unwanted) = oneshot::channel::<()>();
    std::thread::Builder::new()
        .name("tidegate-http".to_owned())
        .spawn(move || {
            let cut = runtime.block_on(async {
                tokio::select! {
                    cut = work => cut,
                    _ = unwanted => 0,
                }
            });
            // Files that are being read on the blocking pool must not hold up the end.
            runtime.shutdown_background();
            let _ = done.send(cut);
        })?;
    Ok(async move {
        let cut = end.await.unwrap_or(0);
        drop(wanted);
        cut
    })
}
