//! The laws about registrations: one at a time, each for itself, and nothing kept of one that is over.
//!
//! Knows no consumer; plays producers that come early, late and twice.

use std::sync::Arc;

use bytes::Bytes;

use super::recorder::Recorder;
use super::run::{Run, marks_of};
use super::{Control, Harness};
use crate::{AbortReason, Producer};

/// Law 5: who is registered is stopped exactly once, and hears nothing after that, nor after it unregistered.
pub fn law_05_stop_is_last(harness: &dyn Harness) {
    for kind in [Recorder::push as fn(&Run) -> Arc<Recorder>, Recorder::pull] {
        let mut run = Run::new(harness, marks_of(2, 8));
        let producer = kind(&run);
        run.device.kill();
        run.until("law 5: a death stops the producer", |_| producer.stops() == 1);
        let heard = producer.events();
        let _ = run.consumer().write(Bytes::from_static(b"x"));
        run.consumer().abort(AbortReason::Requested);
        run.consumer().finish();
        run.device.kill();
        run.quiet();
        assert_eq!(producer.events(), heard, "law 5: something came after stop");
        let mut run = Run::new(harness, marks_of(2, 8));
        let producer = kind(&run);
        let heard = producer.events();
        run.consumer().unregister_producer();
        let _ = run.consumer().write(Bytes::from_static(b"0123456789"));
        run.consumer().abort(AbortReason::Requested);
        run.quiet();
        assert_eq!(producer.events(), heard, "law 5: something came after unregister");
        let run = Run::new(harness, marks_of(2, 8));
        let producer = kind(&run);
        run.consumer().abort(AbortReason::Requested);
        assert_eq!(
            producer.stops(),
            1,
            "law 5: an abort stops the producer, before it returns"
        );
    }
}

/// Law 6: a second registration is refused and disturbs nothing; a late one is stopped; an idle unregister is silent.
pub fn law_06_second_registration(harness: &dyn Harness) {
    let mut run = Run::new(harness, marks_of(2, 8));
    run.consumer().unregister_producer();
    let first = Recorder::push(&run);
    let second = Arc::new(Recorder::default());
    let refused = run.register(Producer::pull(Arc::clone(&second)));
    assert!(!refused, "law 6: a second registration was taken");
    assert_eq!(second.events(), "", "law 6: the refused newcomer was signalled");
    assert_eq!(
        first.events(),
        "",
        "law 6: the standing registration was disturbed"
    );
    run.device.kill();
    run.until("law 6: the first one is still registered", |_| {
        first.events() == "S"
    });
    let late = Recorder::push(&run);
    assert_eq!(
        late.events(),
        "S",
        "law 6: who comes to a dead consumer is stopped at once"
    );
    run.consumer().unregister_producer();
    let run = Run::new(harness, marks_of(2, 8));
    run.consumer().finish();
    let late = Recorder::pull(&run);
    assert_eq!(
        late.events(),
        "S",
        "law 6: who comes to a finished consumer is stopped at once"
    );
}

/// Law 12: nothing carries over to the next registration; an empty write does nothing at all.
pub fn law_12_registrations_are_separate(harness: &dyn Harness) {
    let mut run = Run::new(harness, marks_of(2, 8));
    let first = Recorder::pull(&run);
    run.device.allow(usize::MAX);
    let _ = run.consumer().write(Bytes::new());
    let _ = run.consumer().write_list(vec![Bytes::new()]);
    let _ = run.consumer().write_list(Vec::new());
    run.quiet();
    assert_eq!(first.events(), "R", "law 12: an empty write answered a pull");
    run.consumer().unregister_producer();
    let second = Recorder::pull(&run);
    assert_eq!(
        second.events(),
        "R",
        "law 12: the outstanding pull of another was taken for its own"
    );
    run.consumer().unregister_producer();
    let mut run = Run::new(harness, marks_of(2, 8));
    let first = Recorder::push(&run);
    if harness.control() != Control::Open {
        run.fill();
        assert_eq!(first.events(), "P");
    }
    run.consumer().unregister_producer();
    run.device.allow(usize::MAX);
    let written = run.written;
    run.until("law 12: drained", |run| run.device.output().len() == written);
    // It is out; that the consumer knows may take a turn more.
    run.quiet();
    let second = Recorder::push(&run);
    run.quiet();
    assert_eq!(second.events(), "", "law 12: an unearned signal (B2)");
}

/// Law 16: a consumer lets go of its producer at unregister, at stop and at a refused registration.
pub fn law_16_no_leaks(harness: &dyn Harness) {
    let mut run = Run::new(harness, marks_of(2, 8));
    let weak = Arc::downgrade(&Recorder::push(&run));
    run.consumer().unregister_producer();
    assert!(weak.upgrade().is_none(), "law 16: kept after unregister");
    let weak = Arc::downgrade(&Recorder::pull(&run));
    assert!(weak.upgrade().is_some(), "law 16: let go while registered");
    run.device.kill();
    run.until("law 16: let go at stop", |_| weak.upgrade().is_none());
    let weak = Arc::downgrade(&Recorder::push(&run));
    assert!(
        weak.upgrade().is_none(),
        "law 16: a dead consumer keeps who comes late"
    );
    let mut run = Run::new(harness, marks_of(2, 8));
    let weak = Arc::downgrade(&Recorder::push(&run));
    run.consumer = None;
    run.until("law 16: let go when the write end is dropped", |_| {
        weak.upgrade().is_none()
    });
}
