//! Files, TCP and Unix sockets as ends of flows, over real descriptors.
#![allow(clippy::unwrap_used)]

mod common;

use std::path::Path;
#[cfg(target_os = "linux")]
use std::task::Poll;
use std::time::Duration;

#[cfg(target_os = "linux")]
use bytes::Bytes;
use common::{Checksum, Fed, Made, Step, tcp_pair};
#[cfg(target_os = "linux")]
use tidegate_io::Held;
use tidegate_io::endpoint::file::{FileSink, FileSource, Overwrite, WritesOn};
use tidegate_io::endpoint::tcp;
use tidegate_io::{
    Blame, Confirmation, EndpointError, ErrorKind, Flow, FlowErrorKind, Side, Sink, SlowSide, Source,
};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

const MIB: u64 = 1 << 20;

async fn make(path: &Path, bytes: u64) {
    let sink = FileSink::create(path, Overwrite::Refuse).await.unwrap();
    let report = Flow::new(Made::new(bytes, 1 << 20), sink).run().await.unwrap();
    assert_eq!(report.confirmation, Some(Confirmation::Confirmed));
}

fn names(folder: &Path) -> Vec<String> {
    let mut names = std::fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect::<Vec<_>>();
    names.sort();
    names
}

#[tokio::test]
async fn a_file_travels_through_tcp_into_a_file() {
    let folder = tempfile::tempdir().unwrap();
    let (from, to) = (folder.path().join("from"), folder.path().join("to"));
    make(&from, 64 * MIB).await;
    let (near, far) = tcp_pair().await;
    let send = Flow::new(FileSource::open(&from).await.unwrap(), tcp::sink(near));
    let receive = Flow::new(
        tcp::source(far),
        FileSink::create(&to, Overwrite::Refuse).await.unwrap(),
    );
    let (sent, received) = tokio::join!(send.run(), receive.run());
    let (sent, received) = (sent.unwrap(), received.unwrap());
    assert_eq!(sent.confirmation, Some(Confirmation::Confirmed));
    assert_eq!((sent.bytes_sent, received.bytes_sent), (64 * MIB, 64 * MIB));
    assert!(std::fs::read(&from).unwrap() == std::fs::read(&to).unwrap());
    assert_eq!(names(folder.path()), ["from", "to"]);
}

#[tokio::test]
async fn an_aborted_file_leaves_its_target_alone() {
    let folder = tempfile::tempdir().unwrap();
    let target = folder.path().join("target");
    std::fs::write(&target, "old").unwrap();
    let source = || {
        let source = Fed::default();
        source.feed(Step::Data(b"new, but"));
        source.feed(Step::Fail(EndpointError::new(
            ErrorKind::Failed,
            Blame::Peer,
            "broken",
        )));
        source
    };
    for on in [WritesOn::Threads, WritesOn::Caller] {
        let sink = FileSink::create(&target, Overwrite::Allow).await.unwrap();
        Flow::new(source(), sink.writes_on(on)).run().await.unwrap_err();
        let sink = FileSink::append(&target).await.unwrap();
        Flow::new(source(), sink.writes_on(on)).run().await.unwrap_err();
        let sink = FileSink::append(folder.path().join("never")).await.unwrap();
        Flow::new(source(), sink.writes_on(on)).run().await.unwrap_err();
    }
    drop(FileSink::create(&target, Overwrite::Allow).await.unwrap());
    assert_eq!(std::fs::read(&target).unwrap(), b"old");
    assert_eq!(names(folder.path()), ["target"]);
}

/// On a file system of this machine, as the one of a build is taken to be.
#[cfg(target_os = "linux")]
#[tokio::test]
async fn the_callers_own_writes_are_done_when_it_has_asked() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("file");
    let mut held = Held::default();
    held.push(Bytes::from(common::made(3 * MIB)));
    let sink = FileSink::create(&path, Overwrite::Refuse).await.unwrap();
    let mut sink = sink.writes_on(WritesOn::Caller);
    let first = std::future::poll_fn(|cx| Poll::Ready(sink.poll_write(cx, &held))).await;
    assert!(first.is_ready(), "left to a thread");
    drop(sink);
    assert_eq!(names(folder.path()), [""; 0]);
    let sink = FileSink::create(&path, Overwrite::Refuse).await.unwrap();
    let flow = Flow::new(Made::new(3 * MIB + 1, 50_000), sink.writes_on(WritesOn::Caller));
    let report = flow.run().await.unwrap();
    assert_eq!(report.confirmation, Some(Confirmation::Confirmed));
    assert!(std::fs::read(&path).unwrap() == common::made(3 * MIB + 1));
    let sink = FileSink::create("/dev/full", Overwrite::Refuse).await.unwrap();
    let flow = Flow::new(Made::new(MIB, 1 << 20), sink.writes_on(WritesOn::Caller));
    assert_eq!(flow.run().await.unwrap_err().side, Some(Side::Sink));
}

