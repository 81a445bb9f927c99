//! Scenarios of protocols: the adapters either way, the loopback and the relay. Knows nothing of sockets.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Mutex, OnceLock};

use bytes::Bytes;
use tidegate::loopback::{self, Loopback, Relay, Turned};
use tidegate::{
    AbortReason, Consumer, ConsumerProtocol, FinishableConsumer, HalfClose, Loss, Marks, Pressure, Producer,
    Protocol, ProtocolConsumer, PullProducer, ReadHold, StopReason, Transport,
};

use crate::dam::Dam;
use crate::recorder::Recorder;

/// A protocol that writes down what happens to it, and can be told what to do then.
struct Peer {
    transport: OnceLock<Arc<dyn Transport>>,
    events: Mutex<Vec<String>>,
    on_data: fn(&Peer),
    on_end: fn(&Peer) -> HalfClose,
    hold: Mutex<Option<ReadHold>>,
}

impl Peer {
    fn new() -> Arc<Self> {
        Self::with(|_| (), |_| HalfClose::Close)
    }

    fn with(on_data: fn(&Peer), on_end: fn(&Peer) -> HalfClose) -> Arc<Self> {
        Arc::new(Self {
            transport: OnceLock::new(),
            events: Mutex::default(),
            on_data,
            on_end,
            hold: Mutex::default(),
        })
    }

    fn transport(&self) -> &Arc<dyn Transport> {
        self.transport.get().unwrap()
    }

    fn write(&self, text: &'static str) {
        let _ = self
            .transport()
            .write(Bytes::from_static(text.as_bytes()))
            .unwrap();
    }

    fn hold_reading(&self) {
        let hold = self.transport().hold_reading();
        *self.hold.lock().unwrap() = Some(hold);
    }

    fn release(&self) {
        let hold = self.hold.lock().unwrap().take();
        drop(hold);
    }

    fn note(&self, event: impl Into<String>) {
        self.events.lock().unwrap().push(event.into());
    }

    /// What happened since the last time.
    fn events(&self) -> Vec<String> {
        std::mem::take(&mut *self.events.lock().unwrap())
    }
}

impl Protocol for Peer {
    fn connection_made(&self, transport: Arc<dyn Transport>) {
        assert!(self.transport.set(transport).is_ok(), "connected twice");
    }

    fn data_received(&self, data: Bytes) {
        assert!(!data.is_empty());
        self.note(String::from_utf8(data.to_vec()).unwrap());
        (self.on_data)(self);
    }

    fn end_received(&self) -> HalfClose {
        self.note("END");
        (self.on_end)(self)
    }

    fn connection_lost(&self, loss: Loss) {
        self.note(match loss {
            Loss::Clean => "lost".to_owned(),
            Loss::Cut(reason) => format!("cut: {reason}"),
        });
    }
}

fn join(one: &Arc<Peer>, other: &Arc<Peer>) -> Loopback {
    Loopback::new(one.clone(), other.clone(), Marks::TWISTED, loopback::identity)
}

/// CASES 99: each side's pieces and its end come in turns, in order, and never inside a write; then both are told.
#[test]
fn both_sides_get_what_was_written_before_a_close() {
    let seen = Arc::new(Mutex::new(Vec::new()));
    let (client, server) = (Peer::new(), Peer::new());
    let pumped = Arc::clone(&seen);
    let between = Loopback::new(client.clone(), server.clone(), Marks::TWISTED, move |held| {
        pumped.lock().unwrap().push(held.len());
        loopback::identity(held)
    });
    client.write("foo");
    client.write("bar");
    server.write("baz");
    server.write("quux");
    server.transport().lose_write_connection();
    assert!(client.events().is_empty() && server.events().is_empty());
    assert_eq!(between.turn(), Turned::Moved);
    // The client ends its direction in answer to the end, so both are told within the turn.
    assert_eq!(client.events(), ["baz", "quux", "END", "lost"]);
    assert_eq!(server.events(), ["foo", "bar", "END", "lost"]);
    assert_eq!(between.turn(), Turned::Quiet);
    assert_eq!(*seen.lock().unwrap(), [2, 1, 2, 1]);
}

