//! Protocols over real connections: order of calls, ends of every kind, upgrades, forwarding. Cites CASES A, D and I.
#![allow(clippy::unwrap_used)]

use std::os::fd::{AsRawFd, OwnedFd};
use std::sync::{Arc, Mutex, OnceLock};
use std::time::Duration;

use bytes::Bytes;
use tidegate::{
    AbortReason, Consumer, ConsumerProtocol, HalfClose, Loss, Marks, Pressure, Producer, Protocol,
    PushProducer, ReadHold, StopReason, Transport,
};
use tidegate_io::endpoint::fd::Descriptor;
use tidegate_io::endpoint::tcp::{self, Listener};
use tidegate_io::endpoint::unix;
use tidegate_io::transport::{Running, Settings, connect, open, serve};
use tidegate_io::{Duplex, ErrorKind};

use crate::support::{abort, finish, pattern, read_all, read_some, until, within, write_all};

const TIMEOUT: Duration = Duration::from_secs(10);

async fn sockets() -> (Duplex, Duplex) {
    let listener = Listener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let (near, far) = tokio::join!(tcp::connect(&address, TIMEOUT), listener.accept());
    (tcp::duplex(near.unwrap()), tcp::duplex(far.unwrap().0))
}

/// Two connected ends of every two-way kind, as `connect` and a listener make them, or adopted.
pub(crate) async fn two_way() -> Vec<(&'static str, Duplex, Duplex)> {
    let (near, far) = sockets().await;
    let mut kinds = vec![("tcp", near, far)];
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("socket");
    let listener = unix::Listener::bind(&path).await.unwrap();
    let (near, far) = tokio::join!(unix::connect(&path, TIMEOUT), listener.accept());
    let (near, far) = (near.unwrap(), far.unwrap());
    kinds.push(("unix", unix::duplex(near, &path), unix::duplex(far, &path)));
    let adopt = |fd: OwnedFd| Descriptor::adopt(fd.as_raw_fd()).unwrap().into_duplex().unwrap();
    let (near, far) = std::os::unix::net::UnixStream::pair().unwrap();
    kinds.push(("fd, unix socket", adopt(near.into()), adopt(far.into())));
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let near = std::net::TcpStream::connect(listener.local_addr().unwrap()).unwrap();
    let (far, _) = listener.accept().unwrap();
    kinds.push(("fd, tcp socket", adopt(near.into()), adopt(far.into())));
    #[cfg(feature = "tls")]
    {
        let (near, far) = crate::tls::pair().await;
        kinds.push(("tls", near.into_duplex(), far.into_duplex()));
        let (far, near) = crate::tls::pair().await;
        kinds.push(("tls, swapped", near.into_duplex(), far.into_duplex()));
    }
    kinds
}

/// What a protocol of these tests does with what it hears.
#[derive(Clone, Copy, Default, PartialEq)]
pub(crate) enum Does {
    #[default]
    Nothing,
    Echo,
    KeepWriting,
    PanicAtData,
    PanicAtEnd,
    LoseAtData,
    AbortAtData,
}

/// Writes down what it hears.
#[derive(Default)]
pub(crate) struct Recorder {
    does: Does,
    transport: OnceLock<Arc<dyn Transport>>,
    heard: Mutex<Vec<u8>>,
    events: Mutex<String>,
    loss: Mutex<Vec<Loss>>,
}

impl Recorder {
    pub(crate) fn new(does: Does) -> Arc<Self> {
        Arc::new(Self {
            does,
            ..Self::default()
        })
    }
    fn event(&self, event: char) {
        self.events.lock().unwrap().push(event);
    }
    pub(crate) fn events(&self) -> String {
        self.events.lock().unwrap().clone()
    }
    pub(crate) fn heard(&self) -> Vec<u8> {
        self.heard.lock().unwrap().clone()
    }
    pub(crate) fn transport(&self) -> &Arc<dyn Transport> {
        self.transport.get().unwrap()
    }
}

