//! Named pipes: many clients, both ways, cuts and ends, and who may not come.

use std::sync::Arc;
use std::time::Duration;

use tidegate::ConsumerProtocol;
use tidegate_io::endpoint::npipe::{self, Listener, NamedPipe};
use tidegate_io::transport::{Settings, open};
use tidegate_io::{Confirmation, Duplex, ErrorKind, Flow, Relay, Sink};

use crate::pipe_name;
use crate::support::{
    MemorySink, MemorySource, abort, finish, pattern, read_all, read_some, within, write_all,
};

const TIMEOUT: Duration = Duration::from_secs(10);

/// The accepted end and the connected one.
pub(crate) async fn pair() -> (NamedPipe, NamedPipe) {
    let name = pipe_name();
    let listener = Listener::bind(&name).unwrap();
    let (accepted, connected) = tokio::join!(listener.accept(), npipe::connect(&name, TIMEOUT));
    (accepted.unwrap(), connected.unwrap())
}

#[tokio::test]
async fn bytes_come_through_whole_either_way() {
    for turned in [false, true] {
        let (one, two) = pair().await;
        let (from, to) = if turned { (one, two) } else { (two, one) };
        let bytes = pattern(3_000_000);
        let (sink, seen) = MemorySink::new();
        let there = Flow::new(MemorySource::new(bytes.clone()), npipe::sink(from)).run();
        let back = Flow::new(npipe::source(to), sink).run();
        let (there, back) = within(async { tokio::join!(there, back) }).await;
        assert_eq!(there.unwrap().confirmation, Some(Confirmation::Sent));
        back.unwrap();
        assert!(seen.bytes() == bytes && seen.is_finished());
    }
}

#[tokio::test]
async fn twenty_clients_have_an_instance_each() {
    tokio::task::LocalSet::new().run_until(twenty_clients()).await;
}

async fn twenty_clients() {
    let name = pipe_name();
    let listener = Listener::bind(&name).unwrap();
    let clients = (0..20u8).map(|number| {
        let name = name.clone();
        tokio::task::spawn_local(async move {
            let Duplex { mut source, mut sink } =
                npipe::duplex(npipe::connect(&name, TIMEOUT).await.unwrap());
            write_all(&mut *sink, vec![number; 10_000]).await.unwrap();
            let echo = read_some(&mut *source).await.unwrap().unwrap();
            assert_eq!(echo[0], number);
        })
    });
    let clients: Vec<_> = clients.collect();
    for _ in 0..20 {
        let pipe = within(listener.accept()).await.unwrap();
        tokio::task::spawn_local(async move {
            let Duplex { mut source, mut sink } = npipe::duplex(pipe);
            let first = read_some(&mut *source).await.unwrap().unwrap();
            write_all(&mut *sink, vec![first[0]]).await.unwrap();
            read_all(&mut *source).await.unwrap();
        });
    }
    for client in clients {
        within(client).await.unwrap();
    }
}

#[tokio::test]
async fn a_name_that_nobody_listens_on_cannot_be_opened() {
    let error = npipe::connect(&pipe_name(), TIMEOUT).await.unwrap_err();
    assert_eq!(error.kind, ErrorKind::Open);
    assert!(error.to_string().contains("cannot connect to"), "{error}");
}

/// Whoever makes a name first owns it. (wine 8.0 ignores the flag.)
#[tokio::test]
async fn a_name_that_is_taken_is_refused() {
    let name = pipe_name();
    let first = Listener::bind(&name).unwrap();
    let error = Listener::bind(&name).unwrap_err();
    assert_eq!(error.kind, ErrorKind::Open);
    drop(first);
}

