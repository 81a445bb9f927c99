//! What stands above a consumer, over every kind of descriptor: pull-to-push, shapers, throttles, protocols as consumers
//! and line by line, conversations. Cites CASES E, F, H and I.
#![allow(clippy::unwrap_used)]

use std::num::{NonZeroU64, NonZeroUsize};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, OnceLock};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use bytes::Bytes;
use tidegate::{
    AbortReason, AlreadyRegistered, Consumer, FinishableConsumer, HalfClose, HoldReason, Limiter, Loss,
    Marks, Pressure, Producer, Protocol, ProtocolConsumer, Rate, ReadHold, Shaper, StopReason, Throttle,
    Throttled, Transport, WriteError,
};
use tidegate_io::transport::{Settings, connect, open};
use tidegate_io::{Buffers, Duplex, SinkConsumer, SourceProducer};
use tokio::runtime::Runtime;

use crate::cases::Cut;
use crate::digits::{Act, drive};
use crate::harness::{Ends, FarSide};
use crate::laws;
use crate::recorder;
use crate::support::{MemorySink, finish, pattern, read_all, read_some, until, within, write_all};
use crate::transport::{Does, Pushes, Recorder, two_way};

/// Enough that nothing waits for the kernel's timers.
const BUFFER_BYTES: usize = 256 * 1024;

