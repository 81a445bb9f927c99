//! Named pipes of Windows: connecting, listening, and pipes as sources, sinks or both. Bytes, never messages.
//!
//! Knows names and instances; how bytes travel is `overlapped`'s. A name is `\\.\pipe\NAME`, or `NAME` alone.
//!
//! A pipe has no half-close: beside a source, a finished sink leaves it open until both halves are done. An abort on the
//! listening side is an error to the client's reads; on the connecting side it cannot be told from an end.

use std::io;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use tidegate::AbortReason;
use tokio::net::windows::named_pipe::{ClientOptions, NamedPipeServer, ServerOptions};
use tokio::sync::Mutex;
use tokio::time::Instant;

use super::overlapped::{PipeEnd, Writing};
use crate::{Blame, Buffers, Confirmation, Duplex, EndpointError, ErrorKind, Held, Sink, Source};

const PREFIX: &str = r"\\.\pipe\";
/// What the system keeps of each direction.
const SYSTEM_BYTES: u32 = 64 * 1024;
/// `ERROR_PIPE_BUSY`: every instance has its client.
const BUSY: i32 = 231;
/// `ERROR_NO_DATA`: the client came and went before it was accepted.
const CLIENT_GONE: i32 = 232;
/// How often a busy pipe is asked again: the system's event for it has no safe call.
const BUSY_PAUSE: Duration = Duration::from_millis(20);

/// An open pipe that has not been given a use yet.
#[derive(Debug)]
pub struct NamedPipe {
    end: PipeEnd,
    name: Arc<str>,
}

/// Connects to the pipe called `name`, waiting up to `timeout` for a free instance.
///
/// # Errors
/// `ErrorKind::Open` when there is none, `TimedOut` when all its instances stayed taken.
///
/// # Cancel safety
/// Nothing is held while it waits.
pub async fn connect(name: &str, timeout: Duration) -> Result<NamedPipe, EndpointError> {
    let full = full_name(name);
    let deadline = Instant::now() + timeout;
    loop {
        match open(&full) {
            Ok(end) => {
                return Ok(NamedPipe {
                    end,
                    name: format!("npipe:{full}").into(),
                });
            }
            Err(error) if error.raw_os_error() == Some(BUSY) && Instant::now() < deadline => {
                tokio::time::sleep(BUSY_PAUSE).await;
            }
            Err(error) => {
                let error = match error.raw_os_error() {
                    Some(BUSY) => io::Error::new(io::ErrorKind::TimedOut, "all its instances are taken"),
                    _ => error,
                };
                return Err(EndpointError::open(format!("cannot connect to {full}"), error));
            }
        }
    }
}

/// Both ways if the server lets us, for that shows when it goes; else the one way it allows.
fn open(name: &str) -> io::Result<PipeEnd> {
    let both = ClientOptions::new().open(name);
    let opened = both.or_else(|error| match error.kind() {
        io::ErrorKind::PermissionDenied => ClientOptions::new()
            .write(false)
            .open(name)
            .or_else(|_| ClientOptions::new().read(false).open(name)),
        _ => Err(error),
    });
    opened.map(PipeEnd::Client)
}

/// A pipe that takes connections, one instance each.
#[derive(Debug)]
pub struct Listener {
    name: String,
    /// The instance that the next client gets: there is always one, so that a client never finds none.
    next: Mutex<NamedPipeServer>,
}

impl Listener {
    /// Makes the pipe. Nobody else may have made it (whoever makes a name first owns it), and clients of other machines
    /// are refused.
    ///
    /// # Errors
    /// `ErrorKind::Open`.
    pub fn bind(name: &str) -> Result<Self, EndpointError> {
        let full = full_name(name);
        let next = ServerOptions::new()
            .first_pipe_instance(true)
            .in_buffer_size(SYSTEM_BYTES)
            .out_buffer_size(SYSTEM_BYTES)
            .create(&full)
            .map_err(|error| EndpointError::open(format!("cannot listen on {full}"), error))?;
        Ok(Self {
            name: full,
            next: Mutex::new(next),
        })
    }

    /// Its full name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The next connection. Clients that left while they waited are passed over.
    ///
    /// # Errors
    /// No further instance can be made.
    ///
    /// # Cancel safety
    /// No connection is lost when the future is dropped.
    pub async fn accept(&self) -> Result<NamedPipe, EndpointError> {
        let failed = |error| EndpointError::io(format!("accepting on {}", self.name), error);
        let mut next = self.next.lock().await;
        loop {
            let has_left = match next.connect().await {
                Ok(()) => false,
                Err(error) if error.raw_os_error() == Some(CLIENT_GONE) => true,
                Err(error) => return Err(failed(error)),
            };
            let following = ServerOptions::new()
                .in_buffer_size(SYSTEM_BYTES)
                .out_buffer_size(SYSTEM_BYTES)
                .create(&self.name)
                .map_err(failed)?;
            let accepted = std::mem::replace(&mut *next, following);
            if !has_left {
                return Ok(NamedPipe {
                    end: PipeEnd::Server(accepted),
                    name: format!("npipe:{}", self.name).into(),
                });
            }
        }
    }
}

