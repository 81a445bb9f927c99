//! Pull-to-push: a consumer whose pull producers are driven as push producers of another.
//!
//! What `PullToPush` gives its source to write to takes one pull producer, who is there before anybody else can come.
//! Here a consumer starts one for each pull producer that registers with it, and hands push producers on as they are;
//! below is a channel.

use std::sync::{Arc, Mutex};

use bytes::Bytes;
use tidegate::laws::{Control, Harness, Subject};
use tidegate::{
    AbortReason, AlreadyRegistered, Consumer, FinishableConsumer, Marks, Pressure, Producer, PullProducer,
    PullToPush, StopReason, WriteError,
};

use crate::harness::Channel;

struct Driven;

struct DrivenConsumer {
    below: Arc<dyn FinishableConsumer>,
    at_work: Mutex<AtWork>,
}

/// While a pull producer is registered.
#[derive(Default)]
struct AtWork {
    intake: Option<Arc<dyn Consumer>>,
    driven: Option<PullToPush>,
}

struct Source(Arc<dyn PullProducer>);

impl Harness for Driven {
    fn make(&self, marks: Marks) -> Subject {
        let Subject { consumer, device } = Channel.make(marks);
        let consumer = Arc::new(DrivenConsumer {
            below: consumer,
            at_work: Mutex::default(),
        });
        Subject { consumer, device }
    }

    /// The channel's device obeys to the byte, but one more chunk is on its way than the channel holds.
    fn control(&self) -> Control {
        Control::Coarse
    }

    fn name(&self) -> &'static str {
        "pull to push"
    }
}

impl DrivenConsumer {
    fn intake(&self) -> Option<Arc<dyn Consumer>> {
        self.at_work.lock().unwrap().intake.clone()
    }

    fn start(&self, producer: Arc<dyn PullProducer>) -> Result<(), AlreadyRegistered> {
        let source = |intake| {
            self.at_work.lock().unwrap().intake = Some(intake);
            Arc::new(Source(Arc::clone(&producer)))
        };
        match PullToPush::start(Arc::clone(&self.below), source) {
            Ok(driven) => {
                self.at_work.lock().unwrap().driven = Some(driven);
                Ok(())
            }
            Err(_) => Err(AlreadyRegistered(Producer::Pull(producer))),
        }
    }
}

impl PullProducer for Source {
    fn resume_producing(&self) {
        self.0.resume_producing();
    }

    fn stop_producing(&self, reason: StopReason) {
        self.0.stop_producing(reason);
    }
}

impl Consumer for DrivenConsumer {
    fn register_producer(&self, producer: Producer) -> Result<(), AlreadyRegistered> {
        match producer {
            Producer::Pull(producer) => self.start(producer),
            push => self.below.register_producer(push),
        }
    }

    fn unregister_producer(&self) {
        match self.intake() {
            Some(intake) => {
                intake.unregister_producer();
                let done = std::mem::take(&mut *self.at_work.lock().unwrap());
                drop(done);
            }
            None => self.below.unregister_producer(),
        }
    }

    fn write(&self, data: Bytes) -> Result<Pressure, WriteError> {
        match self.intake() {
            Some(intake) => intake.write(data),
            None => self.below.write(data),
        }
    }

    fn write_list(&self, data: Vec<Bytes>) -> Result<Pressure, WriteError<Vec<Bytes>>> {
        match self.intake() {
            Some(intake) => intake.write_list(data),
            None => self.below.write_list(data),
        }
    }
}

impl FinishableConsumer for DrivenConsumer {
    fn finish(&self) {
        self.below.finish();
    }

    fn abort(&self, reason: AbortReason) {
        self.below.abort(reason);
    }
}

tidegate::law_suite!(pull_to_push, Driven);
