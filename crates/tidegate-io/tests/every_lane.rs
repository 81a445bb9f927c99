//! One table over the lanes: the account, a rate, a pause, a stall, a half-close, an abort and the laws hold on each of them, or the
//! lane is not taken.
#![cfg(target_os = "linux")]
#![allow(clippy::unwrap_used)]

mod common;

use std::path::PathBuf;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use common::{Made, made, tcp_pair};
use tempfile::TempDir;
use tidegate::{AbortReason, HoldReason, Marks};
use tidegate_io::endpoint::file::{FileSink, FileSource, Overwrite};
use tidegate_io::endpoint::pipe::{PipeSink, PipeSource};
use tidegate_io::endpoint::tcp;
use tidegate_io::laws::{self, Cut, Feed, Pair};
use tidegate_io::{
    Confirmation, Flow, FlowErrorKind, FlowHandle, FlowState, Lane, LaneChoice, Relay, Report, Side, Sink,
    Source,
};
use tokio::io::{AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::net::unix::pipe::Sender;
use tokio::task::JoinHandle;
use tokio::time::timeout;

const MIB: u64 = 1 << 20;
const LIMIT: Duration = Duration::from_secs(60);

/// A lane and the ends that show it.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Row {
    Copy,
    SpliceThroughAPipe,
    SpliceFromAPipe,
    SpliceIntoAPipe,
    Sendfile,
    CopyFileRange,
}

const ROWS: [Row; 6] = [
    Row::Copy,
    Row::SpliceThroughAPipe,
    Row::SpliceFromAPipe,
    Row::SpliceIntoAPipe,
    Row::Sendfile,
    Row::CopyFileRange,
];

/// Beyond the sink.
enum Far {
    Socket(TcpStream),
    Pipe(PathBuf),
    File(PathBuf),
}

type Boxed = Flow<Box<dyn Source + Send>, Box<dyn Sink + Send>>;

/// A flow's ends, fed, and what is beyond the sink.
struct Ends {
    source: Box<dyn Source + Send>,
    sink: Box<dyn Sink + Send>,
    far: Far,
    folder: TempDir,
}

impl Row {
    fn choice(self) -> LaneChoice {
        match self {
            Self::Copy => LaneChoice::Copy,
            Self::SpliceThroughAPipe | Self::SpliceFromAPipe | Self::SpliceIntoAPipe => LaneChoice::Splice,
            Self::Sendfile => LaneChoice::Sendfile,
            Self::CopyFileRange => LaneChoice::CopyFileRange,
        }
    }

    fn lane(self) -> Lane {
        match self {
            Self::Copy => Lane::Copy,
            Self::SpliceThroughAPipe | Self::SpliceFromAPipe | Self::SpliceIntoAPipe => Lane::Splice,
            Self::Sendfile => Lane::Sendfile,
            Self::CopyFileRange => Lane::CopyFileRange,
        }
    }

    /// Whether there is somebody beyond the sink who may be slow to read.
    fn has_reader(self) -> bool {
        self != Self::CopyFileRange
    }

    async fn ends(self, bytes: u64) -> Ends {
        let folder = tempfile::tempdir().unwrap();
        let source: Box<dyn Source + Send> = match self {
            Self::Copy | Self::SpliceThroughAPipe | Self::SpliceIntoAPipe => {
                let (near, from) = tcp_pair().await;
                feed(tcp::sink(near), bytes);
                Box::new(tcp::source(from))
            }
            Self::SpliceFromAPipe => {
                let path = fifo(&folder, "from");
                let source = PipeSource::open(&path).unwrap();
                feed(PipeSink::open(path).await.unwrap(), bytes);
                Box::new(source)
            }
            Self::Sendfile | Self::CopyFileRange => {
                let path = folder.path().join("from");
                std::fs::write(&path, made(bytes)).unwrap();
                Box::new(FileSource::open(path).await.unwrap())
            }
        };
        let (sink, far): (Box<dyn Sink + Send>, Far) = match self {
            Self::CopyFileRange => {
                let path = folder.path().join("to");
                let sink = FileSink::create(&path, Overwrite::Refuse).await.unwrap();
                (Box::new(sink), Far::File(path))
            }
            Self::SpliceIntoAPipe => {
                let path = fifo(&folder, "to");
                // Somebody has to have it open for reading before it can be written to.
                let reader = PipeSource::open(&path).unwrap();
                let sink = PipeSink::open(&path).await.unwrap();
                let far = Far::Pipe(path.clone());
                keep_open(reader);
                (Box::new(sink), far)
            }
            _ => {
                let (to, far) = tcp_pair().await;
                (Box::new(tcp::sink(to)), Far::Socket(far))
            }
        };
        Ends {
            source,
            sink,
            far,
            folder,
        }
    }
}