impl Protocol for Recorder {
    fn connection_made(&self, transport: Arc<dyn Transport>) {
        self.event('m');
        let _ = self.transport.set(transport);
    }
    fn data_received(&self, data: Bytes) {
        self.heard.lock().unwrap().extend_from_slice(&data);
        match self.does {
            Does::Echo => drop(self.transport().write(data)),
            Does::PanicAtData => panic!("asked for: at data"),
            Does::LoseAtData => {
                let _ = self.transport().write(data);
                self.transport().lose_connection();
            }
            Does::AbortAtData => self.transport().abort_connection(AbortReason::Requested),
            _ => {}
        }
    }
    fn end_received(&self) -> HalfClose {
        self.event('e');
        match self.does {
            Does::KeepWriting => HalfClose::KeepWriting,
            Does::PanicAtEnd => panic!("asked for: at the end"),
            _ => HalfClose::Close,
        }
    }
    fn connection_lost(&self, loss: Loss) {
        self.event('l');
        self.loss.lock().unwrap().push(loss);
    }
}

fn start(endpoint: Duplex, does: Does) -> (Arc<Recorder>, tokio::task::JoinHandle<Loss>) {
    let recorder = Recorder::new(does);
    let running = connect(endpoint, recorder.clone(), Settings::default());
    (recorder, tokio::spawn(running))
}

#[tokio::test]
async fn an_echo_is_complete_and_lost_once_cleanly() {
    let (near, mut far) = sockets().await;
    let (recorder, running) = start(near, Does::Echo);
    write_all(&mut *far.sink, pattern(500_000)).await.unwrap();
    finish(&mut *far.sink).await.unwrap();
    assert!(read_all(&mut *far.source).await.unwrap() == pattern(500_000));
    assert!(matches!(within(running).await.unwrap(), Loss::Clean));
    assert_eq!(recorder.events(), "mel");
}

/// CASES 24: the peer's end does not end ours, unless the protocol wants it.
#[tokio::test]
async fn a_protocol_may_go_on_writing_after_the_peers_end() {
    let (near, mut far) = sockets().await;
    let (recorder, running) = start(near, Does::KeepWriting);
    finish(&mut *far.sink).await.unwrap();
    until("the end is told", || recorder.events() == "me").await;
    let _ = recorder.transport().write("late".into()).unwrap();
    assert_eq!(&read_some(&mut *far.source).await.unwrap().unwrap()[..], b"late");
    recorder.transport().lose_write_connection();
    assert!(read_some(&mut *far.source).await.unwrap().is_none());
    assert!(matches!(within(running).await.unwrap(), Loss::Clean));
}

/// CASES 22, D3: what was written goes first, also megabytes to a slow reader.
#[tokio::test]
async fn losing_a_connection_flushes_first() {
    let (near, mut far) = sockets().await;
    let (recorder, running) = start(near, Does::Nothing);
    until("made", || recorder.events() == "m").await;
    let bytes = pattern(7 << 20);
    let _ = recorder.transport().write(bytes.clone().into()).unwrap();
    let _ = recorder.transport().write("x".into()).unwrap();
    recorder.transport().lose_connection();
    let all = read_all(&mut *far.source).await.unwrap();
    assert!(all.len() == bytes.len() + 1 && all[..bytes.len()] == bytes);
    // What the peer still says is dropped, and its end ends it.
    write_all(&mut *far.sink, &b"too late"[..]).await.unwrap();
    finish(&mut *far.sink).await.unwrap();
    assert!(matches!(within(running).await.unwrap(), Loss::Clean));
    assert_eq!((recorder.events().as_str(), recorder.heard().len()), ("ml", 0));
}

#[tokio::test]
async fn a_peer_that_stays_silent_is_waited_for_only_so_long() {
    let (near, mut far) = sockets().await;
    let recorder = Recorder::new(Does::LoseAtData);
    let settings = Settings {
        linger: Duration::from_millis(50),
        ..Settings::default()
    };
    let running = tokio::spawn(connect(near, recorder.clone(), settings));
    write_all(&mut *far.sink, &b"bye"[..]).await.unwrap();
    assert_eq!(read_all(&mut *far.source).await.unwrap(), b"bye");
    assert!(matches!(within(running).await.unwrap(), Loss::Clean));
    assert_eq!(recorder.events(), "ml");
}

