//! A file as a pull producer: one chunk for each pull, through a transform if one is wanted. (Twisted: `FileSender`.)
//!
//! Knows nothing of the consumer but its three calls; does not finish it, so that something else may follow. A chunk that
//! is in memory already is written before the pull returns (`preadv2` with `RWF_NOWAIT`); any other is read on a thread
//! for blocking work and written later. Needs a running tokio runtime at [`FileSender::begin`].

use std::fmt;
use std::fs::File;
use std::future::Future;
use std::io;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use tidegate::{AlreadyRegistered, Consumer, Producer, PullProducer, Refusal, StopReason};
use tokio::runtime::Handle;
use tokio::sync::oneshot;

use crate::page_cache::{self, Cached};
use crate::system::read_at;

/// The largest chunk unless told otherwise, in bytes: Twisted's.
const CHUNK_BYTES_DEFAULT: usize = 16 * 1024;

/// Changes a chunk on its way. What it answers with nothing is left out.
pub type Transform = Box<dyn FnMut(Bytes) -> Bytes + Send>;

/// A file to be sent.
///
/// ```no_run
/// # async fn example(consumer: &tidegate_io::SinkConsumer) -> Result<(), Box<dyn std::error::Error>> {
/// use tidegate::FinishableConsumer as _;
/// use tidegate_io::FileSender;
/// let file = std::fs::File::open("big.iso")?;
/// let sent = FileSender::new(file).begin(&consumer.consumer())?.await?;
/// consumer.finish();
/// assert!(sent.bytes > 0);
/// # Ok(()) }
/// ```
pub struct FileSender {
    file: File,
    offset: u64,
    chunk: usize,
    transform: Option<Transform>,
}

/// What was sent.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Sent {
    /// Bytes that the consumer took.
    pub bytes: u64,
    /// The last of them.
    pub last: Option<u8>,
}

/// Why a file was not sent to its end.
#[derive(Debug)]
pub enum SendError {
    /// The file could not be read.
    Read(io::Error),
    /// The consumer is done with it.
    Stopped(StopReason),
    /// The consumer refused a chunk.
    Refused(Refusal),
}

impl fmt::Display for SendError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Read(error) => write!(f, "cannot read the file: {error}"),
            Self::Stopped(reason) => reason.fmt(f),
            Self::Refused(refusal) => write!(f, "write refused: {refusal}"),
        }
    }
}

impl std::error::Error for SendError {}

/// Ends once: when the whole file was written and the producer unregistered, or with what went wrong.
///
/// # Cancel safety
/// Dropping it changes nothing: the file goes on being sent.
#[derive(Debug)]
#[must_use = "a file that was not sent whole is told only here"]
pub struct Sending(oneshot::Receiver<Result<Sent, SendError>>);

impl Future for Sending {
    type Output = Result<Sent, SendError>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let result = ready!(Pin::new(&mut self.0).poll(cx));
        // Let go of by the consumer without a word.
        Poll::Ready(result.unwrap_or(Err(SendError::Stopped(StopReason::Dropped))))
    }
}

impl FileSender {
    /// Sends `file` from its start, in chunks of 16 KiB.
    pub fn new(file: File) -> Self {
        Self {
            file,
            offset: 0,
            chunk: CHUNK_BYTES_DEFAULT,
            transform: None,
        }
    }

    /// Starts at `bytes` from the start of the file.
    #[must_use]
    pub fn from_offset(self, bytes: u64) -> Self {
        Self {
            offset: bytes,
            ..self
        }
    }

    /// The largest chunk.
    #[must_use]
    pub fn chunk(self, bytes: usize) -> Self {
        Self {
            chunk: bytes.max(1),
            ..self
        }
    }

    /// Changes every chunk on its way.
    #[must_use]
    pub fn transform(self, transform: Transform) -> Self {
        Self {
            transform: Some(transform),
            ..self
        }
    }

    /// Registers with `consumer` as a pull producer. A file that is empty has been sent when this returns. The consumer is
    /// not owned: when it goes, the file is closed.
    ///
    /// # Errors
    /// Another producer is registered.
    ///
    /// # Panics
    /// Outside a tokio runtime.
    pub fn begin(self, consumer: &Arc<dyn Consumer>) -> Result<Sending, AlreadyRegistered> {
        let (verdict, sending) = oneshot::channel();
        let state = State {
            file: Some(Arc::new(self.file)),
            offset: self.offset,
            transform: self.transform,
            sent: Sent { bytes: 0, last: None },
            verdict: Some(verdict),
            is_busy: false,
            is_asked_again: false,
        };
        let producer = Arc::new_cyclic(|me| Pulled {
            me: Weak::clone(me),
            to: Arc::downgrade(consumer),
            chunk: self.chunk,
            runtime: Handle::current(),
            state: Mutex::new(state),
        });
        consumer.register_producer(Producer::Pull(producer))?;
        Ok(Sending(sending))
    }
}

/// What the consumer holds.
struct Pulled {
    me: Weak<Self>,
    to: Weak<dyn Consumer>,
    chunk: usize,
    runtime: Handle,
    state: Mutex<State>,
}

