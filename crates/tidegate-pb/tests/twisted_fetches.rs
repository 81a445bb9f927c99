//! Against live Twisted clients: our objects called, our pages collected, our logins used, and what cut connections do.
#![allow(clippy::unwrap_used)]

mod common;

use std::sync::{Arc, Mutex};
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use bytes::Bytes;
use common::{PATIENCE, Twisted, object, pattern, with_root};
use tidegate_io::{Buffers, Confirmation, EndpointError, Flow, Side, Source};
use tidegate_pb::jelly::Value;
use tidegate_pb::{
    Broker, Call, PbError, Referenceable, RemoteError, listen, page_file, page_string, server,
};
use tidegate_pb::{Credentials, Portal, portal_root};
use tokio::net::TcpListener;

/// The pattern, again and again, in chunks.
struct Repeated {
    block: Bytes,
    left: usize,
}

impl Source for Repeated {
    fn poll_read(
        &mut self,
        _cx: &mut Context<'_>,
        _buffers: &mut Buffers,
        max: usize,
    ) -> Poll<Result<Option<Bytes>, EndpointError>> {
        let from = (self.block.len() - self.left % self.block.len()) % self.block.len();
        let bytes = self.left.min(max).min(self.block.len() - from);
        self.left -= bytes;
        Poll::Ready(Ok((bytes > 0).then(|| self.block.slice(from..from + bytes))))
    }
    fn name(&self) -> String {
        "repeated".to_owned()
    }
}

fn repeated(mebibytes: usize) -> (Repeated, String) {
    use md5::{Digest, Md5};
    let block = pattern(1 << 20);
    let mut hash = Md5::new();
    for _ in 0..mebibytes {
        hash.update(&block);
    }
    let hex = hash.finalize().iter().map(|byte| format!("{byte:02x}")).collect();
    (
        Repeated {
            block,
            left: mebibytes << 20,
        },
        hex,
    )
}

fn port_of(sink: &tidegate_pb::ServeSink) -> String {
    sink.address().port().to_string()
}

/// `getAllPages`, then close, as any program with Twisted would.
#[tokio::test]
async fn a_flow_is_served_to_get_all_pages() {
    let sink = listen("127.0.0.1:0", "file").await.unwrap();
    let Some(mut twisted) = Twisted::start("pb get_all", &["get_all", &port_of(&sink), "file"]) else {
        return;
    };
    let (source, hash) = repeated(64);
    let report = Flow::new(source, sink).run().await.unwrap();
    assert_eq!(twisted.after("got").await, format!("{} {hash}", 64 << 20));
    assert_eq!(report.bytes_sent, 64 << 20);
    assert!(report.confirmation.is_some());
}

/// A collector that says that it has all: the sink is confirmed, not only sent.
#[tokio::test]
async fn the_answer_to_the_end_notice_confirms() {
    let sink = listen("127.0.0.1:0", "file").await.unwrap();
    let Some(mut twisted) = Twisted::start("pb confirm", &["fetch", &port_of(&sink), "file"]) else {
        return;
    };
    let (source, hash) = repeated(1);
    let report = Flow::new(source, sink).run().await.unwrap();
    assert_eq!(report.confirmation, Some(Confirmation::Confirmed));
    assert_eq!(twisted.line().await, "answered");
    assert_eq!(twisted.after("ended").await, format!("file {} {hash}", 1 << 20));
}

/// Twisted stops reading for two seconds: our source is paused meanwhile, and nothing is lost.
#[tokio::test]
async fn a_peer_that_stops_reading_pauses_our_source() {
    let sink = listen("127.0.0.1:0", "file").await.unwrap();
    let Some(mut twisted) = Twisted::start("pb pausing", &["fetch_pausing", &port_of(&sink), "file"]) else {
        return;
    };
    let (source, hash) = repeated(64);
    let flow = Flow::new(source, sink);
    let handle = flow.handle();
    let run = tokio::spawn(flow.run());
    loop {
        if twisted.line().await == "paused" {
            break;
        }
    }
    let before = Instant::now();
    // Once the kernel's buffers are full, nothing moves any more.
    let mut last = handle.snapshot().bytes_read;
    let mut still = 0;
    while still < 5 {
        tokio::time::sleep(Duration::from_millis(50)).await;
        let read = handle.snapshot().bytes_read;
        still = if read == last { still + 1 } else { 0 };
        last = read;
    }
    assert!(last < 64 << 20, "the source was never paused");
    assert!(handle.snapshot().held <= 64 * 1024 + (1 << 20));
    assert_eq!(twisted.line().await, "resumed");
    assert!(before.elapsed() > Duration::from_secs(1));
    assert_eq!(twisted.after("ended").await, format!("file {} {hash}", 64 << 20));
    assert_eq!(run.await.unwrap().unwrap().bytes_sent, 64 << 20);
}

