//! Every law over every combinator of the core that is a consumer.
#![allow(clippy::unwrap_used)]

#[path = "cases/dam.rs"]
mod dam;

use std::num::NonZeroU64;
use std::sync::{Arc, Mutex, Weak};
use std::task::Waker;
use std::time::Duration;

use bytes::Bytes;
use dam::Dam;
use tidegate::laws::{self, Control, Device, FarEnd, Harness, Subject};
use tidegate::loopback::{Relay, Turned};
use tidegate::{
    Delivered, ExactLength, FinishableConsumer, Limiter, Loss, Marks, Outcome, Protocol, Rate, Shaper,
    StopReason, Throttle, Throttled, Transport, proxy,
};

/// Makes a shell over a consumer below, and says how it ends.
type Make = fn(Arc<dyn FinishableConsumer>, Marks) -> (Arc<dyn FinishableConsumer>, Outcome);

/// A shell over a dam that is either closed or open.
struct OverDam(&'static str, Make);

/// The same over a dam that is open from the start.
struct OverOpenDam(OverDam);

struct DamDevice {
    dam: Arc<Dam>,
    outcome: Outcome,
    opens: bool,
}

impl Harness for OverDam {
    fn make(&self, marks: Marks) -> Subject {
        let dam = Arc::new(Dam::closed());
        let (consumer, outcome) = self.1(dam.clone(), marks);
        let opens = false;
        let device = Box::new(DamDevice { dam, outcome, opens });
        Subject { consumer, device }
    }

    fn control(&self) -> Control {
        Control::Coarse
    }

    fn name(&self) -> &'static str {
        self.0
    }
}

impl Harness for OverOpenDam {
    fn make(&self, marks: Marks) -> Subject {
        let dam = Arc::new(Dam::open());
        let (consumer, outcome) = self.0.1(dam.clone(), marks);
        let opens = true;
        let device = Box::new(DamDevice { dam, outcome, opens });
        Subject { consumer, device }
    }

    fn control(&self) -> Control {
        Control::Open
    }

    fn name(&self) -> &'static str {
        self.0.0
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
        far_end(self.dam.0.lock().unwrap().end)
    }

    fn outcome(&mut self) -> Option<Result<Delivered, StopReason>> {
        self.outcome.now()
    }
}

fn far_end(end: &str) -> FarEnd {
    match end {
        "open" => FarEnd::Open,
        "finished" => FarEnd::Finished,
        _ => FarEnd::Cut,
    }
}

/// A shaper over an open dam: what is allowed is earned by time, a byte a second, so the device obeys to the byte.
struct Shaped;

struct ShapedDevice {
    inner: DamDevice,
    shaper: Weak<Shaper>,
    limiter: Limiter,
    now: u64,
    allowed: usize,
}

/// So small that its eighth is one byte.
const BURST: u64 = 8;

impl Harness for Shaped {
    fn make(&self, marks: Marks) -> Subject {
        let rate = Rate::per_second(NonZeroU64::MIN).with_burst(NonZeroU64::new(BURST).unwrap());
        let limiter = Limiter::new(rate, Duration::ZERO);
        limiter.spend(BURST, Duration::ZERO);
        let dam = Arc::new(Dam::open());
        let shaper = Arc::new(Shaper::new(dam.clone(), marks, limiter.clone(), Duration::ZERO).unwrap());
        let outcome = shaper.outcome();
        let device = ShapedDevice {
            inner: DamDevice {
                dam,
                outcome,
                opens: true,
            },
            shaper: Arc::downgrade(&shaper),
            limiter,
            now: 0,
            allowed: 0,
        };
        Subject {
            consumer: shaper,
            device: Box::new(device),
        }
    }

    fn control(&self) -> Control {
        Control::Exact
    }

    fn name(&self) -> &'static str {
        "shaper"
    }
}

impl Device for ShapedDevice {
    fn allow(&mut self, bytes: usize) {
        self.allowed = self.allowed.saturating_add(bytes);
    }

    fn turn(&mut self) {
        let unbounded = self.allowed == usize::MAX;
        if unbounded {
            let rate = Rate::per_second(NonZeroU64::MAX);
            self.limiter.set_rate(rate, Duration::from_secs(self.now));
        }
        // Idle time earns a burst at most, and what is earned and not used would be lost: so only as much as is held.
        let held = self.shaper.upgrade().map_or(1, |shaper| shaper.held());
        let seconds = self.allowed.min(held).min(8);
        if !unbounded {
            self.allowed -= seconds;
        }
        self.now += seconds as u64;
        if let Some(shaper) = self.shaper.upgrade() {
            let _ = shaper.tick(Duration::from_secs(self.now), Waker::noop());
        }
    }

    fn output(&mut self) -> Vec<u8> {
        self.inner.output()
    }

    fn kill(&mut self) {
        self.inner.kill();
    }

    fn end(&mut self) -> FarEnd {
        self.inner.end()
    }

    fn outcome(&mut self) -> Option<Result<Delivered, StopReason>> {
        self.inner.outcome()
    }
}

/// A relay: the device is whoever clears it.
struct Relayed;

struct RelayDevice {
    relay: Weak<Relay>,
    heard: Arc<Heard>,
    outcome: Outcome,
    opens: bool,
}

