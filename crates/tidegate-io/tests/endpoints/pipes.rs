//! FIFOs, inherited descriptors and standard input and output, over the real things.
#![allow(clippy::unwrap_used)]

use std::io::{Read, Write};
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::task::Poll;

use rustix::fs::{Mode, OFlags};
use tidegate_io::endpoint::fd::{Descriptor, DescriptorKind};
use tidegate_io::endpoint::pipe::{PipeSink, PipeSource};
use tidegate_io::{Buffers, Confirmation, Duplex, ErrorKind, Flow, Held, LaneKind, Sink, Source};

use crate::support::{MemorySink, MemorySource, finish, pattern, read_all, read_some, within, write_all};

fn fifo(folder: &tempfile::TempDir) -> PathBuf {
    let path = folder.path().join("fifo");
    rustix::fs::mknodat(
        rustix::fs::CWD,
        &path,
        rustix::fs::FileType::Fifo,
        Mode::RUSR | Mode::WUSR,
        0,
    )
    .unwrap();
    path
}

fn is_blocking(fd: &impl std::os::fd::AsFd) -> bool {
    !rustix::fs::fcntl_getfl(fd).unwrap().contains(OFlags::NONBLOCK)
}

/// Whether one poll of a read has nothing to say.
fn is_waiting(source: &mut dyn Source) -> bool {
    let mut context = std::task::Context::from_waker(std::task::Waker::noop());
    matches!(
        source.poll_read(&mut context, &mut Buffers::default(), 1024),
        Poll::Pending
    )
}

#[tokio::test]
async fn a_fifo_without_a_writer_is_not_at_its_end() {
    let folder = tempfile::tempdir().unwrap();
    let path = fifo(&folder);
    let mut source = PipeSource::open(&path).unwrap();
    for _ in 0..5 {
        assert!(is_waiting(&mut source));
        tokio::time::sleep(std::time::Duration::from_millis(10)).await;
    }
    let writer = std::thread::spawn(move || std::fs::write(path, "first").unwrap());
    assert_eq!(read_all(&mut source).await.unwrap(), b"first");
    writer.join().unwrap();
}

#[tokio::test]
async fn a_writer_that_says_nothing_ends_a_fifo() {
    let folder = tempfile::tempdir().unwrap();
    let path = fifo(&folder);
    let mut source = PipeSource::open(&path).unwrap();
    drop(std::fs::OpenOptions::new().write(true).open(path).unwrap());
    assert_eq!(read_all(&mut source).await.unwrap(), b"");
}

#[tokio::test]
async fn a_fifo_sink_waits_for_its_reader() {
    let folder = tempfile::tempdir().unwrap();
    let path = fifo(&folder);
    let opening = tokio::spawn(PipeSink::open(path.clone()));
    tokio::time::sleep(std::time::Duration::from_millis(30)).await;
    assert!(!opening.is_finished());
    let bytes = pattern(700_000);
    let reader = std::thread::spawn(move || std::fs::read(path).unwrap());
    let sink = within(opening).await.unwrap().unwrap();
    assert_eq!(sink.lane_end().unwrap().kind, LaneKind::Pipe);
    let report = within(Flow::new(MemorySource::new(bytes.clone()), sink).run())
        .await
        .unwrap();
    assert_eq!(report.confirmation, Some(Confirmation::Sent));
    assert!(reader.join().unwrap() == bytes);
}

/// CASES 48.
#[tokio::test]
async fn a_fifo_whose_reader_has_gone_is_a_broken_pipe() {
    let folder = tempfile::tempdir().unwrap();
    let path = fifo(&folder);
    let reader = PipeSource::open(&path).unwrap();
    let mut sink = PipeSink::open(&path).await.unwrap();
    write_all(&mut sink, &b"0123456789"[..]).await.unwrap();
    assert_eq!(sink.unsent_bytes(), Some(10));
    drop(reader);
    let error = within(std::future::poll_fn(|cx| sink.poll_hangup(cx))).await;
    assert_eq!(error.kind, ErrorKind::BrokenPipe, "noticed with nothing to write");
    let error = write_all(&mut sink, &b"x"[..]).await.unwrap_err();
    assert_eq!(error.kind, ErrorKind::BrokenPipe);
}

#[tokio::test]
async fn what_is_no_fifo_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("file");
    std::fs::write(&file, "x").unwrap();
    for path in [file, folder.path().join("missing"), folder.path().to_owned()] {
        assert_eq!(PipeSource::open(&path).err().unwrap().kind, ErrorKind::Open);
        assert_eq!(
            within(PipeSink::open(&path)).await.err().unwrap().kind,
            ErrorKind::Open
        );
    }
}

#[tokio::test]
async fn a_number_that_is_not_open_cannot_be_adopted() {
    let error = Descriptor::adopt(987).unwrap_err();
    assert_eq!(error.kind, ErrorKind::Open);
    assert!(error.to_string().contains("fd:987"), "{error}");
}

