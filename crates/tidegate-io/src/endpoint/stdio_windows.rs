//! Standard input and output of Windows as a source, a sink, or one two-way transport: pipes, files and consoles; and any
//! other handle that somebody made for waiting reads and writes, as an anonymous pipe is.
//!
//! Knows nothing of consoles' modes. Whoever started us made these handles, and not for the completion port: a thread
//! each reads and writes them. At a console, text goes through the standard library: UTF-8 on our side, whatever the
//! console's code page; bytes that are no UTF-8 cannot be shown there and are an error.

use std::fs::File;
use std::io::{self, IoSlice, IsTerminal, Read, Write};
use std::os::windows::io::{AsHandle, BorrowedHandle, OwnedHandle};
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use tidegate::AbortReason;

use super::worker::Worker;
use crate::{Blame, Buffers, Confirmation, Duplex, EndpointError, ErrorKind, Held, Sink, Source};

/// How many pieces a console is given at once.
const SLICES_MAX: usize = 64;
/// The most that one write takes: a pipe's write waits until all of it is accepted, and a reader that takes a little now
/// and then is not stalled.
const WRITE_BYTES_MAX: usize = 128 * 1024;

/// Standard input: a pipe, a console or a file.
///
/// # Errors
/// `ErrorKind::Open` when there is none.
pub fn stdin() -> Result<StdinSource, EndpointError> {
    let stdin = io::stdin();
    let handle = match stdin.is_terminal() {
        true => Input::Console,
        false => Input::Handle(copied(stdin.as_handle(), "stdin")?),
    };
    Ok(StdinSource::new(handle, "stdin"))
}

/// A handle that is read as standard input is: an anonymous pipe, a file. `name` is what errors call it.
pub fn source_of(handle: OwnedHandle, name: &str) -> StdinSource {
    StdinSource::new(Input::Handle(handle.into()), name)
}

/// Standard output: a pipe, a console or a file.
///
/// # Errors
/// `ErrorKind::Open` when there is none.
pub fn stdout() -> Result<StdoutSink, EndpointError> {
    let stdout = io::stdout();
    let handle = match stdout.is_terminal() {
        true => Output::Console,
        false => Output::Handle(copied(stdout.as_handle(), "stdout")?),
    };
    Ok(StdoutSink::new(handle, "stdout"))
}

/// A handle that is written as standard output is: an anonymous pipe, a file. `name` is what errors call it.
pub fn sink_of(handle: OwnedHandle, name: &str) -> StdoutSink {
    StdoutSink::new(Output::Handle(handle.into()), name)
}

/// Standard input and output as the two ends of one transport.
///
/// # Errors
/// As [`stdin`] and [`stdout`].
pub fn standard_io() -> Result<Duplex, EndpointError> {
    Ok(Duplex {
        source: Box::new(stdin()?),
        sink: Box::new(stdout()?),
    })
}

/// A handle of our own to the same thing: closing it closes nothing for others.
fn copied(handle: BorrowedHandle<'_>, name: &str) -> Result<File, EndpointError> {
    handle.try_clone_to_owned().map(File::from).map_err(|error| {
        let mut error = EndpointError::open(format!("cannot open {name}"), error);
        error.kind = ErrorKind::Open;
        error
    })
}

/// Where standard input is read.
#[derive(Debug)]
enum Input {
    Console,
    Handle(File),
}

impl Input {
    /// What is left of a regular file.
    fn rest_of_file(&self) -> Option<u64> {
        use std::io::Seek;

        let Self::Handle(file) = self else { return None };
        let size = file.metadata().ok().filter(std::fs::Metadata::is_file)?.len();
        let mut file: &File = file;
        Some(size.saturating_sub(file.stream_position().ok()?))
    }

    fn read(&mut self, space: &mut [u8]) -> io::Result<usize> {
        loop {
            let read = match self {
                Self::Console => io::stdin().lock().read(space),
                Self::Handle(file) => file.read(space),
            };
            match read {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                // The last writer of a pipe has gone: its end.
                Err(error) if error.kind() == io::ErrorKind::BrokenPipe => return Ok(0),
                result => return result,
            }
        }
    }
}

/// What comes through standard input.
pub struct StdinSource {
    name: Arc<str>,
    worker: Option<Worker<usize, io::Result<Option<Bytes>>>>,
    /// Until the thread has it.
    handle: Option<Input>,
    size: Option<u64>,
    has_ended: bool,
}

impl StdinSource {
    fn new(handle: Input, name: &str) -> Self {
        Self {
            name: name.into(),
            size: handle.rest_of_file(),
            worker: None,
            handle: Some(handle),
            has_ended: false,
        }
    }

