//! Against a live Twisted server: calls, errors, references, login, pages in, and what a cut connection does.
#![allow(clippy::unwrap_used)]

mod common;

use std::io::Write;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use common::{PATIENCE, Twisted, object, pattern};
use tidegate::{Marks, channel};
use tidegate_pb::jelly::Value;
use tidegate_pb::{Integer, Options, PbError, Sign, collect_into, get_all_pages, login, login_anonymous};

fn bytes(text: &'static str) -> Value {
    Value::Bytes(Bytes::from_static(text.as_bytes()))
}

#[tokio::test]
async fn calls_answers_errors_and_data_of_every_kind() {
    let Some(mut twisted) = Twisted::start("pb calls", &["serve"]) else {
        return;
    };
    let end = twisted.connect(Options::default()).await;
    let root = end.broker.root();
    let big = Value::Int(Integer::from_digits(Sign::Minus, &[1; 64]));
    let args = vec![
        Value::None,
        Value::Bool(true),
        Value::int(-5),
        big,
        Value::Float(1.5),
        bytes("b"),
        Value::text("ä"),
        Value::List([Value::int(1)].into()),
        Value::Tuple([].into()),
        Value::Dict([(Value::text("k"), Value::int(3))].into()),
        Value::Set([Value::int(4)].into()),
        Value::FrozenSet([Value::int(5)].into()),
    ];
    let named = vec![("name".to_owned(), Value::int(9))];
    let answer = root.call_named("echo", args.clone(), named).await.unwrap();
    let kwargs = Value::Dict([(Value::text("name"), Value::int(9))].into());
    assert_eq!(
        answer.value,
        Value::List([Value::List(args.into()), kwargs].into())
    );

    let Err(PbError::Remote(error)) = root.call("raise", vec![Value::text("why")]).await else {
        panic!("raises")
    };
    assert_eq!(
        (&error.kind[..], &error.message[..]),
        ("builtins.ValueError", "why")
    );
    let Err(PbError::Remote(error)) = root.call("pb_error", vec![Value::text("known")]).await else {
        panic!("raises")
    };
    assert_eq!(
        (&error.kind[..], &error.message[..]),
        ("twisted.spread.pb.Error", "known")
    );
    let Err(PbError::Remote(error)) = root.call("nothing", vec![]).await else {
        panic!("raises")
    };
    assert_eq!(error.kind, "twisted.spread.flavors.NoSuchMethod");

    root.notify("say", vec![Value::text("quietly")]).await.unwrap();
    assert_eq!(twisted.after("said").await, "quietly");
    end.broker.close();
    assert!(matches!(end.driver.await.unwrap(), PbError::Closed));
}

#[tokio::test]
async fn references_go_both_ways_and_are_given_back() {
    let Some(mut twisted) = Twisted::start("pb references", &["serve"]) else {
        return;
    };
    let end = twisted.connect(Options::default()).await;
    let root = end.broker.root();
    let (released_tx, released) = tokio::sync::oneshot::channel::<()>();
    // The object is dropped when the peer has given back all references.
    let ours = object(move |call| {
        let _keep = &released_tx;
        assert_eq!(call.method, "double");
        let Value::Int(number) = &call.args[0] else {
            panic!("a number")
        };
        call.responder.answer(Value::int(number.to_i64().unwrap() * 2));
    });
    let value = end.broker.lend(Arc::clone(&ours)).unwrap();
    root.call("keep", vec![value]).await.unwrap();
    let again = end.broker.lend(ours).unwrap();
    assert_eq!(
        root.call("is_kept", vec![again]).await.unwrap().value,
        Value::Bool(false)
    );
    let answer = root
        .call("call_kept", vec![Value::text("double"), Value::int(21)])
        .await
        .unwrap();
    assert_eq!(answer.value, Value::int(42));
    root.call("drop", vec![]).await.unwrap();
    assert!(tokio::time::timeout(PATIENCE, released).await.unwrap().is_err());

    let child = root.call("child", vec![]).await.unwrap();
    let child = child.reference(&child.value).unwrap();
    // Their own object comes home as the object it is.
    root.call("keep", vec![child.value()]).await.unwrap();
    assert_eq!(
        root.call("is_kept", vec![child.value()]).await.unwrap().value,
        Value::Bool(true)
    );
    assert!(child.call("echo", vec![]).await.is_ok());
}

