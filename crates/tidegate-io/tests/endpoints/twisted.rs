//! A live Twisted process as the far end: its push and pull producers into our consumers, ours into it, over TCP and TLS.
#![allow(clippy::unwrap_used)]

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use tidegate::{Consumer as _, Marks};
use tidegate_io::endpoint::process::{Process, ProcessSource, Stderr};
use tidegate_io::endpoint::tcp;
use tidegate_io::{Duplex, Sink, SinkConsumer, SourceProducer};

use crate::support::{MemorySink, MemorySource, read_some, twisted, within, write_all};

const TIMEOUT: Duration = Duration::from_secs(10);
const LENGTH: usize = 3_000_000;

fn expected() -> Vec<u8> {
    (0..LENGTH).map(|index| (index % 251) as u8).collect()
}

/// The peer, running until dropped.
struct Peer {
    process: ProcessSource,
    address: String,
}

impl Peer {
    async fn start(python: &std::path::Path, papers: &[std::path::PathBuf]) -> Self {
        let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/endpoints/twisted_peer.py");
        let arguments =
            std::iter::once(script.into()).chain(papers.iter().map(|path| path.as_os_str().to_owned()));
        let arguments: Vec<std::ffi::OsString> = arguments.collect();
        let process = Process::exec(python, arguments)
            .stderr(Stderr::Keep)
            .into_source()
            .unwrap();
        let mut peer = Self {
            process,
            address: String::new(),
        };
        let port = peer.line().await;
        peer.address = format!("127.0.0.1:{}", port.strip_prefix("port ").unwrap());
        peer
    }

    async fn line(&mut self) -> String {
        let mut line = Vec::new();
        while !line.ends_with(b"\n") {
            line.extend_from_slice(&read_some(&mut self.process).await.unwrap().unwrap());
        }
        String::from_utf8(line).unwrap().trim().to_owned()
    }
}

/// Connects plain, or with TLS.
struct Connector {
    #[cfg(feature = "tls")]
    client: Option<tidegate_io::endpoint::tls::Client>,
}

impl Connector {
    async fn connect(&self, address: &str) -> Duplex {
        let plain = tcp::duplex(tcp::connect(address, TIMEOUT).await.unwrap());
        #[cfg(feature = "tls")]
        if let Some(client) = &self.client {
            return client.connect(plain, "localhost").await.unwrap().into_duplex();
        }
        plain
    }
}

async fn its_producers_fill_our_consumers(peer: &Peer, connector: &Connector) {
    for kind in ["push", "pull"] {
        for ours_is_push in [true, false] {
            let Duplex { source, mut sink } = connector.connect(&peer.address).await;
            write_all(&mut *sink, format!("{kind} {LENGTH}\n")).await.unwrap();
            let (memory, seen) = MemorySink::new();
            let consumer = Arc::new(SinkConsumer::spawn(memory, Marks::default()));
            let outcome = consumer.outcome();
            let producer = match ours_is_push {
                true => SourceProducer::push(source, consumer),
                false => SourceProducer::pull(source, consumer),
            };
            assert_eq!(within(producer.unwrap()).await.unwrap(), LENGTH as u64, "{kind}");
            assert_eq!(within(outcome).await.unwrap().bytes, LENGTH as u64);
            assert!(seen.bytes() == expected(), "{kind}: other bytes");
        }
    }
}

async fn our_producers_fill_its_consumer(peer: &mut Peer, connector: &Connector) {
    for is_push in [true, false] {
        let Duplex { source, sink } = connector.connect(&peer.address).await;
        let consumer = Arc::new(SinkConsumer::spawn(
            sink as Box<dyn Sink + Send>,
            Marks::default(),
        ));
        let outcome = consumer.outcome();
        let _ = consumer.write(Bytes::from_static(b"sink\n")).unwrap();
        let memory = MemorySource::new(expected());
        let producer = match is_push {
            true => SourceProducer::push(memory, consumer),
            false => SourceProducer::pull(memory, consumer),
        };
        assert_eq!(within(producer.unwrap()).await.unwrap(), LENGTH as u64);
        within(outcome).await.unwrap();
        assert_eq!(peer.line().await, format!("sink {LENGTH} right ConnectionDone"));
        drop(source);
    }
}

#[tokio::test]
async fn a_live_twisted_over_tcp() {
    let Some(python) = twisted("a_live_twisted_over_tcp") else {
        return;
    };
    let mut peer = Peer::start(&python, &[]).await;
    let connector = Connector {
        #[cfg(feature = "tls")]
        client: None,
    };
    its_producers_fill_our_consumers(&peer, &connector).await;
    our_producers_fill_its_consumer(&mut peer, &connector).await;
}

#[cfg(feature = "tls")]
#[tokio::test]
async fn a_live_twisted_over_tls() {
    use tidegate_io::endpoint::tls::Client;

    let Some(python) = twisted("a_live_twisted_over_tls") else {
        return;
    };
    let papers = crate::tls::Papers::new();
    let identity = papers.sign("localhost", |_| ());
    let mut peer = Peer::start(&python, &[identity.certificates, identity.key]).await;
    let connector = Connector {
        client: Some(Client::new(&papers.options()).unwrap()),
    };
    its_producers_fill_our_consumers(&peer, &connector).await;
    our_producers_fill_its_consumer(&mut peer, &connector).await;
}
