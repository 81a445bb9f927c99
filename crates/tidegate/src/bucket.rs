//! How many bytes a stated rate allows now, and when the next ones: the token bucket, alone, shared and nested.
//!
//! Knows no clock (every call is given `now`, the time since a start the caller chose) and delays nobody itself.

use std::collections::BTreeMap;
use std::num::NonZeroU64;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

const NANOS_PER_SECOND: i128 = 1_000_000_000;

/// A rate in bytes per second, and the most credit that idle time may pile up.
///
/// ```
/// let rate = tidegate::Rate::per_second(std::num::NonZeroU64::new(10 << 20).unwrap());
/// assert_eq!(rate.burst_bytes.get(), 1 << 20); // a tenth of a second's worth
/// ```
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub struct Rate {
    /// Bytes per second in the long run.
    pub bytes_per_second: NonZeroU64,
    /// Bytes that may pass at once after idle time, however long that was.
    pub burst_bytes: NonZeroU64,
}

impl Rate {
    /// A rate whose burst is what a tenth of a second earns, at least one byte.
    pub const fn per_second(bytes: NonZeroU64) -> Self {
        let burst_bytes = match NonZeroU64::new(bytes.get() / 10) {
            Some(burst) => burst,
            None => NonZeroU64::MIN,
        };
        Self {
            bytes_per_second: bytes,
            burst_bytes,
        }
    }

    /// The same rate with another burst.
    #[must_use]
    pub const fn with_burst(self, burst_bytes: NonZeroU64) -> Self {
        Self { burst_bytes, ..self }
    }

    /// The least worth waiting for: an eighth of the burst. Smaller grants would split a stream into crumbs.
    const fn quantum(self) -> u64 {
        let eighth = self.burst_bytes.get() / 8;
        if eighth == 0 { 1 } else { eighth }
    }
}

/// What a rate limit answers to "may I send?".
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
#[must_use = "bytes beyond the allowance break the rate"]
pub enum Allowance {
    /// That many bytes may pass now (never 0).
    Bytes(NonZeroU64),
    /// Nothing now; ask again at this time, on the clock `now` is from.
    NotBefore(Duration),
}

/// Credit in bytes that grows with time up to a burst, and is spent by sending. (Twisted: `htb.Bucket`.)
///
/// Exact: credit is kept in billionths of a byte, so that no rate loses or gains by being asked often. A `now` that
/// lies in the past is taken as the latest one seen.
///
/// ```
/// # use std::{num::NonZeroU64, time::Duration};
/// # use tidegate::{Allowance, Rate, TokenBucket};
/// # let bytes = |n| NonZeroU64::new(n).unwrap();
/// let rate = Rate::per_second(bytes(1_000)).with_burst(bytes(80));
/// let mut bucket = TokenBucket::new(rate, Duration::ZERO);
/// assert_eq!(bucket.allowance(u64::MAX, Duration::ZERO), Allowance::Bytes(bytes(80)));
/// bucket.spend(80, Duration::ZERO);
/// // An eighth of the burst (10 bytes) is the least worth waking up for.
/// assert_eq!(bucket.allowance(u64::MAX, Duration::ZERO), Allowance::NotBefore(Duration::from_millis(10)));
/// assert_eq!(bucket.available(Duration::from_secs(3_600)), 80); // an idle hour earns one burst, no more
/// ```
#[derive(Clone, Debug)]
pub struct TokenBucket {
    rate: Rate,
    /// In billionths of a byte; below zero after more was spent than was there.
    credit: i128,
    latest: Duration,
}

impl TokenBucket {
    /// A bucket that holds one burst of credit at `now`.
    pub fn new(rate: Rate, now: Duration) -> Self {
        Self {
            rate,
            credit: scaled(rate.burst_bytes.get()),
            latest: now,
        }
    }

    /// The rate in force.
    pub fn rate(&self) -> Rate {
        self.rate
    }

    /// Changes the rate from `now` on. Credit earned so far stays, cut to the new burst.
    pub fn set_rate(&mut self, rate: Rate, now: Duration) {
        self.earn(now);
        self.rate = rate;
        self.credit = self.credit.min(scaled(rate.burst_bytes.get()));
    }

    /// Bytes that may pass at `now`.
    pub fn available(&mut self, now: Duration) -> u64 {
        self.earn(now);
        u64::try_from(self.credit / NANOS_PER_SECOND).unwrap_or(0)
    }

    /// Bytes of `wanted` that may pass at `now`, or when to ask again. Spends nothing.
    ///
    /// Waits for an eighth of a burst at a time, unless less is wanted.
    pub fn allowance(&mut self, wanted: u64, now: Duration) -> Allowance {
        let least = self.rate.quantum().min(wanted).max(1);
        let available = self.available(now);
        match NonZeroU64::new(available.min(wanted.max(1))) {
            Some(bytes) if available >= least => Allowance::Bytes(bytes),
            _ => Allowance::NotBefore(self.when(least)),
        }
    }