/// CASES 99: who closes altogether drops what still comes, and its peer is not cut short.
#[test]
fn closing_drops_what_still_comes() {
    let (client, server) = (Peer::new(), Peer::new());
    let between = join(&client, &server);
    client.write("foo");
    server.write("bye");
    server.transport().lose_connection();
    between.run(10);
    assert_eq!(client.events(), ["bye", "END", "lost"]);
    assert_eq!(server.events(), ["lost"]);
}

/// CASES 100: as written, or all of a turn in one piece; a pump of its own may cut anywhere, and order stands.
#[test]
fn a_pump_decides_where_the_cuts_are() {
    type Pump = fn(&[Bytes]) -> usize;
    let pumps: [(Pump, &[&str]); 4] = [
        (loopback::identity, &["foo", "bar"]),
        (loopback::collapsing, &["foobar"]),
        (|_| 4, &["foob", "ar"]),
        (|_| 0, &["f", "o", "o", "b", "a", "r"]),
    ];
    for (pump, expected) in pumps {
        let (client, server) = (Peer::new(), Peer::new());
        let between = Loopback::new(client.clone(), server.clone(), Marks::TWISTED, pump);
        client.write("foo");
        client.write("bar");
        assert_eq!(between.turn(), Turned::Moved);
        assert_eq!(server.events(), expected);
    }
}

/// CASES 96, 97 (D85): the marks hold in memory too, push and pull, and loss stops the producer.
#[test]
fn a_loopback_controls_the_flow() {
    let (client, server) = (Peer::new(), Peer::new());
    let between = join(&client, &server);
    let producer = Recorder::new();
    client.transport().register_producer(producer.push()).unwrap();
    let _ = client.transport().write(Bytes::from(vec![b'y'; 70_000]));
    assert_eq!(producer.heard(), "P");
    server.hold_reading();
    assert_eq!(between.run(10), 0);
    assert_eq!(producer.heard(), "");
    server.release();
    between.run(10);
    assert_eq!(producer.heard(), "R");
    server.transport().abort_connection(AbortReason::TimedOut);
    assert_eq!(producer.heard(), "S");
    assert!(matches!(
        producer.reason(),
        StopReason::Aborted(AbortReason::TimedOut)
    ));
}

/// CASES 15, 18: an abort is seen by both, once, cut short, and not inside the call that caused it.
#[test]
fn an_abort_cuts_both_sides_in_the_next_turn() {
    let (client, server) = (Peer::new(), Peer::new());
    let between = join(&client, &server);
    client.write("never seen");
    client.transport().abort_connection(AbortReason::Requested);
    assert!(client.events().is_empty() && server.events().is_empty());
    between.run(10);
    assert_eq!(client.events(), ["cut: aborted on request"]);
    assert_eq!(server.events(), ["cut: aborted on request"]);
    drop(between);
    assert!(client.events().is_empty());
}

/// CASES 102, 103 (D86): a relay delivers all that came in one piece, and the loss once.
#[test]
fn a_relay_delivers_everything_at_once() {
    let target = Peer::new();
    let relay = Relay::new(target.clone(), Arc::new(Dam::open()), Marks::TWISTED).unwrap();
    for list in [["a", "b"], ["c", "d"]] {
        let list = list.map(|text| Bytes::from_static(text.as_bytes())).to_vec();
        let _ = relay.write_list(list).unwrap();
    }
    assert_eq!(relay.clear(), Turned::Moved);
    assert_eq!(target.events(), ["abcd"]);
    let _ = relay.write(Bytes::from_static(b"abc")).unwrap();
    relay.finish();
    assert!(target.events().is_empty());
    assert_eq!(relay.clear(), Turned::Moved);
    assert_eq!(target.events(), ["abc", "END", "lost"]);
    assert_eq!(relay.clear(), Turned::Quiet);
    drop(relay);
    assert!(target.events().is_empty());
}

