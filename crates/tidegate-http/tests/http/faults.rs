//! What goes wrong on real networks: stalled, slow and broken peers.

use std::fs;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use bytes::Bytes;
use http::{Method, Response, StatusCode};
use tidegate::{AbortReason, Consumer as _, FinishableConsumer as _, StopReason};
use tidegate_http::{Body, Limits, Protocol, StaticFiles, StaticOptions, plain};
use tidegate_io::{ErrorKind, Source as _};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::common::endless::{GET, PIECE, endless, limits, until, until_full};
use crate::common::{Run, ask, client, client_with, inbox, raw, read_all, up, up_dir, within};

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
