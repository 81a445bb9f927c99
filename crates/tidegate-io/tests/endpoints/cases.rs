//! The scenarios of the house, the very table that the core plays, over real descriptors: what a transport's producer sees
//! is the same whatever the device.
//!
//! A device that stands still is a valve in front of the real sink: a flush lets so many bytes through, which then travel
//! through the kernel to a far side that reads them. A kill is the far side's reset, or its death.
#![allow(clippy::unwrap_used)]

use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll};

use tidegate::{AbortReason, Consumer, FinishableConsumer as _, Hold, HoldReason, Marks};
use tidegate_io::{
    Buffers, Confirmation, DriveError, Driven, EndpointError, Held, Sink, SinkConsumer, SinkDriver,
};
use tokio::runtime::Runtime;

use crate::harness::{Ends, FarSide};
use crate::script::{Case, parse};
use crate::support::within;
use crate::world::{Rig, lock, play};

pub(crate) const TABLE: &str = include_str!("../../../tidegate/tests/cases/table.txt");

/// Plays whatever fits any consumer, or one whose device takes parts of a piece.
pub(crate) fn play_all(over: &Over) {
    play_those(over, fits);
}

pub(crate) fn play_those(over: &Over, fit: impl Fn(&Case) -> bool) {
    let mut failures = Vec::new();
    let mut played = 0;
    for case in parse(TABLE).iter().filter(|case| fit(case)) {
        played += 1;
        if let Err(message) = play(case, Box::new(DescriptorRig::new(over, case))) {
            failures.push(format!(
                "CASES {} over {}: {message}",
                case.numbers.join(" "),
                over.name
            ));
        }
    }
    assert!(
        failures.is_empty(),
        "{} of {played} fail:\n{}",
        failures.len(),
        failures.join("\n")
    );
    assert!(played > 50, "hardly any scenario was played over {}", over.name);
}

pub(crate) fn fits(case: &Case) -> bool {
    case.rigs.iter().any(|rig| rig == "all" || rig == "channel")
}

/// Whether the far side can tell an abort from an end.
#[derive(Clone, Copy, PartialEq)]
pub(crate) enum Cut {
    Shown,
    NotShown,
}

/// Something to play over: its name, and how both ends are made.
pub(crate) struct Over {
    name: &'static str,
    cut: Cut,
    make: fn(&Runtime) -> Ends,
}

pub(crate) fn over(name: &'static str, cut: Cut, make: fn(&Runtime) -> Ends) -> Over {
    Over { name, cut, make }
}

macro_rules! over_descriptors {
    ($($test:ident: $over:expr;)*) => {$(
        #[test]
        fn $test() {
            $crate::cases::play_all(&$over);
        }
    )*};
}
pub(crate) use over_descriptors;

/// What the valve lets through, and what the sink behind it was told.
#[derive(Default)]
struct Flow {
    budget: AtomicUsize,
    accepted: AtomicUsize,
    is_ending: AtomicBool,
}

/// A real sink that takes no more than it is allowed to.
struct Valve {
    sink: Box<dyn Sink + Send>,
    flow: Arc<Flow>,
}

impl Sink for Valve {
    fn poll_write(&mut self, cx: &mut Context<'_>, held: &Held) -> Poll<Result<usize, EndpointError>> {
        let mut room = self.flow.budget.load(Ordering::Relaxed);
        if room == 0 {
            // Blocked, and not blind.
            return self.sink.poll_hangup(cx).map(Err);
        }
        let mut shown = Held::default();
        for piece in held.pieces() {
            let bytes = piece.len().min(room);
            if bytes > 0 {
                shown.push(piece.slice(..bytes));
            }
            room -= bytes;
        }
        let written = self.sink.poll_write(cx, &shown);
        if let Poll::Ready(Ok(bytes)) = written {
            self.flow.budget.fetch_sub(bytes, Ordering::Relaxed);
            self.flow.accepted.fetch_add(bytes, Ordering::Relaxed);
        }
        written
    }

    fn poll_flush(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), EndpointError>> {
        self.sink.poll_flush(cx)
    }