    /// Takes as many of `wanted` bytes as are there at `now`, and says how many.
    pub fn take(&mut self, wanted: u64, now: Duration) -> u64 {
        let granted = self.available(now).min(wanted);
        self.credit -= scaled(granted);
        granted
    }

    /// Records bytes that passed. More than was available is a debt that time pays off first.
    pub fn spend(&mut self, bytes: u64, now: Duration) {
        self.earn(now);
        self.credit = self.credit.saturating_sub(scaled(bytes));
    }

    /// When what was spent beyond the credit is paid off; `None` if nothing is owed at `now`.
    pub fn debt_until(&mut self, now: Duration) -> Option<Duration> {
        self.earn(now);
        (self.credit < 0).then(|| self.when(0))
    }

    /// Gives back bytes that were taken and did not pass.
    pub fn give_back(&mut self, bytes: u64) {
        self.credit = (self.credit + scaled(bytes)).min(scaled(self.rate.burst_bytes.get()));
    }

    /// Whether the whole burst is there, as after enough idle time.
    pub fn is_idle(&mut self, now: Duration) -> bool {
        self.earn(now);
        self.credit == scaled(self.rate.burst_bytes.get())
    }

    /// The first moment at which `bytes` (cut to the burst) are there if nothing is spent until then.
    fn when(&self, bytes: u64) -> Duration {
        let missing = scaled(bytes.min(self.rate.burst_bytes.get())) - self.credit;
        let rate = i128::from(self.rate.bytes_per_second.get());
        let wait = u64::try_from((missing.max(0) + rate - 1) / rate).unwrap_or(u64::MAX);
        self.latest.saturating_add(Duration::from_nanos(wait))
    }

    fn earn(&mut self, now: Duration) {
        let elapsed = now.saturating_sub(self.latest);
        self.latest = self.latest.max(now);
        let nanos = i128::try_from(elapsed.as_nanos()).unwrap_or(i128::MAX);
        let earned = nanos.saturating_mul(i128::from(self.rate.bytes_per_second.get()));
        let burst = scaled(self.rate.burst_bytes.get());
        self.credit = self.credit.saturating_add(earned).min(burst);
    }
}

fn scaled(bytes: u64) -> i128 {
    i128::from(bytes) * NANOS_PER_SECOND
}

/// A token bucket that several streams share, itself perhaps inside a wider one: what passes is allowed by all.
/// (Twisted: `htb.Bucket` with a parent.)
///
/// ```
/// # use std::{num::NonZeroU64, time::Duration};
/// # use tidegate::{Limiter, Rate};
/// # let rate = |n| Rate::per_second(NonZeroU64::new(n).unwrap());
/// let total = Limiter::new(rate(1_000), Duration::ZERO);
/// let one = total.within(rate(5_000), Duration::ZERO);
/// assert_eq!(one.take(300, Duration::ZERO), 100); // the total's burst
/// ```
#[derive(Clone, Debug)]
pub struct Limiter(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    bucket: Mutex<TokenBucket>,
    parent: Option<Limiter>,
}

impl Limiter {
    /// A limit of its own. Clones share it.
    pub fn new(rate: Rate, now: Duration) -> Self {
        Self::build(rate, now, None)
    }

    /// A limit of its own that also obeys this one.
    #[must_use]
    pub fn within(&self, rate: Rate, now: Duration) -> Self {
        Self::build(rate, now, Some(self.clone()))
    }

    fn build(rate: Rate, now: Duration, parent: Option<Self>) -> Self {
        let bucket = Mutex::new(TokenBucket::new(rate, now));
        Self(Arc::new(Shared { bucket, parent }))
    }

    /// Changes this limit's own rate from `now` on.
    pub fn set_rate(&self, rate: Rate, now: Duration) {
        self.bucket().set_rate(rate, now);
    }

    /// As [`TokenBucket::allowance`]: the least that this limit and every wider one allow, or the latest of their
    /// times. Spends nothing: of two who share a limit and ask at once, one may end in a debt the next grants pay off.
    pub fn allowance(&self, wanted: u64, now: Duration) -> Allowance {
        let own = self.bucket().allowance(wanted, now);
        match (
            own,
            self.0.parent.as_ref().map(|parent| parent.allowance(wanted, now)),
        ) {
            (Allowance::Bytes(a), Some(Allowance::Bytes(b))) => Allowance::Bytes(a.min(b)),
            (Allowance::NotBefore(a), Some(Allowance::NotBefore(b))) => Allowance::NotBefore(a.max(b)),
            (Allowance::Bytes(_), Some(wait @ Allowance::NotBefore(_))) => wait,
            (own, _) => own,
        }
    }

