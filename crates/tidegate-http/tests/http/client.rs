//! The client: resuming, uploads and their early answers, redirects, trailers, TLS, proxies.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use bytes::Bytes;
use http::header::LOCATION;
use http::{HeaderMap, Method, Response, StatusCode};
use tidegate::{Consumer as _, FinishableConsumer as _};
use tidegate_http::{Body, Limits, Protocol, Server, listen_sink, listen_source, plain};
use tidegate_io::{ErrorKind, Flow, Held, Sink as _, Source as _};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;
use tokio_rustls::rustls;

use crate::common::{Run, ask, client, client_with, inbox, noise, read_all, up, up_dir, up_with, within};

/// A server that cuts each connection after `cut` bytes of body; its version may change after the first.
async fn cutter(whole: Bytes, cut: usize, tags: [&'static str; 2]) -> (String, Arc<AtomicUsize>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/file", listener.local_addr().unwrap());
    let cuts = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&cuts);
    tokio::spawn(async move {
        loop {
            let (mut stream, _) = listener.accept().await.unwrap();
            let served = count.fetch_add(1, Ordering::SeqCst);
            let tag = tags[served.min(1)];
            let mut head = Vec::new();
            while !head.ends_with(b"\r\n\r\n") {
                head.push(stream.read_u8().await.unwrap());
            }
            let head = String::from_utf8(head).unwrap().to_ascii_lowercase();
            let from = head
                .split("range: bytes=")
                .nth(1)
                .and_then(|rest| rest.split('-').next());
            let from: usize = from.map_or(0, |from| from.parse().unwrap());
            let same = head
                .split("if-range: ")
                .nth(1)
                .is_none_or(|rest| rest.starts_with(tag));
            let (status, start) = if from > 0 && same {
                ("206 Partial Content", from)
            } else {
                ("200 OK", 0)
            };
            let (last, size, length) = (whole.len() - 1, whole.len(), whole.len() - start);
            let range = if start > 0 {
                format!("Content-Range: bytes {start}-{last}/{size}\r\n")
            } else {
                String::new()
            };
            let answer =
                format!("HTTP/1.1 {status}\r\nETag: {tag}\r\n{range}Content-Length: {length}\r\n\r\n");
            stream.write_all(answer.as_bytes()).await.unwrap();
            let end = (start + cut).min(size);
            let _ = stream.write_all(&whole[start..end]).await;
            // Lets what was sent arrive before the end does.
            let _ = stream.shutdown().await;
        }
    });
    (url, cuts)
}

#[tokio::test]
async fn a_download_cut_ten_times_arrives_whole() {
    let whole = noise(1_000_000);
    let (url, cuts) = cutter(whole.clone(), 95_000, ["\"v1\"", "\"v1\""]).await;
    let mut source = client().get(&url, 0).await.unwrap();
    assert!(within(read_all(&mut source)).await.unwrap() == whole);
    assert_eq!(cuts.load(Ordering::SeqCst), 11);
}

#[tokio::test]
async fn a_file_that_changed_meanwhile_is_no_success() {
    let (url, _) = cutter(noise(100_000), 60_000, ["\"v1\"", "\"v2\""]).await;
    let mut source = client().get(&url, 0).await.unwrap();
    let error = within(read_all(&mut source)).await.unwrap_err();
    assert_eq!(error.kind, ErrorKind::Mismatch, "{error}");
}

#[tokio::test]
async fn without_a_strong_validator_nothing_is_resumed() {
    let (url, cuts) = cutter(noise(100_000), 60_000, ["W/\"v1\"", "W/\"v1\""]).await;
    let mut source = client().get(&url, 0).await.unwrap();
    let error = within(read_all(&mut source)).await.unwrap_err();
    assert_eq!(
        (error.kind, cuts.load(Ordering::SeqCst)),
        (ErrorKind::Truncated, 1),
        "{error}"
    );
}

async fn push(
    sink: &mut tidegate_http::UploadSink,
    mut bytes: Bytes,
) -> Result<(), tidegate_io::EndpointError> {
    while !bytes.is_empty() {
        let mut held = Held::default();
        held.push(bytes.clone());
        let taken = within(std::future::poll_fn(|cx| sink.poll_write(cx, &held))).await?;
        bytes = bytes.slice(taken..);
    }
    Ok(())
}