    fn poll_finish(&mut self, cx: &mut Context<'_>) -> Poll<Result<Confirmation, EndpointError>> {
        self.flow.is_ending.store(true, Ordering::Relaxed);
        self.sink.poll_finish(cx)
    }

    fn abort(&mut self, reason: &AbortReason) {
        self.flow.is_ending.store(true, Ordering::Relaxed);
        self.sink.abort(reason);
    }

    fn poll_aborted(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        self.sink.poll_aborted(cx)
    }

    fn poll_hangup(&mut self, cx: &mut Context<'_>) -> Poll<EndpointError> {
        self.sink.poll_hangup(cx)
    }

    fn name(&self) -> String {
        self.sink.name()
    }
}

struct DescriptorRig {
    consumer: Mutex<Option<SinkConsumer>>,
    handle: Arc<dyn Consumer>,
    flow: Arc<Flow>,
    moving: Mutex<Option<Moving>>,
    out: Mutex<Vec<u8>>,
    holds: Mutex<Vec<Hold>>,
    is_killed: AtomicBool,
    cut: Cut,
    /// Last, so that it goes last.
    runtime: Runtime,
}

/// Both ends of the connection, run by whoever flushes.
struct Moving {
    driver: Option<SinkDriver<Valve>>,
    driven: Option<Driven>,
    far: Option<FarSide>,
    far_end: FarEnd,
    buffers: Buffers,
}

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum FarEnd {
    Open,
    Ended,
    Cut,
}

impl DescriptorRig {
    fn new(over: &Over, case: &Case) -> Self {
        let marks = Marks::new(case.low, case.high).unwrap();
        let marks = case.max.map_or(marks, |max| marks.with_max(max).unwrap());
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .unwrap();
        let (sink, far): Ends = (over.make)(&runtime);
        let flow = Arc::new(Flow::default());
        let valve = Valve {
            sink,
            flow: Arc::clone(&flow),
        };
        let (consumer, driver) = SinkConsumer::with_driver(valve, marks);
        Self {
            handle: consumer.consumer(),
            consumer: Mutex::new(Some(consumer)),
            flow,
            moving: Mutex::new(Some(Moving {
                driver: Some(driver),
                driven: None,
                far: Some(far),
                far_end: FarEnd::Open,
                buffers: Buffers::default(),
            })),
            out: Mutex::default(),
            holds: Mutex::default(),
            is_killed: AtomicBool::new(false),
            cut: over.cut,
            runtime,
        }
    }

    fn with<T>(&self, run: impl FnOnce(&SinkConsumer) -> T) -> T {
        run(lock(&self.consumer).as_ref().expect("the write end was dropped"))
    }

    /// Lets at most so many bytes through and runs both ends until nothing more is to happen. A panic of a signal goes on
    /// from here.
    fn pump(&self, budget: usize) {
        // Taken out: what a signal does in here may ask for nothing but the consumer.
        let Some(mut moving) = lock(&self.moving).take() else {
            return;
        };
        self.flow.budget.store(budget, Ordering::Relaxed);
        let ran = catch_unwind(AssertUnwindSafe(|| {
            let work = std::future::poll_fn(|cx| self.poll(&mut moving, cx));
            self.runtime.block_on(within(work));
        }));
        self.flow.budget.store(0, Ordering::Relaxed);
        if ran.is_err() {
            // As with a task: it is dropped, and the sink with it.
            let _entered = self.runtime.enter();
            moving.driver = None;
        }
        *lock(&self.moving) = Some(moving);
        if let Err(panic) = ran {
            resume_unwind(panic);
        }
    }

    fn poll(&self, moving: &mut Moving, cx: &mut Context<'_>) -> Poll<()> {
        loop {
            if let Some(driver) = &mut moving.driver
                && let Poll::Ready(driven) = std::pin::Pin::new(driver).poll(cx)
            {
                moving.driven = Some(driven);
                // A connection that was cut is reset once nobody has it any more.
                moving.driver = None;
            }
            let has_read = moving.read(cx, &mut lock(&self.out));
            if self.is_at_rest(moving) {
                return Poll::Ready(());
            }
            if !has_read {
                return Poll::Pending;
            }
        }
    }