/// A turn inside a turn, as from another thread: the inner one finds the outer under way and leaves the account whole.
#[test]
fn a_relay_bears_a_turn_inside_a_turn() {
    static RELAY: OnceLock<Arc<Relay>> = OnceLock::new();
    let again = |_: &Peer| {
        if let Some(relay) = RELAY.get() {
            assert_eq!(relay.clear(), Turned::Quiet);
        }
    };
    let target = Peer::with(again, |_| HalfClose::Close);
    let relay = Arc::new(Relay::new(target.clone(), Arc::new(Dam::open()), Marks::TWISTED).unwrap());
    let _ = RELAY.set(Arc::clone(&relay));
    for text in ["abc", "d"] {
        let _ = relay.write(Bytes::from_static(text.as_bytes())).unwrap();
        assert_eq!(relay.clear(), Turned::Moved);
        assert_eq!(target.events(), [text]);
        assert_eq!(relay.held(), 0);
    }
}

/// CASES 24: closing twice over, in the notice of the half-close, closes once.
#[test]
fn a_double_half_close_closes_once() {
    let closes = |peer: &Peer| {
        peer.transport().lose_write_connection();
        peer.transport().lose_connection();
        HalfClose::Close
    };
    let (client, server) = (Peer::with(|_| (), closes), Peer::new());
    let between = join(&client, &server);
    server.transport().lose_write_connection();
    between.run(10);
    assert_eq!(client.events(), ["END", "lost"]);
    assert_eq!(server.events(), ["END", "lost"]);
}

/// Half-close: who keeps writing ends its direction itself, and is heard to the end.
#[test]
fn a_half_closed_connection_goes_on_one_way() {
    let (client, server) = (Peer::with(|_| (), |_| HalfClose::KeepWriting), Peer::new());
    let between = join(&client, &server);
    server.transport().lose_write_connection();
    between.run(10);
    client.write("still talking");
    between.run(10);
    assert_eq!(server.events(), ["still talking"]);
    client.transport().lose_write_connection();
    between.run(10);
    assert_eq!(client.events(), ["END", "lost"]);
    assert_eq!(server.events(), ["END", "lost"]);
}

/// CASES 25: a protocol that panics at the half-close loses its connection with that, and the panic goes on.
#[test]
fn a_panic_at_the_half_close_cuts_the_connection() {
    let (client, server) = (Peer::with(|_| (), |_| panic!("a scripted panic")), Peer::new());
    let between = join(&client, &server);
    server.transport().lose_write_connection();
    assert!(catch_unwind(AssertUnwindSafe(|| between.turn())).is_err());
    between.run(10);
    assert_eq!(
        client.events(),
        ["END", "cut: a producer panicked: a scripted panic"]
    );
    assert_eq!(server.events(), ["cut: a producer panicked: a scripted panic"]);
}

/// Law 14, for protocols: a panic while data comes in cuts the connection for both.
#[test]
fn a_panic_at_data_cuts_the_connection() {
    let (client, server) = (
        Peer::with(|_| panic!("a scripted panic"), |_| HalfClose::Close),
        Peer::new(),
    );
    let between = join(&client, &server);
    server.write("boom");
    assert!(catch_unwind(AssertUnwindSafe(|| between.turn())).is_err());
    between.run(10);
    assert_eq!(client.events()[0], "boom");
    assert_eq!(server.events().len(), 1);
}