#[tokio::test]
async fn pages_of_a_string_and_of_a_file_arrive_whole() {
    let mut file = tempfile::NamedTempFile::new().unwrap();
    let content = pattern(8 << 20);
    file.write_all(&content).unwrap();
    let path = file.path().to_str().unwrap();
    let Some(mut twisted) = Twisted::start("pb pages in", &["serve", path]) else {
        return;
    };
    let end = twisted.connect(Options::default()).await;
    let root = end.broker.root();
    let pages = get_all_pages(&root, "string", vec![Value::int(160_000)], 1 << 20)
        .await
        .unwrap();
    assert_eq!(pages.concat(), b"0123456789abcdef".repeat(10_000));
    let pages = get_all_pages(&root, "file", vec![], 8 << 20).await.unwrap();
    assert!(pages.concat() == content);
    let missing = get_all_pages(&root, "nothing", vec![], 1).await;
    assert!(matches!(missing, Err(PbError::Remote(_))), "{missing:?}");
}

/// The collector's limit, a pager that is given up without an end notice, and a connection cut in the middle: none of
/// them looks like an end (D99).
#[tokio::test]
async fn d99_what_is_not_the_whole_never_looks_like_it() {
    let Some(mut twisted) = Twisted::start("pb partial pages", &["serve"]) else {
        return;
    };
    let port = twisted.after("port").await;
    let connect = async || {
        let address = format!("127.0.0.1:{port}");
        let (broker, driver) = tidegate_pb::client(
            tokio::net::TcpStream::connect(address).await.unwrap(),
            Options::default(),
        );
        tokio::spawn(driver);
        broker
    };
    let endless = get_all_pages(&connect().await.root(), "forever", vec![], 1 << 20).await;
    assert!(matches!(endless, Err(PbError::TooManyPages(_))), "{endless:?}");
    let given_up = get_all_pages(&connect().await.root(), "give_up", vec![], 1 << 20).await;
    assert!(matches!(given_up, Err(PbError::PagerGone)), "{given_up:?}");
    let cut = get_all_pages(&connect().await.root(), "cut", vec![Value::int(20)], 1 << 20).await;
    assert!(matches!(cut, Err(PbError::Io(_) | PbError::Closed)), "{cut:?}");
}

/// Our reader takes nothing: the connection is not read, and what is held stays bounded.
#[tokio::test]
async fn a_paused_consumer_pauses_the_peer() {
    let Some(mut twisted) = Twisted::start("pb paused", &["serve"]) else {
        return;
    };
    let end = twisted.connect(Options::default()).await;
    let (sender, mut receiver) = channel(Marks::default());
    let collector = collect_into(&end.broker, Arc::new(sender)).unwrap();
    end.broker
        .root()
        .notify("forever", vec![collector])
        .await
        .unwrap();
    let mut last = 0;
    loop {
        tokio::time::sleep(Duration::from_millis(50)).await;
        let held = receiver.held();
        assert!(held <= 64 * 1024 + 8192, "{held}");
        if held > 64 * 1024 && held == last {
            break;
        }
        last = held;
    }
    for _ in 0..1000 {
        assert_eq!(receiver.recv().await.unwrap().unwrap().len(), 8192);
    }
}

#[tokio::test]
async fn we_log_in_with_twisted() {
    let Some(mut twisted) = Twisted::start("pb login there", &["serve_login"]) else {
        return;
    };
    let end = twisted.connect(Options::default()).await;
    let avatar = login(&end.broker, "alice", b"secret", Value::None).await.unwrap();
    let who = avatar.call("who", vec![]).await.unwrap().value;
    assert_eq!(who.as_bytes(), Some(&b"alice"[..]));
    // The last reference given back is the logout.
    drop(avatar);
    assert_eq!(twisted.line().await, "logout");
    for (name, password) in [("alice", b"wrong!"), ("mallory", b"secret")] {
        let Err(PbError::Remote(error)) = login(&end.broker, name, password, Value::None).await else {
            panic!("{name}")
        };
        assert_eq!(error.kind, "twisted.cred.error.UnauthorizedLogin");
    }
    let guest = login_anonymous(&end.broker, Value::None).await.unwrap();
    assert_eq!(
        guest.call("who", vec![]).await.unwrap().value,
        Value::text("guest")
    );
}
