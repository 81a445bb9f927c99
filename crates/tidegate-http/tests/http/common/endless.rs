//! A producer that never ends, and how a test waits for what becomes of it.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use bytes::Bytes;
use tidegate::{Consumer as _, Producer, PullProducer, StopReason};
use tidegate_http::{Limits, OutgoingBody};

use super::within;

pub(crate) const GET: &[u8] = b"GET / HTTP/1.1\r\nHost: t\r\n\r\n";

pub(crate) fn limits(with: impl FnOnce(&mut Limits)) -> Limits {
    let mut limits = Limits::default();
    with(&mut limits);
    limits
}

/// A pull producer without end; it counts what it wrote and how it was stopped.
pub(crate) struct Endless {
    to: std::sync::Weak<OutgoingBody>,
    pub(crate) written: AtomicUsize,
    pub(crate) stops: AtomicUsize,
}

pub(crate) const PIECE: usize = 16 * 1024;

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

pub(crate) fn endless(consumer: OutgoingBody) -> (Arc<OutgoingBody>, Arc<Endless>) {
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
pub(crate) async fn until_full(producer: &Endless) {
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

pub(crate) async fn until(what: &str, holds: impl Fn() -> bool) {
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
