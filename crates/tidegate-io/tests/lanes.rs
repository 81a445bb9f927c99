//! Kernel lanes: every byte, no hanging tail, every limit and end as in user space, and the way back to it.
#![cfg(target_os = "linux")]
#![allow(clippy::unwrap_used)]

mod common;

use std::io::{Read as _, Write as _};
use std::os::fd::AsRawFd;
use std::path::Path;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use common::{Checksum, Kept, Made, byte_at, tcp_pair};
use tidegate::AbortReason;
use tidegate_io::endpoint::fd::Descriptor;
use tidegate_io::endpoint::file::{FileSink, FileSource, Overwrite};
use tidegate_io::endpoint::pipe::{PipeSink, PipeSource};
use tidegate_io::endpoint::tcp;
use tidegate_io::{
    Buffers, Confirmation, EndpointError, Flow, FlowErrorKind, Held, Lane, LaneChoice, LaneEnd, LaneOp, Side,
    Sink, SlowSide, Source,
};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::task::JoinHandle;

const MIB: u64 = 1 << 20;

fn make_file(path: &Path, bytes: u64) {
    std::fs::write(path, common::made(bytes)).unwrap();
}

/// Sends what `Made` makes over a socket, through user space.
fn sending(stream: TcpStream, bytes: u64) -> JoinHandle<()> {
    tokio::spawn(async move {
        let flow = Flow::new(Made::new(bytes, 1 << 20), tcp::sink(stream)).lane(LaneChoice::Copy);
        flow.run().await.unwrap();
    })
}

async fn received(mut stream: TcpStream) -> Checksum {
    let mut sum = Checksum::default();
    let mut space = vec![0; 128 * 1024];
    loop {
        match stream.read(&mut space).await.unwrap() {
            0 => return sum,
            count => sum.add(&space[..count]),
        }
    }
}

#[tokio::test]
async fn splice_carries_a_socket_to_a_socket() {
    let ((near, from), (to, far)) = (tcp_pair().await, tcp_pair().await);
    let sender = sending(near, 32 * MIB);
    let receiver = tokio::spawn(received(far));
    let flow = Flow::new(tcp::source(from), tcp::sink(to)).lane(LaneChoice::Splice);
    let report = flow.run().await.unwrap();
    assert_eq!(
        (report.lane, report.bytes_read, report.bytes_sent),
        (Lane::Splice, 32 * MIB, 32 * MIB)
    );
    assert_eq!(report.confirmation, Some(Confirmation::Confirmed));
    assert_eq!(receiver.await.unwrap(), Checksum::of_made(32 * MIB));
    sender.await.unwrap();
}

/// Once it has shown that it is bulk, and where it is asked for.
#[tokio::test]
async fn splice_carries_a_socket_into_a_file() {
    let work = tempfile::tempdir().unwrap();
    let path = work.path().join("copy");
    for (choice, lane) in [(LaneChoice::Splice, Lane::Splice), (LaneChoice::Auto, Lane::Copy)] {
        let (near, from) = tcp_pair().await;
        let sender = sending(near, 32 * MIB);
        let sink = FileSink::create(&path, Overwrite::Allow).await.unwrap();
        let report = Flow::new(tcp::source(from), sink)
            .lane(choice)
            .run()
            .await
            .unwrap();
        assert_eq!((report.lane, report.bytes_confirmed), (lane, 32 * MIB));
        assert_eq!(
            Checksum::of(&std::fs::read(&path).unwrap()),
            Checksum::of_made(32 * MIB)
        );
        sender.await.unwrap();
    }
}

/// The kernel does not splice into a file that is open for appending: what waits in the pipe is written by hand.
#[tokio::test]
async fn what_a_file_refuses_from_a_pipe_is_copied() {
    let work = tempfile::tempdir().unwrap();
    let path = work.path().join("log");
    let (near, from) = tcp_pair().await;
    let sender = sending(near, 8 * MIB);
    let sink = FileSink::append(&path).await.unwrap();
    let flow = Flow::new(tcp::source(from), sink).lane(LaneChoice::Splice);
    let report = flow.run().await.unwrap();
    assert_eq!(report.bytes_confirmed, 8 * MIB);
    assert_eq!(
        Checksum::of(&std::fs::read(&path).unwrap()),
        Checksum::of_made(8 * MIB)
    );
    sender.await.unwrap();
}

