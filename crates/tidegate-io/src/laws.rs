//! The laws that speak of flows, as a suite for any pair of endpoints. (feature `laws`)
//!
//! Knows no endpoint: a [`Pair`] makes a fresh source and sink and plays what is beyond them. The laws of consumers are in
//! `tidegate::laws`; of those, 1, 2, 9, 10, 11, 13 and 15 speak of flows too.
//!
//! Nothing waits for a time to pass as proof: what must come to be is awaited, at most [`LIMIT`].
//!
//! ```no_run
//! # async fn example(tcp: impl tidegate_io::laws::Pair) {
//! tidegate_io::laws::flow(&tcp).await;
//! # }
//! ```

use std::future::Future;
use std::pin::Pin;
use std::time::Duration;

use tidegate::{AbortReason, Marks};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::task::JoinHandle;
use tokio::time::timeout;

use crate::{Flow, FlowError, FlowHandle, FlowState, LaneChoice, Report, Side, Sink, Source};

/// The longest a law waits for what must come to be.
pub const LIMIT: Duration = Duration::from_secs(20);

/// What feeds the source under test, from beyond.
pub type Feed = Pin<Box<dyn AsyncWrite + Send>>;

/// What the sink under test delivers to, beyond.
pub type Drain = Pin<Box<dyn AsyncRead + Send>>;

/// A source, a sink, and what is beyond each.
pub struct Ends {
    /// The source under test.
    pub source: Box<dyn Source + Send>,
    /// The sink under test.
    pub sink: Box<dyn Sink + Send>,
    /// Writing here is what the source reads; shutting it down is the source's clean end.
    pub feed: Feed,
    /// Reading here is what the sink delivered; an end is a finished stream, an error one cut short.
    pub drain: Drain,
}

/// Whether this kind of stream can show the far side that it was cut short.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Cut {
    /// By an error at the reader: a reset, a missing close notice.
    Shown,
    /// It has one way to end: a pipe, a Unix socket.
    NotShown,
}

/// Makes endpoints for the laws.
pub trait Pair: Send + Sync {
    /// Fresh, connected endpoints.
    fn make(&self) -> impl Future<Output = Ends> + Send;

    /// Ends `feed` so that the source sees a failure and not an end, where its kind can.
    fn cut(&self, feed: Feed) -> Cut;

    /// Whether an aborted sink is seen as cut.
    fn abort_shows(&self) -> Cut;

    /// Bytes that kernel buffers between `feed` and `drain` may swallow.
    fn slack_bytes(&self) -> u64;

    /// The lane to ask for.
    fn lane(&self) -> LaneChoice {
        LaneChoice::Auto
    }
}

/// Puts a pair of endpoints through every law that speaks of flows.
///
/// # Panics
/// With the number of the law that broke.
pub async fn flow(pair: &impl Pair) {
    law_01_order(pair).await;
    law_02_bound(pair).await;
    law_09_closing_waits(pair).await;
    law_10_reasons_travel(pair).await;
    law_11_a_pause_is_not_blind(pair).await;
    law_13_no_spin_no_stall(pair).await;
    law_15_outcome(pair).await;
}

/// Bytes leave in the order they came, all of them.
///
/// # Panics
/// If they do not.
pub async fn law_01_order(pair: &impl Pair) {
    for count in [0, 1, 70_000, 3_000_000] {
        let (mut running, ends) = Running::start(pair, Marks::default()).await;
        let fed = feeding(ends.0, count);
        let delivered = delivered(ends.1).await;
        assert!(
            delivered.cut.is_none(),
            "law 1: a finished stream of {count} bytes looks cut"
        );
        same(&delivered.bytes, count, "law 1");
        let report = running
            .end()
            .await
            .expect("law 1: a stream without a fault failed");
        assert_eq!(
            (report.bytes_read, report.bytes_sent),
            (count, count),
            "law 1: the account is wrong"
        );
        fed.abort();
    }
}