/// CASES 139: what is written is received, once, at once.
#[test]
fn a_write_is_data_received() {
    let peer = Peer::new();
    let consumer = ProtocolConsumer::new(peer.clone(), Arc::new(Dam::open()), Marks::TWISTED).unwrap();
    let _ = consumer.write(Bytes::from_static(b"hello")).unwrap();
    assert_eq!(peer.events(), ["hello"]);
    let _ = consumer.write(Bytes::new()).unwrap();
    assert!(peer.events().is_empty());
}

/// CASES 136 (A8): what is asked of the transport reaches the consumer behind it.
#[test]
fn a_transport_passes_registrations_on() {
    let (peer, answers) = (Peer::new(), Arc::new(Dam::closed()));
    let consumer = ProtocolConsumer::new(peer.clone(), answers.clone(), Marks::TWISTED).unwrap();
    let producer = Recorder::new();
    peer.transport().register_producer(producer.push()).unwrap();
    assert_eq!(producer.heard(), "P");
    assert!(
        peer.transport()
            .register_producer(Recorder::new().push())
            .is_err()
    );
    answers.open_for(100);
    assert_eq!(producer.heard(), "R");
    peer.transport().unregister_producer();
    peer.write("bye");
    peer.transport().lose_write_connection();
    assert_eq!(
        answers.0.lock().unwrap().events,
        ["bye", "unregister", "finished"]
    );
    consumer.finish();
    assert_eq!(peer.events(), ["END", "lost"]);
}

/// A file sender in small: a pull producer over a text, four bytes a pull.
struct Sender {
    to: Arc<dyn Consumer>,
    left: Mutex<Bytes>,
}

impl PullProducer for Sender {
    fn resume_producing(&self) {
        let chunk = {
            let mut left = self.left.lock().unwrap();
            let bytes = left.len().min(4);
            left.split_to(bytes)
        };
        if chunk.is_empty() {
            self.to.unregister_producer();
        } else {
            let _ = self.to.write(chunk);
        }
    }

    fn stop_producing(&self, _: StopReason) {}
}

/// CASES B65 (D114): a pull producer is pulled until all has reached the protocol, however often it holds reading.
#[test]
fn a_pull_source_is_pulled_through_the_adapter() {
    let peer = Peer::with(Peer::hold_reading, |_| HalfClose::Close);
    let consumer =
        Arc::new(ProtocolConsumer::new(peer.clone(), Arc::new(Dam::open()), Marks::TWISTED).unwrap());
    let left = Mutex::new(Bytes::from_static(b"Test content"));
    let to = Arc::clone(&consumer) as Arc<dyn Consumer>;
    consumer
        .register_producer(Producer::pull(Arc::new(Sender { to, left })))
        .unwrap();
    consumer.finish();
    for expected in ["Test", " con", "tent"] {
        assert_eq!(peer.events(), [expected]);
        assert_eq!(consumer.held(), 0);
        peer.release();
    }
    assert_eq!(peer.events(), ["END", "lost"]);
    assert!(consumer.outcome().now().unwrap().is_ok());
}

/// D114: a push producer feels a protocol that holds reading, at once; what is written all the same waits.
#[test]
fn a_read_hold_pauses_the_producer() {
    let peer = Peer::new();
    let consumer = ProtocolConsumer::new(peer.clone(), Arc::new(Dam::open()), Marks::TWISTED).unwrap();
    let producer = Recorder::new();
    consumer.register_producer(producer.push()).unwrap();
    peer.hold_reading();
    assert_eq!(producer.heard(), "P");
    assert_eq!(
        consumer.write(Bytes::from_static(b"late")).unwrap(),
        Pressure::Full
    );
    assert!(peer.events().is_empty());
    peer.release();
    assert_eq!(peer.events(), ["late"]);
    assert_eq!(producer.heard(), "R");
}

/// A protocol of lines that pauses after each: the hold is the pause of its transport.
#[derive(Default)]
struct Lines {
    transport: OnceLock<Arc<dyn Transport>>,
    state: Mutex<LineState>,
}

#[derive(Default)]
struct LineState {
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

