//! The laws about signals while a stream is under way: when they come, how often, in what order, from which thread.
//!
//! Knows no consumer; plays producers that write back from inside their handlers.

use std::sync::{Arc, mpsc};
use std::time::Duration;

use bytes::Bytes;

use super::recorder::{Reaction, Recorder, spawn};
use super::run::{Run, marks_of, not_shown};
use super::{Control, Harness};
use crate::{Pressure, Producer};

/// Law 3: one pause above `high`, one resume at or below `low`; a newcomer is paused while `Full` is set.
pub fn law_03_pause_once(harness: &dyn Harness) {
    if harness.control() == Control::Open {
        return not_shown(harness, "law 3", "the device cannot be kept from accepting");
    }
    let mut run = Run::new(harness, marks_of(2, 8));
    let first = Recorder::push(&run);
    if harness.control() == Control::Exact {
        assert_eq!(
            run.write(8),
            Pressure::Open,
            "law 3: at the high mark is not above it"
        );
        assert_eq!(first.events(), "", "law 3: paused at the high mark");
        assert_eq!(run.write(1), Pressure::Full, "law 3: above the high mark");
    } else {
        run.fill();
    }
    assert_eq!(first.events(), "P", "law 3: above the high mark one pause is due");
    assert_eq!(run.write(1), Pressure::Full, "law 3: still above");
    assert_eq!(first.events(), "P", "law 3: a pause was repeated, or undone");
    if harness.control() == Control::Exact {
        run.device.allow(7);
        run.quiet();
        assert_eq!(first.events(), "P", "law 3: resumed above the low mark");
        run.device.allow(1);
    } else {
        run.device.allow(usize::MAX);
    }
    run.until("law 3: a resume at the low mark", |_| first.events() == "PR");
    run.quiet();
    assert_eq!(first.events(), "PR", "law 3: more than one resume");
    run.consumer().unregister_producer();
    let mut run = Run::new(harness, marks_of(2, 8));
    run.fill();
    let second = Recorder::push(&run);
    assert_eq!(
        second.events(),
        "P",
        "law 3: a newcomer at a full consumer is paused at once"
    );
    run.device.allow(usize::MAX);
    run.until("law 3: the newcomer is resumed", |_| second.events() == "PR");
}

/// Law 4: the first pull comes before `register` returns, the next one after the write it was for.
pub fn law_04_one_chunk_per_pull(harness: &dyn Harness) {
    let mut run = Run::new(harness, marks_of(2, 8));
    let producer = Recorder::pull(&run);
    assert_eq!(
        producer.events(),
        "R",
        "law 4: the first pull, before register returns"
    );
    run.device.allow(usize::MAX);
    run.quiet();
    assert_eq!(producer.events(), "R", "law 4: pulled again before it wrote");
    let _ = run.write(3);
    run.until("law 4: the next pull, after the write", |_| {
        producer.events() == "RR"
    });
    run.quiet();
    assert_eq!(producer.events(), "RR", "law 4: pulled again before it wrote");
    if harness.control() != Control::Exact {
        return not_shown(harness, "law 4", "the device cannot be stopped at the low mark");
    }
    let mut run = Run::new(harness, marks_of(2, 8));
    let producer = Recorder::pull(&run);
    let _ = run.write(4);
    run.device.allow(1);
    run.quiet();
    assert_eq!(producer.events(), "R", "law 4: pulled above the low mark");
    run.device.allow(1);
    run.until("law 4: pulled at the low mark", |_| producer.events() == "RR");
}

/// Law 7: handlers may call back; pause comes before the write returns; resume never nests.
pub fn law_07_reentrancy(harness: &dyn Harness) {
    pulls_on_a_flat_stack(harness);
    if harness.control() == Control::Open {
        return not_shown(harness, "law 7", "the device cannot be kept from accepting");
    }
    fills_inside_each_resume(harness);
    unregisters_inside_its_pause(harness);
}

