//! Rate limits of flows: a token bucket for one flow, and one that many share.
//!
//! Knows nothing of bytes or sockets; it is given the time.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

/// Credit for bytes that grows with time, up to a tenth of a second's worth: nothing is hoarded while idle.
#[derive(Debug)]
pub(crate) struct Bucket {
    rate: u64,
    credit: f64,
    at: Instant,
}

impl Bucket {
    pub(crate) fn new(bytes_per_second: u64, now: Instant) -> Self {
        Self {
            rate: bytes_per_second.max(1),
            credit: 0.0,
            at: now,
        }
    }

    pub(crate) fn set_rate(&mut self, bytes_per_second: u64, now: Instant) {
        self.fill(now);
        self.rate = bytes_per_second.max(1);
    }

    /// How many bytes may go now, or when the next reasonable helping will be there.
    pub(crate) fn allow(&mut self, now: Instant) -> Result<usize, Instant> {
        self.fill(now);
        let helping = (self.rate as f64 / 50.0).max(1.0);
        if self.credit >= helping {
            return Ok(self.credit as usize);
        }
        let wait_seconds = (helping - self.credit) / self.rate as f64;
        Err(now + Duration::from_secs_f64(wait_seconds) + Duration::from_micros(1))
    }

    pub(crate) fn spend(&mut self, bytes: usize) {
        self.credit -= bytes as f64;
    }

    fn fill(&mut self, now: Instant) {
        let burst = (self.rate as f64 / 10.0).max(1.0);
        let earned = now.saturating_duration_since(self.at).as_secs_f64() * self.rate as f64;
        self.credit = (self.credit + earned).min(burst);
        self.at = now;
    }
}

/// A rate limit that several flows share. Cheap to clone.
#[derive(Clone, Debug)]
pub struct SharedRate {
    bucket: Arc<Mutex<Bucket>>,
}

impl SharedRate {
    /// A limit of so many bytes a second over all flows that share it.
    pub fn new(bytes_per_second: u64) -> Self {
        Self {
            bucket: Arc::new(Mutex::new(Bucket::new(bytes_per_second, Instant::now()))),
        }
    }

    /// Changes the limit.
    pub fn set_rate(&self, bytes_per_second: u64) {
        self.with(|bucket| bucket.set_rate(bytes_per_second, Instant::now()));
    }

    pub(crate) fn with<T>(&self, run: impl FnOnce(&mut Bucket) -> T) -> T {
        run(&mut self.bucket.lock().unwrap_or_else(PoisonError::into_inner))
    }
}
