//! For each law a consumer that breaks it and little else: the suite must catch every one.
#![allow(clippy::unwrap_used)]

mod harness;

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use harness::Channel;
use tidegate::laws::{self, Control, Device, FarEnd, Harness, Subject};
use tidegate::{
    AbortReason, AlreadyRegistered, Consumer, Delivered, FinishableConsumer, Marks, Pressure, Producer,
    PullProducer, PushProducer, StopReason, WriteError,
};

/// What is wrong with a consumer.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Fault {
    ListsAreReversed,
    MarksAreDoubled,
    PauseIsRepeated,
    PulledTwiceAtOnce,
    StoppedTwice,
    SecondReplacesFirst,
    PauseComesLate,
    LockedWhileSignalling,
    FinishDropsTheProducer,
    DropLooksFinished,
    BlindWhilePaused,
    EmptyWriteAnswersPull,
    ResumeIsLostInSmallWindows,
    PanicIsSwallowed,
    OutcomeIsAlwaysGood,
    ProducerIsKept,
    AbortWaits,
}

use Fault::*;

/// In the order of the laws.
const FAULTS: [Fault; 16] = [
    ListsAreReversed,
    MarksAreDoubled,
    PauseIsRepeated,
    PulledTwiceAtOnce,
    StoppedTwice,
    SecondReplacesFirst,
    PauseComesLate,
    LockedWhileSignalling,
    FinishDropsTheProducer,
    DropLooksFinished,
    BlindWhilePaused,
    EmptyWriteAnswersPull,
    ResumeIsLostInSmallWindows,
    PanicIsSwallowed,
    OutcomeIsAlwaysGood,
    ProducerIsKept,
];

#[test]
fn each_law_catches_the_consumer_that_breaks_it() {
    let ninth = laws::ALL[8];
    for ((name, law), fault) in laws::ALL.into_iter().zip(FAULTS).chain([(ninth, AbortWaits)]) {
        let caught = catch_unwind(AssertUnwindSafe(|| law(&Faulty(fault))));
        let message = match &caught {
            Ok(()) => panic!("{name} does not catch {fault:?}"),
            Err(payload) => message_of(&**payload),
        };
        let number = name[4..6].trim_start_matches('0');
        let expected = format!("law {number}:");
        assert!(
            message.contains(&expected),
            "{name} fails for another reason: {message}"
        );
    }
}

#[test]
fn the_consumer_underneath_passes() {
    for (_, law) in laws::ALL {
        law(&Channel);
    }
}

fn message_of(payload: &(dyn std::any::Any + Send)) -> String {
    let text = payload.downcast_ref::<String>().cloned();
    text.or_else(|| payload.downcast_ref::<&str>().map(ToString::to_string))
        .unwrap_or_default()
}

struct Faulty(Fault);

impl Harness for Faulty {
    fn make(&self, marks: Marks) -> Subject {
        let inner = match self.0 {
            MarksAreDoubled => Channel.make(Marks::new(2 * marks.low() + 2, 2 * marks.high()).unwrap()),
            _ => Channel.make(marks),
        };
        let late = Arc::new(Mutex::new(Vec::new()));
        let consumer = FaultyConsumer {
            fault: self.0,
            inner: inner.consumer,
            producer: Mutex::new(None),
            kept: Mutex::new(Vec::new()),
            lock: Mutex::new(()),
            late: Arc::clone(&late),
            small: marks.high() < 4,
        };
        let device = FaultyDevice {
            fault: self.0,
            inner: inner.device,
            late,
        };
        Subject {
            consumer: Arc::new(consumer),
            device: Box::new(device),
        }
    }

    fn control(&self) -> Control {
        Control::Exact
    }

    fn turns_max(&self) -> usize {
        2_000
    }

    fn name(&self) -> &'static str {
        "faulty"
    }
}

type Late = Arc<Mutex<Vec<Arc<dyn PushProducer>>>>;

struct FaultyConsumer {
    fault: Fault,
    inner: Arc<dyn FinishableConsumer>,
    producer: Mutex<Option<Producer>>,
    kept: Mutex<Vec<Producer>>,
    lock: Mutex<()>,
    late: Late,
    small: bool,
}

impl FaultyConsumer {
    fn is(&self, fault: Fault) -> bool {
        self.fault == fault
    }

    fn needs_producer(&self) -> bool {
        matches!(
            self.fault,
            PauseIsRepeated | PulledTwiceAtOnce | StoppedTwice | EmptyWriteAnswersPull
        )
    }

    fn registered(&self) -> Option<Producer> {
        self.producer.lock().unwrap().clone()
    }
}

