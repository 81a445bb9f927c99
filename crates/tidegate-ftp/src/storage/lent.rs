//! A stream into the disk, lent to a thread that may block for as long as it moves bytes in bulk.
//!
//! Knows a future and how many bytes it has moved; not what it does. A profile had a sixth of an upload's samples in hops to
//! the blocking pool and back, one for each chunk. So a stream that runs fast is polled where its sink may write at once, and
//! comes back to the runtime when it slows down: a client that dawdles holds no thread. The gain was not measurable since
//! (see `docs/ftp.md`): whoever simplifies uploads may take this file out.

use std::cell::Cell;
use std::future::{Future, poll_fn};
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Poll, ready};
use std::time::Duration;

use tokio::runtime::Handle;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, oneshot};
use tokio::time::Instant;

/// How often a stream is looked at.
const LOOK: Duration = Duration::from_millis(20);

/// More than this between two looks is bulk (50 MiB/s); less than a quarter of it is none.
const BULK_BYTES: u64 = 1024 * 1024;

thread_local! {
    static MAY_BLOCK: Cell<bool> = const { Cell::new(false) };
}

/// Whether this thread may wait for the disk.
pub(crate) fn may_block() -> bool {
    MAY_BLOCK.get()
}

/// How many streams may have a thread at once. The others go on in pieces.
#[derive(Clone, Debug)]
pub(crate) struct Threads(Arc<Semaphore>);

/// More would only wait for one another.
fn seats() -> usize {
    std::thread::available_parallelism().map_or(1, usize::from) * 2
}

impl Threads {
    /// How many streams have a thread just now.
    pub(crate) fn lent(&self) -> usize {
        seats() - self.0.available_permits()
    }
}

impl Default for Threads {
    fn default() -> Self {
        Self(Arc::new(Semaphore::new(seats())))
    }
}

/// Drives `work` to its end. `moved_bytes` says how many bytes it has moved so far.
///
/// # Cancel safety
/// Dropping this drops `work`, on its thread a moment later.
pub(crate) async fn run<F>(
    work: F,
    moved_bytes: impl Fn() -> u64 + Clone + Send + 'static,
    threads: Threads,
) -> F::Output
where
    F: Future + Send + 'static,
    F::Output: Send + 'static,
{
    let mut work: Work<F> = Box::pin(work);
    loop {
        let seat = match bulk(&mut work, &moved_bytes, &threads).await {
            Found::Done(output) => return output,
            Found::Bulk(seat) => seat,
        };
        work = match lend(work, moved_bytes.clone(), seat).await {
            Lent::Done(output) => return output,
            Lent::Slow(work) => work,
        };
    }
}

type Work<F> = Pin<Box<F>>;

enum Lent<F: Future> {
    Done(F::Output),
    /// Not worth a thread any more.
    Slow(Work<F>),
}

async fn lend<F>(
    mut work: Work<F>,
    moved_bytes: impl Fn() -> u64 + Send + 'static,
    seat: OwnedSemaphorePermit,
) -> Lent<F>
where
    F: Future + Send + 'static,
    F::Output: Send + 'static,
{
    let runtime = Handle::current();
    let (wanted, unwanted) = oneshot::channel::<()>();
    let thread = tokio::task::spawn_blocking(move || {
        let _seat = seat;
        let _allowed = Allowed::here();
        runtime.block_on(async {
            tokio::select! {
                biased;
                _ = unwanted => None,
                output = &mut work => Some(Lent::Done(output)),
                () = lull(&moved_bytes) => Some(Lent::Slow(work)),
            }
        })
    });
    let lent = thread.await;
    drop(wanted);
    match lent {
        Ok(Some(lent)) => lent,
        // Only who drops this future makes it unwanted, or a runtime that ends drops the thread's work.
        Ok(None) => std::future::pending().await,
        Err(failed) => match failed.try_into_panic() {
            Ok(panicked) => std::panic::resume_unwind(panicked),
            Err(_) => std::future::pending().await,
        },
    }
}

/// Lets this thread block while it lives.
struct Allowed;

impl Allowed {
    fn here() -> Self {
        MAY_BLOCK.set(true);
        Self
    }
}

impl Drop for Allowed {
    fn drop(&mut self) {
        MAY_BLOCK.set(false);
    }
}

enum Found<T> {
    Done(T),
    /// It runs fast, and a thread is free.
    Bulk(OwnedSemaphorePermit),
}

/// Drives `work` until it ends or is worth a thread. It is looked at only while bytes move: a client that waits costs no timer.
async fn bulk<F: Future>(
    work: &mut Work<F>,
    moved_bytes: &impl Fn() -> u64,
    threads: &Threads,
) -> Found<F::Output> {
    let mut look = pin!(tokio::time::sleep(LOOK));
    let mut looking = false;
    let mut before_bytes = moved_bytes();
    poll_fn(|cx| {
        if let Poll::Ready(output) = work.as_mut().poll(cx) {
            return Poll::Ready(Found::Done(output));
        }
        loop {
            if !looking {
                let now_bytes = moved_bytes();
                if now_bytes == before_bytes {
                    return Poll::Pending;
                }
                before_bytes = now_bytes;
                look.as_mut().reset(Instant::now() + LOOK);
                looking = true;
            }
            ready!(look.as_mut().poll(cx));
            looking = false;
            if moved_bytes() - before_bytes >= BULK_BYTES
                && let Ok(seat) = Arc::clone(&threads.0).try_acquire_owned()
            {
                return Poll::Ready(Found::Bulk(seat));
            }
        }
    })
    .await
}

