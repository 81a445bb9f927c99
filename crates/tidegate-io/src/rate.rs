//! Rate limits of flows, on the core's token bucket: reads the clock for it.
//!
//! Knows nothing of bytes or sockets.

use std::num::NonZeroU64;
use std::time::Duration;

use tidegate::{Allowance, Limiter, Rate};
use tokio::time::Instant;

/// A rate limit that several flows share. Cheap to clone.
#[derive(Clone, Debug)]
pub struct SharedRate {
    limiter: Limiter,
    epoch: Instant,
}

impl SharedRate {
    /// A limit of so many bytes a second over all flows that share it.
    pub fn new(bytes_per_second: u64) -> Self {
        Self {
            limiter: Limiter::new(per_second(bytes_per_second), Duration::ZERO),
            epoch: Instant::now(),
        }
    }

    /// Changes the limit.
    pub fn set_rate(&self, bytes_per_second: u64) {
        self.limiter
            .set_rate(per_second(bytes_per_second), self.epoch.elapsed());
    }

    /// How many bytes may go now, or when to ask again.
    pub(crate) fn allowance(&self, now: Instant) -> Result<usize, Instant> {
        let age = now.saturating_duration_since(self.epoch);
        allowed(self.limiter.allowance(u64::MAX, age)).map_err(|at| self.epoch + at)
    }

    pub(crate) fn spend(&self, bytes: usize) {
        self.limiter.spend(bytes as u64, self.epoch.elapsed());
    }
}

/// So many bytes a second, at least one.
pub(crate) fn per_second(bytes: u64) -> Rate {
    Rate::per_second(NonZeroU64::new(bytes).unwrap_or(NonZeroU64::MIN))
}

pub(crate) fn allowed(allowance: Allowance) -> Result<usize, Duration> {
    match allowance {
        Allowance::Bytes(bytes) => Ok(usize::try_from(bytes.get()).unwrap_or(usize::MAX)),
        Allowance::NotBefore(at) => Err(at),
    }
}
