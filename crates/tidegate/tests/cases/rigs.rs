//! The consumers of the core, each with a device the scenarios can hold still, flush and kill.
//!
//! Knows nothing of scenarios.

use std::num::NonZeroU64;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use tidegate::loopback::{Relay, Turned};
use tidegate::{
    AbortReason, Consumer, ConsumerProtocol, ExactLength, FinishableConsumer, Hold, HoldReason, Limiter,
    Marks, Over, Rate, Ready, Receiver, Sender, Shaper, Stage, Throttle, Throttled, channel, proxy,
};

use crate::dam::{Dam, cause};
use crate::script::Case;
use crate::world::{Rig, lock};

/// `length` is what an exact-length consumer is told to expect.
pub(crate) fn build(name: &str, case: &Case, length: u64) -> Box<dyn Rig> {
    let marks = Marks::new(case.low, case.high).unwrap();
    let marks = case.max.map_or(marks, |max| marks.with_max(max).unwrap());
    // A gate that must stand still for its device has a closed dam below; the others have an open one.
    match name {
        "channel" => Box::new(ChannelRig::new(marks)),
        "proxy" => over_dam(|dam| proxy::buffered(dam, marks).unwrap()),
        "pull" => over_dam(|dam| proxy::pull(dam, marks.with_chunk(usize::MAX).unwrap()).unwrap()),
        "length" => over_dam(|dam| ExactLength::new(dam, marks, length).unwrap()),
        "throttle" => over_dam(|dam| Throttled::new(dam, marks, &unbounded()).unwrap()),
        "shaper" => shaper(marks),
        "relay" => relay(marks),
        other => panic!("no rig is called {other:?}"),
    }
}

/// What every shell can tell beyond being a consumer.
pub(crate) trait Shell: FinishableConsumer {
    fn bytes_held(&self) -> usize;
    fn hold_user(&self) -> Hold;
}

macro_rules! shells {
    ($($shell:ty),*) => {$(
        impl Shell for $shell {
            fn bytes_held(&self) -> usize {
                self.held()
            }
            fn hold_user(&self) -> Hold {
                self.hold(HoldReason::User)
            }
        }
    )*};
}

shells!(
    Sender,
    Stage<Over>,
    tidegate::proxy::PullProxy,
    ExactLength,
    Shaper,
    Throttled,
    Relay
);

/// A channel, and a device that takes from its receiver.
struct ChannelRig {
    sender: Mutex<Option<Arc<Sender>>>,
    receiver: Mutex<Option<Receiver>>,
    holds: Mutex<Vec<Hold>>,
    out: Mutex<Vec<u8>>,
    end: Mutex<&'static str>,
}

impl ChannelRig {
    fn new(marks: Marks) -> Self {
        let (sender, receiver) = channel(marks);
        Self {
            sender: Mutex::new(Some(Arc::new(sender))),
            receiver: Mutex::new(Some(receiver)),
            holds: Mutex::default(),
            out: Mutex::default(),
            end: Mutex::new("open"),
        }
    }

    fn sender(&self) -> Arc<Sender> {
        Arc::clone(lock(&self.sender).as_ref().expect("the write end was dropped"))
    }

    fn poll(&self, receiver: &mut Receiver) -> Option<Ready> {
        match receiver.poll_ready(&mut Context::from_waker(Waker::noop())) {
            Poll::Pending => None,
            Poll::Ready(Ok(ready)) => Some(ready),
            Poll::Ready(Err(_)) => {
                *lock(&self.end) = "aborted";
                None
            }
        }
    }
}

impl Rig for ChannelRig {
    fn consumer(&self) -> Arc<dyn Consumer> {
        self.sender()
    }

    fn finish(&self) {
        self.sender().finish();
    }

    fn abort(&self, reason: AbortReason) {
        self.sender().abort(reason);
    }

    fn drop_write_end(&self) {
        let sender = lock(&self.sender).take();
        drop(sender);
    }

    fn flush(&self, at_most: Option<usize>) {
        let Some(mut receiver) = lock(&self.receiver).take() else {
            return;
        };
        match self.poll(&mut receiver) {
            Some(Ready::Bytes) => {
                let mut left = at_most.unwrap_or(usize::MAX);
                let mut taken = 0;
                for piece in receiver.pieces() {
                    let bytes = piece.len().min(left);
                    lock(&self.out).extend_from_slice(&piece[..bytes]);
                    left -= bytes;
                    taken += bytes;
                }
                // A producer's panic comes through here; the device outlives it.
                let advanced = catch_unwind(AssertUnwindSafe(|| receiver.advance(taken)));
                *lock(&self.receiver) = Some(receiver);
                advanced.unwrap_or_else(|panic| resume_unwind(panic));
                return;
            }
            Some(Ready::End) => {
                receiver.complete();
                *lock(&self.end) = "finished";
                return;
            }
            None => {}
        }
        *lock(&self.receiver) = Some(receiver);
    }

    fn kill(&self) {
        let receiver = lock(&self.receiver).take();
        if let Some(receiver) = receiver {
            *lock(&self.end) = "dead";
            receiver.fail(cause());
        }
    }

