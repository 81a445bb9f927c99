//! `sendfile`: from the page cache to a socket, for files that do not change meanwhile.
//!
//! Knows files and sockets as descriptors. The pages travel by reference: what is written to the file after the call
//! can still show in what the peer gets.

use std::os::fd::BorrowedFd;
use std::task::{Context, Poll};

use rustix::fs::sendfile;

use super::{Step, is_refusal};
use crate::page_cache::{self, Cached};
use crate::{Sink, Source};

/// One call sends at most so much, so that the look into the page cache before it means something.
const CALL_BYTES: usize = 1024 * 1024;

pub(super) fn poll_step(
    cx: &mut Context<'_>,
    source: &mut dyn Source,
    sink: &mut dyn Sink,
    most: usize,
) -> Step {
    let left = source.size_hint().unwrap_or(0);
    let Some(file) = source.lane_end().filter(|_| left > 0) else {
        // The end of the stream is the source's to tell.
        return Step::CopyOnce;
    };
    let most = most
        .min(CALL_BYTES)
        .min(usize::try_from(left).unwrap_or(CALL_BYTES));
    let result = sink.poll_lane(cx, &mut |to| {
        if !is_cached(file.fd, file.offset, most) {
            return Ok(0);
        }
        let mut offset = file.offset;
        Ok(sendfile(to, file.fd, Some(&mut offset), most)?)
    });
    match result {
        Poll::Pending => Step::SinkWaits,
        // A disk must be asked: the source's own read does that on a thread, and reads ahead.
        Poll::Ready(Ok(0)) => Step::CopyOnce,
        Poll::Ready(Ok(count)) => {
            source.lane_moved(count as u64);
            sink.lane_moved(count as u64);
            Step::Across(count)
        }
        Poll::Ready(Err(error)) if is_refusal(&error) => Step::Refused,
        Poll::Ready(Err(_)) => Step::CopyOnce,
    }
}

/// Whether the first and the last byte are in memory: `sendfile` itself would wait for the disk. A file system that cannot tell
/// keeps its files in memory, or is asked on a thread by the copy lane.
fn is_cached(file: BorrowedFd<'_>, offset: u64, length: usize) -> bool {
    let here = |offset| matches!(page_cache::read(file, &mut [0], offset), Ok(Cached::Read(_)));
    here(offset) && here(offset + length as u64 - 1)
}
