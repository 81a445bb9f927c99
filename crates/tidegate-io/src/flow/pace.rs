//! How fast a flow's sink takes, and so how far its source may run ahead: how much to read at once, and how much the
//! system may receive before that.
//!
//! Knows counts and the times it is given; no source, no sink, no clock.
//!
//! Only a flow that was measured to wait for its sink, and for nothing else, is limited, to what its sink takes in a
//! moment; a fast one never is. If the source then has to be waited for, the limit was too low for the way to it: it is
//! lifted, and the next one is for four times the time.

use std::time::Duration;

use tokio::time::Instant;

use crate::RunAhead;

/// The least a flow reads at once behind a sink that takes little.
const READ_BYTES_MIN: u32 = 64 * 1024;
/// The rate is taken over at least so long.
const WINDOW: Duration = Duration::from_millis(100);
/// How long a sink must need for what the system receives ahead, at first. Linux gives a socket twice what is asked for, and on
/// loopback nearly all of it is filled with bytes.
const HORIZON: Duration = Duration::from_millis(16);
/// How much longer it must need after a limit that was too low.
const HORIZON_GROWTH: u32 = 4;
/// A limit is never less.
const AHEAD_BYTES_MIN: u64 = 128 * 1024;
/// Nor more: a flow this fast runs free.
const AHEAD_BYTES_MAX: u64 = 2 * 1024 * 1024;
/// Waits for the source, with none for the sink in between, that show the sink to be the faster one.
const SOURCE_WAITS: u8 = 4;

/// The most to read at once before the sink was ever waited for: as much as it has taken so far. A burst at the start would
/// let the system's queues before and behind the flow grow to what a fast stream needs, and they do not shrink again.
pub(super) fn most_at_first(bytes_sent: u64) -> usize {
    usize::try_from(bytes_sent.max(u64::from(READ_BYTES_MIN))).unwrap_or(usize::MAX)
}

/// What a flow has shown so far.
#[derive(Clone, Copy, Debug)]
pub(super) struct Pace {
    /// Taken since the sink last had to be waited for.
    taken: u32,
    /// The most to read at once.
    most: u32,
    since: Instant,
    /// Taken since then.
    bytes: u64,
    source_waited: bool,
    source_waits: u8,
    horizon: Duration,
    ahead: RunAhead,
}

impl Pace {
    pub(super) fn new(now: Instant) -> Self {
        Self {
            taken: 0,
            most: READ_BYTES_MIN,
            since: now,
            bytes: 0,
            source_waited: true,
            source_waits: 0,
            horizon: HORIZON,
            ahead: RunAhead::Free,
        }
    }

    /// The most to read at once.
    pub(super) fn most(&self) -> usize {
        usize::try_from(self.most).unwrap_or(usize::MAX)
    }

    /// The sink took so much.
    pub(super) fn took(&mut self, bytes: usize) {
        self.bytes += bytes as u64;
        self.taken = self
            .taken
            .saturating_add(u32::try_from(bytes).unwrap_or(u32::MAX));
        if self.taken >= self.most {
            self.most = self.most.saturating_mul(2);
        }
    }

    /// The sink has to be waited for. Says what the source is to be told, if anything.
    pub(super) fn sink_waits(&mut self, now: Instant) -> Option<RunAhead> {
        self.source_waits = 0;
        if self.taken > 0 {
            self.most = self.taken.saturating_mul(2).max(READ_BYTES_MIN);
            self.taken = 0;
        }
        let elapsed = now.saturating_duration_since(self.since);
        if elapsed < WINDOW {
            return None;
        }
        let wanted = self.wanted(elapsed);
        let source_waited = std::mem::replace(&mut self.source_waited, false);
        (self.since, self.bytes) = (now, 0);
        if source_waited && self.ahead == RunAhead::Free {
            return None;
        }
        let near = match (self.ahead, wanted) {
            (RunAhead::Limited(old), RunAhead::Limited(new)) => old / 2 < new && new < old * 2,
            (old, new) => old == new,
        };
        if near {
            return None;
        }
        self.ahead = wanted;
        Some(wanted)
    }

