//! Scenarios of the exact-length consumer. Knows nothing of other consumers.

use std::error::Error as _;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use bytes::Bytes;
use tidegate::{
    AbortReason, Consumer, ExactLength, FinishableConsumer, LengthError, Marks, Producer, PushProducer,
    Refusal, StopReason,
};

use crate::dam::Dam;
use crate::recorder::Recorder;

fn length(announced: u64) -> (Arc<Dam>, ExactLength) {
    let below = Arc::new(Dam::open());
    let length = ExactLength::new(below.clone(), Marks::TWISTED, announced).unwrap();
    (below, length)
}

fn write(to: &ExactLength, text: &'static str) -> Result<(), Refusal> {
    let written = to.write(Bytes::from_static(text.as_bytes()));
    written.map(|_| ()).map_err(|error| {
        assert_eq!(error.data, text, "the data is given back");
        error.refusal
    })
}

fn cause(reason: &AbortReason) -> LengthError {
    *reason.source().unwrap().downcast_ref().unwrap()
}

fn end(below: &Dam) -> (&'static str, Option<LengthError>) {
    let state = below.0.lock().unwrap();
    (state.end, state.reason.as_ref().map(cause))
}

/// CASES 175, 168: what fits goes on, and the end with it.
#[test]
fn exactly_the_announced_bytes_pass() {
    let (below, body) = length(6);
    write(&body, "abc").unwrap();
    write(&body, "def").unwrap();
    assert_eq!(body.missing(), 0);
    write(&body, "").unwrap();
    body.finish();
    assert_eq!(
        below.0.lock().unwrap().events,
        ["abc", "def", "unregister", "finished"]
    );
    assert_eq!(body.outcome().now().unwrap().unwrap().bytes, 6);
}

/// CASES 177, 178 (D101): the byte too much is refused and given back, the producer is stopped once with the reason, and
/// what is below does not look complete, though it has all the bytes that were announced (law 10).
#[test]
fn a_byte_too_much_stops_the_producer_and_aborts() {
    let (below, body) = length(10);
    let producer = Recorder::new();
    body.register_producer(producer.push()).unwrap();
    write(&body, "0123456789").unwrap();
    assert_eq!(producer.heard(), "");
    assert!(matches!(write(&body, "!"), Err(Refusal::PastEnd { length: 10 })));
    assert_eq!(producer.heard(), "S");
    let StopReason::Aborted(reason) = producer.reason() else {
        panic!("stopped with {}", producer.reason());
    };
    assert_eq!(cause(&reason), LengthError::TooLong { length: 10 });
    assert_eq!(
        end(&below),
        ("aborted", Some(LengthError::TooLong { length: 10 }))
    );
    assert!(matches!(write(&body, "again"), Err(Refusal::Dead(_))));
    assert_eq!(producer.heard(), "");
    assert!(body.outcome().now().unwrap().is_err());
}

/// CASES 177: nothing of a write that does not fit goes on, not even the part that would.
#[test]
fn a_write_across_the_end_passes_nothing() {
    let (below, body) = length(4);
    let list = vec![Bytes::from_static(b"abc"), Bytes::from_static(b"de")];
    let refused = body.write_list(list.clone()).unwrap_err();
    assert_eq!(refused.data, list);
    assert!(below.0.lock().unwrap().out.is_empty());
}

/// CASES 169, 171: a finish that comes too early aborts what is below; what is written later is refused.
#[test]
fn too_few_bytes_never_look_finished() {
    let (below, body) = length(3);
    write(&body, "ab").unwrap();
    body.finish();
    let short = LengthError::TooShort {
        length: 3,
        written: 2,
    };
    assert_eq!(end(&below), ("aborted", Some(short)));
    assert!(write(&body, "cd").is_err());
    assert!(
        matches!(body.outcome().now(), Some(Err(StopReason::Aborted(reason))) if cause(&reason) == short)
    );
}

/// Law 9: a producer that is still registered may write the rest after `finish`.
#[test]
fn the_length_is_judged_when_the_producer_has_left() {
    let (below, body) = length(3);
    let producer = Recorder::new();
    body.register_producer(producer.push()).unwrap();
    write(&body, "ab").unwrap();
    body.finish();
    write(&body, "c").unwrap();
    assert_eq!(end(&below), ("open", None));
    body.unregister_producer();
    assert_eq!(end(&below), ("finished", None));
}

struct PanicsAtStop;

impl PushProducer for PanicsAtStop {
    fn pause_producing(&self) {}
    fn resume_producing(&self) {}
    fn stop_producing(&self, _: StopReason) {
        panic!("a scripted panic");
    }
}

/// CASES 180: a producer that panics when it is stopped changes nothing about the failure.
#[test]
fn a_panic_in_stop_does_not_hide_the_failure() {
    let (below, body) = length(1);
    body.register_producer(Producer::push(Arc::new(PanicsAtStop)))
        .unwrap();
    assert!(catch_unwind(AssertUnwindSafe(|| write(&body, "ab"))).is_err());
    assert_eq!(end(&below), ("aborted", Some(LengthError::TooLong { length: 1 })));
    assert!(body.outcome().now().unwrap().is_err());
}