struct State {
    /// `None` once it has ended.
    file: Option<Arc<File>>,
    offset: u64,
    transform: Option<Transform>,
    sent: Sent,
    verdict: Option<oneshot::Sender<Result<Sent, SendError>>>,
    /// A chunk is being read or written.
    is_busy: bool,
    /// The next pull came in the midst of that.
    is_asked_again: bool,
}

enum Step {
    /// The pull was answered.
    Done,
    Next,
    /// A thread has to read.
    Later(Arc<File>, u64),
}

impl PullProducer for Pulled {
    fn resume_producing(&self) {
        {
            let mut state = self.lock();
            if state.is_busy || state.file.is_none() {
                state.is_asked_again = state.file.is_some();
                return;
            }
            state.is_busy = true;
        }
        self.produce();
    }

    fn stop_producing(&self, reason: StopReason) {
        self.end(Err(SendError::Stopped(reason)));
    }
}

impl Pulled {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn produce(&self) {
        loop {
            let (file, offset) = {
                let state = self.lock();
                let Some(file) = &state.file else { return };
                (Arc::clone(file), state.offset)
            };
            let step = match read_now(&file, offset, self.chunk) {
                Some(read) => self.deliver(read),
                None => Step::Later(file, offset),
            };
            match step {
                Step::Done => return,
                Step::Next => {}
                Step::Later(file, offset) => return self.read_later(file, offset),
            }
        }
    }

    fn read_later(&self, file: Arc<File>, offset: u64) {
        let Some(me) = self.me.upgrade() else { return };
        let chunk = self.chunk;
        self.runtime.spawn(async move {
            let read = tokio::task::spawn_blocking(move || read_blocking(&file, offset, chunk)).await;
            let read = read.unwrap_or_else(|error| Err(io::Error::other(error)));
            match me.deliver(read) {
                Step::Done => {}
                Step::Next | Step::Later(..) => me.produce(),
            }
        });
    }

    /// Writes what was read, without any lock.
    fn deliver(&self, read: io::Result<Bytes>) -> Step {
        let bytes = match read {
            Ok(bytes) if bytes.is_empty() => {
                let sent = self.lock().sent;
                return self.end_registered(Ok(sent));
            }
            Ok(bytes) => bytes,
            Err(error) => return self.end_registered(Err(SendError::Read(error))),
        };
        let transform = {
            let mut state = self.lock();
            state.offset += bytes.len() as u64;
            state.transform.take()
        };
        let bytes = match transform {
            Some(mut transform) => {
                let changed = transform(bytes);
                self.lock().transform = Some(transform);
                changed
            }
            None => bytes,
        };
        // Nothing of this chunk is to be sent: the pull is still to be answered.
        let Some(&last) = bytes.last() else {
            return Step::Next;
        };
        let Some(to) = self.to.upgrade() else {
            self.end(Err(SendError::Stopped(StopReason::Dropped)));
            return Step::Done;
        };
        let length = bytes.len() as u64;
        if let Err(error) = to.write(bytes) {
            return self.end_registered(Err(match error.refusal {
                Refusal::Dead(reason) => SendError::Stopped(reason),
                refusal => SendError::Refused(refusal),
            }));
        }
        let mut state = self.lock();
        state.sent.bytes += length;
        state.sent.last = Some(last);
        if std::mem::take(&mut state.is_asked_again) {
            return Step::Next;
        }
        state.is_busy = false;
        Step::Done
    }

    /// Unregisters, then tells.
    fn end_registered(&self, result: Result<Sent, SendError>) -> Step {
        let verdict = self.close();
        if let Some(verdict) = verdict {
            if let Some(to) = self.to.upgrade() {
                to.unregister_producer();
            }
            let _ = verdict.send(result);
        }
        Step::Done
    }

    fn end(&self, result: Result<Sent, SendError>) {
        if let Some(verdict) = self.close() {
            let _ = verdict.send(result);
        }
    }

    /// Lets go of the file. Only the first who ends gets to tell.
    fn close(&self) -> Option<oneshot::Sender<Result<Sent, SendError>>> {
        let (file, transform, verdict) = {
            let mut state = self.lock();
            (state.file.take(), state.transform.take(), state.verdict.take())
        };
        drop((file, transform));
        verdict
    }
}

/// What can be had without waiting for a disk; empty at the end of the file.
fn read_now(file: &File, offset: u64, chunk: usize) -> Option<io::Result<Bytes>> {
    if page_cache::CAN_BE_ASKED {
        let mut space = vec![0; chunk];
        match page_cache::read(file, &mut space, offset) {
            Ok(Cached::Read(got)) => {
                space.truncate(got);
                return Some(Ok(space.into()));
            }
            Ok(Cached::Later | Cached::Never) => {}
            Err(error) => return Some(Err(error)),
        }
    }
    ended(file, offset).then(|| Ok(Bytes::new()))
}

/// A regular file that ends at or before `offset`.
fn ended(file: &File, offset: u64) -> bool {
    file.metadata()
        .is_ok_and(|meta| meta.is_file() && meta.len() <= offset)
}

fn read_blocking(file: &File, offset: u64, chunk: usize) -> io::Result<Bytes> {
    let mut space = vec![0; chunk];
    let got = loop {
        match read_at(file, &mut space, offset) {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            result => break result?,
        }
    };
    space.truncate(got);
    Ok(space.into())
}
