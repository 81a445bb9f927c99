//! Pagers: long data in pages, one at a time, to a collector of the peer.
//!
//! A pager takes turns with everything else on its connection. The file pager is a core consumer: whatever produces into
//! it is paused when the peer is slow. Knows nothing of files. (Twisted: `spread.util.StringPager`, `FilePager`.)
//!
//! A page is the call `gotPage(page)` without an answer, the end is `endedPaging()`. Twisted sends that without an answer
//! too; we ask for one, which Twisted's collectors give, and know then that the end arrived.

use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::task::{Context, Poll, Wake, Waker};

use bytes::Bytes;
use tidegate::{AbortReason, Marks, Ready, Receiver, Sender, StopReason, channel};
use tokio::sync::oneshot;

use crate::mux::{Mux, Turn, Turns};
use crate::{PbError, Reference};

/// Bytes of one page unless chosen otherwise.
pub const PAGE_BYTES: usize = 32 * 1024;

/// How a transfer of pages ended well.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum PagingEnd {
    /// The collector answered the end notice.
    Confirmed,
    /// The end notice was sent, and the peer ended the connection in good order without an answer.
    Sent,
}

/// The end of a transfer of pages, as a future.
///
/// # Cancel safety
/// Dropping it does not stop the pager.
#[derive(Debug)]
pub struct Paging {
    end: oneshot::Receiver<Result<PagingEnd, PbError>>,
}

impl Future for Paging {
    type Output = Result<PagingEnd, PbError>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        Pin::new(&mut self.end)
            .poll(cx)
            .map(|end| end.unwrap_or(Err(PbError::Closed)))
    }
}

/// Pages `data` to `collector`. On an idle connection the first page is on its way before this returns.
pub fn page_string(collector: &Reference, data: Bytes, page_bytes: usize) -> Paging {
    let (notice, paging) = notice(collector);
    let page_bytes = clamp(collector, page_bytes);
    let pager = StringPager {
        notice,
        page_bytes,
        rest: Mutex::new(Some(data)),
    };
    let mux = &collector.broker().shared.mux;
    mux.join(mux.number(), Arc::new(pager));
    paging
}

/// A consumer whose bytes are paged to `collector`: at most `page_bytes` a page, at most what `marks` allow in memory.
///
/// `finish` sends the end notice once all pages are gone. An abort cuts the connection, because the protocol has no other
/// way to tell a collector that what it has is not the whole. When the connection is lost, the producer is stopped.
pub fn page_file(collector: &Reference, marks: Marks, page_bytes: usize) -> (Sender, Paging) {
    let (sender, receiver) = channel(marks);
    (sender, page_from(collector, receiver, page_bytes))
}

/// As [`page_file`], from a channel that is there already.
pub fn page_from(collector: &Reference, receiver: Receiver, page_bytes: usize) -> Paging {
    let (notice, paging) = notice(collector);
    let page_bytes = clamp(collector, page_bytes);
    let mux = &collector.broker().shared.mux;
    let id = mux.number();
    let readiness = Readiness {
        mux: Arc::downgrade(mux),
        id,
    };
    let waker = Waker::from(Arc::new(readiness));
    let place = Place {
        receiver: Some(receiver),
        taken_bytes: 0,
        lost: None,
    };
    let pager = FilePager {
        notice,
        page_bytes,
        waker,
        place: Mutex::new(place),
    };
    mux.join(id, Arc::new(pager));
    paging
}

fn clamp(collector: &Reference, page_bytes: usize) -> usize {
    page_bytes.clamp(1, collector.broker().shared.limits().size_max.max(1))
}

/// What both pagers tell the collector, and where they report.
struct Notice {
    collector: Reference,
    end: Mutex<Option<oneshot::Sender<Result<PagingEnd, PbError>>>>,
}

fn notice(collector: &Reference) -> (Notice, Paging) {
    let (sender, end) = oneshot::channel();
    let collector = collector.clone();
    (
        Notice {
            collector,
            end: Mutex::new(Some(sender)),
        },
        Paging { end },
    )
}

impl Notice {
    fn page(&self, page: Bytes) -> Result<Vec<Bytes>, PbError> {
        let args = vec![crate::jelly::Value::Bytes(page)];
        self.collector
            .broker()
            .shared
            .encode_call(self.collector.luid(), "gotPage", args, vec![], None)
    }

    /// The end notice; `then` learns what became of it.
    fn end(
        &self,
        then: impl FnOnce(&Result<PagingEnd, PbError>) + Send + 'static,
    ) -> Result<Vec<Bytes>, PbError> {
        let report = lock(&self.end).take();
        let waiter = move |answer: Result<crate::Answer, PbError>| {
            let end = match answer {
                Ok(_) => Ok(PagingEnd::Confirmed),
                Err(PbError::Closed) => Ok(PagingEnd::Sent),
                Err(error) => Err(error),
            };
            then(&end);
            if let Some(report) = report {
                let _ = report.send(end);
            }
        };
        let shared = &self.collector.broker().shared;
        shared.encode_call(
            self.collector.luid(),
            "endedPaging",
            vec![],
            vec![],
            Some(Box::new(waiter)),
        )
    }