#[tokio::test]
async fn uploads_of_known_and_unknown_length() {
    // CASES 166, 168 over a connection.
    let dir = tempfile::tempdir().unwrap();
    let server = up_dir(dir.path()).await;
    let bytes = noise(3_000_000);
    for (protocol, length) in [
        (Protocol::One, None),
        (Protocol::One, Some(3_000_000)),
        (Protocol::Two, None),
        (Protocol::Two, Some(3_000_000)),
    ] {
        let client = client_with(|options| options.protocol = protocol);
        let mut sink = client.upload(Method::PUT, &server.url("/up"), length).unwrap();
        push(&mut sink, bytes.clone()).await.unwrap();
        within(std::future::poll_fn(|cx| sink.poll_finish(cx)))
            .await
            .unwrap();
        assert!(
            std::fs::read(dir.path().join("up")).unwrap() == bytes,
            "{protocol:?} {length:?}"
        );
    }
    server.stop().await;
}

#[tokio::test]
async fn an_early_answer_stops_the_upload_and_says_why() {
    for protocol in [Protocol::One, Protocol::Two] {
        for status in [
            StatusCode::PAYLOAD_TOO_LARGE,
            StatusCode::UNAUTHORIZED,
            StatusCode::TEMPORARY_REDIRECT,
        ] {
            let server = up(Run(move |_| async move { plain(status, "") }), Limits::default()).await;
            let client = client_with(|options| options.protocol = protocol);
            let mut sink = client.upload(Method::PUT, &server.url("/"), None).unwrap();
            let error = push(&mut sink, Bytes::from(vec![0; 100 << 20]))
                .await
                .unwrap_err();
            assert!(
                error.to_string().contains(status.as_str()),
                "{protocol:?}: {error}"
            );
            drop(sink);
            server.stop().await;
        }
    }
}

#[tokio::test]
async fn a_body_of_the_wrong_length_never_arrives_as_whole() {
    // CASES 169, 171, 177 over connections.
    for protocol in [Protocol::One, Protocol::Two] {
        for bytes in ["ab", "abcd"] {
            let (handler, mut requests) = inbox();
            let server = up(handler, Limits::default()).await;
            let client = client_with(|options| options.protocol = protocol);
            let (consumer, answering) = client.start(Method::PUT, &server.url("/"), Some(3)).unwrap();
            let answering = tokio::spawn(answering);
            let (mut request, _answer) = requests.recv().await.unwrap();
            assert_eq!(
                consumer.write(Bytes::from_static(bytes.as_bytes())).is_err(),
                bytes.len() > 3
            );
            consumer.finish();
            assert!(
                within(read_all(&mut request.body)).await.is_err(),
                "{protocol:?} {bytes}"
            );
            assert!(within(answering).await.unwrap().is_err());
            drop(server);
        }
    }
}

#[tokio::test]
async fn empty_writes_do_not_end_a_body_and_trailers_arrive() {
    // B59, D100.
    for protocol in [Protocol::One, Protocol::Two] {
        let (handler, mut requests) = inbox();
        let server = up(handler, Limits::default()).await;
        let client = client_with(|options| options.protocol = protocol);
        let (consumer, answering) = client.start(Method::PUT, &server.url("/"), None).unwrap();
        let answering = tokio::spawn(answering);
        let (mut request, answer) = requests.recv().await.unwrap();
        let _ = consumer.write(Bytes::new()).unwrap();
        let _ = consumer.write(Bytes::from_static(b"abc")).unwrap();
        let _ = consumer.write(Bytes::new()).unwrap();
        let mut trailers = HeaderMap::new();
        trailers.insert("x-digest", "7".parse().unwrap());
        consumer.finish_with(trailers);
        assert_eq!(within(read_all(&mut request.body)).await.unwrap(), b"abc");
        if protocol == Protocol::Two {
            // HTTP/1.1 sends only trailers that a `Trailer` header announced.
            assert_eq!(request.body.trailers().unwrap()["x-digest"], "7");
        }
        answer.send(plain(StatusCode::OK, "")).unwrap();
        assert_eq!(within(answering).await.unwrap().unwrap().status(), 200);
        server.stop().await;
    }
}

#[tokio::test]
async fn redirects_are_followed_and_connections_used_again() {
    let server = up(
        Run(|request: tidegate_http::Request| async move {
            if request.head.uri.path() == "/end" {
                return Response::new(Body::whole("there"));
            }
            let mut answer = plain(StatusCode::FOUND, "");
            let to = if request.head.uri.path() == "/loop" {
                "/loop"
            } else {
                "end"
            };
            answer.headers_mut().insert(LOCATION, to.parse().unwrap());
            answer
        }),
        Limits::default(),
    )
    .await;
    let client = client();
    for _ in 0..3 {
        let mut source = client.get(&server.url("/start"), 0).await.unwrap();
        assert_eq!(read_all(&mut source).await.unwrap(), b"there");
    }
    assert!(client.get(&server.url("/loop"), 0).await.is_err());
    drop(client);
    assert!(server.stop().await.connections < 12);
}