impl Consumer for FaultyConsumer {
    fn register_producer(&self, producer: Producer) -> Result<(), AlreadyRegistered> {
        let _guard = self.is(LockedWhileSignalling).then(|| self.lock.lock().unwrap());
        if self.is(SecondReplacesFirst) {
            self.inner.unregister_producer();
        }
        if self.needs_producer() {
            self.producer
                .lock()
                .unwrap()
                .get_or_insert_with(|| producer.clone());
        }
        if self.is(ProducerIsKept) {
            self.kept.lock().unwrap().push(producer.clone());
        }
        let seen = match &producer {
            Producer::Push(push) => {
                Producer::push(Arc::new(Shim::new(self, Producer::Push(Arc::clone(push)))))
            }
            Producer::Pull(pull) => {
                Producer::pull(Arc::new(Shim::new(self, Producer::Pull(Arc::clone(pull)))))
            }
        };
        self.inner.register_producer(seen)?;
        if let (Producer::Pull(pull), PulledTwiceAtOnce) = (&producer, self.fault) {
            pull.resume_producing();
        }
        Ok(())
    }

    fn unregister_producer(&self) {
        *self.producer.lock().unwrap() = None;
        self.inner.unregister_producer();
    }

    fn write(&self, data: Bytes) -> Result<Pressure, WriteError> {
        let _guard = self.is(LockedWhileSignalling).then(|| self.lock.lock().unwrap());
        if let (true, EmptyWriteAnswersPull, Some(Producer::Pull(pull))) =
            (data.is_empty(), self.fault, self.registered())
        {
            pull.resume_producing();
        }
        let before = self.is(PauseIsRepeated).then(|| self.registered());
        let pressure = self.inner.write(data)?;
        if let (Some(Some(Producer::Push(push))), Pressure::Full) = (before, pressure) {
            push.pause_producing();
        }
        Ok(pressure)
    }

    fn write_list(&self, mut data: Vec<Bytes>) -> Result<Pressure, WriteError<Vec<Bytes>>> {
        if self.is(ListsAreReversed) {
            data.reverse();
        }
        self.inner.write_list(data)
    }
}

impl FinishableConsumer for FaultyConsumer {
    fn finish(&self) {
        if self.is(FinishDropsTheProducer) {
            self.inner.unregister_producer();
        }
        self.inner.finish();
    }

    fn abort(&self, reason: AbortReason) {
        if self.is(AbortWaits) {
            return;
        }
        self.inner.abort(reason.clone());
        if let (StoppedTwice, Some(producer)) = (self.fault, self.registered()) {
            producer.stop(StopReason::Aborted(reason));
        }
    }
}

impl Drop for FaultyConsumer {
    fn drop(&mut self) {
        if self.is(DropLooksFinished) {
            self.inner.finish();
        }
    }
}

/// Stands between the consumer and its producer.
struct Shim {
    fault: Fault,
    small: bool,
    late: Late,
    producer: Producer,
}

impl Shim {
    fn new(consumer: &FaultyConsumer, producer: Producer) -> Self {
        Self {
            fault: consumer.fault,
            small: consumer.small,
            late: Arc::clone(&consumer.late),
            producer,
        }
    }

    fn resume(&self) {
        let resume = || match &self.producer {
            Producer::Push(push) => push.resume_producing(),
            Producer::Pull(pull) => pull.resume_producing(),
        };
        match self.fault {
            ResumeIsLostInSmallWindows if self.small => {}
            PanicIsSwallowed => drop(catch_unwind(AssertUnwindSafe(resume))),
            _ => resume(),
        }
    }
}

impl PushProducer for Shim {
    fn pause_producing(&self) {
        let Producer::Push(push) = &self.producer else {
            return;
        };
        if self.fault == PauseComesLate {
            self.late.lock().unwrap().push(Arc::clone(push));
        } else {
            push.pause_producing();
        }
    }

    fn resume_producing(&self) {
        self.resume();
    }

    fn stop_producing(&self, reason: StopReason) {
        self.producer.stop(reason);
    }
}

impl PullProducer for Shim {
    fn resume_producing(&self) {
        self.resume();
    }

    fn stop_producing(&self, reason: StopReason) {
        self.producer.stop(reason);
    }
}

struct FaultyDevice {
    fault: Fault,
    inner: Box<dyn Device>,
    late: Late,
}

impl Device for FaultyDevice {
    fn allow(&mut self, bytes: usize) {
        self.inner.allow(bytes);
    }

    fn turn(&mut self) {
        for push in std::mem::take(&mut *self.late.lock().unwrap()) {
            push.pause_producing();
        }
        self.inner.turn();
    }

    fn output(&mut self) -> Vec<u8> {
        self.inner.output()
    }

    fn kill(&mut self) {
        if self.fault != BlindWhilePaused {
            self.inner.kill();
        }
    }

    fn end(&mut self) -> FarEnd {
        self.inner.end()
    }

    fn outcome(&mut self) -> Option<Result<Delivered, StopReason>> {
        let outcome = self.inner.outcome()?;
        match self.fault {
            OutcomeIsAlwaysGood => Some(Ok(outcome.unwrap_or_else(|_| delivered()))),
            _ => Some(outcome),
        }
    }
}

fn delivered() -> Delivered {
    let device = &mut Channel.make(Marks::default());
    device.consumer.finish();
    device.device.turn();
    device.device.outcome().unwrap().unwrap()
}