type Kind = (&'static str, Cut, fn(&Runtime) -> Ends);

const KINDS: &[Kind] = &[
    ("tcp, connected", Cut::Shown, laws::tcp_connected::<BUFFER_BYTES>),
    ("tcp, accepted", Cut::Shown, laws::tcp_accepted::<BUFFER_BYTES>),
    ("unix", Cut::NotShown, laws::unix_connected::<BUFFER_BYTES>),
    ("pipe", Cut::NotShown, laws::fifo::<BUFFER_BYTES>),
    ("fd, pipe", Cut::NotShown, laws::adopted_pipe::<BUFFER_BYTES>),
    ("fd, socket", Cut::NotShown, laws::adopted_socket::<BUFFER_BYTES>),
    ("process", Cut::Shown, laws::child),
    #[cfg(feature = "tls")]
    ("tls, client", Cut::Shown, laws::tls_client::<BUFFER_BYTES>),
    #[cfg(feature = "tls")]
    ("tls, server", Cut::Shown, laws::tls_server::<BUFFER_BYTES>),
];

/// A consumer over a connection, and its far side.
struct Line {
    consumer: Arc<SinkConsumer>,
    far: FarSide,
    cut: Cut,
}

/// Plays over each kind; a failure is preceded by its name.
fn over_each(marks: Marks, play: impl AsyncFn(Line)) {
    for (name, cut, make) in KINDS {
        eprintln!("over {name}");
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .unwrap();
        let (sink, far) = make(&runtime);
        let entered = runtime.enter();
        let consumer = Arc::new(SinkConsumer::spawn(sink, marks));
        drop(entered);
        let line = Line {
            consumer,
            far,
            cut: *cut,
        };
        runtime.block_on(within(play(line)));
    }
}

impl Line {
    /// The next bytes that reach the far side, exactly so many.
    async fn next(&mut self, bytes: usize) -> Vec<u8> {
        let mut got = Vec::new();
        let mut buffers = Buffers::default();
        while got.len() < bytes {
            let most = bytes - got.len();
            let read = std::future::poll_fn(|cx| self.far.source.poll_read(cx, &mut buffers, most));
            got.extend_from_slice(&read.await.unwrap().expect("it ended"));
        }
        got
    }

    /// Nothing is on its way now.
    fn assert_silent(&mut self) {
        let mut context = Context::from_waker(Waker::noop());
        let read = self
            .far
            .source
            .poll_read(&mut context, &mut Buffers::default(), 1);
        assert!(matches!(read, Poll::Pending), "{read:?}");
        assert_eq!(self.consumer.held(), 0);
    }

    /// Everything else, to an end in good order.
    async fn rest(mut self) -> Vec<u8> {
        let mut all = read_all(&mut *self.far.source).await.unwrap();
        assert!(all.ends_with(self.far.mark), "it was cut short");
        all.truncate(all.len() - self.far.mark.len());
        all
    }

    /// The far side sees no end, where it can see that.
    async fn assert_cut(mut self) {
        if self.cut == Cut::Shown {
            let all = read_all(&mut *self.far.source).await;
            assert!(
                all.is_err() || !self.far.mark.is_empty() && !all.unwrap().ends_with(self.far.mark),
                "it looks finished"
            );
        }
    }
}

// E. a pull producer driven as a push producer

fn tiny() -> Marks {
    Marks::new(0, 1).unwrap()
}

/// Pauses and resumes its producer from inside the third write.
struct Nags {
    below: Arc<SinkConsumer>,
    writes: AtomicUsize,
    producer: Mutex<Option<Producer>>,
}

impl Consumer for Nags {
    fn register_producer(&self, producer: Producer) -> Result<(), AlreadyRegistered> {
        *self.producer.lock().unwrap() = Some(producer.clone());
        self.below.register_producer(producer)
    }
    fn unregister_producer(&self) {
        drop(self.producer.lock().unwrap().take());
        self.below.unregister_producer();
    }
    fn write(&self, data: Bytes) -> Result<Pressure, WriteError> {
        let producer = self.producer.lock().unwrap().clone();
        if self.writes.fetch_add(1, Ordering::Relaxed) == 2
            && let Some(Producer::Push(push)) = producer
        {
            push.pause_producing();
            push.resume_producing();
        }
        self.below.write(data)
    }
    fn write_list(&self, data: Vec<Bytes>) -> Result<Pressure, WriteError<Vec<Bytes>>> {
        self.below.write_list(data)
    }
}

impl FinishableConsumer for Nags {
    fn finish(&self) {
        self.below.finish();
    }
    fn abort(&self, reason: AbortReason) {
        self.below.abort(reason);
    }
}

/// CASES 90: paused and resumed in the midst of the third write, all ten arrive and nobody is asked again.
#[test]
fn a_pause_and_resume_inside_a_write_do_no_harm() {
    for marks in [Marks::TWISTED, tiny()] {
        over_each(marks, async |line| {
            let nags = Arc::new(Nags {
                below: line.consumer.clone(),
                writes: AtomicUsize::new(0),
                producer: Mutex::default(),
            });
            let (digits, _driven) = drive(nags, |_| Act::Write);
            until("all were asked for", || digits.pulls() == 10).await;
            line.consumer.finish();
            assert_eq!(line.rest().await, b"0123456789");
            assert_eq!((digits.pulls(), digits.stops().len()), (10, 0));
        });
    }
}

/// CASES 91: the device goes after the third write: the source is stopped once, and it is over.
#[test]
fn a_stop_reaches_a_pulled_source() {
    over_each(Marks::TWISTED, async |mut line| {
        let at = |digit| if digit < 3 { Act::Write } else { Act::Nothing };
        let (digits, driven) = drive(line.consumer.clone(), at);
        assert_eq!(line.next(3).await, b"012");
        line.far.others.kill();
        drop(line.far.source);
        driven.outcome().await.unwrap_err();
        let stops = digits.stops();
        assert!(matches!(stops[..], [StopReason::Failed(_)]), "{stops:?}");
        assert_eq!(digits.pulls(), 4);
    });
}

/// CASES 93: law 14 instead of two lines in a log: a source that panics when the device has room for its third piece ends
/// its registration and the stream, which is cut short, with that reason.
#[test]
fn a_panic_of_a_pulled_source_aborts() {
    over_each(tiny(), async |line| {
        let at = |digit| if digit == 2 { Act::Panic } else { Act::Write };
        let (digits, driven) = drive(line.consumer.clone(), at);
        let stopped = line.consumer.outcome().await.unwrap_err();
        assert!(
            matches!(stopped, StopReason::Aborted(AbortReason::Panicked(_))),
            "{stopped:?}"
        );
        driven.outcome().await.unwrap_err();
        assert_eq!(digits.pulls(), 3);
        line.assert_cut().await;
    });
}

/// CASES 94: stopping twice is no error and stops once; the stream is cut short.
#[test]
fn stopping_twice_is_silent() {
    over_each(Marks::TWISTED, async |mut line| {
        let at = |digit| if digit < 3 { Act::Write } else { Act::Nothing };
        let (digits, driven) = drive(line.consumer.clone(), at);
        assert_eq!(line.next(3).await, b"012");
        driven.stop();
        driven.stop();
        assert_eq!(digits.stops().len(), 1);
        line.consumer.outcome().await.unwrap_err();
        line.assert_cut().await;
    });
}

// H. shaping: the time is what the test says it is

fn rate(per_second: u64, burst: u64) -> Rate {
    let bytes = |n| NonZeroU64::new(n).unwrap();
    Rate::per_second(bytes(per_second)).with_burst(bytes(burst))
}

const fn seconds(n: u64) -> Duration {
    Duration::from_secs(n)
}

fn bytes(count: usize) -> Bytes {
    Bytes::from(vec![b'y'; count])
}

/// A shaper whose credit is spent.
fn spent(line: &Line, rate: Rate) -> Shaper {
    let limiter = Limiter::new(rate, Duration::ZERO);
    limiter.spend(rate.burst_bytes.get(), Duration::ZERO);
    Shaper::new(line.consumer.clone(), Marks::TWISTED, limiter, Duration::ZERO).unwrap()
}

/// CASES 130: rate 2, nothing left, ten seconds: of a hundred bytes exactly twenty reach the far side.
#[test]
fn ten_seconds_let_twenty_bytes_through() {
    over_each(Marks::TWISTED, async |mut line| {
        let shaper = spent(&line, rate(2, 100));
        let _ = shaper.write(bytes(100)).unwrap();
        line.assert_silent();
        let _ = shaper.tick(seconds(10), Waker::noop());
        assert_eq!(line.next(20).await.len(), 20);
        line.assert_silent();
        assert_eq!(shaper.held(), 80);
        shaper.finish();
        let _ = shaper.tick(seconds(60), Waker::noop());
        assert_eq!(line.rest().await.len(), 80);
    });
}

/// CASES B46: without a token nothing passes; with nobody's poke but the clock's all does, and then the end.
#[test]
fn held_bytes_pass_when_tokens_return() {
    over_each(Marks::TWISTED, async |mut line| {
        let shaper = spent(&line, rate(1, 8));
        let _ = shaper.write(bytes(5)).unwrap();
        shaper.finish();
        line.assert_silent();
        let mut now = Duration::ZERO;
        while let Some(next) = shaper.tick(now, Waker::noop()) {
            assert!(next > now, "time does not stand still");
            now = next;
        }
        assert_eq!((now, line.rest().await.len()), (seconds(5), 5));
    });
}

/// CASES B47: a pull source above a spent shaper is asked as its marks allow, however much room the device has.
#[test]
fn a_pull_source_above_a_spent_shaper_is_bounded() {
    over_each(Marks::TWISTED, async |mut line| {
        let shaper = spent(&line, rate(1, 8));
        let upstream = recorder::Recorder::new();
        shaper.register_producer(upstream.pull()).unwrap();
        for _ in 0..20 {
            let _ = shaper.write(bytes(10));
            tokio::task::yield_now().await;
        }
        line.assert_silent();
        assert_eq!((upstream.heard().as_str(), shaper.held()), ("R", 200));
        line.far.others.kill();
        drop(line.far.source);
        until("stopped", || upstream.heard() == "S").await;
        assert!(matches!(
            upstream.reason(),
            StopReason::Aborted(_) | StopReason::Failed(_)
        ));
    });
}

// I. throttling

fn throttled(line: &Line, group: &Throttle) -> Throttled {
    Throttled::new(line.consumer.clone(), Marks::TWISTED, group).unwrap()
}

/// CASES 132: bytes that were written are never delayed, and all of them count.
#[test]
fn a_list_passes_in_one_go_and_counts_whole() {
    over_each(Marks::TWISTED, async |mut line| {
        let group = Throttle::new(rate(10, 10), None, Duration::ZERO);
        let stream = throttled(&line, &group);
        let _ = stream.write_list(vec![bytes(5); 4]).unwrap();
        assert_eq!((line.next(20).await.len(), group.counted()), (20, 20));
    });
}

/// CASES 133, where the law is stronger: a token bucket shapes, so the producer is paused at the write that overdraws; its
/// bytes travel all the same.
#[test]
fn a_write_beyond_the_rate_pauses_until_time_has_paid() {
    over_each(Marks::TWISTED, async |mut line| {
        let group = Throttle::new(rate(10, 10), None, Duration::ZERO);
        let stream = throttled(&line, &group);
        let producer = recorder::Recorder::new();
        stream.register_producer(producer.push()).unwrap();
        assert_eq!(stream.write(bytes(10)).unwrap(), Pressure::Open);
        assert_eq!(stream.write(bytes(10)).unwrap(), Pressure::Full);
        assert_eq!((producer.heard().as_str(), line.next(20).await.len()), ("P", 20));
        let _ = group.tick(Duration::from_millis(999), Waker::noop());
        assert_eq!(producer.heard(), "");
        let _ = group.tick(seconds(1), Waker::noop());
        assert_eq!(producer.heard(), "R");
        stream.unregister_producer();
        stream.finish();
        assert_eq!(line.rest().await, b"");
    });
}

/// CASES B50: with nobody registered there is no error; a pull source is delayed, not paused.
#[test]
fn a_throttle_needs_no_producer_and_delays_a_pull_source() {
    over_each(Marks::TWISTED, async |mut line| {
        let group = Throttle::new(rate(10, 10), NonZeroUsize::new(1), Duration::ZERO);
        let stream = throttled(&line, &group);
        let _ = stream.write(bytes(30)).unwrap();
        stream.unregister_producer();
        assert_eq!(line.next(30).await.len(), 30);
        let source = recorder::Recorder::new();
        stream.register_producer(source.pull()).unwrap();
        assert_eq!(source.heard(), "");
        let _ = group.tick(seconds(2), Waker::noop());
        assert_eq!(source.heard(), "R");
    });
}

/// CASES B52: two throttles on one gate, until 5 s and until 7 s: one pause, one resume, at 7 s.
#[test]
fn overlapping_throttles_are_two_holds() {
    over_each(Marks::TWISTED, async |line| {
        let groups = [5, 7].map(|_| Throttle::new(rate(1, 1), None, Duration::ZERO));
        let stream = Arc::new(throttled(&line, &groups[0]));
        let also = Arc::downgrade(&stream);
        let member = groups[1].join(move || Some(also.upgrade()?.hold(HoldReason::Shaped)));
        let member = member.unwrap();
        let producer = recorder::Recorder::new();
        stream.register_producer(producer.push()).unwrap();
        let _ = stream.write(bytes(6)).unwrap(); // one of credit, five owed
        member.passed(8);
        let mut heard = Vec::new();
        for now in 1..=8 {
            for group in &groups {
                let _ = group.tick(seconds(now), Waker::noop());
            }
            heard.push((now, producer.heard()));
        }
        heard.retain(|(_, signals)| !signals.is_empty());
        assert_eq!(heard, [(1, "P".to_owned()), (7, "R".to_owned())]);
        stream.unregister_producer();
        stream.finish();
        assert_eq!(line.rest().await.len(), 6);
    });
}

// F and I. protocols

/// CASES 139: what travels to a descriptor is data received by a protocol that is a consumer of it: once, whole, then the end.
#[test]
fn a_protocol_is_the_consumer_of_any_source() {
    over_each(Marks::TWISTED, async |line| {
        let _ = line.consumer.write(Bytes::from_static(b"hello")).unwrap();
        line.consumer.finish();
        let heard = Recorder::new(Does::Nothing);
        let (answers, _seen) = MemorySink::new();
        let answers = Arc::new(SinkConsumer::spawn(answers, Marks::default()));
        let adapted = ProtocolConsumer::new(heard.clone(), answers, Marks::TWISTED).unwrap();
        SourceProducer::push(line.far.source, Arc::new(adapted))
            .unwrap()
            .await
            .unwrap();
        assert_eq!(heard.heard(), [b"hello", line.far.mark].concat());
        assert_eq!(heard.events(), "mel");
    });
}

/// CASES 99, 103: what each side wrote before one closed arrives, in order, and each is told its loss once.
#[tokio::test]
async fn both_sides_get_what_was_written_before_a_close() {
    for (name, client, server) in two_way().await {
        let ends = [Recorder::new(Does::Nothing), Recorder::new(Does::Nothing)];
        let run = |end: Duplex, protocol: &Arc<Recorder>| {
            tokio::spawn(connect(end, protocol.clone(), Settings::default()))
        };
        let running = [run(client, &ends[0]), run(server, &ends[1])];
        until("made", || ends.iter().all(|end| end.events() == "m")).await;
        let write = |end: &Recorder, text: &'static str| {
            let _ = end
                .transport()
                .write(Bytes::from_static(text.as_bytes()))
                .unwrap();
        };
        write(&ends[0], "foo");
        write(&ends[0], "bar");
        write(&ends[1], "baz");
        write(&ends[1], "quux");
        ends[1].transport().lose_write_connection();
        for running in running {
            assert!(matches!(within(running).await.unwrap(), Loss::Clean), "{name}");
        }
        assert_eq!(
            (ends[0].heard(), ends[1].heard()),
            (b"bazquux".to_vec(), b"foobar".to_vec()),
            "{name}"
        );
        assert!(ends.iter().all(|end| end.events() == "mel"), "{name}");
    }
}