/// CASES 18: an abort from inside a handler is told once, after the handler, and is visible.
#[tokio::test]
async fn an_abort_resets() {
    let (near, mut far) = sockets().await;
    let (recorder, running) = start(near, Does::AbortAtData);
    write_all(&mut *far.sink, &b"x"[..]).await.unwrap();
    assert!(read_some(&mut *far.source).await.is_err(), "the peer sees no end");
    assert!(matches!(
        within(running).await.unwrap(),
        Loss::Cut(AbortReason::Requested)
    ));
    assert_eq!(recorder.events(), "ml");
}

/// CASES 21, law 11: with reading held the connection's death is noticed.
#[tokio::test]
async fn held_reading_is_not_blind() {
    let (near, mut far) = sockets().await;
    let (recorder, running) = start(near, Does::Nothing);
    until("made", || recorder.events() == "m").await;
    let hold: ReadHold = recorder.transport().hold_reading();
    write_all(&mut *far.sink, &b"unread"[..]).await.unwrap();
    abort(&mut *far.sink).await;
    drop(far);
    assert!(matches!(
        within(running).await.unwrap(),
        Loss::Cut(AbortReason::Failed(_))
    ));
    drop(hold);
    assert_eq!(recorder.events(), "ml");
}

#[tokio::test]
async fn nothing_is_delivered_while_any_hold_is_out() {
    let (near, mut far) = sockets().await;
    let (recorder, running) = start(near, Does::Nothing);
    until("made", || recorder.events() == "m").await;
    let holds = [
        recorder.transport().hold_reading(),
        recorder.transport().hold_reading(),
    ];
    tokio::task::yield_now().await;
    write_all(&mut *far.sink, &b"hello"[..]).await.unwrap();
    for hold in holds {
        tokio::time::sleep(Duration::from_millis(20)).await;
        assert!(recorder.heard().is_empty());
        drop(hold);
    }
    finish(&mut *far.sink).await.unwrap();
    within(running).await.unwrap();
    assert_eq!(recorder.heard(), b"hello");
}

/// CASES 25, law 14: a handler that panics cuts the connection, is told of the loss, and the panic goes on.
#[tokio::test]
async fn a_panic_cuts_the_connection() {
    for (does, expected) in [(Does::PanicAtData, "ml"), (Does::PanicAtEnd, "mel")] {
        let (near, mut far) = sockets().await;
        let (recorder, running) = start(near, does);
        if does == Does::PanicAtData {
            write_all(&mut *far.sink, &b"x"[..]).await.unwrap();
        } else {
            finish(&mut *far.sink).await.unwrap();
        }
        assert!(within(running).await.unwrap_err().is_panic());
        assert_eq!(recorder.events(), expected);
        let loss = recorder.loss.lock().unwrap().pop().unwrap();
        assert!(matches!(loss, Loss::Cut(AbortReason::Panicked(text)) if text.contains("asked for")));
        assert!(read_some(&mut *far.source).await.is_err(), "the peer sees no end");
    }
}

#[tokio::test]
async fn a_dropped_connection_is_told_and_cut() {
    let (near, mut far) = sockets().await;
    let (recorder, running) = start(near, Does::Nothing);
    until("made", || recorder.events() == "m").await;
    running.abort();
    until("lost", || recorder.events() == "ml").await;
    assert!(read_some(&mut *far.source).await.is_err(), "the peer sees no end");
}

