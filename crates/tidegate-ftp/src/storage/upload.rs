//! The file end of an upload: a sink that writes beside its target and takes the target's place when it is complete.
//!
//! Knows nothing of replies. An upload that is cut short never replaces anything: what came is thrown away, or kept under
//! a name of its own so that a later upload of the same name can go on from there.

mod names;
mod opening;
mod place;

use std::fs::File;
use std::future::Future;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use cap_std::fs::Dir;
use tidegate::AbortReason;
use tidegate_io::endpoint::file::Durability;
use tidegate_io::{
    AfterAbort, Blame, Confirmation, EndpointError, ErrorKind, Held, LaneEnd, LaneJob, LaneKind, Sink,
    lane_fd,
};
use tokio::task::JoinHandle;

use self::place::{Place, commit};
use super::StorageError;
use crate::grammar::VirtualPath;
use crate::system::write_at;

pub(crate) use names::is_our_name;
pub use names::partial_name;

/// The most that goes to the blocking pool in one piece.
const JOB_BYTES: usize = 1024 * 1024;

/// Where an upload begins.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum StoreAs {
    /// A new file, or a new content for one that is there.
    New,
    /// From this offset on: of what an upload that was cut short left, else of the file that is there.
    From(u64),
    /// Behind what an upload that was cut short left, else at the end of the file that is there.
    Append,
}

/// What becomes of an upload that was cut short.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub enum Partial {
    /// Kept under a hidden name, for a later `REST` or `APPE`.
    #[default]
    Keep,
    /// Thrown away.
    Discard,
}

/// An upload under way.
#[derive(Debug)]
pub struct Upload {
    file: Arc<File>,
    offset: u64,
    place: Option<Place>,
    durability: Durability,
    job: Option<JoinHandle<Result<usize, StorageError>>>,
    ending: Option<JoinHandle<Result<(), StorageError>>>,
    /// Set by an abort, looked at before the rename.
    given_up: Arc<AtomicBool>,
    name: String,
}

impl Upload {
    pub(super) fn open(
        root: &Dir,
        path: &VirtualPath,
        store_as: StoreAs,
        partial: Partial,
        durability: Durability,
    ) -> Result<Self, StorageError> {
        let (file, offset, place) = opening::open(root, path, store_as, partial)?;
        Ok(Self {
            file: Arc::new(file),
            offset,
            place: Some(place),
            durability,
            job: None,
            ending: None,
            given_up: Arc::default(),
            name: String::from_utf8_lossy(&path.to_bytes()).into_owned(),
        })
    }

    /// Where the next byte goes.
    pub fn offset(&self) -> u64 {
        self.offset
    }

    fn poll_job(&mut self, cx: &mut Context<'_>) -> Poll<Result<usize, EndpointError>> {
        let result = ready!(self.poll_thread(cx));
        Poll::Ready(match result {
            Ok(written) => {
                self.offset += written as u64;
                Ok(written)
            }
            Err(error) => {
                self.give_room_back(&error);
                Err(self.failed("cannot write", error))
            }
        })
    }

    /// What the thread has written.
    fn poll_thread(&mut self, cx: &mut Context<'_>) -> Poll<Result<usize, StorageError>> {
        let Some(job) = &mut self.job else {
            return Poll::Ready(Ok(0));
        };
        let result = ready!(Pin::new(job).poll(cx));
        self.job = None;
        Poll::Ready(result.unwrap_or_else(|panicked| Err(io::Error::other(panicked).into())))
    }

    /// What does not fit is of no use to a later attempt: a full disk gets its room back.
    fn give_room_back(&mut self, error: &StorageError) {
        if let (Some(Place::Beside { partial, .. }), StorageError::NoSpace | StorageError::Quota) =
            (&mut self.place, error)
        {
            *partial = Partial::Discard;
        }
    }

    fn failed(&self, what: &str, error: StorageError) -> EndpointError {
        let blame = match error {
            StorageError::Io(_) | StorageError::NoSpace => Blame::System,
            _ => Blame::Caller,
        };
        EndpointError::new(ErrorKind::Failed, blame, format!("{what} {}", self.name)).caused_by(error)
    }

    fn start_commit(&mut self) {
        let (file, place, durability) = (Arc::clone(&self.file), self.place.clone(), self.durability);
        let given_up = Arc::clone(&self.given_up);
        self.ending = Some(tokio::task::spawn_blocking(move || {
            commit(&file, place, durability, &given_up)
        }));
    }

