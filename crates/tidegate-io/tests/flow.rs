//! The flow: what is held, how it ends, who is slow, what its handle can do.
#![allow(clippy::unwrap_used)]

mod common;

use std::future::Future;
use std::time::Duration;

use common::{Checksum, Fed, Kept, Made, Step};
use tidegate::{AbortReason, HoldReason, Marks};
use tidegate_io::{
    Blame, Confirmation, EndpointError, ErrorKind, Flow, FlowErrorKind, FlowState, Side, SlowSide,
};
use tokio::task::yield_now;

const MIB: u64 = 1 << 20;

#[tokio::test]
async fn bytes_arrive_in_order_and_the_end_is_acknowledged() {
    let sink = Kept::new(usize::MAX);
    let report = Flow::new(Made::new(3 * MIB, 70_000), sink.clone())
        .run()
        .await
        .unwrap();
    let seen = sink.seen.lock().unwrap();
    assert!(seen.finished && seen.aborted.is_none());
    assert_eq!(Checksum::of(&seen.data), Checksum::of_made(3 * MIB));
    assert_eq!(
        (report.bytes_read, report.bytes_sent, report.bytes_confirmed),
        (3 * MIB, 3 * MIB, 3 * MIB)
    );
    assert_eq!(report.confirmation, Some(Confirmation::Confirmed));
}

#[tokio::test]
async fn tiny_marks_and_pieces_do_not_stall() {
    for (high, chunk) in [(1, 1), (1, 3), (2, 1), (3, 2)] {
        let sink = Kept::new(0);
        let marks = Marks::new(0, high).unwrap().with_chunk(chunk).unwrap();
        let flow = Flow::new(Made::new(500, 2), sink.clone()).marks(marks);
        let running = tokio::spawn(flow.run());
        while !running.is_finished() {
            sink.allow(1);
            yield_now().await;
        }
        running.await.unwrap().unwrap();
        let seen = sink.seen.lock().unwrap();
        assert_eq!(Checksum::of(&seen.data), Checksum::of_made(500));
        assert!(
            seen.held_most <= high + chunk,
            "{} held with {marks:?}",
            seen.held_most
        );
    }
}

#[tokio::test(start_paused = true)]
async fn a_sink_that_takes_nothing_bounds_what_is_read() {
    let sink = Kept::new(0);
    let flow = Flow::new(Made::new(64 * MIB, 1 << 20), sink.clone());
    let handle = flow.handle();
    let error = flow.stall(Duration::from_secs(5)).run().await.unwrap_err();
    assert_eq!(
        (error.kind, error.side),
        (FlowErrorKind::Stalled, Some(Side::Sink))
    );
    let marks = Marks::default();
    assert!(error.report.bytes_read <= (marks.high() + marks.chunk()) as u64);
    assert_eq!(error.report.slow_side(), SlowSide::Sink);
    assert_eq!(handle.snapshot().state, FlowState::Done);
    assert_eq!(sink.seen.lock().unwrap().aborted.as_deref(), Some("timed out"));
}

#[tokio::test(start_paused = true)]
async fn a_source_that_sends_nothing_stalls_too() {
    let source = Fed::default();
    source.feed(Step::Data(b"x"));
    let sink = Kept::new(usize::MAX);
    let start = tokio::time::Instant::now();
    let error = Flow::new(source, sink)
        .stall(Duration::from_secs(5))
        .run()
        .await
        .unwrap_err();
    assert_eq!(
        (error.kind, error.side),
        (FlowErrorKind::Stalled, Some(Side::Source))
    );
    assert_eq!(error.report.slow_side(), SlowSide::Source);
    let took = start.elapsed();
    assert!(
        took >= Duration::from_secs(5) && took < Duration::from_secs(7),
        "{took:?}"
    );
}

#[tokio::test(start_paused = true)]
async fn time_paused_by_the_user_is_no_stall_and_holds_count() {
    let source = Fed::default();
    let sink = Kept::new(usize::MAX);
    let flow = Flow::new(source.clone(), sink.clone()).stall(Duration::from_secs(5));
    let handle = flow.handle();
    let holds = (handle.hold(HoldReason::User), handle.hold(HoldReason::User));
    source.feed(Step::Data(b"late"));
    source.feed(Step::End);
    let running = tokio::spawn(flow.run());
    tokio::time::sleep(Duration::from_secs(60)).await;
    assert_eq!(handle.snapshot().state, FlowState::Paused);
    drop(holds.0);
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert_eq!(handle.snapshot().bytes_read, 0, "one hold is still out");
    drop(holds.1);
    let report = running.await.unwrap().unwrap();
    assert!(report.paused.user >= Duration::from_secs(61));
    assert_eq!(sink.seen.lock().unwrap().data, b"late");
}