#[tokio::test]
async fn many_tiny_segments_leave_no_tail_behind() {
    // Each segment takes a slot of the pipe: it is full long before its size is reached.
    let ((mut near, from), (to, mut far)) = (tcp_pair().await, tcp_pair().await);
    let flow = Flow::new(tcp::source(from), tcp::sink(to)).lane(LaneChoice::Splice);
    let handle = flow.handle();
    let running = tokio::spawn(flow.run());
    let segments = 40_000_u64;
    let sender = tokio::spawn(async move {
        for offset in 0..segments {
            near.write_all(&[byte_at(offset)]).await.unwrap();
        }
        near
    });
    // Nobody reads at first, so that segments pile up; the connection then stays open, so that only what really
    // arrives is counted.
    tokio::time::sleep(Duration::from_millis(100)).await;
    let mut got = vec![0; usize::try_from(segments).unwrap()];
    far.read_exact(&mut got).await.unwrap();
    assert_eq!(Checksum::of(&got), Checksum::of_made(segments));
    assert_eq!(handle.snapshot().lane, Lane::Splice);
    drop(sender.await.unwrap());
    drop(far);
    running.await.unwrap().unwrap();
}

#[tokio::test]
async fn a_splice_lane_keeps_its_bound_names_the_slow_side_and_stalls() {
    let ((near, from), (to, far)) = (tcp_pair().await, tcp_pair().await);
    let sender = tokio::spawn(async move {
        let _ = Flow::new(Made::new(256 * MIB, 1 << 20), tcp::sink(near))
            .run()
            .await;
    });
    let flow = Flow::new(tcp::source(from), tcp::sink(to))
        .lane(LaneChoice::Splice)
        .stall(Duration::from_millis(1500));
    let error = flow.run().await.unwrap_err();
    assert_eq!(
        (error.kind, error.side),
        (FlowErrorKind::Stalled, Some(Side::Sink))
    );
    assert_eq!(
        (error.report.lane, error.report.slow_side()),
        (Lane::Splice, SlowSide::Sink)
    );
    assert!(error.report.bytes_read - error.report.bytes_sent <= MIB);
    drop(far);
    sender.await.unwrap();
}