/// CASES 135.
#[tokio::test]
async fn a_factory_may_refuse() {
    let listener = Listener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let mut seats = 2;
    let serving = tokio::spawn(serve(listener, Settings::default(), move |peer| {
        assert!(peer.starts_with("tcp://127.0.0.1:"));
        seats -= 1;
        (seats >= 0).then(|| Recorder::new(Does::Echo) as Arc<dyn Protocol>)
    }));
    for expected in [&b"hi"[..], b"hi", b""] {
        let mut both = tcp::duplex(tcp::connect(&address, TIMEOUT).await.unwrap());
        let _ = write_all(&mut *both.sink, &b"hi"[..]).await;
        let _ = finish(&mut *both.sink).await;
        assert_eq!(read_all(&mut *both.source).await.unwrap_or_default(), expected);
    }
    serving.abort();
}

/// Listens to the signals.
#[derive(Default)]
pub(crate) struct Pushes(Mutex<String>);

impl Pushes {
    pub(crate) fn heard(&self) -> String {
        self.0.lock().unwrap().clone()
    }
}

impl PushProducer for Pushes {
    fn pause_producing(&self) {
        self.0.lock().unwrap().push('P');
    }
    fn resume_producing(&self) {
        self.0.lock().unwrap().push('R');
    }
    fn stop_producing(&self, _: StopReason) {
        self.0.lock().unwrap().push('S');
    }
}

/// CASES B28 (D36), CONTRACT T14: a producer paused on the plain transport is still registered and paused under TLS, and
/// resumed when that has drained.
#[cfg(feature = "tls")]
#[tokio::test]
async fn an_upgrade_to_tls_keeps_the_producer_and_its_pause() {
    use tidegate_io::endpoint::tls::{Client, Options, Server};
    use tidegate_io::transport::HandshakeSide;

    let papers = crate::tls::Papers::new();
    let server = Server::new(&papers.sign("localhost", |_| ()), &Options::default()).unwrap();
    let client = Client::new(&papers.options()).unwrap();
    let (near, mut far) = sockets().await;
    let recorder = Recorder::new(Does::Nothing);
    let settings = Settings {
        marks: Marks::TWISTED,
        ..Settings::default()
    };
    let (connection, opened) = open(near, settings);
    let producer = Arc::new(Pushes::default());
    connection
        .register_producer(Producer::push(producer.clone()))
        .unwrap();
    let plain = pattern(300_000);
    assert_eq!(connection.write(plain.clone().into()).unwrap(), Pressure::Full);
    let upgraded = connection.start_tls(HandshakeSide::Client(client, "localhost".into()));
    let secret = pattern(100_000);
    let _ = connection.write(secret.clone().into()).unwrap();
    let running = tokio::spawn(opened.run(recorder.clone()));

    // The far side takes exactly the plain part and goes over, too.
    let mut got = 0;
    while got < plain.len() {
        let mut buffers = tidegate_io::Buffers::default();
        let max = plain.len() - got;
        let piece = within(std::future::poll_fn(|cx| {
            far.source.poll_read(cx, &mut buffers, max)
        }))
        .await;
        let piece = piece.unwrap().unwrap();
        assert!(piece == plain[got..got + piece.len()]);
        got += piece.len();
    }
    assert_eq!(
        *producer.0.lock().unwrap(),
        "P",
        "still paused: what follows is held"
    );
    let mut far = within(server.accept(far)).await.unwrap().into_duplex();
    within(upgraded).await.unwrap();
    let mut all = Vec::new();
    while all.len() < secret.len() {
        all.extend_from_slice(&read_some(&mut *far.source).await.unwrap().unwrap());
    }
    assert!(all == secret);
    until("resumed", || *producer.0.lock().unwrap() == "PR").await;
    connection.unregister_producer();
    write_all(&mut *far.sink, &b"welcome"[..]).await.unwrap();
    until("heard", || recorder.heard() == b"welcome").await;
    finish(&mut *far.sink).await.unwrap();
    assert!(matches!(within(running).await.unwrap(), Loss::Clean));
}

