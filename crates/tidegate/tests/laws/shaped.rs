//! The shaper: the far side is time.

use std::num::NonZeroU64;
use std::sync::{Arc, Weak};
use std::task::Waker;
use std::time::Duration;

use tidegate::laws::{Control, Device, FarEnd, Harness, Subject};
use tidegate::{Delivered, Limiter, Marks, Rate, Shaper, StopReason};

use crate::dam::Dam;
use crate::over_dam::DamDevice;

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
            inner: DamDevice::new(dam, outcome),
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

tidegate::law_suite!(shaper, Shaped);
