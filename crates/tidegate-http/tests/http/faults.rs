//! What goes wrong on real networks: stalled, slow, broken and hostile peers.

use std::fs;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use bytes::Bytes;
use http::{Method, Response, StatusCode};
use tidegate::{AbortReason, Consumer as _, FinishableConsumer as _, Producer, PullProducer, StopReason};
use tidegate_http::{Body, Limits, OutgoingBody, Protocol, StaticFiles, StaticOptions, plain};
use tidegate_io::{ErrorKind, Sink as _, Source as _};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

use crate::common::{Run, ask, client, client_with, inbox, raw, read_all, up, up_dir, within};

const GET: &[u8] = b"GET / HTTP/1.1\r\nHost: t\r\n\r\n";

fn limits(with: impl FnOnce(&mut Limits)) -> Limits {
    let mut limits = Limits::default();
    with(&mut limits);
    limits
}

/// A pull producer without end; it counts what it wrote and how it was stopped.
struct Endless {
    to: std::sync::Weak<OutgoingBody>,
    written: AtomicUsize,
    stops: AtomicUsize,
}

const PIECE: usize = 16 * 1024;

impl PullProducer for Endless {
    fn resume_producing(&self) {
        self.written.fetch_add(PIECE, Ordering::SeqCst);
        if let Some(to) = self.to.upgrade() {
            let _ = to.write(Bytes::from_static(&[7; PIECE]));
        }
    }
    fn stop_producing(&self, _: StopReason) {
        self.stops.fetch_add(1, Ordering::SeqCst);
    }
}

fn endless(consumer: OutgoingBody) -> (Arc<OutgoingBody>, Arc<Endless>) {
    let consumer = Arc::new(consumer);
    let producer = Arc::new(Endless {
        to: Arc::downgrade(&consumer),
        written: AtomicUsize::new(0),
        stops: AtomicUsize::new(0),
    });
    consumer
        .register_producer(Producer::pull(Arc::clone(&producer)))
        .unwrap();
    (consumer, producer)
}

/// Until the producer is no longer asked: everything below it is full.
async fn until_full(producer: &Endless) {
    within(async {
        let mut before = 0;
        loop {
            tokio::time::sleep(Duration::from_millis(50)).await;
            let now = producer.written.load(Ordering::SeqCst);
            if now > 0 && now == before {
                return;
            }
            before = now;
        }
    })
    .await;
}

