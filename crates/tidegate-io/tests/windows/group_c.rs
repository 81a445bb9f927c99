//! CASES group C and its kin of part 2, over real handles instead of stubs: a TCP connection, a named pipe, a child's
//! standard input. 60 cannot be written in Rust: what is written is bytes by its type.

use std::sync::{Arc, Mutex};

use bytes::Bytes;
use tidegate::{
    Consumer, FinishableConsumer, Marks, Pressure, Producer, PullProducer, PushProducer, StopReason,
};
use tidegate_io::endpoint::{npipe, process::Stderr, tcp};
use tidegate_io::{Held, Sink, SinkConsumer, Source};

use crate::child;
use crate::npipe::pair;
use crate::reset;
use crate::support::{finish, pattern, read_all, read_some, until, within, write_all};

const HIGH: usize = 65_536;

/// A consumer over a real handle, with Twisted's marks, and its far side.
struct Case {
    name: &'static str,
    consumer: Arc<SinkConsumer>,
    far: Box<dyn Source + Send>,
    /// Keeps what the far side needs.
    kept: Option<Box<dyn Sink + Send>>,
}

impl Case {
    /// The far side ends its direction, too, where it has one; then all is well.
    async fn confirmed(&mut self) {
        if let Some(mut kept) = self.kept.take() {
            finish(&mut *kept).await.unwrap();
        }
        within(self.consumer.outcome()).await.unwrap();
    }
}

async fn every() -> Vec<Case> {
    let case = |name, sink: Box<dyn Sink + Send>, far, kept| Case {
        name,
        consumer: Arc::new(SinkConsumer::spawn(sink, Marks::TWISTED)),
        far,
        kept,
    };
    let listener = tcp::Listener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let timeout = tcp::CONNECT_TIMEOUT_DEFAULT;
    let (near, far) = tokio::join!(tcp::connect(&address, timeout), listener.accept());
    let far = tcp::duplex(far.unwrap().0);
    let (near_pipe, far_pipe) = pair().await;
    let copying = child(&["copy"]).stderr(Stderr::Inherit).into_duplex().unwrap();
    vec![
        case(
            "tcp",
            Box::new(tcp::sink(near.unwrap())),
            far.source,
            Some(far.sink),
        ),
        case(
            "npipe",
            Box::new(npipe::sink(near_pipe)),
            Box::new(npipe::source(far_pipe)),
            None,
        ),
        case("process", copying.sink, copying.source, None),
    ]
}

/// Writes down its signals; a pull producer also writes what it was given, a piece a pull.
#[derive(Default)]
struct Recorder {
    signals: Mutex<String>,
    pieces: Mutex<Vec<Bytes>>,
    consumer: Mutex<Option<Arc<dyn Consumer>>>,
}

impl Recorder {
    fn push() -> (Arc<Self>, Producer) {
        let recorder = Arc::new(Self::default());
        (Arc::clone(&recorder), Producer::Push(recorder))
    }

    /// Writes `pieces`, one a pull, and unregisters with the pull after the last.
    fn pull(consumer: Arc<dyn Consumer>, pieces: &[&str]) -> (Arc<Self>, Producer) {
        let mut pieces: Vec<Bytes> = pieces
            .iter()
            .map(|piece| Bytes::copy_from_slice(piece.as_bytes()))
            .collect();
        pieces.reverse();
        let recorder = Arc::new(Self {
            pieces: Mutex::new(pieces),
            consumer: Mutex::new(Some(consumer)),
            ..Self::default()
        });
        (Arc::clone(&recorder), Producer::Pull(recorder))
    }

    fn signals(&self) -> String {
        self.signals.lock().unwrap().clone()
    }

    fn note(&self, signal: char) {
        self.signals.lock().unwrap().push(signal);
    }
}

impl PushProducer for Recorder {
    fn pause_producing(&self) {
        self.note('P');
    }
    fn resume_producing(&self) {
        self.note('R');
    }
    fn stop_producing(&self, _: StopReason) {
        self.note('S');
    }
}

impl PullProducer for Recorder {
    fn resume_producing(&self) {
        self.note('R');
        let consumer = self.consumer.lock().unwrap().clone();
        let piece = self.pieces.lock().unwrap().pop();
        match (consumer, piece) {
            (Some(consumer), Some(piece)) => drop(consumer.write(piece)),
            (Some(consumer), None) => {
                self.consumer.lock().unwrap().take();
                consumer.unregister_producer();
            }
            (None, _) => {}
        }
    }
    fn stop_producing(&self, _: StopReason) {
        self.note('S');
    }
}

/// CASES 57 and 61: what fills the buffer to its mark is not too much; one byte more is.
#[tokio::test]
async fn case_57_and_61_the_high_mark_itself_does_not_pause() {
    for (bytes, pressure, signals) in [(HIGH, Pressure::Open, ""), (HIGH + 1, Pressure::Full, "P")] {
        for case in every().await {
            let (recorder, producer) = Recorder::push();
            case.consumer.register_producer(producer).unwrap();
            let told = case.consumer.write(pattern(bytes).into()).unwrap();
            assert_eq!(
                (told, recorder.signals().as_str()),
                (pressure, signals),
                "{}",
                case.name
            );
        }
    }
}