#[tokio::test]
async fn a_reset_is_noticed_on_either_side_of_a_splice_lane() {
    for broken in [Side::Source, Side::Sink] {
        let ((near, from), (to, far)) = (tcp_pair().await, tcp_pair().await);
        let flow = Flow::new(tcp::source(from), tcp::sink(to)).lane(LaneChoice::Splice);
        let handle = flow.handle();
        let running = tokio::spawn(flow.run());
        let (mut near_read, mut near) = near.into_split();
        let writer = tokio::spawn(async move {
            while near.write_all(&[7; 65_536]).await.is_ok() {}
            near
        });
        while handle.snapshot().bytes_sent < MIB / 8 {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        // Blocked by now, or soon: nobody reads at the far end.
        match broken {
            Side::Sink => {
                socket2::SockRef::from(&far)
                    .set_linger(Some(Duration::ZERO))
                    .unwrap();
                drop(far);
            }
            Side::Source => {
                writer.abort();
                let _ = writer.await;
                socket2::SockRef::from(AsRef::<TcpStream>::as_ref(&near_read))
                    .set_linger(Some(Duration::ZERO))
                    .unwrap();
                drop(near_read);
                let error = running.await.unwrap().unwrap_err();
                assert_eq!(error.side, Some(Side::Source), "{error}");
                continue;
            }
        }
        let error = running.await.unwrap().unwrap_err();
        assert_eq!(error.side, Some(Side::Sink), "{error}");
        let _ = near_read.read(&mut [0; 1]).await;
        writer.await.unwrap();
    }
}

#[tokio::test]
async fn a_rate_set_meanwhile_brings_the_bytes_back_to_user_space() {
    let ((near, from), (to, far)) = (tcp_pair().await, tcp_pair().await);
    let sender = sending(near, 24 * MIB);
    let receiver = tokio::spawn(received(far));
    let flow = Flow::new(tcp::source(from), tcp::sink(to)).lane(LaneChoice::Splice);
    let handle = flow.handle();
    let running = tokio::spawn(flow.run());
    while handle.snapshot().bytes_read < 2 * MIB {
        tokio::time::sleep(Duration::from_micros(100)).await;
    }
    handle.set_rate(Some(1 << 30));
    tokio::time::sleep(Duration::from_millis(5)).await;
    handle.set_rate(None);
    let report = running.await.unwrap().unwrap();
    assert_eq!(report.bytes_sent, 24 * MIB);
    assert_eq!(receiver.await.unwrap(), Checksum::of_made(24 * MIB));
    sender.await.unwrap();
}

#[tokio::test]
async fn pipes_are_spliced_straight_in_both_directions() {
    let folder = tempfile::tempdir().unwrap();
    let fifo = |name: &str| {
        let path = folder.path().join(name);
        let mode = rustix::fs::Mode::from_raw_mode(0o600);
        rustix::fs::mknodat(rustix::fs::CWD, &path, rustix::fs::FileType::Fifo, mode, 0).unwrap();
        path
    };
    let (first, second) = (fifo("first"), fifo("second"));
    // made -> first -> (pipe to pipe) second -> (pipe to socket) -> (socket, checked)
    let ((near, far), bytes) = (tcp_pair().await, 16 * MIB);
    let feed = {
        let first = first.clone();
        tokio::spawn(async move {
            Flow::new(Made::new(bytes, 50_000), PipeSink::open(first).await.unwrap())
                .run()
                .await
        })
    };
    let middle = tokio::spawn({
        let second = second.clone();
        async move {
            let source = PipeSource::open(first).unwrap();
            Flow::new(source, PipeSink::open(second).await.unwrap())
                .lane(LaneChoice::Splice)
                .run()
                .await
        }
    });
    let last = tokio::spawn(async move {
        let source = PipeSource::open(second).unwrap();
        Flow::new(source, tcp::sink(near))
            .lane(LaneChoice::Splice)
            .run()
            .await
    });
    assert_eq!(received(far).await, Checksum::of_made(bytes));
    feed.await.unwrap().unwrap();
    for flow in [middle, last] {
        let report = flow.await.unwrap().unwrap();
        assert_eq!((report.lane, report.bytes_sent), (Lane::Splice, bytes));
    }
}

/// A sink that is emptied just after it was full must not make the source look empty: its full pipe would report no more
/// news. One slot each, and a reader that never sleeps, make that happen all the time.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_pipe_emptied_at_the_wrong_moment_hangs_no_splice() {
    use rustix::fs::{FileType, Mode, OFlags};
    const BYTES: usize = 256 * 1024;
    let one_slot = |pipe: &std::fs::File| rustix::pipe::fcntl_setpipe_size(pipe, 4096).map(drop);
    for round in 0..60 {
        let folder = tempfile::tempdir().unwrap();
        let [first, second] = ["first", "second"].map(|name| {
            let path = folder.path().join(name);
            let mode = Mode::from_raw_mode(0o600);
            rustix::fs::mknodat(rustix::fs::CWD, &path, FileType::Fifo, mode, 0).unwrap();
            path
        });
        let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::CLOEXEC;
        let mut reader = std::fs::File::from(rustix::fs::open(&second, flags, Mode::empty()).unwrap());
        one_slot(&reader).unwrap();
        let source = PipeSource::open(&first).unwrap();
        let reading = std::thread::spawn(move || {
            let (mut got, mut space) = (Vec::new(), [0; 4096]);
            let until = std::time::Instant::now() + Duration::from_secs(30);
            while got.len() < BYTES && std::time::Instant::now() < until {
                match reader.read(&mut space) {
                    Ok(count) => got.extend_from_slice(&space[..count]),
                    Err(error) => assert_eq!(error.kind(), std::io::ErrorKind::WouldBlock),
                }
            }
            // Open until the flow has seen the end: a reader that has gone is a broken pipe.
            (got, reader)
        });
        let writing = std::thread::spawn(move || {
            let mut writer = std::fs::File::options().write(true).open(first).unwrap();
            one_slot(&writer).unwrap();
            writer.write_all(&common::made(BYTES as u64))
        });
        let sink = PipeSink::open(&second).await.unwrap();
        let running = tokio::spawn(Flow::new(source, sink).lane(LaneChoice::Splice).run());
        let (got, reader) = tokio::task::spawn_blocking(|| reading.join().unwrap())
            .await
            .unwrap();
        assert!(
            got == common::made(BYTES as u64),
            "{} bytes in round {round}",
            got.len()
        );
        let report = running.await.unwrap().unwrap();
        assert_eq!((report.lane, report.bytes_sent), (Lane::Splice, BYTES as u64));
        drop(reader);
        writing.join().unwrap().unwrap();
    }
}

