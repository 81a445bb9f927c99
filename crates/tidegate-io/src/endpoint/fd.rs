//! An inherited descriptor as source, sink or both: `fd:N`, and what standard input and output are built on.
//!
//! Knows nothing of who opened it, and so never changes the description it shares with strangers: a pipe is reopened
//! through `/proc/self/fd`, a socket is asked call by call not to wait, a terminal gets a thread.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd, RawFd};
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use rustix::fs::{Mode, OFlags};
use tidegate::AbortReason;
use tokio::io::Interest;

pub use super::descriptor::DescriptorKind;
use super::descriptor::{Reader, Writer};
use super::os::{PEER_CLOSED, foreign, reopen};
use super::polled::{Polled, Unwaiting};
use crate::{
    Blame, Buffers, Confirmation, Duplex, EndpointError, ErrorKind, Held, LaneEnd, LaneOp, Sink, Source,
};

/// How much is read at once of what nobody wants.
const DISCARD_BYTES: usize = 16 * 1024;

/// Which of the process's own descriptors an endpoint stands for.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Origin {
    Stdin,
    Stdout,
    Number(RawFd),
}

impl Origin {
    pub(crate) fn name(self) -> String {
        match self {
            Self::Stdin => "stdin".into(),
            Self::Stdout => "stdout".into(),
            Self::Number(number) => format!("fd:{number}"),
        }
    }

    /// Lets go of the process's own copy, so that the far side notices. Only the standard ones can be replaced safely;
    /// any other stays open until the process ends.
    fn release(self) {
        let null = rustix::fs::open("/dev/null", OFlags::RDWR | OFlags::CLOEXEC, Mode::empty());
        let released = match (self, null) {
            (Self::Number(_), _) => Ok(()),
            (Self::Stdin, Ok(null)) => rustix::stdio::dup2_stdin(null),
            (Self::Stdout, Ok(null)) => rustix::stdio::dup2_stdout(null),
            (_, Err(error)) => Err(error),
        };
        if let Err(error) = released {
            tracing::debug!(%error, name = self.name(), "could not be let go of");
        }
    }
}

/// A descriptor of this process, taken over safely and not yet put to use.
///
/// ```no_run
/// # async fn example() -> Result<(), tidegate_io::EndpointError> {
/// let source = tidegate_io::endpoint::fd::Descriptor::adopt(3)?.into_source()?;
/// # Ok(()) }
/// ```
#[derive(Debug)]
pub struct Descriptor {
    fd: OwnedFd,
    kind: DescriptorKind,
    origin: Origin,
}

impl Descriptor {
    /// Takes over descriptor `number` of this process: a copy of it, which the caller's own stays open beside.
    ///
    /// # Errors
    /// `ErrorKind::Open` when no such descriptor is open, or the system does not let us copy it.
    pub fn adopt(number: RawFd) -> Result<Self, EndpointError> {
        let origin = Origin::Number(number);
        match number {
            0 => Self::copy(std::io::stdin().as_fd(), origin),
            1 => Self::copy(std::io::stdout().as_fd(), origin),
            2 => Self::copy(std::io::stderr().as_fd(), origin),
            _ => Self::new(
                foreign(number).map_err(|error| cannot_open(origin, error))?,
                origin,
            ),
        }
    }

    /// A copy of standard input or output.
    pub(crate) fn copy(fd: BorrowedFd<'_>, origin: Origin) -> Result<Self, EndpointError> {
        let fd = fd
            .try_clone_to_owned()
            .map_err(|error| cannot_open(origin, error))?;
        Self::new(fd, origin)
    }

    fn new(fd: OwnedFd, origin: Origin) -> Result<Self, EndpointError> {
        let kind = DescriptorKind::of(fd.as_fd()).map_err(|error| cannot_open(origin, error))?;
        Ok(Self { fd, kind, origin })
    }

    /// What it is.
    pub fn kind(&self) -> DescriptorKind {
        self.kind
    }

    /// The read end.
    ///
    /// # Errors
    /// `ErrorKind::Open` when it is not open for reading, or the runtime cannot watch it.
    pub fn into_source(self) -> Result<FdSource, EndpointError> {
        let origin = self.origin;
        self.require(OFlags::WRONLY, "is not open for reading")?;
        let reader = self.reader().map_err(|error| cannot_open(origin, error))?;
        Ok(FdSource {
            reader: Some(reader),
            origin,
            ended: false,
        })
    }

    /// The write end.
    ///
    /// # Errors
    /// `ErrorKind::Open` when it is not open for writing, or the runtime cannot watch it.
    pub fn into_sink(self) -> Result<FdSink, EndpointError> {
        let origin = self.origin;
        self.require(OFlags::empty(), "is not open for writing")?;
        let kind = self.kind;
        let writer = self.writer().map_err(|error| cannot_open(origin, error))?;
        Ok(FdSink {
            writer: Some(writer),
            kind,
            origin,
        })
    }

