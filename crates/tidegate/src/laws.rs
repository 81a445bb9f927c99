//! The laws as a suite that any consumer can be put through: a technology compatibility kit. (feature `laws`)
//!
//! Knows no consumer. What it needs to know of one, a [`Harness`] tells: how to make a fresh one with given marks, and
//! how to play its device. Everything else is done through the public traits.
//!
//! ```text
//! struct Mine;
//! impl tidegate::laws::Harness for Mine { /* make a consumer and the device behind it */ }
//! tidegate::law_suite!(mine, Mine);
//! ```
//!
//! [`law_suite!`](crate::law_suite) expands to one `#[test]` for each law, so that a report names the law that broke.
//! Each law is also a plain function that panics when it is broken.
//!
//! Nothing waits for a time. A law says what must come to be and gives the device [`turn`](Device::turn)s until it has,
//! at most [`turns_max`](Harness::turns_max); to see that nothing happens it gives a few turns and looks again. A device
//! over a real socket lets its runtime run a little in each turn.
//!
//! What a device cannot do ([`Control`]) is not asked of it; the part of the law that was not shown is printed to stderr
//! as `NOT-SHOWN: <consumer>: <law>: <why>`.
//!
//! Flows (one source, one sink, one task) have no registered producer. Of the laws 1, 2, 9, 10, 11, 13 and 15 speak of
//! flows too: `tidegate_io::laws::flow` asks them, with the driver crate's `Source` and `Sink`.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak, mpsc};
use std::time::Duration;

use bytes::Bytes;

use crate::{
    AbortReason, Delivered, FinishableConsumer, Marks, Pressure, Producer, PullProducer, PushProducer,
    Refusal, StopReason,
};

/// How to make the consumer under test.
pub trait Harness {
    /// A fresh consumer with these marks, and its device, which accepts nothing yet if it can be kept from it.
    fn make(&self, marks: Marks) -> Subject;

    /// How well the device can be told when to accept bytes.
    fn control(&self) -> Control;

    /// How many bytes a blocked device swallows all the same (kernel buffers). Only for [`Control::Coarse`].
    fn slack(&self) -> usize {
        0
    }

    /// How many turns a law waits for what must come to be.
    fn turns_max(&self) -> usize {
        10_000
    }

    /// A name for messages.
    fn name(&self) -> &'static str;
}

/// What can be asked of a device.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Control {
    /// [`Device::allow`] is obeyed to the byte.
    Exact,
    /// Anything above zero means all, zero means that it sooner or later blocks.
    Coarse,
    /// It always accepts everything.
    Open,
}

/// A consumer under test.
pub struct Subject {
    /// The write end; the last handle of it, so that dropping it drops the write end.
    pub consumer: Arc<dyn FinishableConsumer>,
    /// What is behind it.
    pub device: Box<dyn Device>,
}

/// The far side of a consumer, as far as a test plays it.
pub trait Device {
    /// Accept so many bytes more; `usize::MAX` for all that come.
    fn allow(&mut self, bytes: usize);

    /// Lets happen a bounded part of what can happen. Called from the thread of the test.
    fn turn(&mut self);

    /// All bytes that came out so far.
    fn output(&mut self) -> Vec<u8>;

    /// Fails, as hard as this kind of device can.
    fn kill(&mut self);

    /// How the stream looks from the far side.
    fn end(&mut self) -> FarEnd;

    /// What the consumer's outcome says by now.
    fn outcome(&mut self) -> Option<Result<Delivered, StopReason>>;
}

/// How a stream looks from the far side.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum FarEnd {
    /// Not ended.
    Open,
    /// Complete.
    Finished,
    /// Visibly cut short.
    Cut,
}