#[tokio::test]
async fn sendfile_carries_a_file_to_a_socket() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("file");
    make_file(&path, 16 * MIB + 7);
    let (near, far) = tcp_pair().await;
    let receiver = tokio::spawn(received(far));
    let flow = Flow::new(FileSource::open(&path).await.unwrap(), tcp::sink(near)).lane(LaneChoice::Sendfile);
    let report = flow.run().await.unwrap();
    assert_eq!((report.lane, report.bytes_sent), (Lane::Sendfile, 16 * MIB + 7));
    assert_eq!(receiver.await.unwrap(), Checksum::of_made(16 * MIB + 7));
    // Within one machine it has to be asked for.
    let (near, far) = tcp_pair().await;
    let receiver = tokio::spawn(received(far));
    let flow = Flow::new(FileSource::open(&path).await.unwrap(), tcp::sink(near));
    assert_eq!(flow.run().await.unwrap().lane, Lane::Copy);
    assert_eq!(receiver.await.unwrap(), Checksum::of_made(16 * MIB + 7));
    // A file that shrinks is truncated in this lane, too.
    let (near, far) = tcp_pair().await;
    let source = FileSource::open(&path).await.unwrap();
    std::fs::OpenOptions::new()
        .write(true)
        .open(&path)
        .unwrap()
        .set_len(MIB)
        .unwrap();
    let receiver = tokio::spawn(async move {
        let mut far = far;
        far.read_to_end(&mut Vec::new()).await
    });
    let error = Flow::new(source, tcp::sink(near))
        .lane(LaneChoice::Sendfile)
        .run()
        .await
        .unwrap_err();
    assert_eq!(
        (error.kind, error.report.bytes_read),
        (FlowErrorKind::Truncated, MIB)
    );
    assert!(
        receiver.await.unwrap().is_err(),
        "the peer sees a reset, not an end"
    );
}

#[tokio::test]
async fn copy_file_range_carries_a_file_to_a_file() {
    let folder = tempfile::tempdir().unwrap();
    let (from, to) = (folder.path().join("from"), folder.path().join("to"));
    make_file(&from, 40 * MIB + 3);
    let source = FileSource::open(&from).await.unwrap();
    let sink = FileSink::create(&to, Overwrite::Refuse).await.unwrap();
    let report = Flow::new(source, sink).run().await.unwrap();
    assert_eq!(
        (report.lane, report.bytes_sent),
        (Lane::CopyFileRange, 40 * MIB + 3)
    );
    assert!(std::fs::read(&from).unwrap() == std::fs::read(&to).unwrap());
    // What was set aside for it is used, and nothing beyond its end is kept.
    let taken = std::os::unix::fs::MetadataExt::blocks(&std::fs::metadata(&to).unwrap()) * 512;
    assert!(taken < 42 * MIB, "{taken} bytes on the disk");
    // Appending is refused by the kernel: the bytes are copied, after what was there.
    let source = FileSource::open(&from).await.unwrap();
    let report = Flow::new(source, FileSink::append(&to).await.unwrap())
        .run()
        .await
        .unwrap();
    assert_eq!(
        (report.lane, std::fs::metadata(&to).unwrap().len()),
        (Lane::Copy, 2 * (40 * MIB + 3))
    );
}