#[tokio::test]
async fn an_inherited_pipe_stays_blocking() {
    let (read, write) = std::io::pipe().unwrap();
    let source = Descriptor::adopt(read.as_raw_fd()).unwrap();
    let sink = Descriptor::adopt(write.as_raw_fd()).unwrap();
    assert_eq!(
        (source.kind(), sink.kind()),
        (DescriptorKind::Pipe, DescriptorKind::Pipe)
    );
    let (mut source, mut sink) = (source.into_source().unwrap(), sink.into_sink().unwrap());
    assert!(is_waiting(&mut source), "does not block either");
    write_all(&mut sink, &b"hello"[..]).await.unwrap();
    assert_eq!(&read_some(&mut source).await.unwrap().unwrap()[..], b"hello");
    assert!(is_blocking(&read) && is_blocking(&write));
    assert_eq!(source.lane_end().unwrap().kind, LaneKind::Pipe);
    // Everybody who has the write end must have closed it.
    finish(&mut sink).await.unwrap();
    assert!(is_waiting(&mut source));
    drop(write);
    assert!(read_some(&mut source).await.unwrap().is_none());
}

#[tokio::test]
async fn a_pipe_whose_writer_had_gone_before_is_read_to_its_end() {
    for content in [&b""[..], b"left over"] {
        let (read, mut write) = std::io::pipe().unwrap();
        write.write_all(content).unwrap();
        drop(write);
        let mut source = Descriptor::adopt(read.as_raw_fd())
            .unwrap()
            .into_source()
            .unwrap();
        assert_eq!(read_all(&mut source).await.unwrap(), content);
    }
}

/// The same for a FIFO given as standard input: once reopened it would never report the hang-up.
#[tokio::test]
async fn an_inherited_fifo_whose_writer_had_gone_is_read_to_its_end() {
    let folder = tempfile::tempdir().unwrap();
    let path = fifo(&folder);
    let read: OwnedFd = rustix::fs::open(&path, OFlags::RDONLY | OFlags::NONBLOCK, Mode::empty()).unwrap();
    drop(std::fs::OpenOptions::new().write(true).open(path).unwrap());
    let mut source = Descriptor::adopt(read.as_raw_fd())
        .unwrap()
        .into_source()
        .unwrap();
    assert_eq!(read_all(&mut source).await.unwrap(), b"");
}

#[tokio::test]
async fn an_inherited_socket_goes_both_ways_and_stays_blocking() {
    let (ours, mut theirs) = UnixStream::pair().unwrap();
    let adopted = Descriptor::adopt(ours.as_raw_fd()).unwrap();
    assert_eq!(adopted.kind(), DescriptorKind::Socket);
    let Duplex { mut source, mut sink } = adopted.into_duplex().unwrap();
    let bytes = pattern(2_000_000);
    let expected = bytes.clone();
    let peer = std::thread::spawn(move || {
        let mut all = Vec::new();
        theirs.write_all(b"hello").unwrap();
        theirs.read_to_end(&mut all).unwrap();
        assert!(all == expected);
        theirs.write_all(b"bye").unwrap();
    });
    assert_eq!(&read_some(&mut *source).await.unwrap().unwrap()[..], b"hello");
    assert!(is_blocking(&ours));
    write_all(&mut *sink, bytes).await.unwrap();
    // Half-closed: the write side ends, reading goes on.
    finish(&mut *sink).await.unwrap();
    assert_eq!(read_all(&mut *source).await.unwrap(), b"bye");
    assert!(is_blocking(&ours));
    peer.join().unwrap();
}

/// As a TCP sink of our own: a flow that is told to stop gets rid of all that its socket had taken before it resets it.
#[tokio::test]
async fn a_stop_delivers_what_an_inherited_tcp_socket_has_taken() {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let ours = std::net::TcpStream::connect(listener.local_addr().unwrap()).unwrap();
    let (mut theirs, _) = listener.accept().unwrap();
    let sink = Descriptor::adopt(ours.as_raw_fd()).unwrap().into_sink().unwrap();
    drop(ours);
    let flow = Flow::new(MemorySource::new(pattern(64 << 20)), sink);
    let handle = flow.handle();
    let running = tokio::spawn(flow.run());
    crate::support::until("the queue is full", || {
        handle.snapshot().state == tidegate_io::FlowState::WaitingSink
    })
    .await;
    handle.stop();
    let reading = tokio::task::spawn_blocking(move || {
        let mut all = Vec::new();
        // A reset, after everything.
        theirs.read_to_end(&mut all).unwrap_err();
        all
    });
    let error = within(running).await.unwrap().unwrap_err();
    let all = within(reading).await.unwrap();
    assert_eq!(all.len() as u64, error.report.bytes_sent);
    assert!(all == pattern(64 << 20)[..all.len()]);
}

