//! The remote control of a flow: hold, release, stop, abort, change the rate, look. Atomics and one waker.
//!
//! Knows nothing of what moves the bytes: it leaves wishes, and the flow's own task obeys them.

use std::fmt;
use std::sync::atomic::{AtomicU8, AtomicU32, AtomicU64, AtomicUsize, Ordering::Relaxed, Ordering::SeqCst};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::task::Waker;
use std::time::Duration;

use tidegate::{AbortReason, HoldReason};
use tokio::time::Instant;

use crate::report::{Lane, PausedTime, Report, SlowSide, slow_side};

/// What a flow is doing.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
#[repr(u8)]
pub enum FlowState {
    /// Not polled yet.
    Starting = 0,
    /// Reading, or waiting for the source.
    Reading = 1,
    /// Writing below the high mark.
    Writing = 2,
    /// Full: the source waits for the sink.
    WaitingSink = 3,
    /// Held through a handle.
    Paused = 4,
    /// Held back by a rate limit.
    Shaped = 5,
    /// The source has ended; what is held goes out.
    Draining = 6,
    /// Waiting for the sink's acknowledgement.
    Finishing = 7,
    /// Over.
    Done = 8,
}

impl FlowState {
    /// The words for people.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Starting => "starting",
            Self::Reading => "reading",
            Self::Writing => "writing",
            Self::WaitingSink => "waiting for the sink",
            Self::Paused => "paused by the user",
            Self::Shaped => "shaped",
            Self::Draining => "draining",
            Self::Finishing => "finishing",
            Self::Done => "done",
        }
    }

    const ALL: [Self; STATES] = [
        Self::Starting,
        Self::Reading,
        Self::Writing,
        Self::WaitingSink,
        Self::Paused,
        Self::Shaped,
        Self::Draining,
        Self::Finishing,
        Self::Done,
    ];
}

const STATES: usize = 9;

impl fmt::Display for FlowState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// A flow seen from outside, at one moment.
#[derive(Clone, Debug)]
pub struct Snapshot {
    /// Bytes taken from the source.
    pub bytes_read: u64,
    /// Bytes the sink's device accepted.
    pub bytes_sent: u64,
    /// Bytes held between the two.
    pub held: usize,
    /// The flow's high mark.
    pub high: usize,
    /// What it is doing.
    pub state: FlowState,
    /// The lane in use.
    pub lane: Lane,
    /// Since the first poll.
    pub elapsed: Duration,
    /// Time reading, or waiting for the source.
    pub reading: Duration,
    /// Time writing, or waiting for the sink.
    pub writing: Duration,
    /// Time paused.
    pub paused: PausedTime,
    /// The rate limit in force, in bytes a second.
    pub rate: Option<u64>,
}

impl Snapshot {
    /// How full the gate is: held bytes over the high mark, more than 1 just after a large read.
    pub fn fill(&self) -> f64 {
        self.held as f64 / self.high as f64
    }

    /// Who has kept the other waiting so far.
    pub fn slow_side(&self) -> SlowSide {
        slow_side(self.elapsed, self.reading, self.writing)
    }
}

/// Remote control of a running flow. Cheap to clone, usable from any thread and after the flow's end.
#[derive(Clone)]
pub struct FlowHandle {
    shared: Arc<Shared>,
}

/// A hold on a flow: while it lives, the flow does not read. Dropping it releases.
#[must_use = "dropping the hold releases the flow"]
pub struct FlowHold {
    shared: Arc<Shared>,
    reason: HoldReason,
}

impl FlowHandle {
    pub(crate) fn new(shared: Arc<Shared>) -> Self {
        Self { shared }
    }

    /// Stops reading until the hold is dropped. Holds count: the flow runs when none is out.
    pub fn hold(&self, reason: HoldReason) -> FlowHold {
        self.shared.holds.fetch_add(1, SeqCst);
        self.shared.wake();
        FlowHold {
            shared: Arc::clone(&self.shared),
            reason,
        }
    }

    /// Ends the stream at once as not complete. The first reason stands.
    pub fn abort(&self, reason: AbortReason) {
        let mut control = self.shared.control();
        control.abort.get_or_insert_with(|| Box::new(reason));
        drop(control);
        self.shared.wishes.fetch_or(WISH_ABORT, SeqCst);
        self.shared.wake();
    }

    /// The gentle end: stops reading, delivers what is held, then aborts the sink, since the stream is not complete.
    pub fn stop(&self) {
        self.shared.wish_to_stop();
        self.shared.wake();
    }

