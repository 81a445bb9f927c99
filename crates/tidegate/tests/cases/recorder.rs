//! A producer that only writes down what it is told. Knows no consumer.

use std::sync::{Arc, Mutex};

use tidegate::{Producer, PullProducer, PushProducer, StopReason};

#[derive(Default)]
pub(crate) struct Recorder {
    heard: Mutex<String>,
    reason: Mutex<Option<StopReason>>,
}

impl Recorder {
    pub(crate) fn new() -> Arc<Self> {
        Arc::default()
    }

    pub(crate) fn push(self: &Arc<Self>) -> Producer {
        Producer::push(Arc::clone(self))
    }

    pub(crate) fn pull(self: &Arc<Self>) -> Producer {
        Producer::pull(Arc::clone(self))
    }

    /// What was heard since the last time.
    pub(crate) fn heard(&self) -> String {
        std::mem::take(&mut *self.heard.lock().unwrap())
    }

    pub(crate) fn reason(&self) -> StopReason {
        self.reason.lock().unwrap().clone().expect("it was not stopped")
    }

    fn stopped(&self, reason: StopReason) {
        self.heard.lock().unwrap().push('S');
        *self.reason.lock().unwrap() = Some(reason);
    }
}

impl PushProducer for Recorder {
    fn pause_producing(&self) {
        self.heard.lock().unwrap().push('P');
    }

    fn resume_producing(&self) {
        self.heard.lock().unwrap().push('R');
    }

    fn stop_producing(&self, reason: StopReason) {
        self.stopped(reason);
    }
}

impl PullProducer for Recorder {
    fn resume_producing(&self) {
        self.heard.lock().unwrap().push('R');
    }

    fn stop_producing(&self, reason: StopReason) {
        self.stopped(reason);
    }
}
