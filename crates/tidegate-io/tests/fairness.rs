//! One fast flow does not starve ten thousand slow ones, on a single thread: the harshest place for them to share.
#![cfg(unix)]
#![allow(clippy::unwrap_used)]

use std::io::Write;
use std::os::unix::net::UnixStream as Plain;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll};

use bytes::Bytes;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use tidegate::AbortReason;
use tidegate_io::endpoint::unix;
use tidegate_io::{Buffers, Confirmation, EndpointError, Flow, Held, Sink, Source};
use tokio::net::UnixStream;
use tokio::sync::Notify;

/// How many slow flows there are where the descriptor limit allows it. Each takes two descriptors.
const SLOW_MOST: usize = 10_000;

/// Descriptors for everything else.
const DESCRIPTORS_KEPT: u64 = 200;

const MESSAGES: usize = 3;

/// What the fast flow may move while a message of every slow flow gets through: a hundred-odd of its turns, some for
/// each look at the system's events, of which one look brings a thousand.
const FAST_BYTES_MOST: u64 = 256 * 2 * 1024 * 1024;

/// Ends a fast flow that never lets the others go first, so that the test fails instead of hanging.
const FAST_BYTES_ALL: u64 = 32 * FAST_BYTES_MOST;

/// A source that always has more at once, at no cost.
struct Endless {
    left: u64,
}

impl Source for Endless {
    fn poll_read(
        &mut self,
        _cx: &mut Context<'_>,
        _buffers: &mut Buffers,
        max: usize,
    ) -> Poll<Result<Option<Bytes>, EndpointError>> {
        static PIECE: [u8; 64 * 1024] = [0; 64 * 1024];
        let count = max.min(PIECE.len());
        let Some(left) = self.left.checked_sub(count as u64) else {
            return Poll::Ready(Ok(None));
        };
        self.left = left;
        Poll::Ready(Ok(Some(Bytes::from_static(&PIECE[..count]))))
    }

    fn name(&self) -> String {
        "endless".into()
    }
}

/// A sink that always takes everything and counts it.
#[derive(Clone, Default)]
struct Counted {
    bytes: Arc<AtomicUsize>,
    told: Option<(usize, Arc<Notify>)>,
}

impl Sink for Counted {
    fn poll_write(&mut self, _cx: &mut Context<'_>, held: &Held) -> Poll<Result<usize, EndpointError>> {
        let bytes = self.bytes.fetch_add(held.len(), Ordering::Relaxed) + held.len();
        if let Some((every, notify)) = &self.told
            && bytes.is_multiple_of(*every)
        {
            notify.notify_one();
        }
        Poll::Ready(Ok(held.len()))
    }

    fn poll_finish(&mut self, _cx: &mut Context<'_>) -> Poll<Result<Confirmation, EndpointError>> {
        Poll::Ready(Ok(Confirmation::Confirmed))
    }

    fn abort(&mut self, _reason: &AbortReason) {}

    fn name(&self) -> String {
        "counted".into()
    }
}

/// As many as the descriptor limit allows, which is raised first.
fn slow_count() -> usize {
    let limit = getrlimit(Resource::Nofile);
    let raised = Rlimit {
        current: limit.maximum,
        maximum: limit.maximum,
    };
    let now = if setrlimit(Resource::Nofile, raised).is_ok() {
        limit.maximum
    } else {
        limit.current
    };
    let most = now.map_or(SLOW_MOST as u64, |limit| {
        limit.saturating_sub(DESCRIPTORS_KEPT) / 2
    });
    usize::try_from(most).unwrap().min(SLOW_MOST)
}

#[tokio::test]
async fn a_fast_flow_moves_a_bounded_amount_while_ten_thousand_slow_ones_each_get_their_turn() {
    let count = slow_count();
    let notify = Arc::new(Notify::new());
    // All slow sinks count together: each message is one byte.
    let arrived = Counted {
        told: Some((count, Arc::clone(&notify))),
        ..Counted::default()
    };
    let mut writers = Vec::new();
    let mut slow = Vec::new();
    for _ in 0..count {
        let (writer, reader) = Plain::pair().unwrap();
        reader.set_nonblocking(true).unwrap();
        let source = unix::source(UnixStream::from_std(reader).unwrap(), Path::new("slow"));
        slow.push(tokio::spawn(Flow::new(source, arrived.clone()).run()));
        writers.push(writer);
    }
    let source = Endless { left: FAST_BYTES_ALL };
    let fast = Flow::new(source, Counted::default());
    let handle = fast.handle();
    let fast = tokio::spawn(fast.run());
    for message in 1..=MESSAGES {
        for writer in &mut writers {
            writer.write_all(b"x").unwrap();
        }
        let before = handle.snapshot().bytes_sent;
        notify.notified().await;
        let moved = handle.snapshot().bytes_sent - before;
        assert_eq!(arrived.bytes.load(Ordering::Relaxed), message * count);
        assert!(
            moved <= FAST_BYTES_MOST,
            "{moved} bytes of the fast flow before {count} messages of slow ones"
        );
        assert!(!fast.is_finished());
    }
    assert!(handle.snapshot().bytes_sent > 0, "the fast flow ran too");
    drop(writers);
    for flow in slow {
        flow.await.unwrap().unwrap();
    }
    fast.abort();
}