    /// Gives up the place, so that it is dealt with once.
    fn start_undo(&mut self) {
        let Some(place) = self.place.take() else {
            return;
        };
        self.given_up.store(true, Ordering::SeqCst);
        let (file, job, commit) = (Arc::clone(&self.file), self.job.take(), self.ending.take());
        let undo = move || {
            place.undo(&file);
            Ok(())
        };
        if let Ok(runtime) = tokio::runtime::Handle::try_current() {
            self.ending = Some(runtime.spawn(async move {
                // What is still being written must be down before it is kept or removed.
                if let Some(job) = job {
                    let _ = job.await;
                }
                if let Some(commit) = commit {
                    let _ = commit.await;
                }
                tokio::task::spawn_blocking(undo).await.unwrap_or(Ok(()))
            }));
        } else {
            let _ = undo();
        }
    }
}

impl Sink for Upload {
    fn poll_write(&mut self, cx: &mut Context<'_>, held: &Held) -> Poll<Result<usize, EndpointError>> {
        if self.job.is_none() {
            let mut pieces: Vec<Bytes> = Vec::new();
            let mut bytes = 0;
            for piece in held.pieces() {
                if bytes > 0 && bytes + piece.len() > JOB_BYTES {
                    break;
                }
                bytes += piece.len();
                pieces.push(piece.clone());
            }
            let (file, offset) = (Arc::clone(&self.file), self.offset);
            self.job = Some(tokio::task::spawn_blocking(move || {
                write_all_at(&file, &pieces, offset)
            }));
        }
        self.poll_job(cx)
    }

    fn poll_finish(&mut self, cx: &mut Context<'_>) -> Poll<Result<Confirmation, EndpointError>> {
        ready!(self.poll_job(cx))?;
        if self.ending.is_none() {
            self.start_commit();
        }
        let Some(ending) = &mut self.ending else {
            return Poll::Pending;
        };
        let result = ready!(Pin::new(ending).poll(cx));
        self.ending = None;
        match result.unwrap_or_else(|panicked| Err(io::Error::other(panicked).into())) {
            Ok(()) => {
                self.place = None;
                Poll::Ready(Ok(Confirmation::Confirmed))
            }
            Err(error) => {
                self.give_room_back(&error);
                Poll::Ready(Err(self.failed("cannot complete", error)))
            }
        }
    }

    fn abort(&mut self, reason: &AbortReason) {
        tracing::debug!(name = %self.name, %reason, "upload cut short");
        self.start_undo();
    }

    fn poll_aborted(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        if let Some(ending) = &mut self.ending {
            let _ = ready!(Pin::new(ending).poll(cx));
            self.ending = None;
        }
        Poll::Ready(())
    }

    fn is_busy(&self) -> bool {
        self.job.is_some() || self.ending.is_some()
    }

    fn lane_end(&self) -> Option<LaneEnd<'_>> {
        if self.job.is_some() {
            return None;
        }
        Some(LaneEnd {
            kind: LaneKind::File,
            fd: lane_fd(&*self.file)?,
            offset: self.offset,
            after_abort: AfterAbort::Stays,
        })
    }

    fn poll_lane_job(
        &mut self,
        cx: &mut Context<'_>,
        job: &mut dyn FnMut() -> LaneJob,
    ) -> Poll<io::Result<usize>> {
        if self.job.is_none() {
            let (file, offset, job) = (Arc::clone(&self.file), self.offset, job());
            self.job = Some(tokio::task::spawn_blocking(move || match lane_fd(&*file) {
                Some(fd) => Ok(job(fd, offset)?),
                None => Err(io::Error::from(io::ErrorKind::Unsupported).into()),
            }));
        }
        // A failure comes again, under its own name, when the same bytes are written the other way.
        self.poll_thread(cx).map_err(io::Error::other)
    }

    fn lane_moved(&mut self, bytes: u64) {
        self.offset += bytes;
    }

    fn name(&self) -> String {
        self.name.clone()
    }
}

impl Drop for Upload {
    fn drop(&mut self) {
        self.start_undo();
    }
}

fn write_all_at<'a>(
    file: &File,
    pieces: impl IntoIterator<Item = &'a Bytes>,
    offset: u64,
) -> Result<usize, StorageError> {
    let mut written = 0;
    for piece in pieces {
        let mut rest = &piece[..];
        while !rest.is_empty() {
            match write_at(file, rest, offset + written as u64) {
                Ok(0) => return Err(io::Error::from(io::ErrorKind::WriteZero).into()),
                Ok(count) => {
                    written += count;
                    rest = &rest[count..];
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error.into()),
            }
        }
    }
    Ok(written)
}
