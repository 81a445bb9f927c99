//! The scenarios of group J, and the defects D87 to D91, each by its number.
#![allow(clippy::unwrap_used)]

mod common;

use std::sync::{Arc, Mutex};

use bytes::Bytes;
use common::{Served, reset, until};
use tidegate::{
    AbortReason, AlreadyRegistered, Consumer, FinishableConsumer, Marks, Pressure, Producer, PullProducer,
    StopReason, WriteError,
};
use tidegate_ftp::data::DataConnection;
use tidegate_ftp::file::file_consumer;
use tidegate_ftp::grammar::VirtualPath;
use tidegate_ftp::storage::{Access, Durability, Partial, Storage, StoreAs, Upload};
use tidegate_io::endpoint::file::FileSource;
use tidegate_io::{ProduceError, SourceProducer};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

async fn connection() -> (DataConnection, TcpStream) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let client = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
    let (served, _) = listener.accept().await.unwrap();
    (DataConnection::plain(served).unwrap(), client)
}

async fn upload(directory: &std::path::Path, name: &str) -> Upload {
    let storage = Storage::open(directory, Access::Writable).unwrap();
    let path = VirtualPath::root().resolve(name.as_bytes(), 100).unwrap();
    storage
        .upload(&path, StoreAs::New, Partial::Discard, Durability::Cached)
        .await
        .unwrap()
}

/// Takes everything; resumes its producer from inside each write if told to.
#[derive(Default)]
struct Gatherer {
    state: Mutex<Gathered>,
}

#[derive(Default)]
struct Gathered {
    producer: Option<Producer>,
    content: Vec<u8>,
    finishes: usize,
    aborts: Vec<AbortReason>,
}

impl Consumer for Gatherer {
    fn register_producer(&self, producer: Producer) -> Result<(), AlreadyRegistered> {
        self.state.lock().unwrap().producer = Some(producer);
        Ok(())
    }
    fn unregister_producer(&self) {
        self.state.lock().unwrap().producer = None;
    }
    fn write(&self, data: Bytes) -> Result<Pressure, WriteError> {
        let mut state = self.state.lock().unwrap();
        state.content.extend_from_slice(&data);
        let producer = state.producer.clone();
        drop(state);
        if let Some(Producer::Push(producer)) = producer {
            producer.resume_producing();
        }
        Ok(Pressure::Open)
    }
    fn write_list(&self, data: Vec<Bytes>) -> Result<Pressure, WriteError<Vec<Bytes>>> {
        for piece in data {
            let _ = self.write(piece);
        }
        Ok(Pressure::Open)
    }
}

impl FinishableConsumer for Gatherer {
    fn finish(&self) {
        self.state.lock().unwrap().finishes += 1;
    }
    fn abort(&self, reason: AbortReason) {
        self.state.lock().unwrap().aborts.push(reason);
    }
}

/// Writes the pieces of a list, one a pull.
struct Puller {
    to: Arc<dyn Consumer>,
    pieces: Mutex<Vec<&'static [u8]>>,
    stops: Mutex<Vec<StopReason>>,
}

impl PullProducer for Puller {
    fn resume_producing(&self) {
        let next = self.pieces.lock().unwrap().pop();
        match next {
            Some(piece) => drop(self.to.write(Bytes::from_static(piece))),
            None => self.to.unregister_producer(),
        }
    }
    fn stop_producing(&self, reason: StopReason) {
        self.stops.lock().unwrap().push(reason);
    }
}

#[tokio::test]
async fn cases_142_a_consumer_may_resume_from_inside_write() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("f");
    std::fs::write(&path, b"wobble\n").unwrap();
    let gatherer = Arc::new(Gatherer::default());
    let fed = SourceProducer::push(FileSource::open(path).await.unwrap(), gatherer.clone())
        .unwrap()
        .await
        .unwrap();
    assert_eq!(fed, 7);
    let state = gatherer.state.lock().unwrap();
    assert_eq!(
        (state.content.as_slice(), state.finishes, state.aborts.len()),
        (&b"wobble\n"[..], 1, 0)
    );
    assert!(state.producer.is_none());
}