    fn is_at_rest(&self, moving: &Moving) -> bool {
        let is_killed = self.is_killed.load(Ordering::Relaxed);
        match &moving.driven {
            Some(Ok(_)) => is_killed || moving.far_end != FarEnd::Open,
            Some(Err(DriveError::Aborted(_))) => is_killed || moving.far_end != FarEnd::Open,
            Some(Err(DriveError::Failed(_))) => true,
            None if moving.driver.is_none() => is_killed || moving.far_end != FarEnd::Open,
            None if is_killed || self.flow.is_ending.load(Ordering::Relaxed) => false,
            None => {
                let has_arrived = self.flow.accepted.load(Ordering::Relaxed) == lock(&self.out).len();
                has_arrived && (self.flow.budget.load(Ordering::Relaxed) == 0 || self.held() == 0)
            }
        }
    }
}

impl Moving {
    fn cut(&self, shown: Cut) -> &'static str {
        let is_seen = self.far_end == FarEnd::Cut;
        assert!(
            is_seen || shown == Cut::NotShown,
            "a stream that was cut short looks finished"
        );
        "aborted"
    }

    /// Reads what has arrived, and says whether there was anything.
    fn read(&mut self, cx: &mut Context<'_>, out: &mut Vec<u8>) -> bool {
        let Some(far) = self.far.as_mut().filter(|_| self.far_end == FarEnd::Open) else {
            return false;
        };
        let mut has_read = false;
        while let Poll::Ready(read) = far.source.poll_read(cx, &mut self.buffers, 64 * 1024) {
            has_read = true;
            match read {
                Ok(Some(bytes)) => {
                    out.extend_from_slice(&bytes);
                    continue;
                }
                Ok(None) if out.ends_with(far.mark) => {
                    out.truncate(out.len() - far.mark.len());
                    self.far_end = FarEnd::Ended;
                }
                Ok(None) | Err(_) => self.far_end = FarEnd::Cut,
            }
            break;
        }
        has_read
    }
}

impl Rig for DescriptorRig {
    fn consumer(&self) -> Arc<dyn Consumer> {
        Arc::clone(&self.handle)
    }

    fn finish(&self) {
        self.with(SinkConsumer::finish);
    }

    fn abort(&self, reason: AbortReason) {
        self.with(|consumer| consumer.abort(reason));
    }

    fn drop_write_end(&self) {
        let consumer = lock(&self.consumer).take();
        drop(consumer);
    }

    fn flush(&self, at_most: Option<usize>) {
        self.pump(at_most.unwrap_or(usize::MAX).min(self.held()));
    }

    fn kill(&self) {
        if let Some(far) = lock(&self.moving).as_mut().and_then(|moving| moving.far.take()) {
            let _entered = self.runtime.enter();
            far.others.kill();
            drop(far.source);
        }
        self.is_killed.store(true, Ordering::Relaxed);
        self.pump(0);
    }

    fn hold(&self) {
        let hold = self.with(|consumer| consumer.hold(HoldReason::User));
        lock(&self.holds).push(hold);
    }

    fn release(&self) {
        let hold = lock(&self.holds).pop();
        drop(hold);
    }

    fn held(&self) -> usize {
        lock(&self.consumer).as_ref().map_or(0, SinkConsumer::held)
    }

    fn out(&self) -> Vec<u8> {
        lock(&self.out).clone()
    }

    fn end(&self) -> String {
        self.pump(0);
        let moving = lock(&self.moving);
        let moving = moving.as_ref().unwrap();
        let word = match &moving.driven {
            _ if self.is_killed.load(Ordering::Relaxed) => "dead",
            None if moving.driver.is_none() => moving.cut(self.cut),
            None => "open",
            Some(Ok(_)) => {
                assert_eq!(moving.far_end, FarEnd::Ended, "a finished stream looks cut");
                "finished"
            }
            Some(Err(DriveError::Aborted(_))) => moving.cut(self.cut),
            Some(Err(DriveError::Failed(_))) => "dead",
        };
        word.to_owned()
    }
}