/// One `#[test]` a law for a harness: `law_suite!(name_of_module, harness)`.
#[macro_export]
macro_rules! law_suite {
    ($name:ident, $harness:expr) => {
        mod $name {
            #[allow(unused_imports)]
            use super::*;
            $crate::law_suite!(@each $harness;
                law_01_order law_02_bound law_03_pause_once law_04_one_chunk_per_pull law_05_stop_is_last
                law_06_second_registration law_07_reentrancy law_08_threads law_09_closing_waits
                law_10_reasons_travel law_11_a_pause_is_not_blind law_12_registrations_are_separate
                law_13_no_spin_no_stall law_14_panics_end_one_registration law_15_outcome law_16_no_leaks);
        }
    };
    (@each $harness:expr; $($law:ident)*) => {
        $(
            #[test]
            fn $law() {
                $crate::laws::$law(&$harness);
            }
        )*
    };
}

/// A law: a function that panics when a consumer breaks it.
pub type Law = fn(&dyn Harness);

/// Every law, with its name, in order.
pub const ALL: [(&str, Law); 16] = [
    ("law_01_order", law_01_order),
    ("law_02_bound", law_02_bound),
    ("law_03_pause_once", law_03_pause_once),
    ("law_04_one_chunk_per_pull", law_04_one_chunk_per_pull),
    ("law_05_stop_is_last", law_05_stop_is_last),
    ("law_06_second_registration", law_06_second_registration),
    ("law_07_reentrancy", law_07_reentrancy),
    ("law_08_threads", law_08_threads),
    ("law_09_closing_waits", law_09_closing_waits),
    ("law_10_reasons_travel", law_10_reasons_travel),
    ("law_11_a_pause_is_not_blind", law_11_a_pause_is_not_blind),
    (
        "law_12_registrations_are_separate",
        law_12_registrations_are_separate,
    ),
    ("law_13_no_spin_no_stall", law_13_no_spin_no_stall),
    (
        "law_14_panics_end_one_registration",
        law_14_panics_end_one_registration,
    ),
    ("law_15_outcome", law_15_outcome),
    ("law_16_no_leaks", law_16_no_leaks),
];

/// Law 1: bytes leave in the order written, none lost or doubled, in one piece or many.
pub fn law_01_order(harness: &dyn Harness) {
    let mut run = Run::new(harness, Marks::default());
    let text: Vec<u8> = (0..=255).cycle().take(3_000).collect();
    let mut at = 0;
    for size in (0..60).cycle() {
        let to = (at + size).min(text.len());
        let piece = Bytes::copy_from_slice(&text[at..to]);
        let half = piece.len() / 2;
        let taken = if size % 3 == 0 {
            let list = vec![piece.slice(..half), Bytes::new(), piece.slice(half..)];
            run.consumer().write_list(list).is_ok()
        } else {
            run.consumer().write(piece).is_ok()
        };
        assert!(taken, "law 1: a write within the marks was refused");
        at = to;
        if size % 7 == 0 {
            run.device.allow(size);
            run.device.turn();
        }
        if at == text.len() {
            break;
        }
    }
    run.consumer().finish();
    run.device.allow(usize::MAX);
    run.until("law 1: the stream finishes", |run| {
        run.device.end() == FarEnd::Finished
    });
    assert!(
        run.device.output() == text,
        "law 1: what came out is not what was written"
    );
}

/// Law 2: held bytes are bounded, and a write that would pass `max` is given back unless nothing is held.
pub fn law_02_bound(harness: &dyn Harness) {
    let marks = marks_of(4, 16).with_max(64).unwrap_or_default();
    if harness.control() == Control::Exact {
        for step in 1..=5 {
            push_stays_within(harness, marks, step);
            pull_stays_within(harness, marks, step);
        }
    } else {
        not_shown(harness, "law 2", "held bytes cannot be counted from outside");
    }
    if harness.control() == Control::Open {
        return not_shown(harness, "law 2", "the device cannot be kept from accepting");
    }
    let mut run = Run::new(harness, marks);
    run.fill();
    let big = Bytes::from(vec![b'z'; 65 + harness.slack()]);
    let refused = run.consumer().write(big.clone()).err();
    let refused = expect(refused, "law 2: a write past max was taken");
    assert!(
        matches!(refused.refusal, Refusal::OverMax { .. }),
        "law 2: {}",
        refused.refusal
    );
    assert_eq!(refused.data, big, "law 2: the refused data was not given back");
    if harness.control() == Control::Exact {
        let run = Run::new(harness, marks);
        assert!(
            run.consumer().write(big).is_ok(),
            "law 2: with nothing held any write is taken"
        );
    }
}

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