#[tokio::test]
async fn the_sink_is_flushed_before_the_flow_waits_for_the_source() {
    let source = Fed::default();
    let sink = Kept::new(usize::MAX);
    source.feed(Step::Data(b"question"));
    let mut running = Box::pin(Flow::new(source.clone(), sink.clone()).run());
    let mut cx = std::task::Context::from_waker(std::task::Waker::noop());
    assert!(running.as_mut().poll(&mut cx).is_pending());
    assert_eq!(sink.seen.lock().unwrap().flushes, 1);
    assert!(running.as_mut().poll(&mut cx).is_pending());
    assert_eq!(sink.seen.lock().unwrap().flushes, 1, "nothing new to flush");
}

#[tokio::test]
async fn a_failed_or_truncated_source_never_looks_finished() {
    for (kind, expected) in [
        (ErrorKind::Failed, FlowErrorKind::Failed),
        (ErrorKind::Truncated, FlowErrorKind::Truncated),
    ] {
        let source = Fed::default();
        source.feed(Step::Data(b"half"));
        source.feed(Step::Fail(EndpointError::new(kind, Blame::Peer, "it broke")));
        let sink = Kept::new(usize::MAX);
        let error = Flow::new(source, sink.clone()).run().await.unwrap_err();
        assert_eq!((error.kind, error.side), (expected, Some(Side::Source)));
        assert_eq!((error.report.bytes_read, error.report.bytes_confirmed), (4, 0));
        let seen = sink.seen.lock().unwrap();
        assert!(!seen.finished && seen.aborted.is_some());
    }
}

#[tokio::test]
async fn the_handle_aborts_with_its_reason_and_stops_gently() {
    let source = Fed::default();
    source.feed(Step::Data(b"held"));
    let sink = Kept::new(0);
    let flow = Flow::new(source.clone(), sink.clone());
    let handle = flow.handle();
    let running = tokio::spawn(flow.run());
    while handle.snapshot().bytes_read < 4 {
        yield_now().await;
    }
    handle.stop();
    source.feed(Step::Data(b"unread"));
    yield_now().await;
    sink.allow(100);
    let error = running.await.unwrap().unwrap_err();
    assert_eq!(
        (error.kind, error.side, error.report.bytes_sent),
        (FlowErrorKind::Aborted, None, 4)
    );
    {
        let seen = sink.seen.lock().unwrap();
        assert_eq!((&seen.data[..], seen.finished), (&b"held"[..], false));
        assert!(seen.aborted.is_some());
    }

    let sink = Kept::new(0);
    let flow = Flow::new(Made::new(100, 10), sink.clone());
    let handle = flow.handle();
    let running = tokio::spawn(flow.run());
    handle.abort(AbortReason::TimedOut);
    assert_eq!(running.await.unwrap().unwrap_err().kind, FlowErrorKind::Aborted);
    assert_eq!(sink.seen.lock().unwrap().aborted.as_deref(), Some("timed out"));
}

#[tokio::test(start_paused = true)]
async fn a_rate_is_kept_changed_and_never_hoarded() {
    let sink = Kept::new(usize::MAX);
    let flow = Flow::new(Made::new(1_000_000, 65_536), sink).rate(100_000);
    let handle = flow.handle();
    let start = tokio::time::Instant::now();
    let running = tokio::spawn(flow.run());
    tokio::time::sleep(Duration::from_secs(5)).await;
    let read = handle.snapshot().bytes_read;
    assert!((450_000..=520_000).contains(&read), "{read} bytes in 5 s");
    handle.set_rate(Some(1_000_000));
    let report = running.await.unwrap().unwrap();
    let took = start.elapsed();
    assert!(
        took > Duration::from_millis(5_300) && took < Duration::from_millis(5_800),
        "{took:?}"
    );
    assert!(report.paused.shaped > Duration::from_secs(4));
}