/// CASES 136: what is asked of the transport reaches the gate of the connection: one producer, which is paused and resumed,
/// and whose going leaves the connection to be closed.
#[tokio::test]
async fn a_transport_passes_registrations_on() {
    for (name, near, mut far) in two_way().await {
        let protocol = Recorder::new(Does::Nothing);
        let settings = Settings {
            marks: Marks::TWISTED,
            ..Settings::default()
        };
        let running = tokio::spawn(connect(near, protocol.clone(), settings));
        until("made", || protocol.events() == "m").await;
        let (first, second) = (Arc::new(Pushes::default()), Arc::new(Pushes::default()));
        let transport = protocol.transport();
        transport
            .register_producer(Producer::push(first.clone()))
            .unwrap();
        transport
            .register_producer(Producer::push(second.clone()))
            .unwrap_err();
        let all = pattern(3_000_000);
        assert_eq!(transport.write(all.clone().into()).unwrap(), Pressure::Full);
        assert_eq!(first.heard(), "P", "{name}");
        let mut got = Vec::new();
        while got.len() < all.len() {
            got.extend_from_slice(&read_some(&mut *far.source).await.unwrap().unwrap());
        }
        assert!(got == all, "{name}");
        until("resumed", || first.heard() == "PR").await;
        transport.unregister_producer();
        transport.lose_write_connection();
        assert!(read_some(&mut *far.source).await.unwrap().is_none(), "{name}");
        finish(&mut *far.sink).await.unwrap();
        assert!(matches!(within(running).await.unwrap(), Loss::Clean), "{name}");
        assert_eq!((first.heard().as_str(), second.heard().as_str()), ("PR", ""));
    }
}