    /// Both ends of a socket, a terminal or another two-way descriptor.
    ///
    /// # Errors
    /// `ErrorKind::Open` when it is not open both ways.
    pub fn into_duplex(self) -> Result<Duplex, EndpointError> {
        let other = Self::copy(self.fd.as_fd(), self.origin)?;
        Ok(Duplex {
            source: Box::new(other.into_source()?),
            sink: Box::new(self.into_sink()?),
        })
    }

    /// Refuses a description whose access mode is `mode`.
    fn require(&self, mode: OFlags, what: &str) -> Result<(), EndpointError> {
        let flags =
            rustix::fs::fcntl_getfl(&self.fd).map_err(|error| cannot_open(self.origin, error.into()))?;
        if flags & OFlags::ACCMODE == mode {
            let what = format!("{} {what}", self.origin.name());
            return Err(EndpointError::new(ErrorKind::Open, Blame::Caller, what));
        }
        Ok(())
    }

    fn reader(self) -> io::Result<Reader> {
        let kind = self.kind;
        match kind {
            DescriptorKind::Pipe => match reopen(&self.fd, OFlags::RDONLY) {
                Ok(own) => {
                    Ok(Reader::polled(Polled::new(own, Unwaiting::Ours, Interest::READABLE)?, kind).eager())
                }
                Err(_) => Ok(Reader::threaded(self.fd, kind)),
            },
            DescriptorKind::Socket => {
                let polled = Polled::new(self.fd, Unwaiting::EachCall, Interest::READABLE)?;
                Ok(Reader::polled(polled, kind))
            }
            DescriptorKind::File | DescriptorKind::Tty | DescriptorKind::Null | DescriptorKind::Other => {
                Ok(Reader::threaded(self.fd, kind))
            }
        }
    }

    fn writer(self) -> io::Result<Writer> {
        let kind = self.kind;
        match kind {
            DescriptorKind::Pipe => match reopen(&self.fd, OFlags::WRONLY) {
                Ok(own) => Ok(Writer::polled(
                    Polled::new(own, Unwaiting::Ours, Interest::WRITABLE)?,
                    kind,
                )),
                Err(_) => Ok(Writer::threaded(self.fd, kind)),
            },
            DescriptorKind::Socket => {
                let polled = Polled::new(self.fd, Unwaiting::EachCall, Interest::WRITABLE | PEER_CLOSED)?;
                Ok(Writer::polled(polled, kind))
            }
            DescriptorKind::Null => Ok(Writer::at_once(self.fd, kind)),
            DescriptorKind::File | DescriptorKind::Tty | DescriptorKind::Other => {
                Ok(Writer::threaded(self.fd, kind))
            }
        }
    }
}

/// The read end of an inherited descriptor.
pub struct FdSource {
    reader: Option<Reader>,
    origin: Origin,
    ended: bool,
}

impl Source for FdSource {
    fn poll_read(
        &mut self,
        cx: &mut Context<'_>,
        buffers: &mut Buffers,
        max: usize,
    ) -> Poll<Result<Option<Bytes>, EndpointError>> {
        let Some(reader) = self.reader.as_mut().filter(|_| !self.ended) else {
            return Poll::Ready(Ok(None));
        };
        let read = ready!(reader.poll_read(cx, buffers, max));
        let read =
            read.map_err(|error| EndpointError::io(format!("cannot read {}", self.origin.name()), error))?;
        self.ended = read.is_none();
        Poll::Ready(Ok(read))
    }

    fn poll_hangup(&mut self, cx: &mut Context<'_>) -> Poll<EndpointError> {
        let Some(reader) = self.reader.as_mut().filter(|_| !self.ended) else {
            return Poll::Pending;
        };
        ready!(reader.poll_broken(cx));
        let what = format!("{} was reset by its peer", self.origin.name());
        Poll::Ready(EndpointError::new(ErrorKind::Failed, Blame::Peer, what))
    }

    fn poll_stop(&mut self, _cx: &mut Context<'_>) -> Poll<()> {
        if self.reader.take().is_some() && !self.ended {
            self.origin.release();
        }
        Poll::Ready(())
    }

    /// Only a socket answers unread bytes with a reset.
    fn poll_discard(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let mut buffers = Buffers::default();
        while let Some(reader) = self.reader.as_mut().filter(|reader| reader.is_socket())
            && let Ok(Some(_dropped)) = ready!(reader.poll_read(cx, &mut buffers, DISCARD_BYTES))
        {}
        Poll::Ready(())
    }

    fn size_hint(&self) -> Option<u64> {
        self.reader.as_ref()?.size_hint()
    }