    fn hold(&self) {
        let hold = self.sender().hold_user();
        lock(&self.holds).push(hold);
    }

    fn release(&self) {
        let hold = lock(&self.holds).pop();
        drop(hold);
    }

    fn held(&self) -> usize {
        lock(&self.sender).as_ref().map_or(0, |sender| sender.held())
    }

    fn out(&self) -> Vec<u8> {
        lock(&self.out).clone()
    }

    fn end(&self) -> String {
        if let Some(receiver) = lock(&self.receiver).as_mut() {
            let _ = self.poll(receiver);
        }
        (*lock(&self.end)).to_owned()
    }
}

/// What one flush does, given how many bytes are held.
type Flush = Box<dyn Fn(usize) + Send + Sync>;

/// Any shell that hands on to a [`Dam`].
struct DamRig<C> {
    shell: Mutex<Option<Arc<C>>>,
    dam: Arc<Dam>,
    holds: Mutex<Vec<Hold>>,
    flush: Flush,
}

fn over_dam<C: Shell + 'static>(make: impl FnOnce(Arc<dyn FinishableConsumer>) -> C) -> Box<dyn Rig> {
    let dam = Arc::new(Dam::closed());
    let shell = Arc::new(make(dam.clone()));
    let below = Arc::clone(&dam);
    rig(shell, dam, Box::new(move |held| below.open_for(held)))
}

/// Nothing passes but what time allows, one byte a second: a flush lets exactly as much time pass as is held.
fn shaper(marks: Marks) -> Box<dyn Rig> {
    let burst = NonZeroU64::new(1 << 40).unwrap();
    let limiter = Limiter::new(
        Rate::per_second(NonZeroU64::MIN).with_burst(burst),
        Duration::ZERO,
    );
    limiter.spend(burst.get(), Duration::ZERO);
    let dam = Arc::new(Dam::open());
    let shaper = Arc::new(Shaper::new(dam.clone(), marks, limiter, Duration::ZERO).unwrap());
    let (clock, ticks) = (AtomicU64::new(0), Arc::downgrade(&shaper));
    let flush = move |held: usize| {
        let now = clock.fetch_add(held as u64, Ordering::Relaxed) + held as u64;
        if let Some(shaper) = ticks.upgrade() {
            let _ = shaper.tick(Duration::from_secs(now), Waker::noop());
        }
    };
    rig(shaper, dam, Box::new(flush))
}

/// A relay that writes what it is given to a dam that is open: a flush clears it.
fn relay(marks: Marks) -> Box<dyn Rig> {
    let dam = Arc::new(Dam::open());
    let target = Arc::new(ConsumerProtocol::new(dam.clone()));
    let relay = Arc::new(Relay::new(target, Arc::new(Dam::open()), marks).unwrap());
    let clears = Arc::downgrade(&relay);
    // An end is delivered in a turn too: asked to flush nothing, it delivers that.
    let flush = move |held: usize| {
        if let Some(relay) = clears.upgrade().filter(|relay| held == relay.held()) {
            let _: Turned = relay.clear();
        }
    };
    rig(relay, dam, Box::new(flush))
}

fn unbounded() -> Throttle {
    Throttle::new(Rate::per_second(NonZeroU64::MAX), None, Duration::ZERO)
}

fn rig<C: Shell + 'static>(shell: Arc<C>, dam: Arc<Dam>, flush: Flush) -> Box<dyn Rig> {
    Box::new(DamRig {
        shell: Mutex::new(Some(shell)),
        dam,
        holds: Mutex::default(),
        flush,
    })
}

impl<C: Shell> DamRig<C> {
    fn shell(&self) -> Arc<C> {
        Arc::clone(lock(&self.shell).as_ref().expect("the write end was dropped"))
    }
}

impl<C: Shell + 'static> Rig for DamRig<C> {
    fn consumer(&self) -> Arc<dyn Consumer> {
        self.shell()
    }

    fn finish(&self) {
        self.shell().finish();
    }

    fn abort(&self, reason: AbortReason) {
        self.shell().abort(reason);
    }

    fn drop_write_end(&self) {
        let shell = lock(&self.shell).take();
        drop(shell);
    }

    fn flush(&self, at_most: Option<usize>) {
        assert!(at_most.is_none(), "only a channel's device takes part of a piece");
        let held = self.held();
        (self.flush)(held);
    }

    fn kill(&self) {
        self.dam.die();
    }

    fn hold(&self) {
        let hold = self.shell().hold_user();
        lock(&self.holds).push(hold);
    }

    fn release(&self) {
        let hold = lock(&self.holds).pop();
        drop(hold);
    }

    fn held(&self) -> usize {
        lock(&self.shell).as_ref().map_or(0, |shell| shell.bytes_held())
    }

    fn out(&self) -> Vec<u8> {
        lock(&self.dam.0).out.clone()
    }

    fn end(&self) -> String {
        (self.flush)(0);
        lock(&self.dam.0).end.to_owned()
    }
}