/// A protocol of lines that holds reading after each.
#[derive(Default)]
struct Lines {
    transport: OnceLock<Arc<dyn Transport>>,
    state: Mutex<LineState>,
}

#[derive(Default)]
struct LineState {
    received: usize,
    buffer: Vec<u8>,
    lines: Vec<String>,
    hold: Option<ReadHold>,
}

impl Lines {
    /// Delivers lines until one pauses.
    fn split(&self) {
        let mut state = self.state.lock().unwrap();
        if state.hold.is_none()
            && let Some(at) = state.buffer.windows(2).position(|two| two == b"\r\n")
        {
            let line: Vec<u8> = state.buffer.drain(..at + 2).take(at).collect();
            state.lines.push(String::from_utf8(line).unwrap());
            drop(state);
            let hold = self.transport.get().unwrap().hold_reading();
            self.state.lock().unwrap().hold = Some(hold);
        }
    }

    /// What is left is looked at before the connection is read on.
    fn resume(&self) {
        let hold = self.state.lock().unwrap().hold.take();
        self.split();
        drop(hold);
    }

    /// Bytes received, lines delivered, and whether reading is held.
    fn now(&self) -> (usize, usize, bool) {
        let state = self.state.lock().unwrap();
        (state.received, state.lines.len(), state.hold.is_some())
    }
}

