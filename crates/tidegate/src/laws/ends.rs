//! The laws about ends: what goes first, who learns of it, and what it looks like from the far side.
//!
//! Knows no consumer; plays writers that finish, abort, die and panic.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use bytes::Bytes;

use super::recorder::{Reaction, Recorder};
use super::run::{Run, expect, marks_of, not_shown};
use super::{Control, FarEnd, Harness};
use crate::{AbortReason, Producer, StopReason};

/// Law 9: `finish` lets what is held and who is registered go first; after that, writes are refused.
pub fn law_09_closing_waits(harness: &dyn Harness) {
    for pull in [true, false] {
        let mut run = Run::new(harness, marks_of(2, 8));
        let _ = run.write(3);
        let producer = if pull {
            Recorder::pull(&run)
        } else {
            Recorder::push(&run)
        };
        run.consumer().finish();
        run.consumer().finish();
        run.device.allow(usize::MAX);
        run.until("law 9: what is held goes out", |run| {
            run.device.output().len() == 3
        });
        run.quiet();
        assert_eq!(
            run.device.end(),
            FarEnd::Open,
            "law 9: closed under a registered producer"
        );
        assert_eq!(producer.stops(), 0, "law 9: stopped although it may go on");
        assert!(
            run.consumer().write(Bytes::from_static(b"tail")).is_ok(),
            "law 9: its writes are taken"
        );
        run.consumer().unregister_producer();
        run.until("law 9: closed once drained and unregistered", |run| {
            run.device.end() == FarEnd::Finished
        });
        assert_eq!(run.device.output().len(), 7, "law 9: the tail was lost");
        let late = run.consumer().write(Bytes::from_static(b"late")).err();
        let late = expect(late, "law 9: a write after the end was taken");
        assert_eq!(late.data, "late", "law 9: the refused data was not given back");
    }
    dropped_after_finish(harness);
    if harness.control() == Control::Open {
        return not_shown(harness, "law 9", "the device cannot be kept from accepting");
    }
    for before in [Before::Open, Before::Finished] {
        abort_passes_what_stands_still(harness, before);
    }
}

/// How a stream is when it is aborted.
#[derive(Clone, Copy, Eq, PartialEq)]
enum Before {
    Open,
    Finished,
}

/// An abort does not wait: not for what is held, not for a producer, not for a finish that waits itself.
fn abort_passes_what_stands_still(harness: &dyn Harness, before: Before) -> Run<'_> {
    let mut run = Run::new(harness, marks_of(2, 8));
    let producer = Recorder::push(&run);
    run.fill();
    if before == Before::Finished {
        run.consumer().finish();
        run.quiet();
    }
    run.consumer().abort(AbortReason::Requested);
    assert_eq!(producer.stops(), 1, "law 9: an abort waited to tell the producer");
    run.until("law 9: an abort passes a device that stands still", |run| {
        matches!(run.device.outcome(), Some(Err(_)))
    });
    run
}

/// Nobody is left to ask: what is held goes out all the same, or the stream is visibly cut.
fn dropped_after_finish(harness: &dyn Harness) {
    let mut run = Run::new(harness, marks_of(2, 8));
    let _ = run.write(5);
    run.consumer().finish();
    run.consumer = None;
    run.device.allow(usize::MAX);
    run.until(
        "law 9: a write end that is dropped after finish comes to an end",
        |run| run.device.end() != FarEnd::Open,
    );
    if run.device.end() == FarEnd::Finished {
        assert_eq!(
            run.device.output().len(),
            5,
            "law 9: finished without its tail once the write end was dropped"
        );
    }
}

