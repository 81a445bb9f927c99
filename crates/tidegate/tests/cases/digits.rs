//! A pull producer of ten digits, and how it is driven as a push producer. Knows no consumer.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use tidegate::{Consumer, FinishableConsumer, PullProducer, PullToPush, StopReason};

/// Ten digits, one a pull; unregisters with the last. What it does at each pull can be changed.
pub(crate) struct Digits {
    pub(crate) to: Arc<dyn Consumer>,
    pulls: AtomicUsize,
    stops: Mutex<Vec<StopReason>>,
    at: fn(usize) -> Act,
}

#[derive(Clone, Copy)]
pub(crate) enum Act {
    Write,
    Nothing,
    Panic,
}

impl Digits {
    pub(crate) fn pulls(&self) -> usize {
        self.pulls.load(Ordering::Relaxed)
    }

    pub(crate) fn stops(&self) -> Vec<StopReason> {
        self.stops.lock().unwrap().clone()
    }
}

impl PullProducer for Digits {
    fn resume_producing(&self) {
        let digit = self.pulls.fetch_add(1, Ordering::Relaxed);
        match (self.at)(digit) {
            Act::Write => drop(self.to.write(Bytes::from(digit.to_string()))),
            Act::Nothing => {}
            Act::Panic => panic!("a scripted panic"),
        }
        if digit == 9 {
            self.to.unregister_producer();
        }
    }

    fn stop_producing(&self, reason: StopReason) {
        self.stops.lock().unwrap().push(reason);
    }
}

pub(crate) fn drive(below: Arc<dyn FinishableConsumer>, at: fn(usize) -> Act) -> (Arc<Digits>, PullToPush) {
    let mut made = None;
    let driven = PullToPush::start(below, |to| {
        let (pulls, stops) = (AtomicUsize::new(0), Mutex::default());
        let digits = Arc::new(Digits { to, pulls, stops, at });
        made = Some(digits.clone());
        digits
    });
    (made.unwrap(), driven.unwrap())
}
