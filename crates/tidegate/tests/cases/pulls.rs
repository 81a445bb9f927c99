//! Scenarios of a pull producer driven as a push producer. Knows nothing of other consumers.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use tidegate::{
    AbortReason, AlreadyRegistered, Consumer, FinishableConsumer, Marks, Pressure, Producer, StopReason,
    WriteError, channel,
};

use crate::dam::Dam;
use crate::digits::{Act, drive};

fn text(below: &Dam) -> String {
    String::from_utf8(below.0.lock().unwrap().out.clone()).unwrap()
}

/// CASES 88: all is written, the consumer has no producer any more and is not finished; nobody is asked again.
#[test]
fn a_source_is_driven_until_it_is_done() {
    let below = Arc::new(Dam::open());
    let (digits, driven) = drive(below.clone(), |_| Act::Write);
    assert_eq!((text(&below), digits.pulls()), ("0123456789".to_owned(), 10));
    assert_eq!(below.0.lock().unwrap().events.last().unwrap(), "unregister");
    assert_eq!(below.0.lock().unwrap().end, "open");
    assert_eq!(driven.outcome().now().unwrap().unwrap().bytes, 10);
    below.open_for(100);
    assert_eq!(digits.pulls(), 10);
    assert!(digits.stops().is_empty());
}

/// A consumer that pauses and resumes its producer from inside the third write.
struct Nags {
    below: Arc<Dam>,
    writes: AtomicUsize,
    producer: Mutex<Option<Producer>>,
}

impl Consumer for Nags {
    fn register_producer(&self, producer: Producer) -> Result<(), AlreadyRegistered> {
        *self.producer.lock().unwrap() = Some(producer);
        Ok(())
    }

    fn unregister_producer(&self) {
        self.producer.lock().unwrap().take();
        self.below.unregister_producer();
    }

    fn write(&self, data: Bytes) -> Result<Pressure, WriteError> {
        if self.writes.fetch_add(1, Ordering::Relaxed) == 2
            && let Some(Producer::Push(push)) = self.producer.lock().unwrap().clone()
        {
            push.pause_producing();
            push.resume_producing();
        }
        self.below.write(data)
    }

    fn write_list(&self, data: Vec<Bytes>) -> Result<Pressure, WriteError<Vec<Bytes>>> {
        self.below.write_list(data)
    }
}

impl FinishableConsumer for Nags {
    fn finish(&self) {
        self.below.finish();
    }

    fn abort(&self, reason: AbortReason) {
        self.below.abort(reason);
    }
}

/// CASES 90: paused and resumed in the midst of a write, it goes on as if nothing had been.
#[test]
fn a_pause_and_resume_inside_a_write_do_no_harm() {
    let below = Arc::new(Dam::open());
    let nags = Nags {
        below: below.clone(),
        writes: AtomicUsize::new(0),
        producer: Mutex::default(),
    };
    let (digits, _driven) = drive(Arc::new(nags), |_| Act::Write);
    assert_eq!((text(&below), digits.pulls()), ("0123456789".to_owned(), 10));
}

/// CASES 91: stopped after the third write, the source is stopped once with the reason, and it is over.
#[test]
fn a_stop_reaches_the_source() {
    let below = Arc::new(Dam::closed());
    let (digits, driven) = drive(below.clone(), |_| Act::Write);
    assert_eq!(
        digits.pulls(),
        0,
        "a paused consumer does not have its source asked"
    );
    for _ in 0..3 {
        below.open_for(1);
    }
    below.die();
    assert_eq!((text(&below), digits.pulls()), ("012".to_owned(), 3));
    assert!(matches!(digits.stops()[..], [StopReason::Failed(_)]));
    assert!(driven.outcome().now().unwrap().is_err());
}

/// CASES 93: law 14 instead of two lines in a log: a source that panics at its third pull has its registration ended,
/// the stream is aborted, and the panic goes on.
#[test]
fn a_panic_of_the_source_aborts() {
    let below = Arc::new(Dam::closed());
    let at = |digit| if digit == 2 { Act::Panic } else { Act::Write };
    let (digits, driven) = drive(below.clone(), at);
    let panicked = catch_unwind(AssertUnwindSafe(|| (0..3).for_each(|_| below.open_for(1))));
    assert!(panicked.is_err());
    assert_eq!((below.0.lock().unwrap().end, digits.pulls()), ("aborted", 3));
    assert!(matches!(
        below.0.lock().unwrap().reason,
        Some(AbortReason::Panicked(_))
    ));
    assert!(driven.outcome().now().unwrap().is_err());
}

/// CASES 94 (D41, D42): stopping twice, or after the end, is no error.
#[test]
fn stopping_twice_is_silent() {
    let below = Arc::new(Dam::closed());
    let (digits, driven) = drive(below.clone(), |_| Act::Write);
    driven.stop();
    driven.stop();
    assert_eq!(digits.stops().len(), 1);
    assert_eq!(below.0.lock().unwrap().end, "aborted");
}

/// CASES B31 (D43): a source that has nothing yet is asked once and then left alone; its late write is what is asked after.
#[test]
fn a_source_with_nothing_yet_is_not_polled() {
    let below = Arc::new(Dam::open());
    let at = |digit| if digit == 4 { Act::Nothing } else { Act::Write };
    let (digits, driven) = drive(below.clone(), at);
    for _ in 0..1_000 {
        below.open_for(usize::MAX);
    }
    assert_eq!((text(&below), digits.pulls()), ("0123".to_owned(), 5));
    let _ = digits.to.write(Bytes::from_static(b"4"));
    assert_eq!((text(&below), digits.pulls()), ("0123456789".to_owned(), 10));
    drop(driven);
}

/// CASES 76: a consumer that has its own gate sees a push producer and all ten, whatever its marks.
#[test]
fn a_channel_below_gets_everything() {
    let (sender, receiver) = channel(Marks::new(0, 1).unwrap());
    let sender = Arc::new(sender);
    let (digits, driven) = drive(sender.clone(), |_| Act::Write);
    assert_eq!((receiver.held(), digits.pulls()), (2, 2), "paused above one byte");
    let mut receiver = receiver;
    let mut out = Vec::new();
    let taken = |receiver: &mut tidegate::Receiver| {
        let mut cx = std::task::Context::from_waker(std::task::Waker::noop());
        match receiver.poll_recv(&mut cx) {
            std::task::Poll::Ready(Some(Ok(piece))) => Some(piece),
            _ => None,
        }
    };
    while let Some(piece) = taken(&mut receiver) {
        out.extend_from_slice(&piece);
    }
    assert_eq!(out, b"0123456789");
    assert!(driven.outcome().now().unwrap().is_ok());
}
