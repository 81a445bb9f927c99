//! Both ends ours, and raw peers that misbehave: the handshake, the limits of a broker, and how transfers end.
#![allow(clippy::unwrap_used)]

mod common;

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use bytes::Bytes;
use common::{PATIENCE, object, pair, pattern, sockets, with_root};
use tidegate::{
    AbortReason, Consumer as _, FinishableConsumer as _, Marks, Producer, PushProducer, StopReason, channel,
};
use tidegate_io::endpoint::file::{FileSink, FileSource, Overwrite};
use tidegate_io::{ErrorKind, Flow, Side};
use tidegate_pb::banana::{Decoder, Dialect, Expr, Limits, encode};
use tidegate_pb::jelly::Value;
use tidegate_pb::{
    Call, Options, PAGE_BYTES, PagingEnd, PbError, Reference, RemoteError, client, collect_into, fetch,
    get_all_pages, listen, page_file, page_string, server,
};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

/// A root whose one method pages `data` as a string, and whose other pages it through a consumer.
fn paging_root(data: Bytes) -> Options {
    with_root(object(move |call: Call| {
        let collector = call.reference(&call.args[0]).unwrap();
        match &call.method[..] {
            "string" => drop(page_string(&collector, data.clone(), 1000)),
            "file" => {
                let (sender, _) = page_file(&collector, Marks::default(), PAGE_BYTES);
                let _ = sender.write(data.clone()).unwrap();
                sender.finish();
            }
            other => return call.responder.fail(RemoteError::new("test", other)),
        }
        call.responder.answer(Value::None);
    }))
}

/// CASES 159, 162: all pages, joined, are what was paged.
#[tokio::test]
async fn cases_159_162_pages_joined_are_what_was_paged() {
    let data = pattern(150_500);
    let (near, _far) = pair(Options::default(), paging_root(data.clone())).await;
    for method in ["string", "file"] {
        let pages = get_all_pages(&near.broker.root(), method, vec![], 1 << 20)
            .await
            .unwrap();
        assert_eq!(pages.concat(), data);
    }
    // At the limit, and one byte below it.
    assert!(
        get_all_pages(&near.broker.root(), "file", vec![], 150_500)
            .await
            .is_ok()
    );
    let over = get_all_pages(&near.broker.root(), "file", vec![], 150_499).await;
    assert!(matches!(over, Err(PbError::TooManyPages(150_499))));
}

/// Reads and writes expressions without a broker.
struct Raw {
    stream: TcpStream,
    decoder: Decoder,
}

impl Raw {
    async fn read(&mut self) -> Option<Expr> {
        loop {
            if let Some(expr) = self.decoder.next_expr().unwrap() {
                return Some(expr);
            }
            if self.stream.read_buf(self.decoder.space()).await.unwrap_or(0) == 0 {
                return None;
            }
        }
    }

    async fn write(&mut self, expr: &Expr) {
        let bytes = encode(expr, Dialect::None, &Limits::default())
            .unwrap()
            .into_bytes();
        self.stream.write_all(&bytes).await.unwrap();
    }
}

async fn raw_client(options: Options) -> (Raw, tokio::task::JoinHandle<PbError>) {
    let (one, other) = sockets().await;
    let driver = tokio::spawn(server(other, options).1);
    (
        Raw {
            stream: one,
            decoder: Decoder::default(),
        },
        driver,
    )
}

fn list(parts: impl IntoIterator<Item = Expr>) -> Expr {
    Expr::List(parts.into_iter().collect())
}

#[tokio::test]
async fn a_peer_that_only_knows_the_none_dialect_is_served() {
    let (mut raw, driver) = raw_client(with_root(object(|call| {
        call.responder.answer(Value::text("yes"))
    })))
    .await;
    assert_eq!(
        raw.read().await,
        Some(list([Expr::word("pb"), Expr::word("none")]))
    );
    raw.write(&Expr::word("none")).await;
    assert_eq!(
        raw.read().await,
        Some(list([Expr::word("version"), Expr::int(6)]))
    );
    raw.write(&list([Expr::word("version"), Expr::int(6)])).await;
    let call = |request: i64, answer: i64| {
        let parts = [
            Expr::word("message"),
            Expr::int(request),
            Expr::word("root"),
            Expr::word("any"),
            Expr::int(answer),
        ];
        list(
            parts
                .into_iter()
                .chain([list([Expr::word("tuple")]), list([Expr::word("dictionary")])]),
        )
    };
    // One without an answer, one with, and a command that does not exist.
    raw.write(&call(1, 0)).await;
    raw.write(&call(2, 1)).await;
    let answer = list([
        Expr::word("answer"),
        Expr::int(2),
        list([Expr::word("unicode"), Expr::word("yes")]),
    ]);
    assert_eq!(raw.read().await, Some(answer));
    raw.write(&list([Expr::word("cachemessage"), Expr::int(1)])).await;
    assert_eq!(
        raw.read().await,
        Some(list([Expr::word("didNotUnderstand"), Expr::word("cachemessage")]))
    );
    drop(raw);
    assert!(matches!(driver.await.unwrap(), PbError::Closed));
}