/// CASES 58: what is written while a write is under way follows it.
#[tokio::test]
async fn case_58_a_write_during_another_follows_it() {
    for mut case in every().await {
        let _ = case.consumer.write(Bytes::from_static(b"a")).unwrap();
        tokio::task::yield_now().await;
        let _ = case.consumer.write(Bytes::from_static(b"b")).unwrap();
        case.consumer.finish();
        let read = within(read_all(&mut *case.far)).await.unwrap();
        assert_eq!(&read[..], b"ab", "{}", case.name);
        case.confirmed().await;
    }
}

/// CASES 58: one write is under way at a time, and the output is in order. Whatever the far side does, a chunk is told as
/// accepted only when the system has completed it.
#[tokio::test]
async fn case_58_one_write_at_a_time() {
    let (near, far) = pair().await;
    let mut sink = npipe::sink(near);
    let mut source = npipe::source(far);
    let mut held = Held::default();
    held.push(pattern(400_000).into());
    // Nobody reads beyond what both systems buffer: sooner or later a write does not complete.
    let mut context = std::task::Context::from_waker(std::task::Waker::noop());
    let mut accepted = 0;
    for _ in 0..200 {
        if let std::task::Poll::Ready(taken) = sink.poll_write(&mut context, &held) {
            let taken = taken.unwrap();
            held.advance(taken);
            accepted += taken;
        }
        tokio::task::yield_now().await;
    }
    assert!(accepted < 400_000, "accepted {accepted} bytes that nobody read");
    let rest = async {
        while !held.is_empty() {
            let taken = std::future::poll_fn(|cx| sink.poll_write(cx, &held))
                .await
                .unwrap();
            held.advance(taken);
        }
        finish(&mut sink).await.unwrap();
        drop(sink);
    };
    let ((), read) = within(async { tokio::join!(rest, read_all(&mut source)) }).await;
    assert!(read.unwrap() == pattern(400_000));
}

/// CASES 63: a second registration is an error and disturbs nothing.
#[tokio::test]
async fn case_63_a_second_registration_is_refused() {
    for case in every().await {
        let (first, producer) = Recorder::push();
        case.consumer.register_producer(producer).unwrap();
        let (second, producer) = Recorder::push();
        assert!(
            case.consumer.register_producer(producer).is_err(),
            "{}",
            case.name
        );
        assert_eq!(
            (first.signals(), second.signals()),
            (String::new(), String::new())
        );
    }
}

/// CASES 64: pieces come out in order, and the next pull comes only when nothing is held.
#[tokio::test]
async fn case_64_a_pull_producer_is_asked_again_once_all_is_gone() {
    for mut case in every().await {
        let consumer = case.consumer.consumer();
        let (recorder, producer) = Recorder::pull(consumer, &["abcde", "fg"]);
        case.consumer.register_producer(producer).unwrap();
        assert_eq!(
            recorder.signals(),
            "R",
            "{}: one pull before the first write is gone",
            case.name
        );
        case.consumer.finish();
        let read = within(read_all(&mut *case.far)).await.unwrap();
        assert_eq!(
            (&read[..], recorder.signals().as_str()),
            (&b"abcdefg"[..], "RRR"),
            "{}",
            case.name
        );
    }
}

/// CASES B16, D19: a pull producer that writes far past the mark is not paused, for it cannot be.
#[tokio::test]
async fn case_b16_a_pull_producer_is_never_paused() {
    for mut case in every().await {
        let big = "x".repeat(3 * HIGH);
        let consumer = case.consumer.consumer();
        let (recorder, producer) = Recorder::pull(consumer, &[&big]);
        case.consumer.register_producer(producer).unwrap();
        case.consumer.finish();
        let read = within(read_all(&mut *case.far)).await.unwrap();
        assert_eq!(
            (read.len(), recorder.signals().as_str()),
            (big.len(), "RR"),
            "{}",
            case.name
        );
    }
}

/// CASES B17, D16, D20: after one pause and its resume, small writes that drain bring no further resume.
#[tokio::test]
async fn case_b17_no_resume_that_no_pause_earned() {
    for mut case in every().await {
        let (recorder, producer) = Recorder::push();
        case.consumer.register_producer(producer).unwrap();
        let _ = case.consumer.write(pattern(4 * HIGH).into()).unwrap();
        assert_eq!(recorder.signals(), "P", "{}", case.name);
        let mut read = 0;
        while read < 4 * HIGH {
            read += within(read_some(&mut *case.far)).await.unwrap().unwrap().len();
        }
        until("the producer is resumed", || recorder.signals() == "PR").await;
        for _ in 0..3 {
            let _ = case.consumer.write(Bytes::from_static(b"abc")).unwrap();
            let mut small = 0;
            while small < 3 {
                small += within(read_some(&mut *case.far)).await.unwrap().unwrap().len();
            }
        }
        assert_eq!(recorder.signals(), "PR", "{}", case.name);
        // D16's other half: a close needs no second unregistering.
        case.consumer.unregister_producer();
        case.consumer.finish();
        assert!(within(read_all(&mut *case.far)).await.unwrap().is_empty());
        case.confirmed().await;
    }
}