async fn until(what: &str, holds: impl Fn() -> bool) {
    let all = async {
        while !holds() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    assert!(
        tokio::time::timeout(Duration::from_secs(10), all).await.is_ok(),
        "{what}: did not come to be"
    );
}

#[tokio::test]
async fn a_client_that_stops_reading_pauses_and_then_loses_its_connection() {
    // Issue of hyper users: a stalled peer is not noticed. CASES 244, D55: nothing spins meanwhile, and time goes on.
    let (handler, mut requests) = inbox();
    let server = up(
        handler,
        limits(|limits| limits.stall_timeout = Duration::from_millis(600)),
    )
    .await;
    let mut stalled = TcpStream::connect(server.address).await.unwrap();
    stalled.write_all(GET).await.unwrap();
    let (request, answer) = requests.recv().await.unwrap();
    let (consumer, head) = request.responder.stream(Response::new(()), None);
    answer.send(head).unwrap();
    let (consumer, producer) = endless(consumer);
    until_full(&producer).await;
    assert!(consumer.held() <= 16 * 1024 + PIECE, "{} held", consumer.held());
    assert_eq!(producer.stops.load(Ordering::SeqCst), 0, "a pause is no death");
    until("the stalled client is dropped", || {
        producer.stops.load(Ordering::SeqCst) == 1
    })
    .await;
    assert!(matches!(consumer.outcome().await, Err(StopReason::Failed(_))));
    drop(stalled);
    server.stop().await;
}

#[tokio::test]
async fn a_stalled_stream_is_reset_and_its_neighbours_live() {
    // HTTP/2: B37, B38, D51, D52.
    let (handler, mut requests) = inbox();
    let server = up(
        handler,
        limits(|limits| limits.stall_timeout = Duration::from_millis(800)),
    )
    .await;
    let client = client_with(|options| {
        options.protocol = Protocol::Two;
        options.retries = 0;
    });
    let url = server.url("/");
    let getting = tokio::spawn({
        let client = client.clone();
        let url = url.clone();
        async move { client.get(&url, 0).await.unwrap() }
    });
    let (request, answer) = requests.recv().await.unwrap();
    let (consumer, head) = request.responder.stream(Response::new(()), None);
    answer.send(head).unwrap();
    let mut unread = getting.await.unwrap();
    let (_consumer, producer) = endless(consumer);
    until("the stalled stream is reset", || {
        producer.stops.load(Ordering::SeqCst) == 1
    })
    .await;
    let pulled = producer.written.load(Ordering::SeqCst);
    // The same connection answers on.
    let getting = tokio::spawn(async move { client.get(&url, 0).await.unwrap() });
    let (_request, answer) = requests.recv().await.unwrap();
    answer.send(Response::new(Body::whole("alive"))).unwrap();
    assert_eq!(read_all(&mut getting.await.unwrap()).await.unwrap(), b"alive");
    let error = read_all(&mut unread).await.unwrap_err();
    assert_eq!(error.kind, ErrorKind::Truncated, "{error}");
    assert_eq!(
        producer.written.load(Ordering::SeqCst),
        pulled,
        "no pull after the reset"
    );
    assert_eq!(server.stop().await.connections, 1);
}

#[tokio::test]
async fn an_abort_reaches_a_client_that_takes_nothing() {
    // hyper#3121; the kill switch for HTTP/1.1, the reset of one stream for HTTP/2 (CASES 241, 244).
    for protocol in [Protocol::One, Protocol::Two] {
        let (handler, mut requests) = inbox();
        let server = up(handler, Limits::default()).await;
        let client = client_with(|options| {
            options.protocol = protocol;
            options.retries = 0;
        });
        let url = server.url("/");
        let getting = tokio::spawn(async move { client.get(&url, 0).await.unwrap() });
        let (request, answer) = requests.recv().await.unwrap();
        let (consumer, head) = request.responder.stream(Response::new(()), None);
        answer.send(head).unwrap();
        let mut unread = getting.await.unwrap();
        let (consumer, producer) = endless(consumer);
        until_full(&producer).await;
        consumer.abort(AbortReason::Requested);
        assert_eq!(producer.stops.load(Ordering::SeqCst), 1, "before abort returns");
        assert_eq!(consumer.held(), 0, "and the memory is free");
        let error = read_all(&mut unread).await.unwrap_err();
        assert_eq!(error.kind, ErrorKind::Truncated, "{protocol:?}: {error}");
        server.stop().await;
    }
}

#[tokio::test]
async fn a_body_that_ends_with_its_connection_is_reset_when_it_is_cut() {
    let (handler, mut requests) = inbox();
    let server = up(handler, Limits::default()).await;
    for cut in [true, false] {
        let mut old = TcpStream::connect(server.address).await.unwrap();
        old.write_all(b"GET / HTTP/1.0\r\n\r\n").await.unwrap();
        let (request, answer) = requests.recv().await.unwrap();
        let (consumer, head) = request.responder.stream(Response::new(()), None);
        answer.send(head).unwrap();
        let _ = consumer.write(Bytes::from_static(b"some")).unwrap();
        let mut got = vec![0; 1];
        within(old.read_exact(&mut got)).await.unwrap();
        if cut {
            consumer.abort(AbortReason::Requested)
        } else {
            consumer.finish()
        }
        let end = within(old.read_to_end(&mut got)).await;
        assert_eq!(
            end.is_err(),
            cut,
            "a cut body must not look whole, and a whole one must"
        );
    }
    server.stop().await;
}

#[tokio::test]
async fn a_client_that_goes_away_stops_the_producer() {
    let (handler, mut requests) = inbox();
    let server = up(handler, Limits::default()).await;
    let mut gone = TcpStream::connect(server.address).await.unwrap();
    gone.write_all(GET).await.unwrap();
    let (request, answer) = requests.recv().await.unwrap();
    let (consumer, head) = request.responder.stream(Response::new(()), None);
    answer.send(head).unwrap();
    // A producer that has nothing to say hears of it too (law 11).
    struct Silent(AtomicUsize);
    impl PullProducer for Silent {
        fn resume_producing(&self) {}
        fn stop_producing(&self, _: StopReason) {
            self.0.fetch_add(1, Ordering::SeqCst);
        }
    }
    let silent = Arc::new(Silent(AtomicUsize::new(0)));
    consumer
        .register_producer(Producer::pull(Arc::clone(&silent)))
        .unwrap();
    drop(gone);
    until("the producer is stopped", || silent.0.load(Ordering::SeqCst) == 1).await;
    assert!(matches!(
        consumer.write(Bytes::from_static(b"x")).unwrap_err().refusal,
        tidegate::Refusal::Dead(_)
    ));
    server.stop().await;
}

#[tokio::test]
async fn an_upload_cut_short_leaves_nothing_behind() {
    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join("kept"), "old").unwrap();
    let server = up_dir(dir.path()).await;
    for framing in ["Content-Length: 100", "Transfer-Encoding: chunked"] {
        let mut gone = TcpStream::connect(server.address).await.unwrap();
        let head = format!("PUT /kept HTTP/1.1\r\nHost: t\r\n{framing}\r\n\r\n3\r\nabc\r\n");
        gone.write_all(head.as_bytes()).await.unwrap();
        let names = || fs::read_dir(dir.path()).unwrap().count();
        until("the upload begins", || names() == 2).await;
        drop(gone);
        until("the partial file is gone", || names() == 1).await;
    }
    assert_eq!(fs::read_to_string(dir.path().join("kept")).unwrap(), "old");
    server.stop().await;
}