#[tokio::test]
async fn refusals_and_dead_addresses_are_errors_to_open() {
    let server = up(
        Run(|_| async { plain(StatusCode::NOT_FOUND, "") }),
        Limits::default(),
    )
    .await;
    let error = client().get(&server.url("/"), 0).await.err().unwrap();
    assert!(
        error.kind == ErrorKind::Open && error.to_string().contains("404"),
        "{error}"
    );
    let dead = format!("http://127.0.0.1:{}/", crate::common::free_port());
    // Where nobody listens, nobody is waited for.
    let patient = client_with(|options| options.retries = u32::MAX);
    let error = within(patient.get(&dead, 0)).await.err().unwrap();
    assert!(
        error.kind == ErrorKind::Open && error.to_string().contains("cannot connect"),
        "{error}"
    );
    // Nor is one who does not speak HTTP.
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/", listener.local_addr().unwrap());
    let foreign = tokio::spawn(async move {
        let (mut stream, _) = listener.accept().await.unwrap();
        assert_ne!(stream.read(&mut [0; 1024]).await.unwrap(), 0);
        stream.write_all(b"500 what?\r\n").await.unwrap();
        let _ = stream.read_to_end(&mut Vec::new()).await;
    });
    let error = within(patient.get(&url, 0)).await.err().unwrap();
    assert!(error.to_string().contains("invalid HTTP version"), "{error}");
    within(foreign).await.unwrap();
    server.stop().await;
}

#[tokio::test]
async fn tls_speaks_both_protocols_by_alpn() {
    let made = rcgen::generate_simple_self_signed(vec!["localhost".to_owned()]).unwrap();
    let key = rustls::pki_types::PrivateKeyDer::try_from(made.signing_key.serialize_der()).unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let near = rustls::ServerConfig::builder_with_provider(Arc::clone(&provider))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![made.cert.der().clone()], key)
        .unwrap();
    let mut roots = rustls::RootCertStore::empty();
    roots.add(made.cert.der().clone()).unwrap();
    let far = rustls::ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    let far = Arc::new(far);
    let seen = Run(|request: tidegate_http::Request| async move {
        Response::new(Body::whole(format!("{:?}", request.head.version)))
    });
    let server = up_with(seen, Limits::default(), |server| server.tls(near)).await;
    let url = format!("https://localhost:{}/", server.address.port());
    for (protocol, version) in [(Protocol::Negotiated, "HTTP/2.0"), (Protocol::One, "HTTP/1.1")] {
        let client = client_with(|options| {
            options.protocol = protocol;
            options.tls = Some(Arc::clone(&far));
        });
        let mut source = client.get(&url, 0).await.unwrap();
        assert_eq!(read_all(&mut source).await.unwrap(), version.as_bytes());
    }
    assert!(
        client_with(|options| options.retries = 0)
            .get(&url, 0)
            .await
            .is_err(),
        "no TLS is set up"
    );
    server.stop().await;
}

#[tokio::test]
async fn one_upload_and_one_download_make_endpoints() {
    let bytes = noise(700_000);
    // An upload taken: answered after the sink finished.
    let source = listen_source(Server::bind("127.0.0.1:0").await.unwrap());
    let address = source.local_addr().unwrap();
    let dir = tempfile::tempdir().unwrap();
    let target = dir.path().join("taken");
    let sink = tidegate_io::endpoint::file::FileSink::create(
        target.clone(),
        tidegate_io::endpoint::file::Overwrite::Refuse,
    )
    .await
    .unwrap();
    let taking = tokio::spawn(Flow::new(source, sink).run());
    assert!(ask(address, "GET", "/", "").await.starts_with("HTTP/1.1 405"));
    let mut upload = client()
        .upload(Method::POST, &format!("http://{address}/"), None)
        .unwrap();
    push(&mut upload, bytes.clone()).await.unwrap();
    within(std::future::poll_fn(|cx| upload.poll_finish(cx)))
        .await
        .unwrap();
    assert!(
        std::fs::read(&target).unwrap() == bytes,
        "the answer comes after the sink has finished"
    );
    within(taking).await.unwrap().unwrap();
    // A download given.
    let sink = listen_sink(Server::bind("127.0.0.1:0").await.unwrap(), None);
    let url = format!("http://{}/", sink.local_addr().unwrap());
    let source = tidegate_io::endpoint::file::FileSource::open(target)
        .await
        .unwrap();
    let giving = tokio::spawn(Flow::new(source, sink).run());
    let mut got = client().get(&url, 0).await.unwrap();
    assert_eq!(got.size_hint(), None);
    assert!(within(read_all(&mut got)).await.unwrap() == bytes);
    within(giving).await.unwrap().unwrap();
}
