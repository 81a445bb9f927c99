//! Sources and files as producers. Cites CASES E, N (196-202) and part 2.
#![allow(clippy::unwrap_used)]

use std::io::Write;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use tidegate::{
    AlreadyRegistered, Consumer, FinishableConsumer, Marks, Pressure, Producer, PullProducer, Refusal,
    StopReason, WriteError, channel,
};
use tidegate_io::endpoint::process::Process;
use tidegate_io::endpoint::tcp::{self, Listener};
use tidegate_io::{FileSender, ProduceError, SendError, SinkConsumer, SourceProducer};

use crate::support::{MemorySink, MemorySource, finish, pattern, read_all, until, within};

fn file(bytes: &[u8]) -> std::fs::File {
    let mut file = tempfile::tempfile().unwrap();
    file.write_all(bytes).unwrap();
    file
}

/// A consumer that keeps what it gets and pulls only when told to.
#[derive(Default)]
struct Manual {
    producer: Mutex<Option<Arc<dyn PullProducer>>>,
    got: Mutex<Vec<u8>>,
    unregistered: Mutex<usize>,
    refuses: bool,
}

impl Manual {
    fn pull(&self) {
        let producer = self.producer.lock().unwrap().clone();
        if let Some(producer) = producer {
            producer.resume_producing();
        }
    }
    fn got(&self) -> Vec<u8> {
        self.got.lock().unwrap().clone()
    }
    fn unregistered(&self) -> usize {
        *self.unregistered.lock().unwrap()
    }
}

impl Consumer for Manual {
    fn register_producer(&self, producer: Producer) -> Result<(), AlreadyRegistered> {
        match producer {
            Producer::Pull(pull) => *self.producer.lock().unwrap() = Some(pull),
            push => return Err(AlreadyRegistered(push)),
        }
        Ok(())
    }
    fn unregister_producer(&self) {
        *self.unregistered.lock().unwrap() += 1;
        drop(self.producer.lock().unwrap().take());
    }
    fn write(&self, data: Bytes) -> Result<Pressure, WriteError> {
        if self.refuses {
            return Err(WriteError {
                refusal: Refusal::Finished,
                data,
            });
        }
        self.got.lock().unwrap().extend_from_slice(&data);
        Ok(Pressure::Open)
    }
    fn write_list(&self, data: Vec<Bytes>) -> Result<Pressure, WriteError<Vec<Bytes>>> {
        for piece in data {
            let _ = self.write(piece);
        }
        Ok(Pressure::Open)
    }
}

/// CASES 196, 198.
#[tokio::test]
async fn a_file_is_sent_a_chunk_a_pull() {
    let manual = Arc::new(Manual::default());
    let consumer: Arc<dyn Consumer> = manual.clone();
    let sending = FileSender::new(file(b"Test content"))
        .chunk(4)
        .begin(&consumer)
        .unwrap();
    for expected in [&b"Test"[..], b"Test con", b"Test content"] {
        manual.pull();
        until("a chunk", || manual.got() == expected).await;
    }
    assert_eq!(manual.unregistered(), 0);
    manual.pull();
    let sent = within(sending).await.unwrap();
    assert_eq!(
        (sent.bytes, sent.last, manual.unregistered()),
        (12, Some(b't'), 1)
    );
    // D108: a late pull does nothing.
    manual.pull();
    assert_eq!(manual.unregistered(), 1);
}

/// CASES 199.
#[tokio::test]
async fn a_transform_changes_what_is_sent() {
    let (manual, consumer) = manual();
    let swap = |bytes: Bytes| {
        let swapped = bytes
            .iter()
            .map(|byte| byte ^ if byte.is_ascii_alphabetic() { 0x20 } else { 0 });
        swapped.collect::<Vec<_>>().into()
    };
    let sending = FileSender::new(file(b"Test content"))
        .transform(Box::new(swap))
        .begin(&consumer)
        .unwrap();
    manual.pull();
    until("sent", || manual.got() == b"tEST CONTENT").await;
    manual.pull();
    assert_eq!(within(sending).await.unwrap().last, Some(b'T'));
}

fn manual() -> (Arc<Manual>, Arc<dyn Consumer>) {
    let manual = Arc::new(Manual::default());
    (manual.clone(), manual)
}