#[tokio::test]
async fn slow_heads_and_silent_connections_are_ended() {
    let dir = tempfile::tempdir().unwrap();
    let files = StaticFiles::new(dir.path(), StaticOptions::default()).unwrap();
    let server = up(
        files,
        limits(|limits| limits.header_timeout = Duration::from_millis(300)),
    )
    .await;
    for opening in [
        &b""[..],
        b"GET / HT",
        b"PRI * HTTP/2.0\r\n",
        b"GET / HTTP/1.1\r\nHost: t\r\nX: ",
    ] {
        let start = Instant::now();
        raw(server.address, opening).await;
        assert!(start.elapsed() < Duration::from_secs(5), "{opening:?}");
    }
    server.stop().await;
}

#[tokio::test]
async fn a_body_over_the_limit_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let mut options = StaticOptions::default();
    options.uploads = tidegate_http::Uploads::Taken(tidegate_http::Durability::Renamed);
    let files = StaticFiles::new(dir.path(), options).unwrap();
    let server = up(files, limits(|limits| limits.body_bytes_max = 10)).await;
    let answer = ask(server.address, "PUT", "/x", "Content-Length: 11\r\n").await;
    assert!(answer.starts_with("HTTP/1.1 413"), "{answer}");
    let answer = ask(
        server.address,
        "PUT",
        "/x",
        "Transfer-Encoding: chunked\r\n\r\nb\r\n0123456789a\r\n0\r\n\r\n",
    )
    .await;
    assert!(answer.starts_with("HTTP/1.1 413"), "{answer}");
    assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 0);
    server.stop().await;
}