    /// Stops two flows of one task so that it never sees only one of the wishes: it takes each lock before it looks.
    pub(crate) fn stop_both(&self, other: &Self) {
        if Arc::ptr_eq(&self.shared, &other.shared) {
            return self.stop();
        }
        // In one order, whoever else does the same.
        let (first, second) = match Arc::as_ptr(&self.shared) < Arc::as_ptr(&other.shared) {
            true => (self, other),
            false => (other, self),
        };
        let locks = (first.shared.control(), second.shared.control());
        self.shared.wishes.fetch_or(WISH_STOP, SeqCst);
        other.shared.wishes.fetch_or(WISH_STOP, SeqCst);
        drop(locks);
        self.shared.wake();
        other.shared.wake();
    }

    /// Changes the rate limit, in bytes a second; `None` lifts it. A flow in a kernel lane goes back to user space.
    pub fn set_rate(&self, bytes_per_second: Option<u64>) {
        self.shared
            .rate
            .store(bytes_per_second.map_or(0, |rate| rate.max(1)), SeqCst);
        self.shared.wishes.fetch_or(WISH_RATE, SeqCst);
        self.shared.wake();
    }

    /// How the flow stands.
    pub fn snapshot(&self) -> Snapshot {
        self.shared.snapshot(Instant::now())
    }
}

impl fmt::Debug for FlowHandle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("FlowHandle")
            .field("snapshot", &self.snapshot())
            .finish()
    }
}

impl Drop for FlowHold {
    fn drop(&mut self) {
        self.shared.holds.fetch_sub(1, SeqCst);
        self.shared.wake();
    }
}

impl fmt::Debug for FlowHold {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("FlowHold").field(&self.reason).finish()
    }
}

pub(crate) const WISH_ABORT: u8 = 1;
pub(crate) const WISH_STOP: u8 = 2;
pub(crate) const WISH_RATE: u8 = 4;

/// What a flow's task and its handles share. The task alone writes the counters, so relaxed stores do. Every idle
/// connection has two of these, so nothing is kept that follows from the rest.
pub(crate) struct Shared {
    control: Mutex<Control>,
    holds: AtomicU32,
    wishes: AtomicU8,
    state: AtomicU8,
    lane: AtomicU8,
    rate: AtomicU64,
    pub(crate) bytes_read: AtomicU64,
    pub(crate) bytes_sent: AtomicU64,
    high: AtomicUsize,
    /// When the state was entered, as an [`age`].
    since_ns: AtomicU64,
    spent_ns: [AtomicU64; ACCOUNTS],
}

#[derive(Default)]
struct Control {
    waker: Option<Waker>,
    abort: Option<Box<AbortReason>>,
}

/// What the time of a flow is spent on.
#[derive(Clone, Copy, Eq, PartialEq)]
enum Account {
    Reading,
    Writing,
    Full,
    User,
    Shaped,
}

const ACCOUNTS: usize = 5;

impl FlowState {
    const fn account(self) -> Option<Account> {
        match self {
            Self::Starting | Self::Done => None,
            Self::Reading => Some(Account::Reading),
            Self::Writing | Self::Draining | Self::Finishing => Some(Account::Writing),
            Self::WaitingSink => Some(Account::Full),
            Self::Paused => Some(Account::User),
            Self::Shaped => Some(Account::Shaped),
        }
    }
}

/// The time since a fixed moment of the process, long before its first flow.
pub(crate) fn age(now: Instant) -> Duration {
    static EPOCH: OnceLock<Instant> = OnceLock::new();
    // Well in the past, so that the frozen clock of a test never lies before it.
    let epoch = EPOCH.get_or_init(|| {
        let now = std::time::Instant::now();
        now.checked_sub(Duration::from_secs(86_400)).unwrap_or(now).into()
    });
    now.saturating_duration_since(*epoch)
}

fn age_ns(now: Instant) -> u64 {
    age(now).as_nanos() as u64
}

impl Shared {
    pub(crate) fn new(high: usize) -> Self {
        Self {
            control: Mutex::default(),
            holds: AtomicU32::new(0),
            wishes: AtomicU8::new(0),
            state: AtomicU8::new(0),
            lane: AtomicU8::new(0),
            rate: AtomicU64::new(0),
            bytes_read: AtomicU64::new(0),
            bytes_sent: AtomicU64::new(0),
            high: AtomicUsize::new(high),
            since_ns: AtomicU64::new(0),
            spent_ns: Default::default(),
        }
    }

    fn control(&self) -> std::sync::MutexGuard<'_, Control> {
        self.control.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn wake(&self) {
        // Out of the lock first: nothing foreign runs under a lock of ours.
        let waker = self.control().waker.take();
        if let Some(waker) = waker {
            waker.wake();
        }
    }