/// CASES 201: on return the producer is unregistered and the outcome there. On any file system.
#[tokio::test]
async fn an_empty_file_is_sent_at_once() {
    let (sender, _receiver) = channel(Marks::default());
    let mut sending = FileSender::new(file(b"")).begin(&sender.consumer()).unwrap();
    let mut context = std::task::Context::from_waker(std::task::Waker::noop());
    let std::task::Poll::Ready(Ok(sent)) = std::pin::Pin::new(&mut sending).poll(&mut context) else {
        panic!("not done on return");
    };
    assert_eq!((sent.bytes, sent.last), (0, None));
    // Unregistered: another may come.
    let again = FileSender::new(file(b"x")).begin(&sender.consumer());
    drop(again.unwrap());
}

/// CASES 202, and 54 with a child at the far end.
#[tokio::test]
async fn files_arrive_over_tcp_and_through_children() {
    for length in [900, 1_000_000] {
        let bytes = pattern(length);
        let listener = Listener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let (near, far) = tokio::join!(tcp::connect(&address, Duration::from_secs(5)), listener.accept());
        let consumer = SinkConsumer::spawn(tcp::sink(near.unwrap()), Marks::default());
        let mut far = tcp::duplex(far.unwrap().0);
        let sending = FileSender::new(file(&bytes)).begin(&consumer.consumer()).unwrap();
        let reading = async {
            let all = read_all(&mut *far.source).await.unwrap();
            finish(&mut *far.sink).await.unwrap();
            all
        };
        let sent = async {
            let sent = within(sending).await.unwrap();
            consumer.finish();
            sent.bytes
        };
        let (sent, all) = tokio::join!(sent, reading);
        assert!(sent == length as u64 && all == bytes);
        assert_eq!(within(consumer.outcome()).await.unwrap().bytes, length as u64);
    }
    let folder = tempfile::tempdir().unwrap();
    let copy = folder.path().join("copy");
    let bytes = pattern(400_000);
    let sink = Process::shell(format!("cat >'{}'", copy.display()))
        .into_sink()
        .unwrap();
    let consumer = SinkConsumer::spawn(sink, Marks::default());
    let sending = FileSender::new(file(&bytes)).begin(&consumer.consumer()).unwrap();
    within(sending).await.unwrap();
    consumer.finish();
    within(consumer.outcome()).await.unwrap();
    assert!(std::fs::read(copy).unwrap() == bytes);
}

/// CASES B62 (D106, D107): a transform that leaves chunks out loses nothing else, and the last byte is the last one sent.
#[tokio::test]
async fn a_transform_may_leave_chunks_out() {
    let (sink, seen) = MemorySink::new();
    let consumer = SinkConsumer::spawn(sink, Marks::default());
    let mut count = 0;
    let every_other = move |bytes: Bytes| {
        count += 1;
        if count % 2 == 0 { Bytes::new() } else { bytes }
    };
    let sender = FileSender::new(file(b"aabbccdd"))
        .chunk(2)
        .transform(Box::new(every_other));
    let sent = within(sender.begin(&consumer.consumer()).unwrap()).await.unwrap();
    consumer.finish();
    within(consumer.outcome()).await.unwrap();
    assert_eq!(
        (seen.bytes().as_slice(), sent.last, sent.bytes),
        (&b"aacc"[..], Some(b'c'), 4)
    );
}

/// D109: a file that cannot be read ends it, unregistered.
#[tokio::test]
async fn a_file_that_cannot_be_read_is_an_error() {
    let (manual, consumer) = manual();
    let folder = std::fs::File::open("/").unwrap();
    let sending = FileSender::new(folder).begin(&consumer).unwrap();
    manual.pull();
    let error = within(sending).await.unwrap_err();
    assert!(matches!(error, SendError::Read(_)), "{error}");
    assert_eq!(manual.unregistered(), 1);
}

/// D110: after a stop nothing more is produced, and the file is let go of.
#[tokio::test]
async fn a_stopped_sender_produces_nothing() {
    let (manual, consumer) = manual();
    let sending = FileSender::new(file(b"Test content"))
        .chunk(4)
        .begin(&consumer)
        .unwrap();
    let producer = manual.producer.lock().unwrap().clone().unwrap();
    producer.stop_producing(StopReason::Closed);
    producer.resume_producing();
    assert!(matches!(
        within(sending).await,
        Err(SendError::Stopped(StopReason::Closed))
    ));
    assert!(manual.got().is_empty());
    assert_eq!(manual.unregistered(), 0, "a stop ends the registration by itself");
}

#[tokio::test]
async fn a_refusal_ends_the_sending() {
    let manual = Arc::new(Manual {
        refuses: true,
        ..Manual::default()
    });
    let consumer: Arc<dyn Consumer> = manual.clone();
    let sending = FileSender::new(file(b"x")).begin(&consumer).unwrap();
    manual.pull();
    assert!(matches!(
        within(sending).await,
        Err(SendError::Refused(Refusal::Finished))
    ));
}

