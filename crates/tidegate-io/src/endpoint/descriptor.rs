//! A descriptor to read from or to write to, whichever way suits its kind: watched by the runtime, or on a thread.
//!
//! Knows no names and no ways to end; the endpoints over it do.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use rustix::fs::{FileType, OFlags, SeekFrom};
use socket2::SockRef;

use super::os::is_null_device;
use super::polled::{self, Broken, Direction, Polled, Unwaiting};
use super::threaded::{ThreadedReader, ThreadedWriter};
use crate::pipe_room::Widening;
use crate::{Buffers, Held, LaneEnd, LaneKind, LaneOp};

/// What a descriptor is, as far as a driver cares.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
#[non_exhaustive]
pub enum DescriptorKind {
    /// A regular file, or a block device.
    File,
    /// A pipe or FIFO.
    Pipe,
    /// A stream socket.
    Socket,
    /// A terminal.
    Tty,
    /// The null device.
    Null,
    /// Something else: `/dev/zero`, another character device.
    Other,
}

impl DescriptorKind {
    /// Asks the system what `fd` is.
    pub(crate) fn of(fd: BorrowedFd<'_>) -> io::Result<Self> {
        let found = rustix::fs::fstat(fd)?;
        Ok(match FileType::from_raw_mode(found.st_mode) {
            FileType::RegularFile | FileType::BlockDevice => Self::File,
            FileType::Fifo => Self::Pipe,
            FileType::Socket => Self::Socket,
            FileType::Directory => return Err(io::ErrorKind::IsADirectory.into()),
            FileType::CharacterDevice if is_null_device(found.st_rdev) => Self::Null,
            _ if rustix::termios::isatty(fd) => Self::Tty,
            _ => Self::Other,
        })
    }

    fn lane_kind(self) -> Option<LaneKind> {
        match self {
            Self::File => Some(LaneKind::File),
            Self::Pipe => Some(LaneKind::Pipe),
            Self::Socket => Some(LaneKind::Socket),
            Self::Null => Some(LaneKind::Null),
            Self::Tty | Self::Other => None,
        }
    }
}

enum Reading {
    Polled(Polled),
    Threaded(ThreadedReader),
}

/// The read end of a descriptor.
pub(crate) struct Reader {
    reading: Reading,
    kind: DescriptorKind,
    broken: Option<Broken>,
    widening: Widening,
    /// The first read is tried without asking for readiness: a description that was reopened after its writer had gone
    /// never reports a hang-up.
    eager: bool,
}

impl Reader {
    pub(crate) fn polled(polled: Polled, kind: DescriptorKind) -> Self {
        Self {
            reading: Reading::Polled(polled),
            kind,
            broken: None,
            widening: Widening::default(),
            eager: false,
        }
    }

    pub(crate) fn threaded(fd: OwnedFd, kind: DescriptorKind) -> Self {
        Self {
            reading: Reading::Threaded(ThreadedReader::new(fd)),
            kind,
            broken: None,
            widening: Widening::default(),
            eager: false,
        }
    }

    /// Tries the first read at once.
    pub(crate) fn eager(mut self) -> Self {
        self.eager = true;
        self
    }