/// Whatever a peer does wrong ends the connection with a reason of its own, and never in a panic.
#[tokio::test]
async fn a_peer_that_breaks_the_protocol_is_cut_off() {
    let version = |number: i64| list([Expr::word("version"), Expr::int(number)]);
    type Check = fn(&PbError) -> bool;
    let cases: [(Vec<Expr>, Check); 8] = [
        (vec![Expr::word("klingon")], |e| matches!(e, PbError::NoDialect)),
        (vec![version(6)], |e| matches!(e, PbError::Protocol(_))),
        (vec![Expr::word("none"), version(5)], |e| {
            matches!(e, PbError::Version(5))
        }),
        (vec![Expr::word("none"), Expr::int(1)], |e| {
            matches!(e, PbError::Protocol(_))
        }),
        (
            vec![
                Expr::word("none"),
                list([Expr::word("answer"), Expr::int(9), Expr::int(1)]),
            ],
            |e| matches!(e, PbError::Protocol(_)),
        ),
        (
            vec![Expr::word("none"), list([Expr::word("decref"), Expr::int(9)])],
            |e| matches!(e, PbError::Protocol(_)),
        ),
        (
            vec![
                Expr::word("none"),
                list([Expr::word("decref"), Expr::word("root")]),
            ],
            |e| matches!(e, PbError::Protocol(_)),
        ),
        (
            vec![Expr::word("none"), list([Expr::word("message"), Expr::int(9)])],
            |e| matches!(e, PbError::Protocol(_)),
        ),
    ];
    for (sent, expected) in cases {
        let (mut raw, driver) = raw_client(with_root(object(|_| {}))).await;
        for expr in &sent {
            raw.write(expr).await;
        }
        let error = tokio::time::timeout(PATIENCE, driver).await.unwrap().unwrap();
        assert!(expected(&error), "{sent:?}: {error:?}");
    }
    let (mut raw, driver) = raw_client(Options::default()).await;
    raw.stream.write_all(&[1; 100]).await.unwrap();
    assert!(matches!(driver.await.unwrap(), PbError::Banana(_)));
}

/// An object that is called and never answers still answers: the caller is not left waiting.
#[tokio::test]
async fn calls_that_cannot_be_answered_fail_at_once() {
    let (near, far) = pair(Options::default(), with_root(object(drop))).await;
    let Err(PbError::Remote(error)) = near.broker.root().call("any", vec![]).await else {
        panic!("an error")
    };
    assert_eq!(error.kind, "tidegate.Unanswered");
    let Err(PbError::Remote(error)) = near.broker.named("nobody").call("any", vec![]).await else {
        panic!("an error")
    };
    assert_eq!(error.message, "Invalid Object ID");
    let long = Value::Bytes(vec![0; 655_361].into());
    assert!(matches!(
        near.broker.root().call("any", vec![long]).await,
        Err(PbError::Banana(_))
    ));
    far.broker.abort(AbortReason::Requested);
    assert!(near.broker.root().call("any", vec![]).await.is_err());
    assert!(matches!(
        near.broker.ended().await,
        PbError::Io(_) | PbError::Closed
    ));
    // And on a connection that is over already.
    assert!(near.broker.root().call("any", vec![]).await.is_err());
    assert!(near.broker.lend(object(|_| {})).is_err());
}