fn pulls_on_a_flat_stack(harness: &dyn Harness) {
    let mut run = Run::new(harness, marks_of(2, 8));
    let (pieces, bytes) = (20_000, 1);
    let producer = Recorder::with(&run, Reaction::Write { pieces, bytes });
    run.device.allow(usize::MAX);
    assert!(
        run.register(Producer::pull(Arc::clone(&producer))),
        "law 7: register"
    );
    run.until(
        "law 7: a pull producer that writes in its handler goes on",
        |run| run.device.output().len() == 20_000,
    );
    assert_eq!(producer.depth_max(), 1, "law 7: a resume nested inside a resume");
}

/// A push producer that fills the consumer again from inside each resume (CASES 6, 7).
fn fills_inside_each_resume(harness: &dyn Harness) {
    let mut run = Run::new(harness, marks_of(0, 8));
    let bytes = 9 + harness.slack();
    let producer = Recorder::with(&run, Reaction::Write { pieces: 3, bytes });
    assert!(
        run.register(Producer::push(Arc::clone(&producer))),
        "law 7: register"
    );
    run.fill();
    assert_eq!(
        producer.events(),
        "P",
        "law 7: the pause comes before the write returns"
    );
    run.device.allow(usize::MAX);
    let total = run.written + 3 * bytes;
    run.until(
        "law 7: a push producer that fills in its handler goes on",
        |run| run.device.output().len() == total,
    );
    run.until("law 7: every pause is balanced", |_| {
        producer.events().ends_with('R')
    });
    run.quiet();
    let heard = producer.events();
    assert!(
        !heard.contains("PP") && !heard.contains("RR"),
        "law 7: {heard} does not alternate"
    );
}

/// Who unregisters inside its pause is not resumed (CASES 31).
fn unregisters_inside_its_pause(harness: &dyn Harness) {
    let mut run = Run::new(harness, marks_of(0, 8));
    let producer = Recorder::with(&run, Reaction::UnregisterAtPause);
    assert!(
        run.register(Producer::push(Arc::clone(&producer))),
        "law 7: register"
    );
    run.fill();
    run.device.allow(usize::MAX);
    run.quiet();
    assert_eq!(producer.events(), "P", "law 7: signalled after it unregistered");
    let next = Recorder::push(&run);
    assert!(
        !next.events().contains('R'),
        "law 7: the next registration starts fresh"
    );
}

/// Law 8: nothing foreign runs under a lock; once all is quiet, the last told is what the gate wants.
pub fn law_08_threads(harness: &dyn Harness) {
    let run = Run::new(harness, marks_of(2, 8));
    let producer = Recorder::with(&run, Reaction::WriteElsewhere);
    assert!(
        run.register(Producer::pull(Arc::clone(&producer))),
        "law 8: register"
    );
    assert!(
        !producer.events().contains('!'),
        "law 8: another thread cannot write while a signal is delivered: a lock is held"
    );
    run.consumer().unregister_producer();
    let mut run = Run::new(harness, marks_of(2, 8));
    let producer = Recorder::push(&run);
    run.device.allow(usize::MAX);
    let mut writers = Vec::new();
    for _ in 0..2 {
        let consumer = run.consumer();
        writers.push(spawn(move || {
            for _ in 0..200 {
                let _ = consumer.write(Bytes::from_static(b"abc"));
            }
        }));
    }
    run.until("law 8: two writers end", |_| {
        let waits = Duration::from_millis(1);
        writers.retain(|writer| writer.recv_timeout(waits) == Err(mpsc::RecvTimeoutError::Timeout));
        writers.is_empty()
    });
    run.until("law 8: all is quiet", |run| run.device.output().len() == 1_200);
    run.until("law 8: drained, and the producer was last told to run", |_| {
        let heard = producer.events();
        heard.is_empty() || heard.ends_with('R')
    });
    let heard = producer.events();
    assert!(
        !heard.contains("PP") && !heard.contains("RR"),
        "law 8: {heard} does not alternate"
    );
}