    fn wanted(&self, elapsed: Duration) -> RunAhead {
        let rate = u128::from(self.bytes) * self.horizon.as_micros() / elapsed.as_micros().max(1);
        match u64::try_from(rate) {
            Ok(bytes) if bytes <= AHEAD_BYTES_MAX => {
                RunAhead::Limited(usize::try_from(bytes.max(AHEAD_BYTES_MIN)).unwrap_or(usize::MAX))
            }
            _ => RunAhead::Free,
        }
    }

    /// The source has to be waited for while nothing is held. Says what it is to be told, if anything.
    pub(super) fn source_waits(&mut self) -> Option<RunAhead> {
        self.source_waited = true;
        self.source_waits = self.source_waits.saturating_add(1);
        if self.ahead == RunAhead::Free || self.source_waits < SOURCE_WAITS {
            return None;
        }
        self.horizon = self.horizon.saturating_mul(HORIZON_GROWTH);
        self.ahead = RunAhead::Free;
        Some(RunAhead::Free)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    /// A sink that takes `bytes` each millisecond and is waited for each time.
    fn run(pace: &mut Pace, from: Instant, millis: u64, bytes: usize) -> Vec<RunAhead> {
        let told = (1..=millis).filter_map(|at| {
            pace.took(bytes);
            pace.sink_waits(from + Duration::from_millis(at))
        });
        told.collect()
    }

    #[test]
    fn a_slow_sink_limits_its_source_once() {
        let now = Instant::now();
        let mut pace = Pace::new(now);
        // 10 MiB/s: in 16 ms some 160 KiB.
        let told = run(&mut pace, now, 1000, 10_486);
        let [RunAhead::Limited(bytes)] = told[..] else {
            panic!("{told:?}");
        };
        assert!((150 << 10..180 << 10).contains(&bytes), "{bytes}");
        assert_eq!(pace.most(), READ_BYTES_MIN as usize);
    }

    #[test]
    fn a_fast_sink_never_limits_its_source() {
        let now = Instant::now();
        let mut pace = Pace::new(now);
        assert_eq!(run(&mut pace, now, 1000, 256 << 10), []);
        assert_eq!(pace.most(), 512 << 10);
    }

    #[test]
    fn a_source_that_is_waited_for_is_not_limited() {
        let now = Instant::now();
        let mut pace = Pace::new(now);
        for at in 1..1000 {
            pace.took(10_000);
            assert_eq!(pace.source_waits(), None);
            assert_eq!(pace.sink_waits(now + Duration::from_millis(at)), None);
        }
    }

    #[test]
    fn a_limit_is_lifted_at_once_when_the_sink_is_the_faster_one_and_comes_back_larger() {
        let now = Instant::now();
        let mut pace = Pace::new(now);
        assert_eq!(run(&mut pace, now, 300, 10_486).len(), 1);
        let lifted: Vec<_> = (0..SOURCE_WAITS)
            .filter_map(|_| {
                pace.took(10_000);
                pace.source_waits()
            })
            .collect();
        assert_eq!(lifted, [RunAhead::Free]);
        let told = run(&mut pace, now + Duration::from_millis(300), 1000, 10_486);
        let [RunAhead::Limited(bytes)] = told[..] else {
            panic!("{told:?}");
        };
        assert!((600 << 10..720 << 10).contains(&bytes), "{bytes}");
        // A sink that has become fast lifts it, too, though its source keeps up.
        let told = run(&mut pace, now + Duration::from_millis(1300), 1000, 256 << 10);
        assert_eq!(told, [RunAhead::Free]);
    }

    #[test]
    fn a_flow_reads_no_more_at_first_than_its_sink_has_taken() {
        assert_eq!(most_at_first(0), READ_BYTES_MIN as usize);
        assert_eq!(most_at_first(300_000), 300_000);
        // Nor when it first has to wait.
        assert_eq!(Pace::new(Instant::now()).most(), READ_BYTES_MIN as usize);
    }

    #[test]
    fn a_sink_that_takes_all_soon_gets_large_reads_again() {
        let now = Instant::now();
        let mut pace = Pace::new(now);
        pace.took(1);
        assert_eq!(pace.sink_waits(now), None);
        assert_eq!(pace.most(), READ_BYTES_MIN as usize);
        for _ in 0..10 {
            pace.took(pace.most());
        }
        assert!(pace.most() >= 8 << 20, "{}", pace.most());
    }
}
