//! One descriptor on the runtime's readiness loop: reads and writes that never wait, and the news of its death.
//!
//! Knows no names and no ways to end; the endpoints over it do.

use std::future::Future;
use std::io::{self, IoSlice};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::pin::Pin;
use std::sync::{Arc, OnceLock};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use rustix::event::{PollFd, PollFlags, Timespec};
use rustix::io::Errno;
use rustix::net::{RecvFlags, SendAncillaryBuffer};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

use super::os::{PEER_CLOSED, SEND_FLAGS};
use crate::{Buffers, Held, LaneOp};

/// How many pieces go into one vectored write.
pub(crate) const SLICES_MAX: usize = 64;

/// Why a read or a write on this descriptor does not wait.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Unwaiting {
    /// The open description is ours alone and is non-blocking.
    Ours,
    /// The description is shared with strangers and stays blocking: every call on the socket says "do not wait".
    EachCall,
}

/// Which way bytes travel through a lane.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Direction {
    Read,
    Write,
}

/// A descriptor the runtime watches.
#[derive(Debug)]
pub(crate) struct Polled {
    fd: Arc<AsyncFd<OwnedFd>>,
    unwaiting: Unwaiting,
    /// An error of a lane: the kernel tells a reset once, and a read that follows would look like a clean end.
    failed: OnceLock<io::ErrorKind>,
}

impl Polled {
    /// Watches `fd`. Needs a running tokio runtime with I/O.
    #[allow(
        deprecated,
        reason = "its successor is unsafe; what it guards against are types that lie about their descriptor, \
                  and an `OwnedFd` cannot"
    )]
    pub(crate) fn new(fd: OwnedFd, unwaiting: Unwaiting, interest: Interest) -> io::Result<Self> {
        Ok(Self {
            fd: Arc::new(AsyncFd::with_interest(fd, interest)?),
            unwaiting,
            failed: OnceLock::new(),
        })
    }

    pub(crate) fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.get_ref().as_fd()
    }

    pub(crate) fn unwaiting(&self) -> Unwaiting {
        self.unwaiting
    }

    /// `None` is a read of zero bytes.
    pub(crate) fn poll_read(
        &self,
        cx: &mut Context<'_>,
        buffers: &mut Buffers,
        max: usize,
    ) -> Poll<io::Result<Option<Bytes>>> {
        loop {
            let mut guard = ready!(self.fd.poll_read_ready(cx))?;
            match guard.try_io(|fd| read_once(fd.get_ref().as_fd(), self.unwaiting, buffers, max)) {
                Ok(Ok(None)) => {
                    return Poll::Ready(self.failed.get().map_or(Ok(None), |kind| Err((*kind).into())));
                }
                Ok(result) => return Poll::Ready(result),
                Err(_would_block) => {}
            }
        }
    }

    /// Reads without first asking the runtime whether there is anything; `None` if it would wait.
    pub(crate) fn read_now(&self, buffers: &mut Buffers, max: usize) -> Option<io::Result<Option<Bytes>>> {
        match read_once(self.as_fd(), self.unwaiting, buffers, max) {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => None,
            result => Some(result),
        }
    }

    pub(crate) fn poll_write(&self, cx: &mut Context<'_>, held: &Held) -> Poll<io::Result<usize>> {
        loop {
            let mut guard = ready!(self.fd.poll_write_ready(cx))?;
            match guard.try_io(|fd| write_once(fd.get_ref().as_fd(), self.unwaiting, held)) {
                Ok(result) => return Poll::Ready(result),
                Err(_would_block) => {}
            }
        }
    }

    /// Runs `op` once the descriptor may be ready for it, as often as it would wait.
    pub(crate) fn poll_lane(
        &self,
        cx: &mut Context<'_>,
        direction: Direction,
        op: LaneOp<'_>,
    ) -> Poll<io::Result<usize>> {
        loop {
            let mut guard = ready!(match direction {
                Direction::Read => self.fd.poll_read_ready(cx),
                Direction::Write => self.fd.poll_write_ready(cx),
            })?;
            match guard.try_io(|fd| op(fd.get_ref().as_fd())) {
                Ok(Err(error)) if error.kind() == io::ErrorKind::Interrupted => {}
                Ok(Err(error)) if error.kind() == io::ErrorKind::ConnectionReset => {
                    let _ = self.failed.set(error.kind());
                    return Poll::Ready(Err(error));
                }
                Ok(result) => return Poll::Ready(result),
                Err(_would_block) => {}
            }
        }
    }

    /// A future that is ready once the descriptor has an error: its reader is gone, its connection was reset.
    pub(crate) fn broken(&self) -> Broken {
        let fd = Arc::clone(&self.fd);
        Broken(Box::pin(async move {
            // The error itself, if any, comes with the next read or write.
            drop(fd.ready(Interest::ERROR).await);
        }))
    }

    /// As [`broken`](Self::broken), and when the peer of a socket has closed both directions, which is no error there.
    pub(crate) fn broken_socket(&self) -> Broken {
        let fd = Arc::clone(&self.fd);
        Broken(Box::pin(async move {
            loop {
                drop(fd.ready(Interest::ERROR | PEER_CLOSED).await);
                if is_dead(fd.get_ref().as_fd()) {
                    return;
                }
                // One direction only. The runtime keeps that news for ever, so there is no event to wait for.
                tokio::time::sleep(HALF_CLOSED_PAUSE).await;
            }
        }))
    }
}

