//! The relay: half-closes in each order, failures that spread, limits, memory.
#![allow(clippy::unwrap_used)]

mod common;

use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;

use common::{Checksum, Kept, Made, tcp_pair};
use tidegate_io::endpoint::tcp;
use tidegate_io::{
    Buffers, Direction, Duplex, EndpointError, FlowErrorKind, FlowState, HalfClose, Relay, RelayError,
    RelayReport, Source,
};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::task::JoinHandle;

type Running = JoinHandle<Result<RelayReport, RelayError>>;

/// Two clients and a relay between them, with the ends swapped when asked.
async fn joined(swapped: Ends, change: impl FnOnce(Relay) -> Relay) -> (TcpStream, TcpStream, Running) {
    let (left, a) = tcp_pair().await;
    let (right, b) = tcp_pair().await;
    let relay = match swapped {
        Ends::AsTheyAre => Relay::new(tcp::duplex(a), tcp::duplex(b)),
        Ends::Swapped => Relay::new(tcp::duplex(b), tcp::duplex(a)),
    };
    (left, right, tokio::spawn(change(relay).run()))
}

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Ends {
    AsTheyAre,
    Swapped,
}

const BOTH: [Ends; 2] = [Ends::AsTheyAre, Ends::Swapped];

#[tokio::test]
async fn both_ways_at_once_every_byte_arrives() {
    for ends in BOTH {
        let (left, right, relay) = joined(ends, |relay| relay).await;
        let client = async |stream: TcpStream| {
            let (mut read, mut write) = stream.into_split();
            let send = async move {
                let data = common::made(8_000_000);
                write.write_all(&data).await.unwrap();
                write.shutdown().await.unwrap();
            };
            let mut got = Vec::new();
            let (_, result) = tokio::join!(send, read.read_to_end(&mut got));
            result.unwrap();
            Checksum::of(&got)
        };
        let (one, two) = tokio::join!(client(left), client(right));
        assert_eq!(
            (one, two),
            (Checksum::of_made(8_000_000), Checksum::of_made(8_000_000))
        );
        let report = relay.await.unwrap().unwrap();
        assert_eq!(
            (report.a_to_b.bytes_sent, report.b_to_a.bytes_sent),
            (8_000_000, 8_000_000)
        );
    }
}

#[tokio::test]
async fn a_half_close_is_passed_on_and_the_answer_still_comes() {
    for ends in BOTH {
        let (mut left, mut right, relay) = joined(ends, |relay| relay).await;
        left.write_all(b"question").await.unwrap();
        left.shutdown().await.unwrap();
        let mut got = Vec::new();
        right.read_to_end(&mut got).await.unwrap();
        assert_eq!(got, b"question");
        right.write_all(b"answer").await.unwrap();
        drop(right);
        got.clear();
        left.read_to_end(&mut got).await.unwrap();
        assert_eq!(got, b"answer");
        relay.await.unwrap().unwrap();
    }
}

#[tokio::test]
async fn linger_and_abort_end_a_half_closed_relay() {
    for policy in [HalfClose::Linger(Duration::from_millis(100)), HalfClose::Abort] {
        for ends in BOTH {
            let (mut left, mut right, relay) = joined(ends, |relay| relay.half_close(policy)).await;
            left.write_all(b"last words").await.unwrap();
            left.shutdown().await.unwrap();
            let mut got = Vec::new();
            let ended = right.read_to_end(&mut got).await;
            assert!(ended.is_ok() || policy == HalfClose::Abort, "{ended:?}");
            let report = relay.await.unwrap().unwrap();
            assert_eq!(report.a_to_b.bytes_sent + report.b_to_a.bytes_sent, 10);
            assert!(
                left.read(&mut [0; 8]).await.is_err(),
                "the open direction is reset"
            );
        }
    }
}

#[tokio::test]
async fn a_reset_aborts_both_at_once_also_while_blocked_writing() {
    for ends in BOTH {
        let (left, mut right, relay) = joined(ends, |relay| relay).await;
        // The right one never reads: the relay is blocked writing to it.
        let (read, mut write) = left.into_split();
        let blocked = tokio::spawn(async move { while write.write_all(&[1; 65_536]).await.is_ok() {} });
        let mut snapshots = 0;
        right.write_all(b"x").await.unwrap();
        while !blocked.is_finished() && snapshots < 20 {
            tokio::time::sleep(Duration::from_millis(10)).await;
            snapshots += 1;
        }
        assert!(!blocked.is_finished(), "the writer is blocked by back-pressure");
        socket2::SockRef::from(&right)
            .set_linger(Some(Duration::ZERO))
            .unwrap();
        drop(right);
        let error = relay.await.unwrap().unwrap_err();
        assert_eq!(error.error.kind, FlowErrorKind::Failed);
        blocked.await.unwrap();
        drop(read);
    }
}