/// Law 7: handlers may call back; pause comes before the write returns; resume never nests.
pub fn law_07_reentrancy(harness: &dyn Harness) {
    let mut run = Run::new(harness, marks_of(2, 8));
    let producer = Recorder::with(
        &run,
        Reaction::Write {
            pieces: 20_000,
            bytes: 1,
        },
    );
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
    if harness.control() == Control::Open {
        return not_shown(harness, "law 7", "the device cannot be kept from accepting");
    }
    // A push producer that fills the consumer again from inside each resume (CASES 6, 7).
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
    // Who unregisters inside its pause is not resumed (CASES 31).
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
    let second = Recorder::push(&run);
    run.quiet();
    assert_eq!(second.events(), "", "law 12: an unearned signal (B2)");
}

/// Law 13: no stall at windows of 1, 2 and 3 bytes, and no spin.
pub fn law_13_no_spin_no_stall(harness: &dyn Harness) {
    for high in 1..=3 {
        for low in 0..=high {
            for bytes in 1..=4 {
                for push in [true, false] {
                    small_window(harness, marks_of(low, high), bytes, push);
                }
            }
        }
    }
    let mut run = Run::new(harness, marks_of(2, 8));
    let silent = Recorder::pull(&run);
    run.device.allow(usize::MAX);
    for _ in 0..20 {
        run.device.turn();
    }
    assert_eq!(
        silent.events(),
        "R",
        "law 13: a silent producer is asked again and again (B31)"
    );
}

