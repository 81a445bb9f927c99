//! What is cut short: a peer that goes away, a stream that is reset, a file that changes. Each is seen to be cut.

use std::fs;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use bytes::Bytes;
use http::{Method, Response};
use tidegate::{AbortReason, Consumer as _, FinishableConsumer as _, Producer, PullProducer, StopReason};
use tidegate_http::{Limits, Protocol};
use tidegate_io::{ErrorKind, Sink as _, Source as _};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

use crate::common::endless::{GET, endless, until, until_full};
use crate::common::{client, client_with, inbox, read_all, up, up_dir, within};

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
