//! A peer that resets its connection, and what notices that.
//!
//! wine 8.0 ends a connection before it closes one, so its own peers cannot reset: where it shows us the host's Python,
//! that plays the peer.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream as StdStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use tidegate_io::endpoint::tcp;
use tidegate_io::{ErrorKind, Flow, FlowErrorKind, Sink, Source};
use tokio::net::TcpStream;

use crate::support::{MemorySink, within, write_all};

const HOST_PYTHON: &str = r"Z:\usr\bin\python3";

/// Connects back twice, sends what it is told to through one connection, and resets that when the other says so.
const SCRIPT: &str = "
import socket, struct, sys
port, unread = int(sys.argv[1]), int(sys.argv[2])
peer = socket.create_connection(('127.0.0.1', port))
orders = socket.create_connection(('127.0.0.1', int(sys.argv[3])))
peer.sendall(b'u' * unread)
orders.recv(1)
peer.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack('ii', 1, 0))
peer.close()
orders.sendall(b'x')
";

pub(crate) enum Resetting {
    Ours(StdStream),
    Host { _running: Child, orders: StdStream },
}

impl Resetting {
    pub(crate) fn reset(self) {
        match self {
            Self::Ours(stream) => socket2::SockRef::from(&stream)
                .set_linger(Some(Duration::ZERO))
                .unwrap(),
            Self::Host { mut orders, .. } => {
                orders.write_all(b"x").unwrap();
                orders.read_exact(&mut [0]).unwrap();
            }
        }
    }
}

/// A connection, and its peer.
pub(crate) fn connected() -> (TcpStream, Resetting) {
    connected_with(0)
}

/// The same, after the peer has sent so many bytes.
fn connected_with(unread: usize) -> (TcpStream, Resetting) {
    let bind = || TcpListener::bind("127.0.0.1:0").unwrap();
    let (listener, orders) = (bind(), bind());
    let port = |listener: &TcpListener| listener.local_addr().unwrap().port().to_string();
    let peer = if Path::new(HOST_PYTHON).exists() {
        let running = Command::new(HOST_PYTHON)
            .args([
                "-c",
                SCRIPT,
                &port(&listener),
                &unread.to_string(),
                &port(&orders),
            ])
            .stdin(Stdio::null())
            .spawn()
            .unwrap();
        Resetting::Host {
            _running: running,
            orders: orders.accept().unwrap().0,
        }
    } else {
        let mut stream = StdStream::connect(listener.local_addr().unwrap()).unwrap();
        stream.write_all(&vec![b'u'; unread]).unwrap();
        Resetting::Ours(stream)
    };
    let mut near = listener.accept().unwrap().0;
    if unread > 0 {
        // The first byte is taken: the others are on their way or there.
        near.read_exact(&mut [0]).unwrap();
    }
    near.set_nonblocking(true).unwrap();
    (TcpStream::from_std(near).unwrap(), peer)
}

/// Law 11 of an idle sink.
#[tokio::test]
async fn a_sink_notices_a_reset_while_it_has_nothing_to_write() {
    let (near, peer) = connected();
    let mut sink = tcp::sink(near);
    write_all(&mut sink, &b"hello"[..]).await.unwrap();
    peer.reset();
    let error = within(std::future::poll_fn(|cx| sink.poll_hangup(cx))).await;
    assert_eq!(error.kind, ErrorKind::Failed, "{error}");
}

/// Law 11 of a source that is not read, with and without unread bytes before the reset.
#[tokio::test]
async fn a_source_that_is_not_read_notices_a_reset() {
    for unread in [0, 10_000] {
        let (near, peer) = connected_with(unread);
        let mut source = tcp::source(near);
        peer.reset();
        let error = within(std::future::poll_fn(|cx| source.poll_hangup(cx))).await;
        assert_eq!(error.kind, ErrorKind::Failed, "{error}");
    }
}

/// Law 10: a stream that was reset never looks finished.
#[tokio::test]
async fn a_flow_from_a_reset_connection_is_aborted() {
    let (near, peer) = connected();
    let (sink, seen) = MemorySink::new();
    let flow = Flow::new(tcp::source(near), sink).run();
    let (result, ()) = within(async { tokio::join!(flow, async { peer.reset() }) }).await;
    assert_eq!(result.unwrap_err().kind, FlowErrorKind::Failed);
    assert!(!seen.is_finished());
    assert!(seen.aborted().is_some());
}

/// A writer that waits for a peer that does not read hears of its reset.
#[tokio::test]
async fn a_blocked_writer_notices_a_reset() {
    let (near, peer) = connected();
    let mut sink = tcp::sink(near);
    let writing = async {
        loop {
            if let Err(error) = write_all(&mut sink, vec![0; 1 << 20]).await {
                return error;
            }
        }
    };
    let resetting = async {
        tokio::time::sleep(Duration::from_millis(300)).await;
        peer.reset();
    };
    let (error, ()) = within(async { tokio::join!(writing, resetting) }).await;
    assert_eq!(error.kind, ErrorKind::Failed, "{error}");
}