#[tokio::test]
async fn objects_are_lent_up_to_the_limit() {
    let near = Options {
        objects_max: 3,
        ..Options::default()
    };
    let (near, _far) = pair(near, with_root(object(|call| call.responder.answer(Value::None)))).await;
    let objects: Vec<_> = (0..4).map(|_| object(|_| {})).collect();
    let lent: Vec<_> = objects[..3]
        .iter()
        .map(|one| near.broker.lend(Arc::clone(one)).unwrap())
        .collect();
    assert!(matches!(
        near.broker.lend(Arc::clone(&objects[3])),
        Err(PbError::TooManyObjects(3))
    ));
    // The same object again is the same reference, counted twice.
    assert_eq!(near.broker.lend(Arc::clone(&objects[0])).unwrap(), lent[0]);
    // Sent to the peer, which keeps none of it, they come back and make room.
    near.broker.root().call("take", lent).await.unwrap();
    while near.broker.lend(Arc::clone(&objects[3])).is_err() {
        tokio::task::yield_now().await;
    }
}

/// A peer that asks and asks and reads no answer is not read any more once the high mark of answers is owed.
#[tokio::test]
async fn answers_that_are_not_read_pause_the_reading() {
    let answered = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&answered);
    let root = object(move |call: Call| {
        count.fetch_add(1, Ordering::SeqCst);
        call.responder.answer(Value::Bytes(vec![0; 100_000].into()));
    });
    let (mut raw, _driver) = raw_client(with_root(root)).await;
    raw.write(&Expr::word("none")).await;
    // 2,000 answers of 100,000 bytes would be 200 MB.
    for request in 1..=2000 {
        raw.write(&any_call(request)).await;
    }
    // One thread: the driver has its turn in each of these, and makes all it wants to make.
    for _ in 0..20_000 {
        tokio::task::yield_now().await;
    }
    let mut answers = 0;
    while answers < 2000 {
        let ahead = answered.load(Ordering::SeqCst) - answers;
        assert!(ahead < 500, "{ahead} answers made for a peer that does not read");
        if let Some(Expr::List(parts)) = raw.read().await {
            answers += usize::from(parts[0] == Expr::word("answer"));
        }
    }
}

/// Calls that wait for room for answers are made even if the peer ended its side meanwhile.
#[tokio::test]
async fn calls_before_the_peer_s_end_are_all_made() {
    let answered = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&answered);
    let root = object(move |call: Call| {
        count.fetch_add(1, Ordering::SeqCst);
        call.responder.answer(Value::Bytes(vec![0; 100_000].into()));
    });
    let (mut raw, driver) = raw_client(with_root(root)).await;
    raw.write(&Expr::word("none")).await;
    for request in 1..=500 {
        raw.write(&any_call(request)).await;
    }
    raw.stream.shutdown().await.unwrap();
    while raw.read().await.is_some() {}
    driver.await.unwrap();
    assert_eq!(answered.load(Ordering::SeqCst), 500);
}

/// A call of the root that asks for an answer.
fn any_call(request: i64) -> Expr {
    let tuple = list([Expr::word("tuple")]);
    list([
        Expr::word("message"),
        Expr::int(request),
        Expr::word("root"),
        Expr::word("any"),
        Expr::int(1),
        tuple,
        list([Expr::word("dictionary")]),
    ])
}

/// A root that answers every call with so many bytes.
fn answering_root(bytes: usize) -> Options {
    with_root(object(move |call: Call| {
        call.responder.answer(Value::Bytes(vec![7; bytes].into()));
    }))
}

/// So many calls at once, with so many bytes in each; gives how each one ended.
async fn flood(root: Reference, calls: usize, bytes: usize) -> Vec<Result<usize, PbError>> {
    let mut all = tokio::task::JoinSet::new();
    for _ in 0..calls {
        let root = root.clone();
        all.spawn(async move {
            let answer = root
                .call("any", vec![Value::Bytes(vec![0; bytes].into())])
                .await?;
            Ok(answer.value.as_bytes().map_or(0, <[u8]>::len))
        });
    }
    all.join_all().await
}

/// Both ask much at once, and all of it is answered with more than the system's buffers hold: the answers overtake the
/// calls that wait on either side.
#[tokio::test]
async fn two_peers_that_flood_each_other_with_calls_both_get_their_answers() {
    let (near, far) = pair(answering_root(60_000), answering_root(60_000)).await;
    let both = async {
        tokio::join!(
            flood(near.broker.root(), 700, 10),
            flood(far.broker.root(), 700, 10)
        )
    };
    let (one, other) = tokio::time::timeout(PATIENCE, both).await.expect("a stall");
    for answer in one.into_iter().chain(other) {
        assert_eq!(answer.unwrap(), 60_000);
    }
}