/// Holds a pipe's reading end for as long as a test may take, and reads nothing: a writer waits, and does not fail.
fn keep_open(reader: PipeSource) {
    tokio::spawn(async move {
        tokio::time::sleep(LIMIT).await;
        drop(reader);
    });
}

fn fifo(folder: &TempDir, name: &str) -> PathBuf {
    let path = folder.path().join(name);
    let mode = rustix::fs::Mode::from_raw_mode(0o600);
    rustix::fs::mknodat(rustix::fs::CWD, &path, rustix::fs::FileType::Fifo, mode, 0).unwrap();
    path
}

fn feed(to: impl Sink + Send + 'static, bytes: u64) {
    let flow = Flow::new(Made::new(bytes, 1 << 20), to).lane(LaneChoice::Copy);
    // A row that is cut short leaves its feeder without a reader.
    tokio::spawn(async move { drop(flow.run().await) });
}

impl Far {
    /// So many bytes, as they are beyond the sink in the end.
    async fn read(self, bytes: u64) -> Vec<u8> {
        let count = usize::try_from(bytes).unwrap();
        match self {
            Self::Socket(mut far) => {
                let mut all = Vec::new();
                far.read_to_end(&mut all).await.unwrap();
                all
            }
            Self::Pipe(path) => {
                let mut reader = tokio::net::unix::pipe::OpenOptions::new()
                    .open_receiver(path)
                    .unwrap();
                let mut all = vec![0; count];
                reader.read_exact(&mut all).await.unwrap();
                all
            }
            Self::File(path) => std::fs::read(path).unwrap(),
        }
    }
}

/// Runs a flow to its good end while the far side is read. A file is looked at afterwards.
async fn carried(row: Row, bytes: u64, set_up: impl FnOnce(Boxed) -> Boxed) -> Report {
    let ends = row.ends(bytes).await;
    let flow = set_up(Flow::new(ends.source, ends.sink).lane(row.choice()));
    let running = tokio::spawn(flow.run());
    let (report, delivered) = match ends.far {
        Far::File(_) => {
            let report = end(running).await.unwrap();
            (report, ends.far.read(bytes).await)
        }
        far => {
            let delivered = timeout(LIMIT, far.read(bytes)).await.expect("bytes are missing");
            (end(running).await.unwrap(), delivered)
        }
    };
    assert!(delivered == made(bytes), "{row:?}: not what was sent");
    assert_eq!((report.bytes_read, report.bytes_sent), (bytes, bytes), "{row:?}");
    drop(ends.folder);
    report
}

async fn end<T>(running: JoinHandle<T>) -> T {
    timeout(LIMIT, running).await.expect("it does not end").unwrap()
}

