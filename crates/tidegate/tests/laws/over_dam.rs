//! Consumers in front of a dam, which takes everything or nothing.
//!
//! Knows no law; `relaying.rs` has those that pass a pause of the dam straight up.

use std::num::NonZeroU64;
use std::sync::Arc;
use std::time::Duration;

use tidegate::laws::{Control, Device, FarEnd, Harness, Subject};
use tidegate::{Delivered, FinishableConsumer, Marks, Outcome, Rate, StopReason, Throttle, Throttled, proxy};

use crate::dam::Dam;

/// Makes a consumer over the one below, and says how it ends.
pub(crate) type Make = fn(Arc<dyn FinishableConsumer>, Marks) -> (Arc<dyn FinishableConsumer>, Outcome);

/// A consumer over a dam.
pub(crate) struct OverDam {
    pub(crate) name: &'static str,
    pub(crate) make: Make,
    pub(crate) begins: Begins,
}

/// How the dam is when the consumer comes.
#[derive(Clone, Copy, Eq, PartialEq)]
pub(crate) enum Begins {
    Closed,
    /// And stays so: it cannot be kept from accepting.
    Open,
}

pub(crate) struct DamDevice {
    dam: Arc<Dam>,
    outcome: Outcome,
    opens: bool,
}

impl DamDevice {
    pub(crate) fn new(dam: Arc<Dam>, outcome: Outcome) -> Self {
        let opens = false;
        Self { dam, outcome, opens }
    }
}

impl Harness for OverDam {
    fn make(&self, marks: Marks) -> Subject {
        let dam = Arc::new(match self.begins {
            Begins::Closed => Dam::closed(),
            Begins::Open => Dam::open(),
        });
        let (consumer, outcome) = (self.make)(dam.clone(), marks);
        let device = Box::new(DamDevice::new(dam, outcome));
        Subject { consumer, device }
    }

    fn control(&self) -> Control {
        match self.begins {
            Begins::Closed => Control::Coarse,
            Begins::Open => Control::Open,
        }
    }

    fn name(&self) -> &'static str {
        self.name
    }
}

impl Device for DamDevice {
    fn allow(&mut self, bytes: usize) {
        self.opens |= bytes > 0;
    }

    fn turn(&mut self) {
        if self.opens {
            self.dam.open_for(usize::MAX);
        }
    }

    fn output(&mut self) -> Vec<u8> {
        self.dam.0.lock().unwrap().out.clone()
    }

    fn kill(&mut self) {
        self.dam.die();
    }

    fn end(&mut self) -> FarEnd {
        match self.dam.0.lock().unwrap().end {
            "open" => FarEnd::Open,
            "finished" => FarEnd::Finished,
            _ => FarEnd::Cut,
        }
    }

    fn outcome(&mut self) -> Option<Result<Delivered, StopReason>> {
        self.outcome.now()
    }
}

const fn closed(name: &'static str, make: Make) -> OverDam {
    let begins = Begins::Closed;
    OverDam { name, make, begins }
}

/// A proxy of the buffered kind, also for others to rehearse with.
pub(crate) const BUFFERED: OverDam = closed("buffered proxy", |dam, marks| {
    let proxy = proxy::buffered(dam, marks).unwrap();
    let outcome = proxy.outcome();
    (Arc::new(proxy), outcome)
});

const PULL: OverDam = closed("pull proxy", |dam, marks| {
    let proxy = proxy::pull(dam, marks.with_chunk(usize::MAX).unwrap()).unwrap();
    let outcome = proxy.outcome();
    (Arc::new(proxy), outcome)
});

const THROTTLED: OverDam = closed("throttled", |dam, marks| {
    let group = Throttle::new(Rate::per_second(NonZeroU64::MAX), None, Duration::ZERO);
    let throttled = Throttled::new(dam, marks, &group).unwrap();
    let outcome = throttled.outcome();
    (Arc::new(throttled), outcome)
});

tidegate::law_suite!(buffered_proxy, BUFFERED);
tidegate::law_suite!(pull_proxy, PULL);
tidegate::law_suite!(throttled, THROTTLED);
