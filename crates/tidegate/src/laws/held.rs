//! The laws about what is held: order, bound, and that it moves on at any size of window.
//!
//! Knows no consumer; plays producers that obey.

use std::sync::Arc;

use bytes::Bytes;

use super::recorder::{Reaction, Recorder};
use super::run::{Run, expect, marks_of, not_shown};
use super::{Control, FarEnd, Harness};
use crate::{Marks, Producer, Refusal};

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