#[tokio::test]
async fn continue_is_sent_only_when_somebody_wants_the_body() {
    // CASES 240: nothing is taken from the client before.
    let (handler, mut requests) = inbox();
    let server = up(handler, Limits::default()).await;
    let mut stream = TcpStream::connect(server.address).await.unwrap();
    stream
        .write_all(b"PUT / HTTP/1.1\r\nHost: t\r\nExpect: 100-continue\r\nContent-Length: 3\r\n\r\n")
        .await
        .unwrap();
    let (mut request, answer) = requests.recv().await.unwrap();
    let mut space = [0; 256];
    let silent = tokio::time::timeout(Duration::from_millis(100), stream.read(&mut space)).await;
    assert!(silent.is_err(), "something was sent before the body was wanted");
    let reading = tokio::spawn(async move { read_all(&mut request.body).await });
    let got = within(stream.read(&mut space)).await.unwrap();
    assert!(
        space[..got].starts_with(b"HTTP/1.1 100"),
        "{:?}",
        String::from_utf8_lossy(&space[..got])
    );
    stream.write_all(b"abc").await.unwrap();
    assert_eq!(reading.await.unwrap().unwrap(), b"abc");
    answer.send(plain(StatusCode::OK, "")).unwrap();
    let got = within(stream.read(&mut space)).await.unwrap();
    assert!(space[..got].starts_with(b"HTTP/1.1 200"));
    server.stop().await;
}

#[tokio::test]
async fn an_unread_body_holds_the_client_back() {
    // CASES 222, 223, 228, 229, 240 as the client sees them.
    for protocol in [Protocol::One, Protocol::Two] {
        let (handler, mut requests) = inbox();
        let server = up(handler, Limits::default()).await;
        let client = client_with(|options| options.protocol = protocol);
        let (consumer, answering) = client.start(Method::PUT, &server.url("/"), None).unwrap();
        let answering = tokio::spawn(answering);
        let (consumer, producer) = endless(consumer);
        let (mut request, answer) = requests.recv().await.unwrap();
        until_full(&producer).await;
        assert!(
            producer.written.load(Ordering::SeqCst) < 24 << 20,
            "{protocol:?}: nobody holds the client back"
        );
        // And it goes on once somebody reads.
        let before = producer.written.load(Ordering::SeqCst);
        let mut buffers = tidegate_io::Buffers::default();
        while producer.written.load(Ordering::SeqCst) < before + (8 << 20) {
            let read = within(std::future::poll_fn(|cx| {
                request.body.poll_read(cx, &mut buffers, PIECE)
            }))
            .await;
            assert!(read.unwrap().is_some());
        }
        consumer.abort(AbortReason::Requested);
        let error = read_all(&mut request.body).await.unwrap_err();
        assert_eq!(error.kind, ErrorKind::Truncated, "{protocol:?}");
        assert!(answering.await.unwrap().is_err());
        drop(answer);
        server.stop().await;
    }
}

#[tokio::test]
async fn a_source_that_sends_nothing_is_given_up() {
    let (handler, mut requests) = inbox();
    let server = up(
        handler,
        limits(|limits| limits.stall_timeout = Duration::from_millis(300)),
    )
    .await;
    let mut stream = TcpStream::connect(server.address).await.unwrap();
    stream
        .write_all(b"PUT / HTTP/1.1\r\nHost: t\r\nContent-Length: 3\r\n\r\na")
        .await
        .unwrap();
    let (mut request, _answer) = requests.recv().await.unwrap();
    let error = within(read_all(&mut request.body)).await.unwrap_err();
    assert_eq!(error.kind, ErrorKind::TimedOut, "{error}");
    drop(requests);
}