#[tokio::test]
async fn a_short_name_is_a_pipe_of_this_machine() {
    let name = pipe_name();
    let short = name.strip_prefix(r"\\.\pipe\").unwrap();
    let listener = Listener::bind(short).unwrap();
    assert_eq!(listener.name(), name);
    let slashes = name.replace('\\', "/");
    let (accepted, connected) = tokio::join!(listener.accept(), npipe::connect(&slashes, TIMEOUT));
    drop((accepted.unwrap(), connected.unwrap()));
}

/// What the client has not read yet outlives the server's end.
#[tokio::test]
async fn an_end_keeps_what_was_not_read_yet() {
    let (server, client) = pair().await;
    let mut sink = npipe::sink(server);
    write_all(&mut sink, pattern(30_000)).await.unwrap();
    assert_eq!(finish(&mut sink).await.unwrap(), Confirmation::Sent);
    drop(sink);
    assert!(read_all(&mut npipe::source(client)).await.unwrap() == pattern(30_000));
}

/// Law 10: the listening side can cut a stream visibly.
#[tokio::test]
async fn an_abort_of_the_server_is_no_end_to_its_client() {
    let (server, client) = pair().await;
    let mut sink = npipe::sink(server);
    let mut source = npipe::source(client);
    write_all(&mut sink, &b"half of it"[..]).await.unwrap();
    assert_eq!(&read_some(&mut source).await.unwrap().unwrap()[..], b"half of it");
    abort(&mut sink).await;
    let error = read_some(&mut source).await.unwrap_err();
    assert_eq!(error.kind, ErrorKind::Failed, "{error}");
}

#[tokio::test]
async fn a_reader_that_has_gone_is_noticed_with_nothing_to_write() {
    for turned in [false, true] {
        let (one, two) = pair().await;
        let (near, far) = if turned { (one, two) } else { (two, one) };
        let mut sink = npipe::sink(near);
        drop(far);
        let error = within(std::future::poll_fn(|cx| sink.poll_hangup(cx))).await;
        assert_eq!(error.kind, ErrorKind::BrokenPipe);
        let error = write_all(&mut sink, &b"x"[..]).await.unwrap_err();
        assert_eq!(error.kind, ErrorKind::BrokenPipe, "{error}");
    }
}

/// A write that the reader's going broke is not told as accepted, also when nothing follows it.
#[tokio::test]
async fn a_write_that_failed_late_is_an_error() {
    let (server, client) = pair().await;
    let mut sink = npipe::sink(server);
    let writing = write_all(&mut sink, pattern(400_000));
    let going = async {
        tokio::task::yield_now().await;
        drop(client);
    };
    let (written, ()) = tokio::join!(writing, going);
    assert_eq!(written.unwrap_err().kind, ErrorKind::BrokenPipe);
}

/// A peer's empty write is no end.
#[tokio::test]
async fn an_empty_write_of_the_peer_ends_nothing() {
    use tokio::net::windows::named_pipe::ClientOptions;

    let name = pipe_name();
    let listener = Listener::bind(&name).unwrap();
    let client = ClientOptions::new().open(&name).unwrap();
    let mut source = npipe::source(listener.accept().await.unwrap());
    client.writable().await.unwrap();
    client.try_write(b"").unwrap();
    client.writable().await.unwrap();
    while client.try_write(b"after").is_err() {
        client.writable().await.unwrap();
    }
    assert_eq!(&read_some(&mut source).await.unwrap().unwrap()[..], b"after");
    drop(client);
    assert!(read_some(&mut source).await.unwrap().is_none());
    assert!(
        read_some(&mut source).await.unwrap().is_none(),
        "the end is repeated"
    );
}

/// A server that only writes, or only reads, can be used all the same.
#[tokio::test]
async fn a_server_that_goes_one_way_only_can_be_used_that_way() {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::windows::named_pipe::ServerOptions;

    let name = pipe_name();
    let mut server = ServerOptions::new().access_inbound(false).create(&name).unwrap();
    let (connected, client) = tokio::join!(server.connect(), npipe::connect(&name, TIMEOUT));
    connected.unwrap();
    server.write_all(b"news").await.unwrap();
    drop(server);
    assert_eq!(
        read_all(&mut npipe::source(client.unwrap())).await.unwrap(),
        b"news"
    );

    let name = pipe_name();
    let mut server = ServerOptions::new().access_outbound(false).create(&name).unwrap();
    let (connected, client) = tokio::join!(server.connect(), npipe::connect(&name, TIMEOUT));
    connected.unwrap();
    let mut sink = npipe::sink(client.unwrap());
    write_all(&mut sink, &b"orders"[..]).await.unwrap();
    finish(&mut sink).await.unwrap();
    drop(sink);
    let mut got = Vec::new();
    server.read_to_end(&mut got).await.unwrap();
    assert_eq!(got, b"orders");
}

#[tokio::test]
async fn a_relay_joins_two_pipes() {
    let (near_a, far_a) = pair().await;
    let (near_b, far_b) = pair().await;
    let relay = tokio::spawn(Relay::new(npipe::duplex(near_a), npipe::duplex(near_b)).run());
    let mut there = npipe::duplex(far_a);
    let mut back = npipe::duplex(far_b);
    let bytes = pattern(500_000);
    let sending = async {
        write_all(&mut *there.sink, bytes.clone()).await.unwrap();
    };
    let receiving = async {
        let mut got = Vec::new();
        while got.len() < bytes.len() {
            got.extend_from_slice(&read_some(&mut *back.source).await.unwrap().unwrap());
        }
        write_all(&mut *back.sink, &b"thanks"[..]).await.unwrap();
        got
    };
    let (_, got) = within(async { tokio::join!(sending, receiving) }).await;
    assert!(got == bytes);
    assert_eq!(
        &read_some(&mut *there.source).await.unwrap().unwrap()[..],
        b"thanks"
    );
    // No half-close here: both ends go, and the relay with them.
    drop((there, back));
    within(relay).await.unwrap().unwrap();
}

/// A pipe is a transport like any other: two protocols forward to each other, and each is lost once.
#[tokio::test]
async fn protocols_talk_over_pipes() {
    let (near_a, far_a) = pair().await;
    let (near_b, far_b) = pair().await;
    let (a, running_a) = open(npipe::duplex(near_a), Settings::default());
    let (b, running_b) = open(npipe::duplex(near_b), Settings::default());
    let running_a = tokio::spawn(running_a.run(Arc::new(ConsumerProtocol::new(b))));
    let running_b = tokio::spawn(running_b.run(Arc::new(ConsumerProtocol::new(a))));
    let mut one = npipe::duplex(far_a);
    let mut two = npipe::duplex(far_b);
    write_all(&mut *one.sink, &b"question"[..]).await.unwrap();
    assert_eq!(
        &read_some(&mut *two.source).await.unwrap().unwrap()[..],
        b"question"
    );
    write_all(&mut *two.sink, &b"answer"[..]).await.unwrap();
    assert_eq!(
        &read_some(&mut *one.source).await.unwrap().unwrap()[..],
        b"answer"
    );
    drop((one, two));
    within(running_a).await.unwrap();
    within(running_b).await.unwrap();
}