#[tokio::test]
async fn a_target_is_replaced_appended_to_or_refused() {
    let folder = tempfile::tempdir().unwrap();
    let target = folder.path().join("target");
    let flow = async |sink| {
        let source = Fed::default();
        source.feed(Step::Data(b"new"));
        source.feed(Step::End);
        Flow::new(source, sink).run().await
    };
    // It appears while the stream runs: refused at the rename.
    let sink = FileSink::create(&target, Overwrite::Refuse).await.unwrap();
    std::fs::write(&target, "old").unwrap();
    let error = flow(sink).await.unwrap_err();
    assert_eq!(
        (error.side, error.cause.kind),
        (Some(Side::Sink), ErrorKind::Exists)
    );
    assert_eq!(std::fs::read(&target).unwrap(), b"old");
    // It is there from the start: refused at once.
    let error = FileSink::create(&target, Overwrite::Refuse).await.unwrap_err();
    assert_eq!(error.kind, ErrorKind::Exists);
    flow(FileSink::append(&target).await.unwrap()).await.unwrap();
    assert_eq!(std::fs::read(&target).unwrap(), b"oldnew");
    flow(FileSink::create(&target, Overwrite::Allow).await.unwrap())
        .await
        .unwrap();
    assert_eq!(std::fs::read(&target).unwrap(), b"new");
    assert_eq!(
        FileSink::create(folder.path(), Overwrite::Allow)
            .await
            .unwrap_err()
            .kind,
        ErrorKind::Open
    );
    assert_eq!(
        FileSource::open(folder.path()).await.unwrap_err().kind,
        ErrorKind::Open
    );
    assert_eq!(names(folder.path()), ["target"]);
}

#[cfg(unix)]
#[tokio::test]
async fn permissions_links_and_devices_are_respected() {
    use std::os::unix::fs::PermissionsExt;
    let folder = tempfile::tempdir().unwrap();
    let (target, link) = (folder.path().join("target"), folder.path().join("link"));
    std::fs::write(&target, "old").unwrap();
    std::fs::set_permissions(&target, std::fs::Permissions::from_mode(0o640)).unwrap();
    std::os::unix::fs::symlink(&target, &link).unwrap();
    let sink = FileSink::create(&link, Overwrite::Allow).await.unwrap();
    Flow::new(Made::new(10, 10), sink).run().await.unwrap();
    assert_eq!(
        std::fs::metadata(&target).unwrap().permissions().mode() & 0o777,
        0o640
    );
    assert!(std::fs::symlink_metadata(&link).unwrap().is_symlink());
    assert_eq!(std::fs::read(&target).unwrap().len(), 10);
    let sink = FileSink::create("/dev/null", Overwrite::Refuse).await.unwrap();
    let report = Flow::new(Made::new(MIB, 1 << 20), sink).run().await.unwrap();
    assert_eq!(
        (report.bytes_sent, report.confirmation),
        (MIB, Some(Confirmation::Sent))
    );
    let sink = FileSink::create("/dev/full", Overwrite::Refuse).await.unwrap();
    let error = Flow::new(Made::new(MIB, 1 << 20), sink).run().await.unwrap_err();
    assert_eq!(error.side, Some(Side::Sink));
    assert!(error.to_string().contains("No space left"), "{error}");
}