/// Where even the calls are too many to be kept, nothing grows, and the stall has an end with a name.
#[tokio::test]
async fn two_peers_that_stall_each_other_learn_it() {
    let limit = Duration::from_millis(300);
    let stalling = || Options {
        stall_limit: Some(limit),
        ..answering_root(100_000)
    };
    let (near, far) = pair(stalling(), stalling()).await;
    let both = async {
        tokio::join!(
            flood(near.broker.root(), 400, 100_000),
            flood(far.broker.root(), 400, 100_000)
        )
    };
    let (one, other) = tokio::time::timeout(PATIENCE, both).await.expect("no end");
    assert!(one.iter().any(Result::is_err) && other.iter().any(Result::is_err));
    let ends = [near.broker.ended().await, far.broker.ended().await];
    let stalled = |end: &PbError| matches!(end, PbError::Stalled(after) if *after == limit);
    assert!(ends.iter().any(stalled), "{ends:?}");
}

/// A pause is not blind: the consumer is full, nobody reads, and the reset is noticed all the same.
#[tokio::test]
async fn a_full_collector_notices_a_reset() {
    let (near, far) = pair(Options::default(), paging_root(pattern(20_000_000))).await;
    let (sender, receiver) = channel(Marks::new(1_000, 2_000).unwrap());
    let sender = Arc::new(sender);
    let value = collect_into(&near.broker, sender.clone()).unwrap();
    // Its answer comes after the pages.
    let root = near.broker.root();
    tokio::spawn(async move { root.call("string", vec![value]).await });
    while sender.held() <= 2_000 {
        tokio::task::yield_now().await;
    }
    far.broker.abort(AbortReason::Requested);
    let ended = tokio::time::timeout(PATIENCE, near.broker.ended()).await;
    assert!(matches!(ended, Ok(PbError::Io(_))), "{ended:?}");
    assert!(sender.outcome().await.is_err());
    drop(receiver);
}

struct Stops(std::sync::Mutex<Vec<StopReason>>);

impl PushProducer for Stops {
    fn pause_producing(&self) {}
    fn resume_producing(&self) {}
    fn stop_producing(&self, reason: StopReason) {
        self.0.lock().unwrap().push(reason);
    }
}

/// Stop and error reach both sides: a collector that dies stops the pager's producer, a pager that fails aborts what the
/// collector writes to.
#[tokio::test]
async fn stop_and_error_reach_both_sides() {
    for collector_dies in [true, false] {
        let (given, mut take) = tokio::sync::mpsc::unbounded_channel::<Reference>();
        let far = with_root(object(move |call: Call| {
            let _ = given.send(call.reference(&call.args[0]).unwrap());
            call.responder.answer(Value::None);
        }));
        let (near, _far) = pair(Options::default(), far).await;
        let (sender, mut receiver) = channel(Marks::default());
        let value = collect_into(&near.broker, Arc::new(sender)).unwrap();
        near.broker.root().call("take", vec![value]).await.unwrap();
        let collector = take.recv().await.unwrap();
        let (pager, paging) = page_file(&collector, Marks::default(), PAGE_BYTES);
        let stops = Arc::new(Stops(std::sync::Mutex::default()));
        pager
            .register_producer(Producer::push(Arc::clone(&stops)))
            .unwrap();
        let _ = pager.write(Bytes::from_static(b"half")).unwrap();
        assert_eq!(receiver.recv().await.unwrap().unwrap(), "half");
        if collector_dies {
            drop(receiver);
        } else {
            pager.abort(AbortReason::Requested);
            let aborted = receiver.recv().await.unwrap().unwrap_err();
            assert!(matches!(aborted.0, AbortReason::Truncated(_)), "{aborted}");
        }
        assert!(tokio::time::timeout(PATIENCE, paging).await.unwrap().is_err());
        assert!(pager.outcome().await.is_err());
        assert_eq!(stops.0.lock().unwrap().len(), 1);
    }
}

