//! One consumer at work: what every law does with the consumer and the device of a harness.
//!
//! Knows no law.

use std::sync::Arc;

use bytes::Bytes;

use super::{Device, Harness, Subject};
use crate::{FinishableConsumer, Marks, Pressure, Producer};

pub(super) fn marks_of(low: usize, high: usize) -> Marks {
    expect(Marks::new(low, high).ok(), "marks of the suite")
}

pub(super) fn expect<T>(value: Option<T>, law: &str) -> T {
    match value {
        Some(value) => value,
        None => panic!("{law}"),
    }
}

pub(super) fn not_shown(harness: &dyn Harness, law: &str, why: &str) {
    eprintln!("NOT-SHOWN: {}: {law}: {why}", harness.name());
}

/// One consumer at work.
pub(super) struct Run<'a> {
    harness: &'a dyn Harness,
    /// `None` once the write end was dropped.
    pub(super) consumer: Option<Arc<dyn FinishableConsumer>>,
    pub(super) device: Box<dyn Device>,
    pub(super) written: usize,
}

impl<'a> Run<'a> {
    pub(super) fn new(harness: &'a dyn Harness, marks: Marks) -> Self {
        let Subject { consumer, device } = harness.make(marks);
        let consumer = Some(consumer);
        Self {
            harness,
            consumer,
            device,
            written: 0,
        }
    }

    pub(super) fn consumer(&self) -> Arc<dyn FinishableConsumer> {
        expect(self.consumer.clone(), "the write end was dropped")
    }

    pub(super) fn register(&self, producer: Producer) -> bool {
        self.consumer().register_producer(producer).is_ok()
    }

    pub(super) fn write(&mut self, bytes: usize) -> Pressure {
        match self.consumer().write(Bytes::from(vec![b'w'; bytes])) {
            Ok(pressure) => {
                self.written += bytes;
                pressure
            }
            Err(error) => panic!("a write within the marks was refused: {error}"),
        }
    }

    /// Writes until the consumer is full.
    pub(super) fn fill(&mut self) {
        // More than a blocked device swallows: it is to stay full. With nothing held any write is taken.
        let mut bytes = 9 + self.harness.slack();
        while self.write(bytes) == Pressure::Open {
            self.device.turn();
            bytes = (self.harness.slack() / 16).max(1);
        }
    }

    pub(super) fn until(&mut self, what: &str, mut holds: impl FnMut(&mut Self) -> bool) {
        for _ in 0..self.harness.turns_max() {
            if holds(self) {
                return;
            }
            self.device.turn();
        }
        panic!("{what}: did not come to be");
    }

    pub(super) fn quiet(&mut self) {
        for _ in 0..5 {
            self.device.turn();
        }
    }
}