    fn resume(&self) {
        let hold = self.state.lock().unwrap().hold.take();
        self.split();
        drop(hold);
    }

    fn lines(&self) -> usize {
        self.state.lock().unwrap().lines.len()
    }
}

impl Protocol for Lines {
    fn connection_made(&self, transport: Arc<dyn Transport>) {
        assert!(self.transport.set(transport).is_ok());
    }

    fn data_received(&self, data: Bytes) {
        self.state.lock().unwrap().buffer.extend_from_slice(&data);
        self.split();
    }

    fn connection_lost(&self, _: Loss) {}
}

/// CASES 141: lines come one a resume; the producer is paused exactly while the protocol is.
#[test]
fn a_line_protocol_pauses_after_each_line() {
    let lines = Arc::new(Lines::default());
    let consumer = ProtocolConsumer::new(lines.clone(), Arc::new(Dam::open()), Marks::TWISTED).unwrap();
    let producer = Recorder::new();
    consumer.register_producer(producer.push()).unwrap();
    let write = |text: &'static str| {
        let _ = consumer.write(Bytes::from_static(text.as_bytes())).unwrap();
    };
    let mut paused = false;
    let mut check = |expected_lines: usize, expected_paused: bool| {
        for signal in producer.heard().chars() {
            paused = signal == 'P';
        }
        assert_eq!((lines.lines(), paused), (expected_lines, expected_paused));
    };
    write("hello, ");
    check(0, false);
    write("world\r\n");
    check(1, true);
    lines.resume();
    check(1, false);
    write("hello\r\nworld\r\n");
    check(2, true);
    lines.resume();
    check(3, true);
    write("goodbye\r\n");
    check(3, true);
    lines.resume();
    check(4, true);
    lines.resume();
    check(4, false);
    assert_eq!(
        lines.state.lock().unwrap().lines,
        ["hello, world", "hello", "world", "goodbye"]
    );
}

/// A protocol that becomes another one once its far side is known: what a port forwarder does before it is connected.
#[derive(Default)]
struct Forwards {
    transport: OnceLock<Arc<dyn Transport>>,
    to: OnceLock<ConsumerProtocol>,
}

impl Forwards {
    fn join(one: &Self, other: &Self) {
        for (from, to) in [(one, other), (other, one)] {
            let to: Arc<dyn FinishableConsumer> = to.transport.get().unwrap().clone();
            let protocol = ConsumerProtocol::new(to);
            protocol.connection_made(from.transport.get().unwrap().clone());
            assert!(from.to.set(protocol).is_ok());
        }
    }

    fn to(&self) -> &ConsumerProtocol {
        self.to.get().unwrap()
    }
}

impl Protocol for Forwards {
    fn connection_made(&self, transport: Arc<dyn Transport>) {
        assert!(self.transport.set(transport).is_ok());
    }

    fn data_received(&self, data: Bytes) {
        self.to().data_received(data);
    }

    fn end_received(&self) -> HalfClose {
        let _ = self.to().end_received();
        HalfClose::KeepWriting
    }

    fn connection_lost(&self, loss: Loss) {
        self.to().connection_lost(loss);
    }
}

/// A client, a forwarder and a server in a row.
fn forwarded(client: &Arc<Peer>, server: &Arc<Peer>) -> [Loopback; 2] {
    let (near, far) = (Arc::new(Forwards::default()), Arc::new(Forwards::default()));
    let marks = Marks::new(0, 100).unwrap();
    let loops = [
        Loopback::new(client.clone(), near.clone(), marks, loopback::identity),
        Loopback::new(far.clone(), server.clone(), marks, loopback::identity),
    ];
    Forwards::join(&near, &far);
    loops
}

fn run(loops: &[Loopback; 2]) {
    for _ in 0..1_000 {
        if loops.iter().all(|one| one.turn() == Turned::Quiet) {
            return;
        }
    }
    panic!("the connections never come to rest");
}