/// A file that says it is larger than it is: what is set aside for it shows.
struct Boaster(FileSource);

impl Source for Boaster {
    fn poll_read(
        &mut self,
        cx: &mut Context<'_>,
        buffers: &mut Buffers,
        max: usize,
    ) -> Poll<Result<Option<Bytes>, EndpointError>> {
        self.0.poll_read(cx, buffers, max)
    }
    fn size_hint(&self) -> Option<u64> {
        Some(100 * MIB)
    }
    fn lane_end(&self) -> Option<LaneEnd<'_>> {
        self.0.lane_end()
    }
    fn poll_lane(&mut self, cx: &mut Context<'_>, op: LaneOp<'_>) -> Poll<std::io::Result<usize>> {
        self.0.poll_lane(cx, op)
    }
    fn lane_moved(&mut self, bytes: u64) {
        self.0.lane_moved(bytes);
    }
    fn name(&self) -> String {
        self.0.name()
    }
}

/// A redirection's file is the shell's: what a copy that ends early had set aside would stay in it.
#[tokio::test]
async fn no_blocks_are_set_aside_in_an_inherited_file() {
    let folder = tempfile::tempdir().unwrap();
    let (from, to) = (folder.path().join("from"), folder.path().join("to"));
    make_file(&from, 20 * MIB);
    let file = std::fs::File::create(&to).unwrap();
    let sink = Descriptor::adopt(file.as_raw_fd()).unwrap().into_sink().unwrap();
    let source = Boaster(FileSource::open(&from).await.unwrap());
    let report = Flow::new(source, sink).run().await.unwrap();
    assert_eq!((report.lane, report.bytes_sent), (Lane::CopyFileRange, 20 * MIB));
    let taken = std::os::unix::fs::MetadataExt::blocks(&std::fs::metadata(&to).unwrap()) * 512;
    assert!(taken < 22 * MIB, "{taken} bytes on the disk");
}

#[tokio::test]
async fn a_pipe_is_spliced_into_the_null_device_and_widened_for_bulk() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("fifo");
    let mode = rustix::fs::Mode::from_raw_mode(0o600);
    rustix::fs::mknodat(rustix::fs::CWD, &path, rustix::fs::FileType::Fifo, mode, 0).unwrap();
    let source = PipeSource::open(&path).unwrap();
    let feeding = tokio::spawn({
        let path = path.clone();
        async move {
            Flow::new(Made::new(16 * MIB, 50_000), PipeSink::open(path).await.unwrap())
                .lane(LaneChoice::Copy)
                .run()
                .await
        }
    });
    let null = std::fs::OpenOptions::new().write(true).open("/dev/null").unwrap();
    let sink = Descriptor::adopt(null.as_raw_fd()).unwrap().into_sink().unwrap();
    let look = std::fs::OpenOptions::new()
        .read(true)
        .write(true)
        .open(&path)
        .unwrap();
    let flow = Flow::new(source, sink);
    let handle = flow.handle();
    let running = tokio::spawn(flow.run());
    let report = feeding.await.unwrap().unwrap();
    assert_eq!(report.bytes_sent, 16 * MIB);
    let all_sent = async {
        while handle.snapshot().bytes_sent < 16 * MIB {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(60), all_sent)
        .await
        .expect("not everything was spliced");
    let size = rustix::pipe::fcntl_getpipe_size(&look).unwrap();
    // How much pipes may hold is the machine's and the user's affair.
    let (_read, fresh) = rustix::pipe::pipe().unwrap();
    if rustix::pipe::fcntl_setpipe_size(&fresh, 1 << 20).is_ok() {
        assert!(size >= 1 << 20, "{size} bytes");
    }
    drop(look);
    let report = running.await.unwrap().unwrap();
    assert_eq!((report.lane, report.bytes_sent), (Lane::Splice, 16 * MIB));
}