/// A flow holds at most `high` and one chunk, whatever the source has to give.
///
/// # Panics
/// If it takes more from its source than that, what the sink took, and the kernel's own buffers.
pub async fn law_02_bound(pair: &impl Pair) {
    const MANY: u64 = 1 << 40;
    let marks = marks(32 * 1024, 64 * 1024, 64 * 1024);
    let (running, ends) = Running::start(pair, marks).await;
    let fed = feeding(ends.0, MANY);
    running
        .until("law 2: the sink never makes the source wait", |handle| {
            let snapshot = handle.snapshot();
            snapshot.state == FlowState::WaitingSink && snapshot.bytes_read >= snapshot.bytes_sent
        })
        .await;
    let bound = (marks.high() + marks.chunk()) as u64;
    for _ in 0..50 {
        tokio::time::sleep(Duration::from_millis(2)).await;
        let snapshot = running.handle.snapshot();
        let held = snapshot.bytes_read - snapshot.bytes_sent;
        assert!(held <= bound, "law 2: {held} bytes held, {bound} allowed");
        assert!(
            snapshot.bytes_sent <= pair.slack_bytes(),
            "law 2: {} bytes vanished into a sink that nobody reads",
            snapshot.bytes_sent
        );
    }
    fed.abort();
}

/// Everything held goes out before the sink is finished.
///
/// # Panics
/// If the end overtakes bytes.
pub async fn law_09_closing_waits(pair: &impl Pair) {
    let (mut running, ends) = Running::start(pair, Marks::default()).await;
    let count = pair.slack_bytes() / 4 + 100_000;
    let fed = feeding(ends.0, count);
    // Nobody reads until the source has nothing left to give: what is under way then must still come.
    let _ = timeout(Duration::from_millis(200), running.ended()).await;
    let delivered = delivered(ends.1).await;
    same(&delivered.bytes, count, "law 9");
    assert!(delivered.cut.is_none(), "law 9: a finished stream looks cut");
    assert!(running.end().await.is_ok(), "law 9: a finished stream failed");
    fed.abort();
}

/// A stream cut short never looks finished: by its source's failure, by its handle, by dropping the flow.
///
/// # Panics
/// If the far reader, or the flow's own result, takes it for an end.
pub async fn law_10_reasons_travel(pair: &impl Pair) {
    let (mut running, (mut feed, mut drain)) = Running::start(pair, Marks::default()).await;
    feed.write_all(&pattern(0, 1000))
        .await
        .expect("law 10: the feed failed");
    if pair.cut(feed) == Cut::Shown {
        shows_cut(pair, &mut drain, "its source failed").await;
        let error = running
            .end()
            .await
            .expect_err("law 10: a failed source looks finished");
        assert_eq!(error.side, Some(Side::Source), "law 10: {error}");
    }

    let (mut running, (feed, mut drain)) = Running::start(pair, Marks::default()).await;
    running.handle.abort(AbortReason::Requested);
    running
        .end()
        .await
        .expect_err("law 10: an aborted flow looks finished");
    shows_cut(pair, &mut drain, "it was aborted").await;
    drop(feed);

    let (running, (feed, mut drain)) = Running::start(pair, Marks::default()).await;
    drop(running);
    shows_cut(pair, &mut drain, "it was dropped").await;
    drop(feed);
}

async fn shows_cut(pair: &impl Pair, drain: &mut Drain, why: &str) {
    if pair.abort_shows() == Cut::Shown {
        let delivered = read_all(drain).await;
        assert!(
            delivered.cut.is_some(),
            "law 10: the far reader saw an end although {why}"
        );
    }
}

/// With nothing to write, a flow still notices that its sink's device died.
///
/// # Panics
/// If it waits for its source for ever.
pub async fn law_11_a_pause_is_not_blind(pair: &impl Pair) {
    let (mut running, (mut feed, drain)) = Running::start(pair, Marks::default()).await;
    feed.write_all(&pattern(0, 100_000))
        .await
        .expect("law 11: the feed failed");
    running
        .until("law 11: the bytes never left", |handle| {
            handle.snapshot().bytes_sent == 100_000
        })
        .await;
    drop(drain);
    // A peer that goes with unread bytes resets; one that only ends its own direction would be no fault.
    let error = running
        .end()
        .await
        .expect_err("law 11: nobody noticed that the sink died");
    assert_eq!(error.side, Some(Side::Sink), "law 11: {error}");
    drop(feed);
}

/// Windows of 1, 2 and 3 bytes move.
///
/// # Panics
/// If a tail is left behind.
pub async fn law_13_no_spin_no_stall(pair: &impl Pair) {
    for high in 1..=3 {
        let (mut running, ends) = Running::start(pair, marks(0, high, 1)).await;
        let fed = feeding(ends.0, 300);
        same(&delivered(ends.1).await.bytes, 300, "law 13");
        running.end().await.expect("law 13: a small window failed");
        fed.abort();
    }
}