/// A pipe to be read only.
pub fn source(pipe: NamedPipe) -> NamedPipeSource {
    let NamedPipe { end, name } = pipe;
    NamedPipeSource {
        end: Some(Arc::new(end)),
        name,
        has_ended: false,
    }
}

/// A pipe to be written only: what comes back is dropped.
pub fn sink(pipe: NamedPipe) -> NamedPipeSink {
    let NamedPipe { end, name } = pipe;
    NamedPipeSink {
        end: Some(Arc::new(end)),
        writing: Writing::default(),
        name,
        beside: Beside::Nobody,
    }
}

/// A pipe as both ends of a relay or a transport.
pub fn duplex(pipe: NamedPipe) -> Duplex {
    let NamedPipe { end, name } = pipe;
    let end = Arc::new(end);
    Duplex {
        source: Box::new(NamedPipeSource {
            end: Some(Arc::clone(&end)),
            name: Arc::clone(&name),
            has_ended: false,
        }),
        sink: Box::new(NamedPipeSink {
            end: Some(end),
            writing: Writing::default(),
            name,
            beside: Beside::Source,
        }),
    }
}

/// `NAME` means the pipe of that name on this machine.
fn full_name(name: &str) -> String {
    match name.starts_with(['\\', '/']) {
        true => name.replace('/', "\\"),
        false => format!("{PREFIX}{name}"),
    }
}

/// What comes through a named pipe.
pub struct NamedPipeSource {
    end: Option<Arc<PipeEnd>>,
    name: Arc<str>,
    has_ended: bool,
}

impl Source for NamedPipeSource {
    fn poll_read(
        &mut self,
        cx: &mut Context<'_>,
        buffers: &mut Buffers,
        max: usize,
    ) -> Poll<Result<Option<Bytes>, EndpointError>> {
        let Some(end) = self.end.as_ref().filter(|_| !self.has_ended) else {
            return Poll::Ready(Ok(None));
        };
        let read = ready!(end.poll_read(cx, buffers, max));
        let read = read.map_err(|error| EndpointError::io(Arc::clone(&self.name), error))?;
        self.has_ended = read.is_none();
        Poll::Ready(Ok(read))
    }

    fn poll_stop(&mut self, _cx: &mut Context<'_>) -> Poll<()> {
        self.end = None;
        Poll::Ready(())
    }

    fn name(&self) -> String {
        self.name.to_string()
    }
}

/// Who else has the pipe.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Beside {
    /// The sink alone.
    Nobody,
    /// A source that reads from it.
    Source,
}

/// What goes into a named pipe.
pub struct NamedPipeSink {
    /// `None` once finished or aborted.
    end: Option<Arc<PipeEnd>>,
    writing: Writing,
    name: Arc<str>,
    beside: Beside,
}

impl Sink for NamedPipeSink {
    fn poll_write(&mut self, cx: &mut Context<'_>, held: &Held) -> Poll<Result<usize, EndpointError>> {
        let Some(end) = &self.end else {
            let what = format!("{} was ended before", self.name);
            return Poll::Ready(Err(EndpointError::new(ErrorKind::Failed, Blame::Caller, what)));
        };
        let written = ready!(self.writing.poll_write(cx, end, held));
        Poll::Ready(written.map_err(|error| EndpointError::io(Arc::clone(&self.name), error)))
    }

    fn poll_finish(&mut self, _cx: &mut Context<'_>) -> Poll<Result<Confirmation, EndpointError>> {
        // Closing keeps what the client has not read yet.
        self.end = None;
        Poll::Ready(Ok(Confirmation::Sent))
    }

    fn abort(&mut self, _reason: &AbortReason) {
        if let Some(end) = self.end.take() {
            end.cut();
        }
    }

    fn poll_hangup(&mut self, cx: &mut Context<'_>) -> Poll<EndpointError> {
        let Some(end) = self.end.as_ref().filter(|_| self.beside == Beside::Nobody) else {
            return Poll::Pending;
        };
        ready!(end.poll_broken(cx));
        let what = format!("the reader of {} has gone", self.name);
        Poll::Ready(EndpointError::new(ErrorKind::BrokenPipe, Blame::Peer, what))
    }

    fn name(&self) -> String {
        self.name.to_string()
    }
}

impl Drop for NamedPipeSink {
    fn drop(&mut self) {
        self.abort(&AbortReason::Dropped);
    }
}
