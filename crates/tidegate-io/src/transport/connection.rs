//! A connection as those who write to it have it, its protocol among them.
//!
//! Knows nothing of who reads, writes and calls the protocol: it leaves word for that task and wakes it.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::Waker;

use bytes::Bytes;
use tidegate::{
    AbortReason, AlreadyRegistered, Consumer, FinishableConsumer, Pressure, Producer, ReadHold, Transport,
    WriteError,
};

use crate::SinkConsumer;

/// A connection as its protocol, and others, write to it.
pub struct Connection {
    pub(super) write: SinkConsumer,
    /// Bytes taken from the protocol in all.
    pub(super) written: AtomicU64,
    #[cfg(feature = "tls")]
    pub(super) barrier: Arc<AtomicU64>,
    pub(super) shared: Mutex<Shared>,
}

#[derive(Default)]
pub(super) struct Shared {
    pub(super) read_holds: usize,
    /// The protocol is done: what still comes is dropped.
    pub(super) discards: bool,
    /// Why the connection was cut, the first reason.
    pub(super) cut: Option<AbortReason>,
    #[cfg(feature = "tls")]
    pub(super) upgrade: Option<super::upgrade::Request>,
    waker: Option<Waker>,
}

impl Connection {
    pub(super) fn lock(&self) -> MutexGuard<'_, Shared> {
        self.shared.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn change<T>(&self, change: impl FnOnce(&mut Shared) -> T) -> T {
        let mut shared = self.lock();
        let result = change(&mut shared);
        let waker = shared.waker.take();
        drop(shared);
        if let Some(waker) = waker {
            waker.wake();
        }
        result
    }

    pub(super) fn listen(&self, waker: &Waker) {
        let fresh = waker.clone();
        let stale = self.lock().waker.replace(fresh);
        drop(stale);
    }

    fn count<E>(&self, bytes: usize, result: Result<Pressure, E>) -> Result<Pressure, E> {
        if result.is_ok() {
            self.written.fetch_add(bytes as u64, Ordering::Release);
        }
        result
    }
}

impl Consumer for Connection {
    fn register_producer(&self, producer: Producer) -> Result<(), AlreadyRegistered> {
        self.write.register_producer(producer)
    }
    fn unregister_producer(&self) {
        self.write.unregister_producer();
    }
    fn write(&self, data: Bytes) -> Result<Pressure, WriteError> {
        self.count(data.len(), self.write.write(data))
    }
    fn write_list(&self, data: Vec<Bytes>) -> Result<Pressure, WriteError<Vec<Bytes>>> {
        let bytes = data.iter().map(Bytes::len).sum();
        self.count(bytes, self.write.write_list(data))
    }
}

impl FinishableConsumer for Connection {
    fn finish(&self) {
        self.write.finish();
    }

    /// Both directions: a connection that is half cut does not exist.
    fn abort(&self, reason: AbortReason) {
        self.change(|shared| shared.cut.get_or_insert_with(|| reason.clone()).clone());
        self.write.abort(reason);
    }
}

/// The connection as a transport: a type of its own, so that a hold can keep the connection.
pub(super) struct Link(pub(super) Arc<Connection>);

impl Consumer for Link {
    fn register_producer(&self, producer: Producer) -> Result<(), AlreadyRegistered> {
        self.0.register_producer(producer)
    }
    fn unregister_producer(&self) {
        self.0.unregister_producer();
    }
    fn write(&self, data: Bytes) -> Result<Pressure, WriteError> {
        self.0.write(data)
    }
    fn write_list(&self, data: Vec<Bytes>) -> Result<Pressure, WriteError<Vec<Bytes>>> {
        self.0.write_list(data)
    }
}

impl FinishableConsumer for Link {
    fn finish(&self) {
        self.0.finish();
    }
    fn abort(&self, reason: AbortReason) {
        self.0.abort(reason);
    }
}

impl Transport for Link {
    fn hold_reading(&self) -> ReadHold {
        self.0.change(|shared| shared.read_holds += 1);
        ReadHold::new(Reading(Arc::clone(&self.0)))
    }

    fn lose_connection(&self) {
        self.0.change(|shared| shared.discards = true);
        self.0.finish();
    }
}

struct Reading(Arc<Connection>);

impl Drop for Reading {
    fn drop(&mut self) {
        self.0.change(|shared| shared.read_holds -= 1);
    }
}