/// D98: the peer dies in the middle: the source is told, the flow fails.
#[tokio::test]
async fn d98_a_client_that_dies_fails_the_flow() {
    let sink = listen("127.0.0.1:0", "file").await.unwrap();
    let Some(mut twisted) = Twisted::start("pb quitting", &["fetch_quitting", &port_of(&sink), "file"])
    else {
        return;
    };
    let source = Repeated {
        block: pattern(1 << 20),
        left: 1 << 32,
    };
    let failed = tokio::time::timeout(PATIENCE, Flow::new(source, sink).run())
        .await
        .unwrap()
        .unwrap_err();
    assert_eq!(failed.side, Some(Side::Sink), "{failed:?}");
    while twisted.line().await != "quitting" {}
}

/// D99: our source fails in the middle. The collector gets no end notice, it gets a broken connection.
#[tokio::test]
async fn d99_a_source_that_fails_is_no_end_of_pages() {
    struct Failing(usize);
    impl Source for Failing {
        fn poll_read(
            &mut self,
            _cx: &mut Context<'_>,
            _buffers: &mut Buffers,
            _max: usize,
        ) -> Poll<Result<Option<Bytes>, EndpointError>> {
            self.0 += 1;
            if self.0 > 10 {
                return Poll::Ready(Err(EndpointError::io(
                    "broken disk",
                    std::io::Error::other("broken"),
                )));
            }
            Poll::Ready(Ok(Some(pattern(10_000))))
        }
        fn name(&self) -> String {
            "failing".to_owned()
        }
    }
    let sink = listen("127.0.0.1:0", "file").await.unwrap();
    let Some(mut twisted) = Twisted::start("pb failing", &["fetch", &port_of(&sink), "file"]) else {
        return;
    };
    // The client must be there before the source fails, or there is nobody to tell.
    let (go, went) = tokio::sync::oneshot::channel();
    let flow = tokio::spawn(async move {
        let _ = went.await;
        Flow::new(Failing(0), sink).run().await
    });
    assert_eq!(twisted.line().await, "answered");
    go.send(()).unwrap();
    assert_eq!(flow.await.unwrap().unwrap_err().side, Some(Side::Source));
    let lost = twisted.after("lost").await;
    assert_eq!(lost, "ConnectionLost", "an orderly end would look like one");
}

async fn serve_root(
    root: impl Fn(Call) + Send + Sync + 'static,
) -> (String, tokio::task::JoinHandle<PbError>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port().to_string();
    let root = object(root);
    let driver = tokio::spawn(async move {
        let (stream, _) = listener.accept().await.unwrap();
        server(stream, with_root(root)).1.await
    });
    (port, driver)
}

/// Fifty pagers on one connection, from strings and from consumers, share it evenly.
#[tokio::test]
async fn fifty_pagers_share_one_connection() {
    const PAGES: usize = 60;
    let (port, driver) = serve_root(|call| {
        let Value::List(collectors) = &call.args[0] else {
            panic!("a list")
        };
        for (number, collector) in collectors.iter().enumerate() {
            let collector = call.reference(collector).unwrap();
            if number % 2 == 0 {
                drop(page_string(&collector, pattern(PAGES * 1000), 1000));
            } else {
                let (sender, _) = page_file(&collector, tidegate::Marks::default(), 1000);
                for _ in 0..PAGES {
                    let _ = tidegate::Consumer::write(&sender, pattern(1000)).unwrap();
                }
                tidegate::FinishableConsumer::finish(&sender);
            }
        }
        call.responder.answer(Value::None);
    })
    .await;
    let Some(mut twisted) = Twisted::start("pb fifty", &["fifty", &port]) else {
        return;
    };
    let order = twisted.after("order").await;
    let order: Vec<usize> = order.split(' ').map(|number| number.parse().unwrap()).collect();
    assert_eq!(order.len(), 50 * PAGES);
    // From when everybody has come until the first is done, a window of a hundred pages has two of everybody, give or
    // take one. Before that an idle connection takes all that the first few have.
    let start = order.iter().position(|number| *number == 49).unwrap();
    let mut counts = [0usize; 50];
    let mut windows = 0;
    for (at, number) in order.iter().enumerate() {
        counts[*number] += 1;
        if counts[*number] == PAGES {
            break;
        }
        if at >= start + 100 {
            windows += 1;
            let window = &order[at - 99..=at];
            for number in 0..50 {
                let share = window.iter().filter(|page| **page == number).count();
                assert!((1..=3).contains(&share), "{number} has {share} of {window:?}");
            }
        }
    }
    assert!(windows > 500, "only {windows} windows");
    driver.abort();
}