async fn until(what: &str, handle: &FlowHandle, holds: impl Fn(&FlowHandle) -> bool) {
    let wait = async {
        while !holds(handle) {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    };
    assert!(
        timeout(LIMIT, wait).await.is_ok(),
        "never: {what}: {:?}",
        handle.snapshot()
    );
}

#[tokio::test]
async fn the_account_is_right_and_names_the_lane() {
    for row in ROWS {
        let report = carried(row, 20 * MIB + 7, |flow| flow).await;
        assert_eq!(report.lane, row.lane(), "{row:?}");
        assert_eq!(report.paused.shaped, Duration::ZERO, "{row:?}");
        let confirmed = report.confirmation == Some(Confirmation::Confirmed);
        assert_eq!(
            report.bytes_confirmed,
            if confirmed { report.bytes_sent } else { 0 },
            "{row:?}"
        );
    }
}

#[tokio::test]
async fn a_rate_holds_and_takes_the_bytes_to_user_space() {
    for row in ROWS {
        let report = carried(row, 3 * MIB, |flow| flow.rate(8 * MIB)).await;
        assert_eq!(report.lane, Lane::Copy, "{row:?}");
        assert!(report.paused.shaped > Duration::ZERO, "{row:?}: {report:?}");
    }
}

#[tokio::test]
async fn a_pause_stops_it_and_a_rate_set_meanwhile_brings_it_to_user_space() {
    for row in ROWS.into_iter().filter(|row| row.has_reader()) {
        let bytes = 64 * MIB;
        let ends = row.ends(bytes).await;
        let flow = Flow::new(ends.source, ends.sink).lane(row.choice());
        let handle = flow.handle();
        let running = tokio::spawn(flow.run());
        // Nobody reads yet, so it cannot have ended.
        until("it moves", &handle, |handle| {
            handle.snapshot().lane == row.lane() && handle.snapshot().bytes_sent > 0
        })
        .await;
        let hold = handle.hold(HoldReason::User);
        let reading = tokio::spawn(timeout(LIMIT, ends.far.read(bytes)));
        until("it is paused", &handle, |handle| {
            handle.snapshot().state == FlowState::Paused
        })
        .await;
        // What was held goes out; then it stands still, whatever time it is given and however much is read.
        until("what was held is out", &handle, |handle| {
            handle.snapshot().held == 0
        })
        .await;
        let there = handle.snapshot();
        tokio::time::sleep(Duration::from_millis(20)).await;
        let later = handle.snapshot();
        assert_eq!(
            (later.state, later.bytes_read, later.bytes_sent),
            (FlowState::Paused, there.bytes_read, there.bytes_sent),
            "{row:?}: a paused flow went on"
        );
        assert!(there.bytes_sent < bytes, "{row:?}");
        handle.set_rate(Some(1 << 30));
        drop(hold);
        until("the copy lane is taken", &handle, |handle| {
            handle.snapshot().lane == Lane::Copy
        })
        .await;
        handle.set_rate(None);
        let report = end(running).await.unwrap();
        assert_eq!(report.bytes_sent, bytes, "{row:?}");
        assert!(report.paused.user > Duration::ZERO, "{row:?}");
        assert!(
            end(reading).await.unwrap() == made(bytes),
            "{row:?}: not what was sent"
        );
    }
}

#[tokio::test]
async fn a_reader_that_stops_is_a_stall_and_one_that_does_not_is_none() {
    for row in ROWS {
        if !row.has_reader() {
            let report = carried(row, 20 * MIB, |flow| flow.stall(Duration::from_secs(30))).await;
            assert_eq!(report.lane, row.lane(), "{row:?}");
            continue;
        }
        let ends = row.ends(64 * MIB).await;
        let flow = Flow::new(ends.source, ends.sink)
            .lane(row.choice())
            .stall(Duration::from_millis(700));
        let error = end(tokio::spawn(flow.run())).await.unwrap_err();
        assert_eq!(
            (error.kind, error.side),
            (FlowErrorKind::Stalled, Some(Side::Sink)),
            "{row:?}"
        );
        assert_eq!(error.report.lane, row.lane(), "{row:?}");
        assert!(
            error.report.bytes_read - error.report.bytes_sent <= MIB,
            "{row:?}: more is held than one pipe"
        );
        drop(ends.far);
    }
}

#[tokio::test]
async fn an_abort_midway_never_looks_finished() {
    for row in ROWS {
        let ends = row.ends(64 * MIB).await;
        let flow = Flow::new(ends.source, ends.sink).lane(row.choice());
        let handle = flow.handle();
        if !row.has_reader() {
            handle.abort(AbortReason::Requested);
        }
        let running = tokio::spawn(flow.run());
        if row.has_reader() {
            until("it moves", &handle, |handle| handle.snapshot().bytes_sent > 0).await;
            handle.abort(AbortReason::Requested);
        }
        let error = end(running).await.unwrap_err();
        assert_eq!(error.kind, FlowErrorKind::Aborted, "{row:?}");
        assert!(
            error.report.bytes_sent < 64 * MIB && error.report.bytes_confirmed == 0,
            "{row:?}"
        );
        match ends.far {
            Far::Socket(mut far) => {
                let read = timeout(LIMIT, far.read_to_end(&mut Vec::new())).await.unwrap();
                assert!(read.is_err(), "{row:?}: the peer saw an end");
            }
            // A pipe has one way to end.
            Far::Pipe(_) => {}
            Far::File(path) => assert!(!path.exists(), "{row:?}: the target is there"),
        }
    }
}

#[tokio::test]
async fn one_direction_ends_and_the_other_goes_on() {
    for lane in [LaneChoice::Copy, LaneChoice::Splice] {
        let ((near, a), (b, far)) = (tcp_pair().await, tcp_pair().await);
        let relay = Relay::new(tcp::duplex(a), tcp::duplex(b)).lane(lane);
        let running = tokio::spawn(relay.run());
        answers_after_the_end(near, far).await;
        let report = end(running).await.unwrap();
        assert_eq!(
            (report.a_to_b.bytes_sent, report.b_to_a.bytes_sent),
            (8 * MIB, 8 * MIB),
            "{lane:?}"
        );
        let lanes = (report.a_to_b.lane, report.b_to_a.lane);
        let expected = if lane == LaneChoice::Copy {
            Lane::Copy
        } else {
            Lane::Splice
        };
        assert_eq!(lanes, (expected, expected));
    }
    // A file to one half of a connection: the other half stays usable.
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("file");
    std::fs::write(&path, made(8 * MIB)).unwrap();
    let (near, far) = tcp_pair().await;
    let ours = tcp::duplex(near);
    let source = FileSource::open(&path).await.unwrap();
    let sending = tokio::spawn(Flow::new(source, ours.sink).lane(LaneChoice::Sendfile).run());
    let sink = FileSink::create(folder.path().join("back"), Overwrite::Refuse)
        .await
        .unwrap();
    let receiving = tokio::spawn(Flow::new(ours.source, sink).run());
    answer(far, made(8 * MIB)).await;
    let sent = end(sending).await.unwrap();
    assert_eq!((sent.lane, sent.bytes_sent), (Lane::Sendfile, 8 * MIB));
    assert_eq!(end(receiving).await.unwrap().bytes_sent, 8 * MIB);
    assert!(std::fs::read(folder.path().join("back")).unwrap() == made(8 * MIB));
}

/// `near` sends and ends; only then does `far` answer, and `near` still gets it.
async fn answers_after_the_end(mut near: TcpStream, far: TcpStream) {
    let answering = tokio::spawn(answer(far, made(8 * MIB)));
    near.write_all(&made(8 * MIB)).await.unwrap();
    near.shutdown().await.unwrap();
    let mut back = Vec::new();
    timeout(LIMIT, near.read_to_end(&mut back))
        .await
        .unwrap()
        .unwrap();
    assert!(back == made(8 * MIB), "the other direction did not go on");
    answering.await.unwrap();
}

/// Waits for the end of what comes, then sends the same back.
async fn answer(mut far: TcpStream, expected: Vec<u8>) {
    let mut got = Vec::new();
    timeout(LIMIT, far.read_to_end(&mut got)).await.unwrap().unwrap();
    assert!(got == expected, "not what was sent");
    far.write_all(&got).await.unwrap();
    far.shutdown().await.unwrap();
}

/// The laws on the lanes of streams. `flow_laws.rs` has them for the other sockets.
#[tokio::test]
async fn the_laws_hold_from_a_pipe_and_into_one() {
    laws::flow(&Piped::From).await;
    laws::flow(&Piped::Into).await;
}

/// A file is no stream that a law could feed as it goes: of the laws, order and small windows speak of it. (The end, cuts and the
/// account are in the tests above.)
#[tokio::test]
async fn the_laws_hold_from_a_file() {
    for row in [Row::Sendfile, Row::CopyFileRange] {
        for bytes in [0, 1, 70_000, 3_000_000] {
            carried(row, bytes, |flow| flow).await;
        }
        for high in 1..=3 {
            let marks = Marks::new(0, high).and_then(|marks| marks.with_chunk(1)).unwrap();
            carried(row, 300, |flow| flow.marks(marks)).await;
        }
    }
}

/// A FIFO and a TCP connection, spliced straight.
enum Piped {
    From,
    Into,
}

impl Pair for Piped {
    async fn make(&self) -> laws::Ends {
        let folder = tempfile::tempdir().unwrap();
        let path = fifo(&folder, "pipe");
        let (near, far) = tcp_pair().await;
        let pipes = tokio::net::unix::pipe::OpenOptions::new();
        match self {
            Self::From => {
                let source = PipeSource::open(&path).unwrap();
                laws::Ends {
                    feed: Box::pin(Closing(Some(pipes.open_sender(&path).unwrap()))),
                    source: Box::new(source),
                    sink: Box::new(tcp::sink(near)),
                    drain: Box::pin(far),
                }
            }
            Self::Into => {
                let drain = pipes.open_receiver(&path).unwrap();
                socket2::SockRef::from(&far)
                    .set_linger(Some(Duration::ZERO))
                    .unwrap();
                laws::Ends {
                    source: Box::new(tcp::source(near)),
                    sink: Box::new(PipeSink::open(&path).await.unwrap()),
                    feed: Box::pin(far),
                    drain: Box::pin(drain),
                }
            }
        }
    }

    fn cut(&self, feed: Feed) -> Cut {
        drop(feed);
        match self {
            Self::From => Cut::NotShown,
            Self::Into => Cut::Shown,
        }
    }

    fn abort_shows(&self) -> Cut {
        match self {
            Self::From => Cut::Shown,
            Self::Into => Cut::NotShown,
        }
    }

    fn slack_bytes(&self) -> u64 {
        16 << 20
    }

    fn lane(&self) -> LaneChoice {
        LaneChoice::Splice
    }
}

/// A pipe's writing end that is closed by its shutdown: a pipe has no other end.
struct Closing(Option<Sender>);

impl AsyncWrite for Closing {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        data: &[u8],
    ) -> Poll<std::io::Result<usize>> {
        match &mut self.0 {
            Some(open) => Pin::new(open).poll_write(cx, data),
            None => Poll::Ready(Err(std::io::ErrorKind::BrokenPipe.into())),
        }
    }
    fn poll_flush(self: Pin<&mut Self>, _cx: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Poll::Ready(Ok(()))
    }
    fn poll_shutdown(mut self: Pin<&mut Self>, _cx: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        self.0 = None;
        Poll::Ready(Ok(()))
    }
}
