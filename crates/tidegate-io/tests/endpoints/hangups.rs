//! A pause is not blind: what a paused source notices, and what it keeps, over every two-way kind of connection.
#![allow(clippy::unwrap_used)]

use std::task::{Context, Waker};

use tidegate_io::{Buffers, Flow, FlowError, FlowHold, FlowState, HoldReason, Report, Side, Source};
use tokio::task::JoinHandle;

use crate::support::{MemorySink, Seen, abort, finish, until, within, write_all};
use crate::transport::two_way;

type Outcome = Result<Report, FlowError>;

/// A flow that is paused for as long as its hold is kept, and what its sink sees.
async fn paused(source: impl Source + Send + 'static) -> (JoinHandle<Outcome>, FlowHold, Seen) {
    let (sink, seen) = MemorySink::new();
    let flow = Flow::new(source, sink);
    let handle = flow.handle();
    let hold = handle.hold(HoldReason::User);
    let running = tokio::spawn(flow.run());
    until("paused", || handle.snapshot().state == FlowState::Paused).await;
    (running, hold, seen)
}

/// Law 11: the peer dies while its source is paused, with bytes on their way to it and bytes of its own unread.
#[tokio::test]
async fn a_paused_source_notices_that_its_peer_died() {
    for (name, mut near, mut far) in two_way().await {
        eprintln!("over {name}");
        let (running, hold, seen) = paused(near.source).await;
        write_all(&mut *far.sink, &b"unread"[..]).await.unwrap();
        // A Unix socket has no reset of its own: its system makes one of bytes that nobody read.
        write_all(&mut *near.sink, &b"for nobody"[..]).await.unwrap();
        abort(&mut *far.sink).await;
        drop(far);
        let error = within(running).await.unwrap().unwrap_err();
        assert_eq!(error.side, Some(Side::Source), "{name}: {error}");
        assert!(!seen.is_finished() && seen.aborted().is_some(), "{name}");
        drop(hold);
    }
}

/// Reads what is there, which is nothing for us.
fn take_in(source: &mut dyn Source) {
    let mut context = Context::from_waker(Waker::noop());
    let read = source.poll_read(&mut context, &mut Buffers::default(), 1_000);
    assert!(read.is_pending());
}

/// And one that ends in good order is no death: what had come is kept, and is delivered with the end after the pause.
#[tokio::test]
async fn a_paused_source_keeps_what_came_before_its_peers_end() {
    for (name, near, mut far) in two_way().await {
        eprintln!("over {name}");
        let (running, hold, seen) = paused(near.source).await;
        write_all(&mut *far.sink, &b"unread"[..]).await.unwrap();
        finish(&mut *far.sink).await.unwrap();
        // What a TLS server says unasked (its tickets) would, unread, make a reset of the end.
        take_in(&mut *far.source);
        drop(far);
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
        assert!(!running.is_finished(), "{name}: {:?}", running.await);
        drop(hold);
        within(running).await.unwrap().unwrap();
        assert_eq!(
            (seen.bytes(), seen.is_finished()),
            (b"unread".to_vec(), true),
            "{name}"
        );
    }
}