#[tokio::test]
async fn inspect_sees_every_byte_once() {
    let (tell, told) = std::sync::mpsc::channel();
    let flow = Flow::new(Made::new(MIB, 1000), Kept::new(usize::MAX));
    let report = flow
        .inspect(Box::new(move |data| tell.send(Checksum::of(data).bytes).unwrap()))
        .run()
        .await;
    assert_eq!(told.iter().sum::<u64>(), MIB);
    assert_eq!(report.unwrap().bytes_sent, MIB);
}

#[tokio::test]
async fn one_fast_flow_does_not_starve_a_slow_one() {
    // Both in one task set on one thread: the fast source is always ready, the fed one must get its turns.
    let fast = tokio::spawn(Flow::new(Endless, Discard).run());
    let source = Fed::default();
    let sink = Kept::new(usize::MAX);
    let slow = tokio::spawn(Flow::new(source.clone(), sink.clone()).run());
    for turn in 1..=20 {
        source.feed(Step::Data(b"."));
        yield_now().await;
        yield_now().await;
        assert_eq!(sink.seen.lock().unwrap().data.len(), turn);
    }
    assert!(!fast.is_finished(), "the fast flow was to be still at work");
    source.feed(Step::End);
    slow.await.unwrap().unwrap();
    fast.abort();
}

struct Endless;

impl tidegate_io::Source for Endless {
    fn poll_read(
        &mut self,
        _cx: &mut std::task::Context<'_>,
        _buffers: &mut tidegate_io::Buffers,
        max: usize,
    ) -> std::task::Poll<Result<Option<bytes::Bytes>, EndpointError>> {
        static ZEROES: [u8; 65_536] = [0; 65_536];
        std::task::Poll::Ready(Ok(Some(bytes::Bytes::from_static(
            &ZEROES[..max.min(ZEROES.len())],
        ))))
    }
    fn name(&self) -> String {
        "endless".into()
    }
}

struct Discard;

impl tidegate_io::Sink for Discard {
    fn poll_write(
        &mut self,
        _cx: &mut std::task::Context<'_>,
        held: &tidegate_io::Held,
    ) -> std::task::Poll<Result<usize, EndpointError>> {
        std::task::Poll::Ready(Ok(held.len()))
    }
    fn poll_finish(
        &mut self,
        _cx: &mut std::task::Context<'_>,
    ) -> std::task::Poll<Result<Confirmation, EndpointError>> {
        std::task::Poll::Ready(Ok(Confirmation::Sent))
    }
    fn abort(&mut self, _reason: &AbortReason) {}
    fn name(&self) -> String {
        "discard".into()
    }
}

/// A child that ends with an error has printed something all the same.
#[tokio::test]
async fn what_a_failed_source_had_given_goes_out_before_the_abort() {
    let (source, sink) = (Fed::default(), Kept::new(0));
    let running = tokio::spawn(Flow::new(source.clone(), sink.clone()).run());
    source.feed(Step::Data(b"last words"));
    let failure = EndpointError::new(ErrorKind::Failed, Blame::Peer, "exited with code 3");
    source.feed(Step::Fail(failure));
    yield_now().await;
    sink.allow(usize::MAX / 2);
    let error = running.await.unwrap().unwrap_err();
    let seen = sink.seen.lock().unwrap();
    assert_eq!(seen.data, b"last words");
    assert!(seen.aborted.is_some() && !seen.finished);
    assert_eq!((error.side, error.report.bytes_sent), (Some(Side::Source), 10));
}

/// A sink that takes nothing more does not keep a source's failure from being told.
#[tokio::test(start_paused = true)]
async fn a_failed_source_is_told_of_even_if_the_sink_is_stuck() {
    let (source, sink) = (Fed::default(), Kept::new(0));
    let running = tokio::spawn(Flow::new(source.clone(), sink.clone()).run());
    source.feed(Step::Data(b"stuck"));
    source.feed(Step::Fail(EndpointError::new(
        ErrorKind::Failed,
        Blame::Peer,
        "gone",
    )));
    let error = running.await.unwrap().unwrap_err();
    assert_eq!(
        (error.side, error.kind),
        (Some(Side::Source), FlowErrorKind::Failed)
    );
    assert!(sink.seen.lock().unwrap().aborted.is_some());
}