    fn lane_end(&self) -> Option<LaneEnd<'_>> {
        self.reader.as_ref()?.lane_end()
    }

    fn poll_lane(&mut self, cx: &mut Context<'_>, op: LaneOp<'_>) -> Poll<io::Result<usize>> {
        match &mut self.reader {
            Some(end) => end.poll_lane(cx, op),
            None => Poll::Ready(Err(io::ErrorKind::NotConnected.into())),
        }
    }

    fn lane_moved(&mut self, bytes: u64) {
        if let Some(reader) = &mut self.reader {
            reader.lane_moved(bytes);
        }
    }

    fn name(&self) -> String {
        self.origin.name()
    }
}

/// The write end of an inherited descriptor.
///
/// Finishing a socket shuts its write side; finishing standard output lets go of it, so that its reader sees the end
/// at once; any other descriptor shows its end when the process closes it. An abort cannot be shown on a pipe, a file
/// or a terminal: their readers see an end. A TCP socket is reset.
pub struct FdSink {
    writer: Option<Writer>,
    kind: DescriptorKind,
    origin: Origin,
}

impl FdSink {
    fn gone(&self) -> EndpointError {
        let what = format!("{} was ended before", self.origin.name());
        EndpointError::new(ErrorKind::Failed, Blame::Caller, what)
    }
}

impl Sink for FdSink {
    fn poll_write(&mut self, cx: &mut Context<'_>, held: &Held) -> Poll<Result<usize, EndpointError>> {
        let Some(writer) = self.writer.as_mut() else {
            return Poll::Ready(Err(self.gone()));
        };
        let written = ready!(writer.poll_write(cx, held));
        Poll::Ready(
            written.map_err(|error| EndpointError::io(format!("cannot write {}", self.origin.name()), error)),
        )
    }

    fn poll_finish(&mut self, _cx: &mut Context<'_>) -> Poll<Result<Confirmation, EndpointError>> {
        if let Some(writer) = self.writer.take() {
            if self.kind == DescriptorKind::Socket
                && let Err(error) = rustix::net::shutdown(writer.as_fd(), rustix::net::Shutdown::Write)
            {
                let what = format!("cannot end {}", self.origin.name());
                return Poll::Ready(Err(EndpointError::io(what, error.into())));
            }
            drop(writer);
            if matches!(self.kind, DescriptorKind::Pipe | DescriptorKind::Socket) {
                self.origin.release();
            }
        }
        Poll::Ready(Ok(Confirmation::Sent))
    }

    fn abort(&mut self, _reason: &AbortReason) {
        let Some(writer) = self.writer.take() else { return };
        if self.kind == DescriptorKind::Socket {
            // On a Unix socket this is refused and means nothing.
            let _ = rustix::net::sockopt::set_socket_linger(writer.as_fd(), Some(std::time::Duration::ZERO));
        }
        drop(writer);
        self.origin.release();
    }

    fn poll_hangup(&mut self, cx: &mut Context<'_>) -> Poll<EndpointError> {
        let Some(writer) = self.writer.as_mut() else {
            return Poll::Pending;
        };
        ready!(writer.poll_broken(cx));
        let what = format!("the reader of {} has gone", self.origin.name());
        Poll::Ready(EndpointError::new(ErrorKind::BrokenPipe, Blame::Peer, what))
    }

    fn unsent_bytes(&self) -> Option<u64> {
        self.writer.as_ref()?.unsent_bytes()
    }

    /// A file's thread waits for a disk; a terminal's waits for somebody.
    fn is_busy(&self) -> bool {
        self.writer.as_ref().is_some_and(Writer::is_writing_file)
    }

    fn lane_end(&self) -> Option<LaneEnd<'_>> {
        self.writer.as_ref()?.lane_end()
    }

    fn poll_lane(&mut self, cx: &mut Context<'_>, op: LaneOp<'_>) -> Poll<io::Result<usize>> {
        match &mut self.writer {
            Some(end) => end.poll_lane(cx, op),
            None => Poll::Ready(Err(io::ErrorKind::NotConnected.into())),
        }
    }

    fn lane_moved(&mut self, bytes: u64) {
        if let Some(writer) = &mut self.writer {
            writer.lane_moved(bytes);
        }
    }

    fn name(&self) -> String {
        self.origin.name()
    }
}

impl Drop for FdSink {
    fn drop(&mut self) {
        self.abort(&AbortReason::Dropped);
    }
}

fn cannot_open(origin: Origin, error: io::Error) -> EndpointError {
    let what = format!("cannot open {}", origin.name());
    let mut opened = EndpointError::open(what, error);
    if opened.kind != ErrorKind::Exists {
        opened.kind = ErrorKind::Open;
    }
    opened
}
