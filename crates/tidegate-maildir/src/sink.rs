//! The delivery as a `tidegate_io::Sink`: polls on the runtime, disk work on the blocking pool.
//!
//! Knows the order of the steps and which is under way; knows nothing of names or directories.

use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use tidegate::AbortReason;
use tidegate_io::{Confirmation, EndpointError, Held, Sink};
use tokio::task::{JoinHandle, spawn_blocking};

use crate::delivery::{Delivery, Wrap};
use crate::{MaildirError, Options};

/// How much one trip to the blocking pool writes at most.
const TRIP_BYTES_MAX: usize = 1024 * 1024;

/// Appends one message to the mailbox at `path`. `finish` is confirmed once the message is durable under its final name;
/// anything else (an error, an abort, a drop) leaves nothing. Nothing is touched before the first poll.
///
/// Must be polled within a tokio runtime.
pub fn sink(path: impl Into<PathBuf>, options: Options) -> MaildirSink {
    sink_on(path.into(), options, Arc::new(|file| Box::new(file)))
}

pub(crate) fn sink_on(path: PathBuf, options: Options, wrap: Wrap) -> MaildirSink {
    MaildirSink {
        path,
        options,
        wrap,
        state: State::Fresh,
        aborted: Arc::default(),
        delivered: Arc::default(),
    }
}

/// A message on its way into a mailbox. Made by [`sink`].
pub struct MaildirSink {
    path: PathBuf,
    options: Options,
    wrap: Wrap,
    state: State,
    aborted: Arc<AtomicBool>,
    delivered: Arc<OnceLock<PathBuf>>,
}

/// The delivery is in exactly one place: here, or inside the job that works on it.
enum State {
    Fresh,
    Opening(Job<Delivery>),
    Ready(Box<Delivery>),
    Writing { job: Job<Delivery>, bytes: usize },
    Finishing(Job<PathBuf>),
    Done,
    Aborting(Pin<Box<dyn Future<Output = ()> + Send>>),
    Gone,
}

type Job<T> = JoinHandle<Result<T, MaildirError>>;

impl MaildirSink {
    /// Where the message is, once `finish` was confirmed.
    pub fn delivered(&self) -> Option<&Path> {
        self.delivered.get().map(PathBuf::as_path)
    }

    /// Where the path will be found when the sink itself is out of reach.
    pub(crate) fn delivered_slot(&self) -> Arc<OnceLock<PathBuf>> {
        Arc::clone(&self.delivered)
    }

    /// Drives the opening on; `Ready(Ok)` means that the state is no longer `Fresh` or `Opening`.
    fn poll_open(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), EndpointError>> {
        if let State::Fresh = self.state {
            let (path, options, wrap) = (self.path.clone(), self.options.clone(), Arc::clone(&self.wrap));
            let aborted = Arc::clone(&self.aborted);
            self.state = State::Opening(spawn_blocking(move || {
                Delivery::begin(&path, &options, &wrap, aborted)
            }));
        }
        if let State::Opening(job) = &mut self.state {
            let opened = ready!(poll_job(job, cx));
            self.state = State::Gone;
            self.state = State::Ready(Box::new(opened?));
        }
        Poll::Ready(Ok(()))
    }

    /// Takes a ready delivery out to hand it to a job; any other state stays.
    fn take_ready(&mut self) -> Option<Box<Delivery>> {
        match std::mem::replace(&mut self.state, State::Gone) {
            State::Ready(delivery) => Some(delivery),
            other => {
                self.state = other;
                None
            }
        }
    }
}

impl Sink for MaildirSink {
    fn poll_write(&mut self, cx: &mut Context<'_>, held: &Held) -> Poll<Result<usize, EndpointError>> {
        ready!(self.poll_open(cx))?;
        if let Some(mut delivery) = self.take_ready() {
            let (pieces, bytes) = one_trip(held);
            let job = spawn_blocking(move || delivery.write(pieces).map(|()| *delivery));
            self.state = State::Writing { job, bytes };
        }
        let State::Writing { job, bytes } = &mut self.state else {
            return Poll::Ready(Err(ended()));
        };
        let (written, bytes) = (ready!(poll_job(job, cx)), *bytes);
        self.state = State::Gone;
        self.state = State::Ready(Box::new(written?));
        Poll::Ready(Ok(bytes))
    }

    fn poll_finish(&mut self, cx: &mut Context<'_>) -> Poll<Result<Confirmation, EndpointError>> {
        ready!(self.poll_open(cx))?;
        if let Some(delivery) = self.take_ready() {
            self.state = State::Finishing(spawn_blocking(move || delivery.commit()));
        }
        match &mut self.state {
            State::Finishing(job) => {
                let committed = ready!(poll_job(job, cx));
                self.state = State::Gone;
                let _ = self.delivered.set(committed?);
                self.state = State::Done;
                Poll::Ready(Ok(Confirmation::Confirmed))
            }
            State::Done => Poll::Ready(Ok(Confirmation::Confirmed)),
            _ => Poll::Ready(Err(ended())),
        }
    }

    fn abort(&mut self, _reason: &AbortReason) {
        self.aborted.store(true, Ordering::Release);
        self.state = match std::mem::replace(&mut self.state, State::Gone) {
            State::Ready(delivery) => discard(delivery),
            State::Opening(job) | State::Writing { job, .. } => State::Aborting(Box::pin(async move {
                // What the job gives back, a delivery or an error, cleans up as it is dropped.
                drop(job.await);
            })),
            State::Finishing(job) => State::Aborting(Box::pin(async move { drop(job.await) })),
            other => other,
        };
    }

    fn poll_aborted(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        if let State::Aborting(cleanup) = &mut self.state {
            ready!(cleanup.as_mut().poll(cx));
            self.state = State::Gone;
        }
        Poll::Ready(())
    }

    fn is_busy(&self) -> bool {
        !matches!(
            self.state,
            State::Fresh | State::Ready(_) | State::Done | State::Gone
        )
    }

    fn name(&self) -> String {
        format!("maildir:{}", self.path.display())
    }
}

impl Drop for MaildirSink {
    fn drop(&mut self) {
        // A job under way still owns its delivery, and drops it when it is done.
        self.aborted.store(true, Ordering::Release);
        if let Some(delivery) = self.take_ready() {
            discard(delivery);
        }
    }
}

/// Removes the file off the runtime's threads, or here when there is no runtime any more.
fn discard(delivery: Box<Delivery>) -> State {
    match tokio::runtime::Handle::try_current() {
        Ok(runtime) => {
            let job = runtime.spawn_blocking(move || drop(delivery));
            State::Aborting(Box::pin(async move { drop(job.await) }))
        }
        Err(_) => {
            drop(delivery);
            State::Gone
        }
    }
}

fn one_trip(held: &Held) -> (Vec<Bytes>, usize) {
    let (mut pieces, mut bytes) = (Vec::new(), 0);
    for piece in held.pieces() {
        if bytes > 0 && bytes + piece.len() > TRIP_BYTES_MAX {
            break;
        }
        bytes += piece.len();
        pieces.push(piece.clone());
    }
    (pieces, bytes)
}

fn poll_job<T>(job: &mut Job<T>, cx: &mut Context<'_>) -> Poll<Result<T, EndpointError>> {
    match ready!(Pin::new(job).poll(cx)) {
        Ok(result) => Poll::Ready(result.map_err(EndpointError::from)),
        Err(_) => Poll::Ready(Err(MaildirError::Interrupted.into())),
    }
}

/// The caller polls a sink that already ended.
fn ended() -> EndpointError {
    MaildirError::Aborted.into()
}