    /// Records bytes that passed, here and in every wider limit.
    pub fn spend(&self, bytes: u64, now: Duration) {
        self.bucket().spend(bytes, now);
        if let Some(parent) = &self.0.parent {
            parent.spend(bytes, now);
        }
    }

    /// Takes as many of `wanted` bytes as this limit and every wider one have at `now`, and says how many.
    pub fn take(&self, wanted: u64, now: Duration) -> u64 {
        let mut own = self.bucket();
        let here = own.available(now).min(wanted);
        let granted = match &self.0.parent {
            Some(parent) => parent.take(here, now),
            None => here,
        };
        own.spend(granted, now);
        granted
    }

    /// Whether this limit's own burst is whole again and no stream holds a clone of it.
    pub fn is_idle(&self, now: Duration) -> bool {
        Arc::strong_count(&self.0) == 1 && self.bucket().is_idle(now)
    }

    /// Ours alone, and nothing foreign runs under it; locks nest from child to parent only.
    fn bucket(&self) -> MutexGuard<'_, TokenBucket> {
        self.0.bucket.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// One limit for each key (a peer's address, a user), all inside one wider limit where there is one.
/// (Twisted: `htb.HierarchicalBucketFilter`, whose sweep broke on its own removals.)
#[derive(Debug)]
pub struct LimiterMap<K> {
    rate: Rate,
    total: Option<Limiter>,
    limits: BTreeMap<K, Limiter>,
}

impl<K: Ord> LimiterMap<K> {
    /// Each key gets `rate`; `total` bounds all of them together.
    pub const fn new(rate: Rate, total: Option<Limiter>) -> Self {
        Self {
            rate,
            total,
            limits: BTreeMap::new(),
        }
    }

    /// The limit for `key`, made at its first use.
    pub fn limiter(&mut self, key: K, now: Duration) -> Limiter {
        let (rate, total) = (self.rate, &self.total);
        let fresh = || Limiter::build(rate, now, total.clone());
        self.limits.entry(key).or_insert_with(fresh).clone()
    }

    /// Forgets every limit that nobody uses and that has nothing to remember, and says how many.
    pub fn sweep(&mut self, now: Duration) -> usize {
        let before = self.limits.len();
        self.limits.retain(|_, limit| !limit.is_idle(now));
        before - self.limits.len()
    }

    /// Keys remembered.
    pub fn len(&self) -> usize {
        self.limits.len()
    }

