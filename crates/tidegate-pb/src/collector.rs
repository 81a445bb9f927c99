//! The page collector: pages of the peer, written to a core consumer.
//!
//! When the consumer is full the connection stops reading, and so the peer's pager stops. Knows nothing of what becomes
//! of the bytes. (Twisted: `spread.util.CallbackPageCollector`, `getAllPages`.)
//!
//! The protocol has no word for *stop* in this direction and none for *failed* in the other. So: a consumer that dies
//! before the end notice cuts the connection; and pages that end without the end notice, because the connection broke or
//! the peer gave the collector up, are an abort and never an end. What Twisted's own file pager sends after a read error
//! is an ordinary end notice, and nobody can tell.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use bytes::Bytes;
use tidegate::{AbortReason, FinishableConsumer, Marks, Producer, PushProducer, StopReason, channel};

use crate::broker::{Broker, Call, Referenceable, Shared};
use crate::jelly::Value;
use crate::reads::ReadHold;
use crate::{PbError, Reference, RemoteError};

/// Lends the peer a collector that writes pages to `consumer`, and gives the value that stands for it.
///
/// # Errors
/// The connection is gone or lends too many objects already, or `consumer` has a producer.
pub fn collect_into(broker: &Broker, consumer: Arc<dyn FinishableConsumer>) -> Result<Value, PbError> {
    let valve = Arc::new(Valve {
        broker: Arc::downgrade(&broker.shared),
        hold: Mutex::default(),
        over: AtomicBool::new(false),
    });
    if consumer
        .register_producer(Producer::Push(Arc::clone(&valve) as Arc<dyn PushProducer>))
        .is_err()
    {
        return Err(PbError::NoObject("a consumer without a producer"));
    }
    let collector = Collector {
        consumer: Mutex::new(Some(consumer)),
        valve,
    };
    broker.lend(Arc::new(collector))
}

/// Calls a method that expects a collector as its first argument, and gathers all pages, at most `bytes_max` of them.
///
/// # Errors
/// The method raised, the pages passed the limit (the connection is cut then), or they ended before their end notice.
pub async fn get_all_pages(
    object: &Reference,
    method: &str,
    mut args: Vec<Value>,
    bytes_max: u64,
) -> Result<Vec<Bytes>, PbError> {
    let (sender, mut receiver) = channel(Marks::default());
    args.insert(0, collect_into(object.broker(), Arc::new(sender))?);
    let mut call = std::pin::pin!(object.call(method, args));
    let mut pages = Vec::new();
    let (mut bytes, mut answered) = (0u64, Answered::No);
    loop {
        let page = tokio::select! {
            answer = &mut call, if answered == Answered::No => {
                answer?;
                answered = Answered::Yes;
                continue;
            }
            page = receiver.recv() => page,
        };
        match page {
            Some(Ok(page)) => {
                bytes += page.len() as u64;
                if bytes > bytes_max {
                    return Err(PbError::TooManyPages(bytes_max));
                }
                pages.push(page);
            }
            Some(Err(aborted)) => return Err(error_of(aborted.0)),
            None => return Ok(pages),
        }
    }
}

#[derive(Clone, Copy, Eq, PartialEq)]
enum Answered {
    No,
    Yes,
}

struct Collector {
    consumer: Mutex<Option<Arc<dyn FinishableConsumer>>>,
    valve: Arc<Valve>,
}

/// What the consumer signals: a paused consumer is a connection that does not read.
struct Valve {
    broker: Weak<Shared>,
    hold: Mutex<Option<ReadHold>>,
    over: AtomicBool,
}

impl Referenceable for Collector {
    fn call(&self, call: Call) {
        match (&call.method[..], &call.args[..]) {
            ("gotPage", [page]) => match page.as_bytes() {
                Some(bytes) => {
                    let page = match page {
                        Value::Bytes(page) => page.clone(),
                        _ => Bytes::copy_from_slice(bytes),
                    };
                    self.got_page(page);
                    call.responder.answer(Value::None);
                }
                None => call
                    .responder
                    .fail(RemoteError::new("TypeError", "a page is bytes")),
            },
            ("endedPaging", []) => {
                if let Some(consumer) = self.take() {
                    consumer.unregister_producer();
                    consumer.finish();
                }
                call.responder.answer(Value::None);
            }
            (method, _) => {
                let text = format!("No such method: remote_{method}");
                call.responder
                    .fail(RemoteError::new("twisted.spread.flavors.NoSuchMethod", text));
            }
        }
    }

    fn released(&self, error: Option<&PbError>) {
        if let Some(consumer) = self.take() {
            let cause = error.cloned().unwrap_or(PbError::PagerGone).into_cause();
            consumer.unregister_producer();
            consumer.abort(AbortReason::Truncated(cause));
        }
    }
}

impl Collector {
    fn got_page(&self, page: Bytes) {
        let consumer = lock(&self.consumer).clone();
        let Some(consumer) = consumer else { return };
        // Fullness comes as a pause; a dead consumer has said stop.
        if let Err(error) = consumer.write(page) {
            self.valve.give_up(AbortReason::Failed(Arc::new(error)));
        }
    }

    /// The consumer, the first time it comes to an end.
    fn take(&self) -> Option<Arc<dyn FinishableConsumer>> {
        self.valve.over.store(true, Ordering::SeqCst);
        let consumer = lock(&self.consumer).take();
        drop(lock(&self.valve.hold).take());
        consumer
    }
}

impl Valve {
    fn give_up(&self, reason: AbortReason) {
        if self.over.swap(true, Ordering::SeqCst) {
            return;
        }
        let hold = lock(&self.hold).take();
        drop(hold);
        if let Some(shared) = self.broker.upgrade() {
            Broker { shared }.abort(reason);
        }
    }
}

impl PushProducer for Valve {
    fn pause_producing(&self) {
        let hold = self.broker.upgrade().map(|shared| shared.reads.hold());
        let old = std::mem::replace(&mut *lock(&self.hold), hold);
        drop(old);
        // A pause that was already under way when the collector came to its end holds nothing.
        if self.over.load(Ordering::SeqCst) {
            self.resume_producing();
        }
    }

    fn resume_producing(&self) {
        let hold = lock(&self.hold).take();
        drop(hold);
    }

    fn stop_producing(&self, reason: StopReason) {
        self.give_up(AbortReason::Stopped(Arc::new(reason)));
    }
}

/// What an abort says, as this crate's error where it came from here.
pub(crate) fn error_of(reason: AbortReason) -> PbError {
    if let AbortReason::Truncated(cause) | AbortReason::Failed(cause) = &reason
        && let Some(error) = cause.downcast_ref::<PbError>()
    {
        return error.clone();
    }
    PbError::Aborted(reason)
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