    /// Asks for a wake on the next wish. The caller looks at the wishes afterwards, never before.
    pub(crate) fn listen(&self, waker: &Waker) {
        let mut control = self.control();
        if !control.waker.as_ref().is_some_and(|old| old.will_wake(waker)) {
            let old = control.waker.replace(waker.clone());
            drop(control);
            drop(old);
        }
    }

    pub(crate) fn wishes(&self) -> u8 {
        self.wishes.load(SeqCst)
    }

    pub(crate) fn granted(&self, wish: u8) {
        self.wishes.fetch_and(!wish, SeqCst);
    }

    pub(crate) fn wish_to_stop(&self) {
        self.wishes.fetch_or(WISH_STOP, SeqCst);
    }

    pub(crate) fn abort_reason(&self) -> AbortReason {
        self.control()
            .abort
            .as_deref()
            .cloned()
            .unwrap_or(AbortReason::Requested)
    }

    pub(crate) fn is_held(&self) -> bool {
        self.holds.load(SeqCst) > 0
    }

    pub(crate) fn rate(&self) -> Option<u64> {
        Some(self.rate.load(SeqCst)).filter(|&rate| rate > 0)
    }

    pub(crate) fn set_rate(&self, rate: Option<u64>) {
        self.rate.store(rate.unwrap_or(0), SeqCst);
    }

    pub(crate) fn set_high(&self, high: usize) {
        self.high.store(high, Relaxed);
    }

    pub(crate) fn set_lane(&self, lane: Lane) {
        self.lane.store(lane as u8, Relaxed);
    }

    pub(crate) fn lane(&self) -> Lane {
        Lane::from_code(self.lane.load(Relaxed))
    }

    pub(crate) fn state(&self) -> FlowState {
        FlowState::ALL[usize::from(self.state.load(Relaxed)).min(STATES - 1)]
    }

    pub(crate) fn count(counter: &AtomicU64, bytes: usize) {
        counter.store(counter.load(Relaxed) + bytes as u64, Relaxed);
    }

    /// From now on the flow is in `state`; the time until now goes to the state it was in.
    pub(crate) fn enter(&self, state: FlowState) {
        let old = self.state();
        if old == state {
            return;
        }
        let now_ns = age_ns(Instant::now());
        if let Some(account) = old.account() {
            let spent = &self.spent_ns[account as usize];
            let span_ns = now_ns.saturating_sub(self.since_ns.load(Relaxed));
            spent.store(spent.load(Relaxed) + span_ns, Relaxed);
        }
        self.since_ns.store(now_ns, Relaxed);
        self.state.store(state as u8, Relaxed);
    }

    /// What was taken and not yet sent. At the end of a flow that was aborted this is nothing: it was dropped.
    fn held(&self, state: FlowState) -> usize {
        if state == FlowState::Done {
            return 0;
        }
        // In this order, for a flow that runs meanwhile: never less than nothing.
        let sent = self.bytes_sent.load(Relaxed);
        let held = self.bytes_read.load(Relaxed).saturating_sub(sent);
        usize::try_from(held).unwrap_or(usize::MAX)
    }

    pub(crate) fn snapshot(&self, now: Instant) -> Snapshot {
        let now_ns = age_ns(now);
        let state = self.state();
        let running_ns = now_ns.saturating_sub(self.since_ns.load(Relaxed));
        let spent = |account: Account| {
            let running = u64::from(state.account() == Some(account)) * running_ns;
            Duration::from_nanos(self.spent_ns[account as usize].load(Relaxed) + running)
        };
        let (reading, user, shaped) = (
            spent(Account::Reading),
            spent(Account::User),
            spent(Account::Shaped),
        );
        let full = spent(Account::Full);
        let writing = spent(Account::Writing) + full;
        Snapshot {
            bytes_read: self.bytes_read.load(Relaxed),
            bytes_sent: self.bytes_sent.load(Relaxed),
            held: self.held(state),
            high: self.high.load(Relaxed),
            state,
            lane: self.lane(),
            // From the first poll on, all time goes to one account or another.
            elapsed: reading + writing + user + shaped,
            reading,
            writing,
            paused: PausedTime { full, user, shaped },
            rate: self.rate(),
        }
    }

    pub(crate) fn report(&self) -> Report {
        let now = self.snapshot(Instant::now());
        Report {
            bytes_read: now.bytes_read,
            bytes_sent: now.bytes_sent,
            bytes_confirmed: 0,
            confirmation: None,
            lane: now.lane,
            elapsed: now.elapsed,
            reading: now.reading,
            writing: now.writing,
            paused: now.paused,
        }
    }
}
