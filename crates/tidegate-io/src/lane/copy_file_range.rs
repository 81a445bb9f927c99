//! `copy_file_range`: from file to file inside the kernel, sharing the blocks where the file system can.
//!
//! Knows two files. The calls run on the runtime's threads for blocking work.

use std::future::Future;
use std::io;
use std::os::fd::OwnedFd;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use rustix::fs::{FallocateFlags, OFlags, copy_file_range, fallocate, fcntl_getfl, fstatfs};
use tokio::task::{JoinHandle, spawn_blocking};

use super::{Step, is_refusal};
use crate::{AfterAbort, Sink, Source};

/// One call: large enough to make the hop to a thread cheap, small enough to show progress.
const CALL_BYTES: usize = 16 * 1024 * 1024;

#[derive(Debug, Default)]
pub(super) struct CopyFileRange {
    files: Option<(Arc<OwnedFd>, Arc<OwnedFd>)>,
    room: Room,
    call: Option<JoinHandle<io::Result<usize>>>,
}

/// Whether the target's blocks were set aside.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
enum Room {
    #[default]
    NotAsked,
    Asked,
}

impl CopyFileRange {
    pub(super) fn poll_step(
        &mut self,
        cx: &mut Context<'_>,
        source: &mut dyn Source,
        sink: &mut dyn Sink,
    ) -> Step {
        if self.call.is_none() {
            match self.start(source, sink) {
                Ok(call) => self.call = Some(call),
                Err(_) => return Step::Refused,
            }
        }
        let Some(call) = &mut self.call else {
            return Step::Refused;
        };
        let Poll::Ready(result) = Pin::new(call).poll(cx) else {
            return Step::Works;
        };
        self.call = None;
        match result.unwrap_or_else(|error| Err(io::Error::other(error))) {
            // Some file systems say so while there is more: reading on tells which it is.
            Ok(0) => Step::Refused,
            Ok(count) => {
                source.lane_moved(count as u64);
                sink.lane_moved(count as u64);
                Step::Across(count)
            }
            Err(error) if is_refusal(&error) => Step::Refused,
            // The copy lane will meet the same error, and knows whose it is.
            Err(_) => Step::Refused,
        }
    }

    fn start(&mut self, source: &dyn Source, sink: &dyn Sink) -> io::Result<JoinHandle<io::Result<usize>>> {
        let (Some(from), Some(to)) = (source.lane_end(), sink.lane_end()) else {
            return Err(io::ErrorKind::Unsupported.into());
        };
        let taken_back = to.after_abort == AfterAbort::TakenBack;
        let (mut read_at, mut write_at) = (from.offset, to.offset);
        let (from, to) = match &self.files {
            Some((from, to)) => (Arc::clone(from), Arc::clone(to)),
            None => {
                let from = Arc::new(from.fd.try_clone_to_owned()?);
                let to = Arc::new(to.fd.try_clone_to_owned()?);
                self.files = Some((Arc::clone(&from), Arc::clone(&to)));
                (from, to)
            }
        };
        let left = source.size_hint().unwrap_or(0);
        let first = std::mem::replace(&mut self.room, Room::Asked) == Room::NotAsked;
        Ok(spawn_blocking(move || {
            if first && taken_back {
                set_aside(&to, write_at, left);
            }
            Ok(copy_file_range(
                &*from,
                Some(&mut read_at),
                &*to,
                Some(&mut write_at),
                CALL_BYTES,
            )?)
        }))
    }
}

/// Sets the blocks for `length` bytes aside in one go, where that was measured to pay: ext4 then need not find them
/// page by page. A file system that shares blocks would only give them back. The size is left alone: it tells how far the
/// copy is. Only in a file that an abort takes back: in another's they would stay. A disk that is full says so when it is written to.
fn set_aside(to: &OwnedFd, offset: u64, length: u64) {
    const EXT4_MAGIC: u64 = 0xef53;
    let on_ext4 = fstatfs(to).is_ok_and(|found| u64::try_from(found.f_type) == Ok(EXT4_MAGIC));
    let appends = fcntl_getfl(to).map_or(true, |flags| flags.contains(OFlags::APPEND));
    if on_ext4 && !appends && length > CALL_BYTES as u64 {
        let _ = fallocate(to, FallocateFlags::KEEP_SIZE, offset, length);
    }
}