/// CASES 138: a thousand bytes through a forwarder to an echo and back.
#[test]
fn a_forwarder_carries_both_ways() {
    let echo = |peer: &Peer| {
        let said = peer.events.lock().unwrap().pop().unwrap();
        let _ = peer.transport().write(Bytes::from(said)).unwrap();
    };
    let (client, server) = (Peer::new(), Peer::with(echo, |_| HalfClose::Close));
    let loops = forwarded(&client, &server);
    let said: String = ('a'..='z').cycle().take(1_000).collect();
    for piece in said.as_bytes().chunks(40) {
        let _ = client.transport().write(Bytes::copy_from_slice(piece)).unwrap();
    }
    client.transport().lose_write_connection();
    run(&loops);
    let mut heard = client.events();
    assert_eq!(heard.split_off(heard.len() - 2), ["END", "lost"]);
    assert_eq!(heard.concat(), said);
}

/// CASES B53 (D83, D84): the near side ends while the far one is full; the far one gets everything, then its end.
#[test]
fn a_forwarder_drains_before_it_closes() {
    let (client, server) = (Peer::new(), Peer::new());
    let loops = forwarded(&client, &server);
    let producer = Recorder::new();
    client.transport().register_producer(producer.push()).unwrap();
    let mut sent = 0;
    while !producer.heard().contains('P') {
        sent += 90;
        let _ = client.transport().write(Bytes::from(vec![b'y'; 90])).unwrap();
        // The far side stands still.
        let _ = loops[0].turn();
    }
    assert!(sent <= 600, "the far side's fill is felt at the near one: {sent}");
    client.transport().unregister_producer();
    client.transport().lose_connection();
    while loops[0].turn() == Turned::Moved {}
    assert_eq!(server.events(), [""; 0]);
    run(&loops);
    let mut heard = server.events();
    assert_eq!(heard.split_off(heard.len() - 2), ["END", "lost"]);
    assert_eq!(heard.concat().len(), sent);
}

/// Law 10, for adapters: a connection that is cut aborts the consumer; a consumer that dies cuts the connection.
#[test]
fn reasons_travel_through_a_consumer_protocol() {
    let (peer, below) = (Peer::new(), Arc::new(Dam::open()));
    let adapted = Arc::new(ConsumerProtocol::new(below.clone()));
    let between = Loopback::new(peer.clone(), adapted, Marks::TWISTED, loopback::identity);
    peer.write("half of");
    between.run(10);
    peer.transport().abort_connection(AbortReason::TimedOut);
    between.run(10);
    assert_eq!(
        below.0.lock().unwrap().events,
        ["half of", "unregister", "aborted"]
    );
    assert!(matches!(
        below.0.lock().unwrap().reason,
        Some(AbortReason::TimedOut)
    ));

    let (peer, below) = (Peer::new(), Arc::new(Dam::open()));
    let adapted = Arc::new(ConsumerProtocol::new(below.clone()));
    let between = Loopback::new(peer.clone(), adapted, Marks::TWISTED, loopback::identity);
    below.die();
    between.run(10);
    assert_eq!(
        peer.events(),
        ["cut: stopped from below: the consumer failed: the device died"]
    );
}

/// Law 16: when a connection is lost, it lets go of its protocols.
#[test]
fn a_lost_connection_lets_go_of_its_protocols() {
    let (client, server) = (Peer::new(), Peer::new());
    let between = join(&client, &server);
    client.transport().lose_connection();
    between.run(10);
    assert_eq!((Arc::strong_count(&client), Arc::strong_count(&server)), (1, 1));
    let (client, server) = (Peer::new(), Peer::new());
    drop(join(&client, &server));
    assert_eq!(
        client.events(),
        ["cut: the producer was dropped before it finished"]
    );
    assert_eq!((Arc::strong_count(&client), Arc::strong_count(&server)), (1, 1));
}