    fn fail(&self, error: PbError) {
        let report = lock(&self.end).take();
        if let Some(report) = report {
            let _ = report.send(Err(error));
        }
    }

    /// The collector must not take what it has for the whole.
    fn cut(&self, error: PbError) -> Turn {
        let reason = AbortReason::Failed(error.clone().into_cause());
        self.fail(error);
        self.collector.broker().abort(reason);
        Turn::Gone
    }
}

struct StringPager {
    notice: Notice,
    page_bytes: usize,
    rest: Mutex<Option<Bytes>>,
}

impl Turns for StringPager {
    fn turn(&self) -> Turn {
        let taken = lock(&self.rest).take();
        let Some(mut rest) = taken else { return Turn::Gone };
        let page = rest.split_to(rest.len().min(self.page_bytes));
        // Twisted sends an empty string as one empty page; nothing at all says the same.
        let mut pieces = if page.is_empty() {
            Ok(vec![])
        } else {
            self.notice.page(page)
        };
        if rest.is_empty() {
            pieces = pieces.and_then(|mut pieces| {
                pieces.extend(self.notice.end(|_| {})?);
                Ok(pieces)
            });
            return pieces.map_or_else(|error| self.notice.cut(error), Turn::Last);
        }
        *lock(&self.rest) = Some(rest);
        pieces.map_or_else(|error| self.notice.cut(error), Turn::Write)
    }

    fn written(&self) {}

    fn lost(&self, reason: &StopReason) {
        self.notice.fail(error_of(reason));
    }
}

struct FilePager {
    notice: Notice,
    page_bytes: usize,
    waker: Waker,
    place: Mutex<Place>,
}

/// Where the read end is: here, or out with the turn under way. Never used under the lock: it signals producers.
struct Place {
    receiver: Option<Receiver>,
    taken_bytes: usize,
    lost: Option<StopReason>,
}

impl Turns for FilePager {
    fn turn(&self) -> Turn {
        let taken = lock(&self.place).receiver.take();
        let Some(mut receiver) = taken else {
            return Turn::Gone;
        };
        match receiver.poll_ready(&mut Context::from_waker(&self.waker)) {
            Poll::Pending => {
                self.put_back(receiver, 0);
                Turn::Wait
            }
            Poll::Ready(Ok(Ready::Bytes)) => {
                let first = receiver.pieces().next().cloned().unwrap_or_default();
                let page = first.slice(..first.len().min(self.page_bytes));
                let bytes = page.len();
                let pieces = self.notice.page(page);
                match pieces {
                    Ok(pieces) => {
                        self.put_back(receiver, bytes);
                        Turn::Write(pieces)
                    }
                    Err(error) => {
                        receiver.fail(error.clone().into_cause());
                        self.notice.cut(error)
                    }
                }
            }
            Poll::Ready(Ok(Ready::End)) => {
                let pieces = self.notice.end(move |end| match end {
                    Ok(_) => receiver.complete(),
                    Err(error) => receiver.fail(error.clone().into_cause()),
                });
                pieces.map_or_else(|error| self.notice.cut(error), Turn::Last)
            }
            Poll::Ready(Err(aborted)) => self.notice.cut(PbError::Aborted(aborted.0)),
        }
    }

    /// Only now does the producer get its credit: the page is with the connection.
    fn written(&self) {
        let (taken, bytes) = {
            let mut place = lock(&self.place);
            (place.receiver.take(), std::mem::take(&mut place.taken_bytes))
        };
        if let Some(mut receiver) = taken {
            receiver.advance(bytes);
            self.put_back(receiver, 0);
        }
    }

    fn lost(&self, reason: &StopReason) {
        let taken = {
            let mut place = lock(&self.place);
            place.lost = Some(reason.clone());
            place.receiver.take()
        };
        if let Some(receiver) = taken {
            receiver.close(reason.clone());
        }
        self.notice.fail(error_of(reason));
    }
}

impl FilePager {
    fn put_back(&self, receiver: Receiver, taken_bytes: usize) {
        let mut place = lock(&self.place);
        match place.lost.clone() {
            None => {
                place.receiver = Some(receiver);
                place.taken_bytes = taken_bytes;
            }
            Some(reason) => {
                drop(place);
                receiver.close(reason);
            }
        }
    }
}

/// Wakes a pager that had nothing to write.
struct Readiness {
    mux: Weak<Mux>,
    id: u64,
}

impl Wake for Readiness {
    fn wake(self: Arc<Self>) {
        if let Some(mux) = self.mux.upgrade() {
            mux.ready(self.id);
        }
    }
}

/// The connection's end as this crate's error.
fn error_of(reason: &StopReason) -> PbError {
    if let StopReason::Failed(cause) = reason
        && let Some(error) = cause.downcast_ref::<PbError>()
    {
        return error.clone();
    }
    PbError::Aborted(AbortReason::Stopped(Arc::new(reason.clone())))
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests;