#[tokio::test]
async fn pipelined_requests_are_answered_in_order() {
    // CASES 225, 228 (hyper's own reading; what a client sees).
    let dir = tempfile::tempdir().unwrap();
    for name in ["a", "b", "c"] {
        fs::write(dir.path().join(name), name.repeat(3)).unwrap();
    }
    let server = up_dir(dir.path()).await;
    let line = |name: &str, end: &str| format!("GET /{name} HTTP/1.1\r\nHost: t\r\n{end}\r\n");
    let all = line("a", "") + &line("b", "") + &line("c", "Connection: close\r\n");
    let answer = String::from_utf8(raw(server.address, all.as_bytes()).await).unwrap();
    let places: Vec<_> = ["aaa", "bbb", "ccc"]
        .iter()
        .map(|text| answer.find(text).unwrap())
        .collect();
    assert!(places.is_sorted(), "{answer}");
    server.stop().await;
}

#[tokio::test]
async fn bodiless_answers_stop_their_producer_and_keep_the_connection() {
    // CASES 186; C11: HEAD and bodiless codes have no body.
    let server = up(
        Run(|request: tidegate_http::Request| async move {
            let status = if request.head.uri.path() == "/204" {
                StatusCode::NO_CONTENT
            } else {
                StatusCode::OK
            };
            let head = Response::builder().status(status).body(()).unwrap();
            let (consumer, answer) = request.responder.stream(head, Some(9));
            let stopped = consumer.write(Bytes::from_static(b"discarded"));
            let bodiless = request.head.method == Method::HEAD || status == StatusCode::NO_CONTENT;
            assert_eq!(stopped.is_err(), bodiless);
            consumer.finish();
            answer
        }),
        Limits::default(),
    )
    .await;
    let text = "HEAD / HTTP/1.1\r\nHost: t\r\n\r\nGET /204 HTTP/1.1\r\nHost: t\r\n\r\nGET / HTTP/1.1\r\nHost: t\r\nConnection: close\r\n\r\n";
    let answer = String::from_utf8(raw(server.address, text.as_bytes()).await).unwrap();
    assert_eq!(answer.matches("HTTP/1.1 ").count(), 3, "{answer}");
    assert_eq!(answer.matches("discarded").count(), 1, "{answer}");
    server.stop().await;
}

#[tokio::test]
async fn a_server_that_goes_away_mid_answer_is_a_truncation() {
    for head in ["Content-Length: 100\r\n", "Transfer-Encoding: chunked\r\n"] {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}/", listener.local_addr().unwrap());
        let serving = tokio::spawn(async move {
            let (mut stream, _) = listener.accept().await.unwrap();
            assert!(stream.read(&mut [0; 1024]).await.unwrap() > 0);
            let answer = format!("HTTP/1.1 200 OK\r\n{head}\r\n3\r\nabc\r\n");
            stream.write_all(answer.as_bytes()).await.unwrap();
        });
        let client = client_with(|options| options.retries = 2);
        let mut source = client.get(&url, 0).await.unwrap();
        let error = within(read_all(&mut source)).await.unwrap_err();
        assert_eq!(
            error.kind,
            ErrorKind::Truncated,
            "no validator: not resumed, and not whole: {error}"
        );
        serving.await.unwrap();
    }
}

#[tokio::test]
async fn a_drain_lets_requests_under_way_end() {
    let (handler, mut requests) = inbox();
    let mut server = up(handler, Limits::default()).await;
    let address = server.address;
    let url = server.url("/");
    let mut idle = TcpStream::connect(address).await.unwrap();
    idle.write_all(b"").await.unwrap();
    let getting = tokio::spawn(async move { client().get(&url, 0).await.unwrap() });
    let (request, answer) = requests.recv().await.unwrap();
    server.ask_to_stop();
    within(async {
        while TcpStream::connect(address).await.is_ok() {
            tokio::task::yield_now().await
        }
    })
    .await;
    let (consumer, head) = request.responder.stream(Response::new(()), None);
    answer.send(head).unwrap();
    let _ = consumer.write(Bytes::from_static(b"to the end")).unwrap();
    consumer.finish();
    assert_eq!(
        read_all(&mut getting.await.unwrap()).await.unwrap(),
        b"to the end"
    );
    assert_eq!(server.stopped().await.cut, 0);
    drop(idle);
}