#[tokio::test]
async fn a_file_is_read_from_where_its_description_stands_and_left_where_we_stopped() {
    let mut file = tempfile::tempfile().unwrap();
    file.write_all(b"0123456789").unwrap();
    std::io::Seek::seek(&mut file, std::io::SeekFrom::Start(3)).unwrap();
    let mut source = Descriptor::adopt(file.as_raw_fd())
        .unwrap()
        .into_source()
        .unwrap();
    assert_eq!(source.size_hint(), Some(7));
    let lane = source.lane_end().unwrap();
    assert_eq!((lane.kind, lane.offset), (LaneKind::File, 3));
    let mut buffers = Buffers::default();
    let read = within(std::future::poll_fn(|cx| source.poll_read(cx, &mut buffers, 2)))
        .await
        .unwrap();
    assert_eq!(&read.unwrap()[..], b"34");
    source.lane_moved(1);
    let mut rest = String::new();
    file.read_to_string(&mut rest).unwrap();
    assert_eq!(rest, "6789");
}

/// The thread that writes a file is this machine's own work, that which writes a terminal waits for somebody.
#[tokio::test]
async fn a_file_that_is_being_written_is_busy() {
    let file = tempfile::tempfile().unwrap();
    let mut sink = Descriptor::adopt(file.as_raw_fd()).unwrap().into_sink().unwrap();
    let mut held = Held::default();
    held.push(pattern(1 << 20).into());
    assert!(!sink.is_busy());
    let written = std::future::poll_fn(|cx| {
        let written = sink.poll_write(cx, &held);
        assert_eq!(written.is_pending(), sink.is_busy());
        written
    });
    within(written).await.unwrap();
}

#[tokio::test]
async fn devices_are_read_and_written_in_place() {
    let open = |path: &str| {
        std::fs::OpenOptions::new()
            .read(true)
            .write(true)
            .open(path)
            .unwrap()
    };
    let (null, zero, full) = (open("/dev/null"), open("/dev/zero"), open("/dev/full"));
    let adopt = |file: &std::fs::File| Descriptor::adopt(file.as_raw_fd()).unwrap();
    assert_eq!(adopt(&null).kind(), DescriptorKind::Null);
    assert_eq!(
        read_all(&mut adopt(&null).into_source().unwrap()).await.unwrap(),
        b""
    );
    let mut source = adopt(&zero).into_source().unwrap();
    assert!(
        read_some(&mut source)
            .await
            .unwrap()
            .unwrap()
            .iter()
            .all(|&byte| byte == 0)
    );
    let mut sink = adopt(&full).into_sink().unwrap();
    let error = write_all(&mut sink, &b"x"[..]).await.unwrap_err();
    assert_eq!(error.kind, ErrorKind::Failed);
    assert!(error.to_string().contains("No space left"), "{error}");
}

#[tokio::test]
async fn the_wrong_direction_is_refused() {
    let (read, write) = std::io::pipe().unwrap();
    let error = Descriptor::adopt(write.as_raw_fd())
        .unwrap()
        .into_source()
        .err()
        .unwrap();
    assert_eq!(error.kind, ErrorKind::Open);
    let error = Descriptor::adopt(read.as_raw_fd())
        .unwrap()
        .into_sink()
        .err()
        .unwrap();
    assert_eq!(error.kind, ErrorKind::Open);
}

/// A terminal on a thread: `script` gives a child one.
#[tokio::test]
async fn a_terminal_is_read_without_making_it_non_blocking() {
    let master =
        rustix::pty::openpt(rustix::pty::OpenptFlags::RDWR | rustix::pty::OpenptFlags::NOCTTY).unwrap();
    rustix::pty::grantpt(&master).unwrap();
    rustix::pty::unlockpt(&master).unwrap();
    let name = rustix::pty::ptsname(&master, Vec::new()).unwrap();
    let path = Path::new(name.to_str().unwrap());
    let tty = rustix::fs::open(path, OFlags::RDWR | OFlags::NOCTTY, Mode::empty()).unwrap();
    let adopted = Descriptor::adopt(tty.as_raw_fd()).unwrap();
    assert_eq!(adopted.kind(), DescriptorKind::Tty);
    let Duplex { mut source, mut sink } = adopted.into_duplex().unwrap();
    assert!(is_waiting(&mut *source));
    assert!(source.lane_end().is_none());
    rustix::io::write(&master, b"typed\n").unwrap();
    assert_eq!(&read_some(&mut *source).await.unwrap().unwrap()[..], b"typed\n");
    write_all(&mut *sink, &b"shown"[..]).await.unwrap();
    assert!(is_blocking(&tty));
    // Nobody types: the endpoint is dropped, and the runtime does not wait for a key.
    assert!(is_waiting(&mut *source));
}

#[tokio::test]
async fn a_flow_between_two_adopted_pipes_is_whole() {
    let (read_in, mut write_in) = std::io::pipe().unwrap();
    let source = Descriptor::adopt(read_in.as_raw_fd())
        .unwrap()
        .into_source()
        .unwrap();
    let (sink, seen) = MemorySink::new();
    let bytes = pattern(1_500_000);
    let content = bytes.clone();
    let writer = std::thread::spawn(move || write_in.write_all(&content).unwrap());
    within(Flow::new(source, sink).run()).await.unwrap();
    writer.join().unwrap();
    assert!(seen.bytes() == bytes);
}
