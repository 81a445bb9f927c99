//! Which way bytes travel: the kernel's where it can, and the same bytes whichever way.
#![allow(clippy::unwrap_used)]
#![cfg(target_os = "linux")]

mod common;

use std::time::Duration;

use common::{Served, noise, writable};
use tidegate_ftp::data::DataConnection;
use tidegate_ftp::grammar::VirtualPath;
use tidegate_ftp::server::ServeOptions;
use tidegate_ftp::storage::{Access, Durability, Partial, Storage, StoreAs};
use tidegate_io::endpoint::file::FileSource;
use tidegate_io::endpoint::tcp;
use tidegate_io::{Flow, FlowState, Lane, LaneChoice, RunAhead, Source};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

async fn connection() -> (DataConnection, TcpStream) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let client = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
    let (served, _) = listener.accept().await.unwrap();
    (DataConnection::plain(served).unwrap(), client)
}

#[tokio::test]
async fn a_file_goes_to_a_plain_data_connection_by_sendfile() {
    let work = tempfile::tempdir().unwrap();
    let path = work.path().join("f");
    let content = noise(5_000_000, 41);
    std::fs::write(&path, &content).unwrap();
    let (connection, mut client) = connection().await;
    let source = FileSource::open(&path).await.unwrap().from_offset(1_000_000);
    // A flow takes it by itself too; here it must.
    let flow = Flow::new(source, connection.into_sink()).lane(LaneChoice::Sendfile);
    let flow = tokio::spawn(flow.run());
    let mut got = Vec::new();
    client.read_to_end(&mut got).await.unwrap();
    drop(client);
    let report = flow.await.unwrap().unwrap();
    assert!(got == content[1_000_000..]);
    assert_eq!((report.lane, report.bytes_sent), (Lane::Sendfile, 4_000_000));
}

/// What a flow asks of an upload's source behind a slow disk is asked of its socket.
#[tokio::test]
async fn a_bound_on_what_is_received_ahead_reaches_the_socket() {
    let mut bounded = Vec::new();
    for is_data in [false, true] {
        let (connection, client) = connection().await;
        let mut plain = tcp::source(client);
        let mut upload = connection.into_source();
        let source: &mut dyn Source = if is_data { &mut upload } else { &mut plain };
        source.set_run_ahead(RunAhead::Limited(100_000));
        let fd = source.lane_end().unwrap().fd;
        bounded.push(socket2::SockRef::from(&fd).recv_buffer_size().unwrap());
    }
    assert_eq!(bounded[0], bounded[1]);
    if bounded[0] != 200_000 {
        eprintln!("SKIPPED: this system does not give back a queue that was bounded");
    }
}

#[tokio::test]
async fn an_upload_arrives_whole_whichever_lane_is_asked_for() {
    let content = noise(5_000_000, 42);
    for choice in [LaneChoice::Auto, LaneChoice::Copy, LaneChoice::Splice] {
        let work = tempfile::tempdir().unwrap();
        let storage = Storage::open(work.path(), Access::Writable).unwrap();
        let path = VirtualPath::root().resolve(b"f", 100).unwrap();
        let upload = storage
            .upload(&path, StoreAs::New, Partial::Keep, Durability::Cached)
            .await
            .unwrap();
        let (connection, mut client) = connection().await;
        let flow = tokio::spawn(Flow::new(connection.into_source(), upload).lane(choice).run());
        client.write_all(&content).await.unwrap();
        drop(client);
        let report = flow.await.unwrap().unwrap();
        assert_eq!(report.bytes_confirmed, 5_000_000, "{choice:?}");
        // Where no pipe can be made wide enough, it is copied.
        let lanes: &[Lane] = match choice {
            LaneChoice::Splice => &[Lane::Splice, Lane::Copy],
            _ => &[Lane::Copy],
        };
        assert!(lanes.contains(&report.lane), "{choice:?}: {:?}", report.lane);
        assert!(
            std::fs::read(work.path().join("f")).unwrap() == content,
            "{choice:?}"
        );
    }
}

/// A slow reader, an abort, and a second transfer, on the kernel's lane, which is the server's own choice too.
#[tokio::test]
async fn retr_by_sendfile_obeys_a_slow_reader_and_an_abort() {
    for lane in [LaneChoice::Sendfile, LaneChoice::Auto] {
        slow_reader_and_abort(lane).await;
    }
}