#[tokio::test]
async fn a_file_that_shrinks_is_truncated_and_one_that_grows_is_read_on() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("file");
    std::fs::write(&path, vec![7; 1000]).unwrap();
    let source = FileSource::open(&path).await.unwrap();
    std::fs::OpenOptions::new()
        .write(true)
        .open(&path)
        .unwrap()
        .set_len(900)
        .unwrap();
    let error = Flow::new(source, common::Kept::new(usize::MAX))
        .run()
        .await
        .unwrap_err();
    assert_eq!(
        (error.kind, error.report.bytes_read),
        (FlowErrorKind::Truncated, 900)
    );
    let source = FileSource::open(&path).await.unwrap();
    std::fs::OpenOptions::new()
        .write(true)
        .open(&path)
        .unwrap()
        .set_len(5000)
        .unwrap();
    let report = Flow::new(source, common::Kept::new(usize::MAX))
        .run()
        .await
        .unwrap();
    assert_eq!(report.bytes_read, 5000);
    let source = FileSource::open(&path).await.unwrap().range(850, 100);
    assert_eq!(source.size_hint(), Some(100));
    let sink = common::Kept::new(usize::MAX);
    Flow::new(source, sink.clone()).run().await.unwrap();
    assert_eq!(
        sink.seen.lock().unwrap().data,
        [vec![7; 50], vec![0; 50]].concat()
    );
}

#[tokio::test]
async fn a_slow_tcp_reader_is_named_and_bounds_what_is_held() {
    let (near, mut far) = tcp_pair().await;
    let flow = Flow::new(Made::new(24 * MIB, 1 << 20), tcp::sink(near));
    let handle = flow.handle();
    let running = tokio::spawn(flow.run());
    let mut sum = Checksum::default();
    let mut space = vec![0; 64 * 1024];
    loop {
        let snapshot = handle.snapshot();
        assert!(snapshot.held <= 65_536 + (1 << 20), "{snapshot:?}");
        tokio::time::sleep(Duration::from_millis(2)).await;
        let count = far.read(&mut space).await.unwrap();
        if count == 0 {
            break;
        }
        sum.add(&space[..count]);
    }
    drop(far);
    let report = running.await.unwrap().unwrap();
    assert_eq!(sum, Checksum::of_made(24 * MIB));
    assert_eq!(report.slow_side(), SlowSide::Sink, "{report:?}");
}

#[tokio::test]
async fn an_abort_is_a_reset_and_a_reset_is_an_error() {
    let (near, far) = tcp_pair().await;
    let source = Fed::default();
    let receive = tokio::spawn(Flow::new(tcp::source(far), common::Kept::new(usize::MAX)).run());
    source.feed(Step::Data(b"some"));
    source.feed(Step::Fail(EndpointError::new(
        ErrorKind::Failed,
        Blame::Peer,
        "broken",
    )));
    Flow::new(source, tcp::sink(near)).run().await.unwrap_err();
    let error = receive.await.unwrap().unwrap_err();
    assert_eq!(
        (error.kind, error.side),
        (FlowErrorKind::Failed, Some(Side::Source))
    );
}

#[tokio::test]
async fn a_sink_notices_a_reset_while_it_has_nothing_to_write() {
    let (near, far) = tcp_pair().await;
    let source = Fed::default();
    let running = tokio::spawn(Flow::new(source.clone(), tcp::sink(near)).run());
    tokio::task::yield_now().await;
    let mut far_sink = tcp::sink(far);
    far_sink.abort(&tidegate::AbortReason::Requested);
    let error = running.await.unwrap().unwrap_err();
    assert_eq!(error.side, Some(Side::Sink));
}

#[tokio::test]
async fn a_held_source_notices_a_reset_behind_unread_data() {
    let (near, mut far) = tcp_pair().await;
    far.write_all(&[1; 100_000]).await.unwrap();
    let sink = common::Kept::new(0);
    let flow = Flow::new(tcp::source(near), sink.clone());
    let handle = flow.handle();
    let hold = handle.hold(tidegate::HoldReason::User);
    let running = tokio::spawn(flow.run());
    tokio::task::yield_now().await;
    let mut far_sink = tcp::sink(far);
    far_sink.abort(&tidegate::AbortReason::Requested);
    let error = running.await.unwrap().unwrap_err();
    assert_eq!((error.side, error.report.bytes_read), (Some(Side::Source), 0));
    drop(hold);
}