#[derive(Default)]
struct Heard(Mutex<HeardState>);

#[derive(Default)]
struct HeardState {
    transport: Option<Arc<dyn Transport>>,
    out: Vec<u8>,
    end: Option<FarEnd>,
}

impl Protocol for Heard {
    fn connection_made(&self, transport: Arc<dyn Transport>) {
        self.0.lock().unwrap().transport = Some(transport);
    }

    fn data_received(&self, data: Bytes) {
        self.0.lock().unwrap().out.extend_from_slice(&data);
    }

    fn connection_lost(&self, loss: Loss) {
        let transport = {
            let mut state = self.0.lock().unwrap();
            assert_eq!(state.end, None, "a connection is lost once");
            state.end = Some(match loss {
                Loss::Clean => FarEnd::Finished,
                Loss::Cut(_) => FarEnd::Cut,
            });
            state.transport.take()
        };
        drop(transport);
    }
}

impl Harness for Relayed {
    fn make(&self, marks: Marks) -> Subject {
        let heard = Arc::new(Heard::default());
        // Nobody reads the answers: there are none, and their end is not ours to look at.
        let answers = Arc::new(Dam::open());
        let relay = Arc::new(Relay::new(heard.clone(), answers, marks).unwrap());
        let device = RelayDevice {
            relay: Arc::downgrade(&relay),
            heard,
            outcome: relay.outcome(),
            opens: false,
        };
        Subject {
            consumer: relay,
            device: Box::new(device),
        }
    }

    fn control(&self) -> Control {
        Control::Coarse
    }

    fn name(&self) -> &'static str {
        "relay"
    }
}

impl Device for RelayDevice {
    fn allow(&mut self, bytes: usize) {
        self.opens |= bytes > 0;
    }

    fn turn(&mut self) {
        if let Some(relay) = self
            .relay
            .upgrade()
            .filter(|relay| self.opens || relay.held() == 0)
        {
            let _: Turned = relay.clear();
        }
    }

    fn output(&mut self) -> Vec<u8> {
        self.heard.0.lock().unwrap().out.clone()
    }

    fn kill(&mut self) {
        let transport = self.heard.0.lock().unwrap().transport.clone();
        if let Some(transport) = transport {
            transport.abort_connection(tidegate::AbortReason::TimedOut);
        }
    }

    fn end(&mut self) -> FarEnd {
        self.heard.0.lock().unwrap().end.unwrap_or(FarEnd::Open)
    }

    fn outcome(&mut self) -> Option<Result<Delivered, StopReason>> {
        self.outcome.now()
    }
}

macro_rules! over_dam {
    ($name:ident, $make:expr) => {
        tidegate::law_suite!(
            $name,
            OverDam(stringify!($name), |dam, marks| {
                let make: fn(Arc<dyn FinishableConsumer>, Marks) -> _ = $make;
                let shell = make(dam, marks).unwrap();
                let outcome = shell.outcome();
                (Arc::new(shell), outcome)
            })
        );
    };
}

over_dam!(buffered_proxy, proxy::buffered);
over_dam!(pull_proxy, |dam, marks| proxy::pull(
    dam,
    marks.with_chunk(usize::MAX).unwrap()
));
over_dam!(throttled, |dam, marks| {
    let group = Throttle::new(Rate::per_second(NonZeroU64::MAX), None, Duration::ZERO);
    Throttled::new(dam, marks, &group)
});
tidegate::law_suite!(shaper, Shaped);
tidegate::law_suite!(relay, Relayed);

/// A basic proxy passes a pause straight up, so over a closed dam it is on hold before anybody comes: the laws that
/// begin with a first signal run over an open one.
#[test]
fn the_laws_hold_for_the_basic_proxy() {
    let make: Make = |dam, marks| {
        let proxy = proxy::basic(dam, marks).unwrap();
        let outcome = proxy.outcome();
        (Arc::new(proxy), outcome)
    };
    let closed = OverDam("basic proxy", make);
    let open = OverOpenDam(OverDam("basic proxy", make));
    let begins_unpaused = ["law_04", "law_06", "law_14"];
    for (name, law) in laws::ALL {
        eprintln!("{name}");
        if begins_unpaused.iter().any(|prefix| name.starts_with(prefix)) {
            law(&open);
        } else {
            law(&closed);
        }
    }
}

/// An exact-length consumer cannot be finished at any length, so the laws that finish after a number of bytes of their
/// own choice run over the stage it is made of; the others run here.
#[test]
fn the_laws_that_do_not_finish_hold_for_the_exact_length_consumer() {
    let harness = OverDam("exact_length", |dam, marks| {
        let shell = ExactLength::new(dam, marks, u64::MAX).unwrap();
        let outcome = shell.outcome();
        (Arc::new(shell), outcome)
    });
    let finishing = [
        "law_01", "law_06", "law_09", "law_10", "law_13", "law_15", "law_16",
    ];
    let mut held = 0;
    for (name, law) in laws::ALL {
        if !finishing.iter().any(|prefix| name.starts_with(prefix)) {
            law(&harness);
            held += 1;
        }
    }
    assert_eq!(held, 9);
}
