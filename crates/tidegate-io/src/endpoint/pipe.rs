//! FIFOs by path: a source that waits for its first writer, a sink that waits for its reader.
//!
//! Knows nothing of inherited pipes; `fd.rs` does. A FIFO has one way to end: an abort looks like an end to its reader.

use std::io;
use std::path::Path;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use rustix::fs::{FileType, Mode, OFlags};
use rustix::io::Errno;
use tidegate::AbortReason;
use tokio::io::Interest;

use super::descriptor::{DescriptorKind, Reader, Writer};
use super::polled::{Polled, Unwaiting};
use crate::{Blame, Buffers, Confirmation, EndpointError, ErrorKind, Held, LaneEnd, LaneOp, Sink, Source};

/// The read end of a FIFO.
///
/// Opens at once; until a writer has come there is nothing to read and no end either. When the last writer has closed
/// it, the stream has ended.
pub struct PipeSource {
    reader: Option<Reader>,
    name: String,
    ended: bool,
}

impl PipeSource {
    /// Opens the FIFO at `path`. Does not wait for a writer; the first read does.
    ///
    /// # Errors
    /// `ErrorKind::Open` when it is missing, not ours to read, or no FIFO.
    pub fn open(path: impl AsRef<Path>) -> Result<Self, EndpointError> {
        let path = path.as_ref();
        let name = name_of(path);
        let reader = open(path, OFlags::RDONLY)
            .and_then(|fd| {
                let polled = Polled::new(fd, Unwaiting::Ours, Interest::READABLE)?;
                Ok(Reader::polled(polled, DescriptorKind::Pipe))
            })
            .map_err(|error| EndpointError::open(format!("cannot open {name}"), error))?;
        Ok(Self {
            reader: Some(reader),
            name,
            ended: false,
        })
    }
}

impl Source for PipeSource {
    /// The runtime reports a FIFO ready only once a writer has written or gone, never before the first has come: so a
    /// read of zero bytes here is the end.
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
        let read = read.map_err(|error| EndpointError::io(format!("cannot read {}", self.name), error))?;
        self.ended = read.is_none();
        Poll::Ready(Ok(read))
    }

    fn poll_stop(&mut self, _cx: &mut Context<'_>) -> Poll<()> {
        self.reader = None;
        Poll::Ready(())
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
        self.name.clone()
    }
}

/// The write end of a FIFO.
pub struct PipeSink {
    writer: Option<Writer>,
    name: String,
}

impl PipeSink {
    /// Opens the FIFO at `path`, waiting until somebody has it open for reading.
    ///
    /// Cancel safe: nothing is held while it waits. The system has no event for "a reader came", so it is asked again
    /// after 1 ms, and ever more seldom up to every 25 ms.
    ///
    /// # Errors
    /// `ErrorKind::Open` when it is missing, not ours to write, or no FIFO.
    pub async fn open(path: impl AsRef<Path>) -> Result<Self, EndpointError> {
        let path = path.as_ref();
        let name = name_of(path);
        let mut pause = Duration::from_millis(1);
        let fd = loop {
            match open(path, OFlags::WRONLY) {
                Err(error) if error.raw_os_error() == Some(Errno::NXIO.raw_os_error()) => {}
                result => break result,
            }
            tokio::time::sleep(pause).await;
            pause = (pause * 2).min(Duration::from_millis(25));
        };
        let writer = fd
            .and_then(|fd| {
                let polled = Polled::new(fd, Unwaiting::Ours, Interest::WRITABLE)?;
                Ok(Writer::polled(polled, DescriptorKind::Pipe))
            })
            .map_err(|error| EndpointError::open(format!("cannot open {name}"), error))?;
        Ok(Self {
            writer: Some(writer),
            name,
        })
    }
}

impl Sink for PipeSink {
    fn poll_write(&mut self, cx: &mut Context<'_>, held: &Held) -> Poll<Result<usize, EndpointError>> {
        let Some(writer) = self.writer.as_mut() else {
            let what = format!("{} was ended before", self.name);
            return Poll::Ready(Err(EndpointError::new(ErrorKind::Failed, Blame::Caller, what)));
        };
        let written = ready!(writer.poll_write(cx, held));
        Poll::Ready(written.map_err(|error| EndpointError::io(format!("cannot write {}", self.name), error)))
    }

    fn poll_finish(&mut self, _cx: &mut Context<'_>) -> Poll<Result<Confirmation, EndpointError>> {
        self.writer = None;
        Poll::Ready(Ok(Confirmation::Sent))
    }

    fn abort(&mut self, _reason: &AbortReason) {
        self.writer = None;
    }

    fn poll_hangup(&mut self, cx: &mut Context<'_>) -> Poll<EndpointError> {
        let Some(writer) = self.writer.as_mut() else {
            return Poll::Pending;
        };
        ready!(writer.poll_broken(cx));
        let what = format!("the reader of {} has gone", self.name);
        Poll::Ready(EndpointError::new(ErrorKind::BrokenPipe, Blame::Peer, what))
    }

    fn unsent_bytes(&self) -> Option<u64> {
        self.writer.as_ref()?.unsent_bytes()
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
        self.name.clone()
    }
}

fn name_of(path: &Path) -> String {
    format!("pipe:{}", path.display())
}

/// Opens without waiting for the other side, and makes sure that it is a FIFO.
fn open(path: &Path, access: OFlags) -> io::Result<std::os::fd::OwnedFd> {
    let flags = access | OFlags::NONBLOCK | OFlags::CLOEXEC | OFlags::NOCTTY;
    let kind = FileType::from_raw_mode(rustix::fs::stat(path)?.st_mode);
    if kind != FileType::Fifo {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "not a FIFO"));
    }
    let fd = rustix::fs::open(path, flags, Mode::empty())?;
    let kind = FileType::from_raw_mode(rustix::fs::fstat(&fd)?.st_mode);
    if kind != FileType::Fifo {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "not a FIFO"));
    }
    Ok(fd)
}