/// Ends when the stream has slowed down.
async fn lull(moved_bytes: &impl Fn() -> u64) {
    let mut before_bytes = moved_bytes();
    loop {
        tokio::time::sleep(LOOK).await;
        let now_bytes = moved_bytes();
        if now_bytes - before_bytes < BULK_BYTES / 4 {
            return;
        }
        before_bytes = now_bytes;
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

    use super::*;

    /// A stream that runs at `bytes` a look, and says where it was polled last.
    fn stream(
        moved: &Arc<AtomicU64>,
        bytes: &Arc<AtomicU64>,
        lent: &Arc<AtomicBool>,
        over: &Arc<AtomicBool>,
    ) -> impl Future<Output = &'static str> + Send + 'static {
        let (moved, bytes) = (Arc::clone(moved), Arc::clone(bytes));
        let (lent, over) = (Arc::clone(lent), Arc::clone(over));
        async move {
            loop {
                tokio::time::sleep(LOOK).await;
                moved.fetch_add(bytes.load(Ordering::SeqCst), Ordering::SeqCst);
                lent.store(may_block(), Ordering::SeqCst);
                if over.load(Ordering::SeqCst) {
                    return "over";
                }
            }
        }
    }

    async fn until(condition: impl Fn() -> bool) {
        while !condition() {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    }

    #[tokio::test]
    async fn a_fast_stream_gets_a_thread_and_a_slow_one_gives_it_back() {
        let (moved, bytes) = (Arc::default(), Arc::new(AtomicU64::new(BULK_BYTES * 8)));
        let (lent, over) = (Arc::default(), Arc::default());
        let work = stream(&moved, &bytes, &lent, &over);
        let threads = Threads::default();
        let seats = threads.0.available_permits();
        let counted = Arc::clone(&moved);
        let running = tokio::spawn(run(work, move || counted.load(Ordering::SeqCst), threads.clone()));
        until(|| lent.load(Ordering::SeqCst)).await;
        assert_eq!(threads.0.available_permits(), seats - 1);
        bytes.store(1, Ordering::SeqCst);
        until(|| !lent.load(Ordering::SeqCst)).await;
        until(|| threads.0.available_permits() == seats).await;
        bytes.store(BULK_BYTES * 8, Ordering::SeqCst);
        until(|| lent.load(Ordering::SeqCst)).await;
        over.store(true, Ordering::SeqCst);
        assert_eq!(running.await.unwrap(), "over");
        until(|| threads.0.available_permits() == seats).await;
        assert!(!may_block());
    }

    #[tokio::test(start_paused = true)]
    async fn a_stream_that_waits_is_left_alone() {
        let polls = Arc::new(AtomicU64::new(0));
        let (moved, counted) = (Arc::new(AtomicU64::new(0)), Arc::clone(&polls));
        let moves = Arc::clone(&moved);
        let work = poll_fn(move |_| {
            // The first bytes, and no more.
            if counted.fetch_add(1, Ordering::SeqCst) == 0 {
                moves.fetch_add(1, Ordering::SeqCst);
            }
            Poll::<()>::Pending
        });
        let running = tokio::spawn(run(
            work,
            move || moved.load(Ordering::SeqCst),
            Threads::default(),
        ));
        tokio::time::sleep(LOOK * 1000).await;
        // Once by itself, once by the look after the first bytes.
        assert_eq!(polls.load(Ordering::SeqCst), 2);
        running.abort();
    }

    #[tokio::test]
    async fn dropping_the_wait_drops_the_work_on_its_thread() {
        let (moved, bytes) = (Arc::default(), Arc::new(AtomicU64::new(BULK_BYTES * 8)));
        let (lent, over) = (Arc::default(), Arc::default());
        let work = stream(&moved, &bytes, &lent, &over);
        let counted = Arc::clone(&moved);
        let running = tokio::spawn(run(
            work,
            move || counted.load(Ordering::SeqCst),
            Threads::default(),
        ));
        until(|| lent.load(Ordering::SeqCst)).await;
        running.abort();
        until(|| Arc::strong_count(&bytes) == 1).await;
    }

    #[tokio::test]
    async fn a_panic_on_the_thread_goes_on() {
        let work = async {
            std::future::poll_fn(|cx| {
                assert!(!may_block(), "on the thread");
                cx.waker().wake_by_ref();
                Poll::<()>::Pending
            })
            .await;
        };
        let moved = AtomicU64::new(0);
        let moved: Arc<AtomicU64> = Arc::new(moved);
        let counts = move || moved.fetch_add(BULK_BYTES, Ordering::SeqCst);
        let failed = tokio::spawn(run(work, counts, Threads::default()))
            .await
            .unwrap_err();
        assert!(failed.is_panic());
    }
}