async fn slow_reader_and_abort(lane: LaneChoice) {
    let served = Served::start(ServeOptions { lane, ..writable() }).await;
    let content = noise(8_000_000, 43);
    served.put("f", &content);
    let mut control = served.login().await;
    let mut data = control.data().await;
    assert_eq!(control.code("RETR f").await, 150);
    let mut got = vec![0; 100_000];
    for piece in got.chunks_mut(10_000) {
        data.read_exact(piece).await.unwrap();
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    assert!(got == content[..100_000]);
    assert_eq!(control.code("ABOR").await, 426);
    assert_eq!(control.reply().await.code, 226);
    assert_eq!(control.code("REST 4000000").await, 350);
    let (rest, last) = control.fetch("RETR f").await;
    assert!(rest == content[4_000_000..]);
    assert_eq!(last.code, 226);
}

/// In the kernel while it runs, and with pauses that end nothing.
#[tokio::test]
async fn an_upload_that_runs_and_dawdles_by_turns_arrives_whole() {
    let served = Served::writable().await;
    let piece = noise(5 << 20, 44);
    let mut control = served.login().await;
    let mut data = control.data().await;
    assert_eq!(control.code("STOR f").await, 150);
    let mut sent = Vec::new();
    for part in [&piece[..], b"x", &piece[1..], b"yz", &piece[..70_000]] {
        data.write_all(part).await.unwrap();
        sent.extend_from_slice(part);
        common::until("all of it is down", || {
            size_of_the_upload(&served) == sent.len() as u64
        })
        .await;
    }
    drop(data);
    assert_eq!(control.reply().await.code, 226);
    assert!(served.content("f") == sent);
}

/// An abort does not overtake what is being written, and what is kept is what was sent.
#[tokio::test]
async fn an_upload_in_bulk_hears_an_abort_and_is_resumed() {
    let served = Served::writable().await;
    let content = noise(1 << 20, 45);
    let mut control = served.login().await;
    let mut data = control.data().await;
    assert_eq!(control.code("STOR f").await, 150);
    let piece = content.clone();
    let sending = tokio::spawn(async move { while data.write_all(&piece).await.is_ok() {} });
    common::until("it runs", || size_of_the_upload(&served) > 8 << 20).await;
    assert_eq!(control.code("ABOR").await, 426);
    assert_eq!(control.reply().await.code, 226);
    sending.await.unwrap();
    assert_eq!(served.names(), [".f.tidegate-part"]);
    let kept = served.content(".f.tidegate-part");
    assert!(kept.chunks(1 << 20).all(|piece| piece == &content[..piece.len()]));
    assert_eq!(control.code(&format!("REST {}", kept.len())).await, 350);
    assert_eq!(control.store("STOR f", b"end").await.code, 226);
    assert!(served.content("f") == [&kept[..], b"end"].concat());
}

/// Of the only file there is.
fn size_of_the_upload(served: &Served) -> u64 {
    let [name] = &served.names()[..] else {
        return 0;
    };
    std::fs::metadata(served.path(name)).map_or(0, |found| found.len())
}

/// What is held for a client that never reads is `high` and one `chunk`, looked at all the way until nothing moves any more.
#[tokio::test]
async fn a_client_that_never_reads_holds_no_more_than_the_marks() {
    let work = tempfile::tempdir().unwrap();
    let path = work.path().join("f");
    std::fs::File::create(&path).unwrap().set_len(1 << 30).unwrap();
    for lane in [LaneChoice::Copy, LaneChoice::Sendfile] {
        let (connection, client) = connection().await;
        let marks = tidegate::Marks::default();
        let source = FileSource::open(&path).await.unwrap();
        let flow = Flow::new(source, connection.into_sink()).lane(lane).marks(marks);
        let handle = flow.handle();
        let flow = tokio::spawn(flow.run());
        let full = async {
            let (mut quiet, mut before) = (0, 0);
            while quiet < 20 {
                tokio::time::sleep(Duration::from_millis(5)).await;
                let now = handle.snapshot();
                assert!(now.held <= marks.high() + marks.chunk(), "{lane:?}: {now:?}");
                let stuck = matches!(now.state, FlowState::Writing | FlowState::WaitingSink);
                let still = stuck && before > 0 && now.bytes_read == before;
                quiet = if still { quiet + 1 } else { 0 };
                before = now.bytes_read;
            }
            before
        };
        let read = tokio::time::timeout(common::PATIENCE, full).await;
        let read = read.expect("the way to the client fills up");
        assert!(read < 1 << 30, "{lane:?}: {read} bytes went somewhere");
        drop(client);
        assert!(flow.await.unwrap().is_err());
    }
}