/// What is done to a file while it is served.
#[derive(Clone, Copy, Debug)]
enum Change {
    Cut,
    Grow,
}

impl Change {
    fn happen(self, path: &std::path::Path) {
        let mut file = fs::File::options().append(true).open(path).unwrap();
        match self {
            Self::Cut => file.set_len(1000).unwrap(),
            Self::Grow => std::io::Write::write_all(&mut file, &[9; 100_000]).unwrap(),
        }
    }
}

#[tokio::test]
async fn a_file_that_changes_while_it_is_served_is_visibly_incomplete() {
    // D111, D112, B64 over a connection. A file that grew is as little the file that was announced as one that shrank.
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("large");
    let server = up_dir(dir.path()).await;
    for change in [Change::Cut, Change::Grow] {
        for range in [
            "",
            "Range: bytes=5-41000000\r\n",
            "Range: bytes=0-20000000,20000001-41000000\r\n",
        ] {
            fs::write(&path, vec![7; 40 << 20]).unwrap();
            let mut stream = TcpStream::connect(server.address).await.unwrap();
            stream
                .write_all(format!("GET /large HTTP/1.1\r\nHost: t\r\n{range}\r\n").as_bytes())
                .await
                .unwrap();
            let mut got = vec![0; 4096];
            within(stream.read_exact(&mut got)).await.unwrap();
            change.happen(&path);
            let head_bytes = got.windows(4).position(|end| end == b"\r\n\r\n").unwrap() + 4;
            let head = String::from_utf8_lossy(&got[..head_bytes]).to_ascii_lowercase();
            let length = head
                .split("content-length: ")
                .nth(1)
                .and_then(|rest| rest.split("\r\n").next())
                .unwrap();
            let length: usize = length.parse().unwrap();
            let _ = within(stream.read_to_end(&mut got)).await;
            let body = &got[head_bytes..];
            assert!(body.len() < length, "{change:?}, {range}: it looked whole");
            assert!(
                !body.contains(&9),
                "{change:?}, {range}: nothing of what came later"
            );
        }
    }
    server.stop().await;
}

#[tokio::test]
async fn a_paused_request_body_hears_of_a_reset() {
    // Law 11, over HTTP/1.1 (the connection is reset) and HTTP/2 (the stream is).
    for protocol in [Protocol::One, Protocol::Two] {
        let (handler, mut requests) = inbox();
        let server = up(handler, Limits::default()).await;
        let mut raw = None;
        let mut sink = None;
        if protocol == Protocol::One {
            let mut stream = TcpStream::connect(server.address).await.unwrap();
            let head = b"PUT / HTTP/1.1\r\nHost: t\r\nContent-Length: 100\r\n\r\nabc";
            stream.write_all(head).await.unwrap();
            raw = Some(stream);
        } else {
            let client = client_with(|options| options.protocol = protocol);
            let mut upload = client.upload(Method::PUT, &server.url("/"), None).unwrap();
            let mut held = tidegate_io::Held::default();
            held.push(Bytes::from_static(b"abc"));
            let taken = within(std::future::poll_fn(|cx| upload.poll_write(cx, &held))).await;
            assert_eq!(taken.unwrap(), 3);
            sink = Some(upload);
        }
        let sent = async {
            match &mut sink {
                // The request goes out as its answer is waited for.
                Some(sink) => std::future::poll_fn(|cx| sink.poll_hangup(cx)).await,
                None => std::future::pending().await,
            }
        };
        let (mut request, answer) = tokio::select! {
            request = within(requests.recv()) => request.unwrap(),
            error = sent => panic!("{protocol:?}: {error}"),
        };
        let mut hangup = std::pin::pin!(std::future::poll_fn(|cx| request.body.poll_hangup(cx)));
        let early = tokio::time::timeout(Duration::from_millis(50), hangup.as_mut()).await;
        assert!(early.is_err(), "{protocol:?}: the peer is still there");
        if let Some(raw) = raw {
            raw.set_zero_linger().unwrap();
            drop(raw);
        }
        drop(sink);
        let error = within(hangup).await;
        assert_eq!(error.kind, ErrorKind::Truncated, "{protocol:?}: {error}");
        let error = within(read_all(&mut request.body)).await.unwrap_err();
        assert_eq!(
            error.kind,
            ErrorKind::Truncated,
            "{protocol:?}: never a clean end"
        );
        drop(answer);
        server.stop().await;
    }
}