    /// Whether no key is remembered.
    pub fn is_empty(&self) -> bool {
        self.limits.is_empty()
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn rate(bytes_per_second: u64, burst_bytes: u64) -> Rate {
        Rate::per_second(NonZeroU64::new(bytes_per_second).unwrap())
            .with_burst(NonZeroU64::new(burst_bytes).unwrap())
    }

    const fn seconds(n: u64) -> Duration {
        Duration::from_secs(n)
    }

    fn spent(rate: Rate) -> TokenBucket {
        let mut bucket = TokenBucket::new(rate, Duration::ZERO);
        bucket.spend(rate.burst_bytes.get(), Duration::ZERO);
        bucket
    }

    /// CASES 126: rate 2, spent to the last byte, ten seconds earn exactly twenty bytes.
    #[test]
    fn ten_seconds_at_two_a_second_grant_twenty() {
        assert_eq!(spent(rate(2, 100)).take(1_000, seconds(10)), 20);
    }

    /// CASES 127: with twenty out at rate 2, the bucket is whole again at ten seconds and not at nine.
    #[test]
    fn a_bucket_is_idle_only_when_all_is_earned_back() {
        let mut bucket = TokenBucket::new(rate(2, 100), Duration::ZERO);
        bucket.spend(20, Duration::ZERO);
        assert!(!bucket.is_idle(seconds(9)));
        assert!(bucket.is_idle(seconds(10)));
    }

    /// CASES 129 (D73): the narrower parent decides.
    #[test]
    fn a_nested_limit_obeys_its_parent() {
        let parent = Limiter::new(rate(1, 100), Duration::ZERO);
        let child = parent.within(rate(2, 100), Duration::ZERO);
        assert_eq!(child.take(100, Duration::ZERO), 100);
        assert_eq!(child.take(100, seconds(10)), 10);
        // What the parent refused was not taken from the child.
        assert_eq!(child.bucket().available(seconds(10)), 10);
    }

    /// CASES B49 (D72, D74, D75): a sweep removes every idle limit, keeps those in use, and needs no counting by hand.
    #[test]
    fn a_sweep_removes_idle_limits_and_keeps_used_ones() {
        let mut limits = LimiterMap::new(rate(2, 10), None);
        let kept = limits.limiter("kept", Duration::ZERO);
        for name in ["a", "b"] {
            assert_eq!(limits.limiter(name, Duration::ZERO).take(4, Duration::ZERO), 4);
        }
        assert_eq!(limits.sweep(seconds(1)), 0);
        assert_eq!(limits.sweep(seconds(2)), 2);
        drop(kept);
        assert_eq!(limits.sweep(seconds(2)), 1);
        assert!(limits.is_empty());
    }

    /// Law of the shaper: idle time never piles up more than one burst (pv#32, rclone#9820).
    #[test]
    fn idle_time_earns_one_burst_at_most() {
        let mut bucket = spent(rate(1_000_000, 64));
        assert_eq!(bucket.available(seconds(86_400)), 64);
        bucket.set_rate(rate(1_000_000, 8), seconds(86_400));
        assert_eq!(bucket.available(seconds(86_400)), 8);
    }

    /// D71: rates that do not divide a second evenly lose nothing, asked a million times or once.
    #[test]
    fn asking_often_loses_no_fraction() {
        let (mut often, mut once) = (spent(rate(3, 10)), spent(rate(3, 10)));
        for micros in 0..1_000_000 {
            let _ = often.available(Duration::from_micros(micros));
        }
        assert_eq!(often.available(seconds(1)), 3);
        assert_eq!(once.available(seconds(1)), 3);
    }

    #[test]
    fn a_debt_is_paid_off_before_anything_passes() {
        let mut bucket = TokenBucket::new(rate(10, 10), Duration::ZERO);
        bucket.spend(30, Duration::ZERO);
        assert_eq!(bucket.debt_until(Duration::ZERO), Some(seconds(2)));
        assert_eq!(bucket.debt_until(seconds(2)), None);
        assert_eq!(bucket.available(seconds(2)), 0);
        assert_eq!(
            bucket.allowance(1, seconds(2)),
            Allowance::NotBefore(Duration::from_millis(2_100))
        );
        assert_eq!(bucket.available(seconds(3)), 10);
    }

    #[test]
    fn time_that_runs_backwards_earns_nothing() {
        let mut bucket = spent(rate(10, 100));
        assert_eq!(bucket.available(seconds(5)), 50);
        assert_eq!(bucket.available(seconds(1)), 50);
        assert_eq!(bucket.available(seconds(6)), 60);
    }

    /// The moment named is the first at which the bytes are there: asking then never says "wait" again (no spin),
    /// asking a nanosecond earlier does (no stall).
    #[test]
    fn the_moment_named_is_exact() {
        for (per_second, burst) in [
            (1, 1),
            (3, 2),
            (7, 100),
            (999_999_937, 4_096),
            (u64::MAX, u64::MAX),
        ] {
            let mut bucket = spent(rate(per_second, burst));
            let Allowance::NotBefore(at) = bucket.clone().allowance(u64::MAX, Duration::ZERO) else {
                panic!("a spent bucket allows nothing");
            };
            if at > Duration::from_nanos(1) {
                let early = at - Duration::from_nanos(1);
                assert!(matches!(
                    bucket.clone().allowance(u64::MAX, early),
                    Allowance::NotBefore(_)
                ));
            }
            assert!(matches!(bucket.allowance(u64::MAX, at), Allowance::Bytes(_)));
        }
    }

    #[test]
    fn a_small_wish_does_not_wait_for_the_quantum() {
        let mut bucket = spent(rate(10, 800));
        assert_eq!(
            bucket.allowance(5, Duration::ZERO),
            Allowance::NotBefore(Duration::from_millis(500))
        );
        assert!(matches!(bucket.allowance(5, seconds(1)), Allowance::Bytes(n) if n.get() == 5));
        assert_eq!(
            bucket.allowance(1_000, seconds(1)),
            Allowance::NotBefore(seconds(10))
        );
    }

    #[test]
    fn what_did_not_pass_is_given_back() {
        let mut bucket = TokenBucket::new(rate(10, 10), Duration::ZERO);
        assert_eq!(bucket.take(8, Duration::ZERO), 8);
        bucket.give_back(5);
        assert_eq!(bucket.available(Duration::ZERO), 7);
        bucket.give_back(50);
        assert_eq!(bucket.available(Duration::ZERO), 10);
    }

    #[test]
    fn clones_share_one_limit() {
        let limit = Limiter::new(rate(10, 10), Duration::ZERO);
        limit.clone().spend(10, Duration::ZERO);
        assert!(matches!(
            limit.allowance(10, Duration::ZERO),
            Allowance::NotBefore(_)
        ));
        limit.set_rate(rate(100, 10), Duration::ZERO);
        assert!(matches!(limit.allowance(10, seconds(1)), Allowance::Bytes(n) if n.get() == 10));
    }
}