impl Protocol for Lines {
    fn connection_made(&self, transport: Arc<dyn Transport>) {
        let _ = self.transport.set(transport);
    }
    fn data_received(&self, data: Bytes) {
        let mut state = self.state.lock().unwrap();
        assert!(state.hold.is_none(), "data while reading is held");
        state.received += data.len();
        state.buffer.extend_from_slice(&data);
        drop(state);
        self.split();
    }
    fn end_received(&self) -> HalfClose {
        HalfClose::Close
    }
    fn connection_lost(&self, _loss: Loss) {}
}

/// CASES 141: lines come one a resume, and the connection is not read while the protocol is paused.
#[tokio::test]
async fn a_line_protocol_pauses_after_each_line() {
    for (name, near, mut far) in two_way().await {
        eprintln!("over {name}");
        let lines = Arc::new(Lines::default());
        let (_connection, opened) = open(near, Settings::default());
        let running = tokio::spawn(opened.run(lines.clone()));
        let mut sent = 0;
        let mut write = async |text: &'static str| {
            write_all(&mut *far.sink, text).await.unwrap();
            sent += text.len();
            sent
        };
        let is = async |wanted| until("as expected", || lines.now() == wanted).await;
        let received = write("hello, ").await;
        is((received, 0, false)).await;
        let received = write("world\r\n").await;
        is((received, 1, true)).await;
        lines.resume();
        assert_eq!(lines.now(), (received, 1, false));
        let received = write("hello\r\nworld\r\n").await;
        is((received, 2, true)).await;
        lines.resume();
        assert_eq!(lines.now(), (received, 3, true));
        let all = write("goodbye\r\n").await;
        tokio::time::sleep(Duration::from_millis(20)).await;
        assert_eq!(lines.now(), (received, 3, true), "read while held");
        lines.resume();
        is((all, 4, true)).await;
        lines.resume();
        assert_eq!(lines.now(), (all, 4, false));
        finish(&mut *far.sink).await.unwrap();
        assert!(matches!(within(running).await.unwrap(), Loss::Clean));
        assert_eq!(
            lines.state.lock().unwrap().lines,
            ["hello, world", "hello", "world", "goodbye"]
        );
    }
}