#[tokio::test]
async fn a_source_that_resets_while_its_bytes_are_stuck_is_noticed() {
    let (mut left, right, relay) = joined(Ends::AsTheyAre, |relay| relay).await;
    let stuck = tokio::time::timeout(Duration::from_millis(300), async {
        loop {
            left.write_all(&[1; 65_536]).await.unwrap();
        }
    });
    assert!(stuck.await.is_err());
    socket2::SockRef::from(&left)
        .set_linger(Some(Duration::ZERO))
        .unwrap();
    drop(left);
    let error = relay.await.unwrap().unwrap_err();
    assert_eq!(
        (error.direction, error.error.kind),
        (Direction::AToB, FlowErrorKind::Failed)
    );
    drop(right);
}

#[tokio::test]
async fn idle_and_stall_limits_end_a_relay() {
    let (left, right, relay) = joined(Ends::AsTheyAre, |relay| relay.idle(Duration::from_millis(100))).await;
    let error = relay.await.unwrap().unwrap_err();
    assert_eq!(error.error.kind, FlowErrorKind::Stalled);
    drop((left, right));

    // A stall limit leaves an idle relay alone, and ends one that cannot get rid of what it holds.
    let (left, right, relay) = joined(Ends::AsTheyAre, |relay| relay.stall(Duration::from_millis(300))).await;
    tokio::time::sleep(Duration::from_millis(700)).await;
    assert!(!relay.is_finished(), "idle is no stall");
    let (_read, mut write) = left.into_split();
    let writer = tokio::spawn(async move { while write.write_all(&[1; 65_536]).await.is_ok() {} });
    let error = relay.await.unwrap().unwrap_err();
    assert_eq!(
        (error.error.kind, error.direction),
        (FlowErrorKind::Stalled, Direction::AToB)
    );
    writer.await.unwrap();
    drop(right);
}

/// Nothing ever comes from it.
struct Quiet;

impl Source for Quiet {
    fn poll_read(
        &mut self,
        _cx: &mut Context<'_>,
        _buffers: &mut Buffers,
        _max: usize,
    ) -> Poll<Result<Option<Bytes>, EndpointError>> {
        Poll::Pending
    }

    fn name(&self) -> String {
        "quiet".into()
    }
}

/// The direction that holds nothing is over at once; that must not cost the other what it holds.
#[tokio::test]
async fn a_stopped_relay_delivers_what_it_holds() {
    for (ends, policy) in [
        (Ends::AsTheyAre, HalfClose::Propagate),
        (Ends::Swapped, HalfClose::Propagate),
        (Ends::AsTheyAre, HalfClose::Abort),
        (Ends::Swapped, HalfClose::Abort),
    ] {
        let slow = Kept::new(1000);
        let busy = Duplex {
            source: Box::new(Made::new(1 << 40, 10_000)),
            sink: Box::new(Kept::new(0)),
        };
        let taker = Duplex {
            source: Box::new(Quiet),
            sink: Box::new(slow.clone()),
        };
        let relay = match ends {
            Ends::AsTheyAre => Relay::new(busy, taker),
            Ends::Swapped => Relay::new(taker, busy),
        };
        let handle = relay.handle();
        let full = match ends {
            Ends::AsTheyAre => handle.a_to_b.clone(),
            Ends::Swapped => handle.b_to_a.clone(),
        };
        let running = tokio::spawn(relay.half_close(policy).run());
        let until = async |wanted: fn(FlowState) -> bool| {
            let waiting = async {
                while !wanted(full.snapshot().state) {
                    tokio::task::yield_now().await;
                }
            };
            tokio::time::timeout(Duration::from_secs(30), waiting)
                .await
                .unwrap();
        };
        until(|state| state == FlowState::WaitingSink).await;
        handle.stop();
        until(|state| matches!(state, FlowState::Draining | FlowState::Done)).await;
        slow.allow(1 << 30);
        let error = running.await.unwrap().unwrap_err();
        assert_eq!(error.error.kind, FlowErrorKind::Aborted, "{error}");
        let report = match ends {
            Ends::AsTheyAre => &error.report.a_to_b,
            Ends::Swapped => &error.report.b_to_a,
        };
        assert!(report.bytes_read > 1000, "nothing was held");
        assert_eq!(report.bytes_sent, report.bytes_read, "{ends:?}, {policy:?}");
        let data = slow.seen.lock().unwrap().data.clone();
        assert!(data == common::made(report.bytes_read), "{ends:?}");
    }
}