#[tokio::test]
async fn a_clean_end_behind_unread_data_is_no_hangup() {
    let (near, mut far) = tcp_pair().await;
    far.write_all(&[1; 100_000]).await.unwrap();
    far.shutdown().await.unwrap();
    let flow = Flow::new(tcp::source(near), common::Kept::new(usize::MAX));
    let handle = flow.handle();
    let hold = handle.hold(tidegate::HoldReason::User);
    let running = tokio::spawn(flow.run());
    tokio::time::sleep(Duration::from_millis(50)).await;
    assert!(!running.is_finished());
    drop(hold);
    assert_eq!(running.await.unwrap().unwrap().bytes_read, 100_000);
}

#[tokio::test]
async fn a_peer_that_never_ends_makes_it_sent_not_confirmed() {
    let (near, mut far) = tcp_pair().await;
    let flow = Flow::new(Made::new(1000, 100), tcp::sink(near)).drain(Duration::from_millis(200));
    let running = tokio::spawn(flow.run());
    let mut got = Vec::new();
    far.read_to_end(&mut got).await.unwrap();
    far.write_all(b"this is read and dropped").await.unwrap();
    let report = running.await.unwrap().unwrap();
    assert_eq!(
        (got.len(), report.confirmation, report.bytes_confirmed),
        (1000, Some(Confirmation::Sent), 0)
    );
}

#[cfg(target_os = "linux")]
#[tokio::test]
async fn a_stopped_flow_delivers_what_the_kernel_holds_and_then_resets() {
    let (near, mut far) = tcp_pair().await;
    let source = Fed::default();
    static DATA: [u8; 300_000] = [7; 300_000];
    source.feed(Step::Data(&DATA));
    let flow = Flow::new(source, tcp::sink(near));
    let handle = flow.handle();
    let running = tokio::spawn(flow.run());
    while handle.snapshot().bytes_read < 300_000 {
        tokio::task::yield_now().await;
    }
    handle.stop();
    let mut got = vec![0; 300_000];
    far.read_exact(&mut got).await.unwrap();
    let error = running.await.unwrap().unwrap_err();
    assert_eq!(
        (error.kind, error.report.bytes_sent),
        (FlowErrorKind::Aborted, 300_000)
    );
    assert!(
        far.read(&mut [0; 1]).await.is_err(),
        "never an end: the stream is not complete"
    );
}

#[tokio::test]
async fn connecting_fails_clearly_and_in_time() {
    let listener = tcp::Listener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap().to_string();
    drop(listener);
    let error = tcp::connect(&address, Duration::from_secs(5)).await.unwrap_err();
    assert_eq!((error.kind, error.blame), (ErrorKind::Open, Blame::Peer));
    assert!(
        tcp::connect("no.such.host.invalid:1", Duration::from_secs(5))
            .await
            .is_err()
    );
    let both = tcp::Listener::bind(":0").await.unwrap();
    let port = both.local_addr().unwrap().port();
    tcp::connect(&format!("127.0.0.1:{port}"), Duration::from_secs(5))
        .await
        .unwrap();
}

#[cfg(unix)]
#[tokio::test]
async fn a_unix_socket_carries_a_flow_and_cleans_up_after_itself() {
    use tidegate_io::endpoint::unix;
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("socket");
    // A stale file: bound once, never removed.
    drop(std::os::unix::net::UnixListener::bind(&path).unwrap());
    let listener = unix::Listener::bind(&path).await.unwrap();
    assert_eq!(
        unix::Listener::bind(&path).await.unwrap_err().kind,
        ErrorKind::Exists
    );
    // Looking whether somebody listens was a connection, too.
    drop(listener.accept().await.unwrap());
    let (near, far) = tokio::join!(unix::connect(&path, Duration::from_secs(5)), listener.accept());
    let sink = common::Kept::new(usize::MAX);
    let send = Flow::new(Made::new(4 * MIB, 1 << 20), unix::sink(near.unwrap(), &path));
    let receive = Flow::new(unix::source(far.unwrap(), &path), sink.clone());
    let (sent, received) = tokio::join!(send.run(), receive.run());
    assert_eq!(sent.unwrap().confirmation, Some(Confirmation::Confirmed));
    received.unwrap();
    assert_eq!(
        Checksum::of(&sink.seen.lock().unwrap().data),
        Checksum::of_made(4 * MIB)
    );
    drop(listener);
    assert!(!path.exists());
    std::fs::write(&path, "a file").unwrap();
    assert_eq!(
        unix::Listener::bind(&path).await.unwrap_err().kind,
        ErrorKind::Exists
    );
}
