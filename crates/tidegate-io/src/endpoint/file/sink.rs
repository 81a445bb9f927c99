//! A file to be written: the writes, on threads or at once, and its two ends.
//!
//! Knows nothing of paths and names: `place` opens, completes and takes back.

use std::future::Future;
use std::io::{self, Seek};
use std::path::PathBuf;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Instant;

use tidegate::AbortReason;
use tokio::task::{JoinHandle, spawn_blocking};

use super::output::Output;
use super::pieces::{batch, write_pieces};
use super::place::{CutShort, append, create, finish};
use super::{Durability, Overwrite, WritesOn, blocking};
use crate::endpoint::write_back::WriteBack;
use crate::{Blame, Confirmation, EndpointError, ErrorKind, Held, LaneEnd, LaneJob, LaneKind, Sink, lane_fd};

fn flatten<T>(result: Result<io::Result<T>, tokio::task::JoinError>) -> io::Result<T> {
    result.unwrap_or_else(|error| Err(io::Error::other(error)))
}

/// A file to be written.
#[derive(Debug)]
pub struct FileSink {
    /// `None` once finished or aborted.
    output: Option<Arc<Output>>,
    name: Arc<str>,
    durability: Durability,
    writes_on: WritesOn,
    /// Only for a regular file whose finish waits for the disk.
    write_back: Option<WriteBack>,
    work: Option<Work>,
}

#[derive(Debug)]
enum Work {
    Write(JoinHandle<io::Result<usize>>),
    Finish(JoinHandle<Result<Confirmation, EndpointError>>),
    Undo(JoinHandle<()>),
}

impl FileSink {
    /// A stream that becomes the file at `path` once it is complete. What exists and is no regular file (a device) is
    /// written in place.
    ///
    /// # Errors
    /// `ErrorKind::Exists`, or `Open`, also for a directory.
    pub async fn create(path: impl Into<PathBuf>, overwrite: Overwrite) -> Result<Self, EndpointError> {
        let path = path.into();
        Self::opened(path.clone(), move || create(&path, overwrite)).await
    }

    /// A stream added to the end of the file at `path`, in place. An abort cuts the file back to its old length.
    ///
    /// # Errors
    /// `ErrorKind::Open`, also for a directory.
    pub async fn append(path: impl Into<PathBuf>) -> Result<Self, EndpointError> {
        let path = path.into();
        Self::opened(path.clone(), move || append(&path, CutShort::TakenBack)).await
    }

    /// A stream added to the end of the file at `path`, in place, or its beginning where there is no file. What has come stays
    /// when the stream is cut short, for a later one to go on from.
    ///
    /// # Errors
    /// `ErrorKind::Open`, also for a directory.
    pub async fn go_on(path: impl Into<PathBuf>) -> Result<Self, EndpointError> {
        let path = path.into();
        Self::opened(path.clone(), move || append(&path, CutShort::Stays)).await
    }

    async fn opened(
        path: PathBuf,
        open: impl FnOnce() -> io::Result<Output> + Send + 'static,
    ) -> Result<Self, EndpointError> {
        let name: Arc<str> = path.display().to_string().into();
        match blocking(open).await.and_then(|result| result) {
            Ok(output) => Ok(Self {
                write_back: output.write_back(),
                output: Some(Arc::new(output)),
                name,
                durability: Durability::Synced,
                writes_on: WritesOn::Threads,
                work: None,
            }),
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
                let what = format!("{name} exists and is not to be overwritten");
                Err(EndpointError::new(ErrorKind::Exists, Blame::Caller, what))
            }
            Err(error) => Err(EndpointError::open(
                format!("cannot open {name} for writing"),
                error,
            )),
        }
    }

    /// Chooses whether a finish waits for the disk.
    #[must_use]
    pub fn durability(mut self, durability: Durability) -> Self {
        self.durability = durability;
        self.write_back = match (durability, &self.output) {
            (Durability::Synced, Some(output)) => output.write_back(),
            _ => None,
        };
        self
    }

    /// Chooses who does the writes.
    #[must_use]
    pub fn writes_on(mut self, wanted: WritesOn) -> Self {
        if let Some(output) = self.output.as_ref().filter(|output| output.regular) {
            self.writes_on = wanted.allowed_by(&output.file);
        }
        self
    }

    fn wrote(&mut self, bytes: u64) {
        if let Some(write_back) = &mut self.write_back {
            write_back.wrote(bytes);
        }
    }

    fn error(&self, error: io::Error) -> EndpointError {
        EndpointError::io(format!("cannot write {}", self.name), error)
    }

    fn written(&mut self, result: io::Result<usize>) -> Result<usize, EndpointError> {
        let written = result.map_err(|error| self.error(error))?;
        self.wrote(written as u64);
        Ok(written)
    }

    fn start_write(&mut self, held: &Held) -> Result<(), EndpointError> {
        let Some(output) = &self.output else {
            return Err(self.error(io::Error::other("already closed")));
        };
        let output = Arc::clone(output);
        let pieces = batch(held);
        self.work = Some(Work::Write(spawn_blocking(move || {
            let result = write_pieces(&output.file, pieces);
            drop(output);
            result
        })));
        Ok(())
    }

    /// The write that a thread does.
    fn poll_under_way(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<usize>> {
        let Some(Work::Write(write)) = &mut self.work else {
            return Poll::Ready(Err(io::Error::other("already finishing")));
        };
        let result = flatten(ready!(Pin::new(write).poll(cx)));
        self.work = None;
        Poll::Ready(result)
    }
}

