//! The exact-length consumer.
//!
//! It has to be told beforehand how many bytes a law is going to write before it finishes. So each law is rehearsed
//! first, over a proxy that counts; then it is played with what was counted. A stream that is not finished in the
//! rehearsal is announced as longer than any.

use std::cell::{Cell, RefCell};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use bytes::Bytes;
use tidegate::laws::{self, Control, Harness, Law, Subject};
use tidegate::{
    AbortReason, AlreadyRegistered, Consumer, ExactLength, FinishableConsumer, Marks, Pressure, Producer,
    WriteError,
};

use crate::dam::Dam;
use crate::over_dam::{BUFFERED, DamDevice};

/// Counts what is written to each consumer a law asks for.
#[derive(Default)]
struct Rehearsal(RefCell<Vec<Arc<Tally>>>);

#[derive(Default)]
struct Tally {
    bytes: AtomicU64,
    finished: AtomicBool,
}

struct Counted {
    inner: Arc<dyn FinishableConsumer>,
    tally: Arc<Tally>,
}

impl Harness for Rehearsal {
    fn make(&self, marks: Marks) -> Subject {
        let Subject { consumer, device } = BUFFERED.make(marks);
        let tally = Arc::new(Tally::default());
        self.0.borrow_mut().push(Arc::clone(&tally));
        let inner = consumer;
        let consumer = Arc::new(Counted { inner, tally });
        Subject { consumer, device }
    }

    fn control(&self) -> Control {
        Control::Coarse
    }

    fn name(&self) -> &'static str {
        "rehearsal"
    }
}

impl Counted {
    fn count<D>(&self, bytes: usize, written: Result<Pressure, D>) -> Result<Pressure, D> {
        if written.is_ok() {
            self.tally.bytes.fetch_add(bytes as u64, Ordering::SeqCst);
        }
        written
    }
}

impl Consumer for Counted {
    fn register_producer(&self, producer: Producer) -> Result<(), AlreadyRegistered> {
        self.inner.register_producer(producer)
    }

    fn unregister_producer(&self) {
        self.inner.unregister_producer();
    }

    fn write(&self, data: Bytes) -> Result<Pressure, WriteError> {
        self.count(data.len(), self.inner.write(data))
    }

    fn write_list(&self, data: Vec<Bytes>) -> Result<Pressure, WriteError<Vec<Bytes>>> {
        self.count(data.iter().map(Bytes::len).sum(), self.inner.write_list(data))
    }
}

impl FinishableConsumer for Counted {
    fn finish(&self) {
        self.tally.finished.store(true, Ordering::SeqCst);
        self.inner.finish();
    }

    fn abort(&self, reason: AbortReason) {
        self.inner.abort(reason);
    }
}

impl Rehearsal {
    fn of(law: Law) -> Announced {
        let rehearsal = Self::default();
        law(&rehearsal);
        let length = |tally: &Arc<Tally>| {
            let finished = tally.finished.load(Ordering::SeqCst);
            finished.then(|| tally.bytes.load(Ordering::SeqCst))
        };
        let tallies = rehearsal.0.borrow();
        let lengths = tallies.iter().map(|tally| length(tally).unwrap_or(u64::MAX));
        Announced {
            lengths: lengths.collect(),
            next: Cell::new(0),
        }
    }
}

/// The consumer under test, with the length each of them needs.
struct Announced {
    lengths: Vec<u64>,
    next: Cell<usize>,
}

impl Harness for Announced {
    fn make(&self, marks: Marks) -> Subject {
        let length = self.lengths[self.next.get()];
        self.next.set(self.next.get() + 1);
        let dam = Arc::new(Dam::closed());
        let exact = ExactLength::new(dam.clone(), marks, length).unwrap();
        let device = Box::new(DamDevice::new(dam, exact.outcome()));
        let consumer = Arc::new(exact);
        Subject { consumer, device }
    }

    fn control(&self) -> Control {
        Control::Coarse
    }

    fn name(&self) -> &'static str {
        "exact length"
    }
}

macro_rules! rehearsed_suite {
    ($name:ident; $($law:ident)*) => {
        mod $name {
            use super::*;

            $(#[test]
            fn $law() {
                let announced = Rehearsal::of(laws::$law);
                laws::$law(&announced);
                assert_eq!(announced.next.get(), announced.lengths.len());
            })*

            #[test]
            fn none_is_left_out() {
                assert_eq!([$(stringify!($law)),*], laws::ALL.map(|(name, _)| name));
            }
        }
    };
}

rehearsed_suite!(exact_length;
    law_01_order law_02_bound law_03_pause_once law_04_one_chunk_per_pull law_05_stop_is_last
    law_06_second_registration law_07_reentrancy law_08_threads law_09_closing_waits law_10_reasons_travel
    law_11_a_pause_is_not_blind law_12_registrations_are_separate law_13_no_spin_no_stall
    law_14_panics_end_one_registration law_15_outcome law_16_no_leaks);