#[tokio::test]
async fn a_paused_download_hears_of_a_reset() {
    // Law 11 on the client's side. A download that can be resumed minds nothing before it is read on.
    for (tag, resumes) in [("", false), ("ETag: \"v\"\r\n", true)] {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}/", listener.local_addr().unwrap());
        let getting = tokio::spawn(async move { client().get(&url, 0).await.unwrap() });
        let (mut stream, _) = within(listener.accept()).await.unwrap();
        assert!(stream.read(&mut [0; 1024]).await.unwrap() > 0);
        let answer = format!("HTTP/1.1 200 OK\r\n{tag}Content-Length: 100\r\n\r\nabc");
        stream.write_all(answer.as_bytes()).await.unwrap();
        let mut source = getting.await.unwrap();
        let mut hangup = std::pin::pin!(std::future::poll_fn(|cx| source.poll_hangup(cx)));
        let early = tokio::time::timeout(Duration::from_millis(50), hangup.as_mut()).await;
        assert!(early.is_err(), "the server is still there");
        stream.set_zero_linger().unwrap();
        drop(stream);
        if resumes {
            let heard = tokio::time::timeout(Duration::from_millis(50), hangup.as_mut()).await;
            assert!(heard.is_err(), "it would only resume");
            continue;
        }
        let error = within(hangup).await;
        assert_eq!(error.kind, ErrorKind::Truncated, "{error}");
        let error = within(read_all(&mut source)).await.unwrap_err();
        assert_eq!(error.kind, ErrorKind::Truncated, "never a clean end: {error}");
    }
}

#[tokio::test]
async fn a_client_that_resets_its_stream_stops_the_producer_of_that_stream_alone() {
    // CASES B37, B38: over HTTP/2, a full producer and an idle one.
    let (handler, mut requests) = inbox();
    let server = up(handler, Limits::default()).await;
    let client = client_with(|options| options.protocol = Protocol::Two);
    let mut streams = Vec::new();
    for _ in 0..2 {
        let (client, url) = (client.clone(), server.url("/"));
        let getting = tokio::spawn(async move { client.get(&url, 0).await.unwrap() });
        let (request, answer) = within(requests.recv()).await.unwrap();
        let (consumer, head) = request.responder.stream(Response::new(()), None);
        answer.send(head).unwrap();
        let source = getting.await.unwrap();
        let (consumer, producer) = endless(consumer);
        until_full(&producer).await;
        streams.push((source, consumer, producer));
    }
    let (source, consumer, producer) = streams.remove(0);
    drop(source);
    until("the reset stops the producer", || {
        producer.stops.load(Ordering::SeqCst) == 1
    })
    .await;
    assert!(matches!(consumer.outcome().await, Err(StopReason::Failed(_))));
    assert_eq!(consumer.held(), 0, "its memory is free");
    let (_source, other, producer) = streams.remove(0);
    assert_eq!(
        producer.stops.load(Ordering::SeqCst),
        0,
        "the other stream goes on"
    );
    other.abort(AbortReason::Requested);
    assert_eq!(server.stop().await.connections, 1);
}