/// CASES 88 and 97 in our terms, for both kinds of producer and small and large marks.
#[tokio::test]
async fn a_source_is_a_producer_of_either_kind() {
    for marks in [Marks::new(0, 1).unwrap(), Marks::TWISTED, Marks::default()] {
        for is_push in [true, false] {
            let bytes = pattern(300_000);
            let (sink, seen) = MemorySink::new();
            let consumer = Arc::new(SinkConsumer::spawn(sink, marks));
            let outcome = consumer.outcome();
            let source = MemorySource::new(bytes.clone());
            let producer = match is_push {
                true => SourceProducer::push(source, consumer),
                false => SourceProducer::pull(source, consumer),
            };
            assert_eq!(within(producer.unwrap().chunk(1_000)).await.unwrap(), 300_000);
            assert_eq!(within(outcome).await.unwrap().bytes, 300_000);
            assert!(seen.bytes() == bytes && seen.is_finished());
        }
    }
}

/// Law 10: a source that fails aborts, and what was cut short never looks finished.
#[tokio::test]
async fn a_source_that_fails_aborts_the_consumer() {
    for is_push in [true, false] {
        let (sink, seen) = MemorySink::new();
        let consumer = Arc::new(SinkConsumer::spawn(sink, Marks::default()));
        let source = Process::shell("echo half; exit 9").into_source().unwrap();
        let outcome = consumer.outcome();
        let producer = match is_push {
            true => SourceProducer::push(source, consumer),
            false => SourceProducer::pull(source, consumer),
        };
        let error = within(producer.unwrap()).await.unwrap_err();
        assert!(
            matches!(&error, ProduceError::Source(_)) && error.to_string().contains("code 9"),
            "{error}"
        );
        assert!(within(outcome).await.is_err());
        until("aborted", || seen.aborted().is_some()).await;
        assert!(!seen.is_finished());
    }
}

/// Law 5: a consumer that dies stops the source.
#[tokio::test]
async fn a_dead_consumer_stops_the_source() {
    let consumer = Arc::new(SinkConsumer::spawn(
        Process::shell("exec 0</dev/null; exit 2").into_sink().unwrap(),
        Marks::default(),
    ));
    let source = Process::shell("yes").into_source().unwrap();
    let id = source.id().unwrap();
    let error = within(SourceProducer::push(source, consumer).unwrap())
        .await
        .unwrap_err();
    assert!(
        matches!(&error, ProduceError::Stopped(StopReason::Failed(_))),
        "{error}"
    );
    assert!(
        !std::path::Path::new(&format!("/proc/{id}")).exists(),
        "the child was not ended"
    );
}

/// Law 6.
#[tokio::test]
async fn a_second_producer_is_given_back() {
    let (sink, _seen) = MemorySink::new();
    let consumer = Arc::new(SinkConsumer::spawn(sink, Marks::default()));
    let first = SourceProducer::push(MemorySource::new(&b"one"[..]), consumer.clone()).unwrap();
    let second = SourceProducer::push(MemorySource::new(&b"two"[..]), consumer.clone());
    assert!(second.is_err());
    assert!(FileSender::new(file(b"x")).begin(&consumer.consumer()).is_err());
    within(first).await.unwrap();
}

/// CASES B4 (D4): a paused, silent producer does not park a finished consumer for ever: the deadline aborts it.
#[tokio::test]
async fn a_silent_producer_is_stopped_at_the_deadline() {
    #[derive(Default)]
    struct Silent(Mutex<Vec<StopReason>>);
    impl tidegate::PushProducer for Silent {
        fn pause_producing(&self) {}
        fn resume_producing(&self) {}
        fn stop_producing(&self, reason: StopReason) {
            self.0.lock().unwrap().push(reason);
        }
    }
    let (sink, seen) = MemorySink::new();
    let (consumer, driver) = SinkConsumer::with_driver(sink, Marks::default());
    let driving = tokio::spawn(driver.drain(Duration::from_millis(60)));
    let silent = Arc::new(Silent::default());
    consumer
        .register_producer(Producer::push(silent.clone()))
        .unwrap();
    let _ = consumer.write("all".into()).unwrap();
    consumer.finish();
    assert!(within(driving).await.unwrap().is_err());
    assert_eq!(silent.0.lock().unwrap().len(), 1, "stopped once");
    assert!(seen.bytes() == b"all" && seen.aborted().is_some() && !seen.is_finished());
}