/// The account is right whether it ends well or not.
///
/// # Panics
/// If bytes are counted that were not delivered, or the other way round.
pub async fn law_15_outcome(pair: &impl Pair) {
    let (mut running, (mut feed, drain)) = Running::start(pair, Marks::default()).await;
    feed.write_all(&pattern(0, 5000))
        .await
        .expect("law 15: the feed failed");
    running
        .until("law 15: the bytes never left", |handle| {
            handle.snapshot().bytes_sent == 5000
        })
        .await;
    running.handle.abort(AbortReason::Requested);
    let error = running
        .end()
        .await
        .expect_err("law 15: an aborted flow looks finished");
    assert_eq!(
        error.report.bytes_sent, 5000,
        "law 15: the error lost the account"
    );
    assert_eq!(error.report.bytes_confirmed, 0, "law 15: nothing was confirmed");
    drop((feed, drain));
}

/// A flow in a task of its own; dropping this drops the flow.
struct Running {
    handle: FlowHandle,
    task: JoinHandle<Result<Report, FlowError>>,
}

impl Running {
    async fn start(pair: &impl Pair, marks: Marks) -> (Self, (Feed, Drain)) {
        let ends = pair.make().await;
        let flow = Flow::new(ends.source, ends.sink).marks(marks).lane(pair.lane());
        let handle = flow.handle();
        let task = tokio::spawn(flow.run());
        (Self { handle, task }, (ends.feed, ends.drain))
    }

    /// Waits for a state of the flow.
    async fn until(&self, what: &str, reached: impl Fn(&FlowHandle) -> bool) {
        let wait = async {
            while !reached(&self.handle) {
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
        };
        assert!(
            timeout(LIMIT, wait).await.is_ok(),
            "{what}: {:?}",
            self.handle.snapshot()
        );
    }

    async fn ended(&mut self) {
        while !self.task.is_finished() {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    }

    async fn end(&mut self) -> Result<Report, FlowError> {
        let ended = timeout(LIMIT, &mut self.task).await;
        ended
            .expect("law 13: the flow does not end")
            .expect("the flow panicked")
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.task.abort();
    }
}

fn marks(low: usize, high: usize, chunk: usize) -> Marks {
    let marks = Marks::new(low, high).and_then(|marks| marks.with_chunk(chunk));
    marks.expect("the laws' own marks agree")
}

/// The byte at `at`: nothing repeats at a power of two.
fn byte_at(at: u64) -> u8 {
    (at.wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 56) as u8
}

fn pattern(from: u64, count: u64) -> Vec<u8> {
    (from..from + count).map(byte_at).collect()
}

fn same(found: &[u8], count: u64, law: &str) {
    assert_eq!(found.len() as u64, count, "{law}: bytes were lost or doubled");
    let wrong = found.iter().zip(0..).find(|(byte, at)| **byte != byte_at(*at));
    assert!(
        wrong.is_none(),
        "{law}: bytes out of order at {:?}",
        wrong.map(|(_, at)| at)
    );
}

/// Feeds so many bytes and then the clean end. A feed that fails stops: the law looks at the other side.
fn feeding(mut feed: Feed, count: u64) -> JoinHandle<()> {
    tokio::spawn(async move {
        let mut at = 0;
        while at < count {
            let piece = pattern(at, (count - at).min(16 * 1024));
            if feed.write_all(&piece).await.is_err() {
                return;
            }
            at += piece.len() as u64;
        }
        let _ = feed.shutdown().await;
        // Held open until the far side has let go: a socket dropped with unread bytes would reset.
        tokio::time::sleep(LIMIT).await;
    })
}

struct DeliveredBytes {
    bytes: Vec<u8>,
    cut: Option<std::io::Error>,
}

/// Reads to the end, then lets go: a sink may wait for that before it says that it is finished.
async fn delivered(mut drain: Drain) -> DeliveredBytes {
    read_all(&mut drain).await
}

async fn read_all(drain: &mut Drain) -> DeliveredBytes {
    let mut bytes = Vec::new();
    let read = timeout(LIMIT, drain.read_to_end(&mut bytes)).await;
    let cut = read.expect("law 13: the far reader waits for ever").err();
    DeliveredBytes { bytes, cut }
}