#[tokio::test]
async fn cases_144_the_reply_to_stor_comes_when_the_file_is_closed() {
    let served = Served::writable().await;
    let mut control = served.login().await;
    let mut data = control.data().await;
    assert_eq!(control.code("STOR f").await, 150);
    data.write_all(b"content").await.unwrap();
    // The connection has not ended: nothing is complete.
    until("bytes are written beside the target", || {
        let names = served.names();
        names
            .iter()
            .any(|name| std::fs::metadata(served.path(name)).is_ok_and(|found| found.len() == 7))
    })
    .await;
    assert!(!served.path("f").exists());
    drop(data);
    // When the reply is there, so is the file.
    assert_eq!(control.reply().await.code, 226);
    assert_eq!(served.content("f"), b"content");
    assert_eq!(served.names(), ["f"]);
}

#[tokio::test]
async fn cases_145_a_line_of_a_listing_ends_in_cr_lf() {
    let served = Served::writable().await;
    served.put("line content", b"");
    let mut control = served.login().await;
    let (listing, last) = control.fetch("NLST").await;
    assert_eq!((listing.as_slice(), last.code), (&b"line content\r\n"[..], 226));
}

#[tokio::test]
async fn cases_147_bytes_before_the_consumer_come_first() {
    let directory = tempfile::tempdir().unwrap();
    let (connection, mut client) = connection().await;
    client.write_all(b"a").await.unwrap();
    client.write_all(b"b").await.unwrap();
    drop(client);
    // Only now somebody wants them.
    let (sender, drain) = file_consumer(upload(directory.path(), "f").await, Marks::default());
    let outcome = sender.outcome();
    let drain = tokio::spawn(drain);
    assert_eq!(
        connection.into_producer(Arc::new(sender)).unwrap().await.unwrap(),
        2
    );
    assert_eq!(outcome.await.unwrap().bytes, 2);
    drain.await.unwrap().unwrap();
    assert_eq!(std::fs::read(directory.path().join("f")).unwrap(), b"ab");
}

/// Twisted closes at unregister; here an end of stream is `finish` and nothing else (law 9).
#[tokio::test]
async fn cases_148_finish_closes_the_channel_and_unregister_does_not() {
    let (connection, mut client) = connection().await;
    let (sender, drain) = connection.into_consumer(Marks::default());
    let outcome = sender.outcome();
    tokio::spawn(drain);
    let sender = Arc::new(sender);
    let puller = Arc::new(Puller {
        to: sender.consumer(),
        pieces: Mutex::new(vec![b"two", b"one "]),
        stops: Mutex::default(),
    });
    sender
        .register_producer(Producer::pull(Arc::clone(&puller)))
        .unwrap();
    let mut first = [0; 7];
    client.read_exact(&mut first).await.unwrap();
    assert_eq!(&first, b"one two");
    until("the producer has unregistered", || {
        Arc::strong_count(&puller) == 1
    })
    .await;
    assert!(outcome.now().is_none(), "unregister ended the stream");
    // Another may follow.
    let _ = sender.write(Bytes::from_static(b" three")).unwrap();
    sender.finish();
    let mut tail = String::new();
    client.read_to_string(&mut tail).await.unwrap();
    assert_eq!(tail, " three");
    drop(client);
    assert_eq!(outcome.await.unwrap().bytes, 13);
    assert!(puller.stops.lock().unwrap().is_empty());
}

/// Twisted rejects it after storing it; here pull and push are both taken.
#[tokio::test]
async fn cases_150_d87_a_file_consumer_takes_a_pull_producer() {
    let directory = tempfile::tempdir().unwrap();
    let (sender, drain) = file_consumer(upload(directory.path(), "f").await, Marks::default());
    let outcome = sender.outcome();
    tokio::spawn(drain);
    let puller = Arc::new(Puller {
        to: sender.consumer(),
        pieces: Mutex::new(vec![b"c", b"b", b"a"]),
        stops: Mutex::default(),
    });
    sender
        .register_producer(Producer::pull(Arc::clone(&puller)))
        .unwrap();
    sender.finish();
    assert_eq!(outcome.await.unwrap().bytes, 3);
    assert_eq!(std::fs::read(directory.path().join("f")).unwrap(), b"abc");
}

#[tokio::test]
async fn cases_151_a_file_that_cannot_be_received_into_is_named_in_a_550() {
    let served = Served::writable().await;
    std::fs::create_dir(served.path("d")).unwrap();
    let mut control = served.login().await;
    for target in ["d", "none/f"] {
        let reply = control.store(&format!("STOR {target}"), b"x").await;
        assert_eq!(reply.code, 550, "{reply:?}");
        assert!(reply.text().contains(target), "{reply:?}");
    }
    // The session goes on.
    assert_eq!(control.store("STOR f", b"x").await.code, 226);
}