    pub(crate) fn as_fd(&self) -> BorrowedFd<'_> {
        match &self.reading {
            Reading::Polled(polled) => polled.as_fd(),
            Reading::Threaded(threaded) => threaded.as_fd(),
        }
    }

    pub(crate) fn poll_read(
        &mut self,
        cx: &mut Context<'_>,
        buffers: &mut Buffers,
        max: usize,
    ) -> Poll<io::Result<Option<Bytes>>> {
        let read = match &mut self.reading {
            Reading::Polled(polled) => {
                let eager = std::mem::take(&mut self.eager);
                match eager.then(|| polled.read_now(buffers, max)).flatten() {
                    Some(result) => result,
                    None => ready!(polled.poll_read(cx, buffers, max)),
                }
            }
            Reading::Threaded(threaded) => ready!(threaded.poll_read(cx, max)),
        };
        if let Ok(Some(bytes)) = &read {
            self.carried(bytes.len() as u64);
        }
        Poll::Ready(read)
    }

    fn carried(&mut self, bytes: u64) {
        if let (DescriptorKind::Pipe, Reading::Polled(polled)) = (self.kind, &self.reading) {
            self.widening.carried(polled.as_fd(), bytes);
        }
    }

    pub(crate) fn is_socket(&self) -> bool {
        self.kind == DescriptorKind::Socket
    }

    /// Ready when the descriptor broke while nobody reads.
    pub(crate) fn poll_broken(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let Reading::Polled(polled) = &self.reading else {
            return Poll::Pending;
        };
        // A pipe's read end knows no error: what it still holds comes first, then its end.
        if self.kind != DescriptorKind::Socket {
            return Poll::Pending;
        }
        self.broken.get_or_insert_with(|| polled.broken()).poll(cx)
    }

    pub(crate) fn lane_end(&self) -> Option<LaneEnd<'_>> {
        let ours = match &self.reading {
            // The kernel would wait on a shared socket whatever flag a splice has.
            Reading::Polled(polled) => polled.unwaiting() == Unwaiting::Ours && !self.eager,
            Reading::Threaded(threaded) => self.kind == DescriptorKind::File && !threaded.is_busy(),
        };
        lane_end(self.kind, self.as_fd(), ours)
    }

    pub(crate) fn poll_lane(&mut self, cx: &mut Context<'_>, op: LaneOp<'_>) -> Poll<io::Result<usize>> {
        match &self.reading {
            Reading::Polled(polled) => polled.poll_lane(cx, Direction::Read, op),
            Reading::Threaded(threaded) => Poll::Ready(op(threaded.as_fd())),
        }
    }

    pub(crate) fn lane_moved(&mut self, bytes: u64) {
        lane_moved(self.kind, self.as_fd(), bytes);
        self.carried(bytes);
    }

    /// What is left of a regular file.
    pub(crate) fn size_hint(&self) -> Option<u64> {
        if self.kind != DescriptorKind::File {
            return None;
        }
        let size = u64::try_from(rustix::fs::fstat(self.as_fd()).ok()?.st_size).ok()?;
        let offset = rustix::fs::tell(self.as_fd()).ok()?;
        // Zero is what the files of /proc claim, and block devices.
        (size > 0).then(|| size.saturating_sub(offset))
    }
}

enum Writing {
    Polled(Polled),
    Threaded(ThreadedWriter),
    /// Takes everything at once: there is nothing to wait for.
    AtOnce(OwnedFd),
}

/// The write end of a descriptor.
pub(crate) struct Writer {
    writing: Writing,
    kind: DescriptorKind,
    broken: Option<Broken>,
    widening: Widening,
}

impl Writer {
    pub(crate) fn polled(polled: Polled, kind: DescriptorKind) -> Self {
        Self::new(Writing::Polled(polled), kind)
    }

    pub(crate) fn threaded(fd: OwnedFd, kind: DescriptorKind) -> Self {
        Self::new(Writing::Threaded(ThreadedWriter::new(fd)), kind)
    }

    pub(crate) fn at_once(fd: OwnedFd, kind: DescriptorKind) -> Self {
        Self::new(Writing::AtOnce(fd), kind)
    }

    fn new(writing: Writing, kind: DescriptorKind) -> Self {
        Self {
            writing,
            kind,
            broken: None,
            widening: Widening::default(),
        }
    }