/// CASES B19, D22: closing with a pull producer delivers what it has left before the end.
#[tokio::test]
async fn case_b19_closing_lets_a_pull_producer_go_first() {
    for mut case in every().await {
        let consumer = case.consumer.consumer();
        let (_, producer) = Recorder::pull(consumer, &["1", "2", "3"]);
        case.consumer.register_producer(producer).unwrap();
        case.consumer.finish();
        let read = within(read_all(&mut *case.far)).await.unwrap();
        assert_eq!(&read[..], b"123", "{}", case.name);
        case.confirmed().await;
    }
}

/// CASES B20, D23: a list past the mark pauses like a single write; on a finished consumer it is given back.
#[tokio::test]
async fn case_b20_lists_are_writes_like_any_other() {
    for case in every().await {
        let (recorder, producer) = Recorder::push();
        case.consumer.register_producer(producer).unwrap();
        let list = vec![Bytes::from(pattern(HIGH)), Bytes::from_static(b"x")];
        assert_eq!(case.consumer.write_list(list).unwrap(), Pressure::Full);
        assert_eq!(recorder.signals(), "P", "{}", case.name);
        case.consumer.unregister_producer();
        case.consumer.finish();
        let list = vec![Bytes::from_static(b"late"), Bytes::from_static(b"words")];
        let refused = case.consumer.write_list(list).unwrap_err();
        assert_eq!(refused.data, ["late", "words"], "{}", case.name);
    }
}

/// D18, D21, D24: a device that dies stops its producer once, with a reason, and takes nothing more.
#[tokio::test]
async fn a_dead_device_stops_its_producer_and_queues_nothing() {
    let (pipe, far_pipe) = pair().await;
    let (stream, resetting) = reset::connected();
    type Death = Box<dyn FnOnce()>;
    let sinks: [(Box<dyn Sink + Send>, Death); 2] = [
        (Box::new(npipe::sink(pipe)), Box::new(move || drop(far_pipe))),
        (Box::new(tcp::sink(stream)), Box::new(move || resetting.reset())),
    ];
    for (sink, die) in sinks {
        let name = sink.name();
        let consumer = SinkConsumer::spawn(sink, Marks::TWISTED);
        let (recorder, producer) = Recorder::push();
        consumer.register_producer(producer).unwrap();
        die();
        until("the producer is stopped", || recorder.signals() == "S").await;
        assert!(consumer.write(Bytes::from_static(b"more")).is_err(), "{name}");
        assert!(within(consumer.outcome()).await.is_err());
        let (late, producer) = Recorder::push();
        let _ = consumer.register_producer(producer);
        assert_eq!(late.signals(), "S", "a newcomer is stopped at once");
        assert_eq!(recorder.signals(), "S", "{name}");
    }
}

/// D17: finishing after the peer's end closes the connection, once.
#[tokio::test]
async fn a_finish_after_the_peers_end_closes() {
    let listener = tcp::Listener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let timeout = tcp::CONNECT_TIMEOUT_DEFAULT;
    let (near, far) = tokio::join!(tcp::connect(&address, timeout), listener.accept());
    let mut near = tcp::duplex(near.unwrap());
    let mut far = tcp::duplex(far.unwrap().0);
    finish(&mut *far.sink).await.unwrap();
    assert!(read_some(&mut *near.source).await.unwrap().is_none());
    write_all(&mut *near.sink, &b"last words"[..]).await.unwrap();
    finish(&mut *near.sink).await.unwrap();
    assert_eq!(read_all(&mut *far.source).await.unwrap(), b"last words");
}

/// D25: a reader that pauses, all of it, reads on when it is asked again.
#[tokio::test]
async fn a_reader_that_paused_reads_on() {
    for mut case in every().await {
        let (recorder, producer) = Recorder::push();
        case.consumer.register_producer(producer).unwrap();
        let _ = case.consumer.write(pattern(2 * HIGH).into()).unwrap();
        // Everything stands still; then one reader goes on.
        tokio::task::yield_now().await;
        let mut read = Vec::new();
        while read.len() < 2 * HIGH {
            read.extend_from_slice(&within(read_some(&mut *case.far)).await.unwrap().unwrap());
        }
        assert!(read == pattern(2 * HIGH), "{}", case.name);
        until("the producer is resumed", || recorder.signals() == "PR").await;
    }
}