impl Sink for FileSink {
    fn poll_write(&mut self, cx: &mut Context<'_>, held: &Held) -> Poll<Result<usize, EndpointError>> {
        if self.work.is_none() {
            let at_once = |output: &&Arc<Output>| output.never_waits || self.writes_on == WritesOn::Caller;
            if let Some(output) = self.output.as_ref().filter(at_once) {
                let began = Instant::now();
                let result = write_pieces(&output.file, batch(held));
                self.writes_on = self.writes_on.after(began.elapsed());
                return Poll::Ready(self.written(result));
            }
            self.start_write(held)?;
        }
        let result = ready!(self.poll_under_way(cx));
        Poll::Ready(self.written(result))
    }

    fn poll_finish(&mut self, cx: &mut Context<'_>) -> Poll<Result<Confirmation, EndpointError>> {
        if self.work.is_none() {
            let Some(output) = self.output.take() else {
                return Poll::Ready(Err(self.error(io::Error::other("already closed"))));
            };
            let (name, durability) = (Arc::clone(&self.name), self.durability);
            self.work = Some(Work::Finish(spawn_blocking(move || {
                finish(&output, &name, durability)
            })));
        }
        match &mut self.work {
            Some(Work::Finish(finish)) => {
                let result = ready!(Pin::new(finish).poll(cx));
                self.work = None;
                Poll::Ready(result.unwrap_or_else(|error| Err(self.error(io::Error::other(error)))))
            }
            _ => Poll::Ready(Err(self.error(io::Error::other("finished while writing")))),
        }
    }

    fn abort(&mut self, _reason: &AbortReason) {
        let Some(output) = self.output.take() else { return };
        if self.work.is_none() && tokio::runtime::Handle::try_current().is_ok() {
            self.work = Some(Work::Undo(spawn_blocking(move || drop(output))));
        }
    }

    fn poll_aborted(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        match &mut self.work {
            Some(Work::Write(write)) => ready!(Pin::new(write).poll(cx)).map_or((), drop),
            Some(Work::Finish(finish)) => ready!(Pin::new(finish).poll(cx)).map_or((), drop),
            Some(Work::Undo(undo)) => ready!(Pin::new(undo).poll(cx)).unwrap_or(()),
            None => {}
        }
        self.work = None;
        Poll::Ready(())
    }

    fn is_busy(&self) -> bool {
        self.work.is_some()
    }

    fn lane_end(&self) -> Option<LaneEnd<'_>> {
        let output = self
            .output
            .as_ref()
            .filter(|output| output.regular && self.work.is_none())?;
        Some(LaneEnd {
            kind: LaneKind::File,
            fd: lane_fd(&*output.file)?,
            offset: (&*output.file).stream_position().ok()?,
            after_abort: output.after_abort(),
        })
    }

    fn poll_lane_job(
        &mut self,
        cx: &mut Context<'_>,
        job: &mut dyn FnMut() -> LaneJob,
    ) -> Poll<io::Result<usize>> {
        if self.work.is_none() {
            let Some(output) = self.output.as_ref().map(Arc::clone) else {
                return Poll::Ready(Err(io::ErrorKind::NotConnected.into()));
            };
            let offset = (&*output.file).stream_position()?;
            let job = job();
            self.work = Some(Work::Write(spawn_blocking(move || {
                match lane_fd(&*output.file) {
                    Some(fd) => job(fd, offset),
                    None => Err(io::ErrorKind::Unsupported.into()),
                }
            })));
        }
        self.poll_under_way(cx)
    }

    fn lane_moved(&mut self, bytes: u64) {
        // Lanes say where they write; whoever writes next goes on behind that.
        if let (Some(output), Ok(ahead)) = (&self.output, i64::try_from(bytes)) {
            let _ = (&*output.file).seek_relative(ahead);
        }
        self.wrote(bytes);
    }

    fn name(&self) -> String {
        self.name.to_string()
    }
}
