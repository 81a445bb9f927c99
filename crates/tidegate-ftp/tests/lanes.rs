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
use tidegate_io::{Flow, Lane, LaneChoice};
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
    // By itself a flow takes it only to another machine: on one machine a large buffer in user space is faster.
    let flow = Flow::new(source, connection.into_sink()).lane(LaneChoice::Sendfile);
    let flow = tokio::spawn(flow.run());
    let mut got = Vec::new();
    client.read_to_end(&mut got).await.unwrap();
    drop(client);
    let report = flow.await.unwrap().unwrap();
    assert!(got == content[1_000_000..]);
    assert_eq!((report.lane, report.bytes_sent), (Lane::Sendfile, 4_000_000));
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
        assert!(
            std::fs::read(work.path().join("f")).unwrap() == content,
            "{choice:?}"
        );
    }
}

/// A slow reader, an abort, and a second transfer, on the kernel's lane.
#[tokio::test]
async fn retr_by_sendfile_obeys_a_slow_reader_and_an_abort() {
    let served = Served::start(ServeOptions {
        lane: LaneChoice::Sendfile,
        ..writable()
    })
    .await;
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