fn small_window(harness: &dyn Harness, marks: Marks, bytes: usize, push: bool) {
    let mut run = Run::new(harness, marks);
    let total = 12 * bytes;
    let producer = Recorder::with(&run, Reaction::Write { pieces: 12, bytes });
    if push {
        assert!(
            run.register(Producer::push(Arc::clone(&producer))),
            "law 13: register"
        );
        producer.write_until_paused();
    } else {
        assert!(
            run.register(Producer::pull(Arc::clone(&producer))),
            "law 13: register"
        );
    }
    let mut rounds = 0;
    while run.device.output().len() < total {
        run.device.allow(1);
        run.device.turn();
        rounds += 1;
        assert!(
            rounds < harness.turns_max(),
            "law 13: stalled at {} of {total} bytes, low {}, high {}, writes of {bytes}, push {push}",
            run.device.output().len(),
            marks.low(),
            marks.high(),
        );
    }
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

fn push_stays_within(harness: &dyn Harness, marks: Marks, bytes: usize) {
    let mut run = Run::new(harness, marks);
    let producer = Recorder::with(&run, Reaction::Write { pieces: 60, bytes });
    assert!(
        run.register(Producer::push(Arc::clone(&producer))),
        "law 2: register"
    );
    producer.write_until_paused();
    for round in 0..60 {
        let held = producer.bytes_written() - run.device.output().len();
        assert!(
            held <= marks.high() + bytes,
            "law 2: {held} bytes held with a push producer that obeys"
        );
        run.device.allow(1 + round % 5);
        run.device.turn();
    }
}

fn pull_stays_within(harness: &dyn Harness, marks: Marks, bytes: usize) {
    let mut run = Run::new(harness, marks);
    let producer = Recorder::with(&run, Reaction::Write { pieces: 60, bytes });
    assert!(
        run.register(Producer::pull(Arc::clone(&producer))),
        "law 2: register"
    );
    for round in 0..60 {
        let held = producer.bytes_written() - run.device.output().len();
        assert!(
            held <= marks.low() + bytes,
            "law 2: {held} bytes held with a pull producer"
        );
        run.device.allow(1 + round % 5);
        run.device.turn();
    }
}

fn marks_of(low: usize, high: usize) -> Marks {
    expect(Marks::new(low, high).ok(), "marks of the suite")
}

fn expect<T>(value: Option<T>, law: &str) -> T {
    match value {
        Some(value) => value,
        None => panic!("{law}"),
    }
}

fn not_shown(harness: &dyn Harness, law: &str, why: &str) {
    eprintln!("NOT-SHOWN: {}: {law}: {why}", harness.name());
}

/// Runs on a thread of its own; the receiver hears when it ended.
#[allow(clippy::disallowed_methods, reason = "law 8 is about threads")]
fn spawn(run: impl FnOnce() + Send + 'static) -> mpsc::Receiver<()> {
    let (done, ended) = mpsc::channel();
    std::thread::spawn(move || {
        run();
        let _ = done.send(());
    });
    ended
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// One consumer at work.
struct Run<'a> {
    harness: &'a dyn Harness,
    consumer: Option<Arc<dyn FinishableConsumer>>,
    device: Box<dyn Device>,
    written: usize,
}

impl<'a> Run<'a> {
    fn new(harness: &'a dyn Harness, marks: Marks) -> Self {
        let Subject { consumer, device } = harness.make(marks);
        let consumer = Some(consumer);
        Self {
            harness,
            consumer,
            device,
            written: 0,
        }
    }

    fn consumer(&self) -> Arc<dyn FinishableConsumer> {
        expect(self.consumer.clone(), "the write end was dropped")
    }

    fn register(&self, producer: Producer) -> bool {
        self.consumer().register_producer(producer).is_ok()
    }

    fn write(&mut self, bytes: usize) -> Pressure {
        match self.consumer().write(Bytes::from(vec![b'w'; bytes])) {
            Ok(pressure) => {
                self.written += bytes;
                pressure
            }
            Err(error) => panic!("a write within the marks was refused: {error}"),
        }
    }

    /// Writes until the consumer is full.
    fn fill(&mut self) {
        // More than a blocked device swallows: it is to stay full. With nothing held any write is taken.
        let mut bytes = 9 + self.harness.slack();
        while self.write(bytes) == Pressure::Open {
            self.device.turn();
            bytes = (self.harness.slack() / 16).max(1);
        }
    }

    fn until(&mut self, what: &str, mut holds: impl FnMut(&mut Self) -> bool) {
        for _ in 0..self.harness.turns_max() {
            if holds(self) {
                return;
            }
            self.device.turn();
        }
        panic!("{what}: did not come to be");
    }

    fn quiet(&mut self) {
        for _ in 0..5 {
            self.device.turn();
        }
    }
}

/// What a recorder does when it is signalled.
#[derive(Clone, Copy, Default)]
enum Reaction {
    #[default]
    Nothing,
    /// At each resume, writes one piece (pull) or until paused (push).
    Write {
        pieces: usize,
        bytes: usize,
    },
    UnregisterAtPause,
    /// Has another thread write, and waits for it.
    WriteElsewhere,
    Panic,
}

/// A producer that writes down what it hears.
#[derive(Default)]
struct Recorder {
    heard: Mutex<String>,
    reason: Mutex<Option<StopReason>>,
    to: Option<Weak<dyn FinishableConsumer>>,
    reaction: Reaction,
    pieces: AtomicUsize,
    depth: AtomicUsize,
    depth_max: AtomicUsize,
}

impl Recorder {
    fn with(run: &Run<'_>, reaction: Reaction) -> Arc<Self> {
        Arc::new(Self {
            to: Some(Arc::downgrade(&run.consumer())),
            reaction,
            ..Self::default()
        })
    }

    /// A push recorder that is registered.
    fn push(run: &Run<'_>) -> Arc<Self> {
        let recorder = Arc::new(Self::default());
        assert!(
            run.register(Producer::push(Arc::clone(&recorder))),
            "law 6: a first registration was refused"
        );
        recorder
    }

    /// A pull recorder that is registered.
    fn pull(run: &Run<'_>) -> Arc<Self> {
        let recorder = Arc::new(Self::default());
        assert!(
            run.register(Producer::pull(Arc::clone(&recorder))),
            "law 6: a first registration was refused"
        );
        recorder
    }

    fn events(&self) -> String {
        lock(&self.heard).clone()
    }

    fn count(&self, event: char) -> usize {
        lock(&self.heard).chars().filter(|heard| *heard == event).count()
    }

    fn stops(&self) -> usize {
        self.count('S')
    }

    fn reason(&self) -> Option<StopReason> {
        lock(&self.reason).clone()
    }

    fn depth_max(&self) -> usize {
        self.depth_max.load(Ordering::Relaxed)
    }

    fn bytes_written(&self) -> usize {
        match self.reaction {
            Reaction::Write { bytes, .. } => self.pieces.load(Ordering::Relaxed) * bytes,
            _ => 0,
        }
    }

    fn consumer(&self) -> Option<Arc<dyn FinishableConsumer>> {
        self.to.as_ref()?.upgrade()
    }

    fn is_paused(&self) -> bool {
        lock(&self.heard).ends_with(['P', 'S'])
    }

    fn write_piece(&self) -> Option<Pressure> {
        let Reaction::Write { pieces, bytes } = self.reaction else {
            return None;
        };
        if self.pieces.load(Ordering::Relaxed) == pieces {
            return None;
        }
        self.pieces.fetch_add(1, Ordering::Relaxed);
        self.consumer()?.write(Bytes::from(vec![b'r'; bytes])).ok()
    }

    fn write_until_paused(&self) {
        while !self.is_paused() && self.write_piece() == Some(Pressure::Open) {}
    }

    fn write_elsewhere(&self) {
        let Some(consumer) = self.consumer() else { return };
        let ended = spawn(move || {
            let _ = consumer.write(Bytes::from_static(b"elsewhere"));
        });
        if ended.recv_timeout(Duration::from_secs(5)).is_err() {
            lock(&self.heard).push('!');
        }
    }

    fn resumed(&self, react: impl FnOnce()) {
        lock(&self.heard).push('R');
        let depth = self.depth.fetch_add(1, Ordering::Relaxed) + 1;
        self.depth_max.fetch_max(depth, Ordering::Relaxed);
        match self.reaction {
            Reaction::WriteElsewhere => self.write_elsewhere(),
            Reaction::Panic => panic!("law 14 asks for this panic"),
            Reaction::Write { .. } => react(),
            Reaction::Nothing | Reaction::UnregisterAtPause => {}
        }
        self.depth.fetch_sub(1, Ordering::Relaxed);
    }

    fn stopped(&self, reason: StopReason) {
        lock(&self.heard).push('S');
        *lock(&self.reason) = Some(reason);
    }
}

impl PushProducer for Recorder {
    fn pause_producing(&self) {
        lock(&self.heard).push('P');
        if let (Reaction::UnregisterAtPause, Some(consumer)) = (self.reaction, self.consumer()) {
            consumer.unregister_producer();
        }
    }

    fn resume_producing(&self) {
        self.resumed(|| self.write_until_paused());
    }

    fn stop_producing(&self, reason: StopReason) {
        self.stopped(reason);
    }
}

impl PullProducer for Recorder {
    fn resume_producing(&self) {
        self.resumed(|| {
            let _ = self.write_piece();
        });
    }

    fn stop_producing(&self, reason: StopReason) {
        self.stopped(reason);
    }
}