/// Its first read is tried before the runtime has said that there is anything, so it shows no handle at first.
#[tokio::test]
async fn an_inherited_pipe_is_spliced_after_its_first_bytes() {
    let (read, write) = rustix::pipe::pipe().unwrap();
    let source = Descriptor::adopt(read.as_raw_fd())
        .unwrap()
        .into_source()
        .unwrap();
    drop(read);
    let feeding = tokio::task::spawn_blocking(move || {
        std::io::Write::write_all(&mut std::fs::File::from(write), &common::made(8 * MIB)).unwrap();
    });
    let (near, far) = tcp_pair().await;
    let receiver = tokio::spawn(received(far));
    let report = Flow::new(source, tcp::sink(near)).run().await.unwrap();
    assert_eq!((report.lane, report.bytes_sent), (Lane::Splice, 8 * MIB));
    assert_eq!(receiver.await.unwrap(), Checksum::of_made(8 * MIB));
    feeding.await.unwrap();
}

/// A sink that lets a kernel lane in for a while and then refuses it.
struct Fickle {
    inner: tcp::TcpSink,
    moves_left: usize,
}

impl Sink for Fickle {
    fn poll_write(&mut self, cx: &mut Context<'_>, held: &Held) -> Poll<Result<usize, EndpointError>> {
        self.inner.poll_write(cx, held)
    }
    fn poll_finish(&mut self, cx: &mut Context<'_>) -> Poll<Result<Confirmation, EndpointError>> {
        self.inner.poll_finish(cx)
    }
    fn abort(&mut self, reason: &AbortReason) {
        self.inner.abort(reason);
    }
    fn lane_end(&self) -> Option<LaneEnd<'_>> {
        self.inner.lane_end()
    }
    fn poll_lane(&mut self, cx: &mut Context<'_>, op: LaneOp<'_>) -> Poll<std::io::Result<usize>> {
        match self.moves_left.checked_sub(1) {
            Some(left) => self.moves_left = left,
            None => return Poll::Ready(Err(std::io::ErrorKind::InvalidInput.into())),
        }
        self.inner.poll_lane(cx, op)
    }
    fn name(&self) -> String {
        "fickle".into()
    }
}

#[tokio::test]
async fn a_lane_refused_in_midstream_loses_nothing() {
    for moves_left in [0, 1, 5, 20] {
        let ((near, from), (to, far)) = (tcp_pair().await, tcp_pair().await);
        let sender = sending(near, 8 * MIB);
        let receiver = tokio::spawn(received(far));
        let sink = Fickle {
            inner: tcp::sink(to),
            moves_left,
        };
        let flow = Flow::new(tcp::source(from), sink).lane(LaneChoice::Splice);
        assert_eq!(flow.run().await.unwrap().bytes_sent, 8 * MIB);
        assert_eq!(receiver.await.unwrap(), Checksum::of_made(8 * MIB));
        sender.await.unwrap();
    }
}

#[tokio::test]
async fn whoever_looks_at_the_bytes_gets_them_in_user_space() {
    let ((near, from), (to, far)) = (tcp_pair().await, tcp_pair().await);
    let sender = sending(near, 4 * MIB);
    let receiver = tokio::spawn(received(far));
    let (tell, told) = std::sync::mpsc::channel();
    let flow = Flow::new(tcp::source(from), tcp::sink(to))
        .lane(LaneChoice::Splice)
        .inspect(Box::new(move |data| tell.send(data.len() as u64).unwrap()));
    let report = flow.run().await.unwrap();
    assert_eq!((report.lane, told.iter().sum::<u64>()), (Lane::Copy, 4 * MIB));
    assert_eq!(receiver.await.unwrap(), Checksum::of_made(4 * MIB));
    sender.await.unwrap();
    let auto = Flow::new(Made::new(10, 10), Kept::new(usize::MAX))
        .run()
        .await
        .unwrap();
    assert_eq!(auto.lane, Lane::Copy);
}