/// How often a socket whose peer has ended one direction is asked whether the other is dead, too.
pub(crate) const HALF_CLOSED_PAUSE: Duration = Duration::from_millis(250);

pub(crate) fn is_dead(fd: BorrowedFd<'_>) -> bool {
    let mut polled = [PollFd::from_borrowed_fd(fd, PollFlags::empty())];
    let now = Timespec {
        tv_sec: 0,
        tv_nsec: 0,
    };
    rustix::event::poll(&mut polled, Some(&now)).is_err()
        || polled[0].revents().intersects(PollFlags::ERR | PollFlags::HUP)
}

/// See [`Polled::broken`].
pub(crate) struct Broken(Pin<Box<dyn Future<Output = ()> + Send>>);

impl Broken {
    pub(crate) fn poll(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        self.0.as_mut().poll(cx)
    }
}

fn read_once(
    fd: BorrowedFd<'_>,
    unwaiting: Unwaiting,
    buffers: &mut Buffers,
    max: usize,
) -> io::Result<Option<Bytes>> {
    let mut buffer = buffers.take(max);
    let space = buffer.space();
    let asked = space.len().min(max);
    let space = &mut space[..asked];
    let got = retry(|| match unwaiting {
        Unwaiting::Ours => rustix::io::read(fd, &mut *space),
        Unwaiting::EachCall => rustix::net::recv(fd, &mut *space, RecvFlags::DONTWAIT).map(|(got, _)| got),
    })?;
    if got == 0 {
        return Ok(None);
    }
    buffers.learn(asked, got);
    Ok(Some(buffer.freeze(got)))
}

pub(crate) fn write_once(fd: BorrowedFd<'_>, unwaiting: Unwaiting, held: &Held) -> io::Result<usize> {
    let mut slices = [IoSlice::new(&[]); SLICES_MAX];
    let filled = held.slices(&mut slices);
    let slices = &slices[..filled];
    let sent = retry(|| match unwaiting {
        Unwaiting::Ours => rustix::io::writev(fd, slices),
        Unwaiting::EachCall => {
            rustix::net::sendmsg(fd, slices, &mut SendAncillaryBuffer::default(), SEND_FLAGS)
        }
    })?;
    if sent == 0 {
        return Err(io::ErrorKind::WriteZero.into());
    }
    Ok(sent)
}

/// Repeats a call that a signal interrupted.
pub(crate) fn retry<T>(mut call: impl FnMut() -> Result<T, Errno>) -> io::Result<T> {
    loop {
        match call() {
            Err(Errno::INTR) => {}
            result => return result.map_err(io::Error::from),
        }
    }
}