#[cfg(feature = "tls")]
#[tokio::test]
async fn an_upgrade_that_fails_cuts_the_connection_and_says_why() {
    use tidegate_io::endpoint::tls::{Client, Options};
    use tidegate_io::transport::HandshakeSide;

    let (near, mut far) = sockets().await;
    let recorder = Recorder::new(Does::Nothing);
    let (connection, opened) = open(near, Settings::default());
    let running = tokio::spawn(opened.run(recorder.clone()));
    let client = Client::new(&Options::default()).unwrap();
    let upgraded = connection.start_tls(HandshakeSide::Client(client, "localhost".into()));
    write_all(&mut *far.sink, &b"I do not know what you want"[..])
        .await
        .unwrap();
    let error = within(upgraded).await.unwrap_err();
    assert!(error.to_string().contains("does not speak TLS"), "{error}");
    assert_eq!(error.kind, ErrorKind::Open);
    assert!(matches!(
        within(running).await.unwrap(),
        Loss::Cut(AbortReason::Failed(_))
    ));
}

/// The two halves of a port forwarder, and its far ends.
async fn forwarder() -> (Duplex, Duplex, tokio::task::JoinHandle<(Loss, Loss)>) {
    let (client, near) = sockets().await;
    let (far, server) = sockets().await;
    let (near, forth) = open(near, Settings::default());
    let (far, back) = open(far, Settings::default());
    let forth: Running = forth.run(Arc::new(ConsumerProtocol::new(far)));
    let back = back.run(Arc::new(ConsumerProtocol::new(near)));
    (client, server, tokio::spawn(async { tokio::join!(forth, back) }))
}

/// CASES 138.
#[tokio::test]
async fn a_forwarder_forwards_both_ways() {
    let (mut client, mut server, running) = forwarder().await;
    write_all(&mut *client.sink, pattern(1_000)).await.unwrap();
    finish(&mut *client.sink).await.unwrap();
    let request = read_all(&mut *server.source).await.unwrap();
    assert!(request == pattern(1_000));
    // Half-closed: the answer still comes.
    let answer = pattern(3_000_000);
    let (written, read) = tokio::join!(
        async {
            write_all(&mut *server.sink, answer.clone()).await.unwrap();
            finish(&mut *server.sink).await
        },
        read_all(&mut *client.source)
    );
    written.unwrap();
    assert!(read.unwrap() == answer);
    let (forth, back) = within(running).await.unwrap();
    assert!(matches!((forth, back), (Loss::Clean, Loss::Clean)));
}

/// CASES B53 (D83): one side ends while the other is full; all is delivered, then that side ends, too.
#[tokio::test]
async fn a_forwarder_ends_the_full_side_after_all_was_delivered() {
    let (mut client, mut server, running) = forwarder().await;
    let bytes = pattern(12 << 20);
    let sending = async {
        write_all(&mut *client.sink, bytes.clone()).await.unwrap();
        finish(&mut *client.sink).await.unwrap();
    };
    let receiving = async {
        // Nobody reads at first.
        tokio::time::sleep(Duration::from_millis(100)).await;
        read_all(&mut *server.source).await.unwrap()
    };
    let ((), all) = tokio::join!(sending, receiving);
    assert!(all == bytes);
    finish(&mut *server.sink).await.unwrap();
    assert!(read_all(&mut *client.source).await.unwrap().is_empty());
    within(running).await.unwrap();
}

/// D84: data that comes after the other side was lost goes nowhere, and breaks nothing.
#[tokio::test]
async fn a_forwarder_survives_data_for_a_side_that_is_gone() {
    let (mut client, mut server, running) = forwarder().await;
    write_all(&mut *client.sink, &b"x"[..]).await.unwrap();
    assert_eq!(&read_some(&mut *server.source).await.unwrap().unwrap()[..], b"x");
    server.sink.abort(&AbortReason::Requested);
    drop(server);
    let mut error = None;
    while error.is_none() {
        error = write_all(&mut *client.sink, pattern(100_000)).await.err();
    }
    let (forth, back) = within(running).await.unwrap();
    assert!(matches!((forth, back), (Loss::Cut(_), Loss::Cut(_))));
}