/// A storage that fails once it has begun. Twisted's data channel raised AttributeError, and the client wrote on.
#[tokio::test]
async fn d88_d89_a_consumer_that_fails_stops_the_client() {
    let (connection, mut client) = connection().await;
    let (sender, receiver) = tidegate::channel(Marks::default());
    client.write_all(b"early").await.unwrap();
    // Dead before the replay, and dead for all that follows.
    receiver.fail(Arc::new(std::io::Error::other("the disk died")));
    let failed = connection
        .into_producer(Arc::new(sender))
        .unwrap()
        .await
        .unwrap_err();
    assert!(
        matches!(&failed, ProduceError::Stopped(StopReason::Failed(cause)) if cause.to_string().contains("died")),
        "{failed}"
    );
    // The client finds out: its writes fail.
    let told = async { while client.write_all(&[0; 65_536]).await.is_ok() {} };
    tokio::time::timeout(common::PATIENCE, told).await.unwrap();
}

#[tokio::test]
async fn d88_d89_a_consumer_that_fails_midway_stops_the_client() {
    let (connection, mut client) = connection().await;
    let (sender, mut receiver) = tidegate::channel(Marks::default());
    let feeding = tokio::spawn(connection.into_producer(Arc::new(sender)).unwrap());
    client.write_all(b"some").await.unwrap();
    assert_eq!(receiver.recv().await.unwrap().unwrap(), "some");
    receiver.fail(Arc::new(std::io::Error::other("the disk died")));
    assert!(matches!(
        feeding.await.unwrap(),
        Err(ProduceError::Stopped(StopReason::Failed(_)))
    ));
    let told = async { while client.write_all(&[0; 65_536]).await.is_ok() {} };
    tokio::time::timeout(common::PATIENCE, told).await.unwrap();
}

#[tokio::test]
async fn d90_text_is_converted_the_right_way_in_each_direction() {
    let served = Served::writable().await;
    let mut control = served.login().await;
    assert_eq!(control.code("TYPE A").await, 200);
    assert_eq!(control.store("STOR t", b"one\r\ntwo\r\n\rthree").await.code, 226);
    assert_eq!(served.content("t"), b"one\ntwo\n\rthree");
    let (text, last) = control.fetch("RETR t").await;
    assert_eq!((text.as_slice(), last.code), (&b"one\r\ntwo\r\n\rthree"[..], 226));
    // A CR LF at the border of two reads, for sure: more than any buffer takes at once.
    let wire = b"0123456789\r\n".repeat(300_000);
    assert_eq!(control.store("STOR long", &wire).await.code, 226);
    assert_eq!(served.content("long"), b"0123456789\n".repeat(300_000));
    let (text, _) = control.fetch("RETR long").await;
    assert!(text == wire);
}

#[tokio::test]
async fn d91_a_write_after_the_loss_gives_the_data_back() {
    let (connection, client) = connection().await;
    let (sender, drain) = connection.into_consumer(Marks::default());
    tokio::spawn(drain);
    let outcome = sender.outcome();
    reset(client);
    assert!(matches!(outcome.await, Err(StopReason::Failed(_))));
    let refused = sender.write(Bytes::from_static(b"late")).unwrap_err();
    assert_eq!(refused.data, "late");
}

/// A paused producer is not blind (law 11), and its consumer hears of the loss.
#[tokio::test]
async fn a_client_that_resets_while_paused_aborts_the_consumer() {
    let (connection, mut client) = connection().await;
    let marks = Marks::new(0, 1).unwrap();
    let (sender, mut receiver) = tidegate::channel(marks);
    let feeding = tokio::spawn(connection.into_producer(Arc::new(sender)).unwrap());
    client.write_all(b"fills it").await.unwrap();
    let _ = receiver.ready().await.unwrap();
    reset(client);
    assert!(matches!(feeding.await.unwrap(), Err(ProduceError::Source(_))));
    let _ = receiver.ready().await.unwrap_err();
}

/// No scenario of the group and no defect is dropped silently.
#[test]
fn every_scenario_and_defect_has_its_test() {
    let tests: Vec<&str> = include_str!("cases.rs")
        .lines()
        .filter_map(|line| line.strip_prefix("async fn ")?.split('(').next())
        .collect();
    for number in [142, 144, 145, 147, 148, 150, 151] {
        let cites = format!("cases_{number}_");
        assert!(tests.iter().any(|test| test.starts_with(&cites)), "{cites}");
    }
    for defect in 87..=91 {
        let cites = format!("d{defect}_");
        assert!(tests.iter().any(|test| test.contains(&cites)), "{cites}");
    }
}