    fn started(&mut self) -> io::Result<&mut Worker<usize, io::Result<Option<Bytes>>>> {
        if let Some(mut handle) = self.handle.take() {
            let mut buffers = Buffers::default();
            self.worker = Some(Worker::spawn(move |max| {
                let mut buffer = buffers.take(max);
                let asked = buffer.space().len();
                let got = handle.read(buffer.space())?;
                buffers.learn(asked, got);
                Ok((got > 0).then(|| buffer.freeze(got)))
            })?);
        }
        self.worker
            .as_mut()
            .ok_or_else(|| io::ErrorKind::NotConnected.into())
    }
}

impl Source for StdinSource {
    fn poll_read(
        &mut self,
        cx: &mut Context<'_>,
        _buffers: &mut Buffers,
        max: usize,
    ) -> Poll<Result<Option<Bytes>, EndpointError>> {
        if self.has_ended {
            return Poll::Ready(Ok(None));
        }
        let read = match self.started() {
            Ok(worker) => ready!(worker.poll(cx, || max)),
            Err(error) => Err(error),
        };
        let read = read.map_err(|error| EndpointError::io(format!("cannot read {}", self.name), error))?;
        match &read {
            Some(bytes) => self.size = self.size.map(|size| size.saturating_sub(bytes.len() as u64)),
            None => self.has_ended = true,
        }
        Poll::Ready(Ok(read))
    }

    fn poll_stop(&mut self, _cx: &mut Context<'_>) -> Poll<()> {
        self.handle = None;
        self.worker = None;
        self.has_ended = true;
        Poll::Ready(())
    }

    fn size_hint(&self) -> Option<u64> {
        self.size
    }

    fn name(&self) -> String {
        self.name.to_string()
    }
}

/// Where standard output is written.
#[derive(Debug)]
enum Output {
    Console,
    Handle(File),
}

impl Output {
    fn write(&mut self, pieces: &[Bytes]) -> io::Result<usize> {
        let slices: Vec<_> = pieces.iter().map(|piece| IoSlice::new(piece)).collect();
        loop {
            let written = match self {
                Self::Console => {
                    let mut console = io::stdout().lock();
                    // It keeps the last line until it is full: a flush shows what was written.
                    console
                        .write_vectored(&slices)
                        .and_then(|written| console.flush().map(|()| written))
                }
                Self::Handle(file) => {
                    let first = pieces.first().map_or(&[][..], |piece| piece);
                    file.write(&first[..first.len().min(WRITE_BYTES_MAX)])
                }
            };
            match written {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
                result => return result,
            }
        }
    }
}

/// What goes to standard output. An abort cannot be shown there: a pipe's reader sees an end, a file stays as it is.
pub struct StdoutSink {
    name: Arc<str>,
    worker: Option<Worker<Vec<Bytes>, io::Result<usize>>>,
    /// Until the thread has it.
    handle: Option<Output>,
    is_over: bool,
}

impl StdoutSink {
    fn new(handle: Output, name: &str) -> Self {
        Self {
            name: name.into(),
            worker: None,
            handle: Some(handle),
            is_over: false,
        }
    }

    fn started(&mut self) -> io::Result<&mut Worker<Vec<Bytes>, io::Result<usize>>> {
        if let Some(mut handle) = self.handle.take() {
            self.worker = Some(Worker::spawn(move |pieces: Vec<Bytes>| handle.write(&pieces))?);
        }
        self.worker
            .as_mut()
            .ok_or_else(|| io::ErrorKind::NotConnected.into())
    }
}

impl Sink for StdoutSink {
    fn poll_write(&mut self, cx: &mut Context<'_>, held: &Held) -> Poll<Result<usize, EndpointError>> {
        if self.is_over {
            let what = format!("{} was ended before", self.name);
            return Poll::Ready(Err(EndpointError::new(ErrorKind::Failed, Blame::Caller, what)));
        }
        let pieces = || held.pieces().take(SLICES_MAX).cloned().collect();
        let written = match self.started() {
            Ok(worker) => ready!(worker.poll(cx, pieces)),
            Err(error) => Err(error),
        };
        Poll::Ready(written.map_err(|error| EndpointError::io(format!("cannot write {}", self.name), error)))
    }

    fn poll_finish(&mut self, _cx: &mut Context<'_>) -> Poll<Result<Confirmation, EndpointError>> {
        // The process's own handle stays open until it exits; its reader sees the end then.
        self.abort(&AbortReason::Dropped);
        Poll::Ready(Ok(Confirmation::Sent))
    }

    fn abort(&mut self, _reason: &AbortReason) {
        self.is_over = true;
        self.handle = None;
        self.worker = None;
    }

    fn name(&self) -> String {
        self.name.to_string()
    }
}
