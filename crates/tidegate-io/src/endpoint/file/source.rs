//! A file to be read: what the page cache has at once, the rest on a thread.
//!
//! Knows nothing of how files are written.

use std::fs::{File, Metadata};
use std::future::Future;
use std::io;
use std::path::PathBuf;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use tokio::task::{JoinHandle, spawn_blocking};

use super::blocking;
use crate::page_cache::{self, Cached};
use crate::system::read_at;
use crate::{
    AfterAbort, Blame, Buffer, Buffers, EndpointError, ErrorKind, LaneEnd, LaneKind, Source, lane_fd,
};

/// A file to be read.
///
/// A regular file that ends before the size it had when it was opened is truncated, not ended. One that grows is read
/// to its new end. Anything else (a device) is read from its own position by blocking reads, which cannot be
/// interrupted: FIFOs belong to the `pipe` endpoint.
#[derive(Debug)]
pub struct FileSource {
    file: Arc<File>,
    name: Arc<str>,
    offset: u64,
    /// Where the stream ends: the end of a chosen range, else the size when opened. `None` for what is no regular file.
    end: Option<u64>,
    /// Stop at `end` even if the file goes on.
    ranged: bool,
    nowait: bool,
    reading: Option<JoinHandle<(Buffer, io::Result<usize>)>>,
}

impl FileSource {
    /// Opens the file at `path` for reading from its start.
    ///
    /// # Errors
    /// `ErrorKind::Open`, also for a directory.
    pub async fn open(path: impl Into<PathBuf>) -> Result<Self, EndpointError> {
        let path = path.into();
        let name: Arc<str> = path.display().to_string().into();
        let opened = blocking(move || {
            let file = File::open(path)?;
            let metadata = file.metadata()?;
            Ok((file, metadata))
        });
        let failed = |error| EndpointError::open(format!("cannot open {name}"), error);
        let (file, metadata) = opened.await.and_then(|result| result).map_err(failed)?;
        Self::from_parts(file, &metadata, Arc::clone(&name))
    }

    /// A file that is already open, read from its start if it is a regular one.
    ///
    /// # Errors
    /// `ErrorKind::Open` for a directory, or when the system does not tell what it is.
    pub fn from_file(file: File, name: &str) -> Result<Self, EndpointError> {
        let metadata = file
            .metadata()
            .map_err(|error| EndpointError::open(format!("cannot open {name}"), error))?;
        Self::from_parts(file, &metadata, name.into())
    }

    fn from_parts(file: File, metadata: &Metadata, name: Arc<str>) -> Result<Self, EndpointError> {
        if metadata.is_dir() {
            let error = io::Error::from(io::ErrorKind::IsADirectory);
            return Err(EndpointError::open(format!("cannot open {name}"), error));
        }
        if metadata.is_file() {
            page_cache::will_be_read_in_order(&file);
        }
        Ok(Self {
            file: Arc::new(file),
            name,
            offset: 0,
            end: metadata.is_file().then_some(metadata.len()),
            ranged: false,
            nowait: page_cache::CAN_BE_ASKED && metadata.is_file(),
            reading: None,
        })
    }

    /// The same source for `length` bytes from `offset` on. A file that ends before that is truncated.
    #[must_use]
    pub fn range(mut self, offset: u64, length: u64) -> Self {
        self.offset = offset;
        self.end = Some(offset.saturating_add(length));
        self.ranged = true;
        self
    }

    /// The same source from `offset` to the end of the file.
    #[must_use]
    pub fn from_offset(mut self, offset: u64) -> Self {
        self.offset = offset;
        self
    }

    fn error(&self, error: io::Error) -> EndpointError {
        EndpointError::io(format!("cannot read {}", self.name), error)
    }

    fn took(
        &mut self,
        buffer: Buffer,
        result: io::Result<usize>,
    ) -> Poll<Result<Option<Bytes>, EndpointError>> {
        match result {
            Ok(0) => Poll::Ready(self.ended()),
            Ok(got) => {
                self.offset += got as u64;
                Poll::Ready(Ok(Some(buffer.freeze(got))))
            }
            Err(error) => Poll::Ready(Err(self.error(error))),
        }
    }

    fn ended(&self) -> Result<Option<Bytes>, EndpointError> {
        match self.end {
            Some(end) if self.offset < end => Err(EndpointError::new(
                ErrorKind::Truncated,
                Blame::System,
                format!("{} ended at {} of {end} bytes", self.name, self.offset),
            )),
            _ => Ok(None),
        }
    }

    /// A read that the page cache can serve, done at once. `None` when a thread must do it.
    fn read_cached(&mut self, space: &mut [u8]) -> Option<io::Result<usize>> {
        if !self.nowait {
            return None;
        }
        match page_cache::read(&self.file, space, self.offset) {
            Ok(Cached::Read(got)) => Some(Ok(got)),
            Ok(Cached::Later) => None,
            Ok(Cached::Never) => {
                self.nowait = false;
                None
            }
            Err(error) => Some(Err(error)),
        }
    }

    /// How much to ask for: a file says how much it has.
    fn size_wanted(&self, max: usize) -> usize {
        let left = self.end.map_or(max as u64, |end| end.saturating_sub(self.offset));
        usize::try_from(left).unwrap_or(max).clamp(1, max)
    }
}

impl Source for FileSource {
    fn poll_read(
        &mut self,
        cx: &mut Context<'_>,
        _buffers: &mut Buffers,
        max: usize,
    ) -> Poll<Result<Option<Bytes>, EndpointError>> {
        if self.reading.is_none() {
            if self.ranged && self.end.is_some_and(|end| self.offset >= end) {
                return Poll::Ready(Ok(None));
            }
            let mut buffer = Buffers::take_exact(self.size_wanted(max));
            if let Some(result) = self.read_cached(buffer.space()) {
                return self.took(buffer, result);
            }
            let file = Arc::clone(&self.file);
            let offset = self.end.is_some().then_some(self.offset);
            self.reading = Some(spawn_blocking(move || {
                let result = read_blocking(&file, buffer.space(), offset);
                (buffer, result)
            }));
        }
        let Some(reading) = &mut self.reading else {
            return Poll::Pending;
        };
        let done = ready!(Pin::new(reading).poll(cx));
        self.reading = None;
        match done {
            Ok((buffer, result)) => self.took(buffer, result),
            Err(error) => Poll::Ready(Err(self.error(io::Error::other(error)))),
        }
    }

    fn size_hint(&self) -> Option<u64> {
        self.end.map(|end| end.saturating_sub(self.offset))
    }

    fn lane_end(&self) -> Option<LaneEnd<'_>> {
        if self.end.is_none() || self.ranged || self.reading.is_some() {
            return None;
        }
        Some(LaneEnd {
            kind: LaneKind::File,
            fd: lane_fd(&*self.file)?,
            offset: self.offset,
            after_abort: AfterAbort::Stays,
        })
    }

    fn lane_moved(&mut self, bytes: u64) {
        self.offset += bytes;
    }

    fn name(&self) -> String {
        self.name.to_string()
    }
}

fn read_blocking(file: &File, space: &mut [u8], offset: Option<u64>) -> io::Result<usize> {
    loop {
        let result = match offset {
            Some(offset) => read_at(file, space, offset),
            None => io::Read::read(&mut &*file, space),
        };
        match result {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            result => return result,
        }
    }
}