/// Law 10: reasons travel, and a stream that was cut short never looks finished.
pub fn law_10_reasons_travel(harness: &dyn Harness) {
    let mut run = Run::new(harness, marks_of(2, 8));
    let producer = Recorder::push(&run);
    let _ = run.write(3);
    let cause: Arc<str> = Arc::from("law ten");
    run.consumer().abort(AbortReason::Panicked(Arc::clone(&cause)));
    let heard = expect(producer.reason(), "law 10: an abort stops the producer");
    assert!(
        matches!(&heard, StopReason::Aborted(AbortReason::Panicked(text)) if *text == cause),
        "law 10: the abort's reason did not reach the producer, but {heard:?}"
    );
    run.device.allow(usize::MAX);
    run.until("law 10: an abort is visible", |run| {
        run.device.end() != FarEnd::Open
    });
    assert_eq!(
        run.device.end(),
        FarEnd::Cut,
        "law 10: an aborted stream looks finished"
    );
    let mut run = Run::new(harness, marks_of(2, 8));
    let _ = run.write(3);
    run.device.allow(usize::MAX);
    run.consumer = None;
    run.until("law 10: a dropped write end is visible", |run| {
        run.device.end() != FarEnd::Open
    });
    assert_eq!(
        run.device.end(),
        FarEnd::Cut,
        "law 10: a dropped write end looks finished"
    );
    if harness.control() == Control::Open {
        return not_shown(harness, "law 10", "the device cannot be kept from accepting");
    }
    for before in [Before::Open, Before::Finished] {
        let mut run = abort_passes_what_stands_still(harness, before);
        run.device.allow(usize::MAX);
        run.until(
            "law 10: an abort that passed what was held is seen as a cut",
            |run| run.device.end() == FarEnd::Cut,
        );
    }
}

/// Law 11: a paused producer hears of a death.
pub fn law_11_a_pause_is_not_blind(harness: &dyn Harness) {
    if harness.control() == Control::Open {
        return not_shown(harness, "law 11", "the device cannot be kept from accepting");
    }
    let mut run = Run::new(harness, marks_of(2, 8));
    let producer = Recorder::push(&run);
    run.fill();
    run.device.kill();
    run.until("law 11: a paused producer is stopped by a death", |_| {
        producer.events() == "PS"
    });
}

/// Law 14: a handler that panics is not signalled again, the stream is aborted, the panic goes on.
pub fn law_14_panics_end_one_registration(harness: &dyn Harness) {
    let mut run = Run::new(harness, marks_of(2, 8));
    let producer = Recorder::with(&run, Reaction::Panic);
    let registered = catch_unwind(AssertUnwindSafe(|| {
        run.register(Producer::pull(Arc::clone(&producer)))
    }));
    assert!(
        registered.is_err(),
        "law 14: the panic of a handler was swallowed"
    );
    run.device.allow(usize::MAX);
    let _ = run.consumer().write(Bytes::from_static(b"x"));
    run.quiet();
    assert_eq!(producer.events(), "R", "law 14: signalled again after its panic");
    run.until("law 14: the stream is aborted", |run| {
        run.device.end() == FarEnd::Cut
    });
    let next = Recorder::push(&run);
    assert_eq!(
        next.events(),
        "S",
        "law 14: the gate stays usable and stops who comes later"
    );
    let reason = next.reason();
    assert!(
        matches!(&reason, Some(StopReason::Aborted(AbortReason::Panicked(text))) if text.contains("law 14")),
        "law 14: the reason is the panic, not {reason:?}"
    );
}

/// Law 15: the outcome ends once, with what became of the stream, also after unregister and finish.
pub fn law_15_outcome(harness: &dyn Harness) {
    let mut run = Run::new(harness, marks_of(2, 8));
    let _ = run.write(5);
    assert!(
        run.device.outcome().is_none(),
        "law 15: an outcome before the end"
    );
    run.consumer().finish();
    run.device.allow(usize::MAX);
    run.until("law 15: an outcome", |run| run.device.outcome().is_some());
    match run.device.outcome() {
        Some(Ok(delivered)) => assert_eq!(delivered.bytes, 5, "law 15: the report counts what was delivered"),
        other => panic!("law 15: a delivered stream reports {other:?}"),
    }
    run.device.kill();
    run.consumer().abort(AbortReason::Requested);
    assert!(
        matches!(run.device.outcome(), Some(Ok(_))),
        "law 15: an outcome changed"
    );
    let mut run = Run::new(harness, marks_of(2, 8));
    run.consumer().abort(AbortReason::Requested);
    run.until("law 15: an abort is an outcome", |run| {
        matches!(run.device.outcome(), Some(Err(_)))
    });
    if harness.control() == Control::Open {
        return not_shown(harness, "law 15", "the device cannot be kept from accepting");
    }
    let mut run = Run::new(harness, marks_of(2, 8));
    run.fill();
    run.consumer().finish();
    run.device.kill();
    run.until(
        "law 15: a device error after unregister and finish is not lost",
        |run| matches!(run.device.outcome(), Some(Err(_))),
    );
}