#[tokio::test]
async fn the_program_s_two_ends_meet() {
    let directory = tempfile::tempdir().unwrap();
    let (from, to) = (directory.path().join("from"), directory.path().join("to"));
    std::fs::write(&from, pattern(3_000_000)).unwrap();
    let sink = listen("127.0.0.1:0", "file").await.unwrap();
    let port = sink.address().port();
    // Others may connect, ask for something else, or say nothing.
    let silent = TcpStream::connect(("127.0.0.1", port)).await.unwrap();
    let other = fetch("127.0.0.1", port, "other");
    let nowhere = Flow::new(
        other,
        FileSink::create(directory.path().join("other"), Overwrite::Refuse)
            .await
            .unwrap(),
    );
    let serving = tokio::spawn(Flow::new(FileSource::open(&from).await.unwrap(), sink).run());
    let error = nowhere.run().await.unwrap_err();
    assert_eq!(
        (error.side, error.cause.kind),
        (Some(Side::Source), ErrorKind::Open),
        "{error:?}"
    );
    assert!(!directory.path().join("other").exists());

    let sink = FileSink::create(&to, Overwrite::Refuse).await.unwrap();
    let fetched = Flow::new(fetch("127.0.0.1", port, "file"), sink)
        .run()
        .await
        .unwrap();
    assert_eq!(fetched.bytes_sent, 3_000_000);
    let served = tokio::time::timeout(PATIENCE, serving)
        .await
        .unwrap()
        .unwrap()
        .unwrap();
    assert_eq!(served.confirmation, Some(tidegate_io::Confirmation::Confirmed));
    assert!(std::fs::read(&to).unwrap() == pattern(3_000_000));
    drop(silent);
    // Nobody listens any more.
    let refused = Flow::new(
        fetch("127.0.0.1", port, "file"),
        FileSink::create(directory.path().join("x"), Overwrite::Refuse)
            .await
            .unwrap(),
    );
    assert_eq!(refused.run().await.unwrap_err().cause.kind, ErrorKind::Open);
}

/// A connection that breaks while pages come is a truncation, and the file does not appear.
#[tokio::test]
async fn a_fetch_that_is_cut_is_truncated() {
    let (near, address) = {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let root = object(|call: Call| {
            let collector = call.reference(&call.args[0]).unwrap();
            let broker = call.broker().clone();
            call.responder.answer(Value::None);
            tokio::spawn(async move {
                collector
                    .notify("gotPage", vec![Value::Bytes(pattern(1000))])
                    .await
                    .unwrap();
                broker.close();
            });
        });
        let driver = async move {
            server(listener.accept().await.unwrap().0, with_root(root))
                .1
                .await
        };
        (tokio::spawn(driver), address)
    };
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("file");
    let sink = FileSink::create(&path, Overwrite::Refuse).await.unwrap();
    let error = Flow::new(fetch("127.0.0.1", address.port(), "file"), sink)
        .run()
        .await
        .unwrap_err();
    assert_eq!(
        (error.side, error.cause.kind),
        (Some(Side::Source), ErrorKind::Truncated),
        "{error:?}"
    );
    assert!(!path.exists());
    near.await.unwrap();
}

/// Both sides page to each other over one connection at the same time.
#[tokio::test]
async fn pages_go_both_ways_at_once() {
    let (near_data, far_data) = (pattern(2_000_000), pattern(1_500_000));
    let (near, far) = pair(paging_root(near_data.clone()), paging_root(far_data.clone())).await;
    let (near_root, far_root) = (near.broker.root(), far.broker.root());
    let (one, other) = tokio::join!(
        get_all_pages(&near_root, "file", vec![], 1 << 24),
        get_all_pages(&far_root, "string", vec![], 1 << 24)
    );
    assert!(one.unwrap().concat() == far_data && other.unwrap().concat() == near_data);
}

/// A transfer whose collector takes the end notice and closes without an answer was sent, and not confirmed.
#[tokio::test]
async fn an_end_without_an_answer_is_sent_and_not_confirmed() {
    let (one, other) = sockets().await;
    let (broker, driver) = client(one, Options::default());
    tokio::spawn(driver);
    let mut raw = Raw {
        stream: other,
        decoder: Decoder::default(),
    };
    raw.write(&list([Expr::word("none")])).await;
    let paging = page_string(&broker.named("collector"), Bytes::from_static(b"all of it"), 100);
    loop {
        if let Some(Expr::List(parts)) = raw.read().await
            && parts.get(3) == Some(&Expr::word("endedPaging"))
        {
            break;
        }
    }
    drop(raw);
    assert_eq!(paging.await.unwrap(), PagingEnd::Sent);
}