#[tokio::test]
async fn twisted_calls_our_objects() {
    let kept = Arc::new(Mutex::new(None::<Broker>));
    let (quiet_tx, quiet) = tokio::sync::oneshot::channel::<Arc<[Value]>>();
    let quiet_tx = Mutex::new(Some(quiet_tx));
    let child = object(|call: Call| call.responder.answer(Value::text("a child")));
    let weak_child = Mutex::new(Some(child));
    let released = Mutex::new(None::<std::sync::Weak<dyn Referenceable>>);
    let (port, driver) = serve_root(move |call| {
        *kept.lock().unwrap() = Some(call.broker().clone());
        match &call.method[..] {
            "echo" => {
                let named: Vec<_> = call
                    .kwargs
                    .iter()
                    .map(|(k, v)| (Value::text(k), v.clone()))
                    .collect();
                let args = Value::Tuple(Arc::clone(&call.args));
                call.responder
                    .answer(Value::List([args, Value::Dict(named.into())].into()));
            }
            "raise" => call
                .responder
                .fail(RemoteError::new("tidegate.Test", "on purpose")),
            "quiet" => {
                assert!(!call.responder.is_awaited());
                let _ = quiet_tx
                    .lock()
                    .unwrap()
                    .take()
                    .unwrap()
                    .send(Arc::clone(&call.args));
            }
            "child" => {
                let child = weak_child.lock().unwrap().take().unwrap();
                *released.lock().unwrap() = Some(Arc::downgrade(&child));
                let value = call.broker().lend(child).unwrap();
                call.responder.answer(value);
            }
            "same" => call
                .responder
                .answer(Value::Bool(matches!(call.args[0], Value::Local(_)))),
            // The client dropped its reference before it asked: the object is gone by now.
            "released" => {
                let child = released
                    .lock()
                    .unwrap()
                    .as_ref()
                    .and_then(std::sync::Weak::upgrade);
                call.responder.answer(Value::Bool(child.is_none()));
            }
            other => panic!("{other}"),
        }
    })
    .await;
    let Some(mut twisted) = Twisted::start("pb our objects", &["calls", &port]) else {
        return;
    };
    let echo = twisted.after("echo").await;
    assert_eq!(
        echo,
        "[(1, -1180591620717411303424, b'b', 's', None, True, [1.5], (2,), {'k': 3}, {4}), {'named': 5}]"
    );
    assert!(twisted.after("raised").await.contains("on purpose"));
    assert_eq!(twisted.after("child").await, "a child");
    assert_eq!(twisted.after("same").await, "True");
    assert_eq!(twisted.after("released").await, "True");
    assert_eq!(&*quiet.await.unwrap(), [Value::text("psst")]);
    assert_eq!(twisted.after("lost").await, "ConnectionDone");
    assert!(matches!(driver.await.unwrap(), PbError::Closed));
}

/// A portal with one user, and guests.
struct OneUser;

impl Portal for OneUser {
    fn login(&self, credentials: &Credentials) -> Result<Arc<dyn Referenceable>, RemoteError> {
        let who = match credentials {
            Credentials::Anonymous => "guest",
            Credentials::Hashed(hashed) if hashed.name == b"alice" && hashed.check(b"secret") => "alice",
            Credentials::Hashed(_) => {
                return Err(RemoteError::new("twisted.cred.error.UnauthorizedLogin", "no"));
            }
        };
        Ok(object(move |call| call.responder.answer(Value::text(who))))
    }
}

#[tokio::test]
async fn twisted_logs_in_with_us() {
    for (name, password, expected) in [
        ("alice", "secret", "avatar alice"),
        ("alice", "wrong", "refused"),
        ("", "", "avatar guest"),
    ] {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port().to_string();
        let Some(mut twisted) = Twisted::start("pb login here", &["login", &port, name, password]) else {
            return;
        };
        let (stream, _) = listener.accept().await.unwrap();
        let driver = tokio::spawn(server(stream, with_root(portal_root(Arc::new(OneUser)))).1);
        let line = twisted.line().await;
        assert!(line.starts_with(expected), "{line}");
        assert!(matches!(driver.await.unwrap(), PbError::Closed));
    }
}