    pub(crate) fn as_fd(&self) -> BorrowedFd<'_> {
        match &self.writing {
            Writing::Polled(polled) => polled.as_fd(),
            Writing::Threaded(threaded) => threaded.as_fd(),
            Writing::AtOnce(fd) => fd.as_fd(),
        }
    }

    pub(crate) fn poll_write(&mut self, cx: &mut Context<'_>, held: &Held) -> Poll<io::Result<usize>> {
        let written = ready!(match &mut self.writing {
            Writing::Polled(polled) => polled.poll_write(cx, held),
            Writing::Threaded(threaded) => threaded.poll_write(cx, held),
            Writing::AtOnce(fd) => Poll::Ready(polled::write_once(fd.as_fd(), Unwaiting::Ours, held)),
        });
        if let Ok(bytes) = &written {
            self.carried(*bytes as u64);
        }
        Poll::Ready(written)
    }

    fn carried(&mut self, bytes: u64) {
        if let (DescriptorKind::Pipe, Writing::Polled(polled)) = (self.kind, &self.writing) {
            self.widening.carried(polled.as_fd(), bytes);
        }
    }

    /// Ready when the descriptor broke while nothing is written: the reader has gone, the connection was reset.
    pub(crate) fn poll_broken(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        match &self.writing {
            Writing::Polled(polled) => {
                let watch = || match self.kind {
                    DescriptorKind::Socket => polled.broken_socket(),
                    _ => polled.broken(),
                };
                ready!(self.broken.get_or_insert_with(watch).poll(cx));
                self.broken = None;
                Poll::Ready(())
            }
            Writing::Threaded(_) | Writing::AtOnce(_) => Poll::Pending,
        }
    }

    /// Whether bytes are on their way to a disk.
    pub(crate) fn is_writing_file(&self) -> bool {
        matches!(&self.writing, Writing::Threaded(threaded) if self.kind == DescriptorKind::File && threaded.is_busy())
    }

    /// What the kernel still holds for the far reader, where it says.
    pub(crate) fn unsent_bytes(&self) -> Option<u64> {
        match self.kind {
            DescriptorKind::Pipe => rustix::io::ioctl_fionread(self.as_fd()).ok(),
            DescriptorKind::Socket => super::socket::unsent_bytes(&SockRef::from(&self.as_fd())),
            _ => None,
        }
    }

    pub(crate) fn lane_end(&self) -> Option<LaneEnd<'_>> {
        let ours = match &self.writing {
            Writing::Polled(polled) => polled.unwaiting() == Unwaiting::Ours,
            Writing::Threaded(threaded) => {
                self.kind == DescriptorKind::File && !threaded.is_busy() && !is_append(self.as_fd())
            }
            Writing::AtOnce(_) => true,
        };
        lane_end(self.kind, self.as_fd(), ours)
    }

    pub(crate) fn poll_lane(&mut self, cx: &mut Context<'_>, op: LaneOp<'_>) -> Poll<io::Result<usize>> {
        match &self.writing {
            Writing::Polled(polled) => polled.poll_lane(cx, Direction::Write, op),
            Writing::Threaded(threaded) => Poll::Ready(op(threaded.as_fd())),
            Writing::AtOnce(fd) => Poll::Ready(op(fd.as_fd())),
        }
    }

    pub(crate) fn lane_moved(&mut self, bytes: u64) {
        lane_moved(self.kind, self.as_fd(), bytes);
        self.carried(bytes);
    }
}

fn lane_end(kind: DescriptorKind, fd: BorrowedFd<'_>, ours: bool) -> Option<LaneEnd<'_>> {
    let kind = kind.lane_kind().filter(|_| ours)?;
    let offset = match kind {
        LaneKind::File => rustix::fs::tell(fd).ok()?,
        _ => 0,
    };
    Some(LaneEnd {
        kind,
        fd,
        offset,
        after_abort: crate::AfterAbort::Stays,
    })
}

/// The description is shared: whoever goes on with it later starts where the lane ended.
fn lane_moved(kind: DescriptorKind, fd: BorrowedFd<'_>, bytes: u64) {
    if kind == DescriptorKind::File
        && let Ok(bytes) = i64::try_from(bytes)
        && let Err(error) = rustix::fs::seek(fd, SeekFrom::Current(bytes))
    {
        tracing::debug!(%error, "the offset of a shared file could not be moved");
    }
}

fn is_append(fd: BorrowedFd<'_>) -> bool {
    rustix::fs::fcntl_getfl(fd).is_ok_and(|flags| flags.contains(OFlags::APPEND))
}
