//! Reads and writes that can wait, done on a thread of their own: terminals, files, and pipes that cannot be reopened.
//!
//! Knows no names and no ways to end. Never makes a description non-blocking. One thread an endpoint, started with the
//! first call and not joined: a runtime that ends does not wait for a key to be pressed.

use std::io::{self, IoSlice};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use rustix::event::{PollFd, PollFlags};

use super::polled::{SLICES_MAX, retry};
use super::worker::Worker;
use crate::{Buffers, Held};

/// A descriptor read on a thread.
#[derive(Debug)]
pub(crate) struct ThreadedReader {
    fd: Arc<OwnedFd>,
    worker: Option<Worker<usize, io::Result<Option<Bytes>>>>,
    /// Dropping it ends a wait of the thread.
    cancel: Option<OwnedFd>,
}

impl ThreadedReader {
    pub(crate) fn new(fd: OwnedFd) -> Self {
        Self {
            fd: Arc::new(fd),
            worker: None,
            cancel: None,
        }
    }

    pub(crate) fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }

    /// Whether a read is under way, so that the offset of a file is not known.
    pub(crate) fn is_busy(&self) -> bool {
        self.worker.as_ref().is_some_and(|worker| worker.answer.is_some())
    }

    pub(crate) fn poll_read(&mut self, cx: &mut Context<'_>, max: usize) -> Poll<io::Result<Option<Bytes>>> {
        if self.worker.is_none() {
            let (wake, cancel) = io::pipe()?;
            let fd = Arc::clone(&self.fd);
            let mut buffers = Buffers::default();
            self.worker = Some(Worker::spawn(move |max| {
                wait_readable(fd.as_fd(), wake.as_fd())?;
                read_blocking(fd.as_fd(), &mut buffers, max)
            })?);
            self.cancel = Some(cancel.into());
        }
        match &mut self.worker {
            Some(worker) => Poll::Ready(ready!(worker.poll(cx, || max))),
            None => Poll::Pending,
        }
    }
}

/// A descriptor written on a thread.
#[derive(Debug)]
pub(crate) struct ThreadedWriter {
    fd: Arc<OwnedFd>,
    worker: Option<Worker<Vec<Bytes>, io::Result<usize>>>,
}

impl ThreadedWriter {
    pub(crate) fn new(fd: OwnedFd) -> Self {
        Self {
            fd: Arc::new(fd),
            worker: None,
        }
    }

    pub(crate) fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }

    /// Whether a write is under way, so that the offset of a file is not known.
    pub(crate) fn is_busy(&self) -> bool {
        self.worker.as_ref().is_some_and(|worker| worker.answer.is_some())
    }

    pub(crate) fn poll_write(&mut self, cx: &mut Context<'_>, held: &Held) -> Poll<io::Result<usize>> {
        if self.worker.is_none() {
            let fd = Arc::clone(&self.fd);
            self.worker = Some(Worker::spawn(move |pieces: Vec<Bytes>| {
                write_blocking(fd.as_fd(), &pieces)
            })?);
        }
        match &mut self.worker {
            Some(worker) => {
                let pieces = || held.pieces().take(SLICES_MAX).cloned().collect();
                Poll::Ready(ready!(worker.poll(cx, pieces)))
            }
            None => Poll::Pending,
        }
    }
}

/// Waits until `fd` can be read, or until whoever asked has gone.
fn wait_readable(fd: BorrowedFd<'_>, cancel: BorrowedFd<'_>) -> io::Result<()> {
    let mut fds = [
        PollFd::from_borrowed_fd(fd, PollFlags::IN),
        PollFd::from_borrowed_fd(cancel, PollFlags::empty()),
    ];
    retry(|| rustix::event::poll(&mut fds, None))?;
    if fds[1].revents().is_empty() {
        Ok(())
    } else {
        Err(io::ErrorKind::Interrupted.into())
    }
}

fn read_blocking(fd: BorrowedFd<'_>, buffers: &mut Buffers, max: usize) -> io::Result<Option<Bytes>> {
    let mut buffer = buffers.take(max);
    let space = buffer.space();
    let asked = space.len().min(max);
    let space = &mut space[..asked];
    loop {
        match retry(|| rustix::io::read(fd, &mut *space)) {
            Ok(0) => return Ok(None),
            Ok(got) => {
                buffers.learn(asked, got);
                return Ok(Some(buffer.freeze(got)));
            }
            // Somebody who shares the description made it non-blocking.
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => wait(fd, PollFlags::IN)?,
            Err(error) => return Err(error),
        }
    }
}

fn write_blocking(fd: BorrowedFd<'_>, pieces: &[Bytes]) -> io::Result<usize> {
    let slices: Vec<_> = pieces.iter().map(|piece| IoSlice::new(piece)).collect();
    loop {
        match retry(|| rustix::io::writev(fd, &slices)) {
            Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => wait(fd, PollFlags::OUT)?,
            result => return result,
        }
    }
}

fn wait(fd: BorrowedFd<'_>, flags: PollFlags) -> io::Result<()> {
    retry(|| rustix::event::poll(&mut [PollFd::from_borrowed_fd(fd, flags)], None)).map(drop)
}
